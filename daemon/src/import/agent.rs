//! PURE: what one row of AEX's table of agents becomes. A cell that cannot be read restricts, and pauses its agent.

use super::{ORIGIN, Skipped};
use crate::ledger::{AexAgent, AexToken, Cell, NewAccount};
use aex_core::books::{AccountKind, Limits};
use aex_core::policy::Policy;
use aex_core::window::Period;
use aex_proto::account::{AgentName, check_new_name};
use aex_proto::value::{AccountId, Pico, Stamp, TokenHash};

/// States of AEX 2.0 in which an agent's calls passed.
const READY: &str = "READY";

/// An agent to be made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) account: NewAccount,
    pub(super) created_at: Option<Stamp>,
    pub(super) spent: Pico,
    pub(super) reserved: Pico,
    pub(super) token: Option<OldToken>,
    /// Why it begins paused.
    pub(super) pause: Option<String>,
    /// What is not as it was.
    pub(super) warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OldToken {
    pub(super) hash: TokenHash,
    pub(super) read_only: bool,
    pub(super) ends: Option<Ends>,
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    At(Stamp),
    /// Nobody can read when: so at once.
    Now,
}

impl Ends {
    pub(super) fn at_or(self, now: Stamp) -> Stamp {
        match self {
            Ends::At(at) => at,
            Ends::Now => now,
        }
    }
}

/// Plans one agent.
///
/// # Errors
/// Why it cannot be one of ours.
pub(super) fn plan(row: &AexAgent) -> Result<Plan, Skipped> {
    let name = match row.cell("name") {
        Cell::Text(name) => name.clone(),
        _ => return Err(Skipped { name: String::new(), reason: "it has no name".to_owned() }),
    };
    if let Err(reason) = name.parse::<AgentName>().and_then(|_| check_new_name(&name, "an agent")) {
        return Err(Skipped { name, reason });
    }
    let mut reading = Reading { row, faults: Vec::new(), warnings: Vec::new() };
    let policy = reading.policy();
    let budget = reading.money("budget_micro", Pico::ZERO);
    let spent = reading.money("spent_micro", budget);
    let reserved = reading.money("reserved_micro", Pico::ZERO);
    let limits = Limits { rpm: Some(reading.rpm()), concurrent: None, tpm: reading.tokens_per_minute() };
    let token = reading.token();
    let created_at = reading.created_at();
    reading.state();
    let Reading { faults, warnings, .. } = reading;
    let account = NewAccount {
        parent: AccountId::ROOT,
        kind: AccountKind::Agent,
        name,
        limits,
        policy: policy.into(),
        budgets: vec![(Period::Total, budget)],
        reason: Some(ORIGIN.to_owned()),
    };
    let pause = (!faults.is_empty()).then(|| format!("{ORIGIN}: {}", faults.join("; ")));
    Ok(Plan { account, created_at, spent, reserved, token, pause, warnings })
}

/// A row under way, and what was found in it.
struct Reading<'r> {
    row: &'r AexAgent,
    faults: Vec<String>,
    warnings: Vec<String>,
}

