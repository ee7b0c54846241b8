//! What a server may ask of its client, and what it tells unasked.

#![expect(deprecated, reason = "sampling and roots are deprecated by revision 2026-07-28, and servers of older ones ask for them")]

use super::super::lock;
use super::super::server::{MayAsk, Server};
use rmcp::model::{
    ClientCapabilities, ClientConfig, CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
    ElicitationCapability, ErrorCode, ErrorData, Implementation, ListRootsResult, ProtocolVersion, SamplingCapability,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot, watch};

/// How often each list of a server has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::tools) struct Changed {
    pub(in crate::tools) tools: u64,
    pub(in crate::tools) prompts: u64,
    pub(in crate::tools) resources: u64,
}

/// What a server asks while a call runs.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To sample from a model.
    Sampling(Box<CreateMessageRequestParams>),
    /// To ask the user.
    Elicitation(Box<ElicitRequestParams>),
}

/// The answer to it.
#[derive(Clone, Debug)]
pub enum AskReply {
    /// What the model said.
    Sampling(Box<CreateMessageResult>),
    /// What the user said.
    Elicitation(Box<ElicitResult>),
}

/// A question and the way back. Dropped unanswered, it is denied.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<AskReply, ErrorData>>,
}

/// The calls that run, and where each takes questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks(Arc<Mutex<Joined>>);

#[derive(Debug, Default)]
struct Joined {
    next: u64,
    open: Vec<(u64, mpsc::Sender<Asked>)>,
}

/// A call's place among them.
#[derive(Debug)]
pub(super) struct Place {
    asks: Asks,
    number: u64,
}

impl Asks {
    pub(super) fn join(&self, to: mpsc::Sender<Asked>) -> Place {
        let mut joined = lock(&self.0);
        joined.next = joined.next.saturating_add(1);
        let number = joined.next;
        joined.open.push((number, to));
        Place { asks: self.clone(), number }
    }

    /// Over stdio a question does not say to which call it belongs: with more than one it could reach the wrong agent.
    fn only(&self) -> Option<mpsc::Sender<Asked>> {
        match lock(&self.0).open.as_slice() {
            [(_, only)] => Some(only.clone()),
            _ => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.asks.0).open.retain(|(number, _)| *number != self.number);
    }
}

/// The client as the server sees it.
pub(in crate::tools) struct Host {
    may_ask: MayAsk,
    changed: watch::Sender<Changed>,
    pub(super) asks: Asks,
}

impl Host {
    pub(super) fn new(server: &Server, changed: watch::Sender<Changed>) -> Host {
        Host { may_ask: server.may_ask, changed, asks: Asks::default() }
    }

    async fn ask(&self, is_allowed: bool, ask: Ask) -> Result<AskReply, ErrorData> {
        let denied = |why: &'static str| ErrorData::new(ErrorCode::METHOD_NOT_FOUND, why, None);
        if !is_allowed {
            return Err(denied("denied: the configuration of this server does not allow it to ask"));
        }
        let to = self.asks.only().ok_or_else(|| denied("denied: there is no single caller that could be asked"))?;
        let (reply, answer) = oneshot::channel();
        let unheard = |_| denied("denied: the caller takes no questions");
        to.try_send(Asked { ask, reply }).map_err(|_| denied("denied: the caller takes no questions"))?;
        answer.await.map_err(unheard)?
    }
}

impl rmcp::ClientHandler for Host {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.sampling = self.may_ask.sampling.then(SamplingCapability::default);
        capabilities.elicitation = self.may_ask.elicitation.then(ElicitationCapability::default);
        let mut info = ClientConfig::new(capabilities, Implementation::new("aexd", env!("CARGO_PKG_VERSION")));
        info.protocol_version = ProtocolVersion::LATEST_WITH_INITIALIZE;
        info
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        match self.ask(self.may_ask.sampling, Ask::Sampling(Box::new(params))).await? {
            AskReply::Sampling(result) => Ok(*result),
            AskReply::Elicitation(_) => Err(ErrorData::internal_error("the caller answered something else", None)),
        }
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        match self.ask(self.may_ask.elicitation, Ask::Elicitation(Box::new(params))).await? {
            AskReply::Elicitation(result) => Ok(*result),
            AskReply::Sampling(_) => Err(ErrorData::internal_error("the caller answered something else", None)),
        }
    }

    async fn list_roots(&self, _context: RequestContext<RoleClient>) -> Result<ListRootsResult, ErrorData> {
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "denied: this client has no roots", None))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.send_modify(|changed| changed.tools = changed.tools.saturating_add(1));
    }

    async fn on_prompt_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.send_modify(|changed| changed.prompts = changed.prompts.saturating_add(1));
    }

    async fn on_resource_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.send_modify(|changed| changed.resources = changed.resources.saturating_add(1));
    }
}
