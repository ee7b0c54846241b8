//! How answers are looked at, and what is found in them.

use crate::http::Answer;
use serde_json::{Value, json};

/// Why a test did not pass.
pub(super) enum Finding {
    /// What was expected, and what came instead.
    Differs(String),
    /// The model's provider has no such endpoint, or not for this model: what it says.
    NotServed(String),
}

pub(super) use Finding::{Differs, NotServed};

/// What a test ends with.
pub(super) type Checked = Result<(), Finding>;

/// The body of an answer that is 200.
pub(super) fn body(answer: &Answer) -> Result<Value, Finding> {
    ok(answer)?;
    serde_json::from_str(&answer.body).map_err(|fault| Differs(format!("the answer is no JSON: {fault}")))
}

/// The payloads of a stream, those that are JSON, and the last line of data.
pub(super) fn events(answer: &Answer) -> Result<(Vec<Value>, &str), Finding> {
    ok(answer)?;
    let kind = &answer.content_type;
    is(kind.starts_with("text/event-stream"), || format!("content-type: expected text/event-stream, found {kind}"))?;
    let data: Vec<&str> = answer.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let last = data.last().copied().ok_or_else(|| Differs("expected events, found none".to_owned()))?;
    let payloads = data.iter().filter(|data| **data != "[DONE]");
    let read = |data: &&str| serde_json::from_str(data).map_err(|fault| Differs(format!("an event is no JSON: {fault}")));
    Ok((payloads.map(read).collect::<Result<_, _>>()?, last))
}

/// A dialect that not every provider serves for every model.
pub(super) fn served(answer: Answer) -> Result<Answer, Finding> {
    match answer.status {
        400 | 404 | 405 => Err(NotServed(format!("{} {}", answer.status, shown(&answer.body)))),
        _ => Ok(answer),
    }
}

pub(super) fn ends_with_done(last: &str) -> Checked {
    is(last == "[DONE]", || format!("expected `data: [DONE]` at the end, found `data: {}`", shown(last)))
}

/// That these members of an object count something.
pub(super) fn counts(object: &Value, at: &str, members: &[&str]) -> Checked {
    for count in members {
        is(object[at][count].is_u64(), || format!("{at}.{count}: expected a count, found {}", object[at][count]))?;
    }
    Ok(())
}

fn ok(answer: &Answer) -> Checked {
    is(answer.status == 200, || format!("expected 200, found {} {}", answer.status, shown(&answer.body)))
}

pub(super) fn same(what: &str, wanted: &str, found: &Value) -> Checked {
    is(*found == json!(wanted), || format!("{what}: expected {}, found {found}", json!(wanted)))
}

pub(super) fn is(holds: bool, difference: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Differs(difference())) }
}

pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
}

pub(super) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    let line: String = text.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > MOST { format!("{line}…") } else { line }
}
