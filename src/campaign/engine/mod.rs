//! The engine: firings, enrolments and steps, out of what the pure side decides and the database keeps. Any number of processes run
//! it side by side, and none leads: each piece of work is one transaction over rows that it has locked, and what must happen once has
//! a unique key. All instants are the database's.
//!
//! ```text
//! campaigns ─▶ firing ─▶ ticks ─▶ audience ─▶ rows ─▶ enrol ─▶ enrolments ─▶ advance ─▶ jobs
//! ```

mod advance;
mod audience;
mod decide;
mod firing;
mod unreadable;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use sqlx::{PgPool, PgTransaction};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::campaign::engine::unreadable::Told;
use crate::campaign::running::Running;
use crate::config::CampaignOptions;
use crate::database;
use crate::outbox::campaigns::enrolling::{self, Enrolled};
use crate::outbox::campaigns::{CampaignsError, manage, ticks, versions};

/// An idle engine looks for work this often: a pause is known to the claims at once, and nobody waits for a firing by the second.
const POLL: Duration = Duration::from_millis(500);
/// While the database is away.
const DATABASE_AWAY: Duration = Duration::from_secs(2);
/// So many versions are kept read; one that is not is read again.
const MAX_VERSIONS: usize = 256;
/// So many batches of one kind of work are done before the next kind has its turn.
const TURNS: usize = 20;

/// How long firings and enrolments wait whose version cannot be read by this release. They hold up no others.
const UNREADABLE: Duration = Duration::from_secs(60);

/// How long a firing waits once somebody else holds up one of its people.
const HELD_UP: Duration = Duration::from_secs(5);

/// Works on campaigns.
#[derive(Debug)]
pub struct Engine {
    pool: PgPool,
    options: CampaignOptions,
    /// After how many messages without a reply marketing waits for one: no job is made that would only wait.
    unanswered_limit: i32,
    versions: Mutex<HashMap<(String, i32), Arc<Running>>>,
    told: Mutex<Told>,
}

impl Engine {
    pub fn new(pool: PgPool, options: CampaignOptions, unanswered_limit: Option<u16>) -> Engine {
        let unanswered_limit = unanswered_limit.map_or(i32::MAX, i32::from);
        Engine { pool, options, unanswered_limit, versions: Mutex::default(), told: Mutex::default() }
    }

