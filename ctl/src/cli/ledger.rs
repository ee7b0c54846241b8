//! Flags of the commands about the ledger as a whole: audit, export, compaction.

use aex_proto::account::AgentName;
use aex_proto::audit::Noted;
use aex_proto::value::Stamp;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// An exported file instead of the ledger; sealed segments, oldest first, may come before it
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// The number and hash of an event as `audit --head` or the log told them: a chain that was made anew does not have it
    #[arg(long, value_name = "SEQ:HASH")]
    pub(crate) expect_head: Vec<Noted>,
    /// Only print where the chain ends, and have the daemon note it in its log
    #[arg(long, conflicts_with_all = ["file", "expect_head"])]
    pub(crate) head: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// From this event on, or from this day (UTC) or instant on: 1200, 2026-11-21 or 2026-11-21T09:00:00+01:00
    #[arg(long, value_name = "DATE|SEQ", value_parser = Since::parse)]
    pub(crate) since: Option<Since>,
    /// Only the events of this agent and its runs; of others no more than keeps the chain whole
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentName>,
    /// Into this file, which appears when it is whole [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Take old events out of the ledger, into a segment file; balances stay provable, by what the chain says of the segment
    Compact {
        /// The first event of this day (UTC) or instant stays, and all behind it
        #[arg(long, value_name = "DATE", value_parser = instant)]
        before: Stamp,
        /// The folder of the segment [default: `segments` beside the ledger]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Where an export begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    Seq(u64),
    At(Stamp),
}

impl Since {
    fn parse(text: &str) -> Result<Since, String> {
        if let Ok(seq) = text.parse() {
            return Ok(Since::Seq(seq));
        }
        instant(text).map(Since::At)
    }
}

/// A day, which begins at midnight UTC, or an instant.
pub(crate) fn instant(text: &str) -> Result<Stamp, String> {
    let day = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let whole = if day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    Stamp::parse(&whole).map_err(|_| format!("`{text}` is no date such as 2026-11-21, and no instant such as 2026-11-21T09:00:00Z"))
}
