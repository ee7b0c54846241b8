//! What systemd sees of the daemon: its units, and what it says on the notify socket. The socket here is the test's own.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test may fail loudly, and says what it could not check")]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aex_tests::daemon::{Config, Daemon, Output, binary, output};
use aex_tests::lock::Lock;
use aex_tests::provider::Provider;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The longest wait for a notification.
const PATIENCE: Duration = Duration::from_secs(20);
/// What systemd would be told to expect: WatchdogSec of a fifth of a second.
const WATCHDOG_USEC: &str = "200000";

/// A daemon that this test alone has started, and the other end of its notify socket.
struct Unit {
    daemon: Daemon,
    child: Child,
    socket: UnixDatagram,
}

impl Unit {
    #[track_caller]
    fn start(provider: &Provider) -> Self {
        let daemon = Daemon::prepare(Config::new(provider));
        let path = daemon.scratch().join("systemd");
        let socket = UnixDatagram::bind(&path).expect("bind the notify socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("set the deadline");
        let mut command = daemon.command("aexd");
        command.arg("serve").arg("--home").arg(daemon.home()).args(["--port", "0"]);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG_USEC);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("start aexd");
        Self { daemon, child, socket }
    }

    /// The next message, as its lines.
    #[track_caller]
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("a notification before the deadline");
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    /// The next message that is no heartbeat.
    #[track_caller]
    fn news(&self) -> Vec<String> {
        loop {
            let message = self.next();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signal the daemon");
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // It may have ended; the test's own outcome counts.
        let _ = self.child.kill().and_then(|()| self.child.wait()).is_ok();
    }
}

#[test]
fn systemd_is_told_of_readiness_reloads_life_and_the_end() {
    let provider = Provider::start();
    let mut unit = Unit::start(&provider);
    let ready = unit.news();
    assert!(
        ready.first().is_some_and(|line| line == "READY=1") && ready.iter().any(|line| line.starts_with("STATUS=listening on ")),
        "{ready:?}"
    );
    for _ in 0..3 {
        assert_eq!(unit.next(), ["WATCHDOG=1"]);
    }

    unit.signal(Signal::SIGHUP);
    let reloading = unit.news();
    assert_eq!(reloading.first().map(String::as_str), Some("RELOADING=1"));
    // systemd ties the READY that follows to this reload by its time.
    let at = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).and_then(|text| text.parse::<u64>().ok());
    assert!(at.is_some_and(|at| at > 0), "{reloading:?}");
    assert_eq!(unit.news(), ["READY=1"]);

    // A configuration that is wrong says so, and is no end of the service.
    unit.daemon.write_models("models: [");
    unit.signal(Signal::SIGHUP);
    assert_eq!(unit.news().first().map(String::as_str), Some("RELOADING=1"));
    assert!(unit.news().iter().any(|line| line.starts_with("STATUS=the configuration is wrong")));
    assert_eq!(unit.news(), ["READY=1"]);
    assert_eq!(unit.next(), ["WATCHDOG=1"]);

    unit.signal(Signal::SIGTERM);
    assert_eq!(unit.news(), ["STOPPING=1"]);
    assert!(unit.child.wait().expect("the daemon ends").success());
}

#[test]
fn a_signal_on_the_heels_of_readiness_ends_the_daemon_in_good_order() {
    let provider = Provider::start();
    for _ in 0..5 {
        let mut unit = Unit::start(&provider);
        assert_eq!(unit.next().first().map(String::as_str), Some("READY=1"));
        unit.signal(Signal::SIGTERM);
        assert_eq!(unit.news(), ["STOPPING=1"]);
        assert!(unit.child.wait().expect("the daemon ends").success());
    }
}

