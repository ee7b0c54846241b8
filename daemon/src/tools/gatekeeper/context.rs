//! Resources and prompts of servers. They are under the same law as tools: to read one is weighed, recorded and charged as a call of a tool
//! that is named `resources/read` or `prompts/get`, which rules can mean like any other.

use super::attended::Attended;
use super::{Gatekeeper, Input, ToolName, Unmade, result_text, who};
use crate::gate::{Entered, Evidence};
use crate::ledger::AccountView;
use crate::tools::supervisor::{Listing, Progress};
use aex_core::decision::Denial;
use rmcp::model::{
    ClientRequest, GetPromptRequest, GetPromptRequestParams, JsonObject, ListPromptsRequest, ListResourceTemplatesRequest,
    ListResourcesRequest, PaginatedRequestParams, Prompt, ReadResourceRequest, ReadResourceRequestParams, Resource, ResourceTemplate,
    ServerResult,
};
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// The tool that reading a resource counts as; its argument is `uri`.
pub const READ_RESOURCE: &str = "resources/read";
/// The tool that getting a prompt counts as; its arguments are `name` and `arguments`.
pub const GET_PROMPT: &str = "prompts/get";

/// Pages of a server's list at most.
const MAX_PAGES: usize = 50;
/// Entries of a server's list at most; more are left out.
const MAX_ENTRIES: usize = 1_000;

/// A page of a list, and where the next one begins.
type Page<T> = (Vec<T>, Option<String>);

/// A list that servers have.
struct List<T> {
    /// The tool that an entry's use counts as.
    tool: &'static str,
    has: fn(&Listing) -> bool,
    ask: fn(PaginatedRequestParams) -> ClientRequest,
    read: fn(ServerResult) -> Option<Page<T>>,
}

const RESOURCES: List<Resource> = List {
    tool: READ_RESOURCE,
    has: |listing| listing.has_resources,
    ask: |params| {
        let (method, extensions) = Default::default();
        ClientRequest::ListResourcesRequest(ListResourcesRequest { method, params: Some(params), extensions })
    },
    read: |answer| match answer {
        ServerResult::ListResourcesResult(page) => Some((page.resources, page.next_cursor)),
        _ => None,
    },
};

const TEMPLATES: List<ResourceTemplate> = List {
    tool: READ_RESOURCE,
    has: |listing| listing.has_resources,
    ask: |params| {
        let (method, extensions) = Default::default();
        ClientRequest::ListResourceTemplatesRequest(ListResourceTemplatesRequest { method, params: Some(params), extensions })
    },
    read: |answer| match answer {
        ServerResult::ListResourceTemplatesResult(page) => Some((page.resource_templates, page.next_cursor)),
        _ => None,
    },
};

const PROMPTS: List<Prompt> = List {
    tool: GET_PROMPT,
    has: |listing| listing.has_prompts,
    ask: |params| {
        let (method, extensions) = Default::default();
        ClientRequest::ListPromptsRequest(ListPromptsRequest { method, params: Some(params), extensions })
    },
    read: |answer| match answer {
        ServerResult::ListPromptsResult(page) => Some((page.prompts, page.next_cursor)),
        _ => None,
    },
};

impl Gatekeeper {
    /// The resources that an account may read, with their servers, in one order. Servers that do not tell theirs are left out.
    pub async fn resources(&self, view: &AccountView) -> Vec<(String, Resource)> {
        let mut all = self.entries(view, RESOURCES).await;
        all.sort_by(|one, other| (&one.0, &one.1.uri).cmp(&(&other.0, &other.1.uri)));
        all
    }

    /// The patterns of resources that an account may read.
    pub async fn resource_templates(&self, view: &AccountView) -> Vec<(String, ResourceTemplate)> {
        let mut all = self.entries(view, TEMPLATES).await;
        all.sort_by(|one, other| (&one.0, &one.1.uri_template).cmp(&(&other.0, &other.1.uri_template)));
        all
    }

