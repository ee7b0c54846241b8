//! Backups of a living ledger, and restores: what comes back is whole, what must not come back does not, and nothing is lost unsaid.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use aex_proto::value::Digest;
use aex_tests::ask::chat;
use aex_tests::client::{self, Connection};
use aex_tests::daemon::{Config, Daemon, Output, output};
use aex_tests::ledger::{self, audited, events, settled_and_audited};
use aex_tests::provider::{Provider, Script};
use serde_json::{Value, json};

const CLIENTS: usize = 6;

/// A daemon with two agents and some calls.
struct House {
    provider: Provider,
    daemon: Daemon,
    bot: String,
}

impl House {
    fn new() -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start(&provider);
        let bot = daemon.agent("bot", &[]);
        let house = Self { provider, daemon, bot };
        house.calls(3);
        house
    }

    #[track_caller]
    fn calls(&self, count: usize) {
        (0..count).for_each(|_| assert_eq!(self.status(&self.bot), 200));
    }

    fn status(&self, token: &str) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat()).status
    }

    #[track_caller]
    fn backup(&self, name: &str) -> (PathBuf, Value) {
        let file = self.daemon.scratch().join(name);
        let said = self.daemon.ctl(["backup", name, "--json"]).ok().json();
        assert_eq!(said["file"], file.to_str().expect("a path of UTF-8"));
        (file, said)
    }

    #[track_caller]
    fn restore(&self, file: &Path, flags: &[&str]) -> Output {
        let words = ["restore", file.to_str().expect("a path of UTF-8"), "--json"];
        self.daemon.ctl(words.iter().chain(flags))
    }

    fn kept(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.daemon.home()).expect("list the home").map(|entry| entry.expect("an entry").path());
        names.filter(|path| path.to_string_lossy().contains("ledger.db.re")).collect()
    }
}

/// Ends the clients when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The numbers that a backup tells of itself, from the file alone.
#[track_caller]
fn is_sound(file: &Path, said: &Value) {
    let bytes = fs::read(file).expect("read the backup");
    assert_eq!(said["bytes"].as_u64(), u64::try_from(bytes.len()).ok());
    assert_eq!(said["sha256"], Digest::of(&bytes).to_string());
    assert_eq!(fs::metadata(file).expect("its metadata").permissions().mode() & 0o777, 0o600);
}

#[test]
fn backups_under_load_hold_all_that_was_committed_and_stop_no_call() {
    let house = House::new();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut backups = Vec::new();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(house.status(&house.bot), 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // However this ends, the clients do.
        let _stop = Stop(&stop);
        for number in 0..4 {
            let before = answered.load(Ordering::Relaxed);
            ledger::until("calls between two backups", || (answered.load(Ordering::Relaxed) >= before + 20).then_some(()));
            let committed = answered.load(Ordering::Relaxed);
            backups.push((committed, house.backup(&format!("backup-{number}.db"))));
        }
    });
    let books = settled_and_audited(&house.daemon, &house.provider);
    let all = events(&house.daemon);
    for (committed, (file, said)) in backups {
        is_sound(&file, &said);
        // Its chain is a beginning of the living one.
        assert_eq!(all.iter().find(|event| event["seq"] == said["head_seq"]).map(|event| &event["hash"]), Some(&said["head_hash"]));
        let other = Daemon::prepare(Config::new(&house.provider));
        let restored = other.ctl(["restore", file.to_str().expect("a path"), "--json"]).ok().json();
        assert_eq!(restored["backup_seq"], said["head_seq"]);
        let audit = other.ctl(["audit", "--json"]).ok().json();
        let charged: u64 = ["exact", "worst_case"].iter().filter_map(|state| audit[state].as_u64()).sum();
        // What a client has seen was settled before; what was in flight is charged in full.
        assert!(
            usize::try_from(charged).is_ok_and(|charged| charged >= committed && charged <= books.exact + CLIENTS),
            "{committed}: {audit}"
        );
    }
}

