//! `aexctl events`: the ledger's chain, and what its events say in a line.

use super::Context;
use crate::cli;
use crate::exit::{Exit, Failure};
use crate::units::{instant, span};
use crate::view::table;
use aex_core::books::AccountKind;
use aex_core::decision::{Denial, Named, RateKind};
use aex_core::event::{self as ledger, Settled, WindowOpened};
use aex_proto::event::{Event, EventList, EventQuery, EventTail};
use aex_proto::ledger::Sealed;
use aex_proto::method;
use aex_proto::value::{AccountId, Pico};
use serde_json::Value;

/// Most characters of a fact of an event that has no wording of its own.
const FACT_CHARS: usize = 24;

pub(super) fn run(context: &Context<'_>, query: cli::Events) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let list =
        client.call::<method::EventList>(&EventQuery { after: None, limit: query.limit, agent: query.agent.clone(), account: None })?;
    if let Some(sealed) = list.sealed.as_ref().filter(|sealed| list.events.first().is_none_or(|first| first.seq == sealed.last + 1)) {
        context.view.note(&format!("note: {}", older(sealed)));
    }
    if !query.follow {
        context.view.show(&list, |_| text(&list))?;
        return Ok(Exit::Done);
    }
    // The tail begins behind what is listed, so that none is missed and none comes twice.
    let after = list.events.last().map_or(list.head_seq, |event| event.seq);
    for event in &list.events {
        context.view.stream(event, |_| line(event))?;
    }
    client.call::<method::EventTail>(&EventTail { after: Some(after), agent: query.agent })?;
    loop {
        let event = client.wait_notice::<method::EventPushed>()?.event;
        context.view.stream(&event, |_| line(&event))?;
    }
}

/// Where older events are.
pub(super) fn older(sealed: &Sealed) -> String {
    format!("events up to {} are in segments, the newest of them in {}", sealed.last, sealed.segment)
}

fn text(list: &EventList) -> String {
    table(["Seq", "Time", "Agent", "Event", "Facts"], list.events.iter().map(columns))
}

fn columns(event: &Event) -> [String; 5] {
    [event.seq.to_string(), instant(event.at), owner(event), event.kind.clone(), facts(event)]
}

/// Whose event it is: the agent's, else the group's, else that of the whole machine.
fn owner(event: &Event) -> String {
    let group = || event.group.as_ref().map(|name| format!("group:{name}"));
    let root = || event.account.filter(|account| *account == AccountId::ROOT).map(|_| "root".to_owned());
    event.agent.clone().or_else(group).or_else(root).unwrap_or_else(|| "-".to_owned())
}

fn line(event: &Event) -> String {
    let [seq, at, agent, kind, facts] = columns(event);
    format!("{seq:>6}  {at}  {agent:<12}  {kind:<17}  {facts}")
}

/// What an event says, in one line.
pub(crate) fn facts(event: &Event) -> String {
    use ledger::Event as Known;
    match Known::parse(&event.kind, &event.body.to_string()) {
        Ok(Known::CallHeld(held)) => format!("{} {}, held {}", held.request, held.ask.model, held.amount),
        Ok(Known::CallSettled(settled)) => {
            let lines: Vec<String> = settled.lines.iter().map(|line| format!("{} {}", line.1, name(&line.0))).collect();
            let state = match settled.state {
                Settled::Exact => String::new(),
                Settled::Estimated | Settled::WorstCase => format!(", {}", name(&settled.state)),
            };
            format!("{} charged {} ({}){state}", settled.request, settled.charge, lines.join(", "))
        }
        Ok(Known::CallReleased(released)) => format!("{} released: {}", released.request, name(&released.reason)),
        Ok(Known::CallDenied(denied)) => format!("{} denied: {}", denied.request, refusal(&denied.denial, &denied.rule)),
        Ok(Known::ResponseCancelled(told)) => format!("{} cancels {} at {}", told.request, told.response, told.provider),
        Ok(Known::ResponseDeleted(told)) => format!("{} deletes {} at {}", told.request, told.response, told.provider),
        Ok(Known::ResponseStored(stored)) => {
            format!("{} is {} at {}, of {} items", stored.request, stored.response, stored.provider, stored.items.len())
        }
        Ok(Known::WindowOpened(window)) => {
            let limit = window.limit.map_or_else(|| "no limit".to_owned(), |limit| format!("limit {limit}"));
            format!("{}, {limit}", span_of(&window))
        }
        Ok(Known::ClockJumped(jump)) => {
            let way = if jump.to < jump.from { "back" } else { "ahead" };
            let by = span(jump.to.since(jump.from).unsigned_abs() / 1_000);
            format!("set {way} by {by}, from {} to {}", instant(jump.from), instant(jump.to))
        }
        Ok(Known::LedgerRestored(restored)) => {
            let replaced = restored.replaced.map_or_else(|| "none that could be read".to_owned(), |end| format!("one of {}", end.seq));
            format!("from a backup of {} events, in place of {replaced}", restored.head.seq)
        }
        Ok(Known::ToolsChanged(changed)) => format!("{}: {}", changed.action.name(), changed.servers.join(", ")),
        Ok(Known::ToolPinned(pinned)) => {
            let tools: Vec<&str> = pinned.pins.keys().map(String::as_str).collect();
            format!("{} of {}: {}", name(&pinned.what), pinned.server, tools.join(", "))
        }
        Ok(Known::ApprovalGiven(given)) => {
            let call = given.request.map(|request| format!("{request} ")).unwrap_or_default();
            format!("{call}{} by rule {}: {}", given.tool, given.rule, name(&given.answer))
        }
        Ok(Known::AdminBarred(barred)) => format!("{} from {}", barred.method, inside(&barred.inside)),
        Ok(Known::CallDeniedAgain(again)) => format!("{} more denied by {}", again.count, again.rule),
        _ => generic(&event.body),
    }
}