    /// The prompts that an account may get, by their names for agents. Of two of one name neither is told.
    pub async fn prompts(&self, view: &AccountView) -> Vec<(String, Prompt)> {
        let wire = |(server, prompt): (String, Prompt)| Some((ToolName::new(&server, &prompt.name).ok()?.wire(), prompt));
        let mut all: Vec<(String, Prompt)> = self.entries(view, PROMPTS).await.into_iter().filter_map(wire).collect();
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let twice: Vec<String> = all.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0.clone()).collect();
        all.retain(|(wire, _)| !twice.contains(wire));
        all
    }

    /// Reads a resource of a server.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn read_resource(
        &self,
        entered: Entered,
        server: &str,
        params: ReadResourceRequestParams,
        progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<ServerResult, Unmade> {
        let arguments = JsonObject::from_iter([("uri".to_owned(), Value::from(params.uri.as_str()))]);
        let input = Input::of(params.input_responses.clone(), params.request_state.clone());
        let request = ClientRequest::ReadResourceRequest(ReadResourceRequest::new(params));
        self.asked(entered, (server, READ_RESOURCE), (arguments, input), request, progress).await
    }

    /// Gets a prompt by its name for agents: its server, and the answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn get_prompt(
        &self,
        entered: Entered,
        mut params: GetPromptRequestParams,
        progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<(String, ServerResult), Unmade> {
        let Some(name) = self.prompt_meant(&entered.view, &params.name).await else {
            return Err(self.unknown(&entered, &params.name));
        };
        let mut arguments = JsonObject::from_iter([("name".to_owned(), Value::from(name.tool.as_str()))]);
        arguments.extend(params.arguments.clone().map(|told| ("arguments".to_owned(), Value::Object(told))));
        params.name.clone_from(&name.tool);
        let input = Input::of(params.input_responses.clone(), params.request_state.clone());
        let request = ClientRequest::GetPromptRequest(GetPromptRequest::new(params));
        let answer = self.asked(entered, (&name.server, GET_PROMPT), (arguments, input), request, progress).await?;
        Ok((name.server, answer))
    }

    async fn asked(
        &self,
        entered: Entered,
        (server, tool): (&str, &'static str),
        (arguments, input): (JsonObject, Option<Input>),
        request: ClientRequest,
        progress: Option<mpsc::Sender<Progress>>,
    ) -> Result<ServerResult, Unmade> {
        let configured = self.tools.servers().into_iter().find(|known| known.name == server);
        let name = ToolName::new(server, tool).ok();
        let (Some(server), Some(name)) = (configured, name) else { return Err(self.unknown(&entered, server)) };
        let (keeper, id) = (self.clone(), entered.request);
        let asking = |left: oneshot::Receiver<()>| async move {
            let mut call = Attended::new(&keeper, entered, left);
            let mut meant = keeper.described(&call, (name.to_string(), server, name), arguments, input)?;
            meant.is_listed = false;
            let cleared = keeper.cleared(&mut call, &mut meant).await?;
            let (account, name) = (call.view.named.id, meant.wanted.name);
            let answer =
                keeper.sent(call, cleared, |entry| entry.request(request, progress), |answer| (result_text(answer), false)).await?;
            if let ServerResult::InputRequiredResult(wanted) = &answer {
                keeper.asks.asked(account, &name, wanted);
            }
            Ok(answer)
        };
        self.apart(id, asking).await
    }

    fn unknown(&self, entered: &Entered, tool: &str) -> Unmade {
        let denial = Denial::UnknownTool { tool: tool.to_owned() };
        self.gate.refused(entered.request, Some(&entered.view), &denial, Evidence::default());
        Unmade::Denied(denial)
    }

    /// The prompt that a name for agents means.
    async fn prompt_meant(&self, view: &AccountView, wire: &str) -> Option<ToolName> {
        let plain = self.tools.servers().into_iter().find_map(|server| {
            let rest = wire.strip_prefix(server.name.as_str())?.strip_prefix("__")?;
            ToolName::new(&server.name, rest).ok().filter(|name| name.wire() == wire)
        });
        // Nearly always it is what stands behind. Of a name that may be a shortened one only the servers' own lists tell.
        if plain.is_some() && !ToolName::may_be_short(wire) {
            return plain;
        }
        let known = self.entries(view, PROMPTS).await;
        let mut known = known.iter().filter_map(|(server, prompt)| ToolName::new(server, &prompt.name).ok());
        known.find(|name| name.wire() == wire).or(plain)
    }

    /// All entries of a list, server by server, of servers whose entries an account may use.
    async fn entries<T: Send + 'static>(&self, view: &AccountView, list: List<T>) -> Vec<(String, T)> {
        let may_pass = self.may_pass(view);
        let List { tool, has, ask, read } = list;
        let mut listing = JoinSet::new();
        for server in self.tools.servers() {
            let Ok(name) = ToolName::new(&server.name, tool) else { continue };
            if !may_pass(&name) || self.tools.is_in_trouble(&server.name, &who(view)) {
                continue;
            }
            let (tools, who) = (self.tools.clone(), who(view));
            listing.spawn(async move {
                let known: Arc<Listing> = tools.list(&server.name, &who).await.ok()?;
                let mut all = Vec::new();
                let mut cursor = None;
                for _ in 0..MAX_PAGES {
                    if !has(&known) {
                        break;
                    }
                    let page = ask(PaginatedRequestParams::default().with_cursor(cursor.clone()));
                    let entry = tools.enter(&server.name, &who).await.ok()?;
                    let (entries, next) = read(entry.request(page, None).await.ok()?)?;
                    all.extend(entries.into_iter().take(MAX_ENTRIES.saturating_sub(all.len())));
                    if next.is_none() || next == cursor {
                        break;
                    }
                    cursor = next;
                }
                Some((server.name.clone(), all))
            });
        }
        let mut all = Vec::new();
        while let Some(listed) = listing.join_next().await {
            if let Ok(Some((server, entries))) = listed {
                all.extend(entries.into_iter().map(|entry| (server.clone(), entry)));
            }
        }
        all
    }
}