#[test]
fn a_daemon_whose_ledger_does_not_answer_is_silent() {
    let provider = Provider::start();
    let unit = Unit::start(&provider);
    unit.news();
    assert_eq!(unit.next(), ["WATCHDOG=1"]);
    let lock = Lock::take(&unit.daemon.home());
    // A beat that was under way may still come; then none does for five intervals.
    unit.socket.set_nonblocking(true).expect("look only");
    let mut buffer = [0; 4096];
    while unit.socket.recv(&mut buffer).is_ok() {}
    unit.socket.set_nonblocking(false).expect("wait again");
    unit.socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set the deadline");
    let heard = (0..3).take_while(|_| unit.socket.recv(&mut buffer).is_ok()).count();
    assert!(heard <= 1, "{heard} beats while the ledger was locked");
    lock.release();
    unit.socket.set_read_timeout(Some(PATIENCE)).expect("set the deadline");
    assert_eq!(unit.next(), ["WATCHDOG=1"]);
}

/// `aexctl daemon install` in a home of its own.
#[track_caller]
fn install(home: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary("aexctl"));
    command.env_clear().env("HOME", home).args(["daemon", "install"]).args(args);
    output(command)
}

#[test]
fn a_user_unit_is_installed_where_systemd_looks_and_printed_when_asked() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let path = home.path().join(".config/systemd/user/aexd.service");
    let printed = install(home.path(), &["--print"]).ok();
    assert!(!path.exists() && printed.stderr.is_empty(), "{printed:?}");
    let start = format!("ExecStart=\"{}\" serve", binary("aexd").display());
    for line in [start.as_str(), "Type=notify", "WatchdogSec=30", "ExecReload=/bin/kill -HUP $MAINPID", "[Install]"] {
        assert!(printed.stdout.lines().any(|told| told == line), "{line}: {}", printed.stdout);
    }
    for _ in 0..2 {
        let said = install(home.path(), &[]).ok();
        assert_eq!(said.stdout, format!("installed {}\n", path.display()));
        assert_eq!(said.stderr, "Next: systemctl --user daemon-reload && systemctl --user enable --now aexd\n");
        assert_eq!(std::fs::read_to_string(&path).expect("the unit"), printed.stdout);
    }
}

/// `systemd-analyze verify` on a unit; `None` when this machine has no such tool, or no place for it to work in.
#[track_caller]
fn verify(unit: &Path, scope: &str) -> Option<Output> {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", scope, "--man=no"]).arg(unit);
    // A user manager of its own wants a folder for its sockets.
    let runtime = unit.parent().expect("the unit's folder");
    command.env("XDG_RUNTIME_DIR", runtime).env("SYSTEMD_LOG_LEVEL", "warning").stdin(Stdio::null());
    let ran = command.output().ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Output { code: ran.status.code().unwrap_or(-1), stdout: text(&ran.stdout), stderr: text(&ran.stderr) })
}

#[test]
fn systemd_takes_both_units() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // The system's unit must not lie in a home, so that the programs go where it can see them.
    let bin = Path::new("/tmp").join(folder.path().file_name().expect("a name")).join("bin");
    std::fs::create_dir_all(&bin).expect("make a folder");
    for program in ["aexd", "aexctl"] {
        std::fs::copy(binary(program), bin.join(program)).expect("copy a program");
    }
    for (scope, args) in [("--user", &["--print"][..]), ("--system", &["--system", "--print"])] {
        let mut command = Command::new(bin.join("aexctl"));
        command.env_clear().env("HOME", folder.path()).args(["daemon", "install"]).args(args);
        let unit = folder.path().join("aexd.service");
        std::fs::write(&unit, output(command).ok().stdout).expect("write the unit");
        let Some(verified) = verify(&unit, scope) else {
            eprintln!("NOT CHECKED: there is no systemd-analyze here");
            continue;
        };
        // The machine's own units may have faults; ours must have none.
        let ours: Vec<&str> = verified.stderr.lines().filter(|line| line.contains("aexd")).collect();
        assert!(ours.is_empty(), "{scope}: {verified:?}");
        if verified.code != 0 {
            eprintln!("NOT CHECKED as a whole, {scope}: {}", verified.stderr);
        }
    }
    std::fs::remove_dir_all(bin.parent().expect("its folder")).ok();
}
