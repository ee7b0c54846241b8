//! The daemon of a history: its books and queue in memory, its tables in the log, the world's clock, and what may happen to them.

use super::call::{Call, Habit, Stage, Turn};
use super::random::Random;
use super::{Fault, FlushAll, Report};
use crate::interleaving::card;
use crate::wal::Wal;
use aex_core::ask::Ask;
use aex_core::books::{Account, AccountKind, Books, HoldKey, Limits, Wanted};
use aex_core::decision::AccountState;
use aex_core::ended::Ended;
use aex_core::event::Outcome;
use aex_core::hold::{Durability, Ending};
use aex_core::policy::{self, Effective, Fields};
use aex_core::price::{self, ModelCard, Price, Terms};
use aex_core::usage::Usage;
use aex_core::window::Period;
use aex_proto::value::{AccountId, BalanceId, Pico, RequestId, Stamp};
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

const DAY_US: i64 = 86_400_000_000;
/// A Wednesday, so that weeks and months do not begin with it.
const BEGUN_US: i64 = 1_794_000_000_000_000;
/// How long a call lasts at most.
const LASTS_US: i64 = 7_200_000_000;

/// The row of a call that has ended.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) number: u64,
    pub(super) state: &'static str,
    pub(super) charge: i64,
}

/// What a commit keeps.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    books: Books,
    pub(super) ended: Vec<Row>,
}

/// What waits for the writer.
#[derive(Clone, Debug)]
enum Job {
    Hold(u64),
    End(u64, Ending),
}

pub(super) struct House {
    pub(super) durability: Durability,
    pub(super) up: bool,
    pub(super) was_cut: bool,
    pub(super) wal: Wal<Tables>,
    pub(super) calls: Vec<Call>,
    pub(super) report: Report,
    /// The books in memory, ahead of the log within a group only.
    tables: Tables,
    queue: Vec<Job>,
    fault: Option<Fault>,
    now: Stamp,
    epoch: u32,
    accounts: Vec<AccountId>,
    cards: [ModelCard; 2],
    policy: Effective,
    gateway_errors_charged: bool,
    /// Since the last check a bill was beyond its bound, a budget set, or the power cut: only these make an overdraft.
    overdraws: bool,
    overdrafts: BTreeMap<BalanceId, Pico>,
}

fn key(number: u64) -> HoldKey {
    HoldKey { request: RequestId::new(1, number + 1), attempt: 0 }
}

impl House {
    pub(super) fn new(random: &mut Random, durability: Durability, fault: Option<Fault>) -> House {
        let now = Stamp::new(BEGUN_US);
        let mut books = Books::new(TimeZone::UTC, 1);
        let kinds = [
            AccountKind::Root,
            AccountKind::Group,
            AccountKind::Group,
            AccountKind::Agent,
            AccountKind::Agent,
            AccountKind::Agent,
            AccountKind::Run,
        ];
        let mut accounts: Vec<AccountId> = Vec::new();
        for (at, kind) in kinds.into_iter().enumerate() {
            let id = AccountId::new(i64::try_from(at).unwrap() + 1);
            let parent = match kind {
                AccountKind::Root => None,
                AccountKind::Group => Some(accounts[0]),
                AccountKind::Agent => Some(accounts[random.place(3).unwrap()]),
                AccountKind::Run => Some(accounts[3]),
            };
            let (name, reason) = (format!("a{at}"), String::new());
            let budgets = BTreeMap::new();
            books.put_account(Account { id, parent, kind, name, state: AccountState::Active, reason, limits: Limits::default(), budgets });
            accounts.push(id);
        }
        let priced = |input: i64, output: i64, call: Option<i64>| Price {
            input: Pico::new(input),
            output: Pico::new(output),
            call: call.map(Pico::new),
            ..card().price.unwrap()
        };
        let cards = [
            ModelCard { max_tokens: 500, price: Some(priced(2, 3, Some(7))), ..card() },
            ModelCard { max_tokens: 200, name: "thinks".to_owned(), price: Some(priced(1, 9, None)), reasoning: true, ..card() },
        ];
        let tables = Tables { books, ended: Vec::new() };
        let mut house = House {
            durability,
            up: true,
            was_cut: false,
            wal: Wal::new(tables.clone()),
            calls: Vec::new(),
            report: Report::default(),
            tables,
            queue: Vec::new(),
            fault,
            now,
            epoch: 1,
            accounts,
            cards,
            policy: Effective::of(Fields::default(), None),
            gateway_errors_charged: true,
            overdraws: false,
            overdrafts: BTreeMap::new(),
        };
        for _ in 0..4 {
            house.set_budget(random);
        }
        house.wal.flush();
        house
    }

    pub(super) fn price(&self, model: usize) -> Price {
        self.cards[model].price.clone().unwrap()
    }

