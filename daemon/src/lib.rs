//! placeholder

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly"))]

pub mod config;
pub mod ledger;
pub mod os;
