//! The wall clock of a running daemon set back and ahead, and across the edges of the calendar: windows follow it, with their
//! balances; rates and deadlines do not; each jump is on record.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_proto::value::Stamp;
use aex_tests::ask;
use aex_tests::client::{self, Answer, Connection, End};
use aex_tests::clock::Clock;
use aex_tests::daemon::{Config, Daemon};
use aex_tests::ledger::{Books, calls, events, last, quiet, settled_and_audited, until};
use aex_tests::provider::{Provider, Script};
use serde_json::{Value, json};

const DAY: i64 = 86_400;
const SECOND_US: i64 = 1_000_000;

/// A daemon whose clock can be set.
struct House {
    clock: Clock,
    provider: Provider,
    daemon: Daemon,
}

impl House {
    /// Starts it at a time, with windows in a zone.
    fn at(zone: &str, start: &str) -> House {
        let (clock, provider) = (Clock::new(), Provider::start());
        clock.set(start);
        let config = Config::new(&provider).aexd_yaml(&format!("zone: {zone}\n"));
        let daemon = Daemon::start_with(clock.of(config));
        House { clock, provider, daemon }
    }

    /// An agent; `facts` replace or add to what it is made of.
    fn agent(&self, name: &str, facts: &Value) -> String {
        let mut wanted = json!({"name": name, "budget_pico": "100000000000000", "rpm": 100_000});
        wanted.as_object_mut().expect("an object").extend(facts.as_object().expect("an object").clone());
        self.daemon.rpc("agent.create", &wanted)["token"].as_str().expect("a token").to_owned()
    }

    fn call(&self, token: &str) -> Answer {
        client::post_json(&self.daemon.chat_url(), token, &ask::chat())
    }

    #[track_caller]
    fn passes(&self, token: &str) {
        let answer = self.call(token);
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{answer}");
    }

    /// Refused; the error object.
    #[track_caller]
    fn refused(&self, token: &str, status: u16) -> Value {
        let answer = self.call(token);
        assert_eq!(answer.status, status, "{answer}");
        answer.json()["error"].clone()
    }

    /// What a call may cost at most.
    fn bound(&self) -> i64 {
        self.passes(&self.agent("scout", &json!({})));
        last(&self.daemon).bound()
    }

    fn jumps(&self) -> Vec<Value> {
        events(&self.daemon).into_iter().filter(|event| event["kind"] == "clock.jumped").collect()
    }

    fn done(&self) -> Books {
        settled_and_audited(&self.daemon, &self.provider)
    }
}

/// A budget that one call uses up: refused until the window's end and not a second longer.
#[track_caller]
fn resets(house: &House, name: &str, bound: i64, (period, at, resets_at): (&str, &str, &str)) {
    house.clock.set(at);
    let token = house.agent(name, &json!({"budget_pico": bound.to_string(), "per": period}));
    house.passes(&token);
    let end = Stamp::parse(resets_at).expect("a time");
    let told = house.refused(&token, 402);
    assert_eq!(told["resets_at"], json!(end), "{period} at {at}");
    // The clock goes on while the call is on its way.
    house.clock.set_to(end.offset(-30 * SECOND_US));
    assert_eq!(house.refused(&token, 402)["resets_at"], json!(end), "{period} at {at}");
    house.clock.set_to(end);
    house.passes(&token);
    let next = house.refused(&token, 402);
    assert!(next["resets_at"].as_str() > told["resets_at"].as_str(), "{next}");
}

#[track_caller]
fn calendar(zone: &str, rows: &[(&str, &str, &str)]) {
    let house = House::at(zone, rows[0].1);
    let bound = house.bound();
    for (number, row) in rows.iter().enumerate() {
        resets(&house, &format!("bot-{number}"), bound, *row);
    }
    assert_eq!(house.done().exact, 1 + 2 * rows.len());
}

