//! The one way to a tool: whoever calls, and by whichever protocol, a call comes through here.
//!
//! Nothing reaches a server before the gate has weighed the call, and nothing of its result is shown before the gate lets it. A call has a
//! task of its own, which ends it in the ledger whatever becomes of its caller. Must not: know HTTP or JSON-RPC.

mod consent;
mod context;
mod lasting;
mod owners;
mod pinned;

pub use context::{GET_PROMPT, READ_RESOURCE};

use super::approvals::Approvals;
use super::fault::ToolFault;
use super::open;
use super::pins::Pins;
use super::resolve::Bases;
use super::server::Server;
use super::supervisor::{self, Answer, Asked, Call, Progress, Tools};
use crate::gate::{Active, Entered, Evidence, Gate, ToolEnded, ToolGuard, ToolHold, ToolWanted, ToolsDone, Weighed};
use crate::ledger::{AccountView, LedgerFault};
use aex_core::books::AccountKind;
use aex_core::decision::Denial;
use aex_core::event::{By, Outcome};
use aex_core::tool::{self, Arguments, Caller, Consent, Effect, ToolName, ToolResult};
use aex_proto::value::{Digest, RequestId};
use consent::Cleared;
use rmcp::model::{InputResponses, JsonObject, Tool};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// JSON-RPC errors with which a server says that it did nothing: no such method or tool, no valid request or parameters.
const NOTHING_DONE: std::ops::RangeInclusive<i32> = -32602..=-32600;

