//! `/mcp`: the tools of this machine for agents that speak MCP over Streamable HTTP, of every revision that the SDK knows, without sessions.
//!
//! Owns the edge: whose page asks, who the agent is, that a message means the same to every program, which call a cancellation means.
//! The protocol is the SDK's, all decisions are the gatekeeper's. Must not: tell the SDK a token.

mod calls;
mod changes;
mod direct;
mod gateway;
mod listeners;
mod told;
mod uri;

use super::headers;
use super::pages::{Here, Peer};
use super::tools::{whole, with_id};
use crate::gate::{Evidence, Gate};
use crate::ledger::AccountView;
use crate::tools::gatekeeper::Gatekeeper;
use crate::wire::denial::{self, Addressee, Refusal};
use crate::wire::dialect::Shape;
use aex_core::decision::Denial;
use aex_core::tool::Arguments;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response as Page};
use bytes::Bytes;
use calls::Calls;
use direct::Plain;
use gateway::Gateway;
use listeners::{Listeners, Listening};
use rmcp::model::{ErrorCode, ProtocolVersion};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

/// The longest message, in bytes.
const MAX_MESSAGE: usize = 4 << 20;
/// Opens a stream that tells of changes.
const LISTEN: &str = "subscriptions/listen";
/// JSON-RPC's code for a server's own errors (JSON-RPC 2.0, 5.1).
const REFUSED: ErrorCode = ErrorCode(-32000);
/// From this revision on there is no stream beside the answers.
const NO_STREAM: ProtocolVersion = ProtocolVersion::V_2026_07_28;

/// What serves the messages.
pub(super) struct Mcp {
    service: StreamableHttpService<Gateway, NeverSessionManager>,
    gateway: Gateway,
    calls: Calls,
    listeners: Listeners,
}

/// Who sent a message, for whoever serves it.
#[derive(Clone)]
struct Caller {
    view: Arc<AccountView>,
    token: Arc<str>,
    peer: IpAddr,
    to: Addressee,
    /// The place of a stream that stays open.
    _listening: Option<Arc<Listening>>,
}

impl Mcp {
    pub(super) fn new(gatekeeper: &Gatekeeper) -> Mcp {
        let calls = Calls::default();
        let gateway = Gateway::new(gatekeeper.clone(), calls.clone());
        // Hosts are checked for all pages, origins below.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_max_request_body_bytes(MAX_MESSAGE);
        let served = gateway.clone();
        let service = StreamableHttpService::new(move || Ok(served.clone()), Arc::new(NeverSessionManager::default()), config);
        Mcp { service, gateway, calls, listeners: Listeners::default() }
    }
}

/// `/mcp`, whatever the method.
pub(super) async fn serve(State(here): State<Here>, Extension(peer): Extension<Peer>, request: Request) -> Page {
    let to = Addressee::of_page(here.gate.next_request(), Shape::OpenAi);
    with_id(answered(&here, peer.0, request, to).await, to)
}

async fn answered(here: &Here, peer: IpAddr, request: Request, to: Addressee) -> Page {
    if !here.serves_origin(request.headers()) {
        return error(StatusCode::FORBIDDEN, REFUSED, "A page of this origin may not call tools here: leave out `origin`.");
    }
    let streams = request.method() == Method::GET && !is_newer(request.headers());
    if !streams && request.method() != Method::POST {
        let mut page = error(StatusCode::METHOD_NOT_ALLOWED, REFUSED, "MCP has no such method here: send messages with POST.");
        page.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, POST"));
        return page;
    }
    let token = headers::token(request.headers()).map(Arc::<str>::from);
    let view = match here.gate.authenticate(token.as_deref(), peer) {
        Ok((view, _)) => view,
        Err(denial) => return deny(&here.gate, None, &denial, to),
    };
    let mut caller = Caller { view, token: token.unwrap_or_default(), peer, to, _listening: None };
    match &caller.view.stopped {
        // Of a message it is told in the form that its method has.
        _ if !streams => message(here, caller, request).await,
        Some(denial) => deny(&here.gate, Some(&caller.view), denial, to),
        None => match listening(here, &mut caller) {
            Ok(()) => changes::stream(here, caller),
            Err(page) => *page,
        },
    }
}

/// Gives a caller a place for a stream that stays open.
fn listening(here: &Here, caller: &mut Caller) -> Result<(), Box<Page>> {
    let connections = here.gate.active().config.settings.max_connections.value;
    caller._listening = here.mcp.listeners.enter(caller.view.agent.id, connections);
    match caller._listening {
        Some(_) => Ok(()),
        None => {
            let says = "Too many streams wait for changes: close some, or ask for the lists again when they are needed.";
            Err(Box::new(error(StatusCode::TOO_MANY_REQUESTS, REFUSED, says)))
        }
    }
}

