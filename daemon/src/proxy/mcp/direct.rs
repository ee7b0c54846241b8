//! The plain call of a tool, which nearly every message is, without the SDK's service: that makes tasks and channels for each message, which
//! cost more than the call.
//!
//! Only a message of which every part is known to be as it should be goes this way. All others, and every doubt, are the SDK's, which
//! answers the same (`tests/tests/mcp/direct.rs`). Must not: refuse anything.

use super::Caller;
use super::gateway::Gateway;
use axum::Json;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::response::{IntoResponse, Response as Page};
use rmcp::model::{
    CallToolRequestParams, JsonRpcMessage, MetaObject, NumberOrString, ProtocolVersion, RequestId, RequestMetaObject, ServerJsonRpcMessage,
};
use serde_json::{Map, Value};

/// The method of a call.
pub(super) const CALL: &str = "tools/call";
/// In `_meta`: the revision, since 2026-07-28; and the key of a caller that wants to hear of progress.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const PROGRESS: &str = "progressToken";
/// How a header's value begins that is not written as it is (revision 2026-07-28, "Transports", "Value Encoding").
const ENCODED: &str = "=?base64?";

/// A plain call.
pub(super) struct Plain {
    id: RequestId,
    params: CallToolRequestParams,
    version: ProtocolVersion,
}

impl Plain {
    /// A message as a plain call, which is taken out of it; nothing when it is none, or there is doubt.
    pub(super) fn of(headers: &HeaderMap, message: &mut Value) -> Option<Plain> {
        let whole = message.as_object()?;
        has_only(whole, &["jsonrpc", "id", "method", "params"]).then_some(())?;
        let id = match whole.get("id")? {
            Value::String(id) => NumberOrString::String(id.as_str().into()),
            id => NumberOrString::Number(id.as_i64()?),
        };
        let params = whole.get("params")?.as_object()?;
        has_only(params, &["name", "arguments", "_meta"]).then_some(())?;
        let name = params.get("name")?.as_str().filter(|_| whole.get("method").is_some_and(|method| method == CALL))?;
        accepts_both(headers).then_some(())?;
        is_json(headers).then_some(())?;
        let version = version(headers, params.get("_meta"), name)?;
        let mut call = CallToolRequestParams::new(name.to_owned());
        call.arguments = match message.pointer_mut("/params/arguments").map(Value::take) {
            None | Some(Value::Null) => None,
            Some(Value::Object(arguments)) => Some(arguments),
            Some(_) => return None,
        };
        Some(Plain { id, params: call, version })
    }

    /// Makes the call.
    pub(super) async fn answered(self, gateway: &Gateway, caller: &Caller) -> Page {
        let Plain { id, params, version } = self;
        let answer: ServerJsonRpcMessage = match gateway.direct(caller, &id, params, &version).await {
            Ok(result) => JsonRpcMessage::response(result, id),
            Err(error) => JsonRpcMessage::error(error, Some(id)),
        };
        Json(answer).into_response()
    }
}

fn has_only(object: &Map<String, Value>, known: &[&str]) -> bool {
    object.keys().all(|key| known.contains(&key.as_str()))
}

/// The one value of a header. Nothing when there are two, or it is no text.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(first)
}

