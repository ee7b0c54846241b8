//! `aexctl agent`.

mod env;

use super::Context;
use crate::cli::{self, Agent as Verb};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::units::{count, instant, instant_or};
use crate::view::{Paint, table};
use aex_proto::account::{
    AccountState, Agent, AgentChange, AgentCreate, AgentCreated, AgentDeleted, AgentInspection, AgentList, AgentName, AgentPolicy,
    AgentRef, AgentRotateToken, AgentUpdate, Budget, Period,
};
use aex_proto::method::{self, Nothing};
use aex_proto::token::{Rotated, Scope, Token};
use aex_proto::tree::AccountRef;
use aex_proto::value::Pico;

pub(super) fn run(context: &Context<'_>, verb: Verb) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let view = context.view;
    match verb {
        Verb::Create(flags) => {
            let created = client.call::<method::AgentCreate>(&params(*flags))?;
            view.show(&created, |_| created_text(&created))?;
        }
        Verb::Update(flags) => {
            let updated = client.call::<method::AgentUpdate>(&changes(*flags))?;
            updated.warnings.iter().for_each(|warning| view.note(&format!("warning: {warning}")));
            view.show(&updated, |_| updated_text(&updated.agent))?;
        }
        Verb::List { verbose } => {
            let list = client.call::<method::AgentList>(&Nothing {})?;
            view.show(&list, |_| if verbose { verbose_text(&list) } else { list_text(&list) })?;
        }
        Verb::Inspect { name } => {
            let agent = client.call::<method::AgentInspect>(&AgentRef { name })?;
            view.show(&agent, |paint| inspection_text(&agent, paint))?;
        }
        Verb::Delete { name, why } => {
            let deleted = client.call::<method::AgentDelete>(&AgentChange { name, reason: why.reason })?;
            view.show(&deleted, |_| deleted_text(&deleted))?;
        }
        Verb::RotateToken { name, ttl, grace, why } => {
            let wanted = AgentRotateToken { name, ttl_ms: ttl, grace_ms: grace, reason: why.reason };
            let rotated = client.call::<method::AgentRotateToken>(&wanted)?;
            view.show(&rotated, |_| rotated_text(&rotated))?;
        }
        Verb::Pause { name, reason } => {
            let before = state(&mut client, &name)?;
            let says_why = reason.is_some();
            let agent = client.call::<method::AgentPause>(&AgentChange { name, reason })?;
            view.show(&agent, |_| changed(&agent, before, "paused", says_why))?;
        }
        Verb::Resume { name, why } => {
            let before = state(&mut client, &name)?;
            let agent = client.call::<method::AgentResume>(&AgentChange { name, reason: why.reason })?;
            view.show(&agent, |_| changed(&agent, before, "resumed", false))?;
        }
        Verb::Kill { name, reason } => super::account::kill_one(&mut client, view, AccountRef::Agent(name), reason)?,
        Verb::Env { name, token } => env::run(context, &mut client, name, token)?,
    }
    Ok(Exit::Done)
}

fn state(client: &mut Client, name: &AgentName) -> Result<AccountState, Failure> {
    Ok(client.call::<method::AgentInspect>(&AgentRef { name: name.clone() })?.agent.state)
}

fn changed(agent: &Agent, before: AccountState, done: &str, says_why: bool) -> String {
    if agent.state == before {
        return super::account::already(&format!("Agent '{}'", agent.name), agent.state, agent.state_reason.as_deref(), says_why);
    }
    format!("Agent '{}' {done}.", agent.name)
}

fn params(flags: cli::AgentCreate) -> AgentCreate {
    AgentCreate {
        name: flags.name,
        group: flags.group,
        budget_pico: flags.budget,
        per: flags.per,
        rpm: flags.rpm,
        tpm: flags.tpm,
        max_concurrent: flags.max_concurrent,
        scope: flags.scope,
        ttl_ms: flags.ttl,
        reason: flags.why.reason,
        policy: AgentPolicy {
            allowed_models: flags.allowed_models.map(|names| names.0),
            max_input_tokens: flags.max_input_tokens,
            max_output_tokens: flags.max_output_tokens,
            allow_streaming: flags.no_streaming.then_some(false),
            allow_tools: flags.no_tools.then_some(false),
            allowed_tool_names: flags.allowed_tool_names.map(|names| names.0),
            allow_function_calling: flags.no_function_calling.then_some(false),
            allow_vision: flags.allow_vision.then_some(true),
            strict: flags.strict.then_some(true),
            allow_passthrough: flags.allow_passthrough.then_some(true),
        },
    }
}

