//! The daemon under test: the real `aexd` and `aexctl` in a temporary home with a cleared environment.
//!
//! The programs come from AEX_BIN_DIR, or from the target folder of the running test. Ready means that `READY=1` and the address
//! came through the notify socket. A daemon that is dropped is killed by its process id.

mod config;
mod control;
mod process;

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub use self::config::Config;
pub use self::control::Control;
pub use self::process::{Output, binary, output};

use self::process::code;

/// The longest wait for the daemon or for a command.
pub const PATIENCE: Duration = Duration::from_secs(20);

const GLANCE: Duration = Duration::from_millis(50);

/// A daemon and its home.
pub struct Daemon {
    // Holds `home`, the notify socket and the daemon's standard error.
    dir: TempDir,
    config: Config,
    running: Option<Running>,
}

struct Running {
    pid: Pid,
    address: String,
    // Locked, so that the calls of several threads can share a daemon.
    exit: Mutex<Receiver<ExitStatus>>,
}

impl Running {
    fn wait(&self, limit: Duration) -> Result<ExitStatus, RecvTimeoutError> {
        self.exit.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(limit)
    }
}

impl Daemon {
    /// Starts one in front of a provider.
    #[must_use]
    #[track_caller]
    pub fn start(provider: &crate::provider::Provider) -> Self {
        Self::start_with(Config::new(provider))
    }

    /// Starts one with this configuration.
    #[must_use]
    #[track_caller]
    pub fn start_with(config: Config) -> Self {
        let mut daemon = Self::prepare(config);
        daemon.run();
        daemon
    }

    /// Only makes the home.
    #[must_use]
    #[track_caller]
    pub fn prepare(config: Config) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let home = dir.path().join("home");
        std::fs::create_dir(&home).expect("make the home");
        config.write(&home);
        Self { dir, config, running: None }
    }

    /// Has the next start go another way.
    pub fn set_config(&mut self, change: impl FnOnce(Config) -> Config) {
        self.config = change(self.config.clone());
    }

    /// Starts it in its home, and waits until it is ready.
    #[track_caller]
    pub fn run(&mut self) {
        if let Err(output) = self.try_run() {
            panic!("aexd ended with {} before it was ready; its standard error:\n{}", output.code, output.stderr);
        }
    }

    /// Starts it in its home; an error when it ends before it is ready.
    #[track_caller]
    pub fn try_run(&mut self) -> Result<(), Output> {
        assert!(self.running.is_none(), "the daemon runs already");
        let socket_path = self.dir.path().join("notify");
        // Left by the run before.
        let _ = std::fs::remove_file(&socket_path).is_ok();
        let notify = UnixDatagram::bind(&socket_path).expect("bind the notify socket");
        notify.set_read_timeout(Some(GLANCE)).expect("set the read deadline");
        let log = self.dir.path().join("stderr");
        let log = OpenOptions::new().create(true).append(true).open(log).expect("open the log");
        let mut command = self.command("aexd");
        if let Some((program, words)) = self.config.under.split_first() {
            command = self.command_of(Path::new(program));
            command.args(words).arg(binary("aexd"));
        }
        command.arg("serve").arg("--home").arg(self.home()).args(["--port", "0"]).args(&self.config.flags);
        command.env("NOTIFY_SOCKET", &socket_path).envs(self.config.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().expect("start aexd");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        let (sender, exit) = channel();
        // The only one to wait for the child; it ends when the child does. Nobody may be left to hear.
        drop(std::thread::spawn(move || child.wait().map(|status| sender.send(status).is_ok())));
        let mut running = Running { pid, address: String::new(), exit: Mutex::new(exit) };
        match ready(&notify, &running) {
            Ok(address) => {
                running.address = address;
                self.running = Some(running);
                Ok(())
            }
            Err(Some(status)) => Err(Output { code: code(status), stdout: String::new(), stderr: self.stderr() }),
            Err(None) => {
                end(&running, Signal::SIGKILL);
                panic!("aexd was not ready within {PATIENCE:?}; its standard error:\n{}", self.stderr());
            }
        }
    }

    /// A program of ours in the cleared environment of this home.
    #[must_use]
    #[track_caller]
    pub fn command(&self, program: &str) -> Command {
        self.command_of(&binary(program))
    }

    fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("AEX_HOME", self.home()).env("HOME", self.dir.path()).env("LANG", "C.UTF-8");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(self.dir.path());
        command
    }

    /// Its home.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The folder around the home, for a test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// All that it wrote to its standard error, over all its starts.
    #[must_use]
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    #[track_caller]
    pub fn url(&self) -> String {
        format!("http://{}", self.current().address)
    }

    /// `http://127.0.0.1:PORT/v1/chat/completions`
    #[must_use]
    #[track_caller]
    pub fn chat_url(&self) -> String {
        format!("{}/v1/chat/completions", self.url())
    }

    /// Its process id.
    #[must_use]
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.current().pid.as_raw()
    }

    /// Its resident memory, in bytes.
    #[must_use]
    #[track_caller]
    pub fn resident(&self) -> u64 {
        let memory = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("the daemon's memory");
        memory.split(' ').nth(1).and_then(|text| text.parse::<u64>().ok()).expect("resident pages") * 4096
    }

    #[track_caller]
    fn current(&self) -> &Running {
        self.running.as_ref().expect("the daemon runs")
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.current().pid, signal).expect("signal the daemon");
    }

    /// Kills it with SIGKILL and waits until it is gone.
    #[track_caller]
    pub fn kill9(&mut self) {
        let running = self.running.take().expect("the daemon runs");
        end(&running, Signal::SIGKILL).expect("a killed process ends");
    }

    /// Ends it with SIGTERM and expects exit code 0.
    #[track_caller]
    pub fn stop(&mut self) {
        let running = self.running.take().expect("the daemon runs");
        let status = end(&running, Signal::SIGTERM);
        let Some(status) = status else {
            let threads = threads(running.pid.as_raw());
            end(&running, Signal::SIGKILL);
            let log = std::fs::read_to_string(self.home().join("logs/aex.log")).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            panic!(
                "aexd did not end within {PATIENCE:?} of SIGTERM; its threads:\n{threads}\nits log, newest first:\n{}\nits standard error:\n{}",
                last.join("\n"),
                self.stderr()
            );
        };
        assert_eq!(code(status), 0, "aexd's standard error:\n{}", self.stderr());
    }

    /// Waits until it ends by itself and answers its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let running = self.current();
        let status = running.wait(PATIENCE).expect("the daemon ends before the deadline");
        self.running = None;
        code(status)
    }

    /// Its exit code when it ends by itself within so long.
    #[track_caller]
    pub fn ended_within(&mut self, limit: Duration) -> Option<i32> {
        let status = self.current().wait(limit).ok()?;
        self.running = None;
        Some(code(status))
    }

    /// Sets a variable of its environment from its next start on, or takes it away.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.config.env.retain(|(known, _)| known != name);
        self.config.env.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// Stops it and starts it again in the same home. The address changes.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    /// Replaces models.yaml; a reload makes it count.
    #[track_caller]
    pub fn write_models(&self, text: &str) {
        std::fs::write(self.home().join("config/models.yaml"), text).expect("write models.yaml");
    }

    /// Replaces policy.yaml; a reload makes it count.
    #[track_caller]
    pub fn write_policy(&self, text: &str) {
        std::fs::write(self.home().join("config/policy.yaml"), text).expect("write policy.yaml");
    }

    /// Replaces permissions.json; a reload makes it count.
    #[track_caller]
    pub fn write_permissions(&self, text: &str) {
        std::fs::write(self.home().join("config/permissions.json"), text).expect("write permissions.json");
    }

    /// Replaces `.env`.
    #[track_caller]
    pub fn write_dotenv(&self, text: &str) {
        write_private(&self.home().join(".env"), text);
    }

    /// A connection to the admin socket.
    #[must_use]
    #[track_caller]
    pub fn control(&self) -> Control {
        Control::open(&self.home().join("aexd.sock"))
    }

    /// Calls an admin method; fails the test on an error.
    #[track_caller]
    pub fn rpc(&self, method: &str, params: &Value) -> Value {
        self.try_rpc(method, params).unwrap_or_else(|error| panic!("{method} {params}: {error}"))
    }

    /// Calls an admin method; its result or its error object.
    #[track_caller]
    pub fn try_rpc(&self, method: &str, params: &Value) -> Result<Value, Value> {
        self.control().call(method, params)
    }

    /// Runs `aexctl` to its end.
    #[track_caller]
    pub fn ctl<Arg: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = Arg>) -> Output {
        let mut command = self.command("aexctl");
        command.args(args);
        output(command)
    }

    /// Creates an agent with 100 USD and a high rate; its token.
    #[must_use]
    #[track_caller]
    pub fn agent(&self, name: &str, flags: &[&str]) -> String {
        self.agent_with(name, "100", 100_000, flags)
    }

    /// Creates an agent; its token.
    #[must_use]
    #[track_caller]
    pub fn agent_with(&self, name: &str, budget_usd: &str, rpm: u32, flags: &[&str]) -> String {
        let rpm = rpm.to_string();
        let created = self.ctl(["agent", "create", name, budget_usd, &rpm, "--json"].iter().chain(flags)).json();
        created["token"].as_str().unwrap_or_else(|| panic!("no token in {created}")).to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Best effort: the test's own outcome counts.
            let _ = end(&running, Signal::SIGKILL).is_some();
        }
        if std::thread::panicking() {
            // Through the standard error's lock: eprintln's text would be captured and cut.
            let shown = writeln!(io::stderr(), "aexd's standard error:\n{}", self.stderr());
            drop(shown);
        }
    }
}

