//! `aexd init`: folders, default files, the ledger, the agent `default`, and what AEX, the earlier program, left.

use super::{open_to_others, source};
use crate::config::{self, Overrides};
use crate::import;
use crate::ledger::{Ledger, LedgerFault, NewAccount, Options, Refused};
use crate::os::paths;
use aex_core::books::{AccountKind, Limits};
use aex_core::paths::Paths;
use aex_core::policy::Fields;
use aex_core::window::Period;
use aex_proto::value::{AccountId, Pico};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::runtime::Builder;

/// The agent that `init` makes, so that `aexctl run` works at once.
const DEFAULT_AGENT: &str = "default";
/// Its budget a day: 5 USD.
const DEFAULT_BUDGET: Pico = Pico::new(5_000_000_000_000);
/// Its requests per minute.
const DEFAULT_RPM: u32 = 60;

/// What AEX called its database.
const OLD_DATABASE: &str = "aex.db";

/// What `init` says of what it did.
#[derive(PartialEq, Eq)]
pub(super) enum Saying {
    Json,
    All,
    BeforeStart,
}

impl Saying {
    pub(super) const fn of(json: bool, before_start: bool) -> Saying {
        match (json, before_start) {
            (true, _) => Saying::Json,
            (false, true) => Saying::BeforeStart,
            (false, false) => Saying::All,
        }
    }
}

/// What was done in the ledger.
#[derive(Default)]
struct Done {
    made_default: bool,
    imported: Option<import::Report>,
    /// Agents of AEX that wait to be taken over.
    waiting: usize,
}

pub(super) fn run(home: Option<PathBuf>, import_aex: Option<Option<PathBuf>>, saying: Saying) -> anyhow::Result<ExitCode> {
    paths::private();
    let source = source(home, &Overrides::default())?;
    let home = &source.paths.home;
    let loose = paths::prepare(&source.paths).with_context(|| format!("making {}", home.display()))?;
    // The start that follows says so itself.
    for folder in loose.iter().filter(|_| saying != Saying::BeforeStart) {
        eprintln!("warning: {}", open_to_others(folder));
    }
    // Before anything is written: a database that cannot be imported leaves no half-made home.
    let wanted = import_aex.map(|path| path.unwrap_or_else(|| home.join(OLD_DATABASE)));
    let old = wanted.map(|path| import::Source::read(&path, home)).transpose().context("nothing was imported")?;
    let written = config::write_missing(&source.paths).with_context(|| format!("writing the default files below {}", home.display()))?;
    let active = source.load(0).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let settings = &active.config.settings;
    let options = Options {
        path: source.paths.ledger.clone(),
        durability: settings.durability.value,
        zone: settings.zone.value.clone(),
        wal_limit: settings.wal_limit.value,
    };
    let runtime = Builder::new_current_thread().build()?;
    let done = match (Ledger::open(&options), old) {
        (Ok(ledger), old) => {
            let done = runtime.block_on(fill(&ledger, old, home));
            ledger.close();
            done?
        }
        (Err(fault @ LedgerFault::Locked { .. }), Some(_)) => {
            return Err(fault).context("nothing was imported: stop the daemon first, with `aexctl daemon stop`");
        }
        // A running daemon has made it.
        (Err(LedgerFault::Locked { .. }), None) => Done::default(),
        (Err(fault), _) => return Err(fault.into()),
    };
    tell(&source.paths, &written, &done, &saying);
    Ok(ExitCode::SUCCESS)
}

/// What is imported comes first: AEX may have an agent `default`.
async fn fill(ledger: &Ledger, old: Option<import::Source>, home: &Path) -> anyhow::Result<Done> {
    let mut done = Done::default();
    match old {
        Some(old) => done.imported = Some(old.import(ledger).await.context("nothing was imported")?),
        None => done.waiting = waiting(ledger, &home.join(OLD_DATABASE), home).await?,
    }
    done.made_default = make_default_agent(ledger).await?;
    Ok(done)
}

/// Agents in a database of AEX beside ours. One that cannot be read is nobody's concern before it is to be imported.
async fn waiting(ledger: &Ledger, path: &Path, home: &Path) -> anyhow::Result<usize> {
    match path.exists().then(|| import::Source::read(path, home)) {
        Some(Ok(old)) => Ok(old.newcomers(ledger).await?),
        _ => Ok(0),
    }
}

async fn make_default_agent(ledger: &Ledger) -> anyhow::Result<bool> {
    let agent = NewAccount {
        parent: AccountId::ROOT,
        kind: AccountKind::Agent,
        name: DEFAULT_AGENT.to_owned(),
        limits: Limits { rpm: Some(DEFAULT_RPM), ..Limits::default() },
        policy: Fields::default(),
        budgets: vec![(Period::Day, DEFAULT_BUDGET)],
        reason: None,
    };
    let made = ledger.admin(move |writer| {
        if writer.has_been(AccountKind::Agent, DEFAULT_AGENT)? {
            // Deleted on purpose, maybe: init brings nothing back.
            return Ok(Err(Refused::Exists(DEFAULT_AGENT.to_owned())));
        }
        writer.create_account(&agent, None)
    });
    Ok(made.await?.is_ok())
}

fn tell(paths: &Paths, written: &[PathBuf], done: &Done, saying: &Saying) {
    for warning in done.imported.iter().flat_map(import::Report::warnings) {
        eprintln!("warning: {warning}");
    }
    if *saying == Saying::Json {
        let mut reply = serde_json::json!({"home": paths.home, "written": written, "agent_created": done.made_default});
        if let (Some(report), Some(reply)) = (&done.imported, reply.as_object_mut()) {
            reply.insert("import".to_owned(), serde_json::json!(report));
        }
        println!("{reply}");
        return;
    }
    println!("AEX initialized in {}", paths.home.display());
    for file in written {
        println!("  wrote {}", file.display());
    }
    for line in done.imported.iter().flat_map(import::Report::lines) {
        println!("  {line}");
    }
    if done.made_default {
        println!("  created agent '{DEFAULT_AGENT}': {DEFAULT_BUDGET} a day, {DEFAULT_RPM} requests per minute");
    }
    if *saying == Saying::All {
        println!("Next: put a provider key into {}, then `aexctl daemon start`", paths.env_file.display());
    }
    if done.waiting > 0 {
        let old = paths.home.join(OLD_DATABASE);
        eprintln!("hint: {} holds {} agents of AEX: `aexctl init --import-aex` takes them over", old.display(), done.waiting);
    }
}
