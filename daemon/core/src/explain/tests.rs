//! Stories of hand-written chains: what they say has to follow from the events, and to show when an event lies.

use super::*;
use crate::ask::Ask;
use crate::books::Limits;
use crate::chain::Head;
use crate::decision::{AccountState, Denial, Named};
use crate::event::*;
use crate::policy::{self, Effective, Fields};
use crate::price::{self, Charge, MaxTokensField, ModelCard, Overhead, Price};
use crate::usage::Usage;
use crate::verify::Audit;
use crate::window::{Period, Window};
use aex_proto::explain::{CallStory, Verdict};
use aex_proto::run::RunId;
use aex_proto::value::{AccountId, BalanceId, Digest, RequestId, Stamp};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

const NOON: Stamp = Stamp::new(1_795_262_400_000_000);
const BOT: AccountId = AccountId::new(3);

fn card() -> ModelCard {
    let price = Price { call: Some(Pico::new(7)), ..Price::of(Pico::new(2), Pico::new(3)) };
    ModelCard {
        context_tokens: None,
        drop_tools: Vec::new(),
        max_tokens: 1_000,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "m".to_owned(),
        overhead: Overhead::WIDEST,
        price: Some(price),
        provider: "p".to_owned(),
        provider_model: "m-1".to_owned(),
        reasoning: false,
        tokenizer: None,
        tools: true,
        vision: false,
    }
}

fn seed() -> Effective {
    Effective::of(Fields::default(), None)
}

fn ask() -> Ask {
    Ask { body_bytes: 100, choices: 1, messages: 1, model: "m".to_owned(), text_chars: 90, ..Ask::default() }
}

fn request(number: u64) -> RequestId {
    RequestId::new(1, number)
}

/// A chain: root (1), the group g (2) with a budget, the agent bot (3) in it.
struct Chain {
    head: Head,
    records: Vec<Record>,
}

impl Chain {
    fn new(group_budget: i64) -> Chain {
        let mut chain = Chain { head: Head::START, records: Vec::new() };
        let ledger = "0".repeat(32);
        chain.write(EpochOpened { boot_us: 1, epoch: 1, ledger, schema: 1, version: "0".to_owned(), zone: "UTC".to_owned() });
        let cards = BTreeMap::from([("m".to_owned(), card().snapshot().1)]);
        let providers = BTreeMap::from([("p".to_owned(), "http://p/v1".to_owned())]);
        chain.write(ConfigLoaded { by: None, cards, default_model: None, gateway_errors_charged: true, providers });
        for (id, kind, name, parent) in
            [(1, AccountKind::Root, "root", None), (2, AccountKind::Group, "g", Some(1)), (3, AccountKind::Agent, "bot", Some(2))]
        {
            chain.account(id, kind, name, parent);
        }
        for id in 1..=3 {
            let limit = (id == 2).then_some(Pico::new(group_budget));
            chain.write(WindowOpened {
                account: AccountId::new(id),
                balance: BalanceId::new(id),
                end: None,
                limit,
                period: Period::Total,
                start: Window::TOTAL.start,
            });
            if limit.is_some() {
                chain.budget(id, group_budget);
            }
        }
        chain
    }

    fn write(&mut self, event: impl Into<Event>) -> i64 {
        let event = event.into();
        let (kind, body) = (event.kind().to_owned(), event.body());
        let at = NOON.offset(self.head.seq);
        self.head = self.head.link(at, &kind, &Digest::of(body.as_bytes()));
        self.records.push(Record { seq: self.head.seq, at, kind, body, hash: self.head.hash });
        self.head.seq
    }

    fn account(&mut self, id: i64, kind: AccountKind, name: &str, parent: Option<i64>) -> i64 {
        let limits = Limits { concurrent: None, rpm: (id == 3).then_some(60), tpm: None };
        let (account, policy) = (AccountId::new(id), Fields::default().snapshot().1);
        let (name, parent) = (name.to_owned(), parent.map(AccountId::new));
        self.write(AccountCreated { account, by: None, imported: None, kind, limits, name, parent, policy, reason: None })
    }

    fn budget(&mut self, account: i64, limit: i64) -> i64 {
        let by = Some(By { pid: 7, uid: 1000 });
        let (account, balance, limit) = (AccountId::new(account), BalanceId::new(account), Some(Pico::new(limit)));
        self.write(BudgetSet { account, balance, by, holds: Vec::new(), limit, period: Period::Total, reason: None, spent: None })
    }

