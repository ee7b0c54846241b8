//! What the writer does for a call: holds and ends, and what follows from them. Each is a row and an event.

use super::LedgerFault;
use super::jump::Watch;
use super::load::{self, HoldRow};
use super::tally::{Change, Sums};
use super::writer::{EndCall, HoldCall, Writer};
use crate::os::failpoint;
use aex_core::books::{Account, BooksFault, HoldKey, Placed, Wanted};
use aex_core::decision::{AccountState, Denial};
use aex_core::event::{AccountStateChanged, By, CallHeld, CallReleased, CallSent, CallSettled, EpochOpened, Event, Settled, WindowOpened};
use aex_core::hold::Ending;
use aex_proto::value::{AccountId, BalanceId, Pico, RequestId, Stamp};
use rusqlite::params;
use std::fmt::Write as _;
use std::time::Duration;

impl Writer<'_> {
    pub(super) fn hold(&mut self, call: HoldCall) -> Result<Result<Stamp, Denial>, LedgerFault> {
        let (key, account, card, amount) = (call.key, call.account, call.card, call.amount);
        let (deadline, epoch, sent) = (self.now.offset(call.lasts_us), self.state.epoch, call.sent);
        let placed = match self.state.books.hold(key, Wanted { account, amount, at: self.now, deadline, epoch, sent })? {
            Ok(placed) => placed,
            Err(denial) => return Ok(Err(denial)),
        };
        for id in &placed.opened {
            self.window_opened(*id)?;
        }
        self.keep(&call.policy)?;
        if let Some(card) = &call.tool_card {
            self.keep(card)?;
        }
        let tokens = i64::try_from(call.input_tokens.saturating_add(call.output_tokens)).unwrap_or(i64::MAX);
        let due = self.mono.saturating_add(Duration::from_micros(u64::try_from(call.lasts_us).unwrap_or(0)));
        let balances = list(&placed.balances);
        let model = call.ask.model.clone();
        let seq = self.append(&held_event(call, placed, deadline, epoch).into())?;
        self.sql.hold.execute(params![
            key.request.bits().cast_signed(),
            key.attempt,
            account.get(),
            model,
            card.bytes(),
            amount.get(),
            tokens,
            balances,
            self.now.micros(),
            deadline.micros(),
            epoch,
            sent,
            seq,
        ])?;
        self.state.rows.insert(key, HoldRow { model, held_us: self.now.micros(), held_seq: seq, tokens, due });
        self.tally.stage(self.now, Change::Held(account));
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

    /// Marks a hold that waited as sent: its request may follow once this is committed. `false` when it is not open, or was sent.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn mark_sent(&mut self, key: HoldKey) -> Result<bool, LedgerFault> {
        if self.state.books.open_hold(key).is_none_or(|hold| hold.sent) {
            return Ok(false);
        }
        let mut statement = self.conn.prepare_cached("UPDATE holds SET sent = 1 WHERE request = ? AND attempt = ?")?;
        statement.execute(params![key.request.bits().cast_signed(), key.attempt])?;
        self.append(&CallSent { attempt: key.attempt, request: key.request }.into())?;
        Ok(self.state.books.mark_sent(key))
    }

    pub(super) fn end(&mut self, call: &EndCall) -> Result<(), LedgerFault> {
        let key = call.key;
        let Some(amount) = self.state.books.open_hold(key).map(|hold| hold.amount) else {
            tracing::warn!(request = %key.request, "a call that has ended was to be ended again");
            return Ok(());
        };
        let (state, charge) = (call.ending.state(), call.ending.charge(amount));
        let Some(ended) = self.state.books.end(key, charge)? else { return Ok(()) };
        let seq = self.append(&end_event(call, charge))?;
        let row = self.state.rows.remove(&key).ok_or_else(|| LedgerFault::Broken(format!("{}: its hold's row is missing", key.request)))?;
        let tokens = call.ending.tokens().map_or(row.tokens, |used| i64::try_from(used).unwrap_or(i64::MAX));
        self.sql.end.execute(params![
            key.request.bits().cast_signed(),
            key.attempt,
            ended.hold.account.get(),
            row.model,
            state,
            amount.get(),
            charge.get(),
            tokens,
            row.held_us,
            self.now.micros(),
            row.held_seq,
            seq,
        ])?;
        failpoint::reached("ledger.end");
        let sums = Sums { calls: 1, tokens: tokens.unsigned_abs(), charged: charge };
        let account = ended.hold.account;
        self.tally.stage(self.now, Change::Ended { account, request: key.request, model: row.model, state, sums });
        if ended.overdrawn {
            self.suspend(ended.hold.account, key.request)?;
        }
        Ok(())
    }

    /// A bill went beyond what an account may spend: its agent is suspended, not the groups above.
    fn suspend(&mut self, account: AccountId, request: RequestId) -> Result<(), LedgerFault> {
        let Some(agent) = self.state.books.overdrawer(account).cloned() else { return Ok(()) };
        let reason = format!("the bill of {request} went beyond its bound and the budget");
        self.change_state(&agent, AccountState::Suspended, reason, None)
    }

    /// Writes an account's new state: row, event, books.
    pub(super) fn change_state(&mut self, account: &Account, to: AccountState, reason: String, by: Option<By>) -> Result<(), LedgerFault> {
        let closed = (to == AccountState::Closed).then(|| self.now.micros());
        let mut statement = self.conn.prepare_cached("UPDATE accounts SET state = ?2, reason = ?3, closed_us = ?4 WHERE id = ?1")?;
        statement.execute(params![account.id.get(), load::name_of(&to), reason, closed])?;
        self.append(&AccountStateChanged { account: account.id, by, from: account.state, reason: reason.clone(), to }.into())?;
        self.state.books.put_account(Account { state: to, reason, ..account.clone() });
        self.directory_changed = true;
        Ok(())
    }

    pub(super) fn open_epoch(&mut self, zone: String) -> Result<u64, LedgerFault> {
        self.state.epoch = self.state.epoch.saturating_add(1);
        self.watch = Watch::new(self.now, self.boot_us);
        let opened = EpochOpened {
            boot_us: self.boot_us,
            epoch: self.state.epoch,
            ledger: self.state.ledger.clone(),
            schema: super::schema::VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            zone,
        };
        self.append(&opened.into())?;
        self.ensure_root()?;
        let left: Vec<(HoldKey, bool)> = self.state.books.holds().map(|(key, hold)| (*key, hold.sent)).collect();
        for (key, sent) in &left {
            self.end(&EndCall { key: *key, ending: Ending::of_dead(*sent), tool: None })?;
        }
        // Runs of a dead daemon re-attach by their open account; nothing else of it lives on.
        Ok(u64::try_from(left.len()).unwrap_or(u64::MAX))
    }
}

