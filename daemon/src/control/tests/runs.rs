//! Runs: tied, dropped, tied again, ended from elsewhere.

use super::client::Client;
use super::{Daemon, Fault, Value, json};
use aex_core::decision::{Denial, Named};
use aex_core::event::CallDenied;
use aex_proto::account::Period;
use aex_proto::value::{AccountId, Digest, Pico, RequestId};

/// Long enough never to end in a test.
const LONG: &str = "run_grace_ms: 600000";
const SHORT: &str = "run_grace_ms: 20";

/// Waits for the event that closes an account.
async fn closed(tail: &mut Client, account: &Value) -> String {
    loop {
        let event = tail.notice("event").await;
        if event["kind"] == "account.state" && &event["account"] == account && event["body"]["to"] == "closed" {
            return event["body"]["reason"].as_str().unwrap().to_owned();
        }
    }
}

async fn open(client: &mut Client, more: Value) -> Value {
    let mut wanted = json!({"agent": "a", "command": "true"});
    wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.call("run.open", wanted).await.unwrap()
}

#[tokio::test]
async fn a_run_that_its_client_closes_is_summed_up_and_no_end_is_pushed() {
    let daemon = Daemon::start(LONG).await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let run = open(&mut client, json!({"budget_pico": "7", "rpm": 3})).await;
    assert_eq!((&run["origin"], &run["openai_base_url"]), (&json!("http://127.0.0.1:9000"), &json!("http://127.0.0.1:9000/v1")));
    assert_eq!((&run["agent"], &run["provider_key_variables"]), (&json!("a"), &json!(["FAR_API_KEY"])));
    assert_eq!(client.call("agent.inspect", json!({"name": "a"})).await.unwrap()["active_runs"], json!(1));
    let summary = client.call("run.close", json!({"run": run["run"], "exit_status": 3})).await.unwrap();
    assert_eq!(
        (&summary["calls"], &summary["cost_usd"], &summary["denials"], &summary["ended"]),
        (&json!(0), &json!("0.00"), &json!(0), &Value::Null)
    );
    let gone = client.refused("run.attach", json!({"run": run["run"]})).await;
    assert_eq!((gone.which(), gone.message.as_str()), (Some(Fault::Gone), "the run is closed: exit status 3"));
    assert!(!client.has_notices());
    assert_eq!(client.refused("run.close", json!({"run": "run_1"})).await.which(), Some(Fault::NotFound));
}

#[tokio::test]
async fn what_a_run_may_not_have_is_refused() {
    let daemon = Daemon::start(LONG).await;
    let mut client = daemon.connect().await;
    let missing = client.refused("run.open", json!({"command": "true"})).await;
    assert_eq!((missing.which(), missing.message.as_str()), (Some(Fault::NotFound), "no agent 'default'"));
    daemon.agent(&mut client, "default").await;
    let above = client.refused("run.open", json!({"command": "true", "budget_pico": "5000000000001"})).await;
    assert_eq!(above.which(), Some(Fault::Unfit));
    client.call("run.open", json!({"command": "true"})).await.unwrap();
}

#[tokio::test]
async fn a_run_whose_connection_is_gone_is_closed_after_its_grace() {
    let daemon = Daemon::start(SHORT).await;
    let (mut tail, mut client) = (daemon.connect().await, daemon.connect().await);
    daemon.agent(&mut client, "a").await;
    tail.call("event.tail", json!({})).await.unwrap();
    let run = open(&mut client, json!({})).await;
    drop(client);
    assert_eq!(closed(&mut tail, &run["account"]).await, "abandoned");
    let mut late = daemon.connect().await;
    let gone = late.refused("run.attach", json!({"run": run["run"]})).await;
    assert_eq!(gone.which(), Some(Fault::Gone));
    let summary = late.call("run.close", json!({"run": run["run"]})).await.unwrap();
    assert_eq!((&summary["agent"], &summary["ended"]), (&json!("a"), &json!("abandoned")));
}

#[tokio::test]
async fn a_run_lives_on_when_another_connection_takes_it() {
    let daemon = Daemon::start(SHORT).await;
    let (mut tail, mut first, mut second) = (daemon.connect().await, daemon.connect().await, daemon.connect().await);
    daemon.agent(&mut first, "a").await;
    tail.call("event.tail", json!({})).await.unwrap();
    let kept = open(&mut first, json!({})).await;
    let lost = open(&mut first, json!({})).await;
    second.call("run.attach", json!({"run": kept["run"]})).await.unwrap();
    drop(first);
    assert_eq!(closed(&mut tail, &lost["account"]).await, "abandoned");
    second.call("run.attach", json!({"run": kept["run"]})).await.unwrap();
    assert_eq!(second.call("run.close", json!({"run": kept["run"]})).await.unwrap()["ended"], Value::Null);
}

