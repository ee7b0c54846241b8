//! `aexctl policy`.

use super::Context;
use crate::cli::Policy;
use crate::exit::{Exit, Failure};
use crate::units::count;
use crate::view::{Paint, table};
use aex_proto::account::AgentRef;
use aex_proto::method;
use aex_proto::policy::{CaseTested, PolicyCheck, PolicyChecked, PolicyShown, PolicyTest, PolicyTested, Rule};
use serde_json::Value;
use std::path::Path;

/// The largest file that is sent: the socket takes lines of 1 MiB.
const MAX_FILE: usize = 512 << 10;

pub(super) fn run(context: &Context<'_>, verb: Policy) -> Result<Exit, Failure> {
    let view = context.view;
    match verb {
        Policy::Check { file } => {
            let text = file.as_deref().map(read).transpose()?;
            let mut client = context.connect()?;
            let checked = client.call::<method::PolicyCheck>(&PolicyCheck { file: file.as_deref().map(name), text })?;
            view.show(&checked, |paint| checked_text(&checked, paint))?;
            Ok(if checked.passed { Exit::Done } else { Exit::Failed })
        }
        Policy::Show { name } => {
            let shown = context.connect()?.call::<method::PolicyShow>(&AgentRef { name })?;
            view.show(&shown, |_| shown_text(&shown))?;
            Ok(Exit::Done)
        }
        Policy::Test { cases } => {
            let (file, text) = (name(&cases), read(&cases)?);
            let tested = context.connect()?.call::<method::PolicyTest>(&PolicyTest { file, text })?;
            view.show(&tested, |paint| tested_text(&tested, paint))?;
            Ok(if tested.passed { Exit::Done } else { Exit::Failed })
        }
    }
}

fn name(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|fault| Failure::new(format!("cannot read {}: {fault}", path.display())))?;
    if text.len() > MAX_FILE {
        return Err(Failure::new(format!("{} is larger than {MAX_FILE} bytes", path.display())));
    }
    Ok(text)
}

fn checked_text(checked: &PolicyChecked, paint: Paint) -> String {
    let mut lines: Vec<String> = checked.errors.iter().map(|error| paint.bad(&format!("error: {error}"))).collect();
    lines.extend(checked.warnings.iter().map(|warning| format!("warning: {warning}")));
    if !checked.profiles.is_empty() {
        let rows = checked.profiles.iter().map(|profile| {
            let agents = if profile.agents.is_empty() { "-".to_owned() } else { profile.agents.join(", ") };
            [profile.name.clone(), profile.line.to_string(), profile.default.clone(), profile.rules.to_string(), agents]
        });
        lines.push(table(["Profile", "Line", "Default", "Rules", "Agents"], rows));
    }
    let profiles = u64::try_from(checked.profiles.len()).unwrap_or(u64::MAX);
    lines.push(if checked.passed {
        format!("The policy is sound: {}.", count(profiles, "profile"))
    } else {
        "The policy is wrong.".to_owned()
    });
    lines.join("\n")
}

fn shown_text(shown: &PolicyShown) -> String {
    let profile =
        shown.profile.as_ref().map_or_else(|| "none".to_owned(), |profile| format!("{} ({}:{})", profile.name, profile.file, profile.line));
    let mut lines = vec![format!("Agent:   {}", shown.agent), format!("Profile: {profile}"), format!("Default: {}", shown.default)];
    let fields = serde_json::to_value(&shown.policy).unwrap_or(Value::Null);
    let fields = fields.as_object().cloned().unwrap_or_default();
    let rows = fields.iter().map(|(name, value)| {
        let from = shown.policy_from.get(name).map_or("default", String::as_str);
        let value = if value.is_null() { "-".to_owned() } else { compact(value) };
        [name.clone(), value, from.to_owned()]
    });
    lines.push(format!("\n{}", table(["Field", "Value", "From"], rows)));
    if !shown.rules.is_empty() {
        let row = |rule: &Rule| {
            let limit = if rule.limit.is_null() { String::new() } else { format!(" to {}", compact(&rule.limit)) };
            [rule.name.clone(), format!("{}{limit}", rule.effect), compact(&rule.when), format!("{}:{}", rule.file, rule.line)]
        };
        lines.push(format!("\n{}", table(["Rule", "Effect", "When", "Where"], shown.rules.iter().map(row))));
    }
    lines.join("\n")
}

/// A value in few characters: `model=[a, b] hour={from=22 to=6}`; nothing to ask for is `always`.
pub(super) fn compact(value: &Value) -> String {
    match value {
        Value::Object(members) if members.is_empty() => "always".to_owned(),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| match value {
                Value::Object(_) => format!("{name}={{{}}}", compact(value)),
                _ => format!("{name}={}", compact(value)),
            };
            members.iter().map(member).collect::<Vec<_>>().join(" ")
        }
        Value::Array(items) => format!("[{}]", items.iter().map(compact).collect::<Vec<_>>().join(", ")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn tested_text(tested: &PolicyTested, paint: Paint) -> String {
    let line = |case: &CaseTested| {
        let what = format!("line {}: {} calls {}: {} by {}", case.line, case.agent, case.model, case.got, case.rule);
        if case.passed {
            format!("{} {what}", paint.good("PASS"))
        } else {
            format!("{} {what}, expected {}", paint.bad("FAIL"), case.expected)
        }
    };
    let mut lines: Vec<String> = tested.cases.iter().map(line).collect();
    let failed = tested.cases.iter().filter(|case| !case.passed).count();
    lines.push(format!("{} passed, {failed} failed", tested.cases.len() - failed));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_told_in_a_line() {
        assert_eq!(compact(&json!({})), "always");
        let when = json!({"hour": {"from": 22, "to": 6}, "model": ["a", "b*"], "stream": true});
        assert_eq!(compact(&when), "hour={from=22 to=6} model=[a, b*] stream=true");
    }
}
