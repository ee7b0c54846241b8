//! The network, and sockets of other processes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::time::Duration;

use aex_proto::sandbox::Part::{Network, UnixSockets};
use nix::libc;

use super::Free::{Depends, Reaches};
use super::call::{Arg, call, numbers};
use super::{Attempt, SECRET, blocked};

/// Longer than loopback takes, shorter than a lost packet.
const PATIENCE: Duration = Duration::from_millis(400);

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::new("TCP to a listener of this machine", Network, Reaches, |t| connects((Ipv4Addr::LOCALHOST, t.tcp).into())),
    Attempt::new("TCP over IPv6", Network, Depends, |t| connects((Ipv6Addr::LOCALHOST, t.tcp6).into())),
    Attempt::new("TCP to the daemon's proxy", Network, Reaches, |t| {
        let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, t.proxy).into(), PATIENCE)?;
        stream.write_all(b"GET /health HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n")?;
        stream.read_exact(&mut [0; 12])?;
        Ok("it answers".to_owned())
    }),
    Attempt::new("TCP to another machine", Network, Depends, |_| connects(([1, 1, 1, 1], 443).into())),
    Attempt::new("TCP by Fast Open", Network, Depends, |t| {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        sends(&socket, t.tcp, libc::MSG_FASTOPEN)
    }),
    Attempt::new("TCP by MPTCP", Network, Depends, |t| {
        const IPPROTO_MPTCP: i32 = 262;
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_MPTCP)?;
        let mut address = address(t.tcp);
        let length = i64::try_from(address.len()).map_err(io::Error::other)?;
        call(libc::SYS_connect, [Arg::Number(socket.as_raw_fd().into()), Arg::Memory(&mut address), Arg::Number(length)])?;
        Ok("connected".to_owned())
    }),
    Attempt::new("SCTP", Network, Depends, |_| kind(libc::AF_INET, libc::SOCK_STREAM, 132)),
    Attempt::new("UDP to a socket of this machine", Network, Reaches, |t| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(b"?", (Ipv4Addr::LOCALHOST, t.udp))?;
        socket.recv(&mut [0; 16])?;
        Ok("it answers".to_owned())
    }),
    Attempt::new("UDP to another machine", Network, Depends, |_| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.send_to(b"?", SocketAddr::from(([8, 8, 8, 8], 53)))?;
        Ok("sent".to_owned())
    }),
    Attempt::new("look up a name", Network, Depends, |_| {
        let found = ("example.com", 443).to_socket_addrs()?.next();
        found.map(|address| address.to_string()).ok_or_else(|| blocked("no address"))
    }),
    Attempt::new("a raw socket", Network, Depends, |_| kind(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    Attempt::new("a ping socket", Network, Depends, |_| {
        let ping = socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
        sends(&ping, 0, 0)
    }),
    Attempt::new("a packet socket", Network, Depends, |_| kind(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    Attempt::new("routes by netlink", Network, Reaches, |_| kind(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)),
    Attempt::new("the audit log by netlink", Network, Depends, |_| kind(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT)),
    Attempt::new("the host of a virtual machine (vsock)", Network, Depends, |_| kind(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    Attempt::new("the kernel's ciphers (AF_ALG)", Network, Depends, |_| kind(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    Attempt::new("a port that this machine can reach", Network, Reaches, |t| {
        // The test's own listener took the port: only in another network is it free.
        match TcpListener::bind((Ipv4Addr::LOCALHOST, t.tcp)) {
            Err(fault) if fault.kind() == io::ErrorKind::AddrInUse => Ok("ports of this machine".to_owned()),
            Err(fault) => Err(fault),
            Ok(_) => Err(blocked("another machine's ports")),
        }
    }),
    Attempt::new("a Unix socket by path", UnixSockets, Reaches, |t| {
        UnixStream::connect(t.home.join("unix"))?;
        Ok("connected".to_owned())
    }),
    Attempt::new("a Unix socket by a link", UnixSockets, Reaches, |t| {
        let link = t.own.join("socket");
        std::os::unix::fs::symlink(t.home.join("unix"), &link)?;
        UnixStream::connect(link)?;
        Ok("connected".to_owned())
    }),
    Attempt::new("a Unix socket by name", UnixSockets, Reaches, |t| {
        UnixStream::connect_addr(&UnixAddr::from_abstract_name(&t.name)?)?;
        Ok("connected".to_owned())
    }),
    Attempt::new("the daemon's socket", UnixSockets, Reaches, |t| {
        let mut stream = UnixStream::connect(&t.socket)?;
        stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"daemon.hello\",\"params\":{\"protocol\":1}}\n")?;
        stream.read_exact(&mut [0; 1])?;
        Ok("it answers".to_owned())
    }),
    Attempt::new("the system's log socket", UnixSockets, Depends, |_| {
        UnixDatagram::unbound()?.connect("/dev/log").or_else(|_| UnixDatagram::unbound()?.connect("/run/systemd/journal/socket"))?;
        Ok(SECRET.len().to_string())
    }),
    Attempt::new("D-Bus, Docker and other services", UnixSockets, Depends, |_| {
        let known = ["/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"];
        known.into_iter().find(|path| UnixStream::connect(path).is_ok()).map(str::to_owned).ok_or_else(|| blocked("none answers"))
    }),
];

fn connects(address: SocketAddr) -> io::Result<String> {
    TcpStream::connect_timeout(&address, PATIENCE)?;
    Ok("connected".to_owned())
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let fd = numbers(libc::SYS_socket, [family.into(), i64::from(kind | libc::SOCK_CLOEXEC), protocol.into()])?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    owned(fd)
}

#[expect(unsafe_code, reason = "the attack made the descriptor by a system call")]
fn owned(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just given it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether there is such a socket at all.
fn kind(family: i32, kind: i32, protocol: i32) -> io::Result<String> {
    socket(family, kind, protocol).map(|_| "a socket".to_owned())
}

/// struct `sockaddr_in` of 127.0.0.1.
fn address(port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    let family = u16::try_from(libc::AF_INET).unwrap_or_default();
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    bytes
}

fn sends(socket: &OwnedFd, port: u16, flags: i32) -> io::Result<String> {
    // An echo request, or any text.
    let (mut text, mut address) = ([8, 0, 0, 0, 0, 0, 0, 0], address(port));
    let (long, size) = (i64::try_from(text.len()).map_err(io::Error::other)?, i64::try_from(address.len()).map_err(io::Error::other)?);
    let fd = Arg::Number(socket.as_raw_fd().into());
    let to = Arg::Memory(&mut address);
    call(libc::SYS_sendto, [fd, Arg::Memory(&mut text), Arg::Number(long), Arg::Number(flags.into()), to, Arg::Number(size)])?;
    Ok("sent".to_owned())
}
