//! Changes of the lists: of a server's tools, of which servers there are, of what the permissions say. Clients of 2026-07-28 hear of them by
//! `subscriptions/listen`, older ones by the stream that they open with GET. Both only tell that a list may be another one now.

use super::Caller;
use crate::gate::Gate;
use crate::proxy::pages::Here;
use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::response::Response as Page;
use bytes::Bytes;
use http_body::Frame;
use serde_json::json;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How often a stream without news is written to, so that proxies and clients do not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events that may wait for a client.
const WAITING: usize = 8;

/// Waits for the next change. `false`: this caller is to be told nothing more.
pub(super) async fn next(gate: &Gate, caller: &Caller, seen: &mut watch::Receiver<u64>) -> bool {
    let mut draining = gate.draining();
    tokio::select! {
        biased;
        _ = draining.wait_for(|is_draining| *is_draining) => false,
        () = caller.view.stop.raised() => false,
        changed = seen.changed() => {
            let known = gate.authenticate(Some(&caller.token), caller.peer);
            changed.is_ok() && known.is_ok_and(|(view, _)| view.stopped.is_none())
        }
    }
}

/// The stream of an older client.
pub(super) fn stream(here: &Here, caller: Caller) -> Page {
    let (to, events) = mpsc::channel(WAITING);
    let gate = here.gate.clone();
    // What changes from here on is told.
    let mut seen = here.gatekeeper.tools().changed();
    let telling = async move {
        // Its first bytes let the client see that the stream stands.
        let mut event = Bytes::from_static(b": open\n\n");
        loop {
            if to.send(event).await.is_err() {
                return;
            }
            event = tokio::select! {
                () = to.closed() => return,
                () = tokio::time::sleep(KEEP_ALIVE) => Bytes::from_static(b":\n\n"),
                is_told = next(&gate, &caller, &mut seen) => match is_told {
                    true => all_changed(),
                    false => return,
                },
            };
        }
    };
    drop(tokio::spawn(telling));
    let mut page = Page::new(Body::new(Events(events)));
    page.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    page
}

/// Which of the lists has changed is not known.
fn all_changed() -> Bytes {
    let event = |list: &str| format!("data: {}\n\n", json!({"jsonrpc": "2.0", "method": format!("notifications/{list}/list_changed")}));
    Bytes::from(["tools", "prompts", "resources"].map(event).concat())
}

/// Events as a body.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
