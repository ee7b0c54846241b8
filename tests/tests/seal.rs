//! `aexctl ledger compact`: old events leave the ledger for segment files, and every balance stays provable, end to end.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use aex_proto::value::Digest;
use aex_tests::daemon::{Config, Daemon, Output, output};
use aex_tests::forge;
use aex_tests::history::History;
use aex_tests::ledger;
use serde_json::{Value, json};

struct Scene {
    history: History,
}

impl Scene {
    fn new() -> Self {
        Self { history: History::live() }
    }

    fn daemon(&self) -> &Daemon {
        &self.history.daemon
    }

    /// Seals all events: what is said of it.
    #[track_caller]
    fn compact(&self) -> Value {
        self.compact_with(&[]).json()
    }

    #[track_caller]
    fn compact_with(&self, more: &[&str]) -> Output {
        compacted(self.daemon(), more)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.daemon().scratch().join(name)
    }

    #[track_caller]
    fn export(&self, name: &str) -> (PathBuf, Output) {
        let path = self.path(name);
        let output = self.daemon().ctl(["export", "--out", &path.display().to_string()]).ok();
        (path, output)
    }

    #[track_caller]
    fn audit(&self, files: &[&PathBuf], more: &[&str]) -> Output {
        let files = files.iter().flat_map(|path| ["--file".to_owned(), path.display().to_string()]);
        self.daemon().ctl(["audit".to_owned()].into_iter().chain(files).chain(more.iter().map(ToString::to_string)))
    }

    /// What a person sees of the past, without what changes by itself.
    #[track_caller]
    fn figures(&self) -> [Value; 2] {
        let mut status = self.daemon().ctl(["status", "--json"]).json();
        let mut metrics = self.daemon().ctl(["metrics", "--json"]).json();
        let forget = |figures: &mut Value, moving: &[&str]| {
            figures.as_object_mut().expect("an object").retain(|name, _| !moving.contains(&name.as_str()));
        };
        forget(&mut status, &["daemon"]);
        forget(&mut metrics, &["events"]);
        for agent in metrics["agents"].as_array_mut().expect("a list of agents") {
            forget(agent, &["burn_micro_per_sec", "ttb_seconds"]);
            // What is counted in the last minute falls out of it meanwhile.
            agent["windows"].as_array_mut().expect("windows").retain(|window| window["seconds"].as_u64() >= Some(3600));
        }
        let denied: u64 =
            metrics["agents"].as_array().into_iter().flatten().filter_map(|agent| agent["windows"][0]["denied"].as_u64()).sum();
        assert!(denied > 3 && metrics["budget_denials"].as_u64() >= Some(2), "{metrics}");
        [status, metrics]
    }
}

/// An instant of the daemon's own clock that no event is younger than.
#[track_caller]
fn all(daemon: &Daemon) -> String {
    daemon.ctl(["audit", "--json"]).json()["at"].as_str().expect("an instant").to_owned()
}

#[track_caller]
fn compacted(daemon: &Daemon, more: &[&str]) -> Output {
    daemon.ctl(["ledger", "compact", "--before", &all(daemon), "--json"].iter().chain(more))
}

fn segment(compacted: &Value) -> PathBuf {
    PathBuf::from(compacted["segment"].as_str().expect("a path"))
}

