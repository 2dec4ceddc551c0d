//! Finding the people of a firing: those of the version's file are there already, those of a query are read now, all or none.

use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use crate::campaign::engine::Engine;
use crate::campaign::file::shape::Audience;
use crate::campaign::running::Running;
use crate::database;
use crate::outbox::campaigns::CampaignsError;
use crate::outbox::campaigns::audience::{self, Query, QueryError};
use crate::outbox::campaigns::ticks::{self, Taken};

/// Beyond the query's own time: to write down what it brought.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
/// The longest that a query may take, whatever its file says.
const LONGEST: Duration = Duration::from_secs(60 * 60);

impl Engine {
    /// Finds the people of one firing, if there is one that nobody is at.
    pub(super) async fn find_people(&self) -> Result<bool, CampaignsError> {
        let Some(taken) = ticks::take(&self.pool).await? else { return Ok(false) };
        let running = self.read_version(&taken).await;
        let done = match (running, taken.file) {
            (Err(error), _) => Err(error.to_string()),
            (Ok(_), Some(file)) => self.found(&taken, file).await.map_err(|error| error.to_string()),
            (Ok(running), None) => match &running.campaign.audience {
                Audience::Sql { sql, role, time_limit, row_limit, .. } => {
                    let time_limit = time_limit.0.min(LONGEST);
                    let query = Query { sql, role: role.as_deref(), time_limit, row_limit: *row_limit };
                    ticks::extend(&self.pool, &taken, time_limit + LEASE_MARGIN).await?;
                    self.query(&taken, query).await.map_err(|error| error.to_string())
                }
                Audience::Csv { .. } => Err("the rows of its file are not there".to_owned()),
                Audience::Enrolled { .. } => self.found_nobody(&taken).await.map_err(|error| error.to_string()),
            },
        };
        if let Err(why) = done {
            let given_up = ticks::failed(&self.pool, &taken, &why).await?;
            let next = if given_up { "it is given up" } else { "it is tried again" };
            warn!(tick.id = taken.id, "A firing of the campaign {} finds nobody, {next}: {why}", taken.campaign);
        }
        Ok(true)
    }

    async fn read_version(&self, taken: &Taken) -> Result<Arc<Running>, CampaignsError> {
        let mut tx = database::begin(&self.pool).await.map_err(CampaignsError::Read)?;
        self.version(&mut tx, &taken.campaign, taken.version).await
    }

    async fn found(&self, taken: &Taken, file: i64) -> Result<(), sqlx::Error> {
        let mut tx = database::begin(&self.pool).await?;
        ticks::found(&mut tx, taken, file).await?;
        tx.commit().await
    }

    /// A firing by hand of a campaign whose people come one by one: an audience without rows.
    async fn found_nobody(&self, taken: &Taken) -> Result<(), sqlx::Error> {
        let mut tx = database::begin(&self.pool).await?;
        let nobody = audience::begin(&mut tx).await?;
        ticks::found(&mut tx, taken, nobody).await?;
        tx.commit().await
    }

    /// What the query brings is written in one transaction beside its own: a snapshot, whole or not at all.
    async fn query(&self, taken: &Taken, query: Query<'_>) -> Result<(), QueryError> {
        let mut tx = database::begin(&self.pool).await.map_err(QueryError::Database)?;
        let (rows, people) = audience::snapshot(&self.pool, query, &mut tx).await?;
        if !ticks::found(&mut tx, taken, rows).await.map_err(QueryError::Database)? {
            // Somebody else took it up, since this took too long; what was written here goes.
            return tx.rollback().await.map_err(QueryError::Database);
        }
        tx.commit().await.map_err(QueryError::Database)?;
        info!(tick.id = taken.id, "A firing of the campaign {} finds {people} people", taken.campaign);
        Ok(())
    }
}
