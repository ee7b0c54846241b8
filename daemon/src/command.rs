//! The commands of `aexd`. Prints here, and nowhere else in the daemon.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place of the daemon that speaks to a terminal")]

mod backup;
mod init;

use crate::config::{Overrides, Problem};
use crate::control::{self, absent_words, audit_reply};
use crate::gate::Source;
use crate::ledger::{self, LedgerFault};
use crate::os::{clock, limits, paths, port};
use crate::tools::sandbox;
use crate::{daemon, log};
use aex_core::chain::Head;
use aex_core::paths::Paths;
use aex_proto::audit::Noted;
use aex_proto::check::{Checked, Finding};
use aex_proto::explain::ExplainId;
use aex_proto::value::Stamp;
use anyhow::Context;
use init::Saying;
use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

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
        /// Take over agents, budgets, spending and tokens of the earlier program, AEX; its database stays as it is
        /// [default: aex.db in the home]
        #[arg(long, value_name = "PATH", num_args = 0..=1)]
        import_aex: Option<Option<PathBuf>>,
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
        /// The number and hash of an event as they were noted elsewhere; may be repeated.
        #[arg(long, value_name = "SEQ:HASH")]
        expect_head: Vec<Noted>,
        /// Only say where the chain ends.
        #[arg(long)]
        head: bool,
    },
    /// Write the ledger of a daemon that is not running to standard output, for `aexctl export`; changes nothing.
    #[command(hide = true)]
    Export {
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
        /// Only this agent's events.
        #[arg(long)]
        agent: Option<String>,
        /// From this event on.
        #[arg(long)]
        since_seq: Option<u64>,
        /// From this instant on, in RFC 3339.
        #[arg(long, value_parser = Stamp::parse)]
        since_at: Option<Stamp>,
    },
    /// Tell a story from the ledger of a daemon that is not running, for `aexctl explain`; answers in JSON.
    #[command(hide = true)]
    Explain {
        /// A request, a run or the number of an event.
        id: ExplainId,
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
    },
    /// Copy the ledger of a daemon that is not running into a new file; answers in JSON.
    #[command(hide = true)]
    Backup {
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
        /// The file.
        file: PathBuf,
    },
    /// Put a backup in the ledger's place, for `aexctl restore`; answers in JSON.
    #[command(hide = true)]
    Restore {
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
        /// Even when the ledger that is there holds more.
        #[arg(long)]
        accept_loss: bool,
        /// The backup.
        file: PathBuf,
    },
    /// Check configuration, models and providers without a daemon, for `aexctl doctor`; answers in JSON.
    #[command(hide = true)]
    Check {
        /// The folder of the daemon's files [default: $AEX_HOME, else ~/.aex]
        #[arg(long)]
        home: Option<PathBuf>,
        /// Read this file as models.yaml, and look at nothing else
        #[arg(long)]
        models: Option<PathBuf>,
    },
    /// Confine this process and become a program, as the plan on a descriptor says.
    #[command(name = sandbox::SUBCOMMAND, hide = true)]
    Stage {
        /// The descriptor of the plan.
        plan: RawFd,
        /// The descriptor that the report goes to.
        report: RawFd,
    },
    /// Print the version.
    Version,
}

