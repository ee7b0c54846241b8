//! `aexctl tools`.

mod approve;
mod hosts;
mod import;
mod view;

use super::Context;
use crate::cli::{Tools as Verb, ToolsAdd};
use crate::client::Client;
use crate::exit::{Attempt, Exit, Failure};
use crate::units::instant;
use aex_proto::approval::ToolWaits;
use aex_proto::method::{self, Nothing};
use aex_proto::tool::{Entry, Grants, LogLine, LogStream, Sandbox, ServerChanged, ServerRef, ToolAdd, ToolInvoke, ToolInvoked, ToolLogs};
use aex_proto::value::Pico;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// How long a server may take to start: the longest that mcp.json can say is longer than anybody waits.
const RESTART: Duration = Duration::from_secs(15 * 60);
/// How long a call may take: its server's limits end it before.
const CALL: Duration = Duration::from_secs(24 * 3600);

pub(super) fn run(context: &Context<'_>, verb: Verb) -> Result<Exit, Failure> {
    let view = context.view;
    let named = |name: &str| ServerRef { name: name.to_owned() };
    match verb {
        Verb::Add(flags) => {
            let wanted = added(*flags)?;
            let mut changed = context.connect()?.call::<method::ToolAdd>(&wanted)?;
            let told = elsewhere(&wanted, &changed.warnings);
            changed.warnings.extend(told);
            show(context, &changed, "added")
        }
        Verb::List => {
            let list = context.connect()?.call::<method::ToolList>(&Nothing {})?;
            list.problems.iter().for_each(|problem| view.note(&format!("error: {problem}")));
            view.show(&list, |_| view::list(&list))?;
            Ok(if list.problems.is_empty() { Exit::Done } else { Exit::Failed })
        }
        Verb::Show { name } => {
            let shown = context.connect()?.call::<method::ToolShow>(&named(&name))?;
            view.show(&shown, |paint| view::shown(&shown, paint))?;
            Ok(Exit::Done)
        }
        Verb::Remove { name } => {
            let removed = context.connect()?.call::<method::ToolRemove>(&named(&name))?;
            view.show(&removed, |_| format!("Server '{}' removed.", removed.name))?;
            Ok(Exit::Done)
        }
        Verb::Enable { name } => {
            let changed = context.connect()?.call::<method::ToolEnable>(&named(&name))?;
            show(context, &changed, "enabled")
        }
        Verb::Disable { name } => {
            let changed = context.connect()?.call::<method::ToolDisable>(&named(&name))?;
            show(context, &changed, "disabled")
        }
        Verb::Restart { name } => {
            let changed = context.connect()?.call_within::<method::ToolRestart>(&named(&name), RESTART)?;
            show(context, &changed, "restarted")
        }
        Verb::Logs { name, follow, lines } => logs(context, name, follow, lines),
        Verb::Approve { name, yes } => approve::run(context, name, yes),
        Verb::Call { tool, arguments, agent } => {
            let arguments = match arguments {
                Some(text) if text == "-" => {
                    let mut text = String::new();
                    std::io::stdin().read_to_string(&mut text).attempt(|| "read standard input".to_owned())?;
                    text
                }
                other => other.unwrap_or_default(),
            };
            let wanted = ToolInvoke { agent, tool, arguments };
            let waits = |waits: ToolWaits| view.note(&waiting(&waits));
            let invoked = context.connect()?.call_told::<method::ToolCall, method::ToolWaits>(&wanted, CALL, Some(&waits))?;
            view.show(&invoked, |_| result(&invoked))?;
            if !invoked.is_error {
                return Ok(Exit::Done);
            }
            view.note("error: the tool says that it failed");
            Ok(Exit::Failed)
        }
        Verb::Import(wanted) => import::run(context, &wanted),
    }
}

fn show(context: &Context<'_>, changed: &ServerChanged, done: &str) -> Result<Exit, Failure> {
    changed.warnings.iter().for_each(|warning| context.view.note(&format!("warning: {warning}")));
    context.view.show(changed, |_| view::changed(changed, done))?;
    Ok(Exit::Done)
}

