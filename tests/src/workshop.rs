//! A daemon with a scripted server of tools, as an agent calls it over plain HTTP, and a person who is asked.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::client::{Answer, Connection};
use crate::daemon::{Config, Daemon, binary};
use crate::ledger::{self, until};
use crate::provider::Provider;

/// The server.
pub const SERVER: &str = "shop";

/// A daemon, its server `shop`, and the agent `bot`.
pub struct Workshop {
    /// The daemon.
    pub daemon: Daemon,
    /// The token of `bot`.
    pub token: String,
    _provider: Provider,
}

/// A call that is on its way.
pub struct Pending(Connection);

impl Workshop {
    /// With this permissions.json and aexd.yaml.
    #[must_use]
    #[track_caller]
    pub fn open(permissions: &Value, aexd_yaml: &str) -> Self {
        Self::with_server(permissions, aexd_yaml, &json!({}))
    }

    /// And more in the server's entry of mcp.json.
    #[must_use]
    #[track_caller]
    pub fn with_server(permissions: &Value, aexd_yaml: &str, more: &Value) -> Self {
        let provider = Provider::start();
        let config = Config::new(&provider).permissions_json(&permissions.to_string()).aexd_yaml(aexd_yaml);
        let mut daemon = Daemon::prepare(config);
        let definitions = daemon.scratch().join("tools.json");
        let mut server = json!({
            "command": binary("scripted-tool"),
            "args": ["--tools", definitions],
            "sandbox": "none",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            server[key] = value.clone();
        }
        let file = json!({"mcpServers": {SERVER: server}}).to_string();
        std::fs::write(daemon.home().join("config/mcp.json"), file).expect("write mcp.json");
        daemon.run();
        let token = daemon.agent("bot", &[]);
        Self { daemon, token, _provider: provider }
    }

    /// Changes the server's entry of mcp.json, and has it hold.
    #[track_caller]
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.daemon.home().join("config/mcp.json");
        let mut file: Value = serde_json::from_slice(&std::fs::read(&path).expect("read mcp.json")).expect("mcp.json");
        change(&mut file["mcpServers"][SERVER]);
        std::fs::write(&path, file.to_string()).expect("write mcp.json");
        self.daemon.rpc("model.reload", &json!({}));
    }

    /// Waits until the server is as it should be, by its line of `tools list`.
    #[track_caller]
    pub fn server_is(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        until(what, || Some(self.daemon.rpc("tool.list", &json!({}))["servers"][0].take()).filter(&is_it))
    }

    /// Where the scripted server finds more tools whenever it is asked for its list.
    #[must_use]
    pub fn definitions(&self) -> PathBuf {
        self.daemon.scratch().join("tools.json")
    }

    /// Replaces permissions.json, and has it hold.
    #[track_caller]
    pub fn permit(&self, permissions: &Value) {
        self.daemon.write_permissions(&permissions.to_string());
        self.daemon.rpc("model.reload", &json!({}));
    }

    /// Begins a call of `bot`.
    #[must_use]
    #[track_caller]
    pub fn begin(&self, tool: &str, arguments: &Value) -> Pending {
        self.begin_as(&self.token, tool, arguments)
    }

    /// Begins a call with this token.
    #[must_use]
    #[track_caller]
    pub fn begin_as(&self, token: &str, tool: &str, arguments: &Value) -> Pending {
        let mut connection = Connection::open(&self.daemon.url());
        connection.post_json("/aex/v1/tools/execute", token, &json!({"tool": tool, "arguments": arguments}));
        Pending(connection)
    }

    /// Makes a call of `bot`.
    #[track_caller]
    pub fn call(&self, tool: &str, arguments: &Value) -> Answer {
        self.begin(tool, arguments).answer()
    }

    /// The calls that wait, once they are so many.
    #[track_caller]
    pub fn waiting(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} calls that wait"), || {
            let mut list = self.daemon.rpc("approval.list", &json!({}));
            let waiting = std::mem::take(list["waiting"].as_array_mut().expect("a list"));
            (waiting.len() == count).then_some(waiting)
        })
    }

    /// The id of the one call that waits.
    #[track_caller]
    pub fn asked(&self) -> String {
        self.waiting(1)[0]["id"].as_str().expect("an id").to_owned()
    }

    /// What events of a kind say, in their order.
    #[track_caller]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let all = ledger::events(&self.daemon);
        all.into_iter().filter(|event| event["kind"] == kind).map(|mut event| event["body"].take()).collect()
    }

    /// The audit passes, and nothing waits.
    #[track_caller]
    pub fn is_sound(&self) {
        ledger::quiet(&self.daemon);
        self.waiting(0);
        let audit = self.daemon.ctl(["audit"]);
        assert_eq!(audit.code, 0, "{audit:?}");
    }
}

impl Pending {
    /// Its answer.
    #[track_caller]
    pub fn answer(mut self) -> Answer {
        self.0.answer().expect("an answer")
    }

    /// Its client leaves.
    pub fn leave(self) {
        drop(self);
    }
}

/// The error's code and message.
#[must_use]
#[track_caller]
pub fn refusal(answer: &Answer) -> (String, String) {
    let error = answer.json()["error"].clone();
    (error["code"].as_str().unwrap_or_default().to_owned(), error["message"].as_str().unwrap_or_default().to_owned())
}
