//! The configuration: aexd.yaml, models.yaml, policy.yaml, permissions.json, mcp.json and .env, read whole, checked whole, and then a value
//! that never changes.
//!
//! A broken or unreadable file is an error that names file, line and key; nothing ever starts empty from one. A broken permissions.json or
//! mcp.json alone lets the daemon start: every call of a tool is denied then, or there are no tools. A reload is another `Config::load`, whose error leaves the old value in force. Must not: decide about calls.

mod cases;
mod defaults;
mod dotenv;
mod json;
mod mcp;
mod models;
mod permissions;
mod policy;
mod pricing;
mod provider;
mod report;
mod route;
mod settings;
mod yaml;

pub use aex_core::hold::Durability;
pub use cases::{Case, read_cases};
pub use defaults::{AEXD_YAML, ENV, MODELS_YAML, PERMISSIONS_JSON, write_missing};
pub use dotenv::Variables;
pub use models::Catalog;
pub use provider::{Auth, Provider, ProviderKind, Timeouts};
pub use report::{Problem, Warning};
pub use route::{Retries, Route};
pub use settings::{OnDisconnect, Origin, Overrides, Settings, Source, Sourced, parse_level};

use crate::os::paths::tighten;
use crate::os::secret::Secret;
use crate::tools::registry::Registry;
use aex_core::paths::Paths;
use aex_core::policy::Profiles;
use aex_core::tool::Permissions;
use aex_proto::value::Digest;
use http::HeaderValue;
use report::Report;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

const SETTINGS_FILE: &str = "aexd.yaml";
const MODELS_FILE: &str = "models.yaml";
/// Profiles of agents.
pub const POLICY_FILE: &str = "policy.yaml";
/// Which calls of tools may be made.
pub const PERMISSIONS_FILE: &str = "permissions.json";
/// Servers of tools.
pub const MCP_FILE: &str = "mcp.json";
/// What an agent's token begins with.
const AGENT_TOKEN: &str = "aex_";
/// Largest file that is read.
const MAX_FILE: u64 = 4 << 20;

/// A configuration that was checked whole.
#[derive(Clone, Debug)]
pub struct Config {
    /// The daemon's own settings.
    pub settings: Settings,
    /// Providers, models and prices.
    pub catalog: Catalog,
    /// Profiles of agents.
    pub profiles: Profiles,
    /// Which calls of tools may be made; none when that cannot be read.
    pub permissions: Permissions,
    /// All that is wrong with permissions.json. Calls of models do not depend on it, so a start goes on without it.
    pub permissions_errors: Vec<Problem>,
    /// The servers of tools; none when mcp.json cannot be read.
    pub tools: Registry,
    /// All that is wrong with mcp.json. Calls of models do not depend on it, so a start goes on without it.
    pub tools_errors: Vec<Problem>,
    /// The keys of providers.
    pub keys: Keys,
    /// Of the texts of aexd.yaml, models.yaml, policy.yaml, permissions.json and mcp.json.
    pub digest: Digest,
    /// What a user should know.
    pub warnings: Vec<Warning>,
}

/// The keys of providers that have one.
#[derive(Clone, Debug, Default)]
pub struct Keys(BTreeMap<String, (Secret, Origin)>);

impl Keys {
    /// A provider's key.
    #[must_use]
    pub fn get(&self, provider: &str) -> Option<&Secret> {
        self.0.get(provider).map(|(key, _)| key)
    }

    /// Where a provider's key came from.
    #[must_use]
    pub fn source(&self, provider: &str) -> Option<Origin> {
        self.0.get(provider).map(|(_, origin)| *origin)
    }
}

