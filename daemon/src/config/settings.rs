//! aexd.yaml: the daemon's own settings, each with the place that it came from. All are optional.

use super::report::{Field, Problem, Report, Section, Unknown, number};
use aex_core::hold::Durability;
use jiff::tz::TimeZone;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tracing::Level;

const MIB: u64 = 1 << 20;
const MAX_WORKERS: u64 = 64;

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The effective value.
    pub value: T,
    /// Its source.
    pub source: Source,
}

/// Where a setting came from; a later one wins over an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Built in.
    Default,
    /// A line of aexd.yaml.
    File(u64),
    /// A variable of the environment.
    Environment(&'static str),
    /// A variable of .env.
    DotEnv(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(line) => write!(f, "{}:{line}", super::SETTINGS_FILE),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::DotEnv(name) => write!(f, ".env {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Where a variable came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The environment that the daemon was started with.
    Environment,
    /// .env.
    DotEnv,
}

impl Origin {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Origin::Environment => "environment",
            Origin::DotEnv => ".env",
        }
    }

    const fn source(self, variable: &'static str) -> Source {
        match self {
            Origin::Environment => Source::Environment(variable),
            Origin::DotEnv => Source::DotEnv(variable),
        }
    }
}

/// What happens to a stream whose client left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisconnect {
    /// The provider's answer is cancelled and charged from what was relayed.
    Cancel,
    /// The provider's answer is read to its end, for an exact charge.
    Drain,
}

/// Flags of the command line that win over everything else.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<IpAddr>,
    /// `--port`.
    pub port: Option<u16>,
    /// `--log-level`.
    pub log_level: Option<Level>,
}

/// The daemon's own settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address for agents; loopback unless `allow_remote`.
    pub listen: Sourced<IpAddr>,
    /// The port for agents; 0 takes a free one.
    pub port: Sourced<u16>,
    /// Whether `listen` may be reachable from other machines.
    pub allow_remote: Sourced<bool>,
    /// Names accepted in `Host`, in lower case, beside loopback names and the listen address.
    pub allowed_hosts: Sourced<Vec<String>>,
    /// Largest request body, in bytes.
    pub max_body: Sourced<usize>,
    /// Most connections of clients at the same time.
    pub max_connections: Sourced<usize>,
    /// How long a client may take for the head of a request once its first byte is here.
    pub head_timeout: Sourced<Duration>,
    /// How long a client may send nothing within the body of a request.
    pub body_idle: Sourced<Duration>,
    /// How long a connection may wait for its next request.
    pub keep_alive: Sourced<Duration>,
    /// How long a client may take nothing of an answer that has something for it.
    pub client_stall: Sourced<Duration>,
    /// When a reservation counts as safe.
    pub durability: Sourced<Durability>,
    /// The ledger's write-ahead log is restarted beyond this size, in bytes.
    pub wal_limit: Sourced<u64>,
    /// The zone in which periods of budgets begin.
    pub zone: Sourced<TimeZone>,
    /// Threads that serve calls.
    pub workers: Sourced<usize>,
    /// How long running calls may go on after a stop was asked for.
    pub drain_timeout: Sourced<Duration>,
    /// A run's token is revoked this long after its aexctl is gone.
    pub run_grace: Sourced<Duration>,
    /// How long a call of a tool waits for a person's approval.
    pub approval_timeout: Sourced<Duration>,
    /// What happens to a stream whose client left.
    pub on_disconnect: Sourced<OnDisconnect>,
    /// Whether a call that ended in 502, 504 or a reset is charged for its input.
    pub charge_on_gateway_error: Sourced<bool>,
    /// The largest answer that is kept for its idempotency key, in bytes.
    pub idempotency_answer: Sourced<usize>,
    /// The memory of all answers that are kept for idempotency keys, in bytes.
    pub idempotency_memory: Sourced<usize>,
    /// Idempotency keys of a day that are remembered; with more, calls with a new one are refused.
    pub idempotency_keys: Sourced<usize>,
    /// Whether prompts are tokenised when their bytes do not fit a budget.
    pub tokenizer: Sourced<bool>,
    /// Least severity that is logged.
    pub log_level: Sourced<Level>,
    /// Its members may use the control socket.
    pub admin_group: Sourced<Option<String>>,
}

