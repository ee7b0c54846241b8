//! Asks a provider for its models: whether it is there and takes our key, without spending.

use super::dispatch;
use super::upstream;
use crate::config::{Provider, ProviderKind};
use crate::os::secret::Secret;
use crate::wire::denial::UpstreamFault;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// How long a provider may take, connection included.
const PATIENCE: Duration = Duration::from_secs(5);

/// The status of `GET {base_url}/models` with the key.
///
/// # Errors
/// When no answer came.
pub async fn probe(provider: &Arc<Provider>, generation: u64, key: Option<&Secret>) -> Result<StatusCode, UpstreamFault> {
    let request = request(provider, key).ok_or(UpstreamFault::Unreachable)?;
    let answer = tokio::time::timeout(PATIENCE, upstream::send(provider, generation, request)).await;
    match answer {
        // What it lists is not read; the connection is dropped with it.
        Ok(Ok(answer)) => Ok(answer.head.status),
        Ok(Err(upstream::SendFault::NeverSent(fault) | upstream::SendFault::MaybeSent(fault))) => Err(fault),
        Err(_) => Err(UpstreamFault::FirstByteTimeout),
    }
}

fn request(provider: &Provider, key: Option<&Secret>) -> Option<Request<Bytes>> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = provider.target("/models").parse().ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(provider.base_url.authority()?.as_str()).ok()?);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if provider.kind == ProviderKind::Anthropic {
        headers.insert(dispatch::ANTHROPIC_VERSION, HeaderValue::from_static(dispatch::VERSION));
    }
    if let Some(key) = key.filter(|_| provider.needs_key()) {
        dispatch::authenticate(headers, provider, key)?;
    }
    for (name, value) in &provider.headers {
        headers.insert(name, value.clone());
    }
    Some(request)
}
