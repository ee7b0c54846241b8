//! A confined tool that behaves: programs run at each level with what they need, what is granted is there, what ends ends whole.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "sandbox/restarts.rs"]
mod restarts;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use aex_tests::daemon::binary;
use aex_tests::sandbox::{Ground, Input, Machine, until_end};
use aexd::tools::sandbox::{Failure, Level, Network, Part, Plan};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const LEVELS: [Level; 3] = [Level::None, Level::Standard, Level::Strict];
const MACHINES: [Machine; 3] = [Machine::Own, Machine::WithoutNamespaces, Machine::MaskedProc];

fn python(code: &str) -> [&str; 3] {
    ["python3", "-c", code]
}

/// What a plan's program says, when it ends well.
#[track_caller]
fn said(ground: &Ground, plan: &Plan) -> String {
    let (report, said, status) = ground.run(plan).unwrap_or_else(|failure| panic!("{plan:?}: {failure}"));
    assert!(status.success(), "{plan:?}: {status:?}: {said}\n{report:#?}");
    said.trim().to_owned()
}

/// Each machine that can be made here, at each level.
fn everywhere(check: impl Fn(&Ground, Level, Machine)) {
    for machine in MACHINES.into_iter().filter(|machine| machine.can_be_made()) {
        let ground = Ground::on(machine);
        LEVELS.into_iter().for_each(|level| check(&ground, level, machine));
    }
}

#[test]
fn python_runs_at_each_level() {
    let code = "
import asyncio, json, os, pathlib, socket, ssl, subprocess, tempfile, threading, time
for folder in (os.environ['HOME'], os.environ['TMPDIR'], os.getcwd(), tempfile.gettempdir()):
    path = pathlib.Path(folder, 'made'); path.write_text('x'); assert path.read_text() == 'x'; path.unlink()
ran = threading.Thread(target=lambda: None); ran.start(); ran.join()
assert subprocess.run(['sh', '-c', 'echo sub'], capture_output=True, text=True).stdout == 'sub\\n'
async def main():
    done = await asyncio.create_subprocess_exec('true'); return await done.wait()
assert asyncio.run(main()) == 0
left, right = socket.socketpair(); left.send(b'x'); assert right.recv(1) == b'x'
assert os.urandom(4) and time.localtime() and open('/dev/null', 'w').write('x')
ssl.create_default_context()
print(json.dumps({'status': 'ok', 'pid': os.getpid() > 0, 'name': os.path.basename(os.readlink('/proc/self/exe'))[:6]}))
";
    everywhere(|ground, level, machine| {
        let told = said(ground, &ground.plan(level, &python(code)));
        assert_eq!(told, r#"{"status": "ok", "pid": true, "name": "python"}"#, "{machine:?} {level:?}");
    });
}

#[test]
fn node_runs_at_each_level() {
    let code = "
const fs = require('fs'), os = require('os'), path = require('path');
for (const folder of [os.homedir(), os.tmpdir(), process.cwd()]) { fs.writeFileSync(path.join(folder, 'made'), 'x'); fs.unlinkSync(path.join(folder, 'made')); }
const { execFileSync, fork } = require('child_process');
const { Worker } = require('worker_threads');
if (execFileSync('sh', ['-c', 'echo sub']).toString() !== 'sub\\n') throw new Error('sub');
new WebAssembly.Memory({ initial: 1, maximum: 65536 });
new Worker('', { eval: true }).on('exit', code => console.log('ok', code, process.memoryUsage().rss > 0, os.cpus().length > 0));
";
    everywhere(|ground, level, machine| {
        assert_eq!(said(ground, &ground.plan(level, &["node", "-e", code])), "ok 0 true true", "{machine:?} {level:?}");
    });
}

#[test]
fn at_standard_a_program_has_the_network_and_at_strict_only_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").expect("an answer");
        stream.read_to_end(&mut Vec::new()).ok();
    });
    // WebAssembly parses HTTP in node's fetch, and reserves more memory than it is given.
    let fetch = format!(
        "fetch('http://127.0.0.1:{port}/').then(r => r.text()).then(t => console.log(t, Object.keys(require('os').networkInterfaces()).length > 0))"
    );
    let ground = Ground::on(Machine::Own);
    assert_eq!(said(&ground, &ground.plan(Level::Standard, &["node", "-e", &fetch])), "hi true");
    answers.join().expect("the server's end");
    let alone = "
import socket
with socket.create_server(('127.0.0.1', 0)) as server:
    with socket.create_connection(server.getsockname()) as client:
        print('its own')
";
    let plan = ground.plan(Level::Strict, &python(alone));
    let (report, said, _) = ground.run(&plan).expect("it runs");
    assert_eq!(said.trim() == "its own", report.netns, "{report:#?}");
}

