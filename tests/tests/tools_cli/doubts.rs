//! What is said of a server when it is written, and when the daemon starts: rather than by the first call that fails.

use std::fs;

use aex_tests::ledger::until;
use serde_json::json;

use super::{Bench, write};

/// Adds a server, and answers what is said of it.
#[track_caller]
fn said(bench: &Bench, name: &str, flags: &[&str], command: &[&str]) -> String {
    let words = [&["tools", "add", name], flags, &["--"], command].concat();
    bench.daemon.ctl(words).ok().stderr
}

#[test]
fn a_server_that_could_not_start_is_told_when_it_is_added_and_when_the_daemon_starts() {
    let mut bench = Bench::start(None, |config| config);
    let home = bench.daemon.home().display().to_string();
    let rows: [(&str, &[&str], &str); 5] = [
        ("all", &["--read", "/"], "it cannot start: granted: /: this can't be given to a confined process"),
        ("none", &["--write", "/no/such/folder"], "it cannot start: granted: /no/such/folder: No such file or directory"),
        ("own", &["--read", &home], "it cannot start: granted: "),
        ("wide", &["--cwd", "/etc"], "it cannot start: the working folder: /etc: "),
        ("fine", &["--read", "/etc"], ""),
    ];
    for (name, flags, wanted) in rows {
        let said = said(&bench, name, flags, &["true"]);
        assert!(said.contains(wanted) && (said.is_empty() == wanted.is_empty()), "{name}: {said}");
    }
    let log = bench.daemon.home().join("logs/aex.log");
    bench.daemon.stop();
    fs::remove_file(&log).expect("its log");
    bench.daemon.run();
    let told = until("what the log says of them", || {
        let log = fs::read_to_string(&log).unwrap_or_default();
        (log.matches("it cannot start: ").count() == 4).then_some(log)
    });
    assert!(told.contains("granted: /no/such/folder: No such file"), "{told}");
}

#[test]
fn a_path_that_a_server_is_given_and_cannot_read_is_told() {
    let bench = Bench::start(None, |config| config);
    let data = bench.daemon.scratch().join("data");
    fs::create_dir_all(&data).expect("a folder");
    let data = data.display().to_string();
    let command = ["sh", "-y", "server", &data, "/no/such/folder", "/usr/share"];
    let wanted = format!(
        "warning: fs: its argument `{data}` is not granted, so it cannot be read: sandbox.read or sandbox.write (--read, --write)\n"
    );
    assert_eq!(said(&bench, "fs", &[], &command), wanted);
    let root = format!("--root={data}");
    assert!(said(&bench, "flag", &[], &["true", &root]).contains(&data));
    for (name, flags) in
        [("reads", ["--read", &data]), ("writes", ["--write", &data]), ("there", ["--cwd", &data]), ("free", ["--sandbox", "none"])]
    {
        assert_eq!(said(&bench, name, &flags, &command), "", "{name}");
    }
}

#[test]
fn a_relative_script_is_told_where_nothing_is_at_its_place() {
    let bench = Bench::start(None, |config| config);
    let wanted = "`proj/srv.py` is looked for in a private folder, where it starts: give its absolute path, or a cwd";
    assert_eq!(said(&bench, "py", &[], &["python3", "proj/srv.py"]), format!("warning: py: {wanted}\n"));
    // The shell stands in a folder with one.
    fs::write(bench.daemon.scratch().join("srv.toml"), "").expect("a file");
    let here = said(&bench, "here", &[], &["true", "srv.toml"]);
    assert_eq!(here, "warning: here: `srv.toml` is in this folder, and it starts in a private one: give its absolute path, or --cwd .\n");
    fs::create_dir(bench.daemon.scratch().join("proj")).expect("a folder");
    assert_eq!(said(&bench, "cwd", &["--cwd", "proj"], &["true", "srv.toml"]), "");
    assert_eq!(said(&bench, "module", &[], &["python3", "-m", "http.server"]), "");

    let file = bench.daemon.scratch().join("claude_desktop_config.json");
    fs::write(&file, json!({"mcpServers": {"js": {"command": "node", "args": ["srv.js"]}}}).to_string()).expect("a file");
    let imported = bench.daemon.ctl(["tools", "import", &file.display().to_string()]).ok();
    assert!(imported.stderr.contains("js: `srv.js` is looked for in a private folder"), "{imported:?}");
}

#[test]
fn what_is_doubtful_keeps_nothing_out() {
    let bench = Bench::start(None, |config| config);
    write(&bench.daemon, "mcp.json", &json!({"mcpServers": {"odd": {"command": "true", "sandbox": {"read": ["/"]}}}}).to_string());
    bench.daemon.rpc("model.reload", &json!({}));
    assert_eq!(bench.server("odd")["state"], "stopped");
}
