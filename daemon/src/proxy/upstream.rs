//! Connections to providers: HTTP/1.1 over TCP or TLS, kept open and used again, one pool per worker.
//!
//! A connection is driven by whoever waits for its answer, not by a task of its own: no hand-over per frame. No redirects, no
//! decompression, no cookies. `HTTPS_PROXY` and `NO_PROXY` are honoured for https.

use crate::config::Provider;
use crate::os::{clock, failpoint};
use crate::wire::denial::UpstreamFault;
use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower::Service;

/// Idle connections kept per provider and worker.
const MAX_IDLE: usize = 1_024;
/// A connection idle for longer is closed: many servers close theirs after 60 to 75 seconds.
const IDLE_FOR: Duration = Duration::from_secs(50);
/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Bytes that a connection may buffer: bounds the memory of a stream whose client reads slowly.
const BUFFER: usize = 64 << 10;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// This worker's idle connections, and the TLS settings of its providers.
#[derive(Default)]
struct Pool {
    generation: u64,
    idle: HashMap<String, Vec<(Duration, Connection)>>,
    swept: Duration,
    tls: HashMap<String, Arc<ClientConfig>>,
}

impl Pool {
    /// The pool of a configuration's generation: connections of an older one are closed, and a call that was admitted under an
    /// older one takes none of the newer.
    fn of(&mut self, generation: u64) -> Option<&mut Pool> {
        if generation > self.generation {
            *self = Pool { generation, ..Pool::default() };
        }
        (generation == self.generation).then_some(self)
    }
}

impl Pool {
    /// Closes what has been idle for too long; nobody else looks at it. At most once in a while.
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        for idle in self.idle.values_mut() {
            idle.retain(|(since, _)| now.saturating_sub(*since) < IDLE_FOR);
        }
    }
}

/// A TCP or TLS stream.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

type Driver = Pin<Box<http1::Connection<TokioIo<Stream>, Full<Bytes>>>>;

/// A connection and its driver.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Driver>,
    used: bool,
}

impl Connection {
    /// Moves bytes. `true` once the connection has ended.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
        }
        self.driver.is_none()
    }

    /// Whether it can take a request now. Nobody watches an idle connection, so its end shows only here.
    fn is_usable(&mut self) -> bool {
        let ended = self.drive(&mut Context::from_waker(Waker::noop()));
        !ended && self.sender.is_ready()
    }
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendFault {
    /// Nothing of it left: it can be sent again, and nothing is billed.
    NeverSent(UpstreamFault),
    /// It may have been processed.
    MaybeSent(UpstreamFault),
}

/// An answer whose body is driven by its reader.
pub(super) struct Answer {
    pub(super) head: http::response::Parts,
    pub(super) body: AnswerBody,
}

/// A body and the connection that it comes from.
pub(super) struct AnswerBody {
    incoming: Incoming,
    connection: Option<Connection>,
    generation: u64,
    provider: Arc<Provider>,
}

impl AnswerBody {
    /// The next bytes; `None` at the end, an error when the provider broke off.
    pub(super) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match Frame::into_data(frame) {
                    Ok(bytes) => return Poll::Ready(Some(Ok(bytes))),
                    // Trailers carry nothing that is metered.
                    Err(_) => continue,
                },
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(()))),
                Poll::Ready(None) => {
                    self.put_back();
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
            let Some(connection) = &mut self.connection else { return Poll::Pending };
            let was_ended = connection.driver.is_none();
            let ended = connection.drive(cx);
            // The driver may have brought a frame, or the end.
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Pending if ended && !was_ended => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    if let Ok(bytes) = Frame::into_data(frame) {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(()))),
                Poll::Ready(None) => {
                    self.put_back();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// The whole answer was read: the connection serves again.
    fn put_back(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        connection.used = true;
        if !connection.is_usable() {
            return;
        }
        POOL.with_borrow_mut(|pool| {
            let Some(pool) = pool.of(self.generation) else { return };
            pool.sweep(clock::mono());
            let idle = pool.idle.entry(self.provider.name.clone()).or_default();
            if idle.len() < MAX_IDLE {
                idle.push((clock::mono(), connection));
            }
        });
    }
}

