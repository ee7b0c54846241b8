//! The keeper of runs: one task that knows which connection each open run is tied to, and ends those whose time has come.
//!
//! A run ends by its account being closed, whoever does it: the keeper sees that in the ledger's directory and tells the
//! connection. So there is one way in which a run ends, and a restart loses none of it.

use super::connection::Lines;
use super::{is_over, runs};
use crate::gate::Gate;
use crate::ledger::AccountView;
use crate::os::clock;
use aex_core::books::AccountKind;
use aex_core::decision::{AccountState, Denial};
use aex_proto::frame;
use aex_proto::method::RunEnded as EndedNotice;
use aex_proto::rpc::Request;
use aex_proto::run::{RunEnd, RunEnded, RunId};
use aex_proto::value::{AccountId, Stamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long changes of the ledger are gathered before runs are looked at.
const GATHER: Duration = Duration::from_millis(10);
/// The longest wait, because the wall clock may be set.
const LONGEST: Duration = Duration::from_secs(30);
/// The wait after the ledger could not close a run.
const AFTER_FAULT: Duration = Duration::from_secs(1);
/// How long a connection may take to find room for the news that its run has ended.
const TELL: Duration = Duration::from_secs(30);

/// The way to a connection.
#[derive(Clone)]
pub(super) struct Link {
    /// Its number.
    pub(super) connection: u64,
    /// Its lines.
    pub(super) lines: Lines,
}

/// What connections tell the keeper.
pub(super) enum Order {
    /// A run is tied to a connection from now on.
    Tie {
        /// The run's account.
        run: AccountId,
        /// The connection.
        link: Link,
        /// The first denial for want of money behind this event ends it.
        stop_on_budget: Option<i64>,
    },
    /// A connection has closed.
    Dropped {
        /// Its number.
        connection: u64,
    },
}

/// An open run.
struct Run {
    link: Option<Link>,
    /// When it is closed because no connection holds it, by the clock that is never set.
    grace_ends: Option<Duration>,
    expires_at: Option<Stamp>,
    stop_on_budget: Option<i64>,
}

/// What becomes of a run.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    /// It is to be closed.
    Ends(RunEnd, String),
    /// Its account is closed already.
    Over,
}

/// Keeps runs until the daemon ends. Runs that were open when it started have their grace from now on.
pub(super) async fn keep(gate: Gate, mut orders: mpsc::Receiver<Order>, mut shutdown: watch::Receiver<bool>) {
    let mut head = gate.ledger().head();
    let mut keeper = Keeper { gate, runs: BTreeMap::new(), has_failed: false };
    keeper.take_over();
    loop {
        let wait = keeper.wait();
        tokio::select! {
            order = orders.recv() => match order {
                Some(order) => keeper.obey(order),
                None => return,
            },
            changed = head.changed(), if !keeper.runs.is_empty() => {
                if changed.is_err() {
                    return;
                }
                sleep(GATHER).await;
            }
            () = sleep(wait) => {}
            () = is_over(&mut shutdown) => return,
        }
        let seq = head.borrow_and_update().seq;
        keeper.look(seq).await;
    }
}

struct Keeper {
    gate: Gate,
    runs: BTreeMap<AccountId, Run>,
    has_failed: bool,
}

impl Keeper {
    fn take_over(&mut self) {
        let directory = self.gate.ledger().directory();
        let open: Vec<AccountId> =
            directory.accounts.values().filter(|view| view.kind == AccountKind::Run).map(|view| view.named.id).collect();
        drop(directory);
        let grace_ends = Some(self.grace_end());
        for run in open {
            let expires_at = self.expiry(run);
            self.runs.insert(run, Run { link: None, grace_ends, expires_at, stop_on_budget: None });
        }
    }

    fn grace_end(&self) -> Duration {
        clock::mono().saturating_add(self.gate.active().config.settings.run_grace.value)
    }

