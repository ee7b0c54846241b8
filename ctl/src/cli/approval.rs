//! `aexctl approvals`.

use super::Reason;
use aex_proto::value::RequestId;
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List the calls of tools that wait for a person's answer
    List {
        /// Go on with calls as they begin to wait
        #[arg(long, short, conflicts_with = "always")]
        follow: bool,
        /// What passes without a question instead
        #[arg(long)]
        always: bool,
    },
    /// Show all that a call says
    Show {
        /// The call, as `approvals list` shows it
        id: RequestId,
    },
    /// Let a call pass
    Approve {
        /// The call, as `approvals list` shows it
        id: RequestId,
        /// And all later calls of this agent to this tool, while the same rules ask
        #[arg(long)]
        always: bool,
        /// What `approvals show` names when it has shown all: needed where the list does not
        #[arg(long, value_name = "DIGEST")]
        seen: Option<String>,
        #[command(flatten)]
        why: Reason,
    },
    /// Deny a call
    Deny {
        /// The call, as `approvals list` shows it
        id: RequestId,
        #[command(flatten)]
        why: Reason,
    },
    /// Take an approval back that lasts
    Revoke {
        /// The beginning of its id, as `approvals list --always` shows it
        id: String,
        #[command(flatten)]
        why: Reason,
    },
}
