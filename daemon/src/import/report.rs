//! PURE: what an import did, as data and as lines.

use super::agent::Plan;
use aex_core::event::Imported;
use aex_core::window::Period;
use aex_proto::value::{AccountId, Digest, Pico, Stamp};
use serde::Serialize;
use std::path::PathBuf;

/// What an import did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub from: PathBuf,
    /// Its SHA-256, as the events of the new accounts name it.
    pub database: Digest,
    /// Agents that are new.
    pub agents: Vec<Taken>,
    /// Agents that were left out.
    pub skipped: Vec<Skipped>,
    /// What was not taken over.
    pub reserved: Reserved,
}

/// An agent that was taken over.
#[derive(Clone, Debug, Serialize)]
pub struct Taken {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: AccountId,
    /// Since when it is.
    pub created_at: Stamp,
    /// Its budget.
    pub budget_pico: Pico,
    /// The same in dollars.
    pub budget_usd: String,
    /// What it has spent.
    pub spent_pico: Pico,
    /// The same in dollars.
    pub spent_usd: String,
    /// Its requests per minute.
    pub rpm: u32,
    /// Its token; absent when it has none now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TakenToken>,
    /// Why it is paused, when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    /// What is not as it was.
    pub warnings: Vec<String>,
}

/// A token that goes on.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TakenToken {
    /// It may read only.
    pub read_only: bool,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Stamp>,
}

/// An agent that was left out.
#[derive(Clone, Debug, Serialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Amounts that AEX held for calls that never ended. It set them to zero at each start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reserved {
    /// Agents with such an amount.
    pub agents: usize,
    /// The sum.
    pub pico: Pico,
    /// The same in dollars.
    pub usd: String,
}

impl Taken {
    pub(super) fn of(id: AccountId, plan: &Plan, before: &Imported) -> Taken {
        let budget = plan.account.budgets.iter().find(|(period, _)| *period == Period::Total).map_or(Pico::ZERO, |(_, limit)| *limit);
        Taken {
            name: plan.account.name.clone(),
            id,
            created_at: before.created_at,
            budget_pico: budget,
            budget_usd: budget.usd(),
            spent_pico: plan.spent,
            spent_usd: plan.spent.usd(),
            rpm: plan.account.limits.rpm.unwrap_or(u32::MAX),
            token: None,
            paused: plan.pause.clone(),
            warnings: plan.warnings.clone(),
        }
    }

    fn line(&self, width: usize) -> String {
        let token = match self.token {
            None => ", no token".to_owned(),
            Some(TakenToken { read_only, expires_at }) => {
                let scope = if read_only { ", read-only" } else { "" };
                expires_at.map_or_else(|| scope.to_owned(), |at| format!("{scope}, token until {at}"))
            }
        };
        let paused = if self.paused.is_some() { ", PAUSED" } else { "" };
        let Taken { name, rpm, .. } = self;
        format!("{name:width$}  budget {}, spent {}, {rpm} requests per minute{token}{paused}", self.budget_pico, self.spent_pico)
    }
}

impl Report {
    pub(super) fn new(from: PathBuf, database: Digest) -> Report {
        Report {
            from,
            database,
            agents: Vec::new(),
            skipped: Vec::new(),
            reserved: Reserved { usd: Pico::ZERO.usd(), ..Reserved::default() },
        }
    }

    pub(super) fn take(&mut self, taken: Taken, reserved: Pico) {
        if reserved > Pico::ZERO {
            self.reserved.agents = self.reserved.agents.saturating_add(1);
            self.reserved.pico = self.reserved.pico.plus(reserved).unwrap_or(Pico::MAX);
            self.reserved.usd = self.reserved.pico.usd();
        }
        self.agents.push(taken);
    }

    /// What was done, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let width = self.agents.iter().map(|taken| taken.name.chars().count()).max().unwrap_or(0);
        let (taken, skipped) = (self.agents.len(), self.skipped.len());
        let mut lines = vec![format!("imported {} of AEX from {}, skipped {skipped}", agents_of(taken), self.from.display())];
        lines.extend(self.agents.iter().map(|taken| format!("  {}", taken.line(width))));
        lines.extend(self.skipped.iter().map(|skipped| format!("  skipped '{}': {}", skipped.name, skipped.reason)));
        lines
    }

    /// What the user has to know, a line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Taken { name, paused, warnings, .. } in &self.agents {
            lines.extend(paused.iter().map(|reason| format!("agent '{name}' is paused: {reason}")));
            lines.extend(warnings.iter().map(|warning| format!("agent '{name}': {warning}")));
        }
        let Reserved { agents, usd, .. } = &self.reserved;
        if *agents > 0 {
            let whose = agents_of(*agents);
            lines.push(format!(
                "${usd} that AEX had reserved for calls of {whose} that never ended is free again, as at each of its starts"
            ));
        }
        lines
    }
}

fn agents_of(count: usize) -> String {
    if count == 1 { "1 agent".to_owned() } else { format!("{count} agents") }
}
