//! The ledger as a file: canonical NDJSON that proves itself. One part writes it, one reads lines, one verifies what they say.
//!
//! Lines, each ended by a line feed: a header; where it does not begin at event 1, the audit's state before its first event; the
//! snapshots that are named; events, and stubs for those that a filter leaves out; rows; and a last line with the number of lines, the
//! head of the chain and a SHA-256 of each section. So every byte is covered by some check. Must not: know files or clocks.

mod filter;
mod line;
mod read;
mod verify;
mod write;

pub use filter::{Filter, named};
pub use line::{Agent, End, Header, Row, Section, Since, Sum};
pub use read::{Part, Reader};
pub use verify::{Verified, Verifier};
pub use write::Writer;

/// The version of the format that is written, and the newest that is read.
pub const VERSION: u32 = 1;

/// The longest line that is read, in bytes with its line feed: snapshots and budgets that take in many holds are the longest.
pub const MAX_LINE: usize = 16 * 1024 * 1024;
