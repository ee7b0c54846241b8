//! One provider of models.yaml: where it is, how it is spoken to, how long it is waited for.

use super::report::{Field, Report, Section, Unknown};
use super::route::{self, Retries};
use super::yaml::Value;
use aex_core::breaker;
use aex_core::decision::Protocol;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The openai SDK waits 600 s for an answer.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Headers that the connection or the daemon sets itself.
const RESERVED_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::ACCEPT_ENCODING,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Who serves models.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name in models.yaml.
    pub name: String,
    /// `http` or `https`, with an authority; never ends in a slash unless the path is empty. Not used by `Echo`.
    pub base_url: Uri,
    /// What it speaks.
    pub kind: ProviderKind,
    /// How it is told who calls.
    pub auth: Auth,
    /// Certificates in PEM, at least one and each readable: trusted beside the built-in ones.
    pub ca_pem: Option<Vec<u8>>,
    /// Sent with every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How long it is waited for.
    pub timeouts: Timeouts,
    /// How often a call is sent again, where its model does not say.
    pub retries: Option<Retries>,
    /// When its calls are refused because it fails; `None`: never.
    pub breaker: Option<breaker::Settings>,
    /// The variable of its key, such as `GROQ_API_KEY`.
    pub key_variable: String,
    /// The same provider where it speaks the other protocol; its `name` is that of a place, not of an entry.
    pub other: Option<Arc<Provider>>,
}

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI's HTTP API.
    OpenAiCompatible,
    /// Anthropic's.
    Anthropic,
    /// Built in: answers with what it was asked, without any network.
    Echo,
}

/// How a provider is told who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer` with the key.
    Bearer,
    /// `x-api-key` with the key.
    ApiKey,
    /// No key is needed or sent.
    None,
}

/// How long a provider is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands, TLS included.
    pub connect: Duration,
    /// From the request sent to the first byte of the answer.
    pub first_byte: Duration,
    /// Between two chunks of an answer.
    pub idle: Duration,
}

impl Provider {
    /// Path and query of a request: `/chat/completions` below `https://api.groq.com/openai/v1` is
    /// `/openai/v1/chat/completions`. Anthropic's clients take a base URL without `/v1`: `/messages` is `/v1/messages` below
    /// `https://api.anthropic.com` and below `https://api.anthropic.com/v1`.
    #[must_use]
    pub fn target(&self, endpoint: &str) -> String {
        let base = self.base_url.path().trim_end_matches('/');
        match self.kind {
            ProviderKind::Anthropic => format!("{}/v1{endpoint}", base.strip_suffix("/v1").unwrap_or(base)),
            ProviderKind::OpenAiCompatible | ProviderKind::Echo => format!("{base}{endpoint}"),
        }
    }

    /// Whether a call needs the provider's key.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.auth != Auth::None
    }

    /// Where it speaks a protocol; `None` when the configuration names no such place. The built-in one speaks all.
    #[must_use]
    pub fn speaking(self: &Arc<Provider>, protocol: Protocol) -> Option<&Arc<Provider>> {
        if self.kind.protocol() == protocol || self.kind == ProviderKind::Echo { Some(self) } else { self.other.as_ref() }
    }
}

/// The protocols of which a provider may speak both: its own, the setting that names where it speaks the other, and that one.
const BOTH: [(ProviderKind, &str, ProviderKind); 2] = [
    (ProviderKind::Anthropic, "openai_base_url", ProviderKind::OpenAiCompatible),
    (ProviderKind::OpenAiCompatible, "anthropic_base_url", ProviderKind::Anthropic),
];

impl ProviderKind {
    /// What it speaks.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            ProviderKind::Anthropic => Protocol::Anthropic,
            ProviderKind::OpenAiCompatible | ProviderKind::Echo => Protocol::OpenAi,
        }
    }

    /// The setting that names where a provider of this kind speaks the other protocol.
    #[must_use]
    pub fn other_setting(self) -> Option<&'static str> {
        BOTH.iter().find(|(kind, _, _)| *kind == self).map(|(_, setting, _)| *setting)
    }
}

