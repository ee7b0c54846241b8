//! `aexctl config`: the settings in force and their sources.

use super::Context;
use crate::exit::{Exit, Failure};
use crate::view::table;
use aex_proto::config::{ConfigShown, ProviderKey, Setting};
use aex_proto::method::{ConfigGet, Nothing};
use aex_proto::model::KeyState;
use serde_json::Value;

pub(super) fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let shown = context.connect()?.call::<ConfigGet>(&Nothing {})?;
    for warning in &shown.warnings {
        context.view.note(&format!("warning: {warning}"));
    }
    context.view.show(&shown, |_| text(&shown))?;
    Ok(Exit::Done)
}

fn text(shown: &ConfigShown) -> String {
    let places = shown.places.iter().map(|place| [place.name.clone(), place.path.clone()]);
    let (settings, keys) = (shown.settings.iter().map(setting), shown.keys.iter().map(key));
    let tables =
        [table(["Place", "Path"], places), table(["Setting", "Value", "Source"], settings), table(["Key", "State", "Source"], keys)];
    tables.join("\n\n")
}

fn setting(setting: &Setting) -> [String; 3] {
    let waits = if setting.waits_for_restart { ", from the next start on" } else { "" };
    [setting.name.clone(), value(&setting.value), format!("{}{waits}", setting.source)]
}

/// As aexd.yaml has it.
fn value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn key(key: &ProviderKey) -> [String; 3] {
    let state = match key.state {
        KeyState::Present => "set",
        KeyState::Missing => "not set",
        KeyState::NotNeeded => "not needed",
    };
    [key.variable.clone(), state.to_owned(), key.source.clone().unwrap_or_else(|| "-".to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_setting_tells_its_source_and_a_key_only_whether_it_is_set() {
        let setting = |name: &str, value, source: &str, waits_for_restart| Setting {
            name: name.to_owned(),
            value,
            source: source.to_owned(),
            waits_for_restart,
        };
        let key = |state, source: Option<&str>| ProviderKey {
            provider: "groq".to_owned(),
            variable: "GROQ_API_KEY".to_owned(),
            state,
            source: source.map(str::to_owned),
        };
        let shown = ConfigShown {
            places: Vec::new(),
            settings: vec![setting("port", json!(9001), "aexd.yaml:3", true), setting("admin_group", Value::Null, "default", false)],
            keys: vec![key(KeyState::Present, Some(".env")), key(KeyState::Missing, None)],
            warnings: Vec::new(),
        };
        let text = text(&shown);
        for line in [
            " port        | 9001  | aexd.yaml:3, from the next start on",
            " admin_group | -     | default",
            " GROQ_API_KEY | set     | .env",
            " GROQ_API_KEY | not set | -",
        ] {
            assert!(text.lines().any(|told| told == line), "{text}");
        }
    }
}
