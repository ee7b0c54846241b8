//! `aexctl backup`: by the daemon when it runs, beside its calls, else by its binary.

use super::Context;
use crate::aexd;
use crate::client::{self, Client};
use crate::exit::{Attempt, Exit, Failure};
use crate::units::{count, grouped};
use aex_proto::ledger::{Backup, BackupWanted};
use aex_proto::method::LedgerBackup;
use std::path::Path;
use std::process::Stdio;

pub(super) fn run(context: &Context<'_>, file: &Path) -> Result<Exit, Failure> {
    // The daemon is somewhere else, and so is what a relative path means there.
    let file = std::path::absolute(file).attempt(|| format!("find {}", file.display()))?;
    let backup = match Client::connect(&context.paths) {
        Ok(mut client) => {
            let text = file.to_str().ok_or_else(|| Failure::new(format!("{} is not UTF-8", file.display())).with(Exit::Usage))?;
            client.call_within::<LedgerBackup>(&BackupWanted { file: text.to_owned() }, client::AUDIT)?
        }
        Err(failure) if failure.exit == Exit::Unreachable => at_rest(context, &file)?,
        Err(failure) => return Err(failure),
    };
    context.view.show(&backup, |_| text(&backup))?;
    Ok(Exit::Done)
}

fn at_rest(context: &Context<'_>, file: &Path) -> Result<Backup, Failure> {
    let output = aexd::output(aexd::command("backup", context.home.as_deref()).arg(file).stdin(Stdio::null()))?;
    // What went wrong, it has said on stderr itself.
    serde_json::from_slice(&output.stdout).map_err(|_| Failure::silent(aexd::exit_of(output.status)))
}

fn text(backup: &Backup) -> String {
    let Backup { file, bytes, sha256, head_seq, head_hash, .. } = backup;
    format!("{file}: {} bytes, {}, whole\nsha256 {sha256}\nhead   {head_seq} {head_hash}", grouped(*bytes), count(*head_seq, "event"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::value::{Digest, Stamp};

    #[test]
    fn a_backup_is_told_with_what_proves_it() {
        let (sha256, head_hash) = (Digest::of(b"file"), Digest::of(b"head"));
        let backup = Backup { at: Stamp::new(0), file: "/b.db".to_owned(), bytes: 73_728, sha256, head_seq: 108, head_hash };
        assert_eq!(text(&backup), format!("/b.db: 73,728 bytes, 108 events, whole\nsha256 {sha256}\nhead   108 {head_hash}"));
    }
}
