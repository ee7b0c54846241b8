//! mcp.json: servers of tools in the form that hosts of MCP share (`mcpServers`, with `command`, `args`, `env`), and more. The file is optional.
//!
//! Hosts put keys of their own into an entry (`autoApprove`, `alwaysAllow` …): unknown keys are warnings. A wrong value of a known key is an
//! error, and then nothing of the file holds. No message shows the value of a variable. Comments and commas behind the last item are taken,
//! as VS Code takes them.

mod confinement;

use super::report::{Field, Report, Section, Unknown, number};
use super::yaml::Value;
use crate::tools::registry::{Registry, Remote};
use crate::tools::secret::{absolute, check_name, is_exposed};
use crate::tools::server::{Bounds, EnvValue, MayAsk, Server, Shared, Start, Times, Trust};
use aex_core::tool::ToolName;
use aex_proto::value::Pico;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Servers at most.
const MAX_SERVERS: usize = 256;
/// Arguments of one at most, and variables.
const MAX_WORDS: usize = 256;
/// The longest argument or value, in bytes.
const MAX_WORD: usize = 32 << 10;
/// Times that may be waited for at all, in milliseconds.
const MILLISECONDS: RangeInclusive<u64> = 1..=86_400_000;
/// Bytes of a message: a call fits, and what is in memory stays bounded.
const MESSAGE: RangeInclusive<u64> = 1 << 10..=16 << 20;

/// Reads the file. Wrong parts are in the report; then there is no result. `home`: what `~/` in a path means.
pub(super) fn read(source: &str, home: Option<&Path>, report: &mut Report) -> Option<Registry> {
    let document = report.parse_jsonc(source)?;
    let Value::Map(entries) = &document.value else {
        report.refuse(document.line, "expected an object with mcpServers".to_owned());
        return None;
    };
    // A file that says something, and nothing of servers, is a mistake: it would end those that run. `$schema` is for editors.
    let foreign = entries.iter().find(|entry| entry.key == "servers").or_else(|| entries.iter().find(|entry| entry.key != "$schema"));
    if let Some(foreign) = foreign.filter(|_| !entries.iter().any(|entry| entry.key == "mcpServers")) {
        let text = match foreign.key.as_str() {
            "servers" => "VS Code's form; `aexctl tools import FILE` takes it over, here the key is mcpServers",
            _ => "the file has no mcpServers, below which servers stand by their names",
        };
        report.refuse(foreign.line, format!("{}: {text}", foreign.key));
        return None;
    }
    let mut top = Section::document(&document, report)?;
    top.get("$schema");
    let mut registry = Registry::default();
    if let Some(servers) = value(&mut top, "mcpServers", report).and_then(|field| report.section(&field)) {
        let count = servers.named().count();
        if count > MAX_SERVERS {
            report.refuse(servers.line, format!("mcpServers: expected at most {MAX_SERVERS} servers, found {count}"));
            return None;
        }
        for (name, field) in servers.named() {
            entry(name, &field, home, &mut registry, report);
        }
    }
    top.finish(Unknown::Warn, report);
    report.errors.is_empty().then_some(registry)
}

/// A key's value. Null is a value in JSON, and none that any key here can have.
fn value<'a>(section: &mut Section<'a>, name: &'static str, report: &mut Report) -> Option<Field<'a>> {
    let field = section.get_even_null(name)?;
    if field.node.value == Value::Null {
        report.refuse(field.line, format!("{}: null means nothing here; leave the key out", field.key));
        return None;
    }
    Some(field)
}

fn entry(name: &str, field: &Field<'_>, home: Option<&Path>, registry: &mut Registry, report: &mut Report) {
    if let Err(why) = ToolName::new(name, "x") {
        report.refuse(field.line, format!("{}: {why}", field.key));
    }
    let Some(mut section) = report.section(field) else { return };
    match transport(&mut section, report) {
        Some(Transport::Stdio) => registry.servers.extend(server(name, section, home, report)),
        Some(Transport::Remote(transport)) => {
            let text = "a server elsewhere is not supported and is left out; aexd starts programs, which speak over stdio";
            report.warn(field.line, format!("{}: {text}", field.key));
            registry.remote.push(Remote { name: name.to_owned(), transport: transport.to_owned() });
        }
        None => {}
    }
}

