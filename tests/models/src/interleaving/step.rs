//! What may happen next, and what follows from it.

use super::rows::Kept;
use super::rows::{DAY_US, key};
use super::world::{Phase, Provider, Queued, World};
use super::{BOUND, Config, Fault, Habit, Rows, card};
use aex_core::books::{Account, Wanted};
use aex_core::decision::AccountState;
use aex_core::hold::Ending;
use aex_core::price::Terms;
use aex_proto::value::{AccountId, Stamp};

/// One step. Numbers are those of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A call comes in: its bound is held, or it is refused.
    Hold(usize),
    /// A hold that waited is marked as sent.
    Mark(usize),
    /// The request goes to the provider.
    Send(usize),
    /// A call that could not be sent is given up.
    GiveUp(usize),
    /// The provider answers and bills so many tokens of output.
    Bill(usize, u64),
    /// The provider refuses.
    Refuse(usize),
    /// The provider breaks off.
    Fail(usize),
    /// The answer comes, and the daemon finds that it may be shown.
    Answer(usize),
    /// The client sees a byte of it.
    Show(usize),
    /// The end of the call comes in line.
    End(usize),
    /// The client leaves.
    Leave(usize),
    /// The call's deadline passes, or its task panics: nobody drives it any more.
    Deadline(usize),
    /// The call's tracker brings an end, too.
    Again(usize),
    /// The writer writes the end that is first in line.
    Settle(usize),
    /// All commits are flushed.
    Flush,
    /// The process dies.
    Crash,
    /// The power fails, and so many commits behind the newest flush are kept.
    PowerCut(usize),
    /// The daemon starts, and ends what the dead one held.
    Recover,
    /// The clock is set to the next day, or back.
    SetClock,
}

pub(super) fn possible(config: &Config, world: &World, steps: &mut Vec<Step>) {
    for (number, call) in world.calls.iter().enumerate() {
        if call.provider == Provider::Working {
            // The provider works on, whatever becomes of the daemon and the client.
            // Below the bound, and beyond it.
            steps.extend([Step::Bill(number, 0), Step::Bill(number, 2), Step::Refuse(number)]);
            if config.calls[number].habit == Habit::Leaves {
                steps.push(Step::Fail(number));
            }
        }
        if world.up {
            of_call(config, world, number, steps);
        }
    }
    if world.wal.unflushed() > 0 && world.up {
        steps.push(Step::Flush);
    }
    if world.crashes_left > 0 {
        if world.up {
            steps.push(Step::Crash);
        }
        steps.extend((0..=usize::try_from(world.wal.unflushed()).unwrap()).map(Step::PowerCut));
    }
    if !world.up {
        steps.push(Step::Recover);
    }
    if world.days_left > 0 {
        steps.push(Step::SetClock);
    }
}

fn of_call(config: &Config, world: &World, number: usize, steps: &mut Vec<Step>) {
    let call = &world.calls[number];
    let marked = world.rows().holds.get(&number).is_some_and(|hold| hold.sent);
    match call.phase {
        Phase::Outside => steps.push(Step::Hold(number)),
        Phase::Held => {
            let may_send = config.has(Fault::SendBeforeFlush) || config.durability.may_send(call.commit, 0);
            if !marked {
                steps.extend([Step::Mark(number), Step::GiveUp(number)]);
            }
            if (marked && may_send) || config.has(Fault::SendBeforeMark) {
                steps.push(Step::Send(number));
            }
        }
        Phase::Sent => {
            let may_relay = config.has(Fault::RelayBeforeFlush) || config.durability.may_relay(call.commit, 0);
            match call.provider {
                Provider::Billed(_) if may_relay => steps.push(Step::Answer(number)),
                Provider::Refused if may_relay => steps.push(Step::End(number)),
                Provider::Failed => steps.push(Step::End(number)),
                _ => {}
            }
        }
        Phase::Answered => steps.push(Step::End(number)),
        Phase::Refused | Phase::Ending | Phase::Lost => {}
    }
    let answered = matches!(call.phase, Phase::Answered | Phase::Ending) && matches!(call.provider, Provider::Billed(_));
    if answered && call.stays && !call.seen {
        steps.push(Step::Show(number));
    }
    if matches!(call.phase, Phase::Sent | Phase::Answered) {
        match config.calls[number].habit {
            Habit::Waits => {}
            Habit::TimesOut => steps.push(Step::Deadline(number)),
            Habit::Leaves => steps.push(Step::Leave(number)),
        }
    }
    if call.phase == Phase::Ending && !call.again && config.calls[number].habit == Habit::TimesOut {
        steps.push(Step::Again(number));
    }
    if !call.queued.is_empty() {
        steps.push(Step::Settle(number));
    }
}

