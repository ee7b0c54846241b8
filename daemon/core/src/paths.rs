//! Where the daemon's files are. Both programs compute it from the same variables, so that they meet at one socket.
//!
//! Computes only: the environment comes in as a look-up, and nothing here touches a file.

use std::path::{Path, PathBuf};

/// The files and folders of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// AEX_HOME, `~/.aex`, or systemd's state directory.
    pub home: PathBuf,
    /// The folder of aexd.yaml and models.yaml.
    pub config_dir: PathBuf,
    /// The folder of the log files.
    pub log_dir: PathBuf,
    /// The ledger's database.
    pub ledger: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// The provider keys.
    pub env_file: PathBuf,
    /// Holds the daemon's process id while it runs.
    pub pid_file: PathBuf,
    /// Whose home it is.
    pub place: Place,
}

/// Whose home it is: where the socket of its daemon may be depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `~/.aex`, of which a user has one.
    Default,
    /// Any other folder that was named.
    Named,
    /// systemd's state directory, of which a machine has one.
    System,
}

/// Why there is no place for the files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathsError {
    /// No variable says where home is.
    #[error("neither AEX_HOME nor HOME is set: set AEX_HOME to the folder of the daemon's files")]
    NoHome,
    /// Relative paths would mean another place to each process.
    #[error("{name} is `{}`: expected an absolute path", path.display())]
    Relative {
        /// The variable or flag.
        name: &'static str,
        /// What it holds.
        path: PathBuf,
    },
}

impl Paths {
    /// Computes the paths. `--home` wins over AEX_HOME, that over systemd's STATE_DIRECTORY, that over `~/.aex`; an empty
    /// variable counts as not set. Callers make a relative flag absolute first.
    ///
    /// # Errors
    /// When no variable names a home, or one holds a relative path.
    pub fn resolve(lookup: impl Fn(&str) -> Option<String>, home_flag: Option<&Path>) -> Result<Paths, PathsError> {
        let env = Env(lookup);
        let flag = home_flag.map(|path| absolute("--home", path.to_owned())).transpose()?;
        let chosen = match flag {
            Some(path) => Some(path),
            None => env.path("AEX_HOME")?,
        };
        match (chosen, env.first_path("STATE_DIRECTORY")?) {
            (Some(home), _) => env.user(home),
            (None, Some(state)) => env.system(state),
            (None, None) => env.user(env.default_home()?.ok_or(PathsError::NoHome)?),
        }
    }

    /// Where a daemon of this home may listen, the likeliest place first: it may have been started in an environment that the
    /// caller does not have, as cron(8) and su(1) leave variables out.
    #[must_use]
    pub fn sockets(&self, uid: u32) -> Vec<PathBuf> {
        let elsewhere = match self.place {
            Place::Default => vec![self.home.join("aexd.sock"), PathBuf::from(format!("/run/user/{uid}/aex/aexd.sock"))],
            Place::Named => vec![self.home.join("aexd.sock")],
            Place::System => vec![PathBuf::from("/run/aex/aexd.sock")],
        };
        let mut sockets = vec![self.socket.clone()];
        sockets.extend(elsewhere.into_iter().filter(|socket| *socket != self.socket));
        sockets
    }
}

struct Env<F>(F);

impl<F: Fn(&str) -> Option<String>> Env<F> {
    fn path(&self, name: &'static str) -> Result<Option<PathBuf>, PathsError> {
        let set = (self.0)(name).filter(|text| !text.is_empty());
        set.map(|text| absolute(name, PathBuf::from(text))).transpose()
    }

    /// systemd separates several directories of one unit by colons; the first one is ours.
    fn first_path(&self, name: &'static str) -> Result<Option<PathBuf>, PathsError> {
        let set = (self.0)(name).and_then(|text| text.split(':').next().map(str::to_owned)).filter(|text| !text.is_empty());
        set.map(|text| absolute(name, PathBuf::from(text))).transpose()
    }

    fn default_home(&self) -> Result<Option<PathBuf>, PathsError> {
        Ok(self.path("HOME")?.map(|home| home.join(".aex")))
    }

    fn user(&self, home: PathBuf) -> Result<Paths, PathsError> {
        // The runtime folder is shared by all homes of a user, so only the default home may use it.
        let is_default = self.default_home().ok().flatten().is_some_and(|default| default == home);
        // The XDG specification has relative paths ignored.
        let runtime = self.path("XDG_RUNTIME_DIR").ok().flatten().filter(|_| is_default);
        let socket = runtime.map_or_else(|| home.join("aexd.sock"), |folder| folder.join("aex/aexd.sock"));
        Ok(Paths {
            config_dir: self.path("AEX_CONFIG_DIR")?.unwrap_or_else(|| home.join("config")),
            log_dir: self.path("AEX_LOG_DIR")?.unwrap_or_else(|| home.join("logs")),
            ledger: self.path("AEX_DB_PATH")?.unwrap_or_else(|| home.join("ledger.db")),
            socket,
            env_file: home.join(".env"),
            pid_file: home.join("aexd.pid"),
            place: if is_default { Place::Default } else { Place::Named },
            home,
        })
    }

