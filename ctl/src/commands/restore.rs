//! `aexctl restore`: the daemon's binary does it, while no daemon runs.

use super::Context;
use crate::aexd;
use crate::client::{self, Client};
use crate::exit::{Attempt, Exit, Failure};
use crate::units::count;
use aex_proto::ledger::Restored;
use std::path::Path;
use std::process::Stdio;

pub(super) fn run(context: &Context<'_>, file: &Path, accept_loss: bool) -> Result<Exit, Failure> {
    let pid = Client::connect(&context.paths).map_or_else(|_| client::running_pid(&context.paths), |client| Some(client.hello().pid));
    if let Some(pid) = pid {
        return Err(Failure::new(format!("nothing was restored: the daemon runs (pid {pid})")).hint("aexctl daemon stop"));
    }
    let file = std::path::absolute(file).attempt(|| format!("find {}", file.display()))?;
    let mut command = aexd::command("restore", context.home.as_deref());
    if accept_loss {
        command.arg("--accept-loss");
    }
    let output = aexd::output(command.arg(file).stdin(Stdio::null()))?;
    // What went wrong, it has said on stderr itself.
    let restored: Restored = serde_json::from_slice(&output.stdout).map_err(|_| Failure::silent(aexd::exit_of(output.status)))?;
    context.view.show(&restored, |_| text(&restored))?;
    for warning in &restored.warnings {
        context.view.note(&format!("warning: {warning}"));
    }
    Ok(Exit::Done)
}

fn text(restored: &Restored) -> String {
    let mut lines = vec![format!("Restored {}: {}", restored.file, count(restored.backup_seq, "event"))];
    if let Some(lost) = restored.lost.as_ref().filter(|lost| lost.events > 0) {
        let (events, calls) = (count(lost.events, "event"), count(lost.calls, "call"));
        lines.push(format!("Not in it: {events}, among them {calls} for ${}", lost.charged_usd));
    }
    if restored.revoked > 0 || restored.stopped > 0 {
        let (tokens, accounts) = (count(restored.revoked, "revoked token"), count(restored.stopped, "stopped account"));
        lines.push(format!("Carried over: {tokens}, {accounts}"));
    }
    if let Some(kept) = &restored.kept {
        lines.push(format!("The ledger that was there is kept as {kept}"));
    }
    lines.push("Budgets, limits and spending are those of the backup. Next: `aexctl audit`, then `aexctl daemon start`".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::ledger::Lost;
    use aex_proto::value::{Digest, Pico};

    #[test]
    fn a_restore_tells_what_is_lost_and_where_the_old_ledger_is() {
        let charged = Pico::new(5_000_000_000_000);
        let lost = Lost { events: 3, calls: 1, charged_pico: charged, charged_usd: charged.usd() };
        let mut restored = Restored {
            file: "/b.db".to_owned(),
            sha256: Digest::ZERO,
            backup_seq: 108,
            backup_hash: Digest::ZERO,
            head_seq: 112,
            head_hash: Digest::ZERO,
            epoch: 4,
            kept: Some("/h/ledger.db.replaced-20261121T130000Z".to_owned()),
            lost: Some(lost),
            revoked: 2,
            stopped: 1,
            warnings: Vec::new(),
        };
        let wanted = "\
Restored /b.db: 108 events
Not in it: 3 events, among them 1 call for $5.00
Carried over: 2 revoked tokens, 1 stopped account
The ledger that was there is kept as /h/ledger.db.replaced-20261121T130000Z
Budgets, limits and spending are those of the backup. Next: `aexctl audit`, then `aexctl daemon start`";
        assert_eq!(text(&restored), wanted);
        (restored.lost, restored.kept, restored.revoked, restored.stopped) = (None, None, 0, 0);
        assert_eq!(text(&restored).lines().count(), 2);
    }
}
