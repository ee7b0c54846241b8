//! `aexctl ledger`: what keeps the ledger small.

use super::Context;
use crate::cli;
use crate::client;
use crate::exit::{Attempt, Exit, Failure};
use crate::units::count;
use aex_proto::ledger::Compact;
use aex_proto::method::LedgerCompact;

pub(super) fn run(context: &Context<'_>, verb: cli::Ledger) -> Result<Exit, Failure> {
    let cli::Ledger::Compact { before, dir } = verb;
    let dir = dir.map(|dir| std::path::absolute(&dir).attempt(|| format!("find {}", dir.display()))).transpose()?;
    let dir = dir.map(|dir| dir.into_os_string().into_string().map_err(|_| Failure::new("the folder's name is no text").with(Exit::Usage)));
    let done = context.connect()?.call_within::<LedgerCompact>(&Compact { before, dir: dir.transpose()? }, client::AUDIT)?;
    context.view.show(&done, |_| {
        let events = count(done.events, "event");
        format!("{events} sealed, {} to {}, in {}\nSHA-256 {}", done.first, done.last, done.segment, done.sha256)
    })?;
    Ok(Exit::Done)
}