/// Reads the file; an absent one is empty. `None` when the report holds an error.
pub(super) fn read(source: &str, report: &mut Report) -> Option<Settings> {
    let document = report.parse(source)?;
    let mut top = Section::document(&document, report)?;
    let settings = read_all(&mut top, report);
    top.finish(Unknown::Refuse, report);
    if report.errors.is_empty() { Some(settings) } else { None }
}

fn read_all(top: &mut Section<'_>, report: &mut Report) -> Settings {
    let mut file = File { top, report };
    let durabilities = Durability::ALL.map(|durability| (durability.name(), durability));
    let disconnects = [("cancel", OnDisconnect::Cancel), ("drain", OnDisconnect::Drain)];
    Settings {
        listen: file.setting("listen", IpAddr::V4(Ipv4Addr::LOCALHOST), address),
        port: file.setting("port", 9000, port),
        allow_remote: file.setting("allow_remote", false, Report::flag),
        allowed_hosts: file.setting("allowed_hosts", Vec::new(), hosts),
        max_body: file.setting("max_body", 32 << 20, |report, field| usize::try_from(report.size(field)?).ok()),
        max_connections: file.setting("max_connections", 4096, |report, field| usize::try_from(report.whole(field, 1)?).ok()),
        head_timeout: file.setting("head_timeout_ms", Duration::from_secs(20), limit),
        body_idle: file.setting("body_idle_ms", Duration::from_secs(30), limit),
        // Longer than what SDKs keep connections for between two calls of a busy agent.
        keep_alive: file.setting("keep_alive_ms", Duration::from_secs(75), limit),
        client_stall: file.setting("client_stall_ms", Duration::from_secs(300), limit),
        durability: file.setting("durability", Durability::Overlap, |report, field| report.word(field, &durabilities)),
        wal_limit: file.setting("wal_limit", 64 * MIB, Report::size),
        zone: file.setting("zone", TimeZone::UTC, zone),
        workers: file.setting("workers", cores(), workers),
        drain_timeout: file.setting("drain_timeout_ms", Duration::from_secs(30), wait),
        run_grace: file.setting("run_grace_ms", Duration::from_secs(10), wait),
        approval_timeout: file.setting("approval_timeout_ms", Duration::from_secs(120), limit),
        on_disconnect: file.setting("on_disconnect", OnDisconnect::Cancel, |report, field| report.word(field, &disconnects)),
        charge_on_gateway_error: file.setting("charge_on_gateway_error", true, Report::flag),
        idempotency_answer: file.setting("idempotency_answer", 1 << 20, |report, field| usize::try_from(report.size(field)?).ok()),
        idempotency_memory: file.setting("idempotency_memory", 64 << 20, |report, field| usize::try_from(report.size(field)?).ok()),
        idempotency_keys: file.setting("idempotency_keys", 1_000_000, |report, field| usize::try_from(report.whole(field, 1)?).ok()),
        tokenizer: file.setting("tokenizer", true, |report, field| report.word(field, &[("on", true), ("off", false)])),
        log_level: file.setting("log_level", Level::INFO, level),
        admin_group: file.setting("admin_group", None, |report, field| report.text(field).map(Some)),
    }
}

struct File<'s, 'a> {
    top: &'s mut Section<'a>,
    report: &'s mut Report,
}

impl File<'_, '_> {
    fn setting<T>(&mut self, name: &'static str, default: T, read: impl FnOnce(&mut Report, &Field<'_>) -> Option<T>) -> Sourced<T> {
        let found = self.top.get(name).and_then(|field| Some((read(self.report, &field)?, field.line)));
        match found {
            Some((value, line)) => Sourced { value, source: Source::File(line) },
            None => Sourced { value: default, source: Source::Default },
        }
    }
}

