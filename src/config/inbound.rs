//! How replies come in, and what they do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::ConfigError;
use crate::inbound::optout::Words;
use crate::job::BODY_MAX_CHARS;
use crate::units::duration;

/// How replies and stops are received, and what they do.
#[derive(Debug, Clone, Args)]
pub struct InboundOptions {
    /// Receive webhooks here, at /webhooks/chert, e.g. 127.0.0.1:8081; not at all unless it is given. Chert posts to public
    /// HTTPS only, so a proxy that ends TLS stands in front.
    #[arg(long, env = "OUTBOX_WEBHOOK_LISTEN")]
    pub webhook_listen: Option<SocketAddr>,

    /// The secret of the webhook subscription, which Chert tells once; during a rotation the current and the previous one,
    /// separated by a comma.
    #[arg(long = "webhook-secret", env = "CHERT_WEBHOOK_SECRET", hide_env_values = true, value_delimiter = ',')]
    pub webhook_secrets: Vec<SecretString>,

    /// Hear events as they happen, on a connection to Chert; one worker of all does.
    #[arg(long, env = "OUTBOX_EVENTS_STREAM", value_enum, default_value = "on")]
    pub events_stream: Switch,

    /// Read Chert's list of events from time to time, which brings whatever the other ways have lost.
    #[arg(long, env = "OUTBOX_EVENTS_LIST", value_enum, default_value = "on")]
    pub events_list: Switch,

    /// How often the list of events is read.
    #[arg(long, env = "OUTBOX_EVENTS_EVERY", default_value = "1m", value_parser = duration)]
    pub events_every: Duration,

    #[command(flatten)]
    pub replies: ReplyOptions,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Switch {
    pub fn is_on(self) -> bool {
        self == Switch::On
    }
}

impl InboundOptions {
    /// Checks what clap cannot: options that need each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.webhook_listen.is_some() && self.secrets().is_empty() {
            return Err(ConfigError::NoWebhookSecret);
        }
        if self.events_every < Duration::from_secs(1) {
            return Err(ConfigError::EventsEvery);
        }
        self.replies.check()
    }

    /// The secrets that a webhook may be signed with; what was left empty is none.
    pub fn secrets(&self) -> Vec<SecretString> {
        let given = self.webhook_secrets.iter().map(|secret| secret.expose_secret().trim());
        given.filter(|secret| !secret.is_empty()).map(SecretString::from).collect()
    }
}

/// What replies do.
#[derive(Debug, Clone, Args)]
pub struct ReplyOptions {
    /// The one text that a stop is answered with; empty for none.
    #[arg(
        long,
        env = "OUTBOX_OPT_OUT_TEXT",
        default_value = "You are unsubscribed and will get no more messages. Reply START to get them again."
    )]
    pub opt_out_text: String,

    /// How long after a stop its answer may still go.
    #[arg(long, env = "OUTBOX_OPT_OUT_WITHIN", default_value = "5m", value_parser = duration)]
    pub opt_out_within: Duration,

    /// What a stop covers: `all`, or only the `campaign` of the message that it most likely answers.
    #[arg(long, env = "OUTBOX_OPT_OUT_SCOPE", value_enum, default_value = "all")]
    pub opt_out_scope: OptOutScope,

    /// Files with more words for stop, start and review, separated by commas; the built-in lists are English, Spanish, French,
    /// German and Portuguese.
    #[arg(long, env = "OUTBOX_OPT_OUT_WORDS", value_delimiter = ',')]
    pub opt_out_words: Vec<PathBuf>,
}

/// What a stop covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptOutScope {
    All,
    Campaign,
}

impl ReplyOptions {
    /// The built-in words and those of the files.
    /// Errors: a file that cannot be read, with its name, and the line that is to blame.
    pub fn words(&self) -> Result<Words, ConfigError> {
        let mut words = Words::default();
        for path in &self.opt_out_words {
            let name = path.display().to_string();
            let list = std::fs::read_to_string(path).map_err(|error| ConfigError::Words(format!("{name}: {error}")))?;
            words.extend(&name, &list).map_err(|error| ConfigError::Words(error.to_string()))?;
        }
        Ok(words)
    }

    /// Checks what clap cannot.
    pub fn check(&self) -> Result<(), ConfigError> {
        let is_blank = !self.opt_out_text.is_empty() && self.opt_out_text.trim().is_empty();
        if is_blank || self.opt_out_text.chars().count() > BODY_MAX_CHARS || self.opt_out_text.contains('\0') {
            return Err(ConfigError::OptOutText);
        }
        Ok(())
    }
}
