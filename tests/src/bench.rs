//! The benchmark: driver → target → mock, each a process of its own, with the targets aexd, the mock itself and nginx interleaved.
//!
//! It judges no time. It fails when calls failed, when the mock did not serve what the driver counted, or when a ledger's audit fails.

mod driver;
mod exchange;
mod machine;
mod mock;
mod plan;
mod process;
mod run;
mod sample;
mod start;
mod table;
mod target;
mod tools;

pub use self::driver::{Load, drive};
pub use self::mock::{Shape, serve};
pub use self::plan::Group;
pub use self::run::{Options, run};
