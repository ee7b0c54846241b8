//! Answers that providers have stored, by the names that they gave: which event tells of one. The event says whose it is; the table
//! only finds it, and forgets it with the event.

use super::LedgerFault;
use super::read::Reader;
use super::writer::Writer;
use aex_core::event::{Event, ResponseStored};
use aex_proto::value::AccountId;
use rusqlite::params;

/// Events of one name that are looked at, the newest first: two providers may give the same.
const MOST: u32 = 64;

impl Writer<'_> {
    /// Makes the names of an answer findable, whose event was appended last.
    pub(super) fn keep_names(&mut self, stored: &ResponseStored) -> Result<(), LedgerFault> {
        let seq = self.state.head.seq;
        let mut insert = self.conn.prepare_cached("INSERT OR IGNORE INTO stored (name, seq) VALUES (?, ?)")?;
        for name in stored.items.iter().chain([&stored.response]) {
            insert.execute(params![name, seq])?;
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// The newest answer that an agent got under this name, or one of whose items has it.
    ///
    /// # Errors
    /// When a query fails.
    pub fn stored(&self, name: &str, agent: AccountId, provider: Option<&str>) -> Result<Option<ResponseStored>, LedgerFault> {
        let sql = "SELECT kind, body FROM stored JOIN events USING (seq) WHERE name = ? ORDER BY seq DESC LIMIT ?";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query(params![name, MOST])?;
        while let Some(row) = rows.next()? {
            let (kind, body): (String, String) = (row.get(0)?, row.get(1)?);
            let Ok(Event::ResponseStored(stored)) = Event::parse(&kind, &body) else { continue };
            let is_named = stored.response == name || stored.items.iter().any(|item| item == name);
            if is_named && stored.account == agent && provider.is_none_or(|provider| stored.provider == provider) {
                return Ok(Some(*stored));
            }
        }
        Ok(None)
    }
}
