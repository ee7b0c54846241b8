//! Tools: MCP servers that run as supervised, confined children of the daemon.
//!
//! Owns which servers there are, their processes and what they say. Must not: decide whether a call may be made (the gate does), know HTTP
//! or SQL.

pub mod approvals;
pub mod fault;
mod framing;
pub mod gatekeeper;
mod keep;
pub mod open;
pub mod pins;
pub mod process;
pub mod registry;
pub mod resolve;
pub mod sandbox;
pub mod secret;
pub mod server;
mod session;
pub mod supervisor;

pub use process::one_line;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The place in a text, at most this, where no letter is cut.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// Locks what stays whole whoever panicked: each change is one assignment.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
