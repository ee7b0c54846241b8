//! `aexctl daemon`: its start, its end, its health.

use super::{Context, init, model, unit};
use crate::cli::Daemon as Verb;
use crate::client::{self, Client};
use crate::clock::Deadline;
use crate::exit::{Attempt, Exit, Failure};
use crate::units::{count, instant, span};
use crate::view::Paint;
use crate::{aexd, spawn};
use aex_core::paths::Paths;
use aex_proto::daemon::{DaemonState, DaemonStatus, Hello};
use aex_proto::method::{DaemonStop, Nothing};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a start may take: recovery reads what the ledger left open.
const START: Duration = Duration::from_secs(60);
/// How long the daemon may take to exit once it has drained.
const EXIT: Duration = Duration::from_secs(15);
/// How often a wait looks again.
const STEP: Duration = Duration::from_millis(20);
/// Lines of the daemon's output that are shown when it does not start.
const LAST_LINES: usize = 10;

pub(super) fn run(context: &Context<'_>, verb: &Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Start { port, foreground } => start(context, *port, *foreground),
        Verb::Stop => stop(context),
        Verb::Reload => model::reload(context),
        Verb::Status => status(context),
        Verb::Install { system, print } => unit::run(context, *system, *print),
    }
}

fn start(context: &Context<'_>, port: Option<u16>, foreground: bool) -> Result<Exit, Failure> {
    match context.connect() {
        Ok(client) => {
            let hello = client.hello();
            let message = format!("the daemon is already running: pid {}, port {}", hello.pid, hello.port);
            return Err(Failure::new(message).hint("aexctl daemon status"));
        }
        Err(failure) if client::running_pid(&context.paths).is_some() => return Err(failure.with(Exit::Failed)),
        Err(_) => {}
    }
    if init::is_fresh(&context.paths) {
        init::first(context)?;
    }
    let mut command = aexd::command("serve", context.home.as_deref());
    if let Some(port) = port {
        command.arg("--port").arg(port.to_string());
    }
    if foreground {
        return Err(command.arg("--log-stderr").exec()).attempt(|| "run aexd".to_owned()).map_err(aexd::missing);
    }
    let (hello, warnings) = detach(&context.paths, &mut command, &context.paths.log_dir.join("daemon.out"))?;
    for warning in warnings {
        context.view.note(&warning);
    }
    context.view.show(&hello, |_| {
        let place = format!("http://127.0.0.1:{}", hello.port);
        format!("Daemon started: pid {}, {place}\nLog: {}", hello.pid, context.paths.log_dir.join("aex.log").display())
    })?;
    Ok(Exit::Done)
}

/// Starts the daemon in a session of its own and waits until it says that it is ready. Who it is, and what it warns of.
fn detach(paths: &Paths, command: &mut Command, log: &Path) -> Result<(Hello, Vec<String>), Failure> {
    DirBuilder::new().recursive(true).mode(0o700).create(&paths.log_dir).attempt(|| format!("make {}", paths.log_dir.display()))?;
    let open = |log: &Path| OpenOptions::new().create(true).append(true).mode(0o600).open(log);
    let mut out = open(log).attempt(|| format!("open {}", log.display()))?;
    let begin = out.seek(SeekFrom::End(0)).attempt(|| format!("read {}", log.display()))?;
    let second = out.try_clone().attempt(|| format!("open {}", log.display()))?;
    let notify = Notify::bind()?;
    command.env("NOTIFY_SOCKET", &notify.path).current_dir("/").stdin(Stdio::null()).stdout(out).stderr(second);
    let mut child = spawn::with_new_session(command).spawn().attempt(|| "start aexd".to_owned()).map_err(aexd::missing)?;
    match notify.wait_ready(&mut child)? {
        Start::Ready => {
            let warnings = said(log, begin).into_iter().filter(|line| line.starts_with("warning: ")).collect();
            Client::connect(paths).map(|client| (client.hello().clone(), warnings))
        }
        Start::Ended => Err(Failure::new(not_started(log, begin)).hint(format!("the whole output is in {}", log.display()))),
        Start::Late => {
            child.kill().ok();
            child.wait().ok();
            Err(Failure::new(format!("the daemon was not ready within {}; it was stopped", span_of(START)))
                .hint(format!("see {}", log.display())))
        }
    }
}

