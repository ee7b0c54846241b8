//! What an agent is told of a call that gave no result. A model reads results, and rarely sees errors of the protocol: what it can act upon is a
//! result that begins with `Error:`, as in AETHER.

use super::REFUSED;
use crate::proxy::tools::sentence;
use crate::tools::gatekeeper::Unmade;
use crate::wire::denial::{self, Addressee};
use aex_core::decision::Denial;
use rmcp::model::{CallToolResult, ContentBlock, ErrorCode, ErrorData};

/// In words.
pub(super) fn words(unmade: &Unmade, to: Addressee) -> String {
    match unmade {
        Unmade::Denied(denial) => denial::worded(denial, to).message,
        Unmade::Failed(fault) => format!("{}. (request {})", sentence(fault), to.request),
        Unmade::Unrecorded(fault) => {
            tracing::error!(%fault, request = %to.request, "no call of a tool can be admitted");
            denial::worded(&Denial::LedgerUnavailable, to).message
        }
    }
}

/// As a result that is an error.
pub(super) fn result(text: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(format!("Error: {text}"))])
}

/// As the outcome of a call. Only a tool that there is not is an error of the protocol (revision 2025-11-25, "Tools", error handling).
pub(super) fn of_call(unmade: &Unmade, to: Addressee) -> Result<CallToolResult, ErrorData> {
    match unmade {
        Unmade::Denied(Denial::UnknownTool { .. }) => Err(ErrorData::invalid_params(words(unmade, to), None)),
        _ => Ok(result(&words(unmade, to))),
    }
}

/// As the error of a request that has no other form for it.
pub(super) fn of_request(unmade: &Unmade, to: Addressee) -> ErrorData {
    let code = match unmade {
        Unmade::Denied(Denial::UnknownTool { .. } | Denial::Malformed { .. }) => ErrorCode::INVALID_PARAMS,
        _ => REFUSED,
    };
    ErrorData::new(code, format!("Error: {}", words(unmade, to)), None)
}
