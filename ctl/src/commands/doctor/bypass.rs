//! Ways round the daemon: providers' keys that an agent finds without it. Names are told, values never.

use crate::run::is_key;
use aex_core::paths::Paths;
use aex_proto::check::Finding;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const SUBJECT: &str = "bypass";
/// Files that shells read at their start, below the user's home.
const START_UPS: [&str; 10] = [
    ".profile",
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".config/fish/config.fish",
    ".pam_environment",
];
/// Folders of which all files with an ending are read, below the user's home.
const FOLDERS: [(&str, &str); 2] = [(".config/fish/conf.d", "fish"), (".config/environment.d", "conf")];
/// Words before a variable's name, beside options.
const BEFORE: [&str; 13] = ["{", "export", "declare", "typeset", "readonly", "set", "setenv", "and", "or", "then", "else", "do", "begin"];
/// What an agent's token begins with: such a key leads to the daemon, not round it.
const OURS: &str = "aex_";

pub(super) fn look(paths: &Paths, configured: &[String]) -> Vec<Finding> {
    let known = |name: &str| is_key(name) || configured.iter().any(|variable| variable == name);
    let fix = format!("keep it in {} only and start agents by `aexctl run`", paths.env_file.display());
    let mut findings = Vec::new();
    let (shell, ours) = held(std::env::vars_os(), &known);
    if !shell.is_empty() {
        let detail = format!("this shell's environment holds {}: what it starts can spend past the daemon", shell.join(", "));
        findings.push(Finding::warning(SUBJECT, detail, format!("unset {}; {fix}", shell.join(" "))));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    findings.extend(files(&home).iter().flat_map(|file| in_file(file, &known, &fix)));
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "no provider's key in this shell or in the files that shells start with"));
    }
    if !ours.is_empty() {
        let detail =
            format!("this shell's {}: an agent's token, which leads to the daemon and is no provider's key to it", ours.join(", "));
        findings.push(Finding::ok(SUBJECT, detail));
    }
    findings
}

/// The known variables of an environment: those with a provider's key, and those with an agent's token.
fn held(environment: impl Iterator<Item = (OsString, OsString)>, known: &impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.to_string_lossy().trim().to_owned()));
    let set = environment.filter_map(text).filter(|(name, value)| known(name) && !value.is_empty());
    let (foreign, ours): (Vec<_>, Vec<_>) = set.partition(|(_, value)| is_foreign(value));
    let names = |held: Vec<(String, String)>| held.into_iter().map(|(name, _)| name).collect();
    (names(foreign), names(ours))
}

fn files(home: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = START_UPS.iter().map(|file| home.join(file)).collect();
    for (folder, ending) in FOLDERS {
        let found = std::fs::read_dir(home.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> = found.filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect();
        found.sort();
        files.append(&mut found);
    }
    files.push(PathBuf::from("/etc/environment"));
    files
}

fn in_file(file: &Path, known: &impl Fn(&str) -> bool, fix: &str) -> Vec<Finding> {
    let Ok(bytes) = std::fs::read(file) else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let found =
        text.lines().enumerate().flat_map(|(at, line)| assigned(line, known).into_iter().map(move |name| (at.saturating_add(1), name)));
    let told = |(line, name): (usize, &str)| {
        let detail = format!("{}:{line} sets {name} for every shell: an agent can spend past the daemon", file.display());
        Finding::warning(SUBJECT, detail, format!("remove the line; {fix}"))
    };
    found.map(told).collect()
}

/// The known variables that a line sets to something: any word `NAME=value`, and `set -gx NAME value` or `NAME value`, where a
/// command begins.
fn assigned<'a>(line: &'a str, known: &impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut names = Vec::new();
    let is_set = |name: &str, value: &str| known(name) && is_foreign(value.trim_matches(['"', '\'']));
    for command in without_remark(line).split([';', '&', '|']) {
        let mut words = command.split_whitespace().peekable();
        let mut begins = true;
        while let Some(word) = words.next() {
            let pair = word.split_once('=').or_else(|| Some((word, *words.peek().filter(|_| begins)?)));
            begins = begins && (BEFORE.contains(&word) || word.starts_with('-'));
            names.extend(pair.filter(|(name, value)| is_set(name, value)).map(|(name, _)| name));
        }
    }
    names
}