fn added(flags: ToolsAdd) -> Result<ToolAdd, Failure> {
    let ToolsAdd { name, env, sandbox, require, read, write, host, price, trust, start, scope, cwd, command } = flags;
    let mut words = command.into_iter();
    let program = words.next().ok_or_else(|| Failure::new("no command was given").with(Exit::Usage))?;
    // A path is one from here; a name is looked for in the daemon's PATH.
    let program = if program.contains('/') && !program.starts_with("~/") { absolute(Path::new(&program))? } else { program };
    let mut entry = Entry::new(program, words.collect());
    entry.env = variables(env)?;
    entry.cwd = cwd.as_deref().map(absolute).transpose()?;
    let paths = |paths: Vec<std::path::PathBuf>| paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>();
    let (read, write) = (paths(read)?, paths(write)?);
    let has_grants = require.is_some() || !(read.is_empty() && write.is_empty() && host.is_empty());
    entry.sandbox = match sandbox {
        level if has_grants => {
            let level = level.unwrap_or(aex_proto::sandbox::Level::Standard);
            Some(Sandbox::Grants(Grants { level, require, read, write, hosts: host }))
        }
        level => level.map(Sandbox::Level),
    };
    entry.price_usd = price.map(Pico::usd);
    (entry.trust, entry.start, entry.scope) = (trust, start, scope);
    Ok(ToolAdd { name, server: entry })
}

/// Arguments that are files in this folder, which is not where the server starts; but for those that the daemon told of.
fn elsewhere(wanted: &ToolAdd, told: &[String]) -> Vec<String> {
    let ToolAdd { name, server } = wanted;
    let is_here =
        |arg: &&String| arg.contains(['.', '/']) && !arg.starts_with('-') && Path::new(arg).is_relative() && Path::new(arg).exists();
    let args = server.args.iter().filter(|_| server.cwd.is_none()).filter(is_here);
    let new = args.filter(|arg| !told.iter().any(|warning| warning.contains(&format!("`{arg}`"))));
    new.map(|arg| format!("{name}: `{arg}` is in this folder, and it starts in a private one: give its absolute path, or --cwd ."))
        .collect()
}

/// A path that means the same to the daemon.
fn absolute(path: &Path) -> Result<String, Failure> {
    if path.starts_with("~") {
        return text(path);
    }
    text(&std::path::absolute(path).attempt(|| format!("find {}", path.display()))?)
}

fn text(path: &Path) -> Result<String, Failure> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{} is no text, as JSON has to be", path.display())).with(Exit::Usage))
}

fn variables(env: Vec<String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for said in env {
        let (name, value) = match said.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (said.clone(), format!("${{env:{said}}}")),
        };
        if variables.insert(name.clone(), value).is_some() {
            return Err(Failure::new(format!("--env {name} is given twice")).with(Exit::Usage));
        }
    }
    Ok(variables)
}

fn logs(context: &Context<'_>, name: String, follow: bool, limit: u32) -> Result<Exit, Failure> {
    let mut client: Client = context.connect()?;
    let view = context.view;
    let shown = client.call::<method::ToolLogs>(&ToolLogs { name, limit, follow })?;
    if view.is_json() && !follow {
        view.show(&shown, |_| String::new())?;
        return Ok(Exit::Done);
    }
    for line in &shown.lines {
        view.stream(line, |_| log_line(line))?;
    }
    if !follow {
        return Ok(Exit::Done);
    }
    loop {
        let pushed = client.wait_notice::<method::ToolLine>()?;
        if pushed.missed > 0 {
            view.note(&format!("note: up to {} lines were missed", pushed.missed));
        }
        if let Some(line) = &pushed.line {
            view.stream(line, |_| log_line(line))?;
        }
    }
}

fn log_line(line: &LogLine) -> String {
    let stream = match line.stream {
        LogStream::Daemon => "aexd",
        LogStream::Stderr => "stderr",
        LogStream::Stdout => "stdout",
    };
    format!("{}  {:>7}  {stream:<6}  {}", instant(line.at), line.pid, line.text)
}

/// What a call waits for, and who can end its waiting.
fn waiting(ToolWaits { approval }: &ToolWaits) -> String {
    let until = instant(approval.expires_at);
    format!("waits for a person until {until}: aexctl approvals approve {}", approval.id)
}

