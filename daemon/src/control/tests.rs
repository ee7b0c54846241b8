//! The server in process: a ledger in a temporary home, a real socket, one deadline for every wait.

mod client;
mod runs;

use super::{bind, serve};
use crate::config::{Durability, Overrides};
use crate::gate::{Facts, Gate, Source};
use crate::ledger::{Ledger, Options};
use crate::os::{clock, paths::prepare};
use aex_core::paths::Paths;
use aex_proto::rpc::Fault;
use client::Client;
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const MODELS: &str = "
providers: {echo: {type: echo}, far: {base_url: http://localhost:1/v1}}
models:
  echo: {provider: echo, provider_model: e, pricing: {input_micro: 1, output_micro: 2}, limits: {max_tokens: 64}, capabilities: {tools: true}}
  far: {provider: far, provider_model: f, pricing: {input_micro: 1, output_micro: 2}, limits: {max_tokens: 64}, capabilities: {tools: true}}
";

struct Daemon {
    home: TempDir,
    gate: Gate,
    paths: Paths,
    shutdown: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Daemon {
    async fn start(settings: &str) -> Daemon {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(|_| None, Some(home.path())).unwrap();
        prepare(&paths).unwrap();
        std::fs::write(paths.config_dir.join("models.yaml"), MODELS).unwrap();
        std::fs::write(paths.config_dir.join("aexd.yaml"), settings).unwrap();
        let source = Source { paths: paths.clone(), environment: Arc::default(), overrides: Overrides::default() };
        let active = source.load(1).unwrap();
        let options =
            Options { path: paths.ledger.clone(), durability: Durability::Normal, zone: jiff::tz::TimeZone::UTC, wal_limit: 1 << 20 };
        let gate = Gate::open(Ledger::open(&options).unwrap(), source, active).await.unwrap();
        let (shutdown, server) = spawn(&gate, &paths);
        Daemon { home, gate, paths, shutdown, server }
    }

    async fn connect(&self) -> Client {
        Client::connect(&self.paths.socket).await
    }

    /// Ends the server and starts another one on the same ledger.
    async fn restart(mut self) -> Daemon {
        self.shutdown.send_replace(true);
        self.server.await.unwrap();
        assert!(!self.paths.socket.exists());
        (self.shutdown, self.server) = spawn(&self.gate, &self.paths);
        self
    }

    async fn agent(&self, client: &mut Client, name: &str) -> Value {
        client.call("agent.create", json!({"name": name, "budget_pico": "5000000000000", "rpm": 60})).await.unwrap()
    }
}

fn spawn(gate: &Gate, paths: &Paths) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (shutdown, over) = watch::channel(false);
    let listener = bind(&paths.socket, None).unwrap();
    let facts = Facts {
        listen: ([127, 0, 0, 1], 9000).into(),
        home: paths.home.clone(),
        started_at: clock::wall(),
        started_boot_us: clock::boot_us(),
    };
    let gate = gate.clone();
    let serving = async move { serve(listener, crate::tools::open::open(&gate).await.unwrap(), Arc::new(facts), over).await };
    (shutdown, tokio::spawn(serving))
}

#[tokio::test]
async fn a_bad_line_gets_its_error_and_the_connection_lives() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    for (line, code) in [("{", -32700), ("[]", -32600), ("7", -32600), (r#"{"jsonrpc":"2.0","id":1,"method":"no.such"}"#, -32601)] {
        client.line(line).await;
        assert_eq!(client.next().await["error"]["code"], json!(code), "{line}");
    }
    client.line(&"x".repeat(2 << 20)).await;
    assert_eq!(client.next().await["error"]["code"], json!(-32600));
    assert_eq!(client.refused("agent.inspect", json!({"nam": "a"})).await.code, -32602);
    let hello = client.call("daemon.hello", json!({})).await.unwrap();
    assert_eq!((&hello["pid"], &hello["port"], &hello["epoch"]), (&json!(std::process::id()), &json!(9000), &json!(1)));
    assert_eq!(hello["home"], json!(daemon.home.path()));
}

#[tokio::test]
async fn a_batch_is_answered_in_one_line_and_a_notification_not_at_all() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    client.line(r#"[{"jsonrpc":"2.0","method":"daemon.hello"}]"#).await;
    client.line(r#"{"jsonrpc":"2.0","method":"agent.create","params":{"name":"a","budget_pico":"0","rpm":0}}"#).await;
    client.line(r#"[{"jsonrpc":"2.0","id":"x","method":"agent.list"},{"jsonrpc":"2.0","method":"daemon.hello"},3]"#).await;
    let batch = client.next().await;
    assert_eq!(batch.as_array().map(Vec::len), Some(2));
    assert_eq!((&batch[0]["id"], &batch[0]["result"]["agents"][0]["name"]), (&json!("x"), &json!("a")));
    assert_eq!(batch[1]["error"]["code"], json!(-32600));
}

#[tokio::test]
async fn an_agent_is_made_listed_and_deleted_and_its_name_is_free_again() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    let made = daemon.agent(&mut client, "b").await;
    daemon.agent(&mut client, "a").await;
    let taken = client.refused("agent.create", json!({"name": "b", "budget_pico": "1", "rpm": 1})).await;
    assert_eq!(taken.which(), Some(Fault::Conflict));
    let list = client.call("agent.list", json!({})).await.unwrap();
    let names: Vec<&Value> = list["agents"].as_array().unwrap().iter().map(|agent| &agent["name"]).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!((&list["agents"][0]["budgets"][0]["limit_usd"], &list["agents"][0]["scope"]), (&json!("5.00"), &json!("execution")));
    let shown = client.call("agent.inspect", json!({"name": "b"})).await.unwrap();
    let token = made["token"].as_str().unwrap();
    assert!(!shown.to_string().contains(token) && !list.to_string().contains(token));
    assert_eq!(shown["tokens"].as_array().map(Vec::len), Some(1));

    let deleted = client.call("agent.delete", json!({"name": "b"})).await.unwrap();
    assert_eq!((&deleted["id"], &deleted["spent_usd"], &deleted["runs_ended"]), (&made["id"], &json!("0.00"), &json!(0)));
    let missing = client.refused("agent.inspect", json!({"name": "b"})).await;
    assert_eq!((missing.which(), missing.message.as_str()), (Some(Fault::NotFound), "no agent 'b'"));
    let again = daemon.agent(&mut client, "b").await;
    assert_ne!(again["id"], made["id"]);
}

#[tokio::test]
async fn values_that_cannot_hold_are_refused_and_leave_nothing_behind() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    let rows = [
        json!({"name": "a", "budget_pico": "-1", "rpm": 1}),
        json!({"name": "a", "budget_pico": "1", "rpm": 1, "ttl_ms": 0}),
        json!({"name": "a", "budget_pico": "1", "rpm": 1, "ttl_ms": u64::MAX}),
        json!({"name": "a", "budget_pico": "1", "rpm": 1, "policy": {"allowed_models": ["echo", "nope"]}}),
    ];
    for row in rows {
        assert_eq!(client.refused("agent.create", row.clone()).await.which(), Some(Fault::Unfit), "{row}");
    }
    assert_eq!(client.call("agent.list", json!({})).await.unwrap(), json!({"agents": []}));
}

#[tokio::test]
async fn a_rotation_revokes_the_old_token_at_once_or_after_its_grace_and_keeps_the_scope() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    let wanted = json!({"name": "a", "budget_pico": "1", "rpm": 1, "scope": "read-only", "ttl_ms": 60_000});
    let made = client.call("agent.create", wanted).await.unwrap();
    assert!(made["token_expires_at"].is_string());
    let rotated = client.call("agent.rotate_token", json!({"name": "a"})).await.unwrap();
    assert_ne!(rotated["token"], made["token"]);
    assert_eq!(
        (&rotated["scope"], &rotated["expires_at"], &rotated["old_until"], &rotated["old_tokens"]),
        (&json!("read-only"), &Value::Null, &Value::Null, &json!(1))
    );
    let graced = client.call("agent.rotate_token", json!({"name": "a", "grace_ms": 60_000, "ttl_ms": 1_000})).await.unwrap();
    assert!(graced["old_until"].is_string() && graced["expires_at"].is_string());
    let shown = client.call("agent.inspect", json!({"name": "a"})).await.unwrap();
    let tokens = shown["tokens"].as_array().unwrap();
    let told: Vec<(bool, bool)> = tokens.iter().map(|token| (token["expires_at"].is_null(), token["revoked_at"].is_null())).collect();
    assert_eq!(told, [(false, true), (false, true), (false, false)]);
}

#[tokio::test]
async fn a_paused_agent_opens_no_run_until_it_is_resumed_and_the_event_names_who_did_it() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let paused = client.call("agent.pause", json!({"name": "a", "reason": "lunch"})).await.unwrap();
    assert_eq!((&paused["state"], &paused["state_reason"]), (&json!("paused"), &json!("lunch")));
    let refused = client.refused("run.open", json!({"agent": "a", "command": "true"})).await;
    assert_eq!((refused.which(), refused.message.as_str()), (Some(Fault::Denied), "agent:a is paused: lunch"));
    for _ in 0..2 {
        assert_eq!(client.call("agent.resume", json!({"name": "a"})).await.unwrap()["state"], json!("active"));
    }
    client.call("run.open", json!({"agent": "a", "command": "true"})).await.unwrap();
    let events = client.call("event.list", json!({"agent": "a"})).await.unwrap();
    let states: Vec<&Value> = events["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "account.state").collect();
    assert_eq!(states.len(), 2);
    assert_eq!((&states[0]["body"]["by"]["pid"], &states[0]["agent"]), (&json!(std::process::id()), &json!("a")));
}

#[tokio::test]
async fn a_bad_file_leaves_the_old_configuration_in_force_and_is_named() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    let models = daemon.paths.config_dir.join("models.yaml");
    std::fs::write(&models, "providers: {}\nmodels: 3\n").unwrap();
    let refused = client.refused("model.reload", json!({})).await;
    assert_eq!(refused.which(), Some(Fault::BadConfig));
    assert!(refused.message.contains("models.yaml:"), "{}", refused.message);
    let list = client.call("model.list", json!({})).await.unwrap();
    let told: Vec<(&Value, &Value, &Value)> =
        list["models"].as_array().unwrap().iter().map(|model| (&model["name"], &model["key"], &model["key_variable"])).collect();
    assert_eq!(told, [(&json!("echo"), &json!("not_needed"), &Value::Null), (&json!("far"), &json!("missing"), &json!("FAR_API_KEY"))]);
    std::fs::write(&models, MODELS).unwrap();
    assert_eq!(client.call("model.reload", json!({})).await.unwrap()["models"], json!(2));
}

