//! The writer: the one thread that changes the ledger, group by group.

use super::directory::{self, Directory};
use super::disk::Disk;
use super::load::{self, State};
use super::queue::{AfterCommit, Job, Queue};
use super::{LedgerFault, now};
use aex_core::ask::Ask;
use aex_core::books::{Account, AccountKind, BooksFault, HoldKey, Placed, Wanted};
use aex_core::decision::{AccountState, Denial};
use aex_core::event::{AccountStateChanged, CallHeld, CallReleased, CallSettled, EpochOpened, Event, Outcome, Released, Settled, WindowOpened};
use aex_core::price::{Charge, Line};
use aex_core::usage::Bucket;
use aex_proto::value::{AccountId, BalanceId, Digest, Pico, RequestId, Stamp};
use arc_swap::ArcSwap;
use rusqlite::{Connection, Statement, params};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio::sync::{oneshot, watch};

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
    /// The digest of the policy that admitted it.
    pub policy: Digest,
    /// The bound.
    pub amount: Pico,
    /// Tokens of input in it.
    pub input_tokens: u64,
    /// The output limit per choice.
    pub max_tokens: u64,
    /// How long it may last, in microseconds.
    pub lasts_us: i64,
    /// The send follows at once.
    pub sent: bool,
}

/// A hold that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The commit that holds it.
    pub commit: u64,
    /// When the daemon ends it at the latest.
    pub deadline: Stamp,
}

/// How a hold ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a charge.
    Settle {
        /// How sure the charge is. A worst case charges the whole hold, whatever the lines say.
        state: Settled,
        /// The charge.
        lines: Vec<Line>,
        /// Why.
        outcome: Outcome,
        /// The status of the provider's answer.
        status: Option<u16>,
        /// Fields of the reported usage that are not known.
        unknown_usage: Vec<String>,
    },
    /// Without one.
    Release {
        /// Why nothing was billed.
        reason: Released,
        /// The status of the provider's answer.
        status: Option<u16>,
    },
}

/// A hold that is to end.
#[derive(Clone, Debug)]
pub struct EndCall {
    /// The hold.
    pub key: HoldKey,
    /// How.
    pub ending: Ending,
}

/// What the writer's thread is started with.
pub(super) struct Start {
    pub(super) conn: Connection,
    pub(super) state: State,
    pub(super) zone_name: String,
    pub(super) queue: Arc<Queue>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) disk: Disk,
    pub(super) head: watch::Sender<i64>,
}

/// What opening the ledger did.
pub(super) struct Opened {
    pub(super) epoch: u32,
    pub(super) recovered: u64,
}

