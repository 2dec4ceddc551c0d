//! All ways in, side by side, until they are told to stop.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::chert::ask::AskError;
use crate::chert::client::Client;
use crate::config::InboundOptions;
use crate::inbound::reader::Reader;
use crate::inbound::{InboundError, list, listener, stream, webhook};

/// How long giving a lease back may take; it runs out by itself.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(2);

/// What all ways in share.
pub(super) struct Shared {
    pub pool: PgPool,
    pub client: Client,
    /// Who we are to other readers; new at every start.
    pub holder: String,
}

/// Why reading by one of the ways has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WayError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Inbound(#[from] InboundError),
    #[error("no answer from the database in time")]
    SlowDatabase,
}

/// Receives by the ways that are switched on, and by webhook if there is a listener, until `stopping` turns true; then answers
/// what is in flight, and lets others read. A database or a Chert that goes away is waited for.
pub async fn run(
    pool: PgPool,
    client: Client,
    options: InboundOptions,
    webhooks: Option<TcpListener>,
    stopping: watch::Receiver<bool>,
) {
    let holder = uuid::Uuid::now_v7().to_string();
    let shared = Arc::new(Shared { pool: pool.clone(), client, holder });
    let mut ways = JoinSet::new();
    if let Some(listener) = webhooks {
        let routes = webhook::routes(pool, options.secrets());
        ways.spawn(listener::serve(listener, routes, stopping.clone()));
    }
    if options.events_stream.is_on() {
        ways.spawn(stream::run(shared.clone(), stopping.clone()));
    }
    if options.events_list.is_on() {
        ways.spawn(list::run(shared, options.events_every, stopping));
    }
    ways.join_all().await;
}

/// Returns when it is time to stop.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Whoever could have said so may be gone.
    let _ = stopping.wait_for(|stop| *stop).await;
}

impl Shared {
    /// Gives the lease back if the database lets us.
    pub async fn resign(&self, reader: &Reader) {
        match timeout(RESIGN_TIMEOUT, reader.resign(&self.pool)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "A lease was not given back, and runs out"),
            Err(_) => debug!("A lease was not given back in time, and runs out"),
        }
    }
}
