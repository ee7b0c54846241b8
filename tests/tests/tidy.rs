//! The house rules that the compiler doesn't know, held against the sources as text: who may name which library, where clocks are
//! read, how long a file may be. A rule about a folder that does not exist yet holds by itself.

#![allow(clippy::expect_used, clippy::panic, reason = "a broken rule fails the test")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

const MAX_LINES: usize = 450;

/// Longer than the rule allows, each for a reason.
const LONG_FILES: [&str; 0] = [];

/// A text that only some files may hold.
struct Rule {
    /// Any of these breaks the rule.
    words: &'static [&'static str],
    /// Beginnings of the paths where they may stand.
    allowed: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 8] = [
    Rule { words: &["rusqlite", "r2d2"], allowed: &["daemon/src/ledger", "tests/"], why: "the ledger is the only user of SQLite" },
    Rule {
        words: &["axum", "tower_http", "hyper", "hyper_util"],
        allowed: &["daemon/src/proxy", "daemon/src/web", "tests/"],
        why: "the proxy is the only user of HTTP libraries",
    },
    Rule {
        words: &["rmcp::"],
        allowed: &["daemon/src/tools", "daemon/src/proxy/mcp", "daemon/src/proxy/tools.rs", "tests/"],
        why: "the tools' protocol is spoken with servers and with agents, nowhere else",
    },
    Rule {
        words: &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"],
        allowed: &["daemon/src/os/clock.rs", "ctl/src/clock.rs", "tests/"],
        why: "clocks are read in one place and passed on as arguments",
    },
    Rule {
        words: &["tiktoken_rs"],
        allowed: &["daemon/src/tokenizer.rs"],
        why: "vocabularies are loaded in one place, at their first need",
    },
    Rule { words: &["env::set_var", "env::remove_var"], allowed: &[], why: "the environment is shared by all threads" },
    Rule { words: &["TODO", "FIXME", "XXX"], allowed: &[], why: "an open point is an issue, not a comment" },
    Rule { words: &["#[ignore"], allowed: &[], why: "a test that does not run promises nothing" },
];

/// What `aex-core` must not name: it decides, it does not act.
const IMPURE: [&str; 7] = ["std::fs", "std::net", "std::env", "std::process", "std::thread", "tokio", "tracing"];

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    for folder in ["proto", "daemon", "ctl", "tests"] {
        collect(&root, &root.join(folder), &mut found);
    }
    assert!(found.len() > 5, "the sources lie where the rules look for them");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|fault| panic!("read {}: {fault}", folder.display()));
    for entry in entries {
        let path = entry.expect("an entry of the folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') || name == "target" || name == "node_modules";
        if path.is_dir() && !hidden {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_else(|fault| panic!("read {}: {fault}", path.display()));
            let relative = path.strip_prefix(root).expect("below the workspace").to_string_lossy().into_owned();
            found.push(Source { path: relative, text });
        }
    }
}

/// The lines that are code or comment, but for this file, which must name what it forbids.
fn lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let own = source.path == "tests/tests/tidy.rs";
    source.text.lines().enumerate().filter(move |_| !own).map(|(index, line)| (index + 1, line))
}

/// Whether the word stands in the line by itself; `hyper` does not stand in `hypervisor`.
fn names(line: &str, word: &str) -> bool {
    let part = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let ends_open = !part(word.chars().last());
    line.match_indices(word).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.chars().nth(word.chars().count());
        !part(before.chars().last()) && (ends_open || !part(after))
    })
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[track_caller]
fn none(broken: &str) {
    assert!(broken.is_empty(), "house rules broken:\n{broken}");
}

#[test]
fn libraries_clocks_and_leftovers_stand_only_where_they_may() {
    let mut broken = String::new();
    for source in &sources() {
        for rule in RULES.iter().filter(|rule| !rule.allowed.iter().any(|place| source.path.starts_with(place))) {
            // A comment may speak of a library; a leftover is one wherever it stands.
            let leftover = rule.allowed.is_empty();
            for (number, line) in lines(source).filter(|(_, line)| leftover || !is_comment(line)) {
                for word in rule.words.iter().filter(|word| names(line, word)) {
                    writeln!(broken, "{}:{number}: {word}: {}", source.path, rule.why).expect("write to a string");
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn the_core_only_decides() {
    let mut broken = String::new();
    for source in sources().iter().filter(|source| source.path.starts_with("daemon/core/src/")) {
        for (number, line) in lines(source).filter(|(_, line)| !is_comment(line)) {
            for word in IMPURE.iter().filter(|word| names(line, word)) {
                writeln!(broken, "{}:{number}: {word}: aex-core is pure", source.path).expect("write to a string");
            }
        }
    }
    none(&broken);
}

#[test]
fn files_are_short_and_say_what_they_own() {
    let mut broken = String::new();
    for source in &sources() {
        let length = source.text.lines().count();
        if length > MAX_LINES && !LONG_FILES.contains(&source.path.as_str()) {
            writeln!(broken, "{}: {length} lines, at most {MAX_LINES}", source.path).expect("write to a string");
        }
        if !source.text.starts_with("//!") {
            writeln!(broken, "{}: does not begin with what it decides or owns", source.path).expect("write to a string");
        }
        if source.path.ends_with("/mod.rs") {
            writeln!(broken, "{}: a module is foo.rs beside foo/", source.path).expect("write to a string");
        }
    }
    none(&broken);
}

#[test]
fn each_fail_point_stands_once_and_is_one_that_the_kill_test_reaches() {
    const CALL: &str = "failpoint::reached(\"";
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("daemon/")) {
        for line in source.text.lines() {
            found.extend(line.split(CALL).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    let mut known: Vec<&str> = aex_tests::kills::POINTS.iter().map(|point| point.name).collect();
    found.sort_unstable();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn the_rules_find_words_and_not_their_parts() {
    assert!(names("use hyper::body;", "hyper"));
    assert!(!names("let hypervisor = 1;", "hyper") && !names("use my_hyper;", "hyper"));
    assert!(names("    #[ignore = \"slow\"]", "#[ignore"));
}
