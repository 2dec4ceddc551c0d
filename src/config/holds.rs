//! What keeps a job waiting.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::units::duration;

/// What makes a job wait although it could go: that a reply or a stop may have been missed, or that nobody answers.
#[derive(Debug, Clone, Args)]
pub struct HoldOptions {
    /// Which jobs wait while nothing proves that replies are being received: those of class marketing (`campaigns`), `all` or
    /// `none`.
    #[arg(long, env = "OUTBOX_HOLD_ON_STALE", value_enum, default_value = "campaigns")]
    pub hold_on_stale: HoldOnStale,

    /// How old the newest proof that replies are being received may be.
    #[arg(long, env = "OUTBOX_STALE_AFTER", default_value = "5m", value_parser = duration)]
    pub stale_after: Duration,

    #[command(flatten)]
    pub unanswered: UnansweredOptions,
}

/// How long marketing goes on without an answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct UnansweredOptions {
    /// After how many messages without a reply a recipient's jobs of class marketing wait for one; `none` for never.
    #[arg(long = "unanswered-limit", env = "OUTBOX_UNANSWERED_LIMIT", default_value = "3")]
    pub limit: UnansweredLimit,
}

/// What the flags default to.
impl Default for HoldOptions {
    fn default() -> HoldOptions {
        HoldOptions {
            hold_on_stale: HoldOnStale::Campaigns,
            stale_after: Duration::from_secs(5 * 60),
            unanswered: UnansweredOptions { limit: UnansweredLimit(Some(3)) },
        }
    }
}

/// Which jobs a silent feed holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HoldOnStale {
    Campaigns,
    All,
    None,
}

impl HoldOnStale {
    /// Whether jobs of class marketing are held, and whether all others are.
    pub fn holds(self) -> (bool, bool) {
        (self != HoldOnStale::None, self == HoldOnStale::All)
    }
}

/// A number of messages, or as many as come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnansweredLimit(pub Option<u16>);

impl std::str::FromStr for UnansweredLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<UnansweredLimit, String> {
        match text.trim() {
            "none" => Ok(UnansweredLimit(None)),
            number => match number.parse() {
                Ok(limit @ 1..) => Ok(UnansweredLimit(Some(limit))),
                _ => Err("write a number of messages from 1 to 65535, or none".to_owned()),
            },
        }
    }
}