#[test]
fn a_backup_never_takes_the_place_of_a_file_and_leaves_nothing_half_made() {
    let mut house = House::new();
    let scratch = house.daemon.scratch().to_owned();
    fs::write(scratch.join("mine"), "mine").expect("write a file");
    std::os::unix::fs::symlink(scratch.join("nowhere"), scratch.join("link")).expect("make a link");
    let rows = [("mine", "exists already"), ("link", "exists already"), ("no/such/folder", "does not exist")];
    for stopped in [false, true] {
        if stopped {
            house.daemon.stop();
        }
        for (name, words) in rows {
            let refused = house.daemon.ctl(["backup", name]);
            assert_eq!(refused.code, 1, "{refused:?}");
            assert!(refused.stderr.starts_with("error: ") && refused.stderr.contains(words), "{refused:?}");
        }
    }
    assert_eq!(fs::read_to_string(scratch.join("mine")).expect("read it"), "mine");
    let (file, said) = house.backup("at-rest.db");
    is_sound(&file, &said);
    let left: Vec<_> = fs::read_dir(&scratch).expect("list").map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn a_method_that_is_given_a_relative_path_refuses_it() {
    let house = House::new();
    let refused = house.daemon.try_rpc("ledger.backup", &json!({"file": "b.db"})).expect_err("a relative path");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("not a whole path")), "{refused}");
}