pub(super) fn take(config: &Config, world: &mut World, step: Step) {
    match step {
        Step::Hold(call) => hold(config, world, call),
        Step::Mark(call) => mark(config, world, call),
        Step::Send(call) => {
            world.calls[call].phase = Phase::Sent;
            world.calls[call].provider = Provider::Working;
        }
        Step::GiveUp(call) => line_up(world, call, Queued::NeverSent),
        Step::Bill(call, output) => world.calls[call].provider = Provider::Billed(output),
        Step::Refuse(call) => world.calls[call].provider = Provider::Refused,
        Step::Fail(call) => world.calls[call].provider = Provider::Failed,
        Step::Answer(call) => world.calls[call].phase = Phase::Answered,
        Step::Show(call) => world.calls[call].seen = true,
        Step::End(call) => {
            let end = match world.calls[call].provider {
                Provider::Billed(output) => Queued::Exact(output),
                Provider::Refused => Queued::Refused,
                Provider::Failed => Queued::Failed,
                Provider::Idle | Provider::Working => Queued::Unknown,
            };
            line_up(world, call, end);
        }
        Step::Leave(call) => {
            let bytes = u64::from(world.calls[call].seen);
            world.calls[call].stays = false;
            line_up(world, call, Queued::Left(bytes));
        }
        Step::Deadline(call) => {
            // Whoever drove it shows nothing more.
            world.calls[call].stays = false;
            line_up(world, call, Queued::Unknown);
        }
        Step::Again(call) => {
            world.calls[call].again = true;
            line_up(world, call, Queued::Unknown);
        }
        Step::Settle(call) => settle(config, world, call),
        Step::Flush => flush(world),
        Step::Crash => die(world),
        Step::PowerCut(kept) => {
            world.wal.cut(kept);
            world.cut = true;
            die(world);
        }
        Step::Recover => recover(config, world),
        Step::SetClock => {
            world.day = 1 - world.day;
            world.days_left -= 1;
        }
    }
}

fn line_up(world: &mut World, call: usize, end: Queued) {
    world.calls[call].phase = Phase::Ending;
    world.calls[call].queued.push(end);
}

fn commit(world: &mut World, rows: Rows) -> u64 {
    world.wal.commit(Kept::new(rows))
}

fn flush(world: &mut World) {
    world.wal.flush();
    for call in &mut world.calls {
        call.commit = 0;
    }
}

fn hold(config: &Config, world: &mut World, number: usize) {
    let plan = config.calls[number];
    let mut rows = world.rows().clone();
    let mut books = rows.books(config);
    let (at, account) = (Stamp::new(i64::from(world.day) * DAY_US), AccountId::new(plan.agent));
    let wanted = Wanted { account, amount: BOUND.amount, at, deadline: Stamp::new(0), epoch: 1, sent: plan.habit != Habit::Waits };
    let placed = books.hold(key(number), wanted).expect("the books fit together");
    if placed.is_err() && !config.has(Fault::HalfHold) {
        world.calls[number].phase = Phase::Refused;
        return;
    }
    rows.put(&books);
    if placed.is_err()
        && let Some(own) = rows.balances.iter_mut().find(|balance| balance.account == account)
    {
        own.reserved = own.reserved.plus(BOUND.amount).unwrap();
    }
    world.calls[number].commit = commit(world, rows);
    world.calls[number].phase = if placed.is_ok() { Phase::Held } else { Phase::Refused };
}

fn mark(config: &Config, world: &mut World, number: usize) {
    let mut rows = world.rows().clone();
    let mut books = rows.books(config);
    assert!(books.mark_sent(key(number)), "only an open hold is marked");
    rows.put(&books);
    world.calls[number].commit = commit(world, rows);
}

fn settle(config: &Config, world: &mut World, number: usize) {
    let end = world.calls[number].queued.remove(0);
    let mut rows = world.rows().clone();
    let ending = match end {
        Queued::Unknown if config.has(Fault::ReleaseOnTimeout) => Ending::of_dead(false),
        end => end.ended().ending(&BOUND, &card(), &Terms { hidden: Some(0), ..Terms::default() }, true),
    };
    if rows.holds.contains_key(&number) {
        write_end(config, &mut rows, number, &ending);
    } else if config.has(Fault::SettleTwice) {
        let charge = ending.charge(BOUND.amount);
        for balance in &mut rows.balances {
            balance.spent = balance.spent.plus(charge).unwrap();
        }
        rows.end(number, ending.state(), charge);
    } else {
        return;
    }
    commit(world, rows);
}

/// As the writer does it: the money moves, the row ends, and an overdraft suspends the agent, all in one commit.
fn write_end(config: &Config, rows: &mut Rows, number: usize, ending: &Ending) {
    let mut books = rows.books(config);
    let Some(held) = books.open_hold(key(number)).cloned() else { return };
    let mut charge = ending.charge(held.amount);
    if config.has(Fault::DropOverdraft) {
        charge = charge.min(held.amount);
    }
    let ended = books.end(key(number), charge).expect("the books fit together").expect("the hold is open");
    if ended.overdrawn
        && let Some(agent) = books.overdrawer(held.account).cloned()
    {
        rows.suspended.insert(agent.id);
        books.put_account(Account { state: AccountState::Suspended, ..agent });
    }
    rows.put(&books);
    rows.end(number, ending.state(), charge);
}

fn die(world: &mut World) {
    world.up = false;
    world.crashes_left -= 1;
    for call in &mut world.calls {
        call.queued.clear();
        call.commit = 0;
        call.stays = false;
        if !matches!(call.phase, Phase::Outside | Phase::Refused) {
            call.phase = Phase::Lost;
        }
    }
}

fn recover(config: &Config, world: &mut World) {
    let mut rows = world.rows().clone();
    for (number, hold) in rows.holds.clone() {
        let sent = hold.sent && !config.has(Fault::RecoveryReleasesSent);
        write_end(config, &mut rows, number, &Ending::of_dead(sent));
    }
    commit(world, rows);
    world.up = true;
}
