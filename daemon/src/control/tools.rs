//! The servers of tools: mcp.json changed on the control socket, and how its servers are.
//!
//! A change is written, put in force and recorded, or nothing of it stays.

mod file;
mod logs;
mod pins;
mod view;

pub(super) use logs::{Following, follow};
pub(super) use pins::{approve, review};
pub(super) use view::health;

use super::Control;
use super::connection::{After, Lines};
use super::fault::{Answer, broken, unfit};
use crate::gate::ToolsDone;
use crate::tools::fault::ToolFault;
use crate::tools::gatekeeper::{Unmade, Wanted};
use crate::tools::registry::Registry;
use crate::tools::registry::edit::{self, EditFault};
use crate::tools::supervisor::Answer as ToolAnswer;
use crate::wire::denial::{self, Addressee};
use crate::wire::dialect::Shape;
use aex_core::event::{By, ToolsAction};
use aex_core::tool::Arguments;
use aex_proto::account::AgentName;
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::tool::{
    Entry, LogLines, ServerChanged, ServerList, ServerRef, ServerRemoved, ServerShown, SkippedServer, ToolAdd, ToolImport, ToolInvoke,
    ToolInvoked, ToolLogs, ToolsImported,
};
use file::{Change, ChangeFault};
use std::collections::BTreeSet;

/// The agent that calls where none is named.
const DEFAULT_AGENT: &str = "default";
const BY_HAND: &str = "correct mcp.json, then aexctl models reload";

pub(super) async fn add(control: &Control, by: By, wanted: ToolAdd) -> Answer<ServerChanged> {
    let ToolAdd { name, server } = wanted;
    let (entry, added) = (text(&server)?, name.clone());
    let done = ToolsDone { action: ToolsAction::Added, servers: vec![name.clone()] };
    let warnings = change(control, by, done, move |text| edit::add(text, &added, &entry)).await?;
    changed(control, name, warnings).await
}

pub(super) async fn remove(control: &Control, by: By, named: ServerRef) -> Answer<ServerRemoved> {
    let done = ToolsDone { action: ToolsAction::Removed, servers: vec![named.name.clone()] };
    let (name, missing) = (named.name.clone(), EditFault::NotFound(named.name.clone()));
    change(control, by, done, move |text| edit::remove(text.ok_or(missing)?, &name)).await?;
    control.gatekeeper.pins().forget(&named.name).await.map_err(|why| {
        let why = format!("`{}` is removed, but what is pinned of its tools stays: {why}", named.name);
        ErrorObject::fault(Fault::Unavailable, why)
    })?;
    Ok(ServerRemoved { name: named.name })
}

pub(super) async fn enable(control: &Control, by: By, named: ServerRef) -> Answer<ServerChanged> {
    switch(control, by, named, true).await
}

pub(super) async fn disable(control: &Control, by: By, named: ServerRef) -> Answer<ServerChanged> {
    switch(control, by, named, false).await
}

async fn switch(control: &Control, by: By, named: ServerRef, enabled: bool) -> Answer<ServerChanged> {
    let action = if enabled { ToolsAction::Enabled } else { ToolsAction::Disabled };
    let done = ToolsDone { action, servers: vec![named.name.clone()] };
    known(control, &named.name)?;
    let (name, missing) = (named.name.clone(), EditFault::NotFound(named.name.clone()));
    let warnings = change(control, by, done, move |text| edit::set_enabled(text.ok_or(missing)?, &name, enabled)).await?;
    changed(control, named.name, warnings).await
}

pub(super) async fn import(control: &Control, by: By, wanted: ToolImport) -> Answer<ToolsImported> {
    let ToolImport { servers, dry_run } = wanted;
    let mut entries = Vec::new();
    for ToolAdd { name, server } in servers {
        entries.push((name, text(&server)?));
    }
    let _one_at_a_time = control.editing.lock().await;
    let (mut taken, mut skipped) = (Vec::new(), Vec::new());
    let mut chosen = Vec::new();
    for (name, entry) in entries {
        // Each is tried behind those before it, so that one wrong one keeps none of the others out.
        chosen.push((name, entry));
        match work_out(control, add_all(&chosen)).await {
            Ok(_) => taken.extend(chosen.last().map(|(name, _)| name.clone())),
            Err(fault @ (ChangeFault::Disk(_) | ChangeFault::Wrong(_))) => return Err(words(fault)),
            Err(fault) => {
                let Some((name, _)) = chosen.pop() else { continue };
                skipped.push(SkippedServer { name, why: words(fault).message });
            }
        }
    }
    let mut warnings = Vec::new();
    if !taken.is_empty() {
        let change = work_out(control, add_all(&chosen)).await.map_err(words)?;
        warnings = told(control, &change.registry, &taken, &change).await;
        if !dry_run {
            put_in_force(control, by, ToolsDone { action: ToolsAction::Imported, servers: taken.clone() }, change).await?;
        }
    }
    Ok(ToolsImported { taken, skipped, warnings })
}