#[tokio::test]
async fn a_reload_names_the_settings_that_wait_for_a_restart_until_it_comes() {
    let daemon = Daemon::start("port: 9000\ndurability: overlap\n").await;
    let mut client = daemon.connect().await;
    let settings = daemon.paths.config_dir.join("aexd.yaml");
    std::fs::write(&settings, "port: 9001\nzone: UTC\ndurability: full\nrun_grace_ms: 1\nmax_connections: 3\n").unwrap();
    for _ in 0..2 {
        let reloaded = client.call("model.reload", json!({})).await.unwrap();
        assert_eq!(reloaded["needs_restart"], json!(["port", "max_connections", "durability"]));
    }
    // The ledger was opened with `normal`, whatever the file says by now.
    assert_eq!(client.call("daemon.status", json!({})).await.unwrap()["durability"], json!("normal"));
    std::fs::write(&settings, "").unwrap();
    assert_eq!(client.call("model.reload", json!({})).await.unwrap()["needs_restart"], json!([]));
}

#[tokio::test]
async fn the_whole_is_told_in_figures_and_audited_by_seven_invariants() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    daemon.agent(&mut client, "b").await;
    let status = client.call("status.get", json!({})).await.unwrap();
    assert_eq!((&status["agents"], &status["budget_usd"], &status["remaining_usd"]), (&json!(2), &json!("10.00"), &json!("10.00")));
    assert_eq!((&status["daemon"]["state"], &status["daemon"]["durability"]), (&json!("ready"), &json!("normal")));
    let audit = client.call("audit.run", json!({})).await.unwrap();
    assert_eq!((&audit["passed"], audit["invariants"].as_array().map(Vec::len)), (&json!(true), Some(7)), "{audit}");
    assert_eq!(audit["head_hash"], client.call("daemon.status", json!({})).await.unwrap()["head_hash"]);
}

