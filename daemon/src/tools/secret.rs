//! Variables of a tool's environment: which it may have, what their values refer to, and what that is when its process starts.
//!
//! No text that comes from here names a value. Must not: keep a value, start anything.

use super::server::{EnvPart, EnvValue, Server};
use super::supervisor::{Resolve, Resolved};
use crate::config;
use crate::os::secret::Secret;
use aex_core::paths::Paths;
use std::cell::LazyCell;
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is a secret: keys and certificates have some KiB.
const MAX_FILE: u64 = 64 << 10;
/// The longest name of a variable.
const MAX_NAME: usize = 256;

/// Variables by which whoever writes a configuration has other code run in every program of a kind, the sandbox's own stage among them:
/// ld.so(8), bash(1), node(1), perlrun(1), ruby(1), the JVM's launcher, .NET's host. A tool that needs one has a program of its own set it.
const DENIED: [&str; 19] = [
    "BASH_ENV",
    "DOTNET_STARTUP_HOOKS",
    "ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "NODE_OPTIONS",
    "NODE_REPL_EXTERNAL_MODULE",
    "PERL5DB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "RUBYOPT",
    "SHELLOPTS",
    "_JAVA_OPTIONS",
];
/// The same, all variables of the dynamic linker.
const DENIED_BEGINNING: &str = "LD_";

/// Words in the name of a variable whose value is mostly a secret.
const SECRET_WORDS: [&str; 11] =
    ["APIKEY", "AUTH", "CREDENTIAL", "CREDENTIALS", "KEY", "PASSPHRASE", "PASSWD", "PASSWORD", "PAT", "SECRET", "TOKEN"];
/// How tokens of well-known services begin.
const SECRET_BEGINNINGS: [&str; 10] = ["sk-", "sk_", "ghp_", "gho_", "github_pat_", "glpat-", "xoxb-", "xoxp-", "AKIA", "aex_"];

/// Why a variable cannot be one of a tool.
///
/// # Errors
/// In words that follow the variable's name.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME || name.contains('=') || name.chars().any(|letter| letter.is_control() || letter == ' ') {
        return Err(format!("expected the name of a variable, of 1 to {MAX_NAME} bytes without `=` and blanks"));
    }
    if DENIED.contains(&name) || name.starts_with(DENIED_BEGINNING) {
        return Err("has programs run code of others, so no configuration may set it".to_owned());
    }
    Ok(())
}

/// Whether a value is written out that is mostly a secret.
#[must_use]
pub fn is_exposed(name: &str, value: &EnvValue) -> bool {
    let [EnvPart::Text(text)] = value.0.as_slice() else { return false };
    let upper = name.to_ascii_uppercase();
    let has_word = upper.split(['_', '-', '.']).any(|word| SECRET_WORDS.contains(&word));
    let begins = SECRET_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning));
    // A flag is none, whatever it is called.
    begins || (has_word && text.len() > 5)
}

impl EnvValue {
    /// Reads a value: text, `${env:NAME}` or `${NAME}`, `${file:PATH}`, `${credential:NAME}`; `$${` is `${`. `home`: what `~/` in a path means.
    ///
    /// # Errors
    /// In words that name no value.
    pub fn parse(source: &str, home: Option<&Path>) -> Result<EnvValue, String> {
        if source.contains('\0') {
            return Err("a value has no NUL".to_owned());
        }
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), source);
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                text.push_str(before);
                text.push_str("${");
                rest = after;
                continue;
            }
            let (inner, behind) = after.split_once('}').ok_or("a reference `${` has no `}`; `$${` stands for `${` itself")?;
            text.push_str(before);
            if !text.is_empty() {
                parts.push(EnvPart::Text(std::mem::take(&mut text)));
            }
            parts.push(reference(inner, home)?);
            rest = behind;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(EnvPart::Text(text));
        }
        Ok(EnvValue(parts))
    }
}

