//! What is spoken with a server.

use aex_tests::daemon::PATIENCE;
use aex_tests::tools::{AGENT, Gate, Shop, call, said, scripted, secret, server, text, within};
use aexd::tools::fault::ToolFault;
use aexd::tools::sandbox::Level;
use aexd::tools::server::{EnvPart, EnvValue, MayAsk};
use aexd::tools::supervisor::{Ask, AskReply, State, Stream};
use rmcp::model::{
    ClientRequest, ElicitResult, ElicitationAction, PingRequest, ReadResourceRequest, ReadResourceRequestParams, ServerResult,
};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;

#[tokio::test]
async fn the_demo_tool_is_started_by_its_first_call_and_adds() {
    let shop = Shop::open(vec![server("mock", "mock_tool", &[])]);
    assert_eq!(shop.instance("mock"), None, "nothing is started before it is needed");
    assert_eq!(shop.call("mock", "calculate_sum", json!({"a": 2, "b": 3})).await, Ok("The sum is 5".to_owned()));
    let listing = within("the list", shop.tools.list("mock", &AGENT)).await.unwrap();
    assert_eq!(listing.tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["calculate_sum"]);
    let refused = shop.call("mock", "delete_system32", json!({})).await;
    assert!(matches!(refused, Err(ToolFault::Refused { code: -32601, .. })), "{refused:?}");
    let ready = shop.state("mock", State::Ready).await;
    assert_eq!((ready.protocol.as_deref(), ready.implementation.as_deref()), (Some("2024-11-05"), Some("MockTool 1.0")));
    assert_eq!(ready.confinement.map(|report| report.requested), Some(Level::None));
    within("the end", shop.tools.shutdown()).await;
}

#[tokio::test]
async fn each_revision_is_spoken() {
    async fn check(flags: &[&str], protocol: &str) {
        let shop = Shop::open(vec![scripted("tool", flags)]);
        assert_eq!(shop.call("tool", "echo", json!({"text": "hello"})).await, Ok("hello".to_owned()), "{flags:?}");
        let ready = shop.state("tool", State::Ready).await;
        assert_eq!(ready.protocol.as_deref(), Some(protocol), "{flags:?}");
        let answer = shop.call("tool", "echo", json!({"text": "again"})).await;
        assert_eq!(answer, Ok("again".to_owned()), "{flags:?}");
    }
    for revision in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"] {
        check(&["--revision", revision], revision).await;
    }
    check(&["--revision", "2025-03-26", "--odd"], "2025-03-26").await;
    check(&["--revision", "2024-11-05", "--silent"], "2024-11-05").await;
}

#[tokio::test]
async fn a_server_that_dies_of_the_probe_is_asked_without_it() {
    let shop = Shop::open(vec![scripted("tool", &["--revision", "2024-11-05", "--dies-of-probe"])]);
    let first = shop.call("tool", "echo", json!({"text": "hello"})).await;
    assert!(matches!(&first, Err(ToolFault::NotStarted { reason, .. }) if reason == "it exited (code 3) before it was ready"), "{first:?}");
    assert_eq!(shop.call("tool", "echo", json!({"text": "hello"})).await, Ok("hello".to_owned()));
}

#[tokio::test]
async fn a_revision_that_nobody_knows_is_refused() {
    let shop = Shop::open(vec![scripted("tool", &["--revision", "2023-01-01"])]);
    let refused = shop.call("tool", "echo", json!({})).await.unwrap_err().to_string();
    assert!(refused.contains("it speaks revision `2023-01-01`, which is not known here"), "{refused}");
}

#[tokio::test]
async fn all_pages_are_listed_in_order_and_a_bad_tool_stands_apart() {
    let shop = Shop::open(vec![scripted("tool", &["--bad-tool"])]);
    let listing = within("the list", shop.tools.list("tool", &AGENT)).await.unwrap();
    assert_eq!(listing.tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["do", "echo", "hang"]);
    let apart: Vec<_> = listing.quarantined.iter().map(|one| (one.name.as_str(), one.reason.as_str())).collect();
    assert_eq!(apart, [("bad", "its `inputSchema` is no object")]);
    assert_eq!((listing.instructions.as_deref(), listing.has_resources), (Some("Do as you are told."), true));
}

