//! What is really in force: whatever a confined process must not do is tried before and after, by the process that becomes the program.
//! What could be done before and cannot be done now is closed; nothing else is.

use super::tree::Tree;
use super::{Plan, sys};
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::get_no_new_privs;
use nix::sys::signal::kill;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{AccessFlags, Pid, access, getpid, getppid};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self as unix, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files that most machines have and each user may read, and that no tool is given.
const FILES: [&str; 6] = ["/etc/hostname", "/etc/machine-id", "/etc/fstab", "/etc/issue", "/etc/login.defs", "/etc/debconf.conf"];
/// An own network answers at once, and so does this machine's loopback.
const PATIENCE: Duration = Duration::from_millis(200);
/// Of a folder that may hold many, so many names are looked at.
const NAMES: usize = 64;

/// What can be done without confinement.
pub(super) struct Before {
    tcp: TcpListener,
    udp: UdpSocket,
    /// A Unix socket by name, not by path.
    named: UnixListener,
    name: unix::SocketAddr,
    /// Files that can be read.
    files: Vec<PathBuf>,
    /// Folders in which files can be made.
    folders: Vec<PathBuf>,
    /// Whoever started the stage.
    parent: Pid,
}

/// What cannot be done any more: each was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// Reading and making files outside.
    pub(super) files: bool,
    /// TCP, UDP, Unix sockets by name, netlink, packets, machines outside.
    pub(super) network: bool,
    /// TCP to a port that was not granted.
    pub(super) ports: bool,
    /// Signals to whoever started the stage.
    pub(super) signals: bool,
    /// Seeing others in /proc.
    pub(super) processes: bool,
    /// System calls that are filtered, and all privileges.
    pub(super) kernel: bool,
}

impl Before {
    /// Looks, and opens what will be tried.
    pub(super) fn look(plan: &Plan, tree: &Tree) -> io::Result<Before> {
        let parent = getppid();
        let name = unix::SocketAddr::from_abstract_name(format!("aexd-stage-{}", getpid()))?;
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        udp.set_nonblocking(true)?;
        let near = plan.deny.iter().chain(&plan.user_home).filter_map(|folder| first_file(folder, tree));
        let known = FILES.iter().map(PathBuf::from).filter(|file| !tree.gives(file));
        Ok(Before {
            tcp: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            udp,
            named: UnixListener::bind_addr(&name)?,
            name,
            files: near.chain(known).filter(|file| File::open(file).is_ok()).collect(),
            folders: plan.deny.iter().filter(|folder| folder.is_dir() && access(*folder, AccessFlags::W_OK).is_ok()).cloned().collect(),
            parent,
        })
    }

    /// Tries it all. `alone`: this process is in process and network namespaces of its own.
    pub(super) fn closed(&self, alone: bool) -> Closed {
        Closed {
            files: !self.files.is_empty()
                && !self.files.iter().any(|file| File::open(file).is_ok())
                && !self.folders.iter().any(|folder| makes(folder)),
            network: !self.tcp_passes() && !self.udp_passes() && !self.named_passes() && !strange_sockets(),
            ports: !self.tcp_passes(),
            signals: if alone { getppid().as_raw() == 1 } else { kill(self.parent, None) == Err(Errno::EPERM) },
            processes: alone && fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(&getpid().to_string())),
            kernel: filtered() && get_no_new_privs() == Ok(true) && sys::has_capabilities().is_ok_and(|has| !has),
        }
    }

    fn tcp_passes(&self) -> bool {
        self.tcp.local_addr().is_ok_and(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
    }

    /// The loopback of one machine delivers before it answers.
    fn udp_passes(&self) -> bool {
        let sent = self.udp.local_addr().and_then(|to: SocketAddr| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(b"?", to));
        sent.is_ok() && self.udp.recv(&mut [0; 1]).is_ok()
    }

    fn named_passes(&self) -> bool {
        UnixStream::connect_addr(&self.name).is_ok() && self.named.local_addr().is_ok()
    }
}

/// The first file of a folder that can be read, and was not granted.
fn first_file(folder: &Path, tree: &Tree) -> Option<PathBuf> {
    let names = fs::read_dir(folder).ok()?.take(NAMES).filter_map(Result::ok);
    let files = names.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())).map(|entry| entry.path());
    files.filter(|file| !tree.gives(file)).find(|file| File::open(file).is_ok())
}

/// Whether a file can be made; it does not stay.
fn makes(folder: &Path) -> bool {
    let path = folder.join(".aexd-stage");
    let made = OpenOptions::new().write(true).create_new(true).open(&path).is_ok();
    made && (fs::remove_file(&path).is_ok() || path.exists())
}

/// Sockets that no tool without a network needs, each by the kernel's own answer: a kind that it does not have is closed, too.
fn strange_sockets() -> bool {
    let kinds = [
        (AddressFamily::Unix, SockType::Stream),
        (AddressFamily::Netlink, SockType::Raw),
        (AddressFamily::Packet, SockType::Raw),
        (AddressFamily::Vsock, SockType::Stream),
        (AddressFamily::Alg, SockType::SeqPacket),
    ];
    kinds.into_iter().any(|(family, kind)| socket(family, kind, SockFlag::SOCK_CLOEXEC, None).is_ok())
}

/// Whether calls are refused that the kernel would answer otherwise.
fn filtered() -> bool {
    let refused = sys::unshare_nothing().is_err_and(|fault| fault.raw_os_error() == Some(libc::EPERM));
    refused && sys::io_uring_without_ring().raw_os_error() == Some(libc::ENOSYS)
}
