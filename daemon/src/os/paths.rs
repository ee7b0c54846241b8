//! Makes the daemon's folders. Where they are is decided by `aex_core::paths`.

use aex_core::paths::Paths;
use nix::unistd::Uid;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Makes the folders that are missing, for their owner only. Names the ones that others can write to: those are left as
/// they are, because their owner may share them on purpose.
///
/// # Errors
/// When a folder can be neither found nor made; the path is in the text.
pub fn prepare(paths: &Paths) -> io::Result<Vec<PathBuf>> {
    let parents = [&paths.socket, &paths.ledger, &paths.pid_file].into_iter().filter_map(|file| file.parent());
    let folders = [paths.home.as_path(), &paths.config_dir, &paths.log_dir].into_iter().chain(parents);
    let mut loose = Vec::new();
    for folder in folders {
        make_private(folder).map_err(|fault| io::Error::new(fault.kind(), format!("{}: {fault}", folder.display())))?;
        if is_writable_by_others(folder)? && !loose.iter().any(|known| known == folder) {
            loose.push(folder.to_owned());
        }
    }
    Ok(loose)
}

/// The user whom a home belongs to, when it isn't ours.
///
/// # Errors
/// When the home cannot be looked at.
pub fn foreign_owner(home: &Path) -> io::Result<Option<u32>> {
    let owner = fs::metadata(home)?.uid();
    Ok((owner != Uid::effective().as_raw()).then_some(owner))
}

/// A folder's name is on the disk when the folder above it is flushed. What is promised to survive a power cut lies in these.
fn make_private(folder: &Path) -> io::Result<()> {
    let made: Vec<&Path> = folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for above in made.iter().filter_map(|folder| folder.parent()) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        fs::File::open(above)?.sync_all()?;
    }
    Ok(())
}

fn is_writable_by_others(folder: &Path) -> io::Result<bool> {
    Ok(fs::metadata(folder)?.permissions().mode() & 0o022 != 0)
}

/// Takes a file from its group and from others. Tells whether it had to.
///
/// # Errors
/// When the mode can be neither read nor changed.
pub fn tighten(file: &fs::File) -> io::Result<bool> {
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(false);
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(true)
}

/// Files that this process makes are for its user alone.
pub fn private() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_for_their_owner_only_and_loose_ones_are_named() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("a/b");
        let paths = Paths::resolve(|_| None, Some(&home)).unwrap();
        assert_eq!(prepare(&paths).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::metadata(&paths.log_dir).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&paths.config_dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(prepare(&paths).unwrap(), std::slice::from_ref(&paths.config_dir));
        assert_eq!(fs::metadata(&paths.config_dir).unwrap().permissions().mode() & 0o777, 0o777);
    }

    #[test]
    fn a_home_of_another_user_is_named() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(foreign_owner(home.path()).unwrap(), None);
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(home.path(), Some(1000), None).unwrap();
            assert_eq!(foreign_owner(home.path()).unwrap(), Some(1000));
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let paths = Paths::resolve(|_| None, Some(&file)).unwrap();
        assert!(prepare(&paths).unwrap_err().to_string().contains("file: "));
    }
}
