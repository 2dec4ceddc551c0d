//! The wake-up call: one listening connection that rings the bell at every committed insert. Where LISTEN does not work,
//! behind a transaction-mode pooler, polling alone carries on.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tracing::debug;

use crate::database;
use crate::worker::Shared;

/// The trigger `wake_workers` notifies here.
const CHANNEL: &str = "outbox_jobs";
/// Before listening is tried again.
const RETRY_WAIT: Duration = Duration::from_secs(5);

/// Listens until it is dropped.
pub async fn listen(shared: Arc<Shared>) {
    // It would be the pooler's session that listens, and whoever it is lent to next that is called.
    if database::is_pooled(&shared.pool) {
        return;
    }
    loop {
        if let Err(error) = ring(&shared).await {
            debug!(error = database::describe(&error), "Not listening; polling goes on");
        }
        tokio::time::sleep(RETRY_WAIT).await;
    }
}

async fn ring(shared: &Shared) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(&shared.pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        // `None`: the connection was lost and is made again at the next call; what was missed is asked for.
        listener.try_recv().await?;
        shared.bell.notify_one();
    }
}
