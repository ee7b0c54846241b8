//! `aexctl tools`: servers added, imported, looked after and called on a running daemon; what becomes of mcp.json, of secrets, of the ledger.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "tools_cli/doubts.rs"]
mod doubts;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use aex_tests::ask::chat;
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon, binary};
use aex_tests::ledger::{audited, until};
use aex_tests::provider::Provider;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const ALLOW: &str = r#"{"global_policy": "deny", "rules": {"calculate_sum": "allow", "delete_system32": "deny"}}"#;

struct Bench {
    daemon: Daemon,
    _provider: Provider,
}

impl Bench {
    /// A daemon with these files in its configuration, which allows the demo's tool.
    #[track_caller]
    fn start(mcp: Option<&str>, change: impl FnOnce(Config) -> Config) -> Bench {
        let provider = Provider::start();
        let mut daemon = Daemon::prepare(change(Config::new(&provider)));
        write(&daemon, "permissions.json", ALLOW);
        if let Some(mcp) = mcp {
            write(&daemon, "mcp.json", mcp);
        }
        daemon.run();
        Bench { daemon, _provider: provider }
    }

    fn mcp(&self) -> PathBuf {
        self.daemon.home().join("config/mcp.json")
    }

    fn mcp_text(&self) -> String {
        fs::read_to_string(self.mcp()).expect("mcp.json")
    }