/// How a start went.
enum Start {
    Ready,
    Ended,
    Late,
}

/// The socket on which the daemon says that it is ready, as sd_notify(3) has it.
struct Notify {
    socket: UnixDatagram,
    folder: PathBuf,
    path: PathBuf,
}

impl Notify {
    fn bind() -> Result<Notify, Failure> {
        let template = std::env::temp_dir().join("aexctl-XXXXXX");
        let folder = nix::unistd::mkdtemp(&template).attempt(|| format!("make a folder in {}", std::env::temp_dir().display()))?;
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).attempt(|| format!("bind {}", path.display()))?;
        socket.set_read_timeout(Some(STEP)).attempt(|| format!("wait on {}", path.display()))?;
        Ok(Notify { socket, folder, path })
    }

    fn wait_ready(&self, child: &mut Child) -> Result<Start, Failure> {
        let deadline = Deadline::after(START);
        let mut message = [0; 4096];
        while !deadline.is_over() {
            let ended = child.try_wait().attempt(|| "wait for aexd".to_owned())?.is_some();
            let count = self.socket.recv(&mut message).unwrap_or(0);
            let text = String::from_utf8_lossy(message.get(..count).unwrap_or_default());
            if text.lines().any(|line| line == "READY=1") {
                return Ok(Start::Ready);
            }
            if ended {
                return Ok(Start::Ended);
            }
        }
        Ok(Start::Late)
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// Lines that the daemon has written since.
fn said(log: &Path, begin: u64) -> Vec<String> {
    let mut bytes = Vec::new();
    // What can be read is told; a log that cannot be read hides no failure.
    File::open(log).and_then(|mut file| file.seek(SeekFrom::Start(begin)).and_then(|_| file.read_to_end(&mut bytes))).ok();
    String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// What the daemon said before it ended: its last line is the error, the ones before it the circumstances.
fn not_started(log: &Path, begin: u64) -> String {
    let lines = said(log, begin);
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
    let last: Vec<&str> = last.iter().map(|line| line.trim_start_matches("error: ")).collect();
    match last.as_slice() {
        [only] => format!("the daemon did not start: {only}"),
        [_, ..] => format!("the daemon did not start:\n  {}", last.join("\n  ")),
        [] => "the daemon did not start and said nothing".to_owned(),
    }
}

fn stop(context: &Context<'_>) -> Result<Exit, Failure> {
    let stopping = context.connect()?.call::<DaemonStop>(&Nothing {})?;
    let pid = i32::try_from(stopping.pid).attempt(|| "read the daemon's process id".to_owned())?;
    if stopping.in_flight > 0 {
        context.view.note(&format!("waiting for {}", count(u64::from(stopping.in_flight), "call")));
    }
    let deadline = Deadline::after(Duration::from_millis(stopping.drain_ms).saturating_add(EXIT));
    while alive(pid) {
        if deadline.is_over() {
            return Err(Failure::new(format!("the daemon (pid {pid}) is still running")).hint(format!("kill {pid}")));
        }
        std::thread::sleep(STEP);
    }
    context.view.show(&stopping, |_| format!("Daemon stopped (pid {pid})."))?;
    Ok(Exit::Done)
}

/// Whether a process runs. A zombie has ended; its parent has not looked yet.
fn alive(pid: i32) -> bool {
    let zombie = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
    };
    nix::sys::signal::kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH) && !zombie()
}

