//! The story of one request, from who asked to what it cost.

use super::words::{Page, both, place, purse, purse_name, who};
use crate::units::{count, grouped, instant};
use crate::view::Paint;
use aex_core::ask::Ask;
use aex_core::decision::{Denial, RateKind};
use aex_core::tool::{NoConsent, ToolCall};
use aex_proto::explain::{
    AttemptTold, BoundPart, BoundTold, CallStory, Check, Edit, Ended, PersonTold, RelayedTold, RuleSeen, SentTo, Verdict,
};
use aex_proto::value::Pico;

pub(super) fn text(story: &CallStory, paint: Paint) -> String {
    let mut page = Page::new(paint, &format!("{}: {}", story.request, headline(story)));
    tell(story, paint, &mut page);
    page.text()
}

/// What became of it, in a few words.
fn headline(story: &CallStory) -> String {
    match (&story.end, story.admitted) {
        (_, false) => format!("denied by {}; nothing was sent, nothing was charged", story.denied_by.as_deref().unwrap_or_default()),
        (None, true) => "admitted, and in flight".to_owned(),
        (Some(end), true) if end.state == "released" => "admitted, and not charged".to_owned(),
        (Some(end), true) => format!("admitted, and charged {} ({})", end.charge_pico, end.state.replace('_', " ")),
    }
}

pub(super) fn tell(story: &CallStory, paint: Paint, page: &mut Page) {
    page.head("Who");
    page.fact("caller", format!("{} ({})", who(&story.caller), place(&story.caller)));
    page.fact("at", instant(story.at));
    match &story.policy {
        Some(policy) => {
            let profile = match (&policy.profile, &policy.place) {
                (Some(name), Some(place)) => format!("profile {name} ({place}), default {}", policy.default),
                _ => "the agent's own fields, no profile".to_owned(),
            };
            let digest: String = policy.digest.to_string().chars().take(12).collect();
            page.fact("policy", format!("{profile}; snapshot {digest}…"));
        }
        None if story.admitted => page.fact("policy", "its text is missing in the ledger"),
        None => page.fact("policy", "none was looked at: the call was denied before"),
    }
    if let Some(ask) = story.asked.as_ref().and_then(|asked| serde_json::from_value::<Ask>(asked.clone()).ok()) {
        page.fact("asked for", asked(&ask));
    }
    let tool = story.asked.as_ref().and_then(|asked| serde_json::from_value::<ToolCall>(asked.clone()).ok());
    if let Some(call) = &tool {
        page.fact("asked for", format!("the tool {}", call.name()));
        if let Some(consent) = call.consent.as_ref().filter(|_| story.answered.is_none()) {
            page.fact("approved", format!("for all such calls, by uid {}, process {}", consent.by.uid, consent.by.pid));
        }
        if let Some(PersonTold { answer, at, pid, reason, uid }) = &story.answered {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            page.fact("a person's answer", format!("{answer}, {} by uid {uid}, process {pid}{reason}", instant(*at)));
        }
    }
    tried(&story.attempts, page);
    page.head("Checks, in their order");
    story.checks.iter().for_each(|check| page.row(line(check, paint)));
    if story.checks.iter().any(|check| check.verdict == Verdict::Denied) {
        page.row("What comes after the check that denied was not looked at.");
    }
    if !story.rules.is_empty() {
        page.head(if tool.is_some() { "Rules for tools" } else { "Rules of policy.yaml" });
        story.rules.iter().for_each(|seen| rule(seen, page));
    }
    if let Some(bound) = &story.bound {
        reserve(bound, story.admitted, page);
    }
    if !story.money.is_empty() {
        let when = if story.admitted { "Money before the call" } else { "Money when the denial was recorded" };
        page.head(when);
        story.money.iter().for_each(|told| page.fact(&purse_name(told), purse(told)));
    }
    if let Some(sent_to) = &story.sent {
        sent(sent_to, page);
    }
    match (&story.end, story.deadline) {
        (Some(end), _) => ended(end, page),
        (None, Some(deadline)) => {
            page.head("End");
            page.row(format!("It is in flight. Should nobody end it, it is charged in full at {}.", instant(deadline)));
        }
        (None, None) => refusal(story, page),
    }
    page.head("Computed again from what is stored");
    for again in &story.recomputed {
        let verdict = if again.same { paint.good("same") } else { paint.bad("DIFFERENT") };
        let other = if again.same { String::new() } else { format!("; now {}", again.again) };
        page.fact(&again.what, format!("{verdict}: {}{other}", again.recorded));
    }
    if story.recomputed.is_empty() {
        page.row("Nothing: this refusal rests on something of the moment that is not kept,");
        page.row("such as a count, a state or a key. `aexctl audit` holds it against the account's history.");
    }
    page.events(&story.events);
}

