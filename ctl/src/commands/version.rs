//! `aexctl version`.

use super::Context;
use crate::exit::{Exit, Failure};
use aex_proto::daemon::Hello;
use serde::Serialize;

#[derive(Serialize)]
struct Versions {
    aexctl: &'static str,
    aexd: Option<Hello>,
}

pub(super) fn run(context: &Context<'_>) -> Result<Exit, Failure> {
    let versions = Versions { aexctl: env!("CARGO_PKG_VERSION"), aexd: context.connect().ok().map(|client| client.hello().clone()) };
    context.view.show(&versions, |_| {
        let daemon = versions.aexd.as_ref().map(|hello| format!("\naexd {} (pid {})", hello.version, hello.pid));
        format!("aexctl {}{}", versions.aexctl, daemon.unwrap_or_default())
    })?;
    Ok(Exit::Done)
}
