//! `aexctl tools`.

use super::{usd, whole};
use aex_proto::account::AgentName;
use aex_proto::sandbox::Level;
use aex_proto::tool::{Scope, Start, Trust};
use aex_proto::value::Pico;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Tools {
    /// Add a server of tools to mcp.json and put it in force
    Add(Box<ToolsAdd>),
    /// List the servers: state, sandbox, tools, calls, restarts, processes
    List,
    /// Show a server: what holds for it, its processes and its tools; variables as references
    Show {
        /// The server
        name: String,
    },
    /// Stop a server and take it out of mcp.json
    Remove {
        /// The server
        name: String,
    },
    /// Let a server be started again
    Enable {
        /// The server
        name: String,
    },
    /// Stop a server and keep it from being started
    Disable {
        /// The server
        name: String,
    },
    /// Start a server anew, also one that has failed
    Restart {
        /// The server
        name: String,
    },
    /// Show what a server says on standard error
    Logs {
        /// The server
        name: String,
        /// Go on with lines as they come
        #[arg(long, short)]
        follow: bool,
        /// The newest so many lines
        #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = whole::<u32>)]
        lines: u32,
    },
    /// Show what changed in tools that are quarantined, and lift that
    Approve {
        /// SERVER, or SERVER.TOOL
        name: String,
        /// Without asking
        #[arg(long, short)]
        yes: bool,
    },
    /// Call a tool as an agent's own call: its permissions hold, and it pays
    Call {
        /// The tool: SERVER.TOOL, or its name where one server alone has it
        tool: String,
        /// Its arguments, a JSON object; `-` reads them from standard input [default: none]
        #[arg(value_name = "JSON")]
        arguments: Option<String>,
        /// The agent [default: the agent `default`]
        #[arg(long, short, value_name = "NAME")]
        agent: Option<AgentName>,
    },
    /// Take servers over from Claude Desktop, Claude Code, Cursor or VS Code; a name that is taken stays as it is
    Import(ToolsImport),
}

#[derive(Debug, Args)]
#[command(override_usage = "aexctl tools add [OPTIONS] NAME -- <CMD> [ARG]...")]
pub(crate) struct ToolsAdd {
    /// Its name: 1 to 48 of A-Z a-z 0-9 - _ without two _ in a row
    pub(crate) name: String,
    /// A variable: text, or `${env:NAME}`, `${file:PATH}`, `${credential:NAME}`; NAME alone is `${env:NAME}`. May be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// How strictly it is confined: none, standard or strict [default: standard]
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) sandbox: Option<Level>,
    /// The least that must be in force: below it the server does not start
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) require: Option<Level>,
    /// A path that it may read; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) read: Vec<PathBuf>,
    /// A path that it may write; may be given several times
    #[arg(long, value_name = "PATH")]
    pub(crate) write: Vec<PathBuf>,
    /// A host that it may connect to with `--sandbox strict`: HOST or HOST:PORT; may be given several times
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// What a call costs, in USD [default: nothing]
    #[arg(long, value_name = "USD", value_parser = usd)]
    pub(crate) price: Option<Pico>,
    /// What becomes of a tool that is seen for the first time: first-use or approve [default: first-use]
    #[arg(long, value_name = "TRUST", value_parser = trust)]
    pub(crate) trust: Option<Trust>,
    /// When it is started: boot or demand [default: demand]
    #[arg(long, value_name = "WHEN", value_parser = start)]
    pub(crate) start: Option<Start>,
    /// Who shares a process of it: run or shared [default: shared]
    #[arg(long, value_name = "WHO", value_parser = scope)]
    pub(crate) scope: Option<Scope>,
    /// The folder that it starts in [default: a private one]
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Its program and arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ToolsImport {
    /// The file [default: the places where these hosts have theirs]
    pub(crate) file: Option<PathBuf>,
    /// The host that it is of [default: by its name and form; without a file, all]
    #[arg(long, value_name = "HOST")]
    pub(crate) from: Option<Host>,
    /// Say what would be taken, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A host of MCP servers whose files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    Vscode,
}

fn level(text: &str) -> Result<Level, String> {
    [Level::None, Level::Standard, Level::Strict]
        .into_iter()
        .find(|level| level.name() == text)
        .ok_or_else(|| "expected none, standard or strict".to_owned())
}

fn trust(text: &str) -> Result<Trust, String> {
    match text {
        "first-use" => Ok(Trust::FirstUse),
        "approve" => Ok(Trust::Approve),
        _ => Err("expected first-use or approve".to_owned()),
    }
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "boot" => Ok(Start::Boot),
        "demand" => Ok(Start::Demand),
        _ => Err("expected boot or demand".to_owned()),
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    match text {
        "run" => Ok(Scope::Run),
        "shared" => Ok(Scope::Shared),
        _ => Err("expected run or shared".to_owned()),
    }
}
