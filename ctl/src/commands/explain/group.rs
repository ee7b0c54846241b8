//! Refusals without facts of their own: what is known of them, and what only of the first.

use super::call;
use super::words::{Page, place, who};
use crate::units::{count, instant};
use crate::view::Paint;
use aex_proto::explain::{Group, RepeatStory};

pub(super) fn text(story: &RepeatStory, paint: Paint) -> String {
    let what = story.request.map_or_else(
        || story.groups.first().map(|group| format!("event {}", group.event.seq)).unwrap_or_default(),
        |request| request.to_string(),
    );
    if let [group] = story.groups.as_slice()
        && (group.count, group.caller.is_none()) == (1, true)
    {
        let mut page = Page::new(paint, &format!("{what}: refused, for its caller is not known; nothing was sent, nothing was charged"));
        page.say("Such refusals are counted: one event a second at most for each cause.");
        tell(group, paint, &mut page);
        return page.text();
    }
    let mut page = Page::new(paint, &format!("{what}: refused, and told only together with others; nothing was sent, nothing was charged"));
    match (story.request, story.certain) {
        (None, _) => {}
        (Some(_), true) => page.say("It is surely one of the refusals below."),
        (Some(request), false) => {
            page.say(format!("Its number lies between theirs, so {request} was one of them,"));
            page.say("or a request that leaves no event, such as a page.");
        }
    }
    page.say("A refusal that repeats within a second has no event of its own, so that a client");
    page.say("that retries without end does not fill the disk.");
    story.groups.iter().for_each(|group| tell(group, paint, &mut page));
    page.text()
}

fn tell(group: &Group, paint: Paint, page: &mut Page) {
    if group.count == 1 {
        page.head("What is known of it");
        page.fact("request", group.first.to_string());
    } else {
        page.head(&format!("What is known of each of these {}", count(group.count, "request")));
        page.fact("between", format!("{} and {}", group.first, group.last));
    }
    page.fact("recorded at", instant(group.event.at));
    match &group.caller {
        Some(caller) => {
            page.fact("caller", format!("{} ({})", who(caller), place(caller)));
            page.fact("denied by", &group.rule);
        }
        None => page.fact("the caller is unknown", unknown(&group.rule)),
    }
    match &group.told {
        Some(told) => {
            page.say("");
            page.say(format!("What follows is of {}, the first by that rule within the second.", told.request));
            page.say("What this one asked was not kept; that the same rule denied it was.");
            call::tell(told, paint, page);
        }
        None if group.caller.is_some() => page.row("The first refusal by that rule is not in the ledger."),
        None => page.row("Nothing else was looked at: a caller must be known before its request is read."),
    }
    page.events(std::slice::from_ref(&group.event));
}

fn unknown(cause: &str) -> &str {
    match cause {
        "missing" => "no token was sent",
        "malformed" => "what was sent as a token has not the form of one: it is mistyped or cut",
        "unknown" => "no account has this token",
        "expired" => "the token's time was over",
        "revoked" => "the token was revoked or rotated away",
        cause => cause,
    }
}
