//! Texts without roles, as completions take a `prompt` and embeddings an `input`: one text or one list of tokens, or a list of
//! either.
//!
//! Counts for the decision, and keeps nothing of the texts. A token that is written as a number takes at least the byte of a digit,
//! so that the bytes of a request bound its tokens here too.

use super::json::{Kind, Number, Scanner};
use super::request::{Malformed, count};
use std::ops::Range;

/// Characters that the estimate of input tokens counts for one: a token given as a number is one.
const CHARS_PER_TOKEN: u64 = 4;

/// What a `prompt` or an `input` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Inputs {
    /// Texts, each of which is answered by itself; at least one.
    pub(super) inputs: u64,
    /// Characters of all of them.
    pub(super) chars: u64,
    /// Where they stand.
    pub(super) span: Range<usize>,
}

const FORMS: &str = "must be a string, a list of strings, a list of tokens or a list of such lists";

/// Reads the value of `field`. An empty list counts as one text: what it means is the provider's to say.
pub(super) fn inputs(scanner: &mut Scanner<'_>, field: &str) -> Result<Inputs, Malformed> {
    let mut found = Inputs::default();
    let kind = scanner.kind()?;
    let start = scanner.at();
    match kind {
        Kind::Text => found.text(scanner)?,
        Kind::List => {
            let mut form = None;
            let mut list = scanner.list()?;
            while scanner.item(&mut list)? {
                let kind = scanner.kind()?;
                if *form.get_or_insert(kind) != kind {
                    return Err(Malformed::field(field, FORMS));
                }
                match kind {
                    Kind::Text => found.text(scanner)?,
                    Kind::Number => found.token(scanner, field)?,
                    Kind::List => {
                        found.inputs += 1;
                        let mut tokens = scanner.list()?;
                        while scanner.item(&mut tokens)? {
                            found.token(scanner, field)?;
                        }
                    }
                    _ => return Err(Malformed::field(field, FORMS)),
                }
            }
        }
        _ => return Err(Malformed::field(field, FORMS)),
    }
    found.inputs = found.inputs.max(1);
    found.span = start..scanner.at();
    Ok(found)
}

impl Inputs {
    fn text(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        self.inputs += 1;
        self.chars += count(scanner.text()?.chars());
        Ok(())
    }

    fn token(&mut self, scanner: &mut Scanner<'_>, field: &str) -> Result<(), Malformed> {
        if scanner.kind()? != Kind::Number || !matches!(scanner.number()?, Number::Natural(_)) {
            return Err(Malformed::field(field, FORMS));
        }
        self.chars += CHARS_PER_TOKEN;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_counted_and_every_other_is_refused() {
        #[track_caller]
        fn row(value: &str, expected: Option<(u64, u64)>) {
            let mut scanner = Scanner::new(value.as_bytes()).unwrap();
            let found = inputs(&mut scanner, "input").map(|found| {
                assert_eq!(found.span, 0..value.len());
                (found.inputs, found.chars)
            });
            match expected {
                Some(expected) => assert_eq!(found, Ok(expected)),
                None => assert_eq!(found.map_err(|fault| fault.param), Err(Some("input".to_owned()))),
            }
        }
        row(r#""h\u00e9llo""#, Some((1, 5)));
        row(r#"["one","","three"]"#, Some((3, 8)));
        row("[15339, 0]", Some((1, 8)));
        row("[[1],[2,3],[]]", Some((3, 12)));
        row("[]", Some((1, 0)));
        for wrong in
            ["null", "5", "true", "{}", r#"[{"image":"x"}]"#, r#"["a",1]"#, "[1,[2]]", "[[1],[\"a\"]]", "[-1]", "[1.5]", "[[null]]"]
        {
            row(wrong, None);
        }
    }
}