fn changes(flags: cli::AgentUpdate) -> AgentUpdate {
    let either = |yes: bool, no: bool| if yes { Some(true) } else { no.then_some(false) };
    AgentUpdate {
        name: flags.name,
        budget_pico: flags.limits.budget,
        per: flags.limits.per,
        rpm: flags.limits.rpm,
        tpm: flags.limits.tpm,
        max_concurrent: flags.limits.max_concurrent,
        policy: AgentPolicy {
            allowed_models: flags.allowed_models.map(|names| names.0),
            max_input_tokens: flags.max_input_tokens,
            max_output_tokens: flags.max_output_tokens,
            allow_streaming: either(flags.streaming, flags.no_streaming),
            allow_tools: either(flags.tools, flags.no_tools),
            allowed_tool_names: flags.allowed_tool_names.map(|names| names.0),
            allow_function_calling: either(flags.function_calling, flags.no_function_calling),
            allow_vision: either(flags.allow_vision, flags.no_vision),
            strict: either(flags.strict, flags.no_strict),
            allow_passthrough: either(flags.allow_passthrough, flags.no_passthrough),
        },
        // Flags are written with dashes, fields with underscores.
        clear: flags.clear.iter().map(|name| name.replace('-', "_")).collect(),
        reason: flags.why.reason,
    }
}

fn updated_text(agent: &Agent) -> String {
    let mut lines = vec![format!("Agent '{}' updated.", agent.name)];
    lines.extend(agent.budgets.iter().map(|budget| format!("Budget: {}, {} left", limit(budget), budget.remaining_pico)));
    let restrictions = restrictions(&agent.policy);
    if !restrictions.is_empty() {
        lines.push(format!("Capabilities: {}", restrictions.join(", ")));
    }
    lines.join("\n")
}

fn created_text(created: &AgentCreated) -> String {
    let agent = &created.agent;
    let mut lines = vec![format!("Agent '{}' created.", agent.name), format!("Token: {}", created.token.expose())];
    lines.extend(agent.group.iter().map(|group| format!("Group: {group}")));
    lines.extend(agent.budgets.iter().map(|budget| format!("Budget: {}", limit(budget))));
    let restrictions = restrictions(&agent.policy);
    if !restrictions.is_empty() {
        lines.push(format!("Capabilities: {}", restrictions.join(", ")));
    }
    lines.extend(agent.token_expires_at.map(|at| format!("Expires: {}", instant(at))));
    lines.extend(agent.scope.filter(|scope| *scope != Scope::Execution).map(|scope| format!("Scope: {}", scope.name())));
    lines.join("\n")
}

/// A budget's limit, with its period.
pub(super) fn limit(budget: &Budget) -> String {
    let per = if budget.period == Period::Total { String::new() } else { format!(" per {}", budget.period.name()) };
    format!("{} ({} micro){per}", budget.limit_pico, budget.limit_pico.micro())
}

/// What a policy takes away from, or adds to, the seed's: one text each, as the flags name it.
fn restrictions(policy: &AgentPolicy) -> Vec<String> {
    let flags = [
        ("no streaming", policy.allow_streaming == Some(false)),
        ("no tools", policy.allow_tools == Some(false)),
        ("no function calling", policy.allow_function_calling == Some(false)),
        ("vision", policy.allow_vision == Some(true)),
        ("strict", policy.strict == Some(true)),
        ("passthrough", policy.allow_passthrough == Some(true)),
    ];
    let mut texts: Vec<String> = flags.into_iter().filter(|(_, set)| *set).map(|(text, _)| text.to_owned()).collect();
    texts.extend(policy.allowed_models.as_ref().map(|names| format!("models {}", names.join(", "))));
    texts.extend(policy.allowed_tool_names.as_ref().map(|names| format!("functions {}", names.join(", "))));
    texts.extend(policy.max_input_tokens.map(|tokens| format!("input ≤ {tokens} tokens")));
    texts.extend(policy.max_output_tokens.map(|tokens| format!("output ≤ {tokens} tokens")));
    texts
}

