//! What the supervisor is given by the daemon.

use super::super::sandbox::cgroup;
use super::super::server::Server;
use crate::os::secret::Secret;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What holds for all servers.
#[derive(Clone)]
pub struct Options {
    /// The folder of what tools leave: the record of those that run, and each one's private folders.
    pub home: PathBuf,
    /// The folder of their logs: `NAME.log`.
    pub logs: PathBuf,
    /// The daemon's own program, which confines what it starts: `sandbox::SELF` within it.
    pub aexd: PathBuf,
    /// Variables that each server has beside those of its configuration: PATH, LANG, TZ. HOME and TMPDIR are private folders.
    pub env: Vec<(String, String)>,
    /// Where control groups can be made; each process has one then.
    pub groups: Option<Arc<cgroup::Home>>,
    /// Files and sockets of the daemon, which no configuration grants.
    pub deny: Vec<PathBuf>,
    /// The home of the user that the daemon runs as.
    pub user_home: Option<PathBuf>,
    /// Finds what the configuration of a server refers to, at each start of it. It may read files.
    pub resolve: Resolve,
    /// How fast things happen that no configuration sets.
    pub pace: Pace,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("home", &self.home).field("logs", &self.logs).finish_non_exhaustive()
    }
}

/// Gives a server's environment, or says what of it is missing.
pub type Resolve = Arc<dyn Fn(&Server) -> Result<Resolved, String> + Send + Sync>;

/// The environment of a server's configuration. Holds secrets, and is not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Its variables, whole.
    pub env: Vec<(String, String)>,
    /// What in them is secret: it is taken out of logs.
    pub secrets: Vec<Secret>,
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolved").finish_non_exhaustive()
    }
}

/// How fast things happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a new server may leave the probe for revision 2026-07-28 unanswered before it is taken for an older one.
    pub probe: Duration,
    /// Without an answer for so long it is asked whether it lives.
    pub health: Duration,
    /// How long it may take to say so. It is asked twice.
    pub health_answer: Duration,
    /// How long it may read nothing while something waits to be read.
    pub unread: Duration,
    /// The first rest after an end that was not asked for; each further one is twice as long.
    pub first_rest: Duration,
    /// The longest one.
    pub longest_rest: Duration,
    /// Ready for so long, the next rest is the first one again.
    pub steady: Duration,
    /// Ends within this time count.
    pub window: Duration,
    /// More than so many, and it has failed.
    pub ends: usize,
    /// How long calls in progress may go on when the configuration changed.
    pub drain: Duration,
    /// How long a list must be unchanged before it is read again.
    pub settle: Duration,
    /// The least time between two readings of it.
    pub relist: Duration,
}

impl Pace {
    /// As the daemon has it.
    pub const DEFAULT: Pace = Pace {
        probe: Duration::from_secs(3),
        health: Duration::from_secs(30),
        health_answer: Duration::from_secs(5),
        unread: Duration::from_secs(10),
        first_rest: Duration::from_millis(500),
        longest_rest: Duration::from_secs(60),
        steady: Duration::from_secs(60),
        window: Duration::from_secs(5 * 60),
        ends: 5,
        drain: Duration::from_secs(10),
        settle: Duration::from_millis(500),
        relist: Duration::from_secs(5),
    };
}
