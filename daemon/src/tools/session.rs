//! A conversation with a server that runs: every revision of MCP from 2024-11-05 on, over the official SDK's client.
//!
//! Owns how a revision is found, how long an answer is waited for, and what is done when nobody wants it any more. Must not: start or end
//! processes, decide whether a call may be made. The SDK is used here, in `framing` and by who serves agents, nowhere else.

mod cap;
mod follow;
mod host;
mod listing;

pub(super) use cap::cap;
pub(super) use host::Changed;
pub use host::{Ask, AskReply, Asked};
pub use listing::{Listing, Quarantined};

use super::fault::ToolFault;
use super::framing::{Activity, BAD_ANSWER, Junk, NOT_READ, Outbox, Progress, RESULT_TOO_LARGE, Seen, TOO_LARGE, Wire};
use super::process::Hidden;
use super::server::{Server, Times};
use crate::os::clock;
use host::Host;
use rmcp::RoleClient;
use rmcp::model::{
    CancelledNotificationParam, ClientRequest, DiscoverRequest, DiscoverRequestParams, ErrorData, GetExtensions, Implementation,
    PingRequest, ProtocolVersion, RequestId, ServerCapabilities, ServerResult,
};
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt, Peer, PeerRequestOptions, RunningService, ServiceError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long a call whose pipes are closed waits to hear how the process ended.
const END_KNOWN: Duration = Duration::from_secs(10);

/// How the life of a conversation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Not known yet: a probe tells.
    Probe,
    /// `initialize`, up to 2025-11-25.
    Initialize,
    /// `server/discover`, from 2026-07-28 on.
    Discover,
}

/// How a conversation ended, for the calls that were in it.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// The process ended; these were its last words.
    Exited(super::process::Exit, Vec<String>),
    /// It was ended.
    Stopped(String),
}

/// A conversation. Requests may come from any runtime; the pipes are served by the one that opened it.
pub(super) struct Session {
    server: Arc<Server>,
    peer: Peer<RoleClient>,
    runtime: Handle,
    ended: watch::Receiver<Option<End>>,
    asks: host::Asks,
    hidden: Arc<Hidden>,
    /// The revision that is spoken.
    pub(super) protocol: ProtocolVersion,
    info: Option<Implementation>,
    pub(super) instructions: Option<String>,
    pub(super) capabilities: ServerCapabilities,
    /// Whether it answers `ping`: some servers do not, and are asked for their tools instead.
    answers_ping: std::sync::atomic::AtomicBool,
}

/// What runs a conversation: held by whoever opened it.
pub(super) type Service = RunningService<RoleClient, Host>;

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// From the last sign of progress.
    pub(super) idle: Duration,
    /// In all.
    pub(super) total: Duration,
}

impl Limits {
    pub(super) fn of(times: &Times) -> Limits {
        Limits { idle: times.call, total: times.call_total }
    }

    pub(super) fn flat(limit: Duration) -> Limits {
        Limits { idle: limit, total: limit }
    }
}

/// What a request brings along.
#[derive(Debug, Default)]
pub(super) struct Along {
    /// Where its progress goes.
    pub(super) progress: Option<mpsc::Sender<Progress>>,
    /// Where questions of the server go that come meanwhile.
    pub(super) asks: Option<mpsc::Sender<Asked>>,
}

/// The pipes of a server, and what else a conversation needs to begin.
pub(super) struct Pipes {
    pub(super) output: tokio::net::unix::pipe::Receiver,
    pub(super) input: Arc<Outbox>,
    pub(super) seen: Arc<Seen>,
    pub(super) junk: Junk,
    /// What nothing may hold that the server says and that is kept.
    pub(super) hidden: Arc<Hidden>,
    /// How long a probe may stay unanswered.
    pub(super) probe: Duration,
    pub(super) changed: watch::Sender<Changed>,
    pub(super) ended: watch::Receiver<Option<End>>,
}

impl Session {
    /// Opens a conversation. The opening that it was is told by [`Session::opening`].
    ///
    /// # Errors
    /// That its output ended, or what it said instead, in words of one line, without secrets.
    pub(super) async fn open(server: &Arc<Server>, pipes: Pipes, opening: Opening) -> Result<(Session, Service), Unopened> {
        let hidden = Arc::clone(&pipes.hidden);
        Session::begin(server, pipes, opening).await.map_err(|why| match why {
            Unopened::Closed => Unopened::Closed,
            Unopened::Said(why) => Unopened::Said(hidden.said(&why)),
        })
    }

