//! Power cuts of a recorded run: at each one an image of the disk, a start of the real daemon on it, and what must hold then.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use serde_json::{Value, json};

use super::{Chance, Disk, Image, Kind, Moment, Record, Seen, Taste, What};
use crate::ask;
use crate::client;
use crate::daemon::{Config, Daemon};
use crate::ledger::{self, Call, End};

/// What must not be lost beside admin actions, which never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Each call that was sent to the provider (`full`).
    Asked,
    /// Each call of which a byte was answered (`overlap`).
    Answered,
    /// Nothing: a suffix may be gone (`normal`).
    Suffix,
}

/// What an admin did, and what that must have come to once it was answered.
#[derive(Clone, Debug)]
pub enum Deed {
    /// An agent of that name is there.
    Made(String),
    /// It is paused.
    Paused(String),
    /// Its total budget is at most that, in pico-USD.
    Lowered(String, i64),
    /// This token is not taken.
    Revoked(String),
}

/// A run as it was, to hold images against.
#[derive(Clone, Debug)]
pub struct Truth {
    /// What left the daemon, with its moment.
    pub seen: Vec<Seen>,
    /// Requests by the mark in their prompt.
    pub requests: BTreeMap<String, String>,
    /// What the provider bills for a request, in pico-USD.
    pub bills: BTreeMap<String, i64>,
    /// The requests of the agent with the tight budget.
    pub tight: BTreeSet<String>,
    /// Its token, and its limit in pico-USD.
    pub tight_token: String,
    /// See `tight_token`.
    pub tight_limit: i64,
    /// Each admin action by the id of its JSON-RPC request.
    pub deeds: BTreeMap<String, Deed>,
    /// The hash of each event, from the first on.
    pub hashes: Vec<String>,
}

/// What broke a promise.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Which one, in words.
    pub what: String,
    /// At which cut, and what it left, in words.
    pub story: String,
    /// What it left.
    pub image: Image,
}

impl Broken {
    /// Keeps the image for whoever looks into it, and tells where it lies.
    #[must_use]
    #[track_caller]
    pub fn kept(&self) -> String {
        // Not removed at the end.
        let folder = tempfile::Builder::new().prefix("aex-power-").tempdir().expect("a temporary folder").keep();
        self.image.write(&folder);
        format!("{}\n  {}\n  kept in {}", self.what, self.story, folder.display())
    }
}

/// A cut to be judged.
struct Cut {
    number: usize,
    /// The last moment before it.
    at: u64,
    image: Image,
}

