//! Embeddings: `POST /v1/embeddings`. No output is billed, and nothing is streamed.

use super::answer::{self, Answer};
use super::inputs::inputs;
use super::json::{Fault, Scanner};
use super::member::{Member, members};
use super::request::{self, Malformed, Reader, Request};
use super::text::Text;
use super::usage;

/// Fields that are documented by OpenAI or the common servers of open models, and that cost nothing extra. Sorted.
const KNOWN: &[&str] =
    &["dimensions", "encoding_format", "input_type", "metadata", "output_dimension", "output_dtype", "truncate", "truncation", "user"];

/// Reads the body of a request for embeddings.
///
/// # Errors
/// When it is not JSON, or no request whose bounds can be told.
pub fn read(body: &[u8]) -> Result<Request, Malformed> {
    request::read::<Field>(body)
}

members! {
    "model" => Model,
    "input" => Input,
    "service_tier" => ServiceTier,
}

impl Member for Field {
    const KNOWN: &'static [&'static str] = KNOWN;

    fn read(self, reader: &mut Reader, _: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<(), Malformed> {
        match self {
            Field::Model => reader.model(scanner),
            Field::Input => {
                let input = inputs(scanner, "input")?;
                (reader.ask.messages, reader.ask.text_chars) = (input.inputs, input.chars);
                Ok(())
            }
            Field::ServiceTier => reader.service_tier(scanner),
        }
    }

    /// Stated by the endpoint itself: there is no output.
    fn finish(reader: &mut Reader) -> Result<(), Malformed> {
        if !reader.has(Field::Input) {
            return Err(Malformed::field("input", "is missing"));
        }
        reader.ask.max_tokens = Some(0);
        Ok(())
    }
}

/// Reads an answer. Vectors pass unread, floats or base64.
pub(super) fn answer(scanner: &mut Scanner<'_>, client_model: Option<&str>) -> Result<Answer, Fault> {
    answer::object(scanner, |answer, name, scanner| match name {
        "model" => answer.model(scanner, client_model),
        "usage" => answer.usage(scanner, usage::embeddings),
        "service_tier" => answer.service_tier(scanner),
        "error" => answer.error(scanner),
        _ => scanner.pass(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Dialect;
    use super::super::request::count;
    use super::*;
    use aex_core::ask::Ask;
    use aex_core::usage::Usage;

    #[test]
    fn the_known_fields_are_sorted() {
        assert!(KNOWN.is_sorted());
    }

    #[test]
    fn a_request_is_read_for_what_a_decision_needs() {
        let body = r#"{"model":"m","input":["a","bcd"],"encoding_format":"base64","dimensions":256,"max_tokens":9}"#;
        let expected = Ask {
            body_bytes: count(body.len()),
            choices: 1,
            max_tokens: Some(0),
            messages: 2,
            model: "m".to_owned(),
            text_chars: 4,
            unknown_fields: vec!["max_tokens".to_owned()],
            ..Ask::default()
        };
        assert_eq!(read(body.as_bytes()).unwrap().ask, expected);
    }

    #[test]
    fn a_request_without_an_input_that_can_be_counted_is_refused() {
        for (body, param) in [
            ("{}", Some("input")),
            (r#"{"input":null}"#, Some("input")),
            (r#"{"input":[{"image":"x"}]}"#, Some("input")),
            (r#"{"input":"a","input":"b"}"#, Some("input")),
            (r#"{"INPUT":"a"}"#, Some("INPUT")),
            (r#"{"input":"a","model":5}"#, Some("model")),
            ("\"a\"", None),
        ] {
            assert_eq!(read(body.as_bytes()).map_err(|fault| fault.param), Err(param.map(str::to_owned)), "{body}");
        }
    }

    #[test]
    fn an_answer_is_metered_without_output_whatever_form_its_vectors_have() {
        for (vector, usage, input) in [
            ("[0.1,-2e-3]", r#"{"prompt_tokens":7,"total_tokens":7}"#, 7),
            (r#""AAAA""#, r#"{"prompt_tokens":7,"total_tokens":7,"completion_tokens":0,"prompt_tokens_details":null}"#, 7),
            // Voyage.
            ("[]", r#"{"total_tokens":5}"#, 5),
        ] {
            let body = format!(
                r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":{vector}}}],"model":"real","usage":{usage}}}"#
            );
            let answer = Dialect::Embeddings.answer(body.as_bytes()).unwrap();
            assert_eq!((answer.usage, answer.relayed_output_bytes), (Some(Usage::text(input, 0)), 0), "{body}");
            assert_eq!(answer.model_span.and_then(|span| body.get(span)), Some("\"real\""));
        }
        assert_eq!(Dialect::Embeddings.answer(br#"{"usage":{}}"#).unwrap().usage, None);
    }
}
