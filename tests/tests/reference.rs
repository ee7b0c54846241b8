//! README's reference of commands against what `aexctl --help` says: each command is in the table, and nothing else is.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::process::Command;

use aex_tests::daemon::{binary, output};

const README: &str = include_str!("../../README.md");

/// Commands by their words, each with its help.
type Helps = BTreeMap<String, String>;

#[track_caller]
fn help(words: &[&str]) -> String {
    let mut command = Command::new(binary("aexctl"));
    command.env_clear().args(words).arg("--help");
    output(command).ok().stdout
}

/// The names below `Commands:`; none for a command that has no further ones.
fn below(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A long description goes on in lines that are indented further.
    let named = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    named.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

fn walk(words: &[&str], found: &mut Helps) {
    let help = help(words);
    let names = below(&help);
    if names.is_empty() {
        found.insert(words.join(" "), help);
    }
    for name in names {
        let longer: Vec<&str> = words.iter().copied().chain([name.as_str()]).collect();
        walk(&longer, found);
    }
}

/// The rows of the table: the command's words, and the whole row.
fn rows() -> Vec<(String, &'static str)> {
    let lines = README.lines().skip_while(|line| *line != "| command | what it does |").skip(2);
    let rows = lines.take_while(|line| line.starts_with("| `aexctl "));
    rows.map(|row| (words(row), row)).collect()
}

/// `agent create` of "| `aexctl agent create NAME BUDGET RPM` | …".
fn words(row: &str) -> String {
    let command = row.split('`').nth(1).unwrap_or_default();
    let lower = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && *word != "--";
    command.split(' ').skip(1).take_while(lower).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_table_of_commands_has_each_command_once_and_no_other() {
    let mut helps = Helps::new();
    walk(&[], &mut helps);
    let commands: Vec<&String> = helps.keys().collect();
    let mut listed: Vec<String> = rows().into_iter().map(|(words, _)| words).collect();
    listed.sort_unstable();
    assert_eq!(listed.iter().collect::<Vec<_>>(), commands);
    assert!(commands.len() > 20, "{commands:?}");
}

#[test]
fn a_flag_that_the_table_names_is_one_of_its_command() {
    let mut helps = Helps::new();
    walk(&[], &mut helps);
    for (words, row) in rows() {
        let help = helps.get(&words).unwrap_or_else(|| panic!("no command {words}"));
        let flags = row.split('`').skip(1).step_by(2).flat_map(|code| code.split(' ')).filter(|word| word.len() > 2);
        for flag in flags.filter(|word| word.starts_with("--")) {
            assert!(help.split([' ', ',', '\n']).any(|word| word == flag), "{words}: {flag} is not in\n{help}");
        }
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let mut command = Command::new(binary("aexctl"));
        command.env_clear().args(["completions", shell]);
        let script = output(command).ok().stdout;
        for word in ["rotate-token", "doctor", "completions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}
