//! The tools of a request for a response: which the client runs, which the provider does.

use crate::wire::content::{each, name_in_member, offer};
use crate::wire::hosted::HostedPlaces;
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

/// Whose a tool is.
enum Tool {
    /// Counted by its parts.
    Namespace,
    /// The client's, by the name that a model calls it by.
    Client(Option<String>),
    /// The provider's, by its type.
    Hosted(String),
}

impl Definition {
    /// Takes a name. Of two that differ nobody can say which one counts.
    fn name(&mut self, member: &str, name: Option<String>) -> Result<(), Malformed> {
        if self.name.is_some() && name.is_some() && self.name != name {
            return Err(Malformed::field(member, "names the tool a second time"));
        }
        self.name = self.name.take().or(name);
        Ok(())
    }

    /// Functions and custom tools are the client's, and those that only it can run.
    fn sort(self) -> Option<Tool> {
        Some(match (self.kind?.as_str(), self.runs_at.as_deref()) {
            ("function" | "custom", _) => Tool::Client(self.name),
            // Its own name is none that a model can call.
            ("namespace", _) if self.within > 0 => Tool::Namespace,
            ("namespace", _) => Tool::Client(self.name),
            (client @ ("local_shell" | "apply_patch"), _)
            | (client @ "shell", Some("local"))
            | (client @ "tool_search", Some("client")) => Tool::Client(Some(client.to_owned())),
            (hosted, _) => Tool::Hosted(hosted.to_owned()),
        })
    }
}

/// Reads the list of tools: functions and custom tools by their names, those of a namespace one by one, tools that only the client
/// can run by their type, all others as tools that the provider runs.
pub(super) fn tools(scanner: &mut Scanner<'_>, ask: &mut Ask, places: &mut HostedPlaces) -> Result<(), Malformed> {
    each(scanner, "tools", |scanner, place| {
        scanner.kind()?;
        let start = scanner.at();
        let tool = tool(scanner, ask, place)?;
        let hosted = match &tool {
            Tool::Namespace => None,
            Tool::Client(name) => {
                offer(ask, name.as_deref());
                None
            }
            Tool::Hosted(kind) => {
                ask.offer_hosted(kind.clone(), None);
                Some(kind.as_str())
            }
        };
        places.element(hosted, None, start..scanner.at());
        Ok(())
    })
}

/// Reads the tools of a namespace or an item. They cannot be taken out of it, so one that the provider runs has a name that no price and
/// no list has.
pub(super) fn within(scanner: &mut Scanner<'_>, ask: &mut Ask, field: &str) -> Result<(), Malformed> {
    each(scanner, field, |scanner, place| {
        match tool(scanner, ask, place)? {
            Tool::Namespace => {}
            Tool::Client(name) => offer(ask, name.as_deref()),
            Tool::Hosted(kind) => ask.offer_hosted(shortened(&format!("nested/{kind}")), None),
        }
        Ok(())
    })
}

fn tool(scanner: &mut Scanner<'_>, ask: &mut Ask, place: &str) -> Result<Tool, Malformed> {
    definition(scanner, ask, place)?.sort().ok_or_else(|| Malformed::field(format!("{place}.type"), "is missing"))
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
            "name" => found.name(&member(), Some(word(scanner, &member())?))?,
            "function" if scanner.kind()? == Kind::Object => found.name(&member(), name_in_member(scanner, &member(), "name")?)?,
            "tools" => {
                let before = ask.tools;
                within(scanner, ask, &member())?;
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
