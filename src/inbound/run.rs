//! All ways in and the applying, side by side, until they are told to stop.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use crate::chert::ask::AskError;
use crate::chert::client::Client;
use crate::config::InboundOptions;
use crate::inbound::apply::Applier;
use crate::inbound::optout::Words;
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
    /// Rung when new events were stored, for whoever applies them.
    pub bell: Arc<Notify>,
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

/// Receives by the ways that are switched on, and by webhook if there is a listener, and applies what is stored, until
/// `stopping` turns true; then answers what is in flight, and lets others read. A database or a Chert that goes away is waited for.
pub async fn run(
    pool: PgPool,
    client: Client,
    options: InboundOptions,
    words: Words,
    webhooks: Option<TcpListener>,
    stopping: watch::Receiver<bool>,
) {
    let (holder, bell) = (uuid::Uuid::now_v7().to_string(), Arc::new(Notify::new()));
    let shared = Arc::new(Shared { pool: pool.clone(), client, holder, bell: bell.clone() });
    let mut ways = JoinSet::new();
    let applier = Applier::new(words, options.replies.clone());
    let (applied, until) = (pool, stopping.clone());
    ways.spawn(async move { applier.run(&applied, &bell, until).await });
    if let Some(listener) = webhooks {
        let routes = webhook::routes(shared.clone(), options.secrets());
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
    /// So many events that nobody knew were stored.
    pub fn stored(&self, new: u64, way: &str) {
        if new > 0 {
            debug!("{new} new events came by the {way}");
            self.bell.notify_one();
        }
    }

    /// Gives the lease back if the database lets us.
    pub async fn resign(&self, reader: &Reader) {
        match timeout(RESIGN_TIMEOUT, reader.resign(&self.pool)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "A lease was not given back, and runs out"),
            Err(_) => debug!("A lease was not given back in time, and runs out"),
        }
    }
}