/// All that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads and checks all files. Flags win over the environment, that over .env, that over aexd.yaml.
    ///
    /// # Errors
    /// When a file is unreadable or wrong, or models.yaml is missing: all that is wrong.
    pub fn load(paths: &Paths, lookup: impl Fn(&str) -> Option<String>, overrides: &Overrides) -> Result<Config, ConfigErrors> {
        let mut errors = Vec::new();
        let mut warnings = Vec::new();
        let settings_text = text(&paths.config_dir.join(SETTINGS_FILE), SETTINGS_FILE, &mut errors).unwrap_or_default();
        let models_text = required_text(&paths.config_dir.join(MODELS_FILE), MODELS_FILE, &mut errors);
        let policy_text = text(&paths.config_dir.join(POLICY_FILE), POLICY_FILE, &mut errors).unwrap_or_default();
        let variables = read_env(&paths.env_file, &mut errors, &mut warnings);
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(|value| (value, Origin::Environment));
        let kept = |name: &str| variables.get(name).map(|value| (value.to_owned(), Origin::DotEnv));

        let mut report = Report::new(SETTINGS_FILE);
        let mut settings = settings::read(&settings_text, &mut report);
        collect(report, &mut errors, &mut warnings);
        if let Some(settings) = &mut settings {
            settings.apply(|name| set(name).or_else(|| kept(name)), overrides, &mut errors);
        }

        let mut report = Report::new(MODELS_FILE);
        let catalog = models_text.as_ref().and_then(|text| models::read(text, &paths.config_dir, &mut report));
        collect(report, &mut errors, &mut warnings);
        let sources = |name: &str| [set(name), kept(name)];
        let keys = catalog.as_ref().map(|catalog| read_keys(catalog, sources, &mut errors, &mut warnings)).unwrap_or_default();

        let mut report = Report::new(POLICY_FILE);
        let profiles = policy::read(&policy_text, catalog.as_ref(), &mut report);
        collect(report, &mut errors, &mut warnings);

        let (permissions_text, permissions, permissions_errors) = read_permissions(paths, &mut warnings);
        let (tools_text, tools, tools_errors) = read_tools(paths, lookup("HOME").as_deref().map(Path::new), &mut warnings);
        match (settings, catalog, profiles) {
            (Some(settings), Some(catalog), Some(profiles)) if errors.is_empty() => {
                let texts = [&settings_text, models_text.as_deref().unwrap_or_default(), &policy_text];
                let digest = digest(texts, [permissions_text.as_deref(), tools_text.as_deref()]);
                Ok(Config { settings, catalog, profiles, permissions, permissions_errors, tools, tools_errors, keys, digest, warnings })
            }
            _ => Err(ConfigErrors(errors)),
        }
    }
}

/// What is wrong with a text as models.yaml, and what a user should know of it; with the policy that is there, which names models.
#[must_use]
pub fn check_models(paths: &Paths, models: &str) -> (Vec<Problem>, Vec<Warning>) {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let mut report = Report::new(MODELS_FILE);
    let catalog = models::read(models, &paths.config_dir, &mut report);
    collect(report, &mut errors, &mut warnings);
    if u64::try_from(models.len()).unwrap_or(u64::MAX) > MAX_FILE {
        errors.push(Problem { file: MODELS_FILE.to_owned(), line: None, text: format!("larger than {MAX_FILE} bytes") });
    }
    let policy = text(&paths.config_dir.join(POLICY_FILE), POLICY_FILE, &mut errors).unwrap_or_default();
    let mut report = Report::new(POLICY_FILE);
    policy::read(&policy, catalog.as_ref(), &mut report);
    collect(report, &mut errors, &mut warnings);
    (errors, warnings)
}

fn collect(report: Report, errors: &mut Vec<Problem>, warnings: &mut Vec<Warning>) {
    for (mut found, all) in [(report.errors, errors), (report.warnings, warnings)] {
        found.sort_by_key(|problem| problem.line);
        all.append(&mut found);
    }
}

/// permissions.json: its text, what holds by it, and all that is wrong with it.
fn read_permissions(paths: &Paths, warnings: &mut Vec<Warning>) -> (Option<String>, Permissions, Vec<Problem>) {
    let mut errors = Vec::new();
    let source = text(&paths.config_dir.join(PERMISSIONS_FILE), PERMISSIONS_FILE, &mut errors);
    let read = source.as_ref().and_then(|source| {
        let (read, warned) = check_permissions(PERMISSIONS_FILE, source);
        warnings.extend(warned);
        read.map_err(|wrong| errors.extend(wrong.0)).ok()
    });
    let permissions = match read {
        Some(permissions) => permissions,
        None if errors.is_empty() => Permissions::absent(PERMISSIONS_FILE),
        None => Permissions::refused(PERMISSIONS_FILE),
    };
    (source, permissions, errors)
}

