//! Counts against those of OpenAI's own tokeniser, and against texts that are joined.

use super::*;
use crate::wire::dialect::Dialect;
use crate::wire::stream::{StreamEditor, UsageChunk};
use crate::wire::texts::texts;
use bytes::Bytes;
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

/// What a stream of chat said, choice by choice in pieces of so many characters, and the bytes of it.
fn said(texts: &[String], chars: usize) -> (Said, u64) {
    let mut editor = StreamEditor::new(Dialect::Chat, "m", 1, UsageChunk::Pass).keeping_texts();
    for (index, text) in texts.iter().enumerate() {
        let text: Vec<char> = text.chars().collect();
        for piece in text.chunks(chars) {
            let piece: String = piece.iter().collect();
            let event = serde_json::json!({"choices": [{"index": index, "delta": {"content": piece}}]});
            assert_eq!(editor.push(Bytes::from(format!("data: {event}\n\n"))).fault, None);
        }
    }
    let ending = editor.finish();
    (ending.said, ending.meter.relayed_output_bytes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However it is cut, what was said counts no fewer than its tokens and no more than its bytes, and each text one token more at most.
    #[test]
    fn what_was_said_counts_its_tokens_and_never_more_than_its_bytes(
        texts in prop::collection::vec(text(), 1..4),
        chars in 1_usize..9,
        more in 0_u64..50,
        o200k in any::<bool>(),
    ) {
        let vocabulary = if o200k { Vocabulary::O200k } else { Vocabulary::Cl100k };
        let (said, bytes) = said(&texts, chars);
        let counted = spoken(vocabulary, &said, bytes + more).unwrap();
        let tokens: u64 = texts.iter().map(|text| tokens(vocabulary, text).unwrap()).sum();
        prop_assert!(tokens + more <= counted && counted <= bytes + more, "{tokens} + {more} <= {counted} <= {bytes} + {more}");
        prop_assert!(counted <= tokens + number(texts.len()) + more);
    }
}

#[test]
fn a_call_counts_the_frame_that_no_text_shows_and_never_more_than_its_bytes() {
    let spoken_of = |name: &str, arguments: &str| {
        let mut editor = StreamEditor::new(Dialect::Chat, "m", 1, UsageChunk::Pass).keeping_texts();
        let call = serde_json::json!({"index": 0, "function": {"name": name, "arguments": arguments}});
        let event = serde_json::json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]});
        assert_eq!(editor.push(Bytes::from(format!("data: {event}\n\n"))).fault, None);
        let ending = editor.finish();
        spoken(Vocabulary::Cl100k, &ending.said, ending.meter.relayed_output_bytes).unwrap()
    };
    // OpenAI's example of a call in chat, billed 17 tokens.
    let billed = spoken_of("get_current_weather", "{\n\"location\": \"Boston, MA\"\n}");
    assert_eq!(billed, 3 + CALL_FRAME + 10 + 1);
    assert_eq!(spoken_of("f", "{}"), 1 + 2);
}

#[test]
fn output_beyond_what_is_kept_counts_by_its_bytes() {
    let (said, bytes) = said(&["The quick brown fox jumps over the lazy dog. ".repeat(2_000)], 4_000);
    let counted = spoken(Vocabulary::O200k, &said, bytes).unwrap();
    let kept: u64 = said.texts().iter().map(|text| text.bytes).sum();
    assert!((60_000..=65_536).contains(&kept) && counted > bytes - kept && counted < bytes - kept + kept / 4, "{counted} of {bytes}");
}
