//! Messages of MCP over a pair of pipes: bounded lines in, bounded writes out, and what each line is.
//!
//! Owns which calls wait for an answer, so that a line which cannot be taken fails its call at once. Must not: know what a call is about,
//! wait for a server that does not read.

mod finder;
mod flood;
mod lines;
mod outbox;
mod seen;
mod wire;

pub(super) use flood::Allowance;
pub(super) use outbox::Outbox;
pub use seen::Progress;
pub(super) use seen::{Activity, Junk, Odd, Seen};
pub(super) use wire::{BAD_ANSWER, NOT_READ, RESULT_TOO_LARGE, TOO_LARGE, Wire};