    /// A run lasts as long as its token.
    fn expiry(&self, run: AccountId) -> Option<Stamp> {
        self.gate.ledger().directory().tokens.values().find(|token| token.account == run).and_then(|token| token.expires_at)
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Tie { run, link, stop_on_budget } => {
                let expires_at = self.expiry(run);
                let kept = self.runs.get(&run).and_then(|known| known.stop_on_budget);
                self.runs.insert(run, Run { link: Some(link), grace_ends: None, expires_at, stop_on_budget: kept.or(stop_on_budget) });
            }
            Order::Dropped { connection } => {
                let grace_ends = self.grace_end();
                for run in self.runs.values_mut().filter(|run| run.link.as_ref().is_some_and(|link| link.connection == connection)) {
                    run.link = None;
                    run.grace_ends = Some(grace_ends);
                }
            }
        }
    }

    /// Until the next thing that time alone brings about.
    fn wait(&self) -> Duration {
        if self.has_failed {
            return AFTER_FAULT;
        }
        let (now, mono) = (clock::wall(), clock::mono());
        let waits = self.runs.values().flat_map(|run| {
            let grace = run.grace_ends.map(|end| end.saturating_sub(mono));
            let life = run.expires_at.map(|end| Duration::from_micros(u64::try_from(end.since(now)).unwrap_or(0)));
            [grace, life]
        });
        waits.flatten().min().map_or(LONGEST, |wait| wait.min(LONGEST))
    }

    /// Ends what is to end, and tells of what has ended. `head` is the newest event that was seen.
    async fn look(&mut self, head: i64) {
        self.has_failed = false;
        let broke = self.out_of_money(head).await;
        for (run, end, detail) in self.ending(&broke) {
            let reason = runs::reason(end, &detail);
            let closed = self.gate.ledger().admin(move |writer| writer.close_account(run, &reason, None).map(Ok)).await;
            if let Err(fault) = closed {
                tracing::error!(%fault, %run, "a run could not be closed; it is tried again");
                self.has_failed = true;
            }
        }
        self.tell(self.over()).await;
    }

    /// Runs that stop at the first denial for want of money, and had one.
    async fn out_of_money(&mut self, head: i64) -> BTreeSet<AccountId> {
        let watched = self.runs.values().filter_map(|run| run.stop_on_budget).min();
        let Some(after) = watched.filter(|after| *after < head) else { return BTreeSet::new() };
        match self.gate.ledger().read_at_once(move |reader| reader.budget_denials(after, head)).await {
            Ok(denied) => {
                let mut broke = BTreeSet::new();
                for (run, known) in &mut self.runs {
                    let Some(after) = known.stop_on_budget else { continue };
                    if denied.iter().any(|(account, seq)| account == run && *seq > after) {
                        // Seen again until the account is closed.
                        broke.insert(*run);
                    } else {
                        known.stop_on_budget = Some(after.max(head));
                    }
                }
                broke
            }
            Err(fault) => {
                tracing::error!(%fault, "denials of runs cannot be read");
                self.has_failed = true;
                BTreeSet::new()
            }
        }
    }

    fn ending(&self, broke: &BTreeSet<AccountId>) -> Vec<(AccountId, RunEnd, String)> {
        let directory = self.gate.ledger().directory();
        let (now, mono) = (clock::wall(), clock::mono());
        let fates = self
            .runs
            .iter()
            .map(|(id, run)| (*id, fate(run, directory.accounts.get(id).map(AsRef::as_ref), broke.contains(id), now, mono)));
        fates.filter_map(|(id, fate)| if let Fate::Ends(end, detail) = fate { Some((id, end, detail)) } else { None }).collect()
    }

    fn over(&self) -> Vec<AccountId> {
        let directory = self.gate.ledger().directory();
        self.runs.keys().filter(|id| !directory.accounts.contains_key(id)).copied().collect()
    }

    /// Tells the connections of runs that are over why they ended, unless their clients closed them.
    async fn tell(&mut self, over: Vec<AccountId>) {
        if over.is_empty() {
            return;
        }
        let reasons = self.gate.ledger().read_at_once(move |reader| {
            let reason = |run: AccountId| Ok((run, reader.reason_of(run)?.map_or_else(String::new, |(_, _, reason)| reason)));
            over.into_iter().map(reason).collect::<Result<Vec<_>, _>>()
        });
        let reasons = match reasons.await {
            Ok(reasons) => reasons,
            Err(fault) => {
                tracing::error!(%fault, "why runs ended cannot be read; it is tried again");
                self.has_failed = true;
                return;
            }
        };
        for (run, reason) in reasons {
            let link = self.runs.remove(&run).and_then(|known| known.link);
            let Some(end) = runs::end_of(&reason) else { continue };
            tracing::info!(%run, %reason, "a run was ended");
            let ended = RunEnded { run: RunId::new(run), reason: end, message: runs::over(&reason) };
            let line = Request::notice::<EndedNotice>(&ended).and_then(|notice| frame::line(&notice));
            if let (Some(link), Ok(line)) = (link, line) {
                // A client that does not read must not hold up the other runs.
                tokio::spawn(async move { timeout(TELL, link.lines.send(line)).await.is_ok() });
            }
        }
    }
}

