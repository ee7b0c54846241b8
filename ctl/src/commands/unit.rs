//! `aexctl daemon install`: a systemd unit with the right paths in it. Writes one file, and says what comes next.
//!
//! The units in `systemd/` are the only templates; `packaging/install` uses the same ones.

use super::Context;
use crate::aexd;
use crate::exit::{Attempt, Exit, Failure};
use aex_core::paths::Paths;
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const USER: &str = include_str!("../../../systemd/aexd.service");
const SYSTEM: &str = include_str!("../../../systemd/aexd-system.service");
/// What the unit's file is called.
const NAME: &str = "aexd.service";
/// systemd takes no program with such a character in its path, or reads it as another one.
const UNFIT: [char; 7] = ['"', '\'', '\\', '$', '%', '&', '|'];
/// What `ProtectHome=` hides from the system's unit.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];

#[derive(Serialize)]
struct Installed<'a> {
    path: &'a Path,
    unit: &'a str,
}

pub(super) fn run(context: &Context<'_>, system: bool, print: bool) -> Result<Exit, Failure> {
    let program = aexd::path().ok_or_else(|| aexd::missing(Failure::new("aexd was not found")))?;
    let path = if system { PathBuf::from("/etc/systemd/system").join(NAME) } else { user_folder()?.join(NAME) };
    let unit = if system { system_unit(&program) } else { user_unit(&program, context.home.as_deref(), &context.paths) }?;
    let installed = Installed { path: &path, unit: &unit };
    if print {
        context.view.show(&installed, |_| unit.trim_end().to_owned())?;
        return Ok(Exit::Done);
    }
    write(&path, &unit)?;
    context.view.show(&installed, |_| format!("installed {}", path.display()))?;
    let systemctl = if system { "systemctl" } else { "systemctl --user" };
    if system {
        context
            .view
            .note("Configuration goes into /etc/aex: aexd.yaml, models.yaml, permissions.json, and keys into /etc/aex/env (mode 600).");
    }
    context.view.note(&format!("Next: {systemctl} daemon-reload && {systemctl} enable --now aexd"));
    Ok(Exit::Done)
}

/// Where systemd looks for the units that a user has written.
pub(super) fn user_folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    config.map(|folder| folder.join("systemd/user")).ok_or_else(|| Failure::new("HOME is not set").with(Exit::Usage))
}

fn user_unit(program: &Path, home: Option<&Path>, paths: &Paths) -> Result<String, Failure> {
    let unit = render(USER, program)?;
    let mut service = "[Service]\n".to_owned();
    for (name, path) in moved(home, paths) {
        service.push_str(&format!("Environment=\"{name}={}\"\n", plain(path)?));
    }
    Ok(unit.replacen("[Service]\n", &service, 1))
}

/// What the unit's daemon would not find by itself: systemd starts it without the variables of this shell.
fn moved<'a>(home: Option<&'a Path>, paths: &'a Paths) -> Vec<(&'static str, &'a Path)> {
    let in_home = [
        ("AEX_CONFIG_DIR", &paths.config_dir, "config"),
        ("AEX_DB_PATH", &paths.ledger, "ledger.db"),
        ("AEX_LOG_DIR", &paths.log_dir, "logs"),
    ];
    let elsewhere = in_home.into_iter().filter(|(_, path, usual)| **path != paths.home.join(usual));
    home.map(|home| ("AEX_HOME", home)).into_iter().chain(elsewhere.map(|(name, path, _)| (name, path.as_path()))).collect()
}

fn system_unit(program: &Path) -> Result<String, Failure> {
    if HIDDEN.iter().any(|folder| program.starts_with(folder)) {
        let failure = Failure::new(format!("the unit runs with ProtectHome=yes, which hides {}", program.display()));
        return Err(failure.hint("install -m 755 aexd aexctl /usr/local/bin/, then /usr/local/bin/aexctl daemon install --system"));
    }
    render(SYSTEM, program)
}

