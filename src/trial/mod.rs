//! Rigs that run the product against the simulator, and count.

pub mod facts;
pub mod postgres;
pub mod tally;
