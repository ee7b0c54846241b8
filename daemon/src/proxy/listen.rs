//! Sockets and workers. One thread accepts and deals connections out in turn; each worker serves its own to their end.

use super::body::Lent;
use super::line::{Answering, Line};
use super::pace::Pace;
use super::pages::Pages;
use super::serve;
use super::socket::Socket;
use crate::gate::Facts;
use crate::os::port;
use crate::tools::gatekeeper::Gatekeeper;
use http::Request;
use http::header::{self, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// Bytes that a connection may buffer.
const BUFFER: usize = 64 << 10;
/// The longest head of a request: 32 KiB of headers, and a line before them. What is longer is 431.
const MAX_HEAD: usize = (32 << 10) + 512;
/// Connections that may wait for a worker.
const WAITING: usize = 1_024;
/// How long the last bytes of the last answer have to leave, once the daemon stops.
const LAST_BYTES: Duration = Duration::from_millis(250);
/// A pause after a failed accept: out of descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The proxy at work.
#[derive(Debug)]
pub struct Listening {
    workers: Vec<JoinHandle<()>>,
    acceptor: tokio::task::JoinHandle<()>,
    abort: watch::Sender<bool>,
}

/// Binds the proxy's socket.
///
/// # Errors
/// When the address cannot be bound; a port in use names its holder.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let bound = std::net::TcpListener::bind(address).map_err(|fault| {
        if fault.kind() != io::ErrorKind::AddrInUse {
            return io::Error::new(fault.kind(), format!("cannot listen on {address}: {fault}"));
        }
        let holder = port::holder(address.port()).map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
        io::Error::new(fault.kind(), format!("cannot listen on {address}: the port is in use by {holder}"))
    })?;
    // The standard library asks for room for 128: a burst of clients beyond that would wait a second for its next try.
    nix::sys::socket::listen(&bound, nix::sys::socket::Backlog::MAXCONN)?;
    bound.set_nonblocking(true)?;
    Ok(bound)
}

/// Starts the workers and the acceptor; the latter runs on the calling runtime.
///
/// # Errors
/// When a thread or a runtime cannot be made.
pub fn start(
    listener: std::net::TcpListener,
    gatekeeper: &Gatekeeper,
    facts: &Arc<Facts>,
    workers: usize,
    connections: usize,
) -> io::Result<Listening> {
    let listener = TcpListener::from_std(listener)?;
    let (abort, aborted) = watch::channel(false);
    let gate = gatekeeper.gate();
    let pages = Arc::new(Pages::new(gatekeeper.clone(), Arc::clone(facts)));
    let mut threads = Vec::new();
    let mut lines = Vec::new();
    for number in 0..workers.max(1) {
        let (line, queue) = mpsc::channel(WAITING);
        let worker = Worker { pages: Arc::clone(&pages), queue, draining: gate.draining(), aborted: aborted.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let name = format!("aex-worker-{number}");
        let run = move || {
            runtime.block_on(worker.run());
            // A name that is being resolved holds a thread for up to half a minute (resolv.conf(5)), and dropping waits for it.
            runtime.shutdown_background();
        };
        threads.push(std::thread::Builder::new().name(name).spawn(run)?);
        lines.push(line);
    }
    let acceptor = tokio::spawn(accept(listener, lines, Arc::new(Semaphore::new(connections)), gate.draining()));
    Ok(Listening { workers: threads, acceptor, abort })
}

impl Listening {
    /// Waits until every connection has ended; past the limit they are broken off. The gate must be draining.
    pub async fn stop(self, limit: Duration) {
        if self.acceptor.await.is_err() {
            tracing::error!("the acceptor ended by a panic");
        }
        let workers = self.workers;
        let mut joined = tokio::task::spawn_blocking(move || workers.into_iter().map(JoinHandle::join).filter(Result::is_err).count());
        let panicked = match tokio::time::timeout(limit, &mut joined).await {
            Ok(panicked) => panicked,
            Err(_) => {
                tracing::warn!(?limit, "calls were still in flight at the end of the drain; they are broken off");
                self.abort.send_replace(true);
                joined.await
            }
        };
        if panicked.unwrap_or(1) > 0 {
            tracing::error!("a worker ended by a panic");
        }
    }
}

type Accepted = (TcpStream, IpAddr, OwnedSemaphorePermit);

async fn accept(
    listener: TcpListener,
    lines: Vec<mpsc::Sender<(std::net::TcpStream, IpAddr, OwnedSemaphorePermit)>>,
    room: Arc<Semaphore>,
    mut draining: watch::Receiver<bool>,
) {
    let mut turn = 0_usize;
    loop {
        let accepted = tokio::select! {
            biased;
            () = is_set(&mut draining) => return,
            accepted = accept_one(&listener, &room) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let Ok(stream) = stream.into_std() else { continue };
        turn = (turn + 1) % lines.len();
        if let Some(line) = lines.get(turn)
            && line.send((stream, peer, permit)).await.is_err()
        {
            return;
        }
    }
}

async fn accept_one(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer.ip(), permit)),
        Err(fault) => {
            tracing::warn!(%fault, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Worker {
    pages: Arc<Pages>,
    queue: mpsc::Receiver<(std::net::TcpStream, IpAddr, OwnedSemaphorePermit)>,
    draining: watch::Receiver<bool>,
    aborted: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) {
        let attending = tokio::spawn(self.pages.gate.ledger().attend());
        let pace = Arc::<Pace>::default();
        let pacing = tokio::spawn(Arc::clone(&pace).keep());
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.queue.recv() => match accepted {
                    Some((stream, peer, permit)) => {
                        connections.spawn(connection(Arc::clone(&self.pages), stream, peer, permit, Arc::clone(&pace), self.draining.clone()));
                    }
                    None => break,
                },
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} self.pages.gate.drained().await } => {}
            () = is_set(&mut self.aborted) => {}
        }
        pacing.abort();
        attending.abort();
    }
}

