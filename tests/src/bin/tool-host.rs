//! A process that has a supervisor of tools, for tests that kill it: starts a server, has it fork, and tells the numbers of all processes.
//! With a second word it has a supervisor without servers, and tells the names of its threads.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "its one line of output is its interface")]

use aex_tests::tools::{AGENT, PACE, call, make, options, said, server};
use aexd::tools::supervisor::Tools;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let home = PathBuf::from(std::env::args().nth(1).expect("a home"));
    if std::env::args().nth(2).is_some() {
        let tools = Tools::new(options(home, PACE), Vec::new()).expect("the supervisor starts");
        let threads =
            std::fs::read_dir("/proc/self/task").unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path().join("comm")).unwrap());
        println!("{}", threads.map(|name| name.trim().to_owned()).collect::<Vec<_>>().join(" "));
        return drop(tools);
    }
    let tools = Tools::new(options(home, PACE), vec![server("forking", "scripted-tool", &[])]).expect("the supervisor starts");
    tools.list("forking", &AGENT).await.expect("the server starts");
    let arguments = json!({"count": 3, "own_group": true});
    let forked = said(make(&tools, call("forking", "fork", arguments)).await).expect("it forks");
    let pid = tools.status()[0].instances[0].pid.expect("a process");
    let mut output = std::io::stdout().lock();
    writeln!(output, "{pid} {forked}").unwrap();
    output.flush().unwrap();
    std::future::pending::<()>().await;
}