    async fn begin(server: &Arc<Server>, pipes: Pipes, opening: Opening) -> Result<(Session, Service), Unopened> {
        let host = Host::new(server, pipes.changed);
        let asks = host.asks.clone();
        let wire = Wire::new(pipes.output, pipes.input, server.bounds.message_bytes, pipes.probe, pipes.seen, pipes.junk);
        let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
        let lifecycle = match opening {
            Opening::Initialize => ClientLifecycleMode::Initialize,
            Opening::Discover => ClientLifecycleMode::Discover { preferred_versions },
            Opening::Probe => {
                ClientLifecycleMode::Auto { preferred_versions, legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE) }
            }
        };
        let service = host.serve_with_lifecycle(wire, lifecycle).await.map_err(|fault| unopened(&fault))?;
        let peer = service.peer().clone();
        let Some(info) = peer.peer_info() else { return Err(Unopened::Said("it did not say what it is".to_owned())) };
        if !ProtocolVersion::KNOWN_VERSIONS.contains(&info.protocol_version) {
            return Err(Unopened::Said(format!("it speaks revision `{}`, which is not known here", info.protocol_version)));
        }
        let session = Session {
            server: Arc::clone(server),
            peer,
            runtime: Handle::current(),
            ended: pipes.ended,
            asks,
            hidden: pipes.hidden,
            protocol: info.protocol_version.clone(),
            info: info.server_info.clone(),
            instructions: info.instructions.clone(),
            capabilities: info.capabilities.clone(),
            answers_ping: std::sync::atomic::AtomicBool::new(true),
        };
        Ok((session, service))
    }

    /// The name and version that the server gave itself.
    pub(super) fn implementation(&self) -> Option<String> {
        self.info.as_ref().map(|info| self.hidden.said(&format!("{} {}", info.name, info.version)))
    }

    /// Whether its pipes are closed: what is asked now is not sent.
    pub(super) fn is_closed(&self) -> bool {
        self.peer.is_transport_closed()
    }

    /// How the next conversation with the same server begins.
    pub(super) fn opening(&self) -> Opening {
        if self.protocol.has_initialize() { Opening::Initialize } else { Opening::Discover }
    }

    /// Sends a request and waits for its answer. Dropped before that, the server is told that nobody wants it any more.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn request(&self, mut request: ClientRequest, along: Along, limits: Limits) -> Result<ServerResult, ToolFault> {
        let begun = clock::mono_ms();
        let activity = Activity { at_ms: Arc::new(AtomicU64::new(begun)), progress: along.progress };
        let at_ms = Arc::clone(&activity.at_ms);
        request.extensions_mut().insert(activity);
        let _asked = along.asks.map(|asks| self.asks.join(asks));
        let (mut ended, mut watched) = (self.ended.clone(), self.ended.clone());
        let handle = self.peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await;
        let Ok(mut handle) = handle else { return Err(self.end_of(&mut ended).await) };
        let mut abandoned = Abandoned { session: self, id: Some(handle.id.clone()) };
        let total = sleep(limits.total);
        let idle = sleep(limits.idle);
        let ending = async { watched.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()) };
        tokio::pin!(total, idle, ending);
        loop {
            tokio::select! {
                biased;
                answer = &mut handle.rx => {
                    abandoned.id = None;
                    return match answer {
                        Ok(Ok(result)) => Ok(result),
                        Ok(Err(ServiceError::McpError(error))) => Err(self.refused(error)),
                        Ok(Err(_)) | Err(_) => Err(self.end_of(&mut ended).await),
                    };
                }
                end = &mut ending => {
                    abandoned.id = None;
                    return Err(self.ended_by(end));
                }
                () = &mut total => {
                    return Err(self.timed_out(limits.total, limits.total > limits.idle));
                }
                () = &mut idle => {
                    let since = Duration::from_millis(clock::mono_ms().saturating_sub(at_ms.load(Ordering::Relaxed)));
                    match limits.idle.checked_sub(since).filter(|left| !left.is_zero()) {
                        Some(left) => idle.set(sleep(left)),
                        None => return Err(self.timed_out(limits.idle, false)),
                    }
                }
            }
        }
    }

    /// Whether the server answers at all within this time.
    pub(super) async fn is_alive(&self, patience: Duration) -> bool {
        let answered =
            |answer: Result<ServerResult, ToolFault>| matches!(answer, Ok(_) | Err(ToolFault::Refused { .. } | ToolFault::Protocol { .. }));
        let limits = Limits::flat(patience);
        let has_ping = self.protocol.has_initialize() && self.answers_ping.load(Ordering::Relaxed);
        let first = if has_ping {
            ClientRequest::PingRequest(PingRequest { method: Default::default(), extensions: Default::default() })
        } else if self.protocol.has_initialize() {
            listing::page(None)
        } else {
            ClientRequest::DiscoverRequest(DiscoverRequest::new(DiscoverRequestParams {}))
        };
        if answered(self.request(first, Along::default(), limits).await) {
            return true;
        }
        if !answered(self.request(listing::page(None), Along::default(), limits).await) {
            return false;
        }
        self.answers_ping.store(false, Ordering::Relaxed);
        true
    }

    /// What a server says in an error is kept and shown in more places than the answer that an agent gets.
    fn refused(&self, error: ErrorData) -> ToolFault {
        let (server, message) = (self.server.name.clone(), self.hidden.said(&error.message));
        let limit = self.server.bounds.message_bytes;
        match error.code {
            RESULT_TOO_LARGE => ToolFault::ResultTooLarge { server, limit },
            TOO_LARGE => ToolFault::RequestTooLarge { server, limit },
            NOT_READ => ToolFault::Stopped { server, why: message },
            BAD_ANSWER => ToolFault::Protocol { server, detail: message },
            code => ToolFault::Refused { server, code: code.0, message, detail: error.data.map(|data| self.hidden.data(data)) },
        }
    }

    fn timed_out(&self, limit: Duration, in_all: bool) -> ToolFault {
        ToolFault::TimedOut { server: self.server.name.clone(), limit, in_all }
    }

    /// The pipes are closed: how it ended is known in a moment.
    async fn end_of(&self, ended: &mut watch::Receiver<Option<End>>) -> ToolFault {
        let end = timeout(END_KNOWN, ended.wait_for(Option::is_some)).await;
        self.ended_by(end.ok().and_then(|end| end.ok().and_then(|end| end.clone())))
    }

    fn ended_by(&self, end: Option<End>) -> ToolFault {
        let server = self.server.name.clone();
        match end {
            Some(End::Exited(exit, stderr)) => ToolFault::Exited { server, exit, stderr },
            Some(End::Stopped(why)) => ToolFault::Stopped { server, why },
            None => ToolFault::Stopped { server, why: "its output ended".to_owned() },
        }
    }
}