/// The statements of the hot path, prepared once.
struct Statements<'c> {
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    event: Statement<'c>,
    hold: Statement<'c>,
    sent: Statement<'c>,
    end: Statement<'c>,
    open_balance: Statement<'c>,
    balance: Statement<'c>,
    chain: Statement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(conn: &'c Connection) -> Result<Statements<'c>, rusqlite::Error> {
        Ok(Statements {
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            rollback: conn.prepare("ROLLBACK")?,
            event: conn.prepare("INSERT INTO events (seq, at_us, kind, body, hash) VALUES (?, ?, ?, ?, ?)")?,
            hold: conn.prepare("INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?,
            sent: conn.prepare("UPDATE holds SET sent = 1 WHERE request = ? AND attempt = ?")?,
            end: conn.prepare(
                "INSERT INTO calls SELECT request, attempt, account, model, ?3, amount_pico, ?4, ?5, held_us, ?6, held_seq, ?7 FROM holds WHERE request = ?1 AND attempt = ?2",
            )?,
            open_balance: conn.prepare("INSERT INTO balances VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?,
            balance: conn.prepare("UPDATE balances SET limit_pico = ?2, spent_pico = ?3, reserved_pico = ?4, overdraft_pico = ?5 WHERE id = ?1")?,
            chain: conn.prepare("UPDATE chain SET seq = ?, hash = ?, epoch = ?, next_account = ?")?,
        })
    }
}

/// The writer inside its transaction. Admin actions are methods on it (`admin`).
pub struct Writer<'c> {
    pub(super) conn: &'c Connection,
    pub(super) state: State,
    pub(super) now: Stamp,
    pub(super) directory_changed: bool,
    sql: Statements<'c>,
}

/// What is told after the commit.
enum Answer {
    Held(oneshot::Sender<Result<Held, Denial>>, Result<Stamp, Denial>),
    Admin(AfterCommit),
}

/// Runs until the queue is closed and empty.
pub(super) fn run(start: Start, ready: &SyncSender<Result<Opened, LedgerFault>>) {
    let Start { conn, state, zone_name, queue, directory, disk, head } = start;
    queue.attach();
    let sql = match Statements::prepare(&conn) {
        Ok(sql) => sql,
        Err(fault) => return drop(ready.send(Err(fault.into()))),
    };
    let writer = Writer { conn: &conn, state, now: now(), directory_changed: true, sql };
    let mut shell = Shell { writer, directory, disk, head, commits: 0, unwritten: Vec::new() };
    let opened = shell.open_epoch(zone_name);
    let failed = opened.is_err();
    if ready.send(opened).is_err() || failed {
        return queue.close();
    }
    let mut batch = Vec::new();
    while queue.take(&mut batch) {
        shell.group(&mut batch);
    }
    // Statements go before their connection; it closes last, and with it the WAL.
    drop(shell);
}

/// The writer and those whom it tells.
struct Shell<'c> {
    writer: Writer<'c>,
    directory: Arc<ArcSwap<Directory>>,
    disk: Disk,
    head: watch::Sender<i64>,
    commits: u64,
    unwritten: Vec<Job>,
}

impl Shell<'_> {
    /// Opens the daemon's epoch and ends what dead ones left, in one transaction.
    fn open_epoch(&mut self, zone: String) -> Result<Opened, LedgerFault> {
        let writer = &mut self.writer;
        writer.begin()?;
        let recovered = writer.open_epoch(zone)?;
        writer.finish()?;
        self.committed();
        Ok(Opened { epoch: self.writer.state.epoch, recovered })
    }

    fn group(&mut self, batch: &mut Vec<Job>) {
        // Ends that an earlier group could not write come first: their money is held until they are written.
        let mut jobs = std::mem::take(&mut self.unwritten);
        jobs.append(batch);
        let disk = self.disk.clone();
        let _guard = disk.writing();
        match self.writer.transaction(&mut jobs) {
            Ok(answers) => {
                self.committed();
                for answer in answers {
                    self.tell(answer);
                }
            }
            Err(fault) => {
                tracing::error!(%fault, jobs = jobs.len(), "a group of the ledger failed; its calls are refused");
                self.recover_from(jobs);
            }
        }
    }

    /// After a failed transaction: the books are read anew, and each end and record is tried alone, so that one that can't be
    /// written doesn't take others with it.
    fn recover_from(&mut self, jobs: Vec<Job>) {
        if let Err(fault) = self.writer.reload() {
            tracing::error!(%fault, "the ledger cannot be read");
            self.disk.set_writable(false);
            self.unwritten = jobs.into_iter().filter(|job| matches!(job, Job::End(_) | Job::Record(_))).collect();
            return;
        }
        for job in jobs.into_iter().filter(|job| matches!(job, Job::End(_) | Job::Record(_))) {
            let mut one = vec![job];
            match self.writer.transaction(&mut one) {
                Ok(_) => self.committed(),
                Err(fault) => {
                    self.disk.set_writable(false);
                    let is_constraint = matches!(&fault, LedgerFault::Sql(rusqlite::Error::SqliteFailure(code, _)) if code.code == rusqlite::ErrorCode::ConstraintViolation);
                    tracing::error!(%fault, dropped = is_constraint, "an end of a call could not be written");
                    if let Err(fault) = self.writer.reload() {
                        tracing::error!(%fault, "the ledger cannot be read");
                    }
                    if !is_constraint {
                        self.unwritten.append(&mut one);
                    }
                }
            }
        }
    }

    fn committed(&mut self) {
        self.commits += 1;
        self.disk.committed(self.commits);
        if std::mem::take(&mut self.writer.directory_changed) {
            self.directory.store(Arc::new(self.writer.directory()));
        }
        self.head.send_replace(self.writer.state.head.seq);
    }

    fn tell(&self, answer: Answer) {
        match answer {
            Answer::Held(reply, placed) => {
                // A receiver that has gone means that the runtime is going down: the row is ended at the next start.
                drop(reply.send(placed.map(|deadline| Held { commit: self.commits, deadline })));
            }
            Answer::Admin(after) => after(self.commits),
        }
    }
}

