//! Whom a campaign is for: the rows of a file, or of a query that is run once a firing, by another role, reading only and with bounds.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgPool, PgTransaction, Row as _};

use crate::campaign::plan::Row;
use crate::campaign::zone;
use crate::database;
use crate::outbox::campaigns::refused;
use crate::phone::{NotE164, Phone};

/// Rows of one statement.
const PIECE: usize = 1_000;
/// What a transaction stands still for beside its query's time: it is over before that is.
const AROUND: Duration = Duration::from_secs(60);
/// The largest row of variables, in bytes: as the table of enrolments has it.
const VARS_MAX_BYTES: usize = 65_536;

/// One row of an audience.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// Of a file the line at which the row begins, of a query the number of the row.
    pub n: i64,
    pub phone: Option<Phone>,
    pub vars: Map<String, Value>,
    pub problem: Option<Problem>,
}

/// Why a row is nobody to enrol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    BadNumber,
    Duplicate,
    Unreadable,
    UnknownZone,
}

impl Problem {
    /// As the database calls it.
    pub fn word(self) -> &'static str {
        match self {
            Problem::BadNumber => "bad_number",
            Problem::Duplicate => "duplicate",
            Problem::Unreadable => "unreadable",
            Problem::UnknownZone => "unknown_zone",
        }
    }

    /// What is wrong, in words; nothing of what stands there.
    pub fn told(self) -> String {
        match self {
            Problem::BadNumber => NotE164.to_string(),
            Problem::Duplicate => "the same number stands in a row before it".to_owned(),
            Problem::Unreadable => "its variables are too large".to_owned(),
            Problem::UnknownZone => "its time_zone is the name of none, such as America/New_York".to_owned(),
        }
    }

    fn of(word: &str) -> Option<Problem> {
        let all = [Problem::BadNumber, Problem::Duplicate, Problem::Unreadable, Problem::UnknownZone];
        all.into_iter().find(|problem| problem.word() == word)
    }
}

impl Person {
    /// The person of a row: `phone` is a column of it, and all others are variables.
    pub fn of(n: i64, mut row: Map<String, Value>) -> Person {
        let phone = match row.remove("phone") {
            Some(Value::String(phone)) => phone.trim().parse::<Phone>().ok(),
            _ => None,
        };
        row.retain(|_, value| !value.is_null());
        let too_large = serde_json::to_string(&row).map_or(0, |text| text.len()) > VARS_MAX_BYTES / 2;
        let problem = match &phone {
            None => Some(Problem::BadNumber),
            Some(_) if too_large => Some(Problem::Unreadable),
            Some(_) if zone::given(None, row.get(zone::VARIABLE)).is_err() => Some(Problem::UnknownZone),
            Some(_) => None,
        };
        let vars = if problem.is_some() { Map::new() } else { row };
        Person { n, phone, vars, problem }
    }

    /// As a duplicate, if its number has been seen: the first row without a problem is the one that counts.
    /// What was seen is kept as numbers: of ten million people that is a tenth of a gigabyte or two, and of texts it would be one.
    fn unless_seen(mut self, seen: &mut HashSet<u64>) -> Person {
        let digits = |phone: &Phone| phone.as_str().trim_start_matches('+').parse::<u64>().ok();
        if self.problem.is_none() && !self.phone.as_ref().and_then(digits).is_some_and(|digits| seen.insert(digits)) {
            (self.problem, self.vars) = (Some(Problem::Duplicate), Map::new());
        }
        self
    }
}

/// A query and its bounds.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub sql: &'a str,
    pub role: Option<&'a str>,
    pub time_limit: Duration,
    pub row_limit: u32,
}

/// Why a query brought no audience; none of it shows a value.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("reading the audience: {}", database::describe(.0))]
    Database(#[source] sqlx::Error),
    /// As `refused` tells it: the error itself is not kept, since whoever prints it prints what the database said.
    #[error("the query: {0}")]
    Refused(String),
    #[error(
        "audience.role: the role `{role}` cannot be taken ({why}): create it, and grant it to the role of the workers"
    )]
    Role { role: String, why: String },
    #[error("the query brought no column named phone")]
    NoPhone,
    #[error("the query brought two columns named phone: give each a name of its own")]
    TwoPhones,
    #[error("the query brought more than {0} rows, which is its row_limit")]
    TooMany(u32),
    #[error("the query took longer than its time_limit")]
    TooLong,
}

/// Runs a query in a transaction of its own that only reads, as its role, and writes its rows as a new audience in `writing`. Returns its
/// number, and how many rows it has.
/// Errors: as said; then what was written is no audience.
pub async fn snapshot(
    pool: &PgPool,
    query: Query<'_>,
    writing: &mut PgTransaction<'_>,
) -> Result<(i64, u64), QueryError> {
    let audience = begin(writing).await.map_err(QueryError::Database)?;
    stands_still(writing, query.time_limit + AROUND).await.map_err(QueryError::Database)?;
    let run = tokio::time::timeout(query.time_limit, run(pool, query, writing, audience)).await;
    Ok((audience, run.map_err(|_| QueryError::TooLong)??))
}