    /// Works until `stopping` turns true; what is under way then is done again by others, or later. A database that goes away is
    /// waited for. People are found beside the rest: a query that takes its time holds up nobody's next step. And firings are recorded
    /// when they come, however many people go on meanwhile.
    pub async fn run(&self, mut stopping: watch::Receiver<bool>) {
        let working = async {
            tokio::join!(keep_on(|| self.find_people()), keep_on(|| bounded(self.fire())), keep_on(|| self.move_on()))
        };
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => {}
            ((), (), ()) = working => {}
        }
    }

    /// Does some of everything that there is to do now, one thing after the other, and tells whether that was anything.
    /// Errors: of the first kind of work that failed; the others are done all the same.
    pub async fn pass(&self) -> Result<bool, CampaignsError> {
        let found = self.find_people().await;
        let fired = bounded(self.fire()).await;
        let moved = self.move_on().await;
        Ok(found? | fired? | moved?)
    }

    /// People are enrolled and go on, and stopped campaigns end.
    async fn move_on(&self) -> Result<bool, CampaignsError> {
        let enrolled = self.enrol().await;
        let advanced = self.advance().await;
        let ended = self.end().await;
        Ok(enrolled? | advanced? | ended?)
    }

    async fn enrol(&self) -> Result<bool, CampaignsError> {
        for turn in 0..TURNS {
            if !bounded(self.enrol_some()).await? {
                return Ok(turn > 0);
            }
        }
        Ok(true)
    }

    /// The next people of whatever firing is next, in one transaction; false if there is none.
    async fn enrol_some(&self) -> Result<bool, CampaignsError> {
        let mut tx = database::begin(&self.pool).await.map_err(CampaignsError::Enrol)?;
        let Some(tick) = ticks::lock_enrolling(&mut tx).await.map_err(CampaignsError::Enrol)? else { return Ok(false) };
        let ready = match self.version(&mut tx, &tick.campaign, tick.version).await {
            // Whose line is drawn is looked at once before, and stands in its queue then.
            Ok(running) => running.begins_with_a_send() && running.campaign.lines.pool.is_empty(),
            Err(error @ CampaignsError::Unreadable { .. }) => {
                self.tell(&error, "enrols nobody");
                ticks::put_off(&mut tx, tick.id, UNREADABLE).await.map_err(CampaignsError::Enrol)?;
                tx.commit().await.map_err(CampaignsError::Enrol)?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let enrolled = enrolling::enrol(&mut tx, &tick, ready).await.map_err(CampaignsError::Enrol)?;
        if enrolled.is_none() {
            ticks::put_off(&mut tx, tick.id, HELD_UP).await.map_err(CampaignsError::Enrol)?;
        }
        tx.commit().await.map_err(CampaignsError::Enrol)?;
        let Some(Enrolled { people, enrolled, is_last }) = enrolled else {
            debug!(tick.id = tick.id, "Somebody else enrols one of its people and does not commit: it goes on later");
            return Ok(true);
        };
        debug!(
            tick.id = tick.id,
            "{enrolled} of {people} people were enrolled{}",
            if is_last { ", the last ones" } else { "" }
        );
        Ok(true)
    }

    /// Ends what stopped campaigns have left.
    async fn end(&self) -> Result<bool, CampaignsError> {
        let mut any = false;
        for name in bounded(manage::ending(&self.pool)).await? {
            let ended = bounded(manage::end(&self.pool, &name)).await?;
            any |= !ended.is_nothing();
            if !ended.is_nothing() {
                info!(
                    "The campaign {name} was stopped: {} enrolments with their jobs and {} more jobs of it ended",
                    ended.enrolments, ended.jobs
                );
            }
        }
        Ok(any)
    }

    /// Tells what a campaign does not do because its version cannot be read: now and then, since it is looked at all the time.
    fn tell(&self, error: &CampaignsError, what: &'static str) {
        let CampaignsError::Unreadable { name, version, .. } = error else { return };
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).is_news(name, *version, what, Instant::now()) {
            warn!(%error, "The campaign {name} {what} until a release can read its version {version}");
        }
    }

    /// A version as it runs, read once.
    async fn version(
        &self,
        tx: &mut PgTransaction<'_>,
        name: &str,
        version: i32,
    ) -> Result<Arc<Running>, CampaignsError> {
        let key = (name.to_owned(), version);
        if let Some(running) = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(running.clone());
        }
        let running = Arc::new(versions::running(tx, name, version).await?);
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        if versions.len() >= MAX_VERSIONS {
            versions.clear();
        }
        versions.insert(key, running.clone());
        Ok(running)
    }
}

/// Works for ever, and rests while there is nothing to do.
async fn keep_on<F: Future<Output = Result<bool, CampaignsError>>>(work: impl Fn() -> F) {
    let mut failing = false;
    loop {
        let rest = match work().await {
            Ok(true) => continue,
            Ok(false) => {
                failing = false;
                POLL
            }
            Err(error) if error.is_conflict() => {
                debug!(%error, "Another transaction came in between");
                Duration::from_millis(10)
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "Campaigns stand still until this is mended");
                }
                DATABASE_AWAY
            }
        };
        // Jittered, so that idle engines do not all ask at once.
        let rest = rest.mul_f64(rand::rng().random_range(0.8..1.2));
        tokio::time::sleep(rest).await;
    }
}

/// Gives up what takes too long; its transaction is rolled back.
async fn bounded<T>(work: impl Future<Output = Result<T, CampaignsError>>) -> Result<T, CampaignsError> {
    match tokio::time::timeout(database::TIMEOUT, work).await {
        Ok(done) => done,
        Err(_) => Err(CampaignsError::Read(sqlx::Error::PoolTimedOut)),
    }
}
