//! The `.env` file: names and values. Values never appear in an error.

use super::report::{Problem, Warning};
use std::collections::BTreeMap;

const FILE: &str = ".env";

/// What the file sets. Holds secrets, and is not shown.
#[derive(Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
    pub(super) warnings: Vec<Warning>,
}

impl Variables {
    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Parses the file: comments, blank lines, `export `, quotes. `$` has no meaning.
pub(super) fn parse(source: &str) -> Result<Variables, Vec<Problem>> {
    let mut variables = Variables::default();
    let mut errors = Vec::new();
    let mut rest = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut line = 1;
    while !rest.is_empty() {
        let (assignment, after) = statement(rest);
        match assignment {
            Ok(Some((name, value))) => {
                if variables.values.insert(name.clone(), value).is_some() {
                    variables.warnings.push(problem(line, format!("{name} is set twice; the last one counts")));
                }
            }
            Ok(None) => {}
            Err(text) => errors.push(problem(line, text)),
        }
        let taken = rest.len().saturating_sub(after.len());
        line += rest.bytes().take(taken).filter(|byte| *byte == b'\n').fold(0, |count: u64, _| count.saturating_add(1));
        rest = after;
    }
    if errors.is_empty() { Ok(variables) } else { Err(errors) }
}

pub(super) fn problem(line: u64, text: String) -> Problem {
    Problem { file: FILE.to_owned(), line: Some(line), text }
}

type Assignment = Option<(String, String)>;

/// One assignment, blank line or comment, and what follows it. After an error that is the next line.
fn statement(source: &str) -> (Result<Assignment, String>, &str) {
    let (first, next) = cut_line(source);
    let trimmed = first.trim();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return (Ok(None), next);
    }
    let Some((left, right)) = source.split_once('=').filter(|(left, _)| !left.contains('\n')) else {
        return (Err("expected NAME=value".to_owned()), next);
    };
    let left = left.trim();
    let name = left.strip_prefix("export").filter(|after| after.starts_with([' ', '\t'])).map_or(left, str::trim_start);
    if !is_name(name) {
        return (Err("expected a name of letters, digits, `_`, `-` and `.` before `=`".to_owned()), next);
    }
    match value(right) {
        Ok((value, after)) => (Ok(Some((name.to_owned(), value))), after),
        Err(text) => (Err(format!("{name}: {text}")), next),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.'))
}

fn cut_line(source: &str) -> (&str, &str) {
    source.split_once('\n').unwrap_or((source, ""))
}

fn value(source: &str) -> Result<(String, &str), String> {
    let begun = source.trim_start_matches([' ', '\t']);
    match begun.strip_prefix(['\'', '"']) {
        Some(quoted) if begun.starts_with('\'') => single_quoted(quoted),
        Some(quoted) => double_quoted(quoted),
        None => {
            let (line, next) = cut_line(source);
            Ok((unquoted(line).to_owned(), next))
        }
    }
}

/// Up to a `#` that follows a blank.
fn unquoted(line: &str) -> &str {
    let mut after_blank = false;
    let comment = line.char_indices().find(|(_, letter)| {
        let found = *letter == '#' && after_blank;
        after_blank = letter.is_whitespace();
        found
    });
    comment.and_then(|(at, _)| line.get(..at)).unwrap_or(line).trim()
}

fn single_quoted(source: &str) -> Result<(String, &str), String> {
    let (text, after) = source.split_once('\'').ok_or("expected a closing quote")?;
    Ok((text.to_owned(), only_comment(after)?))
}

fn double_quoted(source: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut letters = source.chars();
    loop {
        match letters.next().ok_or("expected a closing quote")? {
            '"' => return Ok((text, only_comment(letters.as_str())?)),
            '\\' => match letters.next().ok_or("expected a closing quote")? {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                known @ ('"' | '\\' | '$') => text.push(known),
                other => text.extend(['\\', other]),
            },
            other => text.push(other),
        }
    }
}

/// What may follow a closing quote on its line.
fn only_comment(after: &str) -> Result<&str, String> {
    let (rest, next) = cut_line(after);
    let rest = rest.trim();
    if rest.is_empty() || rest.starts_with('#') { Ok(next) } else { Err("expected nothing after the closing quote".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[(&str, &str)]) {
        let variables = parse(source).unwrap_or_else(|errors| panic!("{source:?}: {errors:?}"));
        let found: Vec<(&str, &str)> = variables.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{source:?}");
    }

    #[track_caller]
    fn refuse(source: &str, expected: &[&str]) {
        let errors = parse(source).err().unwrap_or_default();
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{source:?}");
    }

    #[test]
    fn what_shells_and_dotenv_files_hold_is_read() {
        check("# keys\n\nA=1\r\nexport B = 2 # two\n", &[("A", "1"), ("B", "2")]);
        check("A=x#y\nB=# none\nC= # none\nD=", &[("A", "x#y"), ("B", "# none"), ("C", ""), ("D", "")]);
        check("A='a $B \\n' # c\nB=\"x\\n\\\"\\\\ \\q\ny\"\nC=$A", &[("A", "a $B \\n"), ("B", "x\n\"\\ \\q\ny"), ("C", "$A")]);
        check("export=1\nA==b=\n", &[("A", "=b="), ("export", "1")]);
        check("\u{feff}A=1", &[("A", "1")]);
        check("", &[]);
    }

    #[test]
    fn errors_name_the_line_and_never_the_value() {
        refuse("A=\"x\ny\"\nsk-secret\nB='open\n", &[".env:3: expected NAME=value", ".env:4: B: expected a closing quote"]);
        refuse(
            "A='a'b\nsk secret=1",
            &[
                ".env:1: A: expected nothing after the closing quote",
                ".env:2: expected a name of letters, digits, `_`, `-` and `.` before `=`",
            ],
        );
    }

    #[test]
    fn a_name_set_twice_counts_as_its_last_with_a_warning() {
        let variables = parse("A=1\nA=2").unwrap_or_default();
        assert_eq!(variables.get("A"), Some("2"));
        assert_eq!(variables.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [".env:2: A is set twice; the last one counts"]);
    }
}
