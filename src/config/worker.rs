//! How a worker works, and what it does.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::config::{ChertOptions, ConfigError, HoldOptions};
use crate::line::LineChoice;
use crate::pace::slots::HORIZON;
use crate::units::{Rate, duration, show_duration};

/// Between the end of the HTTP timeout and the end of the lease: time to start late and to record.
pub const LEASE_MARGIN: Duration = Duration::from_millis(500);

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

impl WorkerOptions {
    /// Checks what clap cannot: options that must fit each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let needed = self.chert.http_timeout + HORIZON + LEASE_MARGIN;
        if self.lease < needed {
            return Err(ConfigError::Lease {
                needed: show_duration(needed),
                timeout: show_duration(self.chert.http_timeout),
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
    /// How many messages of one campaign that any line may take may stand in the queue, first touches and follow-ups apart, and of each line
    /// its share of as many, at least ten: what comes after them is made when there is room.
    #[arg(long = "campaign-look-ahead", env = "OUTBOX_CAMPAIGN_LOOK_AHEAD", default_value = "500", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub look_ahead: u16,
}

impl CampaignOptions {
    /// How many may stand there of one of so many lines.
    pub fn look_ahead_of_a_line(self, lines: usize) -> u16 {
        // Of hundreds of lines none has nothing to do until the next pass.
        const LEAST: usize = 10;
        let share = (usize::from(self.look_ahead) / lines.max(1)).max(LEAST);
        u16::try_from(share).map_or(self.look_ahead, |share| share.min(self.look_ahead))
    }
}

/// What the flag defaults to.
impl Default for CampaignOptions {
    fn default() -> CampaignOptions {
        CampaignOptions { look_ahead: 500 }
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
