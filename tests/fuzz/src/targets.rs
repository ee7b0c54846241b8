//! What each target promises.

pub mod answer;
pub mod coding;
pub mod config;
pub mod control;
pub mod export;
pub mod http1;
pub mod prices;
pub mod request;
pub mod stream;
