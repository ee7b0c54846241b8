//! The ledger as a file: what it tells, and that nothing in it can be changed without being found and located by `aexctl audit --file`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use aex_proto::value::Digest;
use aex_tests::daemon::Output;
use aex_tests::forge::{self, Dice};
use aex_tests::history::History;
use serde_json::{Value, json};

/// Bits that are flipped in the export of a real history. Each byte of a small one is flipped in the core's tests.
const FLIPS: usize = 300;

/// A history and an export of it, whole.
struct Scene {
    history: History,
    file: String,
}

impl Scene {
    #[track_caller]
    fn new() -> Self {
        let history = History::live();
        let file = history.daemon.ctl(["export"]).ok().stdout;
        Self { history, file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.history.daemon.scratch().join(name)
    }

    #[track_caller]
    fn audit(&self, name: &str, bytes: &[u8], more: &[&str]) -> Output {
        let path = self.path(name);
        fs::write(&path, bytes).expect("write a file");
        let path = path.display().to_string();
        self.history.daemon.ctl(["audit", "--file", &path].iter().chain(more))
    }

    /// The file must fail, and what is said must hold these words.
    #[track_caller]
    fn found(&self, what: &str, bytes: &[u8], words: &[&str]) {
        let output = self.audit("forged", bytes, &[]);
        assert_eq!(output.code, 1, "{what}: {output:?}");
        for word in words {
            assert!(output.stdout.contains(word), "{what}: {word} is not in {}", output.stdout);
        }
    }
}

/// Lines of a kind that a random one is taken from.
#[track_caller]
fn places(lines: &[String], kind: &str) -> Vec<usize> {
    let found: Vec<usize> = (0..lines.len()).filter(|at| forge::kind(&lines[*at]) == kind).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

#[test]
fn a_whole_file_passes_says_what_it_holds_and_holds_no_secret() {
    let mut scene = Scene::new();
    let output = scene.audit("whole", scene.file.as_bytes(), &[]).ok();
    assert!(output.stdout.contains("7 of 7 invariants hold") && !output.stdout.contains("not checked"), "{output:?}");
    let live = scene.history.daemon.ctl(["audit", "--json"]).json();
    let told = scene.audit("whole", scene.file.as_bytes(), &["--json"]).json();
    for field in ["head_seq", "head_hash", "exact", "estimated", "worst_case"] {
        assert_eq!(told[field], live[field], "{field}");
    }
    assert!(live["worst_case"].as_u64() > Some(0) && live["estimated"].as_u64() > Some(0), "{live}");
    let kinds: Vec<String> = forge::lines(&scene.file).iter().map(|line| forge::kind(line)).collect();
    for kind in ["export", "snapshot", "event", "account", "budget", "token", "balance", "chain", "end"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind}");
    }
    for secret in [scene.history.token.as_str(), scene.history.provider.key(), "hello"] {
        assert!(!scene.file.contains(secret), "{secret}");
    }
    // At rest it is the same but for who made it and when.
    scene.history.daemon.stop();
    let at_rest = scene.history.daemon.ctl(["export"]).ok().stdout;
    let events = |file: &str| forge::lines(file).into_iter().filter(|line| forge::kind(line) == "event").collect::<Vec<_>>();
    let (before, after) = (events(&scene.file), events(&at_rest));
    assert_eq!(before, after[..before.len()]);
    assert_eq!(after.len(), before.len() + 1, "the daemon's end is an event");
    scene.audit("at rest", at_rest.as_bytes(), &[]).ok();
}

#[test]
fn a_call_in_flight_is_no_orphan_in_an_export_of_the_living_daemon() {
    let scene = Scene::new();
    let History { provider, daemon, token } = &scene.history;
    provider.script(aex_tests::provider::Script::hold());
    let seen = u64::try_from(provider.requests().len()).expect("few requests");
    let mut connection = aex_tests::client::Connection::open(&daemon.url());
    connection.post_json("/v1/chat/completions", token, &aex_tests::ask::chat());
    provider.wait_for_requests(seen + 1);
    let file = daemon.ctl(["export"]).ok().stdout;
    assert_eq!(places(&forge::lines(&file), "hold").len(), 1);
    scene.audit("in flight", file.as_bytes(), &[]).ok();
    // Past its deadline nobody works on it any more.
    let late = forge::lines(&file).into_iter().map(|line| match forge::kind(&line).as_str() {
        "export" => {
            let mut header: Value = serde_json::from_str(&line).expect("a header");
            header["export"]["made_at"] = json!("2031-01-01T00:00:00.000000Z");
            header.to_string()
        }
        _ => line,
    });
    scene.found("late", forge::file(&late.collect::<Vec<_>>()).as_bytes(), &["no_orphaned_reservations: FAIL", "nobody works on it"]);
    provider.release();
    assert_eq!(connection.answer().expect("an answer").status, 200);
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_located() {
    let scene = Scene::new();
    let mut dice = Dice::of_this_moment();
    for _ in 0..FLIPS {
        let at = dice.below(scene.file.len());
        let mut bytes = scene.file.clone().into_bytes();
        bytes[at] ^= 1 << dice.below(8);
        let line = 1 + scene.file.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        let output = scene.audit("flipped", &bytes, &[]);
        assert_eq!(output.code, 1, "byte {at}: {output:?}");
        let located = output.stdout.contains(&format!("line {line}:")) || output.stdout.contains(&format!("lines {line} to {line} "));
        assert!(located, "byte {at} in line {line}: {}", output.stdout);
    }
}

#[test]
fn a_line_that_is_removed_inserted_doubled_or_moved_is_found_and_located() {
    let scene = Scene::new();
    let mut dice = Dice::of_this_moment();
    let lines = forge::lines(&scene.file);
    let join = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes();
    for kind in ["event", "snapshot", "account", "budget", "token", "balance"] {
        let found = places(&lines, kind);
        for _ in 0..6 {
            // Neither the first nor the last of its kind: that one has a neighbour of its own kind on both sides.
            let at = found[1 + dice.below(found.len() - 2)];
            let mut removed = lines.clone();
            removed.remove(at);
            scene.found(&format!("without the {kind} in line {}", at + 1), &join(&removed), &["line "]);
            let mut doubled = lines.clone();
            doubled.insert(at, lines[at].clone());
            scene.found(&format!("the {kind} in line {} twice", at + 1), &join(&doubled), &[&format!("line {}:", at + 2)]);
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            scene.found(&format!("the {kind} in line {} behind the next", at + 1), &join(&swapped), &["line "]);
            let other = lines[found[dice.below(found.len())]].clone();
            let mut inserted = lines.clone();
            inserted.insert(at + 1, other);
            scene.found(&format!("one more {kind} behind line {}", at + 1), &join(&inserted), &["line "]);
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_found_wherever_it_ends() {
    let scene = Scene::new();
    let mut dice = Dice::of_this_moment();
    let lines = forge::lines(&scene.file);
    for _ in 0..40 {
        let end: usize = lines.iter().take(dice.below(lines.len())).map(|line| line.len() + 1).sum();
        scene.found("cut between lines", &scene.file.as_bytes()[..end], &["cut off"]);
        let within = dice.below(scene.file.len());
        scene.found("cut anywhere", &scene.file.as_bytes()[..within], &["cut off"]);
    }
    scene.found("more behind it", format!("{}{{}}\n", scene.file).as_bytes(), &["it stands behind the end"]);
    scene.found("nothing", b"", &["cut off"]);
    let (header, _) = scene.file.split_once('\n').expect("a line");
    scene.found("a line without end", &[format!("{header}\n").as_bytes(), &vec![b'x'; 17 << 20]].concat(), &["longer than"]);
}

/// Changes one random line of a kind that holds a field, then makes all digests and the chain anew.
#[track_caller]
fn edited(scene: &Scene, dice: &mut Dice, kind: &str, holds: &str, edit: impl Fn(&mut Value)) -> (String, usize) {
    let mut lines = forge::lines(&scene.file);
    let found: Vec<usize> = places(&lines, kind).into_iter().filter(|at| lines[*at].contains(holds)).collect();
    assert!(!found.is_empty(), "no {kind} with {holds}");
    let at = found[dice.below(found.len())];
    let mut line: Value = serde_json::from_str(&lines[at]).expect("JSON");
    edit(&mut line);
    assert_ne!(lines[at], line.to_string());
    lines[at] = line.to_string();
    (forge::file(&lines), at + 1)
}

/// Adds one to an amount.
fn more(amount: &mut Value) {
    let pico: i64 = amount.as_str().and_then(|text| text.parse().ok()).expect("an amount");
    *amount = json!((pico + 1).to_string());
}

#[test]
fn edits_are_found_though_all_digests_and_the_chain_are_made_anew() {
    let scene = Scene::new();
    let mut dice = Dice::of_this_moment();
    // What is not edited passes after it was put together anew, so that what is found below is the edit.
    let anew = forge::file(&forge::lines(&scene.file));
    assert_eq!(anew, scene.file);
    for _ in 0..5 {
        for field in ["spent", "reserved", "overdraft"] {
            let (file, line) = edited(&scene, &mut dice, "balance", "", |line| more(&mut line["balance"][field]));
            scene.found(&format!("more {field}"), file.as_bytes(), &["spent_matches_events: FAIL", &format!("line {line}: balance")]);
        }
        let (file, _) = edited(&scene, &mut dice, "event", "\"state\":\"exact\"", |line| more(&mut line["event"]["body"]["charge"]));
        scene.found("a charge", file.as_bytes(), &["charges_repriced: FAIL", "its lines come to"]);
        let (file, _) = edited(&scene, &mut dice, "event", "\"state\":\"exact\"", |line| {
            let body = &mut line["event"]["body"];
            more(&mut body["charge"]);
            let quantity = body["lines"][0][1].as_u64().expect("a quantity");
            body["lines"][0][1] = json!(quantity + 1);
        });
        scene.found("a charge and its lines", file.as_bytes(), &["FAIL", "line "]);
        let (file, _) = edited(&scene, &mut dice, "event", "\"kind\":\"call.held\"", |line| more(&mut line["event"]["body"]["amount"]));
        scene.found("a bound", file.as_bytes(), &["decisions_recomputed: FAIL", "was admitted"]);
        let (file, _) = edited(&scene, &mut dice, "event", "\"kind\":\"budget.set\"", |line| more(&mut line["event"]["body"]["limit"]));
        scene.found("a budget", file.as_bytes(), &["FAIL", "line "]);
    }
    for field in ["input", "output"] {
        let (file, _) = edited(&scene, &mut dice, "snapshot", "\\\"name\\\":\\\"m1\\\"", |line| {
            let mut card: Value = serde_json::from_str(line["snapshot"]["text"].as_str().expect("a text")).expect("a card");
            more(&mut card["price"][field]);
            line["snapshot"]["text"] = json!(card.to_string());
        });
        scene.found(&format!("the price of {field}"), file.as_bytes(), &["charges_repriced: FAIL", "decisions_recomputed: FAIL", "line "]);
    }
}

#[test]
fn a_chain_that_was_made_anew_is_found_by_a_head_that_was_noted() {
    let mut scene = Scene::new();
    let daemon = &mut scene.history.daemon;
    let noted = daemon.ctl(["audit", "--head"]).ok().stdout.trim().to_owned();
    // The daemon notes it, too: at its start, when asked, and when it ends.
    daemon.stop();
    let at_rest = daemon.ctl(["audit", "--head"]).ok().stdout.trim().to_owned();
    let log = fs::read_to_string(daemon.home().join("logs/aex.log")).expect("the log");
    let heads: Vec<Value> =
        log.lines().filter(|line| line.contains("\"ledger head\"")).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told = |noted: &str| heads.iter().any(|head| format!("{}:{}", head["seq"], head["hash"].as_str().unwrap_or_default()) == noted);
    assert!(told(&noted) && told(&at_rest) && heads.len() > 3, "{noted}, {at_rest}: {heads:?}");
    assert!(heads.iter().all(|head| head["ledger"].as_str().is_some_and(|name| name.len() == 32)), "{heads:?}");

    daemon.ctl(["audit", "--expect-head", &noted, "--expect-head", &at_rest]).ok();
    let zeros = format!("{}:{}", 5, "0".repeat(64));
    let output = daemon.ctl(["audit", "--expect-head", &zeros]);
    assert!(output.code == 1 && output.stdout.contains("event 5: its hash is"), "{output:?}");
    daemon.run();
    let output = daemon.ctl(["audit", "--expect-head", &zeros]);
    assert!(output.code == 1 && output.stdout.contains("the chain was rewritten"), "{output:?}");
    daemon.ctl(["audit", "--expect-head", &noted]).ok();

    let whole = scene.audit("whole", scene.file.as_bytes(), &["--expect-head", &noted]);
    assert_eq!(whole.code, 0, "{whole:?}");
    // A day is added to what the daemon says of itself: nothing contradicts that but the head.
    let lines = forge::lines(&scene.file).into_iter().map(|line| line.replace("\"version\":\"0.1.0\"", "\"version\":\"0.1.1\""));
    let anew = forge::file(&lines.collect::<Vec<_>>());
    assert_eq!(scene.audit("anew", anew.as_bytes(), &[]).code, 0);
    let output = scene.audit("anew", anew.as_bytes(), &["--expect-head", &noted]);
    assert!(output.code == 1 && output.stdout.contains("the chain was rewritten"), "{output:?}");
    let beyond = format!("99999:{}", "0".repeat(64));
    let output = scene.audit("whole", scene.file.as_bytes(), &["--expect-head", &beyond]);
    assert!(output.code == 1 && output.stdout.contains("the event is not there"), "{output:?}");
}

#[test]
fn an_export_that_begins_later_or_tells_one_agent_passes_and_says_what_it_cannot_prove() {
    let scene = Scene::new();
    let daemon = &scene.history.daemon;
    let events = places(&forge::lines(&scene.file), "event").len();
    let now = daemon.ctl(["audit", "--json"]).json()["at"].as_str().expect("an instant").to_owned();
    for since in ["1", "2", &(events / 2).to_string(), &events.to_string(), &(events + 1).to_string(), "2020-01-01", &now] {
        for agent in [None, Some("bot"), Some("poor"), Some("gone"), Some("plain")] {
            let words = agent.map_or(Vec::new(), |name| vec!["--agent", name]);
            let file = daemon.ctl(["export", "--since", since].iter().chain(&words)).ok().stdout;
            let output = scene.audit("part", file.as_bytes(), &[]);
            assert_eq!(output.code, 0, "since {since} of {agent:?}: {output:?}");
            let later = !matches!(since, "1" | "2020-01-01");
            assert_eq!(output.stdout.contains("not checked: the state behind event"), later, "since {since}: {output:?}");
            assert_eq!(output.stdout.contains("that are left out as not of agent"), agent.is_some(), "{agent:?}: {output:?}");
            if agent == Some("poor") {
                assert!(!file.contains("too loud") && !file.contains("\"overdrawn\""), "{file}");
            }
        }
    }
    for since in [(events + 2).to_string(), "2031-01-01T00:00:00+01:00".to_owned()] {
        let output = daemon.ctl(["export", "--since", &since]);
        assert!(output.code == 1 && output.stderr.contains(&format!("the ledger ends with event {events}")), "{output:?}");
    }
    assert_eq!(daemon.ctl(["export", "--agent", "nobody"]).code, 4);
    assert_eq!(daemon.ctl(["export", "--since", "yesterday"]).code, 2);
}

#[test]
fn a_part_that_was_forged_is_found_as_well() {
    let scene = Scene::new();
    let mut dice = Dice::of_this_moment();
    let since = (places(&forge::lines(&scene.file), "event").len() / 2).to_string();
    for words in [vec!["export", "--since", &since], vec!["export", "--agent", "bot"], vec!["export", "--since", &since, "--agent", "bot"]]
    {
        let file = scene.history.daemon.ctl(&words).ok().stdout;
        for _ in 0..30 {
            let at = dice.below(file.len());
            let mut bytes = file.clone().into_bytes();
            bytes[at] ^= 1 << dice.below(8);
            scene.found(&format!("{words:?}, byte {at}"), &bytes, &["line"]);
        }
        let lines = forge::lines(&file);
        let stub = lines.iter().position(|line| line.starts_with("{\"stub\""));
        assert_eq!(stub.is_some(), words.contains(&"--agent"));
        if let Some(at) = stub {
            let mut removed = lines.clone();
            removed.remove(at);
            scene.found("a stub", (removed.join("\n") + "\n").as_bytes(), &[&format!("line {}: event", at + 1)]);
        }
    }
}

#[test]
fn a_file_appears_when_it_is_whole_and_for_its_owner_only() {
    let scene = Scene::new();
    let out = scene.path("out.ndjson");
    let said = scene.history.daemon.ctl(["export", "--json", "--out", &out.display().to_string()]).json();
    let bytes = fs::read(&out).expect("the file");
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let file = out.display().to_string();
    assert_eq!(said, json!({"file": file, "bytes": bytes.len(), "lines": lines, "sha256": Digest::of(&bytes).to_string()}));
    assert_eq!(fs::metadata(&out).expect("the file").permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&out).expect("the file");
    scene.audit("copy", text.as_bytes(), &[]).ok();
    let missing = scene.path("no/such/folder");
    let output = scene.history.daemon.ctl(["export", "--out", &missing.display().to_string()]);
    assert!(output.code == 1 && output.stderr.contains("cannot make"), "{output:?}");
    let output = scene.history.daemon.ctl(["export", "--agent", "nobody", "--out", &scene.path("none").display().to_string()]);
    assert_eq!((output.code, scene.path("none").exists()), (4, false), "{output:?}");
    let left = fs::read_dir(scene.history.daemon.scratch()).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".none")), "a draft was left");
    let output = scene.history.daemon.ctl(["audit", "--file", &missing.display().to_string()]);
    assert!(output.code == 1 && output.stderr.contains("cannot open"), "{output:?}");
}

#[test]
fn no_file_is_replaced_and_what_is_no_export_is_told_in_one_line() {
    let mut scene = Scene::new();
    let (there, dangling) = (scene.path("there"), scene.path("dangling"));
    fs::write(&there, "mine").expect("write a file");
    symlink(scene.path("nothing"), &dangling).expect("make a link");
    for running in [true, false] {
        if !running {
            scene.history.daemon.stop();
        }
        for file in [there.as_path(), dangling.as_path(), scene.history.daemon.scratch(), Path::new("/dev/null")] {
            let output = scene.history.daemon.ctl(["export", "--out", &file.display().to_string()]);
            let said = output.stderr.contains("exists already") && output.stderr.contains("hint: choose another name");
            assert!(output.code == 1 && said, "{}: {output:?}", file.display());
        }
        let new = scene.path(&format!("new {running}")).display().to_string();
        let output = scene.history.daemon.ctl(["export", "--out", &new]).ok();
        assert!(output.stdout.is_empty() && output.stderr.contains(&format!("{new}: ")) && output.stderr.contains("sha256"), "{output:?}");
    }
    assert_eq!(fs::read(&there).expect("the file"), b"mine");
    assert!(!scene.path("nothing").exists());
    let crlf = scene.file.replace('\n', "\r\n");
    for (bytes, why) in [
        (b"root:x:0:0:\n".to_vec(), "its first line is not that of an export"),
        (fs::read(scene.history.daemon.home().join("ledger.db")).expect("the ledger"), "its first line"),
        (format!("\u{feff}{}", scene.file).into_bytes(), "byte order mark"),
        (crlf.into_bytes(), "CRLF"),
    ] {
        let output = scene.audit("foreign", &bytes, &[]);
        let said = output.stderr.contains("foreign is no export of aexd: ") && output.stderr.contains(why);
        assert!(output.code == 1 && said && output.stdout.is_empty(), "{why}: {output:?}");
    }
}
