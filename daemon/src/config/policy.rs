//! policy.yaml, version 1: profiles, their fields and rules. The file is optional. Unknown keys are errors: a misspelt condition
//! would widen a rule.

use super::models::Catalog;
use super::report::{Field, Report, Section, Unknown, number};
use super::yaml::Value;
use aex_core::policy::{Effect, Fallback, Fields, Hours, LimitSpec, Origin, Profile, Profiles, RuleSpec, Span, When};

/// Rules that one profile may have: all of them are evaluated for each call.
const MAX_RULES: usize = 256;
/// The name of the decision that no rule made.
const DEFAULT: &str = "default";

/// Reads the file. Wrong parts are in the report, and left out of the result.
pub(super) fn read(source: &str, catalog: Option<&Catalog>, report: &mut Report) -> Option<Profiles> {
    let document = report.parse(source)?;
    let mut top = Section::document(&document, report)?;
    if let Some(version) = top.get("version")
        && number(version.node) != Some("1")
    {
        report.expected(&version, "1");
    }
    let section = top.get("profiles").and_then(|field| report.section(&field));
    let profiles: Vec<Profile> =
        section.iter().flat_map(Section::named).filter_map(|(name, field)| profile(name, &field, report)).collect();
    top.finish(Unknown::Refuse, report);
    twice(&profiles, report);
    for profile in &profiles {
        if profile.denies_all() {
            report.warn(profile.origin.line, format!("profiles.{}: no rule lets a call pass, and the default denies", profile.origin.name));
        }
        if profile.agents.is_empty() && profile.groups.is_empty() {
            report.warn(
                profile.origin.line,
                format!("profiles.{}: bound to nobody, for it has no agents and no groups", profile.origin.name),
            );
        }
        if let Some(catalog) = catalog {
            unknown_models(profile, catalog, report);
        }
    }
    report.errors.is_empty().then_some(Profiles(profiles))
}

/// The same name in two profiles binds an agent twice, whatever agents there are.
fn twice(profiles: &[Profile], report: &mut Report) {
    for (at, later) in profiles.iter().enumerate() {
        for earlier in profiles.iter().take(at) {
            let shared = later.agents.iter().find(|name| earlier.agents.contains(name));
            let shared = shared.or_else(|| later.groups.iter().find(|name| earlier.groups.contains(name)));
            if let Some(name) = shared {
                let (line, first) = (later.origin.line, earlier.place());
                report.refuse(line, format!("profiles.{}: `{name}` is bound to profile {first} already", later.origin.name));
            }
        }
    }
}

fn unknown_models(profile: &Profile, catalog: &Catalog, report: &mut Report) {
    let mut warn = |line: u64, key: &str, name: &String| {
        if !name.contains(['*', '?']) && catalog.model(name).is_none() {
            report.warn(line, format!("profiles.{}.{key}: no model `{name}` is in models.yaml", profile.origin.name));
        }
    };
    profile.fields.allowed_models.iter().flatten().for_each(|name| warn(profile.origin.line, "allowed_models", name));
    for rule in &profile.rules {
        rule.when.model.iter().for_each(|name| warn(rule.line, "rules.when.model", name));
    }
}

fn profile(name: &str, field: &Field<'_>, report: &mut Report) -> Option<Profile> {
    let mut section = report.section(field)?;
    let agents = section.get("agents").and_then(|field| report.names(&field)).unwrap_or_default();
    let groups = section.get("groups").and_then(|field| report.names(&field)).unwrap_or_default();
    let words = [("allow", Fallback::Allow), ("deny", Fallback::Deny)];
    let default = section.get("default").and_then(|field| report.word(&field, &words));
    let rules = section.get("rules").map(|field| rules(&field, report)).unwrap_or_default();
    let fields = fields(&mut section, report);
    section.finish(Unknown::Refuse, report);
    let default = default.unwrap_or(if rules.is_empty() { Fallback::Allow } else { Fallback::Deny });
    let origin = Origin { file: report.file().to_owned(), line: field.line, name: name.to_owned() };
    Some(Profile { origin, agents, groups, default, fields, rules })
}

fn fields(section: &mut Section<'_>, report: &mut Report) -> Fields {
    let mut flag = |name| section.get(name).and_then(|field| report.flag(&field));
    let mut fields = Fields {
        allow_function_calling: flag("allow_function_calling"),
        allow_passthrough: flag("allow_passthrough"),
        allow_streaming: flag("allow_streaming"),
        allow_tools: flag("allow_tools"),
        allow_vision: flag("allow_vision"),
        strict: flag("strict"),
        ..Fields::default()
    };
    fields.allowed_models = section.get("allowed_models").and_then(|field| report.names(&field));
    fields.allowed_tool_names = section.get("allowed_tool_names").and_then(|field| report.names(&field));
    fields.max_input_tokens = section.get("max_input_tokens").and_then(|field| report.whole(&field, 0));
    fields.max_output_tokens = section.get("max_output_tokens").and_then(|field| report.whole(&field, 1));
    fields
}

fn rules(field: &Field<'_>, report: &mut Report) -> Vec<RuleSpec> {
    let Value::List(items) = &field.node.value else {
        report.expected(field, "a list of rules");
        return Vec::new();
    };
    if items.len() > MAX_RULES {
        report.refuse(field.line, format!("{}: expected at most {MAX_RULES} rules, found {}", field.key, items.len()));
        return Vec::new();
    }
    let mut rules: Vec<RuleSpec> = Vec::with_capacity(items.len());
    for (at, node) in items.iter().enumerate() {
        let item = Field { key: format!("{}[{at}]", field.key), line: node.line, node };
        let Some(rule) = rule(&item, report) else { continue };
        if let Some(earlier) = rules.iter().find(|earlier| earlier.name == rule.name) {
            report.refuse(rule.line, format!("{}.name: line {} has a rule `{}` already", item.key, earlier.line, rule.name));
        }
        rules.push(rule);
    }
    rules
}

