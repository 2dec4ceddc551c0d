//! A database whose clock is set.

use chert_outbox::chert::lines::ListedLine;
use chert_outbox::config::HoldOptions;
use chert_outbox::database;
use chert_outbox::outbox::admit::admit;
use chert_outbox::outbox::claim::Claimer;
use chert_outbox::outbox::lines;
use chert_outbox::outbox::marks::Marks;
use chert_outbox::trial::postgres::{Embedded, PostgresError};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::claim::{DAY, claimer};

#[tokio::test]
async fn i03_slots_follow_a_clock_that_is_set_and_set_again_at_once() {
    let server = match Embedded::start_with_a_clock().await {
        Err(error @ (PostgresError::NoServer | PostgresError::NoFakeClock)) => return eprintln!("skipped: {error}"),
        started => started.expect("the server starts"),
    };
    let pool = database::connect(&server.url("postgres"), 2).await.expect("connects");
    database::migrate(&pool, "default").await.expect("migrates");
    let listed = ["open", "closed"].map(|id| ListedLine { id: id.to_owned(), phone_number: None, is_active: true });
    lines::sync(&pool, &listed).await.expect("lines are written");
    sqlx::raw_sql(
        "insert into outbox.jobs (phone, body) values ('+15550142200', 'waits');
         update outbox.lines
            set gap_us = 3600000000, next_first_touch_at = '2000-01-01',
                next_at = case id when 'closed' then clock_timestamp() + interval '60 s' else '2000-01-01' end",
    )
    .execute(&pool)
    .await
    .expect("they are prepared");
    let began = Instant::now();
    admit(&pool, 10, DAY, &HoldOptions::default(), &mut Marks::default()).await.expect("admits");

    let (one, two) = (claimer("one"), claimer("two"));
    look(&pool, [&one, &two]).await;
    for (offset_secs, workers) in [(9, [&one, &two]), (0, [&two, &one]), (4, [&one, &two]), (8, [&one, &two])] {
        server.set_clock(offset_secs).expect("the clock is set");
        look(&pool, workers).await;
        let opens_in = opens_in(&pool).await + began.elapsed().as_secs_f64();
        assert!((opens_in - 60.0).abs() < 1.0, "set to {offset_secs} s: opens {opens_in} s after the beginning");
    }
}

/// Each of these reads the clock as a claim does, and claims nothing.
async fn look(pool: &PgPool, workers: [&Claimer; 2]) {
    for worker in workers {
        worker.claim(pool, 0, false, &mut Marks::default()).await.expect("looks");
    }
}

async fn opens_in(pool: &PgPool) -> f64 {
    let asked = "select extract(epoch from next_at - clock_timestamp())::float8 from outbox.lines where id = 'closed'";
    sqlx::query_scalar(asked).fetch_one(pool).await.expect("there is the line")
}
