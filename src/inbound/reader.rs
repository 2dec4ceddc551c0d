//! One reader a deployment: whoever holds the lease of a cursor reads the stream or the list, and every write of it names the
//! fence, so that a reader that was thought dead moves nothing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::database;
use crate::inbound::InboundError;
use crate::inbound::event::Incoming;
use crate::inbound::store::{Source, insert};
use crate::outbox::admit::interval;

/// The right to read by one way, as long as its lease is kept.
#[derive(Debug, Clone)]
pub struct Reader {
    source: Source,
    fence: i64,
    /// How far the reader before had come.
    pub position: Option<String>,
    /// How long ago this way last proved that replies are being received.
    pub proved_ago: Option<Duration>,
    /// What the database's clock showed when the answer came, or a little before.
    elected: (DateTime<Utc>, Instant),
}

/// Takes the lease of `source` for `holder`, or keeps it; none if somebody else holds it. `holder` is unique to a process.
/// Errors: `InboundError::Elect`.
pub async fn elect(
    pool: &PgPool,
    source: Source,
    holder: &str,
    lease: Duration,
) -> Result<Option<Reader>, InboundError> {
    let mut tx = database::begin(pool).await.map_err(InboundError::Elect)?;
    let elected = sqlx::query!(
        r#"
        update outbox.cursors
           set fence = fence + (holder is distinct from $2)::int, holder = $2, lease_until = clock_timestamp() + $3::interval
         where name = $1 and (holder is null or holder = $2 or lease_until < clock_timestamp())
        returning fence, position, extract(epoch from clock_timestamp() - proved_at)::float8 as proved_secs_ago,
                  clock_timestamp() as "now!"
        "#,
        source.word(),
        holder,
        interval(lease),
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(InboundError::Elect)?;
    tx.commit().await.map_err(InboundError::Elect)?;
    Ok(elected.map(|row| Reader {
        source,
        fence: row.fence,
        position: row.position,
        proved_ago: row.proved_secs_ago.map(|secs| Duration::try_from_secs_f64(secs).unwrap_or_default()),
        elected: (row.now, Instant::now()),
    }))
}

impl Reader {
    /// What the database's clock shows. Not this machine's: one that is behind would make replies older than what they answer, and
    /// one that is ahead would pass over events.
    pub fn now(&self) -> DateTime<Utc> {
        let (time, instant) = self.elected;
        time + TimeDelta::from_std(instant.elapsed()).unwrap_or_default()
    }

    /// Stores what was read and moves on to `position`, or stays where it is without one; both or neither. It also proves that
    /// replies are being received: the stream always, the list only with the position, which it moves when it has read all. Returns how many events were new.
    /// Errors: `InboundError::LostElection` if somebody else reads now, nothing stored; `InboundError::Store`.
    pub async fn advance(
        &self,
        pool: &PgPool,
        events: &[Incoming],
        position: Option<&str>,
    ) -> Result<u64, InboundError> {
        let mut tx = database::begin(pool).await.map_err(InboundError::Store)?;
        let moved = sqlx::query!(
            r#"
            update outbox.cursors
               set position = coalesce($3, position), proved_at = case when $3 is not null or $4 then now() else proved_at end
             where name = $1 and fence = $2
            "#,
            self.source.word(),
            self.fence,
            position,
            self.source == Source::Stream,
        )
        .execute(&mut *tx)
        .await
        .map_err(InboundError::Store)?;
        if moved.rows_affected() == 0 {
            return Err(InboundError::LostElection);
        }
        let new = insert(&mut tx, self.source, events).await.map_err(InboundError::Store)?;
        tx.commit().await.map_err(InboundError::Store)?;
        Ok(new)
    }

    /// Gives the lease back, so that the next reader need not wait for its end.
    pub async fn resign(&self, pool: &PgPool) -> Result<(), InboundError> {
        let mut tx = database::begin(pool).await.map_err(InboundError::Elect)?;
        sqlx::query!(
            "update outbox.cursors set holder = null, lease_until = null where name = $1 and fence = $2",
            self.source.word(),
            self.fence
        )
        .execute(&mut *tx)
        .await
        .map_err(InboundError::Elect)?;
        tx.commit().await.map_err(InboundError::Elect)
    }
}
