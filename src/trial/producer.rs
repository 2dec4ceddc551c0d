//! The demo's application: it knows the table `outbox.jobs` and nothing else of us, and speaks plain SQL to it. The numbers
//! and texts are made up.

use sqlx::{AssertSqlSafe, PgPool};

/// How many people it writes to.
pub const RECIPIENTS: usize = 80;
/// How many messages each of them gets, the first touch included.
pub const MESSAGES: usize = 4;

/// Inserts the first message to each recipient, and returns how many rows the database took.
pub async fn first_touches(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let rows =
        (0..RECIPIENTS).map(|one| format!("('{}', 'Hi {one}, order {} is on its way.')", phone(one), 1000 + one));
    insert(pool, "insert into outbox.jobs (phone, body) values", rows, "").await
}

/// Inserts what each recipient is told later: in this order, except that a tenth of the last ones are urgent, and an eighth
/// of the third ones fall due only in some seconds.
pub async fn follow_ups(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let rows = (0..RECIPIENTS).flat_map(|one| {
        (2..=MESSAGES).map(move |message| {
            let priority = if message == MESSAGES && one % 10 == 9 { -1 } else { 0 };
            let wait = if message == 3 && one % 8 == 7 { "4 seconds" } else { "0" };
            format!("('{}', 'Message {message} to {one}.', {priority}, now() + interval '{wait}')", phone(one))
        })
    });
    insert(pool, "insert into outbox.jobs (phone, body, priority, due_at) values", rows, "").await
}

/// Inserts what Chert will refuse for good: a number that looks right, and an effect that does not exist. They are urgent, so
/// that it is seen early what becomes of them.
pub async fn hopeless(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let rows = [
        "('+15550001234', 'To a number that Chert refuses.', '{}', -1)",
        "('+15550142999', 'With an effect that nobody knows.', '{\"effect\": \"glitter\"}', -1)",
    ];
    insert(pool, "insert into outbox.jobs (phone, body, payload, priority) values", rows.map(str::to_owned), "").await
}

/// Inserts one job twice under the same dedupe key; the second time takes no row.
pub async fn one_job_twice(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let mut taken = 0;
    for _ in 0..2 {
        let row = "('+15550142000', 'Order 1000 has arrived.', 'order-1000-arrived')".to_owned();
        let keyed = "insert into outbox.jobs (phone, body, dedupe_key) values";
        taken += insert(pool, keyed, [row], " on conflict (dedupe_key) do nothing").await?;
    }
    Ok(taken)
}

/// Tries to insert a number that is none, and returns the name of the constraint that refused it.
pub async fn bad_number(pool: &PgPool) -> Result<Option<String>, sqlx::Error> {
    let row = "('555-0142', 'To nobody.')".to_owned();
    match insert(pool, "insert into outbox.jobs (phone, body) values", [row], "").await {
        Ok(_) => Ok(None),
        Err(error) => match error.as_database_error().and_then(|refused| refused.constraint()) {
            Some(constraint) => Ok(Some(constraint.to_owned())),
            None => Err(error),
        },
    }
}

fn phone(recipient: usize) -> String {
    format!("+1555014{:04}", 2000 + recipient)
}

async fn insert(
    pool: &PgPool,
    opening: &str,
    rows: impl IntoIterator<Item = String>,
    closing: &str,
) -> Result<u64, sqlx::Error> {
    let rows = rows.into_iter().collect::<Vec<_>>().join(",\n       ");
    let statement = format!("{opening}\n       {rows}{closing};");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(pool).await.map(|done| done.rows_affected())
}