/// One message, which is a request or a notification.
async fn message(here: &Here, mut caller: Caller, request: Request) -> Page {
    let (mut head, body) = request.into_parts();
    let refused = |denial: &Denial| deny(&here.gate, Some(&caller.view), denial, caller.to);
    let malformed = |message: String| Denial::Malformed { message, param: None };
    let bytes = match whole(body, MAX_MESSAGE).await {
        Ok(bytes) => bytes,
        Err(denial) => return refused(&denial),
    };
    let mut read = match read(&bytes) {
        Ok(read) => read,
        Err(why) => return refused(&malformed(why)),
    };
    let method = read.get("method").and_then(Value::as_str).unwrap_or_default();
    if method == direct::CALL
        && let Some(why) = odd_call(&read)
    {
        here.gate.refused(caller.to.request, Some(&caller.view), &malformed(why.to_owned()), Evidence::default());
        let error = json!({"code": ErrorCode::INVALID_PARAMS.0, "message": format!("{why}. (request {})", caller.to.request)});
        return axum::Json(json!({"jsonrpc": "2.0", "id": read["id"], "error": error})).into_response();
    }
    if method == LISTEN
        && let Err(page) = listening(here, &mut caller)
    {
        return *page;
    }
    if method == "notifications/cancelled" {
        // Every message is a connection of its own to the SDK, so it could not know which call is meant.
        here.mcp.calls.cancel(caller.view.named.id, &read["params"]["requestId"]);
        return StatusCode::ACCEPTED.into_response();
    }
    if let Some(call) = Plain::of(&head.headers, &mut read) {
        return call.answered(&here.mcp.gateway, &caller).await;
    }
    for secret in [header::AUTHORIZATION, header::COOKIE, header::HeaderName::from_static("x-api-key")] {
        head.headers.remove(secret);
    }
    head.extensions.insert(caller);
    let whole = http_body_util::Full::<Bytes>::new(bytes);
    here.mcp.service.handle(axum::http::Request::from_parts(head, whole)).await.map(Body::new)
}

/// Reads a message as it was written: what two programs could read in two ways is refused.
fn read(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a message is UTF-8".to_owned())?;
    if text.trim_start().starts_with('[') {
        return Err("batches are not taken, which only revision 2025-03-26 had: send one message at a time".to_owned());
    }
    let read = Arguments::parse(text).map_err(|why| why.to_string().replace("the arguments are", "the message is"))?.into_map();
    if read.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err("a message has `jsonrpc: \"2.0\"`".to_owned());
    }
    if !read.get("id").is_none_or(|id| id.is_string() || id.is_i64()) {
        return Err("the id of a request is a string or a whole number".to_owned());
    }
    let is_object = |value: &Value| value.is_object() || value.is_null();
    if !read.get("params").is_none_or(|params| is_object(params) && params.get("_meta").is_none_or(is_object)) {
        return Err("`params` is an object, and so is `_meta` in it".to_owned());
    }
    Ok(Value::Object(read))
}

/// Why a call of a tool is none.
fn odd_call(message: &Value) -> Option<&'static str> {
    let params = &message["params"];
    if !params["name"].is_string() {
        return Some("`params.name` is the name of a tool");
    }
    params.get("arguments").filter(|arguments| !arguments.is_object() && !arguments.is_null()).map(|_| "`params.arguments` is an object")
}

fn is_newer(headers: &HeaderMap) -> bool {
    let version = headers.get("mcp-protocol-version").and_then(|version| version.to_str().ok());
    version.is_some_and(|version| version >= NO_STREAM.as_str())
}

fn deny(gate: &Gate, view: Option<&AccountView>, denial: &Denial, to: Addressee) -> Page {
    gate.refused(to.request, view, denial, Evidence::default());
    let Refusal { status, message, retry_after_ms, .. } = denial::worded(denial, to);
    let code = match denial {
        Denial::Malformed { .. } => ErrorCode::INVALID_REQUEST,
        _ => REFUSED,
    };
    let mut page = error(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), code, &message);
    if status == StatusCode::UNAUTHORIZED.as_u16() {
        page.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = retry_after_ms {
        page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.div_ceil(1_000)));
    }
    page
}

/// A refusal of a message as a whole, in the form that clients show.
fn error(status: StatusCode, code: ErrorCode, message: &str) -> Page {
    (status, axum::Json(json!({"jsonrpc": "2.0", "id": null, "error": {"code": code.0, "message": message}}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_could_be_read_in_two_ways_is_refused() {
        #[track_caller]
        fn bad(text: &str, says: &str) {
            let why = read(text.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
        for id in ["null", "1.5", "{}", "true", "18446744073709551615"] {
            bad(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#), "the id of a request");
        }
        bad(r#"{"id":1,"method":"ping"}"#, "`jsonrpc: ");
        bad(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, "`jsonrpc: ");
        bad(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":5}}"#, "`_meta`");
        bad(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, "`params` is an object");
        bad(r#"{"id":1,"params":{"name":"a","name":"b"}}"#, r#"the key "name" stands twice"#);
        bad(r#"{"id":1,"params":{"arguments":{"p":1,"\u0070":2}}}"#, r#"the key "p" stands twice"#);
        bad(r#" [{"id":1}]"#, "batches are not taken");
        bad(r#"{"id":123456789012345678901234567890}"#, "does not fit 64 bits");
        bad("{", "no JSON");
        bad(&format!("{}{}", r#"{"a":"#.repeat(70), "1".to_owned() + &"}".repeat(70)), "the message is nested");
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).unwrap()["method"], "ping");
        let odd = |params: &str| odd_call(&serde_json::from_str(&format!(r#"{{"params":{params}}}"#)).unwrap()).is_some();
        assert!(odd(r#"{"name":5}"#) && odd("{}") && odd(r#"{"name":"a","arguments":[]}"#) && odd(r#"{"name":"a","arguments":"{}"}"#));
        assert!(!odd(r#"{"name":"a"}"#) && !odd(r#"{"name":"a","arguments":{}}"#));
    }
}
