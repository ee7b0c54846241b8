//! The proxy: the only user of axum, tower-http and the HTTP client.
//!
//! One thread accepts; each worker has a runtime of its own with its own connections to providers, so that a call never
//! changes threads. The governed call is `serve::call`; all other pages are an axum router.

mod attempts;
mod body;
mod dispatch;
mod estimate;
mod exempt;
mod headers;
mod line;
mod listen;
mod mcp;
mod metrics;
mod models;
mod pace;
mod pages;
mod probe;
mod relay;
mod replay;
mod reply;
mod serve;
mod socket;
mod stored;
mod tighten;
mod tools;
mod track;
mod upstream;

pub use listen::{Listening, bind, start};
pub use probe::probe;