fn rule(field: &Field<'_>, report: &mut Report) -> Option<RuleSpec> {
    let mut section = report.section(field)?;
    let name = section.require("name", "a name", report).and_then(|field| {
        let name = report.text(&field)?;
        if name == DEFAULT || name.chars().any(char::is_control) || name.len() > 64 {
            report.expected(&field, "a name of at most 64 bytes that is not `default`");
        }
        Some(name)
    });
    let effects = [Effect::Deny, Effect::Ask, Effect::Limit, Effect::Allow].map(|effect| (effect.name(), effect));
    let effect = section.require("effect", "deny, ask, limit or allow", report).and_then(|field| report.word(&field, &effects));
    let when = section.get("when").map_or_else(|| Some(When::default()), |field| when(&field, report));
    let stated = section.get("limit");
    let line = stated.as_ref().map(|field| field.line);
    let limit = stated.and_then(|field| limit(&field, report));
    let reason = section.get("reason").and_then(|field| report.text(&field));
    section.finish(Unknown::Refuse, report);
    let effect = effect?;
    if let (Some(line), false) = (line, effect == Effect::Limit) {
        report.refuse(line, format!("{}.limit: only a rule with `effect: limit` has one", field.key));
    }
    if effect == Effect::Limit && line.is_none() {
        report.refuse(field.line, format!("{}.limit: expected max_tokens, temperature or stream, found nothing", field.key));
    }
    Some(RuleSpec { effect, file: report.file().to_owned(), limit, line: field.line, name: name?, reason, when: when? })
}

fn when(field: &Field<'_>, report: &mut Report) -> Option<When> {
    let mut section = report.section(field)?;
    let mut names = |name| section.get(name).map_or_else(|| Some(Vec::new()), |field| report.names(&field));
    let (agent, group, model, tool) = (names("agent"), names("group"), names("model"), names("tool"));
    let mut optional = |name| section.get(name).map(|field| span(&field, report));
    let (input_tokens, output_tokens, budget_share) = (optional("input_tokens"), optional("output_tokens"), optional("budget_share"));
    let hour = section.get("hour").map(|field| hours(&field, report));
    let stream = section.get("stream").map(|field| report.flag(&field));
    section.finish(Unknown::Refuse, report);
    Some(When {
        agent: agent?,
        budget_share: budget_share.map_or(Some(None), |span| span.map(Some))?,
        group: group?,
        hour: hour.map_or(Some(None), |hours| hours.map(Some))?,
        input_tokens: input_tokens.map_or(Some(None), |span| span.map(Some))?,
        model: model?,
        output_tokens: output_tokens.map_or(Some(None), |span| span.map(Some))?,
        stream: stream.map_or(Some(None), |stream| stream.map(Some))?,
        tool: tool?,
    })
}

fn span(field: &Field<'_>, report: &mut Report) -> Option<Span> {
    let before = report.errors.len();
    let mut section = report.section(field)?;
    let above = section.get("above").and_then(|field| report.whole(&field, 0));
    let below = section.get("below").and_then(|field| report.whole(&field, 0));
    section.finish(Unknown::Refuse, report);
    if above.is_none() && below.is_none() {
        if report.errors.len() == before {
            report.refuse(field.line, format!("{}: expected above or below, found neither", field.key));
        }
        return None;
    }
    if let (Some(above), Some(below)) = (above, below)
        && below.saturating_sub(above) < 2
    {
        report.refuse(field.line, format!("{}: no number is above {above} and below {below}", field.key));
    }
    Some(Span { above, below })
}

/// `22-6`: from 22:00 up to 6:00.
fn hours(field: &Field<'_>, report: &mut Report) -> Option<Hours> {
    let hours = number(field.node).and_then(|text| {
        let (from, to) = text.split_once('-')?;
        let hour = |text: &str| text.trim().parse::<u8>().ok();
        let hours = Hours { from: hour(from)?, to: hour(to)? };
        (hours.from < 24 && hours.to <= 24 && hours.from != hours.to).then_some(hours)
    });
    if hours.is_none() {
        report.expected(field, "hours such as \"9-17\" or \"22-6\"");
    }
    hours
}

fn limit(field: &Field<'_>, report: &mut Report) -> Option<LimitSpec> {
    let before = report.errors.len();
    let mut section = report.section(field)?;
    let max_tokens = section.get("max_tokens").and_then(|field| report.whole(&field, 1));
    let temperature = section.get("temperature").and_then(|field| temperature(&field, report));
    let stream = section.get("stream").and_then(|field| {
        let stream = report.flag(&field)?;
        if stream {
            report.expected(&field, "false: a limit can only take streams away");
        }
        Some(stream)
    });
    section.finish(Unknown::Refuse, report);
    if max_tokens.is_none() && temperature.is_none() && stream.is_none() && report.errors.len() == before {
        report.refuse(field.line, format!("{}: expected max_tokens, temperature or stream, found nothing", field.key));
    }
    Some(LimitSpec { max_tokens, no_stream: stream == Some(false), temperature })
}

/// As it is written: it is sent like that.
fn temperature(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let is_plain = |text: &&str| {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole) && digits(fraction) && (whole == "0" || !whole.starts_with('0'))
    };
    let text = number(field.node).filter(is_plain).map(str::to_owned);
    if text.is_none() {
        report.expected(field, "a temperature such as \"0.7\"");
    }
    text
}

#[cfg(test)]
mod tests;
