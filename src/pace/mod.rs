//! Pace: `slots` is a line's schedule (pure), `allot` deals slots out to jobs (pure), `local` keeps this process to the
//! same quota whatever the schedule says.

pub mod allot;
pub mod local;
pub mod slots;
