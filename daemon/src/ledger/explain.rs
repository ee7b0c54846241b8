//! Gathers what a story is told from: the events of a request, a run or an action, and the accounts as they stood then. How they
//! stood is found by the audit's own replay up to that event; what it says is decided in the core.

use super::audit::{snapshot, zone};
use super::read::{Reader, record};
use super::{LedgerFault, schema};
use aex_core::event::Event;
use aex_core::explain::{self, ActionDossier, Attempt, CallDossier, Neighbours, RunTold, Search};
use aex_core::verify::{Audit, Record, Standing};
use aex_proto::explain::{CallStory, ExplainId, Story};
use aex_proto::run::RunId;
use aex_proto::value::{AccountId, RequestId, Stamp};
use rusqlite::{OptionalExtension, params};
use std::path::Path;

/// Events recorded together with an action that are told.
const TOGETHER: u32 = 50;
/// Groups of refusals that are told of one request.
const GROUPS: usize = 4;

/// What is asked for has no story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// No daemon of this ledger has given out that id.
    NotGivenOut(RequestId),
    /// Nothing was recorded of this request.
    NotRecorded(RequestId),
    /// Its events are no longer in the ledger.
    Sealed(ExplainId),
    /// Nothing was recorded of this request since old events were taken out.
    NotRecordedSince(RequestId),
    /// There is no such run.
    Run(RunId),
    /// There is no such event.
    Event(u64),
}

/// Explains from a database that no daemon has open, without changing it.
///
/// # Errors
/// When the file cannot be opened or read.
pub fn read_only_explain(path: &Path, id: ExplainId) -> Result<Result<Story, Absent>, LedgerFault> {
    let conn = schema::open_at_rest(path)?;
    let transaction = conn.unchecked_transaction()?;
    Reader::new(&transaction).explain(id)
}

/// Where an attempt was held, and where it ended.
type Place = (i64, Option<i64>);

/// A replay that stands behind an event.
struct Replay<'r> {
    reader: &'r Reader<'r>,
    audit: Audit,
    at: i64,
}

impl Replay<'_> {
    /// Goes on to an event, with it.
    fn until(&mut self, seq: i64) -> Result<(), LedgerFault> {
        let mut statement = self.reader.conn.prepare_cached(&format!("{EVENT} WHERE seq > ? AND seq <= ? ORDER BY seq"))?;
        let mut rows = statement.query(params![self.at, seq])?;
        while let Some(row) = rows.next()? {
            // The row of a call that ends is compared by the audit, not here.
            drop(self.audit.event(&record(row)?));
        }
        self.at = self.at.max(seq);
        Ok(())
    }

    fn standing(&self, account: Option<AccountId>, at: Stamp) -> Standing {
        account.map(|account| self.audit.standing(account, at)).unwrap_or_default()
    }
}

impl<'c> Reader<'c> {
    /// Tells the story of a request, a run or an event.
    ///
    /// # Errors
    /// When a query fails or an event does not fit its kind.
    pub fn explain(&self, id: ExplainId) -> Result<Result<Story, Absent>, LedgerFault> {
        match id {
            ExplainId::Request(request) => self.explain_request(request),
            ExplainId::Run(run) => self.explain_run(run),
            ExplainId::Event(seq) => self.explain_event(seq),
        }
    }

    fn explain_request(&self, request: RequestId) -> Result<Result<Story, Absent>, LedgerFault> {
        let places = self.places(request)?;
        if places.is_empty() {
            let search = self.search(request)?;
            return match search.own() {
                Some((own, _)) => Ok(Ok(Story::Call(Box::new(self.call(&own.clone(), None, &[])?)))),
                None => match self.change_of_stored(request)? {
                    Some(change) => self.explain_action(&change),
                    None => self.explain_alike(Some(request), search),
                },
            };
        }
        let mut attempts: Vec<Attempt> = Vec::with_capacity(places.len());
        for (held, ended) in places {
            let Some(held) = self.one(held)? else { continue };
            attempts.push((held, ended.map(|ended| self.one(ended)).transpose()?.flatten()));
        }
        let Some((own, end)) = attempts.last() else { return Ok(Err(Absent::Sealed(ExplainId::Request(request)))) };
        Ok(Ok(Story::Call(Box::new(self.call(own, end.as_ref(), &attempts)?))))
    }

