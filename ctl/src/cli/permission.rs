//! `aexctl permissions`.

use aex_core::tool::ToolName;
use aex_proto::account::AgentName;
use clap::Subcommand;
use std::path::PathBuf;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Permissions {
    /// Show the rules of permissions.json that mean an agent
    Show {
        /// The agent
        agent: AgentName,
    },
    /// Explain what would come of a call, without making it; exits 0 when it is allowed, 5 when it is denied or a person is asked
    Check {
        /// The agent
        agent: AgentName,
        /// The tool
        #[arg(value_name = "SERVER.TOOL", value_parser = tool)]
        tool: ToolName,
        /// Its arguments, a JSON object [default: none]
        #[arg(value_name = "JSON")]
        arguments: Option<String>,
        /// The folder that relative paths are below [default: that of the server's process, where there is such a server]
        #[arg(long, value_name = "DIR")]
        cwd: Option<PathBuf>,
    },
}

fn tool(text: &str) -> Result<ToolName, String> {
    ToolName::parse(text).map_err(|why| format!("expected SERVER.TOOL such as fs.read_file: {why}"))
}
