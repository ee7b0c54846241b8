//! The root of a confined process: a file system of its own that holds what its tree says and nothing else. Runs as the first process of
//! its namespaces.

use super::sys::{self, MOUNT_NODEV, MOUNT_NOSUID, MOUNT_RDONLY};
use super::tree::{Access, Bind, Tree};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, pivot_root};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Devices that hold nothing and reach nothing.
const DEVICES: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];
/// What programs look for in /dev.
const DEVICE_LINKS: [(&str, &str); 5] =
    [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "fd/0"), ("/dev/stdout", "fd/1"), ("/dev/stderr", "fd/2"), ("/dev/ptmx", "pts/ptmx")];
/// Shared memory, which no limit of a process counts.
const SHARED_MEMORY: &str = "mode=1777,size=256m";
/// Names and places to mount at: next to nothing.
const OWN: &str = "mode=755,size=4m";

/// Whether the processes that a process sees are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proc {
    /// It has a /proc of its own.
    Own,
    /// The machine's is masked, so the kernel gives none, and that one is shown.
    Shared,
}

/// A step that failed, for the report.
#[derive(Debug)]
pub(super) enum Fault {
    /// The kernel gives none of its own.
    Refused { what: String, fault: io::Error },
    /// A file is not the one that was judged, or is there no more: somebody is changing names.
    Moved { what: String, fault: io::Error },
}

fn step<T, F: Into<io::Error>>(what: impl Into<String>, done: Result<T, F>) -> Result<T, Fault> {
    done.map_err(|fault| Fault::Refused { what: what.into(), fault: fault.into() })
}

/// Moves this process, alone in its mount namespace, to a root of its own. `base` is a folder that may be covered meanwhile. `processes` bounds
/// the ids of the new process namespace.
pub(super) fn enter(tree: &Tree, base: &Path, processes: Option<u64>) -> Result<(Proc, bool), Fault> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    step("keeping mounts apart", mount(None::<&str>, "/", None::<&str>, private, None::<&str>))?;
    // All is taken before anything is covered.
    let taken = tree.binds.iter().map(|bind| Ok((bind, take(bind)?))).collect::<Result<Vec<_>, Fault>>()?;
    let devices = DEVICES.map(|device| (device, sys::take_tree(Path::new(device))));
    let old_proc = step("/proc", sys::take_tree(Path::new("/proc")))?;
    step("a new root", tmpfs(base, OWN))?;
    step("a new root", chdir(base))?;
    step("a new root", fs::create_dir("proc"))?;
    // Before the old root is gone: the kernel gives a new /proc only to who sees a whole one.
    let hard = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = if mount(Some("proc"), "proc", Some("proc"), hard, None::<&str>).is_ok() { Proc::Own } else { Proc::Shared };
    step("the new root", pivot_root(".", "."))?;
    step("the old root", umount2(".", MntFlags::MNT_DETACH))?;
    step("the new root", chdir("/"))?;

    let counted = proc == Proc::Own && processes.is_some_and(bound_ids);
    if proc == Proc::Shared {
        step("/proc", sys::attach_tree(&old_proc, Path::new("/proc")))?;
    }
    step("/proc", sys::deprive_mount(Path::new("/proc"), MOUNT_RDONLY))?;
    make_devices(devices)?;
    fill(tree, taken)?;
    step("the root", sys::deprive_mount(Path::new("/"), MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV))?;
    Ok((proc, counted))
}

/// Ids up to here are given once only: kernel/pid.c, RESERVED_PIDS.
const GIVEN_ONCE: u64 = 300;

/// Bounds processes and threads by their ids, which each process namespace counts alone since Linux 6.14: it holds for root, too. At
/// first there is room for GIVEN_ONCE more.
fn bound_ids(processes: u64) -> bool {
    fs::write("/proc/sys/kernel/pid_max", processes.max(1).saturating_add(GIVEN_ONCE).to_string()).is_ok()
}

/// Copies the mounts of a bind and takes from them what it does not give.
fn take(bind: &Bind) -> Result<OwnedFd, Fault> {
    let source = &bind.place.path;
    let what = || source.display().to_string();
    // What is held is of the machine's mounts, and can be copied from there alone.
    let same = bind.place.again().map_err(|fault| Fault::Moved { what: what(), fault })?;
    let tree = step(what(), sys::take_tree_of(&same))?;
    let device = if source.starts_with("/dev") { 0 } else { MOUNT_NODEV };
    let write = if bind.access == Access::Read { MOUNT_RDONLY } else { 0 };
    step(what(), sys::deprive_tree(&tree, MOUNT_NOSUID | device | write))?;
    Ok(tree)
}

fn tmpfs(at: &Path, options: &str) -> nix::Result<()> {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
}

fn make_devices(devices: [(&str, io::Result<OwnedFd>); 5]) -> Result<(), Fault> {
    step("/dev", fs::create_dir_all("/dev/shm"))?;
    step("/dev", fs::create_dir("/dev/pts"))?;
    for (path, device) in devices {
        let device = step(path, device)?;
        step(path, fs::File::create(path))?;
        step(path, sys::attach_tree(&device, Path::new(path)))?;
    }
    for (at, to) in DEVICE_LINKS {
        step(at, symlink(to, at))?;
    }
    step("/dev/shm", tmpfs(Path::new("/dev/shm"), SHARED_MEMORY))?;
    // Terminals of its own, for programs that run others in one; without them it has none.
    let options = "newinstance,ptmxmode=0666,mode=620";
    mount(Some("devpts"), "/dev/pts", Some("devpts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some(options)).ok();
    Ok(())
}

/// Attaches what was taken, each thing after what lies above it, and covers what is hidden.
fn fill(tree: &Tree, taken: Vec<(&Bind, OwnedFd)>) -> Result<(), Fault> {
    enum Part {
        Bind(OwnedFd),
        Hidden,
    }
    let mut parts: Vec<(PathBuf, Part)> = taken.into_iter().map(|(bind, mounts)| (bind.target.clone(), Part::Bind(mounts))).collect();
    parts.extend(tree.hidden.iter().map(|path| (path.clone(), Part::Hidden)));
    parts.sort_by(|one, other| one.0.cmp(&other.0));
    for (path, part) in parts {
        let what = path.display().to_string();
        match part {
            Part::Bind(mounts) => {
                step(&what, make_place(&path, is_dir(&mounts)))?;
                step(&what, sys::attach_tree(&mounts, &path))?;
            }
            Part::Hidden => {
                step(&what, make_place(&path, true))?;
                step(&what, tmpfs(&path, OWN))?;
            }
        }
    }
    for (at, to) in &tree.links {
        // What lies in a bind is there with its links.
        if at.symlink_metadata().is_err() {
            let what = at.display().to_string();
            step(&what, at.parent().map_or(Ok(()), fs::create_dir_all))?;
            step(&what, symlink(to, at))?;
        }
    }
    for path in &tree.hidden {
        step(path.display().to_string(), sys::deprive_mount(path, MOUNT_RDONLY | MOUNT_NOSUID | MOUNT_NODEV))?;
    }
    Ok(())
}

fn is_dir(mounts: &OwnedFd) -> bool {
    nix::sys::stat::fstat(mounts).is_ok_and(|stat| stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR)
}

/// Makes a place where something can be attached.
fn make_place(path: &Path, is_dir: bool) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    if is_dir {
        return fs::create_dir_all(path);
    }
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::File::create(path).map(drop)
}
