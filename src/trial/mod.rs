//! Rigs that run the product against the simulator, and count.

pub mod bench;
pub mod demo;
pub mod prove;

pub mod facts;
pub mod forwarder;
pub mod ground;
pub mod postgres;
pub mod producer;
pub mod rig;
pub mod tally;

use facts::Progress;

/// Who watches.
pub trait Audience {
    /// One line of the story.
    fn say(&mut self, line: &str);
    /// How far it is, several times a second.
    fn show(&mut self, progress: &Progress);
}
