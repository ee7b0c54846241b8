//! The disk below the ledger: full, limited, read-only. Calls get 503 and nothing is lost or charged twice; when there is room
//! again, calls pass again, without a restart.
//!
//! A small file system is a tmpfs in a user and mount namespace of the daemon's own. Where the kernel refuses such namespaces this
//! is said on standard error, and a limit on the size of files stands in, as it does for disks that refuse writes in other ways.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use aex_tests::ask;
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon, output};
use aex_tests::ledger::{self, audited, settled_and_audited};
use aex_tests::provider::Provider;
use serde_json::json;

const CLIENTS: usize = 6;
/// Room on the small file system, in bytes.
const ROOM: u64 = 4 << 20;

/// Namespaces and a mount of our own; the words behind the script are what it becomes.
const ALONE: [&str; 5] = ["unshare", "--user", "--map-root-user", "--mount", "--"];

fn has_namespaces() -> bool {
    let [program, words @ ..] = ALONE;
    let tried = Command::new(program).args(words).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    let works = tried.as_ref().is_ok_and(|output| output.status.success());
    if !works {
        // Through the standard error's lock: eprintln's text would be captured, and nobody would know.
        let said = writeln!(io::stderr(), "NO USER NAMESPACES HERE: a limit on the size of files stands in for a small disk ({tried:?})");
        drop(said);
    }
    works
}

