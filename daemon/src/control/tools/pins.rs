//! A person's look at tools in quarantine, and the word that trusts them.

use super::super::Control;
use super::super::fault::{Answer, broken, unfit};
use super::{failed, known};
use crate::tools::pins::{NotApproved, Review, Told};
use aex_core::event::{By, PinChange};
use aex_core::tool::{Definition, shown};
use aex_proto::rpc::{ErrorObject, Fault};
use aex_proto::tool::{Difference, Reviewed, ToolApprove, ToolReview, ToolsApproved, ToolsReviewed};

/// The longest name and reason that are shown, in bytes.
const MAX_SHOWN: usize = 1_000;
/// Tools that are shown at once: a reply has to fit its line.
const MAX_REVIEWED: usize = 100;

pub(in crate::control) async fn review(control: &Control, wanted: ToolReview) -> Answer<ToolsReviewed> {
    let (server, tool) = wanted.name.split_once('.').map_or((wanted.name.as_str(), None), |(server, tool)| (server, Some(tool)));
    known(control, server)?;
    let listing = control.gatekeeper.listed(server).await.map_err(|fault| failed(&fault))?;
    let is_listed =
        |tool: &str| listing.tools.iter().any(|listed| listed.name == tool) || listing.quarantined.iter().any(|bad| bad.name == tool);
    if let Some(tool) = tool.filter(|tool| !is_listed(tool)) {
        let why = format!("`{server}` has no tool '{}'", tool.escape_debug());
        return Err(ErrorObject::fault(Fault::NotFound, why).hint(format!("aexctl tools show {server}")));
    }
    let found = control.gatekeeper.pins().review(server, tool);
    let trusted =
        listing.tools.iter().filter(|listed| tool.is_none_or(|tool| listed.name == tool)).map(|listed| text(&listed.name)).collect();
    Ok(ToolsReviewed { server: server.to_owned(), tools: found.iter().take(MAX_REVIEWED).map(reviewed).collect(), trusted })
}

pub(in crate::control) async fn approve(control: &Control, by: By, wanted: ToolApprove) -> Answer<ToolsApproved> {
    let ToolApprove { server, pins } = wanted;
    known(control, &server)?;
    if pins.is_empty() {
        return Err(unfit("no tool is named"));
    }
    control.gatekeeper.pins().approve(&server, &pins).await.map_err(|why| match why {
        NotApproved::Otherwise(tool) => {
            let why = format!("{} is not in quarantine, or its server says something else of it by now; nothing was approved", text(&tool));
            ErrorObject::fault(Fault::Conflict, why).hint(format!("aexctl tools approve {server}"))
        }
        NotApproved::File(why) => ErrorObject::fault(Fault::Unavailable, format!("nothing was approved: {why}"))
            .hint("put the file right, then aexctl models reload"),
        NotApproved::Full(why) => ErrorObject::fault(Fault::Conflict, format!("nothing was approved: {why}"))
            .hint(format!("aexctl tools remove {server} forgets them; what is added again is seen for the first time")),
    })?;
    control.gatekeeper.tools().tell_changed();
    let tools = pins.keys().cloned().collect();
    let told = Told { what: PinChange::Approved, pins };
    control.gatekeeper.record_pins(&server, Some(by), told).await.map_err(|fault| broken(&fault))?;
    Ok(ToolsApproved { server, tools })
}

fn text(text: &str) -> String {
    shown(text, MAX_SHOWN).0
}

fn reviewed(review: &Review) -> Reviewed {
    let is_unknown = review.new.is_none() || (review.pinned_at.is_some() && review.old.is_none());
    let differences = review.new.as_ref().filter(|_| !is_unknown).map(|new| Definition::differences(review.old.as_ref(), new));
    let told = |difference: aex_core::tool::Difference| Difference { what: difference.what, old: difference.old, new: difference.new };
    Reviewed {
        tool: review.tool.clone(),
        digest: review.digest,
        bytes: u64::try_from(review.bytes).unwrap_or(u64::MAX),
        reason: text(&review.reason),
        pinned_at: review.pinned_at,
        differences: differences.into_iter().flatten().map(told).collect(),
        is_unknown,
    }
}
