//! Faults between the daemon and a provider, and requests that reach no governed call, as answers.

use super::{Addressee, INVALID_REQUEST, Refusal};

const UPSTREAM: &str = "upstream_error";

/// What ended an answer, or kept it from coming, between the daemon and a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// The name does not resolve, or the connection is refused or reset.
    Unreachable,
    /// No trusted TLS connection.
    Tls,
    /// No connection in time.
    ConnectTimeout,
    /// No head of an answer in time.
    FirstByteTimeout,
    /// Nothing more of an answer in time.
    IdleTimeout,
    /// The connection ended within the answer.
    Cut,
    /// The answer is not what the protocol says.
    BadAnswer,
    /// The answer is larger than what is relayed.
    AnswerTooLarge,
    /// The answer passed the bound that was held for it.
    BoundPassed,
}

impl UpstreamFault {
    /// What happened, as a client may read it.
    fn sentence(self, provider: &str) -> String {
        match self {
            UpstreamFault::BoundPassed => "The answer passed the bound that was held for it and was cut.".to_owned(),
            _ => format!("{provider} {}.", self.message()),
        }
    }

    /// What happened, in short, where the provider is known.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            UpstreamFault::Unreachable => "cannot be reached",
            UpstreamFault::Tls => "offers no trusted TLS connection",
            UpstreamFault::ConnectTimeout => "took no connection in time",
            UpstreamFault::FirstByteTimeout => "began no answer in time",
            UpstreamFault::IdleTimeout => "went silent within its answer",
            UpstreamFault::Cut => "ended the connection within its answer",
            UpstreamFault::BadAnswer => "sent an answer that is none of its protocol",
            UpstreamFault::AnswerTooLarge => "sent an answer that is too large",
            UpstreamFault::BoundPassed => "passed the bound that was held for it and was cut",
        }
    }

    const fn status(self) -> u16 {
        match self {
            UpstreamFault::ConnectTimeout | UpstreamFault::FirstByteTimeout | UpstreamFault::IdleTimeout => 504,
            UpstreamFault::Unreachable
            | UpstreamFault::Tls
            | UpstreamFault::Cut
            | UpstreamFault::BadAnswer
            | UpstreamFault::AnswerTooLarge
            | UpstreamFault::BoundPassed => 502,
        }
    }
}

/// A fault of a provider as an answer. Clients may retry it.
#[must_use]
pub fn upstream(fault: UpstreamFault, provider: &str, to: Addressee) -> Refusal {
    of_provider(fault, &format!("Provider `{provider}`")).told(to)
}

/// A fault of whoever is called `provider`.
pub(super) fn of_provider(fault: UpstreamFault, provider: &str) -> Refusal {
    Refusal { no_retry: false, ..Refusal::lasting(fault.status(), UPSTREAM, UPSTREAM, fault.sentence(provider)) }
}

/// A tool's server that gave no result, as an answer. `may_pass`: another try may find it well.
#[must_use]
pub fn of_tool(status: u16, code: &'static str, message: String, may_pass: bool, to: Addressee) -> Refusal {
    Refusal { no_retry: !may_pass, ..Refusal::lasting(status, "tool_error", code, message) }.told(to)
}

/// A request that reaches no governed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdirected {
    /// No such path.
    UnknownPath,
    /// The path takes another method.
    WrongMethod,
    /// `Host` names none of the daemon's names.
    ForeignHost,
    /// It asks for a WebSocket.
    WebSocket,
    /// Its path is too long.
    LongTarget,
    /// Its head is none of HTTP/1.1.
    BadHead,
    /// Its head is too long.
    LongHead,
    /// Its head does not come to its end.
    SlowHead,
}

/// What is said of a path that is not served.
const UNSERVED: &str = "aexd does not serve this path: what it cannot meter is refused. It serves chat/completions, completions, \
                        embeddings, responses, messages and models below /v1; clients of OpenAI's API take a base URL that ends in /v1, \
                        those of Anthropic's mostly one without it.";

/// A misdirected request as an answer.
#[must_use]
pub fn misdirected(cause: Misdirected, to: Addressee) -> Refusal {
    let refusal = |status, code, message: &str| Refusal::lasting(status, INVALID_REQUEST, code, message.to_owned());
    match cause {
        Misdirected::UnknownPath => refusal(404, "unknown_url", UNSERVED),
        Misdirected::WrongMethod => refusal(405, "method_not_supported", "aexd does not serve this method on this path."),
        Misdirected::WebSocket => refusal(426, "upgrade_required", "aexd speaks no WebSocket: send the request over HTTP/1.1."),
        Misdirected::LongTarget => refusal(414, "uri_too_long", "The path of the request is too long."),
        Misdirected::BadHead => refusal(400, INVALID_REQUEST, "The head of the request is none of HTTP/1.1."),
        Misdirected::LongHead => {
            refusal(431, "headers_too_large", "The headers of the request are too long: they may take 32 KiB, and be 100.")
        }
        Misdirected::SlowHead => refusal(408, "request_timeout", "The head of the request did not come to its end in time."),
        Misdirected::ForeignHost => refusal(
            403,
            "host_not_allowed",
            "The `Host` header names none of aexd's own names: use 127.0.0.1 or localhost, or configure the name.",
        ),
    }
    .told(to)
}