/// A handle on it. Clones share it.
#[derive(Clone)]
pub struct Gatekeeper {
    gate: Gate,
    tools: Tools,
    approvals: Approvals,
    pins: Pins,
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
    /// The tool: its name for agents, `SERVER.TOOL`, or its bare name where one server alone has such a tool.
    pub tool: String,
    /// Its arguments.
    pub arguments: JsonObject,
    /// Where progress goes.
    pub progress: Option<mpsc::Sender<Progress>>,
    /// Where the server's questions go; without it they are denied.
    pub asks: Option<mpsc::Sender<Asked>>,
    /// What the server asked for in an earlier try, and the state that it gave then.
    pub input: Option<(InputResponses, Option<String>)>,
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
    /// Whether its server has to list it: what only counts as a tool is not listed.
    is_listed: bool,
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
        Gatekeeper { gate, tools, approvals, pins, user_home }
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
        let mut listing = JoinSet::new();
        for server in self.tools.servers() {
            let (keeper, who) = (self.clone(), who(view));
            listing.spawn(async move { (Arc::clone(&server), keeper.listing(&server, &who).await) });
        }
        let mut offered = Vec::new();
        while let Some(listed) = listing.join_next().await {
            let Ok((server, Ok(listing))) = listed else { continue };
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

    async fn made(&self, entered: Entered, wanted: Wanted, mut left: oneshot::Receiver<()>) -> Result<Made, Unmade> {
        let (view, request) = (Arc::clone(&entered.view), entered.request);
        let refused = |denial: Denial| {
            self.gate.refused(request, Some(&view), &denial, Evidence::default());
            Unmade::Denied(denial)
        };
        let Wanted { tool, arguments, progress, asks, input } = wanted;
        // What is meant, as far as names tell: nothing is started for a call that the permissions deny.
        let Some((server, name)) = self.meant(&view, &tool).await else { return Err(refused(Denial::UnknownTool { tool })) };
        let mut meant = self.described(&view, request, (tool, server, name), arguments)?;
        let Cleared { weighed, consent, server } = self.cleared(&view, request, &mut meant, &mut left).await?;
        let hold = self.held(entered, weighed, consent).await?;
        let ToolWanted { name, arguments, .. } = meant.wanted;
        let call = Call {
            server: server.name.clone(),
            caller: who(&view),
            tool: name.tool,
            arguments: Some(arguments.into_map()),
            progress,
            asks,
            input,
        };
        let told = |answer: &Answer| match answer {
            Answer::Complete(result) => (result_text(result), result.is_error == Some(true)),
            Answer::InputRequired(wanted) => (result_text(wanted.as_ref()), false),
        };
        let answer = self.run(hold, &server, &mut left, self.tools.call(call), told).await?;
        Ok(Made { server: name.server, answer })
    }

    /// A call with its arguments checked.
    fn described(
        &self,
        view: &AccountView,
        request: RequestId,
        (asked, server, name): (String, Arc<Server>, ToolName),
        arguments: JsonObject,
    ) -> Result<Meant, Unmade> {
        let arguments = Arguments::from_map(arguments).map_err(|why| {
            let denial = Denial::Malformed { message: why.to_string(), param: Some("arguments".to_owned()) };
            self.gate.refused(request, Some(view), &denial, Evidence::default());
            Unmade::Denied(denial)
        })?;
        let bases = self.bases(Some(&server), view);
        // What its server asks for a call is filled in whenever the call is weighed.
        let wanted = ToolWanted { name, arguments, bases, price: None, log_full: false };
        Ok(Meant { asked, server, wanted, is_listed: true })
    }

    /// What the permissions in force say to a call, and the digest of the rules that ask; one that they deny is refused.
    async fn weighed(&self, view: &AccountView, request: RequestId, meant: &mut Meant) -> Result<(Weighed, Option<Digest>), Unmade> {
        let Meant { server, wanted, .. } = meant;
        wanted.price = server.tool_prices.get(&wanted.name.tool).copied().or(server.price);
        wanted.log_full = server.log_full;
        let active = self.gate.active();
        let weighed = self.gate.weigh_tool(&active, view, wanted).await.map_err(|denial| {
            self.gate.refused(request, Some(view), &denial, Evidence::default());
            Unmade::Denied(denial)
        })?;
        if weighed.verdict.effect == Effect::Deny {
            return Err(Unmade::Denied(self.gate.refuse_tool(view, request, weighed, None)));
        }
        let stated = active.permissions.permissions.asked_by(&weighed.verdict);
        Ok((weighed, stated))
    }

    /// Whether the server has the tool, and it can be offered.
    async fn is_there(&self, view: &AccountView, request: RequestId, meant: &Meant) -> Result<(), Unmade> {
        let name = &meant.wanted.name;
        if !meant.is_listed {
            return Ok(());
        }
        let listing = self.listing(&meant.server, &who(view)).await.map_err(Unmade::Failed)?;
        if listing.tools.iter().any(|tool| tool.name == name.tool) {
            return Ok(());
        }
        let denial = match listing.quarantined.iter().find(|tool| tool.name == name.tool) {
            Some(bad) => Denial::ToolQuarantined { tool: name.to_string(), why: bad.reason.clone() },
            None => Denial::UnknownTool { tool: meant.asked.clone() },
        };
        self.gate.refused(request, Some(view), &denial, Evidence::default());
        Err(Unmade::Denied(denial))
    }

    async fn held(&self, entered: Entered, weighed: Weighed, consent: Option<Consent>) -> Result<ToolHold, Unmade> {
        self.gate.hold_tool(entered, weighed, consent).await?.map_err(Unmade::Denied)
    }

    /// Asks the server, and ends the hold by what comes of it. `told`: an answer as text, and whether it is an error.
    async fn run<T>(
        &self,
        hold: ToolHold,
        server: &Server,
        left: &mut oneshot::Receiver<()>,
        asking: impl Future<Output = Result<T, ToolFault>>,
        told: impl FnOnce(&T) -> (String, bool),
    ) -> Result<T, Unmade> {
        let view = Arc::clone(hold.view());
        let level = self.tools.level(&server.name, &who(&view));
        let made = tokio::select! {
            biased;
            made = asking => made,
            _ = left => {
                self.gate.end_tool(hold, ToolEnded::Broken(Outcome::ClientLeft));
                return Err(Unmade::Failed(ToolFault::Stopped { server: server.name.clone(), why: "its caller has left".to_owned() }));
            }
            () = view.stop.raised() => {
                let denial = self.gate.stopped_within(&view);
                self.gate.end_tool(hold, ToolEnded::Broken(Outcome::Stopped));
                return Err(Unmade::Denied(denial));
            }
        };
        let answer = match made {
            Ok(answer) => answer,
            Err(fault) => {
                self.gate.end_tool(hold, ended(&fault));
                return Err(Unmade::Failed(fault));
            }
        };
        if let Err(fault) = self.gate.may_show(&hold).await {
            self.gate.end_tool(hold, ToolEnded::Broken(Outcome::ProviderFailed));
            return Err(Unmade::Unrecorded(fault));
        }
        let (text, is_error) = told(&answer);
        let result = ToolResult {
            bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
            digest: Digest::of(text.as_bytes()),
            level,
            is_error,
            result: server.log_full.then_some(text),
        };
        self.gate.end_tool(hold, ToolEnded::Answered(result));
        Ok(answer)
    }

    /// The server and the tool that a name means.
    async fn meant(&self, view: &AccountView, tool: &str) -> Option<(Arc<Server>, ToolName)> {
        let servers = self.tools.servers();
        if let Ok(name) = ToolName::parse(tool)
            && let Some(server) = servers.iter().find(|server| server.name == name.server)
        {
            return Some((Arc::clone(server), name));
        }
        let named = |server: &&Arc<Server>| tool.strip_prefix(server.name.as_str()).is_some_and(|rest| rest.starts_with("__"));
        for server in servers.iter().filter(named) {
            // Nearly always it is what stands behind. Of a name that may be a shortened one only the server's own list tells.
            let plain = ToolName::new(&server.name, tool.get(server.name.len() + 2..).unwrap_or_default()).ok();
            let plain = plain.filter(|name| name.wire() == tool);
            if plain.is_none() || ToolName::may_be_short(tool) {
                let listing = self.tools.list(&server.name, &who(view)).await.ok();
                let tools = listing.iter().flat_map(|listing| &listing.tools);
                let mut names = tools.filter_map(|tool| ToolName::new(&server.name, &tool.name).ok());
                if let Some(name) = names.find(|name| name.wire() == tool) {
                    return Some((Arc::clone(server), name));
                }
            }
            if let Some(name) = plain {
                return Some((Arc::clone(server), name));
            }
        }
        let mut bare = self.offered(view).await.into_iter().filter(|offer| offer.name.tool == tool);
        if let Some(only) = bare.next().filter(|_| bare.next().is_none()) {
            let server = servers.iter().find(|server| server.name == only.name.server)?;
            return Some((Arc::clone(server), only.name));
        }
        // A rule may deny it whoever has it: that is said before that nobody has.
        let server = servers.first()?;
        Some((Arc::clone(server), ToolName::new(&server.name, tool).ok()?))
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

/// What a fault leaves of a call.
fn ended(fault: &ToolFault) -> ToolEnded {
    match fault {
        fault if fault.is_unsent() => ToolEnded::Unsent,
        ToolFault::Refused { code, .. } if NOTHING_DONE.contains(code) => ToolEnded::Refused,
        ToolFault::TimedOut { .. } => ToolEnded::Broken(Outcome::Deadline),
        ToolFault::Exited { .. } | ToolFault::Stopped { .. } => ToolEnded::Broken(Outcome::ProviderLeft),
        _ => ToolEnded::Broken(Outcome::ProviderFailed),
    }
}

/// Maps are written by the order of their keys, so the text is canonical. What a server said as JSON can be said as JSON.
fn result_text(result: &impl Serialize) -> String {
    serde_json::to_value(result).unwrap_or_default().to_string()
}
