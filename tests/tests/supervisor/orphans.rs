//! What is left when a daemon dies, and what must not be taken for it.

use aex_tests::daemon::binary;
use aex_tests::tools::{PACE, dead, lives, options};
use aexd::tools::supervisor::Tools;
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

fn host(home: &Path, more: &[&str]) -> (Child, String) {
    let mut command = Command::new(binary("tool-host"));
    let folder = binary("tool-host").parent().expect("its folder").to_owned();
    let mut host = command.arg(home).args(more).env("AEX_BIN_DIR", folder).stdout(Stdio::piped()).spawn().expect("the host starts");
    let mut line = String::new();
    BufReader::new(host.stdout.as_mut().expect("its output")).read_line(&mut line).expect("its line");
    (host, line.trim().to_owned())
}

#[tokio::test]
async fn a_daemon_that_is_killed_takes_its_servers_along_and_the_next_one_what_they_started() {
    let home = TempDir::new().unwrap();
    let (mut host, line) = host(home.path(), &[]);
    let pids: Vec<u32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let (server, forked) = pids.split_first().expect("processes");
    assert!(forked.len() == 3 && pids.iter().all(|pid| lives(*pid)), "{line}");
    host.kill().unwrap();
    host.wait().unwrap();
    dead(&[*server]).await;
    assert!(forked.iter().all(|pid| lives(*pid)), "without namespace and control group they live on");
    let tools = Tools::new(options(home.path().to_owned(), PACE), Vec::new()).unwrap();
    dead(forked).await;
    let mut found: Vec<u32> = tools.leftovers().iter().map(|leftover| leftover.pid).collect();
    found.sort_unstable();
    let mut expected = forked.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_number_that_is_another_process_by_now_is_left_alone() {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    let start = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().parse::<u64>().unwrap()
    };
    for (shift, of_boot, is_killed) in [(0, boot.as_str(), true), (1, boot.as_str(), false), (0, "another", false)] {
        let home = TempDir::new().unwrap();
        let mut other = Command::new("sleep").arg("100000").spawn().unwrap();
        let recorded = json!({"server": "tool", "pid": other.id(), "start": start(other.id()) + shift});
        let record = json!({"boot": of_boot, "mark": "nobody has it", "processes": [recorded]});
        std::fs::write(home.path().join("running.json"), record.to_string()).unwrap();
        let tools = Tools::new(options(home.path().to_owned(), PACE), Vec::new()).unwrap();
        assert_eq!(!lives(other.id()), is_killed, "start + {shift}, boot {of_boot}");
        assert_eq!(tools.leftovers().len(), usize::from(is_killed));
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[tokio::test]
async fn without_servers_there_is_no_thread_for_them() {
    let home = TempDir::new().unwrap();
    let (mut host, threads) = host(home.path(), &["empty"]);
    host.wait().unwrap();
    assert_eq!(threads, "tool-host");
}
