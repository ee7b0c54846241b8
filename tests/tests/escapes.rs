//! A tool that wants out: each attempt of `src/escape.rs`, at each level, on this machine and on lesser ones. It is blocked, or what it reached
//! is a gap that the report names. Without confinement the same attempts succeed, so that they are known to be real.
//!
//! The table of attempts and levels is written to `target/tmp/escapes.txt`, and printed with `--nocapture`.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test may fail loudly, and prints its table")]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aex_proto::sandbox::Enforced;
use aex_tests::daemon::{Daemon, binary};
use aex_tests::escape::{self, Attempt, Free, SECRET, Targets, resources};
use aex_tests::provider::Provider;
use aex_tests::sandbox::{Ground, Machine};
use aexd::tools::sandbox::{Level, Network, Part, Plan, Report};
use aexd::tools::server::Resources;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// What each attempt has.
const RESOURCES: Resources = Resources {
    memory_bytes: Some(resources::MEMORY),
    cpu_seconds: Some(resources::CPU),
    processes: Some(resources::PROCESSES),
    open_files: Some(resources::OPEN),
    file_bytes: Some(resources::FILE),
};

/// All that there is to reach.
struct Street {
    _provider: Provider,
    daemon: Daemon,
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    _named: UnixListener,
    name: String,
    shared: i32,
    shm_file: PathBuf,
}

impl Street {
    fn open() -> Self {
        let provider = Provider::start();
        let daemon = Daemon::start(&provider);
        daemon.write_dotenv(&format!("OTHER={SECRET}\n"));
        let name = format!("aex-escapes-{}", std::process::id());
        let shm_file = PathBuf::from(format!("/dev/shm/{name}"));
        fs::write(&shm_file, SECRET).expect("write to /dev/shm");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        let answering = udp.try_clone().expect("its copy");
        // Ends with the test's process.
        drop(std::thread::spawn(
            move || while answering.recv_from(&mut [0; 8]).and_then(|(_, from)| answering.send_to(b"!", from)).is_ok() {},
        ));
        Self {
            daemon,
            _provider: provider,
            tcp: TcpListener::bind("127.0.0.1:0").expect("a listener"),
            tcp6: TcpListener::bind("[::1]:0").ok(),
            udp,
            _named: UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("an abstract socket"),
            name,
            shared: escape::segment().expect("shared memory"),
            shm_file,
        }
    }
}

impl Drop for Street {
    fn drop(&mut self) {
        fs::remove_file(&self.shm_file).ok();
        escape::remove_segment(self.shared).ok();
    }
}

/// A process that is attacked.
struct Victim(Child);

impl Victim {
    fn start() -> (Self, usize, i32) {
        let mut command = Command::new(binary("escape"));
        command.args(["victim", SECRET]).env("VICTIM", SECRET).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start the victim");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line of the victim");
        let (address, descriptor) = line.trim().split_once(' ').expect("two numbers");
        (Self(child), address.parse().expect("an address"), descriptor.parse().expect("a descriptor"))
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A home with what is attacked in it.
fn furnish(home: &Path) -> UnixListener {
    for (name, text) in [("secret", SECRET), (".bashrc", "true\n"), (".profile", "true\n"), ("doomed", "")] {
        fs::write(home.join(name), text).expect("a file of the home");
    }
    UnixListener::bind(home.join("unix")).expect("a socket")
}

/// One attempt at one level; its line, and what was reported.
fn attempt(street: &Street, ground: &Ground, level: Level, attempt: &Attempt) -> (String, Report) {
    let home = ground.folder("home-of-user");
    let _socket = furnish(&home);
    let (victim, address, descriptor) = Victim::start();
    // Its own folders lie among the daemon's files, as they do.
    let tools = street.daemon.home().join("tools");
    let (own, tmp) = (tools.join("own"), tools.join("tmp"));
    fs::remove_dir_all(&tools).ok();
    fs::create_dir_all(&own).expect("its own folder");
    fs::create_dir_all(&tmp).expect("its folder for temporary files");
    let program = binary("escape");
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let targets = Targets {
        home: home.clone(),
        aex_home: street.daemon.home(),
        socket: street.daemon.home().join("aexd.sock"),
        own: own.clone(),
        programs: program.parent().expect("a folder").to_owned(),
        tcp: port(&street.tcp),
        tcp6: street.tcp6.as_ref().map_or(0, port),
        udp: street.udp.local_addr().expect("an address").port(),
        proxy: street.daemon.url().rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).expect("the daemon's port"),
        name: street.name.clone(),
        victim: i32::try_from(victim.0.id()).expect("a process id"),
        address,
        descriptor,
        daemon: street.daemon.pid(),
        shared: street.shared,
        shm_file: street.shm_file.clone(),
    };
    let json = serde_json::to_string(&targets).expect("JSON");
    let mut plan: Plan = ground.plan(level, &[&program.display().to_string(), attempt.name, &json]);
    plan.cwd.clone_from(&own);
    plan.private = vec![own, tmp.clone()];
    plan.tmp = Some(tmp);
    plan.deny = vec![street.daemon.home()];
    plan.user_home = Some(home);
    plan.confinement.resources = RESOURCES;
    // A machine without a resolver answers soon.
    plan.env.push(("RES_OPTIONS".to_owned(), "timeout:1 attempts:1".to_owned()));
    // As a library of the daemon might leave it.
    let left = fs::File::open("/etc/passwd").expect("a file");
    fcntl(&left, FcntlArg::F_SETFD(FdFlag::empty())).expect("let children have it");
    let (report, said, status) = ground.run(&plan).unwrap_or_else(|failure| panic!("{}: {failure}", attempt.name));
    let line = said.lines().next().unwrap_or_default().to_owned();
    assert!(line.starts_with("REACHED") || line.starts_with("BLOCKED"), "{}: {said:?} {status:?}", attempt.name);
    (line, report)
}

