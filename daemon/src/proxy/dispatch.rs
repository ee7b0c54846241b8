//! Sends an admitted call to its provider and gets the head of the answer.

use super::headers;
use super::line::Line;
use super::upstream::{self, Answer, AnswerBody, SendFault};
use crate::config::{Auth, Provider, ProviderKind};
use crate::gate::{Active, Brings, Sending};
use crate::os::secret::Secret;
use crate::os::{clock, failpoint};
use crate::wire::coding::{Corrupt, Decoder};
use crate::wire::denial::{Addressee, UpstreamFault};
use crate::wire::dialect::Dialect;
use crate::wire::echo::{self, EchoAnswer};
use crate::wire::edit::{self, Edits};
use crate::wire::request;
use aex_core::decision::Protocol;
use aex_core::policy::Changed;
use aex_core::price::is_tier_by_project;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, response};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The version of Anthropic's API that a request speaks.
pub(super) const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// The one that is said for a client which says none.
pub(super) const VERSION: &str = "2023-06-01";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a governed call brings.
pub(super) struct Message {
    /// The client's connection.
    pub(super) line: Arc<Line>,
    /// The provider key that the client brings, when its policy allows that: used for this call, and neither stored nor logged.
    pub(super) provider_key: Option<Brought>,
    /// What the client calls.
    pub(super) uri: Uri,
    /// The client's headers.
    pub(super) headers: HeaderMap,
    /// The client's bytes.
    pub(super) body: Bytes,
    /// What it speaks.
    pub(super) dialect: Dialect,
    /// Who gets the daemon's own answers to it.
    pub(super) to: Addressee,
    /// What was read in its bytes.
    pub(super) request: request::Request,
}

/// A provider key that a client brings.
pub(super) enum Brought {
    /// It goes where the provider takes its key.
    Key(Secret),
    /// It goes as it came: where the provider takes a subscriber's token, that is no key.
    As(HeaderName, HeaderValue),
}

impl Brought {
    /// What the gate decides on.
    pub(super) const fn kind(&self) -> Brings {
        match self {
            Brought::Key(_) => Brings::Key,
            Brought::As(..) => Brings::Credentials,
        }
    }
}

/// The bytes of an answer, wherever they come from.
pub(super) enum Source {
    /// A provider.
    Provider(Box<AnswerBody>),
    /// A provider that compresses although identity was asked.
    Encoded(Box<AnswerBody>, Box<Decoder>),
    /// The built-in one.
    Echo(VecDeque<Bytes>),
}

impl Source {
    /// The next bytes; `None` at the end, an error when the provider broke off or its bytes cannot be decoded.
    pub(super) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFault>>> {
        match self {
            Source::Provider(body) => body.poll_bytes(cx).map_err(|()| UpstreamFault::Cut),
            Source::Encoded(body, decoder) => poll_decoded(body, decoder, cx),
            Source::Echo(frames) => Poll::Ready(frames.pop_front().map(Ok)),
        }
    }
}

