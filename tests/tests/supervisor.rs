//! The supervisor of tools: servers are started, asked, watched and ended, and one that misbehaves hurts nobody else.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(clippy::large_futures, reason = "calls that a test holds at once stand on its own stack")]

#[path = "supervisor/lives.rs"]
mod lives;
#[path = "supervisor/misbehaviour.rs"]
mod misbehaviour;
#[path = "supervisor/orphans.rs"]
mod orphans;
#[path = "supervisor/protocol.rs"]
mod protocol;
