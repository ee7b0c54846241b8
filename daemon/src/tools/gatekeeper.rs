//! The one way to a tool: whoever calls, and by whichever protocol, a call comes through here.
//!
//! Nothing reaches a server before the gate has weighed the call, and nothing of its result is shown before the gate lets it. A call has a
//! task of its own, which ends it in the ledger whatever becomes of its caller. Must not: know HTTP or JSON-RPC.

mod asks;
mod attended;
mod consent;
mod context;
mod lasting;
mod meant;
mod owners;
mod pinned;
mod sent;

pub use asks::Input;
pub use context::{GET_PROMPT, READ_RESOURCE};

use super::approvals::Approvals;
use super::fault::ToolFault;
use super::open;
use super::pins::Pins;
use super::resolve::Bases;
use super::server::Server;
use super::supervisor::{self, Answer, Asked, Call, Progress, Tools};
use crate::gate::{Active, Entered, Gate, ToolGuard, ToolWanted, ToolsDone};
use crate::ledger::{AccountView, LedgerFault};
use aex_core::books::AccountKind;
use aex_core::decision::Denial;
use aex_core::event::By;
use aex_core::tool::{self, Arguments, Caller, Effect, ToolName};
use aex_proto::value::RequestId;
use attended::Attended;
use consent::Judged;
use meant::Meaning;
use rmcp::model::{JsonObject, Tool};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// A handle on it. Clones share it.
#[derive(Clone)]
pub struct Gatekeeper {
    gate: Gate,
    tools: Tools,
    approvals: Approvals,
    pins: Pins,
    asks: asks::Asks,
    /// The home of the daemon's user: rules' folders may begin with `~/`.
    user_home: Option<PathBuf>,
}

/// A tool that an agent may call, with some arguments at least.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Its name for agents.
    pub wire: String,
    /// Its own.
    pub name: ToolName,
    /// What its server says of it.
    pub tool: Tool,
}

/// A call as it is asked for.
#[derive(Debug)]
pub struct Wanted {
    /// The tool: its name for agents, `SERVER.TOOL`, or its bare name (without `.` and `__`) where the account may call
    /// such a tool of one server alone.
    pub tool: String,
    /// Its arguments.
    pub arguments: JsonObject,
    /// Where progress goes.
    pub progress: Option<mpsc::Sender<Progress>>,
    /// Where the server's questions go; without it they are denied.
    pub asks: Option<mpsc::Sender<Asked>>,
    /// What it answers to questions of the server in an earlier try.
    pub input: Option<Input>,
}

/// What a call came to.
#[derive(Debug)]
pub struct Made {
    /// The server that answered.
    pub server: String,
    /// Its answer.
    pub answer: Answer,
}

/// A call of a tool that is known by its name at least.
struct Meant {
    /// The tool, as the caller wrote it.
    asked: String,
    server: Arc<Server>,
    wanted: ToolWanted,
    /// What it answers to questions of the server.
    input: Option<Input>,
    /// Whether its server has to list it: what only counts as a tool is not listed.
    is_listed: bool,
}

impl Meant {
    fn unknown(&self) -> Denial {
        Denial::UnknownTool { tool: self.asked.clone() }
    }
}

/// Why a call gave no result.
#[derive(Debug)]
pub enum Unmade {
    /// It is refused; the refusal is recorded.
    Denied(Denial),
    /// It was let through, and its server gave none.
    Failed(ToolFault),
    /// The ledger cannot commit: nothing is let through.
    Unrecorded(LedgerFault),
}

impl From<LedgerFault> for Unmade {
    fn from(fault: LedgerFault) -> Unmade {
        Unmade::Unrecorded(fault)
    }
}

impl Gatekeeper {
    /// Over the gate and the servers.
    #[must_use]
    pub fn new(gate: Gate, tools: Tools, (approvals, pins): (Approvals, Pins), user_home: Option<PathBuf>) -> Gatekeeper {
        Gatekeeper { gate, tools, approvals, pins, asks: asks::Asks::default(), user_home }
    }

    /// The servers.
    #[must_use]
    pub const fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The calls that wait for a person.
    #[must_use]
    pub const fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// The gate.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The home of the daemon's user.
    #[must_use]
    pub fn user_home(&self) -> Option<&Path> {
        self.user_home.as_deref()
    }

    /// Reads the configuration anew and puts it in force whole, its servers with it; a bad one leaves the old one in force.
    ///
    /// # Errors
    /// All that is wrong with the new one, as text.
    pub async fn reload(&self, by: Option<By>) -> Result<Arc<Active>, String> {
        let active = self.gate.reload(by).await?;
        self.load_approvals().await;
        self.pins.mend().await;
        self.follow(active)
    }

