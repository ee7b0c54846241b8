//! What a monitor or a person looks at. Reads the gate and the ledger; changes nothing. Must not: decide who may look.

pub mod metrics;
