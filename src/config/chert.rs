//! Where Chert is, and who calls.

use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};

use crate::chert::auth::Credentials;
use crate::chert::client::Client;
use crate::config::ConfigError;
use crate::units::duration;

/// How to reach the Chert API and prove who calls.
#[derive(Debug, Clone, Args)]
pub struct ChertOptions {
    /// Where the API is; `chert-outbox simulate` is at http://127.0.0.1:9900/api/v1.
    #[arg(long, env = "CHERT_BASE_URL", default_value = "https://console.trychert.com/api/v1")]
    pub base_url: String,

    /// The tenant's secret; best given in the environment, where no process list shows it.
    #[arg(long, env = "CHERT_SIGNING_SECRET", hide_env_values = true)]
    pub signing_secret: Option<SecretString>,

    /// The tenant's slug; needed with --auth hmac.
    #[arg(long, env = "CHERT_TENANT")]
    pub tenant: Option<String>,

    /// How calls are authenticated: with the secret itself, or with a signature made by it.
    #[arg(long, env = "CHERT_AUTH", value_enum, default_value = "bearer")]
    pub auth: AuthMode,

    /// How long a call may take before its outcome counts as unknown, e.g. `30s`.
    #[arg(long = "http-timeout", env = "OUTBOX_HTTP_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub http_timeout: Duration,
}

/// The two ways to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    Bearer,
    Hmac,
}

impl ChertOptions {
    /// A client with these options.
    pub fn client(&self) -> Result<Client, ConfigError> {
        if self.http_timeout < Duration::from_millis(100) {
            return Err(ConfigError::Timeout);
        }
        let secret = self.signing_secret.clone().filter(|secret| !secret.expose_secret().is_empty());
        let secret = secret.ok_or(ConfigError::NoSecret)?;
        let credentials = match self.auth {
            AuthMode::Bearer => Credentials::Bearer { secret, tenant: self.tenant.clone() },
            AuthMode::Hmac => Credentials::Hmac { secret, tenant: self.tenant.clone().ok_or(ConfigError::NoTenant)? },
        };
        Ok(Client::new(&self.base_url, credentials, self.http_timeout)?)
    }
}