/// The attempts, and the models that were passed over.
fn tried(attempts: &[AttemptTold], page: &mut Page) {
    if attempts.is_empty() {
        return;
    }
    page.head("Attempts, in their order; the last one is told below");
    for told in attempts {
        let Some(number) = told.attempt else {
            page.fact("passed over", format!("{}: {}", told.model, passed_over(told.outcome.as_deref().unwrap_or_default())));
            continue;
        };
        let at = told.provider.as_ref().map(|provider| format!(" at {provider}")).unwrap_or_default();
        let status = told.status.map(|status| format!(" (status {status})")).unwrap_or_default();
        let became = match told.outcome.as_deref() {
            Some(word) => format!("{}{status}; charged {} of {} held", outcome(&told.state, word), told.charge_pico, told.held_pico),
            None => format!("in flight; {} held", told.held_pico),
        };
        page.fact(&format!("attempt {}", u32::from(number) + 1), format!("{}{at}: {became}", told.model));
    }
}

/// Why a call did not go to a model.
fn passed_over(rule: &str) -> String {
    match rule {
        "provider_down" => "its provider had failed again and again, and was given a rest".to_owned(),
        "dialect" => "its provider does not speak what the client speaks".to_owned(),
        "allow_passthrough" => "the client's own provider key is for another provider".to_owned(),
        "budget" => "the budget had no room for it".to_owned(),
        rule => format!("denied by {rule}"),
    }
}

fn asked(ask: &Ask) -> String {
    let model = if ask.model.is_empty() { "the default model" } else { &ask.model };
    let form = if ask.stream { "a stream" } else { "a plain answer" };
    let output = ask
        .max_tokens
        .map_or_else(|| "no output limit stated".to_owned(), |tokens| format!("at most {} tokens of output", grouped(tokens)));
    let counted = [(ask.tools, "tool"), (ask.images, "image"), (ask.audio_in, "sound"), (ask.attachments, "attachment")];
    let parts = counted.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!(", {}", count(*number, what)));
    let choices = if ask.choices > 1 { format!(", {} choices", ask.choices) } else { String::new() };
    format!(
        "{model}, {form}, {} of {}{}{choices}, {output}",
        count(ask.messages, "message"),
        count(ask.text_chars, "character"),
        parts.collect::<String>()
    )
}

fn line(check: &Check, paint: Paint) -> String {
    let verdict = match check.verdict {
        Verdict::Passed => paint.good("ok  "),
        Verdict::Denied => paint.bad("DENY"),
        Verdict::Broken => paint.bad("also"),
    };
    let of = check.of.as_ref().map(|of| format!(" [{of}]")).unwrap_or_default();
    let allowed = check.allowed.as_ref().map_or_else(String::new, |allowed| format!("; allowed: {allowed}"));
    let asked = match (check.asked.as_str(), check.name.starts_with("rule:")) {
        ("", _) => String::new(),
        (said, true) => format!("says: {said}"),
        (asked, false) => format!("asked: {asked}"),
    };
    format!("{verdict} {:<24} {asked}{allowed}{of}", check.name).trim_end().to_owned()
}

