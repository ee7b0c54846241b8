//! mcp.json as hosts write it, as we extend it, and what is said about it.

use super::super::report::Problem;
use super::*;
use crate::tools::server::{EnvPart, Level, Resources};

fn read_file(source: &str) -> (Option<Registry>, Vec<String>, Vec<String>) {
    let mut report = Report::new("mcp.json");
    let read = read(source, Some(Path::new("/u")), &mut report);
    let words = |problems: &[Problem]| problems.iter().map(ToString::to_string).collect();
    let (errors, warnings) = (words(&report.errors), words(&report.warnings));
    (read, errors, warnings)
}

/// The servers, when nothing at all is said.
#[track_caller]
fn good(source: &str) -> Registry {
    let (read, errors, warnings) = read_file(source);
    assert_eq!((errors, warnings), (vec![], vec![]), "{source}");
    read.unwrap()
}

/// One entry, below the line of its name.
fn file(entry: &str) -> String {
    format!("{{\"mcpServers\": {{\n\"s\": {{\"command\": \"c\",\n{entry}\n}}}}}}")
}

#[track_caller]
fn entry(text: &str) -> Server {
    let registry = good(&file(text.trim_end_matches(',')));
    registry.servers[0].clone()
}

/// All that is wrong with an entry, to the letter.
#[track_caller]
fn bad(entry: &str, wanted: &[&str]) {
    let (read, errors, _) = read_file(&file(entry));
    assert_eq!(errors, wanted, "{entry}");
    assert_eq!(read, None, "{entry}");
}

#[track_caller]
fn warned(source: &str, wanted: &[&str]) -> Registry {
    let (read, errors, warnings) = read_file(source);
    assert_eq!((errors, warnings.iter().map(String::as_str).collect::<Vec<_>>()), (vec![], wanted.to_vec()), "{source}");
    read.unwrap()
}

#[test]
fn an_entry_of_the_ecosystem_has_the_defaults_of_a_careful_host() {
    let source = r#"{"mcpServers": {
        "fs": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "/data"], "env": {"A": "b"}},
        "time": {"type": "stdio", "command": "~/bin/time", "description": "the time"}
    }}"#;
    let registry = good(source);
    let [fs, time] = registry.servers.as_slice() else { panic!("{registry:?}") };
    let wanted = Server {
        args: ["-y", "@modelcontextprotocol/server-filesystem", "/data"].map(str::to_owned).to_vec(),
        env: BTreeMap::from([("A".to_owned(), EnvValue(vec![EnvPart::Text("b".to_owned())]))]),
        ..Server::named("fs", "npx")
    };
    assert_eq!(fs, &wanted);
    assert_eq!(time, &Server::named("time", "/u/bin/time"));
    let Server { enabled, start, shared, confinement, trust, may_ask, log_full, price, .. } = time;
    assert_eq!((*enabled, *start, *shared, confinement.level), (true, Start::OnDemand, Shared::ByAll, Level::Standard));
    assert_eq!((*trust, *may_ask, *log_full, *price), (Trust::FirstUse, MayAsk { sampling: false, elicitation: false }, false, None));
    for nothing in ["{}", "{\"$schema\": \"x\"}", "{\"mcpServers\": {}}", "\u{feff}{}", "// none\n{}"] {
        assert_eq!(good(nothing), Registry::default(), "{nothing}");
    }
}

#[test]
fn comments_and_last_commas_are_taken_and_lines_stay_right() {
    let source = "{\n // a\n \"mcpServers\": { /* b\n */\n  \"s\": {\"command\": \"c\", \"autoApprove\": [1,],},\n },\n}";
    let registry = warned(source, &["mcp.json:5: mcpServers.s.autoApprove: unknown key, ignored"]);
    assert_eq!(registry.servers, [Server::named("s", "c")]);
}

