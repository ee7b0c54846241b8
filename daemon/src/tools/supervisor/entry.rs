//! A call whose turn has come: it has its place at one process, and asks that one or none.

use super::super::fault::ToolFault;
use super::super::server::{Level, Server};
use super::super::session::{Along, Limits, Listing, cap};
use super::instance::{Instance, Ready, Use};
use super::{Answer, Call, Progress};
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest, ServerResult};
use std::fmt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// It. Its process is ready, or was a moment ago; whoever has it decides whether to ask, and may drop it instead.
pub struct Entry {
    instance: Arc<Instance>,
    ready: Arc<Ready>,
    _turn: OwnedSemaphorePermit,
    _used: Use,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("server", &self.instance.server.name).field("level", &self.ready.level).finish_non_exhaustive()
    }
}

impl Entry {
    pub(super) fn new(instance: Arc<Instance>, ready: Arc<Ready>, turn: OwnedSemaphorePermit, used: Use) -> Entry {
        Entry { instance, ready, _turn: turn, _used: used }
    }

    /// The configuration that its process was started by.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.instance.server
    }

    /// The tools of its process, as they were last read.
    #[must_use]
    pub fn listing(&self) -> Arc<Listing> {
        self.ready.listing()
    }

    /// How its process is confined.
    #[must_use]
    pub fn level(&self) -> Level {
        self.ready.level
    }

    /// Calls a tool. Dropped before its end, the call is cancelled at the server.
    ///
    /// # Errors
    /// Why there is no result; [`ToolFault::is_unsent`] says whether the server has seen the call.
    pub async fn call(self, call: Call) -> Result<Answer, ToolFault> {
        let Call { tool, arguments, progress, asks, input } = call;
        let mut params = CallToolRequestParams::new(tool);
        params.arguments = arguments;
        if let Some((responses, request_state)) = input {
            params.input_responses = responses;
            params.request_state = request_state;
        }
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        match self.ask(request, Along { progress, asks }).await? {
            ServerResult::CallToolResult(result) => Ok(Answer::Complete(cap(result, self.server().bounds.result_bytes))),
            ServerResult::InputRequiredResult(wanted) if self.server().may_ask.any() => Ok(Answer::InputRequired(Box::new(wanted))),
            ServerResult::InputRequiredResult(_) => Err(self.asked()),
            _ => Err(ToolFault::Protocol { server: self.server().name.clone(), detail: "its answer is not that of a call".to_owned() }),
        }
    }

    /// Passes a request for resources, prompts or completions on.
    ///
    /// # Errors
    /// Why there is no answer; a request of another kind is refused.
    pub async fn request(self, request: ClientRequest, progress: Option<mpsc::Sender<Progress>>) -> Result<ServerResult, ToolFault> {
        let is_passed = matches!(
            request,
            ClientRequest::ListResourcesRequest(_)
                | ClientRequest::ListResourceTemplatesRequest(_)
                | ClientRequest::ReadResourceRequest(_)
                | ClientRequest::ListPromptsRequest(_)
                | ClientRequest::GetPromptRequest(_)
                | ClientRequest::CompleteRequest(_)
        );
        if !is_passed {
            let (server, message) = (self.server().name.clone(), format!("`{}` is not passed on", request.method()));
            return Err(ToolFault::Refused { server, code: -32601, message, detail: None });
        }
        match self.ask(request, Along { progress, asks: None }).await? {
            ServerResult::InputRequiredResult(_) if !self.server().may_ask.any() => Err(self.asked()),
            result => Ok(result),
        }
    }

    async fn ask(&self, request: ClientRequest, along: Along) -> Result<ServerResult, ToolFault> {
        self.instance.begun();
        let answer = self.ready.session.request(request, along, Limits::of(&self.server().times)).await;
        if let Err(fault) = &answer {
            self.instance.count(fault);
        }
        answer
    }

    fn asked(&self) -> ToolFault {
        ToolFault::Asked { server: self.server().name.clone(), what: "input" }
    }
}