/// At most one step of the decoder: what is not asked for is not decoded.
fn poll_decoded(body: &mut AnswerBody, decoder: &mut Decoder, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UpstreamFault>>> {
    loop {
        match decoder.decoded() {
            Ok(Some(bytes)) => return Poll::Ready(Some(Ok(bytes))),
            Ok(None) => {}
            Err(Corrupt) => return Poll::Ready(Some(Err(UpstreamFault::BadAnswer))),
        }
        match ready!(body.poll_bytes(cx)) {
            Some(Ok(bytes)) => decoder.push(bytes),
            Some(Err(())) => return Poll::Ready(Some(Err(UpstreamFault::Cut))),
            None if decoder.is_done() => return Poll::Ready(None),
            None => return Poll::Ready(Some(Err(UpstreamFault::Cut))),
        }
    }
}

/// The head of an answer, and where the rest comes from.
pub(super) struct Dispatched {
    pub(super) head: response::Parts,
    pub(super) source: Source,
}

/// Whether a provider answers a dialect: the built-in one chats alone.
pub(super) fn serves(provider: &Provider, dialect: Dialect) -> bool {
    provider.kind != ProviderKind::Echo || dialect == Dialect::Chat
}

/// Sends the call.
pub(super) async fn dispatch(active: &Arc<Active>, call: Sending<'_>, message: &Message) -> Result<Dispatched, SendFault> {
    let unreachable = SendFault::NeverSent(UpstreamFault::Unreachable);
    let provider = call.card().provider.speaking(message.dialect.protocol()).ok_or(unreachable)?;
    let body = edited(call, provider, message);
    if provider.kind == ProviderKind::Echo {
        return Ok(echoed(message.dialect, &body));
    }
    let request = request(active, call, provider, message, body).ok_or(unreachable)?;
    failpoint::reached("send.before");
    let sent = tokio::time::timeout(provider.timeouts.first_byte, upstream::send(provider, active.generation, request)).await;
    let Answer { mut head, body } = sent.map_err(|_| SendFault::MaybeSent(UpstreamFault::FirstByteTimeout))??;
    let source = source(&mut head, body);
    Ok(Dispatched { head, source })
}

/// The bytes of an answer as they were before they were compressed, where that is known.
pub(super) fn source(head: &mut response::Parts, body: AnswerBody) -> Source {
    match headers::take_decoder(&mut head.headers) {
        Some(decoder) => Source::Encoded(Box::new(body), Box::new(decoder)),
        None => Source::Provider(Box::new(body)),
    }
}

/// The client's bytes with the provider's name of the model, the output limit where the model reads it, usage asked for, and the
/// tier that the prices hold for.
fn edited(call: Sending<'_>, provider: &Provider, message: &Message) -> Bytes {
    let card = &call.card().card;
    let drop_tools = call.permit().all_changed(Changed::HostedTools);
    let edits = Edits {
        model: Some(card.provider_model.as_str()),
        max_tokens: message.dialect.limit_field(card.max_tokens_field).map(|field| (field, call.permit().max_tokens)),
        temperature: call.permit().changed(Changed::Temperature),
        no_stream: call.permit().changed(Changed::Stream).is_some(),
        service_tier: (message.dialect.has_service_tier() && is_tier_by_project(provider.base_url.host().unwrap_or_default()))
            .then_some("default"),
        include_usage: message.dialect.has_usage_option(),
        drop_tools: &drop_tools,
        auto_choice: Some(message.dialect.auto_choice()),
    };
    edit::edit(&message.body, &message.request, &edits)
}

fn request(active: &Active, call: Sending<'_>, provider: &Provider, message: &Message, body: Bytes) -> Option<Request<Bytes>> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target(provider, message)?;
    // Both places of a provider take the key of its entry.
    let own = active.config.keys.get(&call.card().provider.name);
    address(&mut request, provider, &message.headers, message.provider_key.as_ref(), own)?;
    let headers = request.headers_mut();
    if message.dialect.protocol() == Protocol::Anthropic && !headers.contains_key(ANTHROPIC_VERSION) {
        headers.insert(ANTHROPIC_VERSION, HeaderValue::from_static(VERSION));
    }
    Some(request)
}

/// Puts a client's headers on a request for a provider, with the key that the client brought or else the daemon's own. `None`: one of
/// them cannot be written, or there is no key where one is needed.
pub(super) fn address(
    request: &mut Request<Bytes>,
    provider: &Provider,
    client: &HeaderMap,
    brought: Option<&Brought>,
    own: Option<&Secret>,
) -> Option<()> {
    let mut headers = headers::to_provider(client);
    let host = provider.base_url.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    headers.insert(header::HOST, HeaderValue::from_str(host?).ok()?);
    match brought {
        Some(Brought::As(name, value)) => drop(headers.insert(name, value.clone())),
        Some(Brought::Key(key)) => authenticate(&mut headers, provider, key)?,
        None if provider.auth == Auth::None => {}
        None => authenticate(&mut headers, provider, own?)?,
    }
    // A client that brings its own key is not to be helped out with the daemon's.
    let is_key = |name: &HeaderName| *name == header::AUTHORIZATION || name.as_str().ends_with("api-key");
    for (name, value) in provider.headers.iter().filter(|(name, _)| brought.is_none() || !is_key(name)) {
        headers.insert(name, value.clone());
    }
    *request.headers_mut() = headers;
    Some(())
}

/// Path and query of a request. Clients of messages say in the query that they speak betas.
fn target(provider: &Provider, message: &Message) -> Option<Uri> {
    let target = provider.target(message.dialect.endpoint());
    match message.uri.query().filter(|_| message.dialect.protocol() == Protocol::Anthropic) {
        Some(query) => format!("{target}?{query}").parse().ok(),
        None => target.parse().ok(),
    }
}

/// Puts a key where the provider takes it.
pub(super) fn authenticate(headers: &mut HeaderMap, provider: &Provider, key: &Secret) -> Option<()> {
    // Without a setting a key is brought as the protocol has it.
    let as_api_key = match provider.auth {
        Auth::ApiKey => true,
        Auth::Bearer => false,
        Auth::None => provider.kind.protocol() == Protocol::Anthropic,
    };
    let (name, text) =
        if as_api_key { (API_KEY, key.expose().to_owned()) } else { (header::AUTHORIZATION, format!("Bearer {}", key.expose())) };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Some(())
}

fn echoed(dialect: Dialect, body: &Bytes) -> Dispatched {
    let created = clock::wall().micros() / 1_000_000;
    let (status, kind, frames) = match echo::respond(dialect, body, created) {
        EchoAnswer::Refused(status, body) => {
            (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), "application/json", vec![body])
        }
        EchoAnswer::Plain(body) => (StatusCode::OK, "application/json", vec![body]),
        EchoAnswer::Stream(events) => (StatusCode::OK, "text/event-stream; charset=utf-8", events),
    };
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Dispatched { head: response.into_parts().0, source: Source::Echo(frames.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openai_is_told_a_tier() {
        let told = |url: &str| is_tier_by_project(url.parse::<http::Uri>().unwrap().host().unwrap_or_default());
        assert!(told("https://api.openai.com/v1") && told("https://API.openai.com.:443/v1") && told("https://eu.api.openai.com/v1"));
        assert!(!told("https://api.groq.com/openai/v1") && !told("https://notapi.openai.com/v1") && !told("http://127.0.0.1:9/v1"));
    }
}
