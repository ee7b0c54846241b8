//! What is said about a call of a tool that the permissions do not let pass. AETHER's users know that its text names the tool and permissions.json.

use aex_core::tool::{NoConsent, ToolDenied};

pub(super) fn denied(denied: &ToolDenied) -> String {
    let ToolDenied { by, tool, unasked, .. } = denied;
    let place = by.line.map_or_else(|| by.file.clone(), |line| format!("{}:{line}", by.file));
    let why = by.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let unclear =
        by.unclear.as_ref().map(|condition| format!("; its condition `{condition}` cannot be told of these arguments")).unwrap_or_default();
    let explain = "`aexctl permissions check` explains it";
    match unasked {
        Some(NoConsent::Refused) => {
            format!("A person denied this call of tool `{tool}`, for which rule `{}` of {place} asks{why}.", by.rule)
        }
        Some(NoConsent::Unanswered) => format!(
            "Nobody approved this call of tool `{tool}` in time, for which rule `{}` of {place} asks{why}: `aexctl approvals list` shows calls that wait.",
            by.rule
        ),
        Some(NoConsent::TooMany) => format!(
            "This call of tool `{tool}` needs a person's approval by rule `{}` of {place}{why}, and too many calls wait for one already: try again later.",
            by.rule
        ),
        None => match by.rule.as_str() {
            "no_permissions" => format!("Tool `{tool}` is denied: there is no {place}, so that no tool may be called."),
            "bad_permissions" => format!(
                "Tool `{tool}` is denied: {place} cannot be used, so that no tool may be called; `aexctl doctor` says what is wrong with it."
            ),
            "global_policy" => format!(
                "Tool `{tool}` is denied: no rule of permissions.json lets it pass, and its global_policy ({place}) is not `allow`; {explain}."
            ),
            rule => format!("Tool `{tool}` is denied by rule `{rule}` of {place}{why}{unclear}; {explain}."),
        },
    }
}
