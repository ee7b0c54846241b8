//! Where the tools that a provider runs stand in a request, and how they are taken out of it.
//!
//! Any dialect with a list `tools` notes its places here. Must not: decide which tools go.

use super::edit::{Splice, removals};
use super::json::{Fault, Kind, Scanner};
use super::request::shortened;
use super::text::Text;
use aex_core::ask::NAMES_KEPT;
use std::ops::Range;

/// Places of hosted tools and of what depends on them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostedPlaces {
    /// Elements of `tools`. As many as an ask names: with more of them, none is taken out.
    elements: Vec<Element>,
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

/// A tool that the provider runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Element {
    kind: String,
    /// What Anthropic's choices call it by.
    name: Option<String>,
    span: Range<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    /// With its key.
    member: Range<usize>,
    value: Range<usize>,
    /// OpenAI's choices of a hosted tool have its type, Anthropic's the type `tool` and its name.
    kind: Option<String>,
    name: Option<String>,
    /// Tools that an `allowed_tools` of OpenAI lists: those that the provider may run, by their type. As many as an ask names.
    allowed: Vec<(String, Range<usize>)>,
    /// Tools in that list, of all types.
    listed: usize,
}

impl Choice {
    /// Reads the members of a choice.
    fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let mut open = scanner.object()?;
        while let Some(member) = scanner.key(&mut open)? {
            match scanner.kind()? {
                Kind::Text if member.is("type") => self.kind = Some(shortened(&scanner.text()?.unescape())),
                Kind::Text if member.is("name") => self.name = Some(shortened(&scanner.text()?.unescape())),
                Kind::List if member.is("tools") => self.allow(scanner)?,
                Kind::Object if member.is("allowed_tools") => self.allow_within(scanner)?,
                _ => scanner.pass()?,
            }
        }
        Ok(())
    }

    /// Chat has the list one level deeper.
    fn allow_within(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let mut open = scanner.object()?;
        while let Some(member) = scanner.key(&mut open)? {
            if member.is("tools") && scanner.kind()? == Kind::List {
                self.allow(scanner)?;
            } else {
                scanner.pass()?;
            }
        }
        Ok(())
    }

    fn allow(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        let mut list = scanner.list()?;
        while scanner.item(&mut list)? {
            self.listed += 1;
            if scanner.kind()? != Kind::Object {
                scanner.pass()?;
                continue;
            }
            let start = scanner.at();
            let mut kind = None;
            let mut open = scanner.object()?;
            while let Some(member) = scanner.key(&mut open)? {
                if member.is("type") && scanner.kind()? == Kind::Text {
                    kind = Some(shortened(&scanner.text()?.unescape()));
                } else {
                    scanner.pass()?;
                }
            }
            if let Some(kind) = kind.filter(|kind| !is_clients(kind) && self.allowed.len() < NAMES_KEPT) {
                self.allowed.push((kind, start..scanner.at()));
            }
        }
        Ok(())
    }
}

/// Types of tools that the client runs, whatever they are called.
fn is_clients(kind: &str) -> bool {
    matches!(kind, "function" | "custom")
}