fn add_all(entries: &[(String, String)]) -> impl FnOnce(Option<&str>) -> Result<String, EditFault> + Send + 'static {
    let entries = entries.to_vec();
    move |source| {
        let mut text = source.map(str::to_owned);
        for (name, entry) in entries {
            text = Some(edit::add(text.as_deref(), &name, &entry)?);
        }
        Ok(text.unwrap_or_default())
    }
}

pub(super) async fn restart(control: &Control, by: By, named: ServerRef) -> Answer<ServerChanged> {
    known(control, &named.name)?;
    let done = ToolsDone { action: ToolsAction::Restarted, servers: vec![named.name.clone()] };
    control.gate.note_tools(by, done).await.map_err(|fault| broken(&fault))?;
    control.gatekeeper.tools().restart(&named.name).await.map_err(|fault| failed(&fault))?;
    changed(control, named.name, Vec::new()).await
}

pub(super) fn list(control: &Control) -> ServerList {
    view::list(&control.gate.active().config, &control.gatekeeper)
}

pub(super) async fn show(control: &Control, named: ServerRef) -> Answer<ServerShown> {
    let (active, keeper, name) = (control.gate.active(), control.gatekeeper.clone(), named.name.clone());
    // It looks at files.
    let shown = tokio::task::spawn_blocking(move || view::shown(&active.config, &keeper, &name)).await;
    shown.ok().flatten().ok_or_else(|| no_server(&named.name))
}

pub(super) fn logs(control: &Control, wanted: &ToolLogs) -> Answer<(LogLines, Option<After>)> {
    let tools = control.gatekeeper.tools();
    // Before the lines that are there are looked at, so that none is lost between.
    let receiver = tools.follow();
    let limit = usize::try_from(wanted.limit.min(ToolLogs::MAX_LIMIT)).unwrap_or(usize::MAX);
    let lines = tools.logs(&wanted.name, limit).ok_or_else(|| no_server(&wanted.name))?;
    let told = lines.iter().map(logs::told).collect();
    if !wanted.follow {
        return Ok((LogLines { lines: told, subscription: None }, None));
    }
    let subscription = control.next_subscription();
    let following = Following { subscription, server: wanted.name.clone(), receiver, shown: lines.into() };
    Ok((LogLines { lines: told, subscription: Some(subscription) }, Some(After::Follow(following))))
}

pub(super) async fn call(control: &Control, lines: &Lines, wanted: ToolInvoke) -> Answer<ToolInvoked> {
    let ToolInvoke { agent, tool, arguments } = wanted;
    let agent = match agent {
        Some(agent) => agent,
        None => DEFAULT_AGENT.parse::<AgentName>().map_err(unfit)?,
    };
    let arguments = if arguments.trim().is_empty() { Ok(Arguments::default()) } else { Arguments::parse(&arguments) };
    let arguments = arguments.map_err(|why| unfit(format!("arguments: {why}")))?;
    let gate = &control.gate;
    let account = super::agents::find(gate, &agent).await?;
    let request = gate.next_request();
    let to = Addressee::of_page(request, Shape::OpenAi);
    let denied = |denial: &aex_core::decision::Denial| {
        ErrorObject::fault(Fault::Denied, denial::worded(denial, to).message).hint(format!("aexctl explain {request}"))
    };
    let entered = gate.enter_account(account, request).map_err(|refused| {
        gate.refused(request, refused.view.as_deref(), &refused.denial, crate::gate::Evidence::default());
        denied(&refused.denial)
    })?;
    let wanted = Wanted { tool, arguments: arguments.into_map(), progress: None, asks: None, input: None };
    let calling = control.gatekeeper.call(entered, wanted);
    let made = super::approvals::told_to_caller(control.gatekeeper.approvals(), request, lines, calling).await;
    match made.map(|made| made.answer) {
        Ok(ToolAnswer::Complete(result)) => {
            let is_error = result.is_error == Some(true);
            let result = serde_json::to_value(result).map_err(|fault| unfit(format!("the result has no JSON: {fault}")))?;
            Ok(ToolInvoked { request, result, is_error })
        }
        Ok(ToolAnswer::InputRequired(_)) => Err(unfit("the tool asks for input, which a command line cannot give")),
        Err(Unmade::Denied(denial)) => Err(denied(&denial)),
        Err(Unmade::Failed(fault)) => Err(failed(&fault)),
        Err(Unmade::Unrecorded(fault)) => Err(broken(&fault)),
    }
}

/// Changes mcp.json and puts it in force; what a user should know of the servers that were changed.
async fn change(
    control: &Control,
    by: By,
    done: ToolsDone,
    edit: impl FnOnce(Option<&str>) -> Result<String, EditFault> + Send + 'static,
) -> Answer<Vec<String>> {
    let _one_at_a_time = control.editing.lock().await;
    let change = work_out(control, edit).await.map_err(words)?;
    if change.is_none() {
        return Ok(Vec::new());
    }
    let warnings = told(control, &change.registry, &done.servers, &change).await;
    put_in_force(control, by, done, change).await?;
    Ok(warnings)
}