fn inside(inside: &ledger::Inside) -> String {
    match inside {
        ledger::Inside::Run(run) => format!("inside run_{run}"),
        ledger::Inside::Server(server) => format!("inside the tools of {server}"),
        ledger::Inside::Unknown => "a process that cannot be told".to_owned(),
    }
}

/// Whose money a window counts: a total has no beginning.
fn span_of(window: &WindowOpened) -> String {
    match window.end {
        Some(end) => format!("{} from {} to {}", window.period.name(), instant(window.start), instant(end)),
        None => window.period.name().to_owned(),
    }
}

/// A refusal for a person who reads the ledger.
fn refusal(denial: &Denial, rule: &str) -> String {
    match denial {
        Denial::Budget { account, asked, left, period, .. } => {
            format!("budget ({}) of {}: {left} left, {asked} asked", period.name(), whose(account))
        }
        Denial::Rate { account, kind, limit, retry_after_ms } => {
            let unit = match kind {
                RateKind::RequestsPerMinute => "requests a minute",
                RateKind::Concurrent => "requests in flight",
            };
            format!("{limit} {unit} of {}, again in {}", whose(account), span(*retry_after_ms))
        }
        Denial::TokenRate { account, asked, limit, model, .. } => {
            let whose = account.as_ref().map_or_else(|| format!("model {model}"), whose);
            format!("{limit} tokens a minute of {whose}, {asked} asked")
        }
        Denial::Account { account, state, reason } => format!("{} is {}: {reason}", whose(account), state.name()),
        Denial::Policy { breach, .. } => format!("{rule}: {} asked, {} allowed", breach.asked, breach.limit),
        Denial::Rule(ruled) => {
            let place = ruled.file.as_ref().zip(ruled.line).map(|(file, line)| format!(" ({file}:{line})")).unwrap_or_default();
            format!("{rule}{place}, {}", ruled.effect.name())
        }
        Denial::UnknownModel { model } => format!("no model `{model}`"),
        _ => rule.to_owned(),
    }
}

/// An account of a refusal: an agent's by its name alone.
fn whose(account: &Named) -> String {
    match account.kind {
        Some(AccountKind::Group) => format!("group:{}", account.name),
        _ => account.name.clone(),
    }
}

/// The JSON name of an enum's value.
fn name<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `key=value` for every fact that is no table and is said nowhere else; money as dollars.
fn generic(body: &Value) -> String {
    let Value::Object(facts) = body else { return String::new() };
    let text = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::String(amount) if matches!(key.as_str(), "limit" | "spent" | "amount" | "charge") => dollars(amount),
            Value::String(text) => short(text),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(format!("{key}={value}"))
    };
    facts.iter().filter_map(text).collect::<Vec<_>>().join(" ")
}

fn dollars(amount: &str) -> String {
    amount.parse().map_or_else(|_| amount.to_owned(), |pico| Pico::new(pico).to_string())
}