fn status(context: &Context<'_>) -> Result<Exit, Failure> {
    let status = context.connect()?.call::<aex_proto::method::DaemonStatus>(&Nothing {})?;
    context.view.show(&status, |paint| text(&status, paint))?;
    Ok(if status.state == DaemonState::Unhealthy { Exit::Failed } else { Exit::Done })
}

fn text(status: &DaemonStatus, paint: Paint) -> String {
    let state = if status.state == DaemonState::Ready { paint.good(status.state.name()) } else { paint.bad(status.state.name()) };
    let mut lines = vec![
        ("Daemon", format!("{state}, aexd {}", status.version)),
        ("Pid", status.pid.to_string()),
        ("Listening", format!("http://{}", status.listen)),
        ("Home", status.home.clone()),
        ("Started", format!("{} ({} ago)", instant(status.started_at), span(status.uptime_ms))),
        ("Durability", status.durability.clone()),
        ("In flight", count(u64::from(status.in_flight), "call")),
        ("Events", status.head_seq.to_string()),
    ];
    for check in &status.checks {
        let verdict = if check.passed { paint.good("ok") } else { paint.bad("FAILED") };
        lines.push(("Check", format!("{}: {verdict}, {}", check.name, check.detail)));
    }
    rows(&lines)
}

/// Lines of `Name: value`, the values below each other.
pub(super) fn rows(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{:<width$} {value}", format!("{name}:"))).collect();
    lines.join("\n")
}

fn span_of(limit: Duration) -> String {
    span(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(super) fn sample() -> DaemonStatus {
    use aex_proto::daemon::Check;
    use aex_proto::value::{Digest, Stamp};
    DaemonStatus {
        state: DaemonState::Ready,
        version: "0.1.0".to_owned(),
        pid: 42,
        port: 9000,
        listen: "127.0.0.1:9000".to_owned(),
        origin: "http://127.0.0.1:9000".to_owned(),
        home: "/h".to_owned(),
        epoch: 3,
        started_at: Stamp::new(1_795_253_580_000_001),
        uptime_ms: 7_500_000,
        durability: "overlap".to_owned(),
        in_flight: 1,
        head_seq: 12,
        head_hash: Digest::ZERO,
        checks: vec![Check { name: "ledger".to_owned(), passed: false, detail: "the disk is full".to_owned() }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_place_and_health() {
        let wanted = "\
Daemon:     ready, aexd 0.1.0
Pid:        42
Listening:  http://127.0.0.1:9000
Home:       /h
Started:    2026-11-21 09:33:00Z (2h 5m ago)
Durability: overlap
In flight:  1 call
Events:     12
Check:      ledger: FAILED, the disk is full";
        assert_eq!(text(&sample(), Paint::PLAIN), wanted);
    }

    fn home() -> tempfile::TempDir {
        tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"))
    }

    fn start(script: &str) -> Failure {
        let home = home();
        let paths = Paths::resolve(|_| None, Some(home.path())).unwrap_or_else(|fault| unreachable!("{fault}"));
        let log = paths.log_dir.join("daemon.out");
        detach(&paths, Command::new("sh").args(["-c", script]), &log).err().unwrap_or_else(|| unreachable!("nobody answers"))
    }

    #[test]
    fn a_daemon_that_ends_at_its_start_says_why() {
        let failure = start("echo 'error: port 9000 is in use by python3 (pid 7)' >&2; exit 1");
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (Exit::Failed, "the daemon did not start: port 9000 is in use by python3 (pid 7)")
        );
        assert_eq!(start("echo a; echo b >&2").message, "the daemon did not start:\n  a\n  b");
        assert_eq!(start("exit 3").message, "the daemon did not start and said nothing");
    }

    #[test]
    fn a_daemon_that_says_ready_is_asked_who_it_is() {
        let say = "import os,socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1\\nSTATUS=listening', os.environ['NOTIFY_SOCKET'])";
        let failure = start(&format!("exec python3 -c \"{say}\""));
        assert_eq!(failure.exit, Exit::Unreachable, "{failure:?}");
    }
}
