//! Where the producer's application is told.

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::ConfigError;
use crate::notify::receiver::Receiver;
use crate::notify::sign::Key;

/// How the producer's application is told.
#[derive(Debug, Clone, Args)]
pub struct NotifyOptions {
    /// Where signed webhooks tell of messages that were sent, delivered, read, failed or answered (Standard Webhooks), e.g.
    /// `https://app.example/hooks/outbox`. One for the whole deployment; `none` switches them off again for all workers.
    #[arg(long, env = "OUTBOX_NOTIFY_URL", hide_env_values = true)]
    pub notify_url: Option<String>,

    /// What they are signed with, `whsec_` and 24 to 64 bytes in base64; best given in the environment.
    #[arg(long, env = "OUTBOX_NOTIFY_SECRET", hide_env_values = true)]
    pub notify_secret: Option<SecretString>,

    /// Name the recipient's number in them.
    #[arg(long, env = "OUTBOX_NOTIFY_PHONE")]
    pub notify_phone: bool,
}

/// What the options say about webhooks out.
#[derive(Debug, Clone)]
pub enum Notify {
    /// Nothing: this process posts none, and others go on.
    Unsaid,
    /// Nobody posts any more.
    Off,
    To(Receiver),
}

impl NotifyOptions {
    /// Reads the options. Errors: an address that is none, or no secret for it.
    pub fn read(&self) -> Result<Notify, ConfigError> {
        let url = match self.notify_url.as_deref().map(str::trim) {
            None | Some("") => return Ok(Notify::Unsaid),
            Some("none") => return Ok(Notify::Off),
            Some(url) => reqwest::Url::parse(url).map_err(|_| ConfigError::NotifyUrl)?,
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ConfigError::NotifyUrl);
        }
        let secret = self.notify_secret.as_ref().filter(|secret| !secret.expose_secret().is_empty());
        let key = Key::read(secret.ok_or(ConfigError::NoNotifySecret)?)?;
        Ok(Notify::To(Receiver::new(url, key, self.notify_phone)?))
    }
}