/// What a tool answered, for a person: its texts, and JSON where it has none. A tool writes no sequences to our terminal.
fn result(invoked: &ToolInvoked) -> String {
    let parts = invoked.result.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let part = |part: &Value| match part.get("text").and_then(Value::as_str) {
        Some(text) => safe(text),
        None => safe(&part.to_string()),
    };
    let texts: Vec<String> = parts.iter().map(part).collect();
    match invoked.result.get("structuredContent") {
        Some(data) if texts.is_empty() => safe(&serde_json::to_string_pretty(data).unwrap_or_default()),
        _ => texts.join("\n"),
    }
}

/// Without control characters but line ends and tabs, and without marks that turn the direction of text.
fn safe(text: &str) -> String {
    let is_safe = |letter: &char| {
        let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        !turns && (!letter.is_control() || matches!(letter, '\n' | '\t'))
    };
    text.chars().filter(is_safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use aex_proto::value::{RequestId, Stamp};
    use clap::Parser;
    use serde_json::json;

    fn parsed(words: &[&str]) -> ToolAdd {
        let cli = Cli::try_parse_from(["aexctl", "tools", "add"].iter().chain(words)).unwrap_or_else(|fault| unreachable!("{fault}"));
        let Command::Tools(Verb::Add(flags)) = cli.command else { unreachable!("another command") };
        added(*flags).unwrap_or_else(|failure| unreachable!("{failure:?}"))
    }

    #[track_caller]
    fn writes(words: &[&str], entry: &Value) {
        assert_eq!(serde_json::to_value(parsed(words).server).unwrap_or_default(), *entry, "{words:?}");
    }

    #[test]
    fn flags_become_the_entry_that_a_person_would_write() {
        writes(&["x", "--", "npx", "-y", "--flag", "server"], &json!({"command": "npx", "args": ["-y", "--flag", "server"]}));
        writes(&["x", "--", "~/bin/x"], &json!({"command": "~/bin/x"}));
        writes(
            &["x", "--env", "A=b=c", "--env", "TOKEN", "--env", "E=", "--", "/x"],
            &json!({"command": "/x", "env": {"A": "b=c", "E": "", "TOKEN": "${env:TOKEN}"}}),
        );
        writes(
            &["x", "--sandbox", "strict", "--price", "$0.01", "--trust", "approve", "--start", "boot", "--scope", "run", "--", "x"],
            &json!({"command": "x", "sandbox": "strict", "price_usd": "0.01", "trust": "approve", "start": "boot", "scope": "run"}),
        );
        writes(
            &["x", "--read", "/r", "--read", "~/s", "--write", "/w", "--host", "h:1", "--require", "none", "--cwd", "/d", "--", "x"],
            &json!({"command": "x", "cwd": "/d", "sandbox": {
                "level": "standard", "require": "none", "read": ["/r", "~/s"], "write": ["/w"], "hosts": ["h:1"]}}),
        );
        let here = std::env::current_dir().unwrap_or_default().join("bin/x");
        assert_eq!(parsed(&["x", "--", "bin/x"]).server.command, here.display().to_string());
    }

    #[test]
    fn a_variable_is_given_once() {
        let twice = variables(vec!["A=1".to_owned(), "A".to_owned()]).map_err(|failure| (failure.exit, failure.message));
        assert_eq!(twice, Err((Exit::Usage, "--env A is given twice".to_owned())));
    }

    #[test]
    fn a_result_is_its_text_and_moves_no_cursor() {
        let told = |result: Value| super::result(&ToolInvoked { request: RequestId::new(1, 1), result, is_error: false });
        assert_eq!(
            told(json!({"content": [{"type": "text", "text": "a\u{1b}[2J\nb\t\u{202e}c"}, {"type": "text", "text": "d"}]})),
            "a[2J\nb\tc\nd"
        );
        assert_eq!(told(json!({"content": [{"type": "image", "data": "x"}]})), r#"{"data":"x","type":"image"}"#);
        assert_eq!(told(json!({"content": [], "structuredContent": {"a": 1}})), "{\n  \"a\": 1\n}");
        assert_eq!(told(json!({})), "");
    }

    #[test]
    fn a_line_of_a_log_tells_when_and_by_whom() {
        let line = LogLine { at: Stamp::new(0), pid: 7, stream: LogStream::Stderr, text: "up".to_owned() };
        assert_eq!(log_line(&line), "1970-01-01 00:00:00Z        7  stderr  up");
    }
}
