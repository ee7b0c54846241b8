//! The flags of `aexctl group`, `aexctl budget`, `aexctl pause`, `resume` and `kill`.

use super::{Reason, period, usd, whole};
use aex_proto::account::Period;
use aex_proto::tree::{AccountRef, GroupName};
use aex_proto::value::Pico;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Make a group: its limits hold for all agents and groups below it together
    Create(GroupCreate),
    /// List the groups with their balances
    List,
    /// Change a group's budget or limits; what is not named stays as it is
    Update(GroupUpdate),
    /// Delete a group; its events stay, and its name is free again
    Delete {
        /// The group
        name: GroupName,
        /// With all agents and groups below it
        #[arg(long)]
        recursive: bool,
        #[command(flatten)]
        why: Reason,
    },
}

#[derive(Debug, Args)]
pub(crate) struct GroupCreate {
    /// Its name
    pub(crate) name: GroupName,
    /// The group above it [default: none]
    #[arg(long, value_name = "GROUP")]
    pub(crate) parent: Option<GroupName>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) why: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct GroupUpdate {
    /// The group
    pub(crate) name: GroupName,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// A limit that it no longer has: rpm, tpm or max-concurrent. May be repeated
    #[arg(long, value_name = "LIMIT")]
    pub(crate) clear: Vec<String>,
    #[command(flatten)]
    pub(crate) why: Reason,
}

/// What an account may use, together with all below it.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// What it may spend, with all below it, in USD, such as 5 or 0.25: what is spent already counts
    #[arg(long, value_name = "USD", value_parser = usd, allow_negative_numbers = true)]
    pub(crate) budget: Option<Pico>,
    /// The period of that budget: total, day, week or month
    #[arg(long, value_name = "PERIOD", default_value = "total", value_parser = period, requires = "budget")]
    pub(crate) per: Period,
    /// Requests in any 60 seconds; 0 denies every call
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub(crate) rpm: Option<u32>,
    /// Tokens in any 60 seconds; 0 denies every call
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub(crate) tpm: Option<u32>,
    /// Requests in flight
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub(crate) max_concurrent: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Budget {
    /// Set an account's budget of a period: what the period spent already counts
    Set(BudgetChange),
    /// Add to an account's budget of a period
    Add(BudgetChange),
    /// Move a part of one account's budget to another's, at once or not at all
    Transfer {
        /// Whose budget is lowered: root, group:NAME, agent:NAME, run_17, or a name
        from: AccountRef,
        /// Whose budget is raised
        to: AccountRef,
        /// By how much, in USD
        #[arg(value_parser = usd, allow_negative_numbers = true)]
        amount: Pico,
        /// The period of both budgets: total, day, week or month
        #[arg(long, value_name = "PERIOD", default_value = "total", value_parser = period)]
        per: Period,
        #[command(flatten)]
        why: Reason,
    },
    /// Take an account's budget of a period away; the running period is counted to its end
    Remove {
        /// The account: root, group:NAME, agent:NAME, run_17, or a name
        account: AccountRef,
        /// The period: total, day, week or month
        #[arg(long, value_name = "PERIOD", default_value = "total", value_parser = period)]
        per: Period,
        #[command(flatten)]
        why: Reason,
    },
    /// Show budgets and what is used of them, of an account and all below it
    Show {
        /// The account: root, group:NAME, agent:NAME, run_17, or a name [default: root]
        account: Option<AccountRef>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BudgetChange {
    /// The account: root, group:NAME, agent:NAME, run_17, or a name
    pub(crate) account: AccountRef,
    /// In USD, such as 5 or 0.25
    #[arg(value_parser = usd, allow_negative_numbers = true)]
    pub(crate) amount: Pico,
    /// The period: total, day, week or month
    #[arg(long, value_name = "PERIOD", default_value = "total", value_parser = period)]
    pub(crate) per: Period,
    #[command(flatten)]
    pub(crate) why: Reason,
}

/// Whose state is changed.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The account: root, group:NAME, agent:NAME, run_17, or a name
    #[arg(required_unless_present = "all")]
    pub(crate) account: Option<AccountRef>,
    /// All accounts of this machine: the state of the root
    #[arg(long, conflicts_with = "account")]
    pub(crate) all: bool,
    /// Why, for the ledger's event and for the denials
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}