#[test]
fn a_restore_needs_a_stopped_daemon() {
    let house = House::new();
    let (file, _) = house.backup("b.db");
    let refused = house.restore(&file, &["--accept-loss"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains(&format!("pid {}", house.daemon.pid())), "{refused:?}");
    assert!(refused.stderr.contains("hint: aexctl daemon stop"), "{refused:?}");
    // The lock holds where the socket cannot be seen.
    let mut hidden = house.daemon.command("aexd");
    hidden.args(["restore", "--accept-loss"]).arg(&file);
    let hidden = output(hidden);
    assert_eq!(hidden.code, 1);
    assert!(hidden.stderr.contains("in use by another aexd") && hidden.stderr.contains("hint: aexctl daemon stop"), "{hidden:?}");
    house.calls(1);
}

#[test]
fn a_restore_that_would_lose_calls_is_refused_and_says_how_many_until_that_is_accepted() {
    let mut house = House::new();
    let (file, backup) = house.backup("b.db");
    house.calls(2);
    let charge = ledger::last(&house.daemon).charge();
    let lost = ledger::events(&house.daemon);
    house.daemon.stop();
    let before = fs::read(house.daemon.home().join("ledger.db")).expect("read the ledger");
    let refused = house.restore(&file, &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{refused:?}");
    for words in ["nothing was restored", "ahead of the backup by ", " events", "2 calls for $", "--accept-loss"] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    assert_eq!(fs::read(house.daemon.home().join("ledger.db")).expect("read the ledger"), before);
    assert_eq!(house.kept(), Vec::<PathBuf>::new());
    let restored = house.restore(&file, &["--accept-loss"]).ok().json();
    assert_eq!((&restored["lost"]["calls"], &restored["lost"]["charged_pico"]), (&json!(2), &json!((2 * charge).to_string())));
    assert_eq!(restored["backup_seq"], backup["head_seq"]);
    assert_eq!(house.kept(), [PathBuf::from(restored["kept"].as_str().expect("a kept ledger"))]);
    let at_rest = house.daemon.ctl(["audit"]).ok();
    assert!(at_rest.stdout.contains("7 of 7 invariants hold"), "{at_rest:?}");
    // What was replaced can be had again, whole: it is ahead by what the restore itself wrote.
    let kept = house.kept().pop().expect("a kept ledger");
    house.daemon.run();
    audited(&house.daemon);
    let events = events(&house.daemon);
    let restore = events.iter().find(|event| event["kind"] == "ledger.restored").expect("its event");
    let body = &restore["body"];
    assert_eq!(
        (&body["head"]["seq"], &body["head"]["hash"], &body["file"]),
        (&backup["head_seq"], &backup["head_hash"], &backup["sha256"])
    );
    assert_eq!(body["replaced"]["seq"].as_u64(), lost.last().and_then(|event| event["seq"].as_u64()).map(|last| last + 1));
    assert_eq!(body["by"]["uid"], nix::unistd::Uid::current().as_raw());
    house.calls(1);
    house.daemon.stop();
    let back = house.restore(&kept, &["--accept-loss"]).ok().json();
    assert_eq!(back["backup_seq"], body["replaced"]["seq"]);
    house.daemon.run();
    // The two calls are there again, and the one that came after the restore is not.
    assert_eq!(ledger::quiet(&house.daemon).len(), 5);
    audited(&house.daemon);
}

#[test]
fn what_was_revoked_deleted_or_paused_since_the_backup_stays_so() {
    let mut house = House::new();
    let spare = house.daemon.rpc("token.create", &json!({"agent": "bot"}))["token"].as_str().expect("a token").to_owned();
    let (gone, held, free) = (house.daemon.agent("gone", &[]), house.daemon.agent("held", &[]), house.daemon.agent("free", &[]));
    let (file, _) = house.backup("b.db");
    let rotated = house.daemon.rpc("agent.rotate_token", &json!({"name": "bot"}))["token"].as_str().expect("a token").to_owned();
    house.daemon.rpc("agent.delete", &json!({"name": "gone"}));
    house.daemon.rpc("agent.pause", &json!({"name": "held", "reason": "on leave"}));
    let newcomer = house.daemon.agent("newcomer", &[]);
    let before = |token: &str| house.status(token);
    assert_eq!(
        [&house.bot, &spare, &gone, &held, &free, &rotated, &newcomer].map(|token| before(token)),
        [401, 401, 401, 403, 200, 200, 200]
    );
    house.daemon.stop();
    let restored = house.restore(&file, &["--accept-loss"]).ok().json();
    assert_eq!((&restored["revoked"], &restored["stopped"], &restored["warnings"]), (&json!(2), &json!(2), &json!([])), "{restored}");
    house.daemon.run();
    audited(&house.daemon);
    // Tokens and agents that were made since are gone with the events that made them.
    assert_eq!(
        [&house.bot, &spare, &gone, &held, &free, &rotated, &newcomer].map(|token| house.status(token)),
        [401, 401, 401, 403, 200, 401, 401]
    );
    let paused = client::post_json(&house.daemon.chat_url(), &held, &chat());
    assert!(paused.text().contains("on leave"), "{paused}");
    let revoked = |event: &&Value| event["kind"] == "token.revoked" && event["body"]["reason"] == "revoked before the restore";
    assert_eq!(events(&house.daemon).iter().filter(revoked).count(), 2);
}

#[test]
fn no_request_gets_the_id_of_one_that_was_lost() {
    let mut house = House::new();
    let (file, _) = house.backup("b.db");
    let ids = |house: &House| ledger::calls(&house.daemon).iter().map(|call| call.held.request).collect::<Vec<_>>();
    let mut seen = Vec::new();
    for _ in 0..3 {
        house.daemon.restart();
        house.calls(2);
        seen = ids(&house);
    }
    let epoch = house.daemon.rpc("daemon.hello", &json!({}))["epoch"].as_u64().expect("a number");
    house.daemon.stop();
    let restored = house.restore(&file, &["--accept-loss"]).ok().json();
    assert_eq!(restored["epoch"], epoch + 1);
    house.daemon.run();
    house.calls(2);
    let now = ids(&house);
    let fresh: Vec<_> = now.iter().skip(3).collect();
    assert_eq!((now.len(), fresh.iter().any(|id| seen.contains(id))), (5, false), "{now:?} after {seen:?}");
    audited(&house.daemon);
}

#[test]
fn a_ledger_that_cannot_be_read_is_kept_and_what_nobody_knows_is_said() {
    let mut house = House::new();
    let (file, _) = house.backup("b.db");
    let epoch = house.daemon.rpc("daemon.hello", &json!({}))["epoch"].as_u64().expect("a number");
    house.daemon.stop();
    let ledger = house.daemon.home().join("ledger.db");
    let mut bytes = fs::read(&ledger).expect("read the ledger");
    bytes[0..4096].fill(0xff);
    fs::write(&ledger, &bytes).expect("damage the ledger");
    let Err(refused) = house.daemon.try_run() else { panic!("a damaged ledger was served") };
    for words in ["is damaged", "aexctl restore FILE"] {
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    let refused = house.restore(&file, &[]);
    assert!(refused.code == 1 && refused.stderr.contains("cannot be read") && refused.stderr.contains("--accept-loss"), "{refused:?}");
    let restored = house.restore(&file, &["--accept-loss"]).ok();
    assert!(restored.stderr.starts_with("warning: tokens that were revoked after the backup was made are good again"), "{restored:?}");
    assert_eq!(restored.json()["epoch"].as_u64(), Some(epoch + 1024 + 1));
    assert_eq!(fs::read(house.kept().pop().expect("a kept file")).expect("read it"), bytes);
    house.daemon.run();
    house.calls(1);
    audited(&house.daemon);
}

#[test]
fn only_a_sound_backup_of_this_ledger_is_taken() {
    let mut house = House::new();
    let (file, _) = house.backup("b.db");
    let mut bytes = fs::read(&file).expect("read the backup");
    let place = bytes.windows(8).rposition(|window| window == b"answered").expect("a settled call");
    bytes[place] ^= 1;
    fs::write(house.daemon.scratch().join("flipped.db"), &bytes).expect("write");
    fs::write(house.daemon.scratch().join("text.db"), "no database".repeat(500)).expect("write");
    fs::write(house.daemon.scratch().join("empty.db"), "").expect("write");
    let other = House::new();
    let (foreign, _) = other.backup("b.db");
    house.daemon.stop();
    let before = fs::read(house.daemon.home().join("ledger.db")).expect("read the ledger");
    let own = house.daemon.home().join("ledger.db");
    let rows = [
        ("flipped.db", "its hash does not follow", true),
        ("text.db", "is no sound backup of a ledger", true),
        ("empty.db", "there is nothing in it", true),
        (own.to_str().expect("a path"), "is the ledger itself", true),
        ("missing.db", "missing.db", true),
        (foreign.to_str().expect("a path"), "a backup of another ledger", false),
    ];
    for (name, words, always) in rows {
        for flags in [&[][..], &["--accept-loss"]].iter().take(1 + usize::from(always)) {
            let refused = house.restore(&house.daemon.scratch().join(name), flags);
            assert!(refused.code == 1 && refused.stderr.contains(words), "{name}: {refused:?}");
            assert_eq!(fs::read(&own).expect("read the ledger"), before, "{name}");
            assert_eq!(house.kept(), Vec::<PathBuf>::new(), "{name}");
        }
    }
    // The same ledger as it is: nothing is lost, so nothing has to be accepted.
    house.daemon.run();
    let (file, _) = house.backup("same.db");
    house.daemon.kill9();
    house.restore(&file, &[]).ok();
    house.daemon.run();
    audited(&house.daemon);
}

#[test]
fn a_call_that_was_in_flight_in_the_backup_is_charged_in_full() {
    let mut house = House::new();
    house.provider.script(Script::hold());
    let mut connection = Connection::open(&house.daemon.url());
    connection.post_json("/v1/chat/completions", &house.bot, &chat());
    house.provider.wait_for_requests(4);
    let (file, _) = house.backup("b.db");
    house.provider.release();
    assert_eq!(connection.answer().expect("an answer").status, 200);
    house.daemon.stop();
    house.restore(&file, &["--accept-loss"]).ok();
    house.daemon.run();
    let calls = ledger::quiet(&house.daemon);
    assert_eq!(calls.last().map(ledger::Call::story).as_deref(), Some("worst_case crash"));
    audited(&house.daemon);
}

#[test]
fn a_restore_that_was_killed_leaves_a_ledger_that_starts() {
    let mut house = House::new();
    let (file, _) = house.backup("b.db");
    house.calls(1);
    house.daemon.stop();
    // Killed at once, and later and later, until one gets to its end.
    let mut looks = 0_u32;
    loop {
        looks = looks * 3 / 2 + 40;
        let mut command = house.daemon.command("aexd");
        command.args(["restore", "--accept-loss"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("start aexd");
        let ended = (0..looks).any(|_| {
            thread::yield_now();
            child.try_wait().expect("wait for it").is_some()
        });
        child.kill().ok();
        let done = child.wait().expect("its end").success();
        house.daemon.run();
        audited(&house.daemon);
        house.daemon.stop();
        let left: Vec<_> = house.kept().into_iter().filter(|path| path.to_string_lossy().contains("restoring")).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
        if done {
            break;
        }
        assert!(!ended, "it failed by itself");
    }
    house.daemon.run();
    assert!(events(&house.daemon).iter().any(|event| event["kind"] == "ledger.restored"));
}
