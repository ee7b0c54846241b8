//! What belongs to the machine: folders, secrets, clock, notification, signals.
//!
//! Must not: know accounts, prices or policy.

pub mod clock;
pub mod failpoint;
pub mod limits;
pub mod memory;
pub mod notify;
pub mod paths;
pub mod port;
pub mod secret;
pub mod usage;
