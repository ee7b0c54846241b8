//! A file or folder of the machine, found by its name once and then held: what is judged is what is shown and allowed, whatever others make of
//! the name meanwhile. Tells which links on the way were tools' to make; what that means is decided elsewhere.

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Links on the way to a file, as the kernel follows at most.
const HOPS: usize = 40;
/// Held without being opened: no right to read is needed, and nothing happens to it.
const HELD: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What a file is, whatever it is called. Nothing else has it while a descriptor holds the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl Id {
    fn of(stat: &FileStat) -> Id {
        Id { device: stat.st_dev, inode: stat.st_ino }
    }

    /// What is at a path, links followed.
    pub(super) fn at(path: &Path) -> Option<Id> {
        nix::sys::stat::stat(path).ok().map(|stat| Id::of(&stat))
    }
}

/// Folders and files that tools may write, or might once: what stands in them may be a tool's word.
#[derive(Debug, Default)]
pub(super) struct Writable(Vec<PathBuf>);

impl Writable {
    /// These, by the names that were given and by those without a link.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Writable {
        Writable(paths.into_iter().flat_map(|path| [Some(path.clone()), path.canonicalize().ok()]).flatten().collect())
    }

    /// The innermost one in which a tool could have made this link.
    fn of_link(&self, link: &Path) -> Option<&PathBuf> {
        link.parent().and_then(|folder| self.of_content(folder))
    }

    /// The innermost one by which a tool could have written this file.
    pub(super) fn of_content(&self, file: &Path) -> Option<&PathBuf> {
        self.0.iter().filter(|root| file.starts_with(root)).max_by_key(|root| root.components().count())
    }
}

/// Something that a tool may have said, and how far its word goes: where the tool may write anyway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leash {
    /// The link, or the file whose text it was.
    pub(super) said: PathBuf,
    /// Where a tool may write.
    pub(super) root: PathBuf,
}

/// A file or a folder, held.
#[derive(Debug)]
pub(super) struct Place {
    /// Where it lies, without a link on the way.
    pub(super) path: PathBuf,
    /// Links that were the whole name, the first one first; each by a path without a link on the way.
    pub(super) links: Vec<PathBuf>,
    /// Links on the way that a tool may have made.
    pub(super) leashes: Vec<Leash>,
    pub(super) is_dir: bool,
    /// The folders that it lies in, from the root on, and itself.
    way: Vec<Id>,
    fd: OwnedFd,
}

