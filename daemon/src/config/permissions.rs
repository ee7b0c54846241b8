//! permissions.json: the file of the earlier program AETHER (`version`, `global_policy`, a map of tools), and more. The file is optional.
//!
//! Only the exact word `allow` allows in the earlier form, every other word denies. What is new is an object, and there nothing is guessed:
//! an unknown key, an unknown effect, an empty list or a null is an error, for each of them would widen a rule.

use super::report::{Field, Report, Section, Unknown, number};
use super::yaml::Value;
use aex_core::tool::{
    ConditionSpec, Conditions, Effect, GlobalPolicy, MAX_RULES, Permissions, PermissionsSpec, RuleSpec, Scalar, Standing,
};
use aex_proto::value::Pico;
use std::collections::BTreeMap;

/// Longest pattern of a name, and longest key of the map, in bytes.
const MAX_NAME: usize = 256;
/// Longest name of a rule, in bytes.
const MAX_RULE_NAME: usize = 64;
/// Names of decisions that no rule made.
const BUILT_IN: [&str; 3] = ["global_policy", "no_permissions", "bad_permissions"];
/// The keys of a rule.
const EFFECTS: [(&str, Effect); 3] = [("allow", Effect::Allow), ("deny", Effect::Deny), ("ask", Effect::Ask)];

/// Reads the file. Wrong parts are in the report; then there is no result.
pub(super) fn read(source: &str, report: &mut Report) -> Option<Permissions> {
    let document = report.parse_json(source)?;
    let Value::Map(_) = &document.value else {
        report.refuse(document.line, "expected an object with global_policy and rules".to_owned());
        return None;
    };
    let mut top = Section::document(&document, report)?;
    top.refuse_nulls(&[], report);
    if let Some(version) = top.get("version") {
        text(&version, report);
    }
    let global_policy = top.get("global_policy").and_then(|field| {
        let word = text(&field, report)?;
        Some(GlobalPolicy { effect: word_of_old(&field, &word, report), line: Some(field.line) })
    });
    let rules = top.get("rules").map(|field| rules(&field, report)).unwrap_or_default();
    top.finish(Unknown::Refuse, report);
    twice(&rules, report);
    if !report.errors.is_empty() {
        return None;
    }
    let global_policy = global_policy.unwrap_or(GlobalPolicy { effect: Effect::Deny, line: None });
    let spec = PermissionsSpec { file: report.file().to_owned(), global_policy, rules, standing: Standing::Loaded };
    Permissions::new(spec).map_err(|flaws| flaws.iter().for_each(|flaw| report.refuse(flaw.line, flaw.to_string()))).ok()
}

/// The earlier program's words: whatever is not `allow` denies.
fn word_of_old(field: &Field<'_>, word: &str, report: &mut Report) -> Effect {
    match word {
        "allow" => Effect::Allow,
        "deny" => Effect::Deny,
        _ => {
            let shown: String = word.chars().take(MAX_RULE_NAME).collect();
            let more = if word == "ask" && field.key != "global_policy" { "; to ask, write {\"effect\": \"ask\"}" } else { "" };
            report.warn(field.line, format!("{}: \"{shown}\" denies, as every word but \"allow\" does{more}", field.key));
            Effect::Deny
        }
    }
}

fn rules(field: &Field<'_>, report: &mut Report) -> Vec<RuleSpec> {
    let count = match &field.node.value {
        Value::Map(entries) => entries.len(),
        Value::List(items) => items.len(),
        _ => 0,
    };
    if count > MAX_RULES {
        report.refuse(field.line, format!("{}: expected at most {MAX_RULES} rules, found {count}", field.key));
        return Vec::new();
    }
    match &field.node.value {
        Value::Map(_) => {
            let section = report.section(field);
            section.iter().flat_map(Section::named).filter_map(|(name, field)| keyed(name, &field, report)).collect()
        }
        Value::List(items) => {
            let items = items.iter().enumerate().map(|(at, node)| Field { key: format!("{}[{at}]", field.key), line: node.line, node });
            items.filter_map(|item| rule(&item, None, report)).collect()
        }
        _ => {
            report.expected(field, "a list of rules, or an object of tools with \"allow\" or \"deny\"");
            Vec::new()
        }
    }
}