fn held_event(call: HoldCall, placed: Placed, deadline: Stamp, epoch: u32) -> CallHeld {
    CallHeld {
        account: call.account,
        amount: call.amount,
        ask: call.ask,
        attempt: call.key.attempt,
        balances: placed.balances,
        card: call.card,
        changes: call.changes,
        deadline,
        epoch,
        facts: call.facts,
        idempotency: call.idempotency,
        input: call.input,
        input_tokens: call.input_tokens,
        output_tokens: call.output_tokens,
        max_tokens: call.max_tokens,
        policy: call.policy.digest,
        request: call.key.request,
        rule: call.rule,
        sent: call.sent,
        skipped: call.skipped,
        tool: call.tool,
    }
}

fn end_event(call: &EndCall, charge: Pico) -> Event {
    let HoldKey { request, attempt } = call.key;
    match &call.ending {
        Ending::Settle { state, lines, outcome, relayed, status, tier, unknown_usage } => CallSettled {
            attempt,
            charge,
            lines: if *state == Settled::WorstCase { Vec::new() } else { lines.clone() },
            outcome: *outcome,
            relayed: *relayed,
            request,
            state: *state,
            status: *status,
            tier: tier.clone(),
            tool: call.tool.clone(),
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
        // Writing to a String cannot fail.
        let _ = write!(text, "{id}");
    }
    text
}