fn rule(seen: &RuleSeen, page: &mut Page) {
    let why = seen.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let how = match (&seen.error, seen.failed.as_slice()) {
        (Some(error), _) => format!("cannot be evaluated: {error}"),
        (None, []) if seen.decided => "matches, and decides".to_owned(),
        (None, []) => "matches, and a stronger one decides".to_owned(),
        (None, [one]) => format!("nearly: {one}"),
        (None, failed) => format!("does not match: {}", failed.join("; ")),
    };
    page.fact(&seen.name, format!("{} at {}{why}: {how}", seen.effect, seen.place));
}

fn part(part: &BoundPart) -> String {
    let tokens = grouped(part.count.saturating_mul(part.each));
    let (count, each) = (grouped(part.count), grouped(part.each));
    match part.what.as_str() {
        "byte" => format!("{tokens} for {count} bytes of the request: no token is shorter than a byte"),
        "text_token" => format!("{tokens} for texts that were tokenised: their bytes did not fit the budget"),
        "nfkc_byte" => format!("{tokens} for bytes that normalising its texts may add"),
        "rewritten_token" => format!("{tokens} for white space and escapes of a provider that writes tools and schemas anew"),
        "request" => format!("{tokens} that a provider may put around any request"),
        "tools" => format!("{tokens} that a provider may add once to explain tools"),
        "message" => format!("{tokens} around messages: {count} × {each}"),
        "tool" => format!("{tokens} around tools: {count} × {each}"),
        "known_tool" => format!("{tokens} that the provider adds for tools which it knows by their type"),
        "context" if part.count > 1 => {
            format!(
                "or {tokens}, the model's whole context {count} times, when that is more: once for each call of the provider's tools, and once beside"
            )
        }
        "context" => format!("or {tokens}, the model's whole context, when that is more: the size of a part is unknown"),
        "choice" => format!("{tokens} for answers: {count} × {each}"),
        "prediction_byte" => format!("{tokens} for bytes of a prediction or an echo"),
        what => format!("{tokens} for {count} × {what}"),
    }
}

fn reserve(bound: &BoundTold, is_held: bool, page: &mut Page) {
    let what = if is_held { "Reserved" } else { "Would have been reserved" };
    page.head(&format!("{what}: at most {}", both(bound.amount_pico)));
    page.row(format!("input: at most {} tokens, at the dearest price of {} each", grouped(bound.input_tokens), bound.input_unit_pico));
    bound.input.iter().for_each(|told| page.row(format!("  {}", part(told))));
    page.row(format!("output: at most {} tokens, at the dearest price of {} each", grouped(bound.output_tokens), bound.output_unit_pico));
    bound.output.iter().for_each(|told| page.row(format!("  {}", part(told))));
    for tool in &bound.tools {
        page.row(format!("and at most {} of {}, at {} each", count(tool.calls, "call"), tool.tool, tool.unit_pico));
    }
    if bound.call_pico != Pico::ZERO {
        page.row(format!("and {} for the call itself", bound.call_pico));
    }
}

fn sent(sent: &SentTo, page: &mut Page) {
    page.head("Sent");
    let url = sent.url.as_ref().map(|url| format!(", {url}")).unwrap_or_default();
    page.fact("to", format!("provider {}{url}, model {}", sent.provider, sent.provider_model));
    let digest: String = sent.input.to_string().chars().take(16).collect();
    page.fact("client's bytes", format!("SHA-256 {digest}…"));
    if sent.edits.is_empty() {
        page.fact("changed", "nothing");
    }
    sent.edits.iter().for_each(|told| page.fact("changed", edit(told)));
}

fn edit(edit: &Edit) -> String {
    let from = edit.from.as_ref().map_or_else(|| "not stated".to_owned(), Clone::clone);
    let why = match edit.why.as_str() {
        "model_name" => "the provider's own name of the model",
        "output_limit" => "the policy's and the model's limit, so that the cost is bounded",
        "policy_limit" => "a limit of the policy",
        "dropped_tool" => "models.yaml takes this tool out, which the provider would run",
        "usage" => "unless the client asked for it itself, so that the charge is exact",
        "standard_price" => "the tier that the prices hold for",
        why => why,
    };
    format!("{}: {from} -> {} ({why})", edit.field, edit.to)
}