    /// A call comes in: policy, bound, and its hold in line.
    pub(super) fn ask(&mut self, random: &mut Random) {
        let model = random.place(2).unwrap();
        let card = &self.cards[model];
        let stated = random.pick(&[None, Some(1), Some(40), Some(400), Some(5_000)]);
        let ask = Ask {
            body_bytes: 20 + random.below(300),
            choices: 1 + random.below(2),
            messages: 1,
            max_tokens: stated,
            model: card.name.clone(),
            ..Ask::default()
        };
        let permit = policy::decide(&ask, card, &self.policy, None);
        let bound = permit.ok().and_then(|permit| price::bound(&ask, card, permit.max_tokens).ok());
        let Some(bound) = bound else {
            self.report.refused += 1;
            return;
        };
        let number = u64::try_from(self.calls.len()).unwrap();
        let account = random.pick(&self.accounts);
        let habit = Habit::draw(random, &bound);
        self.calls.push(Call {
            number,
            account,
            model,
            bound,
            stage: Stage::Asked,
            commit: 0,
            habit,
            reached: false,
            bill: Usage::default(),
            in_flight: 0,
            bytes: 0,
            seen: false,
        });
        self.queue.push(Job::Hold(number));
    }

    fn at(&self, random: &mut Random, stage: impl Fn(Stage) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.calls.len()).filter(|at| stage(self.calls[*at].stage)).collect();
        random.place(fit.len()).map(|at| fit[at])
    }

    /// One call in flight moves on.
    pub(super) fn drive(&mut self, random: &mut Random) -> Result<(), String> {
        let Some(at) = self.at(random, |stage| matches!(stage, Stage::Held | Stage::Sent | Stage::Relaying)) else { return Ok(()) };
        let durability = self.durability;
        let call = &mut self.calls[at];
        if call.stage == Stage::Held {
            if durability.may_send(call.commit, 0) {
                call.send(random);
            }
            return Ok(());
        }
        let may_relay = self.fault == Some(Fault::RelayBeforeFlush) || durability.may_relay(call.commit, 0);
        let left = random.below(12) == 0;
        let turn = if left {
            call.leave()
        } else if may_relay {
            call.turn(random)
        } else {
            Turn::Goes
        };
        match turn {
            Turn::Goes => {}
            Turn::Ends(_) if left && self.fault == Some(Fault::FreeForLeavers) => self.end(at, &Ended::NeverSent),
            Turn::Ends(ended) => self.end(at, &ended),
        }
        Ok(())
    }

    /// A call past its deadline.
    pub(super) fn time_out(&mut self, random: &mut Random) {
        let Some(at) = self.at(random, |stage| matches!(stage, Stage::Sent | Stage::Relaying)) else { return };
        let released = self.fault == Some(Fault::ReleaseOnTimeout);
        let ended = if released { Ended::NeverSent } else { Ended::Unknown { outcome: Outcome::Deadline, status: None } };
        self.end(at, &ended);
    }

    fn end(&mut self, at: usize, ended: &Ended) {
        let call = &mut self.calls[at];
        call.stage = Stage::Over;
        let ending =
            ended.ending(&call.bound, &self.cards[call.model], &Terms { hidden: Some(0), ..Terms::default() }, self.gateway_errors_charged);
        self.queue.push(Job::End(call.number, ending));
    }

    /// The writer takes what waits, in one commit; or the disk is full, and all holds of the group are refused.
    pub(super) fn write(&mut self, fails: bool) {
        let jobs = std::mem::take(&mut self.queue);
        let mut held = Vec::new();
        let mut kept = Vec::new();
        for job in jobs {
            match &job {
                Job::Hold(number) => held.push((*number, self.hold(*number))),
                Job::End(number, ending) => {
                    self.finish(*number, ending);
                    kept.push(job);
                }
            }
        }
        if fails {
            if self.fault != Some(Fault::KeepBooksOfFailedCommit) {
                self.tables = self.wal.now().clone();
            }
            self.queue = kept;
        }
        let commit = if fails { 0 } else { self.commit() };
        for (number, placed) in held {
            let call = &mut self.calls[usize::try_from(number).unwrap()];
            let admitted = placed && !fails;
            (call.stage, call.commit) = if admitted { (Stage::Held, commit) } else { (Stage::Over, 0) };
            *(if admitted { &mut self.report.admitted } else { &mut self.report.refused }) += 1;
        }
    }

    fn commit(&mut self) -> u64 {
        self.tables.books.take_dirty();
        self.wal.commit(self.tables.clone())
    }

    fn hold(&mut self, number: u64) -> bool {
        let call = &self.calls[usize::try_from(number).unwrap()];
        let wanted = Wanted {
            account: call.account,
            amount: call.bound.amount,
            at: self.now,
            deadline: self.now.offset(LASTS_US),
            epoch: self.epoch,
            sent: true,
        };
        self.tables.books.hold(key(number), wanted).expect("the books fit together").is_ok()
    }

    fn finish(&mut self, number: u64, ending: &Ending) {
        let Some(held) = self.tables.books.open_hold(key(number)).cloned() else { return };
        let charge = ending.charge(held.amount);
        self.overdraws |= charge > held.amount;
        let ended = self.tables.books.end(key(number), charge).expect("the books fit together").expect("the hold is open");
        if ended.overdrawn
            && let Some(agent) = self.tables.books.overdrawer(held.account).cloned()
        {
            self.tables.books.put_account(Account { state: AccountState::Suspended, ..agent });
        }
        self.tables.ended.push(Row { number, state: ending.state(), charge: charge.get() });
    }

    pub(super) fn set_clock(&mut self, random: &mut Random) {
        let days = random.pick(&[0, 1, 1, 2, 7, 31, -1, -3]);
        self.now = self.now.offset(days * DAY_US + random.money(3_600_000_000));
    }

    /// A budget is set, up or down, and what the window has spent already is counted.
    pub(super) fn set_budget(&mut self, random: &mut Random) {
        let (account, period) = (random.pick(&self.accounts), random.pick(&Period::ALL));
        let limit = Pico::new(random.money(12_000));
        // What the calls before were charged in the window is the ledger's to know; the worst that it can be is all of it.
        let books = &self.tables.books;
        let spent = books.balance_at(account, Period::Total, self.now).map_or(Pico::ZERO, |total| total.spent);
        self.tables.books.set_budget(account, period, Some(limit), self.now, spent).expect("the books fit together");
        self.overdraws = true;
        self.commit();
    }

    /// Somebody looks after suspended agents.
    pub(super) fn resume(&mut self, random: &mut Random) {
        let id = random.pick(&self.accounts);
        let Some(account) = self.tables.books.account(id).cloned() else { return };
        let state = if account.state == AccountState::Active { AccountState::Paused } else { AccountState::Active };
        self.tables.books.put_account(Account { state, ..account });
        self.commit();
    }

    /// A new configuration: calls in flight keep what they were admitted by.
    pub(super) fn reload(&mut self, random: &mut Random) {
        let max_tokens = random.pick(&[None, Some(100), Some(1_000)]);
        self.policy = Effective::of(Fields { max_output_tokens: max_tokens, ..Fields::default() }, None);
    }

    pub(super) fn crash(&mut self) {
        self.up = false;
        self.report.crashes += 1;
        self.queue.clear();
        for call in &mut self.calls {
            call.stage = Stage::Over;
        }
    }

    pub(super) fn power_cut(&mut self, random: &mut Random) {
        let unflushed = usize::try_from(self.wal.unflushed()).unwrap();
        self.wal.cut(random.place(unflushed + 1).unwrap());
        self.was_cut = true;
        self.overdraws = true;
        self.crash();
    }

    /// The next start: the tables are all that there is.
    pub(super) fn recover(&mut self) {
        self.up = true;
        self.epoch += 1;
        self.tables = self.wal.now().clone();
        let left: Vec<(u64, bool)> =
            self.calls.iter().filter_map(|call| Some((call.number, self.tables.books.open_hold(key(call.number))?.sent))).collect();
        for (number, sent) in left {
            self.finish(number, &Ending::of_dead(sent && self.fault != Some(Fault::RecoveryReleasesSent)));
        }
        self.commit();
    }

    /// Nothing more comes in: what is in flight is brought to its end, and the last commits to the disk.
    pub(super) fn wind_up(&mut self, random: &mut Random) -> Result<(), String> {
        if !self.up {
            self.recover();
        }
        self.write(false);
        self.wal.flush_all(&mut self.calls);
        if random.below(8) == 0 {
            self.time_out(random);
        }
        self.drive(random)
    }

    pub(super) fn is_over(&self) -> bool {
        self.up && self.queue.is_empty() && self.wal.unflushed() == 0 && self.calls.iter().all(|call| call.stage == Stage::Over)
    }

    /// What holds after each step.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let overdraws = std::mem::take(&mut self.overdraws);
        let before = std::mem::take(&mut self.overdrafts);
        let Tables { books, ended } = self.wal.now();
        let open: BTreeSet<HoldKey> = books.holds().map(|(key, _)| *key).collect();
        if let Some(twice) = ended.iter().find(|row| open.contains(&key(row.number))) {
            return Err(format!("call {} has ended and is held", twice.number));
        }
        for balance in books.balances() {
            let used = balance.spent.get() + balance.reserved.get();
            let beyond = balance.limit.map_or(0, |limit| (used - limit.get()).max(0));
            let grown = balance.overdraft > before.get(&balance.id).copied().unwrap_or(Pico::ZERO);
            if beyond != balance.overdraft.get() || (grown && !overdraws) {
                return Err(format!("a balance is beyond its limit: {balance:?}"));
            }
            self.overdrafts.insert(balance.id, balance.overdraft);
            let held = books.holds().filter(|(_, hold)| hold.balances.contains(&balance.id));
            let held: i64 = held.map(|(_, hold)| hold.amount.get()).sum();
            if held != balance.reserved.get() {
                return Err(format!("{held} is held on {balance:?}"));
            }
            if balance.account == AccountId::ROOT && balance.period == Period::Total {
                let charged: i64 = ended.iter().map(|row| row.charge).sum();
                if charged != balance.spent.get() {
                    return Err(format!("calls were charged {charged}: {balance:?}"));
                }
            }
        }
        Ok(())
    }
}
