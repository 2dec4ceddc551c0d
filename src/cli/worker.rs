//! `worker`: sends until it is told to stop, or until nothing is left.

use std::process::ExitCode;

use clap::Args;

use crate::cli::{DatabaseOptions, SOME_FAILED, stop};
use crate::config::{DeliveryOptions, NotifyOptions, WorkerOptions};
use crate::inbound::delivery;
use crate::outbox::status;
use crate::{notify, worker};

const STOPPING: &str = "Stopping: nothing more is claimed, what is in flight is finished and recorded";

/// Send what is inserted, at the pace of the lines, until SIGTERM or SIGINT.
// As usual, the last one of an option that is given twice counts.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:
  chert-outbox worker --concurrency 64
  chert-outbox worker --drain              # end when nothing is due: for a Kubernetes Job or a script
  OUTBOX_LINE_CHOICE=name chert-outbox worker

Exit codes: 0 done, 1 an error, also when --drain ends because dispatch is stopped, 3 with --drain when jobs failed."
)]
pub struct Worker {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    options: WorkerOptions,
    #[command(flatten)]
    delivery: DeliveryOptions,
    #[command(flatten)]
    notify: NotifyOptions,
}

impl Worker {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        self.options.check()?;
        let client = self.options.chert.client()?;
        let notify = self.notify.read()?;
        // Claimer, recorder, upkeep, last look, listener, looker, notifier and one to spare.
        let pool = self.database.outbox(8).await?;
        let drain = self.options.drain;
        let stopping = stop::signaled(|| tracing::info!("{STOPPING}"))?;
        // Both stop where they stand, at the end of a drain too: what they had in hand is taken up by others.
        let looker = tokio::spawn(delivery::run(pool.clone(), client.clone(), self.delivery, stopping.clone()));
        let notifier = tokio::spawn(notify::run(pool.clone(), notify, stopping.clone()));
        let summary = worker::run(pool.clone(), client, self.options, stopping).await?;
        looker.abort();
        notifier.abort();
        if drain {
            outln!("{} sent, {} failed", summary.sent, summary.failed);
            print_remaining(&pool, summary.stopped).await?;
        }
        if summary.unrecorded > 0 {
            anyhow::bail!(
                "{} outcomes could not be recorded in time: their jobs are asked again, with their own keys, when their leases run out",
                summary.unrecorded
            );
        }
        Ok(if drain && summary.failed > 0 { ExitCode::from(SOME_FAILED) } else { ExitCode::SUCCESS })
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
    outln!("{} remain for later:", queued + sending);
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
