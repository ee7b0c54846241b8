//! Makes the socket's file, for its owner or its group only, and never takes one from a daemon that lives.

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::Group;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::path::Path;
use tokio::net::{UnixListener, UnixSocket};

/// unix(7): `sun_path` has 108 bytes, the last one a zero.
const MAX_PATH: usize = 107;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 64;

/// Binds the socket with mode 0600, or 0660 for a group. Needs the runtime that will serve it.
///
/// # Errors
/// When the path is too long, another daemon answers on it, it is no socket, the group is not known, or the system refuses.
pub fn bind(path: &Path, admin_group: Option<&str>) -> io::Result<UnixListener> {
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_PATH {
        let text =
            format!("a socket's path can have {MAX_PATH} bytes, this one has {length}: {}; set AEX_HOME to a shorter path", path.display());
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    let gid = admin_group.map(group_id).transpose()?;
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|fault| at(folder, &fault))?;
    }
    remove_stale(path)?;
    let socket = UnixSocket::new_stream()?;
    // Linux gives the file the mode of the socket: there is no moment at which others could connect.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(path).map_err(|fault| at(path, &fault))?;
    if let Some(gid) = gid {
        chown(path, None, Some(gid)).map_err(|fault| at(path, &fault))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(|fault| at(path, &fault))?;
    }
    socket.listen(BACKLOG)
}

fn at(path: &Path, fault: &io::Error) -> io::Error {
    io::Error::new(fault.kind(), format!("{}: {fault}", path.display()))
}

fn group_id(name: &str) -> io::Result<u32> {
    let missing = || io::Error::new(ErrorKind::NotFound, format!("admin_group: there is no group `{name}` on this machine"));
    Ok(Group::from_name(name)?.ok_or_else(missing)?.gid.as_raw())
}

/// Removes a socket that nobody listens on: one that refuses a connection.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(fault) if fault.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|fault| at(path, &fault))?,
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, format!("{} is there and is no socket", path.display())));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, format!("another aexd answers on {}", path.display()))),
        Err(fault) if fault.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(|fault| at(path, &fault)),
        Err(fault) => Err(at(path, &fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_only_and_a_stale_one_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run/control.sock");
        let first = bind(&path, None).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(bind(&path, None).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        assert!(bind(&path, None).is_ok());
    }

    #[tokio::test]
    async fn a_socket_for_a_group_is_open_to_that_group() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("s");
        let own = Group::from_gid(nix::unistd::getegid()).unwrap().unwrap();
        let _listener = bind(&path, Some(&own.name)).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert!(bind(&root.path().join("t"), Some("no such group")).unwrap_err().to_string().contains("no such group"));
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays_and_a_long_path_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "kept").unwrap();
        assert!(bind(&path, None).unwrap_err().to_string().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        let long = root.path().join("x".repeat(120));
        assert!(bind(&long, None).unwrap_err().to_string().contains("shorter path"));
    }
}
