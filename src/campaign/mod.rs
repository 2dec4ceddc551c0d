//! Campaigns: files that say who is written to, when and what. All of this is pure.

pub mod file;
pub mod lint;
pub mod program;
mod tags;
pub mod template;

pub mod calendar;
pub mod cron;
pub mod hours;
pub mod preset;
pub mod window;
pub mod zone;