#[test]
fn hosts_are_held_by_port_and_the_level_says_so() {
    let ground = Ground::on(Machine::Own);
    let (granted, other) = (TcpListener::bind("127.0.0.1:0").expect("a listener"), TcpListener::bind("127.0.0.1:0").expect("a listener"));
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let code = format!(
        "
import socket
def tried(attempt):
    try: attempt(); return 'reached'
    except OSError: return 'blocked'
def fast(port):
    with socket.socket() as s: s.sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', port))
def multipath(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as s: s.connect(('127.0.0.1', port))
def serve():
    with socket.create_server(('127.0.0.1', 0)): pass
print(tried(lambda: socket.create_connection(('127.0.0.1', {}))), *(tried(attempt) for attempt in
    (lambda: socket.create_connection(('127.0.0.1', {1})), lambda: fast({1}), lambda: multipath({1}), serve)))
",
        port(&granted),
        port(&other)
    );
    let mut plan = ground.plan(Level::Strict, &python(&code));
    plan.confinement.hosts = vec![format!("127.0.0.1:{}", port(&granted))];
    let (report, said, _) = ground.run(&plan).expect("it runs");
    assert_eq!(said.trim(), "reached blocked blocked blocked blocked");
    assert_eq!((report.active, report.network, report.netns), (Level::Standard, Network::Ports, false), "{report:#?}");
    assert!(report.has_gap(Part::Network), "{report:#?}");
}

#[test]
fn what_is_required_is_in_force_or_nothing_runs() {
    let ground = Ground::on(Machine::Own);
    let mut plan = ground.plan(Level::Strict, &["sh", "-c", "touch ran"]);
    plan.confinement.hosts = vec!["example.com".to_owned()];
    plan.confinement.require = Some(Level::Strict);
    let failure = ground.run(&plan).expect_err("hosts cannot be held");
    let Failure::Below(report) = &failure else { panic!("{failure:?}") };
    assert_eq!(report.active, Level::Standard);
    assert!(failure.to_string().contains("example.com"), "{failure}");
    assert!(!plan.cwd.join("ran").exists());

    plan.confinement.hosts.clear();
    plan.confinement.level = Level::None;
    assert!(matches!(ground.run(&plan), Err(Failure::Below(_))));
    assert!(!plan.cwd.join("ran").exists());
}

#[test]
fn without_confinement_the_report_says_none() {
    let ground = Ground::on(Machine::Own);
    let (report, _, _) = ground.run(&ground.plan(Level::None, &["true"])).expect("it runs");
    assert_eq!((report.requested, report.active, report.network), (Level::None, Level::None, Network::Open));
    assert!(!(report.seccomp || report.pidns || report.netns || report.mountns || report.ipcns));
}

#[test]
fn grants_are_there_and_nothing_beside_them() {
    everywhere(|ground, level, machine| {
        if level == Level::None {
            return;
        }
        let data = ground.folder("data");
        for folder in ["read/below", "write", "secret"] {
            fs::create_dir_all(data.join(folder)).expect("a folder");
            fs::write(data.join(folder).join("file"), folder).expect("a file");
        }
        symlink(data.join("read"), data.join("link")).expect("a link");
        let code = format!(
            "
import os
os.chdir('{}')
def tried(attempt):
    try: return attempt()
    except OSError: return 'no'
print(tried(lambda: open('read/below/file').read()), tried(lambda: open('link/below/file').read()), tried(lambda: open('secret/file').read()),
      tried(lambda: open('write/file', 'w').write('new')), tried(lambda: open('read/below/file', 'w').write('new')),
      tried(lambda: os.rename('write/file', 'write/moved')), tried(lambda: os.listdir('read')))
",
            data.display()
        );
        let mut plan = ground.plan(level, &python(&code));
        // A folder that is granted by the name of a link to it.
        plan.confinement.read = vec![data.join("link"), data.join("read")];
        plan.confinement.write = vec![data.join("write")];
        plan.cwd = data.join("read");
        assert_eq!(said(ground, &plan), "read/below read/below no 3 no None ['below']", "{machine:?} {level:?}");
        assert_eq!(fs::read_to_string(data.join("write/moved")).expect("what it wrote"), "new");
    });
}

#[test]
fn no_grant_gives_the_daemons_own_files() {
    everywhere(|ground, level, machine| {
        let home = ground.folder("user");
        let daemon = home.join("aex");
        fs::create_dir_all(daemon.join("private/box")).expect("a folder");
        fs::write(daemon.join("ledger.db"), "money").expect("a file");
        fs::write(home.join("notes"), "notes").expect("a file");
        let code = format!(
            "
import os
home = '{}'
daemon = '{}'
def tried(attempt):
    try: return attempt()
    except OSError: return 'no'
print(tried(lambda: open(home + '/notes').read()), tried(lambda: open(daemon + '/ledger.db').read()), tried(lambda: os.listdir(daemon)),
      tried(lambda: open(daemon + '/new', 'w').write('x')), tried(lambda: open(daemon + '/private/box/file', 'w').write('x')))
",
            home.display(),
            daemon.display()
        );
        let mut plan = ground.plan(level, &python(&code));
        plan.deny = vec![daemon.clone()];
        plan.private.push(daemon.join("private/box"));
        plan.confinement.write = vec![home.clone()];
        match (level, machine) {
            (Level::None, _) => {}
            (_, Machine::WithoutNamespaces) => {
                let failure = ground.run(&plan).expect_err("they cannot be hidden");
                assert!(failure.to_string().contains("cannot be hidden"), "{failure}");
            }
            _ => assert_eq!(said(ground, &plan), "notes no ['private'] no 1", "{machine:?} {level:?}"),
        }
        if level > Level::None {
            plan.confinement.write = vec![daemon.join("private")];
            let failure = ground.run(&plan).expect_err("a grant of the daemon's files");
            assert!(failure.to_string().contains("the daemon's own files"), "{failure}");
            for folder in ["/", "/proc", "/proc/1"] {
                plan.confinement.write = vec![folder.into()];
                let failure = ground.run(&plan).expect_err("a grant of the whole machine");
                assert!(failure.to_string().contains(folder), "{failure}");
            }
        }
    });
}

#[test]
fn a_program_of_the_user_can_read_what_it_needs() {
    let ground = Ground::on(Machine::Own);
    let user = ground.folder("user");
    let make = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a program");
    };
    // A virtual environment, a project of node, a prefix with a link to it, a script beside its data.
    let venv = user.join("app/.venv");
    Command::new("/usr/bin/python3").args(["-m", "venv", "--without-pip"]).arg(&venv).status().expect("a virtual environment");
    make(&venv.join("lib/note.py"), "print('never')");
    make(&venv.join("bin/tool"), &format!("#!{}\nimport sys\nprint(sys.prefix)\n", venv.join("bin/python").display()));
    let project = user.join("site");
    make(&project.join("dist/index.js"), "console.log(require('dependency'))");
    make(&project.join("node_modules/dependency/index.js"), "module.exports = 'dependency'");
    make(&project.join("package.json"), "{}");
    make(&project.join("node_modules/dependency/cli.js"), "#!/usr/bin/env node\nconsole.log('cli', require('dependency'))");
    make(&user.join("prefix/lib/words"), "words");
    make(&user.join("prefix/bin/say"), "#!/bin/sh\ncat \"$(dirname \"$(readlink -f \"$0\")\")/../lib/words\"");
    make(&user.join("bin/.keep"), "");
    symlink(project.join("node_modules/dependency/cli.js"), user.join("bin/cli")).expect("a link");
    symlink("../prefix/bin/say", user.join("bin/say")).expect("a link");
    make(&user.join("alone/run"), "#!/bin/sh\ncat \"$(dirname \"$0\")/data\"");
    make(&user.join("alone/data"), "data");
    make(&user.join("wide"), "#!/bin/sh\nls \"$(dirname \"$0\")\" || echo nothing else");
    make(&user.join("key"), "secret");

    let path = |path: &str| user.join(path).display().to_string();
    let rows: [(Vec<String>, String); 7] = [
        (vec![path("app/.venv/bin/tool")], venv.display().to_string()),
        (vec![path("app/.venv/bin/python"), "-c".to_owned(), "import json; print('python')".to_owned()], "python".to_owned()),
        (vec!["node".to_owned(), path("site/dist/index.js")], "dependency".to_owned()),
        (vec![path("bin/cli")], "cli dependency".to_owned()),
        (vec![path("bin/say")], "words".to_owned()),
        (vec![path("alone/run")], "data".to_owned()),
        // Nothing of a home is readable because a program lies in it.
        (vec![path("wide")], "wide".to_owned()),
    ];
    for level in [Level::Standard, Level::Strict] {
        for (command, wanted) in &rows {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let mut plan = ground.plan(level, &words);
            plan.user_home = Some(user.clone());
            assert_eq!(&said(&ground, &plan), wanted, "{level:?} {command:?}");
        }
    }
}

