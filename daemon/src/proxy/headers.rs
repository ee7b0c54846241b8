//! Which headers pass, in both directions.

use super::dispatch::Brought;
use crate::os::secret::Secret;
use crate::wire::coding::Decoder;
use aex_core::decision::Protocol;
use aex_proto::value::TokenHash;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers that belong to one connection, not to the message (RFC 9110 §7.6.1), and what frames a body.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a client says to the daemon and not to the provider, and what would give the governed bytes another meaning there: a
/// body in another charset or method is not the one that was decided on.
const OURS: [HeaderName; 9] = [
    header::ACCEPT_ENCODING,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
];

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// The agent's token: `Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::trim).filter(|token| !token.is_empty()))
}

/// The agent's token in a call. A client of Anthropic's that brings credentials of its own has the token in `x-aex-token` beside them.
pub(super) fn token_of_call(headers: &HeaderMap, protocol: Protocol) -> Option<&str> {
    beside(headers, protocol).or_else(|| token(headers))
}

/// The token that stands beside the client's own credentials, if any.
fn beside(headers: &HeaderMap, protocol: Protocol) -> Option<&str> {
    let token = headers.get("x-aex-token").filter(|_| protocol == Protocol::Anthropic)?.to_str().ok()?.trim();
    (!token.is_empty()).then_some(token)
}

/// How a client names itself to OpenAI.
pub(super) fn originator(headers: &HeaderMap) -> Option<&str> {
    headers.get("originator").and_then(|value| value.to_str().ok())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The provider key that a client brings, if any. One that cannot be used is an error: the daemon's own is no substitute for it.
pub(super) fn provider_key(headers: &HeaderMap, protocol: Protocol) -> Result<Option<Brought>, ()> {
    let Some(value) = headers.get("x-aex-provider-key") else {
        return beside(headers, protocol).map_or(Ok(None), |token| own_credentials(headers, token));
    };
    let value = value.to_str().map_err(|_| ())?.trim();
    Secret::new(bearer(value).unwrap_or(value).to_owned()).map(|key| Some(Brought::Key(key))).ok_or(())
}

/// What a client authenticates with at its provider, as it came. The agent's token said again is nothing; another one of ours is an
/// error, for none leaves the daemon.
fn own_credentials(headers: &HeaderMap, token: &str) -> Result<Option<Brought>, ()> {
    for name in [header::AUTHORIZATION, HeaderName::from_static("x-api-key")] {
        let Some(value) = headers.get(&name) else { continue };
        let said = value.to_str().map_err(|_| ())?.trim();
        let said = bearer(said).unwrap_or(said);
        if said.is_empty() || said == token {
            continue;
        }
        if TokenHash::of(said).is_ok() {
            return Err(());
        }
        let mut value = value.clone();
        value.set_sensitive(true);
        return Ok(Some(Brought::As(name, value)));
    }
    Ok(None)
}

/// The idempotency key that a client sends, if any. One that is empty, too long, or sent twice, is an error.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, ()> {
    let mut keys = headers.get_all("idempotency-key").iter().map(HeaderValue::as_bytes);
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) if (1..=MAX_KEY).contains(&key.len()) => Ok(Some(key)),
        _ => Err(()),
    }
}

/// A request's headers for the provider: no hop-by-hop ones, none of ours, none with a token in it.
pub(super) fn to_provider(client: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(client.len() + 4);
    for (name, value) in client {
        if passes(name, client) && !OURS.contains(name) && !is_ours(name) {
            passed.append(name, value.clone());
        }
    }
    // Bytes are metered and edited on the way, so they must come as they are.
    passed.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    passed.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    passed
}

/// An answer's headers for the client.
pub(super) fn to_client(provider: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(provider.len() + 4);
    for (name, value) in provider {
        if passes(name, provider) && *name != header::SET_COOKIE {
            passed.append(name, value.clone());
        }
    }
    passed
}

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    // A key is the agent's own: two agents may have the same, and one account at the provider.
    let named = [
        "x-api-key",
        "idempotency-key",
        "keep-alive",
        "proxy-connection",
        "x-http-method-override",
        "x-method-override",
        "x-original-method",
    ];
    named.contains(&name) || name.starts_with("x-aex-") || name.starts_with("x-forwarded-")
}

/// Whether a request wants to become a WebSocket (RFC 6455 §4.1).
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut offered = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offered.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Whether a body is compressed, or otherwise not what its bytes say.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity")
}

/// The decoder of an answer's body, where it needs one that is known; the headers are then those of what it gives.
pub(super) fn take_decoder(headers: &mut HeaderMap) -> Option<Decoder> {
    if !is_encoded(headers) {
        return None;
    }
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let decoder = codings.next().filter(|_| codings.next().is_none()).and_then(|coding| Decoder::of(coding.to_str().ok()?))?;
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    Some(decoder)
}

/// Whether a header is not one of the connection: known ones, and those that `Connection` names.
fn passes(name: &HeaderName, all: &HeaderMap) -> bool {
    if HOP_BY_HOP.contains(name) || name == "keep-alive" {
        return false;
    }
    let mut named = all.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    !named.any(|word| word.trim().eq_ignore_ascii_case(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(rows: &[(&str, &str)]) -> HeaderMap {
        rows.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_agents_token_and_the_connections_headers_stay_here() {
        let client = map(&[
            ("authorization", "Bearer aex_x"),
            ("x-api-key", "aex_x"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("accept-encoding", "gzip"),
            ("x-aex-token", "aex_x"),
            ("openai-organization", "org"),
            ("x-codex-turn-metadata", "{}"),
            ("content-type", "application/json; charset=utf-7"),
            ("content-encoding", "identity"),
            ("x-http-method-override", "GET"),
            ("x-forwarded-for", "::1"),
        ]);
        let passed = to_provider(&client);
        assert_eq!(names(&passed), ["accept-encoding", "content-type", "openai-organization", "x-codex-turn-metadata"]);
        assert_eq!(passed.get("accept-encoding").unwrap(), "identity");
        assert_eq!(passed.get("content-type").unwrap(), "application/json");
    }

    #[test]
    fn a_token_is_found_in_either_place_and_nowhere_else() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let rows: [Row<'_>; 6] = [
            (&[("authorization", "Bearer t")], Some("t")),
            (&[("authorization", "bearer  t ")], Some("t")),
            (&[("authorization", "Basic t")], None),
            (&[("authorization", "Bearer ")], None),
            (&[("x-api-key", "t")], Some("t")),
            (&[("cookie", "token=t")], None),
        ];
        for (headers, expected) in rows {
            assert_eq!(token(&map(headers)), expected, "{headers:?}");
        }
    }
}
