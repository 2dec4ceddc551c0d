//! The way to the database: connecting, beginning a transaction that plans well, migrating, and checking the version.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migration, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Postgres, Transaction};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Waiting for a connection is given up after this; so is any one statement of a worker.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a migration waits for a lock, while others wait behind it; the pause after that, in which they go on; and when it is
/// given up.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_secs(1);
const LOCK_PATIENCE: Duration = Duration::from_secs(180);

/// What went wrong between us and the database, as a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("DATABASE_URL does not look like postgres://user:password@host:5432/database")]
    Url,
    #[error("cannot reach the database that DATABASE_URL names: {0}")]
    Connect(String),
    #[error("the database has no outbox yet: run chert-outbox migrate")]
    NotMigrated,
    #[error("the outbox schema is at version {found}, this binary needs {needed}: run chert-outbox migrate")]
    Outdated { found: i64, needed: i64 },
    #[error(
        "this database belongs to deployment '{found}', this worker serves '{wanted}': set OUTBOX_DEPLOYMENT={found}, or run chert-outbox adopt if this database is a copy that shall send on its own"
    )]
    Deployment { found: String, wanted: String },
    #[error("adopting the database: {0}")]
    Adopt(String),
    #[error("migrating the outbox: {0}")]
    Migrate(String),
    #[error(
        "migrating the outbox: a transaction of somebody else has been holding a table for three minutes: end it (pg_stat_activity shows \
         it), and run this again"
    )]
    Locked,
    #[error("reading the outbox's version: {0}")]
    Version(String),
}

/// The words of a database error that are fit for people and logs: its message, never its detail, which quotes the row.
pub fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(refused) => refused.message().to_owned(),
        sqlx::Error::PoolTimedOut => "no answer from the database in time".to_owned(),
        other => other.to_string(),
    }
}

/// A pool of at most `connections`. Connects at once, so that a wrong URL is told here.
pub async fn connect(url: &str, connections: u32) -> Result<PgPool, DatabaseError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(DatabaseError::Url);
    }
    let options = options(url)?;
    let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(Duration::from_secs(10));
    // The pool would knock at a closed door until its time is up, and say no more than that.
    let first = tokio::time::timeout(Duration::from_secs(10), PgConnection::connect_with(&options)).await;
    let first = first.unwrap_or(Err(sqlx::Error::PoolTimedOut));
    first.map_err(|error| DatabaseError::Connect(describe(&error)))?;
    Ok(pool.connect_lazy_with(options))
}

/// What our sessions are called in `pg_stat_activity`, and what those that a pooler lends us are. Both begin alike.
const APPLICATION: &str = "chert-outbox";
const APPLICATION_POOLED: &str = "chert-outbox behind a pooler";

fn options(url: &str) -> Result<PgConnectOptions, DatabaseError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| DatabaseError::Url)?;
    // The options tell the capacity in no other way, and their URL is too dear to be made for every transaction: what it
    // says is kept in the name.
    let is_pooled =
        options.to_url_lossy().query_pairs().any(|(key, value)| key == "statement-cache-capacity" && value == "0");
    let options = options.application_name(if is_pooled { APPLICATION_POOLED } else { APPLICATION });
    // A pooler refuses a connection that sets what it does not know of, and no number comes to us as text.
    Ok(options.extra_float_digits(None))
}

/// Begins a transaction in which every statement is planned along its index. With a million rows the planner is tempted
/// by scans and hash joins of the whole table, and compiling a plan takes longer than running it: measured, a claim of
/// 500 took 0.6 s that way and 6 ms this way. Each statement is planned once a connection, for any arguments: none of
/// these plans depends on them, and so the plan that a test reads is the one that runs.
/// Whoever stands still in the middle of it, as a process that is frozen or whose host is lost, has no lock any more after half a minute.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let settings = format!(
        "{ALONG_THE_INDEX}; set local plan_cache_mode = force_generic_plan; \
         set local idle_in_transaction_session_timeout = {}",
        TIMEOUT.as_millis()
    );
    pool.begin_with(AssertSqlSafe(format!("{}; {settings}", opening(pool, "")))).await
}