#[test]
fn every_extension_is_read() {
    let server = entry(
        r#""cwd": "~/w", "disabled": true, "start": "boot", "scope": "run", "price_usd": "0.01", "tool_prices": {"a.b": 2},
           "trust": "approve", "allow": {"sampling": true}, "log_tools": "full",
           "env": {"K": "${env:K}", "N": 5, "E": ""},
           "timeouts": {"start_ms": 1000, "call_ms": 2000, "call_total_ms": 3000, "shutdown_ms": 4, "idle_ms": "never"},
           "limits": {"message": "1MiB", "concurrency": 1, "queue": 0, "result": 4096},
           "sandbox": {"level": "strict", "require": "standard", "read": ["/r", "~"], "write": ["/w"],
                       "hosts": ["API.example.com", "10.0.0.1:5432", "[::1]:9", "[::1]"],
                       "memory": "512MiB", "cpu_seconds": 60, "processes": 8, "open_files": 64, "file_size": "unlimited"}"#,
    );
    let text = |text: &str| EnvValue(if text.is_empty() { vec![] } else { vec![EnvPart::Text(text.to_owned())] });
    let mut wanted = Server::named("s", "c");
    wanted.cwd = Some("/u/w".into());
    wanted.enabled = false;
    wanted.start = Start::AtBoot;
    wanted.shared = Shared::ByRun;
    wanted.price = Some(Pico::parse_usd("0.01").unwrap());
    wanted.tool_prices = BTreeMap::from([("a.b".to_owned(), Pico::parse_usd("2").unwrap())]);
    wanted.trust = Trust::Approve;
    wanted.may_ask.sampling = true;
    wanted.log_full = true;
    let variables = [("E", text("")), ("K", EnvValue(vec![EnvPart::Env("K".to_owned())])), ("N", text("5"))];
    wanted.env = variables.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let ms = Duration::from_millis;
    wanted.times = Times { start: ms(1000), call: ms(2000), call_total: ms(3000), shutdown: ms(4), idle: None };
    wanted.bounds = Bounds { message_bytes: 1 << 20, concurrency: 1, queue: 0, result_bytes: 4096 };
    wanted.confinement.level = Level::Strict;
    wanted.confinement.require = Some(Level::Standard);
    wanted.confinement.read = vec!["/r".into(), "/u".into()];
    wanted.confinement.write = vec!["/w".into()];
    wanted.confinement.hosts = ["api.example.com", "10.0.0.1:5432", "[::1]:9", "[::1]"].map(str::to_owned).to_vec();
    wanted.confinement.resources =
        Resources { memory_bytes: Some(512 << 20), cpu_seconds: Some(60), processes: Some(8), open_files: Some(64), file_bytes: None };
    assert_eq!(server, wanted);
    assert_eq!(entry(r#""sandbox": "none", "enabled": false"#).confinement.level, Level::None);
    assert!(!entry(r#""enabled": false, "disabled": true"#).enabled && entry(r#""enabled": true"#).enabled);
}

#[test]
fn a_server_elsewhere_is_told_and_left_out() {
    let source = "{\"mcpServers\": {\n\"a\": {\"url\": \"https://x/mcp\", \"headers\": {\"Authorization\": \"hunter2\"}},\n\
                  \"b\": {\"type\": \"sse\", \"url\": 5},\n\"c\": {\"type\": \"streamable-http\"},\n\"d\": {\"command\": \"d\"}}}";
    let words = "a server elsewhere is not supported and is left out; aexd starts programs, which speak over stdio";
    let wanted = [2, 3, 4].map(|line| format!("mcp.json:{line}: mcpServers.{}: {words}", ["a", "b", "c"][line - 2]));
    let registry = warned(source, &wanted.each_ref().map(String::as_str));
    let remote: Vec<(&str, &str)> = registry.remote.iter().map(|remote| (remote.name.as_str(), remote.transport.as_str())).collect();
    assert_eq!(remote, [("a", "http"), ("b", "sse"), ("c", "http")]);
    assert_eq!(registry.servers, [Server::named("d", "d")]);
    assert!(registry.has("a") && registry.has("d") && !registry.has("e"));
}

#[test]
fn keys_of_other_hosts_are_warnings() {
    let source = file("\"autoApprove\": [\"x\"],\n\"alwaysAllow\": null, \"timeout\": 60");
    warned(
        &source,
        &[
            "mcp.json:3: mcpServers.s.autoApprove: unknown key, ignored",
            "mcp.json:4: mcpServers.s.alwaysAllow: unknown key, ignored",
            "mcp.json:4: mcpServers.s.timeout: unknown key, ignored",
        ],
    );
    warned("{\n\"globalShortcut\": \"\", \"mcpServers\": {}}", &["mcp.json:2: globalShortcut: unknown key, ignored"]);
}

#[test]
fn a_wrong_value_is_an_error_with_its_place() {
    bad(r#""args": "x""#, &["mcp.json:3: mcpServers.s.args: expected a list of arguments"]);
    bad("\"args\": [\"a\",\n 5]", &["mcp.json:4: mcpServers.s.args[1]: expected text in quotes"]);
    bad(r#""args": null"#, &["mcp.json:3: mcpServers.s.args: null means nothing here; leave the key out"]);
    bad(r#""cwd": "w""#, &["mcp.json:3: mcpServers.s.cwd: expected an absolute path, or `~/…`, found \"w\""]);
    bad(r#""disabled": "yes""#, &["mcp.json:3: mcpServers.s.disabled: expected true or false, found \"yes\""]);
    let twice = "mcp.json:3: mcpServers.s.enabled: says the opposite of `disabled`; leave one of them out";
    bad(r#""disabled": true, "enabled": true"#, &[twice]);
    bad(r#""start": "now""#, &["mcp.json:3: mcpServers.s.start: expected boot or demand, found \"now\""]);
    bad(r#""scope": "agent""#, &["mcp.json:3: mcpServers.s.scope: expected run or shared, found \"agent\""]);
    bad(r#""trust": true"#, &["mcp.json:3: mcpServers.s.trust: expected approve or first-use, found true"]);
    bad(r#""log_tools": "all""#, &["mcp.json:3: mcpServers.s.log_tools: expected full or digest, found \"all\""]);
    bad(r#""price_usd": -1"#, &["mcp.json:3: mcpServers.s.price_usd: `-1` is not a decimal number such as 5.00"]);
    let type_words = "stdio or http or sse or streamable-http or streamableHttp or ws";
    bad(r#""type": "pipe""#, &[&format!("mcp.json:3: mcpServers.s.type: expected {type_words}, found \"pipe\"")]);
    bad(r#""allow": {"roots": true}"#, &["mcp.json:3: mcpServers.s.allow.roots: unknown key; known are sampling, elicitation"]);
    bad(
        r#""timeouts": {"call_ms": 0}"#,
        &["mcp.json:3: mcpServers.s.timeouts.call_ms: expected a whole number from 1 to 86400000, found 0"],
    );
    bad(r#""timeouts": {"call_ms": 900000}"#, &["mcp.json:3: mcpServers.s.timeouts: call_total_ms is less than call_ms"]);
    bad(
        r#""limits": {"message": "32MiB"}"#,
        &["mcp.json:3: mcpServers.s.limits.message: expected a size from 1KiB to 16MiB, found \"32MiB\""],
    );
    bad(
        r#""limits": {"concurrency": 0, "calls": 1}"#,
        &[
            "mcp.json:3: mcpServers.s.limits.concurrency: expected a whole number from 1 to 1024, found 0",
            "mcp.json:3: mcpServers.s.limits.calls: unknown key; known are message, result, concurrency, queue",
        ],
    );
    bad(r#""sandbox": "docker""#, &["mcp.json:3: mcpServers.s.sandbox: expected none or standard or strict, found \"docker\""]);
    bad(
        r#""sandbox": true"#,
        &["mcp.json:3: mcpServers.s.sandbox: expected none, standard, strict, or an object with a level, found true"],
    );
    let host = "expected a host such as api.example.com or api.example.com:443, found";
    let sandbox = "mcp.json:3: mcpServers.s.sandbox";
    bad(
        r#""sandbox": {"level": "none", "require": "strict", "read": ["x", 5], "hosts": ["http://x", "x:", "x:0", "", "::1", "[x]"], "memory": 5}"#,
        &[
            &format!("{sandbox}.require: is more than the level `none` that is asked for"),
            &format!("{sandbox}.read[0]: expected an absolute path, or `~/…`, found \"x\""),
            &format!("{sandbox}.read[1]: expected an absolute path, or `~/…`, found 5"),
            &format!("{sandbox}.hosts[0]: {host} \"http://x\""),
            &format!("{sandbox}.hosts[1]: {host} \"x:\""),
            &format!("{sandbox}.hosts[2]: {host} \"x:0\""),
            &format!("{sandbox}.hosts[3]: {host} \"\""),
            &format!("{sandbox}.hosts[4]: {host} \"::1\""),
            &format!("{sandbox}.hosts[5]: {host} \"[x]\""),
            &format!("{sandbox}.memory: expected a size such as 33554432 or 32MiB, at least 1KiB, found 5"),
        ],
    );
}

#[test]
fn a_file_of_another_form_is_refused() {
    let rows = [
        ("[]", "mcp.json:1: expected an object with mcpServers"),
        ("{\"mcpServers\": []}", "mcp.json:1: mcpServers: expected a mapping, found a list"),
        ("{\"mcpServers\": {\n\"a\": 5}}", "mcp.json:2: mcpServers.a: expected a mapping, found 5"),
        ("{\"mcpServers\": {\"a\": {}}}", "mcp.json:1: mcpServers.a.command: expected a program, found nothing"),
        ("{\"mcpServers\": {\"a\": {\"command\": \"c\"},\n\"a\": {}}}", "mcp.json:2: duplicate key \"a\", which stands in line 1 already"),
        (
            "{\n\"servers\": {}}",
            "mcp.json:2: servers: VS Code's form; `aexctl tools import FILE` takes it over, here the key is mcpServers",
        ),
        ("{\n\"mcpservers\": {}}", "mcp.json:2: mcpservers: the file has no mcpServers, below which servers stand by their names"),
        (
            "{\"$schema\": \"x\",\n\"a\": {\"command\": \"c\"}}",
            "mcp.json:2: a: the file has no mcpServers, below which servers stand by their names",
        ),
        (
            "{\"mcpServers\": {\"a\": {\"comand\": \"c\", \"args\": []}}}",
            "mcp.json:1: mcpServers.a.command: expected a program, found nothing; not known are comand",
        ),
        ("{\n\"mcpServers\"}", "mcp.json:2: no JSON: expected `:`"),
        ("{} /* x", "mcp.json:1: no JSON: trailing characters"),
    ];
    for (source, wanted) in rows {
        let (read, errors, _) = read_file(source);
        assert_eq!((read, errors), (None, vec![wanted.to_owned()]), "{source}");
    }
    let name = "a server has 1 to 48 of A-Z a-z 0-9 - _ without two _ in a row";
    for bad in ["", "a b", "a.b", "a__b", "é", &"x".repeat(49)] {
        let source = serde_json::json!({"mcpServers": {bad: {"command": "c"}}}).to_string();
        assert_eq!(read_file(&source).1, [format!("mcp.json:1: mcpServers.{bad}: {name}")]);
    }
}

#[test]
fn a_program_is_found_by_nobodys_folder() {
    for (text, wanted) in [("/bin/x", "/bin/x"), ("~/x y", "/u/x y"), ("uvx", "uvx")] {
        let source = serde_json::json!({"mcpServers": {"s": {"command": text}}}).to_string();
        assert_eq!(good(&source).servers[0].command, wanted);
    }
    for text in ["./x", "a/x", "", " ", "~x", "~root/x", "a\nb"] {
        let source = serde_json::json!({"mcpServers": {"s": {"command": text}}}).to_string();
        let (_, errors, _) = read_file(&source);
        let words = "mcp.json:1: mcpServers.s.command: expected a program: an absolute path, `~/…`, or a name";
        assert!(errors.len() == 1 && errors[0].starts_with(words), "{text:?}: {errors:?}");
    }
}

#[test]
fn no_message_tells_the_value_of_a_variable() {
    let known = "known are ${env:NAME}, ${file:PATH} and ${credential:NAME}";
    bad(r#""env": "hunter2""#, &["mcp.json:3: mcpServers.s.env: expected an object of names and texts"]);
    bad(
        "\"env\": {\"A\": [\"hunter2\"],\n\"B\": \"${input:hunter2}\",\n\"LD_PRELOAD\": \"hunter2\", \"NODE_OPTIONS\": \"hunter2\",\n\"C\": null}",
        &[
            "mcp.json:3: mcpServers.s.env.A: expected text of at most 32768 bytes",
            &format!("mcp.json:4: mcpServers.s.env.B: ${{input:…}} asks a person, whom a daemon does not have; {known}"),
            "mcp.json:5: mcpServers.s.env.LD_PRELOAD: has programs run code of others, so no configuration may set it",
            "mcp.json:5: mcpServers.s.env.NODE_OPTIONS: has programs run code of others, so no configuration may set it",
            "mcp.json:6: mcpServers.s.env.C: expected text of at most 32768 bytes",
        ],
    );
    let words = "a secret seems to stand here: write it into .env, and `${env:GITHUB_TOKEN}` here";
    warned(&file("\"env\": {\"GITHUB_TOKEN\": \"hunter2\"}"), &[&format!("mcp.json:3: mcpServers.s.env.GITHUB_TOKEN: {words}")]);
    // In an argument nothing is looked up, and everybody can read it.
    let words = "only values of env may refer to something: all processes of the machine can read a command line";
    bad(r#""args": ["--key", "${env:KEY}"]"#, &[&format!("mcp.json:3: mcpServers.s.args[1]: {words}")]);
    entry(r#""args": ["echo ${HOME} ${x}"]"#);
}

#[test]
fn a_digest_names_what_runs_and_no_text_of_variables() {
    let digest = |entry: &str| read_file(&file(entry)).0.unwrap().digest();
    let one = digest(r#""env": {"A": "hunter2", "B": "${env:B}"}"#);
    assert_eq!(one, digest(r#""env": {"B": "${B}", "A": "other"}"#));
    for other in [r#""env": {"A": "x", "B": "${env:C}"}"#, r#""args": ["x"]"#, r#""disabled": true"#, r#""sandbox": "none""#, ""] {
        assert_ne!(one, digest(if other.is_empty() { "\"trust\": \"first-use\"" } else { other }), "{other}");
    }
    let order =
        |one: &str, two: &str| good(&format!(r#"{{"mcpServers": {{"{one}": {{"command": "c"}}, "{two}": {{"command": "c"}}}}}}"#)).digest();
    assert_eq!(order("a", "b"), order("b", "a"));
}

#[test]
fn what_differs_is_named_once() {
    let read = |source: &str| good(source);
    let old = read(r#"{"mcpServers": {"a": {"command": "a"}, "b": {"command": "b"}, "c": {"command": "c"}}}"#);
    let new = read(r#"{"mcpServers": {"d": {"command": "d"}, "b": {"command": "x"}, "c": {"command": "c"}}}"#);
    assert_eq!(new.differing(&old), ["a", "b", "d"]);
    assert_eq!(old.differing(&old), [""; 0]);
}
