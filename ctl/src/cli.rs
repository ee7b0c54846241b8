//! The command line: clap types only. Their docs are the help.

mod account;
mod agent;
mod ledger;
mod permission;
mod tool;

pub(crate) use account::{Budget, BudgetChange, Group, GroupCreate, GroupUpdate, Target};
pub(crate) use agent::{AgentCreate, AgentUpdate};
pub(crate) use ledger::{Audit, Export, Ledger, Since};
pub(crate) use permission::Permissions;
pub(crate) use tool::{Host, Tools, ToolsAdd, ToolsImport};

use crate::units;
use aex_proto::account::{AgentName, Period};
use aex_proto::explain::ExplainId;
use aex_proto::token::Scope;
use aex_proto::value::Pico;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

const EXIT_CODES: &str = "\
Exit codes:
  0  done                   3  daemon not reachable
  1  failed                 4  not found
  2  wrong command line     5  denied             70  a bug
  `aexctl run` ends with the status of its command (128 + n for signal n),
  125 for a failure of its own, 126 when the command cannot be executed, 127 when it is not found.";

/// Governs the LLM calls of AI agents through the local daemon aexd.
#[derive(Debug, Parser)]
#[command(name = "aexctl", version, after_help = EXIT_CODES, max_term_width = 110, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The daemon's home directory [default: $AEX_HOME, else ~/.aex]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// No colour, even on a terminal (as NO_COLOR)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write the default configuration and an empty ledger; nothing that exists is overwritten
    Init {
        /// Take over agents, budgets, spending and tokens of the earlier program, AEX; its database stays as it is
        /// [default: aex.db in the home]
        #[arg(long, value_name = "PATH", num_args = 0..=1)]
        import_aex: Option<Option<PathBuf>>,
    },
    /// Start, stop or look at the daemon
    #[command(subcommand)]
    Daemon(Daemon),
    /// Make and manage agents
    #[command(subcommand)]
    Agent(Agent),
    /// Make and manage groups of agents
    #[command(subcommand)]
    Group(Group),
    /// Set, move and show the budgets of any account
    #[command(subcommand)]
    Budget(Budget),
    /// Deny every call of an account and all below it until it is resumed; calls in flight go on
    Pause(Target),
    /// Lift a pause, a suspension or a kill
    Resume(Target),
    /// Deny every call of an account and all below it, cut those in flight and end the runs
    Kill(Target),
    /// Make, list and revoke tokens
    #[command(subcommand)]
    Token(Token),
    /// Run a command with an agent's budget: its LLM calls go through the daemon
    Run(Run),
    /// Show the totals: agents, budgets, requests, denials
    Status,
    /// Show what was used, by whom and how fast
    Metrics,
    /// Recompute the ledger from its events and check what must hold; works without the daemon, too
    Audit(Audit),
    /// Write the ledger as a file that proves itself; works without the daemon, too
    Export(Export),
    /// Copy the ledger into a new file, which is checked before it is called good; works without the daemon, too
    Backup {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Put a backup in the ledger's place and keep what was there beside it; with the daemon stopped
    Restore {
        /// The backup
        file: PathBuf,
        /// Even when events, calls and money of the ledger that is there are not in the backup
        #[arg(long)]
        accept_loss: bool,
    },
    /// Keep the ledger small
    #[command(subcommand)]
    Ledger(Ledger),
    /// Show the ledger's events
    Events(Events),
    /// Tell the story of a request, a run or an event in plain words; works without the daemon, too
    Explain {
        /// A request (`x-aex-request-id` of the answer), a run such as run_17, or the number of an event
        // `-1` is to be told what an id is, not that it is no flag.
        #[arg(allow_negative_numbers = true)]
        id: ExplainId,
    },
    /// List or check the models, or read the configuration again
    #[command(subcommand)]
    Models(Models),
    /// Show the settings in force and where each comes from
    Config,
    /// Look for what is wrong with this installation, and how to mend it; works without the daemon, too
    Doctor(Doctor),
    /// Show, check and try the policies of agents
    #[command(subcommand)]
    Policy(Policy),
    /// Show which tools an agent may call, and what would come of a call
    #[command(subcommand)]
    Permissions(Permissions),
    /// Add, list and look after the servers of tools
    #[command(subcommand)]
    Tools(Tools),
    /// Show a governed agent from its first call to its spent budget, in a throwaway daemon without any key
    Demo,
    /// Print the completions of a shell, for its start-up file
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show the versions of aexctl and of the running daemon
    Version,
    /// The demo's agent, where there is no python3
    #[command(hide = true)]
    DemoAgent,
    /// The same with tools.
    #[command(hide = true)]
    DemoTools,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Daemon {
    /// Start the daemon; a fresh home is initialised first
    Start {
        /// The port to listen on [default: that of aexd.yaml, else 9000]
        #[arg(long)]
        port: Option<u16>,
        /// Stay in the foreground, with the log on the terminal
        #[arg(long)]
        foreground: bool,
    },
    /// Stop the daemon: calls in flight finish first
    Stop,
    /// Read the configuration and the keys again, as `aexctl models reload` does
    Reload,
    /// Show what the daemon is doing
    Status,
    /// Write a systemd unit that starts the daemon, for this user
    Install {
        /// For the whole machine, under a user of its own
        #[arg(long)]
        system: bool,
        /// Only print it
        #[arg(long)]
        print: bool,
    },
}

/// Why a state is changed.
#[derive(Debug, Args)]
pub(crate) struct Reason {
    /// Why, for the ledger's event
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make one more token and print it, which is shown only here
    Create(TokenCreate),
    /// List the tokens of an agent, or of all and the root, by their digests
    List {
        /// The agent [default: all]
        agent: Option<AgentName>,
    },
    /// Revoke one token at once
    Revoke {
        /// The beginning of its SHA-256, as `token list` shows it
        hash_prefix: String,
        #[command(flatten)]
        why: Reason,
    },
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// The agent
    #[arg(required_unless_present = "root")]
    pub(crate) agent: Option<AgentName>,
    /// For no agent: a token that reads the figures of all accounts, with `--scope read-only`
    #[arg(long, conflicts_with = "agent")]
    pub(crate) root: bool,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) label: String,
    /// What it may do: execution or read-only
    #[arg(long, default_value = "execution", value_parser = scope)]
    pub(crate) scope: Scope,
    /// How long it lives: hours, or a span such as 30m [default: for ever]
    #[arg(long, value_name = "HOURS", value_parser = units::ttl_ms)]
    pub(crate) ttl: Option<u64>,
    #[command(flatten)]
    pub(crate) why: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Test the running daemon with five calls as SDKs make them; they cost what they cost
    #[arg(long)]
    pub(crate) compat: bool,
    /// The token of these calls; other users see it in the process list, but not in the variable AEX_AGENT_TOKEN [default: that
    /// variable, else the token of a throwaway agent]
    #[arg(long, requires = "compat")]
    pub(crate) token: Option<String>,
    /// The model of these calls [default: the default model]
    #[arg(long, requires = "compat")]
    pub(crate) model: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Make an agent and print its token, which is shown only here
    Create(Box<AgentCreate>),
    /// Change an agent's budget, limits or policy; what is not named stays as it is
    Update(Box<AgentUpdate>),
    /// List the agents with their balances
    List {
        /// Whole µUSD amounts, and what is reserved
        #[arg(long, short)]
        verbose: bool,
    },
    /// Show one agent: balances, policy, tokens' digests
    Inspect {
        /// The agent
        name: AgentName,
    },
    /// Delete an agent; its events stay, and its name is free again
    Delete {
        /// The agent
        name: AgentName,
        #[command(flatten)]
        why: Reason,
    },
    /// Give an agent a new token and revoke the old one
    RotateToken {
        /// The agent
        name: AgentName,
        /// How long the new token lives: hours, or a span such as 30m [default: for ever]
        #[arg(long, value_name = "HOURS", value_parser = units::ttl_ms)]
        ttl: Option<u64>,
        /// How long the old token still works, such as 10m [default: not at all]
        #[arg(long, value_name = "DURATION", value_parser = units::span_ms)]
        grace: Option<u64>,
        #[command(flatten)]
        why: Reason,
    },
    /// Deny every call of an agent until it is resumed
    Pause {
        /// The agent
        name: AgentName,
        /// Why, as the denials will say
        #[arg(long)]
        reason: Option<String>,
    },
    /// Lift a pause, a suspension or a kill
    Resume {
        /// The agent
        name: AgentName,
        #[command(flatten)]
        why: Reason,
    },
    /// Deny every call of an agent, cut those in flight and end its runs, until it is resumed
    Kill {
        /// The agent
        name: AgentName,
        /// Why, as the denials will say
        #[arg(long)]
        reason: Option<String>,
    },
    /// Print the variables that lead an SDK to the daemon, and a request that proves them
    Env {
        /// The agent
        name: AgentName,
        /// Its token, which the daemon does not know [default: a placeholder]
        #[arg(long)]
        token: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(override_usage = "aexctl run [OPTIONS] [--] <CMD> [ARG]...")]
pub(crate) struct Run {
    /// The agent that pays [default: the agent `default`]
    #[arg(long, short, value_name = "NAME")]
    pub(crate) agent: Option<AgentName>,
    /// What this run may spend, in USD, within the agent's budget
    #[arg(long, value_name = "USD", value_parser = usd, allow_negative_numbers = true)]
    pub(crate) budget: Option<Pico>,
    /// Requests of this run in any 60 seconds
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub(crate) rpm: Option<u32>,
    /// Tokens of this run in any 60 seconds
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub(crate) tpm: Option<u32>,
    /// How long the run may last: hours, or a span such as 30m
    #[arg(long, value_name = "HOURS", value_parser = units::ttl_ms)]
    pub(crate) ttl: Option<u64>,
    /// End the run at the first call that the budget denies
    #[arg(long)]
    pub(crate) stop_on_budget: bool,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Go on with events as they happen
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only those of this agent and its runs
    #[arg(long, value_name = "NAME")]
    pub(crate) agent: Option<AgentName>,
    /// The newest so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = whole::<u32>)]
    pub(crate) limit: u32,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Models {
    /// List the models with their prices
    List,
    /// Show a model with all its prices: caches, sound, images, long contexts, service tiers, tools that the provider runs
    Show {
        /// The model's name
        name: String,
    },
    /// Take prices and limits over from LiteLLM's public price file into models.yaml
    Import(ModelsImport),
    /// Look for wrong prices, missing keys and providers that cannot be reached; spends nothing
    Check,
    /// Read models.yaml and the keys again; a bad file leaves the old ones in force
    Reload,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelsImport {
    /// LiteLLM's model_prices_and_context_window.json
    pub(crate) file: PathBuf,
    /// Only models of this provider, as LiteLLM or models.yaml calls it; may be given several times [default: those of models.yaml]
    #[arg(long, value_name = "NAME")]
    pub(crate) provider: Vec<String>,
    /// Only models whose name in the file, or in models.yaml, fits this pattern; `*` stands for any characters
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// Take the next pico-USD above a price that is not exact, and mark it; otherwise its model is skipped
    #[arg(long)]
    pub(crate) round_up: bool,
    /// Write this file instead of the daemon's own models.yaml, which is read all the same
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    pub(crate) out: Option<PathBuf>,
    /// Print what would be added, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check a policy.yaml and list its profiles with the agents that they bind; exits 1 when it is wrong
    Check {
        /// The file [default: the daemon's own, as it lies on the disk]
        file: Option<PathBuf>,
    },
    /// Show what holds for an agent: fields with who states them, and rules
    Show {
        /// The agent
        name: AgentName,
    },
    /// Try cases against the policy in force; exits 1 when one comes out otherwise
    Test {
        /// The file of cases
        cases: PathBuf,
    },
}

/// A comma list. A type of its own, because clap takes a Vec for a flag that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<String>);

fn names(text: &str) -> Result<Names, String> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) { Err("an empty name in the list".to_owned()) } else { Ok(Names(names)) }
}

fn usd(text: &str) -> Result<Pico, String> {
    if text.starts_with('-') {
        return Err("a budget cannot be negative".to_owned());
    }
    Pico::parse_usd(text.strip_prefix('$').unwrap_or(text)).map_err(|fault| fault.to_string())
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number such as 60".to_owned())
}

fn period(text: &str) -> Result<Period, String> {
    Period::parse(text).ok_or_else(|| "expected total, day, week or month".to_owned())
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| "expected execution or read-only".to_owned())
}

#[cfg(test)]
mod tests;
