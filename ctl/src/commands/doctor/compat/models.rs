//! The list of models, and one of it, in both shapes.

use super::Target;
use super::answer::{Checked, body, is, same};
use serde_json::Value;

const ANTHROPIC: [(&str, &str); 1] = [("anthropic-version", "2023-06-01")];

/// The list and the one, as a client with these headers gets them.
fn both(target: &Target, headers: &[(&str, &str)]) -> Result<(Value, Value), super::Finding> {
    let get = |path: &str| target.ask(path, &target.token, None, headers).and_then(|answer| body(&answer));
    // As the SDKs write a name with a slash.
    let list = get("/v1/models")?;
    let one = get(&format!("/v1/models/{}", target.model.replace('/', "%2F")))?;
    let listed = list["data"].as_array().is_some_and(|rows| rows.iter().any(|row| row["id"] == target.model.as_str()));
    is(listed, || format!("data: expected {} in it, found {}", target.model, super::shown(&list["data"].to_string())))?;
    same("id", &target.model, &one["id"])?;
    Ok((list, one))
}

pub(super) fn openai(target: &Target) -> Checked {
    let (list, one) = both(target, &[])?;
    same("object", "list", &list["object"])?;
    same("object", "model", &one["object"])
}

pub(super) fn anthropic(target: &Target) -> Checked {
    let (list, one) = both(target, &ANTHROPIC)?;
    is(list["has_more"].is_boolean(), || format!("has_more: expected true or false, found {}", list["has_more"]))?;
    same("type", "model", &one["type"])?;
    is(one["display_name"].is_string(), || format!("display_name: expected a text, found {}", one["display_name"]))
}
