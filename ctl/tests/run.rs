//! `aexctl run` as a process, against a daemon that says what the test wants: exit status, signals, process tree, connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "a test may fail loudly")]

use aex_proto::daemon::{Hello, PROTOCOL};
use aex_proto::frame;
use aex_proto::method::{self, DaemonHello, Verb};
use aex_proto::rpc::{ErrorObject, Fault, Id, Incoming, Request, Response};
use aex_proto::run::{RunAttached, RunClose, RunEnd, RunEnded, RunId, RunOpened, RunSummary};
use aex_proto::value::{AccountId, NewToken, Pico};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const RUN: RunId = RunId::new(AccountId::new(9));
const DEADLINE: Duration = Duration::from_secs(20);

/// A request that the fake daemon got, with the connection that it came on.
struct Got {
    verb: Verb,
    request: Request,
    stream: UnixStream,
}

struct Fake {
    home: tempfile::TempDir,
    got: mpsc::Receiver<Got>,
}

impl Fake {
    fn start() -> Fake {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("aexd.sock")).unwrap();
        let (tell, got) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, tell) = (stream.unwrap(), tell.clone());
                std::thread::spawn(move || serve(&stream, &tell));
            }
        });
        Fake { home, got }
    }

    fn wait(&self, verb: Verb) -> Got {
        loop {
            let got = self.got.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("the daemon was never asked for {verb:?}"));
            if got.verb == verb {
                return got;
            }
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aexctl"));
        command.env("AEX_HOME", self.home.path()).env("GROQ_API_KEY", "real").arg("run").args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn script(&self, script: &str) -> Command {
        self.command(&["--", "sh", "-c", script])
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }
}

fn serve(stream: &UnixStream, tell: &mpsc::Sender<Got>) {
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return };
        let Incoming::One(Ok(request)) = Incoming::parse(line.as_bytes()) else { panic!("{line}") };
        let verb = Verb::parse(&request.method).unwrap();
        let response = answer(verb, request.id.clone().unwrap());
        { stream }.write_all(&frame::line(&response).unwrap()).ok();
        tell.send(Got { verb, request, stream: stream.try_clone().unwrap() }).ok();
    }
}

fn answer(verb: Verb, id: Id) -> Response {
    match verb {
        Verb::DaemonHello => {
            let hello = Hello { version: "0".to_owned(), protocol: PROTOCOL, pid: 1, port: 9000, epoch: 1, home: String::new() };
            Response::reply::<DaemonHello>(id, &hello)
        }
        Verb::RunOpen => {
            let opened = RunOpened {
                run: RUN,
                account: RUN.account(),
                agent: "default".to_owned(),
                token: NewToken::new("aex_t".to_owned()),
                expires_at: None,
                origin: "http://127.0.0.1:9000".to_owned(),
                openai_base_url: "http://127.0.0.1:9000/v1".to_owned(),
                provider_key_variables: vec![],
            };
            Response::reply::<method::RunOpen>(id, &opened)
        }
        Verb::RunAttach => Response::reply::<method::RunAttach>(id, &RunAttached { run: RUN, origin: "http://127.0.0.1:9000".to_owned() }),
        Verb::RunClose => {
            let summary = RunSummary {
                run: RUN,
                agent: "default".to_owned(),
                calls: 12,
                tokens: 3456,
                input_tokens: 3000,
                output_tokens: 456,
                cost_pico: Pico::new(12_300_000_000),
                cost_usd: "0.0123".to_owned(),
                estimated: 0,
                worst_case: 0,
                denials: 1,
                ended: None,
            };
            Response::reply::<method::RunClose>(id, &summary)
        }
        _ => Response::error(id, ErrorObject::fault(Fault::Denied, "not in this test")),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts a command and waits for the first line that it prints.
fn started(mut command: Command) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    (child, out, line.trim().to_owned())
}

fn signal(pid: &str, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap().success());
}

fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[track_caller]
fn ends(words: &[&str], status: i32) {
    let fake = Fake::start();
    let output = fake.run(words);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {}", text(&output.stderr));
}

