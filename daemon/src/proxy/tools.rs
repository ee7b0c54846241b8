//! Tools for agents that speak plain HTTP: which there are, and a call of one. The gatekeeper decides and calls; here bodies are read and
//! written.

use super::headers;
use super::pages::{Here, Peer, error_page};
use super::reply::REQUEST_ID;
use crate::gate::{Entered, Evidence};
use crate::tools::fault::ToolFault;
use crate::tools::gatekeeper::{Unmade, Wanted};
use crate::tools::supervisor::Answer;
use crate::wire::denial::{self, Addressee};
use crate::wire::dialect::Shape;
use aex_core::decision::Denial;
use aex_core::tool::{Arguments, MAX_BYTES};
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response as Page};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use rmcp::model::CallToolResult;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::error::Error as _;
use std::time::Duration;

/// How long a body may take in all.
const BODY_LASTS: Duration = Duration::from_secs(30);
/// What stands around the arguments at most, in bytes.
const AROUND: usize = 4 << 10;

/// The body of a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Execute<'a> {
    tool: String,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

/// `GET /aex/v1/tools`: the tools that the caller may call.
pub(super) async fn list(State(here): State<Here>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Page {
    let to = Addressee::of_page(here.gate.next_request(), Shape::OpenAi);
    let (view, _) = match here.gate.authenticate(headers::token(&headers), peer.0) {
        Ok(known) => known,
        Err(denial) => return deny(&here, None, &denial, to),
    };
    if let Some(stopped) = &view.stopped {
        return deny(&here, Some(&view), stopped, to);
    }
    let offered = here.gatekeeper.offered(&view).await;
    let told: Vec<Value> = offered
        .iter()
        .map(|offer| {
            json!({
                "name": offer.wire,
                "server": offer.name.server,
                "tool": offer.name.tool,
                "description": offer.tool.description,
                "input_schema": offer.tool.input_schema,
            })
        })
        .collect();
    with_id(Json(json!({"tools": told})).into_response(), to)
}

/// `POST /aex/v1/tools/execute`.
pub(super) async fn execute(State(here): State<Here>, Extension(peer): Extension<Peer>, headers: HeaderMap, body: Body) -> Page {
    let to = Addressee::of_page(here.gate.next_request(), Shape::OpenAi);
    let entered = match here.gate.enter(headers::token(&headers), peer.0, to.request) {
        Ok(entered) => entered,
        Err(refused) => return deny(&here, refused.view.as_deref(), &refused.denial, to),
    };
    if headers.contains_key("idempotency-key") {
        let message = "a call of a tool is not kept for a second one with its key: leave `idempotency-key` out".to_owned();
        return deny(&here, Some(&entered.view), &Denial::Malformed { message, param: None }, to);
    }
    match wanted(body).await {
        Ok(wanted) => answered(&here, entered, wanted, to).await,
        Err(denial) => deny(&here, Some(&entered.view), &denial, to),
    }
}

/// A body of at most so many bytes.
///
/// # Errors
/// When it is longer, ends before its length, or takes too long.
pub(super) async fn whole(body: Body, limit: usize) -> Result<Bytes, Denial> {
    let malformed = |why: &str| Denial::Malformed { message: why.to_owned(), param: None };
    match tokio::time::timeout(BODY_LASTS, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(fault)) if fault.source().is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) => {
            Err(Denial::TooLarge { limit: u64::try_from(limit).unwrap_or(u64::MAX) })
        }
        Ok(Err(_)) => Err(malformed("the body ended before its end")),
        Err(_) => Err(malformed("the body did not arrive in time")),
    }
}

async fn wanted(body: Body) -> Result<Wanted, Denial> {
    let malformed = |message: String| Denial::Malformed { message, param: None };
    let limit = MAX_BYTES + AROUND;
    let bytes = whole(body, limit).await?;
    let Execute { tool, arguments } = serde_json::from_slice(&bytes).map_err(|fault| malformed(fault.to_string()))?;
    // Read as they were written: what two programs could read in two ways is refused.
    let arguments = arguments.map_or(Ok(Arguments::default()), |arguments| Arguments::parse(arguments.get()));
    let arguments = arguments.map_err(|why| Denial::Malformed { message: why.to_string(), param: Some("arguments".to_owned()) })?;
    Ok(Wanted { tool, arguments: arguments.into_map(), progress: None, asks: None, input: None })
}

async fn answered(here: &Here, entered: Entered, wanted: Wanted, to: Addressee) -> Page {
    let page = match here.gatekeeper.call(entered, wanted).await.map(|made| made.answer) {
        Ok(Answer::Complete(result)) => Json(told(&result, to)).into_response(),
        Ok(Answer::InputRequired(_)) => {
            let message = "The tool asks for input, which plain HTTP has no way to give: use an MCP client at /mcp.".to_owned();
            error_page(&denial::of_tool(502, "input_required", message, false, to), to)
        }
        Err(Unmade::Denied(denial)) => error_page(&denial::worded(&denial, to), to),
        Err(Unmade::Failed(fault)) => {
            let (status, may_pass) = status(&fault);
            error_page(&denial::of_tool(status, fault.code(), format!("{}.", sentence(&fault)), may_pass, to), to)
        }
        Err(Unmade::Unrecorded(fault)) => {
            tracing::error!(%fault, request = %to.request, "no call of a tool can be admitted");
            error_page(&denial::worded(&Denial::LedgerUnavailable, to), to)
        }
    };
    with_id(page, to)
}

/// A result: what the tool says as data where it does, else its text, else its parts; and the parts as they are.
fn told(result: &CallToolResult, to: Addressee) -> Value {
    let content = serde_json::to_value(&result.content).unwrap_or_default();
    let texts: Option<Vec<&str>> = content.as_array().into_iter().flatten().map(|part| part["text"].as_str()).collect();
    let text = texts.filter(|texts| !texts.is_empty()).map(|texts| Value::String(texts.join("\n")));
    let plain = result.structured_content.clone().or(text).unwrap_or_else(|| content.clone());
    json!({
        "result": plain,
        "content": content,
        "is_error": result.is_error == Some(true),
        "request_id": to.request,
    })
}

/// The status of a fault, and whether another try may find the server well.
fn status(fault: &ToolFault) -> (u16, bool) {
    match fault {
        ToolFault::Busy { .. } | ToolFault::Changed { .. } | ToolFault::Resting { .. } | ToolFault::Unavailable { .. } => (503, true),
        ToolFault::NotStarted { .. } | ToolFault::Failed { .. } | ToolFault::Disabled { .. } | ToolFault::Unknown { .. } => (503, false),
        ToolFault::RequestTooLarge { .. } => (413, false),
        // It may have taken effect: nothing is called twice on its own.
        ToolFault::TimedOut { .. } => (504, false),
        _ => (502, false),
    }
}

pub(super) fn sentence(fault: &ToolFault) -> String {
    let text = fault.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn deny(here: &Here, view: Option<&crate::ledger::AccountView>, denial: &Denial, to: Addressee) -> Page {
    here.gate.refused(to.request, view, denial, Evidence::default());
    with_id(error_page(&denial::worded(denial, to), to), to)
}

pub(super) fn with_id(mut page: Page, to: Addressee) -> Page {
    if let Ok(id) = HeaderValue::from_str(&to.request.to_string()) {
        page.headers_mut().insert("x-request-id", id.clone());
        page.headers_mut().insert(REQUEST_ID, id);
    }
    page
}
