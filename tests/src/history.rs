//! A ledger that has lived: imported agents, every end of a call, every kind of refusal, changed budgets, a crash, two and more starts.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::ask::chat_with;
use crate::client;
use crate::daemon::{Config, Daemon};
use crate::ledger;
use crate::provider::{At, How, Provider, Script, Usage};

const POLICY: &str = "version: 1
profiles:
  team:
    agents: [ruled]
    default: deny
    rules:
      - name: cheap
        effect: allow
        when: {model: m1}
";

/// The scene, idle and running.
pub struct History {
    /// The provider.
    pub provider: Provider,
    /// The daemon.
    pub daemon: Daemon,
    /// The token of the agent `bot`.
    pub token: String,
}

impl History {
    /// Lives it.
    #[must_use]
    #[track_caller]
    pub fn live() -> Self {
        let provider = Provider::start();
        let daemon = Daemon::prepare(Config::new(&provider).policy_yaml(POLICY));
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/aex-2.0.0/aex.db");
        fs::copy(fixture, daemon.home().join("aex.db")).expect("copy a fixture");
        daemon.ctl(["init", "--import-aex"]).ok();
        let mut history = Self { provider, daemon, token: String::new() };
        history.daemon.run();
        history.token = history.daemon.agent("bot", &["--per", "day"]);
        history.ends();
        history.refusals();
        history.crash();
        history.daemon.restart();
        history.call(&history.token.clone(), Script::default(), &json!({}));
        drop(ledger::quiet(&history.daemon));
        history
    }

    /// One call of an agent.
    #[track_caller]
    pub fn call(&self, token: &str, script: Script, changes: &Value) -> u16 {
        self.provider.script(script);
        client::post_json(&self.daemon.chat_url(), token, &chat_with(changes)).status
    }

    /// A call that the provider never sees.
    fn refused(&self, token: &str, changes: &Value) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat_with(changes)).status
    }

    /// Calls of `bot` that pass.
    #[track_caller]
    pub fn calls(&self, count: usize) {
        for _ in 0..count {
            assert_eq!(self.call(&self.token, Script::default(), &json!({})), 200);
        }
        drop(ledger::quiet(&self.daemon));
    }

    fn ends(&self) {
        let (token, none) = (&self.token, json!({}));
        assert_eq!(self.call(token, Script::default(), &none), 200);
        assert_eq!(self.call(token, Script { cached_tokens: 3, ..Script::default() }, &json!({"stream": true})), 200);
        assert_eq!(self.call(token, Script { usage: Usage::Missing, ..Script::default() }, &none), 200);
        assert_eq!(self.call(token, Script::cut(At::Chunk(2), How::Reset), &json!({"stream": true})), 200);
        assert_eq!(self.call(token, Script::error(401), &none), 401);
        assert_eq!(self.call(token, Script::error(502), &none), 502);
        self.daemon.ctl(["agent", "update", "bot", "--budget", "50", "--per", "week", "--reason", "a week"]).ok();
        self.daemon.ctl(["agent", "update", "bot", "--budget", "60", "--per", "day"]).ok();
        self.daemon.ctl(["agent", "update", "bot", "--max-output-tokens", "300", "--tpm", "100000"]).ok();
        assert_eq!(self.call(token, Script::default(), &none), 200);
        // The provider says that it used a thousand times the prompt.
        let overdrawn = self.daemon.agent_with("overdrawn", "0.0005", 1000, &[]);
        let usage = json!({"prompt_tokens": 5000, "completion_tokens": 1, "total_tokens": 5001});
        assert_eq!(self.call(&overdrawn, Script { usage: Usage::Raw(usage), ..Script::default() }, &none), 200);
        assert_eq!(self.refused(&overdrawn, &none), 403);
    }

    fn refusals(&self) {
        let (token, none) = (&self.token, json!({}));
        let (poor, ruled) = (self.daemon.agent_with("poor", "0.00001", 1000, &[]), self.daemon.agent("ruled", &[]));
        assert_eq!(self.refused(&poor, &none), 402);
        assert_eq!(self.refused(&poor, &none), 402);
        assert_eq!(self.call(&ruled, Script::default(), &none), 200);
        assert_eq!(self.refused(&ruled, &json!({"model": "m2"})), 403);
        assert_eq!(self.refused(token, &json!({"max_tokens": 301})), 403);
        assert_eq!(self.refused(token, &json!({"model": "m9"})), 403);
        assert_eq!(self.refused("aex_unknown", &none), 401);
        self.daemon.ctl(["agent", "pause", "bot", "--reason", "too loud"]).ok();
        assert_eq!(self.refused(token, &none), 403);
        self.daemon.ctl(["agent", "resume", "bot"]).ok();
        let closed = self.daemon.agent("gone", &[]);
        assert_eq!(self.call(&closed, Script::default(), &none), 200);
        self.daemon.ctl(["agent", "delete", "gone"]).ok();
    }

    /// A call in flight when the daemon is killed is charged in full.
    fn crash(&mut self) {
        self.provider.script(Script::hold());
        let seen = self.provider.requests().len();
        let mut connection = client::Connection::open(&self.daemon.url());
        connection.post_json("/v1/chat/completions", &self.token, &chat_with(&json!({})));
        self.provider.wait_for_requests(u64::try_from(seen + 1).expect("few requests"));
        self.daemon.kill9();
        self.provider.release();
        self.daemon.run();
    }
}
