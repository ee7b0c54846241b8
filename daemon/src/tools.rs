//! Tools: MCP servers that run as supervised, confined children of the daemon.
//!
//! Owns which servers there are, their processes and what they say. Must not: decide whether a call may be made (the gate does), know HTTP
//! or SQL.

pub mod sandbox;
pub mod server;