fn address(report: &mut Report, field: &Field<'_>) -> Option<IpAddr> {
    let text = number(field.node)?.trim_start_matches('[').trim_end_matches(']');
    let address = if text == "localhost" { Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { text.parse().ok() };
    if address.is_none() {
        report.expected(field, "an IP address");
    }
    address
}

fn port(report: &mut Report, field: &Field<'_>) -> Option<u16> {
    let port = number(field.node).and_then(|text| text.parse().ok());
    if port.is_none() {
        report.expected(field, "a port, 0 to 65535");
    }
    port
}

fn hosts(report: &mut Report, field: &Field<'_>) -> Option<Vec<String>> {
    let hosts: Vec<String> = report.texts(field)?.iter().map(|host| host.to_ascii_lowercase()).collect();
    if hosts.iter().any(|host| host.contains(['/', '@', '*', ' '])) {
        report.refuse(field.line, format!("{}: expected host names, without scheme, path and wildcard", field.key));
        return None;
    }
    Some(hosts)
}

fn zone(report: &mut Report, field: &Field<'_>) -> Option<TimeZone> {
    let zone = number(field.node).and_then(|name| if name == "UTC" { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() });
    if zone.is_none() {
        report.expected(field, "a time zone of this machine such as UTC or Europe/Berlin");
    }
    zone
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(64)
}

fn workers(report: &mut Report, field: &Field<'_>) -> Option<usize> {
    let count = number(field.node).and_then(|text| text.parse::<u64>().ok()).filter(|count| (1..=MAX_WORKERS).contains(count));
    if count.is_none() {
        report.expected(field, "a whole number, 1 to 64");
    }
    usize::try_from(count?).ok()
}

fn wait(report: &mut Report, field: &Field<'_>) -> Option<Duration> {
    report.whole(field, 0).map(Duration::from_millis)
}

/// A wait without which nobody could be served.
fn limit(report: &mut Report, field: &Field<'_>) -> Option<Duration> {
    report.whole(field, 1).map(Duration::from_millis)
}

fn level(report: &mut Report, field: &Field<'_>) -> Option<Level> {
    let level = number(field.node).and_then(parse_level);
    if level.is_none() {
        report.expected(field, LEVELS);
    }
    level
}

const LEVELS: &str = "error, warn, info, debug or trace";

/// In either case, and with the earlier program's WARNING and CRITICAL.
#[must_use]
pub fn parse_level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "error" | "critical" => Some(Level::ERROR),
        "warn" | "warning" => Some(Level::WARN),
        "info" => Some(Level::INFO),
        "debug" => Some(Level::DEBUG),
        "trace" => Some(Level::TRACE),
        _ => None,
    }
}

impl Settings {
    /// Applies what wins over the file, then checks what only the effective values show.
    pub(super) fn apply(&mut self, lookup: impl Fn(&str) -> Option<(String, Origin)>, overrides: &Overrides, errors: &mut Vec<Problem>) {
        let mut refuse = |name: &str, what: &str, found: &str| {
            errors.push(Problem {
                file: name.to_owned(),
                line: None,
                text: format!("expected {what}, found \"{}\"", found.escape_debug()),
            });
        };
        if let Some((text, origin)) = lookup("AEX_PORT") {
            match text.parse() {
                Ok(value) => self.port = Sourced { value, source: origin.source("AEX_PORT") },
                Err(_) => refuse("AEX_PORT", "a port, 0 to 65535", &text),
            }
        }
        if let Some((text, origin)) = lookup("AEX_LOG_LEVEL") {
            match parse_level(&text) {
                Some(value) => self.log_level = Sourced { value, source: origin.source("AEX_LOG_LEVEL") },
                None => refuse("AEX_LOG_LEVEL", LEVELS, &text),
            }
        }
        flag(&mut self.listen, overrides.listen, "--listen");
        flag(&mut self.port, overrides.port, "--port");
        flag(&mut self.log_level, overrides.log_level, "--log-level");
        if !self.listen.value.is_loopback() && !self.allow_remote.value {
            let (file, line) = match self.listen.source {
                Source::File(line) => (super::SETTINGS_FILE.to_owned(), Some(line)),
                other => (other.to_string(), None),
            };
            let text = format!("listen: {} can be reached from other machines, which needs `allow_remote: true`", self.listen.value);
            errors.push(Problem { file, line, text });
        }
    }
}

fn flag<T>(setting: &mut Sourced<T>, value: Option<T>, name: &'static str) {
    if let Some(value) = value {
        *setting = Sourced { value, source: Source::Flag(name) };
    }
}
