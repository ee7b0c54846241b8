//! Counts against those of OpenAI's own tokeniser, and against texts that are joined.

use super::*;
use crate::wire::dialect::Dialect;
use crate::wire::texts::texts;
use proptest::prelude::*;

const BOTH: [Vocabulary; 2] = [Vocabulary::Cl100k, Vocabulary::O200k];

/// The examples of OpenAI's cookbook, "How to count tokens with tiktoken".
#[test]
fn texts_have_the_tokens_that_openai_documents() {
    #[track_caller]
    fn row(text: &str, cl100k: u64, o200k: u64) {
        assert_eq!(BOTH.map(|vocabulary| tokens(vocabulary, text)), [Some(cl100k), Some(o200k)], "{text}");
    }
    row("antidisestablishmentarianism", 6, 6);
    row("2 + 2 = 4", 7, 7);
    row("お誕生日おめでとう", 9, 8);
    row("tiktoken is great!", 6, 6);
    row("", 0, 0);
    // Text, wherever it comes from: as a special token it would be one.
    assert!(tokens(Vocabulary::O200k, "<|endoftext|>") > Some(1));
}

fn prompt(texts: &[String]) -> String {
    let messages: Vec<_> = texts.iter().map(|text| serde_json::json!({"role": "user", "content": text})).collect();
    serde_json::json!({"model": "m", "messages": messages}).to_string()
}

fn counts(body: &str, vocabulary: Vocabulary) -> (Counted, Counted) {
    let texts = texts(Dialect::Chat, body.as_bytes()).unwrap();
    (least(&texts), most(vocabulary, &texts).unwrap())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,80}",
        "[ \n\t\"\\\\]{0,60}",
        "[0-9]{0,60}",
        "(ab|ba|aa){0,40}",
        "\\PC{0,60}",
        "[ぁ-ん一-龥]{0,40}",
        "(<\\|endoftext\\|>|\\{\"key\": \\[1, 2\\]\\}|fn main\\(\\) \\{\n){0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However a provider lays the texts out, with nothing or with lines between them: what is counted for the tokenised ones, and the bytes of
    /// all else, are no fewer than the tokens of the whole, and never more than the bytes.
    #[test]
    fn no_layout_of_the_texts_has_more_tokens_than_are_counted(texts in prop::collection::vec(text(), 1..6), o200k in any::<bool>()) {
        let vocabulary = if o200k { Vocabulary::O200k } else { Vocabulary::Cl100k };
        let body = prompt(&texts);
        let (least, most) = counts(&body, vocabulary);
        prop_assert!(least.bytes == most.bytes && least.tokens <= most.tokens && most.tokens <= most.bytes && most.bytes <= number(body.len()));
        let bound = number(body.len()) - most.bytes + most.tokens;
        for between in ["", "\n", "\n\n", "<|im_end|>\n"] {
            let whole = texts.join(between);
            let specials = if between.contains('|') { number(texts.len()) * tokens(vocabulary, between).unwrap() } else { 0 };
            prop_assert!(tokens(vocabulary, &whole).unwrap() <= bound + specials, "{between:?}");
        }
        // Each by itself, said and as JSON.
        let said: u64 = texts.iter().map(|text| tokens(vocabulary, text).unwrap()).sum();
        let written: u64 = texts.iter().map(|text| tokens(vocabulary, &serde_json::json!(text).to_string()).unwrap()).sum();
        prop_assert!(said <= bound && written <= bound);
    }
}

#[test]
fn prose_is_bound_several_times_tighter_than_by_bytes() {
    let body = prompt(&["The quick brown fox jumps over the lazy dog, again and again. ".repeat(100)]);
    for vocabulary in BOTH {
        let (_, most) = counts(&body, vocabulary);
        assert!(most.tokens * 4 < most.bytes, "{most:?}");
    }
}

#[test]
fn no_text_is_too_hard_to_be_counted_or_given_up() {
    for piece in ["a", " ", "\n ", "字", "a1", "\u{300}", "'s"] {
        let body = prompt(&[piece.repeat((64 << 10) / piece.len())]);
        let texts = texts(Dialect::Chat, body.as_bytes()).unwrap();
        // A text that defeats the tokeniser is no fault: its bytes stay.
        if let Some(counted) = most(Vocabulary::O200k, &texts) {
            assert!(counted.tokens <= counted.bytes && least(&texts).tokens <= counted.tokens, "{piece:?}");
        }
    }
}
