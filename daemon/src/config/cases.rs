//! A file of cases for `aexctl policy test`: what is asked, and what is to come of it.

use super::report::{Field, Report, Section, Unknown};
use super::yaml::Value;
use super::{ConfigErrors, collect};
use aex_core::ask::Ask;
use aex_core::policy::Effect;

/// One case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its line.
    pub line: u64,
    /// Whose call it is.
    pub agent: String,
    /// What the call asks.
    pub ask: Ask,
    /// The hour; `None`: now.
    pub hour: Option<u8>,
    /// How full the fullest budget is, in percent.
    pub budget_share: u64,
    /// What is to come of it.
    pub expect: Effect,
    /// The rule that is to decide; `None`: any.
    pub rule: Option<String>,
}

/// Reads a file of cases.
///
/// # Errors
/// All that is wrong with it.
pub fn read_cases(name: &str, source: &str) -> Result<Vec<Case>, ConfigErrors> {
    let mut report = Report::new(name);
    let cases = read(source, &mut report);
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    collect(report, &mut errors, &mut warnings);
    cases.filter(|_| errors.is_empty()).ok_or(ConfigErrors(errors))
}

fn read(source: &str, report: &mut Report) -> Option<Vec<Case>> {
    let document = report.parse(source)?;
    let mut top = Section::document(&document, report)?;
    let field = top.require("cases", "a list of cases", report);
    top.finish(Unknown::Refuse, report);
    let field = field?;
    let Value::List(items) = &field.node.value else {
        report.expected(&field, "a list of cases");
        return None;
    };
    let items = items.iter().enumerate().map(|(at, node)| Field { key: format!("cases[{at}]"), line: node.line, node });
    Some(items.filter_map(|item| case(&item, report)).collect())
}

fn case(field: &Field<'_>, report: &mut Report) -> Option<Case> {
    let mut section = report.section(field)?;
    let agent = section.require("agent", "the name of an agent", report).and_then(|field| report.text(&field));
    let model = section.require("model", "the name of a model", report).and_then(|field| report.text(&field));
    let stream = section.get("stream").and_then(|field| report.flag(&field)).unwrap_or(false);
    let tool_names = section.get("tools").and_then(|field| report.names(&field)).unwrap_or_default();
    let mut whole = |name| section.get(name).and_then(|field| Some((report.whole(&field, 0)?, field.line)));
    let (input_tokens, max_tokens) = (whole("input_tokens"), whole("max_tokens"));
    let (hour, budget_share) = (whole("hour"), whole("budget_share"));
    let temperature = section.get("temperature").and_then(|field| report.text(&field));
    let effects = [Effect::Deny, Effect::Ask, Effect::Limit, Effect::Allow].map(|effect| (effect.name(), effect));
    let expect = section.require("expect", "deny, ask, limit or allow", report).and_then(|field| report.word(&field, &effects));
    let rule = section.get("rule").and_then(|field| report.text(&field));
    section.finish(Unknown::Refuse, report);
    if let Some((hour, line)) = hour.filter(|(hour, _)| *hour > 23) {
        report.refuse(line, format!("{}.hour: expected an hour, 0 to 23, found {hour}", field.key));
    }
    let ask = Ask {
        choices: 1,
        max_tokens: max_tokens.map(|(tokens, _)| tokens),
        messages: 1,
        model: model?,
        stream,
        temperature,
        text_chars: input_tokens.map_or(0, |(tokens, _)| tokens.saturating_mul(4)),
        tools: u64::try_from(tool_names.len()).unwrap_or(u64::MAX),
        tool_names,
        ..Ask::default()
    };
    Some(Case {
        line: field.line,
        agent: agent?,
        ask,
        hour: hour.and_then(|(hour, _)| u8::try_from(hour).ok()),
        budget_share: budget_share.map_or(0, |(share, _)| share),
        expect: expect?,
        rule,
    })
}