#[test]
fn a_program_that_cannot_run_is_told_apart() {
    let ground = Ground::on(Machine::Own);
    let plain = ground.dir.path().join("plain");
    fs::write(&plain, "no program").expect("a file");
    for level in LEVELS {
        for (command, code) in [("no-such-program", 127), ("/no/such/program", 127), (&*plain.display().to_string(), 126)] {
            let failure = ground.run(&ground.plan(level, &[command])).expect_err("no program");
            let Failure::Failed { code: told, what } = failure else { panic!("{failure:?}") };
            assert_eq!((told, what.contains(command)), (code, true), "{level:?} {command}: {what}");
        }
    }
}

#[test]
fn a_stage_ends_as_its_program_does() {
    everywhere(|ground, level, machine| {
        let rows =
            [("exit 0", Some(0), None), ("exit 7", Some(7), None), ("kill -TERM $$", None, Some(15)), ("kill -SEGV $$", None, Some(11))];
        for (words, code, signal) in rows {
            let (_, _, status) = ground.run(&ground.plan(level, &["sh", "-c", words])).expect("it runs");
            assert_eq!((status.code(), status.signal()), (code, signal), "{machine:?} {level:?} {words}");
        }
    });
}

#[test]
fn a_signal_to_the_stages_group_reaches_the_program_and_its_children() {
    everywhere(|ground, level, machine| {
        let words =
            "trap 'echo parent; exit 3' TERM; sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do read line; done' & wait; wait";
        let mut running = ground.start(&ground.plan(level, &["bash", "-c", words]), Input::Pipe).expect("it runs");
        let mut ready = [0; 6];
        running.out.read_exact(&mut ready).expect("its first word");
        assert_eq!(&ready, b"ready\n");
        let group = Pid::from_raw(-i32::try_from(running.child.id()).expect("a process id"));
        kill(group, Signal::SIGTERM).expect("a signal to the group");
        let (said, status) = running.end();
        assert!(said.contains("parent"), "{machine:?} {level:?}: {said}");
        assert_eq!(status.code(), Some(3), "{machine:?} {level:?}");
    });
}