    fn hold(&mut self, number: u64, account: AccountId) -> i64 {
        let bound = price::bound(&ask(), &card(), 1_000).unwrap();
        self.write(CallHeld {
            tool: None,
            account,
            amount: bound.amount,
            ask: ask(),
            attempt: 0,
            balances: vec![BalanceId::new(1), BalanceId::new(2), BalanceId::new(3)],
            card: card().snapshot().1,
            changes: Vec::new(),
            deadline: NOON.offset(1_000_000),
            epoch: 1,
            facts: None,
            idempotency: None,
            input: Digest::ZERO,
            input_tokens: bound.input_tokens,
            max_tokens: 1_000,
            output_tokens: bound.output_tokens,
            policy: seed().snapshot().1,
            request: request(number),
            rule: None,
            sent: true,
            skipped: Vec::new(),
        })
    }

    fn settle(&mut self, number: u64, charge: &Charge) -> i64 {
        self.write(CallSettled {
            tool: None,
            attempt: 0,
            charge: charge.total,
            lines: charge.lines.clone(),
            outcome: Outcome::Answered,
            relayed: None,
            request: request(number),
            state: Settled::Exact,
            status: Some(200),
            tier: charge.tier.clone(),
            unknown_usage: Vec::new(),
        })
    }

    fn deny(&mut self, number: u64, denial: Denial) -> i64 {
        self.write(CallDenied {
            tool: None,
            account: BOT,
            ask: Some(ask()),
            card: Some(card().snapshot().1),
            facts: None,
            input: None,
            rule: denial.rule().into_owned(),
            denial,
            policy: seed().snapshot().1,
            request: request(number),
        })
    }

    /// An audit that has taken in the events up to one.
    fn until(&self, seq: i64) -> Audit {
        let mut audit = Audit::new(|_| Some(TimeZone::UTC));
        for (kind, (text, digest)) in [("card", card().snapshot()), ("fields", Fields::default().snapshot()), ("policy", seed().snapshot())]
        {
            audit.snapshot(digest, kind, &text);
        }
        for record in self.records.iter().filter(|record| record.seq <= seq) {
            drop(audit.event(record));
        }
        audit
    }

    fn at(&self, seq: i64) -> &Record {
        self.records.iter().find(|record| record.seq == seq).unwrap()
    }

    fn call(&self, decided: i64, end: Option<i64>) -> CallStory {
        let before = self.until(decided - 1).standing(BOT, NOON);
        let audit = self.until(end.unwrap_or(decided));
        let after = audit.standing(BOT, NOON);
        let (decided, end) = (self.at(decided), end.map(|end| self.at(end)));
        let dossier = CallDossier {
            decided,
            end,
            attempts: &[],
            unmet: None,
            answer: None,
            suspended: None,
            configs: std::slice::from_ref(self.at(2)),
            before: &before,
            after: &after,
            audit: &audit,
        };
        call(&dossier).unwrap()
    }
}

fn exact() -> Charge {
    Charge::of(&Usage::text(10, 5), card().price.as_ref().unwrap()).unwrap()
}

fn verdicts(story: &CallStory) -> Vec<(&str, Verdict)> {
    story.checks.iter().map(|check| (check.name.as_str(), check.verdict)).collect()
}

#[test]
fn an_admitted_call_is_told_with_every_check_its_bound_its_edits_and_its_charge() {
    let mut chain = Chain::new(1_000_000);
    let held = chain.hold(1, BOT);
    let settled = chain.settle(1, &exact());
    let story = chain.call(held, Some(settled));
    assert!(story.checks.iter().all(|check| check.verdict == Verdict::Passed), "{:?}", story.checks);
    let names: Vec<&str> = story.checks.iter().map(|check| check.name.as_str()).collect();
    let first = ["authentication", "token_scope", "account_state", "account_state", "account_state", "rpm", "max_body", "request_form"];
    assert_eq!(names[..8], first);
    assert_eq!(names[8..11], ["known_model", "allowed_models", "capabilities.tools"]);
    assert_eq!(names[names.len() - 3..], ["provider_key", "price", "budget"]);
    let bound = story.bound.as_ref().unwrap();
    let sum: u64 = bound.input.iter().map(|part| part.count * part.each).sum();
    assert_eq!((sum, bound.output_tokens), (bound.input_tokens, 1_000));
    let amount = 2 * i64::try_from(sum).unwrap() + 3 * 1_000 + 7;
    assert_eq!(bound.amount_pico, Pico::new(amount));
    let sent = story.sent.as_ref().unwrap();
    assert_eq!(sent.url.as_deref(), Some("http://p/v1/chat/completions"));
    let edits: Vec<(&str, &str)> = sent.edits.iter().map(|edit| (edit.field.as_str(), edit.to.as_str())).collect();
    assert_eq!(edits, [("model", "m-1"), ("max_tokens", "1000")]);
    let end = story.end.as_ref().unwrap();
    assert_eq!((end.charge_pico, end.state.as_str(), end.lines.len()), (Pico::new(10 * 2 + 5 * 3 + 7), "exact", 3));
    assert_eq!(
        story.recomputed.iter().map(|again| (again.what.as_str(), again.same)).collect::<Vec<_>>(),
        [("decision", true), ("bound", true), ("charge", true)]
    );
    let spent = |told: &[PurseTold]| told.iter().map(|purse| (purse.spent_pico.get(), purse.reserved_pico.get())).collect::<Vec<_>>();
    assert_eq!((spent(&story.money), spent(&end.after)), (vec![(0, 0); 3], vec![(42, 0); 3]));
}

