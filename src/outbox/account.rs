//! The account: what stops every worker at once, and who may try whether it has passed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgPool, PgTransaction};

use crate::database::{self, DatabaseError};
use crate::outbox::OutboxError;
use crate::outbox::admit::interval;

/// A probe is sent after this long, then after twice as long each time, up to the longest.
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(5 * 60);

/// Why nobody may send. Rate limits pass by themselves; a halt ends with the first answer to a probe.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    RateLimited { wait: Duration },
    Halted { why: String, code: Option<i32> },
}

impl Block {
    /// Which of several counts: a halt, else the longest wait.
    pub(crate) fn strength(&self) -> Duration {
        match self {
            Block::RateLimited { wait } => *wait,
            Block::Halted { .. } => Duration::MAX,
        }
    }
}

/// The namespace of this database's idempotency keys.
/// Errors: `DatabaseError::Deployment` when the database was migrated for another deployment.
pub async fn namespace(pool: &PgPool, deployment: &str) -> Result<String, DatabaseError> {
    let failed = |error: sqlx::Error| DatabaseError::Version(database::describe(&error));
    let mut tx = database::begin_plain(pool).await.map_err(failed)?;
    let account =
        sqlx::query!("select namespace, deployment from outbox.account").fetch_one(&mut *tx).await.map_err(failed)?;
    if account.deployment == deployment {
        Ok(account.namespace)
    } else {
        Err(DatabaseError::Deployment { found: account.deployment, wanted: deployment.to_owned() })
    }
}

/// Stops everybody. A halt that is there already keeps its next probe; a shorter rate limit never shortens a longer one.
pub(crate) async fn block(tx: &mut PgTransaction<'_>, block: &Block, probe_wait: Duration) -> Result<(), sqlx::Error> {
    match block {
        Block::RateLimited { wait } => sqlx::query!(
            r#"
            update outbox.account
               set block_kind = 'rate_limited', block_reason = 'Chert answered 1007: too many requests', block_code = 1007,
                   blocked_at = coalesce(blocked_at, clock_timestamp()),
                   blocked_until = greatest(blocked_until, clock_timestamp() + $1::interval)
             where block_kind is distinct from 'halted'
            "#,
            interval(*wait),
        ),
        Block::Halted { why, code } => sqlx::query!(
            r#"
            update outbox.account
               set block_kind = 'halted', block_reason = $1, block_code = $2,
                   blocked_at = case when block_kind = 'halted' then blocked_at else clock_timestamp() end,
                   probes = case when block_kind = 'halted' then probes else 0 end,
                   blocked_until = case when block_kind = 'halted' then blocked_until else clock_timestamp() + $3::interval end
            "#,
            why,
            *code,
            interval(probe_wait),
        ),
    }
    .execute(&mut **tx)
    .await
    .map(|_| ())
}

/// Chert has answered as it should: whatever was halted is no longer.
pub(crate) async fn unblock(tx: &mut PgTransaction<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update outbox.account
           set block_kind = null, block_reason = null, block_code = null, blocked_at = null, blocked_until = null, probes = 0
         where block_kind = 'halted' or blocked_until <= clock_timestamp()
        "#
    )
    .execute(&mut **tx)
    .await
    .map(|_| ())
}

/// Reserves the next probe of a halted account for this worker: one in the whole deployment each time, the waits between
/// them doubling from `probe_wait` to 5 min. Returns whether this worker shall probe.
pub async fn reserve_probe(pool: &PgPool, probe_wait: Duration) -> Result<bool, OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Account)?;
    let reserved = sqlx::query!(
        r#"
        update outbox.account
           set probes = probes + 1,
               blocked_until = clock_timestamp() + least($1::interval * power(2, least(probes + 1, 10)), $2::interval)
         where block_kind = 'halted' and blocked_until <= clock_timestamp()
        "#,
        interval(probe_wait),
        interval(LONGEST_PROBE_WAIT),
    )
    .execute(&mut *tx)
    .await
    .map_err(OutboxError::Account)?;
    tx.commit().await.map_err(OutboxError::Account)?;
    Ok(reserved.rows_affected() == 1)
}

/// How the account stands, for people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Account {
    pub deployment: String,
    pub blocked: bool,
    pub kind: Option<String>,
    pub reason: Option<String>,
    pub code: Option<i32>,
    pub since: Option<DateTime<Utc>>,
    /// When sending goes on by itself (rate limit), or when the next probe is due (halt).
    pub until: Option<DateTime<Utc>>,
    pub probes: i32,
}

/// Reads the account.
pub async fn read(pool: &PgPool) -> Result<Account, OutboxError> {
    let mut tx = database::begin_plain(pool).await.map_err(OutboxError::Account)?;
    read_in(&mut tx).await
}

/// The same in a transaction that goes on.
pub(crate) async fn read_in(tx: &mut PgTransaction<'_>) -> Result<Account, OutboxError> {
    sqlx::query_as!(
        Account,
        r#"
        select deployment, (block_kind = 'halted' or blocked_until > clock_timestamp()) is true as "blocked!",
               block_kind as kind, block_reason as reason, block_code as code, blocked_at as since,
               blocked_until as until, probes
          from outbox.account
        "#
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(OutboxError::Account)
}