impl Place {
    /// Finds what is called so now. The path is absolute.
    pub(super) fn find(path: &Path, writable: &Writable) -> io::Result<Place> {
        if !path.is_absolute() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let root = openat(AT_FDCWD, "/", HELD | OFlag::O_DIRECTORY, Mode::empty())?;
        let mut held = vec![(fstat(&root)?, root)];
        let mut real = PathBuf::from("/");
        let (mut links, mut leashes, mut hops) = (Vec::new(), Vec::new(), 0_usize);
        let mut left = parts(path);
        while let Some(part) = left.pop() {
            if part == ".." {
                held.truncate(held.len().saturating_sub(1).max(1));
                real.pop();
                continue;
            }
            let Some((_, folder)) = held.last() else { return Err(io::ErrorKind::NotFound.into()) };
            let fd = openat(folder, part.as_os_str(), HELD, Mode::empty())?;
            let stat = fstat(&fd)?;
            let here = real.join(&part);
            if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
                held.push((stat, fd));
                real = here;
                continue;
            }
            hops = hops.saturating_add(1);
            if hops > HOPS {
                return Err(Errno::ELOOP.into());
            }
            let to = PathBuf::from(readlinkat(&fd, "")?);
            leashes.extend(writable.of_link(&here).map(|root| Leash { said: here.clone(), root: root.clone() }));
            if left.is_empty() {
                links.push(here);
            }
            if to.is_absolute() {
                held.truncate(1);
                real = PathBuf::from("/");
            }
            left.extend(parts(&to));
        }
        let way = held.iter().map(|(stat, _)| Id::of(stat)).collect();
        let (stat, fd) = held.pop().ok_or(io::ErrorKind::NotFound)?;
        // The kernel's own word: somebody may have moved a folder while it was walked through.
        if fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))? != real {
            return Err(io::Error::other("it is being moved"));
        }
        Ok(Place { path: real, links, leashes, is_dir: stat.st_mode & libc::S_IFMT == libc::S_IFDIR, way, fd })
    }

    /// The same file, opened anew in the mount namespace of the moment.
    ///
    /// # Errors
    /// Also when its name leads to another one by now.
    pub(super) fn again(&self) -> io::Result<OwnedFd> {
        let how = OpenHow::new().flags(HELD).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
        let fd = openat2(AT_FDCWD, &self.path, how)?;
        if self.way.last() == Some(&Id::of(&fstat(&fd)?)) { Ok(fd) } else { Err(io::Error::other("another one has its name by now")) }
    }

    /// Whether it is one of these, or lies in one.
    pub(super) fn is_in(&self, others: &[Id]) -> bool {
        self.way.iter().any(|id| others.contains(id))
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a path goes through, the last part first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A folder `w` that tools may write, with `in` in it, and `out` beside it.
    fn world() -> (tempfile::TempDir, PathBuf, Writable) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["w/in", "w/in/deep", "out"] {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("file"), name).unwrap();
        }
        let writable = Writable::of([&root.join("w")]);
        (folder, root, writable)
    }

    #[test]
    fn a_name_leads_where_the_kernel_says_and_tells_which_links_tools_could_make() {
        let (_folder, root, writable) = world();
        symlink("w", root.join("own")).unwrap();
        symlink("in", root.join("w/inner")).unwrap();
        symlink("../out", root.join("w/outer")).unwrap();
        symlink(root.join("w/outer/file"), root.join("w/in/two")).unwrap();
        symlink("three", root.join("w/three")).unwrap();
        // A name, where it leads, its links by name, and those of them that a tool could make.
        let rows: [(&str, &str, &[&str], &[&str]); 8] = [
            ("w/in/file", "w/in/file", &[], &[]),
            ("own", "w", &["own"], &[]),
            ("own/in/file", "w/in/file", &[], &[]),
            ("w/inner", "w/in", &["w/inner"], &["w/inner"]),
            ("w/inner/deep/../file", "w/in/file", &[], &["w/inner"]),
            ("w/outer/file", "out/file", &[], &["w/outer"]),
            ("own/in/two", "out/file", &["w/in/two"], &["w/in/two", "w/outer"]),
            ("out/../../../../../../../../..", "/", &[], &[]),
        ];
        for (name, wanted, links, leashes) in rows {
            let place = Place::find(&root.join(name), &writable).unwrap();
            assert_eq!(place.path, root.join(wanted), "{name}");
            assert_eq!(place.path, root.join(name).canonicalize().unwrap(), "{name}");
            assert_eq!(place.links, links.iter().map(|link| root.join(link)).collect::<Vec<_>>(), "{name}");
            assert_eq!(
                place.leashes.iter().map(|leash| leash.said.clone()).collect::<Vec<_>>(),
                leashes.iter().map(|link| root.join(link)).collect::<Vec<_>>()
            );
            assert!(place.leashes.iter().all(|leash| leash.root == root.join("w")), "{name}");
        }
        for (name, code) in [("w/three", libc::ELOOP), ("w/none", libc::ENOENT), ("w/in/file/x", libc::ENOTDIR)] {
            assert_eq!(Place::find(&root.join(name), &writable).unwrap_err().raw_os_error(), Some(code), "{name}");
        }
    }

    #[test]
    fn what_was_found_is_found_again_or_nothing_is() {
        let (_folder, root, writable) = world();
        let file = root.join("w/in/file");
        let place = Place::find(&file, &writable).unwrap();
        assert!(place.again().is_ok());
        assert!(place.is_in(&[Id::at(&root.join("w")).unwrap()]) && !place.is_in(&[Id::at(&root.join("out")).unwrap()]));
        fs::rename(root.join("w/in"), root.join("w/away")).unwrap();
        assert!(place.again().is_err());
        symlink("away", root.join("w/in")).unwrap();
        assert!(place.again().is_err(), "a link on the way");
        fs::remove_file(root.join("w/in")).unwrap();
        fs::create_dir(root.join("w/in")).unwrap();
        fs::write(&file, "another one").unwrap();
        assert!(place.again().is_err());
    }

    #[test]
    fn of_folders_in_each_other_the_inner_one_bounds_a_word() {
        let roots = Writable(["/a", "/a/b", "/a/b/file"].map(PathBuf::from).into());
        let rows =
            [("/a/x", Some("/a")), ("/a/b", Some("/a")), ("/a/b/x", Some("/a/b")), ("/a/b/file", Some("/a/b")), ("/c", None), ("/a", None)];
        for (link, wanted) in rows {
            assert_eq!(roots.of_link(Path::new(link)).map(PathBuf::as_path), wanted.map(Path::new), "{link}");
        }
        assert_eq!(roots.of_content(Path::new("/a/b/file")), Some(&PathBuf::from("/a/b/file")));
    }
}
