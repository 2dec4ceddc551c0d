//! What becomes of a message once it was taken: its states, and what its recipient does.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{duration, probability};

// Not a doc comment: clap would open `simulate --help` with it.
// The switches of what happens after a send. Contract 8, questions 34 to 38.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Messages and recipients")]
pub struct MessageOptions {
    /// Simulated time from a send to its delivery, e.g. `1s`.
    #[arg(long, env = "SIMULATE_DELIVERY_AFTER", default_value = "1s", value_parser = duration)]
    pub delivery_after: Duration,

    /// Share (0 to 1) of the delivered messages that are read.
    #[arg(long, env = "SIMULATE_READ_SHARE", default_value = "0", value_parser = probability)]
    pub read_share: f64,

    /// Simulated time from a delivery to its reading, e.g. `30s`.
    #[arg(long, env = "SIMULATE_READ_AFTER", default_value = "30s", value_parser = duration)]
    pub read_after: Duration,

    /// Share (0 to 1) of the messages that fail at the moment at which others are delivered.
    #[arg(long, env = "SIMULATE_FAILED_SHARE", default_value = "0", value_parser = probability)]
    pub failed_share: f64,

    /// Share (0 to 1) of the messages that stay `sent` for ever; taken beside the failed ones, up to 1 together.
    #[arg(long, env = "SIMULATE_UNDELIVERED_SHARE", default_value = "0", value_parser = probability)]
    pub undelivered_share: f64,

    /// How `GET /messages/{id}` tells a message.
    #[arg(long, env = "SIMULATE_MESSAGE_SHAPE", value_enum, default_value_t = MessageShape::Wrapped)]
    pub message_shape: MessageShape,

    /// Real time after a send for which `GET /messages/{id}` does not know the message yet (2003), e.g. `500ms`.
    #[arg(long, env = "SIMULATE_MESSAGE_LAG", default_value = "0ms", value_parser = duration)]
    pub message_lag: Duration,

    /// What the recipients do. `scripted`: what the last two digits of their number say, once our first message is
    /// delivered. 00-39 nothing; 40-59 reply once; 60-69 say stop, each in another spelling; 70-74 react; 75-79 react and
    /// take it back; 80-84 wrote before we did; 85-89 say stop and later start; 90-94 ask to be removed; 95-99 reply to
    /// every message.
    #[arg(long, env = "SIMULATE_RECIPIENTS", value_enum, default_value_t = Recipients::Silent)]
    pub recipients: Recipients,

    /// Simulated time from a delivery to what a scripted recipient does, and again as long to a second deed, e.g. `1m`.
    #[arg(long, env = "SIMULATE_REPLY_AFTER", default_value = "1m", value_parser = duration)]
    pub reply_after: Duration,
}

/// What the flags default to, whatever the environment says.
impl Default for MessageOptions {
    fn default() -> MessageOptions {
        MessageOptions {
            delivery_after: Duration::from_secs(1),
            read_share: 0.0,
            read_after: Duration::from_secs(30),
            failed_share: 0.0,
            undelivered_share: 0.0,
            message_shape: MessageShape::Wrapped,
            message_lag: Duration::ZERO,
            recipients: Recipients::Silent,
            reply_after: Duration::from_secs(60),
        }
    }
}

/// How a message is told. Contract 8, question 35.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageShape {
    /// Under `message`.
    Wrapped,
    /// At the top.
    Bare,
}

/// What recipients do when a message reaches them.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// Nothing.
    Silent,
    /// What their numbers say.
    Scripted,
}
