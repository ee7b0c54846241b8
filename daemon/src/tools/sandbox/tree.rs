//! Which files a confined process has, computed from the plan and a look at the disk: what is there at which place, what may be written,
//! what is hidden. Mounts nothing.

use super::{FAILED, Failure, Plan};
use std::path::{Component, Path, PathBuf};

/// Of the system, for reading: what programs, libraries, names, certificates and times need. No folder that holds keys.
const SYSTEM: [&str; 44] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/run/current-system",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/lsb-release",
    "/etc/mime.types",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
];
/// How many processors there are, for runtimes that start as many threads.
const PROCESSORS: &str = "/sys/devices/system/cpu";
/// Where the kernel keeps itself, or where this program puts something of its own.
const OWN: [&str; 4] = ["/", "/proc", "/sys", "/dev"];

/// What may be done with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Read and execute.
    Read,
    /// That, and change.
    Write,
}

/// A part of the disk that the process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    /// Where it lies, without a link on the way.
    pub(super) source: PathBuf,
    /// Where the process sees it.
    pub(super) target: PathBuf,
    pub(super) access: Access,
}

/// All files of a process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// What it has, each after what lies above it. Of two the deeper one holds.
    pub(super) binds: Vec<Bind>,
    /// Other names of it: where, and whereto.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Folders below a bind that are empty: the daemon's own.
    pub(super) hidden: Vec<PathBuf>,
    /// Those of them that lie in something that was granted: without a tree of its own they could not be hidden.
    pub(super) exposed: Vec<PathBuf>,
}

/// The files of a plan, whose program needs `reads` beside.
pub(super) fn of(plan: &Plan, reads: &[PathBuf]) -> Result<Tree, Failure> {
    let mut tree = Tree::default();
    for path in SYSTEM.into_iter().chain([PROCESSORS]).map(Path::new) {
        tree.add(path, Access::Read);
    }
    for path in reads {
        judge(plan, path, "the program needs")?;
        tree.add(path, Access::Read);
    }
    let private: Vec<PathBuf> = plan.private.iter().map(|path| real(path, "a private folder")).collect::<Result<_, _>>()?;
    let cwd = real(&plan.cwd, "the working folder")?;
    if !private.iter().any(|folder| cwd.starts_with(folder)) {
        judge(plan, &plan.cwd, "the working folder")?;
    }
    tree.add(&plan.cwd, Access::Read);
    let granted = plan.confinement.read.iter().map(|path| (path, Access::Read));
    for (path, access) in granted.chain(plan.confinement.write.iter().map(|path| (path, Access::Write))) {
        real(path, "granted")?;
        judge(plan, path, "granted")?;
        tree.add(path, access);
    }
    for path in &plan.private {
        tree.add(path, Access::Write);
    }
    if let Some(tmp) = &plan.tmp {
        let source = real(tmp, "the folder for temporary files")?;
        tree.binds.push(Bind { source, target: PathBuf::from("/tmp"), access: Access::Write });
    }
    tree.settle(&plan.deny);
    Ok(tree)
}

impl Tree {
    /// Adds a path, and its own name when a link leads to it. What is not there is left out.
    fn add(&mut self, path: &Path, access: Access) {
        let Ok(source) = path.canonicalize() else { return };
        if source != path {
            self.links.push((path.to_owned(), source.clone()));
        }
        self.binds.push(Bind { target: source.clone(), source, access });
    }

    /// Whether a path lies in what the process has.
    pub(super) fn gives(&self, path: &Path) -> bool {
        let given = self.binds.iter().rev().find(|bind| inside(path, bind)).map(|bind| &bind.target);
        given.is_some_and(|given| !self.hidden.iter().any(|hidden| path.starts_with(hidden) && hidden.starts_with(given)))
    }

    /// Puts all in order, leaves out what lies in a part that gives the same, and finds what has to be hidden.
    fn settle(&mut self, deny: &[PathBuf]) {
        let mut binds = std::mem::take(&mut self.binds);
        // Of two at one place the one that gives more holds; a granted /tmp before the private one.
        binds.sort_by(|one, other| {
            let own = |bind: &Bind| bind.source != bind.target;
            (&one.target, own(one), other.access).cmp(&(&other.target, own(other), one.access))
        });
        binds.dedup_by(|later, first| later.target == first.target);
        let folders = deny.iter().filter(|denied| denied.is_dir());
        self.hidden = folders.filter(|denied| binds.iter().any(|bind| denied.starts_with(&bind.target))).cloned().collect();
        self.hidden.sort_unstable();
        self.exposed = self.hidden.iter().filter(|denied| binds.iter().any(|bind| inside(denied, bind))).cloned().collect();
        for bind in binds {
            let above = self.binds.iter().rev().find(|above| bind.target.starts_with(&above.target));
            let shown = above.is_some_and(|above| {
                let hidden = self.hidden.iter().any(|hidden| hidden.starts_with(&above.target) && bind.target.starts_with(hidden));
                above.access == bind.access && above.source == above.target && bind.source == bind.target && !hidden
            });
            if !shown {
                self.binds.push(bind);
            }
        }
        self.links.sort_unstable();
        self.links.dedup();
    }
}

fn inside(path: &Path, bind: &Bind) -> bool {
    bind.source == bind.target && path.starts_with(&bind.target)
}

fn real(path: &Path, what: &str) -> Result<PathBuf, Failure> {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    match path.canonicalize() {
        Ok(real) if path.is_absolute() && !climbs => Ok(real),
        Ok(_) => Err(refused(what, path, "expected an absolute path without `..`")),
        Err(fault) => Err(refused(what, path, &fault.to_string())),
    }
}

/// Refuses what no plan may have: the daemon's own files, the whole machine, the kernel's folders.
fn judge(plan: &Plan, path: &Path, what: &str) -> Result<(), Failure> {
    let Ok(real) = path.canonicalize() else { return Ok(()) };
    if OWN.iter().any(|own| real == Path::new(own)) || real.starts_with("/proc") {
        return Err(refused(what, path, "this can't be given to a confined process; name the folders that it needs"));
    }
    for denied in &plan.deny {
        if real.starts_with(denied) {
            return Err(refused(what, path, "these are the daemon's own files, and no tool gets them"));
        }
        if denied.starts_with(&real) && denied.exists() && !denied.is_dir() {
            let why = format!("the daemon keeps {} there, which no tool gets: name a narrower folder", denied.display());
            return Err(refused(what, path, &why));
        }
    }
    Ok(())
}

fn refused(what: &str, path: &Path, why: &str) -> Failure {
    Failure::Failed { code: FAILED, what: format!("{what}: {}: {why}", path.display()) }
}
