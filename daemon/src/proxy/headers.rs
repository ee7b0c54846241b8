//! Which headers pass, in both directions.

use crate::os::secret::Secret;
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

/// What a client says to the daemon and not to the provider.
const OURS: [HeaderName; 6] =
    [header::ACCEPT_ENCODING, header::AUTHORIZATION, header::COOKIE, header::EXPECT, header::HOST, header::CACHE_CONTROL];

/// The agent's token: `Authorization: Bearer`, or `x-api-key` as Anthropic's clients send it.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
    bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::trim).filter(|token| !token.is_empty()))
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The provider key that a client brings, if any. One that cannot be used is an error: the daemon's own is no substitute for it.
pub(super) fn provider_key(headers: &HeaderMap) -> Result<Option<Secret>, ()> {
    let Some(value) = headers.get("x-aex-provider-key") else { return Ok(None) };
    let value = value.to_str().map_err(|_| ())?.trim();
    Secret::new(bearer(value).unwrap_or(value).to_owned()).map(Some).ok_or(())
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
    name == "x-api-key" || name == "keep-alive" || name == "proxy-connection" || name.as_str().starts_with("x-aex-")
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
            ("content-type", "application/json"),
        ]);
        let passed = to_provider(&client);
        assert_eq!(names(&passed), ["accept-encoding", "content-type", "openai-organization", "x-codex-turn-metadata"]);
        assert_eq!(passed.get("accept-encoding").unwrap(), "identity");
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
