//! One module per noun: asks the daemon and words its reply.

mod account;
mod agent;
mod approval;
mod audit;
mod backup;
mod budget;
mod check;
mod completions;
mod config;
mod daemon;
mod doctor;
mod event;
mod explain;
mod export;
mod group;
mod init;
mod ledger;
mod metrics;
mod model;
mod permission;
mod policy;
mod restore;
mod status;
mod token;
mod tool;
mod unit;
mod version;

use crate::cli::{Cli, Command};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::view::View;
use aex_core::paths::Paths;
use std::path::PathBuf;

pub(crate) use event::facts;

/// What every command needs.
pub(crate) struct Context<'a> {
    pub(crate) paths: Paths,
    /// The home that the user named; `None`: the environment says where it is.
    pub(crate) home: Option<PathBuf>,
    pub(crate) view: &'a View,
}

impl Context<'_> {
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.paths)
    }
}

/// Runs a command to its exit code.
pub(crate) fn run(cli: Cli, view: &View) -> Result<Exit, Failure> {
    match cli.command {
        Command::Demo => return crate::demo::run(view),
        Command::DemoAgent => return crate::demo::agent(view),
        Command::DemoTools => return crate::demo::tools_agent(view),
        Command::Completions { shell } => return completions::run(*view, shell),
        _ => {}
    }
    let home = named_home(cli.global.home.or_else(|| std::env::var_os("AEX_HOME").map(PathBuf::from)))?;
    let paths = Paths::resolve(|name| std::env::var(name).ok(), home.as_deref()).map_err(|fault| wrong(&fault))?;
    let context = Context { paths, home, view };
    match cli.command {
        Command::Init { import_aex } => init::run(&context, import_aex.as_ref()),
        Command::Daemon(verb) => daemon::run(&context, &verb),
        Command::Agent(verb) => agent::run(&context, verb),
        Command::Group(verb) => group::run(&context, verb),
        Command::Budget(verb) => budget::run(&context, verb),
        Command::Pause(target) => account::pause(&context, target),
        Command::Resume(target) => account::resume(&context, target),
        Command::Kill(target) => account::kill(&context, target),
        Command::Approvals(verb) => approval::run(&context, verb),
        Command::Token(verb) => token::run(&context, verb),
        Command::Run(run) => crate::run::run(&context, run),
        Command::Status => status::run(&context),
        Command::Metrics => metrics::run(&context),
        Command::Audit(wanted) => audit::run(&context, &wanted),
        Command::Export(wanted) => export::run(&context, &wanted),
        Command::Backup { file } => backup::run(&context, &file),
        Command::Restore { file, accept_loss } => restore::run(&context, &file, accept_loss),
        Command::Ledger(verb) => ledger::run(&context, verb),
        Command::Events(query) => event::run(&context, query),
        Command::Explain { id } => explain::run(&context, id),
        Command::Models(verb) => model::run(&context, verb),
        Command::Config => config::run(&context),
        Command::Doctor(wanted) => doctor::run(&context, wanted),
        Command::Policy(verb) => policy::run(&context, verb),
        Command::Permissions(verb) => permission::run(&context, verb),
        Command::Tools(verb) => tool::run(&context, verb),
        Command::Version => version::run(&context),
        Command::Demo | Command::DemoAgent | Command::DemoTools | Command::Completions { .. } => Ok(Exit::Done),
    }
}

/// A relative home is relative to where the user is.
fn named_home(home: Option<PathBuf>) -> Result<Option<PathBuf>, Failure> {
    let named = home.filter(|home| !home.as_os_str().is_empty()).map(std::path::absolute).transpose().map_err(|fault| wrong(&fault))?;
    // `a/../b` and a slash at the end name the same home; aexd must meet us at one socket.
    Ok(named.map(|path| path.canonicalize().unwrap_or(path)))
}

fn wrong(fault: &dyn std::fmt::Display) -> Failure {
    Failure::new(fault.to_string()).with(Exit::Usage)
}
