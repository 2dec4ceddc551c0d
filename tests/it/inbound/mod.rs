//! What comes back: by webhook, by stream, by list, and by all of them at once.

mod commands;
mod ways;
mod webhook;

use std::net::SocketAddr;

use chert_outbox::chert::subscriptions::SubscriptionChange;
use chert_outbox::config::InboundOptions;
use chert_outbox::inbound::optout::Words;
use chert_outbox::inbound::{listener, run};
use clap::Parser;
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{Harness, PATIENCE};

/// What a subscription's secret looks like.
const SECRET: &str = "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0";

/// The receiving side's own options, read as from the worker's command line.
#[derive(Parser)]
struct Options {
    #[command(flatten)]
    inbound: InboundOptions,
}

/// The receiving side in this process.
struct Receiver {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Receiver {
    /// Receives by what the options switch on; webhooks of [`SECRET`] on a free port always.
    async fn start(it: &Harness, args: &[&str]) -> Receiver {
        Receiver::with_secret(it, SECRET, args).await
    }

    async fn with_secret(it: &Harness, secret: &str, args: &[&str]) -> Receiver {
        Receiver::on(it, free_port().await, secret, args)
    }

    /// Receives webhooks of a subscription of its own.
    async fn subscribed(it: &Harness, args: &[&str]) -> Receiver {
        let webhooks = free_port().await;
        let url = format!("http://{}/webhooks/chert", webhooks.local_addr().expect("it is bound"));
        let wish = SubscriptionChange { url: Some(url), ..SubscriptionChange::default() };
        let created = it.client().create_subscription(&wish).await.expect("created");
        let secret = created.secret.expect("told").expose_secret().to_owned();
        Receiver::on(it, webhooks, &secret, args)
    }

    fn on(it: &Harness, webhooks: TcpListener, secret: &str, args: &[&str]) -> Receiver {
        let fixed = ["worker", "--webhook-secret", secret, "--events-every", "1s"];
        let options = Options::try_parse_from(fixed.iter().chain(args)).unwrap_or_else(|error| panic!("{error}"));
        let url = it.database.url().parse().expect("a URL");
        let pool = PgPoolOptions::new().max_connections(8).connect_lazy_with(url);
        let addr = webhooks.local_addr().expect("it is bound");
        let (stop, stopping) = watch::channel(false);
        let receiving = run::run(pool, it.client(), options.inbound, Words::default(), Some(webhooks), stopping);
        Receiver { addr, stop, running: tokio::spawn(receiving) }
    }

    fn url(&self) -> String {
        format!("http://{}/webhooks/chert", self.addr)
    }

    /// Stops it in order.
    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.running).await.expect("it stops").expect("it does not panic");
    }
}

async fn free_port() -> TcpListener {
    listener::bind(([127, 0, 0, 1], 0).into()).await.expect("a port is free")
}
