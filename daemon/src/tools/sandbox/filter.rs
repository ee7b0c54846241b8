//! The system calls of a confined process: what no tool needs is refused, what is newer than this list is unknown.

use aex_proto::sandbox::Network;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, apply_filter, sock_filter,
};
use std::collections::BTreeMap;
use std::io;

/// The first number that is taken for unknown: Linux 6.15 added it. x32's calls, the same ones under other numbers, lie above it as well.
const CEILING: u32 = 467;
/// Calls that `libc` has no names for: both are of Linux 6.8 and tell of mounts.
const STATMOUNT: libc::c_long = 457;
const LISTMOUNT: libc::c_long = 458;

/// Refused to all: other processes, kernel programs and keys, mounts and namespaces, the machine's clock, names, modules and swap.
const REFUSED: [libc::c_long; 52] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    STATMOUNT,
    LISTMOUNT,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
];
/// Of x86 alone.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: [libc::c_long; 5] = [libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib, libc::SYS__sysctl];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: [libc::c_long; 0] = [];
/// Answered as by an older kernel, so that programs take another way: io_uring passes by filters, the flags of clone3 and the mode of openat2
/// cannot be seen.
const ABSENT: [libc::c_long; 5] =
    [libc::SYS_clone3, libc::SYS_openat2, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
/// Linux 6.6; `libc` has no name for it.
const FCHMODAT2: libc::c_long = 452;
/// Calls that give a file a mode: which argument that is, and where it counts only when a file is made, which one says so.
const MODES: [(libc::c_long, u8, Option<u8>); 5] = [
    (libc::SYS_fchmod, 1, None),
    (libc::SYS_fchmodat, 2, None),
    (FCHMODAT2, 2, None),
    (libc::SYS_mknodat, 2, None),
    (libc::SYS_openat, 3, Some(2)),
];
/// Of x86 alone.
#[cfg(target_arch = "x86_64")]
const MODES_HERE: [(libc::c_long, u8, Option<u8>); 4] =
    [(libc::SYS_chmod, 1, None), (libc::SYS_creat, 1, None), (libc::SYS_mknod, 1, None), (libc::SYS_open, 2, Some(1))];
#[cfg(not(target_arch = "x86_64"))]
const MODES_HERE: [(libc::c_long, u8, Option<u8>); 0] = [];
/// Who executes such a file becomes its owner, or one of its group.
const SPECIAL: [libc::mode_t; 2] = [libc::S_ISUID, libc::S_ISGID];
/// Flags with which a file is made. The other bits of O_TMPFILE are those of O_DIRECTORY.
const MAKING: [libc::c_int; 2] = [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY];
/// What a new process may not be put into.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];
/// linux/tty.h: puts input, and more, into a terminal.
const TERMINAL: [libc::c_ulong; 2] = [libc::TIOCSTI, libc::TIOCLINUX];
/// Shared memory, semaphores and queues of the machine.
const SHARED: [libc::c_long; 12] = [
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];
/// Kinds of sockets that neither TCP nor UDP has, by sys/socket.h; the other bits are flags.
const KINDS: u64 = 0xf;
const ODD_KINDS: [u64; 14] = [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

/// What the filter has to hold because nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// What may be reached.
    pub(super) network: Network,
    /// A network of its own: its sockets reach nothing, so programs may have them.
    pub(super) own_network: bool,
    /// Unix sockets other than pairs.
    pub(super) unix: bool,
    /// Processes of its own: the others have no number that it could name.
    pub(super) own_processes: bool,
    /// Shared memory of its own.
    pub(super) own_memory: bool,
}

/// Puts the filters in force for this process and all that it starts.
pub(super) fn apply(held: Held) -> io::Result<()> {
    let refused = compiled(refused(held)?, libc::EPERM)?;
    let absent = compiled(ABSENT.into_iter().map(|call| (call, Vec::new())).collect(), libc::ENOSYS)?;
    for program in [refused, absent, ceiling()] {
        apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

fn compiled(rules: Rules, errno: libc::c_int) -> io::Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let action = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, action, arch).and_then(TryInto::try_into).map_err(io::Error::other)
}

/// Numbers from CEILING on do not exist. The architecture is the other programs' matter: they end a process that has another one.
fn ceiling() -> BpfProgram {
    let statement = |code: u32, k: u32| sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: 0, jf: 0, k };
    vec![
        // The number is the first member of seccomp_data.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, CEILING) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]
}

fn refused(held: Held) -> io::Result<Rules> {
    let mut rules: Rules = REFUSED.into_iter().chain(REFUSED_HERE).map(|call| (call, Vec::new())).collect();
    let flags = NAMESPACES.map(i32::cast_unsigned).map(u64::from);
    rules.insert(libc::SYS_clone, flags.into_iter().map(|flag| rule(&[(0, has(flag), flag)])).collect::<io::Result<_>>()?);
    rules.insert(libc::SYS_ioctl, TERMINAL.into_iter().map(|request| rule(&[(1, Eq, request)])).collect::<io::Result<_>>()?);
    // Limits of others.
    rules.insert(libc::SYS_prlimit64, vec![rule(&[(0, Ne, 0)])?]);
    rules.insert(libc::SYS_socketpair, vec![rule(&[(0, Ne, number(libc::AF_UNIX))])?]);
    rules.insert(libc::SYS_socket, sockets(held)?);
    for (call, mode, flags) in MODES.into_iter().chain(MODES_HERE) {
        rules.insert(call, special(mode, flags)?);
    }
    if held.network == Network::Ports {
        // It connects without asking Landlock, which holds the ports.
        let open = number(libc::MSG_FASTOPEN);
        for (call, argument) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            rules.insert(call, vec![rule(&[(argument, has(open), open)])?]);
        }
    }
    if !held.own_processes {
        let others = [libc::SYS_sched_setaffinity, libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr];
        for call in others {
            rules.insert(call, vec![rule(&[(0, Ne, 0)])?]);
        }
        // Who is a process, and this one.
        rules.insert(libc::SYS_setpriority, vec![rule(&[(0, Ne, number(libc::PRIO_PROCESS.cast_signed()))])?, rule(&[(1, Ne, 0)])?]);
        rules.insert(libc::SYS_ioprio_set, vec![rule(&[(0, Ne, 1)])?, rule(&[(1, Ne, 0)])?]);
    }
    if !held.own_memory {
        rules.extend(SHARED.into_iter().map(|call| (call, Vec::new())));
    }
    Ok(rules)
}

