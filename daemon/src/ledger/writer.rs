//! The writer inside its transaction: the one owner of the connection that writes, and of the books in memory.

use super::LedgerFault;
use super::directory::{self, Directory, StopFlag};
use super::jump::{Jump, Watch};
use super::load::{self, State};
use super::post::Reply;
use super::queue::{AfterCommit, Job};
use super::tally::{self, Tally};
use crate::os::{clock, failpoint};
use aex_core::ask::Ask;
use aex_core::books::HoldKey;
use aex_core::decision::{AccountState, Denial};
use aex_core::event::{ClockJumped, Event, Skipped};
use aex_core::hold::Ending;
use aex_core::policy::{Change, Facts};
use aex_core::tool::{ToolCall, ToolResult};
use aex_proto::value::{AccountId, Digest, Pico, Stamp};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql, params};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A policy, permissions or a price in force, as events name it. The ledger keeps its text with the first event that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is a text of.
    pub kind: &'static str,
    /// The digest of the text.
    pub digest: Digest,
    /// Its canonical text.
    pub text: String,
}

/// A hold that the gate asks for.
#[derive(Clone, Debug)]
pub struct HoldCall {
    /// The hold.
    pub key: HoldKey,
    /// Whose call it is.
    pub account: AccountId,
    /// What it asks.
    pub ask: Ask,
    /// The digest of the model's card; its text is a snapshot already.
    pub card: Digest,
    /// The policy that admitted it.
    pub policy: Arc<Snapshot>,
    /// What its rules looked at.
    pub facts: Option<Facts>,
    /// What its limits changed.
    pub changes: Vec<Change>,
    /// The rule that let it pass.
    pub rule: Option<String>,
    /// The bound.
    pub amount: Pico,
    /// The digest of the client's bytes.
    pub input: Digest,
    /// Tokens of input in the bound.
    pub input_tokens: u64,
    /// Tokens of output in it, over all choices.
    pub output_tokens: u64,
    /// The output limit per choice.
    pub max_tokens: u64,
    /// How long it may last, in microseconds.
    pub lasts_us: i64,
    /// The send follows at once.
    pub sent: bool,
    /// The digest of the idempotency key that it came with.
    pub idempotency: Option<Digest>,
    /// Models that it was not sent to.
    pub skipped: Vec<Skipped>,
    /// The call of a tool, when it is one.
    pub tool: Option<Box<ToolCall>>,
    /// What that tool costs: its card is in no configuration.
    pub tool_card: Option<Arc<Snapshot>>,
}

impl HoldCall {
    /// A call of a tool that costs nothing: no money is promised, so nothing waits for the disk.
    fn is_free(&self) -> bool {
        self.tool.is_some() && self.amount == Pico::ZERO
    }
}

/// A hold that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The commit that holds it.
    pub commit: u64,
    /// When the daemon ends it at the latest.
    pub deadline: Stamp,
}

/// A hold that is to end.
#[derive(Clone, Debug)]
pub struct EndCall {
    /// The hold.
    pub key: HoldKey,
    /// How.
    pub ending: Ending,
    /// What came of the call of a tool.
    pub tool: Option<Box<ToolResult>>,
}