#[test]
fn the_end_of_a_programs_output_shows_while_it_lives() {
    everywhere(|ground, level, machine| {
        let code = "import os, sys; os.write(1, b'last'); os.close(1); os.close(2); sys.stdin.read()";
        let mut running = ground.start(&ground.plan(level, &python(code)), Input::Pipe).expect("it runs");
        assert_eq!(until_end(&mut running.out), "last", "{machine:?} {level:?}");
        assert!(running.child.try_wait().expect("its state").is_none(), "{machine:?} {level:?}");
        assert!(running.end().1.success());
    });
}

#[test]
fn all_that_a_program_started_dies_with_the_daemon() {
    // Each of them holds the output: it ends with the last one.
    let words = "
import os, sys
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(1, b'+')
            os.read(os.pipe()[0], 1)
        os._exit(0)
os.read(os.pipe()[0], 1)
";
    let ground = Ground::on(Machine::Own);
    for level in [Level::Standard, Level::Strict] {
        let plan = ground.plan(level, &python(words));
        let mut command = Command::new(binary("keeper"));
        command.arg(binary("aexd")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut keeper = command.spawn().expect("start the keeper");
        serde_json::to_writer(keeper.stdin.take().expect("a pipe"), &plan).expect("the plan");
        let mut out = keeper.stdout.take().expect("a pipe");
        let mut started = [0; 3];
        out.read_exact(&mut started).expect("three processes");
        keeper.kill().expect("kill -9");
        keeper.wait().expect("its end");
        let mut report = String::new();
        keeper.stderr.take().expect("a pipe").read_to_string(&mut report).expect("a report");
        let report: aexd::tools::sandbox::Report = serde_json::from_str(&report).expect("a report");
        if report.pidns {
            assert_eq!(until_end(&mut out), "", "{level:?}");
        } else {
            assert!(report.has_gap(Part::Lifetime), "{report:#?}");
        }
    }
}

#[test]
fn a_program_may_start_processes_one_after_another_without_end() {
    let code = "
import os
for _ in range(1500):
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
print('done')
";
    let ground = Ground::on(Machine::Own);
    let mut plan = ground.plan(Level::Strict, &python(code));
    plan.confinement.resources.processes = Some(8);
    assert_eq!(said(&ground, &plan), "done");
}

#[test]
fn a_program_gets_terminals_of_its_own() {
    let code = "
import os, pty
pid, fd = pty.fork()
if pid == 0:
    os.execlp('sh', 'sh', '-c', 'test -t 0 && echo terminal')
print(os.read(fd, 64).decode().strip())
";
    let ground = Ground::on(Machine::Own);
    let plan = ground.plan(Level::Strict, &python(code));
    let (report, said, _) = ground.run(&plan).expect("it runs");
    assert_eq!(said.trim() == "terminal", report.mountns, "{report:#?}");
}
