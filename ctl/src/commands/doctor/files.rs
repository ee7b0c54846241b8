//! Folders and files: are they there, whose are they, who can read them.

use super::is_system;
use aex_core::paths::Paths;
use aex_proto::check::Finding;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What others must not do to a file or folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Nobody else reads or writes it.
    Private,
    /// Nobody else writes it.
    Unwritable,
}

pub(super) fn look(paths: &Paths) -> Vec<Finding> {
    let mut findings = vec![environment(paths)];
    if !paths.home.is_dir() {
        findings.push(Finding::error("home", format!("{} is not there", paths.home.display()), "aexctl init"));
        return findings;
    }
    // The whole machine's configuration lies in /etc, for all to read; keys are in a file of their own.
    let config = if is_system(paths.place) { Guard::Unwritable } else { Guard::Private };
    let wal = paths.ledger.with_extension("db-wal");
    let guarded = [
        (paths.home.as_path(), Guard::Private),
        (&paths.config_dir, config),
        (&paths.log_dir, Guard::Private),
        (&paths.env_file, Guard::Private),
        (&paths.ledger, Guard::Private),
        (&wal, Guard::Private),
    ];
    let wrong: Vec<Finding> = guarded.into_iter().filter_map(|(path, guard)| permission(path, guard)).collect();
    if wrong.is_empty() {
        findings.push(Finding::ok("permissions", "files and folders are their owner's alone"));
    }
    findings.extend(wrong);
    for (path, name) in [(paths.config_dir.join("models.yaml"), "config"), (paths.ledger.clone(), "ledger")] {
        if !path.exists() {
            findings.push(Finding::error(name, format!("{} is not there", path.display()), "aexctl init"));
        }
    }
    findings
}

fn environment(paths: &Paths) -> Finding {
    let names = ["AEX_HOME", "AEX_CONFIG_DIR", "AEX_LOG_DIR", "AEX_DB_PATH", "AEX_PORT", "AEX_LOG_LEVEL", "STATE_DIRECTORY"];
    let set: Vec<&str> = names.into_iter().filter(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())).collect();
    let by = if set.is_empty() { "no AEX variable is set".to_owned() } else { format!("set: {}", set.join(", ")) };
    Finding::ok("environment", format!("home {}; {by}", paths.home.display()))
}

fn permission(path: &Path, guard: Guard) -> Option<Finding> {
    match fs::metadata(path) {
        Ok(found) => judged(path, &found, guard),
        Err(fault) if fault.kind() == ErrorKind::NotFound => None,
        Err(fault) => {
            Some(Finding::error("permissions", format!("{}: {fault}", path.display()), "run doctor as the daemon's user, or as root"))
        }
    }
}

fn judged(path: &Path, found: &Metadata, guard: Guard) -> Option<Finding> {
    let (place, mode) = (path.display(), found.permissions().mode() & 0o777);
    let uid = nix::unistd::getuid().as_raw();
    if found.uid() != uid && uid != 0 {
        return Some(Finding::error("permissions", format!("{place} belongs to user {}", found.uid()), "run doctor as the daemon's user"));
    }
    let fix = |cure: &str| format!("chmod {cure} '{place}'");
    if mode & 0o022 != 0 {
        return Some(Finding::error("permissions", format!("others can write to {place} (mode {mode:o})"), fix("go-w")));
    }
    (guard == Guard::Private && mode & 0o077 != 0)
        .then(|| Finding::warning("permissions", format!("others can read {place} (mode {mode:o})"), fix("go-rwx")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::check::Verdict;

    #[test]
    fn a_file_that_others_can_use_is_told_with_its_cure() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let file = home.path().join("f");
        fs::write(&file, "").ok();
        let rows = [
            (0o600, Guard::Private, None),
            (0o644, Guard::Private, Some(Verdict::Warning)),
            (0o644, Guard::Unwritable, None),
            (0o664, Guard::Unwritable, Some(Verdict::Error)),
        ];
        for (mode, guard, wanted) in rows {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).ok();
            let found = permission(&file, guard);
            assert_eq!(found.as_ref().map(|found| found.verdict), wanted, "{mode:o}");
            assert!(found.and_then(|found| found.fix).is_none_or(|fix| fix.starts_with("chmod go-")), "{mode:o}");
        }
        assert_eq!(permission(&home.path().join("none"), Guard::Private), None);
    }
}
