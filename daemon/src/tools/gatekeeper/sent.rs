//! A call at its place: held, sent, and ended in the ledger by what came of it.

use super::attended::{Attended, Over};
use super::consent::Cleared;
use super::{Gatekeeper, Unmade};
use crate::gate::ToolEnded;
use crate::tools::fault::ToolFault;
use crate::tools::supervisor::Entry;
use aex_core::event::Outcome;
use aex_core::tool::ToolResult;
use aex_proto::value::Digest;

/// JSON-RPC errors with which a server says that it did nothing: no such method or tool, no valid request or parameters.
const NOTHING_DONE: std::ops::RangeInclusive<i32> = -32602..=-32600;

impl Gatekeeper {
    /// Holds a call's price, asks the server, and ends the hold by what comes of it. `told`: an answer as text, and whether it is an error.
    pub(super) async fn sent<T, Asking>(
        &self,
        call: Attended,
        cleared: Cleared,
        ask: impl FnOnce(Entry) -> Asking,
        told: impl FnOnce(&T) -> (String, bool),
    ) -> Result<T, Unmade>
    where
        Asking: Future<Output = Result<T, ToolFault>>,
    {
        let Attended { entered, view, mut left, .. } = call;
        if let Some(over) = Over::of(&self.gate, &view, &mut left) {
            return Err(over.unmade());
        }
        let Cleared { mut weighed, consent, place, server } = cleared;
        let name = weighed.name().clone();
        weighed.goes_to(place.entry.level(), place.definition(&name.tool));
        let hold = self.gate.hold_tool(entered, weighed, consent).await?.map_err(Unmade::Denied)?;
        let unsent = |hold, unmade| {
            self.gate.end_tool(hold, ToolEnded::Unsent);
            Err(unmade)
        };
        if let Some(over) = Over::of(&self.gate, &view, &mut left) {
            return unsent(hold, over.unmade());
        }
        if !place.still_has(&name.tool) {
            return unsent(hold, Unmade::Failed(ToolFault::Changed { server: name.server }));
        }
        let made = tokio::select! {
            biased;
            _ = &mut left => Err((Over::Left, Outcome::ClientLeft)),
            () = view.stop.raised() => Err((Over::Refused(self.gate.stopped_within(&view)), Outcome::Stopped)),
            made = ask(place.entry) => Ok(made),
        };
        let answer = match made {
            Ok(Ok(answer)) => answer,
            Ok(Err(fault)) => {
                self.gate.end_tool(hold, ended(&fault));
                return Err(Unmade::Failed(fault));
            }
            Err((over, outcome)) => {
                self.gate.end_tool(hold, ToolEnded::Broken(outcome));
                return Err(over.unmade());
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
            is_error,
            result: server.log_full.then_some(text),
        };
        self.gate.end_tool(hold, ToolEnded::Answered(result));
        Ok(answer)
    }
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