#[tokio::test]
async fn a_changed_list_is_read_again() {
    for revision in ["2025-11-25", "2026-07-28"] {
        let shop = Shop::open(vec![scripted("tool", &["--revision", revision])]);
        let mut changed = shop.tools.changed();
        within("the list", shop.tools.list("tool", &AGENT)).await.unwrap();
        // A server of the newest revision tells only who listens by then; it is told again until it does.
        let mut number = 0;
        let has_new = |names: &[String]| names.iter().any(|name| name.starts_with("new"));
        let wait = async {
            loop {
                number += 1;
                shop.call("tool", "add", json!({"tool": format!("new{number}")})).await.unwrap();
                let again = tokio::time::timeout(Duration::from_millis(500), changed.changed()).await;
                let listing = shop.tools.list("tool", &AGENT).await.unwrap();
                let names: Vec<String> = listing.tools.iter().map(|tool| tool.name.to_string()).collect();
                if again.is_ok() && has_new(&names) {
                    return;
                }
            }
        };
        within(revision, wait).await;
    }
}

#[tokio::test]
async fn progress_comes_before_the_answer_and_prolongs_the_call() {
    let mut server = scripted("tool", &[]);
    server.times.call = Duration::from_millis(400);
    server.times.call_total = Duration::from_millis(800);
    let shop = Shop::open(vec![server]);
    let (to, mut told) = mpsc::channel(16);
    let mut progressing = call("tool", "progress", json!({"steps": 3}));
    progressing.call.progress = Some(to);
    assert_eq!(said(within("the call", shop.make(progressing)).await), Ok("done".to_owned()));
    let steps: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).map(|step| (step.progress, step.total, step.message)).collect();
    let step = |number: f64, text: &str| (number, Some(3.0), Some(text.to_owned()));
    assert_eq!(steps, [step(1.0, "step 1"), step(2.0, "step 2"), step(3.0, "step 3")]);
    let slow = shop.call("tool", "hang", json!({})).await;
    let limit = Duration::from_millis(400);
    assert_eq!(slow, Err(ToolFault::TimedOut { server: "tool".to_owned(), limit, in_all: false }));
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled_at_the_server() {
    let shop = Shop::open(vec![scripted("tool", &[])]);
    let gate = Gate::new();
    let hanging = shop.make(call("tool", "hang", json!({"ready": gate.path()})));
    tokio::select! {
        outcome = hanging => panic!("it hangs: {outcome:?}"),
        told = gate.passed() => assert_eq!(told, "ready\n"),
    }
    let cancelled = async { while shop.call("tool", "cancelled", json!({})).await.as_deref() != Ok("1") {} };
    within("the cancellation", cancelled).await;
    assert_eq!(shop.call("tool", "late", json!({})).await, Ok("told".to_owned()));
    shop.until("tool", "a late answer", |instance| instance.counters.late == 1).await;
    assert_eq!(shop.call("tool", "echo", json!({"text": "still here"})).await, Ok("still here".to_owned()));
}