    /// The same, after somebody changed mcp.json on the control socket.
    ///
    /// # Errors
    /// All that is wrong with the new one, as text.
    pub async fn reload_tools(&self, by: By, done: ToolsDone) -> Result<Arc<Active>, String> {
        self.follow(self.gate.reload_tools(by, done).await?)
    }

    fn follow(&self, active: Arc<Active>) -> Result<Arc<Active>, String> {
        self.tools.replace(open::servers(&active)).map_err(|fault| format!("the tool servers cannot be started: {fault}"))?;
        Ok(active)
    }

    /// Where paths begin in an account's calls of a server; of one that is not there, relative ones lead nowhere.
    #[must_use]
    pub fn bases(&self, server: Option<&Server>, view: &AccountView) -> Bases {
        Bases { cwd: server.map(|server| self.tools.cwd(server, &who(view))), home: self.user_home.clone() }
    }

    /// Tells the servers of which an account may call a tool.
    fn may_use(&self, view: &AccountView) -> impl Fn(&str) -> bool + use<> {
        let (active, caller) = (self.gate.active(), caller(view));
        let has_tools = active.policy_of(view).is_ok_and(|policy| policy.effective.fields.allow_tools);
        move |server| has_tools && active.permissions.permissions.may_use(&caller, server)
    }

    /// Tells the tools that an account may call with some arguments at least.
    fn may_pass(&self, view: &AccountView) -> impl Fn(&ToolName) -> bool + use<> {
        let (active, caller) = (self.gate.active(), caller(view));
        let policy = active.policy_of(view).ok();
        move |name| {
            let is_capable = policy.as_ref().is_some_and(|policy| tool::is_capable(&policy.effective.fields, name));
            is_capable && active.permissions.permissions.may_pass(&caller, name)
        }
    }

    /// The tools that an account may call, by their names. Servers that do not start are left out; their state tells why.
    pub async fn offered(&self, view: &AccountView) -> Vec<Offered> {
        let may_pass = self.may_pass(view);
        let mut offered = Vec::new();
        for (server, listing) in self.listings(view).await {
            for tool in &listing.tools {
                let Ok(name) = ToolName::new(&server.name, &tool.name) else { continue };
                if may_pass(&name) {
                    offered.push(Offered { wire: name.wire(), name, tool: tool.clone() });
                }
            }
        }
        offered.sort_by(|one, other| (&one.wire, &one.name).cmp(&(&other.wire, &other.name)));
        // Of two tools of one name neither is offered: nobody could say which is meant.
        let twice: Vec<String> = offered.windows(2).filter(|pair| pair[0].wire == pair[1].wire).map(|pair| pair[0].wire.clone()).collect();
        offered.retain(|offer| !twice.contains(&offer.wire));
        offered
    }

    /// Makes a call. Dropped before its end, the call is cancelled at its server, and costs what it costs.
    ///
    /// # Errors
    /// Why there is no result.
    pub async fn call(&self, entered: Entered, wanted: Wanted) -> Result<Made, Unmade> {
        let (keeper, request) = (self.clone(), entered.request);
        self.apart(request, |left| async move { keeper.made(entered, wanted, left).await }).await
    }

    /// Runs a call in a task of its own. `left` closes when this future is dropped.
    async fn apart<T, Made>(&self, request: RequestId, making: impl FnOnce(oneshot::Receiver<()>) -> Made) -> Result<T, Unmade>
    where
        T: Send + 'static,
        Made: Future<Output = Result<T, Unmade>> + Send + 'static,
    {
        let guard = ToolGuard::new(&self.gate, request);
        // Dropped with this future: the caller has left.
        let (_caller, left) = oneshot::channel::<()>();
        let making = making(left);
        let made = tokio::spawn(async move {
            let made = making.await;
            guard.done();
            made
        });
        match made.await {
            Ok(made) => made,
            Err(_) => Err(Unmade::Failed(ToolFault::Unavailable { why: "the call was lost within the daemon".to_owned() })),
        }
    }

