//! What a call may do when its provider certainly did not process it: be sent again, go to another model, or not be sent at all
//! while the provider is down. Decides which values are accepted.

use super::report::{Field, Report, Section, Unknown, number};
use aex_core::breaker;
use std::collections::BTreeMap;
use std::time::Duration;

/// Further attempts that one model may get.
const MAX_ATTEMPTS: u64 = 10;
/// How long the waits of one call may be together: SDKs wait for ten minutes, people for less.
const MAX_WAIT_MS: u64 = 60_000;
/// The same where the configuration does not say.
const WAIT_MS: u64 = 10_000;
/// Models that one may fall back on.
const MAX_FALLBACKS: usize = 8;

/// How often a call is sent again to the same model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Further attempts; 0: none.
    pub attempts: u8,
    /// How long the waits between a call's attempts may be together.
    pub max_wait: Duration,
}

impl Retries {
    /// No further attempt.
    pub const NONE: Retries = Retries { attempts: 0, max_wait: Duration::ZERO };
}

/// What may be tried for a model's calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Again at the same provider.
    pub retries: Retries,
    /// Then other models, in this order. Theirs are not followed.
    pub fallbacks: Vec<String>,
}

/// A model's own words, before the other models are known.
#[derive(Debug)]
pub(super) struct Written {
    retries: Option<Retries>,
    fallbacks: Vec<String>,
    key: String,
    line: u64,
}

/// `retries` and `fallbacks` of a model.
pub(super) fn read(model: &mut Section<'_>, report: &mut Report) -> Written {
    let retries = model.get("retries").and_then(|field| read_retries(&field, report));
    let written = Written { retries, fallbacks: Vec::new(), key: String::new(), line: 0 };
    let Some(field) = model.get("fallbacks") else { return written };
    let fallbacks = report.names(&field).unwrap_or_default();
    if fallbacks.len() > MAX_FALLBACKS {
        report.refuse(field.line, format!("{}: expected at most {MAX_FALLBACKS} models, found {}", field.key, fallbacks.len()));
    }
    Written { fallbacks, key: field.key, line: field.line, ..written }
}

/// The routes of all models. `of_provider`: what the provider of a model says.
pub(super) fn routes(
    written: BTreeMap<String, Written>,
    of_provider: impl Fn(&str) -> Option<Retries>,
    report: &mut Report,
) -> BTreeMap<String, Route> {
    for (name, model) in &written {
        for (at, other) in model.fallbacks.iter().enumerate() {
            let wrong = if other == name {
                "another model than itself"
            } else if !written.contains_key(other) {
                "the name of a model listed below `models`"
            } else if model.fallbacks.iter().take(at).any(|before| before == other) {
                "each model once"
            } else {
                continue;
            };
            report.refuse(model.line, format!("{}: expected {wrong}, found {other}", model.key));
        }
    }
    let route = |(name, model): (String, Written)| {
        let retries = model.retries.or_else(|| of_provider(&name)).unwrap_or(Retries::NONE);
        (name, Route { retries, fallbacks: model.fallbacks })
    };
    written.into_iter().map(route).collect()
}

/// `retries` of a model or a provider.
pub(super) fn read_retries(field: &Field<'_>, report: &mut Report) -> Option<Retries> {
    let mut section = report.section(field)?;
    let attempts = section.require("attempts", "a whole number", report).and_then(|field| at_most(&field, MAX_ATTEMPTS, report));
    let max_wait = section.get("max_wait_ms").map_or(Some(WAIT_MS), |field| at_most(&field, MAX_WAIT_MS, report));
    section.finish(Unknown::Warn, report);
    Some(Retries { attempts: u8::try_from(attempts?).ok()?, max_wait: Duration::from_millis(max_wait?) })
}

/// `breaker` of a provider; `None`: it has none.
pub(super) fn read_breaker(provider: &mut Section<'_>, report: &mut Report) -> Option<breaker::Settings> {
    let default = breaker::Settings::DEFAULT;
    let Some(field) = provider.get("breaker") else { return Some(default) };
    // YAML 1.1 would read `off` as false.
    if matches!(number(field.node), Some("off" | "false")) {
        return None;
    }
    let mut section = report.section(&field)?;
    let mut whole = |name, default| section.get(name).and_then(|field| report.whole(&field, 1)).unwrap_or(default);
    let failures = whole("failures", u64::from(default.failures));
    let (window_ms, pause_ms) = (whole("window_ms", default.window_ms), whole("pause_ms", default.pause_ms));
    section.finish(Unknown::Warn, report);
    Some(breaker::Settings { failures: u32::try_from(failures).unwrap_or(u32::MAX), window_ms, pause_ms })
}

fn at_most(field: &Field<'_>, most: u64, report: &mut Report) -> Option<u64> {
    let value = report.whole(field, 0)?;
    if value > most {
        report.expected(field, &format!("a whole number from 0 to {most}"));
        return None;
    }
    Some(value)
}
