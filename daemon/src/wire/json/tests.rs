//! Tests of `json`.

use super::*;
use proptest::prelude::*;

fn scan(text: &[u8]) -> Result<(), Fault> {
    let mut scanner = Scanner::new(text)?;
    scanner.pass()?;
    scanner.finish()
}

#[track_caller]
fn check(text: &str, flaw: Option<Flaw>) {
    assert_eq!(scan(text.as_bytes()).err().map(|fault| fault.flaw), flaw, "{text}");
}

#[test]
fn what_is_no_json_is_refused_by_its_flaw() {
    for good in
        ["null", " [ ] ", "{\"a\":[1,-0,0.5e+3,{}],\"b\":\"\\u00e9\\ud83d\\ude00\\n\"}", "\"\u{7f}ünïcödé, longer than what is near\""]
    {
        check(good, None);
    }
    check("", Some(Flaw::EndsEarly));
    check("[1", Some(Flaw::EndsEarly));
    check("{\"a", Some(Flaw::EndsEarly));
    check("NaN", Some(Flaw::Expected("a value")));
    check("[-Infinity]", Some(Flaw::Expected("a digit")));
    check("[1,]", Some(Flaw::Expected("a value")));
    check("{\"a\":1,}", Some(Flaw::Expected("a key in quotes")));
    check("[1}", Some(Flaw::Expected("`,` or `]`")));
    check("01", Some(Flaw::TrailingText));
    check("1.", Some(Flaw::Expected("a digit")));
    check("{} x", Some(Flaw::TrailingText));
    check("\"a\nb\"", Some(Flaw::ControlCharacter));
    check("\"a long string with\tin its far part\"", Some(Flaw::ControlCharacter));
    check("\"\\x\"", Some(Flaw::BadEscape));
    check("\"\\u12g4\"", Some(Flaw::BadEscape));
    check("\"\\ud800\"", Some(Flaw::LoneSurrogate));
    check("\"\\udc00\\ud800\"", Some(Flaw::LoneSurrogate));
    assert_eq!(scan(b"\"\xff\"").err(), Some(Fault { at: 1, flaw: Flaw::NotUtf8 }));
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |levels: usize| "[{\"a\":".repeat(levels / 2) + "1" + &"}]".repeat(levels / 2);
    check(&nested(126), None);
    check(&format!("[{}]", nested(126)), None);
    check(&nested(128), Some(Flaw::TooDeep));
    // Which bracket closes is known at every level.
    check(&(nested(126).trim_end_matches(']').to_owned() + "}"), Some(Flaw::Expected("`,` or `]`")));
    check(&format!("{{\"a\":{}]", nested(126)), Some(Flaw::Expected("`,` or `}`")));
    assert!(serde_json::from_str::<serde_json::Value>(&format!("[{}]", nested(126))).is_ok());
    check(&"[".repeat(1_000_000), Some(Flaw::TooDeep));
}

#[test]
fn numbers_count_when_they_are_natural() {
    let number = |text: &str| Scanner::new(text.as_bytes()).and_then(|mut scanner| scanner.number()).unwrap();
    assert_eq!(number("18446744073709551616"), Number::Natural(u64::MAX));
    assert_eq!(number("42"), Number::Natural(42));
    assert_eq!(number("-0.0e5"), Number::Zero);
    assert_eq!(number("1e2"), Number::Other);
    assert_eq!(number("-1"), Number::Other);
}

fn fragments() -> impl Strategy<Value = String> {
    let fragment = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\"a\"",
        "\"a\":",
        "\\u00e9",
        "\\ud83d",
        "\\ude00",
        "1",
        "-",
        "0",
        ".5",
        "e3",
        "true",
        "null",
        " ",
        "\n",
        "é",
        "\\n",
        "\\\"",
        "a text that is longer than near",
    ]);
    prop::collection::vec(fragment, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn it_takes_what_serde_json_takes(text in fragments()) {
        prop_assert_eq!(scan(text.as_bytes()).is_ok(), serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn a_string_says_what_serde_json_reads(said in any::<String>(), ascii in any::<bool>()) {
        let mut written = serde_json::to_string(&said).unwrap();
        if ascii {
            written = written.encode_utf16().map(|unit| if unit < 128 { char::from(u8::try_from(unit).unwrap()).to_string() } else { format!("\\u{unit:04x}") }).collect();
        }
        let mut scanner = Scanner::new(written.as_bytes()).unwrap();
        let text = scanner.text().unwrap();
        prop_assert_eq!(&*text.unescape(), said.as_str());
        prop_assert_eq!(text.chars(), said.chars().count());
        prop_assert!(text.is(&said));
        prop_assert_eq!(text.span(), 0..written.len());
    }
}
