//! `aexd backup` and `aexd restore`: the ledger as a file, while no daemon has it open. aexctl words what they answer.

use super::source;
use crate::config::Overrides;
use crate::control::backup_reply;
use crate::ledger::{self, Copied, LedgerFault, NotRestored, Refused};
use crate::os::{clock, paths};
use aex_core::event::By;
use aex_core::paths::Paths;
use aex_proto::ledger::{Lost, Restored};
use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(super) fn backup(home: Option<PathBuf>, file: &Path) -> anyhow::Result<ExitCode> {
    paths::private();
    let paths = source(home, &Overrides::default())?.paths;
    ledger_of(&paths)?;
    let copied: Result<Copied, Refused> = ledger::backup_at_rest(&paths.ledger, file).context("backing up the ledger at rest")?;
    println!("{}", serde_json::to_string(&backup_reply(&copied?, clock::wall()))?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(home: Option<PathBuf>, file: &Path, accept_loss: bool) -> anyhow::Result<ExitCode> {
    paths::private();
    let paths = source(home, &Overrides::default())?.paths;
    paths::prepare(&paths).with_context(|| format!("making {}", paths.home.display()))?;
    let by = By { pid: std::process::id().cast_signed(), uid: nix::unistd::Uid::current().as_raw() };
    let done = match ledger::restore(&paths.ledger, file, accept_loss, by) {
        Err(fault @ LedgerFault::Locked { .. }) => {
            eprintln!("error: nothing was restored: {fault}");
            eprintln!("hint: aexctl daemon stop");
            return Ok(ExitCode::FAILURE);
        }
        Err(fault) => return Err(fault).context("nothing was restored"),
        Ok(Ok(done)) => done,
        Ok(Err(refused)) => {
            eprintln!("error: nothing was restored: {refused}");
            if matches!(refused, NotRestored::WouldLose(_)) {
                eprintln!("hint: aexctl restore {} --accept-loss", file.display());
            }
            return Ok(ExitCode::FAILURE);
        }
    };
    let restored = Restored {
        file: file.display().to_string(),
        sha256: done.sha256,
        backup_seq: done.backup.seq.unsigned_abs(),
        backup_hash: done.backup.hash,
        head_seq: done.head.seq.unsigned_abs(),
        head_hash: done.head.hash,
        epoch: done.epoch,
        kept: done.kept.map(|kept| kept.display().to_string()),
        lost: done.lost.map(|lost| Lost {
            events: lost.events,
            calls: lost.calls,
            charged_pico: lost.charged,
            charged_usd: lost.charged.usd(),
        }),
        revoked: done.revoked,
        stopped: done.stopped,
        warnings: done.warnings,
    };
    println!("{}", serde_json::to_string(&restored)?);
    Ok(ExitCode::SUCCESS)
}

fn ledger_of(paths: &Paths) -> anyhow::Result<()> {
    anyhow::ensure!(paths.ledger.exists(), "there is no ledger at {}: `aexctl init` makes one", paths.ledger.display());
    Ok(())
}