/// Refuses a mode that makes a file run as its owner or its group.
fn special(mode: u8, flags: Option<u8>) -> io::Result<Vec<SeccompRule>> {
    let mut rules = Vec::new();
    for bit in SPECIAL.map(u64::from) {
        match flags {
            None => rules.push(rule(&[(mode, has(bit), bit)])?),
            Some(flags) => {
                for making in MAKING.map(number) {
                    rules.push(rule(&[(mode, has(bit), bit), (flags, has(making), making)])?);
                }
            }
        }
    }
    Ok(rules)
}

/// Which sockets are refused. An empty list refuses all.
fn sockets(held: Held) -> io::Result<Vec<SeccompRule>> {
    let mut families = Vec::new();
    if held.network != Network::Closed || held.own_network {
        families.extend([libc::AF_INET, libc::AF_INET6]);
    }
    if held.network == Network::Open {
        families.push(libc::AF_NETLINK);
    }
    if held.unix {
        families.push(libc::AF_UNIX);
    }
    if families.is_empty() {
        return Ok(Vec::new());
    }
    let others: Vec<_> = families.into_iter().map(|family| (0, Ne, number(family))).collect();
    // Of netlink only addresses and routes, which getifaddrs(3) asks for.
    let mut rules = vec![rule(&others)?, rule(&[(0, Eq, number(libc::AF_NETLINK)), (2, Ne, number(libc::NETLINK_ROUTE))])?];
    if held.network == Network::Ports {
        // MPTCP and others connect without asking Landlock.
        for family in [libc::AF_INET, libc::AF_INET6].map(number) {
            for kind in ODD_KINDS {
                rules.push(rule(&[(0, Eq, family), (1, SeccompCmpOp::MaskedEq(KINDS), kind)])?);
            }
            for (kind, protocol) in [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)] {
                let kind = (1, SeccompCmpOp::MaskedEq(KINDS), number(kind));
                rules.push(rule(&[(0, Eq, family), kind, (2, Ne, 0), (2, Ne, number(protocol))])?);
            }
        }
    }
    Ok(rules)
}

use SeccompCmpOp::{Eq, Ne};

fn has(flag: u64) -> SeccompCmpOp {
    SeccompCmpOp::MaskedEq(flag)
}

fn number(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

/// All of the conditions: an argument, how it compares, and with what. The kernel reads 32 bits of each of these arguments.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> io::Result<SeccompRule> {
    let made = conditions.iter().map(|(argument, compares, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, compares.clone(), *value).map_err(io::Error::other)
    });
    SeccompRule::new(made.collect::<io::Result<_>>()?).map_err(io::Error::other)
}
