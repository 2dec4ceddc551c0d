//! The loop that joins the stages: admit, claim, and hand each claim to its own delivery; deliveries hand what became of
//! them to the recorder. One claimer a process, any number of processes.

mod delivery;
mod gate;
mod lastlook;
mod recorder;
mod upkeep;
mod wakeup;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::chert::client::Client;
use crate::claim::{Claim, Finished};
use crate::config::WorkerOptions;
use crate::database;
use crate::failpoint::{self, Point};
use crate::outbox::OutboxError;
use crate::outbox::admit::admit;
use crate::outbox::claim::{Claimed, Claimer};
use crate::outbox::marks::Looks;
use crate::outbox::upcoming::{Upcoming, upcoming};
use crate::outbox::{account, workers};
use crate::pace::local::LocalPace;
use crate::worker::gate::Gate;
use crate::worker::lastlook::LastLook;

/// The most rows that one pass admits.
const ADMIT_LIMIT: i64 = 2_000;
/// An idle loop sleeps no shorter than this, even if something seems to be due that others hold.
const LEAST_SLEEP: Duration = Duration::from_millis(10);
/// While the database is away, the loop comes back after this long.
const DATABASE_AWAY: Duration = Duration::from_millis(500);

/// What a worker did in its life.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub sent: u64,
    /// Jobs that ended as `failed` or `parked`.
    pub failed: u64,
    /// Outcomes that could not be recorded before the grace period ended; their leases run out and they are asked again.
    pub unrecorded: usize,
    /// Why nothing could be sent when it ended, such as an API that could not be reached.
    pub stopped: Option<String>,
}

/// Everything that the stages share.
struct Shared {
    pool: PgPool,
    client: Client,
    options: WorkerOptions,
    id: String,
    pace: LocalPace,
    gate: Gate,
    last_look: LastLook,
    outcomes: mpsc::Sender<Finished>,
    /// Rung when there may be something to do: an insert, an outcome, a place that became free.
    bell: Notify,
    stopping: watch::Receiver<bool>,
    /// Claims that are not recorded yet.
    held: AtomicUsize,
    database_away: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
}

/// Works until `stopping` turns true, or with `drain` until nothing is left to do; then finishes what is in flight,
/// records it and hands the rest back.
/// Errors: only those of the start; a database that goes away later is waited for.
pub async fn run(
    pool: PgPool,
    client: Client,
    options: WorkerOptions,
    stopping: watch::Receiver<bool>,
) -> Result<Summary, database::DatabaseError> {
    database::check_version(&pool).await?;
    let namespace = account::namespace(&pool, &options.deployment).await?;
    let id = uuid::Uuid::now_v7().to_string();
    let claimer = Claimer::new(
        id.clone(),
        namespace,
        options.lease,
        options.claims_unknown_for(),
        options.line_choice,
        options.holds.clone(),
    );
    let places = usize::from(options.concurrency);
    let (outcomes, recorded) = mpsc::channel(places);
    let grace = options.grace;
    let shared = Arc::new(Shared {
        pool,
        client,
        options,
        id,
        pace: LocalPace::default(),
        gate: Gate::default(),
        last_look: LastLook::default(),
        outcomes,
        bell: Notify::new(),
        stopping,
        held: AtomicUsize::new(0),
        database_away: AtomicBool::new(false),
        sent: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    });
    info!(worker.id = shared.id, "Worker {} starts with room for {places} jobs", shared.id);

    let mut background = JoinSet::new();
    background.spawn(wakeup::listen(shared.clone()));
    background.spawn(upkeep::run(shared.clone()));
    background.spawn(lastlook::run(shared.clone()));
    let recorder = tokio::spawn(recorder::run(shared.clone(), recorded));

    let room = Arc::new(Semaphore::new(places));
    work(&shared, &claimer, &room).await;
    let unrecorded = finish(&shared, grace).await;
    recorder.abort();
    background.shutdown().await;
    if let Ok(Err(error)) = tokio::time::timeout(DATABASE_AWAY, workers::leave(&shared.pool, &shared.id)).await {
        warn!(%error, "The worker could not take itself off the list; it is forgotten after a day");
    }
    let (sent, failed) = (shared.sent.load(Ordering::Relaxed), shared.failed.load(Ordering::Relaxed));
    info!(worker.id = shared.id, "Worker {} stops: {sent} sent, {failed} failed, {unrecorded} not recorded", shared.id);
    Ok(Summary { sent, failed, unrecorded, stopped: shared.gate.describe().1 })
}