#[tokio::test]
async fn runs_have_their_grace_after_a_restart() {
    let daemon = Daemon::start(SHORT).await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let run = open(&mut client, json!({})).await;
    let daemon = daemon.restart().await;
    assert!(client.is_closed().await);
    let mut tail = daemon.connect().await;
    tail.call("event.tail", json!({"after": 0})).await.unwrap();
    assert_eq!(closed(&mut tail, &run["account"]).await, "abandoned");
}

#[tokio::test]
async fn a_run_is_tied_again_after_a_restart_and_hears_of_its_end() {
    let daemon = Daemon::start(LONG).await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let run = open(&mut client, json!({})).await;
    let daemon = daemon.restart().await;
    let mut client = daemon.connect().await;
    client.call("run.attach", json!({"run": run["run"]})).await.unwrap();
    let deleted = client.call("agent.delete", json!({"name": "a"})).await.unwrap();
    assert_eq!(deleted["runs_ended"], json!(1));
    let ended = client.notice("run.ended").await;
    assert_eq!(ended, json!({"run": run["run"], "reason": "deleted", "message": "the run's agent was deleted"}));
    assert_eq!(client.call("run.close", json!({"run": run["run"]})).await.unwrap()["ended"], json!("deleted"));
}

#[tokio::test]
async fn a_run_ends_when_its_time_is_over() {
    let daemon = Daemon::start(LONG).await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let run = open(&mut client, json!({"ttl_ms": 20})).await;
    assert!(run["expires_at"].is_string());
    assert_eq!(client.notice("run.ended").await["reason"], json!("expired"));
    assert_eq!(client.refused("run.attach", json!({"run": run["run"]})).await.message, "the run's time is over");
}

fn denied(run: &Value) -> CallDenied {
    let account = AccountId::new(run["account"].as_i64().unwrap());
    let denial = Denial::Budget {
        account: Named { id: account, kind: None, name: "run".to_owned() },
        asked: Pico::new(2),
        left: Pico::new(1),
        limit: Pico::new(1),
        period: Period::Total,
        resets_at: None,
    };
    CallDenied {
        tool: None,
        account,
        ask: None,
        card: None,
        facts: None,
        input: None,
        policy: Digest::ZERO,
        request: RequestId::new(1, 1),
        rule: denial.rule().into_owned(),
        denial,
    }
}

#[tokio::test]
async fn the_first_denial_for_want_of_money_ends_a_run_that_asked_for_that_and_no_other() {
    let daemon = Daemon::start(LONG).await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let other = open(&mut client, json!({})).await;
    let run = open(&mut client, json!({"stop_on_budget": true})).await;
    for run in [&other, &run] {
        daemon.gate.ledger().record(denied(run).into(), [None, None]).unwrap();
    }
    let ended = client.notice("run.ended").await;
    assert_eq!((&ended["run"], &ended["reason"]), (&run["run"], &json!("budget")));
    let summary = client.call("run.close", json!({"run": run["run"]})).await.unwrap();
    assert_eq!((&summary["denials"], &summary["ended"]), (&json!(1), &json!("budget")));
    let summary = client.call("run.close", json!({"run": other["run"]})).await.unwrap();
    assert_eq!((&summary["denials"], &summary["ended"]), (&json!(1), &Value::Null));
    assert!(!client.has_notices());
}

#[tokio::test]
async fn a_run_that_stops_on_its_budget_still_does_so_after_a_restart() {
    let daemon = Daemon::start(LONG).await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let other = open(&mut client, json!({})).await;
    let run = open(&mut client, json!({"stop_on_budget": true})).await;
    let daemon = daemon.restart().await;
    for run in [&other, &run] {
        daemon.gate.ledger().record(denied(run).into(), [None, None]).unwrap();
    }
    let mut client = daemon.connect().await;
    client.call("run.attach", json!({"run": other["run"]})).await.unwrap();
    client.call("run.attach", json!({"run": run["run"], "stop_on_budget": true})).await.unwrap();
    let ended = client.notice("run.ended").await;
    assert_eq!((&ended["run"], &ended["reason"]), (&run["run"], &json!("budget")));
    client.call("run.attach", json!({"run": other["run"]})).await.unwrap();
}

#[tokio::test]
async fn a_killed_agent_ends_its_runs_and_they_stay_ended_when_it_is_resumed() {
    let daemon = Daemon::start(LONG).await;
    let mut client = daemon.connect().await;
    daemon.agent(&mut client, "a").await;
    let run = open(&mut client, json!({})).await;
    let killed = daemon.gate.ledger().admin(|writer| {
        let agent = writer.find(aex_core::books::AccountKind::Agent, "a").unwrap();
        writer.set_state(&agent, aex_core::decision::AccountState::Killed, "too loud", None).map(Ok)
    });
    killed.await.unwrap().unwrap();
    assert_eq!(client.notice("run.ended").await["message"], json!("the run was killed: too loud"));
    client.call("agent.resume", json!({"name": "a"})).await.unwrap();
    assert_eq!(client.refused("run.attach", json!({"run": run["run"]})).await.which(), Some(Fault::Gone));
}
