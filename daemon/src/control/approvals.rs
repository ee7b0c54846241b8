//! Answers to calls of tools that wait for a person. Who may answer is decided by the fence.
//!
//! An answer is recorded before the call hears it.

use super::Control;
use super::connection::{After, Lines};
use super::fault::{Answer, broken, unfit};
use crate::tools::approvals::{Approvals, Lasting, Waiting, Word};
use aex_core::event::{Answered, ApprovalGiven, By};
use aex_core::tool::{said, shown};
use aex_proto::approval::{
    Approval, ApprovalAnswered, ApprovalApprove, ApprovalDeny, ApprovalList, ApprovalQuery, ApprovalRevoke, ApprovalShow, ApprovalShown,
    ApprovalWanted, Lasting as LastingTold, Person,
};
use aex_proto::frame;
use aex_proto::method::ApprovalWanted as Wanted;
use aex_proto::rpc::{ErrorObject, Fault, Request};
use aex_proto::run::RunId;
use aex_proto::value::RequestId;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// What the list shows of a call's arguments, and of its answers, in bytes.
const MAX_SHOWN: usize = 8 << 10;
/// A piece of all that a call says, in bytes.
const PIECE: usize = 1 << 20;
/// Hex digits of a call's digest that are enough.
const MIN_SEEN: usize = 8;
/// Hex digits of an id that are enough.
const MIN_PREFIX: usize = 4;
/// Names of rules and tools, and reasons, are shown so far, in bytes.
const MAX_TEXT: usize = 512;
const LIST: &str = "aexctl approvals list";

/// Calls that begin to wait are told from now on.
pub(super) struct Following {
    pub(super) subscription: u64,
    approvals: Approvals,
    changed: watch::Receiver<u64>,
    told: BTreeSet<RequestId>,
}

