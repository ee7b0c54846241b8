//! The control socket: JSON-RPC 2.0 in lines, for administrators on this machine.
//!
//! Owns who may connect, how many, and what each method answers. Wire types of the admin protocol stop here. Must not: decide
//! about calls, or change the ledger other than by its admin actions.

mod accounts;
mod agents;
mod approvals;
mod audit;
mod budgets;
mod check;
mod compact;
mod config;
mod connection;
mod daemon;
mod events;
mod explain;
mod export;
mod fault;
mod fence;
mod groups;
mod keeper;
mod ledger;
mod listen;
mod methods;
mod metrics;
mod models;
mod peer;
mod permissions;
mod policies;
mod runs;
mod tokens;
mod tools;

pub use audit::{noted, reply as audit_reply};
pub use check::check;
pub use compact::forget_sealed;
pub use explain::words as absent_words;
pub use export::{note_head, told_head, wanted as export_wanted};
pub use ledger::reply as backup_reply;
pub use listen::bind;

use crate::config::Settings;
use crate::gate::{Facts, Gate};
use crate::tools::gatekeeper::Gatekeeper;
use aex_core::event::By;
use aex_proto::rpc::{ErrorObject, Fault, Id, Response};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at the same time that no run is tied to.
const MAX_CONNECTIONS: usize = 64;
/// Connections at the same time that a run is tied to. They last as long as the run, so they take no place from administrators.
const MAX_TIED: usize = 4_096;
/// Exports at the same time: each keeps a reader of the ledger for as long as its client reads.
const MAX_EXPORTS: usize = 2;
/// Orders to the keeper of runs that may wait.
const ORDERS: usize = 256;
/// How long a refused peer has to take its error.
const REFUSAL: Duration = Duration::from_secs(1);
/// How long replies that are in line may take to go out when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// The wait after a failed accept: out of descriptors, most likely.
const AFTER_FAULT: Duration = Duration::from_millis(100);

/// What all connections share.
struct Control {
    gate: Gate,
    gatekeeper: Gatekeeper,
    facts: Arc<Facts>,
    /// The settings that sockets, threads and ledger were made with.
    started: Settings,
    runs: mpsc::Sender<keeper::Order>,
    subscriptions: AtomicU64,
    /// Places of connections that a run is tied to.
    tied: Arc<Semaphore>,
    /// Exports that may run at once.
    exports: Arc<Semaphore>,
    /// One compaction at a time.
    compacting: tokio::sync::Mutex<()>,
    /// One change of mcp.json at a time.
    editing: tokio::sync::Mutex<()>,
    fence: fence::Fence,
}

/// Serves the socket until `shutdown` turns true. Runs on a current-thread runtime; the socket's file is removed at the end.
pub async fn serve(listener: UnixListener, gatekeeper: Gatekeeper, facts: Arc<Facts>, mut shutdown: watch::Receiver<bool>) {
    let gate = gatekeeper.gate().clone();
    let (runs, orders) = mpsc::channel(ORDERS);
    let keeper = tokio::spawn(keeper::keep(gate.clone(), orders, shutdown.clone()));
    let started = gate.active().config.settings.clone();
    let (tied, exports) = (Arc::new(Semaphore::new(MAX_TIED)), Arc::new(Semaphore::new(MAX_EXPORTS)));
    let control = Arc::new(Control {
        gate,
        gatekeeper,
        facts,
        started,
        runs,
        subscriptions: AtomicU64::new(0),
        tied,
        exports,
        compacting: tokio::sync::Mutex::default(),
        editing: tokio::sync::Mutex::default(),
        fence: fence::Fence::default(),
    });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut number: u64 = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                note(ended);
                continue;
            }
            () = is_over(&mut shutdown) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Some((by, slot)) = admit(&stream, &control.gate, &slots).await {
                    number = number.wrapping_add(1);
                    let process = fence::Process::of(by.pid);
                    let peer = Peer { by, process, number, slot };
                    connections.spawn(connection::serve(Arc::clone(&control), stream, peer, shutdown.clone()));
                }
            }
            Err(fault) => {
                tracing::error!(%fault, "the control socket cannot accept");
                sleep(AFTER_FAULT).await;
            }
        }
    }
    close(listener);
    let farewell = async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
        note(keeper.await);
    };
    if timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("a client of the control socket did not take its replies within {FAREWELL:?}");
    }
}

/// Resolves when the daemon is to end. A sender that has gone means the same.
async fn is_over(shutdown: &mut watch::Receiver<bool>) {
    drop(shutdown.wait_for(|over| *over).await);
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(fault) = ended {
        tracing::error!(%fault, "a task of the control socket ended by a panic");
    }
}

fn close(listener: UnixListener) {
    let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(std::path::Path::to_owned));
    drop(listener);
    let removed = path.map_or(Ok(()), std::fs::remove_file);
    if let Err(fault) = removed
        && fault.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%fault, "the control socket's file could not be removed");
    }
}

/// Who is connected.
struct Peer {
    by: By,
    /// Its process, as it was when it connected; absent where the system does not tell.
    process: Option<fence::Process>,
    /// The connection's number.
    number: u64,
    /// Its place among the connections.
    slot: OwnedSemaphorePermit,
}

/// Who a peer is, and its place among the connections; a peer that may not connect, or finds no place, is told so.
async fn admit(stream: &UnixStream, gate: &Gate, slots: &Arc<Semaphore>) -> Option<(By, OwnedSemaphorePermit)> {
    let group = gate.active().config.settings.admin_group.value.clone();
    let admitted = peer::identify(stream, group.as_deref()).and_then(|by| {
        let slot = Arc::clone(slots).try_acquire_owned();
        let crowded = |_| {
            ErrorObject::fault(Fault::Throttled, format!("{MAX_CONNECTIONS} connections to the daemon are open, and no more are taken"))
        };
        Ok((by, slot.map_err(crowded)?))
    });
    match admitted {
        Ok(admitted) => Some(admitted),
        Err(error) => {
            tracing::warn!(%error, "a connection to the control socket was refused");
            refuse(stream, error).await;
            None
        }
    }
}

async fn refuse(stream: &UnixStream, error: ErrorObject) {
    let Ok(line) = aex_proto::frame::line(&Response::error(Id::Null, error)) else { return };
    // The line fits into the buffer of a fresh socket, or the peer has gone.
    if timeout(REFUSAL, stream.writable()).await.is_ok_and(|ready| ready.is_ok()) {
        stream.try_write(&line).ok();
    }
}

impl Control {
    /// Whether one more run may be tied to a connection.
    fn may_tie(&self) -> Result<(), ErrorObject> {
        if self.tied.available_permits() > 0 {
            return Ok(());
        }
        Err(ErrorObject::fault(Fault::Throttled, format!("{MAX_TIED} runs are tied to the daemon, and no more are taken")))
    }

    fn next_subscription(&self) -> u64 {
        self.subscriptions.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

#[cfg(test)]
mod tests;
