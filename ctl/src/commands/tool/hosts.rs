//! The files in which other hosts of MCP keep their servers: where they are, and what an entry of each means here.
//!
//! - Claude Desktop: `mcpServers` of claude_desktop_config.json, nothing in it is expanded (modelcontextprotocol.io, "Connect to local MCP
//!   servers").
//! - Claude Code: `mcpServers` of `.mcp.json` in a project, and of `~/.claude.json`, at its top and below `projects`, by folder; `${VAR}` and
//!   `${VAR:-default}` are expanded in command, args and env (code.claude.com/docs, "Connect Claude Code to tools via MCP").
//! - Cursor: `mcpServers` of `~/.cursor/mcp.json` and of `.cursor/mcp.json` in a project, with `${env:NAME}`, `${userHome}`,
//!   `${workspaceFolder}`, `${workspaceFolderBasename}`, `${pathSeparator}` and `${/}`, and `envFile` (cursor.com/docs, "Model Context Protocol").
//! - VS Code: `servers` of `.vscode/mcp.json` and of the user's `mcp.json`, and `mcp.servers` of settings.json, JSON with comments; variables as
//!   in its tasks, and `${input:ID}`, for which it asks (code.visualstudio.com/docs, "MCP configuration reference", "Variables reference").
//!
//! Reads texts only. Must not: ask the daemon.

use crate::cli::Host;
use aex_core::jsonc;
use aex_proto::tool::Entry;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The longest name of a server here.
const MAX_NAME: usize = 48;

/// A server of another host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its name there.
    pub(super) name: String,
    /// What it is here, or why it can be nothing.
    pub(super) entry: Result<Entry, String>,
    /// Its keys that mean nothing here.
    pub(super) left_out: Vec<String>,
}

/// A file that may hold servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) path: PathBuf,
}

/// Where the hosts have their files, for a user and for the folder that the user is in.
pub(super) fn places(host: Option<Host>, home: &Path, config: &Path, here: &Path) -> Vec<Place> {
    let all = [
        (Host::ClaudeDesktop, config.join("Claude/claude_desktop_config.json")),
        (Host::ClaudeCode, here.join(".mcp.json")),
        (Host::ClaudeCode, home.join(".claude.json")),
        (Host::Cursor, here.join(".cursor/mcp.json")),
        (Host::Cursor, home.join(".cursor/mcp.json")),
        (Host::Vscode, here.join(".vscode/mcp.json")),
        (Host::Vscode, here.join(".vscode/settings.json")),
        (Host::Vscode, config.join("Code/User/mcp.json")),
        (Host::Vscode, config.join("Code/User/settings.json")),
    ];
    let mut places: Vec<Place> = Vec::new();
    for (of, path) in all {
        // Who stands at home is in no project.
        if host.is_none_or(|host| host == of) && !places.iter().any(|place| place.path == path) {
            places.push(Place { host: of, path });
        }
    }
    places
}

/// Whose a file is, by its name and its form.
pub(super) fn host_of(path: &Path, source: &str) -> Host {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    match (folder.as_str(), name.as_str()) {
        (_, "claude_desktop_config.json") => Host::ClaudeDesktop,
        (_, ".claude.json" | ".mcp.json") => Host::ClaudeCode,
        (".cursor", _) => Host::Cursor,
        (".vscode", _) | (_, "settings.json") => Host::Vscode,
        _ => {
            let top = parse(source).ok();
            let has = |key: &str| top.as_ref().is_some_and(|top| top.contains_key(key));
            match (has("mcpServers"), has("servers") || has("mcp")) {
                (false, true) => Host::Vscode,
                _ if ["${env:", "${userHome}", "${workspaceFolder"].iter().any(|reference| source.contains(reference)) => Host::Cursor,
                _ => Host::ClaudeCode,
            }
        }
    }
}

fn parse(source: &str) -> Result<Map<String, Value>, String> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    match serde_json::from_str(&jsonc::plain(source).json) {
        Ok(Value::Object(top)) => Ok(top),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(fault) => Err(format!("it is no JSON: {fault}")),
    }
}

/// All servers of a file.
pub(super) fn read(place: &Place, source: &str, home: &Path) -> Result<Vec<Found>, String> {
    let top = parse(source)?;
    let Place { host, path } = place;
    let folder = path.parent().unwrap_or(Path::new("/"));
    // `.cursor/mcp.json` is of the folder that holds `.cursor`; that of the home is of no project.
    let above = folder
        .parent()
        .filter(|above| matches!(folder.file_name().and_then(|name| name.to_str()), Some(".cursor" | ".vscode")) && *above != home);
    let of_project = match host {
        Host::ClaudeDesktop => None,
        Host::ClaudeCode => (path.file_name().is_some_and(|name| name == ".mcp.json")).then_some(folder),
        Host::Cursor | Host::Vscode => above,
    };
    let mut found = Vec::new();
    let mut take = |servers: Option<&Value>, project: Option<&Path>| {
        let scope = Scope { host: *host, project, home };
        for (name, value) in servers.and_then(Value::as_object).into_iter().flatten() {
            let mut left_out = Vec::new();
            let entry = scope.entry(value, &mut left_out);
            found.push(Found { name: name.clone(), entry, left_out });
        }
    };
    match host {
        Host::Vscode => {
            take(top.get("servers"), of_project);
            take(top.get("mcp").and_then(|mcp| mcp.get("servers")), of_project);
            take(top.get("mcp.servers"), of_project);
        }
        Host::ClaudeCode => {
            take(top.get("mcpServers"), of_project);
            for (folder, project) in top.get("projects").and_then(Value::as_object).into_iter().flatten() {
                take(project.get("mcpServers"), Some(Path::new(folder)));
            }
        }
        Host::ClaudeDesktop | Host::Cursor => take(top.get("mcpServers"), of_project),
    }
    Ok(found)
}

