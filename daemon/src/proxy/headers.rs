//! Which headers pass, in both directions.

use super::dispatch::Brought;
use crate::os::secret::Secret;
use crate::wire::coding::Decoder;
use aex_core::decision::{Denial, Protocol};
use aex_proto::value::{TokenHash, holds_token};
use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use std::borrow::Cow;

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

/// The provider key that a client brings, if any. One that cannot be used, or that is a token of ours, is an error: the daemon's own
/// is no substitute for it. `knows` tells a token of ours from a provider's key that looks like one of the earlier program's.
pub(super) fn provider_key(headers: &HeaderMap, protocol: Protocol, knows: impl Fn(&str) -> bool) -> Result<Option<Brought>, Denial> {
    let is_ours = |said: &str| knows(said) || holds_token(said.as_bytes());
    let key = match headers.get("x-aex-provider-key") {
        Some(value) => named_key(value, is_ours),
        None => beside(headers, protocol).map_or(Ok(None), |token| own_credentials(headers, token, is_ours)),
    };
    key.map_err(|()| Denial::Malformed { message: "the provider key that the call brings is none".to_owned(), param: None })
}

fn named_key(value: &HeaderValue, is_ours: impl Fn(&str) -> bool) -> Result<Option<Brought>, ()> {
    let said = value.to_str().map_err(|_| ())?.trim();
    let said = bearer(said).unwrap_or(said);
    if is_ours(said) {
        return Err(());
    }
    Secret::new(said.to_owned()).map(|key| Some(Brought::Key(key))).ok_or(())
}

/// What a client authenticates with at its provider, as it came. The agent's token said again is nothing; another one of ours is an
/// error, for none leaves the daemon.
fn own_credentials(headers: &HeaderMap, token: &str, is_ours: impl Fn(&str) -> bool) -> Result<Option<Brought>, ()> {
    for name in [header::AUTHORIZATION, HeaderName::from_static("x-api-key")] {
        let Some(value) = headers.get(&name) else { continue };
        let said = value.to_str().map_err(|_| ())?.trim();
        let said = bearer(said).unwrap_or(said);
        if said.is_empty() || said == token {
            continue;
        }
        if is_ours(said) {
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

/// The tokens that stay here: any of ours by its form, and the caller's own where it is one of the earlier program's, which among
/// other text look like any digest.
struct Kept<'a> {
    earlier: [Option<&'a str>; 2],
}

impl<'a> Kept<'a> {
    fn of(client: &'a HeaderMap) -> Kept<'a> {
        let beside = client.get("x-aex-token").and_then(|value| value.to_str().ok()).map(str::trim);
        Kept { earlier: [beside, token(client)].map(|said| said.filter(|said| !said.starts_with("aex_") && TokenHash::of(said).is_ok())) }
    }

    /// Whether such a token stands in these bytes, as they are or percent-encoded.
    fn is_in(&self, bytes: &[u8]) -> bool {
        let holds = |bytes: &[u8]| {
            holds_token(bytes) || self.earlier.iter().flatten().any(|token| memchr::memmem::find(bytes, token.as_bytes()).is_some())
        };
        holds(bytes) || matches!(percent_decoded(bytes), Cow::Owned(decoded) if holds(&decoded))
    }
}

/// Bytes without their percent-encoding (RFC 3986 §2.1); what is none stands as it is.
fn percent_decoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, behind)) = rest.split_first() {
        let pair = match behind {
            [high, low, ..] if first == b'%' => digit(*high).zip(digit(*low)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()),
            _ => None,
        };
        decoded.push(pair.unwrap_or(first));
        rest = if pair.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    Cow::Owned(decoded)
}

/// What a client asks for behind the path, where that is passed on. It would carry a token to the provider, and into its logs.
///
/// # Errors
/// When a token stands in it.
pub(super) fn query<'a>(uri: &'a Uri, client: &HeaderMap) -> Result<Option<&'a str>, Denial> {
    match uri.query() {
        Some(query) if Kept::of(client).is_in(query.as_bytes()) => Err(Denial::Malformed {
            message: "the query holds a token of aexd, which goes to no provider: send it in `authorization` or `x-api-key` alone"
                .to_owned(),
            param: None,
        }),
        query => Ok(query),
    }
}

