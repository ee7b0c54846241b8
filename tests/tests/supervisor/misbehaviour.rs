//! What a server can do wrong, and whom it hurts: its own call, and at the worst its own process.

use aex_tests::tools::{Gate, PACE, Shop, call, dead, lives, make, said, scripted, within};
use aexd::tools::fault::ToolFault;
use aexd::tools::process::Exit;
use aexd::tools::server::Server;
use aexd::tools::supervisor::{Pace, State};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::mpsc;

const MESSAGE: usize = 64 << 10;

/// What becomes of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It goes on, and so do the other calls in it.
    GoesOn,
    /// It ends, and with it the other calls in it; the next call has another.
    Ends,
}

fn small(name: &str) -> Server {
    let mut server = scripted(name, &[]);
    server.bounds.message_bytes = MESSAGE;
    server.times.call = Duration::from_secs(15);
    server
}

/// A call that misbehaves, while another one runs in the same process and a third in another server.
async fn check(tool: &str, arguments: Value, own: Result<&str, &str>, then: Then) {
    let mut bad = small("bad");
    if tool == "hang" {
        bad.times.call = Duration::from_secs(1);
    }
    let shop = Shop::open(vec![bad, small("good")]);
    let (gate, other) = (Gate::new(), Gate::new());
    let held = shop.make(call("bad", "hold", json!({"path": gate.path()})));
    let elsewhere = shop.make(call("good", "hold", json!({"path": other.path()})));
    let misbehaving = async {
        shop.call("bad", "echo", json!({"text": "ready"})).await.unwrap();
        shop.call("good", "echo", json!({"text": "ready"})).await.unwrap();
        let outcome = shop.call("bad", tool, arguments.clone()).await;
        let outcome = outcome.as_ref().map(String::as_str).map_err(ToolFault::code);
        assert_eq!(outcome, own, "{tool} {arguments}");
        if then == Then::GoesOn && tool != "hang" {
            gate.open().await;
        }
        other.open().await;
    };
    let (held, elsewhere, ()) = within(tool, async { tokio::join!(held, elsewhere, misbehaving) }).await;
    assert_eq!(said(elsewhere), Ok("released".to_owned()), "{tool}: another server");
    let held = said(held).map_err(|fault| fault.code());
    let expected = match (then, tool) {
        (Then::Ends, _) => Err("exited"),
        (Then::GoesOn, "hang") => Err("timeout"),
        (Then::GoesOn, _) => Ok("released".to_owned()),
    };
    assert_eq!(held, expected, "{tool}: another call of its server");
    if then == Then::Ends {
        shop.until("bad", "its end", |instance| instance.counters.ends == 1).await;
    }
    assert_eq!(shop.call("bad", "echo", json!({"text": "again"})).await, Ok("again".to_owned()), "{tool}: the next call");
    let starts = shop.instance("bad").unwrap().counters.starts;
    assert_eq!(starts, if then == Then::Ends { 2 } else { 1 }, "{tool}: processes");
}

#[tokio::test]
async fn a_tool_that_hangs_costs_its_own_call() {
    check("hang", json!({}), Err("timeout"), Then::GoesOn).await;
}

#[tokio::test]
async fn a_tool_that_dies_in_mid_call_is_told_at_once_and_started_again() {
    check("exit", json!({"code": 3}), Err("exited"), Then::Ends).await;
    check("abort", json!({}), Err("exited"), Then::Ends).await;
    check("answer_and_exit", json!({}), Ok("last words"), Then::Ends).await;
}