async fn work_out(
    control: &Control,
    edit: impl FnOnce(Option<&str>) -> Result<String, EditFault> + Send + 'static,
) -> Result<Change, ChangeFault> {
    let (paths, home) = (control.gate.paths().clone(), control.gatekeeper.user_home().map(std::path::Path::to_owned));
    let worked_out = tokio::task::spawn_blocking(move || Change::of(&paths, home.as_deref(), edit)).await;
    worked_out.unwrap_or_else(|fault| Err(ChangeFault::Disk(fault.to_string())))
}

async fn put_in_force(control: &Control, by: By, done: ToolsDone, change: Change) -> Answer<()> {
    let paths = control.gate.paths().clone();
    let written = tokio::task::spawn_blocking(move || change.write(&paths).map(|()| change)).await;
    let change = written.unwrap_or_else(|fault| Err(ChangeFault::Disk(fault.to_string()))).map_err(words)?;
    let Err(problems) = control.gatekeeper.reload_tools(by, done).await else { return Ok(()) };
    let paths = control.gate.paths().clone();
    let undone = tokio::task::spawn_blocking(move || change.undo(&paths)).await;
    let outcome = match undone {
        Ok(Ok(())) => "nothing was changed".to_owned(),
        Ok(Err(fault)) => format!("mcp.json is changed, and cannot be put back: {fault}"),
        Err(fault) => format!("mcp.json is changed, and cannot be put back: {fault}"),
    };
    Err(ErrorObject::fault(Fault::BadConfig, format!("the configuration cannot be put in force, so {outcome}:\n{problems}")).hint(BY_HAND))
}

/// What a user should know of servers that were just written: what the reader says, and what is doubtful of them.
async fn told(control: &Control, registry: &Registry, names: &[String], change: &Change) -> Vec<String> {
    let mut warnings: Vec<String> = change.warnings.iter().map(|warning| warning.text.clone()).collect();
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let servers: Vec<_> = registry.servers.iter().filter(|server| names.contains(server.name.as_str())).cloned().collect();
    let tools = control.gatekeeper.tools().clone();
    let looked = tokio::task::spawn_blocking(move || {
        let of = |server: &crate::tools::server::Server| {
            tools.doubts(server).into_iter().map(|what| format!("{}: {what}", server.name)).collect::<Vec<_>>()
        };
        servers.iter().flat_map(of).collect::<Vec<_>>()
    });
    warnings.extend(looked.await.unwrap_or_default());
    warnings
}

async fn changed(control: &Control, name: String, warnings: Vec<String>) -> Answer<ServerChanged> {
    let server = view::one(&control.gate.active().config, &control.gatekeeper, &name).ok_or_else(|| no_server(&name))?;
    Ok(ServerChanged { server, warnings })
}

/// A server of ours, which a person may switch and start.
fn known(control: &Control, name: &str) -> Answer<()> {
    let registry = &control.gate.active().config.tools;
    match (registry.server(name), registry.has(name)) {
        (Some(_), _) => Ok(()),
        (None, true) => Err(unfit(format!("`{name}` is a server elsewhere, which is not supported"))),
        (None, false) => Err(no_server(name)),
    }
}

fn text(entry: &Entry) -> Answer<String> {
    serde_json::to_string_pretty(entry).map_err(|fault| unfit(fault.to_string()))
}

fn no_server(name: &str) -> ErrorObject {
    ErrorObject::fault(Fault::NotFound, format!("no server of tools '{}'", name.escape_debug())).hint("aexctl tools list")
}

fn words(fault: ChangeFault) -> ErrorObject {
    match fault {
        ChangeFault::Edit(EditFault::NotFound(name)) => no_server(&name),
        ChangeFault::Edit(fault @ EditFault::Exists(_)) => ErrorObject::fault(Fault::Conflict, fault.to_string()),
        ChangeFault::Edit(fault) => unfit(fault.to_string()),
        ChangeFault::Wrong(errors) => ErrorObject::fault(Fault::BadConfig, errors.to_string()).hint(BY_HAND),
        ChangeFault::Unfit(causes) => unfit(causes.join("\n")),
        ChangeFault::Disk(why) => ErrorObject::fault(Fault::Unavailable, why),
    }
}

fn failed(fault: &ToolFault) -> ErrorObject {
    let kind = match fault {
        ToolFault::Unknown { .. } => Fault::NotFound,
        ToolFault::Disabled { .. } | ToolFault::Changed { .. } => Fault::Conflict,
        ToolFault::Busy { .. } => Fault::Throttled,
        _ => Fault::Unavailable,
    };
    ErrorObject::fault(kind, fault.in_full())
}
