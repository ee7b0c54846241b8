//! The pure decisions of aexd, in reading order: what a call asks, what it may cost, whether it may pass, what is held and
//! charged for it, and how all of it is chained and verified.
//!
//! Owns money, prices, usage, policy, windows, the hold's life cycle, the chain and re-computation. Must not: know HTTP, SQL,
//! files, a clock, randomness or an async runtime; all of these come in as arguments.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::float_arithmetic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test may fail loudly"
    )
)]

pub mod ask;
pub mod books;
pub mod breaker;
pub mod canon;
pub mod chain;
pub mod decision;
pub mod ended;
pub mod event;
pub mod explain;
pub mod export;
pub mod hold;
pub mod jsonc;
pub mod paths;
pub mod policy;
pub mod price;
pub mod rate;
pub mod tool;
pub mod usage;
pub mod verify;
pub mod vocabulary;
pub mod window;
