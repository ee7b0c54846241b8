//! Control groups (v2) of tools, below the daemon's own: the one bound on the memory of all processes of a tool together, and the one way to kill
//! them where no process namespace can be had. They are there only where somebody gave the daemon a part of the tree (`Delegate=` of a unit).
//!
//! Unlike the rest of the sandbox this runs in the daemon; the stage only joins the group that its plan names.

use super::{Cgroup, sys};
use crate::tools::server::Resources;
use nix::unistd::geteuid;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

/// systemd marks what it gave away, for root under the first name and for others under the second.
const DELEGATED: [&std::ffi::CStr; 2] = [c"trusted.delegate", c"user.delegate"];
/// The leaf of the daemon itself: a group with controllers holds no processes.
const OWN_LEAF: &str = "aexd";

/// How the groups that the daemon makes for others are called.
const PREFIX: &str = "aexd-";

/// The part of the tree below which groups can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

/// The group of one process and all that it starts. Removed with its last process, when it is dropped.
#[derive(Debug, PartialEq, Eq)]
pub struct Group(PathBuf);

impl Home {
    /// Finds it, removes what a daemon that died has left there, and has groups bound memory and processes where the daemon may: it moves
    /// itself to a leaf then. `None`: nobody gave the daemon a part of the tree. Called once, at the start.
    #[must_use]
    pub fn find() -> Option<Home> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let folder = folder(&mounts, &own)?;
        // Root may make groups anywhere; that does not make them its own to give.
        if geteuid().is_root() && !DELEGATED.iter().any(|name| sys::has_attribute(&folder, name)) {
            return None;
        }
        let probe = folder.join(format!("{PREFIX}probe-{}", process::id()));
        fs::create_dir(&probe).ok()?;
        fs::remove_dir(&probe).ok()?;
        let left = fs::read_dir(&folder).ok()?.filter_map(Result::ok);
        for entry in left.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
            // One with processes stays: it is another daemon's, or the supervisor ends them.
            fs::remove_dir(entry.path()).ok();
        }
        if let Err(fault) = control(&folder) {
            tracing::info!(%fault, folder = %folder.display(), "control groups of tools bound neither memory nor processes");
        }
        Some(Home(folder))
    }

    /// Makes a group. `name` is one that no living tool has.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn make(&self, name: &str, resources: &Resources) -> io::Result<Group> {
        let folder = self.0.join(format!("{PREFIX}{name}"));
        fs::create_dir(&folder)?;
        let group = Group(folder);
        // Absent files are controllers that were not given; the report says so.
        let rows = [("memory.max", resources.memory_bytes), ("pids.max", resources.processes)];
        for (file, limit) in rows {
            if let Some(limit) = limit.filter(|_| group.0.join(file).exists()) {
                fs::write(group.0.join(file), limit.to_string())?;
            }
        }
        if group.0.join("memory.oom.group").exists() {
            fs::write(group.0.join("memory.oom.group"), "1")?;
        }
        Ok(group)
    }
}

impl Group {
    /// Its folder, for a plan.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Kills all its processes at once, those that have left their group and session, too. Since Linux 5.14.
    ///
    /// # Errors
    /// When the kernel is older, or refuses.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // One that still has processes stays: `kill` comes first.
        drop(fs::remove_dir(&self.0));
    }
}

/// Joins the group of a plan, and says what it does.
pub(super) fn join(folder: &Path) -> io::Result<Cgroup> {
    fs::write(folder.join("cgroup.procs"), "0")?;
    let bounds = |file: &str| fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim().parse::<u64>().is_ok());
    Ok(Cgroup { memory: bounds("memory.max"), pids: bounds("pids.max"), kill: folder.join("cgroup.kill").exists() })
}

/// The folder of the daemon's own group: where the tree is mounted, and what /proc/self/cgroup says after `0::`.
fn folder(mounts: &str, own: &str) -> Option<PathBuf> {
    // proc(5): fields of a mount up to ` - `, the fourth and fifth are its root and its place; then its type.
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, at) = (place.next()?, place.next()?);
        (kind.split(' ').next() == Some("cgroup2") && root == "/").then_some(at)
    })?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.split('/').any(|part| part == "..")).then(|| Path::new(mount).join(path))
}

/// Has the groups below a folder bound memory and processes.
fn control(folder: &Path) -> io::Result<()> {
    let leaf = folder.join(OWN_LEAF);
    if !leaf.is_dir() {
        fs::create_dir(&leaf)?;
    }
    fs::write(leaf.join("cgroup.procs"), "0")?;
    fs::write(folder.join("cgroup.subtree_control"), "+memory +pids")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::clock;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(20);
    const MOUNTS: &str = "22 27 0:21 / /proc rw - proc proc rw\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_where_the_tree_is_mounted() {
        let rows = [
            ("9:name=systemd:/x\n0::/user.slice/a.service\n", Some("/sys/fs/cgroup/unified/user.slice/a.service")),
            ("0::/\n", Some("/sys/fs/cgroup/unified/")),
            ("0::/../outside\n", None),
            ("4:memory:/a\n", None),
        ];
        for (own, wanted) in rows {
            assert_eq!(folder(MOUNTS, own), wanted.map(PathBuf::from), "{own}");
        }
        assert_eq!(folder("41 31 0:38 /part /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a\n"), None);
    }

    #[test]
    fn a_group_bounds_what_its_controllers_can() {
        let home = tempfile::tempdir().unwrap();
        let group = Home(home.path().to_owned()).make("tool-a", &Resources::DEFAULT).unwrap();
        assert_eq!(fs::read_dir(group.folder()).unwrap().count(), 0, "a folder without controllers gets no files");
        let folder = group.folder().to_owned();
        drop(group);
        assert!(!folder.exists());
    }

    #[test]
    fn a_group_is_killed_with_what_has_left_its_session() {
        let place = || folder(&fs::read_to_string("/proc/self/mountinfo").ok()?, &fs::read_to_string("/proc/self/cgroup").ok()?);
        let home = place().map(|folder| folder.join(format!("aexd-test-{}", process::id())));
        let Some(home) = home.filter(|home| fs::create_dir(home).is_ok()) else {
            // Through the standard error's lock: eprintln's text would be captured, and nobody would know.
            io::Write::write_all(&mut io::stderr(), b"NO CONTROL GROUPS (v2) HERE: that a group is killed as a whole is not tried\n")
                .unwrap();
            return;
        };
        let group = Home(home.clone()).make("a", &Resources::DEFAULT).unwrap();
        let script = format!("echo $$ > {}/cgroup.procs; setsid sleep 1000 & wait", group.folder().display());
        let mut child = process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
        let members = || fs::read_to_string(group.folder().join("cgroup.procs")).unwrap().lines().count();
        let until = |reached: &dyn Fn() -> bool| {
            let begun = clock::mono();
            while !reached() {
                assert!(clock::mono().saturating_sub(begun) < PATIENCE, "{} members", members());
                std::thread::yield_now();
            }
        };
        until(&|| members() == 2);
        group.kill().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
        until(&|| members() == 0);
        drop(group);
        fs::remove_dir(home).unwrap();
    }
}