/// Cuts a recorded run at `cuts` moments and answers what broke. Most moments are nasty: within a flush, within a checkpoint, right after
/// something was sent.
#[must_use]
#[track_caller]
pub fn judged(
    truth: &Truth,
    moments: &[Moment<'_>],
    mut disk: Disk,
    config: &Config,
    promise: Promise,
    cuts: usize,
    seed: u64,
) -> Vec<Broken> {
    let mut chance = Chance::new(seed);
    let places = places(moments, cuts, &mut chance);
    let broken = Mutex::new(Vec::new());
    let (sender, receiver) = sync_channel::<Cut>(2);
    let receiver = Mutex::new(receiver);
    let judge = || {
        while let Some(cut) = next(&receiver) {
            // What the harness itself cannot read breaks a promise too; and a judge that is gone would be waited for.
            let judged = catch_unwind(AssertUnwindSafe(|| judge(truth, &cut, config, promise)));
            if let Err(what) = judged.unwrap_or_else(|panic| Err(said(panic.as_ref()))) {
                let story = format!("cut {} at {}, {}", cut.number, cut.at, cut.image.story);
                broken.lock().expect("no judge panics").push(Broken { what, story, image: cut.image });
            }
        }
    };
    thread::scope(|scope| {
        let judges: Vec<_> = (0..3).map(|_| scope.spawn(judge)).collect();
        let mut done = 0;
        for (number, place) in places.into_iter().enumerate() {
            moments[done..place].iter().for_each(|moment| disk.take(moment.record));
            done = place;
            let taste = Taste::EVERY[number % Taste::EVERY.len()];
            let image = disk.image(taste, &mut chance);
            sender.send(Cut { number, at: moments[place - 1].at, image }).expect("the judges wait");
        }
        drop(sender);
        judges.into_iter().for_each(|judge| judge.join().expect("a judge ends"));
    });
    broken.into_inner().expect("no judge panics")
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a judge panicked").to_owned()
}

fn next(receiver: &Mutex<Receiver<Cut>>) -> Option<Cut> {
    receiver.lock().expect("no judge panics").recv().ok()
}

/// How many moments have passed at each cut, in order.
fn places(moments: &[Moment<'_>], cuts: usize, chance: &mut Chance) -> Vec<usize> {
    let is_opening = |record: &&Record| record.kind == Kind::Opened && record.data.ends_with(b"ledger.db");
    let database: BTreeSet<u32> = moments.iter().map(|moment| moment.record).filter(is_opening).map(|record| record.object).collect();
    let those = |is_one: &dyn Fn(&Record) -> bool| -> Vec<usize> {
        moments.iter().enumerate().filter(|(_, moment)| is_one(moment.record)).map(|(place, _)| place).collect()
    };
    let (sent, flushes) = (those(&|record| record.kind == Kind::Sent), those(&|record| record.kind == Kind::Synced));
    let checkpoints = those(&|record| record.kind == Kind::Written && database.contains(&record.object));
    let mut places: Vec<usize> = (0..cuts)
        .map(|number| match number % 6 {
            0 => 1 + chance.below(moments.len()),
            // Just before a flush has ended.
            1 => (*chance.one_of(&flushes)).max(1),
            2 => chance.one_of(&checkpoints) + 1,
            // Just after the world has seen something.
            _ => chance.one_of(&sent) + 1,
        })
        .collect();
    places.sort_unstable();
    places
}

fn judge(truth: &Truth, cut: &Cut, config: &Config, promise: Promise) -> Result<(), String> {
    let mut daemon = Daemon::prepare(config.clone());
    cut.image.write(&daemon.home());
    daemon.try_run().map_err(|output| format!("the daemon does not start: {output:?}"))?;
    let audit = daemon.rpc("audit.run", &json!({}));
    let failed: Vec<&Value> = audit["invariants"].as_array().expect("invariants").iter().filter(|row| row["passed"] != true).collect();
    if audit["passed"] != true || !failed.is_empty() {
        return Err(format!("the audit fails: {failed:?}"));
    }
    let events = ledger::events(&daemon);
    only_a_suffix_is_lost(truth, &events)?;
    let calls: BTreeMap<String, Call> = ledger::calls_of(&events).into_iter().map(|call| (call.held.request.to_string(), call)).collect();
    let before = |what: &dyn Fn(&What) -> Option<String>| -> BTreeSet<String> {
        truth.seen.iter().filter(|seen| seen.at <= cut.at).filter_map(|seen| what(&seen.what)).collect()
    };
    let answered = before(&|what| if let What::Answered(request) = what { Some(request.clone()) } else { None });
    let asked = before(&|what| if let What::Asked(mark) = what { truth.requests.get(mark).cloned() } else { None });
    let told = before(&|what| if let What::Told(id) = what { Some(id.clone()) } else { None });
    let (owed, word) = match promise {
        Promise::Asked => (&asked | &answered, "sent"),
        Promise::Answered => (answered, "answered"),
        Promise::Suffix => (BTreeSet::new(), ""),
    };
    for request in &owed {
        let call = calls.get(request).ok_or_else(|| format!("{request} was {word} and is not in the ledger"))?;
        covered(call, truth.bills.get(request).copied().unwrap_or_default())?;
    }
    deeds_stand(truth, &told, &daemon)?;
    let is_tight = |id: &String| matches!(truth.deeds.get(id), Some(Deed::Made(name)) if name == "tight");
    if cut.number.is_multiple_of(3) && told.iter().any(is_tight) {
        the_budget_holds(truth, &owed, &daemon, cut.number)?;
    }
    daemon.kill9();
    Ok(())
}

/// What is there is what was there, up to some event.
fn only_a_suffix_is_lost(truth: &Truth, events: &[Value]) -> Result<(), String> {
    let opened = events.iter().rposition(|event| event["kind"] == "epoch.opened").ok_or("no epoch was opened")?;
    let differs = events[..opened].iter().zip(&truth.hashes).find(|(event, hash)| event["hash"] != hash.as_str());
    differs.map_or(Ok(()), |(event, _)| Err(format!("event {} is none of those that were there", event["seq"])))
}

/// It has one end, which charges at least the bill.
fn covered(call: &Call, bill: i64) -> Result<(), String> {
    match call.ends.as_slice() {
        [End::Charged { charge, .. }] if *charge >= bill => Ok(()),
        ends => Err(format!("{} has a bill of {bill} pico-USD and ends so: {ends:?}", call.held.request)),
    }
}

/// Each admin action that was answered.
fn deeds_stand(truth: &Truth, told: &BTreeSet<String>, daemon: &Daemon) -> Result<(), String> {
    let listed = daemon.rpc("agent.list", &json!({}));
    let agents: BTreeMap<&str, &Value> =
        listed["agents"].as_array().expect("agents").iter().map(|agent| (agent["name"].as_str().expect("a name"), agent)).collect();
    let mut revoked = Vec::new();
    for (id, deed) in told.iter().filter_map(|id| truth.deeds.get_key_value(id)) {
        let agent = |name: &String| agents.get(name.as_str()).ok_or_else(|| format!("{id}: agent {name} is gone"));
        match deed {
            Deed::Made(name) => drop(agent(name)?),
            Deed::Paused(name) if agent(name)?["state"] != "paused" => return Err(format!("{id}: {name} is not paused")),
            Deed::Lowered(name, limit) => {
                let found = agent(name)?["budgets"][0]["limit_pico"].as_str().and_then(|text| text.parse::<i64>().ok());
                if found.is_none_or(|found| found > *limit) {
                    return Err(format!("{id}: {name} has a limit of {found:?}, not {limit}"));
                }
            }
            Deed::Revoked(token) => revoked.push(token),
            Deed::Paused(_) => {}
        }
    }
    for token in revoked {
        let status = client::post_json(&daemon.chat_url(), token, &ask::chat()).status;
        if status != 401 {
            return Err(format!("a revoked token is answered {status}"));
        }
    }
    Ok(())
}

/// After the cut no more is admitted than the budget leaves, with all that was promised before.
fn the_budget_holds(truth: &Truth, owed: &BTreeSet<String>, daemon: &Daemon, number: usize) -> Result<(), String> {
    let before: i64 = truth.tight.intersection(owed).filter_map(|request| truth.bills.get(request)).sum();
    let (mut after, mut refused) = (0, false);
    for call in 0..100 {
        let length = 5_000 + call;
        let body = ask::with(ask::of_length(length), &json!({"user": format!("after cut {number}")}));
        let answer = client::post_json(&daemon.chat_url(), &truth.tight_token, &body);
        refused = answer.status == 402;
        if refused {
            break;
        }
        if answer.status != 200 {
            return Err(format!("a call after the cut is answered so: {answer}"));
        }
    }
    for call in ledger::quiet(daemon).iter().filter(|call| call.held.ask.text_chars >= 5_000) {
        after += call.charge();
    }
    if refused && before + after <= truth.tight_limit {
        return Ok(());
    }
    Err(format!("of {} pico-USD {before} were promised before the cut and {after} charged after it", truth.tight_limit))
}
