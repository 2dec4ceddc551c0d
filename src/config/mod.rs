//! The options of commands that send: each a flag and an environment variable, documented where its default lives.

mod chert;
mod holds;
mod inbound;
mod notify;
mod worker;

pub use chert::{AuthMode, ChertOptions};
pub use holds::{HoldOnStale, HoldOptions, UnansweredLimit, UnansweredOptions};
pub use inbound::{InboundOptions, OptOutScope, ReplyOptions, Switch};
pub use notify::{Notify, NotifyOptions};
pub use worker::{CampaignOptions, DeliveryOptions, LEASE_MARGIN, Role, WorkerOptions};

use crate::chert::client::ClientError;
use crate::notify::sign::KeyError;

/// An option that is missing or does not fit, as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("CHERT_SIGNING_SECRET is not set: put the tenant's secret there (console → API keys → Reveal)")]
    NoSecret,
    #[error("CHERT_TENANT is not set: HMAC needs the tenant's slug")]
    NoTenant,
    #[error("OUTBOX_HTTP_TIMEOUT must be at least 100ms")]
    Timeout,
    #[error(
        "OUTBOX_LEASE must be at least {needed} with an HTTP timeout of {timeout}: a lease outlives the call it covers"
    )]
    Lease { needed: String, timeout: String },
    #[error(
        "CHERT_WEBHOOK_SECRET is not set: OUTBOX_WEBHOOK_LISTEN needs the secret that Chert told when the subscription was created \
         (chert-outbox webhooks create)"
    )]
    NoWebhookSecret,
    #[error("OUTBOX_EVENTS_EVERY must be at least 1s")]
    EventsEvery,
    #[error(
        "OUTBOX_OPT_OUT_TEXT is blank or too long: write the text that a stop is answered with, or leave it empty for none"
    )]
    OptOutText,
    #[error("OUTBOX_OPT_OUT_WORDS: {0}")]
    Words(String),
    #[error("CHERT_BASE_URL: {0}")]
    Client(#[from] ClientError),
    #[error("OUTBOX_NOTIFY_URL must look like https://app.example/hooks/outbox, or be none")]
    NotifyUrl,
    #[error("OUTBOX_NOTIFY_SECRET is not set: what is posted to OUTBOX_NOTIFY_URL is signed with it")]
    NoNotifySecret,
    #[error("OUTBOX_NOTIFY_SECRET: {0}")]
    NotifySecret(#[from] KeyError),
    #[error("setting up the HTTP client for OUTBOX_NOTIFY_URL")]
    NotifySetup(#[from] reqwest::Error),
}
