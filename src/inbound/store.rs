//! Storing: every event once, however often and by whichever way it comes.

use sqlx::{PgPool, PgTransaction};

use crate::database;
use crate::inbound::InboundError;
use crate::inbound::event::Incoming;

/// The way by which an event came; also the name of its row in `outbox.cursors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Webhook,
    Stream,
    List,
}

impl Source {
    /// As the database calls it.
    pub fn word(self) -> &'static str {
        match self {
            Source::Webhook => "webhook",
            Source::Stream => "stream",
            Source::List => "list",
        }
    }
}

/// Stores events that nobody had to be elected for, and returns how many were new. That they came proves that replies are being
/// received. Committed when it returns. Errors: `InboundError::Store`, nothing stored. Source: invariant 10.
pub async fn store(pool: &PgPool, source: Source, events: &[Incoming]) -> Result<u64, InboundError> {
    let mut tx = database::begin(pool).await.map_err(InboundError::Store)?;
    let new = insert(&mut tx, source, events).await.map_err(InboundError::Store)?;
    // Once a second is enough, and keeps those who store at the same time from waiting for each other.
    // And a webhook says nothing of those before it: after a silence it is the stream or the list that must say so.
    sqlx::query!(
        r#"
        update outbox.cursors
           set proved_at = now()
         where name = $1 and (proved_at is null or proved_at < now() - interval '1 second')
           and (name <> 'webhook'
                or not exists (select from outbox.cursors read
                                where read.name <> 'webhook'
                               having max(read.proved_at) < now() - interval '5 minutes'))
        "#,
        source.word()
    )
    .execute(&mut *tx)
    .await
    .map_err(InboundError::Store)?;
    tx.commit().await.map_err(InboundError::Store)?;
    Ok(new)
}

/// Inserts what is not there yet, and returns how many that were.
pub(super) async fn insert(
    tx: &mut PgTransaction<'_>,
    source: Source,
    events: &[Incoming],
) -> Result<u64, sqlx::Error> {
    if events.is_empty() {
        return Ok(0);
    }
    // In the order of their ids, so that two who store the same events cannot wait for each other.
    let mut events: Vec<&Incoming> = events.iter().collect();
    events.sort_by(|a, b| a.event_id.cmp(&b.event_id));
    let inserted = sqlx::query!(
        r#"
        insert into outbox.events (event_id, type, source, body, phone, occurred_at)
        -- Whatever the clocks of Chert and of whoever read it show: a time from the future would outweigh every word that follows.
        select u.event_id, u.type, $6, u.body, u.phone, least(u.occurred_at, clock_timestamp())
          from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
            as u (event_id, type, body, phone, occurred_at)
            on conflict (event_id) do nothing
        "#,
        &events.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>(),
        &events.iter().map(|event| event.kind.clone()).collect::<Vec<_>>(),
        &events.iter().map(|event| event.body.clone()).collect::<Vec<_>>(),
        &events.iter().map(|event| event.phone.as_ref().map(|phone| phone.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &events.iter().map(|event| event.occurred_at).collect::<Vec<_>>(),
        source.word(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected())
}