#[test]
fn budgets_come_back_at_the_ends_of_days_months_years_and_iso_weeks() {
    calendar(
        "UTC",
        &[
            ("day", "2026-11-21T12:00:00Z", "2026-11-22T00:00:00Z"),
            ("month", "2026-01-31T12:00:00Z", "2026-02-01T00:00:00Z"),
            ("day", "2026-02-28T23:00:00Z", "2026-03-01T00:00:00Z"),
            ("month", "2026-02-28T12:00:00Z", "2026-03-01T00:00:00Z"),
            ("day", "2028-02-28T23:00:00Z", "2028-02-29T00:00:00Z"),
            ("day", "2028-02-29T23:00:00Z", "2028-03-01T00:00:00Z"),
            ("month", "2028-02-29T12:00:00Z", "2028-03-01T00:00:00Z"),
            ("month", "2026-04-30T12:00:00Z", "2026-05-01T00:00:00Z"),
            ("day", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z"),
            ("month", "2026-12-31T12:00:00Z", "2027-01-01T00:00:00Z"),
            ("week", "2026-12-31T12:00:00Z", "2027-01-04T00:00:00Z"),
            ("week", "2024-12-30T01:00:00Z", "2025-01-06T00:00:00Z"),
            ("week", "2023-12-31T12:00:00Z", "2024-01-01T00:00:00Z"),
        ],
    );
}

#[test]
fn budgets_come_back_at_midnight_of_a_zone_with_summer_time() {
    calendar(
        "Europe/Berlin",
        &[
            ("day", "2026-03-28T23:30:00Z", "2026-03-29T22:00:00Z"),
            ("week", "2026-03-29T12:00:00Z", "2026-03-29T22:00:00Z"),
            ("month", "2026-03-29T12:00:00Z", "2026-03-31T22:00:00Z"),
            ("day", "2026-10-25T00:30:00Z", "2026-10-25T23:00:00Z"),
            ("day", "2026-10-25T01:30:00Z", "2026-10-25T23:00:00Z"),
            ("week", "2026-10-25T12:00:00Z", "2026-10-25T23:00:00Z"),
            ("month", "2026-10-25T12:00:00Z", "2026-10-31T23:00:00Z"),
        ],
    );
}

#[test]
fn budgets_come_back_where_midnight_or_a_whole_day_is_skipped() {
    // The day after begins at one o'clock; the one before has its last hour twice.
    calendar(
        "Africa/Cairo",
        &[("day", "2026-04-23T12:00:00Z", "2026-04-23T22:00:00Z"), ("day", "2026-10-29T21:30:00Z", "2026-10-29T22:00:00Z")],
    );
    calendar(
        "America/Sao_Paulo",
        &[("day", "2018-11-03T12:00:00Z", "2018-11-04T03:00:00Z"), ("day", "2019-02-17T02:30:00Z", "2019-02-17T03:00:00Z")],
    );
    // Samoa had no 30 December 2011.
    calendar("Pacific/Apia", &[("day", "2011-12-30T09:00:00Z", "2011-12-30T10:00:00Z")]);
}

#[test]
fn a_clock_set_back_returns_to_windows_whose_balances_still_stand() {
    let mut house = House::at("UTC", "2026-05-10T12:00:00Z");
    let bound = house.bound();
    let charge = last(&house.daemon).charge();
    // Two calls a day, and not a third.
    let budget = json!({"budget_pico": (bound + charge).to_string(), "per": "day"});
    let token = house.agent("bot", &budget);
    let steps: [(&str, &[u16]); 8] = [
        ("2026-05-10T12:00:00Z", &[200]),
        ("2026-05-12T12:00:00Z", &[200, 200, 402]),
        // Back by two days: one call is left of that day, and the next day is untouched.
        ("2026-05-10T13:00:00Z", &[200, 402]),
        ("2026-05-11T12:00:00Z", &[200]),
        // Ahead again, and by a restart, too.
        ("2026-05-12T11:00:00Z", &[402]),
        ("2027-05-12T12:00:00Z", &[200, 200, 402]),
        ("2026-05-11T23:00:00Z", &[200, 402]),
        ("2026-05-10T23:00:00Z", &[402]),
    ];
    for restarts in [false, true] {
        for (at, wanted) in steps {
            house.clock.set(at);
            if restarts {
                house.daemon.restart();
            }
            // By then all windows of the first round are used up.
            for status in wanted.iter().map(|status| if restarts { 402 } else { *status }) {
                let answer = house.call(&token);
                assert_eq!(answer.status, status, "{at}: {answer}");
            }
        }
    }
    let spent = |at: &str| {
        house.clock.set(at);
        house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))["budgets"][0]["spent_pico"].clone()
    };
    assert_eq!(spent("2026-05-10T12:00:00Z"), (2 * charge).to_string());
    assert_eq!(spent("2026-05-13T12:00:00Z"), "0");
    assert_eq!(house.done().exact, 9);
}