impl Reading<'_> {
    fn policy(&mut self) -> Policy {
        let (input, output) = (self.size("max_input_tokens"), self.size("max_output_tokens"));
        // AEX 2.0 bounds the sum of both; we bound each by it.
        let both = self.size("max_tokens_per_request");
        if let Some(both) = both {
            self.warnings.push(format!("max_tokens_per_request {both} now bounds input and output each, not their sum"));
        }
        Policy {
            allow_function_calling: self.flag("allow_function_calling", true, false),
            allow_passthrough: self.flag("allow_passthrough", false, false),
            allow_streaming: self.flag("allow_streaming", true, false),
            allow_tools: self.flag("allow_tools", true, false),
            allow_vision: self.flag("allow_vision", false, false),
            allowed_models: self.list("allowed_models"),
            allowed_tool_names: self.list("allowed_tool_names"),
            max_input_tokens: smaller(input, both),
            max_output_tokens: smaller(output, both),
            strict: self.flag("strict_mode", false, true),
        }
    }

    /// `absent` is what AEX took for a column that was not there yet, `closed` the value that allows less.
    fn flag(&mut self, column: &str, absent: bool, closed: bool) -> bool {
        match self.row.cell(column) {
            Cell::Absent => absent,
            Cell::Whole(0) => false,
            Cell::Whole(1) => true,
            _ => {
                self.faults.push(format!("{column} is neither 0 nor 1"));
                closed
            }
        }
    }

    fn list(&mut self, column: &str) -> Option<Vec<String>> {
        let names = match self.row.cell(column) {
            Cell::Absent | Cell::Null => return None,
            Cell::Text(text) => serde_json::from_str::<Vec<String>>(text).ok(),
            _ => None,
        };
        if names.is_none() {
            self.faults.push(format!("{column} is no JSON list of names, so none is allowed"));
        }
        Some(names.unwrap_or_default())
    }

    fn size(&mut self, column: &str) -> Option<u64> {
        match self.row.cell(column) {
            Cell::Absent | Cell::Null => None,
            Cell::Whole(size) if *size >= 0 => u64::try_from(*size).ok(),
            _ => {
                self.faults.push(format!("{column} is no number of tokens"));
                Some(0)
            }
        }
    }

    /// Whole micro-USD. What cannot be read is `instead`; more than we can hold is the most that we can.
    fn money(&mut self, column: &str, instead: Pico) -> Pico {
        match self.row.cell(column) {
            Cell::Whole(micro) if *micro >= 0 => Pico::from_micro(*micro).unwrap_or_else(|| {
                self.warnings.push(format!("{column} {micro} is above the largest amount: it is {} now", Pico::MAX));
                Pico::MAX
            }),
            _ => {
                self.faults.push(format!("{column} is no amount, and taken as {instead}"));
                instead
            }
        }
    }

    fn rpm(&mut self) -> u32 {
        match self.row.cell("rpm_limit") {
            Cell::Whole(rpm) if *rpm > 0 => u32::try_from(*rpm).unwrap_or(u32::MAX),
            Cell::Whole(rpm) => {
                self.warnings.push(format!("RPM {rpm} denies every call; AEX let the first of each minute through"));
                0
            }
            _ => {
                self.faults.push("rpm_limit is no number, and taken as 0".to_owned());
                0
            }
        }
    }

    /// One that cannot be read is as strict as can be: the agent is paused for it.
    fn tokens_per_minute(&mut self) -> Option<u32> {
        match self.row.cell("max_tokens_per_minute") {
            Cell::Absent | Cell::Null => None,
            Cell::Whole(limit) => Some(u32::try_from((*limit).max(0)).unwrap_or(u32::MAX)),
            _ => {
                self.faults.push("max_tokens_per_minute is no number of tokens".to_owned());
                Some(0)
            }
        }
    }

    fn token(&mut self) -> Option<OldToken> {
        let read_only = match self.row.cell("token_scope") {
            Cell::Absent => false,
            Cell::Text(scope) if scope == "execution" => false,
            Cell::Text(scope) if scope == "read-only" => true,
            _ => {
                self.faults.push("token_scope is neither execution nor read-only, and taken as read-only".to_owned());
                true
            }
        };
        let ends = match self.row.cell("token_expires_at") {
            Cell::Absent | Cell::Null => None,
            Cell::Text(text) if instant(text).is_some() => instant(text).map(Ends::At),
            _ => {
                self.faults.push("token_expires_at is no time, so its token has ended".to_owned());
                Some(Ends::Now)
            }
        };
        match self.row.token {
            AexToken::Is(hash) => Some(OldToken { hash, read_only, ends }),
            AexToken::DiffersFromText(hash) => {
                self.warnings.push("api_token is another token than token_hash: only the latter is taken over".to_owned());
                Some(OldToken { hash, read_only, ends })
            }
            AexToken::Unreadable => {
                self.faults.push("its token cannot be read: `aexctl agent rotate-token` gives it a new one".to_owned());
                None
            }
        }
    }

    fn created_at(&mut self) -> Option<Stamp> {
        let at = if let Cell::Text(text) = self.row.cell("created_at") { instant(text) } else { None };
        if at.is_none() {
            self.warnings.push("created_at is no time: it counts as made now".to_owned());
        }
        at
    }

    /// AEX 2.0 has states; only one of them let calls through.
    fn state(&mut self) {
        match self.row.cell("lifecycle_state") {
            Cell::Absent => {}
            Cell::Text(state) if state == READY => {}
            Cell::Text(state) => {
                let reason =
                    if let Cell::Text(reason) = self.row.cell("lifecycle_reason") { format!(" ({reason})") } else { String::new() };
                self.faults.push(format!("it was {state}{reason}"));
            }
            _ => self.faults.push("lifecycle_state is no state".to_owned()),
        }
    }
}

fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A time as Python or SQLite write it; without an offset it is UTC.
fn instant(text: &str) -> Option<Stamp> {
    if let Ok(at) = Stamp::parse(text) {
        return Some(at);
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Stamp::new(at.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests;