/// mcp.json: its text, the servers that it names, and all that is wrong with it.
fn read_tools(paths: &Paths, home: Option<&Path>, warnings: &mut Vec<Warning>) -> (Option<String>, Registry, Vec<Problem>) {
    let mut errors = Vec::new();
    let source = text(&paths.config_dir.join(MCP_FILE), MCP_FILE, &mut errors);
    let read = source.as_ref().map(|source| check_tools(source, home));
    let registry = match read {
        Some((Ok(registry), mut told)) => {
            warnings.append(&mut told);
            registry
        }
        Some((Err(wrong), mut told)) => {
            warnings.append(&mut told);
            errors.extend(wrong.0);
            Registry::default()
        }
        None => Registry::default(),
    };
    (source, registry, errors)
}

/// Checks an mcp.json that is not in force: its servers, or all that is wrong with it; and what a user should know. `home`: what `~/` in a
/// path means.
pub fn check_tools(source: &str, home: Option<&Path>) -> (Result<Registry, ConfigErrors>, Vec<Warning>) {
    let mut report = Report::new(MCP_FILE);
    let registry = mcp::read(source, home, &mut report);
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    collect(report, &mut errors, &mut warnings);
    (registry.ok_or(ConfigErrors(errors)), warnings)
}

/// The text of mcp.json as it lies on the disk; `None` without one.
///
/// # Errors
/// When it cannot be read.
pub fn tools_text(paths: &Paths) -> Result<Option<String>, ConfigErrors> {
    let mut errors = Vec::new();
    let text = text(&paths.config_dir.join(MCP_FILE), MCP_FILE, &mut errors);
    if errors.is_empty() { Ok(text) } else { Err(ConfigErrors(errors)) }
}

/// What .env sets at this moment; nothing when it cannot be read, which a load says.
#[must_use]
pub fn env_file(paths: &Paths) -> Variables {
    read_env(&paths.env_file, &mut Vec::new(), &mut Vec::new())
}

/// The lengths stand before the texts, so that no other texts give the same bytes. Without a policy, permissions or tools it is what it was
/// before there were any.
fn digest([settings, models, policy]: [&str; 3], json: [Option<&str>; 2]) -> Digest {
    let policy = if policy.is_empty() { String::new() } else { format!("\n{}\n{policy}", models.len()) };
    let digest = Digest::of(format!("{}\n{settings}{models}{policy}", settings.len()).as_bytes());
    let names = ["", MCP_FILE];
    let present = names.into_iter().zip(json).filter_map(|(name, text)| Some((name, text?)));
    present.fold(digest, |digest, (name, text)| Digest::of(format!("{digest}\n{name}{text}").as_bytes()))
}

/// The text of policy.yaml as it lies on the disk; empty without one.
///
/// # Errors
/// When it cannot be read.
pub fn policy_text(paths: &Paths) -> Result<String, ConfigErrors> {
    let mut errors = Vec::new();
    let text = text(&paths.config_dir.join(POLICY_FILE), POLICY_FILE, &mut errors);
    if errors.is_empty() { Ok(text.unwrap_or_default()) } else { Err(ConfigErrors(errors)) }
}

/// Checks a models.yaml that is not in force: its catalog, or all that is wrong with it; and what a user should know. Files that it names
/// are looked for from `config_dir`.
pub fn check_catalog(source: &str, config_dir: &Path) -> (Result<Catalog, ConfigErrors>, Vec<Warning>) {
    let mut report = Report::new(MODELS_FILE);
    let catalog = models::read(source, config_dir, &mut report);
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    collect(report, &mut errors, &mut warnings);
    (catalog.ok_or(ConfigErrors(errors)), warnings)
}

/// Checks a policy that is not in force: its profiles, or all that is wrong with it; and what a user should know.
pub fn check_policy(name: &str, source: &str, catalog: &Catalog) -> (Result<Profiles, ConfigErrors>, Vec<Warning>) {
    let mut report = Report::new(name);
    let profiles = policy::read(source, Some(catalog), &mut report);
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    collect(report, &mut errors, &mut warnings);
    (profiles.ok_or(ConfigErrors(errors)), warnings)
}

/// Checks permissions that are not in force: what holds by them, or all that is wrong with them; and what a user should know.
pub fn check_permissions(name: &str, source: &str) -> (Result<Permissions, ConfigErrors>, Vec<Warning>) {
    let mut report = Report::new(name);
    let permissions = permissions::read(source, &mut report);
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    collect(report, &mut errors, &mut warnings);
    (permissions.ok_or(ConfigErrors(errors)), warnings)
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    read_open(&File::open(path)?)
}