#[test]
fn the_exit_status_is_the_commands() {
    ends(&["--", "sh", "-c", "exit 7"], 7);
    ends(&["sh", "-c", "exit 0"], 0);
    ends(&["--", "sh", "-c", "kill -9 $$"], 137);
    ends(&["--", "/no/such/command"], 127);
    ends(&["--", "/"], 126);
}

#[test]
fn without_a_daemon_it_is_125_with_the_next_command() {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aexctl")).env("AEX_HOME", home.path()).args(["run", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).ends_with("hint: aexctl daemon start\n"), "{}", text(&output.stderr));
}

#[test]
fn stdout_is_the_commands_alone_and_the_summary_is_on_stderr() {
    let fake = Fake::start();
    let output = fake.run(&["--", "sh", "-c", "echo $OPENAI_API_KEY $GROQ_API_KEY $AEX_RUN_ID; echo e >&2; exit 3"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("aex_t aex_t run_9\n", Some(3)));
    assert_eq!(text(&output.stderr), "e\naex: 12 calls, 3,456 tokens, $0.0123, 1 denied\n");
    let close: RunClose = fake.wait(Verb::RunClose).request.params().unwrap();
    assert_eq!(close.exit_status, Some(3));
    let mut json = Command::new(env!("CARGO_BIN_EXE_aexctl"));
    let output = json.env("AEX_HOME", fake.home.path()).args(["--json", "run", "true"]).output().unwrap();
    let summary: RunSummary = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(summary.calls, 12);
}

#[test]
fn a_signal_to_aexctl_reaches_the_command() {
    let fake = Fake::start();
    let (child, _out, _) = started(fake.script("trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"));
    signal(&child.id().to_string(), "TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(42));
}

#[test]
fn the_command_has_the_signal_mask_that_aexctl_was_given() {
    let fake = Fake::start();
    let output = fake.run(&["--", "grep", "SigBlk", "/proc/self/status"]);
    assert_eq!(text(&output.stdout).split_whitespace().last(), Some("0000000000000000"));
}

#[test]
fn a_run_that_is_ended_from_elsewhere_takes_its_whole_tree_along_and_says_why() {
    let fake = Fake::start();
    // A grandchild in a session of its own, whose parent has gone, and which ignores TERM when it can.
    let (child, mut out, pid) = started(fake.script("(setsid sh -c 'echo $$; exec sleep 60' &) ; sleep 60"));
    assert!(runs(&pid));
    let mut stream = fake.wait(Verb::RunOpen).stream;
    let ended = RunEnded { run: RUN, reason: RunEnd::Killed, message: "killed by uid 0: too dear".to_owned() };
    stream.write_all(&frame::line(&Request::notice::<method::RunEnded>(&ended).unwrap()).unwrap()).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert!(text(&output.stderr).starts_with("aex: the run was ended: killed by uid 0: too dear\n"), "{}", text(&output.stderr));
    assert!(!runs(&pid));
}

#[test]
fn a_process_that_ignores_term_is_killed_after_the_grace() {
    let fake = Fake::start();
    let (child, _out, _) = started(fake.script("trap '' TERM; echo ready; while :; do sleep 0.05; done"));
    let mut stream = fake.wait(Verb::RunOpen).stream;
    let ended = RunEnded { run: RUN, reason: RunEnd::Deleted, message: "deleted".to_owned() };
    stream.write_all(&frame::line(&Request::notice::<method::RunEnded>(&ended).unwrap()).unwrap()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(137));
}

#[test]
fn the_run_is_attached_again_after_the_daemon_was_restarted() {
    let fake = Fake::start();
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let (child, _out, _) = started(fake.command(&["--stop-on-budget", "--", "sh", "-c", script]));
    fake.wait(Verb::RunOpen).stream.shutdown(std::net::Shutdown::Both).unwrap();
    let attach = fake.wait(Verb::RunAttach);
    assert_eq!(attach.request.params.unwrap().to_string(), r#"{"run":"run_9","stop_on_budget":true}"#);
    signal(&child.id().to_string(), "TERM");
    fake.wait(Verb::RunClose);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.signal().is_none() && output.status.success());
    let said = text(&output.stderr);
    assert!(said.starts_with("aex: the daemon is gone; calls fail until it is back\naex: the daemon is back\naex: 12 calls"), "{said}");
}