/// The address, once the daemon is ready; its exit status when it ended; nothing when the deadline passed.
fn ready(notify: &UnixDatagram, running: &Running) -> Result<String, Option<ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    let mut said = String::new();
    let mut buffer = [0; 4096];
    while Instant::now() < deadline {
        if let Ok(length) = notify.recv(&mut buffer) {
            said.extend(buffer.iter().take(length).map(|byte| char::from(*byte)));
            said.push('\n');
        } else if let Ok(status) = running.wait(Duration::ZERO) {
            return Err(Some(status));
        }
        let address = said.lines().rev().find_map(|line| line.strip_prefix("STATUS=listening on "));
        if let Some(address) = address.filter(|_| said.lines().any(|line| line == "READY=1")) {
            return Ok(address.trim().to_owned());
        }
    }
    Err(None)
}

/// Signals it and waits for its end; nothing when the deadline passed.
fn end(running: &Running, signal: Signal) -> Option<ExitStatus> {
    // It may have ended by itself; the wait tells.
    let _ = kill(running.pid, signal).is_ok();
    running.wait(PATIENCE).ok()
}

/// What each thread of a process is called, and where in the kernel it waits: the number of a system call with its arguments.
fn threads(pid: i32) -> String {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|entry| entry.path());
    tasks.map(|task| format!("{}: {} {}\n", read(task.join("comm")), read(task.join("wchan")), read(task.join("syscall")))).collect()
}

fn write_private(path: &Path, text: &str) {
    let opened = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    let mut file: File = opened.unwrap_or_else(|fault| panic!("open {}: {fault}", path.display()));
    file.write_all(text.as_bytes()).expect("write a private file");
}
