//! `aexctl approvals`.

use super::Context;
use crate::cli::Approvals as Verb;
use crate::exit::{Exit, Failure};
use crate::units::{instant, span};
use crate::view::{Paint, table};
use aex_proto::approval::{
    Approval, ApprovalApprove, ApprovalDeny, ApprovalList, ApprovalQuery, ApprovalRevoke, ApprovalShow, ApprovalShown, Lasting,
};
use aex_proto::method as m;
use aex_proto::value::Stamp;

/// Hex digits by which a lasting approval, and what a call says, is named.
const ID: usize = 12;

pub(super) fn run(context: &Context<'_>, verb: Verb) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let view = context.view;
    match verb {
        Verb::List { follow, always } => {
            let list = client.call::<m::ApprovalList>(&ApprovalQuery { follow })?;
            if let Some(problem) = &list.problem {
                view.note(&format!("note: no approval is lasting: {problem}"));
            }
            if !follow {
                view.show(&list, |paint| if always { always_text(&list) } else { waiting_text(&list, paint) })?;
                return Ok(Exit::Done);
            }
            for approval in &list.waiting {
                view.stream(approval, |paint| one(approval, paint))?;
            }
            loop {
                let approval = client.wait_notice::<m::ApprovalWanted>()?.approval;
                view.stream(&approval, |paint| one(&approval, paint))?;
            }
        }
        Verb::Show { id } => {
            let mut shown = client.call::<m::ApprovalShow>(&ApprovalShow { id, from: 0 })?;
            while let Some(from) = shown.next {
                let piece = client.call::<m::ApprovalShow>(&ApprovalShow { id, from })?;
                shown.text.push_str(&piece.text);
                shown.next = piece.next;
            }
            view.show(&shown, |paint| whole(&shown, paint))?;
        }
        Verb::Approve { id, always, seen, why } => {
            let answered = client.call::<m::ApprovalApprove>(&ApprovalApprove { id, always, seen, reason: why.reason })?;
            let later = if always { "; later ones of this agent pass without a question while the same rules ask" } else { "" };
            view.show(&answered, |_| format!("Approved {} of {}{later}.", answered.approval.tool, answered.approval.agent))?;
        }
        Verb::Deny { id, why } => {
            let answered = client.call::<m::ApprovalDeny>(&ApprovalDeny { id, reason: why.reason })?;
            view.show(&answered, |_| format!("Denied {} of {}.", answered.approval.tool, answered.approval.agent))?;
        }
        Verb::Revoke { id, why } => {
            let revoked = client.call::<m::ApprovalRevoke>(&ApprovalRevoke { id, reason: why.reason })?;
            view.show(&revoked, |_| format!("{} of {} is asked for again.", revoked.tool, revoked.agent))?;
        }
    }
    Ok(Exit::Done)
}

fn waiting_text(list: &ApprovalList, paint: Paint) -> String {
    if list.waiting.is_empty() {
        return "No call waits for an approval.".to_owned();
    }
    list.waiting.iter().map(|approval| one(approval, paint)).collect::<Vec<_>>().join("\n\n")
}

/// A call that waits, with all that a person has to know of it.
fn one(approval: &Approval, paint: Paint) -> String {
    let answers = approval.answers.as_ref().map(|answers| answering(answers)).unwrap_or_default();
    let cut =
        if approval.is_cut { format!("\n  {}", paint.bad(&format!("… of {} bytes", approval.arguments_bytes))) } else { String::new() };
    let verb = if approval.is_cut { "show" } else { "approve" };
    told(approval, &format!("{}{answers}{cut}", approval.arguments), &format!("{verb} {}", approval.id), paint)
}

/// The same with all that it says.
fn whole(shown: &ApprovalShown, paint: Paint) -> String {
    let ApprovalShown { approval, text, .. } = shown;
    // Line ends within either are spelled out.
    let (arguments, answers) = text.split_once('\n').unwrap_or((text, ""));
    let answers = if answers.is_empty() { String::new() } else { answering(answers) };
    let digest: String = approval.input.to_string().chars().take(ID).collect();
    let seen = if approval.is_cut { format!(" --seen {digest}") } else { String::new() };
    told(approval, &format!("{arguments}{answers}"), &format!("approve {}{seen}", approval.id), paint)
}

fn answering(answers: &str) -> String {
    format!("\n  and answers its server {answers}")
}

fn told(approval: &Approval, says: &str, next: &str, paint: Paint) -> String {
    let run = approval.run.map(|run| format!(" ({run})")).unwrap_or_default();
    let why = approval.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let left = lasts(approval.asked_at, approval.expires_at);
    format!(
        "{}  agent {}{run} wants {}\n  {says}\n  asked by rule {} of {}{why}\n  since {}, denied {left} later at {}\n  aexctl approvals {next}",
        paint.strong(&approval.id.to_string()),
        approval.agent,
        paint.strong(&approval.tool),
        approval.rule,
        approval.place,
        instant(approval.asked_at),
        instant(approval.expires_at),
    )
}

fn lasts(from: Stamp, to: Stamp) -> String {
    span(to.since(from).unsigned_abs() / 1_000)
}

fn always_text(list: &ApprovalList) -> String {
    let row = |lasting: &Lasting| {
        let id: String = lasting.id.to_string().chars().take(ID).collect();
        let by = format!("uid {} (process {})", lasting.by.uid, lasting.by.pid);
        [id, lasting.agent.clone(), lasting.tool.clone(), lasting.rule.clone(), by, instant(lasting.at)]
    };
    table(["Id", "Agent", "Tool", "Rule", "Approved by", "At"], list.always.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::value::{Digest, RequestId};

    #[test]
    fn a_call_that_waits_is_told_with_all_that_counts() {
        let approval = Approval {
            id: RequestId::new(1, 2),
            agent: "bot".to_owned(),
            run: Some("run_17".parse().unwrap_or_else(|fault| unreachable!("{fault}"))),
            tool: "fs.write".to_owned(),
            arguments: r#"{"path":"/x"}"#.to_owned(),
            answers: Some(r#"{"requestState":"s"}"#.to_owned()),
            arguments_bytes: 99_000,
            is_cut: true,
            input: Digest::of(b"x"),
            rule: "writes".to_owned(),
            place: "permissions.json:12".to_owned(),
            reason: Some("look first".to_owned()),
            asked_at: Stamp::new(0),
            expires_at: Stamp::new(120_000_000),
        };
        let wanted = "req_0000010000000002  agent bot (run_17) wants fs.write\n  {\"path\":\"/x\"}\n  \
                      and answers its server {\"requestState\":\"s\"}\n  … of 99000 bytes\n  \
                      asked by rule writes of permissions.json:12: look first\n  \
                      since 1970-01-01 00:00:00Z, denied 2m 0s later at 1970-01-01 00:02:00Z\n  \
                      aexctl approvals show req_0000010000000002";
        assert_eq!(one(&approval, Paint::PLAIN), wanted);
        let shown = ApprovalShown { approval, text: "{}\n{\"requestState\":\"s\"}".to_owned(), next: None };
        let all = whole(&shown, Paint::PLAIN);
        assert!(all.contains("  {}\n  and answers its server {\"requestState\":\"s\"}\n  asked by"), "{all}");
        assert!(all.ends_with("aexctl approvals approve req_0000010000000002 --seen 2d711642b726"), "{all}");
    }
}