enum Transport {
    Stdio,
    Remote(&'static str),
}

/// How a server is reached. Claude Code and VS Code say so in `type`; Cursor and others know a server elsewhere by its `url`.
fn transport(section: &mut Section<'_>, report: &mut Report) -> Option<Transport> {
    const WORDS: [(&str, &str); 6] =
        [("stdio", "stdio"), ("http", "http"), ("sse", "sse"), ("streamable-http", "http"), ("streamableHttp", "http"), ("ws", "ws")];
    let told = value(section, "type", report).map(|field| report.word(&field, &WORDS));
    let has_url = section.named().any(|(key, _)| matches!(key, "url" | "serverUrl" | "httpUrl"));
    let has_command = section.named().any(|(key, _)| key == "command");
    match told {
        Some(None) => None,
        Some(Some("stdio")) => Some(Transport::Stdio),
        Some(Some(word)) => Some(Transport::Remote(word)),
        None if has_url && !has_command => Some(Transport::Remote("http")),
        None => Some(Transport::Stdio),
    }
}

fn server(name: &str, mut section: Section<'_>, home: Option<&Path>, report: &mut Report) -> Option<Server> {
    let program = section.get("command");
    let command = program.as_ref().and_then(|field| command(field, home, report));
    let mut server = Server::named(name, command.as_deref().unwrap_or_default());
    // What it is for, for people: several hosts have it.
    section.get("description");
    let mut get = |name| value(&mut section, name, report);
    let (args, env, cwd) = (get("args"), get("env"), get("cwd"));
    let (disabled, enabled, start, scope) = (get("disabled"), get("enabled"), get("start"), get("scope"));
    let (sandbox, timeouts, limits) = (get("sandbox"), get("timeouts"), get("limits"));
    let (price, tool_prices) = (get("price_usd"), get("tool_prices"));
    let (trust, allow, log_tools) = (get("trust"), get("allow"), get("log_tools"));
    if program.is_none() {
        section.lacks("command", "a program", report);
    }
    section.finish(Unknown::Warn, report);
    if let Some(field) = args {
        server.args = words(&field, report);
    }
    if let Some(field) = env {
        server.env = variables(&field, home, report);
    }
    server.cwd = cwd.and_then(|field| path(&field, home, report));
    server.enabled = is_enabled(disabled.as_ref(), enabled.as_ref(), report);
    let word = |report: &mut Report, field: Option<Field<'_>>, words: &[(&str, bool)]| report.word(&field?, words);
    if word(report, start, &[("boot", true), ("demand", false)]) == Some(true) {
        server.start = Start::AtBoot;
    }
    if word(report, scope, &[("run", true), ("shared", false)]) == Some(true) {
        server.shared = Shared::ByRun;
    }
    if word(report, trust, &[("approve", true), ("first-use", false)]) == Some(true) {
        server.trust = Trust::Approve;
    }
    server.log_full = word(report, log_tools, &[("full", true), ("digest", false)]) == Some(true);
    if let Some(field) = sandbox {
        confinement::read(&field, home, &mut server.confinement, report);
    }
    if let Some(field) = timeouts {
        server.times = times(&field, report);
    }
    if let Some(field) = limits {
        server.bounds = bounds(&field, report);
    }
    server.price = price.and_then(|field| usd(&field, report));
    if let Some(field) = tool_prices {
        server.tool_prices = prices(&field, report);
    }
    if let Some(field) = allow {
        server.may_ask = may_ask(&field, report);
    }
    command.map(|_| server)
}

/// Text that a process can be given.
fn word(field: &Field<'_>, report: &mut Report) -> Option<String> {
    match &field.node.value {
        Value::Text(text) if text.len() <= MAX_WORD && !text.contains('\0') => Some(text.clone()),
        Value::Text(_) => {
            report.refuse(field.line, format!("{}: expected at most {MAX_WORD} bytes, and no NUL", field.key));
            None
        }
        _ => {
            report.refuse(field.line, format!("{}: expected text in quotes", field.key));
            None
        }
    }
}

/// A reference where none is looked up: it would reach the program as it stands there.
fn refers(text: &str) -> bool {
    const BEGINNINGS: [&str; 6] = ["${env:", "${file:", "${credential:", "${input:", "${workspaceFolder", "${userHome}"];
    BEGINNINGS.iter().any(|beginning| text.contains(beginning))
}

fn refuse_reference(field: &Field<'_>, text: &str, report: &mut Report) {
    if refers(text) {
        let why = "only values of env may refer to something: all processes of the machine can read a command line";
        report.refuse(field.line, format!("{}: {why}", field.key));
    }
}

fn command(field: &Field<'_>, home: Option<&Path>, report: &mut Report) -> Option<String> {
    let text = word(field, report)?;
    refuse_reference(field, &text, report);
    let is_name = !text.trim().is_empty() && !text.contains('/') && !text.starts_with('~') && !text.chars().any(char::is_control);
    let found = if is_name { Some(text) } else { absolute(&text, home).map(|path| path.to_string_lossy().into_owned()) };
    if found.is_none() {
        report.expected(field, "a program: an absolute path, `~/…`, or a name that is looked for in PATH");
    }
    found
}

fn words(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let Value::List(items) = &field.node.value else {
        report.refuse(field.line, format!("{}: expected a list of arguments", field.key));
        return Vec::new();
    };
    if items.len() > MAX_WORDS {
        report.refuse(field.line, format!("{}: expected at most {MAX_WORDS} arguments", field.key));
        return Vec::new();
    }
    let items = items.iter().enumerate().map(|(at, node)| Field { key: format!("{}[{at}]", field.key), line: node.line, node });
    let mut words = Vec::new();
    for item in items {
        if let Some(text) = word(&item, report) {
            refuse_reference(&item, &text, report);
            words.push(text);
        }
    }
    words
}

fn variables(field: &Field<'_>, home: Option<&Path>, report: &mut Report) -> BTreeMap<String, EnvValue> {
    let mut variables = BTreeMap::new();
    // Whatever stands here may be a secret: it is not shown.
    let Value::Map(entries) = &field.node.value else {
        report.refuse(field.line, format!("{}: expected an object of names and texts", field.key));
        return variables;
    };
    if entries.len() > MAX_WORDS {
        report.refuse(field.line, format!("{}: expected at most {MAX_WORDS} variables", field.key));
        return variables;
    }
    for (name, field) in report.section(field).iter().flat_map(Section::named) {
        let refuse = |report: &mut Report, why: &str| report.refuse(field.line, format!("{}: {why}", field.key));
        if let Err(why) = check_name(name) {
            refuse(report, &why);
            continue;
        }
        // VS Code takes numbers, too.
        let text = match &field.node.value {
            Value::Text(text) | Value::Literal(text) if text.len() <= MAX_WORD => text,
            _ => {
                refuse(report, &format!("expected text of at most {MAX_WORD} bytes"));
                continue;
            }
        };
        match EnvValue::parse(text, home) {
            Ok(value) => {
                if is_exposed(name, &value) {
                    let text = format!("a secret seems to stand here: write it into .env, and `${{env:{name}}}` here");
                    report.warn(field.line, format!("{}: {text}", field.key));
                }
                variables.insert(name.to_owned(), value);
            }
            Err(why) => refuse(report, &why),
        }
    }
    variables
}

fn path(field: &Field<'_>, home: Option<&Path>, report: &mut Report) -> Option<PathBuf> {
    let path = number(field.node).and_then(|text| absolute(text, home));
    if path.is_none() {
        report.expected(field, "an absolute path, or `~/…`");
    }
    path
}

/// `disabled` is what most hosts have; some have `enabled`.
fn is_enabled(disabled: Option<&Field<'_>>, enabled: Option<&Field<'_>>, report: &mut Report) -> bool {
    let disabled_flag = disabled.and_then(|field| report.flag(field));
    let enabled_flag = enabled.and_then(|field| report.flag(field));
    if let (Some(disabled), Some(enabled), Some(field)) = (disabled_flag, enabled_flag, enabled.filter(|_| disabled.is_some()))
        && disabled == enabled
    {
        report.refuse(field.line, format!("{}: says the opposite of `disabled`; leave one of them out", field.key));
    }
    !disabled_flag.unwrap_or(false) && enabled_flag.unwrap_or(true)
}

/// A whole number of a range.
fn within(field: &Field<'_>, range: &RangeInclusive<u64>, report: &mut Report) -> Option<u64> {
    let found = number(field.node).and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
    if found.is_none() {
        report.expected(field, &format!("a whole number from {} to {}", range.start(), range.end()));
    }
    found
}

fn times(field: &Field<'_>, report: &mut Report) -> Times {
    let mut times = Times::DEFAULT;
    let Some(mut section) = report.section(field) else { return times };
    let idle = value(&mut section, "idle_ms", report);
    let mut set = |name, time: &mut Duration| {
        let told = value(&mut section, name, report).and_then(|field| within(&field, &MILLISECONDS, report));
        *time = told.map_or(*time, Duration::from_millis);
    };
    set("start_ms", &mut times.start);
    set("call_ms", &mut times.call);
    set("call_total_ms", &mut times.call_total);
    set("shutdown_ms", &mut times.shutdown);
    section.finish(Unknown::Refuse, report);
    if let Some(field) = idle {
        let is_never = matches!(&field.node.value, Value::Text(text) if text == "never");
        times.idle = if is_never { None } else { within(&field, &MILLISECONDS, report).map(Duration::from_millis) };
    }
    if times.call_total < times.call {
        report.refuse(field.line, format!("{}: call_total_ms is less than call_ms", field.key));
    }
    times
}

fn bounds(field: &Field<'_>, report: &mut Report) -> Bounds {
    let mut bounds = Bounds::DEFAULT;
    let Some(mut section) = report.section(field) else { return bounds };
    let size = |section: &mut Section<'_>, name, report: &mut Report| {
        let field = value(section, name, report)?;
        let size = report.size(&field)?;
        if !MESSAGE.contains(&size) {
            report.expected(&field, "a size from 1KiB to 16MiB");
        }
        usize::try_from(size).ok()
    };
    bounds.message_bytes = size(&mut section, "message", report).unwrap_or(bounds.message_bytes);
    bounds.result_bytes = size(&mut section, "result", report).unwrap_or(bounds.result_bytes);
    let mut count = |name, range| {
        let field = value(&mut section, name, report)?;
        usize::try_from(within(&field, &range, report)?).ok()
    };
    bounds.concurrency = count("concurrency", 1..=1_024).unwrap_or(bounds.concurrency);
    bounds.queue = count("queue", 0..=65_536).unwrap_or(bounds.queue);
    section.finish(Unknown::Refuse, report);
    bounds
}

fn usd(field: &Field<'_>, report: &mut Report) -> Option<Pico> {
    match number(field.node).map(Pico::parse_usd) {
        Some(Ok(price)) => Some(price),
        Some(Err(why)) => {
            report.refuse(field.line, format!("{}: {why}", field.key));
            None
        }
        None => {
            report.expected(field, "US dollars such as \"0.01\"");
            None
        }
    }
}

fn prices(field: &Field<'_>, report: &mut Report) -> BTreeMap<String, Pico> {
    let section = report.section(field);
    let priced = section.iter().flat_map(Section::named).filter_map(|(tool, field)| Some((tool.to_owned(), usd(&field, report)?)));
    priced.collect()
}

fn may_ask(field: &Field<'_>, report: &mut Report) -> MayAsk {
    let mut may_ask = MayAsk::default();
    let Some(mut section) = report.section(field) else { return may_ask };
    let mut flag = |name| value(&mut section, name, report).and_then(|field| report.flag(&field)).unwrap_or(false);
    may_ask.sampling = flag("sampling");
    may_ask.elicitation = flag("elicitation");
    section.finish(Unknown::Refuse, report);
    may_ask
}

#[cfg(test)]
mod tests;
