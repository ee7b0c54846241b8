//! Which files a confined process has, computed from what a plan names and what its program needs: what is there at which place, what may be
//! written, what is hidden. Mounts nothing.

use super::Failure;
use super::look::{Look, refused};
use super::place::{Place, Writable};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Of the system, for reading: what programs, libraries, names, certificates and times need. No folder that holds keys.
pub(super) const SYSTEM: [&str; 44] = [
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
pub(super) const OWN: [&str; 4] = ["/", "/proc", "/sys", "/dev"];

/// What may be done with a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    /// Read and execute.
    Read,
    /// That, and change.
    Write,
}

/// A part of the disk that the process has.
#[derive(Clone, Debug)]
pub(super) struct Bind {
    /// What it is.
    pub(super) place: Rc<Place>,
    /// Where the process sees it.
    pub(super) target: PathBuf,
    pub(super) access: Access,
    /// It is there so that its folder cannot be moved: a mount of its own can't.
    is_fixed: bool,
}

/// All files of a process.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// What it has, each after what lies above it. Of two the deeper one holds.
    pub(super) binds: Vec<Bind>,
    /// Other names of it: where, and whereto.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
    /// Folders below a bind that are empty: the daemon's own.
    pub(super) hidden: Vec<PathBuf>,
    /// Those of them that lie in something that was granted: without a tree of its own they could not be hidden.
    pub(super) exposed: Vec<PathBuf>,
    /// What was granted for reading within what was granted for writing: without a tree of its own it could be written.
    pub(super) narrowed: Vec<PathBuf>,
}

/// The files of a plan, whose program needs `reads` beside: each by its name.
pub(super) fn of(look: Look<'_>, reads: Vec<(PathBuf, Place)>) -> Result<Tree, Failure> {
    let Look { plan, writable, grants, private, tmp, cwd, .. } = look;
    let mut tree = Tree::default();
    for grant in grants {
        tree.add(&grant.name, grant.place, grant.access);
    }
    for (path, place) in plan.private.iter().zip(private) {
        tree.add(path, place, Access::Write);
    }
    // A grant holds, whatever is guessed.
    let granted = tree.binds.clone();
    let mut guess = |name: &Path, place: Place| {
        if granted.iter().any(|bind| inside(&place.path, bind)) {
            tree.call(name, &place);
        } else {
            tree.add(name, place, Access::Read);
        }
    };
    for path in SYSTEM.into_iter().chain([PROCESSORS]).map(Path::new) {
        // What is not there is left out.
        if let Some(place) = Place::find(path, &writable).ok().filter(|place| place.leashes.is_empty()) {
            guess(path, place);
        }
    }
    for (name, place) in reads {
        guess(&name, place);
    }
    guess(&plan.cwd, cwd);
    if let Some(place) = tmp {
        tree.binds.push(Bind { place: Rc::new(place), target: PathBuf::from("/tmp"), access: Access::Write, is_fixed: false });
    }
    tree.settle(&plan.deny)?;
    Ok(tree)
}

impl Bind {
    /// Where it lies is where it is seen.
    fn is_in_place(&self) -> bool {
        self.place.path == self.target
    }
}

impl Tree {
    /// Adds a place, and its own name when a link leads to it.
    fn add(&mut self, name: &Path, place: Place, access: Access) {
        self.call(name, &place);
        self.binds.push(Bind { target: place.path.clone(), place: Rc::new(place), access, is_fixed: false });
    }

    fn call(&mut self, name: &Path, place: &Place) {
        if place.path != name {
            self.links.push((name.to_owned(), place.path.clone()));
        }
    }

    /// Whether a path lies in what the process has.
    pub(super) fn gives(&self, path: &Path) -> bool {
        let given = self.binds.iter().rev().find(|bind| inside(path, bind)).map(|bind| &bind.target);
        given.is_some_and(|given| !self.hidden.iter().any(|hidden| path.starts_with(hidden) && hidden.starts_with(given)))
    }

    /// Puts all in order, leaves out what lies in a part that gives the same, and finds what has to be hidden.
    fn settle(&mut self, deny: &[PathBuf]) -> Result<(), Failure> {
        let mut binds = std::mem::take(&mut self.binds);
        // Of two at one place the one that gives more holds; a granted /tmp before the private one.
        let order = |one: &Bind, other: &Bind| {
            (&one.target, !one.is_in_place(), other.access).cmp(&(&other.target, !other.is_in_place(), one.access))
        };
        binds.sort_by(order);
        binds.dedup_by(|later, first| later.target == first.target);
        let folders = deny.iter().filter(|denied| denied.is_dir());
        self.hidden = folders.filter(|denied| binds.iter().any(|bind| denied.starts_with(&bind.target))).cloned().collect();
        self.hidden.sort_unstable();
        self.exposed = self.hidden.iter().filter(|denied| binds.iter().any(|bind| inside(denied, bind))).cloned().collect();
        let below = |one: &Bind, other: &Bind| one.target != other.target && inside(&one.target, other);
        let narrowed =
            |one: &&Bind| one.access == Access::Read && binds.iter().any(|other| other.access == Access::Write && below(one, other));
        self.narrowed = binds.iter().filter(narrowed).map(|bind| bind.target.clone()).collect();
        let fixed = self.fixed(&binds)?;
        binds.extend(fixed);
        binds.sort_by(order);
        for bind in binds {
            let above = self.binds.iter().rev().find(|above| bind.target.starts_with(&above.target));
            let shown = above.is_some_and(|above| {
                let hidden = self.hidden.iter().any(|hidden| hidden.starts_with(&above.target) && bind.target.starts_with(hidden));
                above.access == bind.access && above.is_in_place() && bind.is_in_place() && !hidden
            });
            if bind.is_fixed || !shown {
                self.binds.push(bind);
            }
        }
        self.links.sort_unstable();
        self.links.dedup();
        Ok(())
    }

    /// The folders between what may be written and what lies deeper in it and may not. A tool that renamed one of them would find
    /// the latter elsewhere at its next start, and could write it.
    fn fixed(&self, binds: &[Bind]) -> Result<Vec<Bind>, Failure> {
        let outermost = self.hidden.iter().filter(|one| !self.hidden.iter().any(|other| *one != other && one.starts_with(other)));
        let mut fixed: Vec<Bind> = Vec::new();
        for kept in outermost.chain(&self.narrowed) {
            let above = binds.iter().rev().find(|bind| bind.target != *kept && kept.starts_with(&bind.target));
            let Some(above) = above.filter(|above| above.access == Access::Write && above.is_in_place()) else { continue };
            for folder in kept.ancestors().skip(1).take_while(|folder| *folder != above.target) {
                if fixed.iter().any(|bind| bind.target == folder) {
                    continue;
                }
                let place = Place::find(folder, &Writable::default()).map_err(|fault| refused("granted", folder, fault))?;
                if place.path != folder {
                    return Err(refused("granted", folder, "it is being moved"));
                }
                fixed.push(Bind { target: folder.to_owned(), place: Rc::new(place), access: Access::Write, is_fixed: true });
            }
        }
        Ok(fixed)
    }
}

fn inside(path: &Path, bind: &Bind) -> bool {
    bind.is_in_place() && path.starts_with(&bind.target)
}
