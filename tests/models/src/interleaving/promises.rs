//! What holds in every state. Those that a power cut may leave have each been the newest one before, and were looked at then.

use super::world::{Call, Provider, World};
use super::{BOUND, Config, GROUP, Rows};
use aex_core::books::Balance;
use aex_core::hold::Durability;
use aex_proto::value::Pico;
use stateright::Property;

pub(super) fn all() -> Vec<Property<Config>> {
    vec![
        Property::always("no balance is beyond its limit, but for bills beyond their bound", |_: &Config, world: &World| {
            within_limits(world, world.rows())
        }),
        Property::always("every balance is the sum of its holds and charges", |config: &Config, world: &World| {
            let rows = world.rows();
            rows.balances.iter().all(|balance| is_sum(config, rows, balance))
        }),
        Property::always("no call ends twice, or is held when it has ended", |_: &Config, world: &World| once(world.rows())),
        Property::always(
            "nothing that was billed is released, but where a power cut lost that it was sent",
            |config: &Config, world: &World| {
                let released = world.rows().ended.iter().filter(|row| row.state == "released");
                released
                    .map(|row| &world.calls[row.call])
                    .all(|call| matches!(call.provider, Provider::Idle | Provider::Refused) || may_be_lost(config, world, call))
            },
        ),
        Property::always("each bill is charged, or held, or lost as the durability allows", |config: &Config, world: &World| {
            world.calls.iter().enumerate().all(|(number, call)| is_covered(config, world, number, call))
        }),
        Property::always("a bill beyond the budget suspends its agent", |_: &Config, world: &World| suspends(world)),
        Property::always("when all calls are over, nothing is held", |_: &Config, world: &World| {
            use super::world::Phase;
            let over = |call: &Call| matches!(call.phase, Phase::Refused | Phase::Lost | Phase::Ending) && call.queued.is_empty();
            !world.up || !world.calls.iter().all(over) || world.rows().holds.is_empty()
        }),
    ]
}

fn within_limits(world: &World, rows: &Rows) -> bool {
    let beyond: i64 = rows.ended.iter().map(|row| (row.charge.get() - BOUND.amount.get()).max(0)).sum();
    let billed: i64 = world.calls.iter().map(|call| (call.provider.bill() - BOUND.amount.get()).max(0)).sum();
    rows.balances.iter().all(|balance| {
        let used = balance.spent.get() + balance.reserved.get();
        let over = balance.limit.map_or(0, |limit| (used - limit.get()).max(0));
        !balance.spent.is_negative()
            && !balance.reserved.is_negative()
            && balance.overdraft.get() == over
            && over <= beyond
            && beyond <= billed
    })
}

/// The total balances, and those of days, which count the calls that name them.
fn is_sum(config: &Config, rows: &Rows, balance: &Balance) -> bool {
    let holds = rows.holds.values().filter(|hold| hold.balances.contains(&balance.id));
    let reserved: i64 = holds.map(|hold| hold.amount.get()).sum();
    let below = |call: usize| balance.account.get() <= GROUP.get() || balance.account.get() == config.calls[call].agent;
    let charged: i64 = rows.ended.iter().filter(|row| below(row.call)).map(|row| row.charge.get()).sum();
    let spent = balance.spent.get();
    balance.reserved == Pico::new(reserved) && if balance.window.end.is_none() { spent == charged } else { spent <= charged }
}

fn once(rows: &Rows) -> bool {
    rows.ended
        .iter()
        .enumerate()
        .all(|(at, row)| !rows.holds.contains_key(&row.call) && rows.ended[..at].iter().all(|earlier| earlier.call != row.call))
}

fn is_covered(config: &Config, world: &World, number: usize, call: &Call) -> bool {
    let rows = world.rows();
    let reached = call.provider != Provider::Idle;
    if reached && !rows.knows(number) {
        return may_be_lost(config, world, call);
    }
    let (bill, bound) = (call.provider.bill(), BOUND.amount.get());
    rows.ended.iter().filter(|row| row.call == number).all(|row| match row.state {
        "exact" => row.charge.get() == bill,
        // The report of a bill beyond the bound may die with the daemon; all of the hold is charged then.
        "worst_case" => row.charge.get() == bound,
        // By what was relayed, and at least the input.
        "estimated" => row.charge.get() > i64::from(call.seen),
        _ => true,
    })
}

/// Only a power cut loses a commit, and never one whose answer was shown.
fn may_be_lost(config: &Config, world: &World, call: &Call) -> bool {
    match config.durability {
        Durability::Full => false,
        Durability::Overlap => world.cut && !call.seen,
        Durability::Normal => world.cut,
    }
}

fn suspends(world: &World) -> bool {
    let rows = world.rows();
    let overdrawn = rows.balances.iter().any(|balance| balance.overdraft > Pico::ZERO);
    let exceeded = rows.ended.iter().any(|row| row.charge > BOUND.amount);
    !(overdrawn && exceeded) || rows.suspended.iter().all(|id| id.get() > GROUP.get()) && !rows.suspended.is_empty()
}
