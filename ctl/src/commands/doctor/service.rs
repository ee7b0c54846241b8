//! systemd: is there a unit, does it start a program that exists, is it enabled. Reads files; asks nobody.

use super::is_system;
use crate::commands::unit;
use aex_core::paths::Paths;
use aex_proto::check::Finding;
use std::path::{Path, PathBuf};

const SUBJECT: &str = "systemd";

pub(super) fn look(paths: &Paths) -> Option<Finding> {
    // sd_booted(3)
    if !Path::new("/run/systemd/system").is_dir() {
        return Some(Finding::ok(SUBJECT, "does not run this machine"));
    }
    let system = is_system(paths.place);
    let (folders, target, systemctl) = if system {
        let folders = ["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"];
        (folders.map(PathBuf::from).to_vec(), "multi-user.target.wants", "systemctl")
    } else {
        (user_folders(), "default.target.wants", "systemctl --user")
    };
    Some(judged(&folders, target, systemctl))
}

/// The first is where links of enabled units stand.
fn user_folders() -> Vec<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share")));
    let mut folders: Vec<PathBuf> = unit::user_folder().into_iter().collect();
    folders.extend(data.map(|folder| folder.join("systemd/user")));
    folders.extend(["/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"].map(PathBuf::from));
    folders
}

fn judged(folders: &[PathBuf], target: &str, systemctl: &str) -> Finding {
    let found = folders.iter().map(|folder| folder.join("aexd.service")).find(|path| path.exists());
    let Some(path) = found else {
        return Finding::ok(SUBJECT, "no unit: the daemon is started by hand (`aexctl daemon install` writes one)");
    };
    let place = path.display();
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some(program) = program(&text).filter(|program| !program.exists()) {
        let install = "aexctl daemon install, then daemon-reload";
        return Finding::error(
            SUBJECT,
            format!("{place} starts {}, which is not there", program.display()),
            format!("{install}: {systemctl} daemon-reload"),
        );
    }
    let enabled = folders.iter().any(|folder| folder.join(target).join("aexd.service").symlink_metadata().is_ok());
    if enabled {
        return Finding::ok(SUBJECT, format!("{place} is enabled"));
    }
    Finding::warning(
        SUBJECT,
        format!("{place} is not enabled: nobody starts the daemon after a reboot"),
        format!("{systemctl} enable aexd"),
    )
}

/// The program of `ExecStart=`; `None` when it has a specifier, which systemd alone can resolve.
fn program(unit: &str) -> Option<PathBuf> {
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart="))?;
    let word = match line.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next()?,
        None => line.split_whitespace().next()?,
    };
    (!word.contains('%')).then(|| PathBuf::from(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::check::Verdict;

    #[test]
    fn a_unit_is_told_as_it_stands() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let folders = [home.path().to_owned()];
        let found = || judged(&folders, "default.target.wants", "systemctl --user");
        assert_eq!(found().verdict, Verdict::Ok);
        let write = |text: &str| std::fs::write(home.path().join("aexd.service"), text).ok();
        write("ExecStart=\"/no such/aexd\" serve\n");
        assert!(found().verdict == Verdict::Error && found().detail.contains("/no such/aexd"), "{:?}", found());
        write("ExecStart=/bin/sh serve\n");
        assert_eq!((found().verdict, found().fix), (Verdict::Warning, Some("systemctl --user enable aexd".to_owned())));
        let wants = home.path().join("default.target.wants");
        std::fs::create_dir(&wants).and_then(|()| std::os::unix::fs::symlink("../aexd.service", wants.join("aexd.service"))).ok();
        assert!(found().verdict == Verdict::Ok && found().detail.ends_with("is enabled"), "{:?}", found());
    }
}