const ALONG_THE_INDEX: &str = "set local jit = off; set local enable_seqscan = off; set local enable_hashjoin = off; \
     set local enable_mergejoin = off; set local enable_bitmapscan = off";

/// The same for one picture of many tables: its statements see nothing that commits meanwhile, and write nothing. Each is planned for
/// its own arguments, since it is run once.
pub async fn begin_reading(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let begin = opening(pool, " isolation level repeatable read, read only");
    pool.begin_with(AssertSqlSafe(format!("{begin}; {ALONG_THE_INDEX}"))).await
}

/// Begins a transaction in which Postgres plans as it likes. Also a single statement needs one: it is prepared and run in
/// two steps, and a pooler may lead each of them to another session.
pub async fn begin_plain(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    pool.begin_with(AssertSqlSafe(opening(pool, ""))).await
}

/// A pooled session may hold statements that were prepared there under the very names that we are going to use.
fn opening(pool: &PgPool, how: &str) -> String {
    if is_pooled(pool) { format!("begin{how}; deallocate all") } else { format!("begin{how}") }
}

/// Whether sessions are lent to us for one transaction each, by a pooler in transaction mode: DATABASE_URL says so with
/// `statement-cache-capacity=0`, since nothing prepared is there any more in the next transaction.
pub fn is_pooled(pool: &PgPool) -> bool {
    pool.connect_options().get_application_name() == Some(APPLICATION_POOLED)
}

/// What `migrate` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub applied: Vec<String>,
    /// The database's; a later release may have brought it further than this one knows.
    pub version: i64,
}

/// Brings the schema up to date under an advisory lock: any number of callers at once, one of them works. A new outbox
/// belongs to `deployment`; one that is there already keeps its own.
pub async fn migrate(pool: &PgPool, deployment: &str) -> Result<Migrated, DatabaseError> {
    let failed = |error: sqlx::Error| DatabaseError::Migrate(describe(&error));
    let mut connection = pool.acquire().await.map_err(failed)?;
    let before = version(&mut connection).await?;
    apply(&mut connection, &migrator([])).await?;
    // Also after a migration that was cut short before this; never once there are jobs.
    if deployment != "default" {
        sqlx::query!("update outbox.account set deployment = $1 where deployment = 'default' and not exists (select from outbox.jobs)", deployment)
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    let applied = MIGRATIONS
        .iter()
        .filter(|migration| migration.version > before.unwrap_or(0))
        .map(|migration| format!("{:04} {}", migration.version, migration.description))
        .collect();
    let version = version(&mut connection).await?.unwrap_or(0);
    Ok(Migrated { applied, version })
}

/// Applies what is missing. A migration that changes a table waits for whoever reads it, and all who come later wait behind it:
/// so it gives way after two seconds, and is tried again a moment later. Each is one transaction.
/// Errors: `DatabaseError::Migrate`, and `Locked` after three minutes of this; what had been applied stays.
pub async fn apply(connection: &mut PgConnection, migrator: &Migrator) -> Result<(), DatabaseError> {
    let failed = |error: sqlx::Error| DatabaseError::Migrate(describe(&error));
    let began = Instant::now();
    let milliseconds = LOCK_TIMEOUT.as_millis();
    connection.execute(AssertSqlSafe(format!("set lock_timeout = {milliseconds}"))).await.map_err(failed)?;
    let applied = loop {
        match migrator.run(&mut *connection).await {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) if is_locked(&error) => {
                if began.elapsed() >= LOCK_PATIENCE {
                    break Err(DatabaseError::Locked);
                }
            }
            outcome => break outcome.map_err(|error| DatabaseError::Migrate(error.to_string())),
        }
        // The migrator keeps its own lock when it fails.
        connection.execute("select pg_advisory_unlock_all()").await.map_err(failed)?;
        tokio::time::sleep(LOCK_PAUSE).await;
    };
    connection.execute("select pg_advisory_unlock_all(); reset lock_timeout").await.map_err(failed)?;
    applied
}

