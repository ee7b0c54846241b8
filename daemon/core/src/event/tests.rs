//! Tests of `event`.

use super::*;

#[test]
fn a_body_is_canonical_and_is_read_back() {
    let held = CallHeld {
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
            ..Ask::default()
        },
        attempt: 0,
        balances: vec![BalanceId::new(1), BalanceId::new(2)],
        card: Digest::ZERO,
        deadline: Stamp::new(5),
        epoch: 1,
        input: Digest::ZERO,
        input_tokens: 4,
        max_tokens: 5,
        output_tokens: 5,
        policy: Digest::ZERO,
        request: RequestId::new(1, 1),
        sent: true,
    };
    let settled = CallSettled {
        attempt: 0,
        charge: Pico::new(7),
        lines: vec![Line(crate::usage::Bucket::Input, 7, Pico::new(1))],
        outcome: Outcome::Answered,
        request: RequestId::new(1, 1),
        state: Settled::Exact,
        status: Some(200),
        unknown_usage: vec![("x".to_owned(), "1.5".to_owned())],
    };
    let denied = CallDenied {
        account: AccountId::new(3),
        ask: None,
        card: None,
        denial: Denial::Budget {
            account: crate::decision::Named { id: AccountId::new(3), name: "a".to_owned() },
            asked: Pico::new(1),
            left: Pico::new(0),
            limit: Pico::new(1),
            period: Period::Day,
            resets_at: Some(Stamp::new(1)),
        },
        policy: Digest::ZERO,
        request: RequestId::new(1, 1),
        rule: "budget".to_owned(),
    };
    for event in [Event::from(held), Event::from(settled), Event::from(denied)] {
        let body = event.body();
        assert!(crate::canon::is_canonical(&body), "{body}");
        assert_eq!(Event::parse(event.kind(), &body), Ok(event));
    }
}

#[test]
fn a_kind_or_field_of_another_version_is_refused_not_skipped() {
    assert!(Event::parse("call.teleported", "{}").is_err());
    assert!(Event::parse("epoch.closed", "{\"epoch\":1,\"extra\":2}").is_err());
}
