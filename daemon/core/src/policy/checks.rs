//! The checks of single fields: what an agent's policy and a model's card let through. They need no rule.

use super::fields::Policy;
use crate::ask::Ask;
use crate::price::ModelCard;
use serde::{Deserialize, Serialize};

/// Rules that deny a call, by the name that a denial states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// `allowed_models` does not list the model.
    AllowedModels,
    /// The model takes no tools.
    ModelTools,
    /// The model takes no images.
    ModelVision,
    /// `allow_streaming` is off.
    AllowStreaming,
    /// `allow_tools` is off.
    AllowTools,
    /// `allowed_tool_names` does not list a function.
    AllowedToolNames,
    /// `allow_function_calling` is off.
    AllowFunctionCalling,
    /// `allow_vision` is off.
    AllowVision,
    /// `strict` refuses an unknown field or a hosted tool.
    Strict,
    /// `max_input_tokens` is exceeded.
    MaxInputTokens,
    /// `max_output_tokens` is exceeded.
    MaxOutputTokens,
    /// The model's `limits.max_tokens` is exceeded.
    ModelMaxTokens,
}

impl Rule {
    /// The setting to look at, as the user wrote it.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Rule::AllowedModels => "allowed_models",
            Rule::ModelTools => "capabilities.tools",
            Rule::ModelVision => "capabilities.vision",
            Rule::AllowStreaming => "allow_streaming",
            Rule::AllowTools => "allow_tools",
            Rule::AllowedToolNames => "allowed_tool_names",
            Rule::AllowFunctionCalling => "allow_function_calling",
            Rule::AllowVision => "allow_vision",
            Rule::Strict => "strict",
            Rule::MaxInputTokens => "max_input_tokens",
            Rule::MaxOutputTokens => "max_output_tokens",
            Rule::ModelMaxTokens => "limits.max_tokens",
        }
    }
}

/// A rule that a call breaks, with the values that show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// What the call asks.
    pub asked: String,
    /// What the rule allows.
    pub limit: String,
    /// The rule.
    pub rule: Rule,
}

/// Every rule that the call breaks, in the order of the checks: the first one decides, the others are told as matched too.
#[must_use]
pub fn breaches(ask: &Ask, card: &ModelCard, policy: &Policy) -> Vec<Breach> {
    let mut found = Vec::new();
    each(ask, card, policy, |broken, rule, asked, limit| {
        if broken {
            found.push(Breach { asked: asked(), limit: limit(), rule });
        }
    });
    found
}

/// Every check of a field in its order, and whether the call breaks it.
#[must_use]
pub fn checked(ask: &Ask, card: &ModelCard, policy: &Policy) -> Vec<(Breach, bool)> {
    let mut found = Vec::new();
    each(ask, card, policy, |broken, rule, asked, limit| found.push((Breach { asked: asked(), limit: limit(), rule }, broken)));
    found
}

type Value<'v> = &'v dyn Fn() -> String;

/// The one list of the checks. Values are made only for who wants them.
fn each(ask: &Ask, card: &ModelCard, policy: &Policy, mut check: impl FnMut(bool, Rule, Value<'_>, Value<'_>)) {
    let listed = |list: &Option<Vec<String>>, name: &String| list.as_ref().is_none_or(|names| names.contains(name));
    let tools = || format!("{} tools", ask.tools);
    let images = || format!("{} images", ask.images);
    check(!listed(&policy.allowed_models, &card.name), Rule::AllowedModels, &|| card.name.clone(), &|| names(&policy.allowed_models));
    check(ask.tools > 0 && !card.tools, Rule::ModelTools, &tools, &|| card.tools.to_string());
    check(ask.images > 0 && !card.vision, Rule::ModelVision, &images, &|| card.vision.to_string());
    check(ask.stream && !policy.allow_streaming, Rule::AllowStreaming, &|| format!("stream: {}", ask.stream), &|| {
        policy.allow_streaming.to_string()
    });
    check(ask.tools > 0 && !policy.allow_tools, Rule::AllowTools, &tools, &|| policy.allow_tools.to_string());
    let offered = || ask.tool_names.iter().chain(&ask.hosted_tools);
    let foreign = offered().find(|name| !listed(&policy.allowed_tool_names, name));
    let unnamed = policy.allowed_tool_names.is_some() && ask.tools > named(ask);
    let tool = || match foreign {
        Some(name) => name.clone(),
        None if unnamed => "a tool without a name".to_owned(),
        None => offered().cloned().collect::<Vec<_>>().join(", "),
    };
    check(foreign.is_some() || unnamed, Rule::AllowedToolNames, &tool, &|| names(&policy.allowed_tool_names));
    let choice = || if ask.function_calling { "tool_choice".to_owned() } else { String::new() };
    check(ask.function_calling && !policy.allow_function_calling, Rule::AllowFunctionCalling, &choice, &|| {
        policy.allow_function_calling.to_string()
    });
    check(ask.images > 0 && !policy.allow_vision, Rule::AllowVision, &images, &|| policy.allow_vision.to_string());
    let unknown = ask.unknown_fields.first().or(ask.hosted_tools.first());
    check(policy.strict && unknown.is_some(), Rule::Strict, &|| unknown.cloned().unwrap_or_default(), &|| {
        if policy.strict { "known fields and functions only".to_owned() } else { String::new() }
    });
    let input = ask.estimated_input_tokens();
    let over = |limit: Option<u64>, asked: u64| limit.is_some_and(|limit| asked > limit);
    let limit = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    check(over(policy.max_input_tokens, input), Rule::MaxInputTokens, &|| input.to_string(), &|| limit(policy.max_input_tokens));
    let output = ask.max_tokens.unwrap_or(0);
    let stated = || ask.max_tokens.map(|tokens| tokens.to_string()).unwrap_or_default();
    check(over(policy.max_output_tokens, output), Rule::MaxOutputTokens, &stated, &|| limit(policy.max_output_tokens));
    check(output > card.max_tokens, Rule::ModelMaxTokens, &stated, &|| card.max_tokens.to_string());
}

pub(super) fn named(ask: &Ask) -> u64 {
    u64::try_from(ask.tool_names.len().saturating_add(ask.hosted_tools.len())).unwrap_or(u64::MAX)
}

fn names(list: &Option<Vec<String>>) -> String {
    list.as_ref().map(|names| names.join(", ")).unwrap_or_default()
}
