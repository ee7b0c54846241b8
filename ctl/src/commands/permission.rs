//! `aexctl permissions`.

use super::Context;
use super::policy::compact;
use crate::cli::Permissions;
use crate::exit::{Exit, Failure};
use crate::view::{Paint, table};
use aex_proto::method;
use aex_proto::permission::{PermissionCheck, PermissionChecked, PermissionQuery, PermissionRule, PermissionsShown};

pub(super) fn run(context: &Context<'_>, verb: Permissions) -> Result<Exit, Failure> {
    match verb {
        Permissions::Show { agent } => {
            let shown = context.connect()?.call::<method::PermissionShow>(&PermissionQuery { agent })?;
            context.view.show(&shown, |paint| shown_text(&shown, paint))?;
            Ok(Exit::Done)
        }
        Permissions::Check { agent, tool, arguments, cwd } => {
            let cwd =
                cwd.map(std::path::absolute).transpose().map_err(|fault| Failure::new(format!("--cwd: {fault}")).with(Exit::Usage))?;
            let cwd = cwd.map(|path| path.display().to_string());
            let wanted = PermissionCheck { agent, tool: tool.to_string(), arguments, cwd };
            let checked = context.connect()?.call::<method::PermissionCheck>(&wanted)?;
            context.view.show(&checked, |paint| checked_text(&checked, paint))?;
            Ok(if checked.effect == "allow" { Exit::Done } else { Exit::Denied })
        }
    }
}

fn shown_text(shown: &PermissionsShown, paint: Paint) -> String {
    let groups = if shown.groups.is_empty() { "-".to_owned() } else { shown.groups.join(", ") };
    let from = match (shown.standing.as_str(), shown.global_policy_line) {
        ("absent", _) => format!(" (there is no {})", shown.file),
        ("refused", _) => format!(" ({} was wrong at the start)", shown.file),
        (_, Some(line)) => format!(" (global_policy, {}:{line})", shown.file),
        (_, None) => format!(" ({} has no global_policy)", shown.file),
    };
    let mut lines = vec![
        format!("Agent:              {}", shown.agent),
        format!("Groups:             {groups}"),
        format!("Tools without rule: {}{from}", effect(&shown.global_policy, paint)),
    ];
    lines.extend(shown.problems.iter().map(|problem| paint.bad(&format!("error: {problem}"))));
    if !shown.rules.is_empty() {
        let row = |rule: &PermissionRule| {
            let place = format!("{}:{}", rule.file, rule.line);
            [rule.name.clone(), effect_and_terms(rule), tools(rule), compact(&rule.when), who(rule), place]
        };
        let head = ["Rule", "Effect", "Tools", "When", "For", "Where"];
        lines.push(format!("\n{}", table(head, shown.rules.iter().map(row))));
    }
    lines.join("\n")
}

