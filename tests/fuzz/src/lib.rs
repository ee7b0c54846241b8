//! Fuzz targets over all that reads what others wrote, in reading order: how bytes become choices, JSON as another reader has it, made
//! requests, the engine on stable, and the targets.
//!
//! A target is a function of bytes that panics when a promise is broken. `tests/targets.rs` runs each: on stable as a property test, in a
//! build for libFuzzer under it.

#![allow(clippy::panic, clippy::expect_used, reason = "a target reports by a panic")]

pub mod dice;
pub mod doc;
pub mod engine;
pub mod made;
pub mod targets;
