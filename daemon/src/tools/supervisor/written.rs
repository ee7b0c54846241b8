//! Which folders tools may write, or might once: `tools/written.json`. Grows with each process that is started, and forgets nothing, for what a
//! tool left behind outlives its configuration.
//!
//! A file that cannot be used starts no confined process: links that tools made would be taken for the user's.

use super::super::sandbox::Level;
use super::super::server::Confinement;
use super::super::{keep, lock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

/// The largest file, in bytes.
const MAX_FILE: u64 = 4 << 20;
const VERSION: u32 = 1;

#[derive(Debug)]
pub(super) struct Written {
    path: PathBuf,
    /// Or why the file cannot be used.
    folders: Mutex<Result<BTreeSet<PathBuf>, String>>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    folders: BTreeSet<PathBuf>,
}

impl Written {
    pub(super) fn open(path: PathBuf) -> Written {
        let folders = match keep::read::<Kept>(&path, MAX_FILE) {
            Ok(None) => Ok(BTreeSet::new()),
            Ok(Some(kept)) if kept.version == VERSION => Ok(kept.folders),
            Ok(Some(kept)) => Err(format!("{}: version {} is not known here", path.display(), kept.version)),
            Err(why) => Err(why),
        };
        if let Err(why) = &folders {
            tracing::error!(why, "no confined tool is started");
        }
        Written { path, folders: Mutex::new(folders) }
    }

    /// All of them as they are now. Reads nothing.
    ///
    /// # Errors
    /// Why they cannot be told.
    pub(super) fn all(&self) -> Result<Vec<PathBuf>, String> {
        lock(&self.folders).as_ref().map(|folders| folders.iter().cloned().collect()).map_err(Clone::clone)
    }

    /// Notes what a process that is about to start may write, on the disk. All of them, then. Blocks.
    ///
    /// # Errors
    /// When that cannot be kept: it must not start.
    pub(super) fn note(&self, confinement: &Confinement) -> Result<Vec<PathBuf>, String> {
        if confinement.level == Level::None {
            return Ok(Vec::new());
        }
        let mut state = lock(&self.folders);
        let known = state.as_mut().map_err(|why| why.clone())?;
        // By the names of the moment, too: the way to them may be another one later.
        let named = confinement.write.iter().flat_map(|path| [Some(path.clone()), path.canonicalize().ok()]).flatten();
        let new: Vec<PathBuf> = named.filter(|path| !known.contains(path)).collect();
        if !new.is_empty() {
            let folders: BTreeSet<PathBuf> = known.iter().cloned().chain(new).collect();
            let kept = Kept { version: VERSION, folders };
            keep::write(&self.path, &kept).map_err(|fault| format!("{} cannot be written: {fault}", self.path.display()))?;
            *known = kept.folders;
        }
        Ok(known.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::server::Server;
    use std::fs;

    fn writes(paths: &[&str]) -> Confinement {
        Confinement { write: paths.iter().map(PathBuf::from).collect(), ..Server::named("x", "x").confinement }
    }

    #[test]
    fn what_a_tool_could_write_once_is_known_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tools/written.json");
        let written = Written::open(path.clone());
        assert_eq!(written.note(&writes(&["/none/a"])), Ok(vec![PathBuf::from("/none/a")]));
        let unconfined = Confinement { level: Level::None, ..writes(&["/none/c"]) };
        assert_eq!(written.note(&unconfined), Ok(Vec::new()));
        drop(written);
        let both = Ok(["/none/a", "/none/b"].map(PathBuf::from).into());
        let written = Written::open(path.clone());
        assert_eq!(written.note(&writes(&["/none/b"])), both);
        assert_eq!(written.all(), both);
        for damaged in ["", "{", "{\"version\": 2, \"folders\": []}"] {
            fs::write(&path, damaged).unwrap();
            let written = Written::open(path.clone());
            assert!(written.note(&writes(&[])).is_err() && written.all().is_err(), "{damaged}");
            assert_eq!(written.note(&unconfined), Ok(Vec::new()));
        }
    }
}
