//! What this process takes of the machine.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use std::time::Duration;

/// What this process takes of the machine; what the system does not tell is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Memory that is resident.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_files: Option<u64>,
    /// File descriptors that may be open.
    pub max_files: Option<u64>,
}

/// Reads it. These files are in memory, so this does not wait for a disk.
#[must_use]
pub fn read() -> Usage {
    let cpu = getrusage(UsageWho::RUSAGE_SELF).map(|usage| span(usage.user_time()).saturating_add(span(usage.system_time())));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Usage {
        cpu: cpu.unwrap_or_default(),
        resident_bytes: resident_bytes(&status),
        open_files: std::fs::read_dir("/proc/self/fd").ok().and_then(|files| u64::try_from(files.count()).ok()),
        max_files: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
    }
}

fn span(time: nix::sys::time::TimeVal) -> Duration {
    let micros = time.tv_sec().saturating_mul(1_000_000).saturating_add(time.tv_usec());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// proc(5): `VmRSS:      1234 kB`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_files() {
        let usage = read();
        assert!(usage.resident_bytes > Some(100_000) && usage.open_files > Some(2) && usage.max_files >= usage.open_files, "{usage:?}");
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12_288));
        assert_eq!(resident_bytes("VmRSS: many"), None);
    }
}
