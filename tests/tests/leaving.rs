//! Clients that leave and agents that are deleted or paused, in the middle of a call: what becomes of it, and what it costs.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use aex_core::usage::Bucket;
use aex_tests::ask::chat;
use aex_tests::client;
use aex_tests::daemon::{Config, Daemon};
use aex_tests::house::{House, last_error_of};
use aex_tests::ledger::{last, settled_and_audited};
use aex_tests::provider::{Ended, Script};
use aex_tests::shim;

#[test]
fn a_client_that_leaves_a_stream_cancels_it_and_pays_for_what_was_relayed() {
    for reset in [false, true] {
        let mut house = House::new(|config| config);
        house.provider.script(Script::hold_after(3));
        let connection = house.begin_stream(12);
        if reset {
            connection.reset();
        } else {
            connection.close();
        }
        let bills = house.provider.wait_for_bills(1);
        assert_eq!((bills[0].ended, bills[0].completion_tokens), (Ended::CutByClient, 3));
        let call = last(&house.daemon);
        assert_eq!((call.story().as_str(), call.quantity(Bucket::Output)), ("estimated client_left", 12));
        settled_and_audited(&house.daemon, &house.provider);
    }
}

#[test]
fn a_client_that_leaves_a_stream_before_its_head_cancels_it_too() {
    let mut house = House::new(|config| config);
    house.provider.script(Script::hold());
    let connection = house.begin(true);
    house.provider.wait_for_requests(1);
    connection.close();
    assert_eq!(house.provider.wait_for_bills(1)[0].ended, Ended::CutByClient);
    let call = last(&house.daemon);
    assert_eq!((call.story().as_str(), call.quantity(Bucket::Output)), ("estimated client_left", 0));
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_stream_whose_client_left_is_finished_where_the_configuration_says_so() {
    let mut house = House::new(|config| config.aexd_yaml("on_disconnect: drain\n"));
    house.provider.script(Script::hold_after(3));
    house.begin_stream(12).close();
    house.provider.release();
    assert_eq!(house.provider.wait_for_bills(1)[0].ended, Ended::Complete);
    assert_eq!(last(&house.daemon).story(), "exact answered");
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn a_plain_call_whose_client_left_is_finished_and_charged_exactly() {
    let mut house = House::new(|config| config);
    for (number, script) in [Script::hold(), Script::hold_after(3)].into_iter().enumerate() {
        house.provider.script(script);
        let connection = house.begin(false);
        house.provider.wait_for_requests(number as u64 + 1);
        if number == 0 {
            connection.close();
        } else {
            connection.reset();
        }
        // The next call is served by the same daemon: its workers have seen the leaving or will.
        house.provider.release();
        assert_eq!(house.provider.wait_for_bills(number + 1)[number].ended, Ended::Complete);
        assert_eq!(last(&house.daemon).story(), "exact answered");
    }
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 2);
}

#[test]
fn an_agent_that_is_deleted_in_mid_stream_has_its_stream_cut_and_charged() {
    let mut house = House::new(|config| config);
    house.provider.script(Script::hold_after(3));
    let mut connection = house.begin_stream(12);
    house.daemon.ctl(["agent", "delete", "bot"]).ok();
    assert!(last_error_of(&mut connection, "account_closed").contains("Agent `bot` is closed"));
    assert_eq!(house.provider.wait_for_bills(1)[0].ended, Ended::CutByClient);
    let call = last(&house.daemon);
    assert_eq!((call.story().as_str(), call.quantity(Bucket::Output)), ("estimated stopped", 12));
    settled_and_audited(&house.daemon, &house.provider);
}

/// A stream of 22 MB without an end of its own.
fn endless() -> Script {
    let chunk = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n";
    Script { garbage: Some(chunk.repeat(400_000)), split: Some(chunk.len() * 20), ..Script::default() }
}

#[test]
fn an_agent_that_is_deleted_while_its_stream_flows_has_it_cut_too() {
    let mut house = House::new(|config| config);
    // The provider is never silent for long: the cut may not wait for a pause.
    house.provider.script(Script { chunk_delay_us: 100, ..endless() });
    let mut connection = house.begin(true);
    assert_eq!(connection.head().expect("a head").status, 200);
    assert!(connection.next_data().expect("a stream").is_some());
    house.daemon.ctl(["agent", "delete", "bot"]).ok();
    assert!(last_error_of(&mut connection, "account_closed").contains("Agent `bot` is closed"));
    assert_eq!(last(&house.daemon).story(), "estimated stopped");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn an_agent_that_is_deleted_while_its_client_does_not_read_has_its_stream_cut_too() {
    let mut house = House::new(|config| config);
    house.provider.script(endless());
    let mut connection = house.begin(true);
    assert_eq!(connection.head().expect("a head").status, 200);
    assert!(connection.next_data().expect("a stream").is_some());
    // Each answer comes from the same worker threads: after some of them they have filled all buffers to the client that does not read.
    for _ in 0..200 {
        assert_eq!(client::get(&format!("{}/health", house.daemon.url()), "").status, 200);
    }
    house.daemon.ctl(["agent", "delete", "bot"]).ok();
    assert_eq!(house.provider.wait_for_bills(1)[0].ended, Ended::CutByClient);
    assert!(last(&house.daemon).story().starts_with("estimated "));
    settled_and_audited(&house.daemon, &house.provider);
    connection.close();
}

#[test]
fn an_agent_that_is_deleted_during_a_plain_call_pays_its_bound() {
    let mut house = House::new(|config| config);
    house.provider.script(Script::hold());
    let mut connection = house.begin(false);
    house.provider.wait_for_requests(1);
    house.daemon.ctl(["agent", "delete", "bot"]).ok();
    let answer = connection.answer().expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (403, "account_closed"), "{answer}");
    assert_eq!(last(&house.daemon).story(), "worst_case stopped");
    settled_and_audited(&house.daemon, &house.provider);
}

#[test]
fn a_pause_lets_calls_in_flight_finish() {
    let mut house = House::new(|config| config);
    house.provider.script(Script::hold_after(3));
    let mut connection = house.begin_stream(12);
    house.daemon.ctl(["agent", "pause", "bot"]).ok();
    house.provider.release();
    while connection.next_data().expect("a clean end").is_some() {}
    assert_eq!(client::post_json(&house.daemon.chat_url(), &house.token, &chat()).code(), "account_paused");
    assert_eq!(settled_and_audited(&house.daemon, &house.provider).exact, 1);
}

#[test]
fn half_a_head_does_not_hold_up_a_stop() {
    let mut house = House::new(|config| config);
    let mut connection = client::Connection::open(&house.daemon.url());
    connection.send(b"GET /health HTTP/1.1\r\nhost: local").expect("send half a head");
    // Ends within the harness's patience, which is shorter than the drain's time limit.
    house.daemon.stop();
}

#[test]
fn a_name_that_is_never_resolved_holds_up_neither_its_call_for_long_nor_a_stop() {
    let config = Config::with_base_url("http://provider.invalid/v1", "sk-nobody").provider_line("connect_timeout_ms: 100");
    let mut daemon = Daemon::start_with(shim::without_names(config));
    let token = daemon.agent("bot", &[]);
    let answer = client::post_json(&daemon.chat_url(), &token, &chat());
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_error"), "{answer}");
    assert_eq!(last(&daemon).story(), "released never_sent");
    // The daemon's own thread asks for it, too.
    assert_ne!(daemon.ctl(["doctor"]).code, 0);
    daemon.stop();
}
