//! One module per noun: asks the daemon and words its reply.

mod agent;
mod audit;
mod daemon;
mod event;
mod init;
mod model;
mod status;
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
        _ => {}
    }
    let context = Context { paths: paths(cli.global.home)?, view };
    match cli.command {
        Command::Init => init::run(&context),
        Command::Daemon(verb) => daemon::run(&context, &verb),
        Command::Agent(verb) => agent::run(&context, verb),
        Command::Run(run) => crate::run::run(&context, run),
        Command::Status => status::run(&context),
        Command::Audit => audit::run(&context),
        Command::Events(query) => event::run(&context, query),
        Command::Models(verb) => model::run(&context, verb),
        Command::Version => version::run(&context),
        Command::Demo | Command::DemoAgent => Ok(Exit::Done),
    }
}

/// `--home` and AEX_HOME come as one, clap reads both. A relative one is relative to where the user is.
fn paths(home: Option<PathBuf>) -> Result<Paths, Failure> {
    let fault = |fault: &dyn std::fmt::Display| Failure::new(fault.to_string()).with(Exit::Usage);
    let given = home.filter(|home| !home.as_os_str().is_empty()).map(std::path::absolute).transpose().map_err(|error| fault(&error))?;
    // `a/../b` and a slash at the end name the same home; aexd must meet us at one socket.
    let home = given.map(|path| path.canonicalize().unwrap_or(path));
    Paths::resolve(|name| std::env::var(name).ok(), home.as_deref()).map_err(|error| fault(&error))
}
