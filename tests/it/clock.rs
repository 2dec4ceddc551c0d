//! A database whose clock is set.

use std::time::Duration;

use chert_outbox::chert::client::wall_clock;
use chert_outbox::chert::lines::ListedLine;
use chert_outbox::config::HoldOptions;
use chert_outbox::database;
use chert_outbox::inbound::event::Incoming;
use chert_outbox::inbound::reader::elect;
use chert_outbox::inbound::store::Source;
use chert_outbox::outbox::admit::admit;
use chert_outbox::outbox::claim::Claimer;
use chert_outbox::outbox::lines;
use chert_outbox::outbox::marks::Marks;
use chert_outbox::trial::postgres::{Embedded, PostgresError};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use tokio::time::Instant;

use crate::claim::{DAY, claimer};

/// A migrated database on a server whose clock can be set; none where that cannot be.
async fn server_with_a_clock() -> Option<(Embedded, PgPool)> {
    let server = match Embedded::start_with_a_clock().await {
        Err(error @ (PostgresError::NoServer | PostgresError::NoFakeClock)) => {
            eprintln!("skipped: {error}");
            return None;
        }
        started => started.expect("the server starts"),
    };
    let pool = database::connect(&server.url("postgres"), 2).await.expect("connects");
    database::migrate(&pool, "default").await.expect("migrates");
    Some((server, pool))
}

#[tokio::test]
async fn i10_whoever_reads_events_goes_by_the_clock_of_the_database() {
    let Some((server, pool)) = server_with_a_clock().await else { return };
    server.set_clock(3_600).expect("the clock is set");
    let is_an_hour_ahead =
        |time: DateTime<Utc>| (time - wall_clock() - TimeDelta::hours(1)).abs() < TimeDelta::minutes(1);
    let lease = Duration::from_secs(60);
    let reader = elect(&pool, Source::List, "one", lease).await.expect("asks").expect("nobody reads");
    assert!(is_an_hour_ahead(reader.now()), "{}", reader.now());
    let far = "2199-01-01T00:00:00Z";
    let event = format!(r#"{{"event_id": "a", "timestamp": "{far}"}}"#);
    let event = Incoming::read(&event, far.parse().expect("a time")).expect("an event");
    reader.advance(&pool, &[event], None).await.expect("stores");
    let stored = sqlx::query_scalar("select occurred_at from outbox.events").fetch_one(&pool).await.expect("is there");
    assert!(is_an_hour_ahead(stored), "{stored}");
}

#[tokio::test]
async fn i03_slots_follow_a_clock_that_is_set_and_set_again_at_once() {
    let Some((server, pool)) = server_with_a_clock().await else { return };
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
