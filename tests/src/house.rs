//! A provider, a daemon in front of it and one agent: the scene of most tests, with calls that can be told apart in the ledger.

use serde_json::{Value, json};

use crate::ask;
use crate::client::{self, Answer, Connection};
use crate::daemon::{Config, Daemon};
use crate::ledger::{self, Call};
use crate::provider::{Provider, Script};

/// The scene.
pub struct House {
    /// The provider.
    pub provider: Provider,
    /// The daemon.
    pub daemon: Daemon,
    /// The token of the agent `bot`.
    pub token: String,
    calls: usize,
}

impl House {
    /// Sets it up, with a configuration changed like this.
    #[must_use]
    #[track_caller]
    pub fn new(config: impl FnOnce(Config) -> Config) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(config(Config::new(&provider)));
        let token = daemon.agent("bot", &[]);
        Self { provider, daemon, token, calls: 0 }
    }

    /// A body whose length no other call of this house has.
    pub fn body(&mut self, stream: bool) -> Value {
        self.calls += 1;
        let body = ask::of_length(10 + self.calls);
        if stream { ask::with(body, &json!({"stream": true})) } else { body }
    }

    /// Makes a call that the provider treats as told: its answer, and the call in the ledger once it has ended.
    #[track_caller]
    pub fn call(&mut self, stream: bool, script: Script) -> (Answer, Call) {
        self.provider.script(script);
        let body = self.body(stream);
        let answer = client::post_json(&self.daemon.chat_url(), &self.token, &body);
        (answer, ledger::last(&self.daemon))
    }

    /// Begins a call on a connection of its own.
    #[track_caller]
    pub fn begin(&mut self, stream: bool) -> Connection {
        let mut connection = Connection::open(&self.daemon.url());
        let body = self.body(stream);
        connection.post_json("/v1/chat/completions", &self.token, &body);
        connection
    }

    /// Begins a stream and reads until so many characters of content came.
    #[track_caller]
    pub fn begin_stream(&mut self, chars: usize) -> Connection {
        let mut connection = self.begin(true);
        assert_eq!(connection.head().expect("a head").status, 200);
        let mut seen = 0;
        while seen < chars {
            let data = connection.next_data().expect("a stream").expect("a chunk");
            let chunk: Value = serde_json::from_str(&data).expect("JSON");
            seen += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().len();
        }
        connection
    }
}

/// Reads the rest of a stream that must break: the message of its last event, which must be an error of the provider's.
#[track_caller]
pub fn last_error(connection: &mut Connection) -> String {
    last_error_of(connection, "upstream_error")
}

/// The same with another code.
#[track_caller]
pub fn last_error_of(connection: &mut Connection, code: &str) -> String {
    let mut last = String::new();
    loop {
        match connection.next_data() {
            Ok(Some(data)) => last = data,
            Ok(None) => panic!("the stream ended cleanly after {last}"),
            Err(_) => break,
        }
    }
    let event: Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(event["error"]["code"], code, "{last}");
    event["error"]["message"].as_str().unwrap_or_default().to_owned()
}
