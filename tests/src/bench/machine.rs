//! What the figures depend on and aexd can't change: cores, kernel, disk, and who else used the CPU.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use serde::Serialize;

use super::sample::median;

const FLUSHES: usize = 50;
const APPEND: [u8; 4096] = [0x5a; 4096];

/// The machine, before the run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) filesystem: String,
}

impl Machine {
    pub(super) fn look(folder: &Path) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        Ok(Self { cores, kernel, processor: processor(), filesystem: filesystem(folder)? })
    }
}

/// The median time of an fdatasync after a 4 KiB append, where the ledgers lie. A virtual disk's may change within minutes.
pub(super) fn flush_ms(folder: &Path) -> io::Result<f64> {
    let path = folder.join("flush");
    let mut file = File::create(&path)?;
    let mut spans = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.write_all(&APPEND)?;
        let began = Instant::now();
        file.sync_data()?;
        spans.push(began.elapsed().as_secs_f64() * 1e3);
    }
    fs::remove_file(path)?;
    Ok(median(spans).unwrap_or_default())
}

fn processor() -> String {
    let known = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = known.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

/// Kind and device of the mount with the longest path above the folder.
fn filesystem(folder: &Path) -> io::Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, at, kind) = (words.next()?, words.next()?, words.next()?);
        folder.starts_with(at).then_some((at.len(), format!("{kind} on {device}")))
    });
    Ok(mount.max().map_or_else(|| "unknown".to_owned(), |(_, text)| text))
}

/// The CPU time that all processes, and that this one with its ended children, used until now.
pub(super) struct Clocks {
    began: Instant,
    all: Duration,
    own: Duration,
    stolen: Duration,
}

impl Clocks {
    pub(super) fn read() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        // user nice system idle iowait irq softirq steal, in steps of 10 ms.
        let first = stat.lines().next().unwrap_or_default();
        let steps: Vec<u64> = first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        let sum = |places: &[usize]| Duration::from_millis(10 * places.iter().filter_map(|place| steps.get(*place)).sum::<u64>());
        Ok(Self { began: Instant::now(), all: sum(&[0, 1, 2, 5, 6]), own: own()?, stolen: sum(&[7]) })
    }

    /// The shares of all cores that other processes used, and that the hypervisor took, between two readings.
    pub(super) fn others_since(&self, before: &Clocks, cores: usize) -> (f64, f64) {
        let cores = u32::try_from(cores).map_or(1.0, f64::from);
        let whole = (self.began - before.began).as_secs_f64() * cores;
        let own = self.own.saturating_sub(before.own);
        let others = self.all.saturating_sub(before.all).saturating_sub(own);
        let stolen = self.stolen.saturating_sub(before.stolen);
        (others.as_secs_f64() / whole, stolen.as_secs_f64() / whole)
    }
}

fn own() -> io::Result<Duration> {
    let mut micros = 0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        micros += usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    }
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or(0)))
}

/// As many open files as the system allows; children inherit it.
pub(super) fn raise_files() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