fn ended(end: &Ended, page: &mut Page) {
    page.head("End");
    let status = end.status.map(|status| format!(", the provider's status was {status}")).unwrap_or_default();
    page.fact("at", format!("{}{status}", instant(end.at)));
    page.fact("what happened", outcome(&end.state, &end.outcome));
    page.fact("the charge is", meaning(&end.state));
    if let Some(relayed) = end.relayed {
        page.fact("output relayed", measured(relayed));
    } else if end.state == "estimated" && end.outcome == "client_left" {
        page.fact("output relayed", "not looked at: the model may have thought unseen, up to the bound");
    }
    if !end.lines.is_empty() {
        page.head("Charge");
        for line in &end.lines {
            page.fact(&bucket(&line.bucket), format!("{} × {} = {}", grouped(line.quantity), line.unit_pico, line.sum_pico));
        }
        if let Some(tier) = &end.tier {
            page.fact("prices of", format!("the service tier {tier}"));
        }
        page.fact("sum", both(end.charge_pico));
    } else if end.state == "worst_case" {
        page.head("Charge");
        page.fact("all that was reserved", both(end.charge_pico));
    }
    for (field, value) in &end.unknown_usage {
        page.fact("reported, not known", format!("{field}: {value}"));
    }
    let rest = end.held_pico.minus(end.charge_pico).unwrap_or(Pico::ZERO);
    if rest.is_negative() {
        let beyond = Pico::ZERO.minus(rest).unwrap_or(Pico::MAX);
        page.fact("beyond what was held", format!("{beyond}: the provider billed more than the bound, and it is recorded in full"));
    } else {
        page.fact("given back", both(rest));
    }
    if let Some(seq) = end.suspended_by {
        page.fact("suspended", format!("the agent, for this bill went beyond the budget (event {seq}); `aexctl agent resume` lifts it"));
    }
    page.head("Money after it");
    end.after.iter().for_each(|told| page.fact(&purse_name(told), purse(told)));
}

/// What a line of a charge counts, in plain words.
fn bucket(name: &str) -> String {
    let words = match name {
        "cached_input" => "input from cache",
        "cache_write" => "input into cache",
        "cache_write_5m" => "into cache, 5 min",
        "cache_write_30m" => "into cache, 30 min",
        "cache_write_1h" => "into cache, 1 h",
        "cache_write_12h" => "into cache, 12 h",
        "audio_input" => "input, sound",
        "audio_output" => "output, sound",
        "image_input" => "input, images",
        "image_output" => "output, images",
        "call" => "the call itself",
        name => return name.strip_prefix("tool:").map_or_else(|| name.to_owned(), |tool| format!("calls of {tool}")),
    };
    words.to_owned()
}

/// What happened, for who does not know the words of the ledger.
fn outcome(state: &str, outcome: &str) -> &'static str {
    match (state, outcome) {
        (_, "answered") => "the provider answered, and reported the usage",
        (_, "no_usage") => "the provider answered without reporting the usage",
        (_, "client_left") => "the client left before the answer was complete; the provider was told to stop",
        (_, "provider_left") => "the provider broke off after it began to answer",
        (_, "provider_failed") => "the provider, or something before it, failed; that does not prove that nothing was billed",
        (_, "cut") => "the stream passed its bound and was cut",
        (_, "deadline") => "its deadline passed, and nobody was working on it",
        (_, "panic") => "a bug of the daemon ended it",
        ("released", "crash") => "the daemon died before it was sent; the next start found it",
        (_, "crash") => "the daemon died while it was in flight; the next start found it",
        (_, "stopped") => "an account on its path was stopped, and the call with it",
        (_, "never_sent") => "the request never left the daemon",
        (_, "refused") => "the provider refused it, which proves that nothing was billed",
        (_, "gateway_error") => "a gateway failed, and the configuration says that this is not charged",
        _ => "as the event says",
    }
}

fn meaning(state: &str) -> &'static str {
    match state {
        "exact" => "exact: the reported usage at the prices that held",
        "estimated" => "an estimate: the bound's input, if the input was sent, and the output that was relayed",
        "worst_case" => "the worst case: nobody knows what was used, so all that was reserved is charged",
        _ => "none: nothing was billed",
    }
}

