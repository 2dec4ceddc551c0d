//! `migrate` and `adopt`: whose database this is.

use std::process::ExitCode;

use clap::Args;

use crate::cli::DatabaseOptions;
use crate::database;
use crate::units::counted;

/// Create the outbox in the database, or bring it up to date. Run it as often and from as many places as you like.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  DATABASE_URL=postgres://localhost/app chert-outbox migrate")]
pub struct Migrate {
    #[command(flatten)]
    database: DatabaseOptions,

    /// The deployment that this database is for. Workers of another deployment refuse it, so that a restored copy of
    /// production cannot send by mistake.
    #[arg(long, env = "OUTBOX_DEPLOYMENT", default_value = "default")]
    deployment: String,
}

impl Migrate {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.connect(1).await?;
        let migrated = database::migrate(&pool, &self.deployment).await?;
        for migration in &migrated.applied {
            outln!("applied {migration}");
        }
        match migrated.applied.len() {
            0 => outln!("the outbox is up to date, at version {}", migrated.version),
            _ => outln!("the outbox is at version {} now", migrated.version),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Take over a database that belongs to another deployment, such as a copy that shall send on its own from now on.
#[derive(Debug, Args)]
#[command(after_help = "Jobs whose outcome was unknown in the original are parked: only the original may ask again.

Example:
  chert-outbox adopt --deployment staging")]
pub struct Adopt {
    #[command(flatten)]
    database: DatabaseOptions,

    /// The deployment that this database is for from now on.
    #[arg(long, env = "OUTBOX_DEPLOYMENT")]
    deployment: String,
}

impl Adopt {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let adopted = database::adopt(&pool, &self.deployment).await?;
        outln!(
            "this database belongs to '{}' now; it was '{}'. {} parked",
            self.deployment,
            adopted.from,
            counted(
                adopted.parked,
                "job in flight or of unknown outcome was",
                "jobs in flight or of unknown outcome were"
            )
        );
        Ok(ExitCode::SUCCESS)
    }
}
