//! Servers of tools as the protocol tells them. Values of variables end here.

use crate::config::Config;
use crate::tools::gatekeeper::Gatekeeper;
use crate::tools::registry::{Registry, Remote};
use crate::tools::server::{Resources, Server, Shared, Start, Times, Trust};
use crate::tools::supervisor::{InstanceStatus, Listing, Scope, State, Status, Tools};
use crate::tools::{one_line, server};
use aex_core::tool::ToolName;
use aex_proto::sandbox::Level;
use aex_proto::tool::{self, Configured, Process, ServerList, ServerShown, ServerState, Tool};
use aex_proto::value::Pico;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The longest description of a tool, in characters.
const MAX_DESCRIPTION: usize = 500;
/// Lines of standard error that are told.
const LAST_WORDS: usize = 20;

/// All servers of a configuration.
pub(super) fn list(config: &Config, keeper: &Gatekeeper) -> ServerList {
    let tools = keeper.tools();
    let status = tools.status();
    let Registry { servers, remote } = &config.tools;
    let of = |server: &Server| {
        let told = told(server, status.iter().find(|status| status.server == server.name));
        distrusted(told, keeper)
    };
    ServerList {
        servers: servers.iter().map(of).chain(remote.iter().map(elsewhere)).collect(),
        problems: config.tools_errors.iter().map(ToString::to_string).collect(),
        leftovers: number(tools.leftovers().len()),
    }
}

/// One of them.
pub(super) fn one(config: &Config, keeper: &Gatekeeper, name: &str) -> Option<tool::Server> {
    list(config, keeper).servers.into_iter().find(|server| server.name == name)
}

/// One of them, with what holds for it. Looks for its program and its secrets.
pub(super) fn shown(config: &Config, keeper: &Gatekeeper, name: &str) -> Option<ServerShown> {
    let (tools, server) = (keeper.tools(), one(config, keeper, name)?);
    let Some(own) = config.tools.server(name) else {
        return Some(ServerShown { server, configured: None, processes: Vec::new(), tools: Vec::new(), stderr: Vec::new() });
    };
    let status = tools.status().into_iter().find(|status| status.server == name);
    let instances = status.map(|status| status.instances).unwrap_or_default();
    let stderr = instances.iter().flat_map(|instance| instance.stderr.iter().cloned()).collect::<Vec<_>>();
    let stderr = stderr.split_at(stderr.len().saturating_sub(LAST_WORDS)).1.to_vec();
    let listing = tools.known(name);
    Some(ServerShown {
        server,
        configured: Some(configured(own, tools)),
        processes: instances.iter().map(process).collect(),
        tools: listing.map(|listing| tools_of(own, &listing, &keeper.pins().quarantined(name))).unwrap_or_default(),
        stderr,
    })
}

/// Tools whose definitions nobody trusts are no tools for anybody.
fn distrusted(server: tool::Server, keeper: &Gatekeeper) -> tool::Server {
    let listing = keeper.tools().known(&server.name);
    let distrusted = keeper.pins().quarantined(&server.name);
    let count = listing.iter().flat_map(|listing| &listing.tools).filter(|tool| distrusted.contains_key(tool.name.as_ref())).count();
    let count = number(count).min(server.tools);
    tool::Server { tools: server.tools.saturating_sub(count), quarantined: server.quarantined.saturating_add(count), ..server }
}

fn elsewhere(remote: &Remote) -> tool::Server {
    tool::Server {
        name: remote.name.clone(),
        state: ServerState::NotSupported,
        reason: Some(format!("it is a server elsewhere ({}), and aexd starts programs", remote.transport)),
        sandbox: None,
        sandbox_in_force: None,
        gaps: Vec::new(),
        tools: 0,
        quarantined: 0,
        calls: 0,
        in_flight: 0,
        restarts: 0,
        pids: Vec::new(),
    }
}

fn told(server: &Server, status: Option<&Status>) -> tool::Server {
    let instances = status.map(|status| status.instances.as_slice()).unwrap_or_default();
    let worst = instances.iter().max_by_key(|instance| state(instance.state));
    let lowest = instances.iter().filter_map(|instance| instance.confinement.as_ref()).min_by_key(|report| report.active);
    let sum = |count: fn(&InstanceStatus) -> u64| instances.iter().map(count).fold(0, u64::saturating_add);
    let most = |count: fn(&InstanceStatus) -> usize| number(instances.iter().map(count).max().unwrap_or(0));
    tool::Server {
        name: server.name.clone(),
        state: match worst {
            _ if !server.enabled => ServerState::Disabled,
            Some(instance) => state(instance.state),
            None => ServerState::Stopped,
        },
        reason: worst.and_then(|instance| instance.reason.clone()).filter(|_| server.enabled),
        sandbox: Some(server.confinement.level),
        sandbox_in_force: lowest.map(|report| report.active),
        gaps: lowest.map(|report| report.gaps.clone()).unwrap_or_default(),
        tools: most(|instance| instance.tools),
        quarantined: most(|instance| instance.quarantined.len()),
        calls: sum(|instance| instance.counters.calls),
        in_flight: number(instances.iter().map(|instance| instance.counters.in_use).sum()),
        restarts: sum(|instance| instance.counters.ends),
        pids: instances.iter().filter_map(|instance| instance.pid).collect(),
    }
}

const fn state(state: State) -> ServerState {
    match state {
        State::Stopped => ServerState::Stopped,
        State::Starting => ServerState::Starting,
        State::Ready => ServerState::Ready,
        State::Degraded => ServerState::Degraded,
        State::Stopping => ServerState::Stopping,
        State::Backoff => ServerState::Backoff,
        State::Failed => ServerState::Failed,
    }
}