    /// A server as the list has it.
    #[track_caller]
    fn server(&self, name: &str) -> Value {
        let list = self.daemon.ctl(["tools", "list", "--json"]).json();
        let servers = list["servers"].as_array().expect("servers");
        servers.iter().find(|server| server["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// Waits until a server is as it should be.
    #[track_caller]
    fn until(&self, name: &str, state: &str) -> Value {
        until(&format!("{name} to be {state}"), || Some(self.server(name)).filter(|server| server["state"] == state))
    }

    /// What was done to servers, in order: action and names.
    #[track_caller]
    fn done(&self) -> Vec<String> {
        let events = self.daemon.rpc("event.list", &json!({"limit": 1000, "after": 0}));
        let changed = events["events"].as_array().expect("events").iter().filter(|event| event["kind"] == "tools.changed");
        let word = |event: &Value| {
            let body = &event["body"];
            let names: Vec<&str> = body["servers"].as_array().expect("servers").iter().filter_map(Value::as_str).collect();
            let by = if body["by"]["uid"].is_u64() && body["by"]["pid"].is_u64() { "" } else { " by nobody" };
            format!("{} {}{by}", body["action"].as_str().unwrap_or_default(), names.join(","))
        };
        changed.map(word).collect()
    }

    /// Every byte that the daemon keeps: configuration but `.env`, ledger, logs.
    fn kept(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(&self.daemon.home(), &mut files);
        files.retain(|(path, _)| path.file_name().is_some_and(|name| name != ".env"));
        files
    }
}

fn write(daemon: &Daemon, name: &str, text: &str) {
    fs::write(daemon.home().join("config").join(name), text).expect("write a file of the configuration");
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            collect(&entry.path(), files);
        } else if kind.is_file() {
            files.push((entry.path(), fs::read(entry.path()).unwrap_or_default()));
        }
    }
}

fn mock() -> String {
    binary("mock_tool").display().to_string()
}

#[test]
fn a_server_is_added_called_switched_and_removed_and_the_ledger_tells_by_whom() {
    let bench = Bench::start(None, |config| config);
    let daemon = &bench.daemon;
    drop(daemon.agent("bot", &[]));
    let none = daemon.ctl(["tools", "list"]).ok();
    assert!(none.stdout.starts_with("No servers of tools."), "{none:?}");

    let added = daemon.ctl(["tools", "add", "mock", "--price", "0.01", "--", &mock()]).ok();
    assert_eq!(added.stdout, "Server 'mock' added: stopped; the first list or call starts it.\n");
    let wanted = format!(
        "{{\n  \"mcpServers\": {{\n    \"mock\": {{\n      \"command\": {},\n      \"price_usd\": \"0.01\"\n    }}\n  }}\n}}\n",
        json!(mock())
    );
    assert_eq!(bench.mcp_text(), wanted);
    assert_eq!(fs::metadata(bench.mcp()).expect("mcp.json").permissions().mode() & 0o777, 0o600);
    let server = bench.server("mock");
    assert_eq!((&server["state"], &server["sandbox"], &server["pids"]), (&json!("stopped"), &json!("standard"), &json!([])));

    let call = |tool: &str| daemon.ctl(["tools", "call", tool, r#"{"a": 2, "b": 3}"#, "--agent", "bot"]);
    let sum = call("mock.calculate_sum").ok();
    assert_eq!(sum.stdout, "The sum is 5\n", "{sum:?}");
    let server = bench.server("mock");
    assert_eq!((&server["state"], &server["tools"], &server["restarts"]), (&json!("ready"), &json!(1), &json!(0)));
    assert!(server["sandbox_in_force"].is_string() && server["pids"][0].is_u64(), "{server}");
    // It was that agent's own call: it paid, and its permissions hold.
    let inspected = daemon.ctl(["agent", "inspect", "bot", "--json"]).json();
    assert!(inspected.to_string().contains("\"10000000000\""), "{inspected}");
    let denied = call("mock.delete_system32");
    assert_eq!(denied.code, 5, "{denied:?}");
    assert!(denied.stderr.contains("delete_system32") && denied.stderr.contains("permissions.json"), "{denied:?}");

    let first = server["pids"][0].clone();
    daemon.ctl(["tools", "restart", "mock"]).ok();
    let second = bench.until("mock", "ready")["pids"][0].clone();
    assert_ne!(first, second);
    assert_eq!(daemon.ctl(["tools", "disable", "mock"]).ok().stdout, "Server 'mock' disabled: disabled.\n");
    until("its process to end", || (!Path::new(&format!("/proc/{second}")).exists()).then_some(()));
    assert!(call("mock.calculate_sum").stderr.contains("`aexctl tools enable mock` enables it"));
    assert_eq!(daemon.ctl(["tools", "disable", "mock"]).ok().code, 0);
    daemon.ctl(["tools", "enable", "mock"]).ok();
    assert_eq!(call("mock.calculate_sum").ok().stdout, "The sum is 5\n");
    assert_eq!(daemon.ctl(["tools", "remove", "mock"]).ok().stdout, "Server 'mock' removed.\n");
    assert_eq!(bench.server("mock"), Value::Null);

    // What changes nothing is told by nothing.
    assert_eq!(bench.done(), ["added mock", "restarted mock", "disabled mock", "enabled mock", "removed mock"]);
    audited(daemon);
}

#[test]
fn without_a_server_no_thread_of_tools_runs() {
    let bench = Bench::start(Some("{\"mcpServers\": {}}"), |config| config);
    let threads = || -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", bench.daemon.pid())).expect("the daemon's threads").flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).map(|name| name.trim().to_owned()).collect()
    };
    let of_tools = |names: &[String]| names.iter().any(|name| name == "aex-tools" || name == "aex-spawn");
    assert!(!of_tools(&threads()), "{:?}", threads());
    bench.daemon.ctl(["tools", "add", "mock", "--start", "boot", "--", &mock()]).ok();
    bench.until("mock", "ready");
    assert!(of_tools(&threads()), "{:?}", threads());
    assert_eq!(bench.done(), ["added mock"]);
}

/// Writes its variables and a file of its standard error, then is the demo's server.
const TELLS: &str = "env | cut -d= -f1 | sort | tr '\\n' ' ' >&2; echo >&2; echo \"token $TOKEN, key $KEY, mixed $MIXED\" >&2; exec \"$0\"";

#[test]
fn a_secret_reaches_its_server_and_nothing_else() {
    let bench = Bench::start(None, |config| {
        let canaries = "MOCK_API_KEY=sk-provider-canary\nTOOL_TOKEN=canary-from-dotenv\n";
        config.dotenv(canaries).env("ELSEWHERE", "canary-of-the-daemon")
    });
    let daemon = &bench.daemon;
    let key = daemon.scratch().join("key");
    fs::write(&key, "canary-from-file\n").expect("write the key");
    let file = format!("KEY=${{file:{}}}", key.display());
    let command = ["--", "sh", "-c", TELLS, &mock()];
    let flags =
        ["tools", "add", "mock", "--sandbox", "none", "--env", "TOKEN=${env:TOOL_TOKEN}", "--env", &file, "--env", "MIXED=x-${TOOL_TOKEN}"];
    let added = daemon.ctl(flags.iter().chain(&command)).ok();
    assert_eq!(added.stderr, "", "{added:?}");
    daemon.ctl(["tools", "restart", "mock"]).ok();
    let logs = until("what it says", || {
        let logs = daemon.ctl(["tools", "logs", "mock"]).ok().stdout;
        logs.contains("token ").then_some(logs)
    });
    // It got them, and they were taken out of what it said.
    assert!(logs.contains("token ***, key ***, mixed x-***"), "{logs}");
    let names = logs.lines().find(|line| line.contains(" TMPDIR ")).expect("the names of its variables");
    let names: Vec<&str> = names.split_whitespace().skip_while(|word| *word != "stderr").skip(1).collect();
    // AEX_TOOL marks its processes; a shell has the last three of its own.
    let known = ["AEX_TOOL", "HOME", "KEY", "LANG", "MIXED", "PATH", "TMPDIR", "TOKEN", "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");

    let shown = daemon.ctl(["tools", "show", "mock", "--json"]).json();
    let env = json!({"KEY": format!("${{file:{}}}", key.display()), "MIXED": "***${env:TOOL_TOKEN}", "TOKEN": "${env:TOOL_TOKEN}"});
    assert_eq!(shown["configured"]["env"], env);
    assert_eq!(shown["configured"]["missing"], Value::Null);
    let text = daemon.ctl(["tools", "show", "mock"]).ok().stdout;
    let exported = daemon.ctl(["export"]).ok().stdout;
    for (path, bytes) in bench.kept() {
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "{} holds a secret", path.display());
    }
    for told in [text, exported, logs, daemon.stderr()] {
        assert!(!told.contains("canary"), "{told}");
    }
    // What is missing is named by its reference when the server is added, and when it does not start.
    daemon.write_dotenv("");
    let why = "its variable MIXED is missing: neither the daemon's environment nor .env sets TOOL_TOKEN";
    let failed = daemon.ctl(["tools", "restart", "mock"]);
    assert!(failed.code == 1 && failed.stderr.contains(why), "{failed:?}");
    let warned = daemon.ctl(["tools", "add", "second", "--env", "MIXED=${TOOL_TOKEN}", "--", "no-such-program"]).ok();
    assert!(warned.stderr.contains(&format!("warning: second: {why}")), "{warned:?}");
    assert!(warned.stderr.contains("warning: second: its program `no-such-program` is not found"), "{warned:?}");
}

#[test]
fn a_broken_mcp_json_leaves_models_served_and_says_what_is_wrong() {
    let mut bench = Bench::start(Some("{\"mcpServers\": {\n\"a\": {\"command\": 5}}}"), |config| config);
    let daemon = &mut bench.daemon;
    let token = daemon.agent("bot", &[]);
    assert_eq!(client::post_json(&daemon.chat_url(), &token, &chat()).status, 200);
    let what = "mcp.json:2: mcpServers.a.command: expected text in quotes";
    let list = daemon.ctl(["tools", "list"]);
    assert!(list.code == 1 && list.stderr.contains(what), "{list:?}");
    let status = daemon.ctl(["daemon", "status"]);
    assert!(status.code == 0 && status.stdout.contains(what), "{status:?}");
    let doctor = daemon.ctl(["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains(what), "{doctor:?}");
    // Nobody writes into a file that cannot be read.
    let added = daemon.ctl(["tools", "add", "b", "--", "true"]);
    assert!(added.code == 1 && added.stderr.contains(what), "{added:?}");

    write(daemon, "mcp.json", &json!({"mcpServers": {"mock": {"command": mock()}}}).to_string());
    daemon.ctl(["models", "reload"]).ok();
    assert_eq!(daemon.ctl(["daemon", "status"]).ok().code, 0);
    // A running daemon keeps what it has.
    write(daemon, "mcp.json", "{\"mcpServers\": [");
    let reload = daemon.ctl(["models", "reload"]);
    assert!(reload.code == 1 && reload.stderr.contains("mcp.json:1: no JSON"), "{reload:?}");
    let call = daemon.ctl(["tools", "call", "mock.calculate_sum", r#"{"a": 1, "b": 1}"#, "--agent", "bot"]).ok();
    assert_eq!(call.stdout, "The sum is 2\n");
    daemon.stop();
    let doctor = daemon.ctl(["doctor"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("mcp.json:1: no JSON"), "{doctor:?}");
    daemon.run();
    assert_eq!(bench.done(), ["loaded mock"]);
}

#[test]
fn what_cannot_hold_is_not_written() {
    let text = "{\n  // mine\n  \"mcpServers\": {\n    \"a\": {\n      \"command\": \"true\", // why\n    },\n    \"far\": {\"type\": \"http\", \"url\": \"https://x\"}\n  }\n}\n";
    let bench = Bench::start(Some(text), |config| config);
    let daemon = &bench.daemon;
    let refused = |words: &[&str], code: i32, why: &str| {
        let output = daemon.ctl(["tools"].iter().chain(words));
        assert_eq!(output.code, code, "{words:?}: {output:?}");
        assert!(output.stderr.contains(why), "{words:?}: {output:?}");
        assert_eq!(bench.mcp_text(), text, "{words:?}");
    };
    refused(&["add", "a", "--", "true"], 1, "mcp.json has a server `a` already");
    refused(&["add", "far", "--", "true"], 1, "mcp.json has a server `far` already");
    refused(&["add", "b__c", "--", "true"], 1, "mcpServers.b__c: a server has 1 to 48 of");
    refused(&["add", "b", "--env", "LD_PRELOAD=/x", "--", "true"], 1, "env.LD_PRELOAD: has programs run code of others");
    refused(&["add", "b", "--env", "K=${input:x}", "--", "true"], 1, "asks a person, whom a daemon does not have");
    refused(&["add", "b", "--host", "http://x", "--", "true"], 1, "sandbox.hosts[0]: expected a host such as");
    refused(&["add", "b", "--sandbox", "none", "--require", "strict", "--", "true"], 1, "is more than the level `none`");
    refused(&["add", "b"], 2, "<CMD>");
    refused(&["remove", "a"], 1, "a comment within `a`, which would be lost");
    refused(&["remove", "c"], 4, "no server of tools 'c'");
    refused(&["enable", "far"], 1, "a server elsewhere");
    refused(&["restart", "c"], 4, "no server of tools 'c'");
    refused(&["show", "c"], 4, "no server of tools 'c'");
    refused(&["logs", "c"], 4, "no server of tools 'c'");
    refused(&["call", "a.x", "{\"b\": 1, \"b\": 2}"], 1, "arguments: ");
    // Another file of the configuration is wrong: nothing is put in force, so nothing is written.
    let models = fs::read_to_string(daemon.home().join("config/models.yaml")).expect("models.yaml");
    daemon.write_models("models: 5");
    refused(&["add", "b", "--", "true"], 1, "so nothing was changed");
    daemon.write_models(&models);
    assert_eq!(bench.done(), ["loaded a by nobody"]);
    // Comments elsewhere stay where they are.
    daemon.ctl(["tools", "add", "b", "--", "true"]).ok();
    assert!(bench.mcp_text().contains("// mine") && bench.mcp_text().contains("// why"), "{}", bench.mcp_text());
    let list = daemon.ctl(["tools", "list"]).ok();
    assert!(list.stdout.contains("far") && list.stdout.contains("not supported"), "{list:?}");
}

#[test]
fn servers_of_other_hosts_are_imported_once_and_never_over_ours() {
    let mcp = json!({"mcpServers": {"filesystem": {"command": "true"}}}).to_string();
    let bench = Bench::start(Some(&mcp), |config| config);
    let daemon = &bench.daemon;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mcp");
    // The daemon's user lives in the test's folder, and works in `project`.
    let copies = [
        ("claude_desktop_config.json", ".config/Claude/claude_desktop_config.json"),
        ("claude.json", ".claude.json"),
        ("project/.mcp.json", "project/.mcp.json"),
        ("project/.cursor/mcp.json", "project/.cursor/mcp.json"),
        ("project/.vscode/mcp.json", "project/.vscode/mcp.json"),
        ("vscode-settings.json", ".config/Code/User/settings.json"),
    ];
    for (from, to) in copies {
        let to = daemon.scratch().join(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("make its folder");
        fs::copy(fixtures.join(from), to).expect("copy a fixture");
    }
    let import = |words: &[&str]| {
        let mut command = daemon.command("aexctl");
        command.current_dir(daemon.scratch().join("project")).args(["tools", "import", "--json"]).args(words);
        aex_tests::daemon::output(command)
    };
    let names = |list: &Value| -> Vec<String> {
        let mut names: Vec<String> =
            list.as_array().expect("a list").iter().map(|one| one["name"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort_unstable();
        names
    };
    let dry = import(&["--dry-run"]).json();
    assert_eq!((bench.mcp_text(), &dry["written"]), (mcp.clone(), &json!(false)));
    let done = import(&[]);
    let done = (done.stderr.clone(), done.json());
    let (warnings, done) = done;
    let taken = ["My-Weather--beta", "fetch", "github", "local", "local-server", "memory", "off", "shared", "time"];
    assert_eq!(names(&done["taken"]), taken);
    assert_eq!(names(&dry["taken"]), taken);
    let skipped: Vec<String> = done["skipped"]
        .as_array()
        .expect("skipped")
        .iter()
        .map(|one| format!("{}: {}", one["name"].as_str().unwrap_or_default(), one["why"].as_str().unwrap_or_default()))
        .collect();
    assert!(skipped.contains(&"filesystem: mcp.json has a server `filesystem` already".to_owned()), "{skipped:?}");
    assert_eq!(names(&done["skipped"]), ["Perplexity", "airtable", "db", "filesystem", "github", "remote-server", "sentry"]);
    for words in ["env.WEATHER_API_KEY: a secret seems to stand here", "local-server: its envFile is not read", "GITHUB_TOKEN"] {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
    assert!(!warnings.contains("0123456789abcdef") && !done.to_string().contains("0123456789abcdef"), "{warnings}");
    let written: Value = serde_json::from_str(&bench.mcp_text()).expect("JSON");
    let project = daemon.scratch().join("project").display().to_string();
    assert_eq!(written["mcpServers"]["filesystem"], json!({"command": "true"}));
    assert_eq!(written["mcpServers"]["memory"]["env"]["MEMORY_FILE_PATH"], format!("{project}/memory.json"));
    assert_eq!(written["mcpServers"]["github"]["env"]["GITHUB_PERSONAL_ACCESS_TOKEN"], "${env:GITHUB_TOKEN}");
    assert_eq!(bench.server("off")["state"], "disabled");
    // A second time there is nothing left to take, and nothing is written.
    let text = bench.mcp_text();
    let again = import(&[]).json();
    assert_eq!((names(&again["taken"]).len(), &again["written"], bench.mcp_text()), (0, &json!(false), text));
    let one = fixtures.join("vscode-settings.json").display().to_string();
    assert_eq!(names(&import(&[&one]).json()["skipped"]), ["time"]);
    let missing = import(&["/no/such/file"]);
    assert!(missing.code == 1 && missing.stderr.contains("cannot read /no/such/file"), "{missing:?}");
    assert_eq!(bench.done().len(), 2, "{:?}", bench.done());
    assert!(bench.done()[1].starts_with("imported "), "{:?}", bench.done());
}

#[test]
fn a_log_is_followed_as_it_comes() {
    let bench = Bench::start(None, |config| config);
    let daemon = &bench.daemon;
    let says = "echo \"up as $$\" >&2; exec \"$0\"";
    daemon.ctl(["tools", "add", "mock", "--sandbox", "none", "--start", "boot", "--", "sh", "-c", says, &mock()]).ok();
    bench.until("mock", "ready");
    let mut command = daemon.command("aexctl");
    command.args(["tools", "logs", "mock", "--follow"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut following = command.spawn().expect("start aexctl");
    let (sender, lines) = std::sync::mpsc::channel();
    let output = BufReader::new(following.stdout.take().expect("its output"));
    let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).is_ok());
    let mut seen = Vec::new();
    let next = |what: &str, seen: &mut Vec<String>| loop {
        let line = lines.recv_timeout(aex_tests::daemon::PATIENCE).unwrap_or_else(|_| panic!("{what} is not among {seen:#?}"));
        seen.push(line);
        if seen.last().is_some_and(|line| line.contains(what)) {
            break;
        }
    };
    next("up as", &mut seen);
    daemon.ctl(["tools", "restart", "mock"]).ok();
    next("up as", &mut seen);
    // None stands there twice, though the first ones came on both ways.
    let mut once = seen.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), seen.len(), "{seen:#?}");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(following.id()).expect("a pid")), Signal::SIGKILL).expect("end aexctl");
    following.wait().expect("it ends");
    reader.join().expect("its reader ends");
}

#[test]
fn without_a_daemon_each_command_says_so() {
    let provider = Provider::start();
    let daemon = Daemon::prepare(Config::new(&provider));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mcp/claude.json").display().to_string();
    let rows: [&[&str]; 9] = [
        &["list"],
        &["show", "a"],
        &["add", "a", "--", "true"],
        &["remove", "a"],
        &["enable", "a"],
        &["restart", "a"],
        &["logs", "a"],
        &["call", "a.b"],
        &["import", &fixture],
    ];
    for words in rows {
        let output = daemon.ctl(["tools"].iter().chain(words));
        assert!(output.code == 3 && output.stderr.contains("the daemon is not running"), "{words:?}: {output:?}");
    }
    assert!(!daemon.home().join("config/mcp.json").exists());
}
