//! Who is on the other end of a connection. The kernel says so, as of the moment of the connect; nothing that the peer sends
//! changes it.

#![expect(unsafe_code, reason = "nix has no SO_PEERGROUPS")]

use aex_core::event::By;
use aex_proto::rpc::{ErrorObject, Fault};
use nix::libc;
use nix::unistd::{Group, geteuid};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use tokio::net::UnixStream;

/// Groups that a process can have at most, by Linux.
const MAX_GROUPS: usize = 65_536;

/// The peer, when it may administer: the daemon's own user, root, or a member of the group.
pub(super) fn identify(stream: &UnixStream, admin_group: Option<&str>) -> Result<By, ErrorObject> {
    let refuse = |why: String| ErrorObject::fault(Fault::Denied, why);
    let peer = stream.peer_cred().map_err(|fault| refuse(format!("the system does not say who connects: {fault}")))?;
    let by = By { pid: peer.pid().unwrap_or(0), uid: peer.uid() };
    if by.uid == 0 || by.uid == geteuid().as_raw() {
        return Ok(by);
    }
    let strange = refuse(format!("user {} may not administer this daemon", by.uid))
        .hint("use the daemon's own user, or make that user a member of admin_group");
    let Some(name) = admin_group else { return Err(strange) };
    let group =
        Group::from_name(name).ok().flatten().ok_or_else(|| refuse(format!("admin_group: there is no group `{name}` on this machine")))?;
    let groups =
        peer_groups(stream.as_fd()).map_err(|fault| refuse(format!("the system does not say of which groups the peer is: {fault}")))?;
    let gid = group.gid.as_raw();
    if peer.gid() == gid || groups.contains(&gid) { Ok(by) } else { Err(strange) }
}

/// The supplementary groups of the peer when it connected.
fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    let mut groups: Vec<libc::gid_t> = vec![0; MAX_GROUPS];
    let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
    // SAFETY: `groups` is writable for `length` bytes while the call lasts, any bytes are gids, and the descriptor is borrowed.
    let done =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &raw mut length) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(usize::try_from(length).map_err(io::Error::other)? / size_of::<libc::gid_t>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_is_who_the_kernel_says() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let by = identify(&ours, None).unwrap();
        assert_eq!((by.pid.unsigned_abs(), by.uid), (std::process::id(), geteuid().as_raw()));
        let mut own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut seen = peer_groups(ours.as_fd()).unwrap();
        own.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, own);
    }
}