pub(super) fn list(control: &Control, query: &ApprovalQuery) -> (ApprovalList, Option<After>) {
    let approvals = control.gatekeeper.approvals();
    // Before the list is looked at, so that none is lost between.
    let changed = approvals.changed();
    let waiting = approvals.waiting();
    let (always, problem) = match approvals.lasting() {
        Ok(always) => (always.iter().map(lasting).collect(), None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let subscription = query.follow.then(|| control.next_subscription());
    let follow = subscription.map(|subscription| {
        let told = waiting.iter().map(|waiting| waiting.request).collect();
        After::Approvals(Following { subscription, approvals: approvals.clone(), changed, told })
    });
    (ApprovalList { waiting: waiting.iter().map(|waiting| told(waiting)).collect(), always, problem, subscription }, follow)
}

/// Tells calls that begin to wait, until the client goes.
pub(super) async fn follow(following: Following, lines: Lines) {
    let Following { subscription, approvals, mut changed, told: mut known } = following;
    while changed.changed().await.is_ok() {
        let waiting = approvals.waiting();
        for new in waiting.iter().filter(|waiting| !known.contains(&waiting.request)) {
            let notice = Request::notice::<Wanted>(&ApprovalWanted { subscription, approval: told(new) });
            let Some(line) = notice.ok().and_then(|notice| frame::line(&notice).ok()) else { continue };
            if lines.send(line).await.is_err() {
                return;
            }
        }
        known = waiting.iter().map(|waiting| waiting.request).collect();
    }
}

pub(super) fn show(control: &Control, wanted: &ApprovalShow) -> Answer<ApprovalShown> {
    let waiting = find(control, wanted.id)?;
    let all = |text: &str| shown(text, usize::MAX).0;
    let text = said(&all(&waiting.arguments), waiting.answers.as_deref().map(all).as_deref());
    let from = usize::try_from(wanted.from).unwrap_or(usize::MAX);
    let rest = text.get(from..).ok_or_else(|| unfit("no piece of the call begins there"))?;
    let most = rest.len().min(PIECE);
    // No letter has more than four bytes.
    let end = (0..4).map(|back| most.saturating_sub(back)).find(|end| rest.is_char_boundary(*end)).unwrap_or(0);
    let piece = rest.split_at(end).0;
    let end = from.saturating_add(piece.len());
    let next = (end < text.len()).then(|| u64::try_from(end).unwrap_or(u64::MAX));
    Ok(ApprovalShown { approval: told(&waiting), text: piece.to_owned(), next })
}

fn find(control: &Control, id: RequestId) -> Answer<Arc<Waiting>> {
    let waiting = control.gatekeeper.approvals().waiting().into_iter().find(|waiting| waiting.request == id);
    waiting.ok_or_else(|| nothing_waits(id))
}

/// Whether a person who lets a call pass has seen all of it.
fn was_seen(waiting: &Waiting, seen: Option<&str>) -> Answer<()> {
    let Approval { is_cut, arguments_bytes, .. } = told(waiting);
    let why = match seen {
        Some(seen) if seen.len() < MIN_SEEN => format!("`seen` needs the first {MIN_SEEN} hex digits of what was shown at least"),
        Some(seen) if waiting.input.to_string().starts_with(&seen.to_ascii_lowercase()) => return Ok(()),
        Some(_) => "this is not the call that was shown".to_owned(),
        None if is_cut => format!("this call says more than lists show: {arguments_bytes} bytes; look at all of it first"),
        None => return Ok(()),
    };
    Err(ErrorObject::fault(Fault::Conflict, why).hint(format!("aexctl approvals show {}", waiting.request)))
}

pub(super) async fn approve(control: &Control, by: By, wanted: ApprovalApprove) -> Answer<ApprovalAnswered> {
    let approvals = control.gatekeeper.approvals();
    was_seen(&*find(control, wanted.id)?, wanted.seen.as_deref())?;
    if wanted.always {
        approvals.may_last().map_err(|why| ErrorObject::fault(Fault::Conflict, format!("no approval can last: {why}")))?;
        let waiting = approvals.waiting().into_iter().find(|waiting| waiting.request == wanted.id);
        if waiting.is_some_and(|waiting| waiting.stated.is_none()) {
            return Err(unfit("so many rules ask for this call that no approval of it can last"));
        }
    }
    let (waiting, way) = approvals.take(wanted.id).ok_or_else(|| nothing_waits(wanted.id))?;
    let stated = waiting.stated.filter(|_| wanted.always);
    let answer = if stated.is_some() { Answered::Always } else { Answered::Approved };
    let event = record(control, &waiting, answer, &by, wanted.reason).await?;
    let remembered = match stated {
        Some(stated) => {
            let Waiting { account, agent, by: rule, tool, .. } = waiting.as_ref();
            let (account, agent, rule, tool) = (*account, agent.clone(), rule.rule.clone(), tool.clone());
            let ledger = name(control).await?;
            let at = crate::os::clock::wall();
            approvals.remember(Lasting { account, agent, at, by: by.clone(), event, ledger, rule, stated, tool }).await
        }
        None => Ok(()),
    };
    let always = stated.is_some() && remembered.is_ok();
    // A call that has ended meanwhile hears nothing.
    drop(way.send(Word::Yes { by, always }));
    remembered.map_err(|why| ErrorObject::fault(Fault::Unavailable, format!("this call is approved, and later ones are not: {why}")))?;
    Ok(ApprovalAnswered { approval: told(&waiting) })
}

pub(super) async fn deny(control: &Control, by: By, wanted: ApprovalDeny) -> Answer<ApprovalAnswered> {
    let (waiting, way) = control.gatekeeper.approvals().take(wanted.id).ok_or_else(|| nothing_waits(wanted.id))?;
    // It is denied in any case.
    drop(way.send(Word::No));
    record(control, &waiting, Answered::Denied, &by, wanted.reason).await?;
    Ok(ApprovalAnswered { approval: told(&waiting) })
}

pub(super) async fn revoke(control: &Control, by: By, wanted: ApprovalRevoke) -> Answer<LastingTold> {
    let approvals = control.gatekeeper.approvals();
    let all = approvals.lasting().map_err(|why| ErrorObject::fault(Fault::Conflict, format!("no approval is lasting: {why}")))?;
    if wanted.id.len() < MIN_PREFIX {
        return Err(unfit(format!("an id needs its first {MIN_PREFIX} hex digits at least")));
    }
    let mut named = all.into_iter().filter(|lasting| lasting.id().to_string().starts_with(&wanted.id));
    let (found, other) = (named.next(), named.next());
    let found = found.ok_or_else(|| {
        ErrorObject::fault(Fault::NotFound, format!("no lasting approval {}", wanted.id.escape_debug()))
            .hint("aexctl approvals list --always")
    })?;
    if other.is_some() {
        return Err(unfit(format!("several lasting approvals begin with {}", wanted.id)));
    }
    approvals.forget(found.id()).await.map_err(|why| ErrorObject::fault(Fault::Unavailable, why))?;
    let event = ApprovalGiven {
        account: found.account,
        answer: Answered::Revoked,
        by,
        reason: wanted.reason,
        request: None,
        rule: found.rule.clone(),
        stated: Some(found.stated),
        tool: found.tool.to_string(),
        // No call that begins from now on passes by it.
        until: Some(control.gate.last_request()),
    };
    control.gate.note(event.into()).await.map_err(|fault| broken(&fault))?;
    Ok(lasting(&found))
}

/// The ledger's name.
#[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is not general enough over lifetimes")]
async fn name(control: &Control) -> Answer<String> {
    control.gate.ledger().read_at_once(|reader| reader.name()).await.map_err(|fault| broken(&fault))
}

/// The number of its event.
async fn record(control: &Control, waiting: &Waiting, answer: Answered, by: &By, reason: Option<String>) -> Answer<i64> {
    let event = ApprovalGiven {
        account: waiting.account,
        answer,
        by: by.clone(),
        reason,
        request: Some(waiting.request),
        rule: waiting.by.rule.clone(),
        stated: waiting.stated,
        tool: waiting.tool.to_string(),
        until: None,
    };
    control.gate.note(event.into()).await.map_err(|fault| broken(&fault))
}

fn nothing_waits(id: RequestId) -> ErrorObject {
    ErrorObject::fault(Fault::NotFound, format!("no call {id} waits for an approval")).hint(LIST)
}

fn text(text: &str) -> String {
    shown(text, MAX_TEXT).0
}

fn told(waiting: &Waiting) -> Approval {
    let by = &waiting.by;
    let (arguments, is_cut) = shown(&waiting.arguments, MAX_SHOWN);
    let answers = waiting.answers.as_deref().map(|answers| shown(answers, MAX_SHOWN));
    let is_cut = is_cut || answers.as_ref().is_some_and(|(_, is_cut)| *is_cut);
    Approval {
        id: waiting.request,
        agent: waiting.agent.clone(),
        run: waiting.run.map(RunId::new),
        tool: text(&waiting.tool.to_string()),
        arguments,
        answers: answers.map(|(answers, _)| answers),
        arguments_bytes: waiting.bytes,
        is_cut,
        input: waiting.input,
        rule: text(&by.rule),
        place: by.line.map_or_else(|| by.file.clone(), |line| format!("{}:{line}", by.file)),
        reason: by.reason.as_deref().map(text),
        asked_at: waiting.asked_at,
        expires_at: waiting.expires_at,
    }
}

fn lasting(lasting: &Lasting) -> LastingTold {
    LastingTold {
        id: lasting.id(),
        agent: lasting.agent.clone(),
        account: lasting.account,
        tool: text(&lasting.tool.to_string()),
        rule: text(&lasting.rule),
        by: Person { pid: lasting.by.pid, uid: lasting.by.uid },
        at: lasting.at,
    }
}
