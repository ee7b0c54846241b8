//! `aexctl status`: the totals.

use super::Context;
use super::agent::limit;
use crate::exit::{Exit, Failure};
use crate::units::{grouped, span};
use crate::view::Paint;
use aex_proto::daemon::DaemonState;
use aex_proto::method::{Nothing, StatusGet};
use aex_proto::status::Status;

pub(super) fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let status = context.connect()?.call::<StatusGet>(&Nothing {})?;
    context.view.show(&status, |paint| text(&status, paint))?;
    Ok(Exit::Done)
}

fn text(status: &Status, paint: Paint) -> String {
    let daemon = &status.daemon;
    let state = match daemon.state {
        DaemonState::Ready => paint.good(daemon.state.name()),
        DaemonState::Unhealthy | DaemonState::Draining => paint.bad(daemon.state.name()),
    };
    let mut rows = Vec::new();
    // What stops everything comes first.
    rows.extend(status.stopped.map(|state| ("All calls", paint.bad(&format!("denied: {}; `aexctl resume --all` lifts it", state.name())))));
    rows.push(("Agents", grouped(status.agents)));
    if status.groups > 0 {
        rows.push(("Groups", grouped(status.groups)));
    }
    // Budgets of agents and groups limit the same money for different times: a sum of them means nothing.
    for budget in &status.root_budgets {
        rows.push(("Budget of root", format!("{}, {} left", limit(budget), budget.remaining_pico)));
    }
    rows.extend([
        ("Total spent", status.spent_in_all_pico.to_string()),
        ("Reserved", status.reserved_pico.to_string()),
        ("Requests served", grouped(status.requests)),
        ("Budget denials", grouped(status.budget_denials)),
        ("Rate denials", grouped(status.rate_denials)),
        ("Policy denials", grouped(status.policy_denials)),
        ("Active runs", grouped(status.active_runs)),
        ("Daemon", format!("{state} (pid {}, http://{}, up {})", daemon.pid, daemon.listen, span(daemon.uptime_ms))),
    ]);
    super::daemon::rows(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::account::{AccountState, Budget, Period};
    use aex_proto::value::Pico;

    #[test]
    fn the_totals_are_one_line_each() {
        let amount = |micro: i64| Pico::from_micro(micro).unwrap_or(Pico::ZERO);
        let status = Status {
            agents: 2,
            groups: 0,
            stopped: None,
            budget_pico: amount(5_000_000),
            budget_usd: "5.00".to_owned(),
            spent_pico: amount(125),
            spent_usd: "0.000125".to_owned(),
            reserved_pico: Pico::ZERO,
            reserved_usd: "0.00".to_owned(),
            remaining_pico: amount(4_999_875),
            remaining_usd: "4.999875".to_owned(),
            root_budgets: Vec::new(),
            spent_in_all_pico: amount(250),
            spent_in_all_usd: "0.00025".to_owned(),
            requests: 1234,
            budget_denials: 1,
            rate_denials: 0,
            policy_denials: 3,
            active_runs: 1,
            daemon: super::super::daemon::sample(),
        };
        let wanted = "\
Agents:          2
Total spent:     $0.00025
Reserved:        $0.00
Requests served: 1,234
Budget denials:  1
Rate denials:    0
Policy denials:  3
Active runs:     1
Daemon:          ready (pid 42, http://127.0.0.1:9000, up 2h 5m)";
        assert_eq!(text(&status, Paint::PLAIN), wanted);
        let day = Budget::new(Period::Day, amount(5_000_000), amount(6_000_000), Pico::ZERO, None, None);
        let limited = text(&Status { root_budgets: vec![day], ..status.clone() }, Paint::PLAIN);
        assert!(limited.contains("\nBudget of root:  $5.00 (5000000 micro) per day, -$1.00 left\nTotal spent:"), "{limited}");
        let killed = Status { groups: 3, stopped: Some(AccountState::Killed), ..status };
        let head = "All calls:       denied: killed; `aexctl resume --all` lifts it\nAgents:          2\nGroups:          3\n";
        assert!(text(&killed, Paint::PLAIN).starts_with(head), "{}", text(&killed, Paint::PLAIN));
    }
}
