//! The ledger as a test reads it: each call with its one end, and all calls against what the provider would bill.
//!
//! A call is known on both sides by its model, its kind and the characters of its messages: tests give calls that may end
//! differently prompts of different lengths.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use aex_core::event::{CallDenied, CallHeld, Event, Outcome, Relayed, Released, Settled};
use aex_core::policy::Changed;
use aex_core::price::Line;
use aex_core::usage::Bucket;
use serde_json::{Value, json};

use crate::daemon::{Daemon, PATIENCE};
use crate::provider::{Bill, Ended, Provider};

const PAGE: u64 = 1000;

/// One call that was admitted.
#[derive(Clone, Debug)]
pub struct Call {
    /// How it was admitted.
    pub held: CallHeld,
    /// How it ended; every call ends exactly once.
    pub ends: Vec<End>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a charge.
    Charged {
        /// How sure it is.
        state: Settled,
        /// Why.
        outcome: Outcome,
        /// In pico-USD.
        charge: i64,
        /// What was counted.
        lines: Vec<Line>,
        /// The output that an estimate rests on.
        relayed: Option<Relayed>,
    },
    /// Without one.
    Released(Released),
}

impl Call {
    /// Its one end.
    #[must_use]
    #[track_caller]
    pub fn end(&self) -> &End {
        assert_eq!(self.ends.len(), 1, "{self:?}");
        &self.ends[0]
    }

    /// Its end in short: `exact answered`, `estimated client_left`, `released refused`.
    #[must_use]
    #[track_caller]
    pub fn story(&self) -> String {
        match self.end() {
            End::Charged { state, outcome, .. } => format!("{} {}", word(state), word(outcome)),
            End::Released(reason) => format!("released {}", word(reason)),
        }
    }

    /// What it was charged, in pico-USD.
    #[must_use]
    #[track_caller]
    pub fn charge(&self) -> i64 {
        match self.end() {
            End::Charged { charge, .. } => *charge,
            End::Released(_) => 0,
        }
    }

    /// The counted quantity of a bucket.
    #[must_use]
    #[track_caller]
    pub fn quantity(&self, bucket: Bucket) -> u64 {
        match self.end() {
            End::Charged { lines, .. } => lines.iter().filter(|line| line.0 == bucket).map(|line| line.1).sum(),
            End::Released(_) => 0,
        }
    }

    /// What was held, in pico-USD.
    #[must_use]
    pub fn bound(&self) -> i64 {
        self.held.amount.get()
    }
}

/// The word that events have for it.
fn word<T: serde::Serialize>(value: &T) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

/// All events, as the admin socket lists them.
#[track_caller]
pub fn events(daemon: &Daemon) -> Vec<Value> {
    let mut control = daemon.control();
    let mut all: Vec<Value> = Vec::new();
    loop {
        let after = all.last().map_or(0, |event| event["seq"].as_u64().expect("an event has a number"));
        let mut page = control.call("event.list", &json!({"after": after, "limit": PAGE})).expect("event.list");
        let rows = page["events"].as_array_mut().expect("a list of events");
        if rows.is_empty() {
            return all;
        }
        all.append(rows);
    }
}

#[track_caller]
fn parsed(events: &[Value]) -> Vec<Event> {
    let read = |event: &Value| {
        let kind = event["kind"].as_str().unwrap_or_default();
        Event::parse(kind, &event["body"].to_string()).unwrap_or_else(|fault| panic!("{fault}"))
    };
    events.iter().map(read).collect()
}

/// All calls that were admitted, in that order.
#[must_use]
#[track_caller]
pub fn calls(daemon: &Daemon) -> Vec<Call> {
    calls_of(&events(daemon))
}

/// The calls that events tell of.
#[must_use]
#[track_caller]
pub fn calls_of(events: &[Value]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut places = BTreeMap::new();
    for event in parsed(events) {
        let (key, end) = match event {
            Event::CallHeld(held) => {
                let again = places.insert((held.request, held.attempt), calls.len());
                assert_eq!(again, None, "{} was admitted twice", held.request);
                calls.push(Call { held: *held, ends: Vec::new() });
                continue;
            }
            Event::CallSettled(settled) => {
                let (state, outcome, charge) = (settled.state, settled.outcome, settled.charge.get());
                let (lines, relayed) = (settled.lines, settled.relayed);
                ((settled.request, settled.attempt), End::Charged { state, outcome, charge, lines, relayed })
            }
            Event::CallReleased(released) => ((released.request, released.attempt), End::Released(released.reason)),
            _ => continue,
        };
        let place = *places.get(&key).unwrap_or_else(|| panic!("{} ended and was never admitted", key.0));
        calls[place].ends.push(end);
    }
    calls
}