/// A request's headers for the provider: no hop-by-hop ones, none of ours, none with a token in it.
pub(super) fn to_provider(client: &HeaderMap) -> HeaderMap {
    let kept = Kept::of(client);
    let mut passed = HeaderMap::with_capacity(client.len() + 4);
    for (name, value) in client {
        if passes(name, client) && !OURS.contains(name) && !is_ours(name) && !kept.is_in(value.as_bytes()) {
            passed.append(name, value.clone());
        }
    }
    // Bytes are metered and edited on the way, so they must come as they are.
    passed.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    passed.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    passed
}

/// An answer's headers for the client: no hop-by-hop ones, and none that speak for the daemon.
pub(super) fn to_client(provider: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::with_capacity(provider.len() + 4);
    for (name, value) in provider {
        if passes(name, provider) && !is_for_the_daemon_to_say(name) {
            passed.append(name, value.clone());
        }
    }
    passed
}

/// What a client would take for the daemon's own: which pages of the web may read its answers (it says none may), where else it is
/// to be reached, cookies of its host, and our names.
fn is_for_the_daemon_to_say(name: &HeaderName) -> bool {
    let text = name.as_str();
    [header::SET_COOKIE, header::ALT_SVC].contains(name) || text.starts_with("access-control-") || text.starts_with("x-aex-")
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
    use aex_proto::value::token_text;

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
    fn no_header_or_query_takes_a_token_along_under_another_name() {
        let ours = token_text(&[7; 32]).expose().to_owned();
        let theirs = token_text(&[8; 32]).expose().to_owned();
        let earlier = "0123456789abcdef0123456789abcdef";
        let encoded = ours.replace('_', "%5F");
        for caller in [ours.as_str(), earlier] {
            let bearer = format!("Bearer {caller}");
            let trace = "00-ffff456789abcdef0123456789abcdef-0123456789abcdef-01";
            let client = map(&[
                ("authorization", &bearer),
                ("api-key", caller),
                ("x-goog-api-key", &theirs),
                ("x-foo", &format!("a,{caller};b")),
                ("referer", &format!("http://localhost/?k={caller}")),
                ("x-encoded", &encoded),
                ("traceparent", trace),
                ("x-app", "aex_cli 100%"),
            ]);
            assert_eq!(names(&to_provider(&client)), ["accept-encoding", "content-type", "traceparent", "x-app"], "{caller}");
            for (query, passes) in [
                ("beta=true", true),
                (&format!("k={caller}"), false),
                (&format!("k={theirs}"), false),
                (&format!("a=%zz%4&k={encoded}"), false),
                ("k=ffff456789abcdef0123456789abcdef", true),
            ] {
                let uri: Uri = format!("/v1/messages?{query}").parse().unwrap();
                assert_eq!(super::query(&uri, &client).is_ok(), passes, "{query}");
            }
        }
    }

    #[test]
    fn an_agents_token_is_no_providers_key() {
        let old = "0123456789abcdef0123456789abcdef";
        let knows = |said: &str| said == old;
        let token = token_text(&[7; 32]).expose().to_owned();
        for value in [token.clone(), format!("Bearer {token}"), format!("Basic {token}"), old.to_owned()] {
            let named = map(&[("authorization", "Bearer t"), ("x-aex-provider-key", &value)]);
            assert!(provider_key(&named, Protocol::OpenAi, knows).is_err(), "{value}");
            let beside = map(&[("x-aex-token", "t"), ("authorization", &value)]);
            assert!(provider_key(&beside, Protocol::Anthropic, knows).is_err(), "{value}");
        }
        // Some providers' keys are 32 digits, too.
        for theirs in ["sk-1", "f123456789abcdef0123456789abcdef"] {
            let key = provider_key(&map(&[("x-aex-provider-key", theirs)]), Protocol::OpenAi, knows);
            assert!(matches!(key, Ok(Some(Brought::Key(key))) if key.expose() == theirs));
        }
    }

    #[test]
    fn a_provider_does_not_speak_for_the_daemon() {
        let provider = map(&[
            ("access-control-allow-origin", "*"),
            ("access-control-expose-headers", "x"),
            ("alt-svc", "h3=\":443\""),
            ("set-cookie", "session=1"),
            ("x-aex-model", "another"),
            ("x-aex-request-id", "req_0000010000000001"),
            ("content-type", "application/json"),
            ("x-ratelimit-remaining-requests", "9"),
        ]);
        assert_eq!(names(&to_client(&provider)), ["content-type", "x-ratelimit-remaining-requests"]);
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
