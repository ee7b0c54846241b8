//! Dialects: bytes of clients and providers ↔ the data that decisions are made from.
//!
//! Owns JSON scanning, the fields that a request is judged by, splices into requests, answers and streams, usage, the words
//! of denials, and the built-in `echo` provider. Must not: know sockets, a runtime, a clock, the ledger or the configuration.

pub mod answer;
pub mod chat;
pub mod coding;
pub mod completions;
mod content;
mod costly;
pub mod denial;
pub mod dialect;
pub mod echo;
pub mod edit;
pub mod embeddings;
pub mod hosted;
pub mod http1;
mod inputs;
pub mod json;
mod member;
pub mod messages;
mod nfkc;
pub mod request;
pub mod responses;
mod rewritten;
pub mod said;
mod sse;
pub mod stream;
pub mod text;
pub mod texts;
pub mod unstream;
pub mod usage;