/// The statements of the hot path, prepared once.
pub(super) struct Statements<'c> {
    pub(super) begin: Statement<'c>,
    pub(super) commit: Statement<'c>,
    pub(super) rollback: Statement<'c>,
    pub(super) event: Statement<'c>,
    pub(super) hold: Statement<'c>,
    pub(super) end: Statement<'c>,
    pub(super) open_balance: Statement<'c>,
    pub(super) balance: Statement<'c>,
    pub(super) chain: Statement<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(conn: &'c Connection) -> Result<Statements<'c>, rusqlite::Error> {
        Ok(Statements {
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            rollback: conn.prepare("ROLLBACK")?,
            event: conn.prepare("INSERT INTO events (seq, at_us, kind, body, hash) VALUES (?, ?, ?, ?, ?)")?,
            hold: conn.prepare("INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?,
            end: conn.prepare("INSERT OR ROLLBACK INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?,
            open_balance: conn.prepare("INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?,
            balance: conn
                .prepare("UPDATE balances SET limit_pico = ?2, spent_pico = ?3, reserved_pico = ?4, overdraft_pico = ?5 WHERE id = ?1")?,
            chain: conn.prepare("UPDATE chain SET seq = ?, hash = ?, epoch = ?, next_account = ?")?,
        })
    }
}

/// The writer inside its transaction. Admin actions are methods on it (`admin`).
pub struct Writer<'c> {
    pub(super) conn: &'c Connection,
    pub(super) state: State,
    pub(super) now: Stamp,
    wall: clock::Wall,
    /// The same instant by the clocks that nobody sets: since the machine booted, in microseconds, and since this process did.
    pub(super) boot_us: i64,
    pub(super) mono: Duration,
    pub(super) watch: Watch,
    /// A jump of the wall clock that the running group records.
    jump: Option<Jump>,
    pub(super) directory_changed: bool,
    /// Closed accounts that are kept in memory for their open holds.
    pub(super) closed: BTreeSet<AccountId>,
    /// Accounts with their new states: flags are raised or lowered once that is committed.
    pub(super) flags: Vec<(AccountId, Arc<StopFlag>, AccountState)>,
    pub(super) tally: Tally,
    pub(super) sql: Statements<'c>,
    /// The body of the event that is being written: one buffer for all.
    body: Vec<u8>,
}

/// UTF-8 that is bound as text where it stands.
struct Text<'a>(&'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, rusqlite::Error> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// What is told after the commit.
pub(super) enum Answer {
    Held { reply: Reply, placed: Result<Stamp, Denial>, is_free: bool },
    Admin(AfterCommit),
}

impl<'c> Writer<'c> {
    pub(super) fn new(conn: &'c Connection, state: State, wall: clock::Wall) -> Result<Writer<'c>, LedgerFault> {
        let (now, boot_us) = (wall(), clock::boot_us());
        Ok(Writer {
            sql: Statements::prepare(conn)?,
            tally: Tally::new(state.head.seq),
            conn,
            state,
            now,
            wall,
            boot_us,
            mono: clock::mono(),
            watch: Watch::new(now, boot_us),
            jump: None,
            directory_changed: true,
            closed: BTreeSet::new(),
            flags: Vec::new(),
            body: Vec::new(),
        })
    }
}

impl Writer<'_> {
    pub(super) fn begin(&mut self) -> Result<(), LedgerFault> {
        (self.now, self.boot_us, self.mono) = ((self.wall)(), clock::boot_us(), clock::mono());
        self.jump = None;
        self.sql.begin.execute([])?;
        Ok(())
    }

    /// Runs jobs in one transaction. Holds and admin actions are consumed; on a fault the others are still in `jobs`.
    pub(super) fn transaction(&mut self, jobs: &mut Vec<Job>) -> Result<Vec<Answer>, LedgerFault> {
        self.begin()?;
        self.note_jump()?;
        let mut answers = Vec::with_capacity(jobs.len());
        let mut kept = Vec::with_capacity(jobs.len());
        let mut fault = None;
        for job in jobs.drain(..) {
            if fault.is_some() {
                kept.push(job);
                continue;
            }
            match self.job(job, &mut kept) {
                Ok(answer) => answers.extend(answer),
                Err(broken) => fault = Some(broken),
            }
        }
        let done = fault.map_or_else(|| self.finish(), Err);
        if let Err(fault) = done {
            *jobs = kept;
            return Err(fault);
        }
        Ok(answers)
    }

    /// The wall clock was set since the last group: said before anything that happens under the new time.
    fn note_jump(&mut self) -> Result<(), LedgerFault> {
        let Some(jump) = self.watch.look(self.now, self.boot_us) else { return Ok(()) };
        self.jump = Some(jump);
        let Jump { boot_us, from, to } = jump;
        self.append(&ClockJumped { boot_us, from, to }.into()).map(|_| ())
    }

    /// The wall clock's time now, between two groups.
    pub(super) fn wall_now(&self) -> Stamp {
        (self.wall)()
    }

    /// The wall clock was set, and no group has said so yet.
    pub(super) fn is_clock_off(&self) -> bool {
        self.watch.look(self.wall_now(), clock::boot_us()).is_some()
    }

    /// The jump that has just been committed.
    pub(super) fn take_jump(&mut self) -> Option<Jump> {
        let jump = self.jump.take()?;
        self.watch = Watch::new(jump.to, jump.boot_us);
        if jump.to < jump.from {
            self.tally.set_back(jump.to);
        }
        Some(jump)
    }

    /// Holds that have lasted for as long as they may, by the clock that nobody sets.
    pub(super) fn overdue(&self, mono: Duration) -> Vec<HoldKey> {
        self.state.rows.iter().filter(|(_, row)| row.due <= mono).map(|(key, _)| *key).collect()
    }

    fn job(&mut self, job: Job, kept: &mut Vec<Job>) -> Result<Option<Answer>, LedgerFault> {
        match job {
            Job::Hold(call, reply) => {
                let is_free = call.is_free();
                let placed = self.hold(*call)?;
                Ok(Some(Answer::Held { reply, placed, is_free }))
            }
            Job::End(call) => {
                let done = self.end(&call);
                kept.push(Job::End(call));
                done.map(|()| None)
            }
            Job::Record(event, named) => {
                let done = self.record(&event, &named);
                kept.push(Job::Record(event, named));
                done.map(|()| None)
            }
            Job::Admin(act) => act(self).map(|after| Some(Answer::Admin(after))),
            Job::Look(look) => {
                look(self);
                Ok(None)
            }
        }
    }

    fn record(&mut self, event: &Event, named: &[Option<Arc<Snapshot>>]) -> Result<(), LedgerFault> {
        for snapshot in named.iter().flatten() {
            self.keep(snapshot)?;
        }
        self.append(event)?;
        if let Event::ResponseStored(stored) = event {
            self.keep_names(stored)?;
        }
        Ok(())
    }

    /// Writes what changed in the books and commits.
    pub(super) fn finish(&mut self) -> Result<(), LedgerFault> {
        for id in self.state.books.take_dirty() {
            let Some(balance) = self.state.books.balance(id) else { continue };
            let limit = balance.limit.map(Pico::get);
            self.sql.balance.execute(params![id.get(), limit, balance.spent.get(), balance.reserved.get(), balance.overdraft.get()])?;
        }
        let head = self.state.head;
        self.sql.chain.execute(params![head.seq, head.hash.bytes(), self.state.epoch, self.state.next_account])?;
        failpoint::reached("ledger.before_commit");
        self.sql.commit.execute([])?;
        Ok(())
    }

    /// Counts what has just been committed.
    pub(super) fn count(&mut self) {
        self.tally.commit(&self.state.books, self.state.head.seq);
    }

    /// Drops from memory what closed accounts no longer need. The deepest go first.
    pub(super) fn forget_closed(&mut self) {
        let mut forgotten = Vec::new();
        for id in self.closed.iter().rev() {
            let parent = self.state.books.account(*id).and_then(|account| account.parent).unwrap_or(AccountId::ROOT);
            if self.state.books.forget_closed(*id) {
                forgotten.push((*id, parent));
            }
        }
        for (id, parent) in forgotten {
            self.tally.forgotten(&self.state.books, id, parent);
            self.closed.remove(&id);
            self.state.policies.remove(&id);
            self.state.stops.remove(&id);
        }
    }

    /// Ends or allows the calls of accounts whose new state is committed. A kill holds for all below; what is closed has had its
    /// subtree closed with it.
    pub(super) fn raise_flags(&mut self) {
        let books = &self.state.books;
        for (account, flag, state) in self.flags.drain(..) {
            if state == AccountState::Closed {
                flag.raise(state);
                continue;
            }
            for (id, flag) in &self.state.stops {
                let path = books.path(*id);
                if !path.contains(&account) {
                    continue;
                }
                let states = path.iter().filter_map(|id| books.account(*id)).map(|above| above.state);
                match states.into_iter().find(|state| matches!(state, AccountState::Killed | AccountState::Closed)) {
                    Some(state) => flag.raise(state),
                    None => flag.lower(),
                }
            }
        }
    }

    /// SQLite may or may not have ended the transaction by itself; the books are read anew either way.
    pub(super) fn reload(&mut self) -> Result<(), LedgerFault> {
        if !self.conn.is_autocommit() {
            self.sql.rollback.execute([])?;
        }
        let mut fresh = load::load(self.conn, self.state.zone.clone(), self.wall_now())?;
        for (id, stop) in &self.state.stops {
            fresh.stops.insert(*id, Arc::clone(stop));
        }
        for (key, row) in &mut fresh.rows {
            if let Some(known) = self.state.rows.get(key) {
                row.due = known.due;
            }
        }
        self.flags.clear();
        self.jump = None;
        self.tally.recover(&fresh.books, fresh.head.seq);
        self.state = fresh;
        let closed = self.state.books.accounts().filter(|account| account.state == AccountState::Closed).map(|account| account.id);
        self.closed = closed.collect();
        self.directory_changed = true;
        Ok(())
    }

    /// Appends an event to the chain; returns its number.
    pub(super) fn append(&mut self, event: &Event) -> Result<i64, LedgerFault> {
        self.body.clear();
        event.write_body(&mut self.body);
        let head = self.state.head.link(self.now, event.kind(), &Digest::of(&self.body));
        self.sql.event.execute(params![head.seq, self.now.micros(), event.kind(), Text(&self.body), head.hash.bytes()])?;
        self.state.head = head;
        let change = match event {
            Event::CallDenied(denied) => Some(tally::Change::Denied { account: denied.account, rule: denied.rule.clone(), count: 1 }),
            Event::CallDeniedAgain(denied) => {
                Some(tally::Change::Denied { account: denied.account, rule: denied.rule.clone(), count: denied.count })
            }
            Event::AuthFailed(failed) => Some(tally::Change::AuthFailed { cause: failed.cause, count: failed.count }),
            _ => None,
        };
        if let Some(change) = change {
            self.tally.stage(self.now, change);
        }
        Ok(head.seq)
    }

    /// Tokens and accounts as they are now.
    pub(super) fn directory(&mut self) -> Directory {
        let State { books, policies, stops, tokens, .. } = &mut self.state;
        let mut directory = Directory { tokens: HashMap::with_capacity(tokens.len()), ..Directory::default() };
        let ids: Vec<AccountId> =
            books.accounts().filter(|account| account.state != AccountState::Closed).map(|account| account.id).collect();
        for id in ids {
            let stop = Arc::clone(stops.entry(id).or_default());
            if let Some(view) = directory::view(books, policies, id, stop) {
                directory.accounts.insert(id, Arc::new(view));
            }
        }
        directory.tokens.extend(tokens.iter().map(|(hash, token)| (*hash, token.clone())));
        directory
    }
}