#[test]
fn rates_count_by_a_clock_that_nobody_sets() {
    let house = House::at("UTC", "2026-05-10T12:00:00Z");
    let slow = house.agent("slow", &json!({"rpm": 2}));
    let few = house.agent("few", &json!({"tpm": 60}));
    house.passes(&slow);
    house.passes(&slow);
    house.passes(&few);
    for jump in [2 * DAY, -5 * DAY, 400 * DAY, -3_600, 90] {
        house.clock.shift(jump);
        assert_eq!(house.refused(&slow, 429)["code"], "rate_limit_exceeded");
        assert_eq!(house.refused(&few, 429)["code"], "rate_limit_exceeded");
    }
    assert_eq!(house.done().exact, 3);
}

#[test]
fn a_call_in_flight_outlives_any_jump_and_is_charged_exactly_in_the_window_that_it_began_in() {
    let house = House::at("UTC", "2026-05-10T12:00:00Z");
    let token = house.agent("bot", &json!({"per": "day"}));
    house.provider.script_times(2, &Script::hold_after(2));
    let (mut stream, mut plain) = (Connection::open(&house.daemon.url()), Connection::open(&house.daemon.url()));
    stream.post_json("/v1/chat/completions", &token, &ask::with(ask::of_length(7), &json!({"stream": true})));
    assert_eq!(stream.head().expect("a head").status, 200);
    plain.post_json("/v1/chat/completions", &token, &ask::of_length(8));
    house.provider.wait_for_requests(2);
    for jump in [3 * DAY, -30 * DAY, 1_000 * DAY] {
        house.clock.shift(jump);
        house.passes(&token);
        assert!(calls(&house.daemon)[..2].iter().all(|call| call.ends.is_empty()));
        // The deadline is a time of the wall clock, and moves with it.
        house.daemon.ctl(["audit"]).ok();
    }
    house.provider.release();
    assert_eq!(plain.answer().expect("an answer").end, End::Complete);
    while stream.next_data().expect("a clean end").is_some() {}
    assert_eq!(house.done().exact, 5);
    let begun: i64 = calls(&house.daemon)[..2].iter().map(aex_tests::ledger::Call::charge).sum();
    house.clock.set("2026-05-10T12:00:00Z");
    assert_eq!(house.daemon.rpc("agent.inspect", &json!({"name": "bot"}))["budgets"][0]["spent_pico"], begun.to_string());
}

#[test]
fn a_token_expires_by_the_wall_clock_and_one_that_was_revoked_stays_so() {
    let mut house = House::at("UTC", "2026-05-10T12:00:00Z");
    let hour = house.agent("hour", &json!({"ttl_ms": 3_600_000}));
    let old = house.agent("bot", &json!({}));
    house.passes(&hour);
    house.passes(&old);
    let new = house.daemon.ctl(["agent", "rotate-token", "bot", "--json"]).json()["token"].as_str().expect("a token").to_owned();
    let rows = [("2026-05-10T12:30:00Z", 200), ("2026-05-10T13:00:30Z", 401), ("2026-05-10T12:59:00Z", 200), ("2026-05-01T00:00:00Z", 200)];
    for restarts in [false, true] {
        for (at, status) in rows {
            house.clock.set(at);
            if restarts {
                house.daemon.restart();
            }
            assert_eq!(house.call(&hour).status, status, "{at}, restarts: {restarts}");
            house.passes(&new);
            assert_eq!(house.refused(&old, 401)["code"], "invalid_api_key", "{at}, restarts: {restarts}");
        }
    }
    house.done();
}

