//! Ways round the daemon: providers' keys that an agent finds without it. Names are told, values never.

use crate::run::is_key;
use aex_core::paths::Paths;
use aex_proto::check::Finding;
use std::path::{Path, PathBuf};

const SUBJECT: &str = "bypass";
/// Files that shells read at their start, below the user's home.
const START_UPS: [&str; 9] = [
    ".profile",
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".config/fish/config.fish",
    ".pam_environment",
];
/// Words before a variable's name.
const BEFORE: [&str; 10] = ["export", "declare", "typeset", "set", "-x", "-gx", "-Ux", "-xg", "-xU", "setenv"];
/// What an agent's token begins with: such a key leads to the daemon, not round it.
const OURS: &str = "aex_";

pub(super) fn look(paths: &Paths, configured: &[String]) -> Vec<Finding> {
    let known = |name: &str| is_key(name) || configured.iter().any(|variable| variable == name);
    let fix = format!("keep it in {} only and start agents by `aexctl run`", paths.env_file.display());
    let mut findings = Vec::new();
    let shell = std::env::vars().filter(|(name, value)| known(name) && is_foreign(value));
    let shell: Vec<String> = shell.map(|(name, _)| name).collect();
    if !shell.is_empty() {
        let detail = format!("this shell's environment holds {}: what it starts can spend past the daemon", shell.join(", "));
        findings.push(Finding::warning(SUBJECT, detail, format!("unset {}; {fix}", shell.join(" "))));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let files = START_UPS.map(|file| home.join(file)).into_iter().chain([PathBuf::from("/etc/environment")]);
    findings.extend(files.flat_map(|file| in_file(&file, &known, &fix)));
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "no provider's key in this shell or in the files that shells start with"));
    }
    findings
}

fn in_file(file: &Path, known: &impl Fn(&str) -> bool, fix: &str) -> Vec<Finding> {
    let Ok(bytes) = std::fs::read(file) else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().enumerate().filter_map(|(at, line)| Some((at.saturating_add(1), assigned(line, known)?)));
    let told = |(line, name): (usize, &str)| {
        let detail = format!("{}:{line} sets {name} for every shell: an agent can spend past the daemon", file.display());
        Finding::warning(SUBJECT, detail, format!("remove the line; {fix}"))
    };
    found.map(told).collect()
}

/// The known variable that a line sets to something: `export NAME=value`, `NAME=value`, `set -gx NAME value`.
fn assigned<'a>(line: &'a str, known: &impl Fn(&str) -> bool) -> Option<&'a str> {
    let mut words = line.split_whitespace().skip_while(|word| BEFORE.contains(word));
    let first = words.next()?;
    let (name, value) = first.split_once('=').or_else(|| Some((first, words.next()?)))?;
    (known(name) && is_foreign(value.trim_matches(['"', '\'']))).then_some(name)
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
        ];
        let known = |name: &str| is_key(name) || name == "MY_API_KEY";
        for (line, wanted) in rows {
            assert_eq!(assigned(line, &known), wanted, "{line}");
        }
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
