//! Servers of tools in words.

use crate::units::span;
use crate::view::{Paint, table};
use aex_proto::sandbox::Level;
use aex_proto::tool::{Configured, Process, Scope, Server, ServerChanged, ServerList, ServerShown, ServerState, Start, Tool, Trust};
use aex_proto::value::Pico;

pub(super) fn list(list: &ServerList) -> String {
    if list.servers.is_empty() {
        return "No servers of tools. `aexctl tools add NAME -- COMMAND` adds one, `aexctl tools import` takes those of other hosts over."
            .to_owned();
    }
    let head = ["Name", "State", "Sandbox", "In Force", "Tools", "Calls", "Restarts", "PID", "Reason"];
    let mut text = table(head, list.servers.iter().map(row));
    if list.leftovers > 0 {
        text.push_str(&format!("\n\nProcesses of a daemon before this one, which were killed at its start: {}.", list.leftovers));
    }
    text
}

fn row(server: &Server) -> [String; 9] {
    let level = |level: Option<Level>| level.map_or_else(|| "-".to_owned(), |level| level.name().to_owned());
    let pids: Vec<String> = server.pids.iter().map(ToString::to_string).collect();
    let tools = match server.quarantined {
        0 => server.tools.to_string(),
        bad => format!("{} (+{bad} bad)", server.tools),
    };
    [
        server.name.clone(),
        server.state.name().replace('_', " "),
        level(server.sandbox),
        level(server.sandbox_in_force),
        tools,
        server.calls.to_string(),
        server.restarts.to_string(),
        if pids.is_empty() { "-".to_owned() } else { pids.join(", ") },
        server.reason.as_deref().and_then(|reason| reason.lines().next()).unwrap_or("-").to_owned(),
    ]
}

pub(super) fn changed(changed: &ServerChanged, done: &str) -> String {
    let Server { name, state, .. } = &changed.server;
    let next = match state {
        ServerState::Stopped => "; the first list or call starts it",
        _ => "",
    };
    format!("Server '{name}' {done}: {}{next}.", state.name().replace('_', " "))
}

pub(super) fn shown(shown: &ServerShown, paint: Paint) -> String {
    let mut lines = vec![paint.strong(&shown.server.name)];
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("  {name:<12} {value}"));
        }
    };
    fact("state", shown.server.state.name().replace('_', " "));
    fact("reason", shown.server.reason.clone().unwrap_or_default());
    if let Some(configured) = &shown.configured {
        facts(&shown.server, configured, &mut fact);
    }
    for gap in &shown.server.gaps {
        fact("gap", gap.why.clone());
    }
    if !shown.processes.is_empty() {
        lines.push("\nProcesses".to_owned());
        lines.extend(shown.processes.iter().map(process));
    }
    if !shown.tools.is_empty() {
        lines.push("\nTools".to_owned());
        lines.extend(shown.tools.iter().map(tool));
    }
    if !shown.stderr.is_empty() {
        lines.push("\nIts last words on standard error".to_owned());
        lines.extend(shown.stderr.iter().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

fn facts(server: &Server, configured: &Configured, fact: &mut impl FnMut(&str, String)) {
    let Configured { command, program, args, env, missing, cwd, start, scope, .. } = configured;
    let words: Vec<String> = std::iter::once(command).chain(args).map(|word| quoted(word)).collect();
    fact("command", words.join(" "));
    fact("program", program.clone().unwrap_or_else(|| "not found".to_owned()));
    for (name, value) in env {
        fact("env", format!("{name}={value}"));
    }
    fact("missing", missing.clone().unwrap_or_default());
    fact("cwd", cwd.clone().unwrap_or_else(|| "a private folder".to_owned()));
    fact("start", if *start == Start::Boot { "with the daemon" } else { "on demand" }.to_owned());
    fact("scope", if *scope == Scope::Run { "a process for each run" } else { "one process for all" }.to_owned());
    let level = |level: Option<Level>| level.map_or("-", Level::name);
    let required = configured.require.map(|require| format!(", at least {}", require.name())).unwrap_or_default();
    fact("sandbox", format!("{} asked{required}, {} in force", level(server.sandbox), level(server.sandbox_in_force)));
    fact("read", configured.read.join(", "));
    fact("write", configured.write.join(", "));
    fact("hosts", configured.hosts.join(", "));
    let limit =
        |(name, limit): (&String, &Option<u64>)| format!("{name} {}", limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string()));
    fact("limits", configured.limits.iter().map(limit).collect::<Vec<_>>().join(", "));
    fact("price", configured.price_pico.map(|price| format!("{price} a call")).unwrap_or_default());
    fact(
        "trust",
        if configured.trust == Trust::Approve { "each new tool has to be approved" } else { "a tool is trusted as it is first seen" }
            .to_owned(),
    );
    fact("allow", configured.allow.join(", "));
    fact("log", if configured.log_full { "arguments and results whole" } else { "digests of arguments and results" }.to_owned());
    fact("calls", format!("{}, {} now, {} restarts", server.calls, server.in_flight, server.restarts));
}

/// A word as a shell would take it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,~".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.escape_debug()) }
}

