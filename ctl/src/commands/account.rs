//! `aexctl pause`, `resume` and `kill`, of any account.

use super::Context;
use crate::cli::Target;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::units::count;
use crate::view::View;
use aex_proto::account::AccountState;
use aex_proto::method::{AccountKill, AccountPause, AccountResume, Method};
use aex_proto::tree::{AccountChange, AccountChanged, AccountRef};

pub(super) fn pause(context: &Context<'_>, target: Target) -> Result<Exit, Failure> {
    run::<AccountPause>(context, target)
}

pub(super) fn resume(context: &Context<'_>, target: Target) -> Result<Exit, Failure> {
    run::<AccountResume>(context, target)
}

pub(super) fn kill(context: &Context<'_>, target: Target) -> Result<Exit, Failure> {
    run::<AccountKill>(context, target)
}

/// Kills an account on an open connection.
pub(super) fn kill_one(client: &mut Client, view: &View, account: AccountRef, reason: Option<String>) -> Result<(), Failure> {
    let says_why = reason.is_some();
    let changed = client.call::<AccountKill>(&AccountChange { account, reason })?;
    view.show(&changed, |_| text(&changed, says_why))
}

fn run<M: Method<Params = AccountChange, Reply = AccountChanged>>(context: &Context<'_>, target: Target) -> Result<Exit, Failure> {
    let account = target.account.unwrap_or(AccountRef::Root);
    let says_why = target.reason.is_some();
    let changed = context.connect()?.call::<M>(&AccountChange { account, reason: target.reason })?;
    context.view.show(&changed, |_| text(&changed, says_why))?;
    Ok(Exit::Done)
}

/// What a change of state says that changed nothing: the reason of before holds, whatever this one says.
pub(super) fn already(name: &str, state: AccountState, holds: Option<&str>, says_why: bool) -> String {
    let rest = match holds {
        _ if !says_why || state == AccountState::Active => String::new(),
        Some(reason) => format!(", and stays so for the reason given then: {reason}"),
        None => ", and stays so without a reason".to_owned(),
    };
    format!("{name} is {} already{rest}.", state.name())
}

fn text(changed: &AccountChanged, says_why: bool) -> String {
    let name = &changed.account;
    let lift = if name == "root" { "aexctl resume --all".to_owned() } else { format!("aexctl resume {name}") };
    let mut text = match changed.state {
        state if state == changed.before => already(name, state, changed.state_reason.as_deref(), says_why),
        AccountState::Active => format!("{name} is active again."),
        AccountState::Paused => format!("{name} is paused: every call of it and of all below it is denied. `{lift}` lifts it."),
        AccountState::Killed => format!("{name} is killed: every call of it and of all below it is denied. `{lift}` lifts it."),
        AccountState::Suspended | AccountState::Closed => format!("{name} is {}.", changed.state.name()),
    };
    if changed.runs_ended > 0 || changed.calls_cut > 0 {
        let (runs, calls) = (count(u64::from(changed.runs_ended), "run"), count(u64::from(changed.calls_cut), "call"));
        text.push_str(&format!(" {runs} ended, {calls} in flight cut."));
    }
    if changed.state == AccountState::Active && !changed.stopped_above.is_empty() {
        text.push_str(&format!(" Its calls are still denied: {} above it is not active.", changed.stopped_above.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::value::AccountId;

    #[test]
    fn a_change_tells_what_it_did_and_what_still_stands_against_calls() {
        let changed = |before, state| AccountChanged {
            account: "group:lab".to_owned(),
            id: AccountId::new(3),
            before,
            state,
            state_reason: None,
            stopped_above: vec!["root".to_owned()],
            runs_ended: 0,
            calls_cut: 0,
        };
        let (active, killed) = (AccountState::Active, AccountState::Killed);
        let all = AccountChanged { account: "root".to_owned(), runs_ended: 1, calls_cut: 2, ..changed(active, killed) };
        let rows = [
            (changed(killed, killed), "group:lab is killed already."),
            (changed(killed, active), "group:lab is active again. Its calls are still denied: root above it is not active."),
            (
                all,
                "root is killed: every call of it and of all below it is denied. `aexctl resume --all` lifts it. 1 run ended, 2 calls in flight cut.",
            ),
        ];
        let reasons = [(Some("fire"), ", and stays so for the reason given then: fire."), (None, ", and stays so without a reason.")];
        for (holds, ending) in reasons {
            let again = AccountChanged { state_reason: holds.map(str::to_owned), ..changed(killed, killed) };
            assert_eq!(text(&again, true), format!("group:lab is killed already{ending}"));
        }
        for (changed, wanted) in rows {
            assert_eq!(text(&changed, false), wanted);
        }
    }
}