/// How the output of an estimate was counted.
fn measured(relayed: RelayedTold) -> String {
    let bytes = grouped(relayed.bytes);
    match relayed.tokens {
        Some(tokens) => format!("by tokens: {bytes} bytes, {} tokens at most", grouped(tokens)),
        None => format!("by bytes: {bytes}, each counted as a token"),
    }
}

/// What lifts a denial, in a line or two.
fn refusal(story: &CallStory, page: &mut Page) {
    let Some(denial) = story.denial.as_ref().and_then(|denial| serde_json::from_value::<Denial>(denial.clone()).ok()) else { return };
    page.head("Why it was denied");
    let lines: Vec<String> = match denial {
        Denial::Budget { account, asked, left, limit, period, resets_at } => {
            let resets = resets_at.map_or_else(|| "It does not reset.".to_owned(), |at| format!("It resets at {}.", instant(at)));
            vec![
                format!("The budget of {} by {} is {limit}; {left} of it were left.", account.name, period.name()),
                format!("The call might have cost {asked}, so it did not fit. {resets}"),
            ]
        }
        Denial::Rate { account, limit: 0, .. } => {
            vec![format!("{} may make no calls: its limit is 0. Waiting does not lift that.", account.name)]
        }
        Denial::Rate { account, limit, kind: RateKind::RequestsPerMinute, .. } => {
            vec![
                format!("{} had made {limit} requests within 60 seconds, which is its limit.", account.name),
                "Waiting lifts it.".to_owned(),
            ]
        }
        Denial::Rate { account, limit, kind: RateKind::Concurrent, .. } => {
            let line = format!("{} had {limit} requests in flight, which is its limit.", account.name);
            vec![line, "It is lifted when one of them ends.".to_owned()]
        }
        Denial::TokenRate { asked, limit, retry_after_ms, .. } => {
            let lifts = if retry_after_ms.is_some() { "Waiting lifts it." } else { "It can never pass: it is larger than the limit." };
            vec![format!("The limit is {limit} tokens in any 60 seconds, and there was no room for about {asked}."), lifts.to_owned()]
        }
        Denial::Rule(ruled) => {
            let near = ruled.near.iter().map(|miss| format!("It nearly matched {}, but for {}.", miss.rule, miss.condition));
            let decided = if ruled.rule == "default" {
                "No rule lets it pass, and the default is deny.".to_owned()
            } else {
                format!("The rule {} of policy.yaml decided.", ruled.rule)
            };
            std::iter::once(decided).chain(near).collect()
        }
        Denial::Tool(denied) => {
            let place = denied.by.line.map_or_else(|| denied.by.file.clone(), |line| format!("{}:{line}", denied.by.file));
            let reason = denied.by.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let rule = format!("The rule {} of {place}{reason}", denied.by.rule);
            let near = denied.near.iter().map(|miss| format!("It nearly matched {}, but for {}.", miss.rule, miss.condition));
            let decided = match denied.unasked {
                None => format!("{rule} decided."),
                Some(NoConsent::Refused) => format!("{rule} has a person asked, who said no."),
                Some(NoConsent::Unanswered) => format!("{rule} has a person asked, and nobody answered in time."),
                Some(NoConsent::TooMany) => format!("{rule} has a person asked, and too many calls waited already."),
            };
            std::iter::once(decided).chain(near).collect()
        }
        Denial::ToolQuarantined { tool, why } => vec![format!("The tool {tool} is quarantined: {why}.")],
        Denial::Policy { breach, .. } => {
            vec![format!("{} allows {}, and the call asked {}.", breach.rule.setting(), breach.limit, breach.asked)]
        }
        Denial::UnknownModel { model } => {
            vec![format!("No model `{model}` is configured. `aexctl models list` shows the names; models.yaml defines them.")]
        }
        Denial::Account { account, state, reason } => {
            let why = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
            vec![format!("{} was {}{why}.", account.name, state.name())]
        }
        _ => vec!["The check above that says DENY is the reason.".to_owned()],
    };
    lines.into_iter().for_each(|line| page.row(line));
}
