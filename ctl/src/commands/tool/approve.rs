//! `aexctl tools approve`: shows what servers say of tools that nobody trusts, and trusts what was shown.

use super::super::Context;
use crate::exit::{Exit, Failure};
use crate::units::{count, instant};
use crate::view::Paint;
use aex_proto::method;
use aex_proto::tool::{Difference, Reviewed, ToolApprove, ToolReview, ToolsReviewed};
use std::io::{IsTerminal, stdin};

pub(super) fn run(context: &Context<'_>, name: String, is_sure: bool) -> Result<Exit, Failure> {
    let view = context.view;
    let mut client = context.connect()?;
    // It may have to be started.
    let reviewed = client.call_within::<method::ToolReview>(&ToolReview { name: name.clone() }, super::RESTART)?;
    if reviewed.tools.is_empty() {
        view.show(&reviewed, |_| nothing(&reviewed))?;
        return Ok(Exit::Done);
    }
    if !is_sure {
        view.show(&reviewed, |paint| text(&reviewed, paint))?;
        if view.is_json() || !stdin().is_terminal() {
            return Err(Failure::new("nothing was approved").hint(format!("aexctl tools approve {name} --yes")));
        }
        view.note("Approve? Only `yes` does.");
        let mut answer = String::new();
        if stdin().read_line(&mut answer).is_err() || answer.trim() != "yes" {
            return Err(Failure::new("nothing was approved"));
        }
    } else if !view.is_json() {
        view.show(&reviewed, |paint| text(&reviewed, paint))?;
    }
    // What was shown, and nothing else: a server may say something else by now.
    let pins = reviewed.tools.iter().map(|reviewed| (reviewed.tool.clone(), reviewed.digest)).collect();
    let approved = client.call::<method::ToolApprove>(&ToolApprove { server: reviewed.server, pins })?;
    view.show(&approved, |_| {
        format!("Approved {} of {}.", count(u64::try_from(approved.tools.len()).unwrap_or(0), "tool"), approved.server)
    })?;
    Ok(Exit::Done)
}

fn nothing(reviewed: &ToolsReviewed) -> String {
    let trusted = count(u64::try_from(reviewed.trusted.len()).unwrap_or(0), "tool");
    format!("No tool of {} waits for an approval; {trusted} trusted.", reviewed.server)
}

fn text(reviewed: &ToolsReviewed, paint: Paint) -> String {
    reviewed.tools.iter().map(|tool| one(&reviewed.server, tool, paint)).collect::<Vec<_>>().join("\n")
}

fn one(server: &str, tool: &Reviewed, paint: Paint) -> String {
    let since = tool.pinned_at.map_or_else(|| "new".to_owned(), |at| format!("pinned at {}", instant(at)));
    let head = paint.strong(&format!("{server}.{}", tool.tool.escape_debug()));
    let mut lines = vec![format!("{head}  {} ({since}, {} bytes)", tool.reason, tool.bytes)];
    if tool.is_unknown {
        lines.push("  what changed is too long to be shown".to_owned());
    }
    lines.extend(tool.differences.iter().flat_map(|difference| told(difference, paint)));
    lines.join("\n")
}

fn told(difference: &Difference, paint: Paint) -> Vec<String> {
    let mut lines = vec![format!("  {}", difference.what)];
    lines.extend(difference.old.as_ref().map(|old| paint.bad(&format!("    - {old}"))));
    lines.extend(difference.new.as_ref().map(|new| paint.good(&format!("    + {new}"))));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::value::{Digest, Stamp};

    #[test]
    fn a_change_is_shown_line_by_line() {
        let tool = Reviewed {
            tool: "read".to_owned(),
            digest: Digest::ZERO,
            bytes: 90,
            reason: "its server describes it in another way than before".to_owned(),
            pinned_at: Some(Stamp::new(0)),
            differences: vec![
                Difference { what: "description".to_owned(), old: Some("Reads.".to_owned()), new: Some("Writes.".to_owned()) },
                Difference { what: "title".to_owned(), old: None, new: Some("R".to_owned()) },
            ],
            is_unknown: false,
        };
        let wanted = "fs.read  its server describes it in another way than before (pinned at 1970-01-01 00:00:00Z, 90 bytes)\n  description\n    \
                      - Reads.\n    + Writes.\n  title\n    + R";
        assert_eq!(one("fs", &tool, Paint::PLAIN), wanted);
    }
}
