//! The scripted provider: truthful endpoints of OpenAI and Anthropic on a loopback port that fails on command and counts what it would bill.
//!
//! It runs on a thread of its own, so that plain `#[test]` functions can use it. Each wait has a deadline and fails the test.

mod api;
mod body;
mod book;
mod chat;
mod messages;
mod render;
mod responses;
mod script;
mod serve;
#[cfg(test)]
mod tests;
mod texts;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use self::body::{ResetFlag, Wire};
use self::book::Book;
use self::responses::Store;
use self::serve::Site;

pub use self::book::{Bill, Ended, PATIENCE, Request};
pub use self::script::{At, Control, Cut, How, Script, Usage};

/// The key that the provider expects unless told otherwise.
pub const KEY: &str = "sk-scripted-provider-key";

/// How a provider starts.
#[derive(Clone, Debug)]
pub struct Setup {
    /// 0 takes a free one.
    pub port: u16,
    /// Serves https with a certificate of its own authority.
    pub tls: bool,
    /// The bearer key to expect; empty takes every request.
    pub key: String,
    /// Names for GET /v1/models. Calls may name any model.
    pub models: Vec<String>,
    /// The script for calls without one of their own.
    pub always: Script,
    /// Keeps raw requests; a benchmark doesn't.
    pub record: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let models = vec!["m1-upstream".to_owned(), "m2-upstream".to_owned()];
        Self { port: 0, tls: false, key: KEY.to_owned(), models, always: Script::default(), record: true }
    }
}

/// A running provider. Dropped, it cuts its connections and frees the port.
pub struct Provider {
    address: SocketAddr,
    book: Arc<Book>,
    site: Arc<Site>,
    acceptor: Option<TlsAcceptor>,
    ca: Option<PathBuf>,
    // Removes the authority's certificate at the end.
    _dir: Option<tempfile::TempDir>,
    server: Option<Server>,
}

struct Server {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Provider {
    /// Starts one over http.
    #[must_use]
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// Starts one over https; see `ca`.
    #[must_use]
    pub fn start_tls() -> Self {
        Self::with(Setup { tls: true, ..Setup::default() })
    }

    /// Starts one as told.
    #[must_use]
    pub fn with(setup: Setup) -> Self {
        let dir = setup.tls.then(|| tempfile::tempdir().expect("a temporary folder"));
        let ca = dir.as_ref().map(|dir| dir.path().join("ca.pem"));
        let acceptor = ca.as_deref().map(tls::acceptor);
        let book = Book::new(setup.always, setup.record);
        let site = Arc::new(Site { book: Arc::clone(&book), key: setup.key, models: setup.models, store: Store::default() });
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], setup.port)));
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut provider = Self { address, book, site, acceptor, ca, _dir: dir, server: None };
        provider.server = Some(provider.serve(listener));
        provider
    }

    fn serve(&self, listener: TcpListener) -> Server {
        let site = Arc::clone(&self.site);
        let acceptor = self.acceptor.clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let builder = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = builder.expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
                tokio::select! {
                    () = accept(&listener, &site, acceptor.as_ref()) => {}
                    // Both a message and a dropped provider stop the server.
                    _ = stopped => {}
                }
            });
            // A test that still waits over HTTP holds nobody up.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("provider".to_owned()).spawn(run).expect("a thread");
        Server { stop, thread }
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.acceptor.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// `http://127.0.0.1:PORT/v1`, for a `base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.origin())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority's certificate (PEM), when it serves https.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The key that it expects.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.site.key
    }

    /// Plans one coming call; several plans are taken in order.
    pub fn script(&self, script: Script) {
        self.book.next(script);
    }

    /// Plans `count` coming calls alike.
    pub fn script_times(&self, count: usize, script: &Script) {
        for _ in 0..count {
            self.book.next(script.clone());
        }
    }

    /// Plans every call that has no plan of its own.
    pub fn always(&self, script: Script) {
        self.book.always(script);
    }

    /// Lets go what is held. A call that arrives later waits for the next release; one with two holds needs two.
    pub fn release(&self) {
        self.book.release();
    }

    /// Forgets requests, bills and scripts.
    pub fn forget(&self) {
        self.book.forget();
    }

    /// What arrived so far, except on `/_…`.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.book.requests()
    }

    /// The last request.
    #[must_use]
    #[track_caller]
    pub fn last_request(&self) -> Request {
        self.requests().pop().expect("a request arrived")
    }

    /// All bills, open and refused ones included, in the order of arrival.
    #[must_use]
    pub fn bills(&self) -> Vec<Bill> {
        self.book.bills()
    }

    /// The bills that cost something.
    #[must_use]
    pub fn billed(&self) -> Vec<Bill> {
        self.bills().into_iter().filter(Bill::is_billed).collect()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.book.connections()
    }

    /// Waits until `count` requests arrived since the start or the last `forget`.
    #[track_caller]
    pub fn wait_for_requests(&self, count: u64) {
        if let Err(arrived) = self.book.wait_for_requests(count) {
            panic!("waited {PATIENCE:?} for {count} requests, {arrived} arrived");
        }
    }

    /// Waits until `count` calls ended, refused ones included, and answers all bills.
    #[track_caller]
    pub fn wait_for_bills(&self, count: usize) -> Vec<Bill> {
        match self.book.wait_for_bills(count) {
            Ok(bills) => bills,
            Err(bills) => panic!("waited {PATIENCE:?} for {count} ended bills, got {bills:?}"),
        }
    }

    /// Goes away: resets the port to "connection refused" and cuts what is open.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            // The server may have ended by itself; joining says all.
            let _ = server.stop.send(()).is_ok();
            let _ = server.thread.join().is_ok();
        }
    }

    /// Comes back on the same port, with its books kept.
    pub fn restart(&mut self) {
        self.stop();
        self.server = Some(self.serve(listen(self.address)));
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that was ours a moment ago may be another test's for another moment.
fn listen(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    let listener = loop {
        match TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(fault) => assert!(Instant::now() < deadline, "listen on {address}: {fault}"),
        }
        std::thread::yield_now();
    };
    listener.set_nonblocking(true).expect("a non-blocking socket");
    listener
}

async fn accept(listener: &tokio::net::TcpListener, site: &Arc<Site>, acceptor: Option<&TlsAcceptor>) {
    loop {
        // A client that left before it was accepted is none.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        stream.set_nodelay(true).ok();
        site.book.connected();
        let reset = ResetFlag::default();
        let wire = Wire { stream, reset: reset.clone() };
        let site = Arc::clone(site);
        let acceptor = acceptor.cloned();
        drop(tokio::spawn(async move {
            match acceptor {
                None => serve::connection(site, wire, reset).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(wire).await {
                        serve::connection(site, stream, reset).await;
                    }
                }
            }
        }));
    }
}
