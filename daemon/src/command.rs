//! The commands of `aexd`. Prints here, and nowhere else in the daemon.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place of the daemon that speaks to a terminal")]

use crate::config::{self, Overrides};
use crate::control::audit_reply;
use crate::gate::Source;
use crate::ledger::{self, Ledger, NewAccount, Options, Refused};
use crate::os::{clock, paths};
use crate::{daemon, log};
use aex_core::books::{AccountKind, Limits};
use aex_core::paths::Paths;
use aex_core::policy::Fields;
use aex_core::window::Period;
use aex_proto::value::{AccountId, Pico};
use anyhow::Context;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The agent that `init` makes, so that `aexctl run` works at once.
const DEFAULT_AGENT: &str = "default";
/// Its budget a day: 5 USD.
const DEFAULT_BUDGET: Pico = Pico::new(5_000_000_000_000);
/// Its requests per minute.
const DEFAULT_RPM: u32 = 60;

/// What the daemon is asked to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Serve until told to stop.
    Serve {
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
        /// The proxy's port; 0 takes any free one.
        #[arg(long)]
        port: Option<u16>,
        /// The address to listen on.
        #[arg(long)]
        listen: Option<IpAddr>,
        /// Log to standard error, for a person; so it is on a terminal, too.
        #[arg(long, hide = true)]
        log_stderr: bool,
    },
    /// Make folders, default files, the ledger and the agent `default`; what is there already stays as it is.
    Init {
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
        /// A start follows: do not say what comes next.
        #[arg(long, hide = true)]
        before_start: bool,
    },
    /// Audit the ledger of a daemon that is not running; changes nothing.
    Audit {
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the version.
    Version,
}

impl Command {
    /// Runs it.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let done = match self {
            Command::Serve { home, port, listen, log_stderr } => {
                serve(home, &Overrides { listen, port, ..Overrides::default() }, log::Place::of(log_stderr))
            }
            Command::Init { home, json: true, .. } => init(home, Saying::Json),
            Command::Init { home, before_start: true, .. } => init(home, Saying::BeforeStart),
            Command::Init { home, .. } => init(home, Saying::All),
            Command::Audit { home, json } => audit(home, json),
            Command::Version => {
                println!("aexd {}", env!("CARGO_PKG_VERSION"));
                Ok(ExitCode::SUCCESS)
            }
        };
        done.unwrap_or_else(|fault| {
            // Context and causes, each on one line: the first says what was tried.
            eprintln!("error: {}", fault.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "));
            ExitCode::FAILURE
        })
    }
}

fn source(home: Option<PathBuf>, overrides: &Overrides) -> anyhow::Result<Source> {
    let environment: HashMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let home = home.map(std::path::absolute).transpose().context("--home")?;
    let paths = Paths::resolve(|name| environment.get(name).cloned(), home.as_deref())?;
    Ok(Source { paths, environment: Arc::new(environment), overrides: overrides.clone() })
}

fn serve(home: Option<PathBuf>, overrides: &Overrides, place: log::Place) -> anyhow::Result<ExitCode> {
    paths::private();
    let source = source(home, overrides)?;
    let loose = paths::prepare(&source.paths).with_context(|| format!("making {}", source.paths.home.display()))?;
    let early = source.load(0).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    log::start(place, &source.paths.log_dir, early.config.settings.log_level.value)?;
    for warning in loose.iter().map(|folder| open_to_others(folder)).chain(early.config.warnings.iter().map(ToString::to_string)) {
        tracing::warn!("{warning}");
        if place != log::Place::Person {
            eprintln!("warning: {warning}");
        }
    }
    daemon::run(source, early)?;
    Ok(ExitCode::SUCCESS)
}

/// The owner may share the folder on purpose, so it stays as it is.
fn open_to_others(folder: &Path) -> String {
    format!("others can write to {}, and so replace what the daemon trusts: chmod go-w {0}", folder.display())
}

/// What `init` says of what it did.
#[derive(PartialEq, Eq)]
enum Saying {
    Json,
    All,
    BeforeStart,
}

fn init(home: Option<PathBuf>, saying: Saying) -> anyhow::Result<ExitCode> {
    paths::private();
    let source = source(home, &Overrides::default())?;
    let Paths { home, ledger, .. } = &source.paths;
    let loose = paths::prepare(&source.paths).with_context(|| format!("making {}", home.display()))?;
    // The start that follows says so itself.
    for folder in loose.iter().filter(|_| saying != Saying::BeforeStart) {
        eprintln!("warning: {}", open_to_others(folder));
    }
    let written = config::write_missing(&source.paths).with_context(|| format!("writing the default files below {}", home.display()))?;
    let active = source.load(0).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let settings = &active.config.settings;
    let options = Options {
        path: ledger.clone(),
        durability: settings.durability.value,
        zone: settings.zone.value.clone(),
        wal_limit: settings.wal_limit.value,
    };
    let made_agent = match Ledger::open(&options) {
        Ok(ledger) => make_default_agent(&ledger)?,
        // A running daemon has made it.
        Err(ledger::LedgerFault::Locked { .. }) => false,
        Err(fault) => return Err(fault.into()),
    };
    if saying == Saying::Json {
        println!("{}", serde_json::json!({"home": home, "written": written, "agent_created": made_agent}));
        return Ok(ExitCode::SUCCESS);
    }
    println!("AEX initialized in {}", home.display());
    for file in &written {
        println!("  wrote {}", file.display());
    }
    if made_agent {
        println!("  created agent '{DEFAULT_AGENT}': {DEFAULT_BUDGET} a day, {DEFAULT_RPM} requests per minute");
    }
    if saying == Saying::All {
        println!("Next: put a provider key into {}, then `aexctl daemon start`", source.paths.env_file.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn make_default_agent(ledger: &Ledger) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let agent = NewAccount {
        parent: AccountId::ROOT,
        kind: AccountKind::Agent,
        name: DEFAULT_AGENT.to_owned(),
        limits: Limits { rpm: Some(DEFAULT_RPM), concurrent: None, tpm: None },
        policy: Fields::default(),
        budgets: vec![(Period::Day, DEFAULT_BUDGET)],
    };
    let made = runtime.block_on(ledger.admin(move |writer| {
        if writer.has_been(AccountKind::Agent, DEFAULT_AGENT)? {
            // Deleted on purpose, maybe: init brings nothing back.
            return Ok(Err(Refused::Exists(DEFAULT_AGENT.to_owned())));
        }
        writer.create_account(&agent, None)
    }));
    let made = made?.is_ok();
    ledger.close();
    Ok(made)
}

fn audit(home: Option<PathBuf>, json: bool) -> anyhow::Result<ExitCode> {
    let source = source(home, &Overrides::default())?;
    if !source.paths.ledger.exists() {
        anyhow::bail!("there is no ledger at {}: `aexctl init` makes one", source.paths.ledger.display());
    }
    let report = ledger::read_only_audit(&source.paths.ledger).context("auditing the ledger at rest")?;
    let reply = audit_reply(&report, clock::wall());
    if json {
        println!("{}", serde_json::to_string(&reply)?);
    } else {
        for invariant in &reply.invariants {
            println!("{}: {}", invariant.name.name(), if invariant.passed { "PASS" } else { "FAIL" });
            invariant.broken.iter().for_each(|row| println!("  - {row}"));
        }
    }
    Ok(if reply.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
