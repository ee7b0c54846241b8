//! Landlock: which files may be read and written, whom signals and abstract sockets reach, which TCP ports. Holds by the kernel's own means,
//! beside namespaces and without them.

use super::sys;
use super::tree::{Access, Tree};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The version whose rights this program knows and was tried with; all of them are of version 6.
const KNOWN: ABI = ABI::V7;
/// Devices that may be written where there is no /dev of its own.
const DEVICES: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];

/// The version that knows TCP ports.
pub(super) const PORTS: u32 = 4;
/// The version that knows whom signals and abstract sockets reach.
pub(super) const SCOPES: u32 = 6;
/// Ports of a host that is granted without one.
const WEB: [u16; 2] = [80, 443];
/// Names are asked for over TCP when an answer is long.
const NAMES: u16 = 53;

pub(super) use aex_proto::sandbox::{Enforced, Landlock};

/// What the rules are about.
pub(super) enum Ground<'a> {
    /// A root of its own, where only what may be written has to be told.
    Own(&'a Tree),
    /// The machine's files.
    Shared(&'a Tree),
}

/// Puts it in force for this process and all that it starts. `ports`: the only TCP ports to connect to; absent: any.
pub(super) fn restrict(ground: &Ground<'_>, ports: Option<&[u16]>) -> io::Result<Landlock> {
    let abi = sys::landlock_abi();
    if abi == 0 {
        return Ok(Landlock { abi, status: Enforced::Not });
    }
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(KNOWN)))
        .map_err(other)?;
    if ports.is_some() {
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN)).map_err(other)?;
    }
    let mut created = ruleset.create().map_err(other)?;
    for port in ports.unwrap_or_default() {
        created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(other)?;
    }
    let (read, write) = (AccessFs::from_read(KNOWN), AccessFs::from_all(KNOWN));
    let tree = match ground {
        Ground::Own(tree) => {
            created = allow(created, Path::new("/"), read)?;
            created = allow(created, Path::new("/dev"), write)?;
            tree
        }
        Ground::Shared(tree) => {
            created = allow(created, Path::new("/proc"), read)?;
            for device in DEVICES {
                created = allow(created, Path::new(device), write)?;
            }
            tree
        }
    };
    for bind in &tree.binds {
        // By what was judged, not by its name.
        let rights = if bind.access == Access::Write { write } else { read };
        created = give(created, &*bind.place, bind.place.is_dir, rights)?;
    }
    let status = created.restrict_self().map_err(other)?.ruleset;
    let status = match status {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partially,
        RulesetStatus::NotEnforced => Enforced::Not,
    };
    Ok(Landlock { abi, status })
}

/// Gives what is the kernel's own.
fn allow(ruleset: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> io::Result<RulesetCreated> {
    let fd = PathFd::new(path).map_err(|fault| io::Error::other(format!("{}: {fault}", path.display())))?;
    give(ruleset, fd, path.is_dir(), rights)
}

/// Gives a file or a folder and all below it. Rights of folders on a file would count as not enforced.
fn give(ruleset: RulesetCreated, place: impl AsFd, is_dir: bool, rights: BitFlags<AccessFs>) -> io::Result<RulesetCreated> {
    let rights = if is_dir { rights } else { rights & AccessFs::from_file(KNOWN) };
    ruleset.add_rule(PathBeneath::new(place, rights)).map_err(other)
}

fn other(fault: RulesetError) -> io::Error {
    io::Error::other(fault)
}

/// The ports of granted hosts, `HOST` or `HOST:PORT`. Hosts cannot be held: Landlock knows no addresses.
pub(super) fn ports(hosts: &[String]) -> Vec<u16> {
    let of = |host: &String| match host.rsplit_once(':') {
        // An IPv6 address in brackets ends with one.
        Some((_, port)) if !port.ends_with(']') => port.parse().map_or_else(|_| WEB.to_vec(), |port| vec![port]),
        _ => WEB.to_vec(),
    };
    let mut ports: Vec<u16> = hosts.iter().flat_map(of).chain([NAMES]).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_port_is_a_web_server() {
        let rows: [(&[&str], &[u16]); 4] = [
            (&["api.example.com"], &[53, 80, 443]),
            (&["api.example.com:8443", "10.0.0.1:5432"], &[53, 5432, 8443]),
            (&["[::1]"], &[53, 80, 443]),
            (&["[::1]:9"], &[9, 53]),
        ];
        for (hosts, wanted) in rows {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            assert_eq!(ports(&hosts), wanted, "{hosts:?}");
        }
    }
}
