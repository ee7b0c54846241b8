//! The tools of a request for a response: which the client runs, which the provider does.

use crate::wire::content::{each, name_in_member, offer, offer_hosted};
use crate::wire::json::{Kind, Scanner};
use crate::wire::request::{Malformed, shortened};
use aex_core::ask::Ask;

/// What is known of a tool's definition.
#[derive(Default)]
struct Definition {
    kind: Option<String>,
    name: Option<String>,
    /// Tools of a namespace that were counted by themselves.
    within: u64,
    /// `environment.type` of a shell, `execution` of a search for tools.
    runs_at: Option<String>,
}

/// Reads a list of tools: functions and custom tools by their names, those of a namespace one by one, tools that only the client
/// can run by their type, all others as tools that the provider runs.
pub(super) fn tools(scanner: &mut Scanner<'_>, ask: &mut Ask, field: &str) -> Result<(), Malformed> {
    each(scanner, field, |scanner, place| {
        let Definition { kind, name, within, runs_at } = definition(scanner, ask, place)?;
        match kind.as_deref() {
            Some("function" | "custom") => offer(ask, name.as_deref()),
            // Its own name is none that a model can call.
            Some("namespace") if within > 0 => {}
            Some("namespace") => offer(ask, name.as_deref()),
            Some(client @ ("local_shell" | "apply_patch")) => offer(ask, Some(client)),
            Some(client @ "shell") if runs_at.as_deref() == Some("local") => offer(ask, Some(client)),
            Some(client @ "tool_search") if runs_at.as_deref() == Some("client") => offer(ask, Some(client)),
            Some(hosted) => offer_hosted(ask, hosted),
            None => return Err(Malformed::field(format!("{place}.type"), "is missing")),
        }
        Ok(())
    })
}

fn definition(scanner: &mut Scanner<'_>, ask: &mut Ask, place: &str) -> Result<Definition, Malformed> {
    let mut found = Definition::default();
    let mut seen = 0_u8;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let key = key.unescape();
        let bit = match &*key {
            "type" => 1,
            "name" => 2,
            "tools" => 4,
            "environment" => 8,
            "execution" => 16,
            // Chat's form, which some servers take here.
            "function" => 32,
            _ => 0,
        };
        let member = || format!("{place}.{key}");
        if seen & bit != 0 {
            return Err(Malformed::field(member(), "stands twice"));
        }
        seen |= bit;
        match &*key {
            "type" => found.kind = Some(word(scanner, &member())?),
            "name" => found.name = Some(word(scanner, &member())?),
            "function" if scanner.kind()? == Kind::Object => found.name = name_in_member(scanner, &member(), "name")?,
            "tools" => {
                let before = ask.tools;
                tools(scanner, ask, &member())?;
                found.within = ask.tools - before;
            }
            "execution" if scanner.kind()? == Kind::Text => found.runs_at = Some(word(scanner, &member())?),
            "environment" if scanner.kind()? == Kind::Object => found.runs_at = name_in_member(scanner, &member(), "type")?,
            _ => scanner.pass()?,
        }
    }
    Ok(found)
}

fn word(scanner: &mut Scanner<'_>, place: &str) -> Result<String, Malformed> {
    if scanner.kind()? != Kind::Text {
        return Err(Malformed::field(place, "must be a string"));
    }
    Ok(shortened(&scanner.text()?.unescape()))
}
