//! Takes over what AEX, the earlier program, left in its database: agents with their policies, budgets, spending and tokens become
//! accounts of our ledger, all in one transaction. Must not: open wide what it cannot read; such an agent is paused.

mod agent;
mod report;

pub use report::{Report, Reserved, Skipped, Taken, TakenToken};

use crate::ledger::{AexDatabase, AexFault, Ledger, LedgerFault, NewTokenRow, Refused, Writer, read_aex};
use aex_core::books::AccountKind;
use aex_core::decision::AccountState;
use aex_core::event::Imported;
use aex_proto::value::{AccountId, Pico};
use agent::Plan;
use std::path::{Path, PathBuf};

/// What is written as the reason, and as the label of tokens.
const ORIGIN: &str = "imported from AEX";
/// In the command line of AEX's daemon.
const DAEMON: &str = "aex.daemon.app";

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportFault {
    /// What it spends from now on would not be counted.
    #[error("AEX still runs (pid {0}): stop it first with `aex daemon stop`")]
    Running(u32),
    /// Its database.
    #[error(transparent)]
    Aex(#[from] AexFault),
    /// Our ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerFault),
    /// Our ledger does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// A database that was read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    database: AexDatabase,
}

impl Source {
    /// Reads the database, whose folder AEX's daemon must have left.
    ///
    /// # Errors
    /// When that daemon runs, or when it is no such database.
    pub fn read(path: &Path, scratch: &Path) -> Result<Source, ImportFault> {
        if let Some(pid) = running(path) {
            return Err(ImportFault::Running(pid));
        }
        Ok(Source { path: path.to_owned(), database: read_aex(path, scratch)? })
    }

    /// Its agents that our ledger has never seen.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn newcomers(self, ledger: &Ledger) -> Result<usize, LedgerFault> {
        let names: Vec<String> = plans(&self).into_iter().flatten().map(|plan| plan.account.name).collect();
        let counted = ledger.admin(move |writer| {
            let mut new = 0_usize;
            for name in &names {
                new = new.saturating_add(usize::from(!writer.has_been(AccountKind::Agent, name)?));
            }
            Ok(Ok(new))
        });
        Ok(counted.await?.unwrap_or(0))
    }

    /// Takes all of it over, or nothing. Agents that our ledger has, or once had, stay as they are there.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn import(self, ledger: &Ledger) -> Result<Report, ImportFault> {
        let plans = plans(&self);
        let (from, database) = (self.path, self.database.digest);
        let done = ledger.admin(move |writer| {
            let mut report = Report::new(from, database);
            for plan in plans {
                match plan {
                    Err(skipped) => report.skipped.push(skipped),
                    Ok(plan) => {
                        let before = Imported { created_at: plan.created_at.unwrap_or(writer.now()), database, spent: plan.spent };
                        match adopt(writer, plan, &before)? {
                            Ok((taken, reserved)) => report.take(taken, reserved),
                            Err(skipped) => report.skipped.push(skipped),
                        }
                    }
                }
            }
            Ok(Ok(report))
        });
        Ok(done.await??)
    }
}

fn plans(source: &Source) -> Vec<Result<Plan, Skipped>> {
    let mut plans = Vec::with_capacity(source.database.agents.len());
    for row in &source.database.agents {
        plans.push(agent::plan(row));
    }
    plans
}

/// The account, its opening balance, its token and the pause that it may need.
fn adopt(writer: &mut Writer<'_>, plan: Plan, before: &Imported) -> Result<Result<(Taken, Pico), Skipped>, LedgerFault> {
    let name = plan.account.name.clone();
    if writer.has_been(AccountKind::Agent, &name)? {
        let here = writer.find(AccountKind::Agent, &name).is_ok();
        let reason = if here { "exists already" } else { "was deleted here, and stays so" };
        return Ok(Err(Skipped { name, reason: reason.to_owned() }));
    }
    let id = match writer.create_account_from(&plan.account, Some(before), None)? {
        Ok(id) => id,
        Err(refused) => return Ok(Err(Skipped { name, reason: refused.to_string() })),
    };
    let reserved = plan.reserved;
    let mut taken = Taken::of(id, &plan, before);
    take_token(writer, id, &plan, &mut taken)?;
    if let Some(reason) = plan.pause {
        let account = writer.find(AccountKind::Agent, &name).map_err(|refused| LedgerFault::Broken(refused.to_string()))?;
        writer.set_state(&account, AccountState::Paused, &reason, None)?;
        taken.paused = Some(reason);
    }
    Ok(Ok((taken, reserved)))
}

fn take_token(writer: &mut Writer<'_>, account: AccountId, plan: &Plan, taken: &mut Taken) -> Result<(), LedgerFault> {
    let Some(token) = plan.token else { return Ok(()) };
    if writer.knows_token(&token.hash)? {
        taken.warnings.push("its token belongs to another agent already; it has none now".to_owned());
        return Ok(());
    }
    let row = NewTokenRow {
        hash: token.hash,
        read_only: token.read_only,
        lasts_us: token.ends.map(|ends| ends.at_or(writer.now()).since(writer.now())),
        label: "AEX".to_owned(),
        reason: Some(ORIGIN.to_owned()),
    };
    let expires_at = writer.create_token(account, &row, None)?;
    if expires_at.is_some_and(|ends| ends <= writer.now()) && taken.paused.is_none() {
        taken.warnings.push("its token has expired: `aexctl agent rotate-token` gives it a new one".to_owned());
    }
    taken.token = Some(TakenToken { read_only: token.read_only, expires_at });
    Ok(())
}

/// The process of AEX's daemon, when the file beside its database names one that lives.
fn running(database: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(database.parent()?.join("aex.pid")).ok()?.trim().parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains(DAEMON).then_some(pid)
}
