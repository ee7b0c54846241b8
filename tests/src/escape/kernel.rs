//! Parts of the kernel that no tool needs: namespaces, mounts, tracing, keys, terminals, privileges.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use aex_proto::sandbox::Part::Kernel;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};

use super::Free::{Depends, Reaches};
use super::call::{Arg, call, child, numbers};
use super::{Attempt, blocked};

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("a new user namespace (unshare)", Kernel, Depends, |_| {
        in_child(|| numbers(libc::SYS_unshare, [libc::CLONE_NEWUSER.into()]))
    }),
    Attempt::new("a new user namespace (clone)", Kernel, Depends, |_| cloned(libc::CLONE_NEWUSER)),
    Attempt::new("a new user namespace (clone3)", Kernel, Depends, |_| {
        // struct clone_args: flags, then seven more words, of which the fifth is the signal of the child's end.
        let mut args = [0_u8; 64];
        args[..8].copy_from_slice(&u64::from(libc::CLONE_NEWUSER.cast_unsigned()).to_ne_bytes());
        args[32..40].copy_from_slice(&u64::from(libc::SIGCHLD.cast_unsigned()).to_ne_bytes());
        match call(libc::SYS_clone3, [Arg::Memory(&mut args), Arg::Number(64)])? {
            0 => numbers(libc::SYS_exit_group, [0]).map(|_| String::new()),
            pid => Ok(format!("process {pid}")),
        }
    }),
    Attempt::new("new network and mount namespaces", Kernel, Depends, |_| {
        in_child(|| numbers(libc::SYS_unshare, [i64::from(libc::CLONE_NEWNET | libc::CLONE_NEWNS)]))
    }),
    Attempt::new("mount a file system", Kernel, Depends, |t| {
        in_child(|| {
            apart();
            let mut place = text(&t.own.display().to_string());
            let (mut kind, mut name) = (text("tmpfs"), text("tmpfs"));
            call(libc::SYS_mount, [Arg::Memory(&mut name), Arg::Memory(&mut place), Arg::Memory(&mut kind), Arg::Number(0), Arg::Number(0)])
        })
    }),
    Attempt::new("unmount what hides the rest", Kernel, Depends, |t| {
        in_child(|| {
            apart();
            let mut place = text(&t.own.display().to_string());
            // Who may not unmount is told so; who may is told that nothing is mounted here.
            allowed(call(libc::SYS_umount2, [Arg::Memory(&mut place), Arg::Number(libc::MNT_DETACH.into())]))
        })
    }),
    Attempt::new("make a mount writable", Kernel, Depends, |_| {
        in_child(|| {
            apart();
            let mut place = text("/usr");
            let again = i64::try_from(libc::MS_REMOUNT | libc::MS_BIND).unwrap_or_default();
            allowed(call(libc::SYS_mount, [Arg::Number(0), Arg::Memory(&mut place), Arg::Number(0), Arg::Number(again), Arg::Number(0)]))
        })
    }),
    Attempt::new("open_tree and move_mount", Kernel, Depends, |_| {
        let mut root = text("/");
        call(libc::SYS_open_tree, [Arg::Number(libc::AT_FDCWD.into()), Arg::Memory(&mut root), Arg::Number(1)]).map(|_| "a tree".to_owned())
    }),
    Attempt::new("chroot", Kernel, Depends, |t| {
        in_child(|| call(libc::SYS_chroot, [Arg::Memory(&mut text(&t.own.display().to_string()))]))
    }),
    Attempt::new("pivot_root", Kernel, Depends, |t| {
        in_child(|| {
            apart();
            let (mut new, mut old) = (text(&t.own.display().to_string()), text(&t.own.display().to_string()));
            allowed(call(libc::SYS_pivot_root, [Arg::Memory(&mut new), Arg::Memory(&mut old)]))
        })
    }),
    Attempt::new("setns into another process", Kernel, Depends, |t| {
        let namespace = File::open(format!("/proc/{}/ns/net", t.victim)).or_else(|_| File::open("/proc/self/ns/net"))?;
        in_child(|| numbers(libc::SYS_setns, [namespace.as_raw_fd().into(), 0]))
    }),
    Attempt::new("io_uring", Kernel, Depends, |_| {
        // struct io_uring_params.
        let mut parameters = [0; 120];
        call(libc::SYS_io_uring_setup, [Arg::Number(1), Arg::Memory(&mut parameters)]).map(|fd| format!("ring {fd}"))
    }),
    Attempt::new("bpf", Kernel, Depends, |_| {
        // BPF_MAP_CREATE of an array: kind, size of key and value, entries.
        let mut attributes = [0; 48];
        for (place, word) in attributes.chunks_exact_mut(4).zip([2_u32, 4, 4, 1]) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        call(libc::SYS_bpf, [Arg::Number(0), Arg::Memory(&mut attributes), Arg::Number(48)]).map(|fd| format!("map {fd}"))
    }),
    Attempt::new("keyctl", Kernel, Depends, |_| {
        // KEYCTL_GET_KEYRING_ID of the user's session keyring, made where there is none.
        numbers(libc::SYS_keyctl, [0, -3, 1]).map(|id| format!("keyring {id}"))
    }),
    Attempt::new("perf_event_open", Kernel, Depends, |_| {
        // A software clock of this process: type 1, 112 bytes, config 0.
        let mut attributes = [0; 112];
        attributes[..4].copy_from_slice(&1_u32.to_ne_bytes());
        attributes[4..8].copy_from_slice(&112_u32.to_ne_bytes());
        let own = [Arg::Memory(&mut attributes), Arg::Number(0), Arg::Number(-1), Arg::Number(-1), Arg::Number(0)];
        call(libc::SYS_perf_event_open, own).map(|fd| format!("counter {fd}"))
    }),
    Attempt::new("userfaultfd", Kernel, Depends, |_| numbers(libc::SYS_userfaultfd, [1]).map(|fd| format!("descriptor {fd}"))),
    Attempt::new("open_by_handle_at", Kernel, Depends, |t| {
        // struct file_handle of 128 bytes, first name_to_handle_at.
        let mut handle = [0; 136];
        handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
        let (mut path, mut mount) = (text(&t.own.display().to_string()), [0; 8]);
        let here = Arg::Number(libc::AT_FDCWD.into());
        call(
            libc::SYS_name_to_handle_at,
            [here, Arg::Memory(&mut path), Arg::Memory(&mut handle), Arg::Memory(&mut mount), Arg::Number(0)],
        )?;
        let folder = File::open(&t.own)?;
        call(libc::SYS_open_by_handle_at, [Arg::Number(folder.as_raw_fd().into()), Arg::Memory(&mut handle), Arg::Number(0)])
            .map(|_| "open".to_owned())
    }),
    Attempt::new("the kernel's log", Kernel, Depends, |_| {
        // SYSLOG_ACTION_SIZE_BUFFER and SYSLOG_ACTION_READ_ALL.
        let mut log = [0; 64];
        call(libc::SYS_syslog, [Arg::Number(3), Arg::Memory(&mut log), Arg::Number(64)]).map(|read| format!("{read} bytes"))
    }),
    Attempt::new("set the clock", Kernel, Depends, |_| {
        // No time at all: the right to set it is asked first.
        match numbers(libc::SYS_settimeofday, [0, 0]) {
            Ok(_) => Ok("it may be set".to_owned()),
            Err(fault) => Err(fault),
        }
    }),
    Attempt::new("calls of x32", Kernel, Depends, |_| numbers(0x4000_0000 + libc::SYS_getpid, []).map(|pid| format!("process {pid}"))),
    Attempt::new("calls that are newer than the filter", Kernel, Depends, |_| {
        // file_getattr of Linux 6.17.
        let (mut path, mut attributes) = (text("/usr"), [0; 32]);
        let here =
            [Arg::Number(libc::AT_FDCWD.into()), Arg::Memory(&mut path), Arg::Memory(&mut attributes), Arg::Number(32), Arg::Number(0)];
        call(468, here).map(|_| "attributes".to_owned())
    }),
    Attempt::new("put input into the terminal", Kernel, Depends, |_| {
        let mut letter = *b"x";
        call(libc::SYS_ioctl, [Arg::Number(0), Arg::Number(request(libc::TIOCSTI)), Arg::Memory(&mut letter)])
            .map(|_| "a letter".to_owned())
    }),
    Attempt::new("put input into the terminal, by a longer number", Kernel, Depends, |_| {
        // The kernel reads 32 bits of the request.
        let mut letter = *b"x";
        let long = request(libc::TIOCSTI) | 1 << 40;
        call(libc::SYS_ioctl, [Arg::Number(0), Arg::Number(long), Arg::Memory(&mut letter)]).map(|_| "a letter".to_owned())
    }),
    Attempt::new("take the terminal back by its path", Kernel, Depends, |_| File::open("/dev/tty").map(|_| "open".to_owned())),
    Attempt::new("gain rights by a program that has them", Kernel, Reaches, |_| {
        let kept = nix::sys::prctl::get_no_new_privs()?;
        if kept { Err(blocked("no_new_privs")) } else { Ok("setuid programs work".to_owned()) }
    }),
    Attempt::new("use rights of root", Kernel, Depends, |_| {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let sets = status.lines().filter_map(|line| line.strip_prefix("Cap")?.split_whitespace().last());
        let has = sets.into_iter().any(|set| set.bytes().any(|digit| digit != b'0'));
        if has { Ok("capabilities".to_owned()) } else { Err(blocked("no capabilities")) }
    }),
    Attempt::new("get rights of root by a program", Kernel, Depends, |t| {
        // Its own copy of a program, marked to run as its owner: for root that would be root again.
        let copy = t.own.join("sh");
        std::fs::copy("/bin/sh", &copy)?;
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o6755))?;
        let said = Command::new(&copy).args(["-c", "grep CapEff /proc/self/status"]).output()?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let set = said.split_whitespace().last().ok_or_else(|| blocked("it did not run"))?;
        if set.bytes().any(|digit| digit != b'0') { Ok(said.trim().to_owned()) } else { Err(blocked("no capabilities")) }
    }),
    Attempt::new("raise the own limits", Kernel, Depends, |_| {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let more = hard.saturating_add(1);
        setrlimit(Resource::RLIMIT_NOFILE, more, more)?;
        Ok(format!("{more} open files"))
    }),
];