impl Command {
    /// Runs it.
    #[must_use]
    pub fn run(self) -> ExitCode {
        limits::survive_full_files();
        let done = match self {
            Command::Serve { home, port, listen, log_stderr } => {
                serve(home, &Overrides { listen, port, ..Overrides::default() }, log::Place::of(log_stderr))
            }
            Command::Init { home, json, import_aex, before_start } => init::run(home, import_aex, Saying::of(json, before_start)),
            Command::Audit { home, json, expect_head, head } => match head {
                true => head_of(home),
                false => audit(home, json, &expect_head),
            },
            Command::Export { home, agent, since_seq, since_at } => export(home, &control::export_wanted(agent, since_seq, since_at)),
            Command::Explain { id, home } => explain(id, home),
            Command::Backup { home, file } => backup::backup(home, &file),
            Command::Restore { home, accept_loss, file } => backup::restore(home, &file, accept_loss),
            Command::Check { home, models: Some(file) } => check_models(home, &file),
            Command::Check { home, models: None } => check(home),
            Command::Stage { plan, report } => Ok(sandbox::run(plan, report)),
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
    let foreign = owner(&source.paths.home)?;
    let untold = |problem: &Problem| format!("{problem}; every call of a tool is denied");
    let config = &early.config;
    let told = config.permissions_errors.iter().map(untold).chain(config.warnings.iter().map(ToString::to_string));
    for warning in loose.iter().map(|folder| open_to_others(folder)).chain(foreign).chain(told) {
        tracing::warn!("{warning}");
        if place != log::Place::Person {
            eprintln!("warning: {warning}");
        }
    }
    daemon::run(source, early)?;
    Ok(ExitCode::SUCCESS)
}

/// What is to be said of a home that somebody else owns.
fn owner(home: &Path) -> anyhow::Result<Option<String>> {
    let owner = paths::foreign_owner(home).with_context(|| format!("looking at {}", home.display()))?;
    Ok(owner.map(|uid| format!("{} belongs to user {uid}, who can replace what the daemon trusts", home.display())))
}

/// The owner may share the folder on purpose, so it stays as it is.
fn open_to_others(folder: &Path) -> String {
    format!("others can write to {}, and so replace what the daemon trusts: chmod go-w {0}", folder.display())
}

/// The ledger of a home that has one.
fn ledger_at_rest(home: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let source = source(home, &Overrides::default())?;
    if !source.paths.ledger.exists() {
        anyhow::bail!("there is no ledger at {}: `aexctl init` makes one", source.paths.ledger.display());
    }
    Ok(source.paths.ledger)
}

fn head_of(home: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let path = ledger_at_rest(home)?;
    let told =
        ledger::read_only(&path, |reader| Ok(control::told_head(&reader.name()?, reader.head()?))).context("reading the ledger at rest")?;
    println!("{}", serde_json::to_string(&told)?);
    Ok(ExitCode::SUCCESS)
}

fn export(home: Option<PathBuf>, wanted: &ledger::ExportWanted) -> anyhow::Result<ExitCode> {
    let path = ledger_at_rest(home)?;
    let mut out = std::io::stdout().lock();
    let mut sink = |part: Vec<u8>| out.write_all(&part).map_err(|fault| LedgerFault::File { path: "standard output".into(), fault });
    let is_asked = matches!(wanted.since, ledger::Since::Seq(_));
    let sealed = ledger::read_only(&path, |reader| Ok(reader.sealed()?.filter(|_| !is_asked))).context("reading the ledger at rest")?;
    if let Some(sealed) = sealed {
        eprintln!("note: events up to {} are in segments, the newest of them in {}", sealed.last, sealed.path);
    }
    let written =
        ledger::read_only(&path, |reader| reader.export(wanted, clock::wall(), None, &mut sink)).context("exporting the ledger at rest")?;
    written.map(|_| ExitCode::SUCCESS).map_err(anyhow::Error::from)
}

fn audit(home: Option<PathBuf>, json: bool, expected: &[Noted]) -> anyhow::Result<ExitCode> {
    let path = ledger_at_rest(home)?;
    let expected: Vec<Head> = expected.iter().map(control::noted).collect();
    let report =
        ledger::read_only(&path, |reader| reader.audit_against(clock::wall(), None, &expected)).context("auditing the ledger at rest")?;
    let reply = audit_reply(&report, clock::wall());
    if json {
        println!("{}", serde_json::to_string(&reply)?);
    } else {
        for invariant in &reply.invariants {
            println!("{}: {}", invariant.name.name(), if invariant.passed { "PASS" } else { "FAIL" });
            invariant.broken.iter().cloned().chain(invariant.more()).for_each(|row| println!("  - {row}"));
        }
    }
    Ok(if reply.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is asked for is not there: as `aexctl` says it.
const NOT_FOUND: u8 = 4;

fn explain(id: ExplainId, home: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let source = source(home, &Overrides::default())?;
    match ledger::read_only_explain(&source.paths.ledger, id).context("reading the ledger at rest")? {
        Ok(story) => {
            println!("{}", serde_json::to_string(&story)?);
            Ok(ExitCode::SUCCESS)
        }
        Err(absent) => {
            let (message, hint) = absent_words(absent);
            eprintln!("error: {message}\nhint: {hint}");
            Ok(ExitCode::from(NOT_FOUND))
        }
    }
}

fn port_is_free(address: SocketAddr) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok("port", format!("{address} is free")),
        Err(fault) => {
            let holder = port::holder(address.port()).map_or_else(|| fault.to_string(), |holder| format!("in use by {holder}"));
            Finding::error("port", format!("{address}: {holder}"), "stop that process, or set another port in aexd.yaml")
        }
    }
}

/// What is wrong with a file that is to become models.yaml. Asks no provider.
fn check_models(home: Option<PathBuf>, file: &Path) -> anyhow::Result<ExitCode> {
    let paths = Paths::resolve(|name| std::env::var(name).ok(), home.as_deref())?;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (errors, warnings) = crate::config::check_models(&paths, &text);
    let wrong = errors.iter().map(|problem| Finding::error("config", problem.to_string(), "correct the file"));
    let warned = warnings.iter().map(|problem| Finding::warning("config", problem.to_string(), "correct the file"));
    println!("{}", serde_json::to_string(&Checked { findings: wrong.chain(warned).collect() })?);
    Ok(ExitCode::SUCCESS)
}

fn check(home: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let source = source(home, &Overrides::default())?;
    let checked = match source.load(0) {
        Ok(active) => {
            let warned = |warning: &Problem| Finding::warning("config", warning.to_string(), "correct the file");
            let wrong = |problem: &Problem| Finding::error("config", problem.to_string(), "correct the file");
            let unserved =
                |problem: &Problem| Finding::error("tools", problem.to_string(), "correct the file: no server is started without it");
            let mut findings: Vec<Finding> = active.config.permissions_errors.iter().map(wrong).collect();
            findings.extend(active.config.tools_errors.iter().map(unserved));
            findings.extend(active.config.warnings.iter().map(warned));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            findings.extend(runtime.block_on(control::check(&active)).findings);
            let settings = &active.config.settings;
            findings.push(port_is_free(SocketAddr::new(settings.listen.value, settings.port.value)));
            Checked { findings }
        }
        Err(errors) => {
            let wrong = |problem: &Problem| Finding::error("config", problem.to_string(), "correct the file");
            Checked { findings: errors.0.iter().map(wrong).collect() }
        }
    };
    println!("{}", serde_json::to_string(&checked)?);
    Ok(ExitCode::SUCCESS)
}
