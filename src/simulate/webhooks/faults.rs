//! What goes wrong between the log and a webhook.

use serde::{Deserialize, Serialize};

use crate::simulate::clock::micros;
use crate::simulate::fault::FaultsError;
use crate::simulate::options::{EventShape, WebhookOptions};

/// Shares (0 to 1) of the deliveries; they do not exclude each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookFaults {
    /// Never attempted.
    pub loss: f64,
    /// Made twice.
    pub double: f64,
    /// Held back, so that later ones overtake them.
    pub reorder: f64,
    /// Most real milliseconds for which one is held back, drawn uniformly.
    pub reorder_by_ms: u64,
    /// What the body holds.
    pub shape: EventShape,
}

impl WebhookFaults {
    /// Those of the flags.
    pub fn of(options: &WebhookOptions) -> WebhookFaults {
        WebhookFaults {
            loss: options.webhook_loss,
            double: options.webhook_double,
            reorder: options.webhook_reorder,
            reorder_by_ms: u64::try_from(micros(options.webhook_reorder_by) / 1000).unwrap_or(0),
            shape: options.webhook_shape,
        }
    }

    /// These faults, if they make sense. Errors: `FaultsError::Probabilities`.
    pub fn checked(self) -> Result<WebhookFaults, FaultsError> {
        let shares = [self.loss, self.double, self.reorder];
        if shares.iter().all(|share| (0.0..=1.0).contains(share)) { Ok(self) } else { Err(FaultsError::Probabilities) }
    }
}

/// No faults, and envelopes.
impl Default for WebhookFaults {
    fn default() -> WebhookFaults {
        WebhookFaults::of(&WebhookOptions::default())
    }
}