/// A request whose caller may stop to wait for it.
struct Abandoned<'a> {
    session: &'a Session,
    id: Option<RequestId>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let peer = self.session.peer.clone();
        let told = async move {
            let params = CancelledNotificationParam::new(Some(id), Some("the caller does not wait any more".to_owned()));
            // A server that is gone needs not be told.
            drop(peer.notify_cancelled(params).await);
        };
        drop(self.session.runtime.spawn(told));
    }
}

/// Why a conversation did not begin.
#[derive(Debug)]
pub(super) enum Unopened {
    /// Its pipes were closed: its process may tell why.
    Closed,
    /// In words.
    Said(String),
}

fn unopened(fault: &ClientInitializeError) -> Unopened {
    Unopened::Said(match fault {
        ClientInitializeError::ConnectionClosed(_) | ClientInitializeError::TransportError { .. } => return Unopened::Closed,
        ClientInitializeError::JsonRpcError(error) if error.code == NOT_READ => return Unopened::Closed,
        ClientInitializeError::JsonRpcError(error) => format!("it refused to begin: {} ({})", error.message, error.code.0),
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => {
            let theirs: Vec<&str> = server_supported.iter().map(ProtocolVersion::as_str).collect();
            format!("it speaks only revisions that are not known here: {}", theirs.join(", "))
        }
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => return unopened(fallback),
        ClientInitializeError::ExpectedInitResult(_) | ClientInitializeError::ExpectedInitResponse(_) => {
            "it answered something else than what it is".to_owned()
        }
        other => other.to_string(),
    })
}