pub(super) fn read(name: &str, field: &Field<'_>, config_dir: &Path, report: &mut Report) -> Option<Provider> {
    let mut section = report.section(field)?;
    let kinds =
        [("openai_compatible", ProviderKind::OpenAiCompatible), ("anthropic", ProviderKind::Anthropic), ("echo", ProviderKind::Echo)];
    let kind = match section.get("type") {
        Some(field) => report.word(&field, &kinds),
        None => Some(ProviderKind::OpenAiCompatible),
    };
    let base_url = match kind {
        Some(ProviderKind::Echo) => section.get("base_url").map_or_else(|| Some(Uri::default()), |field| url(&field, report)),
        _ => section.require("base_url", "an http or https URL", report).and_then(|field| url(&field, report)),
    };
    let auth = match section.get("auth") {
        Some(field) => report.word(&field, &[("bearer", Auth::Bearer), ("x_api_key", Auth::ApiKey), ("none", Auth::None)]),
        None => Some(match kind {
            Some(ProviderKind::Echo) => Auth::None,
            Some(ProviderKind::Anthropic) => Auth::ApiKey,
            Some(ProviderKind::OpenAiCompatible) | None => Auth::Bearer,
        }),
    };
    let other = kind.and_then(|kind| other_place(kind, &mut section, report));
    let ca_pem = section.get("ca_file").map(|field| certificates(&field, config_dir, report));
    let headers = section.get("headers").map_or_else(|| Some(Vec::new()), |field| read_headers(&field, report));
    let timeouts = read_timeouts(&mut section, report);
    let retries = section.get("retries").and_then(|field| route::read_retries(&field, report));
    let breaker = route::read_breaker(&mut section, report);
    let key_variable = key_variable(name);
    if auth != Some(Auth::None) && key_variable == "_API_KEY" {
        report.refuse(field.line, format!("{}: expected a name with at least one of A-Z, 0-9, for the variable of its key", field.key));
    }
    section.finish(Unknown::Warn, report);
    let provider = Provider {
        name: name.to_owned(),
        base_url: base_url?,
        kind: kind?,
        auth: auth?,
        ca_pem: ca_pem.map_or(Some(None), |read| read.map(Some))?,
        headers: headers?,
        timeouts,
        retries,
        breaker,
        key_variable,
        other: None,
    };
    Some(match other {
        Some((kind, base_url)) => {
            let (setting, base_url) = (provider.kind.other_setting().unwrap_or_default(), base_url?);
            // Whoever serves both takes one key, and OpenAI's protocol has one way to send it.
            let auth = if kind == ProviderKind::OpenAiCompatible && provider.auth == Auth::ApiKey { Auth::Bearer } else { provider.auth };
            let place = Provider { name: format!("{name}.{setting}"), base_url, kind, auth, ..provider.clone() };
            Provider { other: Some(Arc::new(place)), ..provider }
        }
        None => provider,
    })
}

/// Where a provider of a kind speaks the other protocol, when it says so.
fn other_place(kind: ProviderKind, section: &mut Section<'_>, report: &mut Report) -> Option<(ProviderKind, Option<Uri>)> {
    let (_, setting, other) = BOTH.iter().find(|(own, _, _)| *own == kind)?;
    section.get(setting).map(|field| (*other, url(&field, report)))
}

/// The variable of a provider's key: upper case, `-` as `_`, other characters dropped (`my-llm.eu` is `MY_LLMEU_API_KEY`).
fn key_variable(provider: &str) -> String {
    let letters = provider.to_uppercase().replace('-', "_");
    let kept: String = letters.chars().filter(|letter| matches!(letter, 'A'..='Z' | '0'..='9' | '_')).collect();
    format!("{kept}_API_KEY")
}

fn url(field: &Field<'_>, report: &mut Report) -> Option<Uri> {
    let text = report.text(field)?;
    // A password in the address would be shown by whatever shows the address.
    let parsed = text.trim_end_matches('/').parse::<Uri>().ok().filter(|uri| {
        let known = uri.scheme() == Some(&Scheme::HTTP) || uri.scheme() == Some(&Scheme::HTTPS);
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        known && host && plain && uri.query().is_none() && !text.contains('#')
    });
    if parsed.is_none() {
        let key = &field.key;
        report.refuse(field.line, format!("{key}: expected an http or https URL without user, query and fragment"));
    }
    parsed
}

