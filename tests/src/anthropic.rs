//! Clients of Anthropic's API, and a daemon in front of a provider that speaks it.

use serde_json::{Value, json};

use crate::client::{self, Answer, Connection, End};
use crate::daemon::{Config, Daemon};
use crate::ledger;
use crate::provider::Provider;

/// The daemon, its provider `claude` of `type: anthropic`, and an agent's token.
pub struct Scene {
    /// The provider.
    pub provider: Provider,
    /// The daemon.
    pub daemon: Daemon,
    /// The token of the agent `bot`.
    pub token: String,
}

impl Scene {
    /// Sets it up. `m1` costs what Claude Sonnet 4.5 does: 3 µUSD a token of input, 3.75 written to the cache, 0.30 read from it,
    /// 15 of output; at most 1000 tokens of output, with tools and vision.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        Self::with(|config| config)
    }

    /// The same with a configuration changed like this.
    #[must_use]
    #[track_caller]
    pub fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(change(config(&provider)));
        let token = daemon.agent("bot", &[]);
        Self { provider, daemon, token }
    }

    /// Posts a message of the agent `bot`.
    #[track_caller]
    pub fn post(&self, body: &Value) -> Answer {
        post(&self.daemon, &self.token, body)
    }

    /// Begins a stream and reads until so many characters of text came.
    #[track_caller]
    pub fn begin_stream(&self, chars: usize) -> Connection {
        self.begin_stream_of(&message_with(&json!({"stream": true})), chars)
    }

    /// The same of another message.
    #[track_caller]
    pub fn begin_stream_of(&self, message: &Value, chars: usize) -> Connection {
        let mut connection = Connection::open(&self.daemon.url());
        connection.post_json("/v1/messages", &self.token, message);
        assert_eq!(connection.head().expect("a head").status, 200);
        let mut seen = 0;
        while seen < chars {
            let data = connection.next_data().expect("a stream").expect("an event");
            let event: Value = serde_json::from_str(&data).expect("JSON");
            seen += event["delta"]["text"].as_str().unwrap_or_default().len();
        }
        connection
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

/// The configuration of a [`Scene`].
#[must_use]
pub fn config(provider: &Provider) -> Config {
    with_provider_lines(provider, &format!("type: anthropic\n    base_url: {}", provider.origin()))
}

/// The same with other lines for the provider `claude`.
#[must_use]
pub fn with_provider_lines(provider: &Provider, lines: &str) -> Config {
    let text = format!(
        "version: 1
providers:
  claude:
    {lines}
default_model: m1
models:
  m1:
    provider: claude
    provider_model: m1-upstream
    pricing: {{input_micro: 3, cached_input_per_mtok: \"0.30\", cache_write_per_mtok: \"3.75\", output_micro: 15}}
    limits: {{max_tokens: 1000, context_tokens: 10000}}
    capabilities: {{tools: true, vision: true}}
  thinker:
    provider: claude
    provider_model: thinker
    pricing: {{input_micro: 3, output_micro: 15}}
    limits: {{max_tokens: 1000}}
    capabilities: {{reasoning: true}}
  m2:
    provider: claude
    provider_model: m2
    pricing: {{input_micro: 3, output_micro: 15}}
    limits: {{max_tokens: 1000}}
    capabilities: {{}}
"
    );
    Config::with_base_url(&provider.base_url(), provider.key()).models_yaml(&text).dotenv(&format!("CLAUDE_API_KEY={}\n", provider.key()))
}

/// `m1` is asked to say hello, with a limit of 50 tokens.
#[must_use]
pub fn message() -> Value {
    json!({"model": "m1", "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]})
}

/// The same with some members replaced; `null` takes one away.
#[must_use]
pub fn message_with(changes: &Value) -> Value {
    crate::ask::with(message(), changes)
}

/// Posts a message as Anthropic's SDKs do: with a bearer token, and without a version.
#[track_caller]
pub fn post(daemon: &Daemon, token: &str, body: &Value) -> Answer {
    client::post_json(&format!("{}/v1/messages", daemon.url()), token, body)
}

/// What an answer must be when the daemon refuses: its `error` has this type.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The status.
    pub status: u16,
    /// `error.type`.
    pub kind: &'a str,
    /// Whether a retry is told, after a wait; otherwise it is advised against, unless `None`.
    pub retries: Option<bool>,
    /// Pieces of `error.message`.
    pub says: &'a [&'a str],
}

/// Compares a refusal with Anthropic's envelope and headers.
#[track_caller]
pub fn check(answer: &Answer, wanted: &Refusal<'_>) {
    assert_eq!((answer.status, answer.end), (wanted.status, End::Complete), "{answer}");
    let id = answer.header("x-aex-request-id").unwrap_or_else(|| panic!("no request id in {answer}"));
    let body = answer.json();
    let message = body["error"]["message"].as_str().unwrap_or_default();
    assert_eq!(body, json!({"type": "error", "error": {"type": wanted.kind, "message": message}, "request_id": id}), "{answer}");
    assert_eq!((answer.header("request-id"), answer.header("content-type")), (Some(id), Some("application/json")), "{answer}");
    for piece in wanted.says.iter().chain(&[id]) {
        assert!(message.contains(piece), "{piece:?} is not in {answer}");
    }
    let retry = (answer.header("x-should-retry"), answer.header("retry-after").is_some(), answer.header("retry-after-ms").is_some());
    let told = match wanted.retries {
        Some(true) => (None, true, true),
        Some(false) => (Some("false"), false, false),
        None => (None, false, false),
    };
    assert_eq!(retry, told, "{answer}");
}

/// The same, and: the provider saw nothing of the call, and the newest denial in the ledger is by this rule.
#[track_caller]
pub fn denied(scene: &Scene, seen_before: usize, answer: &Answer, wanted: &Refusal<'_>, rule: &str) {
    check(answer, wanted);
    assert_eq!(scene.provider.requests().len(), seen_before, "the provider saw a call that was denied: {answer}");
    if !rule.is_empty() {
        let id = answer.header("x-aex-request-id").unwrap_or_default();
        let denial = ledger::denials(&scene.daemon).into_iter().find(|denial| denial.request.to_string() == id);
        assert_eq!(denial.map(|denial| denial.denial.rule().into_owned()).as_deref(), Some(rule), "{answer}");
    }
}