fn list_text(list: &AgentList) -> String {
    let row = |agent: &Agent| {
        let [limit, spent, _, remaining] = amounts(agent, |pico| pico.to_string());
        [name(agent), limit, spent, remaining, rpm(agent), scope(agent), caps(&agent.policy), instant_or(agent.last_activity_at, "-")]
    };
    let head = ["Name", "Budget", "Spent", "Remaining", "RPM", "Scope", "Caps", "Last Activity"];
    if list.agents.iter().all(|agent| agent.group.is_none()) {
        return table(head, list.agents.iter().map(row));
    }
    let [first, budget, spent, remaining, rpm, scope, caps, last] = head;
    let head = [first, "Group", budget, spent, remaining, rpm, scope, caps, last];
    let row = |agent: &Agent| {
        let [name, budget, spent, remaining, rpm, scope, caps, last] = row(agent);
        [name, agent.group.clone().unwrap_or_else(|| "-".to_owned()), budget, spent, remaining, rpm, scope, caps, last]
    };
    table(head, list.agents.iter().map(row))
}

fn verbose_text(list: &AgentList) -> String {
    let row = |agent: &Agent| {
        let [limit, spent, reserved, remaining] = amounts(agent, |pico| pico.micro().to_string());
        [
            name(agent),
            limit,
            spent,
            reserved,
            remaining,
            rpm(agent),
            scope(agent),
            caps(&agent.policy),
            instant_or(agent.last_activity_at, "-"),
        ]
    };
    let head = ["Name", "Budget (µ)", "Spent (µ)", "Reserved (µ)", "Remaining (µ)", "RPM", "Scope", "Caps", "Last Activity"];
    table(head, list.agents.iter().map(row))
}

fn name(agent: &Agent) -> String {
    if agent.state == AccountState::Active { agent.name.clone() } else { format!("{} ({})", agent.name, agent.state.name()) }
}

/// Limits, spent, reserved and remaining of all budgets: any of them may be the one that binds.
fn amounts(agent: &Agent, text: fn(Pico) -> String) -> [String; 4] {
    let all = |of: &dyn Fn(&Budget) -> String| {
        let texts: Vec<String> = agent.budgets.iter().map(of).collect();
        if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
    };
    let per = |budget: &Budget| if budget.period == Period::Total { String::new() } else { format!("/{}", budget.period.name()) };
    [
        all(&|budget| format!("{}{}", text(budget.limit_pico), per(budget))),
        all(&|budget| text(budget.spent_pico)),
        all(&|budget| text(budget.reserved_pico)),
        all(&|budget| text(budget.remaining_pico)),
    ]
}

fn rpm(agent: &Agent) -> String {
    agent.rpm.map_or_else(|| "-".to_owned(), |rpm| rpm.to_string())
}

fn scope(agent: &Agent) -> String {
    match agent.scope {
        Some(Scope::Execution) => "exec",
        Some(Scope::ReadOnly) => "RO",
        None => "-",
    }
    .to_owned()
}

/// Capabilities in the seed's short form.
fn caps(policy: &AgentPolicy) -> String {
    let all = [
        ("!stream", policy.allow_streaming == Some(false)),
        ("!tools", policy.allow_tools == Some(false)),
        ("!functions", policy.allow_function_calling == Some(false)),
        ("vision", policy.allow_vision == Some(true)),
        ("STRICT", policy.strict == Some(true)),
        ("PT", policy.allow_passthrough == Some(true)),
    ];
    let set: Vec<&str> = all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    if set.is_empty() { "-".to_owned() } else { set.join(" ") }
}

