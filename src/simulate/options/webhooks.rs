//! How events reach a webhook, and what goes wrong on their way.

use std::time::Duration;

use clap::{ArgAction, Args};

use super::{EventShape, duration, positive_duration, probability};

// Not a doc comment: clap would open `simulate --help` with it.
// The switches of webhook deliveries. Contract 8, questions 40 to 42.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookOptions {
    /// Real waits before the attempts of one delivery; there are as many attempts as waits, 1 to 10.
    #[arg(long, env = "SIMULATE_WEBHOOK_WAITS", default_value = "0s,1s,4s", value_delimiter = ',', num_args = 1..=10,
        value_parser = duration)]
    pub webhook_waits: Vec<Duration>,

    /// Real time for which an attempt waits for its answer, e.g. `10s`.
    #[arg(long, env = "SIMULATE_WEBHOOK_TIMEOUT", default_value = "10s", value_parser = positive_duration)]
    pub webhook_timeout: Duration,

    /// Take `http` addresses of this machine as well; everything else must be `https`.
    #[arg(long, env = "SIMULATE_WEBHOOK_HTTP", default_value_t = true, action = ArgAction::Set)]
    pub webhook_http: bool,

    /// Share (0 to 1) of the deliveries that are never attempted.
    #[arg(long, env = "SIMULATE_WEBHOOK_LOSS", default_value = "0", value_parser = probability)]
    pub webhook_loss: f64,

    /// Share (0 to 1) of the deliveries that are made twice.
    #[arg(long, env = "SIMULATE_WEBHOOK_DOUBLE", default_value = "0", value_parser = probability)]
    pub webhook_double: f64,

    /// Share (0 to 1) of the deliveries that are held back, so that later ones overtake them.
    #[arg(long, env = "SIMULATE_WEBHOOK_REORDER", default_value = "0", value_parser = probability)]
    pub webhook_reorder: f64,

    /// Most real time for which a delivery is held back, drawn uniformly, e.g. `5s`.
    #[arg(long, env = "SIMULATE_WEBHOOK_REORDER_BY", default_value = "5s", value_parser = duration)]
    pub webhook_reorder_by: Duration,

    /// What the body of a webhook holds.
    #[arg(long, env = "SIMULATE_WEBHOOK_SHAPE", value_enum, default_value_t = EventShape::Envelope)]
    pub webhook_shape: EventShape,
}

/// What the flags default to, whatever the environment says.
impl Default for WebhookOptions {
    fn default() -> WebhookOptions {
        WebhookOptions {
            webhook_waits: vec![Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)],
            webhook_timeout: Duration::from_secs(10),
            webhook_http: true,
            webhook_loss: 0.0,
            webhook_double: 0.0,
            webhook_reorder: 0.0,
            webhook_reorder_by: Duration::from_secs(5),
            webhook_shape: EventShape::Envelope,
        }
    }
}
