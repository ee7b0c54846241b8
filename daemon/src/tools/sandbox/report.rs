//! What is said of a confined process: the level whose promises were all proven, and what stays open. Decides by what was found; looks at
//! nothing itself.

use super::canary::Closed;
use super::landlock::Landlock;
use super::{Cgroup, Enforced, Gap, Level, Network, Part, Plan, Report};

/// What the stage did, and what the tries showed.
pub(super) struct Found {
    pub(super) closed: Closed,
    pub(super) network: Network,
    pub(super) landlock: Landlock,
    pub(super) netns: bool,
    /// In process, mount and memory namespaces of its own.
    pub(super) apart: bool,
    pub(super) own_proc: bool,
    /// Processes and threads are bounded.
    pub(super) count_bounded: bool,
    /// Whether the filter was taken, or why not.
    pub(super) seccomp: Result<(), String>,
    pub(super) cgroup: Cgroup,
    /// Why there are no namespaces.
    pub(super) why: Option<String>,
}

impl Found {
    /// Nothing was done.
    pub(super) fn nothing(cgroup: Cgroup) -> Found {
        Found {
            closed: Closed { files: false, network: false, ports: false, signals: false, processes: false, kernel: false },
            network: Network::Open,
            landlock: Landlock { abi: super::sys::landlock_abi(), status: Enforced::Not },
            netns: false,
            apart: false,
            own_proc: false,
            count_bounded: false,
            seccomp: Err("not asked for".to_owned()),
            cgroup,
            why: None,
        }
    }
}

/// The report.
pub(super) fn judge(plan: &Plan, found: &Found) -> Report {
    let requested = plan.confinement.level;
    Report {
        requested,
        active: level(found).min(requested),
        network: found.network,
        landlock: found.landlock.clone(),
        netns: found.netns,
        pidns: found.apart,
        mountns: found.apart,
        ipcns: found.apart,
        seccomp: found.seccomp.is_ok() && found.closed.kernel,
        cgroup: found.cgroup,
        gaps: if requested == Level::None { Vec::new() } else { gaps(plan, found) },
    }
}

/// The highest level all of whose promises hold.
fn level(found: &Found) -> Level {
    let closed = found.closed;
    match closed.files && closed.signals && closed.kernel {
        true if closed.network && closed.processes && found.network == Network::Closed => Level::Strict,
        true => Level::Standard,
        false => Level::None,
    }
}

fn gaps(plan: &Plan, found: &Found) -> Vec<Gap> {
    let (closed, resources) = (found.closed, &plan.confinement.resources);
    let why = found.why.as_deref().unwrap_or("it could be done all the same");
    let network = match found.network {
        Network::Closed => (!closed.network).then(|| format!("the network can be reached: {why}")),
        Network::Ports => Some(format!(
            "the network is held by TCP port alone: {} can be reached, and so can any other host on these ports, and UDP",
            plan.confinement.hosts.join(", ")
        )),
        Network::Open if plan.confinement.level == Level::Strict => {
            Some("the network is open: this kernel's Landlock knows no ports, so hosts cannot be held".to_owned())
        }
        Network::Open => Some("the network is open at this level".to_owned()),
    };
    let ports = (found.network == Network::Ports && !closed.ports).then(|| "TCP reaches ports that were not granted".to_owned());
    let unless = |holds: bool, text: String| (!holds).then_some(text);
    let kernel = found.seccomp.as_ref().err().map_or("it could be done all the same", String::as_str);
    let rows = [
        (Part::Files, unless(closed.files, format!("files that were not granted can be reached: {why}"))),
        (Part::Attributes, unless(found.apart, format!("modes, owners and times of files outside can be changed: {why}"))),
        (Part::Network, network),
        (Part::Network, ports),
        (Part::Signals, unless(closed.signals, format!("other processes of this user can be signalled: {why}"))),
        (
            Part::ProcessList,
            unless(closed.processes, format!("other processes and their command lines can be seen: {}", masked(found, why))),
        ),
        (Part::Kernel, unless(closed.kernel, format!("system calls are not filtered: {kernel}"))),
        (
            Part::Memory,
            unless(
                found.cgroup.memory || resources.memory_bytes.is_none(),
                "memory is bounded for each process and without what is shared, not for all together: no control group with memory"
                    .to_owned(),
            ),
        ),
        (
            Part::ProcessCount,
            unless(
                found.cgroup.pids || found.count_bounded || resources.processes.is_none(),
                "processes are not counted: no control group, and no process namespace that could".to_owned(),
            ),
        ),
        (Part::Lifetime, unless(found.apart || found.cgroup.kill, format!("what leaves the process group outlives the daemon: {why}"))),
    ];
    rows.into_iter().filter_map(|(part, why)| Some(Gap { part, why: why? })).collect()
}

fn masked<'a>(found: &Found, why: &'a str) -> &'a str {
    if found.apart && !found.own_proc { "parts of /proc are masked, so the kernel gives no other one" } else { why }
}