fn process(process: &Process) -> String {
    let facts = [
        process.pid.map(|pid| format!("pid {pid}")),
        Some(process.state.name().to_owned()),
        process.ready_ms.map(|ms| format!("ready for {}", span(ms))),
        process.protocol.as_ref().map(|protocol| format!("MCP {protocol}")),
        process.implementation.clone(),
        process.sandbox.map(|level| format!("sandbox {}", level.name())),
        (process.faults > 0).then(|| format!("{} failed, {} of them timed out", process.faults, process.timeouts)),
        process.reason.clone(),
    ];
    format!("  {:<12} {}", process.of, facts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn tool(tool: &Tool) -> String {
    let price = if tool.price_pico == Pico::ZERO { String::new() } else { format!(" ({})", tool.price_pico) };
    match &tool.quarantined {
        Some(why) => format!("  {:<24} not offered: {why}", tool.name),
        None => format!("  {:<24}{price} {}", tool.name, tool.description).trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn server() -> Server {
        Server {
            name: "fs".to_owned(),
            state: ServerState::Ready,
            reason: None,
            sandbox: Some(Level::Strict),
            sandbox_in_force: Some(Level::Standard),
            gaps: vec![aex_proto::sandbox::Gap { part: aex_proto::sandbox::Part::Network, why: "the network is open".to_owned() }],
            tools: 2,
            quarantined: 1,
            calls: 9,
            in_flight: 1,
            restarts: 3,
            pids: vec![7, 8],
        }
    }

    #[test]
    fn a_list_tells_what_is_asked_and_what_is_in_force() {
        let remote = Server {
            name: "far".to_owned(),
            state: ServerState::NotSupported,
            reason: Some("it is a server elsewhere (http)\nmore".to_owned()),
            sandbox: None,
            sandbox_in_force: None,
            gaps: vec![],
            tools: 0,
            quarantined: 0,
            calls: 0,
            restarts: 0,
            in_flight: 0,
            pids: vec![],
        };
        let told = list(&ServerList { servers: vec![server(), remote], problems: vec![], leftovers: 1 });
        let wanted = "
 Name | State         | Sandbox | In Force | Tools      | Calls | Restarts | PID  | Reason
------+---------------+---------+----------+------------+-------+----------+------+---------------------------------
 fs   | ready         | strict  | standard | 2 (+1 bad) | 9     | 3        | 7, 8 | -
 far  | not supported | -       | -        | 0          | 0     | 0        | -    | it is a server elsewhere (http)

Processes of a daemon before this one, which were killed at its start: 1.";
        assert_eq!(told, wanted.trim_start_matches('\n'));
        assert!(list(&ServerList { servers: vec![], problems: vec![], leftovers: 0 }).starts_with("No servers of tools."));
    }

    #[test]
    fn a_server_shows_what_holds_for_it() {
        let configured = Configured {
            command: "npx".to_owned(),
            program: None,
            args: vec!["-y".to_owned(), "a b".to_owned()],
            env: BTreeMap::from([("K".to_owned(), "${env:K}".to_owned())]),
            missing: Some("its variable K is missing".to_owned()),
            cwd: None,
            start: Start::Demand,
            scope: Scope::Run,
            require: Some(Level::Standard),
            read: vec!["/r".to_owned()],
            write: vec![],
            hosts: vec![],
            limits: BTreeMap::from([("sandbox.memory".to_owned(), None), ("timeouts.call_ms".to_owned(), Some(5))]),
            price_pico: Some(Pico::new(10_000_000_000)),
            tool_prices_pico: BTreeMap::new(),
            trust: Trust::Approve,
            allow: vec!["sampling".to_owned()],
            log_full: false,
        };
        let process = Process {
            of: "run_17".to_owned(),
            state: ServerState::Ready,
            reason: None,
            pid: Some(7),
            protocol: Some("2025-11-25".to_owned()),
            implementation: Some("Fs 1.0".to_owned()),
            ready_ms: Some(5_000),
            sandbox: Some(Level::Standard),
            starts: 1,
            faults: 2,
            timeouts: 1,
        };
        let tool = |name: &str, quarantined: Option<&str>| Tool {
            name: name.to_owned(),
            wire: String::new(),
            description: "Reads.".to_owned(),
            price_pico: Pico::new(10_000_000_000),
            quarantined: quarantined.map(str::to_owned),
        };
        let all = ServerShown {
            server: server(),
            configured: Some(configured),
            processes: vec![process],
            tools: vec![tool("read", None), tool("bad", Some("its schema is no object"))],
            stderr: vec!["up".to_owned()],
        };
        let wanted = "fs
  state        ready
  command      npx -y 'a b'
  program      not found
  env          K=${env:K}
  missing      its variable K is missing
  cwd          a private folder
  start        on demand
  scope        a process for each run
  sandbox      strict asked, at least standard, standard in force
  read         /r
  limits       sandbox.memory none, timeouts.call_ms 5
  price        $0.01 a call
  trust        each new tool has to be approved
  allow        sampling
  log          digests of arguments and results
  calls        9, 1 now, 3 restarts
  gap          the network is open

Processes
  run_17       pid 7, ready, ready for 5.0s, MCP 2025-11-25, Fs 1.0, sandbox standard, 2 failed, 1 of them timed out

Tools
  read                     ($0.01) Reads.
  bad                      not offered: its schema is no object

Its last words on standard error
  up";
        assert_eq!(shown(&all, Paint::PLAIN), wanted);
    }
}