/// What stands between `${` and `}`.
fn reference(inner: &str, home: Option<&Path>) -> Result<EnvPart, String> {
    const KNOWN: &str = "known are ${env:NAME}, ${file:PATH} and ${credential:NAME}";
    // Claude Code's `${NAME:-default}`.
    if let Some((name, _)) = inner.split_once(":-").filter(|(name, _)| is_name(name)) {
        return Err(format!("a reference has no default: write ${{env:{name}}}, or the value"));
    }
    match inner.split_once(':') {
        Some(("env", name)) if is_name(name) => Ok(EnvPart::Env(name.to_owned())),
        Some(("env", _)) => Err("${env:NAME} names no variable".to_owned()),
        Some(("credential", name)) if is_file_name(name) => Ok(EnvPart::Credential(name.to_owned())),
        Some(("credential", _)) => Err("${credential:NAME} names no file of a folder".to_owned()),
        Some(("file", path)) => {
            let path = absolute(path, home).ok_or("${file:PATH} has no absolute path")?;
            Ok(EnvPart::File(path))
        }
        Some(("input", _)) => Err(format!("${{input:…}} asks a person, whom a daemon does not have; {KNOWN}")),
        None if is_name(inner) => Ok(EnvPart::Env(inner.to_owned())),
        _ => Err(format!("a reference that is not known; {KNOWN}; `$${{` stands for `${{` itself")),
    }
}

/// An absolute path, or one below the home.
#[must_use]
pub fn absolute(text: &str, home: Option<&Path>) -> Option<PathBuf> {
    let path = match text.strip_prefix('~') {
        Some("") => home?.to_owned(),
        Some(below) => home?.join(below.strip_prefix('/')?),
        None => PathBuf::from(text),
    };
    (path.is_absolute() && !text.chars().any(char::is_control)).then_some(path)
}

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_letter) && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains('/') && !matches!(name, "." | "..") && !name.chars().any(char::is_control)
}

/// Where references are looked up.
struct Sources<'a> {
    /// A variable of the daemon's environment or of `.env`.
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// systemd's CREDENTIALS_DIRECTORY.
    credentials: Option<&'a Path>,
}

/// Looks a server's references up, whenever it is called: in the daemon's environment, then in `.env` as it is at that moment.
#[must_use]
pub fn resolver(paths: &Paths, environment: &Arc<HashMap<String, String>>) -> Resolve {
    let (paths, environment) = (paths.clone(), Arc::clone(environment));
    Arc::new(move |server: &Server| {
        let file = LazyCell::new(|| config::env_file(&paths));
        let set = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let variable = |name: &str| set(name).or_else(|| file.get(name).map(str::to_owned));
        let credentials = set("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        resolve(server, &Sources { variable: &variable, credentials: credentials.as_deref() })
    })
}

/// The environment that a server's configuration asks for.
///
/// # Errors
/// What of it is missing, in words that name no value.
fn resolve(server: &Server, sources: &Sources<'_>) -> Result<Resolved, String> {
    let mut resolved = Resolved::default();
    for (name, value) in &server.env {
        let mut text = String::new();
        for part in &value.0 {
            match part {
                EnvPart::Text(own) => text.push_str(own),
                referring => {
                    let secret = look_up(referring, sources).map_err(|why| format!("its variable {name} is missing: {why}"))?;
                    text.push_str(secret.expose());
                    resolved.secrets.push(secret);
                }
            }
        }
        if is_exposed(name, value) {
            resolved.secrets.extend(Secret::new(text.clone()));
        }
        resolved.env.push((name.clone(), text));
    }
    Ok(resolved)
}

fn look_up(part: &EnvPart, sources: &Sources<'_>) -> Result<Secret, String> {
    match part {
        EnvPart::Text(text) => Secret::new(text.clone()).ok_or_else(|| "it is empty".to_owned()),
        EnvPart::Env(name) => {
            let found = (sources.variable)(name).and_then(Secret::new).filter(|value| !value.expose().contains('\0'));
            found.ok_or_else(|| format!("neither the daemon's environment nor .env sets {name}"))
        }
        EnvPart::File(path) => read(path),
        EnvPart::Credential(name) => {
            let folder = sources.credentials.ok_or("the daemon has no credentials: CREDENTIALS_DIRECTORY is not set")?;
            read(&folder.join(name))
        }
    }
}

/// What a file holds, without the line end behind it.
fn read(path: &Path) -> Result<Secret, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    // A pipe without a writer would be waited for.
    let nonblocking = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(|fault| failed(&fault))?;
    if !file.metadata().map_err(|fault| failed(&fault))?.is_file() {
        return Err(failed(&"it is no file"));
    }
    let mut text = String::new();
    let length = file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|fault| failed(&fault))?;
    if u64::try_from(length).unwrap_or(u64::MAX) > MAX_FILE {
        return Err(failed(&format!("it is larger than {MAX_FILE} bytes")));
    }
    let value = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if value.contains('\0') {
        return Err(failed(&"it holds a NUL"));
    }
    Secret::new(value.to_owned()).ok_or_else(|| failed(&"it is empty"))
}

#[cfg(test)]
mod tests;
