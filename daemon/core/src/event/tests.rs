//! Tests of `event`.

use super::*;
use crate::policy::{Changed, Effect, NearMiss, Ruled};

#[test]
fn a_body_is_canonical_and_is_read_back() {
    let held = CallHeld {
        tool: None,
        account: AccountId::new(3),
        amount: Pico::new(5),
        ask: Ask {
            body_bytes: 9,
            choices: 1,
            messages: 1,
            model: "é\u{7f}\"\n".to_owned(),
            stream: true,
            images: 2,
            tools: 1,
            temperature: Some("0.50".to_owned()),
            text_chars: 3,
            ..Ask::default()
        },
        attempt: 0,
        balances: vec![BalanceId::new(1), BalanceId::new(2)],
        card: Digest::ZERO,
        changes: vec![Change { field: Changed::MaxTokens, from: None, to: "5".to_owned() }],
        deadline: Stamp::new(5),
        epoch: 1,
        facts: Some(facts()),
        idempotency: Some(Digest::ZERO),
        input: Digest::ZERO,
        input_tokens: 4,
        max_tokens: 5,
        output_tokens: 5,
        policy: Digest::ZERO,
        request: RequestId::new(1, 1),
        rule: Some("short".to_owned()),
        sent: true,
        skipped: vec![Skipped { model: "m".to_owned(), rule: "provider_down".to_owned() }],
    };
    let settled = CallSettled {
        tool: None,
        attempt: 0,
        charge: Pico::new(7),
        lines: vec![Line(crate::usage::Bucket::Input, 7, Pico::new(1))],
        outcome: Outcome::Answered,
        relayed: Some(Relayed { bytes: 9, tokens: Some(3) }),
        request: RequestId::new(1, 1),
        state: Settled::Exact,
        status: Some(200),
        tier: Some("flex".to_owned()),
        unknown_usage: vec![("x".to_owned(), "1.5".to_owned())],
    };
    let denied = CallDenied {
        tool: None,
        account: AccountId::new(3),
        ask: None,
        card: None,
        denial: Denial::Budget {
            account: crate::decision::Named { id: AccountId::new(3), kind: None, name: "a".to_owned() },
            asked: Pico::new(1),
            left: Pico::new(0),
            limit: Pico::new(1),
            period: Period::Day,
            resets_at: Some(Stamp::new(1)),
        },
        facts: None,
        input: None,
        policy: Digest::ZERO,
        request: RequestId::new(1, 1),
        rule: "budget".to_owned(),
    };
    let near = vec![NearMiss { condition: "hour: 3 is not within 9-17".to_owned(), rule: "day".to_owned() }];
    let ruled = Ruled {
        effect: Effect::Ask,
        error: Some("e".to_owned()),
        file: Some("policy.yaml".to_owned()),
        line: Some(4),
        matched: vec!["night".to_owned()],
        near,
        reason: Some("why".to_owned()),
        rule: "night".to_owned(),
    };
    let by_rule =
        CallDenied { denial: Denial::Rule(Box::new(ruled)), facts: Some(facts()), rule: "rule:night".to_owned(), ..denied.clone() };
    let by = By { pid: 7, uid: 1_000 };
    let given = ApprovalGiven {
        account: AccountId::new(3),
        answer: Answered::Always,
        by: by.clone(),
        reason: Some("why".to_owned()),
        request: Some(RequestId::new(1, 1)),
        rule: "r".to_owned(),
        stated: Some(Digest::ZERO),
        tool: "s.t".to_owned(),
        until: None,
    };
    let pins = BTreeMap::from([("t".to_owned(), Digest::ZERO)]);
    let pinned = ToolPinned { by: Some(by.clone()), pins, server: "s".to_owned(), what: PinChange::FirstUse };
    let barred = |inside| Event::from(AdminBarred { by: by.clone(), inside, method: "approval.approve".to_owned() });
    let others = [barred(Inside::Run(AccountId::new(5))), barred(Inside::Server("s".to_owned())), barred(Inside::Unknown)];
    let all = [Event::from(held), Event::from(settled), Event::from(denied), Event::from(by_rule), given.into(), pinned.into()];
    for event in all.into_iter().chain(others) {
        let body = event.body();
        assert!(crate::canon::is_canonical(&body), "{body}");
        assert_eq!(Event::parse(event.kind(), &body), Ok(event));
    }
}

fn facts() -> Facts {
    Facts { agent: "a".to_owned(), budget_share_percent: Some(80), groups: vec!["g".to_owned()], hour: 3 }
}

#[test]
fn a_kind_or_field_of_another_version_is_refused_not_skipped() {
    assert!(Event::parse("call.teleported", "{}").is_err());
    assert!(Event::parse("epoch.closed", "{\"epoch\":1,\"extra\":2}").is_err());
}
