//! Ledgers of every version that ever was open for ever: tests/fixtures/ledger says how the samples were made.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::path::{Path, PathBuf};

use aex_tests::ask::chat;
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{audited, events};
use aex_tests::provider::Provider;
use serde_json::{Value, json};

/// The newest version that samples are kept of; it is the one before that which this program writes, or that one itself.
const NEWEST: u32 = 3;

fn sample(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/ledger/schema-{version}"))
}

#[track_caller]
fn expected(version: u32) -> Value {
    serde_json::from_str(&fs::read_to_string(sample(version).join("expected.json")).expect("read expected.json")).expect("JSON")
}

/// A daemon on a sample's files.
#[track_caller]
fn opened(provider: &Provider, version: u32, folder: &str) -> Daemon {
    let mut daemon = Daemon::prepare(Config::new(provider));
    for entry in fs::read_dir(sample(version).join(folder)).expect("list the sample") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_owned();
        if name.to_string_lossy().starts_with("ledger.db") {
            fs::copy(&path, daemon.home().join(name)).expect("copy the sample");
        }
    }
    daemon.run();
    daemon
}

/// What holds for a sample, whatever the version that opens it.
#[track_caller]
fn check(version: u32, folder: &str, story: &str) {
    let provider = Provider::start();
    let daemon = opened(&provider, version, folder);
    let wanted = expected(version);
    audited(&daemon);
    let audit = daemon.ctl(["audit", "--json"]).ok().json();
    let passed = audit["invariants"].as_array().map(|all| all.iter().filter(|one| one["passed"] == true).count());
    assert_eq!(passed, Some(7), "{audit}");
    // The chain is the old one, with more behind it.
    let (head, all) = (&wanted[story]["audit"], events(&daemon));
    let last = all.iter().find(|event| event["seq"] == head["head_seq"]).expect("the sample's last event");
    assert_eq!(last["hash"], head["head_hash"]);
    // The call in flight that the sample died with was sent: it is charged in full.
    let worst = u64::from(story == "crashed");
    for (state, more) in [("exact", 0), ("estimated", 0), ("worst_case", worst)] {
        assert_eq!(audit[state].as_u64(), head[state].as_u64().map(|before| before + more), "{state}");
    }
    let agents = daemon.rpc("agent.list", &json!({}));
    for name in ["bob", "cat", "fay"] {
        let agent = agents["agents"].as_array().and_then(|all| all.iter().find(|agent| agent["name"] == name)).expect(name);
        assert_eq!(agent["budgets"][0]["spent_pico"], wanted["spent"][name], "{agent}");
    }
    if worst == 0 {
        assert_eq!(daemon.rpc("metrics.get", &json!({}))["spent_pico"], wanted["spent"]["root"]);
    }
    // It serves those whom it served, and nobody else.
    let call = |token: &Value| client::post_json(&daemon.chat_url(), token.as_str().expect("a token"), &chat()).status;
    assert_eq!((call(&wanted["token"]), call(&wanted["revoked"])), (200, 401));
    audited(&daemon);
    let backup = daemon.home().join(format!("ledger.db.schema-{version}.backup"));
    let mut events = all.iter().filter(|event| event["kind"] == "epoch.opened");
    let schema = events.next_back().and_then(|event| event["body"]["schema"].as_u64()).expect("a version");
    assert_eq!(backup.exists(), schema > u64::from(version), "a copy is kept of what was changed");
}

#[test]
fn a_ledger_of_each_version_that_was_stopped_opens_passes_the_audit_and_serves() {
    (1..=NEWEST).for_each(|version| check(version, "", "stopped"));
}

#[test]
fn a_ledger_of_each_version_that_was_killed_opens_passes_the_audit_and_serves() {
    (1..=NEWEST).for_each(|version| check(version, "crashed", "crashed"));
}

#[test]
fn every_version_has_a_sample_that_is_small() {
    let folder = sample(1).parent().expect("the samples' folder").to_owned();
    let count =
        fs::read_dir(&folder).expect("list the samples").filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir())).count();
    assert_eq!(u32::try_from(count), Ok(NEWEST));
    for version in 1..=NEWEST {
        for file in ["ledger.db", "crashed/ledger.db", "crashed/ledger.db-wal"] {
            let length = fs::metadata(sample(version).join(file)).expect(file).len();
            assert!(length > 0 && length < 200_000, "schema-{version}/{file}: {length} bytes");
        }
    }
}
