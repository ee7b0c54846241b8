//! The wall clock of a daemon under test, set while it runs: a preloaded shim (`clock/shim.c`) moves it by what a file says. The
//! monotonic clock and the boot clock go on as they are. The tests' own clock, and aexctl's, stay true.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use aex_proto::value::Stamp;
use tempfile::TempDir;

use crate::daemon::Config;

/// A wall clock that can be set.
pub struct Clock {
    dir: TempDir,
    offset: File,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// One that is true.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("offset");
        let offset = File::options().create_new(true).read(true).write(true).open(path).expect("make the file of the offset");
        let clock = Self { dir, offset };
        clock.write(0);
        clock
    }

    /// A daemon with this configuration has this clock.
    #[must_use]
    pub fn of(&self, config: Config) -> Config {
        let path = |path: &Path| path.to_str().expect("a path of letters").to_owned();
        config.env("LD_PRELOAD", &path(shim())).env("AEX_TEST_CLOCK", &path(&self.dir.path().join("offset")))
    }

    /// Sets it; it goes on from there. The time is RFC 3339, such as `2026-03-29T00:59:58Z`.
    #[track_caller]
    pub fn set(&self, at: &str) {
        self.set_to(Stamp::parse(at).expect("a time"));
    }

    /// Sets it to an instant.
    pub fn set_to(&self, at: Stamp) {
        self.write(at.since(real()) * 1_000);
    }

    /// Moves it by so many seconds.
    pub fn shift(&self, seconds: i64) {
        let mut bytes = [0; 8];
        self.offset.read_exact_at(&mut bytes, 0).expect("read the offset");
        self.write(i64::from_ne_bytes(bytes) + seconds * 1_000_000_000);
    }

    fn write(&self, nanos: i64) {
        self.offset.write_all_at(&nanos.to_ne_bytes(), 0).expect("write the offset");
    }
}

fn real() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    Stamp::new(i64::try_from(since.as_micros()).expect("a clock of this age"))
}

/// The shim, compiled once per run of a test binary, beside it.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let path = std::env::current_exe().expect("the running test has a path").with_extension("clock.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clock/shim.c");
        let made = path.with_extension(format!("{}.so", std::process::id()));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let built = Command::new(compiler).args(["-shared", "-fPIC", "-O2", "-o"]).arg(&made).arg(source).output().expect("run cc");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        // A daemon of another run may have the old one mapped.
        std::fs::rename(&made, &path).expect("name the shim");
        path
    })
}