/// All denials that have an event of their own, in their order.
#[must_use]
#[track_caller]
pub fn denials(daemon: &Daemon) -> Vec<CallDenied> {
    let denied = |event| if let Event::CallDenied(denied) = event { Some(*denied) } else { None };
    parsed(&events(daemon)).into_iter().filter_map(denied).collect()
}

/// The call that was admitted last, once no call is in flight.
#[must_use]
#[track_caller]
pub fn last(daemon: &Daemon) -> Call {
    quiet(daemon).pop().expect("a call was admitted")
}

/// Asks until the answer is there; fails the test at the deadline. Each question is a round trip to the daemon, so nothing sleeps.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::yield_now();
    }
}

/// Waits until no call is in flight and each admitted one has ended: all calls.
#[track_caller]
pub fn quiet(daemon: &Daemon) -> Vec<Call> {
    until("the end of all calls", || {
        let idle = daemon.rpc("daemon.status", &json!({}))["in_flight"] == 0;
        let calls = if idle { calls(daemon) } else { Vec::new() };
        (idle && calls.iter().all(|call| !call.ends.is_empty())).then_some(calls)
    })
}

/// What the comparison with the bill found.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Calls charged exactly.
    pub exact: usize,
    /// Calls charged by an estimate.
    pub estimated: usize,
    /// Calls charged in full.
    pub worst_case: usize,
    /// Calls not charged.
    pub released: usize,
    /// How far each estimate lies above the bill, in pico-USD.
    pub differences: Vec<(Key, i64)>,
}

impl Books {
    /// Takes in what another daemon's came to.
    pub fn add(&mut self, other: Books) {
        self.exact += other.exact;
        self.estimated += other.estimated;
        self.worst_case += other.worst_case;
        self.released += other.released;
        self.differences.extend(other.differences);
    }
}

/// What a call is known by on both sides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    model: String,
    stream: bool,
    chars: u64,
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.stream { "stream" } else { "plain" };
        write!(out, "{} {kind} of {} characters", self.model, self.chars)
    }
}

#[derive(Default)]
struct Group {
    bills: Vec<i64>,
    calls: Vec<Call>,
}

/// What holds after every test: each call ended once, nothing is reserved, the audit passes, and the ledger agrees with what the
/// provider would bill: exact charges to the pico-dollar, full ones no less than it, estimates listed.
#[track_caller]
pub fn settled_and_audited(daemon: &Daemon, provider: &Provider) -> Books {
    settled_and_audited_with(daemon, &[provider])
}

/// The same for a daemon with several providers.
#[track_caller]
pub fn settled_and_audited_with(daemon: &Daemon, providers: &[&Provider]) -> Books {
    let calls = quiet(daemon);
    audited(daemon);
    until("the end of all bills", || {
        // Asked for the pace of the question alone.
        daemon.rpc("daemon.hello", &json!({}));
        providers.iter().all(|provider| provider.bills().iter().all(|bill| bill.ended != Ended::Open)).then_some(())
    });
    let books = compare(groups(daemon, providers, calls));
    for (key, difference) in &books.differences {
        eprintln!("estimated: {key}: {difference:+} pico-USD against the bill");
    }
    books
}

/// Nothing is reserved, and the audit passes.
#[track_caller]
pub fn audited(daemon: &Daemon) {
    let audit = daemon.ctl(["audit", "--json"]);
    assert_eq!(audit.code, 0, "{audit:?}");
    let agents = daemon.rpc("agent.list", &json!({}));
    for agent in agents["agents"].as_array().expect("a list of agents") {
        for budget in agent["budgets"].as_array().expect("budgets") {
            assert_eq!(budget["reserved_pico"], "0", "{agent}");
        }
    }
    assert_eq!(daemon.rpc("status.get", &json!({}))["reserved_pico"], "0");
}

fn groups(daemon: &Daemon, providers: &[&Provider], calls: Vec<Call>) -> BTreeMap<Key, Group> {
    let models = daemon.rpc("model.list", &json!({}));
    let models = models["models"].as_array().expect("a list of models");
    let upstream = |name: &str| {
        let model = models.iter().find(|model| model["name"] == name);
        model.map_or_else(|| name.to_owned(), |model| model["provider_model"].as_str().unwrap_or_default().to_owned())
    };
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for call in calls {
        let ask = &call.held.ask;
        let streams = ask.stream && call.held.changes.iter().all(|change| change.field != Changed::Stream);
        let key = Key { model: upstream(&ask.model), stream: streams, chars: ask.text_chars };
        groups.entry(key).or_default().calls.push(call);
    }
    for provider in providers {
        let requests = provider.requests();
        for bill in provider.bills().iter().filter(|bill| bill.is_billed()) {
            let request = requests.iter().find(|request| request.seq == bill.seq).expect("a billed request was recorded");
            let body = request.json();
            let key = Key { model: bill.model.clone(), stream: body["stream"] == true, chars: characters(&body) };
            let model = models.iter().find(|model| model["provider_model"] == bill.model.as_str()).expect("a billed model is configured");
            groups.entry(key).or_default().bills.push(cost(bill, &model["prices"]));
        }
    }
    groups
}

