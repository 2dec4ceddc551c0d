//! Which events there are, how long they are kept, and how the stream tells them.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{at_least_one, duration, positive_duration};

// Not a doc comment: clap would open `simulate --help` with it.
// The switches of the event log. Contract 8, questions 39, 43 and 44.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Events")]
pub struct EventOptions {
    /// Beside every `message.received`, also a legacy `lead_reply`.
    #[arg(long, env = "SIMULATE_LEAD_REPLIES")]
    pub lead_replies: bool,

    /// Also `message.delivered`, `message.read` and `message.failed`, which Chert does not document.
    #[arg(long, env = "SIMULATE_DELIVERY_EVENTS")]
    pub delivery_events: bool,

    /// Beside every `message.received`, also an event of a type that nobody has heard of.
    #[arg(long, env = "SIMULATE_UNKNOWN_EVENTS")]
    pub unknown_events: bool,

    /// Cut `created_at` to whole seconds, so that events share theirs and a `since` that is strictly after can lose some.
    /// Otherwise no two events share one.
    #[arg(long, env = "SIMULATE_EVENT_TIES")]
    pub event_ties: bool,

    /// Most events kept in the log; the oldest go first, and are counted.
    #[arg(long, env = "SIMULATE_EVENT_LIMIT", default_value = "200000", value_parser = at_least_one)]
    pub event_limit: usize,

    /// Simulated time for which an event is kept, e.g. `30d`.
    #[arg(long, env = "SIMULATE_EVENT_RETENTION", default_value = "30d", value_parser = duration)]
    pub event_retention: Duration,

    /// Real time after which the server ends a stream of events, e.g. `60s`.
    #[arg(long, env = "SIMULATE_STREAM_LIFE", default_value = "60s", value_parser = positive_duration)]
    pub stream_life: Duration,

    /// Real time between two heartbeats of a stream of events, e.g. `15s`.
    #[arg(long, env = "SIMULATE_STREAM_HEARTBEAT", default_value = "15s", value_parser = positive_duration)]
    pub stream_heartbeat: Duration,

    /// What the `data:` lines of the stream hold.
    #[arg(long, env = "SIMULATE_STREAM_SHAPE", value_enum, default_value_t = EventShape::Row)]
    pub stream_shape: EventShape,
}

/// What the flags default to, whatever the environment says.
impl Default for EventOptions {
    fn default() -> EventOptions {
        EventOptions {
            lead_replies: false,
            delivery_events: false,
            unknown_events: false,
            event_ties: false,
            event_limit: 200_000,
            event_retention: Duration::from_secs(30 * 86_400),
            stream_life: Duration::from_secs(60),
            stream_heartbeat: Duration::from_secs(15),
            stream_shape: EventShape::Row,
        }
    }
}

/// How an event is told. Contract 7, conflict 8, and 8, question 44.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventShape {
    /// The envelope at the top.
    Envelope,
    /// A row of the event log, with the envelope under `payload`.
    Row,
}
