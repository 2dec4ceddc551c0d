//! Rigs that run the product against the simulator, and count.

pub mod bench;
pub mod demo;

pub mod facts;
pub mod ground;
pub mod postgres;
pub mod producer;
pub mod rig;
pub mod tally;