#[test]
fn a_call_in_flight_has_no_end_and_counts_in_the_money_of_the_next() {
    let mut chain = Chain::new(1_000_000);
    let first = chain.hold(1, BOT);
    let second = chain.hold(2, BOT);
    let story = chain.call(first, None);
    assert_eq!((story.end, story.deadline), (None, Some(NOON.offset(1_000_000))));
    let bound = story.bound.unwrap().amount_pico;
    assert!(chain.call(second, None).money.iter().all(|purse| purse.reserved_pico == bound));
}

#[test]
fn a_charge_or_a_bound_that_does_not_follow_is_told_with_both_values() {
    let mut chain = Chain::new(1_000_000);
    let held = chain.hold(1, BOT);
    let settled = chain.settle(1, &Charge { total: Pico::new(41), ..exact() });
    let story = chain.call(held, Some(settled));
    let charge = story.recomputed.last().unwrap();
    assert_eq!((charge.same, charge.recorded.as_str(), charge.again.as_str()), (false, "$0.000000000041", "$0.000000000042"));
}

#[test]
fn a_denial_names_the_group_whose_budget_did_not_suffice_and_nothing_behind_it() {
    let mut chain = Chain::new(100);
    let asked = price::bound(&ask(), &card(), 1_000).unwrap().amount;
    let account = Named { id: AccountId::new(2), name: "g".to_owned(), kind: Some(crate::books::AccountKind::Group) };
    let (left, limit) = (Pico::new(100), Pico::new(100));
    let denied = chain.deny(1, Denial::Budget { account, asked, left, limit, period: Period::Total, resets_at: None });
    let story = chain.call(denied, None);
    assert_eq!(verdicts(&story).last(), Some(&("budget", Verdict::Denied)));
    let check = story.checks.last().unwrap();
    assert_eq!((check.of.as_deref(), check.allowed.as_deref()), (Some("g by total"), Some("$0.0000000001 left of $0.0000000001")));
    assert!(story.recomputed.iter().all(|again| again.same && again.what == "bound") && story.recomputed.len() == 1);
    assert_eq!((story.money.len(), story.sent, story.end), (3, None, None));
}

#[test]
fn a_field_that_denies_stands_among_all_fields_and_ends_the_checks() {
    let mut chain = Chain::new(100);
    let vast = Ask { max_tokens: Some(2_000), ..ask() };
    let denial = policy::decide(&vast, &card(), &seed(), None).unwrap_err();
    let denied = CallDenied {
        tool: None,
        account: BOT,
        ask: Some(vast),
        card: Some(card().snapshot().1),
        facts: None,
        input: None,
        rule: denial.rule().into_owned(),
        denial,
        policy: seed().snapshot().1,
        request: request(1),
    };
    let denied = chain.write(denied);
    let story = chain.call(denied, None);
    assert_eq!(verdicts(&story).last(), Some(&("limits.max_tokens", Verdict::Denied)));
    assert_eq!(story.checks.iter().filter(|check| check.verdict != Verdict::Passed).count(), 1);
    assert!(story.recomputed[0].same && story.bound.is_none());
}

