//! Campaigns: files that say who is written to, when and what, and the engine that does it. All but the engine is pure.

mod compared;
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

pub mod draft;
pub mod eta;
pub mod fires;
pub mod forecast;
pub mod funnel;
pub mod moving;
pub mod opening;
pub mod plan;
pub mod pool;
pub mod running;
pub mod walk;

pub mod engine;
