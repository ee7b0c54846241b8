//! What the world has seen of the daemon: requests to the provider, answers to clients and to admins, each at its first byte.

use std::collections::BTreeMap;

use super::log::{Kind, Record};

/// Something that left the daemon.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When its first byte was sent, on the log's counter.
    pub at: u64,
    /// What it was.
    pub what: What,
}

/// What left the daemon.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A request to the provider; the mark in its prompt.
    Asked(String),
    /// An answer with status 200 to a client; the request's id.
    Answered(String),
    /// An answer to an admin; the id of the JSON-RPC request.
    Told(String),
}

/// A connection's bytes, and when each of them was sent.
#[derive(Default)]
struct Flow {
    ports: i64,
    text: String,
    /// Where a piece begins, and when it was sent.
    pieces: Vec<(usize, u64)>,
}

impl Flow {
    fn at(&self, place: usize) -> u64 {
        let after = self.pieces.partition_point(|(begin, _)| *begin <= place);
        self.pieces[after - 1].1
    }
}

/// All that was seen, in no order. A prompt is known by a mark `<…>` in it, an admin's request by its id, a text.
#[must_use]
pub fn seen(records: &[Record], daemon_port: u16, provider_port: u16) -> Vec<Seen> {
    let mut flows: BTreeMap<u32, Flow> = BTreeMap::new();
    for record in records.iter().filter(|record| record.kind == Kind::Sent) {
        let flow = flows.entry(record.object).or_default();
        flow.ports = record.at;
        flow.pieces.push((flow.text.len(), record.start));
        // One byte is one character, so that places stay what they were.
        flow.text.extend(record.data.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }));
    }
    let mut found = Vec::new();
    for flow in flows.values() {
        let (own, other) = (flow.ports >> 16, flow.ports & 0xffff);
        if own == i64::from(daemon_port) {
            each(flow, "HTTP/1.1 200", "x-aex-request-id: ", "\r\n", What::Answered, &mut found);
        } else if other == i64::from(provider_port) {
            each(flow, "POST ", "<", ">", What::Asked, &mut found);
        } else if flow.ports == 0 {
            each(flow, "{\"jsonrpc\"", "\"id\":\"", "\"", What::Told, &mut found);
        }
    }
    found
}

/// Each message of a flow: it starts with `first`, and its name stands between `before` and `after`.
fn each(flow: &Flow, first: &str, before: &str, after: &str, what: fn(String) -> What, found: &mut Vec<Seen>) {
    let starts: Vec<usize> = flow.text.match_indices(first).map(|(place, _)| place).collect();
    for (number, start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(flow.text.len());
        let message = flow.text.get(*start..end).expect("one byte is one character");
        let name = message.split_once(before).and_then(|(_, rest)| rest.split_once(after));
        if let Some((name, _)) = name {
            found.push(Seen { at: flow.at(*start), what: what(name.to_owned()) });
        }
    }
}