fn inspection_text(inspection: &AgentInspection, paint: Paint) -> String {
    let agent = &inspection.agent;
    let policy = &agent.policy;
    let all = |list: &Option<Vec<String>>| list.as_ref().map_or_else(|| "all".to_owned(), |names| names.join(", "));
    let cap = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
    let yes = |allowed: Option<bool>| if allowed == Some(true) { "yes" } else { "no" }.to_owned();
    // What the agent states itself needs no mark; what it has from its profile does.
    let from = |field: &str, value: String| match (agent.policy_from.get(field).map(String::as_str), &agent.profile) {
        (Some("profile"), Some(profile)) => format!("{value} (profile {profile})"),
        _ => value,
    };
    let state = match &agent.state_reason {
        Some(reason) => paint.bad(&format!("{}: {reason}", agent.state.name())),
        None => agent.state.name().to_owned(),
    };
    let mut rows = vec![("Name", agent.name.clone()), ("Account", agent.id.to_string()), ("State", state)];
    rows.extend(agent.group.iter().map(|group| ("Group", group.clone())));
    for budget in &agent.budgets {
        rows.push(("Budget", limit(budget)));
        rows.push(("Spent", format!("{} ({} micro)", budget.spent_pico, budget.spent_pico.micro())));
        rows.push(("Reserved", format!("{} ({} micro)", budget.reserved_pico, budget.reserved_pico.micro())));
        rows.push(("Remaining", format!("{} ({} micro)", budget.remaining_pico, budget.remaining_pico.micro())));
        rows.extend(budget.resets_at.map(|at| ("Resets", instant(at))));
    }
    let concurrent = cap(agent.max_concurrent.map(u64::from));
    rows.extend(agent.profile.iter().map(|profile| ("Profile", profile.clone())));
    rows.extend([
        ("RPM", rpm(agent)),
        ("TPM", cap(agent.tpm.map(u64::from))),
        ("Concurrent", concurrent),
        ("Allowed models", from("allowed_models", all(&policy.allowed_models))),
        ("Max input tokens", from("max_input_tokens", cap(policy.max_input_tokens))),
        ("Max output tokens", from("max_output_tokens", cap(policy.max_output_tokens))),
        ("Streaming", from("allow_streaming", yes(policy.allow_streaming))),
        ("Tools", from("allow_tools", yes(policy.allow_tools))),
        ("Allowed tool names", from("allowed_tool_names", all(&policy.allowed_tool_names))),
        ("Function calling", from("allow_function_calling", yes(policy.allow_function_calling))),
        ("Vision", from("allow_vision", yes(policy.allow_vision))),
        ("Strict", from("strict", yes(policy.strict))),
        ("Passthrough", from("allow_passthrough", yes(policy.allow_passthrough))),
        ("Scope", agent.scope.map_or_else(|| "no living token".to_owned(), |scope| scope.name().to_owned())),
        ("Expires", instant_or(agent.token_expires_at, "never")),
        ("Calls", inspection.calls.to_string()),
        ("Denials", inspection.denials.to_string()),
        ("Active runs", inspection.active_runs.to_string()),
        ("Created", instant(agent.created_at)),
        ("Last activity", instant_or(agent.last_activity_at, "none")),
    ]);
    let tokens = table(["Token's SHA-256", "Label", "Scope", "Created", "Expires", "Revoked"], inspection.tokens.iter().map(token));
    format!("{}\n\n{tokens}", super::daemon::rows(&rows))
}

/// A token's digest, label, scope and times.
pub(super) fn token(token: &Token) -> [String; 6] {
    let (expires, revoked) = (instant_or(token.expires_at, "never"), instant_or(token.revoked_at, "-"));
    let label = if token.label.is_empty() { "-".to_owned() } else { token.label.clone() };
    [format!("{}…", token.hash_prefix), label, token.scope.name().to_owned(), instant(token.created_at), expires, revoked]
}

fn rotated_text(rotated: &Rotated) -> String {
    let mut lines = vec![format!("New Token: {}", rotated.token.expose())];
    lines.extend(rotated.expires_at.map(|at| format!("Expires: {}", instant(at))));
    lines.push(match rotated.old_until {
        Some(at) => format!("The old one works until {}.", instant(at)),
        None => "The old one is revoked.".to_owned(),
    });
    lines.join("\n")
}