#[tokio::test]
async fn a_stop_is_answered_and_then_the_daemon_drains() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    let stopping = client.call("daemon.stop", json!({})).await.unwrap();
    assert_eq!((&stopping["pid"], &stopping["drain_ms"]), (&json!(std::process::id()), &json!(30_000)));
    assert_eq!(client.call("daemon.status", json!({})).await.unwrap()["state"], json!("draining"));
    assert!(daemon.gate.is_draining());
    assert_eq!(client.refused("run.open", json!({"command": "true"})).await.which(), Some(Fault::Unavailable));
}

#[tokio::test]
async fn a_tail_has_every_event_from_where_it_begins_and_one_of_an_agent_has_that_agents() {
    let daemon = Daemon::start("").await;
    let (mut client, mut all, mut own) = (daemon.connect().await, daemon.connect().await, daemon.connect().await);
    daemon.agent(&mut client, "a").await;
    assert_eq!(all.call("event.tail", json!({"after": 0})).await.unwrap()["after"], json!(0));
    let begun = own.call("event.tail", json!({"agent": "a"})).await.unwrap();
    let run = client.call("run.open", json!({"agent": "a", "command": "true"})).await.unwrap();
    daemon.agent(&mut client, "b").await;
    client.call("agent.pause", json!({"name": "a"})).await.unwrap();

    let last = client.call("event.list", json!({"limit": 1})).await.unwrap()["head_seq"].as_u64().unwrap();
    for seq in 1..=last {
        assert_eq!(all.notice("event").await["seq"], json!(seq));
    }
    let mut kinds = Vec::new();
    while kinds.last() != Some(&json!("account.state")) {
        let event = own.notice("event").await;
        assert_eq!((&event["agent"], &event["subscription"]), (&json!("a"), &begun["subscription"]));
        kinds.push(event["kind"].clone());
    }
    assert_eq!(kinds, ["account.created", "token.created", "account.state"]);
    let of_run = client.call("event.list", json!({"account": run["account"]})).await.unwrap();
    assert_eq!(of_run["events"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_tail_whose_reader_is_too_slow_ends_with_an_error() {
    let daemon = Daemon::start("").await;
    let (lines, _queue) = tokio::sync::mpsc::channel(1);
    lines.try_send(Vec::new()).unwrap();
    let error = super::events::crowded_out(&daemon.gate, &lines).await.unwrap();
    assert_eq!((error.which(), error.message.as_str()), (Some(Fault::Throttled), "its reader is too slow; it ended behind event 0"));
}

#[tokio::test]
async fn a_connection_above_the_cap_is_told_so_and_closed() {
    let daemon = Daemon::start("").await;
    let mut held = Vec::new();
    for _ in 0..super::MAX_CONNECTIONS {
        let mut client = daemon.connect().await;
        client.call("daemon.hello", json!({})).await.unwrap();
        held.push(client);
    }
    let mut refused = daemon.connect().await;
    assert_eq!(refused.next().await["error"]["code"], json!(Fault::Throttled.code()));
    assert!(refused.is_closed().await);
}

#[tokio::test]
async fn connections_with_a_run_leave_the_places_of_administrators_free() {
    let daemon = Daemon::start("").await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let mut held = Vec::new();
    for _ in 0..=super::MAX_CONNECTIONS {
        let mut run = daemon.connect().await;
        run.call("run.open", json!({"agent": "a", "command": "true"})).await.unwrap();
        held.push(run);
    }
    let mut admin = daemon.connect().await;
    admin.call("agent.pause", json!({"name": "a"})).await.unwrap();
}