fn process(instance: &InstanceStatus) -> Process {
    Process {
        of: match instance.scope {
            Scope::All => "all".to_owned(),
            Scope::Agent(agent) => format!("agent {agent}"),
            Scope::Run(run) => format!("run_{run}"),
        },
        state: state(instance.state),
        reason: instance.reason.clone(),
        pid: instance.pid,
        protocol: instance.protocol.clone(),
        implementation: instance.implementation.as_deref().map(one_line),
        ready_ms: instance.ready_for.map(ms),
        sandbox: instance.confinement.as_ref().map(|report| report.active),
        starts: instance.counters.starts,
        faults: instance.counters.faults,
        timeouts: instance.counters.timeouts,
    }
}

fn configured(server: &Server, tools: &Tools) -> Configured {
    let texts = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect();
    let confinement = &server.confinement;
    let may_ask = [("sampling", server.may_ask.sampling), ("elicitation", server.may_ask.elicitation)];
    Configured {
        command: server.command.clone(),
        program: tools.program(server).map(|path| path.display().to_string()),
        args: server.args.clone(),
        env: server.env.iter().map(|(name, value)| (name.clone(), value.shown())).collect(),
        missing: tools.missing(server),
        cwd: server.cwd.as_ref().map(|path| path.display().to_string()),
        start: match server.start {
            Start::AtBoot => tool::Start::Boot,
            Start::OnDemand => tool::Start::Demand,
        },
        scope: match server.shared {
            Shared::ByRun => tool::Scope::Run,
            Shared::ByAll => tool::Scope::Shared,
        },
        require: confinement.require,
        read: texts(&confinement.read),
        write: texts(&confinement.write),
        hosts: confinement.hosts.clone(),
        limits: limits(server),
        price_pico: server.price,
        tool_prices_pico: server.tool_prices.clone(),
        trust: match server.trust {
            Trust::Approve => tool::Trust::Approve,
            Trust::FirstUse => tool::Trust::FirstUse,
        },
        allow: may_ask.into_iter().filter(|(_, may)| *may).map(|(name, _)| name.to_owned()).collect(),
        log_full: server.log_full,
    }
}

/// By their keys in mcp.json. One that is not named here does not compile.
fn limits(server: &Server) -> BTreeMap<String, Option<u64>> {
    let Resources { memory_bytes, cpu_seconds, processes, open_files, file_bytes } = server.confinement.resources;
    let Times { start, call, call_total, shutdown, idle } = server.times;
    let server::Bounds { message_bytes, concurrency, queue, result_bytes } = server.bounds;
    let count = |count: usize| u64::try_from(count).ok();
    let all = [
        ("sandbox.memory", memory_bytes),
        ("sandbox.cpu_seconds", cpu_seconds),
        ("sandbox.processes", processes),
        ("sandbox.open_files", open_files),
        ("sandbox.file_size", file_bytes),
        ("timeouts.start_ms", Some(ms(start))),
        ("timeouts.call_ms", Some(ms(call))),
        ("timeouts.call_total_ms", Some(ms(call_total))),
        ("timeouts.shutdown_ms", Some(ms(shutdown))),
        ("timeouts.idle_ms", idle.map(ms)),
        ("limits.message", count(message_bytes)),
        ("limits.concurrency", count(concurrency)),
        ("limits.queue", count(queue)),
        ("limits.result", count(result_bytes)),
    ];
    all.into_iter().map(|(key, limit)| (key.to_owned(), limit)).collect()
}

fn tools_of(server: &Server, listing: &Listing, distrusted: &BTreeMap<String, String>) -> Vec<Tool> {
    let tool = |name: &str, description: &str, quarantined: Option<String>| Tool {
        name: one_line(name),
        wire: ToolName::new(&server.name, name).map(|name| name.wire()).unwrap_or_default(),
        description: one_line(description).chars().take(MAX_DESCRIPTION).collect(),
        price_pico: server.tool_prices.get(name).copied().or(server.price).unwrap_or(Pico::ZERO),
        quarantined,
    };
    let good = listing.tools.iter().map(|offer| {
        let reason = distrusted.get(offer.name.as_ref()).cloned();
        tool(&offer.name, offer.description.as_deref().unwrap_or_default(), reason)
    });
    let bad = listing.quarantined.iter().map(|bad| tool(&bad.name, "", Some(bad.reason.clone())));
    good.chain(bad).collect()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What health says of the tools; nothing where nothing is configured. False: mcp.json cannot be used.
pub(in crate::control) fn health(config: &Config, keeper: &Gatekeeper) -> Option<(bool, String)> {
    if let Some(first) = config.tools_errors.first() {
        let more = config.tools_errors.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        return Some((false, format!("no server is started: {first}{more}")));
    }
    let servers = list(config, keeper).servers;
    if servers.is_empty() {
        return None;
    }
    let in_state = |state: ServerState| servers.iter().filter(move |server| server.state == state);
    let mut detail = format!(
        "{}, {} ready",
        super::super::daemon::counted(number(servers.len()).into(), "server"),
        in_state(ServerState::Ready).count()
    );
    let failed: Vec<&str> = in_state(ServerState::Failed).map(|server| server.name.as_str()).collect();
    if !failed.is_empty() {
        detail.push_str(&format!("; failed: {}", failed.join(", ")));
    }
    let below = |server: &&tool::Server| {
        let [Some(asked), Some(active)]: [Option<Level>; 2] = [server.sandbox, server.sandbox_in_force] else { return false };
        active < asked
    };
    let loose: Vec<&str> = servers.iter().filter(below).map(|server| server.name.as_str()).collect();
    if !loose.is_empty() {
        detail.push_str(&format!("; less confined than asked: {}", loose.join(", ")));
    }
    Some((true, detail))
}
