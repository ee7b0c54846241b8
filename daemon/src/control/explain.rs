//! Stories of requests, runs and events, and what is said where there is none.

use super::fault::{Answer, read};
use crate::gate::Gate;
use crate::ledger::Absent;
use aex_proto::explain::{ExplainGet, ExplainId, Story};
use aex_proto::rpc::{ErrorObject, Fault};

pub(super) async fn get(gate: &Gate, wanted: ExplainGet) -> Answer<Story> {
    gate.flush_denials().await;
    read(gate, move |reader| reader.explain(wanted.id)).await?.map_err(|absent| {
        let (message, hint) = words(absent);
        ErrorObject::fault(Fault::NotFound, message).hint(hint)
    })
}

/// Where old events are.
const SEGMENTS: &str = "look for it in the segments, which are lines of JSON; `aexctl export` names the newest one";

/// What is wrong, and what to do next.
#[must_use]
pub fn words(absent: Absent) -> (String, String) {
    match absent {
        Absent::NotGivenOut(request) => (
            format!("no daemon of this ledger has given out {request}"),
            "compare it with `x-aex-request-id` of the answer, and --home with the daemon that answered".to_owned(),
        ),
        Absent::NotRecorded(request) => (
            format!("nothing is recorded of {request}: it was no call, or the ledger could not be written"),
            "pages such as /health and /v1/models, what is free and only reads (a stored response, a count of tokens), \
             unknown paths, wrong methods and foreign hosts leave no event; the answer itself says why it refused, and the daemon's log names a call that failed by 503"
                .to_owned(),
        ),
        Absent::NotRecordedSince(request) => (
            format!("nothing is recorded of {request} in the ledger; events before its last compaction are not in it"),
            SEGMENTS.to_owned(),
        ),
        Absent::Sealed(id) => {
            let what = if let ExplainId::Event(seq) = id { format!("event {seq}") } else { id.to_string() };
            (format!("{what} is no longer in the ledger: it was compacted"), SEGMENTS.to_owned())
        }
        Absent::Run(run) => (format!("no run {run}"), "aexctl events".to_owned()),
        Absent::Event(seq) => (format!("no event {seq}"), "aexctl events".to_owned()),
    }
}