fn certificates(field: &Field<'_>, config_dir: &Path, report: &mut Report) -> Option<Vec<u8>> {
    let path = config_dir.join(report.text(field)?);
    let pem = match super::read_limited(&path) {
        Ok(pem) => pem,
        Err(fault) => {
            report.refuse(field.line, format!("{}: expected a readable file, found {}: {fault}", field.key, path.display()));
            return None;
        }
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    if !certificates.is_ok_and(|list| !list.is_empty()) {
        report.refuse(field.line, format!("{}: expected certificates in PEM in {}, found none", field.key, path.display()));
        return None;
    }
    Some(pem)
}

fn read_headers(field: &Field<'_>, report: &mut Report) -> Option<Vec<(HeaderName, HeaderValue)>> {
    // What stands there may be a secret, so it is not shown.
    if !matches!(field.node.value, Value::Map(_)) {
        report.refuse(field.line, format!("{}: expected a mapping of header names to their values", field.key));
        return None;
    }
    let section = report.section(field)?;
    let headers: Vec<_> = section.named().map(|(name, field)| read_header(name, &field, report)).collect();
    headers.into_iter().collect()
}

fn read_header(name: &str, field: &Field<'_>, report: &mut Report) -> Option<(HeaderName, HeaderValue)> {
    let parsed = name.parse::<HeaderName>().ok().filter(|name| !RESERVED_HEADERS.contains(name));
    if parsed.is_none() {
        report.refuse(field.line, format!("{}: expected the name of a header that a request may set", field.key));
    }
    let value = report.text(field).and_then(|text| HeaderValue::from_str(&text).ok());
    let Some(mut value) = value else {
        // The value may be a secret, so it is not shown.
        report.refuse(field.line, format!("{}: expected a header's value of visible ASCII characters", field.key));
        return None;
    };
    value.set_sensitive(true);
    Some((parsed?, value))
}

fn read_timeouts(section: &mut Section<'_>, report: &mut Report) -> Timeouts {
    let mut wait = |name, default| {
        let read = section.get(name).and_then(|field| report.whole(&field, 1));
        read.map_or(default, Duration::from_millis)
    };
    Timeouts {
        connect: wait("connect_timeout_ms", CONNECT_TIMEOUT),
        first_byte: wait("first_byte_timeout_ms", FIRST_BYTE_TIMEOUT),
        idle: wait("idle_timeout_ms", IDLE_TIMEOUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_of_a_key_is_named_as_the_earlier_program_named_it() {
        assert_eq!(key_variable("groq"), "GROQ_API_KEY");
        assert_eq!(key_variable("my-llm.eu"), "MY_LLMEU_API_KEY");
        assert_eq!(key_variable("läma_2"), "LMA_2_API_KEY");
    }
    /// A provider of models.yaml by its lines, and what was said about them.
    fn entry(lines: &str) -> (Option<Provider>, String) {
        let source = format!("p:\n{}", lines.lines().map(|line| format!("  {line}\n")).collect::<String>());
        let mut report = Report::new("models.yaml");
        let document = report.parse(&source).unwrap();
        let top = Section::document(&document, &mut report).unwrap();
        let (name, field) = top.named().next().unwrap();
        let provider = read(name, &field, Path::new("/"), &mut report);
        (provider, report.errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_provider_speaks_one_protocol_or_both_at_two_places() {
        /// What it sends where: each protocol's place, its path for messages or chat, and how the key goes there.
        #[track_caller]
        fn check(lines: &str, anthropic: Option<(&str, &str, Auth)>, openai: Option<(&str, &str, Auth)>) {
            let (provider, errors) = entry(lines);
            let provider = Arc::new(provider.unwrap_or_else(|| panic!("{errors}")));
            for (protocol, endpoint, expected) in [(Protocol::Anthropic, "/messages", anthropic), (Protocol::OpenAi, "/chat", openai)] {
                let place = provider.speaking(protocol);
                let found = place.map(|place| (place.base_url.host().unwrap_or_default().to_owned(), place.target(endpoint), place.auth));
                let expected = expected.map(|(host, path, auth)| (host.to_owned(), path.to_owned(), auth));
                assert_eq!(found, expected, "{lines}: {protocol:?}");
            }
        }
        check("type: anthropic\nbase_url: https://a.com", Some(("a.com", "/v1/messages", Auth::ApiKey)), None);
        check("type: anthropic\nbase_url: https://a.com/v1/", Some(("a.com", "/v1/messages", Auth::ApiKey)), None);
        check("type: anthropic\nbase_url: https://a.com/x/v1\nauth: bearer", Some(("a.com", "/x/v1/messages", Auth::Bearer)), None);
        check(
            "type: anthropic\nbase_url: https://a.com\nopenai_base_url: https://b.com/v1",
            Some(("a.com", "/v1/messages", Auth::ApiKey)),
            Some(("b.com", "/v1/chat", Auth::Bearer)),
        );
        check("base_url: https://b.com/v1", None, Some(("b.com", "/v1/chat", Auth::Bearer)));
        check(
            "base_url: http://b.com/v1\nanthropic_base_url: http://a.com/anthropic\nauth: none",
            Some(("a.com", "/anthropic/v1/messages", Auth::None)),
            Some(("b.com", "/v1/chat", Auth::None)),
        );
        check("type: echo", Some(("", "/messages", Auth::None)), Some(("", "/chat", Auth::None)));
    }
}
