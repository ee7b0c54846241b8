//! The shim below the daemon: a library preloaded into the real `aexd` that records what it writes, flushes and sends, and that fails
//! on command. `tests/shim/disk.c` is its source and says how orders read. Here: building it, and what it recorded.

mod chance;
mod disk;
mod judge;
mod log;
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::daemon::{Config, output};

pub use self::chance::Chance;
pub use self::disk::{Disk, Image, Taste};
pub use self::judge::{Broken, Deed, Promise, Truth, judged};
pub use self::log::{Kind, Moment, Record, moments};
pub use self::world::{Seen, What, seen};

/// The library, and the files through which a daemon under it is heard and told.
pub struct Shim {
    // Holds the log and the orders.
    dir: TempDir,
}

impl Shim {
    /// Builds the library once per test program.
    #[must_use]
    #[track_caller]
    pub fn new() -> Self {
        library();
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Runs this configuration's daemon under the shim, where it can be told to fail.
    #[must_use]
    #[track_caller]
    pub fn below(&self, config: Config) -> Config {
        let preload = library().to_str().expect("a path in UTF-8");
        let rules = self.rules();
        config.env("LD_PRELOAD", preload).env("AEX_SHIM_RULES", rules.to_str().expect("a path in UTF-8"))
    }

    /// The same, and records all it does.
    #[must_use]
    #[track_caller]
    pub fn recording(&self, config: Config) -> Config {
        let log = self.log();
        self.below(config).env("AEX_SHIM_LOG", log.to_str().expect("a path in UTF-8"))
    }

    /// From now on these orders hold, and none else.
    #[track_caller]
    pub fn order(&self, orders: &str) {
        let draft = self.dir.path().join("orders.new");
        fs::write(&draft, format!("{orders}\n")).expect("write the orders");
        fs::rename(&draft, self.rules()).expect("give the orders");
    }

    /// From now on the disk is sound.
    #[track_caller]
    pub fn heal(&self) {
        fs::remove_file(self.rules()).expect("take the orders back");
    }

    /// What was recorded since the last call, in the order in which it ended. No daemon may run.
    #[must_use]
    #[track_caller]
    pub fn records(&self) -> Vec<Record> {
        let bytes = fs::read(self.log()).expect("read the log");
        fs::remove_file(self.log()).expect("take the log away");
        log::parse(&bytes)
    }

    fn rules(&self) -> PathBuf {
        self.dir.path().join("orders")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }
}

impl Default for Shim {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs this configuration's daemon where no name is ever resolved, nor refused.
#[must_use]
#[track_caller]
pub fn without_names(config: Config) -> Config {
    config.env("LD_PRELOAD", build("names").to_str().expect("a path in UTF-8"))
}

/// The built library of the disk.
#[track_caller]
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("disk"))
}

/// Builds a library of `tests/shim`. It lies beside the running test, so that no build outlives its sources for long.
#[track_caller]
fn build(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim").join(format!("{name}.c"));
    let folder = std::env::current_exe().expect("the running test has a path").with_file_name("shim");
    fs::create_dir_all(&folder).expect("make the folder of the shim");
    // Two test programs may build it at the same time: each its own, then renamed.
    let draft = folder.join(format!("{name}-{}.so", std::process::id()));
    let built = folder.join(format!("{name}.so"));
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&draft).arg(&source).args(["-ldl", "-lpthread"]);
    output(command).ok();
    fs::rename(&draft, &built).expect("name the built shim");
    built
}
