//! What neither std nor nix offers safely. The one module of the sandbox with unsafe code: each function is one system call, or few.

#![expect(unsafe_code, reason = "fork, namespaces, mounts and capabilities have no safe wrappers")]

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// linux/mount.h. `libc` has them for musl only.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
/// linux/mount.h: what a mount may be deprived of.
pub(super) const MOUNT_RDONLY: u64 = 0x1;
pub(super) const MOUNT_NOSUID: u64 = 0x2;
pub(super) const MOUNT_NODEV: u64 = 0x4;
/// linux/landlock.h.
const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
/// linux/capability.h.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// More capabilities than any kernel has: the set has 64 bits.
const CAPABILITIES: libc::c_ulong = 64;

/// linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// linux/capability.h: the head of capget and capset, and each half of the three sets.
#[repr(C)]
struct CapHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Lets the child of a command, and no other child, keep these descriptors. They are closed here with the command.
pub(super) fn inherit(command: &mut Command, kept: [OwnedFd; 2]) {
    // SAFETY: the closure only calls fcntl on descriptors that it owns: async-signal-safe, no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            for fd in &kept {
                fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        })
    };
}

/// A descriptor that whoever started this process has left to it. It is closed when a program is executed.
pub(super) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= libc::STDERR_FILENO {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: `stage` gave this process the number of an open descriptor that nothing else here owns; were it not open, fcntl says so
    // before it is used.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    match fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(fd),
        Err(fault) => {
            // Not ours to close.
            std::mem::forget(fd);
            Err(fault.into())
        }
    }
}

/// Closes what else was left open by whoever started this process.
pub(super) fn close_others(kept: [&OwnedFd; 2]) -> io::Result<()> {
    let mut numbers = kept.map(AsRawFd::as_raw_fd);
    numbers.sort_unstable();
    let mut first = libc::STDERR_FILENO.saturating_add(1);
    for number in numbers.into_iter().map(Some).chain([None]) {
        let last = number.map_or(libc::c_int::MAX, |number| number.saturating_sub(1));
        if first <= last {
            // SAFETY: the descriptors were inherited and have no owner in this process, which has just begun; the two that have are spared.
            checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = number.map_or(first, |number| number.saturating_add(1));
    }
    Ok(())
}

/// Has all but stdin, stdout and stderr closed when a program is executed.
pub(super) fn close_at_exec() -> io::Result<()> {
    let first = libc::STDERR_FILENO.saturating_add(1);
    // SAFETY: only sets a flag on descriptors.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Forks into new namespaces: the child is in them, with the id 1 where that is one of them; the parent stays outside. `None`: the child.
pub(super) fn fork_into(namespaces: libc::c_int) -> io::Result<Option<Pid>> {
    let flags = libc::c_long::from(namespaces | libc::SIGCHLD);
    // SAFETY: without a stack of its own and without CLONE_VM this is fork(2). The process has one thread (`stage` looked), so no lock is
    // held by a thread that the child lacks. glibc's note of the thread's id is stale in the child, which neither raises signals nor
    // makes threads before it forks again.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) })?;
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    Ok((pid != 0).then(|| Pid::from_raw(pid)))
}

/// Forks. `None`: the child.
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the process has one thread, so the child may do whatever it may.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Takes a copy of the mounts at and below a path, which is attached nowhere yet. A link at its end is not followed.
pub(super) fn take_tree(path: &Path) -> io::Result<OwnedFd> {
    open_tree(libc::AT_FDCWD, &text(path)?, flag(libc::AT_SYMLINK_NOFOLLOW))
}

/// The same of what is open.
pub(super) fn take_tree_of(place: &OwnedFd) -> io::Result<OwnedFd> {
    open_tree(place.as_raw_fd(), c"", flag(libc::AT_EMPTY_PATH))
}

fn open_tree(at: RawFd, path: &CStr, flags: libc::c_uint) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | flag(libc::AT_RECURSIVE) | flag(libc::O_CLOEXEC) | flags;
    // SAFETY: the path is a C string that lives as long as the call, whose result is a new descriptor or an error.
    let fd = checked(unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) })?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Deprives the mounts of a tree of what the bits say.
