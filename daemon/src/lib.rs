//! The daemon, in reading order: its commands and life, the dialects, the gate, the ledger, the proxy and the admin socket.
//!
//! Direction: command → daemon → proxy | control → web → gate → ledger → core; proxy → tokenizer → wire → core. ARCHITECTURE.md says what each module
//! owns and must not do.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly"))]

pub mod command;
pub mod config;
pub mod control;
pub mod daemon;
pub mod gate;
pub mod import;
pub mod ledger;
pub mod log;
pub mod os;
pub mod proxy;
pub mod tokenizer;
pub mod tools;
pub mod web;
pub mod wire;
