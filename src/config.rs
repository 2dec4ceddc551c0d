//! The options of commands that send: each a flag and an environment variable, documented where its default lives.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};

use crate::chert::auth::Credentials;
use crate::chert::client::{Client, ClientError};
use crate::inbound::optout::Words;
use crate::job::BODY_MAX_CHARS;
use crate::line::LineChoice;
use crate::notify::receiver::Receiver;
use crate::notify::sign::{Key, KeyError};
use crate::pace::slots::HORIZON;
use crate::units::{Rate, duration};

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

/// How a worker works.
#[derive(Debug, Clone, Args)]
pub struct WorkerOptions {
    #[command(flatten)]
    pub chert: ChertOptions,

    #[command(flatten)]
    pub holds: HoldOptions,

    /// How many jobs this process holds at once, waiting for their slot or being sent.
    #[arg(long, env = "OUTBOX_CONCURRENCY", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: u16,

    /// Which line takes a recipient that nobody has written to: `chert` leaves it to Chert, `name` names the line whose
    /// turn it is.
    #[arg(long, env = "OUTBOX_LINE_CHOICE", value_enum, default_value = "chert")]
    pub line_choice: LineChoice,

    /// End when nothing is due or in flight: exit code 0, or 3 if jobs failed.
    #[arg(long)]
    pub drain: bool,

    /// With --drain: what falls due within this time is waited for, such as a retry or the line's next slot.
    #[arg(long, env = "OUTBOX_DRAIN_WAIT", default_value = "10s", value_parser = duration)]
    pub drain_wait: Duration,

    /// How long a claim lasts; longer than the HTTP timeout. The jobs of a worker that was killed wait for this.
    #[arg(long, env = "OUTBOX_LEASE", default_value = "60s", value_parser = duration)]
    pub lease: Duration,

    /// How long Chert is trusted to remember an idempotency key: a job whose outcome has been unknown for that long, less two
    /// leases, is parked for a person instead of being sent again.
    #[arg(long, env = "OUTBOX_KEY_HORIZON", default_value = "24h", value_parser = duration)]
    pub key_horizon: Duration,

    /// The longest wait between two looks at the database when nothing calls this worker.
    #[arg(long, env = "OUTBOX_POLL", default_value = "1s", value_parser = duration)]
    pub poll: Duration,

    /// The wait before a halted account is tried again with one job; it doubles up to 5 min.
    #[arg(long, env = "OUTBOX_PROBE_WAIT", default_value = "30s", value_parser = duration)]
    pub probe_wait: Duration,

    /// How often the lines are read from the API again; `0` never.
    #[arg(long, env = "OUTBOX_LINES_REFRESH", default_value = "5m", value_parser = duration)]
    pub lines_refresh: Duration,

    /// On SIGTERM: how long calls in flight may take to end and be recorded.
    #[arg(long, env = "OUTBOX_GRACE", default_value = "40s", value_parser = duration)]
    pub grace: Duration,

    /// The deployment that this worker serves; it refuses the database of another, such as a restored copy.
    #[arg(long, env = "OUTBOX_DEPLOYMENT", default_value = "default")]
    pub deployment: String,

    /// What this worker is called in `status`; the host's name if it is not given.
    #[arg(long, env = "OUTBOX_WORKER_NAME")]
    pub name: Option<String>,
}

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

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Sends what is inserted.
    Send,
    /// Receives replies and stops.
    Inbound,
    /// Asks what became of messages that were sent.
    Delivery,
    /// Lets campaigns fire, enrols their people and makes their messages.
    Campaigns,
}

/// How campaigns are worked on.
#[derive(Debug, Clone, Copy, Args)]
pub struct CampaignOptions {
    /// How many messages of one campaign may stand in the queue: what comes after them is made when there is room.
    #[arg(long = "campaign-look-ahead", env = "OUTBOX_CAMPAIGN_LOOK_AHEAD", default_value = "500", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub look_ahead: u16,
}

/// What the flag defaults to.
impl Default for CampaignOptions {
    fn default() -> CampaignOptions {
        CampaignOptions { look_ahead: 500 }
    }
}

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

    /// After how many messages without a reply a recipient's jobs of class marketing wait for one; `none` for never.
    #[arg(long, env = "OUTBOX_UNANSWERED_LIMIT", default_value = "3")]
    pub unanswered_limit: UnansweredLimit,
}

/// What the flags default to.
impl Default for HoldOptions {
    fn default() -> HoldOptions {
        HoldOptions {
            hold_on_stale: HoldOnStale::Campaigns,
            stale_after: Duration::from_secs(5 * 60),
            unanswered_limit: UnansweredLimit(Some(3)),
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

/// Between the end of the HTTP timeout and the end of the lease: time to start late and to record.
pub const LEASE_MARGIN: Duration = Duration::from_millis(500);

impl WorkerOptions {
    /// Checks what clap cannot: options that must fit each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let needed = self.chert.http_timeout + HORIZON + LEASE_MARGIN;
        if self.lease < needed {
            return Err(ConfigError::Lease {
                needed: crate::units::show_duration(needed),
                timeout: crate::units::show_duration(self.chert.http_timeout),
            });
        }
        Ok(())
    }

    /// How long after its outcome became unknown a job may still be claimed: two leases less than the key is trusted. The
    /// call may arrive a lease after its claim, and what a dead worker left counts as unknown only from the end of its lease.
    pub fn claims_unknown_for(&self) -> Duration {
        self.key_horizon.saturating_sub(2 * self.lease)
    }
}

/// How deliveries are followed.
#[derive(Debug, Clone, Args)]
pub struct DeliveryOptions {
    /// How often at most this process asks Chert what became of a message, e.g. `5/s`. Sends go before: it asks nothing while
    /// the account is blocked.
    #[arg(long, env = "OUTBOX_LOOKUP_RATE", default_value = "5/s")]
    pub lookup_rate: Rate,
}

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
