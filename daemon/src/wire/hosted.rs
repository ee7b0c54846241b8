//! Where the tools that a provider runs stand in a request, and how they are taken out of it.
//!
//! Any dialect with a list `tools` notes its places here. Must not: decide which tools go.

use super::chat::shortened;
use super::edit::{Splice, removals};
use super::json::{Fault, Kind, Scanner};
use super::text::Text;
use aex_core::ask::NAMES_KEPT;
use std::ops::Range;

/// Places of hosted tools and of what depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostedPlaces {
    /// Elements of `tools`, by their type. As many as an ask names: with more of them, none is taken out.
    elements: Vec<(String, Range<usize>)>,
    /// Members of the request that ask for a tool, by its name; with their keys.
    members: Vec<(String, Range<usize>)>,
    /// `tools` with its key.
    list: Option<Range<usize>>,
    /// Tools in that list, of all types.
    listed: usize,
    /// `tool_choice`.
    choice: Option<Choice>,
    /// Members that are refused where no tools are, with their keys.
    dependents: Vec<Range<usize>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    /// With its key.
    member: Range<usize>,
    value: Range<usize>,
    /// The type, or the name, of the tool that is chosen.
    tool: Option<String>,
}

impl HostedPlaces {
    /// Notes an element of `tools`. `hosted`: its type, when the provider runs it.
    pub fn element(&mut self, hosted: Option<&str>, span: Range<usize>) {
        self.listed += 1;
        if let Some(kind) = hosted.filter(|_| self.elements.len() < NAMES_KEPT) {
            self.elements.push((kind.to_owned(), span));
        }
    }

    /// Notes that the list `tools` has been read up to `end`.
    pub fn list(&mut self, key: &Text<'_>, end: usize) {
        self.list = Some(key.span().start..end);
    }

    /// Notes a member of the request that asks for a tool and has been read up to `end`.
    pub fn member(&mut self, tool: &str, key: &Text<'_>, end: usize) {
        if self.members.len() < NAMES_KEPT {
            self.members.push((tool.to_owned(), key.span().start..end));
        }
    }

    /// Notes a member that is refused where no tools are, such as `parallel_tool_calls`.
    pub fn dependent(&mut self, key: &Text<'_>, end: usize) {
        self.dependents.push(key.span().start..end);
    }

    /// Reads a `tool_choice`, and tells whether it is anything but null.
    ///
    /// # Errors
    /// When the text is not JSON here.
    pub fn choice(&mut self, key: &Text<'_>, scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
        let kind = scanner.kind()?;
        let start = scanner.at();
        let mut tool = None;
        if kind == Kind::Object {
            let mut open = scanner.object()?;
            while let Some(member) = scanner.key(&mut open)? {
                // OpenAI's choices of a hosted tool have its type, Anthropic's the type `tool` and its name.
                let tells = member.is("type") || member.is("name");
                if tells && scanner.kind()? == Kind::Text {
                    let text = shortened(&scanner.text()?.unescape());
                    tool = Some(text).filter(|text| !matches!(text.as_str(), "tool" | "function" | "custom")).or(tool);
                } else {
                    scanner.skip()?;
                }
            }
        } else {
            scanner.skip()?;
        }
        self.choice = Some(Choice { member: key.span().start..scanner.at(), value: start..scanner.at(), tool });
        Ok(kind != Kind::Null)
    }

    /// Adds the splices that take out the tools of these types. With the last of `tools` its list goes, and what depends on it; a choice of
    /// a tool that goes becomes `auto`, which is what `auto` says in the dialect.
    pub(super) fn take_out(&self, body: &[u8], tools: &[&str], auto: &str, splices: &mut Vec<Splice>) {
        let goes = |tool: &String| tools.contains(&tool.as_str());
        let elements: Vec<Range<usize>> = self.elements.iter().filter(|(tool, _)| goes(tool)).map(|(_, span)| span.clone()).collect();
        let mut members: Vec<Range<usize>> = self.members.iter().filter(|(tool, _)| goes(tool)).map(|(_, span)| span.clone()).collect();
        if !elements.is_empty() && elements.len() == self.listed {
            members.extend(self.list.clone());
            members.extend(self.choice.iter().map(|choice| choice.member.clone()));
            members.extend(self.dependents.iter().cloned());
        } else {
            let chosen = self.choice.iter().filter(|choice| choice.tool.as_ref().is_some_and(goes));
            splices.extend(chosen.map(|choice| (choice.value.clone(), auto.to_owned())));
            splices.extend(removals(body, elements));
        }
        splices.extend(removals(body, members));
    }
}
