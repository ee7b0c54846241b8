//! What a plan names, found once and judged: the working folder, grants, private folders; and how far a guess may go. Mounts nothing.
//!
//! A tool can change what lies in the folders that it may write, and have itself started again. So a name that a person wrote is followed
//! through no link that a tool may have made, and what is guessed from such a link, or from a file's text, never leads beyond what
//! that tool may write anyway.

use super::place::{Id, Leash, Place, Writable};
use super::tree::{Access, OWN, SYSTEM};
use super::{FAILED, Failure, Level, Plan};
use std::fmt::Display;
use std::io;
use std::path::{Component, Path, PathBuf};

/// A path that was granted.
#[derive(Debug)]
pub(super) struct Grant {
    /// As it is written.
    pub(super) name: PathBuf,
    pub(super) place: Place,
    pub(super) access: Access,
}

/// All that a plan names.
#[derive(Debug)]
pub(super) struct Look<'a> {
    pub(super) plan: &'a Plan,
    pub(super) writable: Writable,
    /// The daemon's own, as they are now.
    denied: Vec<Id>,
    pub(super) grants: Vec<Grant>,
    pub(super) private: Vec<Place>,
    /// The one of them that is seen as `/tmp`.
    pub(super) tmp: Option<Place>,
    pub(super) cwd: Place,
}

/// Why a guess is none.
pub(super) enum Lost {
    /// It is not there.
    Absent(io::Error),
    /// A tool may have said so, and it lies beyond what the tool may write: the word, and where it leads.
    Led(Leash, PathBuf),
    /// It is never given.
    Refused(Failure),
}

/// A plan whose own paths have no links on their way. The daemon's files must not be behind a link that a grant lets a tool change.
pub(super) fn resolved(plan: Plan) -> Result<Plan, Failure> {
    let granted = Writable::of(&plan.confinement.write);
    if plan.confinement.level > Level::None {
        for denied in &plan.deny {
            let link = Place::find(denied, &granted).ok().and_then(|place| place.leashes.into_iter().next());
            if let Some(Leash { said, root }) = link {
                let why = format!(
                    "{} is a link on the way to the daemon's own files, and must not be changed: name narrower folders",
                    said.display()
                );
                return Err(refused("granted", &root, why));
            }
        }
    }
    let real = |path: PathBuf| path.canonicalize().unwrap_or_else(|_| beside(&path).unwrap_or(path));
    Ok(Plan { deny: plan.deny.into_iter().map(real).collect(), user_home: plan.user_home.map(real), ..plan })
}

/// The name of what is not there, in its folder.
fn beside(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}

