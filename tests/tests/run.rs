//! `aexctl run` against the real daemon: the child's environment, its end, and every way in which a run is ended from elsewhere.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use aex_tests::ask::chat;
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon, Output, output};
use aex_tests::ledger::{settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// Prints what it was given, its own pid last, and then waits for its end.
const TELL: &str = "echo $OPENAI_API_KEY; echo $$; exec sleep 1000";

struct House {
    provider: Provider,
    daemon: Daemon,
}

impl House {
    fn new(config: impl FnOnce(Config) -> Config) -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start_with(config(Config::new(&provider)));
        let _token = daemon.agent("default", &[]);
        Self { provider, daemon }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.daemon.command("aexctl");
        command.arg("run").args(args).stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Output {
        output(self.command(args))
    }

    #[track_caller]
    fn status(&self, token: &str) -> u16 {
        client::post_json(&self.daemon.chat_url(), token, &chat()).status
    }

    /// Starts a script in a run and reads the two lines that it prints first.
    #[track_caller]
    fn start(&self, flags: &[&str], script: &str) -> Running {
        let mut command = self.command(&[flags, &["--", "sh", "-c", script]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start aexctl");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = || {
            let mut line = String::new();
            out.read_line(&mut line).expect("a line of the command");
            line.trim().to_owned()
        };
        let (token, pid) = (line(), line());
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        Running { child, out, said, token, pid }
    }
}

struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    said: BufReader<ChildStderr>,
    token: String,
    pid: String,
}

impl Running {
    fn aexctl(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// The next line of aexctl's standard error.
    #[track_caller]
    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("a line of aexctl");
        line.trim().to_owned()
    }

    /// Waits for the end of aexctl: its exit code, and the rest of its standard error.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, String) {
        let (mut rest, mut said) = (String::new(), String::new());
        self.out.read_to_string(&mut rest).expect("the rest of the output");
        self.said.read_to_string(&mut said).expect("the rest of the standard error");
        (self.child.wait().expect("the end of aexctl").code(), said)
    }
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn the_command_gets_the_runs_token_and_addresses_and_no_key_of_a_provider() {
    let house = House::new(|config| config);
    let mut command = house.command(&["--", "env"]);
    for name in ["MOCK_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "OPENAI_BASE_URL"] {
        command.env(name, "of-the-parent");
    }
    command.env("OTHER", "kept").env("http_proxy", "http://127.0.0.1:1");
    let said = output(command);
    assert_eq!(said.code, 0, "{said:?}");
    let given: BTreeMap<&str, &str> = said.stdout.lines().filter_map(|line| line.split_once('=')).collect();
    let (origin, token) = (house.daemon.url(), given["OPENAI_API_KEY"]);
    assert!(token.starts_with("aex_"), "{given:?}");
    let base = format!("{origin}/v1");
    for (name, wanted) in [
        ("OPENAI_BASE_URL", base.as_str()),
        ("AEX_AGENT_TOKEN", token),
        ("AEX_BASE_URL", &origin),
        ("GROQ_BASE_URL", &origin),
        ("GROQ_API_KEY", token),
        ("GROQ_API_BASE", base.as_str()),
        ("CODEX_API_KEY", token),
        ("ANTHROPIC_API_KEY", token),
        ("ANTHROPIC_BASE_URL", &origin),
        ("ANTHROPIC_AUTH_TOKEN", token),
        ("OPENAI_AGENTS_DISABLE_TRACING", "1"),
        ("OTHER", "kept"),
        ("NO_PROXY", "127.0.0.1"),
    ] {
        assert_eq!(given.get(name), Some(&wanted), "{name}");
    }
    assert!(given["AEX_RUN_ID"].starts_with("run_"));
    assert!(!said.stdout.contains("of-the-parent"), "{said:?}");
    assert_eq!(house.status(token), 401);
}

#[test]
fn the_exit_status_and_the_streams_are_the_commands_and_one_line_sums_the_run_up() {
    let house = House::new(|config| config);
    let rows: [(&[&str], i32); 6] = [
        (&["--", "sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "exit 0"], 0),
        (&["--", "sh", "-c", "kill -9 $$"], 137),
        (&["--", "/no/such/command"], 127),
        (&["--", "/"], 126),
        (&["--agent", "nobody", "--", "true"], 125),
    ];
    for (args, code) in rows {
        let said = house.run(args);
        assert_eq!(said.code, code, "{args:?}: {said:?}");
    }
    let call = "import os, urllib.request as r, json
for _ in range(2):
    q = r.Request(os.environ['OPENAI_BASE_URL'] + '/chat/completions', json.dumps({'model': 'm1', 'messages': [{'role': 'user', 'content': 'hello'}]}).encode(), {'authorization': 'Bearer ' + os.environ['OPENAI_API_KEY']})
    print(json.load(r.urlopen(q))['model'])";
    let said = house.run(&["--", "python3", "-c", call]);
    assert_eq!((said.stdout.as_str(), said.stderr.as_str(), said.code), ("m1\nm1\n", "aex: 2 calls, 38 tokens, $0.000066, 0 denied\n", 0));
    let books = settled_and_audited(&house.daemon, &house.provider);
    assert_eq!(books.exact, 2);
    let spent = &house.daemon.rpc("agent.inspect", &json!({"name": "default"}))["budgets"][0]["spent_pico"];
    assert_eq!(spent, "66000000");
}

#[test]
fn a_run_spends_within_its_own_budget_and_that_of_its_agent() {
    let house = House::new(|config| config);
    let wide = house.run(&["--budget", "1000000", "--", "true"]);
    assert!(wide.code == 125 && wide.stderr.contains("above that of agent 'default'"), "{wide:?}");
    let run = house.start(&["--budget", "0.00028"], TELL);
    assert_eq!(house.status(&run.token), 200);
    let denied = client::post_json(&house.daemon.chat_url(), &run.token, &chat());
    assert_eq!((denied.status, denied.code().as_str()), (402, "insufficient_quota"), "{denied}");
    kill(run.aexctl(), Signal::SIGTERM).expect("signal aexctl");
    let (code, said) = run.end();
    assert_eq!(code, Some(143));
    assert!(said.ends_with("aex: 1 call, 19 tokens, $0.000033, 1 denied\n"), "{said}");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_run_that_stops_on_budget_is_ended_by_its_first_denial() {
    let house = House::new(|config| config);
    let run = house.start(&["--budget", "0.00028", "--stop-on-budget"], TELL);
    assert_eq!(house.status(&run.token), 200);
    assert_eq!(house.status(&run.token), 402);
    let pid = run.pid.clone();
    let (code, said) = run.end();
    assert_eq!(code, Some(143));
    assert!(said.contains("aex: the run was ended: ") && said.contains("budget"), "{said}");
    assert!(!is_alive(&pid));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_deleted_agent_takes_the_whole_tree_of_its_runs_along_with_a_reason() {
    let house = House::new(|config| config);
    let _other = house.daemon.agent("bot", &[]);
    // A grandchild in a session of its own, whose parent has gone.
    let script = "echo $OPENAI_API_KEY; (setsid sh -c 'echo $$; exec sleep 1000' &); exec sleep 1000";
    let run = house.start(&["--agent", "bot"], script);
    assert!(is_alive(&run.pid));
    assert_eq!(house.status(&run.token), 200);
    let deleted = house.daemon.ctl(["agent", "delete", "bot", "--json"]).json();
    assert_eq!(deleted["runs_ended"], 1);
    let (token, pid) = (run.token.clone(), run.pid.clone());
    let (code, said) = run.end();
    assert_eq!(code, Some(143));
    assert!(said.contains("aex: the run was ended: the run's agent was deleted"), "{said}");
    assert!(!is_alive(&pid));
    assert_eq!(house.status(&token), 401);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    let house = House::new(|config| config);
    let run = house.start(&["--ttl", "500ms"], TELL);
    let (code, said) = run.end();
    assert_eq!(code, Some(143));
    assert!(said.contains("aex: the run was ended: the run's time is over"), "{said}");
}

#[test]
fn a_killed_aexctl_has_its_token_revoked_after_the_grace() {
    let house = House::new(|config| config.aexd_yaml("run_grace_ms: 300\n"));
    let run = house.start(&[], TELL);
    assert_eq!(house.status(&run.token), 200);
    let (token, orphan) = (run.token.clone(), run.pid.clone());
    kill(run.aexctl(), Signal::SIGKILL).expect("kill aexctl");
    until("the token's end", || (house.status(&token) == 401).then_some(()));
    // Without containment nobody is left to end the orphan but us.
    kill(Pid::from_raw(orphan.parse().expect("a process id")), Signal::SIGKILL).expect("kill the orphan");
    drop(run.end());
    assert_eq!(house.daemon.rpc("status.get", &json!({}))["active_runs"], 0);
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_run_is_attached_again_after_the_daemon_was_killed_and_restarted() {
    let mut house = House::new(|config| config);
    let port = house.daemon.url().rsplit(':').next().expect("a port").to_owned();
    let mut run = house.start(&[], TELL);
    assert_eq!(house.status(&run.token), 200);
    house.daemon.kill9();
    house.daemon.run();
    assert_eq!(run.next_line(), "aex: the daemon is gone; calls fail until it is back");
    let back = run.next_line();
    assert!(back.starts_with("aex: the daemon is back"), "{back}");
    assert_eq!(back.contains("listens on"), !house.daemon.url().ends_with(&format!(":{port}")), "{back}");
    assert_eq!(house.status(&run.token), 200);
    // It is tied to its new connection: the end of its agent reaches it there.
    house.daemon.ctl(["agent", "delete", "default"]).ok();
    let pid = run.pid.clone();
    let (code, said) = run.end();
    assert_eq!(code, Some(143), "{said}");
    assert!(said.starts_with("aex: the run was ended: the run's agent was deleted"), "{said}");
    assert!(!is_alive(&pid));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_run_that_ends_while_a_stream_flows_has_it_cut_and_charged() {
    let house = House::new(|config| config);
    house.provider.script(Script::hold_after(3));
    let curl = "import os, urllib.request as r, json
print('started'); print(os.getpid(), flush=True)
q = r.Request(os.environ['OPENAI_BASE_URL'] + '/chat/completions', json.dumps({'model': 'm1', 'stream': True, 'messages': [{'role': 'user', 'content': 'hello'}]}).encode(), {'authorization': 'Bearer ' + os.environ['OPENAI_API_KEY']})
r.urlopen(q).read()";
    let run = house.start(&[], &format!("exec python3 -c \"{}\"", curl.replace('"', "\\\"")));
    house.provider.wait_for_requests(1);
    kill(run.aexctl(), Signal::SIGTERM).expect("signal aexctl");
    let (code, said) = run.end();
    assert_eq!(code, Some(143));
    assert!(said.contains("aex: 1 call") && said.contains("(1 estimated)"), "{said}");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_paused_agent_opens_no_run() {
    let house = House::new(|config| config);
    house.daemon.ctl(["agent", "pause", "default", "--reason", "night"]).ok();
    let refused = house.run(&["--", "true"]);
    assert!(
        refused.code == 125 && refused.stderr.contains("paused: night") && refused.stderr.contains("aexctl agent resume default"),
        "{refused:?}"
    );
    house.daemon.ctl(["agent", "delete", "default"]).ok();
    let missing = house.run(&["--", "true"]);
    assert!(missing.code == 125 && missing.stderr.contains("hint: aexctl agent create default"), "{missing:?}");
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says why")]
fn the_command_cannot_read_the_keys_that_it_was_not_given_out_of_its_parent() {
    let house = House::new(|config| config);
    let script = r#"echo begun; tr "\0" "\n" </proc/$PPID/environ"#;
    let plain = house.command(&["--", "sh", "-c", script]);
    // Root reads every process by capabilities (ptrace(2), access mode checks); without them, root is a user like any other.
    let mut command = if nix::unistd::Uid::effective().is_root() {
        if Command::new("setpriv").arg("--version").output().is_err() {
            println!("skipped: root may read every process, and there is no setpriv to take that away");
            return;
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set=-sys_ptrace,-sys_admin,-perfmon", "--inh-caps=-sys_ptrace,-sys_admin,-perfmon"])
            .arg(plain.get_program())
            .args(plain.get_args());
        command.env_clear().envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
        command
    } else {
        plain
    };
    command.env("OPENAI_API_KEY", "sk-REAL");
    let output = output(command);
    assert!(output.stdout.contains("begun") && output.stderr.contains("environ"), "{output:?}");
    assert!(!output.stdout.contains("sk-REAL"), "{output:?}");
}
