//! All pages but the governed call: an axum router.

use super::body::Lent;
use super::mcp::Mcp;
use super::models;
use super::reply::{self, REQUEST_ID, Reply};
use crate::gate::{Facts, Gate};
use crate::os::clock;
use crate::tools::gatekeeper::Gatekeeper;
use crate::wire::denial::{self, Addressee, Misdirected, Refusal};
use crate::wire::dialect::Shape;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response as Page};
use axum::routing::{any, get, head, post};
use axum::{Json, Router};
use http::header::{self, HeaderValue};
use http::uri::Authority;
use http::{Request, Response, StatusCode, Uri};
use serde_json::json;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Weak};
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

/// The router, and what its pages need.
pub(super) struct Pages {
    pub(super) gate: Gate,
    facts: Arc<Facts>,
    /// One strong count for each connection, beside this one.
    connections: Arc<()>,
    router: Router,
}

/// Where a request came from.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What pages are made of.
#[derive(Clone)]
pub(super) struct Here {
    pub(super) gate: Gate,
    pub(super) gatekeeper: Gatekeeper,
    pub(super) facts: Arc<Facts>,
    pub(super) mcp: Arc<Mcp>,
    connections: Weak<()>,
}

impl Here {
    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.connections.strong_count().saturating_sub(1)
    }

    /// Whether a page of a browser may ask: one of this daemon's own hosts, and whoever is no browser and names none.
    pub(super) fn serves_origin(&self, headers: &HeaderMap) -> bool {
        let active = self.gate.active();
        let extra = &active.config.settings.allowed_hosts.value;
        headers.get_all(header::ORIGIN).iter().all(|origin| {
            let host = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
            host.is_some_and(|(_, host)| is_own(host, self.facts.listen.ip(), extra))
        })
    }
}

impl Pages {
    pub(super) fn new(gatekeeper: Gatekeeper, facts: Arc<Facts>) -> Pages {
        let gate = gatekeeper.gate().clone();
        let models = Router::new().route("/models", get(models::list)).route("/models/{*id}", get(models::one));
        let no_store = SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let connections = Arc::new(());
        let mcp = Arc::new(Mcp::new(&gatekeeper));
        let here = Here { gate: gate.clone(), gatekeeper, facts: Arc::clone(&facts), mcp, connections: Arc::downgrade(&connections) };
        let router = Router::new()
            .route("/", head(alive))
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/metrics", get(super::metrics::metrics))
            .route("/aex/v1/tools", get(super::tools::list))
            .route("/aex/v1/tools/execute", post(super::tools::execute))
            .route("/mcp", any(super::mcp::serve))
            .nest("/v1", models.clone())
            .nest("/openai/v1", models)
            .fallback(unknown_path)
            .method_not_allowed_fallback(wrong_method)
            .layer(no_store)
            .layer(CatchPanicLayer::new())
            .with_state(here);
        Pages { gate, facts, connections, router }
    }

    /// Counts a connection until what this returns is dropped.
    pub(super) fn connected(&self) -> Arc<()> {
        Arc::clone(&self.connections)
    }

    /// A page of the router.
    pub(super) async fn page(&self, peer: IpAddr, mut request: Request<Lent>) -> Response<Reply> {
        request.extensions_mut().insert(Peer(peer));
        let Ok(page) = self.router.clone().oneshot(request.map(axum::body::Body::new)).await;
        if page.headers().contains_key(REQUEST_ID) {
            return page.map(Reply::Page);
        }
        let (head, body) = page.into_parts();
        reply::respond(head.status, head.headers, Reply::Page(body), self.gate.next_request())
    }

    /// Whether a request is meant for this daemon: a page in a browser whose name was bound to this address is not
    /// (DNS rebinding).
    pub(super) fn serves_host<B>(&self, request: &Request<B>) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let named = hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok());
        let target = request.uri().authority().map(Authority::as_str);
        let active = self.gate.active();
        let extra = &active.config.settings.allowed_hosts.value;
        let own = |host| is_own(host, self.facts.listen.ip(), extra);
        named.is_some_and(own) && target.is_none_or(own)
    }
}

/// Whether an authority names this machine, or is another name that the settings know.
fn is_own(authority: &str, listen: IpAddr, extra: &[String]) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host.trim_matches(['[', ']']);
    if bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost") {
        return true;
    }
    if let Ok(address) = bare.parse::<IpAddr>() {
        let mapped = matches!(address, IpAddr::V6(v6) if v6 == Ipv6Addr::LOCALHOST);
        return mapped || address.is_loopback() || address == listen || extra.iter().any(|name| name == bare);
    }
    extra.iter().any(|name| name.eq_ignore_ascii_case(bare))
}

async fn alive() -> StatusCode {
    StatusCode::OK
}

/// Alive, and red when the ledger cannot commit.
async fn health(State(here): State<Here>) -> Page {
    let healthy = here.gate.ledger().is_available();
    let (status, word) = if healthy { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unhealthy") };
    let mut body = json!({"status": word, "version": env!("CARGO_PKG_VERSION")});
    if let Some(jump) = here.gate.ledger().recent_jump() {
        body["clock_jumped"] = json!({"from": jump.from, "to": jump.to});
    }
    if let Some(problem) = here.gate.active().config.permissions_errors.first() {
        let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
        body["tools_denied"] = json!(format!("{}{line} is wrong; `aexctl doctor` says more", problem.file));
    }
    (status, Json(body)).into_response()
}

async fn ready(State(here): State<Here>) -> Page {
    let ledger = here.gate.ledger().is_available();
    let ready = ledger && !here.gate.is_draining();
    let body = json!({
        "ready": ready,
        "status": if ready { "ready" } else { "not_ready" },
        "version": env!("CARGO_PKG_VERSION"),
        "ts": clock::wall(),
        "started_at": here.facts.started_at,
        "checks": {"ledger": ledger, "config": true, "draining": here.gate.is_draining()},
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

async fn unknown_path(State(here): State<Here>, uri: Uri, headers: HeaderMap) -> Page {
    misdirected(&here, &uri, &headers, Misdirected::UnknownPath)
}

async fn wrong_method(State(here): State<Here>, uri: Uri, headers: HeaderMap) -> Page {
    misdirected(&here, &uri, &headers, Misdirected::WrongMethod)
}

fn misdirected(here: &Here, uri: &Uri, headers: &HeaderMap, cause: Misdirected) -> Page {
    let shape = if uri.path().starts_with("/v1/models") { models::shape(headers) } else { Shape::at(uri.path()) };
    let to = Addressee::of_page(here.gate.next_request(), shape);
    error_page(&denial::misdirected(cause, to), to)
}

pub(super) fn error_page(refusal: &Refusal, to: Addressee) -> Page {
    reply::refusal(refusal, to).map(|body| match body {
        Reply::Whole(bytes) => axum::body::Body::from(bytes.unwrap_or_default()),
        Reply::Page(body) => body,
        Reply::Stream(_) => axum::body::Body::empty(),
    })
}
