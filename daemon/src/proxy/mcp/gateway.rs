//! The server that an agent sees: lists of what it may use, and calls through the gatekeeper. It lives for one message.

use super::calls::Calls;
use super::{Caller, changes, told, uri};
use crate::gate::{Entered, Evidence};
use crate::tools::gatekeeper::{Gatekeeper, Input, Made, Offered, Unmade, Wanted};
use crate::tools::supervisor::{Answer, Progress};

use rmcp::RoleServer;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, GetPromptRequestParams, GetPromptResponse,
    Implementation, InputRequiredResult, JsonObject, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, RequestId,
    ResultType, ServerCapabilities, ServerConfig, ServerResult, SubscriptionFilter, Tool,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use std::pin::pin;
use tokio::sync::mpsc;

/// How long a client may keep a list, in milliseconds; who listens hears of a change before.
const TTL_MS: u64 = 30_000;
/// Steps of progress that may wait for the client; more are left out.
const STEPS: usize = 64;
/// For models and people.
const INSTRUCTIONS: &str = "Tools of this machine, supervised by aexd. A tool's name begins with that of its server. Each call is checked \
                            against permissions.json; a result that begins with `Error:` says what was refused and what lifts it.";

/// It.
#[derive(Clone)]
pub(super) struct Gateway {
    keeper: Gatekeeper,
    calls: Calls,
}

impl Gateway {
    pub(super) const fn new(keeper: Gatekeeper, calls: Calls) -> Gateway {
        Gateway { keeper, calls }
    }

    /// The caller of a list: nobody whose account is stopped.
    fn lister(&self, context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
        let caller = caller(context)?;
        match &caller.view.stopped {
            None => Ok(caller),
            Some(denial) => {
                self.keeper.gate().refused(caller.to.request, Some(&caller.view), denial, Evidence::default());
                Err(told::of_request(&Unmade::Denied(denial.clone()), caller.to))
            }
        }
    }

    /// Takes a call into the rates.
    fn enter(&self, caller: &Caller) -> Result<Entered, Unmade> {
        let gate = self.keeper.gate();
        gate.enter(Some(&caller.token), caller.peer, caller.to.request).map_err(|refused| {
            gate.refused(caller.to.request, refused.view.as_deref(), &refused.denial, Evidence::default());
            Unmade::Denied(refused.denial)
        })
    }

    /// A call of a tool as its caller wrote it, taken into the rates.
    fn begun(&self, caller: &Caller, params: CallToolRequestParams) -> Result<Begun<'_>, Unmade> {
        let entered = self.enter(caller)?;
        let CallToolRequestParams { name, arguments, input_responses, request_state, .. } = params;
        let input = Input::of(input_responses, request_state);
        Ok(Begun { keeper: &self.keeper, entered, tool: name.into_owned(), arguments: arguments.unwrap_or_default(), input })
    }

    /// A call of a tool that comes without the SDK, and as the SDK would answer it. The call ends when this is dropped.
    pub(super) async fn direct(
        &self,
        caller: &Caller,
        number: &RequestId,
        params: CallToolRequestParams,
        version: &ProtocolVersion,
    ) -> Result<ServerResult, ErrorData> {
        let response = match self.begun(caller, params) {
            Err(unmade) => told::of_call(&unmade, caller.to).map(CallToolResponse::Complete),
            Ok(begun) => {
                let place = self.calls.join(caller.view.named.id, number);
                let tool = begun.tool.clone();
                let made = tokio::select! {
                    biased;
                    () = place.cancelled() => None,
                    made = begun.call(None) => Some(made),
                };
                ended(caller, &tool, made, Some(version))
            }
        };
        let mut result = ServerResult::from(response?);
        if version.has_initialize() {
            result.strip_result_type_for_legacy_peer();
        }
        Ok(result)
    }

    /// Waits for an answer, passes its progress on, and stops when nobody wants it any more: then there is none.
    async fn attended<T>(
        &self,
        caller: &Caller,
        context: &RequestContext<RoleServer>,
        asking: impl FnOnce(Option<mpsc::Sender<Progress>>) -> T,
    ) -> Option<T::Output>
    where
        T: Future,
    {
        let place = self.calls.join(caller.view.named.id, &context.id);
        let token = context.meta.get_progress_token();
        let (to, mut steps) = mpsc::channel::<Progress>(STEPS);
        let tell = async |step: Progress| {
            let Some(token) = token.clone() else { return };
            let mut said = ProgressNotificationParam::new(token, step.progress);
            (said.total, said.message) = (step.total, step.message);
            // A client that has left is noticed by its connection.
            drop(context.peer.notify_progress(said).await);
        };
        let mut answer = pin!(asking(token.is_some().then_some(to)));
        let answer = loop {
            tokio::select! {
                biased;
                () = place.cancelled() => return None,
                () = context.ct.cancelled() => return None,
                Some(step) = steps.recv() => tell(step).await,
                answer = &mut answer => break answer,
            }
        };
        while let Ok(step) = steps.try_recv() {
            tell(step).await;
        }
        Some(answer)
    }
}