/// Resolves when a flag is set, or when nobody can set it any more.
async fn is_set(flag: &mut watch::Receiver<bool>) {
    drop(flag.wait_for(|set| *set).await.map(|_| ()));
}

async fn connection(
    pages: Arc<Pages>,
    stream: std::net::TcpStream,
    peer: IpAddr,
    permit: OwnedSemaphorePermit,
    pace: Arc<Pace>,
    mut draining: watch::Receiver<bool>,
) {
    let _permit = permit;
    let _counted = pages.connected();
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    if let Err(fault) = stream.set_nodelay(true) {
        tracing::debug!(%fault, "TCP_NODELAY");
    }
    let (head_timeout, keep_alive, stall) = {
        let settings = &pages.gate.active().config.settings;
        (settings.head_timeout.value, settings.keep_alive.value, settings.client_stall.value)
    };
    let line = Arc::new(Line::new(stall));
    let service = service_fn(|request: Request<Incoming>| {
        pace.called();
        let (pages, line, busy) = (Arc::clone(&pages), Arc::clone(&line), line.begin());
        async move {
            let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
            let (head, body) = request.into_parts();
            let body = Lent::new(&head.headers, body, &line);
            let mut answer = serve::handle(pages, Arc::clone(&line), peer, Request::from_parts(head, body)).await;
            let is_read = line.take_left().read_off().await;
            if is_chunked || !is_read {
                // A `content-length` may have stood beside the chunks: then a connection must not be used again (RFC 9112 §6.3). Hyper
                // tells of neither.
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| Answering { body, _busy: busy }))
        }
    });
    let mut builder = http1::Builder::new();
    // Half a head is the socket's to judge: here runs the time between two requests.
    builder.timer(TokioTimer::new()).header_read_timeout(keep_alive).max_buf_size(BUFFER).max_header_size(MAX_HEAD);
    let socket = Socket::new(stream, Arc::clone(&line), Arc::clone(&pages), head_timeout);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let done = tokio::select! {
        biased;
        done = serving.as_mut() => done,
        () = line.broken.notified() => return,
        () = is_set(&mut draining) => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                done = serving.as_mut() => done,
                () = line.broken.notified() => return,
                // Half a head is not waited for; what is written is given a moment to leave.
                () = async { line.is_idle().await; tokio::time::sleep(LAST_BYTES).await } => return,
            }
        }
    };
    if let Err(fault) = done {
        tracing::debug!(%fault, "a connection ended");
    }
}
