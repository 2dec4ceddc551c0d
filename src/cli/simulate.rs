//! `simulate`: runs the local Chert until it is told to stop.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use secrecy::ExposeSecret as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::simulate::{self, DEFAULT_SECRET, Options};
use crate::units::counted;

/// Run a local Chert: same routes, rules, errors and events, faults on demand, recipients that answer, and a ledger of what
/// every phone received.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox simulate --port 9900 --lines 5
  chert-outbox simulate --time-scale 600            # ten minutes pass in one second
  chert-outbox simulate --fault-drop-after 0.05     # one connection in twenty breaks after the message was taken
  chert-outbox simulate --recipients scripted --reply-after 5s   # people answer, react and say stop, by their numbers
  chert-outbox simulate --read-share 0.6 --failed-share 0.02     # some messages are read, some fail
  chert-outbox simulate --webhook-loss 0.1 --webhook-double 0.1  # webhooks are lost and come twice
  curl -s http://127.0.0.1:9900/_sim/ledger
  curl -X POST http://127.0.0.1:9900/_sim/receive -d '{\"phone\":\"+15550142200\",\"text\":\"STOP\"}'
  curl -s http://127.0.0.1:9900/_sim/events
  curl -X PUT http://127.0.0.1:9900/_sim/webhooks -d '{\"reorder\":0.5,\"reorder_by_ms\":2000}'
  curl -X PUT http://127.0.0.1:9900/_sim/faults -d '{\"next\":[{\"kind\":\"error\",\"code\":4001}]}'")]
pub struct Simulate {
    #[command(flatten)]
    options: Box<Options>,
}

impl Simulate {
    /// Says on standard output how to use it.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        // Before the start, so that a signal sent on sight of the first line below is not lost.
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let options = self.options;
        let secret = options.secret.clone();
        let (tenant, lines, time_scale) = (options.tenant.clone(), options.lines, options.time_scale);
        let simulator = simulate::start(*options).await.context("starting the simulator")?;

        let lines = counted(lines, "line", "lines");
        outln!("Simulating Chert with {lines}; one real second is {time_scale} simulated. Stop with Ctrl-C.");
        outln!("export CHERT_BASE_URL={}", simulator.base_url());
        // Another secret came from the caller, perhaps a real one: it does not belong on a screen or in a log.
        if secret.expose_secret() == DEFAULT_SECRET {
            outln!("export CHERT_SIGNING_SECRET={DEFAULT_SECRET}");
        } else {
            outln!("# CHERT_SIGNING_SECRET: the one that you gave");
        }
        outln!("export CHERT_TENANT={tenant}");
        outln!("# what each phone received: {}/ledger", simulator.admin_url());

        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        simulator.shutdown().await;
        Ok(ExitCode::SUCCESS)
    }
}