impl Writer<'_> {
    fn begin(&mut self) -> Result<(), LedgerFault> {
        self.now = now();
        self.sql.begin.execute([])?;
        Ok(())
    }

    /// Runs jobs in one transaction. Holds and admin actions are consumed; on a fault the others are still in `jobs`.
    fn transaction(&mut self, jobs: &mut Vec<Job>) -> Result<Vec<Answer>, LedgerFault> {
        self.begin()?;
        let mut answers = Vec::with_capacity(jobs.len());
        let mut kept = Vec::with_capacity(jobs.len());
        let mut fault = None;
        for job in jobs.drain(..) {
            match self.job(job, &mut kept) {
                Ok(answer) => answers.extend(answer),
                Err(broken) => fault = fault.or(Some(broken)),
            }
        }
        let done = fault.map_or_else(|| self.finish(), Err);
        if let Err(fault) = done {
            *jobs = kept;
            return Err(fault);
        }
        Ok(answers)
    }

    fn job(&mut self, job: Job, kept: &mut Vec<Job>) -> Result<Option<Answer>, LedgerFault> {
        match job {
            Job::Hold(call, reply) => {
                let placed = self.hold(&call)?;
                Ok(Some(Answer::Held(reply, placed)))
            }
            Job::End(call) => {
                let done = self.end(&call);
                kept.push(Job::End(call));
                done.map(|()| None)
            }
            Job::Record(event) => {
                let done = self.append(&event);
                kept.push(Job::Record(event));
                done.map(|_| None)
            }
            Job::Admin(act) => act(self).map(|after| Some(Answer::Admin(after))),
        }
    }

    /// Writes what changed in the books and commits.
    fn finish(&mut self) -> Result<(), LedgerFault> {
        for id in self.state.books.take_dirty() {
            let Some(balance) = self.state.books.balance(id) else { continue };
            let limit = balance.limit.map(Pico::get);
            self.sql.balance.execute(params![id.get(), limit, balance.spent.get(), balance.reserved.get(), balance.overdraft.get()])?;
        }
        let head = self.state.head;
        self.sql.chain.execute(params![head.seq, head.hash.bytes(), self.state.epoch, self.state.next_account])?;
        self.sql.commit.execute([])?;
        Ok(())
    }

    /// SQLite may or may not have ended the transaction by itself; the books are read anew either way.
    fn reload(&mut self) -> Result<(), LedgerFault> {
        if !self.conn.is_autocommit() {
            self.sql.rollback.execute([])?;
        }
        let mut fresh = load::load(self.conn, self.state.zone.clone())?;
        for (id, stop) in &self.state.stops {
            fresh.stops.insert(*id, Arc::clone(stop));
        }
        self.state = fresh;
        self.directory_changed = true;
        Ok(())
    }

    /// Appends an event to the chain; returns its number.
    pub(super) fn append(&mut self, event: &Event) -> Result<i64, LedgerFault> {
        let body = event.body();
        let head = self.state.head.link(self.now, event.kind(), &Digest::of(body.as_bytes()));
        self.sql.event.execute(params![head.seq, self.now.micros(), event.kind(), body, head.hash.bytes()])?;
        self.state.head = head;
        Ok(head.seq)
    }

    fn hold(&mut self, call: &HoldCall) -> Result<Result<Stamp, Denial>, LedgerFault> {
        let deadline = self.now.offset(call.lasts_us);
        let wanted = Wanted { account: call.account, amount: call.amount, at: self.now, deadline, epoch: self.state.epoch, sent: call.sent };
        let placed = match self.state.books.hold(call.key, wanted)? {
            Ok(placed) => placed,
            Err(denial) => return Ok(Err(denial)),
        };
        for id in &placed.opened {
            self.window_opened(*id)?;
        }
        let seq = self.append(&held_event(call, &placed, deadline, self.state.epoch).into())?;
        self.sql.hold.execute(params![
            call.key.request.bits().cast_signed(),
            call.key.attempt,
            call.account.get(),
            call.ask.model,
            call.card.bytes(),
            call.amount.get(),
            list(&placed.balances),
            self.now.micros(),
            deadline.micros(),
            self.state.epoch,
            call.sent,
            seq,
        ])?;
        Ok(Ok(deadline))
    }

    /// Writes the row and the event of a balance that has just been opened.
    pub(super) fn window_opened(&mut self, id: BalanceId) -> Result<(), LedgerFault> {
        let balance = self.insert_balance(id)?;
        self.append(&balance.into())?;
        Ok(())
    }

    /// Writes the row of a new balance, empty; what it holds is written with the group.
    pub(super) fn insert_balance(&mut self, id: BalanceId) -> Result<WindowOpened, LedgerFault> {
        let balance = self.state.books.balance(id).ok_or(BooksFault::NoBalance(id))?;
        let opened = WindowOpened {
            account: balance.account,
            balance: id,
            end: balance.window.end,
            limit: balance.limit,
            period: balance.period,
            start: balance.window.start,
        };
        self.sql.open_balance.execute(params![
            id.get(),
            balance.account.get(),
            balance.period.name(),
            balance.window.start.micros(),
            balance.window.end.map(Stamp::micros),
            balance.limit.map(Pico::get),
            0,
            0,
            0,
        ])?;
        Ok(opened)
    }

    /// Marks a waiting hold as sent.
    #[expect(dead_code, reason = "calls that wait come with approvals and fallbacks; the row and the event are final now")]
    fn mark_sent(&mut self, key: HoldKey) -> Result<bool, LedgerFault> {
        if !self.state.books.mark_sent(key) {
            return Ok(false);
        }
        self.append(&aex_core::event::CallSent { attempt: key.attempt, request: key.request }.into())?;
        Ok(self.sql.sent.execute(params![key.request.bits().cast_signed(), key.attempt])? == 1)
    }

    fn end(&mut self, call: &EndCall) -> Result<(), LedgerFault> {
        let key = call.key;
        let (state, lines, charge) = match &call.ending {
            Ending::Settle { state, lines, .. } => (load::name_of(state), lines.as_slice(), settled_charge(*state, lines)),
            Ending::Release { .. } => ("released".to_owned(), &[][..], Some(Pico::ZERO)),
        };
        let Some(amount) = self.state.books.open_hold(key).map(|hold| hold.amount) else {
            tracing::warn!(request = %key.request, "a call that has ended was to be ended again");
            return Ok(());
        };
        let charge = charge.unwrap_or(amount);
        let Some(ended) = self.state.books.end(key, charge)? else { return Ok(()) };
        let seq = self.append(&end_event(call, charge))?;
        let tokens: u64 = lines.iter().filter(|Line(bucket, ..)| *bucket != Bucket::Call).map(|Line(_, quantity, _)| *quantity).sum();
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        self.sql.end.execute(params![key.request.bits().cast_signed(), key.attempt, state, charge.get(), tokens, self.now.micros(), seq])?;
        if ended.overdrawn {
            self.suspend(ended.hold.account, key.request)?;
        }
        Ok(())
    }

    /// A bill went beyond what an account may spend: its agent is suspended, not the groups above.
    fn suspend(&mut self, account: AccountId, request: RequestId) -> Result<(), LedgerFault> {
        let path = self.state.books.path(account);
        let agent = path.iter().filter_map(|id| self.state.books.account(*id)).find(|account| account.kind == AccountKind::Agent);
        let Some(agent) = agent.filter(|agent| agent.state == AccountState::Active).cloned() else { return Ok(()) };
        let reason = format!("the bill of {request} went beyond its bound and the budget");
        self.change_state(&agent, AccountState::Suspended, reason, None)
    }

    /// Writes an account's new state: row, event, books.
    pub(super) fn change_state(&mut self, account: &Account, to: AccountState, reason: String, by: Option<aex_core::event::By>) -> Result<(), LedgerFault> {
        let closed = (to == AccountState::Closed).then(|| self.now.micros());
        let mut statement = self.conn.prepare_cached("UPDATE accounts SET state = ?2, reason = ?3, closed_us = ?4 WHERE id = ?1")?;
        statement.execute(params![account.id.get(), load::name_of(&to), reason, closed])?;
        self.append(&AccountStateChanged { account: account.id, by, from: account.state, reason: reason.clone(), to }.into())?;
        self.state.books.put_account(Account { state: to, reason, ..account.clone() });
        self.directory_changed = true;
        Ok(())
    }

    fn open_epoch(&mut self, zone: String) -> Result<u64, LedgerFault> {
        self.state.epoch = self.state.epoch.saturating_add(1);
        let opened = EpochOpened {
            boot_us: crate::os::clock::boot_us(),
            epoch: self.state.epoch,
            schema: super::schema::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            zone,
        };
        self.append(&opened.into())?;
        self.ensure_root()?;
        let left: Vec<(HoldKey, bool)> = self.state.books.holds().map(|(key, hold)| (*key, hold.sent)).collect();
        for (key, sent) in &left {
            let ending = if *sent {
                Ending::Settle { state: Settled::WorstCase, lines: Vec::new(), outcome: Outcome::Crash, status: None, unknown_usage: Vec::new() }
            } else {
                Ending::Release { reason: Released::Crash, status: None }
            };
            self.end(&EndCall { key: *key, ending })?;
        }
        // Runs of a dead daemon re-attach by their open account; nothing else of it lives on.
        Ok(u64::try_from(left.len()).unwrap_or(u64::MAX))
    }

    fn directory(&mut self) -> Directory {
        let State { books, policies, stops, tokens, .. } = &mut self.state;
        let mut directory = Directory { tokens: HashMap::with_capacity(tokens.len()), ..Directory::default() };
        let ids: Vec<AccountId> = books.accounts().filter(|account| account.state != AccountState::Closed).map(|account| account.id).collect();
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

/// The charge that lines say; `None` charges the whole hold.
fn settled_charge(state: Settled, lines: &[Line]) -> Option<Pico> {
    match state {
        Settled::WorstCase => None,
        Settled::Exact | Settled::Estimated => Charge::sum(lines),
    }
}

fn held_event(call: &HoldCall, placed: &Placed, deadline: Stamp, epoch: u32) -> CallHeld {
    CallHeld {
        account: call.account,
        amount: call.amount,
        ask: call.ask.clone(),
        attempt: call.key.attempt,
        balances: placed.balances.clone(),
        card: call.card,
        deadline,
        epoch,
        input_tokens: call.input_tokens,
        max_tokens: call.max_tokens,
        policy: call.policy,
        request: call.key.request,
        sent: call.sent,
    }
}

fn end_event(call: &EndCall, charge: Pico) -> Event {
    let HoldKey { request, attempt } = call.key;
    match &call.ending {
        Ending::Settle { state, lines, outcome, status, unknown_usage } => CallSettled {
            attempt,
            charge,
            lines: if *state == Settled::WorstCase { Vec::new() } else { lines.clone() },
            outcome: *outcome,
            request,
            state: *state,
            status: *status,
            unknown_usage: unknown_usage.clone(),
        }
        .into(),
        Ending::Release { reason, status } => CallReleased { attempt, reason: *reason, request, status: *status }.into(),
    }
}

/// A hold's balances as its row keeps them: numbers between commas.
pub(super) fn list(ids: &[BalanceId]) -> String {
    let mut text = String::with_capacity(ids.len() * 4);
    for id in ids {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&id.to_string());
    }
    text
}