/// `allow, 5 a minute, 0.01 USD`.
fn effect_and_terms(rule: &PermissionRule) -> String {
    let rate = rule.rate.map(|rate| format!("{rate} a minute"));
    let price = rule.price_usd.as_ref().map(|price| format!("{price} USD"));
    [Some(rule.effect.clone()), rate, price].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn tools(rule: &PermissionRule) -> String {
    let tools = if rule.tools.is_empty() { "all".to_owned() } else { rule.tools.join(", ") };
    if rule.servers.is_empty() { tools } else { format!("{tools} of {}", rule.servers.join(", ")) }
}

fn who(rule: &PermissionRule) -> String {
    let named = |noun: &str, names: &[String]| (!names.is_empty()).then(|| format!("{noun} {}", names.join(", ")));
    let parts: Vec<String> = [named("agent", &rule.agents), named("group", &rule.groups)].into_iter().flatten().collect();
    if parts.is_empty() { "all".to_owned() } else { parts.join(" in ") }
}

fn effect(effect: &str, paint: Paint) -> String {
    if effect == "allow" { paint.good(effect) } else { paint.bad(effect) }
}

fn checked_text(checked: &PermissionChecked, paint: Paint) -> String {
    let place = match (&checked.file, checked.line) {
        (Some(file), Some(line)) => format!(" ({file}:{line})"),
        (Some(file), None) => format!(" ({file})"),
        (None, _) => String::new(),
    };
    let by = match checked.rule.as_str() {
        "global_policy" => "no rule matches, so the global policy decides".to_owned(),
        "no_permissions" => "there is no file of permissions, so every tool is denied".to_owned(),
        "bad_permissions" => "the file of permissions was wrong at the daemon's start, so every tool is denied".to_owned(),
        "arguments" => "the arguments are refused before any rule".to_owned(),
        rule => format!("by rule `{rule}`"),
    };
    let mut lines = vec![format!("{}  {} calls {}: {by}{place}", effect(&checked.effect, paint), checked.agent, checked.tool)];
    if checked.effect == "ask" {
        lines.push("  a person is asked".to_owned());
    }
    lines.extend(checked.reason.iter().map(|reason| format!("  reason: {reason}")));
    lines.extend(checked.unclear.iter().map(|condition| format!("  cannot be told, so it counts as met: {condition}")));
    if !checked.also.is_empty() {
        lines.push(format!("  also matches: {}", checked.also.join(", ")));
    }
    lines.extend(checked.near.iter().map(|near| format!("  nearly matches: `{}`, but for {}", near.rule, near.condition)));
    lines.extend(checked.rates.iter().map(|rate| format!("  rate: {} a minute, by `{}`", rate.per_minute, rate.rule)));
    lines.extend(checked.price_usd.iter().map(|price| format!("  price: {price} USD a call")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::permission::{NearlyMatched, RateOfRule};

    fn checked() -> PermissionChecked {
        PermissionChecked {
            agent: "bot".to_owned(),
            tool: "fs.read".to_owned(),
            effect: "allow".to_owned(),
            rule: "reads".to_owned(),
            file: Some("permissions.json".to_owned()),
            line: Some(7),
            reason: None,
            unclear: None,
            also: vec!["all".to_owned(), "rules[2]".to_owned()],
            near: vec![NearlyMatched { rule: "secrets".to_owned(), condition: "/path under /secret".to_owned() }],
            rates: vec![RateOfRule { rule: "reads".to_owned(), per_minute: 5 }],
            price_pico: None,
            price_usd: Some("0.01".to_owned()),
            digest: String::new(),
        }
    }

    #[test]
    fn a_verdict_names_its_rule_and_what_else_there_is_to_know() {
        let wanted = "\
allow  bot calls fs.read: by rule `reads` (permissions.json:7)
  also matches: all, rules[2]
  nearly matches: `secrets`, but for /path under /secret
  rate: 5 a minute, by `reads`
  price: 0.01 USD a call";
        assert_eq!(checked_text(&checked(), Paint::PLAIN), wanted);
        let bare = |effect: &str, rule: &str| PermissionChecked {
            effect: effect.to_owned(),
            rule: rule.to_owned(),
            line: None,
            reason: Some("because".to_owned()),
            unclear: Some("/u url_host x".to_owned()),
            also: Vec::new(),
            near: Vec::new(),
            rates: Vec::new(),
            price_usd: None,
            ..checked()
        };
        let wanted = "\
ask  bot calls fs.read: no rule matches, so the global policy decides (permissions.json)
  a person is asked
  reason: because
  cannot be told, so it counts as met: /u url_host x";
        assert_eq!(checked_text(&bare("ask", "global_policy"), Paint::PLAIN), wanted);
    }

    #[test]
    fn a_rule_is_told_in_a_row() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let rule = PermissionRule {
            name: "r".to_owned(),
            effect: "allow".to_owned(),
            file: "f".to_owned(),
            line: 1,
            tools: names(&["read_*"]),
            servers: names(&["fs"]),
            agents: names(&["a", "b"]),
            groups: names(&["g"]),
            when: serde_json::json!({}),
            rate: Some(5),
            price_pico: None,
            price_usd: Some("0.01".to_owned()),
            reason: None,
        };
        let told = (effect_and_terms(&rule), tools(&rule), who(&rule));
        assert_eq!(told, ("allow, 5 a minute, 0.01 USD".to_owned(), "read_* of fs".to_owned(), "agent a, b in group g".to_owned()));
        let bare = PermissionRule {
            tools: Vec::new(),
            servers: Vec::new(),
            agents: Vec::new(),
            groups: Vec::new(),
            rate: None,
            price_usd: None,
            ..rule
        };
        assert_eq!((effect_and_terms(&bare), tools(&bare), who(&bare)), ("allow".to_owned(), "all".to_owned(), "all".to_owned()));
    }
}