#[test]
fn the_audit_goes_on_from_a_seal_live_at_rest_and_in_files() {
    let mut scene = Scene::new();
    let before = scene.daemon().ctl(["audit", "--json"]).json();
    let noted = scene.daemon().ctl(["audit", "--head"]).ok().stdout.trim().to_owned();
    let figures = scene.figures();

    let sealed = scene.compact();
    assert_eq!((&sealed["first"], &sealed["last"], &sealed["events"]), (&json!(1), &before["head_seq"], &before["head_seq"]), "{sealed}");
    let first = segment(&sealed);
    assert_eq!(first, scene.daemon().home().join(format!("segments/1-{}.ndjson", before["head_seq"])));
    assert_eq!(fs::metadata(&first).expect("the segment").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(first.parent().expect("a folder")).expect("the folder").permissions().mode() & 0o777, 0o700);
    assert_eq!(scene.figures(), figures);

    let after = scene.daemon().ctl(["audit", "--json"]).json();
    assert_eq!(after["head_seq"], json!(before["head_seq"].as_u64().expect("a number") + 1));
    for field in ["exact", "estimated", "worst_case", "passed"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    scene.history.calls(3);
    let (export, said) = scene.export("one");
    assert!(said.stderr.contains(&format!("events up to {} are in segments", sealed["last"])), "{said:?}");
    let alone = scene.audit(&[&export], &[]).ok();
    assert!(!alone.stdout.contains("not checked"), "the chain names the state that it begins with: {alone:?}");
    let all = scene.audit(&[&first, &export], &["--expect-head", &noted]).ok();
    assert!(!all.stdout.contains("not checked"), "{all:?}");
    let by_itself = scene.audit(&[&first], &[]).ok();
    assert!(by_itself.stdout.contains("not checked: rows"), "{by_itself:?}");

    // A second one on top of the first; then the daemon starts anew.
    let second = segment(&scene.compact());
    scene.history.calls(2);
    let figures = scene.figures();
    scene.history.daemon.stop();
    scene.daemon().ctl(["audit"]).ok();
    let (at_rest, said) = scene.export("at rest");
    assert!(said.stderr.contains("are in segments"), "{said:?}");
    scene.history.daemon.run();
    scene.daemon().ctl(["audit"]).ok();
    assert_eq!(scene.figures(), figures);
    for last in [at_rest, scene.export("two").0] {
        let all = scene.audit(&[&first, &second, &last], &["--expect-head", &noted]).ok();
        assert!(all.stdout.contains("7 of 7") && !all.stdout.contains("not checked"), "{all:?}");
    }
    ledger::audited(scene.daemon());
}

#[test]
fn segments_that_are_missing_mixed_up_or_changed_are_found() {
    let scene = Scene::new();
    let first = segment(&scene.compact());
    scene.history.calls(2);
    let second = segment(&scene.compact());
    scene.history.calls(1);
    let (export, _) = scene.export("last");
    scene.audit(&[&first, &second, &export], &[]).ok();
    for files in [vec![&first, &export], vec![&second, &first, &export], vec![&export, &first], vec![&first, &first, &second, &export]] {
        let output = scene.audit(&files, &[]);
        assert!(output.code == 1 && output.stdout.contains("line 1:"), "{files:?}: {output:?}");
    }
    let text = fs::read_to_string(&first).expect("the segment");
    let forged = scene.path("forged.ndjson");
    for nth in 1..40 {
        let at = nth * text.len() / 40;
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        fs::write(&forged, bytes).expect("write a file");
        let output = scene.audit(&[&forged, &second, &export], &[]);
        assert!(output.code == 1 && output.stdout.contains(&format!("{}: line", forged.display())), "byte {at}: {output:?}");
    }
    // Put together anew, with all its digests: the chain behind it does not fit, and the seal names another file.
    let lines = forge::lines(&text).into_iter().map(|line| line.replace("\"made_at\":\"20", "\"made_at\":\"19"));
    fs::write(&forged, forge::file(&lines.collect::<Vec<_>>())).expect("write a file");
    let output = scene.audit(&[&forged, &second, &export], &[]);
    assert!(output.code == 1 && output.stdout.contains("that of the file is"), "{output:?}");
    let lines = forge::lines(&text).into_iter().map(|line| line.replace("\"version\":\"0.1.0\"", "\"version\":\"0.1.1\""));
    fs::write(&forged, forge::file(&lines.collect::<Vec<_>>())).expect("write a file");
    let output = scene.audit(&[&forged, &second, &export], &[]);
    assert!(output.code == 1 && output.stdout.contains("it goes on from"), "{output:?}");
}

#[test]
fn no_segment_takes_the_place_of_another_ledgers_or_of_one_from_before_a_restore() {
    let mut scene = Scene::new();
    let shared = scene.path("shared");
    let dir = ["--dir", &shared.display().to_string()];
    let backup = scene.path("backup.db").display().to_string();
    scene.daemon().ctl(["backup", &backup]).ok();
    // A restored copy is another ledger with the same numbers.
    let mut copy = Daemon::prepare(Config::new(&scene.history.provider));
    copy.ctl(["restore", &backup]).ok();
    copy.run();
    scene.history.calls(8);
    let first = scene.compact_with(&dir).json();
    let before = fs::read(segment(&first)).expect("the segment");
    let last = first["last"].as_u64().expect("a number");
    let head = |daemon: &Daemon| daemon.rpc("daemon.status", &json!({}))["head_seq"].as_u64().expect("a number");
    let grow = |daemon: &Daemon| {
        // One event each, until the numbers are the same.
        assert!(head(daemon) <= last, "{} beyond {last}", head(daemon));
        (head(daemon)..last).for_each(|nth| drop(daemon.ctl(["agent", "update", "bot", "--rpm", &(100 + nth).to_string()]).ok()));
        assert_eq!(head(daemon), last);
    };
    grow(&copy);
    let other = compacted(&copy, &dir).json();
    assert_eq!((&other["first"], &other["last"]), (&first["first"], &first["last"]), "{other}");
    let sha256 = other["sha256"].as_str().expect("a digest").to_owned();
    let expected = shared.join(format!("1-{last}-{}.ndjson", sha256.get(..8).expect("a digest")));
    assert_eq!(segment(&other), expected);
    assert_eq!(fs::read(segment(&first)).expect("the segment"), before, "it is as it was");

    // Restored to before its seal, then as far again.
    scene.history.daemon.stop();
    scene.daemon().ctl(["restore", &backup, "--accept-loss"]).ok();
    scene.history.daemon.run();
    grow(scene.daemon());
    let again = scene.compact_with(&dir).json();
    assert_eq!(fs::read(segment(&first)).expect("the segment"), before, "it is as it was");
    for (daemon, sealed) in [(scene.daemon(), &again), (&copy, &other)] {
        assert_eq!(Digest::of(&fs::read(segment(sealed)).expect("the segment")).to_string(), sealed["sha256"].as_str().expect("a digest"));
        let export = daemon.scratch().join("last.ndjson").display().to_string();
        let said = daemon.ctl(["export", "--out", &export]).ok();
        assert!(said.stderr.contains(sealed["segment"].as_str().expect("a path")), "the seal names it: {said:?}");
        daemon.ctl(["audit", "--file", &segment(sealed).display().to_string(), "--file", &export]).ok();
    }
    let drafts = fs::read_dir(&shared).expect("the folder").filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        !name.to_string_lossy().ends_with(".ndjson")
    });
    assert_eq!(drafts.count(), 0, "no draft is left");
}