fn without_remark(line: &str) -> &str {
    let mut before = line.match_indices('#').filter_map(|(at, _)| line.get(..at));
    let begins = |before: &&str| before.chars().next_back().is_none_or(|last| last.is_whitespace() || last == ';');
    before.find(begins).unwrap_or(line)
}

fn is_foreign(value: &str) -> bool {
    !value.is_empty() && !value.starts_with(OURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_sets_a_key_is_found_and_one_that_does_not_is_not() {
        let rows = [
            ("export OPENAI_API_KEY=sk-1", Some("OPENAI_API_KEY")),
            ("  GROQ_API_KEY='gsk' ", Some("GROQ_API_KEY")),
            ("set -gx ANTHROPIC_API_KEY sk", Some("ANTHROPIC_API_KEY")),
            ("MY_API_KEY=1", Some("MY_API_KEY")),
            ("# export OPENAI_API_KEY=sk-1", None),
            ("export OPENAI_API_KEY=", None),
            ("export OPENAI_API_KEY=aex_abc", None),
            ("export OPENAI_BASE_URL=http://x", None),
            ("echo OPENAI_API_KEY", None),
            ("OTHER=1", None),
            ("", None),
            ("export A=1 OPENAI_API_KEY=sk-1", Some("OPENAI_API_KEY")),
            ("[ -f x ] && export OPENAI_API_KEY=sk-1", Some("OPENAI_API_KEY")),
            ("if true; then export OPENAI_API_KEY=\"$(cat key)\"; fi", Some("OPENAI_API_KEY")),
            ("test -f x; and set --export --global OPENAI_API_KEY sk-1", Some("OPENAI_API_KEY")),
            ("set -gx OPENAI_API_KEY (cat ~/key)", Some("OPENAI_API_KEY")),
            ("export A=${#b} OPENAI_API_KEY=sk-1", Some("OPENAI_API_KEY")),
            ("OPENAI_API_KEY DEFAULT=sk-1", Some("OPENAI_API_KEY")),
            ("export A=1 # OPENAI_API_KEY=sk-1; OPENAI_API_KEY=sk-2", None),
            ("  # a; export OPENAI_API_KEY=sk-1", None),
            ("echo \"$OPENAI_API_KEY\" OPENAI_API_KEY x", None),
        ];
        let known = |name: &str| is_key(name) || name == "MY_API_KEY";
        for (line, wanted) in rows {
            assert_eq!(assigned(line, &known), Vec::from_iter(wanted), "{line}");
        }
        assert_eq!(assigned("export OPENAI_API_KEY=a MY_API_KEY=b", &known), ["OPENAI_API_KEY", "MY_API_KEY"]);
    }

    #[test]
    fn an_environment_that_is_no_text_is_looked_at_like_any_other() {
        use std::os::unix::ffi::OsStringExt;
        let raw = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let rows: [(&[u8], &[u8]); 5] =
            [(b"\xff", b"1"), (b"X", b"\xff"), (b"OPENAI_API_KEY", b"\xff"), (b"GROQ_API_KEY", b"aex_1"), (b"XAI_API_KEY", b"")];
        let (foreign, ours) = held(rows.into_iter().map(|(name, value)| (raw(name), raw(value))), &is_key);
        assert_eq!((foreign, ours), (vec!["OPENAI_API_KEY".to_owned()], vec!["GROQ_API_KEY".to_owned()]));
    }

    #[test]
    fn the_files_of_fish_and_of_systemds_environment_are_among_those_that_are_read() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        for name in [".config/fish/conf.d/a.fish", ".config/environment.d/b.conf", ".config/environment.d/no.txt"] {
            let file = home.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap_or(home.path())).ok();
            std::fs::write(file, "").ok();
        }
        let files = files(home.path());
        let has = |name: &str| files.contains(&home.path().join(name));
        assert!(has(".config/fish/conf.d/a.fish") && has(".config/environment.d/b.conf") && has(".zlogin"), "{files:?}");
        assert!(!has(".config/environment.d/no.txt"), "{files:?}");
    }

    #[test]
    fn a_finding_names_file_line_and_variable_and_never_the_value() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let file = home.path().join(".bashrc");
        std::fs::write(&file, "alias x=y\nexport OPENAI_API_KEY=sk-secret\n").ok();
        let found = in_file(&file, &is_key, "fix");
        assert!(found.len() == 1 && found[0].detail.contains(".bashrc:2 sets OPENAI_API_KEY"), "{found:?}");
        assert!(!format!("{found:?}").contains("sk-secret"));
    }
}
