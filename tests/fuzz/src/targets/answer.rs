//! Whole answers, and the usage in them: buckets are disjoint, so they come to what the provider reported.

use crate::dice::Dice;
use crate::doc::{self, Doc};
use crate::engine::halves;
use crate::made;
use aex_core::usage::Bucket;
use aexd::wire::answer::{Answer, splice_model};
use aexd::wire::dialect::Dialect;
use aexd::wire::edit::quoted;
use bytes::Bytes;
use std::fmt::Write;

const DIALECTS: &[Dialect] =
    &[Dialect::Chat, Dialect::Completions, Dialect::CountTokens, Dialect::Embeddings, Dialect::Messages, Dialect::Responses];
/// The largest count that a ledger keeps.
const MAX_COUNT: u64 = (1 << 53) - 1;

/// Sixteen bytes of choices, and the answer as it came.
pub fn check(bytes: &[u8]) {
    let (mut dice, body) = halves(bytes);
    let dialect = dice.pick(DIALECTS);
    let body = Bytes::copy_from_slice(body);
    let stream = dialect.as_stream(&body, true);
    assert!(stream.as_ref().is_none_or(|stream| stream.ends_with(b"\n\n")), "a stream ends with an event");
    let Some(answer) = dialect.answer(&body) else { return };
    let doc = doc::parse(&body).expect("what is taken is JSON");
    assert!(doc.is_map(), "what is taken is an object");
    assert!(answer.relayed_output_bytes <= body.len() as u64, "no more output than bytes");
    model(&body, &doc, &answer, dice.pick(&["mine", "real", "a\"b", ""]));
    kept(&answer);
    if dialect != Dialect::Embeddings
        && let (Some(usage), Some(reported)) = (&answer.usage, doc.get("usage"))
    {
        let most = numbers(reported);
        assert!(
            u128::from(usage.input_tokens()) + u128::from(usage.output_tokens()) <= 2 * most,
            "more tokens than all counts together: {usage:?}"
        );
    }
}

fn model(body: &Bytes, doc: &Doc<'_>, answer: &Answer, client: &str) {
    let stated = doc.members().iter().rev().find(|(name, value)| name == "model" && value.text().is_some()).map(|(_, value)| value);
    let span = answer.model_span.clone();
    assert_eq!(span.clone().and_then(|span| body.get(span)), stated.map(|model| model.raw.as_bytes()), "the place of the model");
    if let (Some(span), Some(stated)) = (span, stated) {
        let after = splice_model(body, &span, client);
        assert!(doc::parse(&after).is_some(), "JSON stays JSON");
        let name = quoted(client);
        assert_eq!(after.len() + stated.raw.len(), body.len() + name.len(), "only the name differs");
        assert_eq!(after.get(span.start..span.start + name.len()), Some(name.as_bytes()));
        assert_eq!((after.get(..span.start), after.get(span.start + name.len()..)), (body.get(..span.start), body.get(span.end..)));
    }
}

/// What the ledger can keep.
fn kept(answer: &Answer) {
    let Some(usage) = &answer.usage else { return };
    assert!(usage.input_tokens() <= MAX_COUNT && usage.output_tokens() <= MAX_COUNT, "{usage:?}");
    assert!(usage.quantities.is_sorted_by(|one, other| one.0 < other.0), "each bucket once, in order: {usage:?}");
    assert!(usage.quantities.iter().all(|(_, quantity)| *quantity > 0));
    assert!(usage.unknown.len() <= aex_core::ask::NAMES_KEPT);
}

/// All natural numbers in a value together.
fn numbers(doc: &Doc<'_>) -> u128 {
    let own = doc.natural().map_or(0, u128::from);
    own + doc.items().iter().map(numbers).sum::<u128>() + doc.members().iter().map(|(_, value)| numbers(value)).sum::<u128>()
}

/// Usage objects that are right: parts are parts of their whole. Their buckets come to the reported tokens exactly.
pub fn check_usage(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let anthropic = dice.once_in(2);
    let counts: Vec<u64> = (0..6).map(|_| dice.number() >> 14).collect();
    let [fresh, cached, five, hour, audio, output] = counts.try_into().expect("six");
    let (reasoning, spoken) = (output / 4, output / 3);
    let whole = [fresh, cached, five, hour, audio].into_iter().sum::<u64>();
    let mut text = String::new();
    let mut member = |dice: &mut Dice<'_>, name: &str, value: &str| {
        text.push_str(if text.is_empty() { "" } else { "," });
        text.push_str(dice.pick(&["", " ", "\n"]));
        made::text(dice, &mut text, name);
        let _ = write!(text, ":{value}");
    };
    let (body, dialect, input) = if anthropic {
        let mut members = [
            ("input_tokens", (fresh + audio).to_string()),
            ("output_tokens", output.to_string()),
            ("cache_read_input_tokens", cached.to_string()),
            ("cache_creation_input_tokens", (five + hour).to_string()),
            ("cache_creation", format!("{{\"ephemeral_5m_input_tokens\":{five},\"ephemeral_1h_input_tokens\":{hour}}}")),
            ("service_tier", dice.pick(&["null", "\"standard\"", "\"priority\""]).to_owned()),
        ];
        members.rotate_left(dice.below(6));
        members.iter().for_each(|(name, value)| member(&mut dice, name, value));
        (format!("{{\"type\":\"message\",\"usage\":{{{text}}}}}"), Dialect::Messages, whole)
    } else {
        let mut members = [
            ("prompt_tokens", whole.to_string()),
            ("completion_tokens", output.to_string()),
            ("total_tokens", (whole + output).to_string()),
            (
                "prompt_tokens_details",
                format!("{{\"cached_tokens\":{cached},\"audio_tokens\":{audio},\"cache_write_tokens\":{}}}", five + hour),
            ),
            ("completion_tokens_details", format!("{{\"reasoning_tokens\":{reasoning},\"audio_tokens\":{spoken}}}")),
        ];
        members.rotate_left(dice.below(5));
        members.iter().for_each(|(name, value)| member(&mut dice, name, value));
        (format!("{{\"choices\":[],\"usage\":{{{text}}}}}"), Dialect::Chat, whole)
    };
    let answer = dialect.answer(body.as_bytes()).expect("an answer");
    kept(&answer);
    let Some(usage) = answer.usage else {
        assert!(input > MAX_COUNT || output > MAX_COUNT, "a right usage is read: {body}");
        return;
    };
    assert_eq!((usage.input_tokens(), usage.output_tokens()), (input, output), "{body}");
    assert_eq!(usage.get(Bucket::CachedInput), cached, "{body}");
    let written = [Bucket::CacheWrite, Bucket::CacheWrite5m, Bucket::CacheWrite1h].map(|bucket| usage.get(bucket)).iter().sum::<u64>();
    assert_eq!(written, five + hour, "{body}");
    assert!(usage.unknown.is_empty(), "{body}");
}
