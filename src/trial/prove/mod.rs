//! The proof: scenarios that break real parts on purpose, each in a world of its own, and the count of what went wrong.
//!
//! ```text
//! scenario ─▶ world (Postgres, Chert, workers) ─▶ play: break things ─▶ settle: all jobs end ─▶ check: count
//! ```
//!
//! A seed decides what a scenario inserts, kills and breaks, and in which order; the machine decides the exact instants.
//! A world shares nothing with another one but the machine, so that several can be played side by side.

mod check;
mod setup;
mod world;

mod kills;

mod database;
mod route;

mod api;

mod time;

mod days;

mod load;

mod operators;

mod replies;

mod drip;

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use sqlx::PgPool;

use crate::database::{DatabaseError, describe};
use crate::outbox::OutboxError;
use crate::outbox::lines::LinesError;
use crate::simulate::{FaultsError, StartError};
use crate::trial::postgres::PostgresError;
use crate::trial::rig::RigError;
use crate::trial::{Audience, facts};

pub use check::Verdict;
pub use setup::{Machine, Setup};
pub use world::World;

/// Something that is broken on purpose.
pub struct Scenario {
    pub name: &'static str,
    /// What is broken, for people.
    pub breaks: &'static str,
    /// Whether `--quick` runs it too.
    pub quick: bool,
    pub setup: fn() -> Setup,
    /// Inserts jobs, starts workers, breaks things, and mends what would keep jobs from ending.
    pub play: Play,
}

impl Scenario {
    /// Whether nothing else may be played beside it.
    pub fn alone(&self) -> bool {
        (self.setup)().alone
    }

    /// Whether it is played only when it is asked for by name.
    pub fn only_named(&self) -> bool {
        (self.setup)().only_named
    }
}

/// `|world| Box::pin(…)`.
pub type Play = for<'a> fn(&'a mut World) -> Pin<Box<dyn Future<Output = Result<(), ProveError>> + 'a>>;

/// What kept a scenario from being judged. What goes wrong with the product is no error but a finding.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error(transparent)]
    Postgres(PostgresError),
    #[error("starting the simulator: {0}")]
    Simulator(#[from] StartError),
    #[error("choosing what goes wrong: {0}")]
    Faults(#[from] FaultsError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Lines(#[from] LinesError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error("applying the next version's migrations: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error("asking the database: {}", describe(.0))]
    Sql(#[from] sqlx::Error),
    #[error(transparent)]
    Rig(#[from] RigError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It cannot be played here; the sentence says what is missing.
    #[error("{0}")]
    Skipped(String),
}

impl From<PostgresError> for ProveError {
    fn from(error: PostgresError) -> ProveError {
        match error {
            PostgresError::NoSmallDisk
            | PostgresError::NoFakeClock
            | PostgresError::NoBaseBackup
            | PostgresError::NoPooler => ProveError::Skipped(error.to_string()),
            error => ProveError::Postgres(error),
        }
    }
}

/// All scenarios, in the order of the table.
pub fn scenarios() -> Vec<&'static Scenario> {
    [
        kills::SCENARIOS,
        database::SCENARIOS,
        route::SCENARIOS,
        api::SCENARIOS,
        time::SCENARIOS,
        days::SCENARIOS,
        load::SCENARIOS,
        operators::SCENARIOS,
        replies::SCENARIOS,
        drip::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Plays one scenario in a new world and judges it.
pub async fn prove(scenario: &Scenario, seed: u64, audience: &mut dyn Audience) -> Result<Verdict, ProveError> {
    let began = Instant::now();
    let mut world = World::make((scenario.setup)(), seed).await?;
    let pool = world.pool.clone();
    let played = async {
        (scenario.play)(&mut world).await?;
        world.settle().await
    };
    tokio::select! {
        played = played => played?,
        () = watch(&pool, audience) => {}
    }
    let verdict = check::verdict(scenario.name, &mut world, began).await;
    // Its servers take a moment to end, in which others play on; the runtime ends after that.
    drop(tokio::task::spawn_blocking(move || drop(world)));
    verdict
}

/// Shows how far it is, for ever; while the database is away nothing changes.
async fn watch(pool: &PgPool, audience: &mut dyn Audience) {
    loop {
        if let Ok(Ok(progress)) = tokio::time::timeout(WATCH_EVERY, facts::progress(pool)).await {
            audience.show(&progress);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// How often the audience is shown how far it is.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// How long a scenario may take to end once nothing is broken any more.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(90);