/// A call that is about to be made.
struct Begun<'a> {
    keeper: &'a Gatekeeper,
    entered: Entered,
    tool: String,
    arguments: JsonObject,
    input: Option<Input>,
}

impl Begun<'_> {
    async fn call(self, progress: Option<mpsc::Sender<Progress>>) -> Result<Made, Unmade> {
        let Begun { keeper, entered, tool, arguments, input } = self;
        keeper.call(entered, Wanted { tool, arguments, progress, asks: None, input }).await
    }
}

/// What a caller is told of its call; without an outcome it was cancelled.
fn ended(
    caller: &Caller,
    tool: &str,
    made: Option<Result<Made, Unmade>>,
    version: Option<&ProtocolVersion>,
) -> Result<CallToolResponse, ErrorData> {
    match made {
        None => Ok(told::result(&format!("the call of `{tool}` was cancelled. (request {})", caller.to.request)).into()),
        Some(Ok(made)) => match made.answer {
            Answer::Complete(result) => Ok(complete(&made.server, result).into()),
            Answer::InputRequired(wanted) => asked(*wanted, version).map(CallToolResponse::InputRequired),
        },
        Some(Err(unmade)) => told::of_call(&unmade, caller.to).map(CallToolResponse::Complete),
    }
}

impl rmcp::ServerHandler for Gateway {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .build();
        let mut info = ServerConfig::new(capabilities);
        info.server_info = Implementation::new("aexd", env!("CARGO_PKG_VERSION"));
        info.instructions = Some(INSTRUCTIONS.to_owned());
        info
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = self.lister(&context)?;
        let tools = self.keeper.offered(&caller.view).await.into_iter().map(shown).collect();
        Ok(ListToolsResult { ttl_ms: Some(TTL_MS), cache_scope: Some(CacheScope::Private), ..ListToolsResult::with_all_items(tools) })
    }

    async fn call_tool(&self, params: CallToolRequestParams, context: RequestContext<RoleServer>) -> Result<CallToolResponse, ErrorData> {
        let caller = caller(&context)?;
        let make = match self.begun(&caller, params) {
            Ok(make) => make,
            Err(unmade) => return told::of_call(&unmade, caller.to).map(CallToolResponse::Complete),
        };
        let tool = make.tool.clone();
        let made = self.attended(&caller, &context, |progress| make.call(progress)).await;
        ended(&caller, &tool, made, context.protocol_version().as_ref())
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let caller = self.lister(&context)?;
        let mut resources = Vec::new();
        for (server, mut resource) in self.keeper.resources(&caller.view).await {
            resource.uri = uri::of(&server, &resource.uri);
            resource.title = Some(titled(&server, resource.title.as_deref().unwrap_or(&resource.name)));
            resources.push(resource);
        }
        let all = ListResourcesResult::with_all_items(resources);
        Ok(ListResourcesResult { ttl_ms: Some(TTL_MS), cache_scope: Some(CacheScope::Private), ..all })
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let caller = self.lister(&context)?;
        let mut templates = Vec::new();
        for (server, mut template) in self.keeper.resource_templates(&caller.view).await {
            template.uri_template = uri::of(&server, &template.uri_template);
            template.title = Some(titled(&server, template.title.as_deref().unwrap_or(&template.name)));
            templates.push(template);
        }
        let all = ListResourceTemplatesResult::with_all_items(templates);
        Ok(ListResourceTemplatesResult { ttl_ms: Some(TTL_MS), cache_scope: Some(CacheScope::Private), ..all })
    }

    async fn read_resource(
        &self,
        mut params: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = caller(&context)?;
        let refused = |unmade: &Unmade| told::of_request(unmade, caller.to);
        let entered = self.enter(&caller).map_err(|unmade| refused(&unmade))?;
        let Some((server, own)) = uri::read(&params.uri) else {
            let message = format!("`{}` is no resource here: those have URIs such as aex://SERVER/URI", params.uri);
            return Err(ErrorData::resource_not_found(message, None));
        };
        let (server, own) = (server.to_owned(), own.to_owned());
        (params.uri, params.meta) = (own, None);
        let read = |progress| self.keeper.read_resource(entered, &server, params, progress);
        match self.attended(&caller, &context, read).await.ok_or_else(cancelled)? {
            Ok(ServerResult::ReadResourceResult(mut read)) => {
                read.result_type.get_or_insert(ResultType::COMPLETE);
                (read.ttl_ms, read.cache_scope) = (Some(0), Some(CacheScope::Private));
                read.contents.iter_mut().for_each(|contents| uri::map_contents(&server, contents));
                Ok(read.into())
            }
            Ok(ServerResult::InputRequiredResult(wanted)) => {
                asked(wanted, context.protocol_version().as_ref()).map(ReadResourceResponse::InputRequired)
            }
            Ok(_) => Err(ErrorData::internal_error(format!("the tool server `{server}` answered with something else"), None)),
            Err(unmade) => Err(refused(&unmade)),
        }
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let caller = self.lister(&context)?;
        let mut prompts = Vec::new();
        for (name, mut prompt) in self.keeper.prompts(&caller.view).await {
            prompt.title.get_or_insert(prompt.name);
            prompt.name = name;
            prompts.push(prompt);
        }
        let all = ListPromptsResult::with_all_items(prompts);
        Ok(ListPromptsResult { ttl_ms: Some(TTL_MS), cache_scope: Some(CacheScope::Private), ..all })
    }

    async fn get_prompt(
        &self,
        mut params: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let caller = caller(&context)?;
        let refused = |unmade: &Unmade| told::of_request(unmade, caller.to);
        let entered = self.enter(&caller).map_err(|unmade| refused(&unmade))?;
        params.meta = None;
        let get = |progress| self.keeper.get_prompt(entered, params, progress);
        let (server, answer) = self.attended(&caller, &context, get).await.ok_or_else(cancelled)?.map_err(|unmade| refused(&unmade))?;
        match answer {
            ServerResult::GetPromptResult(mut prompt) => {
                prompt.result_type.get_or_insert(ResultType::COMPLETE);
                prompt.messages.iter_mut().for_each(|message| uri::map_block(&server, &mut message.content));
                Ok(prompt.into())
            }
            ServerResult::InputRequiredResult(wanted) => {
                asked(wanted, context.protocol_version().as_ref()).map(GetPromptResponse::InputRequired)
            }
            _ => Err(ErrorData::internal_error(format!("the tool server `{server}` answered with something else"), None)),
        }
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        // Single resources are not followed.
        let mut filter = SubscriptionFilter::new();
        filter.tools_list_changed = requested.tools_list_changed;
        filter.prompts_list_changed = requested.prompts_list_changed;
        filter.resources_list_changed = requested.resources_list_changed;
        Some(filter)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let caller = caller(context.request_context())?;
        let mut seen = self.keeper.tools().changed();
        let (sink, accepted) = (context.sink(), context.accepted());
        let wants = |list: Option<bool>| list == Some(true);
        loop {
            let is_told = tokio::select! {
                () = context.cancelled() => return Ok(()),
                is_told = changes::next(self.keeper.gate(), &caller, &mut seen) => is_told,
            };
            if !is_told {
                return Ok(());
            }
            let mut told = Ok(());
            if wants(accepted.tools_list_changed) {
                told = told.and(sink.notify_tool_list_changed().await);
            }
            if wants(accepted.prompts_list_changed) {
                told = told.and(sink.notify_prompt_list_changed().await);
            }
            if wants(accepted.resources_list_changed) {
                told = told.and(sink.notify_resource_list_changed().await);
            }
            if told.is_err() {
                return Ok(());
            }
        }
    }
}