#[tokio::test]
async fn a_tool_that_writes_garbage_costs_nothing() {
    check("garbage", json!({}), Ok("after garbage"), Then::GoesOn).await;
    check("wrong_shape", json!({}), Err("protocol"), Then::GoesOn).await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_fails_its_own_call() {
    check("huge", json!({"bytes": MESSAGE, "id_first": true}), Err("result_too_large"), Then::GoesOn).await;
    check("huge", json!({"bytes": MESSAGE, "id_first": false}), Err("result_too_large"), Then::GoesOn).await;
    check("huge", json!({"bytes": 40 * MESSAGE, "id_first": true}), Err("result_too_large"), Then::GoesOn).await;
}

#[tokio::test]
async fn a_tool_that_floods_costs_nothing() {
    check("flood", json!({"where": "stderr", "lines": 3_000}), Ok("flooded"), Then::GoesOn).await;
    check("flood", json!({"where": "stdout", "lines": 3_000}), Ok("flooded"), Then::GoesOn).await;
    check("flood", json!({"where": "messages", "lines": 3_000}), Ok("flooded"), Then::GoesOn).await;
}

#[tokio::test]
async fn what_a_tool_floods_is_bounded_and_counted() {
    let shop = Shop::open(vec![small("tool")]);
    shop.call("tool", "flood", json!({"where": "stdout", "lines": 300})).await.unwrap();
    let degraded = shop.state("tool", State::Degraded).await;
    assert_eq!((degraded.counters.junk, degraded.reason.as_deref()), (300, Some("300 lines of its output were no MCP")));
    shop.call("tool", "flood", json!({"where": "stderr", "lines": 5_000})).await.unwrap();
    let kept = shop.tools.logs("tool", usize::MAX).unwrap();
    assert!(kept.len() < 1_000, "{}", kept.len());
}

#[tokio::test]
async fn a_line_without_end_is_given_up() {
    let shop =
        Shop::paced(vec![small("tool")], Pace { health_answer: Duration::from_millis(200), health: Duration::from_millis(200), ..PACE });
    assert_eq!(shop.call("tool", "endless", json!({})).await.map_err(|fault| fault.code()), Err("result_too_large"));
    shop.until("tool", "another process", |instance| instance.counters.starts > 1 && instance.state == State::Ready).await;
    assert_eq!(shop.call("tool", "echo", json!({"text": "again"})).await, Ok("again".to_owned()));
}

#[tokio::test]
async fn a_server_that_says_one_line_without_end_is_not_well_and_its_log_says_so() {
    let shop = Shop::open(vec![small("tool")]);
    assert_eq!(shop.call("tool", "endless", json!({})).await.map_err(|fault| fault.code()), Err("result_too_large"));
    let degraded = shop.state("tool", State::Degraded).await;
    assert_eq!(degraded.reason.as_deref(), Some("a line of its output is longer than a message may be, and has no end yet"));
    let logs = shop.tools.logs("tool", usize::MAX).unwrap();
    let said = logs.iter().filter(|line| line.text == "a line of its output is longer than a message may be, and is dropped");
    assert_eq!(said.count(), 1, "{logs:?}");
    // One that ends is over.
    let shop = Shop::open(vec![small("tool")]);
    let huge = shop.call("tool", "huge", json!({"bytes": MESSAGE, "id_first": false})).await;
    assert_eq!(huge.map_err(|fault| fault.code()), Err("result_too_large"));
    shop.state("tool", State::Ready).await;
}

#[tokio::test]
async fn a_long_result_is_cut_and_a_long_structure_refused() {
    let mut server = scripted("tool", &[]);
    server.bounds.result_bytes = 1_000;
    let shop = Shop::open(vec![server]);
    let cut = shop.call("tool", "huge", json!({"bytes": 5_000})).await.unwrap();
    let marked = "\n[… 4000 of 5000 bytes left out: result too large, 1000 are allowed …]\n";
    assert_eq!(cut, format!("{}{marked}{}", "a".repeat(750), "a".repeat(250)));
    let refused = shop.call("tool", "structured", json!({"bytes": 5_000})).await.unwrap();
    assert!(refused.starts_with("result too large: its structured content has 5011 bytes"), "{refused}");
}

#[tokio::test]
async fn arguments_that_are_too_long_are_not_sent() {
    let shop = Shop::open(vec![small("tool")]);
    let refused = shop.call("tool", "echo", json!({"text": "a".repeat(MESSAGE)})).await.unwrap_err();
    assert_eq!(refused, ToolFault::RequestTooLarge { server: "tool".to_owned(), limit: MESSAGE });
    assert!(refused.is_unsent());
    assert_eq!(shop.call("tool", "echo", json!({"text": "short"})).await, Ok("short".to_owned()));
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_ended_and_holds_up_nobody() {
    let mut server = scripted("tool", &[]);
    server.times.call = Duration::from_secs(15);
    let shop = Shop::paced(vec![server, scripted("good", &[])], Pace { unread: Duration::from_millis(300), ..PACE });
    shop.call("tool", "stop_reading", json!({})).await.unwrap();
    let long = "a".repeat(1 << 20);
    let read = shop.call("tool", "echo", json!({"text": "the last line that is read"}));
    let unread = shop.call("tool", "echo", json!({"text": long}));
    let elsewhere = async {
        let answer = shop.call("good", "echo", json!({"text": "here"})).await;
        assert_eq!(answer, Ok("here".to_owned()));
    };
    let (read, unread, ()) = tokio::join!(read, unread, elsewhere);
    let why = "it did not read its input for 0.3 s".to_owned();
    let stopped = Err(ToolFault::Stopped { server: "tool".to_owned(), why });
    assert_eq!((&read, &unread.map(|text| text.len().to_string())), (&stopped, &stopped));
    assert_eq!(shop.call("tool", "echo", json!({"text": "again"})).await, Ok("again".to_owned()));
}

#[tokio::test]
async fn a_server_has_64_questions_open_and_gets_no_answers_that_it_does_not_read() {
    let mut server = scripted("tool", &[]);
    server.may_ask.elicitation = true;
    let shop = Shop::open(vec![server]);
    // Nobody answers: the 65th is refused while 64 wait.
    let (to, asked) = mpsc::channel(100);
    let mut asking = call("tool", "ask_many", json!({"count": 65}));
    asking.call.asks = Some(to);
    let refused = said(within("the refusal", make(&shop.tools, asking)).await);
    assert_eq!(refused, Ok("2064: \"denied: 64 requests wait for their answers\"".to_owned()));
    drop(asked);

    let shop = Shop::open(vec![scripted("tool", &[])]);
    shop.call("tool", "ask_unread", json!({"count": 20_000})).await.unwrap();
    // What is read before this answer was there before it.
    shop.call("tool", "echo", json!({"text": "read"})).await.unwrap();
    let answers: u32 = shop.call("tool", "answers", json!({})).await.unwrap().parse().unwrap();
    assert!((64..5_000).contains(&answers), "{answers} of 20000 answers were kept for it");
    assert_eq!(shop.call("tool", "ask", json!({"method": "roots/list"})).await, Ok("denied: this client has no rootsnull".to_owned()));
}

#[tokio::test]
async fn a_server_that_closes_its_output_is_ended() {
    let (server, why) = ("tool".to_owned(), "it closed its output".to_owned());
    for (flags, fault) in [
        // Its input is closed, too, and most servers take that for the end.
        (&[][..], ToolFault::Exited { server: server.clone(), exit: Exit::Code(0), stderr: Vec::new() }),
        (&["--stubborn"], ToolFault::Stopped { server, why }),
    ] {
        let shop = Shop::open(vec![scripted("tool", flags)]);
        assert_eq!(shop.call("tool", "close_output", json!({})).await, Err(fault));
        assert_eq!(shop.call("tool", "echo", json!({"text": "again"})).await, Ok("again".to_owned()));
    }
}

#[tokio::test]
async fn a_server_that_hangs_as_a_whole_is_ended() {
    let mut server = scripted("tool", &[]);
    server.times.call = Duration::from_millis(300);
    let pace = Pace { health_answer: Duration::from_millis(200), ..PACE };
    let shop = Shop::paced(vec![server], pace);
    shop.call("tool", "stop_reading", json!({})).await.unwrap();
    let lost = shop.call("tool", "echo", json!({"text": "lost"})).await;
    assert_eq!(lost.map_err(|fault| fault.code()), Err("timeout"));
    let again = shop.until("tool", "another process", |instance| instance.counters.starts == 2).await;
    assert_eq!(again.counters.ends, 1);
    assert_eq!(shop.call("tool", "echo", json!({"text": "again"})).await, Ok("again".to_owned()));
}

#[tokio::test]
async fn what_a_tool_started_dies_with_it() {
    for arguments in [json!({"count": 3}), json!({"count": 3, "own_group": true}), json!({"count": 3, "own_group": true, "exit": true})] {
        let shop = Shop::open(vec![small("tool")]);
        let forked = shop.call("tool", "fork", arguments.clone()).await.unwrap();
        let pids: Vec<u32> = forked.split(' ').map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 3, "{arguments}");
        if arguments["exit"] == true {
            // They hold its pipes; its end is seen all the same.
            shop.until("tool", "its end", |instance| instance.counters.ends == 1).await;
        } else {
            assert!(pids.iter().all(|pid| lives(*pid)), "{arguments}");
            within("the stop", shop.tools.stop("tool", "a test")).await.unwrap();
        }
        dead(&pids).await;
    }
}