/// A name that a server can have here.
pub(super) fn fit(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_') { letter } else { '-' };
    let mut fitting: String = name.chars().map(plain).collect();
    while fitting.contains("__") {
        fitting = fitting.replace("__", "_");
    }
    let cut: String = fitting.trim_matches('-').chars().take(MAX_NAME).collect();
    if cut.is_empty() { "server".to_owned() } else { cut }
}

/// Where an entry stands.
struct Scope<'a> {
    host: Host,
    project: Option<&'a Path>,
    home: &'a Path,
}

/// What a text is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The value of a variable, where references are looked up when the server starts.
    Variable,
    /// Anything else.
    Word,
}

impl Scope<'_> {
    fn entry(&self, value: &Value, left_out: &mut Vec<String>) -> Result<Entry, String> {
        let entry = value.as_object().ok_or("it is no object")?;
        let kind = entry.get("type").and_then(Value::as_str);
        let has_url = ["url", "serverUrl", "httpUrl"].iter().any(|key| entry.contains_key(*key));
        match kind {
            Some("stdio") => {}
            Some(kind) => return Err(format!("it is a server elsewhere ({kind}), which is not supported")),
            None if has_url && !entry.contains_key("command") => return Err("it is a server elsewhere, which is not supported".to_owned()),
            None => {}
        }
        let command = entry.get("command").and_then(Value::as_str).ok_or("it has no command")?;
        let args = match entry.get("args") {
            None => Vec::new(),
            Some(args) => {
                let texts: Option<Vec<&str>> = args.as_array().and_then(|args| args.iter().map(Value::as_str).collect());
                let texts = texts.ok_or("its args are no list of texts")?;
                texts.into_iter().map(|text| self.expand(text, Use::Word)).collect::<Result<_, _>>()?
            }
        };
        let mut new = Entry::new(self.expand(command, Use::Word)?, args);
        for (name, value) in entry.get("env").map(|env| env.as_object().ok_or("its env is no object")).transpose()?.into_iter().flatten() {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                // VS Code takes a variable away with it; here none is there that was not asked for.
                Value::Null => continue,
                Value::Array(_) | Value::Object(_) => return Err(format!("its variable {name} is no text")),
            };
            new.env.insert(name.clone(), self.expand(&text, Use::Variable).map_err(|why| format!("its variable {name}: {why}"))?);
        }
        let cwd = entry.get("cwd").and_then(Value::as_str).map(|text| self.expand(text, Use::Word)).transpose()?;
        new.cwd = cwd.or_else(|| self.project.map(|folder| folder.display().to_string()));
        // Hosts start it in that folder, and look for it from there.
        let is_relative = new.command.contains('/') && !new.command.starts_with(['/', '~']);
        if let Some(folder) = new.cwd.as_deref().filter(|_| is_relative) {
            new.command = Path::new(folder).join(new.command.trim_start_matches("./")).display().to_string();
        }
        new.disabled = entry.get("disabled") == Some(&Value::Bool(true)) || entry.get("enabled") == Some(&Value::Bool(false));
        const TAKEN: [&str; 9] = ["type", "command", "args", "env", "cwd", "disabled", "enabled", "description", "name"];
        left_out.extend(entry.keys().filter(|key| !TAKEN.contains(&key.as_str())).cloned());
        Ok(new)
    }

    /// A text of the host as it is written in mcp.json.
    fn expand(&self, text: &str, of: Use) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((inner, behind)) = after.split_once('}').filter(|_| self.host != Host::ClaudeDesktop) else {
                // There it is no reference.
                out.push_str(if of == Use::Variable { "$${" } else { "${" });
                rest = after;
                continue;
            };
            out.push_str(&self.reference(inner, of)?);
            rest = behind;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn reference(&self, inner: &str, of: Use) -> Result<String, String> {
        let variable = |name: &str| match of {
            Use::Variable => Ok(format!("${{env:{name}}}")),
            Use::Word => Err(format!("its command line has the variable {name} in it, which any process could read there: pass it in env")),
        };
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let shown = |path: &Path| path.display().to_string();
        let project = || self.project.ok_or_else(|| format!("`${{{inner}}}` means nothing outside of a project"));
        match (self.host, inner) {
            (Host::ClaudeCode, name) if is_name(name) => variable(name),
            (Host::ClaudeCode, name) if name.split_once(":-").is_some_and(|(name, _)| is_name(name)) => Err(format!(
                "`${{{}:-…}}` has a default, which mcp.json does not know: write the value, or `${{env:NAME}}`",
                name.split(":-").next().unwrap_or_default()
            )),
            (Host::Cursor | Host::Vscode, "workspaceFolder") => project().map(shown),
            (Host::Cursor | Host::Vscode, "workspaceFolderBasename") => {
                project().map(|folder| folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
            }
            (Host::Cursor | Host::Vscode, "userHome") => Ok(shown(self.home)),
            (Host::Cursor | Host::Vscode, "pathSeparator" | "/") => Ok("/".to_owned()),
            (Host::Cursor | Host::Vscode, inner) => match inner.split_once(':') {
                Some(("env", name)) if is_name(name) => variable(name),
                Some(("input", id)) => {
                    Err(format!("VS Code asks its user for `{id}`: put that into .env, and add the server by hand with --env"))
                }
                _ => Err(format!("`${{{inner}}}` is known to that host alone")),
            },
            (_, inner) => Err(format!("`${{{inner}}}` is known to that host alone")),
        }
    }
}

#[cfg(test)]
mod tests;
