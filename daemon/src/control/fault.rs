//! What went wrong, as an error on the wire; and the two ways to the ledger, which every method takes.

use crate::gate::Gate;
use crate::ledger::{LedgerFault, Reader, Refused, Tallied, Writer};
use aex_proto::rpc::{ErrorObject, Fault};

/// What a method answers.
pub(super) type Answer<T> = Result<T, ErrorObject>;

/// Reads the ledger after all that was asked of it before, so that a client sees what it has just caused.
pub(super) async fn read<T, F>(gate: &Gate, query: F) -> Answer<T>
where
    T: Send + 'static,
    F: FnOnce(&Reader<'_>) -> Result<T, LedgerFault> + Send + 'static,
{
    settled(gate).await?;
    gate.ledger().read(query).await.map_err(|fault| broken(&fault))
}

/// Calls and denials of every account, those of just now included.
pub(super) async fn tallied(gate: &Gate) -> Answer<Tallied> {
    gate.flush_denials().await;
    gate.ledger().tally().await.map_err(|fault| broken(&fault))
}

/// Waits until all that was asked of the ledger before is committed and in its directory.
pub(super) async fn settled(gate: &Gate) -> Answer<()> {
    gate.ledger().settled().await.map_err(|fault| broken(&fault))
}

/// Runs an admin action.
pub(super) async fn act<T, F>(gate: &Gate, act: F) -> Answer<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Writer<'_>) -> Result<Result<T, Refused>, LedgerFault> + Send + 'static,
{
    gate.ledger().admin(act).await.map_err(|fault| broken(&fault))?.map_err(|refused| not_possible(&refused))
}

pub(super) fn broken(fault: &LedgerFault) -> ErrorObject {
    tracing::error!(%fault, "an admin request failed");
    ErrorObject::fault(Fault::Unavailable, fault.to_string()).hint("aexctl daemon status")
}

pub(super) fn not_possible(refused: &Refused) -> ErrorObject {
    match refused {
        Refused::Exists(_) | Refused::State(_) => ErrorObject::fault(Fault::Conflict, refused.to_string()),
        Refused::NotFound(_) => ErrorObject::fault(Fault::NotFound, refused.to_string()),
    }
}

/// A value that has the right form and cannot hold.
pub(super) fn unfit(why: impl Into<String>) -> ErrorObject {
    ErrorObject::fault(Fault::Unfit, why)
}

/// No living agent has this name.
pub(super) fn no_agent(name: &str) -> ErrorObject {
    ErrorObject::fault(Fault::NotFound, format!("no agent '{name}'")).hint("aexctl agent list")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_refuses_has_a_code_of_its_own() {
        let name = || "agent 'a'".to_owned();
        let rows = [
            (Refused::Exists(name()), Fault::Conflict),
            (Refused::NotFound(name()), Fault::NotFound),
            (Refused::State(name()), Fault::Conflict),
        ];
        for (refused, fault) in rows {
            assert_eq!(not_possible(&refused).which(), Some(fault), "{refused}");
        }
        assert_eq!(broken(&LedgerFault::Unavailable).which(), Some(Fault::Unavailable));
    }
}