#[tokio::test]
async fn questions_of_a_server_are_denied_unless_it_may_ask() {
    let shop = Shop::open(vec![scripted("tool", &[])]);
    for (method, denied) in [
        ("sampling/createMessage", "denied: the configuration of this server does not allow it to ask"),
        ("elicitation/create", "denied: the configuration of this server does not allow it to ask"),
        ("roots/list", "denied: this client has no roots"),
    ] {
        let answer = shop.call("tool", "ask", json!({"method": method})).await;
        assert_eq!(answer, Ok(format!("{denied}null")), "{method}");
    }

    let mut server = scripted("tool", &[]);
    server.may_ask = MayAsk { sampling: false, elicitation: true };
    let shop = Shop::open(vec![server]);
    let unheard = shop.call("tool", "ask", json!({"method": "elicitation/create"})).await;
    assert_eq!(unheard, Ok("denied: there is no single caller that could be askednull".to_owned()));
    let (to, mut asked) = mpsc::channel(1);
    let mut asking = call("tool", "ask", json!({"method": "elicitation/create"}));
    asking.call.asks = Some(to);
    let person = async {
        let question = asked.recv().await.unwrap();
        assert!(matches!(question.ask, Ask::Elicitation(_)), "{:?}", question.ask);
        let result = ElicitResult::new(ElicitationAction::Decline);
        question.reply.send(Ok(AskReply::Elicitation(Box::new(result)))).unwrap();
    };
    let (answer, ()) = within("the question", async { tokio::join!(shop.make(asking), person) }).await;
    assert_eq!(said(answer), Ok(r#"{"action":"decline"}"#.to_owned()));
}

#[tokio::test]
async fn resources_pass_and_other_methods_do_not() {
    let shop = Shop::open(vec![scripted("tool", &[])]);
    let request = async |request| shop.tools.enter("tool", &AGENT).await?.request(request, None).await;
    let read = ClientRequest::ReadResourceRequest(ReadResourceRequest::new(ReadResourceRequestParams::new("file:///a")));
    let answer = within("the resource", request(read)).await.unwrap();
    assert!(matches!(&answer, ServerResult::ReadResourceResult(_)), "{answer:?}");
    let ping = ClientRequest::PingRequest(PingRequest { method: Default::default(), extensions: Default::default() });
    let refused = within("the refusal", request(ping)).await;
    assert!(matches!(refused, Err(ToolFault::Refused { code: -32601, .. })), "{refused:?}");
    let unknown = within("the refusal", shop.tools.list("nobody", &AGENT)).await;
    assert_eq!(unknown, Err(ToolFault::Unknown { server: "nobody".to_owned() }));
}

#[tokio::test]
async fn a_server_has_its_own_environment_and_its_log_no_secret() {
    let mut server = scripted("tool", &["--say", "my key is sk-canary-1"]);
    server.env.insert("KEY".to_owned(), secret("sk-canary-1"));
    server.env.insert("LANG".to_owned(), text("C"));
    let shop = Shop::open(vec![server]);
    let mut followed = shop.tools.follow();
    let env = shop.call("tool", "env", json!({})).await.unwrap();
    let names: Vec<&str> = env.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert_eq!(names, ["AEX_TOOL", "HOME", "KEY", "LANG", "PATH", "TMPDIR"]);
    assert!(env.lines().any(|line| line == "KEY=sk-canary-1"), "{env}");
    shop.call("tool", "say", json!({"text": "\u{1b}[31msk-canary-1\u{1b}[0m"})).await.unwrap();
    let heard = async {
        loop {
            let line = followed.recv().await.unwrap();
            if line.stream == Stream::Stderr && line.text == "***" {
                return line;
            }
        }
    };
    let line = within("the line", heard).await;
    assert_eq!((&*line.server, line.pid), ("tool", shop.pid("tool")));
    assert_eq!(shop.instance("tool").unwrap().stderr, ["my key is ***", "***"]);
    let file = std::fs::read_to_string(shop.options.logs.join("tool.log")).unwrap();
    assert!(file.contains("my key is ***") && !file.contains("sk-canary-1"), "{file}");
    assert!(PATIENCE > Duration::ZERO);
}

#[tokio::test]
async fn what_a_server_says_in_errors_is_one_line_without_secrets() {
    let says = |flags: &[&str]| {
        let mut server = scripted("tool", flags);
        let parts = ["\u{1b}[31mbad\ntoken ", "sk-canary-1", " \u{1b}]0;title\u{7}\u{202e}"].map(|part| EnvPart::Text(part.to_owned()));
        let [before, _, after] = parts;
        server.env.insert("SAYS".to_owned(), EnvValue(vec![before, EnvPart::Env("sk-canary-1".to_owned()), after]));
        Shop::open(vec![server])
    };
    for (method, at) in [("initialize", "it refused to begin: "), ("tools/list", "refused the request: ")] {
        let shop = says(&["--refuse", method]);
        let fault = shop.call("tool", "echo", json!({})).await.unwrap_err().to_string();
        let words = format!("{at}bad token *** (-32000)");
        assert!(fault.contains(&words) && !fault.contains(char::is_control), "{method}: {fault:?}");
        let reason = shop.until("tool", "its reason", |instance| instance.reason.is_some()).await.reason.unwrap();
        assert!(reason.ends_with(&words), "{method}: {reason:?}");
        let logs = shop.tools.logs("tool", usize::MAX).unwrap();
        assert!(logs.iter().any(|line| line.text.starts_with("killed: ") && line.text.ends_with(&words)), "{method}: {logs:?}");
        let file = std::fs::read_to_string(shop.options.logs.join("tool.log")).unwrap();
        assert!(!file.contains("sk-canary-1") && !file.contains(|letter: char| letter != '\n' && letter.is_control()), "{file:?}");
    }
    let shop = says(&["--refuse", "resources/read"]);
    assert_eq!(
        shop.call("tool", "echo", json!({"text": "sk-canary-1\n"})).await,
        Ok("sk-canary-1\n".to_owned()),
        "a result is the agent's"
    );
    assert_eq!(shop.state("tool", State::Ready).await.implementation.as_deref(), Some("bad token *** 1"));
    let read = ClientRequest::ReadResourceRequest(ReadResourceRequest::new(ReadResourceRequestParams::new("file:///a")));
    let entry = within("the turn", shop.tools.enter("tool", &AGENT)).await.unwrap();
    let refused = within("the refusal", entry.request(read, None)).await.unwrap_err();
    let ToolFault::Refused { message, detail, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(message, "bad token ***");
    assert!(!detail.unwrap().to_string().contains("canary"));
}