/// A rule of the map: its key is the bare name of a tool, on every server.
fn keyed(tool: &str, field: &Field<'_>, report: &mut Report) -> Option<RuleSpec> {
    if tool.len() > MAX_NAME {
        report.refuse(field.line, format!("{}: expected the name of a tool, of at most {MAX_NAME} bytes", field.key));
        return None;
    }
    if tool.contains("__") || tool.contains('.') {
        let says = "means a tool of that very name, on every server; a server's is meant in a list of rules";
        report.warn(field.line, format!("{}: `{}` {says}", field.key, tool.escape_debug()));
    }
    match &field.node.value {
        Value::Text(word) => {
            let effect = word_of_old(field, word, report);
            Some(RuleSpec { tool_name: Some(tool.to_owned()), ..bare(field, effect) })
        }
        Value::Map(_) => rule(field, Some(tool), report),
        _ => {
            report.expected(field, "\"allow\", \"deny\", or an object with an effect");
            None
        }
    }
}

fn bare(field: &Field<'_>, effect: Effect) -> RuleSpec {
    RuleSpec {
        agent: Vec::new(),
        effect,
        group: Vec::new(),
        line: field.line,
        name: field.key.clone(),
        price: None,
        rate: None,
        reason: None,
        server: Vec::new(),
        tool: Vec::new(),
        tool_name: None,
        when: BTreeMap::new(),
    }
}

/// A rule that is an object: of a list, or of the map with the name of its tool.
fn rule(field: &Field<'_>, tool_name: Option<&str>, report: &mut Report) -> Option<RuleSpec> {
    let mut section = report.section(field)?;
    section.refuse_nulls(&[], report);
    let effect = section.require("effect", "allow, deny or ask", report).and_then(|field| report.word(&field, &EFFECTS));
    let mut patterns = |name| section.get(name).map(|field| patterns(&field, report)).unwrap_or_default();
    let (agent, group, server) = (patterns("agent"), patterns("group"), patterns("server"));
    let tool = if tool_name.is_none() { patterns("tool") } else { Vec::new() };
    for name in tool.iter().filter(|name| name.contains("__") || !server.is_empty() && name.contains('.')) {
        if server.is_empty() && name.contains('.') {
            continue;
        }
        let fix = name.replacen("__", ".", 1);
        let fix = if server.is_empty() {
            format!("`{fix}` means a server's")
        } else {
            "beside `server` it is the tool's own name alone".to_owned()
        };
        report.warn(field.line, format!("{}.tool: `{name}` means a tool of that very name; {fix}", field.key));
    }
    let when = section.get("when").map(|field| when(&field, effect.unwrap_or(Effect::Deny), report)).unwrap_or_default();
    let rate = section.get("rate").and_then(|field| rate(&field, report));
    let price = price(&mut section, report);
    let reason = section.get("reason").and_then(|field| text(&field, report));
    let name = if tool_name.is_none() { section.get("name").and_then(|field| rule_name(&field, report)) } else { None };
    section.finish(Unknown::Refuse, report);
    if effect == Some(Effect::Deny) && (price.is_some() || rate.is_some()) {
        report.refuse(field.line, format!("{}: a rule that denies has no price and no rate", field.key));
    }
    let bare = bare(field, effect?);
    let name = name.unwrap_or_else(|| bare.name.clone());
    Some(RuleSpec { agent, group, name, price, rate, reason, server, tool, tool_name: tool_name.map(str::to_owned), when, ..bare })
}

/// The names of the map's rules are their keys, which are there once.
fn twice(rules: &[RuleSpec], report: &mut Report) {
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    for rule in rules {
        if let Some(line) = known.insert(&rule.name, rule.line) {
            report.refuse(rule.line, format!("name: line {line} has a rule `{}` already", rule.name));
        }
    }
}

/// Text alone: a number is none, as it was none to the earlier program.
fn text(field: &Field<'_>, report: &mut Report) -> Option<String> {
    match &field.node.value {
        Value::Text(text) => Some(text.clone()),
        _ => {
            report.expected(field, "text");
            None
        }
    }
}

/// One text or a list of them, which asks for something.
fn some_texts(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let texts: Vec<String> = match &field.node.value {
        Value::List(items) => {
            let items = items.iter().map(|node| Field { key: field.key.clone(), line: node.line, node });
            items.filter_map(|item| text(&item, report)).collect()
        }
        _ => text(field, report).into_iter().collect(),
    };
    if matches!(&field.node.value, Value::List(items) if items.is_empty()) {
        report.refuse(field.line, format!("{}: expected at least one text, found an empty list", field.key));
    }
    texts
}

fn patterns(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let texts = some_texts(field, report);
    let is_wrong = |text: &&String| text.trim().is_empty() || text.len() > MAX_NAME || text.chars().any(char::is_control);
    if texts.iter().any(|text| is_wrong(&text)) {
        report.refuse(field.line, format!("{}: expected patterns of names, of 1 to {MAX_NAME} bytes", field.key));
    }
    texts
}

