//! One provider of models.yaml: where it is, how it is spoken to, how long it is waited for.

use super::report::{Field, Report, Section, Unknown};
use super::route::{self, Retries};
use aex_core::breaker;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};
use std::path::Path;
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
}

/// What a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// OpenAI's HTTP API.
    OpenAiCompatible,
    /// Built in: answers with what it was asked, without any network.
    Echo,
}

/// How a provider is told who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer` with the key.
    Bearer,
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
    /// `/openai/v1/chat/completions`.
    #[must_use]
    pub fn target(&self, endpoint: &str) -> String {
        format!("{}{endpoint}", self.base_url.path().trim_end_matches('/'))
    }

    /// Whether a call needs the provider's key.
    #[must_use]
    pub fn needs_key(&self) -> bool {
        self.auth == Auth::Bearer
    }
}

pub(super) fn read(name: &str, field: &Field<'_>, config_dir: &Path, report: &mut Report) -> Option<Provider> {
    let mut section = report.section(field)?;
    let kinds = [("openai_compatible", ProviderKind::OpenAiCompatible), ("echo", ProviderKind::Echo)];
    let kind = match section.get("type") {
        Some(field) => report.word(&field, &kinds),
        None => Some(ProviderKind::OpenAiCompatible),
    };
    let base_url = match kind {
        Some(ProviderKind::Echo) => section.get("base_url").map_or_else(|| Some(Uri::default()), |field| url(&field, report)),
        _ => section.require("base_url", "an http or https URL", report).and_then(|field| url(&field, report)),
    };
    let auth = match section.get("auth") {
        Some(field) => report.word(&field, &[("bearer", Auth::Bearer), ("none", Auth::None)]),
        None => Some(if kind == Some(ProviderKind::Echo) { Auth::None } else { Auth::Bearer }),
    };
    let ca_pem = section.get("ca_file").map(|field| certificates(&field, config_dir, report));
    let headers = section.get("headers").map_or_else(|| Some(Vec::new()), |field| read_headers(&field, report));
    let timeouts = read_timeouts(&mut section, report);
    let retries = section.get("retries").and_then(|field| route::read_retries(&field, report));
    let breaker = route::read_breaker(&mut section, report);
    let key_variable = key_variable(name);
    if auth == Some(Auth::Bearer) && key_variable == "_API_KEY" {
        report.refuse(field.line, format!("{}: expected a name with at least one of A-Z, 0-9, for the variable of its key", field.key));
    }
    section.finish(Unknown::Warn, report);
    Some(Provider {
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
    })
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
}
