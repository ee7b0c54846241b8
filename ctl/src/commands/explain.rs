//! `aexctl explain`: the story of a request, a run or an event in plain words; by the daemon when it runs, else by its binary on
//! the ledger itself.

mod action;
mod call;
mod group;
mod words;

use super::Context;
use crate::aexd;
use crate::client::{self, Client};
use crate::exit::{Attempt, Exit, Failure};
use crate::view::Paint;
use aex_proto::explain::{ExplainGet, ExplainId, Story};
use aex_proto::method;
use std::process::Stdio;

pub(super) fn run(context: &Context<'_>, id: ExplainId) -> Result<Exit, Failure> {
    let story = match Client::connect(&context.paths) {
        Ok(mut client) => client.call_within::<method::ExplainGet>(&ExplainGet { id }, client::AUDIT)?,
        Err(failure) if failure.exit == Exit::Unreachable => offline(context, id)?,
        Err(failure) => return Err(failure),
    };
    context.view.show(&story, |paint| text(&story, paint))?;
    Ok(Exit::Done)
}

/// `aexd explain` reads the ledger without a daemon. What it says on stderr is its own, and so is its exit code.
fn offline(context: &Context<'_>, id: ExplainId) -> Result<Story, Failure> {
    let ledger = &context.paths.ledger;
    if ledger.try_exists().is_ok_and(|exists| !exists) {
        return Err(Failure::new(format!("there is no ledger at {}", ledger.display())).hint("aexctl init"));
    }
    let mut command = aexd::command("explain", context.home.as_deref());
    let output = aexd::output(command.arg(id.to_string()).stdin(Stdio::null()))?;
    match aexd::exit_of(output.status) {
        Exit::Command(0) => serde_json::from_slice(&output.stdout).attempt(|| "read what aexd tells".to_owned()),
        Exit::Command(4) => Err(Failure::silent(Exit::NotFound)),
        exit => Err(Failure::silent(exit)),
    }
}

fn text(story: &Story, paint: Paint) -> String {
    match story {
        Story::Call(story) => call::text(story, paint),
        Story::Repeat(story) => group::text(story, paint),
        Story::Run(story) => action::run(story, paint),
        Story::Action(story) => action::text(story, paint),
    }
}

#[cfg(test)]
mod tests;