    fn system(&self, home: PathBuf) -> Result<Paths, PathsError> {
        let config = self.first_path("CONFIGURATION_DIRECTORY")?.unwrap_or_else(|| home.join("config"));
        let logs = self.first_path("LOGS_DIRECTORY")?.unwrap_or_else(|| home.join("logs"));
        let runtime = self.first_path("RUNTIME_DIRECTORY")?.unwrap_or_else(|| home.clone());
        Ok(Paths {
            config_dir: self.path("AEX_CONFIG_DIR")?.unwrap_or(config),
            log_dir: self.path("AEX_LOG_DIR")?.unwrap_or(logs),
            ledger: self.path("AEX_DB_PATH")?.unwrap_or_else(|| home.join("ledger.db")),
            socket: runtime.join("aexd.sock"),
            env_file: home.join(".env"),
            pid_file: runtime.join("aexd.pid"),
            place: Place::System,
            home,
        })
    }
}

fn absolute(name: &'static str, path: PathBuf) -> Result<PathBuf, PathsError> {
    if path.is_absolute() { Ok(path) } else { Err(PathsError::Relative { name, path }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(variables: &[(&str, &str)], flag: Option<&str>) -> Result<Paths, PathsError> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Paths::resolve(lookup, flag.map(Path::new))
    }

    #[track_caller]
    fn check(variables: &[(&str, &str)], flag: Option<&str>, home: &str, config: &str, socket: &str, ledger: &str) {
        let paths = resolve(variables, flag).unwrap();
        assert_eq!(paths.home, Path::new(home));
        assert_eq!(paths.config_dir, Path::new(config));
        assert_eq!(paths.socket, Path::new(socket));
        assert_eq!(paths.ledger, Path::new(ledger));
        assert_eq!(paths.env_file, Path::new(home).join(".env"));
    }

    #[test]
    fn each_variable_moves_what_it_names() {
        let user = ("HOME", "/u");
        let run = ("XDG_RUNTIME_DIR", "/run/user/1");
        check(&[user], None, "/u/.aex", "/u/.aex/config", "/u/.aex/aexd.sock", "/u/.aex/ledger.db");
        check(&[user, run], None, "/u/.aex", "/u/.aex/config", "/run/user/1/aex/aexd.sock", "/u/.aex/ledger.db");
        check(&[user, run, ("AEX_HOME", "/u/.aex/")], None, "/u/.aex", "/u/.aex/config", "/run/user/1/aex/aexd.sock", "/u/.aex/ledger.db");
        check(&[user, run, ("AEX_HOME", "/h")], None, "/h", "/h/config", "/h/aexd.sock", "/h/ledger.db");
        check(&[user, run, ("AEX_HOME", "/h")], Some("/f"), "/f", "/f/config", "/f/aexd.sock", "/f/ledger.db");
        check(&[user, ("AEX_HOME", "")], None, "/u/.aex", "/u/.aex/config", "/u/.aex/aexd.sock", "/u/.aex/ledger.db");
        check(&[user, ("AEX_CONFIG_DIR", "/c"), ("AEX_DB_PATH", "/d/x.db")], None, "/u/.aex", "/c", "/u/.aex/aexd.sock", "/d/x.db");
        check(&[("AEX_HOME", "/h"), ("XDG_RUNTIME_DIR", "run")], None, "/h", "/h/config", "/h/aexd.sock", "/h/ledger.db");
    }

    #[test]
    fn a_system_service_uses_the_directories_that_systemd_gives() {
        let all = [
            ("STATE_DIRECTORY", "/var/lib/aex:/var/lib/other"),
            ("RUNTIME_DIRECTORY", "/run/aex"),
            ("CONFIGURATION_DIRECTORY", "/etc/aex"),
            ("LOGS_DIRECTORY", "/var/log/aex"),
        ];
        check(&all, None, "/var/lib/aex", "/etc/aex", "/run/aex/aexd.sock", "/var/lib/aex/ledger.db");
        let paths = resolve(&all, None).unwrap();
        assert_eq!(paths.log_dir, Path::new("/var/log/aex"));
        assert_eq!(paths.pid_file, Path::new("/run/aex/aexd.pid"));
        check(&all, Some("/f"), "/f", "/f/config", "/f/aexd.sock", "/f/ledger.db");
    }

    #[test]
    fn a_daemon_is_looked_for_where_another_environment_would_have_put_its_socket() {
        let user = ("HOME", "/u");
        let sockets = |variables: &[(&str, &str)]| {
            let sockets = resolve(variables, None).unwrap().sockets(7);
            sockets.iter().map(|socket| socket.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        let rows: [(&[(&str, &str)], &str); 5] = [
            (&[user], "/u/.aex/aexd.sock /run/user/7/aex/aexd.sock"),
            (&[user, ("XDG_RUNTIME_DIR", "/run/user/7")], "/run/user/7/aex/aexd.sock /u/.aex/aexd.sock"),
            (&[user, ("AEX_HOME", "/h"), ("XDG_RUNTIME_DIR", "/run/user/7")], "/h/aexd.sock"),
            (&[("STATE_DIRECTORY", "/s")], "/s/aexd.sock /run/aex/aexd.sock"),
            (&[("STATE_DIRECTORY", "/s"), ("RUNTIME_DIRECTORY", "/run/aex")], "/run/aex/aexd.sock"),
        ];
        for (variables, wanted) in rows {
            assert_eq!(sockets(variables), wanted, "{variables:?}");
        }
    }

    #[test]
    fn a_home_that_is_missing_or_relative_is_refused() {
        assert_eq!(resolve(&[], None), Err(PathsError::NoHome));
        let error = resolve(&[("AEX_HOME", "~/aex")], None).unwrap_err();
        assert_eq!(error.to_string(), "AEX_HOME is `~/aex`: expected an absolute path");
        assert!(resolve(&[("HOME", "/u"), ("AEX_LOG_DIR", "logs")], None).is_err());
    }
}