/// Sends a request and waits for the head of its answer. Time limits are the caller's, except for connecting.
pub(super) async fn send(provider: &Arc<Provider>, generation: u64, request: Request<Full<Bytes>>) -> Result<Answer, SendFault> {
    let mut connection = match idle(provider, generation) {
        Some(connection) => connection,
        None => connect(provider, generation).await.map_err(SendFault::NeverSent)?,
    };
    let mut request = request;
    loop {
        // A connection that was used before may have been closed just now: then the request comes back and takes a new one.
        let copy = connection.used.then(|| request.clone());
        match exchange(&mut connection, request).await {
            Ok(response) => {
                let (head, incoming) = response.into_parts();
                let body = AnswerBody { incoming, connection: Some(connection), generation, provider: Arc::clone(provider) };
                return Ok(Answer { head, body });
            }
            Err(fault) if fault.is_canceled() => match copy {
                Some(again) => {
                    request = again;
                    connection = connect(provider, generation).await.map_err(SendFault::NeverSent)?;
                }
                None => return Err(SendFault::NeverSent(UpstreamFault::Unreachable)),
            },
            Err(fault) if fault.is_parse() => return Err(SendFault::MaybeSent(UpstreamFault::BadAnswer)),
            Err(_) => return Err(SendFault::MaybeSent(UpstreamFault::Cut)),
        }
    }
}

async fn exchange(connection: &mut Connection, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, hyper::Error> {
    let mut answer = pin!(connection.sender.send_request(request));
    let driver = &mut connection.driver;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
            return Poll::Ready(answered);
        }
        if let Some(running) = driver
            && running.as_mut().poll(cx).is_ready()
        {
            *driver = None;
        }
        failpoint::reached("send.after");
        answer.as_mut().poll(cx)
    })
    .await
}

fn idle(provider: &Provider, generation: u64) -> Option<Connection> {
    POOL.with_borrow_mut(|pool| {
        let idle = pool.of(generation)?.idle.get_mut(&provider.name)?;
        let now = clock::mono();
        while let Some((since, mut connection)) = idle.pop() {
            if now.saturating_sub(since) < IDLE_FOR && connection.is_usable() {
                return Some(connection);
            }
        }
        None
    })
}

async fn connect(provider: &Arc<Provider>, generation: u64) -> Result<Connection, UpstreamFault> {
    let opened = tokio::time::timeout(provider.timeouts.connect, open(provider, generation)).await;
    let stream = opened.map_err(|_| UpstreamFault::ConnectTimeout)??;
    let (sender, driver) =
        http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await.map_err(|_| UpstreamFault::Unreachable)?;
    Ok(Connection { sender, driver: Some(Box::pin(driver)), used: false })
}

async fn open(provider: &Arc<Provider>, generation: u64) -> Result<Stream, UpstreamFault> {
    let is_tls = provider.base_url.scheme() == Some(&Scheme::HTTPS);
    let tcp = tcp(&provider.base_url, is_tls).await.map_err(|fault| {
        tracing::warn!(provider = provider.name, %fault, "the provider cannot be reached");
        UpstreamFault::Unreachable
    })?;
    // Small writes of a request's head and body are not to wait for each other.
    if let Err(fault) = tcp.set_nodelay(true) {
        tracing::debug!(%fault, "TCP_NODELAY");
    }
    if !is_tls {
        return Ok(Stream::Plain(tcp));
    }
    let host = provider.base_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|_| UpstreamFault::Tls)?;
    let config = tls(provider, generation)?;
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|fault| {
        tracing::warn!(provider = provider.name, %fault, "no trusted TLS connection to the provider");
        UpstreamFault::Tls
    })?;
    Ok(Stream::Tls(Box::new(tls)))
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A TCP connection to a URL's authority, through `HTTPS_PROXY` where that applies.
async fn tcp(url: &Uri, is_tls: bool) -> Result<TcpStream, AnyError> {
    static PROXIES: OnceLock<Matcher> = OnceLock::new();
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    let through = if is_tls { PROXIES.get_or_init(Matcher::from_env).intercept(url) } else { None };
    let Some(through) = through else {
        return Ok(connector.call(url.clone()).await?.into_inner());
    };
    let mut tunnel = Tunnel::new(through.uri().clone(), connector);
    if let Some(auth) = through.basic_auth() {
        tunnel = tunnel.with_auth(auth.clone());
    }
    std::future::poll_fn(|cx| tunnel.poll_ready(cx)).await?;
    Ok(tunnel.call(url.clone()).await?.into_inner())
}

/// The TLS settings of a provider: the built-in roots, and its own.
fn tls(provider: &Provider, generation: u64) -> Result<Arc<ClientConfig>, UpstreamFault> {
    POOL.with_borrow_mut(|pool| {
        let pool = pool.of(generation);
        if let Some(config) = pool.as_ref().and_then(|pool| pool.tls.get(&provider.name)) {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in provider.ca_pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)) {
            let added = certificate.map(|certificate| roots.add(certificate));
            if !matches!(added, Ok(Ok(()))) {
                tracing::warn!(provider = provider.name, "a certificate of `ca_file` cannot be used");
            }
        }
        let crypto = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(crypto).with_safe_default_protocol_versions().map_err(|_| UpstreamFault::Tls)?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        if let Some(pool) = pool {
            pool.tls.insert(provider.name.clone(), Arc::clone(&config));
        }
        Ok(config)
    })
}