/// Somebody else holds the lock for longer than is waited for.
pub fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|refused| refused.code()).is_some_and(|code| code == "55P03")
}

/// What `adopt` changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    pub from: String,
    /// Jobs that the original may have sent: a person decides about them here.
    pub parked: u64,
}

/// Gives the database to another deployment, with a key namespace of its own. What the original had begun stays its own:
/// such jobs are parked here, all that were not sent forget their keys, nobody is told or asked of what it has sent, and campaigns are
/// paused.
pub async fn adopt(pool: &PgPool, deployment: &str) -> Result<Adopted, DatabaseError> {
    let failed = |error: sqlx::Error| DatabaseError::Adopt(describe(&error));
    let mut tx = begin_plain(pool).await.map_err(failed)?;
    let from = sqlx::query_scalar!("select deployment from outbox.account for update")
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
    sqlx::query!(
        "update outbox.account set deployment = $1, namespace = gen_random_uuid()::text, notifications = false",
        deployment
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let parked = sqlx::query!(
        r#"
        update outbox.jobs
           set state = 'parked', reason = 'outcome_unknown', ready = false, wake_at = null, lease_until = null, worker = null,
               unknown_since = coalesce(unknown_since, now()), finished_at = now()
         where state = 'sending' or (state = 'queued' and unknown_since is not null)
        "#
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    // Both would write to the same people.
    sqlx::query!("update outbox.campaigns set state = 'paused', changed_at = now() where state = 'running'")
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    // Whom the original tells, and what it follows, is its own too.
    sqlx::query!("delete from outbox.notifications").execute(&mut *tx).await.map_err(failed)?;
    sqlx::query!("delete from outbox.lookups").execute(&mut *tx).await.map_err(failed)?;
    sqlx::query!("update outbox.jobs set idempotency_key = null, named_line_id = null where state not in ('sent', 'duplicate') and idempotency_key is not null")
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(Adopted { from, parked: parked.rows_affected() })
}

/// Checks that the schema is as new as this binary needs it. A newer schema is fine: a release's old workers run on.
pub async fn check_version(pool: &PgPool) -> Result<(), DatabaseError> {
    let mut tx = begin_plain(pool).await.map_err(|error| DatabaseError::Connect(describe(&error)))?;
    match version(&mut tx).await? {
        None => Err(DatabaseError::NotMigrated),
        Some(found) if found < newest() => Err(DatabaseError::Outdated { found, needed: newest() }),
        Some(_) => Ok(()),
    }
}

/// This release's migrations with `more` behind them: what the next release's migrator is, for trials of an upgrade. What a
/// later release has applied before is left as it is: the old one's pods may still start anew, and migrate first.
pub fn migrator(more: impl IntoIterator<Item = Migration>) -> Migrator {
    Migrator {
        migrations: MIGRATIONS.iter().cloned().chain(more).collect(),
        ignore_missing: true,
        table_name: MIGRATIONS.table_name.clone(),
        create_schemas: MIGRATIONS.create_schemas.clone(),
        ..Migrator::DEFAULT
    }
}

/// The version of this release's schema.
pub fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

async fn version(connection: &mut PgConnection) -> Result<Option<i64>, DatabaseError> {
    let failed = |error: sqlx::Error| DatabaseError::Version(describe(&error));
    // Not a checked query: this table is the migrator's own, and may not be there.
    let exists: bool = sqlx::query_scalar("select to_regclass('outbox._sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !exists {
        return Ok(None);
    }
    sqlx::query_scalar("select max(version) from outbox._sqlx_migrations where success")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pool_knows_whether_a_pooler_lends_it_its_sessions() {
        for (query, pooled) in
            [("", false), ("?statement-cache-capacity=0", true), ("?statement-cache-capacity=10", false)]
        {
            let options = options(&format!("postgres://host/app{query}")).expect("a URL");
            assert_eq!(is_pooled(&PgPoolOptions::new().connect_lazy_with(options)), pooled, "{query}");
        }
    }
}