/// As all clients write it; what has weights, wildcards or quotes is not looked at here.
fn accepts_both(headers: &HeaderMap) -> bool {
    let Some(accept) = only(headers, header::ACCEPT).filter(|accept| !accept.contains('"')) else { return false };
    let has = |kind: &str| accept.split(',').any(|one| one.trim().eq_ignore_ascii_case(kind));
    has("application/json") && has("text/event-stream")
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = only(headers, header::CONTENT_TYPE).map(|kind| kind.split_once(';').map_or(kind, |(kind, _)| kind));
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The revision that a call is of, when all is there that it asks for and the caller wants to hear of no progress.
fn version(headers: &HeaderMap, meta: Option<&Value>, tool: &str) -> Option<ProtocolVersion> {
    let meta = match meta {
        None => None,
        Some(Value::Object(meta)) if !meta.contains_key(PROGRESS) => Some(meta),
        Some(_) => return None,
    };
    let [version, method, name] = ["mcp-protocol-version", "mcp-method", "mcp-name"].map(HeaderName::from_static);
    // Who names no revision has one that had no such header.
    if !headers.contains_key(&version) {
        return meta.is_none_or(|meta| !meta.contains_key(VERSION)).then_some(ProtocolVersion::V_2025_03_26);
    }
    let named = only(headers, version)?;
    let known = ProtocolVersion::KNOWN_VERSIONS.iter().find(|known| known.as_str() == named)?;
    let own = meta.and_then(|meta| meta.get(VERSION));
    if known.has_initialize() {
        return own.is_none().then(|| known.clone());
    }
    let own_meta = RequestMetaObject::from(MetaObject(meta?.clone()));
    let agrees = own.and_then(Value::as_str) == Some(named)
        && own_meta.missing_required_keys(known).is_empty()
        && only(headers, method) == Some(CALL)
        && only(headers, name) == Some(tool)
        && !tool.starts_with(ENCODED);
    agrees.then(|| known.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::json;

    const NEWEST: &str = "2026-07-28";

    fn head(more: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [("accept", "application/json, text/event-stream"), ("content-type", "application/json")].iter().chain(more) {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn of(headers: &HeaderMap, mut message: Value) -> Option<Plain> {
        Plain::of(headers, &mut message)
    }

    fn call(params: &Value) -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    }

    #[test]
    fn what_clients_send_is_plain() {
        let params = json!({"name": "a__b", "arguments": {"c": 1}});
        for (more, version) in [
            (&[][..], "2025-03-26"),
            (&[("mcp-protocol-version", "2024-11-05")], "2024-11-05"),
            (&[("mcp-protocol-version", "2025-11-25")], "2025-11-25"),
        ] {
            let plain = of(&head(more), call(&params)).unwrap();
            assert_eq!((plain.version.as_str(), plain.params.name.as_ref(), &plain.id), (version, "a__b", &NumberOrString::Number(1)));
            assert_eq!(plain.params.arguments.map(Value::Object), Some(json!({"c": 1})));
        }
        let meta = json!({VERSION: NEWEST, "io.modelcontextprotocol/clientCapabilities": {}});
        let newest = [("mcp-protocol-version", NEWEST), ("mcp-method", "tools/call"), ("mcp-name", "a__b")];
        let params = json!({"name": "a__b", "_meta": meta});
        assert_eq!(of(&head(&newest), call(&params)).unwrap().version.as_str(), NEWEST);
        // Without a header or a key of them, it is not.
        for left_out in 0..newest.len() {
            let mut less = newest.to_vec();
            less.remove(left_out);
            assert!(of(&head(&less), call(&params)).is_none(), "{less:?}");
        }
        for key in meta.as_object().unwrap().keys() {
            let mut less = call(&params);
            less["params"]["_meta"].as_object_mut().unwrap().remove(key);
            assert!(of(&head(&newest), less).is_none(), "{key}");
        }
        let encoded = call(&json!({"name": "=?base64?YQ==?=", "_meta": meta}));
        let named = [newest[0], newest[1], ("mcp-name", "=?base64?YQ==?=")];
        assert!(of(&head(&named), encoded).is_none());
    }

    #[test]
    fn whatever_is_more_or_less_than_that_is_not() {
        for odd in [
            json!({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "a"}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"name": "a"}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a"}, "more": 1}),
            json!({"jsonrpc": "2.0", "id": 1.5, "method": "tools/call", "params": {"name": "a"}}),
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}),
            call(&json!({"name": 5})),
            call(&json!({"name": "a", "arguments": []})),
            call(&json!({"name": "a", "task": {}})),
            call(&json!({"name": "a", "requestState": "b"})),
            call(&json!({"name": "a", "inputResponses": {}})),
            call(&json!({"name": "a", "_meta": null})),
            call(&json!({"name": "a", "_meta": {"progressToken": 1}})),
            call(&json!({"name": "a", "_meta": {VERSION: "2025-11-25"}})),
        ] {
            assert!(of(&head(&[]), odd.clone()).is_none(), "{odd}");
        }
        for (name, value) in [
            ("accept", "text/html"),
            ("content-type", "text/plain"),
            ("mcp-protocol-version", "2031-01-01"),
            ("mcp-protocol-version", "2025-11-25, 2025-06-18"),
        ] {
            assert!(of(&head(&[(name, value)]), call(&json!({"name": "a"}))).is_none(), "{name}: {value}");
        }
        for accept in ["application/json;q=1, text/event-stream", r#"x/y;a=",application/json,text/event-stream,""#, "*/*"] {
            let mut headers = head(&[]);
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert!(of(&headers, call(&json!({"name": "a"}))).is_none(), "{accept}");
        }
    }
}
