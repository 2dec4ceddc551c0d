//! What the world of a scenario is made with.

use std::time::Duration;

use chrono::TimeDelta;

use crate::simulate;

/// What a world is made with.
pub struct Setup {
    /// How many lines Chert has.
    pub lines: u32,
    /// What each line may do.
    pub gap: Duration,
    pub first_touch_gap: Duration,
    pub first_touch_cap: Option<u32>,
    /// Chert's own behaviour. It does not enforce paces: a breach is to be seen on the phones.
    pub simulator: simulate::Options,
    pub machine: Machine,
    /// Whether no other scenario may be played beside this one: it measures a rate, or keeps the machine busy by itself.
    pub alone: bool,
    /// Whether it is played only when it is asked for by name: it takes longer than all others together.
    pub only_named: bool,
    /// More of the workers' environment.
    pub worker_env: Vec<(&'static str, String)>,
}

/// What Postgres runs on.
#[derive(Debug, Clone, Copy)]
pub enum Machine {
    Plain,
    /// With a small disk, which can be filled.
    SmallDisk,
    /// With a clock that can be set.
    Clock,
    /// It begins so long before a full hour, by Chert's clock too.
    BeforeTheHour(TimeDelta),
}

impl Default for Setup {
    /// Forty lines at a message a second, first touches not held back, answers after 20 to 60 ms.
    fn default() -> Setup {
        Setup {
            lines: 40,
            gap: Duration::from_secs(1),
            first_touch_gap: Duration::ZERO,
            first_touch_cap: None,
            simulator: simulate::Options {
                latency: Duration::from_millis(20),
                latency_jitter: Duration::from_millis(40),
                ..simulate::Options::default()
            },
            machine: Machine::Plain,
            alone: false,
            only_named: false,
            worker_env: Vec::new(),
        }
    }
}
