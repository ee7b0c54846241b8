//! Values with one text form each: money, instants, ids, digests and tokens.
//!
//! Arithmetic here is checked; nothing in this module panics on any input.

#![deny(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::float_arithmetic, clippy::indexing_slicing)]

mod date;
mod id;
mod money;
mod secret;
mod text;
mod time;

pub use id::{AccountId, BalanceId, Digest, RequestId};
pub use money::{MoneyError, Pico};
pub use secret::{NewToken, TokenError, TokenHash, holds_token, token_text};
pub use time::Stamp;
