//! Before the first claim: what was said while nobody listened is heard, so that a stop of that time counts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::database;
use crate::inbound::InboundError;

/// Sending begins after this long at the latest: a Chert that tells nothing is no reason never to begin.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether all is heard. The list is read within a call or two.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// While the database is away.
const LOOK_LATER: Duration = Duration::from_millis(500);

/// Waits until Chert's log was read to its end by somebody who began after this, and what it brought is applied; for 5 s at most.
pub async fn catch_up(pool: &PgPool) {
    match timeout(PATIENCE, heard(pool)).await {
        Ok(()) => debug!("What was said meanwhile is heard"),
        Err(_) => warn!("Sending begins, and the event list could not be read yet: a stop may be missed until it is"),
    }
}

async fn heard(pool: &PgPool) {
    let mut began = None;
    let mut newest = None;
    loop {
        let wait = match look(pool, began).await {
            Ok(look) => {
                began.get_or_insert(look.now);
                // What comes later is of a time in which somebody listens.
                newest = newest.or(look.has_read.then_some(look.newest));
                if newest.is_some_and(|newest| look.oldest > newest) {
                    return;
                }
                LOOK_EVERY
            }
            Err(error) => {
                debug!(%error, "It cannot be seen whether all is heard");
                LOOK_LATER
            }
        };
        sleep(wait).await;
    }
}

struct Look {
    now: DateTime<Utc>,
    /// The list was read to its end since the first look.
    has_read: bool,
    /// The oldest of the events that are not applied; without any, what is newer than all.
    oldest: i64,
    /// The newest event.
    newest: i64,
}

/// By the database's clock, which also stamps the reading.
async fn look(pool: &PgPool, began: Option<DateTime<Utc>>) -> Result<Look, InboundError> {
    let mut tx = database::begin(pool).await.map_err(InboundError::Read)?;
    sqlx::query_as!(
        Look,
        r#"
        select clock_timestamp() as "now!",
               coalesce((select c.proved_at >= $1 from outbox.cursors c where c.name = 'list'), false) as "has_read!",
               coalesce((select e.id from outbox.events e where e.applied_at is null order by e.id limit 1), 9223372036854775807) as "oldest!",
               coalesce((select max(e.id) from outbox.events e), 0) as "newest!"
        "#,
        began,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(InboundError::Read)
}
