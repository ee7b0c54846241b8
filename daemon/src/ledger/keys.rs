//! Idempotency keys as the ledger knows them: by the digest in `call.held`. Reads only.

use super::read::Reader;
use super::{Ledger, LedgerFault};
use aex_core::event::CallHeld;
use aex_proto::value::{Digest, RequestId, Stamp};
use rusqlite::{OptionalExtension, params};

/// A key under which money was held, and not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedKey {
    /// Its digest.
    pub key: Digest,
    /// The call.
    pub request: RequestId,
    /// The digest of the client's bytes.
    pub input: Digest,
    /// When it was held.
    pub at: Stamp,
}

impl Ledger {
    /// Keys that the daemons before this one held money under since an instant, the newest ones at most.
    ///
    /// # Errors
    /// When the query fails or an event does not fit its kind.
    pub async fn used_keys(&self, since: Stamp, at_most: usize) -> Result<Vec<UsedKey>, LedgerFault> {
        let until = self.inner.inherited;
        self.read(move |reader| reader.used_keys(until, since, at_most)).await
    }
}

impl Reader<'_> {
    fn used_keys(&self, until: i64, since: Stamp, at_most: usize) -> Result<Vec<UsedKey>, LedgerFault> {
        let sql = "SELECT state FROM calls WHERE request = ? AND attempt = ?";
        let mut state = self.conn.prepare_cached(sql)?;
        let mut found = Vec::new();
        // From the newest on: it stops at the first event that is too old.
        let mut statement = self.conn.prepare_cached("SELECT at_us, kind, body FROM events WHERE seq <= ? ORDER BY seq DESC")?;
        let mut rows = statement.query([until])?;
        while let Some(row) = rows.next()? {
            let at = Stamp::new(row.get(0)?);
            if at < since || found.len() >= at_most {
                break;
            }
            // Searched here: SQLite's own `instr` compares at every byte.
            let text = |at| row.get_ref(at).map(|value| value.as_str().unwrap_or_default());
            let body = text(2)?;
            if text(1)? != "call.held" || !body.contains(MEMBER) {
                continue;
            }
            let held: CallHeld = serde_json::from_str(body).map_err(|fault| LedgerFault::Broken(fault.to_string()))?;
            let key = params![held.request.bits().cast_signed(), held.attempt];
            let ended: Option<String> = state.query_row(key, |row| row.get(0)).optional()?;
            if let Some(key) = held.idempotency.filter(|_| ended.as_deref() != Some("released")) {
                found.push(UsedKey { key, request: held.request, input: held.input, at });
            }
        }
        Ok(found)
    }

    /// The first event, from one on, that holds money under a key which is not over: a start asks for it.
    pub(super) fn first_keyed(&self, from: i64, now: Stamp) -> Result<Option<i64>, LedgerFault> {
        let sql = "SELECT min(seq) FROM events WHERE seq >= ? AND at_us >= ? AND kind = 'call.held' AND instr(body, ?) > 0";
        let since = now.offset(-KEY_LASTS_US);
        Ok(self.conn.query_row(sql, params![from, since.micros(), MEMBER], |row| row.get(0))?)
    }
}

/// How long a key belongs to its first call, in microseconds.
pub const KEY_LASTS_US: i64 = 24 * 3_600_000_000;

/// How a body begins its member. Within a text of the body the quotes would be escaped.
const MEMBER: &str = r#""idempotency":""#;
