//! The figures of two agents in both forms, and the edges of burn and time to exhaustion.

use super::*;
use crate::ledger::Sums;
use crate::os::usage::Usage;
use aex_proto::value::RequestId;
use std::time::Duration;

const NOW: Stamp = Stamp::new(1_795_253_580_000_001);

fn usd(text: &str) -> Pico {
    Pico::parse_usd(text).unwrap()
}

fn made(ago_s: i64, spent: &str, budgets: Vec<BudgetFigures>) -> AgentFigures {
    AgentFigures {
        group: None,
        name: "bot".to_owned(),
        is_active: true,
        created_at: NOW.offset(-ago_s * 1_000_000),
        spent: usd(spent),
        reserved: Pico::ZERO,
        budgets,
        rpm: Some(60),
        counts: Counts::default(),
    }
}

fn budget(period: Period, limit: &str, spent: &str, reserved: &str) -> BudgetFigures {
    BudgetFigures { period, limit: usd(limit), spent: usd(spent), reserved: usd(reserved) }
}

fn figures() -> Figures {
    let mut bot = made(100, "0.5", vec![budget(Period::Total, "5", "0.5", "0.25"), budget(Period::Day, "1", "0.000033", "0")]);
    let sums = |pico| Sums { calls: 1, tokens: 33, charged: Pico::new(pico) };
    bot.counts.ended(RequestId::new(1, 1), "m1", "exact", sums(33_000_000), NOW.offset(-5_000_000));
    bot.counts.ended(RequestId::new(1, 2), "m2", "estimated", sums(1), NOW.offset(-3_600_000_000));
    bot.counts.refused("budget", 2, NOW);
    let idle = AgentFigures { name: "a \"b\"\\".to_owned(), is_active: false, rpm: None, ..made(0, "0", Vec::new()) };
    let mut all = bot.counts.clone();
    all.ended(RequestId::new(1, 3), "m1", "exact", sums(2), NOW.offset(-90_000_000_000));
    all.refused("authentication_rate", 1, NOW.offset(-90_000_000_000));
    Figures {
        at: NOW,
        agents: vec![bot, idle],
        spent: usd("0.75"),
        open_runs: 1,
        in_flight: 3,
        counts: all,
        whole: Some(Whole { events: 17, auth_failed: BTreeMap::from([(AuthCause::Missing, 4)]) }),
    }
}

fn process() -> prometheus::Process {
    prometheus::Process {
        started_at: NOW.offset(-100_000_000),
        connections: 2,
        is_available: true,
        providers: vec![("groq".to_owned(), false), ("mock".to_owned(), true)],
        flushes: (3, Duration::from_micros(4_500)),
        usage: Usage { cpu: Duration::from_millis(1_250), resident_bytes: Some(4_096), open_files: Some(9), max_files: None },
    }
}

#[test]
fn prometheus_reads_each_family_with_its_type_and_agents_that_are_gone_under_no_name() {
    let wanted = include_str!("golden.txt").replace("VERSION", env!("CARGO_PKG_VERSION"));
    assert_eq!(prometheus::text(&figures(), &process()), wanted);
}

#[test]
fn who_may_not_see_all_accounts_is_told_nothing_of_the_daemon() {
    let part = Figures { whole: None, ..figures() };
    let text = prometheus::text(&part, &process());
    assert!(!text.contains("process_") && !text.contains("aexd_ledger") && text.contains("aexd_calls_total{agent=\"bot\""), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json::text(&part, &TimeZone::UTC).unwrap()).unwrap();
    assert!(json["event_log_size"].is_null(), "{json}");
}

#[test]
fn json_has_the_seeds_keys_and_money_to_its_last_digit() {
    let text = json::text(&figures(), &TimeZone::UTC).unwrap();
    for piece in [
        r#"{"total_agents":2,"total_spent_global_usd":0.75,"active_processes":1,"total_requests":3,"total_denied_budget":2,"total_denied_rate_limit":0,"total_policy_violations":0,"#,
        r#""top_models":[{"model":"m1","count":2},{"model":"m2","count":1}],"usage_histogram":[{"hour":"10:00","requests":0},"#,
        r#"{"hour":"08:00","requests":1},{"hour":"09:00","requests":1}],"agents":[{"name":"bot","#,
        r#""spent_usd":0.50,"remaining_usd":4.25,"budget_usd":5.00,"reserved_usd":0.25,"burn_rate_micro_per_sec":5000,"ttb_seconds":850,"rpm_limit":60,"last_activity":"2026-11-21T09:33:00.000001Z","#,
        r#""windows":{"1m":{"requests":1,"denied":2,"spent_usd":0.000033},"15m":{"requests":1,"denied":2,"spent_usd":0.000033},"1h":{"requests":2,"denied":2,"spent_usd":0.000033000001}}}"#,
        r#"{"name":"a \"b\"\\","spent_usd":0.00,"remaining_usd":null,"budget_usd":null,"reserved_usd":0.00,"burn_rate_micro_per_sec":0,"ttb_seconds":null,"rpm_limit":null,"last_activity":null,"#,
        r#"],"event_log_size":17}"#,
    ] {
        assert!(text.contains(piece), "{piece} is not in {text}");
    }
    let zone = TimeZone::fixed(jiff::tz::offset(5).saturating_add(jiff::Span::new().minutes(30)));
    let hours = hours(&figures(), &zone);
    assert_eq!((hours.len(), hours[23].0.as_str(), hours[0].0.as_str()), (24, "14:30", "15:30"));
}

#[test]
fn burn_and_time_to_exhaustion_at_their_edges() {
    let total = |limit, spent| vec![budget(Period::Total, limit, spent, "0")];
    let rows = [
        ("nothing spent: never", made(100, "0", total("5", "0")), 0, None),
        ("less than a millionth a second: none", made(100, "0.000099", total("5", "0.000099")), 0, None),
        ("one millionth a second", made(100, "0.0001", total("1.0001", "0.0001")), 1, Some(1_000_000)),
        ("made this very second", made(0, "0.5", total("5", "0.5")), 500_000, Some(9)),
        ("the clock was set back", made(-50, "0.5", total("5", "0.5")), 500_000, Some(9)),
        ("used up", made(1, "5", total("5", "5")), 5_000_000, Some(0)),
        ("beyond its budget", made(1, "6", total("5", "6")), 6_000_000, Some(0)),
        ("no budget", made(1, "6", Vec::new()), 6_000_000, None),
        ("a day's budget, and all that was ever spent", made(10, "20", vec![budget(Period::Day, "4", "2", "0")]), 2_000_000, Some(1)),
    ];
    for (what, agent, burn, ttb) in rows {
        assert_eq!((agent.burn_micro_per_sec(NOW), agent.ttb_seconds(NOW)), (burn, ttb), "{what}");
    }
}