impl HostedPlaces {
    /// Notes an element of `tools`. `hosted`: its type, when the provider runs it. `name`: what a choice calls it by, if not by that.
    pub fn element(&mut self, hosted: Option<&str>, name: Option<&str>, span: Range<usize>) {
        self.listed += 1;
        if let Some(kind) = hosted.filter(|_| self.elements.len() < NAMES_KEPT) {
            self.elements.push(Element { kind: kind.to_owned(), name: name.map(str::to_owned), span });
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
        let mut choice = Choice::default();
        if kind == Kind::Object {
            choice.read(scanner)?;
        } else {
            scanner.pass()?;
        }
        (choice.member, choice.value) = (key.span().start..scanner.at(), start..scanner.at());
        self.choice = Some(choice);
        Ok(kind != Kind::Null)
    }

    /// Adds the splices that take out the tools of these types, and gives the members of the request that go whole. With the last of
    /// `tools` its list goes, and what depends on it; a choice of a tool that goes becomes `auto`, which is what `auto` says in the dialect,
    /// and a list of allowed ones that all go becomes OpenAI's `none`.
    pub(super) fn take_out(&self, body: &[u8], tools: &[&str], auto: &str, splices: &mut Vec<Splice>) -> Vec<Range<usize>> {
        let goes = |tool: &String| tools.contains(&tool.as_str());
        let gone: Vec<&Element> = self.elements.iter().filter(|element| goes(&element.kind)).collect();
        let elements: Vec<Range<usize>> = gone.iter().map(|element| element.span.clone()).collect();
        let mut members: Vec<Range<usize>> = self.members.iter().filter(|(tool, _)| goes(tool)).map(|(_, span)| span.clone()).collect();
        if !elements.is_empty() && elements.len() == self.listed {
            members.extend(self.list.clone());
            members.extend(self.choice.iter().map(|choice| choice.member.clone()));
            members.extend(self.dependents.iter().cloned());
        } else {
            if let Some(choice) = &self.choice {
                let is_called = |name: &String| gone.iter().any(|element| element.name.as_ref() == Some(name));
                let allowed: Vec<Range<usize>> =
                    choice.allowed.iter().filter(|(kind, _)| goes(kind)).map(|(_, span)| span.clone()).collect();
                if choice.kind.as_deref() == Some("tool") && choice.name.as_ref().is_some_and(is_called)
                    || choice.kind.as_ref().is_some_and(|kind| !is_clients(kind) && goes(kind))
                {
                    splices.push((choice.value.clone(), auto.to_owned()));
                } else if !allowed.is_empty() && allowed.len() == choice.listed {
                    splices.push((choice.value.clone(), "\"none\"".to_owned()));
                } else {
                    splices.extend(removals(body, allowed));
                }
            }
            splices.extend(removals(body, elements));
        }
        members
    }
}

#[cfg(test)]
mod tests {
    use super::super::chat;
    use super::super::edit::{Edits, edit};
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn without(body: &str, drop_tools: &[&str]) -> String {
        let body = Bytes::from(body.to_owned());
        let request = chat::read(&body).unwrap();
        String::from_utf8(edit(&body, &request, &Edits { drop_tools, ..Edits::default() }).to_vec()).unwrap()
    }

    #[track_caller]
    fn check(body: &str, expected: &str) {
        assert_eq!(without(body, &["web_search", "mcp"]), expected);
    }