/// A column of the table.
struct Column {
    title: &'static str,
    machine: Machine,
    level: Level,
    /// What is in force where this machine has all that the column needs.
    active: Level,
}

const COLUMNS: [Column; 6] = [
    Column { title: "none", machine: Machine::Own, level: Level::None, active: Level::None },
    Column { title: "standard", machine: Machine::Own, level: Level::Standard, active: Level::Standard },
    Column { title: "strict", machine: Machine::Own, level: Level::Strict, active: Level::Strict },
    Column { title: "standard, no namespaces", machine: Machine::WithoutNamespaces, level: Level::Standard, active: Level::Standard },
    Column { title: "strict, no namespaces", machine: Machine::WithoutNamespaces, level: Level::Strict, active: Level::Standard },
    Column { title: "strict, masked /proc", machine: Machine::MaskedProc, level: Level::Strict, active: Level::Standard },
];

/// What of one attempt is wrong at a level.
fn judge(column: &Column, attempt: &Attempt, line: &str, report: &Report) -> Result<&'static str, String> {
    let wrong = |why: &str| Err(format!("{} at `{}`: {line}: {why}", attempt.name, column.title));
    let reached = line.starts_with("REACHED");
    match (column.level, reached) {
        (Level::None, false) if attempt.free == Free::Reaches => wrong("without confinement it has to succeed, or it proves nothing"),
        (_, true) if attempt.free == Free::Never => wrong("this is closed at every level"),
        (Level::None, true) => Ok("reached"),
        (_, false) => Ok("blocked"),
        // Of strict only memory that is shared may be open: no limit of a process counts it.
        (Level::Strict, true) if report.active == Level::Strict && attempt.part != Part::Memory => wrong("`strict` is in force"),
        (_, true) if report.has_gap(attempt.part) => Ok("gap"),
        (_, true) => wrong("no gap of the report says so"),
    }
}

#[test]
fn every_attempt_is_blocked_or_a_gap_that_the_report_names() {
    let street = Street::open();
    let columns: Vec<(&Column, Ground)> = COLUMNS
        .iter()
        .filter(|column| {
            let can = column.machine.can_be_made();
            if !can {
                println!("{}: this machine gives no namespaces, so its own columns are those", column.title);
            }
            can
        })
        .map(|column| (column, Ground::on(column.machine)))
        .collect();
    let mut wrong = String::new();
    let mut rows = Vec::new();
    let mut heads: Vec<String> = Vec::new();
    for attempted in escape::attempts() {
        let mut cells = Vec::new();
        heads.clear();
        for (column, ground) in &columns {
            let (line, report) = attempt(&street, ground, column.level, attempted);
            if column.level > Level::None {
                assert!(report.landlock.status != Enforced::Not && report.seccomp, "Landlock and seccomp are the least: {report:?}");
            }
            heads.push(format!("{} → {}", column.title, report.active.name()));
            cells.push(judge(column, attempted, &line, &report).unwrap_or_else(|fault| {
                writeln!(wrong, "{fault}").expect("write to a string");
                "WRONG"
            }));
        }
        rows.push((attempted.name, cells));
    }
    let table = table(&heads, &rows);
    println!("{table}");
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("escapes.txt"), &table).expect("write the table");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(rows.len() >= 40, "{} attempts", rows.len());
}

fn table(heads: &[String], rows: &[(&str, Vec<&str>)]) -> String {
    let mut text = format!("| attempt (asked for → in force) | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for (name, cells) in rows {
        writeln!(text, "| {name} | {} |", cells.join(" | ")).expect("write to a string");
    }
    for (place, head) in heads.iter().enumerate() {
        let count = |word: &str| rows.iter().filter(|(_, cells)| cells.get(place) == Some(&word)).count();
        let (blocked, gaps, reached) = (count("blocked"), count("gap"), count("reached"));
        writeln!(text, "{}: {blocked} blocked, {gaps} reported gaps, {reached} reached", head).expect("write to a string");
    }
    text
}

#[test]
fn a_level_is_in_force_where_the_machine_gives_what_it_needs() {
    let strict = Ground::on(Machine::Own);
    let (report, _, _) = strict.run(&strict.plan(Level::Strict, &["true"])).expect("it runs");
    let namespaces = report.pidns;
    for column in COLUMNS.iter().filter(|column| namespaces && column.machine.can_be_made()) {
        let ground = Ground::on(column.machine);
        let (report, _, status) = ground.run(&ground.plan(column.level, &["true"])).expect("it runs");
        assert!(status.success(), "{}: {status:?}", column.title);
        assert_eq!((report.requested, report.active), (column.level, column.active), "{}: {report:#?}", column.title);
        let closed = column.level == Level::Strict;
        assert_eq!(report.network, if closed { Network::Closed } else { Network::Open }, "{}", column.title);
    }
}