pub(super) fn deprive_tree(tree: &OwnedFd, bits: u64) -> io::Result<()> {
    set_mount(tree.as_raw_fd(), c"", flag(libc::AT_EMPTY_PATH) | flag(libc::AT_RECURSIVE), bits)
}

/// Deprives the mount at a path, and none below it, of what the bits say.
pub(super) fn deprive_mount(path: &Path, bits: u64) -> io::Result<()> {
    set_mount(libc::AT_FDCWD, &text(path)?, 0, bits)
}

fn set_mount(at: RawFd, path: &CStr, flags: libc::c_uint, bits: u64) -> io::Result<()> {
    let attributes = MountAttr { attr_set: bits, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and attributes live as long as the call, and the size is that of the attributes.
    checked(unsafe { libc::syscall(libc::SYS_mount_setattr, at, path.as_ptr(), flags, &raw const attributes, size_of::<MountAttr>()) })
        .map(drop)
}

/// Attaches a copied tree at a path.
pub(super) fn attach_tree(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = text(path)?;
    // SAFETY: both paths are C strings that live as long as the call.
    checked(unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD, path.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
    })
    .map(drop)
}

fn flag(value: libc::c_int) -> libc::c_uint {
    value.cast_unsigned()
}

/// Brings the loopback of a new network up.
pub(super) fn loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all of the structure may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, letter) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = libc::c_char::try_from(*letter).unwrap_or_default();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: the request lives as long as the call and has the flags that SIOCSIFFLAGS reads.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// Gives up all capabilities, and the right to get any by executing a file.
pub(super) fn drop_capabilities() -> io::Result<()> {
    for capability in 0..CAPABILITIES {
        // SAFETY: takes numbers only. Fails for what this kernel has not, and where the process may not: it has none then, and
        // `has_capabilities` looks.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0_usize, 0_usize, 0_usize) };
    }
    // SAFETY: takes numbers only.
    checked(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0_usize, 0_usize, 0_usize) }.into())?;
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapData::default(); 2];
    // SAFETY: version 3 reads two halves, and both structures live as long as the call.
    checked(unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) }).map(drop)
}

/// Whether the process has, or could take, any capability.
pub(super) fn has_capabilities() -> io::Result<bool> {
    let mut header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [CapData::default(); 2];
    // SAFETY: version 3 writes two halves, and both structures live as long as the call.
    checked(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) })?;
    Ok(sets != [CapData::default(); 2])
}

/// Gives each signal its default action: a program inherits what is ignored.
pub(super) fn default_signals() {
    for one in Signal::iterator().filter(|one| !matches!(one, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: no handler is installed, and none of this program is needed any more. Fails for no signal of the iterator.
        unsafe { signal(one, SigHandler::SigDfl) }.ok();
    }
}

/// The kernel's version of Landlock; 0: it has none, or it is off.
pub(super) fn landlock_abi() -> u32 {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with this flag the call takes no structure, and answers a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, LANDLOCK_CREATE_RULESET_VERSION) };
    u32::try_from(version).unwrap_or_default()
}

/// What the kernel says to an `unshare` of nothing, which it lets pass unless it is filtered.
pub(super) fn unshare_nothing() -> io::Result<()> {
    // SAFETY: changes nothing.
    checked(unsafe { libc::unshare(0) }.into()).map(drop)
}

/// What the kernel says to io_uring without a ring.
pub(super) fn io_uring_without_ring() -> io::Error {
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: a null pointer is refused.
    let refused = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0_usize, none) };
    checked(refused).err().unwrap_or_else(|| io::Error::other("it was taken"))
}

/// Whether a file has an extended attribute.
pub(super) fn has_attribute(path: &Path, name: &CStr) -> bool {
    let Ok(path) = text(path) else { return false };
    // SAFETY: both are C strings that live as long as the call; with a size of 0 nothing is written.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) >= 0 }
}
