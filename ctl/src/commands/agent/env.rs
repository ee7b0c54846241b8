//! `aexctl agent env`: a block to paste into a shell, and a request that proves it.

use super::super::Context;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::run::variables;
use aex_proto::account::{AgentInspection, AgentName, AgentRef};
use aex_proto::method::{AgentInspect, DaemonStatus, Nothing};
use aex_proto::value::TokenHash;
use serde::Serialize;
use std::collections::BTreeMap;

/// What stands where the token goes.
const PLACEHOLDER: &str = "<token>";

#[derive(Serialize)]
struct Block<'a> {
    agent: &'a str,
    variables: BTreeMap<&'static str, &'a str>,
    proof: String,
}

pub(super) fn run(context: &Context<'_>, client: &mut Client, name: AgentName, token: Option<String>) -> Result<(), Failure> {
    let inspection = client.call::<AgentInspect>(&AgentRef { name })?;
    let origin = client.call::<DaemonStatus>(&Nothing {})?.origin;
    if let Some(token) = &token {
        doubt(token, &inspection)?.into_iter().for_each(|doubt| context.view.note(&doubt));
    }
    let name = inspection.agent.name.as_str();
    let shown = token.as_deref().unwrap_or(PLACEHOLDER);
    let openai = format!("{origin}/v1");
    let given = variables(&origin, &openai, shown);
    // Listing models is free, and fails for a wrong address as for a wrong token.
    let proof = "curl -sS \"$OPENAI_BASE_URL/models\" -H \"Authorization: Bearer $OPENAI_API_KEY\"".to_owned();
    let block = Block { agent: name, variables: given.into_iter().collect(), proof };
    context.view.show(&block, |_| {
        let mut lines = vec![format!("# Leads SDKs through aexd at {origin}, as agent '{name}'.")];
        if token.is_none() {
            lines.push(format!(
                "# {PLACEHOLDER}: an agent's token is shown only when it is made; `aexctl token create {}` makes one more.",
                quoted(name)
            ));
        }
        lines.extend(given.map(|(variable, value)| format!("export {variable}={}", quoted(value))));
        lines.push("# It works when this lists the agent's models:".to_owned());
        lines.push(block.proof.clone());
        lines.join("\n")
    })
}

/// Why a token may not be one of the agent's; an error when it can be nobody's.
fn doubt(token: &str, inspection: &AgentInspection) -> Result<Option<String>, Failure> {
    let hash = TokenHash::of(token).map_err(|fault| Failure::new(format!("the text given as --token {fault}")).with(Exit::Usage))?;
    let agent = &inspection.agent.name;
    let known = inspection.tokens.iter().find(|known| known.hash_prefix == hash.short());
    Ok(match known {
        None => Some(format!("warning: this token is none of agent '{agent}'")),
        Some(known) if known.revoked_at.is_some() => Some("warning: this token is revoked".to_owned()),
        Some(_) => None,
    })
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | ':' | '-' | '_' | '[' | ']');
    // A placeholder that is pasted unchanged must not read as a redirection.
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_of_the_shell() {
        for (text, wanted) in [("http://127.0.0.1:9000/v1", "http://127.0.0.1:9000/v1"), ("<token>", "'<token>'"), ("a'b", "'a'\\''b'")] {
            assert_eq!(quoted(text), wanted);
        }
    }
}