/// The rows that a query brings now; nothing of it stays. Errors: as those of [`snapshot`].
pub async fn look(pool: &PgPool, query: Query<'_>) -> Result<Vec<Row>, QueryError> {
    let mut tx = database::begin(pool).await.map_err(QueryError::Database)?;
    let (audience, _) = snapshot(pool, query, &mut tx).await?;
    let rows = sqlx::query!(
        "select n, phone, vars, problem from outbox.audience_rows where audience = $1 order by n",
        audience
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(QueryError::Database)?;
    tx.rollback().await.map_err(QueryError::Database)?;
    let row = |n, phone: Option<String>, vars, problem: Option<String>| {
        // A duplicate is told by whoever has all rows, with the one before it.
        let problem = problem.filter(|word| word != Problem::Duplicate.word());
        Row {
            n,
            phone: phone.and_then(|phone| phone.parse().ok()),
            vars: match vars {
                Value::Object(vars) => vars,
                _ => Map::new(),
            },
            told: problem.as_deref().and_then(Problem::of).map(Problem::told),
            problem,
        }
    };
    Ok(rows.into_iter().map(|found| row(found.n, found.phone, found.vars, found.problem)).collect())
}

/// Lets a transaction stand still for so long, while a query runs beside it.
async fn stands_still(tx: &mut PgTransaction<'_>, most: Duration) -> Result<(), sqlx::Error> {
    let most = format!("{}ms", most.as_millis().min(i32::MAX as u128));
    sqlx::query!(r#"select set_config('idle_in_transaction_session_timeout', $1, true) as "set!""#, most)
        .fetch_one(&mut **tx)
        .await
        .map(drop)
}

async fn run(
    pool: &PgPool,
    query: Query<'_>,
    writing: &mut PgTransaction<'_>,
    audience: i64,
) -> Result<u64, QueryError> {
    let mut tx = begin_reading(pool, query).await?;
    declare(&mut tx, query).await?;
    let (mut n, mut seen) = (0, HashSet::new());
    loop {
        let fetched = sqlx::query(AssertSqlSafe(format!("fetch {PIECE} from audience")))
            .persistent(false)
            .fetch_all(&mut *tx)
            .await
            .map_err(|error| QueryError::Refused(refused::read(&error)))?;
        let mut people = Vec::with_capacity(fetched.len());
        for row in fetched {
            n += 1;
            if n > i64::from(query.row_limit) {
                return Err(QueryError::TooMany(query.row_limit));
            }
            match row.try_get(0).map_err(QueryError::Database)? {
                Value::Object(row) if row.contains_key("phone") => {
                    people.push(Person::of(n, row).unless_seen(&mut seen))
                }
                _ => return Err(QueryError::NoPhone),
            }
        }
        if people.is_empty() {
            return Ok(n.unsigned_abs());
        }
        add(writing, audience, &people).await.map_err(QueryError::Database)?;
    }
}

/// A transaction that only reads, within the bounds of a query and as its role.
async fn begin_reading(pool: &PgPool, query: Query<'_>) -> Result<PgTransaction<'static>, QueryError> {
    let mut tx = database::begin_plain(pool).await.map_err(QueryError::Database)?;
    // Each in a statement of its own: what the file says is never a part of a text with several.
    for setting in settings(query) {
        sqlx::query(AssertSqlSafe(setting)).persistent(false).execute(&mut *tx).await.map_err(QueryError::Database)?;
    }
    if let Some(role) = query.role {
        let setting = format!("set local role \"{}\"", role.replace('"', "\"\""));
        let set = sqlx::query(AssertSqlSafe(setting)).persistent(false).execute(&mut *tx).await;
        set.map_err(|error| QueryError::Role { role: role.to_owned(), why: database::describe(&error) })?;
    }
    Ok(tx)
}

/// Why a query was not planned.
#[derive(Debug)]
pub enum Unplanned {
    /// Whoever is connected lacks a right that workers may have, or their role.
    NoRight(String),
    /// No column is named phone.
    NoPhone,
    /// More than one is.
    TwoPhones,
    /// As `refused` tells it; `at` is the byte of the query at which it is wrong.
    Refused {
        told: String,
        hint: Option<String>,
        at: Option<usize>,
    },
    Database(sqlx::Error),
}

impl From<Unplanned> for QueryError {
    fn from(unplanned: Unplanned) -> QueryError {
        match unplanned {
            Unplanned::NoPhone => QueryError::NoPhone,
            Unplanned::TwoPhones => QueryError::TwoPhones,
            Unplanned::NoRight(told) | Unplanned::Refused { told, .. } => QueryError::Refused(told),
            Unplanned::Database(error) => QueryError::Refused(refused::planned(&error)),
        }
    }
}

/// Has Postgres plan a query as a firing would run it, and reads no row of it. Errors: as said.
pub async fn plan(pool: &PgPool, query: Query<'_>) -> Result<(), Unplanned> {
    let mut tx = begin_reading(pool, query).await.map_err(|error| match error {
        QueryError::Database(error) => Unplanned::Database(error),
        QueryError::Role { role, why } => Unplanned::NoRight(format!("the role `{role}` cannot be taken ({why})")),
        other => Unplanned::NoRight(other.to_string()),
    })?;
    declare(&mut tx, query).await?;
    tx.rollback().await.map_err(Unplanned::Database)
}

/// Opens the cursor `audience` over a query's rows as JSON, in which a row has only the last of two columns of one name: phone is asked for by
/// itself, so that it is one.
async fn declare(tx: &mut PgTransaction<'_>, query: Query<'_>) -> Result<(), Unplanned> {
    let before = "declare audience no scroll cursor for select to_jsonb(audience), audience.phone from (\n";
    let sql = query.sql.trim_end().trim_end_matches(';');
    // A comment at its end must not hide what follows.
    let cursor = AssertSqlSafe(format!("{before}{sql}\n) audience"));
    let declared = sqlx::query(cursor).persistent(false).execute(&mut **tx).await;
    let Err(error) = declared else { return Ok(()) };
    let place = refused::place(&error);
    let is_ours = place.is_some_and(|place| place < before.chars().count());
    let at = place.and_then(|place| place.checked_sub(before.chars().count()));
    let at = at.and_then(|place| Some(sql.char_indices().nth(place)?.0));
    let code = error.as_database_error().and_then(|refused| refused.code()).unwrap_or_default();
    Err(match &*code {
        // Without a role of its own, workers read as somebody else.
        "42501" if query.role.is_none() => Unplanned::NoRight(refused::planned(&error)),
        "42703" if is_ours => Unplanned::NoPhone,
        "42702" if is_ours => Unplanned::TwoPhones,
        _ if refused::passes_by(&error) => Unplanned::Database(error),
        _ => Unplanned::Refused { told: refused::planned(&error), hint: refused::hint(&error), at },
    })
}

fn settings(query: Query<'_>) -> Vec<String> {
    vec![
        "set transaction isolation level repeatable read, read only".to_owned(),
        format!("set local statement_timeout = {}", query.time_limit.as_millis().clamp(1, i32::MAX as u128)),
        "set local lock_timeout = '5s'".to_owned(),
        // What a function warns of may quote a row, and would be logged.
        "set local client_min_messages = error".to_owned(),
    ]
}

/// Whether queries may be run by this role: by whoever is connected, or by `outbox_worker`, whose members workers are. None if there is
/// no such role. Errors: of the database.
pub async fn may_become(pool: &PgPool, role: &str) -> Result<Option<bool>, sqlx::Error> {
    let mut tx = database::begin(pool).await?;
    sqlx::query_scalar!(
        r#"
        -- Up to Postgres 15 every member may take the role.
        select bool_or(pg_has_role(who.oid, role.oid,
                                   case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end))
          from pg_roles role, pg_roles who
         where role.rolname = $1::text and who.rolname in (current_user, 'outbox_worker')
        "#,
        role
    )
    .fetch_one(&mut *tx)
    .await
}

/// Stores people as a new audience, and returns its number.
pub async fn store(tx: &mut PgTransaction<'_>, people: &[Person]) -> Result<i64, sqlx::Error> {
    let audience = begin(tx).await?;
    for piece in people.chunks(PIECE) {
        add(tx, audience, piece).await?;
    }
    Ok(audience)
}

/// The number of a new audience.
pub async fn begin(tx: &mut PgTransaction<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select nextval('outbox.audiences') as "audience!""#).fetch_one(&mut **tx).await
}

/// Adds people to an audience.
pub async fn add(tx: &mut PgTransaction<'_>, audience: i64, people: &[Person]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into outbox.audience_rows (audience, n, phone, vars, problem)
        select $1, u.n, u.phone, u.vars, u.problem
          from unnest($2::bigint[], $3::text[], $4::jsonb[], $5::text[]) as u (n, phone, vars, problem)
        "#,
        audience,
        &people.iter().map(|person| person.n).collect::<Vec<_>>(),
        &people.iter().map(|person| person.phone.as_ref().map(|phone| phone.as_str().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
        &people.iter().map(|person| Value::Object(person.vars.clone())).collect::<Vec<_>>(),
        &people.iter().map(|person| person.problem.map(|problem| problem.word().to_owned())).collect::<Vec<_>>()
            as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
