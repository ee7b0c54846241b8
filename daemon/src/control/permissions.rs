//! The permissions of tools as the admin sees them: what means an agent, and what would come of a call.

use super::agents::find;
use super::daemon::counted;
use super::fault::{Answer, no_agent, unfit};
use super::policies::said;
use crate::config::Problem;
use crate::gate::Gate;
use crate::ledger::AccountView;
use crate::tools::gatekeeper::Gatekeeper;
use crate::tools::resolve::{Bases, resolve};
use aex_core::canon;
use aex_core::tool::{Arguments, Caller, Malformed, RuleSpec, Standing, ToolName, Verdict};
use aex_proto::account::AgentName;
use aex_proto::daemon::Check;
use aex_proto::permission::{
    NearlyMatched, PermissionCheck, PermissionChecked, PermissionQuery, PermissionRule, PermissionsShown, RateOfRule,
};
use aex_proto::value::Pico;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Problems of the file that its health tells.
const PROBLEMS_TOLD: usize = 3;

pub(super) async fn show(gate: &Gate, query: PermissionQuery) -> Answer<PermissionsShown> {
    let view = view(gate, &query.agent).await?;
    let caller = caller(&view);
    let active = gate.active();
    let in_force = &active.permissions;
    let spec = in_force.permissions.spec();
    Ok(PermissionsShown {
        file: spec.file.clone(),
        standing: standing(spec.standing).to_owned(),
        digest: in_force.snapshot.digest.to_string(),
        global_policy: spec.global_policy.effect.name().to_owned(),
        global_policy_line: spec.global_policy.line,
        rules: in_force.permissions.of(&caller).map(|rule| shown(rule, &spec.file)).collect(),
        problems: active.config.permissions_errors.iter().map(ToString::to_string).collect(),
        agent: caller.agent,
        groups: caller.groups,
    })
}

pub(super) async fn check(keeper: &Gatekeeper, wanted: PermissionCheck) -> Answer<PermissionChecked> {
    let view = view(keeper.gate(), &wanted.agent).await?;
    let caller = caller(&view);
    let tool = ToolName::parse(&wanted.tool).map_err(|why| unfit(format!("`{}` is no SERVER.TOOL: {why}", wanted.tool.escape_debug())))?;
    let cwd = wanted.cwd.map(PathBuf::from);
    if cwd.as_deref().is_some_and(Path::is_relative) {
        return Err(unfit("the folder of a server's process is an absolute path"));
    }
    let active = keeper.gate().active();
    let digest = active.permissions.snapshot.digest.to_string();
    let arguments = match wanted.arguments.as_deref().map_or_else(|| Ok(Arguments::default()), Arguments::parse) {
        Ok(arguments) => arguments,
        Err(why) => return Ok(malformed(caller, &tool, &why, digest)),
    };
    let permissions = &active.permissions.permissions;
    let servers = keeper.tools().servers();
    let own = keeper.bases(servers.iter().find(|server| server.name == tool.server).map(AsRef::as_ref), &view);
    let bases = Bases { cwd: cwd.or(own.cwd), home: own.home };
    let resolved = resolve(permissions.questions(&caller, &tool, &arguments), bases).await;
    let facts = permissions.observe(&caller, &tool, &arguments, &resolved);
    let verdict = permissions.decide(&caller, &tool, &facts);
    let policy = active.policy_of(&view).map_err(|denial| unfit(said(&denial)))?;
    let verdict = verdict.within(&policy.effective.fields, &tool);
    Ok(checked(caller, &tool, verdict, digest))
}

/// Whether calls of tools can be allowed at all, and by what. A file that was wrong at the start is a failed check.
pub(super) fn health(gate: &Gate) -> Check {
    let active = gate.active();
    let spec = active.permissions.permissions.spec();
    let rules = counted(u64::try_from(spec.rules.len()).unwrap_or(u64::MAX), "rule");
    let detail = match spec.standing {
        Standing::Loaded => format!("{rules}; tools without one: {}", spec.global_policy.effect.name()),
        Standing::Absent => "there is no such file: every tool is denied".to_owned(),
        Standing::Refused => format!("every tool is denied: {}", told(&active.config.permissions_errors)),
    };
    Check { name: spec.file.clone(), passed: spec.standing != Standing::Refused, detail }
}

fn told(problems: &[Problem]) -> String {
    let mut told: Vec<String> = problems.iter().take(PROBLEMS_TOLD).map(ToString::to_string).collect();
    let more = problems.len().saturating_sub(PROBLEMS_TOLD);
    if more > 0 {
        told.push(format!("{more} more"));
    }
    told.join("; ")
}

async fn view(gate: &Gate, name: &AgentName) -> Answer<Arc<AccountView>> {
    let id = find(gate, name).await?;
    gate.ledger().directory().accounts.get(&id).cloned().ok_or_else(|| no_agent(name.as_str()))
}

fn caller(view: &AccountView) -> Caller {
    Caller { agent: view.agent.name.clone(), groups: view.groups.clone() }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Absent => "absent",
        Standing::Loaded => "loaded",
        Standing::Refused => "refused",
    }
}

fn shown(rule: &RuleSpec, file: &str) -> PermissionRule {
    PermissionRule {
        name: rule.name.clone(),
        effect: rule.effect.name().to_owned(),
        file: file.to_owned(),
        line: rule.line,
        tools: rule.tool.iter().chain(&rule.tool_name).cloned().collect(),
        servers: rule.server.clone(),
        agents: rule.agent.clone(),
        groups: rule.group.clone(),
        when: serde_json::from_str(&canon::text(&rule.when)).unwrap_or(Value::Null),
        rate: rule.rate,
        price_pico: rule.price,
        price_usd: rule.price.map(Pico::usd),
        reason: rule.reason.clone(),
    }
}

fn checked(caller: Caller, tool: &ToolName, verdict: Verdict, digest: String) -> PermissionChecked {
    let Verdict { also, by, effect, near, price, rates } = verdict;
    let price = price.map(|priced| priced.price);
    PermissionChecked {
        agent: caller.agent,
        tool: tool.to_string(),
        effect: effect.name().to_owned(),
        rule: by.rule,
        file: Some(by.file),
        line: by.line,
        reason: by.reason,
        unclear: by.unclear,
        also,
        near: near.into_iter().map(|miss| NearlyMatched { rule: miss.rule, condition: miss.condition }).collect(),
        rates: rates.into_iter().map(|rated| RateOfRule { rule: rated.rule, per_minute: rated.per_minute }).collect(),
        price_usd: price.map(Pico::usd),
        price_pico: price,
        digest,
    }
}

/// What no program should read is denied before any rule.
fn malformed(caller: Caller, tool: &ToolName, why: &Malformed, digest: String) -> PermissionChecked {
    PermissionChecked {
        agent: caller.agent,
        tool: tool.to_string(),
        effect: "deny".to_owned(),
        rule: "arguments".to_owned(),
        file: None,
        line: None,
        reason: Some(why.to_string()),
        unclear: None,
        also: Vec::new(),
        near: Vec::new(),
        rates: Vec::new(),
        price_pico: None,
        price_usd: None,
        digest,
    }
}