/// Takes this child's mounts away from the machine's where it may: what succeeds harms nobody.
fn apart() {
    if numbers(libc::SYS_unshare, [libc::CLONE_NEWNS.into()]).is_ok() {
        let private = i64::try_from(libc::MS_REC | libc::MS_PRIVATE).unwrap_or_default();
        call(libc::SYS_mount, [Arg::Number(0), Arg::Memory(&mut text("/")), Arg::Number(0), Arg::Number(private), Arg::Number(0)]).ok();
    }
}

/// The right is looked at before the arguments are.
fn allowed(answer: io::Result<libc::c_long>) -> io::Result<libc::c_long> {
    answer.or_else(|fault| if fault.raw_os_error() == Some(libc::EINVAL) { Ok(0) } else { Err(fault) })
}

fn request(number: libc::c_ulong) -> i64 {
    number.cast_signed()
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_owned();
    bytes.push(0);
    bytes
}

/// Whether a call succeeds in a child, which it may change.
fn in_child(attack: impl FnOnce() -> io::Result<libc::c_long>) -> io::Result<String> {
    let pid = child(|| attack().map_or_else(|fault| fault.raw_os_error().unwrap_or(1), |_| 0))?;
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, 0) => Ok("done".to_owned()),
        WaitStatus::Exited(_, errno) => Err(io::Error::from_raw_os_error(errno)),
        other => Err(blocked(&format!("{other:?}"))),
    }
}

fn cloned(flags: i32) -> io::Result<String> {
    match numbers(libc::SYS_clone, [i64::from(flags | libc::SIGCHLD), 0, 0, 0, 0])? {
        0 => numbers(libc::SYS_exit_group, [0]).map(|_| String::new()),
        pid => Ok(format!("process {pid}")),
    }
}
