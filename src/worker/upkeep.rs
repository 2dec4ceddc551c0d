//! Upkeep beside the loop: heartbeats, the rescue of dead workers' jobs, expiry, and a fresh list of lines.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info, warn};

use crate::outbox::campaigns::manage;
use crate::outbox::workers::{Heartbeat, beat};
use crate::outbox::{hearing, lines, rescue};
use crate::worker::Shared;

/// How often dead workers' jobs and expired jobs are looked for, and a heartbeat is written.
const EVERY: Duration = Duration::from_secs(1);
const HEARTBEAT_EVERY: u32 = 5;
/// Looking takes long while somebody holds an old snapshot, over which dead index entries gather: then it is done less often,
/// and takes one part in so many of the time.
const RESCUE_SHARE: u32 = 20;
/// The most expired jobs, and the most held ones, that one look sends to admission.
const EXPIRE_LIMIT: i64 = 2_000;
const RELEASE_LIMIT: i64 = 2_000;

/// Runs until it is dropped.
pub async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut refresh_at, mut rescue_at) = (Instant::now(), Instant::now());
    let mut turn = 0u32;
    loop {
        ticks.tick().await;
        if turn.is_multiple_of(HEARTBEAT_EVERY)
            && let Err(error) = beat(&shared.pool, &heartbeat(&shared)).await
        {
            debug!(%error, "No heartbeat");
        }
        turn = turn.wrapping_add(1);
        if Instant::now() >= rescue_at {
            let began = Instant::now();
            rescue_jobs(&shared).await;
            rescue_at = Instant::now() + RESCUE_SHARE * began.elapsed();
        }
        if !shared.options.lines_refresh.is_zero() && Instant::now() >= refresh_at {
            refresh_lines(&shared).await;
            refresh_at = Instant::now() + shared.options.lines_refresh;
        }
    }
}

fn heartbeat(shared: &Shared) -> Heartbeat {
    let (dispatch, dispatch_reason) = shared.gate.describe();
    let host =
        || nix::unistd::gethostname().map_or_else(|_| "?".to_owned(), |name| name.to_string_lossy().into_owned());
    Heartbeat {
        id: shared.id.clone(),
        name: shared.options.name.clone().unwrap_or_else(host),
        concurrency: i32::from(shared.options.concurrency),
        in_flight: i32::try_from(shared.held.load(Ordering::SeqCst)).unwrap_or(i32::MAX),
        stopping: *shared.stopping.borrow(),
        dispatch,
        dispatch_reason,
        sent: i64::try_from(shared.sent.load(Ordering::Relaxed)).unwrap_or(i64::MAX),
    }
}

async fn rescue_jobs(shared: &Shared) {
    match rescue::rescue(&shared.pool, &shared.id).await {
        Ok(rescued) if rescued.queued + rescued.parked > 0 => {
            info!(
                "Took over {} jobs of dead workers, {} of them without attempts left",
                rescued.queued + rescued.parked,
                rescued.parked
            );
            shared.bell.notify_one();
        }
        Ok(_) => {}
        Err(error) => debug!(%error, "No rescue"),
    }
    match rescue::expire(&shared.pool, EXPIRE_LIMIT).await {
        Ok(expired) if expired > 0 => shared.bell.notify_one(),
        Ok(_) => {}
        Err(error) => debug!(%error, "No look for expired jobs"),
    }
    match hearing::release(&shared.pool, shared.options.holds.stale_after, RELEASE_LIMIT).await {
        Ok(released) if released > 0 => {
            info!("Replies are received again: {released} jobs that were held for that go on");
            shared.bell.notify_one();
        }
        Ok(_) => {}
        Err(error) => debug!(%error, "No look for held jobs"),
    }
    match manage::release(&shared.pool).await {
        Ok(released) if released > 0 => {
            info!("Their campaigns run again: {released} jobs that a pause still held go on");
            shared.bell.notify_one();
        }
        Ok(_) => {}
        Err(error) => debug!(%error, "No look for what pauses hold"),
    }
}

async fn refresh_lines(shared: &Shared) {
    let listed = match shared.client.lines().await {
        Ok(listed) => listed,
        Err(error) => return warn!(%error, "The lines were not refreshed"),
    };
    match lines::sync(&shared.pool, &listed).await {
        Ok(synced) if !synced.added.is_empty() || !synced.removed.is_empty() => {
            info!("Lines: {} known, {} new, {} gone", synced.known, synced.added.len(), synced.removed.len());
            shared.bell.notify_one();
        }
        Ok(_) => {}
        Err(error) => warn!(%error, "The lines were not refreshed"),
    }
}