fn short(text: &str) -> String {
    let digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let keep = if digest { 12 } else { FACT_CHARS };
    if text.chars().count() <= FACT_CHARS { text.to_owned() } else { text.chars().take(keep).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::window::Period;
    use aex_proto::value::{Digest, RequestId, Stamp};

    fn event(kind: &str, body: &str) -> Event {
        let body = serde_json::from_str(body).unwrap_or_default();
        Event {
            seq: 12,
            at: Stamp::new(1_795_253_580_000_001),
            kind: kind.to_owned(),
            hash: Digest::ZERO,
            account: None,
            agent: Some("bot".to_owned()),
            group: None,
            body,
        }
    }

    #[test]
    fn a_charge_tells_its_lines() {
        let settled = ledger::CallSettled {
            attempt: 0,
            charge: Pico::new(75_000_000),
            lines: vec![aex_core::price::Line(aex_core::usage::Bucket::Input, 15, Pico::new(1_000_000))],
            outcome: ledger::Outcome::Answered,
            relayed: None,
            request: RequestId::new(1, 2),
            state: Settled::Exact,
            status: Some(200),
            tier: None,
            tool: None,
            unknown_usage: vec![],
        };
        let event = event("call.settled", &ledger::Event::from(settled).body());
        let wanted = "    12  2026-11-21 09:33:00Z  bot           call.settled       req_0000010000000002 charged $0.000075 (15 input)";
        assert_eq!(line(&event), wanted);
    }

    #[test]
    fn an_event_of_a_group_or_of_the_machine_is_told_as_such() {
        let lone = Event { agent: None, ..event("account.state", "{}") };
        let group = Event { group: Some("lab".to_owned()), ..lone.clone() };
        let root = Event { account: Some(AccountId::ROOT), ..lone.clone() };
        let agent = Event { group: Some("lab".to_owned()), ..event("account.state", "{}") };
        assert_eq!([&lone, &group, &root, &agent].map(owner), ["-", "group:lab", "root", "bot"]);
    }

    #[test]
    fn a_window_tells_its_span_and_a_total_has_none() {
        let total = r#"{"account":3,"balance":1,"limit":"5000000000000","period":"total","start":"1970-01-01T00:00:00.000000Z"}"#;
        assert_eq!(facts(&event("window.opened", total)), "total, limit $5.00");
        let day = r#"{"account":3,"balance":1,"end":"1970-01-02T00:00:00.000000Z","period":"day","start":"1970-01-01T00:00:00.000000Z"}"#;
        assert_eq!(facts(&event("window.opened", day)), "day from 1970-01-01 00:00:00Z to 1970-01-02 00:00:00Z, no limit");
    }

    #[test]
    fn a_clock_that_was_set_tells_which_way_and_how_far() {
        let jump = |from: i64, to: i64| {
            let jumped = ledger::ClockJumped { boot_us: 5, from: Stamp::new(from * 1_000_000), to: Stamp::new(to * 1_000_000) };
            facts(&event("clock.jumped", &ledger::Event::from(jumped).body()))
        };
        assert_eq!(jump(90_000, 0), "set back by 1d 1h, from 1970-01-02 01:00:00Z to 1970-01-01 00:00:00Z");
        assert_eq!(jump(0, 7), "set ahead by 7.0s, from 1970-01-01 00:00:00Z to 1970-01-01 00:00:07Z");
    }

    #[test]
    fn a_change_of_tools_names_them() {
        let changed = ledger::ToolsChanged {
            action: ledger::ToolsAction::Disabled,
            by: None,
            registry: Digest::ZERO,
            servers: vec!["fs".to_owned(), "time".to_owned()],
        };
        assert_eq!(facts(&event("tools.changed", &ledger::Event::from(changed).body())), "disabled: fs, time");
    }

    #[test]
    fn a_refusal_says_what_was_left_and_what_was_asked() {
        let account = Named { id: AccountId::new(3), kind: None, name: "bot".to_owned() };
        let (asked, left, limit) = (Pico::new(5_000_000), Pico::new(1_000_000), Pico::new(9_000_000));
        let denial = Denial::Budget { account, asked, left, limit, period: Period::Day, resets_at: None };
        assert_eq!(refusal(&denial, "budget"), "budget (day) of bot: $0.000001 left, $0.000005 asked");
    }

    #[test]
    fn an_event_of_a_newer_daemon_still_tells_its_facts() {
        let body = format!(r#"{{"count":2,"list":[1],"spent":"5000000000000","token":"{}"}}"#, "ab".repeat(32));
        assert_eq!(facts(&event("new.kind", &body)), "count=2 spent=$5.00 token=abababababab…");
        let stored = r#"{"account":2,"items":["msg_1"],"model":"m","provider":"p","request":"req_0000010000000001","response":"resp_1"}"#;
        assert_eq!(facts(&event("response.stored", stored)), "req_0000010000000001 is resp_1 at p, of 1 items");
        let gone = r#"{"account":2,"provider":"p","request":"req_0000010000000002","response":"resp_1"}"#;
        assert_eq!(facts(&event("response.deleted", gone)), "req_0000010000000002 deletes resp_1 at p");
        assert_eq!(facts(&event("response.cancelled", gone)), "req_0000010000000002 cancels resp_1 at p");
        assert_eq!(facts(&event("call.settled", r#"{"new":"shape"}"#)), "new=shape");
    }
}