    /// The numbers of the events that admitted and ended the attempts of a request, in their order.
    fn places(&self, request: RequestId) -> Result<Vec<Place>, LedgerFault> {
        let sql = "SELECT held_seq, ended_seq FROM calls WHERE request = ?1 UNION ALL SELECT held_seq, NULL FROM holds WHERE request = ?1
            ORDER BY held_seq";
        let mut statement = self.conn.prepare_cached(sql)?;
        let found = statement.query_map([request.bits().cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// The denial of an attempt that was to follow one.
    fn unmet(&self, attempts: &[Attempt]) -> Result<Option<Record>, LedgerFault> {
        let Some((held, Some(end))) = attempts.last() else { return Ok(None) };
        let Ok(Event::CallReleased(released)) = Event::parse(&end.kind, &end.body) else { return Ok(None) };
        let sql = format!("{EVENT} WHERE seq > ? AND kind = 'call.denied' AND body ->> '$.request' = ? ORDER BY seq LIMIT 1");
        let key = params![held.seq, released.request.to_string()];
        Ok(self.conn.prepare_cached(&sql)?.query_row(key, record).optional()?)
    }

    /// A person's answer to a call of a tool that waited for one. That of a denial is recorded behind it.
    fn answer(&self, decided: &Record) -> Result<Option<Record>, LedgerFault> {
        let request = match Event::parse(&decided.kind, &decided.body) {
            Ok(Event::CallHeld(held)) => held.tool.is_some().then_some(held.request),
            Ok(Event::CallDenied(denied)) => denied.tool.is_some().then_some(denied.request),
            _ => None,
        };
        let Some(request) = request else { return Ok(None) };
        let sql = format!("{EVENT} WHERE kind = 'approval.given' AND seq > ? AND body ->> '$.request' = ? ORDER BY seq LIMIT 1");
        let key = params![self.sealed_last()?, request.to_string()];
        Ok(self.conn.prepare_cached(&sql)?.query_row(key, record).optional()?)
    }

    /// What a request was to do to a stored answer.
    fn change_of_stored(&self, request: RequestId) -> Result<Option<Record>, LedgerFault> {
        let kinds = "kind IN ('response.cancelled', 'response.deleted')";
        let sql = format!("{EVENT} WHERE {kinds} AND seq > ? AND body ->> '$.request' = ? ORDER BY seq LIMIT 1");
        let key = params![self.sealed_last()?, request.to_string()];
        Ok(self.conn.prepare_cached(&sql)?.query_row(key, record).optional()?)
    }

    fn one(&self, seq: i64) -> Result<Option<Record>, LedgerFault> {
        if seq <= self.sealed_last()? {
            // It may be there for a moment yet.
            return Ok(None);
        }
        Ok(self.conn.prepare_cached(&format!("{EVENT} WHERE seq = ?"))?.query_row([seq], record).optional()?)
    }

    /// Looks through the refusals.
    fn search(&self, request: RequestId) -> Result<Search, LedgerFault> {
        let mut search = Search::new(request);
        let sql = format!("{EVENT} WHERE kind IN ('call.denied', 'call.denied.again', 'auth.failed') AND seq > ? ORDER BY seq");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([self.sealed_last()?])?;
        while let Some(row) = rows.next()? {
            search.take(&record(row)?);
        }
        Ok(search)
    }

    fn replay(&self) -> Result<Replay<'_>, LedgerFault> {
        let base = self.base()?.transpose().map_err(LedgerFault::Broken)?;
        let mut audit = base.map_or_else(|| Audit::new(zone), |base| Audit::resume(zone, base));
        let mut statement = self.conn.prepare_cached("SELECT digest, kind, body FROM snapshots")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (digest, kind, body) = snapshot(row)?;
            audit.snapshot(digest, &kind, &body);
        }
        let at = audit.head().seq;
        Ok(Replay { reader: self, audit, at })
    }

    fn call(&self, decided: &Record, end: Option<&Record>, attempts: &[Attempt]) -> Result<CallStory, LedgerFault> {
        let suspended = end.map(|end| self.one(end.seq.saturating_add(1))).transpose()?.flatten();
        let suspended = suspended.filter(|record| is_suspension_by(record, decided));
        let account = explain::account_of(decided);
        let mut replay = self.replay()?;
        replay.until(decided.seq.saturating_sub(1))?;
        let before = replay.standing(account, decided.at);
        replay.until(end.unwrap_or(decided).seq)?;
        let after = replay.standing(account, decided.at);
        let sql = format!("{EVENT} WHERE kind = 'config.loaded' AND seq < ? ORDER BY seq DESC LIMIT 2");
        let configs = self.conn.prepare_cached(&sql)?.query_map([decided.seq], record)?.collect::<Result<Vec<_>, _>>()?;
        let suspended = suspended.as_ref();
        let (unmet, answer) = (self.unmet(attempts)?, self.answer(decided)?);
        let dossier = CallDossier {
            decided,
            end,
            attempts,
            unmet: unmet.as_ref(),
            answer: answer.as_ref(),
            suspended,
            configs: &configs,
            before: &before,
            after: &after,
            audit: &replay.audit,
        };
        explain::call(&dossier).map_err(LedgerFault::Broken)
    }

    /// A request without an event of its own, or, without a request, the group itself.
    fn explain_alike(&self, request: Option<RequestId>, search: Search) -> Result<Result<Story, Absent>, LedgerFault> {
        let mut groups = Vec::new();
        for alike in search.alike().iter().take(GROUPS) {
            let told = alike.told.as_ref().map(|told| self.call(told, None, &[])).transpose()?;
            let whose = match (&told, alike.account) {
                (Some(told), _) => Some(told.caller.clone()),
                (None, Some(account)) => {
                    let mut replay = self.replay()?;
                    replay.until(alike.record.seq)?;
                    Some(explain::caller(&replay.standing(Some(account), alike.record.at)))
                }
                (None, None) => None,
            };
            groups.push(alike.group(whose, told).map_err(LedgerFault::Broken)?);
        }
        match (groups.is_empty(), request) {
            (true, Some(request)) => Ok(Err(self.absent(request)?)),
            _ => Ok(Ok(Story::Repeat(Box::new(explain::repeat(request, groups))))),
        }
    }

    fn absent(&self, request: RequestId) -> Result<Absent, LedgerFault> {
        let epoch: u64 = self.conn.query_row("SELECT epoch FROM chain", [], |row| super::read::count(row, 0))?;
        let given_out = (1..=epoch).contains(&u64::from(request.epoch()));
        Ok(match given_out {
            false => Absent::NotGivenOut(request),
            true if self.sealed_last()? > 0 => Absent::NotRecordedSince(request),
            true => Absent::NotRecorded(request),
        })
    }

    fn explain_run(&self, run: RunId) -> Result<Result<Story, Absent>, LedgerFault> {
        let mut told = RunTold::new(run);
        let mut statement = self.conn.prepare_cached(OF_RUN)?;
        let mut rows = statement.query([run.account().get()])?;
        while let Some(row) = rows.next()? {
            told.take(&record(row)?);
        }
        let sealed = self.sealed_last()?;
        let Some(opened) = told.opened().filter(|opened| opened.seq > sealed) else {
            let sql = "SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ? AND kind = 'run')";
            let is_run: bool = self.conn.prepare_cached(sql)?.query_row([run.account().get()], |row| row.get(0))?;
            return Ok(Err(if is_run { Absent::Sealed(ExplainId::Run(run)) } else { Absent::Run(run) }));
        };
        let (seq, at) = (opened.seq, opened.at);
        let mut replay = self.replay()?;
        replay.until(seq)?;
        let story = told.story(&replay.standing(Some(run.account()), at));
        Ok(story.map(|story| Story::Run(Box::new(story))).ok_or(Absent::Run(run)))
    }

    fn explain_event(&self, number: u64) -> Result<Result<Story, Absent>, LedgerFault> {
        let found = i64::try_from(number).ok().map(|seq| self.one(seq)).transpose()?.flatten();
        let Some(found) = found else {
            let is_sealed = i64::try_from(number).is_ok_and(|seq| seq > 0) && number <= self.sealed_last()?.unsigned_abs();
            return Ok(Err(if is_sealed { Absent::Sealed(ExplainId::Event(number)) } else { Absent::Event(number) }));
        };
        match Event::parse(&found.kind, &found.body).map_err(LedgerFault::Broken)? {
            Event::CallHeld(held) => self.explain_request(held.request),
            Event::CallSent(sent) => self.explain_request(sent.request),
            Event::CallSettled(settled) => self.explain_request(settled.request),
            Event::CallReleased(released) => self.explain_request(released.request),
            Event::CallDenied(_) => Ok(Ok(Story::Call(Box::new(self.call(&found, None, &[])?)))),
            Event::CallDeniedAgain(again) => self.explain_alike(None, self.search(again.first)?.only(found.seq)),
            Event::AuthFailed(failed) => self.explain_alike(None, self.search(failed.first)?.only(found.seq)),
            _ => self.explain_action(&found),
        }
    }

    fn explain_action(&self, found: &Record) -> Result<Result<Story, Absent>, LedgerFault> {
        let mut neighbours = Neighbours::new(found);
        let sql = format!("{EVENT} WHERE kind NOT LIKE 'call.%' AND kind <> 'auth.failed' ORDER BY seq");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            neighbours.take(&record(row)?);
        }
        let sql = format!("{EVENT} WHERE seq > ?1 AND at_us = ?2 ORDER BY seq LIMIT ?3");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let together = statement.query_map(params![found.seq, found.at.micros(), TOGETHER], record)?.collect::<Result<Vec<_>, _>>()?;
        let account = explain::account_of(found);
        let mut replay = self.replay()?;
        replay.until(found.seq.saturating_sub(1))?;
        let before = replay.standing(account, found.at);
        replay.until(found.seq)?;
        let after = replay.standing(account, found.at);
        let dossier = ActionDossier {
            record: found,
            before: &before,
            after: &after,
            previous: neighbours.previous.as_ref(),
            next: neighbours.next.as_ref(),
            together: &together,
            audit: &replay.audit,
        };
        Ok(Ok(Story::Action(Box::new(explain::action(&dossier).map_err(LedgerFault::Broken)?))))
    }
}

const EVENT: &str = "SELECT seq, at_us, kind, body, hash FROM events";

/// The events of an account, and the ends of its calls.
const OF_RUN: &str = "SELECT seq, at_us, kind, body, hash FROM events WHERE body ->> '$.account' = ?1
    UNION ALL SELECT e.seq, e.at_us, e.kind, e.body, e.hash FROM calls c JOIN events e ON e.seq = c.ended_seq WHERE c.account = ?1
    ORDER BY seq";

/// Whether the bill of a request suspended its agent: the event says so.
fn is_suspension_by(record: &Record, decided: &Record) -> bool {
    let (Ok(Event::AccountStateChanged(changed)), Ok(Event::CallHeld(held))) =
        (Event::parse(&record.kind, &record.body), Event::parse(&decided.kind, &decided.body))
    else {
        return false;
    };
    changed.by.is_none() && changed.reason.contains(&held.request.to_string())
}