fn deleted_text(deleted: &AgentDeleted) -> String {
    let runs = if deleted.runs_ended == 0 { String::new() } else { format!(" {} ended.", count(u64::from(deleted.runs_ended), "run")) };
    format!("Agent '{}' deleted; it spent {}.{runs}", deleted.name, deleted.spent_pico)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::value::{AccountId, NewToken, Stamp};
    use std::collections::BTreeMap;

    fn agent() -> Agent {
        let usd = |text: &str| Pico::parse_usd(text).unwrap_or(Pico::ZERO);
        Agent {
            id: AccountId::new(3),
            name: "bot".to_owned(),
            group: None,
            state: AccountState::Active,
            state_reason: None,
            scope: Some(Scope::Execution),
            token_expires_at: None,
            budgets: vec![Budget::new(Period::Total, usd("5"), usd("0.0125"), usd("0.5"), None, None)],
            rpm: Some(60),
            tpm: None,
            max_concurrent: None,
            policy: AgentPolicy::seed(),
            policy_from: BTreeMap::new(),
            profile: None,
            created_at: Stamp::new(1_795_253_580_000_001),
            last_activity_at: None,
        }
    }

    #[test]
    fn a_new_agent_keeps_the_lines_that_scripts_read() {
        let created = AgentCreated { agent: agent(), token: NewToken::new("aex_x".to_owned()) };
        assert_eq!(created_text(&created), "Agent 'bot' created.\nToken: aex_x\nBudget: $5.00 (5000000 micro)");
        let policy = AgentPolicy {
            allow_streaming: Some(false),
            strict: Some(true),
            allowed_models: Some(vec!["m".to_owned()]),
            ..AgentPolicy::seed()
        };
        let budgets = vec![Budget::new(Period::Day, Pico::new(1_000_000), Pico::ZERO, Pico::ZERO, None, None)];
        let token_expires_at = Some(Stamp::new(1_795_253_580_000_001));
        let narrow = Agent { policy, budgets, token_expires_at, scope: Some(Scope::ReadOnly), ..agent() };
        let wanted = "\
Agent 'bot' created.
Token: aex_x
Budget: $0.000001 (1 micro) per day
Capabilities: no streaming, strict, models m
Expires: 2026-11-21 09:33:00Z
Scope: read-only";
        assert_eq!(created_text(&AgentCreated { agent: narrow, token: NewToken::new("aex_x".to_owned()) }), wanted);
    }

    #[test]
    fn a_state_that_an_agent_had_already_is_not_told_as_a_change() {
        assert_eq!(changed(&agent(), AccountState::Paused, "resumed", false), "Agent 'bot' resumed.");
        assert_eq!(changed(&agent(), AccountState::Active, "resumed", false), "Agent 'bot' is active already.");
    }

    #[test]
    fn the_list_shows_balances_and_capabilities() {
        let paused = Agent {
            state: AccountState::Paused,
            policy: AgentPolicy { allow_tools: Some(false), allow_passthrough: Some(true), ..AgentPolicy::seed() },
            ..agent()
        };
        let list = AgentList { agents: vec![agent(), paused] };
        let wanted = "
 Name         | Budget | Spent   | Remaining | RPM | Scope | Caps      | Last Activity
--------------+--------+---------+-----------+-----+-------+-----------+---------------
 bot          | $5.00  | $0.0125 | $4.4875   | 60  | exec  | -         | -
 bot (paused) | $5.00  | $0.0125 | $4.4875   | 60  | exec  | !tools PT | -";
        assert_eq!(list_text(&list), wanted.trim_start_matches('\n'));
        let grouped = list_text(&AgentList { agents: vec![agent(), Agent { group: Some("lab".to_owned()), ..agent() }] });
        assert!(
            grouped.contains(" Name | Group | Budget") && grouped.contains(" bot  | -     | $5.00") && grouped.contains(" bot  | lab "),
            "{grouped}"
        );
        let verbose = verbose_text(&AgentList { agents: vec![agent()] });
        assert!(verbose.contains(" bot  | 5000000    | 12500     | 500000       | 4487500 "), "{verbose}");
    }

    #[test]
    fn an_inspection_shows_every_field_and_no_token() {
        let tokens = vec![Token {
            hash_prefix: "0123456789ab".to_owned(),
            label: String::new(),
            scope: Scope::Execution,
            created_at: Stamp::new(1_795_253_580_000_001),
            expires_at: None,
            revoked_at: None,
        }];
        let text = inspection_text(&AgentInspection { agent: agent(), tokens, calls: 3, denials: 1, active_runs: 0 }, Paint::PLAIN);
        for wanted in
            ["State:              active", "Vision:             no", "0123456789ab…", "Remaining:          $4.4875 (4487500 micro)"]
        {
            assert!(text.contains(wanted), "{text}");
        }
        assert!(!text.contains("aex_"));
    }

    #[test]
    fn a_rotation_keeps_the_line_that_scripts_read() {
        let rotated = Rotated {
            agent: "bot".to_owned(),
            token: NewToken::new("aex_y".to_owned()),
            scope: Scope::Execution,
            expires_at: None,
            old_until: None,
            old_tokens: 1,
        };
        assert_eq!(rotated_text(&rotated), "New Token: aex_y\nThe old one is revoked.");
    }
}
