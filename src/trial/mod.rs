//! Rigs that run the product against the simulator, and count.

pub mod facts;
pub mod ground;
pub mod postgres;
pub mod rig;
pub mod tally;
