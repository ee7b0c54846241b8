//! mcp.json on the disk: read, changed in place, checked by the daemon's own reader, and written whole or not at all.
//!
//! Must not: put anything in force.

use crate::config::{self, ConfigErrors, MCP_FILE, Warning};
use crate::tools::registry::Registry;
use crate::tools::registry::edit::EditFault;
use aex_core::paths::Paths;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why the file was not changed.
#[derive(Debug)]
pub(super) enum ChangeFault {
    /// Its text is not what the change needs.
    Edit(EditFault),
    /// It is wrong as it is.
    Wrong(ConfigErrors),
    /// It would be wrong: each cause, without a line that nobody has.
    Unfit(Vec<String>),
    /// The disk.
    Disk(String),
}

impl From<EditFault> for ChangeFault {
    fn from(fault: EditFault) -> ChangeFault {
        ChangeFault::Edit(fault)
    }
}

/// A text that was checked, and the one that it takes the place of.
#[derive(Debug)]
pub(super) struct Change {
    before: Option<String>,
    text: String,
    /// What it says.
    pub(super) registry: Registry,
    /// What a user should know of it, and did not before.
    pub(super) warnings: Vec<Warning>,
}

impl Change {
    /// Works a change out. Writes nothing.
    pub(super) fn of(
        paths: &Paths,
        home: Option<&Path>,
        edit: impl FnOnce(Option<&str>) -> Result<String, EditFault>,
    ) -> Result<Change, ChangeFault> {
        let before = config::tools_text(paths).map_err(ChangeFault::Wrong)?;
        let mut known = Vec::new();
        if let Some(before) = &before {
            let (read, warnings) = config::check_tools(before, home);
            read.map_err(ChangeFault::Wrong)?;
            known = warnings;
        }
        let text = edit(before.as_deref())?;
        let (registry, mut warnings) = config::check_tools(&text, home);
        let registry = registry.map_err(|wrong| ChangeFault::Unfit(wrong.0.into_iter().map(|problem| problem.text).collect()))?;
        // Lines move; what is said stays.
        warnings.retain(|warning| !known.iter().any(|known| known.text == warning.text));
        Ok(Change { before, text, registry, warnings })
    }

    /// Whether it changes anything.
    pub(super) fn is_none(&self) -> bool {
        self.before.as_deref() == Some(self.text.as_str())
    }

    /// Writes it.
    pub(super) fn write(&self, paths: &Paths) -> Result<(), ChangeFault> {
        let path = place(paths);
        replace(&path, &self.text).map_err(|fault| ChangeFault::Disk(format!("{} cannot be written: {fault}", path.display())))
    }

    /// Undoes a write that is not to hold.
    pub(super) fn undo(&self, paths: &Paths) -> io::Result<()> {
        let path = place(paths);
        match &self.before {
            Some(before) => replace(&path, before),
            None => fs::remove_file(&path),
        }
    }
}

/// Where the file is: a link keeps pointing where it does.
fn place(paths: &Paths) -> PathBuf {
    let path = paths.config_dir.join(MCP_FILE);
    path.canonicalize().unwrap_or(path)
}

/// Puts a text in a file's place, at once, for its owner alone.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    let scratch = folder.join(format!(".{MCP_FILE}.{}", std::process::id()));
    let write = || {
        match fs::remove_file(&scratch) {
            Err(fault) if fault.kind() != ErrorKind::NotFound => return Err(fault),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&scratch, path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        // Gone already when it took the other's place.
        drop(fs::remove_file(&scratch));
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::registry::edit;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn home() -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(|_| None, Some(folder.path())).unwrap();
        crate::os::paths::prepare(&paths).unwrap();
        (folder, paths)
    }

    fn add(paths: &Paths, name: &str, entry: &str) -> Result<Change, ChangeFault> {
        Change::of(paths, None, |text| edit::add(text, name, entry))
    }

    #[test]
    fn a_change_is_written_for_the_owner_alone_and_can_be_undone() {
        let (_folder, paths) = home();
        let path = paths.config_dir.join(MCP_FILE);
        let first = add(&paths, "one", "{\"command\": \"a\"}").unwrap();
        assert!(!path.exists() && first.registry.has("one"));
        first.write(&paths).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let second = add(&paths, "two", "{\"command\": \"b\"}").unwrap();
        second.write(&paths).unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), text);
        second.undo(&paths).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        first.undo(&paths).unwrap();
        assert!(!path.exists());
        let left: Vec<_> = fs::read_dir(&paths.config_dir).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_link_keeps_pointing_where_it_does() {
        let (folder, paths) = home();
        let kept = folder.path().join("dotfiles.json");
        fs::write(&kept, "{}").unwrap();
        symlink(&kept, paths.config_dir.join(MCP_FILE)).unwrap();
        add(&paths, "one", "{\"command\": \"a\"}").unwrap().write(&paths).unwrap();
        assert!(fs::symlink_metadata(paths.config_dir.join(MCP_FILE)).unwrap().is_symlink());
        assert!(fs::read_to_string(&kept).unwrap().contains("one"));
    }

    #[test]
    fn what_would_be_refused_is_not_written() {
        let (_folder, paths) = home();
        let path = paths.config_dir.join(MCP_FILE);
        let wrong = |found: Result<Change, ChangeFault>| match found {
            Err(ChangeFault::Wrong(errors)) => errors.to_string(),
            other => panic!("{other:?}"),
        };
        let Err(ChangeFault::Unfit(words)) = add(&paths, "a b", "{\"command\": \"./a\"}") else { panic!("no server has such a name") };
        assert!(words.len() == 2 && words[0].starts_with("mcpServers.a b: a server has 1 to 48"), "{words:?}");
        assert!(words[1].starts_with("mcpServers.a b.command: expected a program"), "{words:?}");
        // Nor is a file touched that cannot be read.
        fs::write(&path, "{\"mcpServers\": {\n\"a\": 5}}").unwrap();
        assert_eq!(wrong(add(&paths, "b", "{\"command\": \"a\"}")), "mcp.json:2: mcpServers.a: expected a mapping, found 5");
    }

    #[test]
    fn only_what_is_new_is_warned_of() {
        let (_folder, paths) = home();
        fs::write(paths.config_dir.join(MCP_FILE), "{\"mcpServers\": {\"a\": {\"command\": \"a\", \"x\": 1}}}").unwrap();
        let change = add(&paths, "b", "{\n\"command\": \"b\", \"y\": 1}").unwrap();
        let words: Vec<&str> = change.warnings.iter().map(|warning| warning.text.as_str()).collect();
        assert_eq!(words, ["mcpServers.b.y: unknown key, ignored"]);
    }
}