/// The template with the program's path, without its remarks on how to install it by hand.
fn render(template: &str, program: &Path) -> Result<String, Failure> {
    let program = plain(program)?;
    let lines = template.lines().skip_while(|line| *line != "[Unit]");
    let mut unit = "# Written by `aexctl daemon install`.\n\n".to_owned();
    for line in lines {
        let start = line.starts_with("ExecStart=").then(|| format!("ExecStart=\"{program}\" serve"));
        unit.push_str(start.as_deref().unwrap_or(line));
        unit.push('\n');
    }
    Ok(unit)
}

fn plain(path: &Path) -> Result<&str, Failure> {
    let fits = |text: &&str| !text.chars().any(|c| UNFIT.contains(&c) || c.is_control());
    path.to_str().filter(fits).ok_or_else(|| {
        Failure::new(format!("{} has a character that a systemd unit cannot hold", path.display())).hint("choose a plain path")
    })
}

/// The unit becomes the file at once, also where a link stands in its place.
fn write(path: &Path, unit: &str) -> Result<(), Failure> {
    let new = path.with_extension("service.new");
    let put = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&new, unit)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(&new, path)
    };
    match put() {
        Err(fault) if fault.kind() == ErrorKind::PermissionDenied => {
            Err(Failure::new(format!("no permission to write {}", path.display()))
                .with(Exit::Denied)
                .hint("as root, or with `--print` and `sudo tee`"))
        }
        written => written.attempt(|| format!("write {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(program: &str, home: Option<&str>, variables: &[(&str, &str)]) -> Result<String, Failure> {
        let lookup =
            |name: &str| [("HOME", "/u")].iter().chain(variables).find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let home = home.map(Path::new);
        let paths = Paths::resolve(lookup, home).unwrap_or_else(|fault| unreachable!("{fault}"));
        user_unit(Path::new(program), home, &paths)
    }

    #[test]
    fn a_unit_names_the_program_and_the_home_and_keeps_what_systemd_waits_for() {
        let unit = user("/opt/a b/aexd", Some("/srv/aex"), &[]).unwrap_or_else(|failure| unreachable!("{failure:?}"));
        for line in ["ExecStart=\"/opt/a b/aexd\" serve", "Environment=\"AEX_HOME=/srv/aex\"", "Type=notify", "WatchdogSec=30"] {
            assert!(unit.lines().any(|told| told == line), "{unit}");
        }
        assert!(!unit.contains("packaging/install") && !unit.contains("%h") && unit.matches("Environment=").count() == 1, "{unit}");
        let unit = system_unit(Path::new("/usr/bin/aexd")).unwrap_or_else(|failure| unreachable!("{failure:?}"));
        assert!(unit.contains("ExecStart=\"/usr/bin/aexd\" serve\n") && unit.contains("WatchdogSec=30\n"), "{unit}");
    }

    #[test]
    fn a_unit_keeps_every_path_that_was_moved_out_of_the_home() {
        let moved = [("AEX_DB_PATH", "/d/l.db"), ("AEX_CONFIG_DIR", "/c"), ("AEX_LOG_DIR", "/l")];
        let unit = user("/opt/aexd", None, &moved).unwrap_or_else(|failure| unreachable!("{failure:?}"));
        for (name, path) in moved {
            assert!(unit.lines().any(|line| line == format!("Environment=\"{name}={path}\"")), "{unit}");
        }
        assert!(!unit.contains("AEX_HOME"), "{unit}");
        let unit = user("/opt/aexd", None, &[("AEX_LOG_DIR", "/u/.aex/logs")]).unwrap_or_else(|failure| unreachable!("{failure:?}"));
        assert!(!unit.contains("Environment="), "{unit}");
    }

    #[test]
    fn a_program_that_systemd_would_not_find_is_refused() {
        for program in ["/home/x/aexd", "/root/bin/aexd", "/opt/100%/aexd"] {
            assert!(system_unit(Path::new(program)).is_err(), "{program}");
        }
        assert!(user("/home/x/aexd", Some("/a\"b"), &[]).is_err());
        assert!(user("/home/x/aexd", None, &[("AEX_DB_PATH", "/100%/l.db")]).is_err());
    }
}
