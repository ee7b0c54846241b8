//! The ledger's write lock in another process: the daemon's writer does not get through meanwhile.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Holds the lock until it is released, or the test ends.
pub struct Lock {
    holder: Child,
}

impl Lock {
    /// Takes the lock of the ledger in a home.
    #[must_use]
    #[track_caller]
    pub fn take(home: &Path) -> Self {
        let script = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
c.execute('ROLLBACK')";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(home.join("ledger.db"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("start python3");
        let mut line = String::new();
        let mut out = BufReader::new(holder.stdout.take().expect("a pipe"));
        out.read_line(&mut line).expect("a line of the holder");
        assert_eq!(line, "held\n");
        Self { holder }
    }

    /// Lets it go.
    pub fn release(mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().expect("the holder's end");
    }
}