    #[test]
    fn a_tool_goes_with_its_comma_and_the_others_stay_as_they_are() {
        check(
            r#"{"messages":[],"tools":[ {"type":"web_search"} , {"type":"function","function":{"name":"f"}}]}"#,
            r#"{"messages":[],"tools":[  {"type":"function","function":{"name":"f"}}]}"#,
        );
        check(
            r#"{"messages":[],"tools":[{"type":"function","function":{"name":"f"}} , {"type":"web_search"} ]}"#,
            r#"{"messages":[],"tools":[{"type":"function","function":{"name":"f"}}  ]}"#,
        );
        check(
            r#"{"messages":[],"tools":[{"type":"mcp"},{"type":"web_search"},{"type":"x"},{"type":"mcp"},{"type":"y"},{"type":"mcp"},{"type":"mcp"}]}"#,
            r#"{"messages":[],"tools":[{"type":"x"},{"type":"y"}]}"#,
        );
        check(r#"{"messages":[],"tools":[{"type":"other"}]}"#, r#"{"messages":[],"tools":[{"type":"other"}]}"#);
    }

    #[test]
    fn with_the_last_tool_the_list_goes_and_what_is_refused_without_it() {
        check(r#"{"tools":[{"type":"web_search"}],"messages":[]}"#, r#"{"messages":[]}"#);
        check(
            r#"{"model":"m", "tools":[{"type":"web_search"},{"type":"mcp"}], "tool_choice":"auto" , "messages":[],"parallel_tool_calls":true}"#,
            r#"{"model":"m",  "messages":[]}"#,
        );
        // Where others are left, a choice of the one that goes is left to the model.
        check(
            r#"{"messages":[],"tool_choice":{"type":"web_search"},"tools":[{"type":"web_search"},{"type":"x"}],"parallel_tool_calls":true}"#,
            r#"{"messages":[],"tool_choice":"auto","tools":[{"type":"x"}],"parallel_tool_calls":true}"#,
        );
        check(
            r#"{"messages":[],"tool_choice":{"type":"function","name":"f"},"tools":[{"type":"web_search"},{"type":"x"}]}"#,
            r#"{"messages":[],"tool_choice":{"type":"function","name":"f"},"tools":[{"type":"x"}]}"#,
        );
    }

    #[test]
    fn a_choice_of_a_function_stays_whatever_its_name() {
        check(
            r#"{"messages":[],"tool_choice":{"type":"function","name":"mcp"},"tools":[{"type":"mcp"},{"type":"x"}]}"#,
            r#"{"messages":[],"tool_choice":{"type":"function","name":"mcp"},"tools":[{"type":"x"}]}"#,
        );
        check(
            r#"{"messages":[],"tool_choice":{"type":"mcp","name":"x","server_label":"s"},"tools":[{"type":"mcp"},{"type":"x"}]}"#,
            r#"{"messages":[],"tool_choice":"auto","tools":[{"type":"x"}]}"#,
        );
    }

    /// The client's own list stays one: `auto` would allow tools that it did not.
    #[test]
    fn a_tool_goes_from_the_tools_that_are_allowed_too() {
        let row = |allowed: &str, left: &str| {
            let body = |choice: &str, tools: &str| format!(r#"{{"messages":[],"tool_choice":{choice},"tools":[{tools}]}}"#);
            check(&body(allowed, r#"{"type":"mcp"},{"type":"x"},{"type":"web_search"}"#), &body(left, r#"{"type":"x"}"#));
        };
        row(
            r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"mcp"},{"type":"mcp","server_label":"s"} , {"type":"web_search"}]}"#,
            r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"mcp"}]}"#,
        );
        // Chat's form.
        row(
            r#"{"allowed_tools":{"tools":[{"type":"mcp"},{"type":"x"}],"mode":"required"},"type":"allowed_tools"}"#,
            r#"{"allowed_tools":{"tools":[{"type":"x"}],"mode":"required"},"type":"allowed_tools"}"#,
        );
        row(
            r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"x"}]}"#,
            r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"x"}]}"#,
        );
        // None of those that it allows is left.
        row(r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"mcp"},{"type":"web_search"}]}"#, r#""none""#);
    }

    #[test]
    fn a_member_that_asks_for_a_tool_goes_whole() {
        check(r#"{"messages":[],"web_search_options":{"user_location":{"a":[1]}}}"#, r#"{"messages":[]}"#);
        check(r#"{ "web_search_options" : {} , "messages":[]}"#, r#"{  "messages":[]}"#);
    }

    #[test]
    fn other_edits_stand_beside() {
        let body = Bytes::from_static(br#"{"tools":[{"type":"mcp"}],"max_tokens":9,"max_completion_tokens":5,"messages":[]}"#);
        let request = chat::read(&body).unwrap();
        let max_tokens = Some((super::super::edit::LimitField::MaxTokens, 7));
        let edits = Edits { model: Some("m"), max_tokens, drop_tools: &["mcp"], ..Edits::default() };
        assert_eq!(edit(&body, &request, &edits), r#"{"model":"m","max_tokens":7,"messages":[]}"#);
        // A limit that goes and the tools behind it have one comma between them and what is left.
        let body = Bytes::from_static(br#"{"messages":[],"max_tokens":9,"max_completion_tokens":5,"tools":[{"type":"mcp"}]}"#);
        let request = chat::read(&body).unwrap();
        assert_eq!(edit(&body, &request, &edits), r#"{"model":"m","messages":[],"max_tokens":7}"#);
        // The other way round, behind what stays.
        let body = Bytes::from_static(br#"{"model":"m","max_tokens":9,"messages":[],"tools":[{"type":"mcp"}],"max_completion_tokens":5}"#);
        let request = chat::read(&body).unwrap();
        assert_eq!(edit(&body, &request, &edits), r#"{"model":"m","max_tokens":7,"messages":[]}"#);
    }

    #[test]
    fn where_nothing_is_left_no_comma_is() {
        let edits = Edits { model: Some("m"), drop_tools: &["plugins", "web_search"], ..Edits::default() };
        for body in [r#"{"plugins":[{}]}"#, r#"{ "plugins":[{}] , "web_search_options":{} }"#] {
            let body = Bytes::from_static(body.as_bytes());
            let request = super::super::completions::read(&body).unwrap();
            let edited = edit(&body, &request, &edits);
            assert_eq!(serde_json::from_slice::<Value>(&edited).unwrap(), json!({"model": "m"}));
        }
    }

    fn request() -> impl Strategy<Value = Vec<(String, Value)>> {
        let kinds = prop::sample::select(vec!["web_search", "mcp", "file_search"]);
        let tool = prop_oneof![
            kinds.clone().prop_map(|kind| json!({"type": kind, "x": [1, {"type": "mcp"}]})),
            Just(json!({"type": "function", "function": {"name": "f"}}))
        ];
        let tools = prop::option::of(prop::collection::vec(tool, 0..5));
        let choice = prop_oneof![Just(None), Just(Some(json!("required"))), kinds.prop_map(|kind| Some(json!({"type": kind})))];
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        (tools, choice, flags).prop_flat_map(|(tools, choice, (parallel, search, other))| {
            let mut members = vec![("messages".to_owned(), json!([{"role": "user", "content": ", ] }"}]))];
            members.extend(tools.map(|tools| ("tools".to_owned(), Value::from(tools))));
            members.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
            members.extend(parallel.then(|| ("parallel_tool_calls".to_owned(), json!(false))));
            members.extend(search.then(|| ("web_search_options".to_owned(), json!({}))));
            members.extend(other.then(|| ("seed".to_owned(), json!(1))));
            Just(members).prop_shuffle()
        })
    }

    /// What shall be left, said with a map.
    fn expect(mut object: Map<String, Value>, gone: &[&str]) -> Map<String, Value> {
        let goes = |value: &Value| value.get("type").and_then(Value::as_str).is_some_and(|kind| gone.contains(&kind));
        if gone.contains(&"web_search") {
            object.remove("web_search_options");
        }
        let Some(tools) = object.get_mut("tools").and_then(Value::as_array_mut) else { return object };
        let before = tools.len();
        tools.retain(|tool| !goes(tool));
        if tools.is_empty() && before > 0 {
            ["tools", "tool_choice", "parallel_tool_calls"].into_iter().for_each(|name| drop(object.remove(name)));
        } else if object.get("tool_choice").is_some_and(goes) {
            object.insert("tool_choice".to_owned(), json!("auto"));
        }
        object
    }

    proptest! {
        #[test]
        fn what_is_left_is_the_request_without_its_tools(
            members in request(),
            gone in prop::sample::subsequence(vec!["web_search", "mcp", "file_search"], 0..=3),
            spaces in "[ \n\t]{0,2}",
        ) {
            let written: Vec<String> = members.iter().map(|(name, value)| format!("{spaces}\"{name}\"{spaces}:{spaces}{value}{spaces}")).collect();
            let body = format!("{{{}}}", written.join(","));
            let object: Map<String, Value> = serde_json::from_str(&body).unwrap();
            let left: Map<String, Value> = serde_json::from_str(&without(&body, &gone)).unwrap();
            // A choice of a tool that no list has is the client's own mistake, and is left to the provider.
            let has_list = object.contains_key("tools");
            let mut expected = expect(object, &gone);
            if !has_list && let Some(choice) = left.get("tool_choice") {
                expected.insert("tool_choice".to_owned(), choice.clone());
            }
            prop_assert_eq!(left, expected);
        }
    }
}
