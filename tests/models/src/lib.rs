//! The production state machine in a made-up world: an exhaustive check of few calls, and a simulation of many.
//!
//! Owns the world: the log that a power cut shortens, providers, clients, the clock. Must not decide anything that the daemon
//! decides: that is `aex_core`'s, which both of them run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken model fails a test by panicking")]

pub mod interleaving;
pub mod simulation;
pub mod wal;