    async fn made(&self, entered: Entered, wanted: Wanted, left: oneshot::Receiver<()>) -> Result<Made, Unmade> {
        let mut call = Attended::new(self, entered, left);
        let Wanted { tool, arguments, progress, asks, input } = wanted;
        let view = Arc::clone(&call.view);
        // What is meant, as far as names tell: nothing is started for a call that the permissions deny.
        let (meaning, _) = call.wait_on(self.meant(&view, &tool)).await?;
        let mut meant = match meaning {
            Meaning::Tool(server, name) => self.described(&call, (tool, server, name), arguments, input)?,
            Meaning::Disabled(server, name) => {
                let fault = ToolFault::Disabled { server: server.name.clone() };
                let mut meant = self.described(&call, (tool.clone(), server, name), arguments, input)?;
                self.judged(&call, &mut meant).await?;
                drop(call.refused(&Denial::UnknownTool { tool }));
                return Err(Unmade::Failed(fault));
            }
            Meaning::Nothing(denied) => {
                if let Some((server, name)) = denied {
                    let mut meant = self.described(&call, (tool.clone(), server, name), arguments, input)?;
                    self.judged(&call, &mut meant).await?;
                }
                return Err(call.refused(&Denial::UnknownTool { tool }));
            }
        };
        let cleared = self.cleared(&mut call, &mut meant).await?;
        let Meant { wanted: ToolWanted { name, arguments, .. }, input, .. } = meant;
        let account = call.view.named.id;
        let input = input.map(|input| (input.responses, input.state));
        let asked = Call { tool: name.tool.clone(), arguments: Some(arguments.into_map()), progress, asks, input };
        let told = |answer: &Answer| match answer {
            Answer::Complete(result) => (result_text(result), result.is_error == Some(true)),
            Answer::InputRequired(wanted) => (result_text(wanted.as_ref()), false),
        };
        let answer = self.sent(call, cleared, |entry| entry.call(asked), told).await?;
        if let Answer::InputRequired(wanted) = &answer {
            self.asks.asked(account, &name, wanted);
        }
        Ok(Made { server: name.server, answer })
    }

    /// A call with its arguments checked.
    fn described(
        &self,
        call: &Attended,
        (asked, server, name): (String, Arc<Server>, ToolName),
        arguments: JsonObject,
        input: Option<Input>,
    ) -> Result<Meant, Unmade> {
        let arguments = Arguments::from_map(arguments)
            .map_err(|why| call.refused(&Denial::Malformed { message: why.to_string(), param: Some("arguments".to_owned()) }))?;
        // What its server has to do with it is filled in whenever the call is weighed.
        let bases = self.bases(Some(&server), &call.view);
        let answers = input.as_ref().map(Input::text);
        let wanted = ToolWanted { name, arguments, answers, bases, price: None, log_full: false };
        Ok(Meant { asked, server, wanted, input, is_listed: true })
    }

    /// What the permissions in force say to a call; one that they deny is refused.
    async fn judged(&self, call: &Attended, meant: &mut Meant) -> Result<Judged, Unmade> {
        let Meant { server, wanted, input, .. } = meant;
        if let Some(input) = input {
            let unasked = match server.may_ask.any() {
                false => Some("its configuration does not let it ask"),
                true => (!self.asks.may_answer(call.view.named.id, &wanted.name, input)).then_some("it did not ask for that, or long ago"),
            };
            if let Some(why) = unasked {
                let message = format!("the tool server `{}` takes no such answer for {}: {why}", server.name, wanted.name);
                return Err(call.refused(&Denial::Malformed { message, param: Some("inputResponses".to_owned()) }));
            }
        }
        wanted.bases = self.bases(Some(server), &call.view);
        wanted.price = server.tool_prices.get(&wanted.name.tool).copied().or(server.price);
        wanted.log_full = server.log_full;
        let active = self.gate.active();
        let weighed = self.gate.weigh_tool(&active, &call.view, wanted).await.map_err(|denial| call.refused(&denial))?;
        if weighed.verdict.effect == Effect::Deny {
            return Err(Unmade::Denied(self.gate.refuse_tool(&call.view, call.request, weighed, None)));
        }
        let stated = active.permissions.permissions.asked_by(&weighed.verdict);
        Ok(Judged { weighed, stated })
    }
}

/// Who calls, by the names that rules look at.
fn caller(view: &AccountView) -> Caller {
    Caller { agent: view.agent.name.clone(), groups: view.groups.clone() }
}

/// Who calls, as processes are shared.
fn who(view: &AccountView) -> supervisor::Caller {
    supervisor::Caller { agent: view.agent.id, run: (view.kind == AccountKind::Run).then_some(view.named.id) }
}

/// Maps are written by the order of their keys, so the text is canonical. What a server said as JSON can be said as JSON.
fn result_text(result: &impl Serialize) -> String {
    serde_json::to_value(result).unwrap_or_default().to_string()
}