/// The script that mounts a small file system on a folder, does something, and becomes what it is given.
fn on_small_disk(folder: &Path, then: &str) -> Vec<String> {
    let script = format!("mount -t tmpfs -o size={ROOM},mode=700 tmpfs '{0}' && {then} exec \"$@\"", folder.display());
    ALONE.iter().map(ToString::to_string).chain(["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]).collect()
}

/// How the disk of a daemon is taken away and given back.
enum Disk {
    /// A tmpfs, mounted on a folder as the daemon sees it.
    Small(PathBuf),
    /// A limit on the size of its files.
    Limited(PathBuf),
}

impl Disk {
    /// The folder, as this process sees it.
    fn seen(&self, daemon: &Daemon) -> PathBuf {
        match self {
            Disk::Small(folder) => {
                let root = PathBuf::from(format!("/proc/{}/root", daemon.pid()));
                root.join(folder.strip_prefix("/").expect("a whole path"))
            }
            Disk::Limited(folder) => folder.clone(),
        }
    }

    #[track_caller]
    fn take(&self, daemon: &Daemon) {
        match self {
            Disk::Small(_) => {
                let mut filler = fs::File::create(self.seen(daemon).join("filler")).expect("make the filler");
                while filler.write_all(&[0; 4096]).is_ok() {}
            }
            Disk::Limited(folder) => {
                let size = fs::metadata(folder.join("ledger.db-wal")).expect("the log's size").len();
                // A backup has to be beyond it, too, however long the log is by now.
                limit(daemon, &size.min(65_536).to_string());
            }
        }
    }

    #[track_caller]
    fn give(&self, daemon: &Daemon) {
        match self {
            Disk::Small(_) => fs::remove_file(self.seen(daemon).join("filler")).expect("remove the filler"),
            Disk::Limited(_) => limit(daemon, "unlimited"),
        }
    }
}

#[track_caller]
fn limit(daemon: &Daemon, bytes: &str) {
    let mut command = Command::new("prlimit");
    // The soft limit alone: what is lowered hard does not come back.
    output({
        command.args(["--pid", &daemon.pid().to_string(), &format!("--fsize={bytes}:")]);
        command
    })
    .ok();
}

/// Ends the clients when it is dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes the disk away in the middle of a load and gives it back, twice.
#[track_caller]
fn taken_under_load(is_small: bool, durability: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    let provider = Provider::start();
    let config = Config::new(&provider).env("AEX_DB_PATH", path.join("ledger.db").to_str().expect("a path of UTF-8"));
    let mut config = config.aexd_yaml(&format!("durability: {durability}\n"));
    let disk = if is_small { Disk::Small(path.clone()) } else { Disk::Limited(path.clone()) };
    if is_small {
        config = config.under(on_small_disk(&path, ""));
    }
    let daemon = Daemon::start_with(config);
    let token = daemon.agent("bot", &[]);
    let (stop, passed, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (daemon, token, stop, passed, refused) = (&daemon, &token, &stop, &passed, &refused);
            scope.spawn(move || {
                let body = ask::with(ask::of_length(10 + number), &json!({"stream": number % 2 == 0}));
                while !stop.load(Ordering::Relaxed) {
                    let answer = client::post_json(&daemon.chat_url(), token, &body);
                    match (answer.status, answer.code().as_str()) {
                        (200, _) => passed.fetch_add(1, Ordering::Relaxed),
                        (503, "ledger_unavailable") => refused.fetch_add(1, Ordering::Relaxed),
                        _ => panic!("{answer}"),
                    };
                }
            });
        }
        // However this ends, the clients do.
        let _stop = Stop(&stop);
        let more = |count: &AtomicUsize, what: &str| {
            let before = count.load(Ordering::Relaxed);
            ledger::until(what, || (count.load(Ordering::Relaxed) >= before + 20).then_some(()));
        };
        for _ in 0..2 {
            more(&passed, "calls that pass");
            disk.take(&daemon);
            more(&refused, "calls that are refused");
            let health = daemon.rpc("daemon.status", &json!({}));
            assert_eq!(health["state"], "unhealthy", "{health}");
            assert_eq!(client::get(&format!("{}/ready", daemon.url()), "").status, 503);
            let backup = disk.seen(&daemon).join("backup.db");
            let told = path.join("backup.db");
            let failed = daemon.ctl(["backup", told.to_str().expect("a path")]);
            assert!(failed.code == 1 && !backup.exists(), "{failed:?}");
            disk.give(&daemon);
        }
        more(&passed, "calls that pass again");
    });
    let books = settled_and_audited(&daemon, &provider);
    // A call that was answered is charged, once, by what the provider bills.
    assert_eq!((books.exact, books.worst_case), (passed.load(Ordering::Relaxed), 0), "{books:?}");
    let left = fs::read_dir(disk.seen(&daemon)).expect("list the disk");
    let left: Vec<_> = left.map(|entry| entry.expect("an entry").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn a_disk_that_fills_up_under_load_loses_nothing_and_calls_pass_again_when_there_is_room() {
    taken_under_load(has_namespaces(), "overlap");
}

#[test]
fn a_disk_that_refuses_to_write_under_load_loses_nothing_and_calls_pass_again_when_it_does() {
    taken_under_load(false, "overlap");
    taken_under_load(false, "full");
}

#[test]
fn a_read_only_disk_is_refused_at_the_start_by_its_name() {
    if !has_namespaces() {
        return unwritable_folder();
    }
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    assert_eq!(client::post_json(&daemon.chat_url(), &token, &ask::chat()).status, 200);
    daemon.stop();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = daemon.home();
    let then = format!("cp '{}/ledger.db' '{1}' && mount -o remount,ro '{1}' &&", home.display(), folder.path().display());
    let words = on_small_disk(folder.path(), &then);
    daemon.set_config(|config| config.env("AEX_DB_PATH", folder.path().join("ledger.db").to_str().expect("a path of UTF-8")).under(words));
    refused(&mut daemon, &["ledger: ", folder.path().to_str().expect("a path"), "Read-only file system"]);
}

/// A folder that nobody may write to; it holds back all but the superuser.
#[track_caller]
fn unwritable_folder() {
    let provider = Provider::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("ledger.lock")).expect("make a folder");
    let path = folder.path().join("ledger.db");
    let mut daemon = Daemon::prepare(Config::new(&provider).env("AEX_DB_PATH", path.to_str().expect("a path of UTF-8")));
    refused(&mut daemon, &["ledger: ", "ledger.lock", "Is a directory"]);
}

#[track_caller]
fn refused(daemon: &mut Daemon, says: &[&str]) {
    let Err(refused) = daemon.try_run() else { panic!("it started") };
    assert_eq!(refused.code, 1, "{refused:?}");
    let error = refused.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{refused:?}"));
    for piece in says {
        assert!(error.contains(piece), "{piece}: {error}");
    }
}

#[test]
fn a_disk_without_room_is_refused_at_the_start_and_the_ledger_is_as_it_was() {
    let provider = Provider::start();
    let mut daemon = Daemon::start(&provider);
    let token = daemon.agent("bot", &[]);
    assert_eq!(client::post_json(&daemon.chat_url(), &token, &ask::chat()).status, 200);
    daemon.stop();
    let before = fs::read(daemon.home().join("ledger.db")).expect("read the ledger");
    for limit in ["--fsize=2000:", "--fsize=6000:"] {
        daemon.set_config(|config| config.under(["prlimit", limit]));
        refused(&mut daemon, &["ledger: ", "ledger.db: is the disk full"]);
        assert_eq!(fs::read(daemon.home().join("ledger.db")).expect("read the ledger"), before);
    }
    daemon.set_config(|config| config.under(Vec::<String>::new()));
    daemon.run();
    assert_eq!(client::post_json(&daemon.chat_url(), &token, &ask::chat()).status, 200);
    settled_and_audited(&daemon, &provider);
}

#[test]
fn a_migration_without_room_leaves_the_ledger_as_it_was() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ledger/schema-1/ledger.db");
    let provider = Provider::start();
    let mut daemon = Daemon::prepare(Config::new(&provider));
    let path = daemon.home().join("ledger.db");
    fs::copy(&sample, &path).expect("copy the sample");
    for limit in ["--fsize=40000:", "--fsize=60000:"] {
        daemon.set_config(|config| config.under(["prlimit", limit]));
        refused(&mut daemon, &["from schema 1 to ", "it is as it was"]);
        assert_eq!(fs::read(&path).expect("read the ledger"), fs::read(&sample).expect("read the sample"));
    }
    daemon.set_config(|config| config.under(Vec::<String>::new()));
    daemon.run();
    audited(&daemon);
}
