//! The admin protocol of aexd and the value types that every crate shares.
//!
//! Owns: the text form of each value, the JSON-RPC envelope, the frame on the socket, the table of methods and one module
//! of request and reply types per noun. Must not: know HTTP, SQL, files or a clock.

pub mod value;

pub mod frame;
pub mod policy;
pub mod rpc;

pub mod method;

pub mod account;
pub mod approval;
pub mod audit;
pub mod budget;
pub mod check;
pub mod config;
pub mod daemon;
pub mod event;
pub mod explain;
pub mod group;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod permission;
pub mod run;
pub mod sandbox;
pub mod status;
pub mod token;
pub mod tool;
pub mod tree;
