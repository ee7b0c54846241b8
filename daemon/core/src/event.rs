//! What the ledger records: one type per kind of event. Its canonical JSON is the body that the chain covers.
//! Fields are declared in alphabetical order, so that serialising one gives canonical JSON. Fields may be added as optional
//! ones; none may be removed, renamed or given another meaning: old ledgers must verify for ever.

mod end;
mod kinds;
mod parts;
mod trust;

pub use end::{Outcome, Relayed, Released, Settled};
pub use parts::{By, ChainEnd, Imported, Skipped, ToolsAction};
pub use trust::{AdminBarred, Answered, ApprovalGiven, Inside, PinChange, ToolPinned};

use crate::ask::Ask;
use crate::books::{AccountKind, Limits};
use crate::decision::{AccountState, AuthCause, Denial};
use crate::policy::{Change, Facts};
use crate::price::Line;
use crate::tool::{ToolCall, ToolResult};
use crate::window::Period;
use aex_proto::value::{AccountId, BalanceId, Digest, Pico, RequestId, Stamp};
use kinds::events;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

events! {
    /// An account was created.
    AccountCreated "account.created" {
        /// Its number.
        account: AccountId,
        /// Who did it; absent for the daemon itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// What it had been before, in another program; absent for one that begins here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        imported: Option<Imported>,
        /// What it stands for.
        kind: AccountKind,
        /// Its limits on calls.
        limits: Limits,
        /// Its name.
        name: String,
        /// The account above it; absent for the root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<AccountId>,
        /// The digest of its policy.
        policy: Digest,
        /// Why, when that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
    /// An account's state changed.
    AccountStateChanged "account.state" {
        /// The account.
        account: AccountId,
        /// Who did it; absent for the daemon itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// The state before.
        from: AccountState,
        /// Why.
        reason: String,
        /// The state after.
        to: AccountState,
    }
    /// Failed authentications of at most a second.
    AuthFailed "auth.failed" {
        /// Why they failed.
        cause: AuthCause,
        /// How many.
        count: u64,
        /// The first request.
        first: RequestId,
        /// The last request.
        last: RequestId,
    }
    /// A budget was set or lifted, and the balance of its running window with it.
    BudgetSet "budget.set" {
        /// The account.
        account: AccountId,
        /// The balance of the running window.
        balance: BalanceId,
        /// Who did it; absent for the daemon itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// Open holds that the balance took in, because it was opened in mid-period.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        holds: Vec<(RequestId, u8)>,
        /// The budget; absent when it was lifted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<Pico>,
        /// Its period.
        period: Period,
        /// Why, when that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What the window had spent when its balance was opened here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spent: Option<Pico>,
    }
    /// A call was refused: the first of its account and rule within a second.
    CallDenied "call.denied" {
        /// Whose call.
        account: AccountId,
        /// What it asked, as far as it was read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ask: Option<Ask>,
        /// The digest of the model's card, when it got that far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        card: Option<Digest>,
        /// The refusal.
        denial: Denial,
        /// What the policy's rules looked at; absent where there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Facts>,
        /// The digest of what a call of a tool says (`ToolCall`), when it is one and got that far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Digest>,
        /// The digest of the policy that held.
        policy: Digest,
        /// The request.
        request: RequestId,
        /// The name of the rule.
        rule: String,
        /// The call of a tool, when it is one and got that far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<Box<ToolCall>>,
    }
    /// Further refusals by the same rule within a second of the first.
    CallDeniedAgain "call.denied.again" {
        /// Whose calls.
        account: AccountId,
        /// How many.
        count: u64,
        /// The first of them.
        first: RequestId,
        /// The last of them.
        last: RequestId,
        /// The name of the rule.
        rule: String,
    }
    /// A call was admitted and its bound is held.
    CallHeld "call.held" {
        /// Whose call.
        account: AccountId,
        /// The bound.
        amount: Pico,
        /// What it asked.
        ask: Ask,
        /// Which try of the request, from 0.
        attempt: u8,
        /// The balances that hold it.
        balances: Vec<BalanceId>,
        /// The digest of the model's card: prices, limits, capabilities.
        card: Digest,
        /// What the policy's limits changed in it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        changes: Vec<Change>,
        /// When the daemon ends it at the latest.
        deadline: Stamp,
        /// The daemon's start.
        epoch: u32,
        /// What the policy's rules looked at; absent where there are none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Facts>,
        /// The SHA-256 of the agent's number and the idempotency key that the call came with (`gate/idempotency.rs`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        idempotency: Option<Digest>,
        /// The SHA-256 of the bytes that the client sent.
        input: Digest,
        /// Tokens of input that the bound assumes.
        input_tokens: u64,
        /// The output limit per choice that holds for it.
        max_tokens: u64,
        /// Tokens of output, over all choices, that the bound assumes.
        output_tokens: u64,
        /// The digest of the policy that admitted it.
        policy: Digest,
        /// The request.
        request: RequestId,
        /// The rule that let it pass; absent when none did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// The send follows at once.
        sent: bool,
        /// Models that the call would have gone to before this one, and why each was passed over.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<Skipped>,
        /// The call of a tool, when it is one: decided by the permissions, and not by the policy's rules for models.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<Box<ToolCall>>,
    }
    /// A hold was released: nothing was billed.
    CallReleased "call.released" {
        /// Which try of the request.
        attempt: u8,
        /// Why nothing was billed.
        reason: Released,
        /// The request.
        request: RequestId,
        /// The status of the provider's answer, when there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    }
    /// A waiting call is about to be sent.
    CallSent "call.sent" {
        /// Which try of the request.
        attempt: u8,
        /// The request.
        request: RequestId,
    }
    /// A hold ended with a charge.
    CallSettled "call.settled" {
        /// Which try of the request.
        attempt: u8,
        /// The charge: the sum of the lines, or the whole hold without lines.
        charge: Pico,
        /// Bucket, quantity and unit price.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<Line>,
        /// Why it was settled so.
        outcome: Outcome,
        /// The output that an estimate rests on; absent where none was counted, and in events of the first versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        relayed: Option<Relayed>,
        /// The request.
        request: RequestId,
        /// How it was settled.
        state: Settled,
        /// The status of the provider's answer, when there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The service tier whose prices hold, when it is not the standard one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<String>,
        /// What came of the call of a tool, when there was a result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool: Option<Box<ToolResult>>,
        /// Fields of the reported usage that this version does not know, with their values as they stand there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unknown_usage: Vec<(String, String)>,
    }
    /// What an account states about its calls, or its limits, changed.
    AccountUpdated "account.updated" {
        /// The account.
        account: AccountId,
        /// Who did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// Its limits on calls from now on.
        limits: Limits,
        /// The digest of what it states from now on.
        policy: Digest,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
    /// The wall clock was set: it is not where the boot clock, which nobody sets, let expect it.
    ClockJumped "clock.jumped" {
        /// Microseconds since the machine booted.
        boot_us: i64,
        /// The wall time that was expected.
        from: Stamp,
        /// The wall time that was found.
        to: Stamp,
    }
    /// A configuration came into force.
    ConfigLoaded "config.loaded" {
        /// Who asked for it; absent at start and for a signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// The digest of each model's card, by model.
        cards: BTreeMap<String, Digest>,
        /// The model of a request that names none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default_model: Option<String>,
        /// What is done when a gateway error leaves a bill unknown.
        gateway_errors_charged: bool,
        /// Where each provider is reached, by its name; empty in events of the first versions.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        providers: BTreeMap<String, String>,
    }
    /// The daemon stopped in good order.
    EpochClosed "epoch.closed" {
        /// The daemon's start.
        epoch: u32,
    }
    /// The daemon started.
    EpochOpened "epoch.opened" {
        /// Microseconds since the machine booted, beside the wall clock of the event.
        boot_us: i64,
        /// The daemon's start, counted from 1.
        epoch: u32,
        /// The ledger: 32 random hex digits, made with it. A copy that lives on shares them.
        ledger: String,
        /// The version of the tables.
        schema: u32,
        /// The version of the daemon.
        version: String,
        /// The zone in which windows are counted.
        zone: String,
    }
    /// The ledger was put back from a backup. The next start counts on from the one that it replaced: no id of a lost request comes again.
    LedgerRestored "ledger.restored" {
        /// Who did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// The last start that may have been: the next one has the number behind it.
        epoch: u32,
        /// The SHA-256 of the backup's file.
        file: Digest,
        /// Where the backup's chain ends: the event before this one.
        head: ChainEnd,
        /// Where the chain of the ledger ended that it replaced; absent when there was none, or none that could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<ChainEnd>,
    }
    /// Old events were taken out of the ledger into a file; the chain goes on from the last of them.
    LedgerSealed "ledger.sealed" {
        /// Who did it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// The SHA-256 of what is kept of their refusals, as text.
        denials: Digest,
        /// How many events.
        events: i64,
        /// The first of them.
        first: i64,
        /// The hash of the last of them.
        hash: Digest,
        /// The last of them.
        last: i64,
        /// The SHA-256 of the file.
        segment: Digest,
        /// The SHA-256 of the audit's state behind the last of them, as text.
        state: Digest,
    }
    /// A caller has its provider cancel an answer that is being made there. Written before the provider is asked.
    ResponseCancelled "response.cancelled" {
        /// The agent, or the run of it, that asks.
        account: AccountId,
        /// The provider.
        provider: String,
        /// The request.
        request: RequestId,
        /// The answer's name.
        response: String,
    }
    /// A caller has its provider delete an answer that is stored there. Written before the provider is asked.
    ResponseDeleted "response.deleted" {
        /// The agent, or the run of it, that asks.
        account: AccountId,
        /// The provider.
        provider: String,
        /// The request.
        request: RequestId,
        /// The answer's name.
        response: String,
    }
    /// A provider stored an answer under names of its own: whoever names it later has to be the agent that got it.
    ResponseStored "response.stored" {
        /// The agent.
        account: AccountId,
        /// Names of the items of its output.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<String>,
        /// The model, as clients call it.
        model: String,
        /// The provider.
        provider: String,
        /// The call that it answered.
        request: RequestId,
        /// Its name.
        response: String,
    }
    /// A token was created.
    TokenCreated "token.created" {
        /// Whose token.
        account: AccountId,
        /// Who did it; absent for the daemon itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// When it ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Stamp>,
        /// What it is for, when that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        label: Option<String>,
        /// It may read only.
        read_only: bool,
        /// Why, when that was said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The SHA-256 of its text.
        token: Digest,
    }
    /// A token was revoked.
    TokenRevoked "token.revoked" {
        /// Whose token.
        account: AccountId,
        /// From when on it is refused.
        at: Stamp,
        /// Who did it; absent for the daemon itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// Why.
        reason: String,
        /// The SHA-256 of its text.
        token: Digest,
    }
    /// The servers of tools that hold changed, or were started anew by hand.
    ToolsChanged "tools.changed" {
        /// What was done.
        action: ToolsAction,
        /// Who did it; absent at start and for a signal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<By>,
        /// The SHA-256 of what mcp.json says of its servers from then on, without the text of variables (`tools/registry/snapshot.rs`).
        registry: Digest,
        /// To which, by name.
        servers: Vec<String>,
    }
    /// The first call in a window opened its balance.
    WindowOpened "window.opened" {
        /// The account.
        account: AccountId,
        /// The new balance.
        balance: BalanceId,
        /// The first instant after the window; absent when it never ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        end: Option<Stamp>,
        /// The budget of the window; absent without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<Pico>,
        /// The period that the window belongs to.
        period: Period,
        /// The first instant of the window.
        start: Stamp,
    }
    ;
    /// A request on the control socket was refused, because it came from inside a run or a tool.
    AdminBarred "admin.barred",
    /// A person answered a call that waited, or took a lasting yes back.
    ApprovalGiven "approval.given",
    /// What a server's tools are said to be was seen for the first time, changed, or was approved.
    ToolPinned "tool.pinned",
}

#[cfg(test)]
mod tests;
