//! The way to Postgres: a standby takes the place of the primary; a pooler stands in between.

use std::time::Duration;

use crate::trial::forwarder::Forwarder;
use crate::trial::postgres::{Stop, url};
use crate::trial::prove::database::{JOBS, RECIPIENTS, all_workers_live, many_lines, until_on_phones};
use crate::trial::prove::{ProveError, Scenario, World};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "postgres-failover",
        breaks: "SIGKILL to the primary; its streaming standby takes over",
        quick: false,
        setup: many_lines,
        play: |world| Box::pin(failover(world)),
    },
    Scenario {
        name: "postgres-pgbouncer",
        breaks: "a pgbouncer in transaction mode, with fewer connections than workers",
        quick: false,
        setup: many_lines,
        play: |world| Box::pin(pgbouncer(world)),
    },
];

/// No commit is told to anybody before the standby has it; so whatever a worker was told holds on the standby too.
async fn failover(world: &mut World) -> Result<(), ProveError> {
    let standby = world.server.standby().await?;
    for statement in ["alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"] {
        sqlx::query(statement).execute(&world.pool).await?;
    }
    let pool = world.pool.clone();
    let synchronous = || async {
        let waited_for = "select exists (select from pg_stat_replication where sync_state = 'sync')";
        Ok(sqlx::query_scalar(waited_for).fetch_one(&pool).await?)
    };
    world.until("the standby is waited for", synchronous).await?;
    let forwarder = Forwarder::start(world.server.port()).await?;
    world.setup.database_url = url(forwarder.port(), "postgres");
    world.insert(JOBS, RECIPIENTS).await?;
    world.start_worker()?;
    world.start_worker()?;
    until_on_phones(world, 40).await?;

    world.server.take_down(Stop::Kill).await?;
    standby.promote().await?;
    forwarder.lead_to(standby.port());
    world.pool.set_connect_options(standby.url("postgres").parse()?);
    world.server = standby;
    world.forwarder = Some(forwarder);
    world.notes.push("1 failover".to_owned());
    all_workers_live(world)
}

/// Three workers share three connections to the server, so that a worker's transactions meet all of them in turn.
async fn pgbouncer(world: &mut World) -> Result<(), ProveError> {
    const WORKERS: usize = 3;
    const COMMITS: usize = 60;
    const BETWEEN_COMMITS: Duration = Duration::from_millis(40);
    let url = world.server.pooler(3).await?;
    world.setup.database_url = format!("{url}?statement-cache-capacity=0");
    for _ in 0..WORKERS {
        world.start_worker()?;
    }
    // Each of these commits calls whoever listens.
    for _ in 0..COMMITS {
        world.insert(JOBS / COMMITS, RECIPIENTS).await?;
        tokio::time::sleep(BETWEEN_COMMITS).await;
    }
    world.until_ended(1.0).await?;
    let beating: i64 = sqlx::query_scalar("select count(*) from outbox.workers").fetch_one(&world.pool).await?;
    if beating != WORKERS as i64 {
        world.findings.push(format!("{beating} of {WORKERS} workers could write their heartbeats"));
    }
    let complaints = world.complaints();
    if let Some(first) = complaints.first() {
        world.findings.push(format!("{} complaints of workers, such as {first}", complaints.len()));
    }
    world.notes.push(format!("{WORKERS} workers on 3 connections"));
    Ok(())
}