/// The claimer's loop.
async fn work(shared: &Arc<Shared>, claimer: &Claimer, room: &Arc<Semaphore>) {
    let mut stopping = shared.stopping.clone();
    let began = Instant::now();
    let mut looks = Looks::default();
    let mut pass = Pass::default();
    while !*stopping.borrow() {
        let step = step(shared, claimer, room, &mut looks, pass);
        let step = tokio::time::timeout(database::TIMEOUT, step).await;
        pass = Pass { probe: false, after_idle: true };
        let sleep = match step {
            Ok(Ok(Step::Again)) => {
                pass.after_idle = false;
                continue;
            }
            Ok(Ok(Step::Idle { upcoming, holds_nothing, may_claim, is_whole })) => {
                shared.back();
                pass.probe = upcoming.probe_due && shared.reserve_probe().await;
                // At a cold start nothing has been heard yet: what is held for that may go within the drain's own wait.
                let may_hear = upcoming.held && began.elapsed() < shared.options.drain_wait;
                if shared.options.drain && holds_nothing && is_whole && !may_hear && shared.is_drained(&upcoming) {
                    return;
                }
                if pass.probe {
                    continue;
                }
                let sleep = shared.sleep_for(&upcoming, may_claim);
                // What lies before the marks may be due.
                if is_whole { sleep } else { sleep.min(looks.due_in(true)) }
            }
            Ok(Err(error)) => shared.after(&error),
            Err(_) => shared.away("no answer from the database in time"),
        };
        tokio::select! {
            _ = stopping.changed() => {}
            () = shared.bell.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// What kind of pass comes next.
#[derive(Clone, Copy, Default)]
struct Pass {
    /// It may try one job of a halted account.
    probe: bool,
    /// The pass before it found nothing to do.
    after_idle: bool,
}

enum Step {
    /// Something was done, and there may be more.
    Again,
    /// Nothing can be done now.
    Idle {
        upcoming: Upcoming,
        /// Everything that this worker held was recorded before it looked ahead, so nothing of its own is still to come.
        holds_nothing: bool,
        /// There was a place, and the gate was open: otherwise the bell rings, or the gate opens, before anything can be done.
        may_claim: bool,
        /// It looked at whole queues: nothing was overlooked.
        is_whole: bool,
    },
}

/// One pass: admit what is due, claim what there is room for, send it on its way.
async fn step(
    shared: &Arc<Shared>,
    claimer: &Claimer,
    room: &Arc<Semaphore>,
    looks: &mut Looks,
    pass: Pass,
) -> Result<Step, OutboxError> {
    let whole = looks.begin(pass.after_idle);
    let is_whole = whole.is_some();
    let began = Instant::now();
    let admitted =
        admit(&shared.pool, ADMIT_LIMIT, shared.options.claims_unknown_for(), &shared.options.holds, &mut looks.marks)
            .await?;
    let mut took = began.elapsed();
    // Make room before claiming: a claimed job that waits for a place burns its slot.
    let places = places(shared, room).await;
    let limit = if pass.probe { places.min(1) } else { shared.gate.allowance(places) };
    let mut taken = 0;
    if limit > 0 {
        let ticket = shared.gate.ticket();
        let began = Instant::now();
        let probe = pass.probe || shared.gate.is_fresh();
        let Claimed { claims, refused } = claimer.claim(&shared.pool, limit, probe, &mut looks.marks).await?;
        took += began.elapsed();
        failpoint::reached(Point::AfterClaim);
        shared.failed.fetch_add(refused as u64, Ordering::Relaxed);
        shared.gate.claimed(claims.len());
        taken = claims.len() + refused;
        for claim in claims {
            deliver(shared, room, claim, ticket);
        }
    }
    if let Some(whole) = whole {
        looks.end(whole, took);
    }
    if taken > 0 || limit > 0 && admitted == ADMIT_LIMIT {
        return Ok(Step::Again);
    }
    let holds_nothing = shared.held.load(Ordering::SeqCst) == 0;
    let upcoming = upcoming(&shared.pool, &looks.marks, shared.options.drain).await?;
    Ok(Step::Idle { upcoming, holds_nothing, may_claim: limit > 0, is_whole })
}

/// Free places. When there are few, waits a moment for more, so that claims come in batches.
async fn places(shared: &Shared, room: &Arc<Semaphore>) -> usize {
    let batch = u32::from(shared.options.concurrency).div_ceil(4);
    let enough = room.acquire_many(batch);
    drop(tokio::time::timeout(LEAST_SLEEP, enough).await);
    room.available_permits()
}

fn deliver(shared: &Arc<Shared>, room: &Arc<Semaphore>, claim: Claim, ticket: gate::Ticket) {
    let place = room.clone().try_acquire_owned().expect("only this loop takes places, and no more than there are");
    shared.held.fetch_add(1, Ordering::SeqCst);
    let shared = shared.clone();
    tokio::spawn(async move {
        let finished = delivery::deliver(&shared, claim, ticket).await;
        // The channel closes only after every delivery has ended.
        if shared.outcomes.send(finished).await.is_err() {
            warn!("An outcome came after the recorder had stopped; its lease runs out and it is asked again");
        }
        drop(place);
        shared.bell.notify_one();
    });
}

/// Waits until everything that is held is recorded, at most for the grace period. Returns what is not.
async fn finish(shared: &Shared, grace: Duration) -> usize {
    let deadline = Instant::now() + grace;
    loop {
        let held = shared.held.load(Ordering::SeqCst);
        if held == 0 || Instant::now() >= deadline {
            return held;
        }
        tokio::select! {
            () = shared.bell.notified() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

impl Shared {
    fn is_drained(&self, upcoming: &Upcoming) -> bool {
        // Behind a closed gate nothing goes before it opens.
        let gate = self.gate.reopens_in().unwrap_or_default();
        upcoming.next_in.is_none_or(|next_in| next_in.max(gate) > self.options.drain_wait)
    }

    fn sleep_for(&self, upcoming: &Upcoming, may_claim: bool) -> Duration {
        // Jittered, so that idle workers do not all ask at once.
        let poll = self.options.poll.mul_f64(rand::rng().random_range(0.8..1.2));
        let gate = self.gate.reopens_in();
        let next_in =
            if may_claim { upcoming.next_in.map(|next_in| next_in.max(gate.unwrap_or_default())) } else { gate };
        next_in.unwrap_or(poll).clamp(LEAST_SLEEP, poll.max(LEAST_SLEEP))
    }

    async fn reserve_probe(&self) -> bool {
        match account::reserve_probe(&self.pool, self.options.probe_wait).await {
            Ok(reserved) => reserved,
            Err(error) => {
                self.after(&error);
                false
            }
        }
    }

    /// Says when to try again after an error.
    fn after(&self, error: &OutboxError) -> Duration {
        if error.is_conflict() {
            debug!(%error, "Another transaction came in between");
            return LEAST_SLEEP;
        }
        self.away(&error.to_string())
    }

    /// Notes that the database does not answer, once, and says when to try again.
    fn away(&self, why: &str) -> Duration {
        if !self.database_away.swap(true, Ordering::Relaxed) {
            warn!("The database fails: {why}. Outcomes wait in memory, claiming stops until it works again");
        }
        DATABASE_AWAY
    }

    fn back(&self) {
        if self.database_away.swap(false, Ordering::Relaxed) {
            info!("The database works again");
        }
    }
}