/// What becomes of a run, by its account as of the last commit. What the agent's state says comes before what time says.
fn fate(run: &Run, view: Option<&AccountView>, is_broke: bool, now: Stamp, mono: Duration) -> Fate {
    let Some(view) = view else { return Fate::Over };
    match &view.stopped {
        Some(Denial::Account { state: AccountState::Killed, reason, .. }) => return Fate::Ends(RunEnd::Killed, reason.clone()),
        Some(Denial::Account { state: AccountState::Suspended, reason, .. }) => return Fate::Ends(RunEnd::Suspended, reason.clone()),
        _ => {}
    }
    if is_broke {
        return Fate::Ends(RunEnd::Budget, String::new());
    }
    if run.expires_at.is_some_and(|end| end <= now) {
        return Fate::Ends(RunEnd::Expired, String::new());
    }
    if run.grace_ends.is_some_and(|end| end <= mono) {
        return Fate::Ends(RunEnd::Abandoned, String::new());
    }
    Fate::Lives
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::StopFlag;
    use aex_core::decision::Named;
    use aex_proto::value::Digest;
    use std::sync::Arc;

    fn view(stopped: Option<AccountState>) -> AccountView {
        let named = Named { id: AccountId::new(3), kind: None, name: "run-3".to_owned() };
        AccountView {
            agent: named.clone(),
            stopped: stopped.map(|state| Denial::Account { account: named.clone(), reason: "why".to_owned(), state }),
            named,
            kind: AccountKind::Run,
            path: Vec::new(),
            limits: Vec::new(),
            groups: Vec::new(),
            policy: None,
            policy_digest: Digest::ZERO,
            stop: Arc::new(StopFlag::default()),
        }
    }

    #[test]
    fn a_run_ends_by_its_agent_its_money_its_time_or_for_want_of_a_connection() {
        let at = Duration::from_secs(5);
        let run = |grace: Option<u64>, expires: Option<i64>| Run {
            link: None,
            grace_ends: grace.map(Duration::from_secs),
            expires_at: expires.map(Stamp::new),
            stop_on_budget: None,
        };
        let ends = |end: RunEnd, detail: &str| Fate::Ends(end, detail.to_owned());
        let rows = [
            (run(None, None), Some(None), false, Fate::Lives),
            (run(Some(6), Some(8)), Some(None), false, Fate::Lives),
            (run(None, None), Some(Some(AccountState::Paused)), false, Fate::Lives),
            (run(None, None), None, false, Fate::Over),
            (run(Some(5), Some(7)), Some(Some(AccountState::Killed)), true, ends(RunEnd::Killed, "why")),
            (run(None, None), Some(Some(AccountState::Suspended)), false, ends(RunEnd::Suspended, "why")),
            (run(Some(5), Some(7)), Some(None), true, ends(RunEnd::Budget, "")),
            (run(Some(5), Some(7)), Some(None), false, ends(RunEnd::Expired, "")),
            (run(Some(5), Some(8)), Some(None), false, ends(RunEnd::Abandoned, "")),
        ];
        for (number, (run, state, is_broke, wanted)) in rows.into_iter().enumerate() {
            let view = state.map(view);
            assert_eq!(fate(&run, view.as_ref(), is_broke, Stamp::new(7), at), wanted, "row {number}");
        }
    }
}
