//! The stories of admin actions and of runs.

use super::words::{Page, both, by, place, who};
use crate::units::{count, grouped, instant};
use crate::view::Paint;
use aex_proto::explain::{ActionStory, Changed, RunStory};

pub(super) fn text(story: &ActionStory, paint: Paint) -> String {
    let mut page = Page::new(paint, &format!("event {}: {}", story.event.seq, title(&story.event.kind)));
    page.head("Who");
    let is_own_wish = matches!(story.event.kind.as_str(), "response.cancelled" | "response.deleted");
    page.fact("by", if is_own_wish { "a request with the account's token".to_owned() } else { by(story.by.as_ref()) });
    page.fact("at", instant(story.event.at));
    if let Some(account) = &story.account {
        page.fact("about", format!("{} ({})", who(account), place(account)));
    }
    match (&story.reason, &story.by) {
        (Some(reason), _) => page.fact("because", reason),
        (None, Some(_)) => page.fact("because", "no reason was given"),
        (None, None) => {}
    }
    page.head("What changed");
    if story.changes.is_empty() {
        page.row("nothing");
    }
    story.changes.iter().for_each(|told| page.fact(&told.what, changed(told)));
    if story.together.is_empty() && story.next.is_none() && !is_replaceable(&story.event.kind) {
        page.events(std::slice::from_ref(&story.event));
        return page.text();
    }
    page.head("What followed");
    for event in &story.together {
        page.row(format!("at once: event {}, {}", event.seq, title(&event.kind)));
    }
    match &story.next {
        Some(next) => page.row(format!("until event {} ({}), {}", next.seq, instant(next.at), title(&next.kind))),
        None if is_replaceable(&story.event.kind) => page.row("nothing later has replaced it"),
        None => {}
    }
    page.events(std::slice::from_ref(&story.event));
    page.text()
}

/// A later event about the same thing can take the place of what it set.
fn is_replaceable(kind: &str) -> bool {
    ["account.created", "account.state", "account.updated", "budget.set", "config.loaded", "epoch.opened", "token.created"].contains(&kind)
}

fn changed(told: &Changed) -> String {
    match (&told.from, &told.to) {
        (Some(from), Some(to)) => format!("{} -> {}", short(from), short(to)),
        (None, Some(to)) => short(to),
        (Some(from), None) => format!("{} -> nothing", short(from)),
        (None, None) => String::new(),
    }
}

/// A digest by its beginning, as lists show it.
fn short(text: &str) -> String {
    let digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if digest { text.chars().take(12).chain(['…']).collect() } else { text.to_owned() }
}

/// What a kind of event means.
fn title(kind: &str) -> &str {
    match kind {
        "account.created" => "an account was made",
        "account.state" => "an account's state changed",
        "account.updated" => "what an account states or its limits changed",
        "budget.set" => "a budget was set",
        "window.opened" => "a budget's period began",
        "token.created" => "a token was made",
        "token.revoked" => "a token was revoked",
        "config.loaded" => "a configuration came into force",
        "tools.changed" => "the servers of tools changed",
        "tool.pinned" => "what tools are said to be was pinned, changed or approved",
        "approval.given" => "a person answered for a call of a tool",
        "admin.barred" => "a request from inside a run or a tool was refused",
        "epoch.opened" => "the daemon started",
        "epoch.closed" => "the daemon stopped in good order",
        "clock.jumped" => "the machine's clock jumped",
        "ledger.sealed" => "old events were taken out into a file",
        "ledger.restored" => "the ledger became what a backup holds",
        "call.settled" => "a call was charged",
        "response.cancelled" => "an answer was to be cancelled at its provider",
        "response.deleted" => "a stored answer was to be deleted at its provider",
        "response.stored" => "a provider stored an answer",
        "call.released" => "a call was let go without a charge",
        kind => kind,
    }
}

pub(super) fn run(story: &RunStory, paint: Paint) -> String {
    let end = match (&story.closed_at, &story.closed_because) {
        (Some(at), Some(why)) => format!("ended at {} ({why})", instant(*at)),
        _ => "still open".to_owned(),
    };
    let mut page = Page::new(paint, &format!("{}: {}, {}", story.run, who(&story.caller), end));
    page.head("Who");
    page.fact("opened by", by(story.by.as_ref()));
    page.fact("at", instant(story.opened_at));
    page.fact("account", place(&story.caller));
    page.fact("budget", story.budget_pico.map_or_else(|| "none of its own: its agent's holds".to_owned(), |budget| budget.to_string()));
    page.head("Calls");
    page.fact("admitted", grouped(story.admitted));
    story.ended.iter().for_each(|(state, number)| page.fact(&state.replace('_', " "), grouped(*number)));
    page.fact("charged", both(story.charged_pico));
    page.fact("tokens charged", format!("{} of input, {} of output", grouped(story.input_tokens), grouped(story.output_tokens)));
    let listed = u64::try_from(story.calls.len()).unwrap_or(u64::MAX);
    if listed < story.admitted {
        page.row(format!("the newest {}:", grouped(listed)));
    }
    for call in &story.calls {
        let charge = call.charge_pico.map_or_else(|| "-".to_owned(), |charge| charge.to_string());
        page.row(format!("{}  {}  {}  {} {charge}", call.request, instant(call.at), call.model, call.state.replace('_', " ")));
    }
    page.head("Denials");
    for denials in &story.denials {
        page.fact(&denials.rule, format!("{}, the first is {}", count(denials.count, "time"), denials.first));
    }
    if story.denials.is_empty() {
        page.row("none");
    }
    page.events(&story.events);
    page.text()
}