#[test]
fn whoever_reads_events_is_told_where_the_older_ones_are() {
    let scene = Scene::new();
    let sealed = scene.compact();
    let (last, path) = (sealed["last"].as_u64().expect("a number"), sealed["segment"].as_str().expect("a path"));
    let where_ = format!("events up to {last} are in segments, the newest of them in {path}");
    let output = scene.daemon().ctl(["events", "-n", "500"]).ok();
    assert!(output.stderr.contains(&where_) && output.stdout.contains("ledger.sealed"), "{output:?}");
    let list = scene.daemon().rpc("event.list", &json!({"after": 1, "limit": 5}));
    assert_eq!((&list["sealed"]["last"], &list["events"][0]["seq"]), (&json!(last), &json!(last + 1)), "{list}");
    let error = scene.daemon().try_rpc("event.tail", &json!({"after": 1})).expect_err("it is sealed");
    assert!(error["message"].as_str().is_some_and(|said| said == where_), "{error}");
    let output = scene.daemon().ctl(["export", "--since", "2"]);
    assert!(output.code == 1 && output.stderr.contains(&where_), "{output:?}");
    let output = scene.daemon().ctl(["audit", "--expect-head", &format!("2:{}", "0".repeat(64))]);
    assert!(output.code == 1 && output.stdout.contains("audit the segments, then an export"), "{output:?}");
    let part = scene.path("part");
    scene.daemon().ctl(["export", "--agent", "bot", "--out", &part.display().to_string()]).ok();
    scene.audit(&[&part], &[]).ok();
}

#[test]
fn what_is_compacted_is_not_explained_and_what_came_later_is() {
    let scene = Scene::new();
    let old = ledger::last(scene.daemon()).held.request;
    scene.compact();
    for (id, said) in [
        (old.to_string(), format!("{old} is no longer in the ledger: it was compacted")),
        ("2".to_owned(), "event 2 is no longer".to_owned()),
    ] {
        let output = scene.daemon().ctl(["explain", &id]);
        assert!(output.code == 4 && output.stderr.contains(&said) && output.stderr.contains("segments"), "{output:?}");
    }
    scene.history.calls(1);
    // The list of events begins behind the seal, so that the calls in it do.
    let new = ledger::last(scene.daemon());
    let story = scene.daemon().ctl(["explain", &new.held.request.to_string(), "--json"]).json();
    let same =
        |story: &Value| story["recomputed"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|again| again["same"] == true));
    assert!(same(&story) || same(&story["call"]), "{story}");
    let text = story.to_string();
    assert!(text.contains(&new.charge().to_string()), "{text}");
    let sealed = ledger::events(scene.daemon()).into_iter().find(|event| event["kind"] == "ledger.sealed").expect("a seal");
    scene.daemon().ctl(["explain", &sealed["seq"].to_string()]).ok();
}