/// Who sent the message: the edge has said so.
fn caller(context: &RequestContext<RoleServer>) -> Result<Caller, ErrorData> {
    let parts = context.extensions.get::<axum::http::request::Parts>();
    let caller = parts.and_then(|parts| parts.extensions.get::<Caller>()).cloned();
    caller.ok_or_else(|| ErrorData::internal_error("nobody knows who asks", None))
}

fn cancelled() -> ErrorData {
    ErrorData::new(super::REFUSED, "Error: the request was cancelled.", None)
}

/// A tool under its name for agents.
fn shown(offered: Offered) -> Tool {
    let Offered { wire, name, mut tool } = offered;
    let own = tool.annotations.as_ref().and_then(|annotations| annotations.title.as_deref());
    let title = titled(&name.server, tool.title.as_deref().or(own).unwrap_or(&name.tool));
    if let Some(annotations) = tool.annotations.as_mut().filter(|annotations| annotations.title.is_some()) {
        annotations.title = Some(title.clone());
    }
    tool.title = Some(title);
    tool.name = wire.into();
    tool
}

fn titled(server: &str, own: &str) -> String {
    format!("{server}: {own}")
}

/// A result of a server of any revision, for clients of the newest.
fn complete(server: &str, mut result: CallToolResult) -> CallToolResult {
    result.result_type.get_or_insert(ResultType::COMPLETE);
    result.content.iter_mut().for_each(|block| uri::map_block(server, block));
    result
}

/// Passes on that a server wants input; only one whose configuration lets it ask gets so far. Older clients have no way to give it.
fn asked(wanted: InputRequiredResult, version: Option<&ProtocolVersion>) -> Result<InputRequiredResult, ErrorData> {
    if version.is_some_and(|version| !version.has_initialize()) {
        return Ok(wanted);
    }
    let message = "Error: the tool asks for input, which clients before revision 2026-07-28 cannot give.";
    Err(ErrorData::new(super::REFUSED, message, None))
}