#[test]
fn a_jump_is_an_event_and_is_told_by_the_daemons_health_and_a_small_step_is_none() {
    let mut house = House::at("UTC", "2026-05-10T12:00:00Z");
    let token = house.agent("bot", &json!({}));
    let health = |house: &House| client::fetch("GET", &format!("{}/health", house.daemon.url()), &[]).json();
    house.passes(&token);
    for step in [2, -2, -1] {
        house.clock.shift(step);
        house.passes(&token);
    }
    assert_eq!(house.jumps(), Vec::<Value>::new());
    assert_eq!(health(&house)["clock_jumped"], Value::Null);
    for (number, by) in [2 * DAY + 60, -9 * DAY - 60].into_iter().enumerate() {
        house.clock.shift(by);
        house.passes(&token);
        let jump = house.jumps()[number].clone();
        let at = |name: &str| Stamp::parse(jump["body"][name].as_str().expect("a time")).expect("a time");
        let off = at("to").since(at("from")) - by * 1_000_000;
        assert!(off.abs() < 5 * SECOND_US, "{jump}");
        assert_eq!(jump["at"], jump["body"]["to"]);
        assert!(jump["body"]["boot_us"].as_i64() > Some(0));
        let told = json!({"from": jump["body"]["from"], "to": jump["body"]["to"]});
        assert_eq!(health(&house)["clock_jumped"], told);
        let status = house.daemon.ctl(["daemon", "status"]).ok().stdout;
        let way = if by < 0 { "back" } else { "ahead" };
        assert!(status.contains(&format!("clock: ok, was set {way}, from {}", told["from"].as_str().expect("a time"))), "{status}");
        let listed = house.daemon.ctl(["events"]).ok().stdout;
        assert!(listed.contains(&format!("set {way} by {}d", by.abs() / DAY)), "{listed}");
    }
    assert_eq!(house.jumps().len(), 2);
    // A daemon without calls notices, too: whoever asks for its figures is told, and the sweep looks each minute.
    house.clock.shift(DAY);
    until("the third jump", || {
        house.daemon.rpc("status.get", &json!({}));
        (house.jumps().len() == 3).then_some(())
    });
    // The next start has a record of its own of both clocks.
    house.daemon.restart();
    assert_eq!(health(&house)["clock_jumped"], Value::Null);
    house.done();
}

#[test]
fn figures_of_the_last_minutes_go_on_after_the_clock_was_set_back() {
    let mut house = House::at("UTC", "2026-05-10T12:00:00Z");
    let token = house.agent("bot", &json!({}));
    // More hours than are kept, all of them in a time that is then still to come.
    for _ in 0..25 {
        house.clock.shift(3_600);
        house.passes(&token);
    }
    // The last of them ends by the old time.
    quiet(&house.daemon);
    house.clock.set("2026-05-01T12:00:10Z");
    house.passes(&token);
    house.passes(&token);
    for restarts in [false, true] {
        if restarts {
            house.daemon.restart();
        }
        let shown = house.daemon.ctl(["metrics", "--json"]).json();
        let agent = &shown["agents"][0];
        let last = agent["last_activity_at"].as_str().expect("a time");
        assert!(last.starts_with("2026-05-01T12:00"), "restarts: {restarts}: {shown}");
        let hour = shown["hours"].as_array().and_then(|hours| hours.last()).map(|hour| hour["requests"].clone());
        assert_eq!((&agent["windows"][0]["requests"], hour), (&json!(2), Some(json!(2))), "restarts: {restarts}: {shown}");
    }
    assert_eq!(house.done().exact, 27);
}

#[test]
fn a_daemon_starts_with_the_clock_years_away_and_its_books_hold() {
    let mut house = House::at("Europe/Berlin", "2026-05-10T12:00:00Z");
    let token = house.agent("bot", &json!({"rpm": 4, "per": "month"}));
    let times = ["2026-05-10T12:00:00Z", "2036-05-10T12:00:00Z", "1999-12-31T23:30:00Z", "1970-01-02T00:00:00Z", "2026-05-31T23:30:00Z"];
    for (at, requests) in times.into_iter().zip((3..).step_by(3)) {
        house.clock.set(at);
        house.daemon.restart();
        // Calls of a time that is years away are in no rate of this minute.
        house.passes(&token);
        house.passes(&token);
        // One that the daemon's death leaves behind.
        house.provider.script(Script::hold());
        let mut connection = Connection::open(&house.daemon.url());
        connection.post_json("/v1/chat/completions", &token, &ask::chat());
        house.provider.wait_for_requests(requests);
        house.daemon.kill9();
        house.provider.release();
        house.daemon.run();
        house.done();
    }
    let books = house.done();
    assert_eq!((books.exact, books.worst_case), (10, 5));
}
