//! Messages of MCP over a pair of pipes: bounded lines in, bounded writes out, and what each line is.
//!
//! Owns which calls wait for an answer, so that a line which cannot be taken fails its call at once. Must not: know what a call is about,
//! wait for a server that does not read.

mod finder;
mod flood;
mod lines;
mod outbox;
mod wire;

pub(super) use flood::Allowance;
pub(super) use outbox::Outbox;
pub use wire::Progress;
pub(super) use wire::{Activity, BAD_ANSWER, Junk, NOT_READ, RESULT_TOO_LARGE, Seen, TOO_LARGE, Wire};