#[test]
fn a_repeat_is_found_by_its_range_and_is_certain_only_when_the_range_is_full() {
    let mut chain = Chain::new(100);
    let first = chain.deny(1, Denial::ReadOnlyToken);
    let (account, rule) = (BOT, "token_scope".to_owned());
    chain.write(CallDeniedAgain { account, count: 3, first: request(2), last: request(5), rule });
    chain.write(AuthFailed { cause: crate::decision::AuthCause::Missing, count: 1, first: request(4), last: request(4) });
    let found = |number| {
        let mut search = Search::new(request(number));
        chain.records.iter().for_each(|record| search.take(record));
        search
    };
    assert_eq!(found(1).own().map(|(own, _)| own.seq), Some(first));
    for (number, groups, certain) in [(2, 1, true), (3, 1, false), (4, 1, true), (5, 1, true), (6, 0, false)] {
        let alike = found(number).alike();
        let groups_found = alike.iter().map(|alike| alike.group(None, None).unwrap()).collect::<Vec<_>>();
        assert!(alike.iter().all(|alike| alike.account.is_none() || alike.told.as_ref().is_some_and(|told| told.seq == first)));
        let story = repeat(Some(request(number)), groups_found);
        assert_eq!((story.groups.len(), story.certain), (groups, certain), "{number}");
    }
}

#[test]
fn a_run_is_told_in_sums_with_its_newest_calls_and_its_denials() {
    let mut chain = Chain::new(i64::MAX / 2);
    chain.account(4, AccountKind::Run, "run-4", Some(3));
    let run = AccountId::new(4);
    let mut told = RunTold::new(RunId::new(run));
    for number in 1..=150 {
        chain.hold(number, if number == 7 { BOT } else { run });
        if number != 150 {
            chain.settle(number, &exact());
        }
    }
    let denied = Denial::ReadOnlyToken;
    let (policy, rule) = (seed().snapshot().1, denied.rule().into_owned());
    chain.write(CallDenied {
        tool: None,
        account: run,
        ask: None,
        card: None,
        denial: denied,
        facts: None,
        input: None,
        policy,
        request: request(151),
        rule: rule.clone(),
    });
    chain.write(CallDeniedAgain { account: run, count: 5, first: request(152), last: request(156), rule });
    let (from, to, reason) = (AccountState::Active, AccountState::Closed, "its command ended".to_owned());
    chain.write(AccountStateChanged { account: run, by: None, from, reason, to });
    chain.records.iter().for_each(|record| told.take(record));
    let story = told.story(&chain.until(chain.head.seq).standing(run, NOON)).unwrap();
    assert_eq!((story.admitted, story.charged_pico.get(), story.calls.len()), (149, 148 * 42, 100));
    assert_eq!(story.ended, [("exact".to_owned(), 148), ("in_flight".to_owned(), 1)]);
    assert_eq!((story.input_tokens, story.output_tokens), (1_480, 740));
    assert_eq!((story.calls[99].request, story.calls[99].charge_pico), (request(150), None));
    assert_eq!((story.denials.len(), story.denials[0].count, story.denials[0].first), (1, 6, request(151)));
    assert_eq!(story.closed_because.as_deref(), Some("its command ended"));
    assert!(RunTold::new(RunId::new(BOT)).story(&Standing::default()).is_none());
}

#[test]
fn an_admin_action_tells_who_changed_what_from_what_and_what_replaced_it() {
    let mut chain = Chain::new(100);
    let set = chain.budget(2, 500);
    let later = chain.budget(2, 600);
    let record = chain.at(set);
    let mut neighbours = Neighbours::new(record);
    chain.records.iter().for_each(|record| neighbours.take(record));
    let (before, audit) = (chain.until(set - 1).standing(AccountId::new(2), NOON), chain.until(set));
    let after = audit.standing(AccountId::new(2), NOON);
    let (previous, next) = (neighbours.previous.as_ref(), neighbours.next.as_ref());
    let dossier = ActionDossier { record, before: &before, after: &after, previous, next, together: &[], audit: &audit };
    let story = action(&dossier).unwrap();
    assert_eq!(story.by.map(|by| (by.uid, by.pid)), Some((1000, 7)));
    let change = &story.changes[0];
    assert_eq!(
        (change.what.as_str(), change.from.as_deref(), change.to.as_deref()),
        ("budget by total", Some("$0.0000000001"), Some("$0.0000000005"))
    );
    assert_eq!(story.next.map(|next| next.seq), Some(later.unsigned_abs()));
}

#[test]
fn a_model_is_told_as_unknown_only_when_a_configuration_of_that_moment_lacked_it() {
    for (model, same) in [("m9", true), ("m", false)] {
        let mut chain = Chain::new(100);
        let denied = chain.deny(1, Denial::UnknownModel { model: model.to_owned() });
        let story = chain.call(denied, None);
        assert_eq!(story.recomputed.iter().map(|again| (again.what.as_str(), again.same)).collect::<Vec<_>>(), [("known_model", same)]);
        assert_eq!(verdicts(&story).last(), Some(&("known_model", Verdict::Denied)));
    }
}
