//! `worker`: sends and receives until it is told to stop, or until nothing is left to send.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::campaign::engine::Engine;
use crate::chert::client::Client;
use crate::cli::{DatabaseOptions, SOME_FAILED, stop};
use crate::config::{CampaignOptions, DeliveryOptions, InboundOptions, NotifyOptions, Role, WorkerOptions};
use crate::inbound::{catchup, delivery, listener, run};
use crate::notify;
use crate::outbox::{account, status};
use crate::units::counted;
use crate::worker::{self, Summary};

const STOPPING: &str = "Stopping: nothing more is claimed, what is in flight is finished and recorded";
/// How long receiving may take to end; each of its parts is given less.
const INBOUND_GRACE: Duration = Duration::from_secs(15);

/// Send what is inserted, at the pace of the lines, and receive replies, until SIGTERM or SIGINT.
// As usual, the last one of an option that is given twice counts.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  chert-outbox worker --concurrency 64
  chert-outbox worker --drain              # end when nothing is due: for a Kubernetes Job or a script
  chert-outbox worker --webhook-listen 0.0.0.0:8081        # with CHERT_WEBHOOK_SECRET, behind a proxy that ends TLS
  chert-outbox worker --roles inbound      # receive only
  OUTBOX_LINE_CHOICE=name chert-outbox worker

Exit codes: 0 done, 1 an error, also when --drain ends because dispatch is stopped, 3 with --drain when jobs failed."
)]
pub struct Worker {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    options: WorkerOptions,
    #[command(flatten)]
    inbound: InboundOptions,
    #[command(flatten)]
    delivery: DeliveryOptions,
    #[command(flatten)]
    notify: NotifyOptions,
    #[command(flatten)]
    campaigns: CampaignOptions,

    /// What this worker does.
    #[arg(
        long,
        env = "OUTBOX_ROLES",
        value_enum,
        value_delimiter = ',',
        default_value = "send,inbound,delivery,campaigns"
    )]
    roles: Vec<Role>,
}

impl Worker {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        self.options.check()?;
        self.inbound.check()?;
        let sends = self.roles.contains(&Role::Send);
        anyhow::ensure!(sends || !self.options.drain, "--drain needs the role send: add it to OUTBOX_ROLES");
        let client = self.options.chert.client()?;
        let notify = self.notify.read()?;
        // Claimer, recorder, upkeep, last look, listener, looker, notifier and one to spare.
        let pool = self.database.outbox(8).await?;
        // A restored copy neither asks nor tells.
        account::namespace(&pool, &self.options.deployment).await?;
        let drain = self.options.drain;
        let stopping = stop::signaled(|| tracing::info!("{STOPPING}"))?;
        // Both end where they stand: what they have in hand is taken up by others.
        let mut following = JoinSet::new();
        following.spawn(notify::run(pool.clone(), notify, stopping.clone()));
        if self.roles.contains(&Role::Delivery) {
            following.spawn(delivery::run(pool.clone(), client.clone(), self.delivery, stopping.clone()));
        }
        if self.roles.contains(&Role::Campaigns) {
            // Connections of its own: an audience is read and written on two at once.
            let engine =
                Engine::new(self.database.outbox(4).await?, self.campaigns, self.options.holds.unanswered.limit.0);
            let stopping = stopping.clone();
            following.spawn(async move { engine.run(stopping).await });
        }
        let hears = self.roles.contains(&Role::Inbound) && self.inbound.events_list.is_on();
        let mut receiving = match self.roles.contains(&Role::Inbound) {
            true => {
                Some(Receiving::start(&self.database, client.clone(), self.inbound, &self.options.deployment).await?)
            }
            false => None,
        };
        let sending = async {
            if sends && hears {
                catchup::catch_up(&pool).await;
            }
            send(sends, pool.clone(), client, self.options, stopping).await
        };
        let summary = tokio::select! {
            summary = sending => summary?,
            () = broken(&mut receiving) => anyhow::bail!("receiving has ended by a fault of its own: this is a bug"),
        };
        following.shutdown().await;
        if let Some(receiving) = receiving {
            receiving.stop().await?;
        }
        if drain {
            outln!("{} sent, {} failed", summary.sent, summary.failed);
            print_remaining(&pool, summary.stopped).await?;
        }
        if summary.unrecorded > 0 {
            anyhow::bail!(
                "{} could not be recorded in time: each of those jobs is asked again, with its own key, when its lease runs out",
                counted(summary.unrecorded, "outcome", "outcomes")
            );
        }
        Ok(if drain && summary.failed > 0 { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
    }
}

/// Sends, or only waits for the end.
async fn send(
    sends: bool,
    pool: sqlx::PgPool,
    client: Client,
    options: WorkerOptions,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<Summary> {
    if sends {
        return Ok(worker::run(pool, client, options, stopping).await?);
    }
    stopping.wait_for(|stop| *stop).await?;
    Ok(Summary::default())
}

/// The receiving side, beside the sending one. It goes on while the last calls are finished: a stop that comes then counts.
struct Receiving {
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Receiving {
    async fn start(
        database: &DatabaseOptions,
        client: Client,
        options: InboundOptions,
        deployment: &str,
    ) -> anyhow::Result<Receiving> {
        let words = options.replies.words()?;
        // Connections of its own: a flood of webhooks does not hold up what is sent.
        let pool = database.outbox(8).await?;
        account::namespace(&pool, deployment).await?;
        let webhooks = match options.webhook_listen {
            Some(addr) => Some(listener::bind(addr).await?),
            None => None,
        };
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(run::run(pool, client, options, words, webhooks, stopping));
        Ok(Receiving { stop, running })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(INBOUND_GRACE, self.running).await;
        ended.context("receiving did not end in time")?.context("receiving ended by a fault of its own: this is a bug")
    }
}

/// Returns if receiving has ended though nobody told it to.
async fn broken(receiving: &mut Option<Receiving>) {
    match receiving {
        Some(Receiving { running, .. }) => drop(running.await),
        None => std::future::pending().await,
    }
}

/// Errors: dispatch is stopped, so that what remains did not remain by choice.
async fn print_remaining(pool: &sqlx::PgPool, stopped: Option<String>) -> anyhow::Result<()> {
    let status = status::status(pool).await?;
    let stopped = status.account.reason.clone().filter(|_| status.account.blocked).or(stopped);
    let sending = status.jobs.get("sending").copied().unwrap_or(0);
    let queued = status.jobs.get("queued").copied().unwrap_or(0);
    if queued + sending == 0 {
        outln!("nothing remains");
        return Ok(());
    }
    outln!("{} for later:", counted(queued + sending, "remains", "remain"));
    for (word, count) in &status.waiting {
        outln!("  {count:>7}  {word}: {}", status::explain(word));
    }
    if sending > 0 {
        outln!("  {sending:>7}  sending: in the hands of another worker, or of one that died and whose lease runs out");
    }
    match stopped {
        Some(why) => anyhow::bail!("dispatch is stopped: {why}"),
        None => Ok(()),
    }
}