#[test]
fn nothing_is_sealed_without_a_daemon_an_event_or_a_folder() {
    let mut scene = Scene::new();
    let output = scene.daemon().ctl(["ledger", "compact", "--before", "2020-01-01"]);
    assert!(output.code == 1 && output.stderr.contains("is left to be sealed"), "{output:?}");
    let file = scene.path("file");
    fs::write(&file, "").expect("write a file");
    let output = scene.compact_with(&["--dir", &file.display().to_string()]);
    assert!(output.code == 1 && output.stderr.contains(&file.display().to_string()), "{output:?}");
    scene.daemon().ctl(["audit"]).ok();
    let folder = scene.path("a/new/folder").display().to_string();
    let sealed = scene.compact_with(&["--dir", &folder]).json();
    assert!(segment(&sealed).starts_with(&folder) && segment(&sealed).is_file(), "{sealed}");
    let output = scene.daemon().ctl(["ledger", "compact", "--before", "2100-01-01"]);
    assert!(output.code == 1 && output.stderr.contains("the date lies ahead"), "{output:?}");
    scene.history.daemon.stop();
    assert_eq!(scene.daemon().ctl(["ledger", "compact", "--before", "2026-01-01"]).code, 3);
}

#[test]
fn a_daemon_that_is_killed_while_it_compacts_leaves_a_ledger_that_audits() {
    let mut scene = Scene::new();
    let mut sealed = 0;
    for round in 0..8_u32 {
        scene.history.calls(3);
        let files = || fs::read_dir(scene.daemon().home().join("segments")).map_or(0, Iterator::count);
        let (before, head) = (files(), scene.daemon().rpc("daemon.status", &json!({}))["head_seq"].clone());
        let mut command = scene.daemon().command("aexctl");
        command.args(["ledger", "compact", "--before", &all(scene.daemon()), "--json"]);
        let compacting = thread::spawn(move || output(command));
        // Another moment each round.
        match round % 4 {
            0 => {}
            1 => ledger::until("a draft", || (files() > before).then_some(())),
            2 => ledger::until("the seal", || (scene.daemon().rpc("daemon.status", &json!({}))["head_seq"] != head).then_some(())),
            _ => ledger::until("the end", || compacting.is_finished().then_some(())),
        }
        scene.history.daemon.kill9();
        let done = compacting.join().expect("aexctl ends");
        sealed += u32::from(done.code == 0);
        scene.history.daemon.run();
        scene.daemon().ctl(["audit"]).ok();
    }
    assert!(sealed >= 2, "{sealed} of 8 were told to be done");
    scene.compact();
    let folder = scene.daemon().home().join("segments");
    let mut segments: Vec<(u64, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder).expect("the segments") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((first, last)) = name.strip_suffix(".ndjson").and_then(|name| name.split_once('-')) else { continue };
        segments.push((first.parse().expect("a number"), last.parse().expect("a number"), path));
    }
    // A kill may leave a segment that no seal names: those that are named go on from each other.
    let events = ledger::events(scene.daemon());
    let named: Vec<u64> =
        events.iter().filter(|event| event["kind"] == "ledger.sealed").filter_map(|event| event["body"]["last"].as_u64()).collect();
    assert!(!named.is_empty(), "{events:?}");
    let (export, _) = scene.export("last");
    let (mut chain, mut next) = (Vec::new(), 1);
    while let Some((_, last, path)) =
        segments.iter().filter(|(first, ..)| *first == next).max_by_key(|(_, last, _)| is_sealed(&scene, *last))
    {
        chain.push(path);
        next = last + 1;
    }
    chain.push(&export);
    scene.audit(&chain, &[]).ok();
}

/// Whether the ledger's seals end with this event: the state that an export begins with lists them.
fn is_sealed(scene: &Scene, last: u64) -> bool {
    let export = scene.daemon().ctl(["export"]).ok().stdout;
    export.lines().any(|line| line.contains(&format!("\"last\":{last},")) && line.contains("\"segment\":"))
}