fn read_open(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE) {
        Ok(bytes)
    } else {
        Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {MAX_FILE} bytes")))
    }
}

fn problem(file: &str, text: String) -> Problem {
    Problem { file: file.to_owned(), line: None, text }
}

fn utf8(bytes: Vec<u8>, file: &str, errors: &mut Vec<Problem>) -> Option<String> {
    String::from_utf8(bytes).map_err(|_| errors.push(problem(file, "expected UTF-8 text".to_owned()))).ok()
}

/// A file's text; `None` when it does not exist, or after an error.
fn text(path: &Path, file: &str, errors: &mut Vec<Problem>) -> Option<String> {
    match read_limited(path) {
        Ok(bytes) => utf8(bytes, file, errors),
        Err(fault) if fault.kind() == ErrorKind::NotFound => None,
        Err(fault) => {
            errors.push(problem(file, format!("cannot read {}: {fault}", path.display())));
            None
        }
    }
}

fn required_text(path: &Path, file: &str, errors: &mut Vec<Problem>) -> Option<String> {
    let before = errors.len();
    let text = text(path, file, errors);
    if text.is_none() && errors.len() == before {
        errors.push(problem(file, format!("{} does not exist; `aexctl init` writes one", path.display())));
    }
    text
}

fn read_env(path: &Path, errors: &mut Vec<Problem>, warnings: &mut Vec<Warning>) -> dotenv::Variables {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == ErrorKind::NotFound => return dotenv::Variables::default(),
        Err(fault) => {
            errors.push(problem(".env", format!("cannot read {}: {fault}", path.display())));
            return dotenv::Variables::default();
        }
    };
    match tighten(&file) {
        Ok(false) => {}
        Ok(true) => warnings.push(problem(".env", "others could read its keys; its mode is 600 now".to_owned())),
        Err(fault) => {
            warnings.push(problem(".env", format!("others can read its keys, and its mode cannot be changed: {fault}")));
        }
    }
    let parsed = match read_open(&file) {
        Ok(bytes) => utf8(bytes, ".env", errors).map(|source| dotenv::parse(&source)),
        Err(fault) => {
            errors.push(problem(".env", format!("cannot read {}: {fault}", path.display())));
            None
        }
    };
    match parsed {
        Some(Ok(mut variables)) => {
            warnings.append(&mut variables.warnings);
            variables
        }
        Some(Err(mut wrong)) => {
            errors.append(&mut wrong);
            dotenv::Variables::default()
        }
        None => dotenv::Variables::default(),
    }
}

/// What the values of a variable are, the one that wins first.
type Found = [Option<(String, Origin)>; 2];

fn read_keys(catalog: &Catalog, sources: impl Fn(&str) -> Found, errors: &mut Vec<Problem>, warnings: &mut Vec<Warning>) -> Keys {
    let mut keys = BTreeMap::new();
    for provider in catalog.providers.values().filter(|provider| provider.needs_key()) {
        let Some((key, origin)) = key(&provider.key_variable, sources(&provider.key_variable), warnings) else { continue };
        if HeaderValue::from_str(key.expose()).is_ok() {
            keys.insert(provider.name.clone(), (key, origin));
        } else {
            errors.push(problem(&provider.key_variable, "expected a key of visible ASCII characters".to_owned()));
        }
    }
    Keys(keys)
}

/// The first value that can be a provider's key. An agent's token is none: it stands there when the daemon is started inside
/// `aexctl run`, or after `aexctl agent env`, and no provider knows it.
fn key(variable: &str, found: Found, warnings: &mut Vec<Warning>) -> Option<(Secret, Origin)> {
    for (text, origin) in found.into_iter().flatten() {
        let text = text.trim();
        if text.starts_with(AGENT_TOKEN) {
            let place = match origin {
                Origin::Environment => "the daemon's environment",
                Origin::DotEnv => ".env",
            };
            warnings.push(problem(variable, format!("{place} sets it to an agent's token, which counts as not set")));
        } else if let Some(key) = Secret::new(text.to_owned()) {
            return Some((key, origin));
        }
    }
    None
}

#[cfg(test)]
mod tests;
