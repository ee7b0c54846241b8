//! What the end-to-end tests stand on: the scripted provider, the daemon under test, a raw HTTP client.
//!
//! Everything here runs inside tests: a failed step panics with what it attempted. Nothing sleeps; each wait has a deadline.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a harness fails a test by panicking, shows logs, and measures real time"
)]

pub mod anthropic;
pub mod ask;
pub mod bench;
pub mod canary;
pub mod client;
pub mod clock;
pub mod connect;
pub mod daemon;
pub mod escape;
pub mod forge;
pub mod history;
pub mod house;
pub mod kills;
pub mod ledger;
pub mod lock;
pub mod mcp;
pub mod provider;
pub mod raw;
pub mod refusal;
pub mod sandbox;
pub mod shim;
pub mod street;
pub mod tools;
pub mod workshop;
