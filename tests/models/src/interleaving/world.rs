//! One state of the world: the log, the daemon's calls in memory, the providers, the clients.

use super::Config;
use super::rows::{Kept, Rows};
use crate::wal::Wal;
use aex_core::ended::Ended;

/// How far the daemon is with a call. It forgets that when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// It has not come in.
    Outside,
    /// It was refused.
    Refused,
    /// Money is held for it.
    Held,
    /// The request was sent.
    Sent,
    /// An answer has come, and may be shown.
    Answered,
    /// Its end is in line, or written.
    Ending,
    /// The daemon that knew it is dead.
    Lost,
}

/// What the provider has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// It knows nothing of the call.
    Idle,
    /// It works, and has billed nothing so far.
    Working,
    /// It answered, and bills so many tokens of output beside the input.
    Billed(u64),
    /// It refused: no bill.
    Refused,
    /// It broke off without an answer, and bills the input.
    Failed,
}

impl Provider {
    /// Its bill, in pico.
    #[must_use]
    pub fn bill(self) -> i64 {
        match self {
            Provider::Idle | Provider::Working | Provider::Refused => 0,
            Provider::Billed(output) => 1 + i64::try_from(output).unwrap(),
            Provider::Failed => 1,
        }
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// How far the daemon is with it.
    pub phase: Phase,
    /// The commit that holds it or marks it as sent.
    pub commit: u64,
    /// What the provider has done.
    pub provider: Provider,
    /// The client has seen something of the answer.
    pub seen: bool,
    /// The client is there.
    pub stays: bool,
    /// Ends in line, in the order in which they came.
    pub queued: Vec<Queued>,
    /// The call's tracker has brought an end of its own.
    pub again: bool,
}

/// An end in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queued {
    /// The provider reported so many tokens of output.
    Exact(u64),
    /// The client left; so many bytes had been relayed.
    Left(u64),
    /// The provider refused.
    Refused,
    /// The provider failed.
    Failed,
    /// It never left the daemon.
    NeverSent,
    /// Nobody knows.
    Unknown,
}

impl Queued {
    /// As the daemon sees it.
    pub(super) fn ended(self) -> Ended {
        use aex_core::event::Outcome;
        use aex_core::usage::Usage;
        match self {
            Queued::Exact(output) => Ended::plain(200, Some(Usage::text(1, output)), output),
            Queued::Left(bytes) => Ended::relayed(Outcome::ClientLeft, Some(200), bytes, None),
            Queued::Refused => Ended::declined(429, || true),
            Queued::Failed => Ended::declined(502, || false),
            Queued::NeverSent => Ended::NeverSent,
            Queued::Unknown => Ended::Unknown { outcome: Outcome::Deadline, status: None },
        }
    }
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The tables, as they are and as a power cut may leave them.
    pub wal: Wal<Kept>,
    /// The daemon runs.
    pub up: bool,
    /// The calls.
    pub calls: Vec<Call>,
    /// The day that the clock shows.
    pub day: u8,
    /// How often the clock may still be set.
    pub days_left: u8,
    /// Crashes and power cuts that are still to come, at most.
    pub crashes_left: u8,
    /// A power cut has been.
    pub cut: bool,
}

impl World {
    pub(super) fn new(config: &Config) -> World {
        let call =
            Call { phase: Phase::Outside, commit: 0, provider: Provider::Idle, seen: false, stays: true, queued: Vec::new(), again: false };
        World {
            wal: Wal::new(Kept::new(Rows::new(config))),
            up: true,
            calls: vec![call; config.calls.len()],
            day: 0,
            days_left: if config.days { 2 } else { 0 },
            crashes_left: config.crashes,
            cut: false,
        }
    }

    /// The tables as the daemon sees them.
    #[must_use]
    pub fn rows(&self) -> &Rows {
        self.wal.now().rows()
    }
}
