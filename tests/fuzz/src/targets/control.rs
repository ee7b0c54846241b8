//! Lines of the admin socket: any cutting gives the same lines, and a line means what `serde_json` says it does.

use crate::engine::halves;
use aex_proto::frame::{Frame, Splitter, line};
use aex_proto::rpc::{Id, Incoming, MAX_BATCH, Outcome, Outgoing, Request, Response, Standard};
use serde_json::Value;

/// Sixteen bytes of choices, and what a client sent.
pub fn check(bytes: &[u8]) {
    let (mut dice, stream) = halves(bytes);
    let cap = dice.pick(&[1 << 20, 1 << 20, 64, 1, 0]);
    let whole = frames(cap, &[stream]);
    assert_eq!(whole, frames(cap, &dice.cut(stream)), "cut");
    assert_eq!(whole, frames(cap, &stream.chunks(1).collect::<Vec<_>>()), "byte by byte");
    for frame in &whole.0 {
        let Frame::Line(text) = frame else { continue };
        assert!(text.len() <= cap && !text.contains(&b'\n') && !text.trim_ascii().is_empty());
        incoming(text);
        let outgoing: Result<Outgoing, _> = serde_json::from_slice(text);
        if let Ok(Outgoing::Response(response)) = outgoing {
            assert_eq!(back::<Response>(&response), response);
        }
    }
}

fn frames(cap: usize, pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let mut splitter = Splitter::new(cap);
    let frames = pieces.iter().flat_map(|piece| splitter.feed(piece)).collect();
    (frames, splitter.is_cut())
}

/// Written as one line and read again.
fn back<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
    let bytes = line(message).expect("a message has a line");
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
    serde_json::from_slice(&bytes).expect("our own line is read")
}

fn incoming(text: &[u8]) {
    let value: Option<Value> = serde_json::from_slice(text).ok();
    match (Incoming::parse(text), value) {
        (Incoming::One(Err(response)), None) => refused(&response, &Id::Null, Standard::Parse),
        (Incoming::One(one), Some(Value::Array(batch))) => {
            assert!(batch.is_empty() || batch.len() > MAX_BATCH, "a batch is read as one");
            refused(&one.expect_err("a batch that is none"), &Id::Null, Standard::InvalidRequest);
        }
        (Incoming::One(one), Some(value)) => request(one, &value),
        (Incoming::Batch(read), Some(Value::Array(batch))) => {
            assert_eq!(read.len(), batch.len());
            read.into_iter().zip(&batch).for_each(|(one, value)| request(one, value));
        }
        (read, value) => panic!("{value:?} was read as {read:?}"),
    }
}

fn request(read: Result<Request, Box<Response>>, value: &Value) {
    let id = value.get("id");
    match read {
        Ok(request) => {
            assert_eq!(value["jsonrpc"], "2.0");
            assert_eq!(value["method"].as_str(), Some(request.method.as_str()));
            assert_eq!(id.is_some(), request.id.is_some(), "a notification has no id, and null is one");
            let same = serde_json::to_value(&request.id).expect("an id is JSON");
            assert_eq!(id.cloned().unwrap_or(Value::Null), same, "the id goes back as it came");
            let stated = value.get("params").filter(|params| !params.is_null());
            assert_eq!(stated, request.params.as_ref());
            assert_eq!(back(&request), request);
        }
        Err(response) => {
            let known = id.and_then(|id| serde_json::from_value(id.clone()).ok()).unwrap_or(Id::Null);
            refused(&response, &known, Standard::InvalidRequest);
        }
    }
}

fn refused(response: &Response, id: &Id, standard: Standard) {
    assert_eq!(&response.id, id);
    let Outcome::Error(error) = &response.outcome else { panic!("{response:?}") };
    assert_eq!(error.code, standard.code());
    assert_eq!(&back(response), response);
}
