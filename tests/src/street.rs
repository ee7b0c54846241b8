//! Two providers and a daemon before both: the scene of retries, fallbacks and breakers.

use std::fmt::Write as _;

use serde_json::json;

use crate::ask;
use crate::client::{self, Answer, Connection};
use crate::daemon::{Config, Daemon};
use crate::ledger::{self, Books, Call, quiet, settled_and_audited_with, until};
use crate::provider::{KEY, Provider};

/// Two providers: `m1` is at the first, `m2` and `m3` at the second. `m2` costs ten times as much.
pub struct Street {
    /// Serves `m1`.
    pub first: Provider,
    /// Serves `m2` and `m3`.
    pub second: Provider,
    /// Before both.
    pub daemon: Daemon,
    /// Of the agent `bot`, which may bring keys of its own.
    pub token: String,
}

/// What is written below the models and the first provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    /// Lines of the first provider.
    pub provider: &'a str,
    /// Lines of `m1`.
    pub m1: &'a str,
    /// Lines of `m2`.
    pub m2: &'a str,
    /// aexd.yaml.
    pub aexd: &'a str,
}

impl Street {
    /// Sets it up.
    #[must_use]
    #[track_caller]
    pub fn new(written: Written<'_>) -> Street {
        let (first, second) = (Provider::start(), Provider::start());
        let mut yaml = "version: 1\nproviders:\n".to_owned();
        for (name, provider, more) in [("first", &first, written.provider), ("second", &second, "")] {
            writeln!(yaml, "  {name}:\n    base_url: {}\n    {more}", provider.base_url()).expect("write to a string");
        }
        yaml.push_str("default_model: m1\nmodels:\n");
        for (name, provider, price, more) in [("m1", "first", 1, written.m1), ("m2", "second", 10, written.m2), ("m3", "second", 1, "")] {
            let entry = format!(
                "  {name}:\n    provider: {provider}\n    provider_model: {name}-upstream\n    pricing: {{input_micro: {price}, output_micro: {price}}}\n    \
                 limits: {{max_tokens: 1000}}\n    capabilities: {{tools: true}}\n    {more}\n"
            );
            yaml.push_str(&entry);
        }
        let keys = format!("FIRST_API_KEY={KEY}\nSECOND_API_KEY={KEY}\n");
        let config = Config::new(&first).models_yaml(&yaml).dotenv(&keys).aexd_yaml(written.aexd);
        let daemon = Daemon::start_with(config);
        let token = daemon.agent_with("bot", "5", 1000, &["--allow-passthrough"]);
        Street { first, second, daemon, token }
    }

    /// A call of `bot` to `m1`.
    #[must_use]
    pub fn post(&self, stream: bool) -> Answer {
        self.post_as(&self.token, stream)
    }

    /// A call of whoever has this token.
    #[must_use]
    pub fn post_as(&self, token: &str, stream: bool) -> Answer {
        client::post_json(&self.daemon.chat_url(), token, &ask::chat_with(&json!({"stream": stream})))
    }

    /// Begins one.
    #[must_use]
    pub fn begin(&self) -> Connection {
        let mut connection = Connection::open(&self.daemon.url());
        connection.post_json("/v1/chat/completions", &self.token, &ask::chat());
        connection
    }

    /// How many requests each provider got.
    #[must_use]
    pub fn asked(&self) -> [usize; 2] {
        [&self.first, &self.second].map(|provider| provider.requests().len())
    }

    /// All that was held has ended, and the audit passes.
    #[track_caller]
    pub fn audited(&self) -> Books {
        settled_and_audited_with(&self.daemon, &[&self.first, &self.second])
    }

    /// All attempts: request by request, model and end.
    #[must_use]
    #[track_caller]
    pub fn stories(&self) -> Vec<String> {
        quiet(&self.daemon).iter().map(|call| format!("{} {}", call.held.ask.model, call.story())).collect()
    }

    /// Waits until the last attempt was released and its call waits for the next.
    #[track_caller]
    pub fn waits(&self) -> Call {
        until("a call that waits for its next attempt", || {
            let call = ledger::calls(&self.daemon).pop().filter(|call| !call.ends.is_empty())?;
            (self.daemon.rpc("daemon.status", &json!({}))["in_flight"] == 1).then_some(call)
        })
    }
}
