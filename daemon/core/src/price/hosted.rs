//! Tools that the provider runs: how often at most, at what price, and which are taken out of a request.

use super::{ModelCard, Price, Unbounded};
use crate::ask::{Ask, NAMES_KEPT};
use crate::usage::ToolName;
use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What stands for all tools in a list of those to drop.
const ALL: &str = "*";

/// The price of a tool that the provider runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolPrice {
    /// The most calls in one answer, as the provider documents it; absent: the request has to state it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
    /// One call, beside the tokens that it brings.
    pub per_call: Pico,
}

/// A tool that the provider may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostedCalls {
    /// Which.
    pub tool: ToolName,
    /// How often at most, over all choices.
    pub calls: u64,
    /// The price of one call.
    pub unit: Pico,
}

/// The tools that the provider may run for a call, each of which needs a price and a limit.
pub(super) fn calls(ask: &Ask, price: &Price) -> Result<Vec<HostedCalls>, Unbounded> {
    let mut all: Vec<HostedCalls> = Vec::new();
    // Beyond what is kept there may be tools that nobody named.
    if let Some(first) = ask.hosted_tools.first().filter(|_| ask.hosted_tools.len() >= NAMES_KEPT) {
        return Err(Unbounded::HostedTool(first.clone()));
    }
    for offered in &ask.hosted_tools {
        let unpriced = || Unbounded::HostedTool(offered.clone());
        let tool = ToolName::of_type(offered).ok_or_else(unpriced)?;
        let ToolPrice { max_calls, per_call } = *price.tool(tool).ok_or_else(unpriced)?;
        let stated = ask.hosted_uses.get(offered).copied();
        let least = [max_calls, stated, ask.max_tool_calls].into_iter().flatten().min();
        let calls = least.ok_or_else(|| Unbounded::HostedUnlimited(offered.clone()))?.saturating_mul(ask.choices.max(1));
        match all.iter_mut().find(|held| held.tool == tool) {
            Some(held) => held.calls = held.calls.saturating_add(calls),
            None => all.push(HostedCalls { tool, calls, unit: per_call }),
        }
    }
    Ok(all)
}

/// Names of the hosted tools that the model's card takes out of a request, as the request has them.
#[must_use]
pub fn dropped<'a>(ask: &'a Ask, card: &'a ModelCard) -> Vec<&'a str> {
    // Where names are missing nobody can tell that all were taken out.
    if card.drop_tools.is_empty() || ask.hosted_tools.len() >= NAMES_KEPT {
        return Vec::new();
    }
    let priced = |tool: ToolName| card.price.as_ref().is_some_and(|price| price.tool(tool).is_some());
    let drops = |name: &str| {
        ToolName::of_type(name).is_some_and(|tool| {
            // A kind of output is no tool: without it the answer is another one.
            let is_output = tool.as_str().starts_with("modalities.");
            !is_output && !priced(tool) && card.drop_tools.iter().any(|drop| drop == ALL || drop == tool.as_str())
        })
    };
    let mut names: Vec<&str> = ask.hosted_tools.iter().map(String::as_str).filter(|name| drops(name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The ask that is left when the model's card has taken its tools out.
#[must_use]
pub fn without_dropped<'a>(ask: &'a Ask, card: &ModelCard) -> Cow<'a, Ask> {
    if ask.hosted_tools.is_empty() || card.drop_tools.is_empty() {
        return Cow::Borrowed(ask);
    }
    let gone: Vec<String> = dropped(ask, card).into_iter().map(str::to_owned).collect();
    if gone.is_empty() {
        return Cow::Borrowed(ask);
    }
    let mut left = ask.clone();
    left.hosted_tools.retain(|tool| !gone.contains(tool));
    left.hosted_uses.retain(|tool, _| !gone.contains(tool));
    let count = ask.hosted_tools.len().saturating_sub(left.hosted_tools.len());
    left.tools = ask.tools.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
    // A choice among no tools is refused, so it is taken out with the last of them.
    left.function_calling &= left.tools > 0;
    Cow::Owned(left)
}