fn rule_name(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let name = text(field, report)?;
    let is_place = name.starts_with("rules[") || name.starts_with("rules.");
    if name.trim().is_empty()
        || name.len() > MAX_RULE_NAME
        || name.chars().any(char::is_control)
        || is_place
        || BUILT_IN.contains(&name.as_str())
    {
        report.expected(field, &format!("a name of 1 to {MAX_RULE_NAME} bytes that is not {} or a place", BUILT_IN.join(", ")));
        return None;
    }
    Some(name)
}

fn rate(field: &Field<'_>, report: &mut Report) -> Option<u32> {
    let rate = match &field.node.value {
        Value::Literal(text) => text.parse().ok().filter(|rate| *rate > 0),
        _ => None,
    };
    if rate.is_none() {
        report.expected(field, "calls a minute, a whole number ≥ 1");
    }
    rate
}

/// `price_usd`, or `price`: US dollars a call.
fn price(section: &mut Section<'_>, report: &mut Report) -> Option<Pico> {
    let (usd, other) = (section.get("price_usd"), section.get("price"));
    if let (Some(usd), Some(_)) = (&usd, &other) {
        report.refuse(usd.line, format!("{}: expected one of them, price or price_usd", usd.key));
        return None;
    }
    let field = usd.or(other)?;
    let parsed = number(field.node).map(Pico::parse_usd);
    match parsed {
        Some(Ok(price)) => Some(price),
        Some(Err(why)) => {
            report.refuse(field.line, format!("{}: {why}", field.key));
            None
        }
        None => {
            report.expected(&field, "US dollars such as \"0.01\"");
            None
        }
    }
}

fn when(field: &Field<'_>, effect: Effect, report: &mut Report) -> BTreeMap<String, ConditionSpec> {
    let section = report.section(field);
    let mut conditions = BTreeMap::new();
    for (pointer, field) in section.iter().flat_map(Section::named) {
        let before = report.errors.len();
        let Some(condition) = condition(&field, report).filter(|_| report.errors.len() == before) else { continue };
        // At its own line: the rules are made ready when all of the file is read.
        let alone = BTreeMap::from([(pointer.to_owned(), condition.clone())]);
        for (_, flaw) in Conditions::new(effect, &alone).err().unwrap_or_default() {
            report.refuse(field.line, format!("{}: {flaw}", field.key));
        }
        conditions.insert(pointer.to_owned(), condition);
    }
    conditions
}

fn condition(field: &Field<'_>, report: &mut Report) -> Option<ConditionSpec> {
    let mut section = report.section(field)?;
    section.refuse_nulls(&["equals"], report);
    let mut bound = |name| section.get(name).and_then(|field| scalar(&field, report));
    let (above, below, max, min) = (bound("above"), bound("below"), bound("max"), bound("min"));
    let equals = section.get_even_null("equals").and_then(|field| scalar(&field, report));
    let one_of = section.get("one_of").map(|field| scalars(&field, report)).unwrap_or_default();
    let matches = section.get("matches").and_then(|field| text(&field, report));
    let present = section.get("present").and_then(|field| report.flag(&field));
    let mut some = |name| section.get(name).map(|field| some_texts(&field, report)).unwrap_or_default();
    let (under, url_host) = (some("under"), some("url_host"));
    section.finish(Unknown::Refuse, report);
    Some(ConditionSpec { above, below, equals, matches, max, min, one_of, present, under, url_host })
}

fn scalars(field: &Field<'_>, report: &mut Report) -> Vec<Scalar> {
    match &field.node.value {
        Value::List(items) if !items.is_empty() => {
            let items = items.iter().map(|node| Field { key: field.key.clone(), line: node.line, node });
            items.filter_map(|item| scalar(&item, report)).collect()
        }
        _ => {
            report.expected(field, "a list of values, of one at least");
            Vec::new()
        }
    }
}

fn scalar(field: &Field<'_>, report: &mut Report) -> Option<Scalar> {
    let scalar = match &field.node.value {
        Value::Null => Scalar("null".to_owned()),
        Value::Literal(text) => Scalar(text.clone()),
        Value::Text(text) => Scalar(serde_json::Value::from(text.as_str()).to_string()),
        Value::List(_) | Value::Map(_) => {
            report.expected(field, "a text, a number, true, false or null");
            return None;
        }
    };
    Some(scalar)
}

#[cfg(test)]
mod tests;
