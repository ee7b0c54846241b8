//! The flags of `aexctl agent create` and `update`.

use super::account::Limits;
use super::{Names, Reason, names, period, scope, usd, whole};
use crate::units;
use aex_proto::account::{AgentName, Period};
use aex_proto::token::Scope;
use aex_proto::tree::GroupName;
use aex_proto::value::Pico;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct AgentCreate {
    /// Its name
    pub(crate) name: AgentName,
    /// What it may spend, in USD, such as 5 or 0.25
    #[arg(value_parser = usd, allow_negative_numbers = true)]
    pub(crate) budget: Pico,
    /// Requests in any 60 seconds; 0 denies every call
    #[arg(value_parser = whole::<u32>, allow_negative_numbers = true)]
    pub(crate) rpm: u32,
    /// The group above it, whose limits hold for it, too; an agent stays in its group [default: none]
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<GroupName>,
    /// The period of the budget: total, day, week or month
    #[arg(long, value_name = "PERIOD", default_value = "total", value_parser = period)]
    pub(crate) per: Period,
    /// Tokens in any 60 seconds; 0 denies every call [default: no limit]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub(crate) tpm: Option<u32>,
    /// Requests in flight [default: no limit]
    #[arg(long, value_name = "N", value_parser = whole::<u32>)]
    pub(crate) max_concurrent: Option<u32>,
    /// Names of models that it may use [default: all]
    #[arg(long, value_name = "A,B", value_parser = names)]
    pub(crate) allowed_models: Option<Names>,
    /// Largest input, in tokens [default: no limit]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) max_input_tokens: Option<u64>,
    /// Largest output, in tokens [default: the model's]
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) max_output_tokens: Option<u64>,
    /// Deny streams
    #[arg(long)]
    pub(crate) no_streaming: bool,
    /// Deny tools
    #[arg(long)]
    pub(crate) no_tools: bool,
    /// Names of functions that it may offer to a model [default: all]
    #[arg(long, value_name = "A,B", value_parser = names)]
    pub(crate) allowed_tool_names: Option<Names>,
    /// Deny `tool_choice` and `function_call`
    #[arg(long)]
    pub(crate) no_function_calling: bool,
    /// Allow images
    #[arg(long)]
    pub(crate) allow_vision: bool,
    /// Deny unknown fields and tools that the provider runs
    #[arg(long)]
    pub(crate) strict: bool,
    /// What the token may do: execution or read-only
    #[arg(long, default_value = "execution", value_parser = scope)]
    pub(crate) scope: Scope,
    /// Allow calls with a provider key of the agent's own
    #[arg(long)]
    pub(crate) allow_passthrough: bool,
    /// How long the token lives: hours, or a span such as 30m [default: for ever]
    #[arg(long, value_name = "HOURS", value_parser = units::ttl_ms)]
    pub(crate) ttl: Option<u64>,
    #[command(flatten)]
    pub(crate) why: Reason,
}

#[derive(Debug, Args)]
pub(crate) struct AgentUpdate {
    /// The agent
    pub(crate) name: AgentName,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// Names of models that it may use
    #[arg(long, value_name = "A,B", value_parser = names)]
    pub(crate) allowed_models: Option<Names>,
    /// Largest input, in tokens
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) max_input_tokens: Option<u64>,
    /// Largest output, in tokens
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub(crate) max_output_tokens: Option<u64>,
    /// Names of functions that it may offer to a model
    #[arg(long, value_name = "A,B", value_parser = names)]
    pub(crate) allowed_tool_names: Option<Names>,
    /// Allow streams
    #[arg(long, conflicts_with = "no_streaming")]
    pub(crate) streaming: bool,
    /// Deny streams
    #[arg(long)]
    pub(crate) no_streaming: bool,
    /// Allow tools
    #[arg(long, conflicts_with = "no_tools")]
    pub(crate) tools: bool,
    /// Deny tools
    #[arg(long)]
    pub(crate) no_tools: bool,
    /// Allow `tool_choice` and `function_call`
    #[arg(long, conflicts_with = "no_function_calling")]
    pub(crate) function_calling: bool,
    /// Deny `tool_choice` and `function_call`
    #[arg(long)]
    pub(crate) no_function_calling: bool,
    /// Allow images
    #[arg(long, visible_alias = "vision", conflicts_with = "no_vision")]
    pub(crate) allow_vision: bool,
    /// Deny images
    #[arg(long)]
    pub(crate) no_vision: bool,
    /// Deny unknown fields and tools that the provider runs
    #[arg(long, conflicts_with = "no_strict")]
    pub(crate) strict: bool,
    /// Allow unknown fields and tools that the provider runs
    #[arg(long)]
    pub(crate) no_strict: bool,
    /// Allow calls with a provider key of the agent's own
    #[arg(long, visible_alias = "passthrough", conflicts_with = "no_passthrough")]
    pub(crate) allow_passthrough: bool,
    /// Deny calls with a provider key of the agent's own
    #[arg(long)]
    pub(crate) no_passthrough: bool,
    /// A field that it no longer states, so that its profile or the default decides; or rpm, tpm, max_concurrent. May be repeated
    #[arg(long, value_name = "FIELD")]
    pub(crate) clear: Vec<String>,
    #[command(flatten)]
    pub(crate) why: Reason,
}