impl<'a> Look<'a> {
    /// Looks. The plan is resolved.
    pub(super) fn of(plan: &'a Plan) -> Result<Look<'a>, Failure> {
        let wanted = &plan.confinement;
        let writable = Writable::of(wanted.write.iter().chain(&plan.private).chain(&plan.writable));
        let denied: Vec<Id> = plan.deny.iter().filter_map(|path| Id::at(path)).collect();
        let named = Naming { plan, writable: &writable, denied: &denied };
        let own = |path: &PathBuf| Place::find(path, &Writable::default()).map_err(|fault| refused("a private folder", path, fault));
        let mut grants = Vec::new();
        for (paths, access) in [(&wanted.read, Access::Read), (&wanted.write, Access::Write)] {
            for name in paths {
                let place = named.find(name, "granted")?;
                named.judge(&place, name, "granted")?;
                grants.push(Grant { name: name.clone(), place, access });
            }
        }
        let private = plan.private.iter().map(own).collect::<Result<Vec<_>, _>>()?;
        let tmp = plan.tmp.as_ref().map(own).transpose()?;
        let what = "the working folder";
        let is_own = plan.private.iter().any(|folder| plan.cwd.starts_with(folder));
        let cwd = if is_own { own(&plan.cwd)? } else { named.find(&plan.cwd, what)? };
        let look = Look { plan, writable, denied, grants, private, tmp, cwd };
        if !look.cwd.is_dir {
            return Err(refused(what, &plan.cwd, "it is no folder"));
        }
        if !look.gives(&look.cwd.path) {
            look.judge(&look.cwd, &plan.cwd, what)?;
            if look.is_wide(&look.cwd.path) {
                let why = "it could read all of that: name a narrower folder, or grant this one";
                return Err(refused(what, &plan.cwd, why));
            }
        }
        Ok(look)
    }

    /// Whether the plan gives a path without a guess: by the system, a grant or a private folder. The path has no link on its way.
    fn gives(&self, path: &Path) -> bool {
        let named = self.grants.iter().map(|grant| &grant.place).chain(&self.private);
        SYSTEM.iter().any(|system| path.starts_with(system)) || named.into_iter().any(|place| path.starts_with(&place.path))
    }

    /// What a program needs, by a name that nobody wrote into the plan. `leashes`: tools' words that led to it.
    pub(super) fn guessed(&self, path: &Path, leashes: &[Leash]) -> Result<Place, Lost> {
        let place = Place::find(path, &self.writable).map_err(Lost::Absent)?;
        let beyond = |leash: &&Leash| !place.path.starts_with(&leash.root);
        if let Some(leash) = leashes.iter().chain(&place.leashes).find(beyond).filter(|_| !self.gives(&place.path)) {
            return Err(Lost::Led(leash.clone(), place.path));
        }
        if !self.private.iter().any(|folder| place.path.starts_with(&folder.path)) {
            self.judge(&place, path, "the program needs").map_err(Lost::Refused)?;
        }
        Ok(place)
    }

    /// The same of what it cannot do without.
    pub(super) fn needed(&self, path: &Path, leashes: &[Leash]) -> Result<Place, Failure> {
        self.guessed(path, leashes).map_err(|lost| match lost {
            Lost::Absent(fault) => refused("the program needs", path, fault),
            Lost::Led(leash, to) => led("the program needs", path, &leash, &to),
            Lost::Refused(failure) => failure,
        })
    }

    /// Whether a folder holds more than programs: the user's home and what is above it, folders of the first level, and what holds the
    /// daemon's files or lies among them. The path has no link on its way.
    pub(super) fn is_wide(&self, real: &Path) -> bool {
        let plan = self.plan;
        real.components().count() <= 2
            || plan.user_home.as_ref().is_some_and(|home| home.starts_with(real))
            || plan.deny.iter().any(|denied| denied.starts_with(real) || real.starts_with(denied))
    }

    fn judge(&self, place: &Place, name: &Path, what: &str) -> Result<(), Failure> {
        Naming { plan: self.plan, writable: &self.writable, denied: &self.denied }.judge(place, name, what)
    }
}

/// What a judgement needs.
struct Naming<'a> {
    plan: &'a Plan,
    writable: &'a Writable,
    denied: &'a [Id],
}

impl Naming<'_> {
    /// What a person named.
    fn find(&self, path: &Path, what: &str) -> Result<Place, Failure> {
        if !path.is_absolute() || climbs(path) {
            return Err(refused(what, path, "expected an absolute path without `..`"));
        }
        let place = Place::find(path, self.writable).map_err(|fault| refused(what, path, fault))?;
        match place.leashes.first() {
            Some(leash) => Err(led(what, path, leash, &place.path)),
            None => Ok(place),
        }
    }

    /// Refuses what no plan may have: the daemon's own files, the whole machine, the kernel's folders.
    fn judge(&self, place: &Place, name: &Path, what: &str) -> Result<(), Failure> {
        let real = &place.path;
        if OWN.iter().any(|own| real == Path::new(own)) || real.starts_with("/proc") {
            return Err(refused(what, name, "this can't be given to a confined process; name the folders that it needs"));
        }
        if place.is_in(self.denied) || self.plan.deny.iter().any(|denied| real.starts_with(denied)) {
            return Err(refused(what, name, "these are the daemon's own files, and no tool gets them"));
        }
        if let Some(denied) = self.plan.deny.iter().find(|denied| denied.starts_with(real) && denied.exists() && !denied.is_dir()) {
            let why = format!("the daemon keeps {} there, which no tool gets: name a narrower folder", denied.display());
            return Err(refused(what, name, why));
        }
        Ok(())
    }
}

/// Whether a path has `..` in it.
pub(super) fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

fn led(what: &str, path: &Path, Leash { said, root }: &Leash, to: &Path) -> Failure {
    let (said, root, to) = (said.display(), root.display(), to.display());
    let why = format!("{said} leads to {to}, and a tool may have made that so, for a tool may write {root}");
    refused(what, path, format!("{why}: name {to}, or grant the folder that it needs, if it is meant"))
}

pub(super) fn refused(what: &str, path: &Path, why: impl Display) -> Failure {
    Failure::Failed { code: FAILED, what: format!("{what}: {}: {why}", path.display()) }
}