/// Each billed call has one end; an exact charge is a bill to the pico-dollar, so nothing unbilled is exact; a full charge is no
/// less than the bill; an estimate is listed with its difference.
fn compare(groups: BTreeMap<Key, Group>) -> Books {
    let mut books = Books::default();
    for (key, group) in groups {
        let mut bills = group.bills;
        let mut estimates = Vec::new();
        let mut full = Vec::new();
        let mut gateway = 0;
        for call in &group.calls {
            match call.end() {
                End::Charged { state: Settled::Exact, charge, .. } => {
                    let place = bills.iter().position(|bill| bill == charge);
                    let place = place.unwrap_or_else(|| panic!("{key}: no bill of {charge} pico-USD among {bills:?} for {call:?}"));
                    bills.swap_remove(place);
                    books.exact += 1;
                }
                End::Charged { state: Settled::Estimated, charge, .. } => estimates.push(*charge),
                End::Charged { state: Settled::WorstCase, charge, .. } => full.push(*charge),
                End::Released(reason) => {
                    books.released += 1;
                    gateway += usize::from(*reason == Released::GatewayError);
                }
            }
        }
        let room = estimates.len() + full.len() + gateway;
        assert!(bills.len() <= room, "{key}: billed calls without a charge: {bills:?}; the ledger has {:?}", group.calls);
        for charge in &full {
            assert!(bills.iter().all(|bill| bill <= charge), "{key}: a full charge of {charge} is less than a bill of {bills:?}");
        }
        books.estimated += estimates.len();
        books.worst_case += full.len();
        for charge in estimates {
            // Of calls that cannot be told apart each takes the bill that is nearest.
            let nearest = (0..bills.len()).min_by_key(|place| bills[*place].abs_diff(charge));
            let bill = nearest.map_or(0, |place| bills.swap_remove(place));
            books.differences.push((key.clone(), charge - bill));
        }
        assert!(bills.len() <= full.len() + gateway, "{key}: bills that no charge stands for: {bills:?}; the ledger has {:?}", group.calls);
    }
    books
}

/// What a bill comes to, in pico-USD.
#[must_use]
#[track_caller]
pub fn cost(bill: &Bill, prices: &Value) -> i64 {
    let price = |name: &str| prices[name].as_str().and_then(|text| text.parse::<i64>().ok());
    let (input, output) = (price("input_pico").expect("a price"), price("output_pico").expect("a price"));
    let cached = price("cached_input_pico").unwrap_or(input);
    let count = |tokens: u64| i64::try_from(tokens).expect("few tokens");
    let call = price("call_pico").unwrap_or(0);
    let written = price("cache_write_pico").unwrap_or(input);
    let fresh = bill.prompt_tokens - bill.cached_tokens - bill.written_tokens;
    let prompt = count(fresh) * input + count(bill.cached_tokens) * cached + count(bill.written_tokens) * written;
    prompt + count(bill.completion_tokens) * output + call
}

/// Characters of all message contents, and of the system prompt where that stands beside them, or of the texts of a `prompt` or an
/// `input`; a token given as a number counts four.
fn characters(body: &Value) -> u64 {
    let messages = body["messages"].as_array().map_or(0, |messages| messages.iter().map(|message| contents(&message["content"])).sum());
    let items: u64 = body["input"].as_array().map_or(0, |items| items.iter().filter(|item| item.is_object()).map(item).sum());
    messages + items + contents(&body["system"]) + texts(&body["prompt"]) + texts(&body["input"]) + texts(&body["instructions"])
}

fn contents(content: &Value) -> u64 {
    let count = |text: &str| u64::try_from(text.chars().count()).expect("few characters");
    match content {
        Value::String(text) => count(text),
        Value::Array(parts) => parts.iter().map(|part| part["text"].as_str().map_or(0, count) + contents(&part["content"])).sum(),
        _ => 0,
    }
}

/// The texts of an item of a request for a response, which has them in one or the other.
fn item(item: &Value) -> u64 {
    contents(&item["content"]) + texts(&item["output"])
}

fn texts(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::try_from(text.chars().count()).expect("few characters"),
        Value::Number(_) => 4,
        Value::Array(list) => list.iter().map(texts).sum(),
        _ => 0,
    }
}
