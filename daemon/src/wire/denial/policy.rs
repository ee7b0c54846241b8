//! The words of denials by policy: by a field, by the model's card, by a rule.

use super::{INVALID_REQUEST, POLICY_VIOLATION, Refusal, forbidden, invalid};
use aex_core::policy::{Breach, Effect, Rule, Ruled};

/// A denial by a rule of policy.yaml: which, where, why, and what nearly let the call pass.
pub(super) fn ruled_out(ruled: &Ruled) -> String {
    let Ruled { effect, error, file, line, matched, near, reason, rule } = ruled;
    let place = match (file, line) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        _ => String::new(),
    };
    let mut text = match (error, effect) {
        (Some(error), _) => format!("Rule `{rule}`{place} cannot be evaluated, so it denies: {error}"),
        (None, Effect::Ask) => format!("Rule `{rule}`{place} asks for an approval, and approvals do not exist yet, so it denies"),
        (None, _) if rule == "default" => format!("No rule of the agent's profile{place} lets this call pass"),
        (None, _) => format!("Rule `{rule}`{place} denies this call"),
    };
    if let Some(reason) = reason {
        text.extend([": ", reason]);
    }
    let others: Vec<&str> = matched.iter().filter(|name| *name != rule).map(String::as_str).collect();
    if !others.is_empty() {
        text.extend(["; it also matches ", &others.join(", ")]);
    }
    if let (Some(nearest), "default") = (near.first(), rule.as_str()) {
        text.push_str(&format!("; nearest is `{}`, but for {}", nearest.rule, nearest.condition));
    }
    text.push_str("; `aexctl policy show NAME` shows the rules.");
    text
}

/// What the rule is about, in the words of a request.
struct RuleWords {
    refusal: fn(String) -> Refusal,
    param: &'static str,
    /// What is refused.
    what: &'static str,
}

pub(super) fn policy(breach: &Breach, also: &[Rule]) -> Refusal {
    let Breach { asked, limit, rule } = breach;
    let RuleWords { refusal, param, what } = rule_words(*rule);
    let also = if also.is_empty() {
        String::new()
    } else {
        format!("; it also breaks {}", also.iter().map(|rule| rule.setting()).collect::<Vec<_>>().join(", "))
    };
    let lift = match rule {
        Rule::ModelTools | Rule::ModelVision | Rule::ModelMaxTokens => "models.yaml says what the model takes",
        _ => "the agent's policy decides that: `aexctl agent inspect NAME` shows it",
    };
    let refusal = refusal(format!("{what}: asked {asked}, {setting} is {limit}{also}; {lift}.", setting = rule.setting()));
    // Strictness is about no single field.
    if param.is_empty() { refusal } else { refusal.about(param) }
}

fn rule_words(rule: Rule) -> RuleWords {
    let model = |message| invalid(INVALID_REQUEST, message);
    let agent = |message| forbidden(POLICY_VIOLATION, message);
    let (refusal, param, what): (fn(String) -> Refusal, _, _) = match rule {
        Rule::AllowedModels => (|message| forbidden("model_not_allowed", message), "model", "This agent may not use this model"),
        Rule::ModelTools => (model, "tools", "This model takes no tools"),
        Rule::ModelVision => (model, "messages", "This model takes no images"),
        Rule::AllowStreaming => (agent, "stream", "This agent may not stream"),
        Rule::AllowTools => (agent, "tools", "This agent may not offer tools"),
        Rule::AllowedToolNames => (agent, "tools", "This agent may not offer this tool"),
        Rule::AllowFunctionCalling => (agent, "tool_choice", "This agent may not choose tools"),
        Rule::AllowVision => (agent, "messages", "This agent may not send images"),
        Rule::Strict => (agent, "", "This agent is held to strict requests"),
        Rule::MaxInputTokens => (agent, "messages", "The input is larger than this agent may send"),
        Rule::MaxOutputTokens => (agent, "max_tokens", "More output is asked for than this agent may get"),
        Rule::ModelMaxTokens => (model, "max_tokens", "More output is asked for than this model gives"),
    };
    RuleWords { refusal, param, what }
}
