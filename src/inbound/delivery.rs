//! The looker: asks Chert what became of each message when its look is due, within a budget of its own, and stands back whenever
//! Chert or the account says no: a look never takes a send's place.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use rand::RngExt as _;
use sqlx::PgPool;
use tokio::sync::{Mutex, watch};
use tracing::{debug, info, warn};

use crate::chert::ask::AskError;
use crate::chert::client::Client;
use crate::chert::reply::Reply;
use crate::config::DeliveryOptions;
use crate::delivery::Look;
use crate::outbox::OutboxError;
use crate::outbox::lookups::{self, Lookup};
use crate::outcome::{Outcome, classify};
use crate::retry::backoff;

/// Calls at once.
const IN_FLIGHT: usize = 4;
/// No more are taken than can be asked in this time, and never more than so many.
const BATCH_TIME: Duration = Duration::from_secs(10);
const MAX_BATCH: i64 = 50;
/// An idle looker looks for work this often, and a busy one no sooner than that.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
const LEAST_SLEEP: Duration = Duration::from_secs(1);
/// A message that could not be asked about for so long, since Chert failed or the budget is too small, gets no more looks.
const GIVE_UP: Duration = Duration::from_secs(48 * 60 * 60);

/// Follows what was sent until `stopping` turns true. What it has in hand then is looked at by others, once its lease is over.
pub async fn run(pool: PgPool, client: Client, options: DeliveryOptions, mut stopping: watch::Receiver<bool>) {
    let looker = Looker::new(pool, client, &options);
    let mut failures = 0;
    loop {
        let pass = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => return,
            pass = looker.pass(failures) => pass,
        };
        let sleep = match pass {
            Ok(Pass { stood_back: Some((wait, why)), .. }) => {
                if failures == 0 {
                    warn!("Looking after deliveries pauses: {why}");
                }
                failures += 1;
                wait
            }
            Ok(Pass { noted: 0, next_in, .. }) => next_in.unwrap_or(LONGEST_SLEEP).clamp(LEAST_SLEEP, LONGEST_SLEEP),
            Ok(Pass { noted, .. }) => {
                debug!("Looked after {noted} deliveries");
                if failures > 0 {
                    info!("Looking after deliveries goes on");
                }
                failures = 0;
                continue;
            }
            Err(error) => {
                debug!(%error, "No look after deliveries");
                LONGEST_SLEEP
            }
        };
        // Jittered, so that idle lookers do not all ask at once.
        let sleep = sleep.mul_f64(rand::rng().random_range(1.0..1.2));
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// What one pass did.
#[derive(Debug, Default)]
pub struct Pass {
    /// Looks that were made and recorded.
    pub noted: u64,
    /// Chert had no time for us, or does not know us: how long to leave it alone, and why.
    pub stood_back: Option<(Duration, String)>,
    /// How long until the next look is due, where nothing was done; none if no message is followed.
    pub next_in: Option<Duration>,
}

/// Looks at messages, in batches.
pub struct Looker {
    pool: PgPool,
    client: Client,
    budget: Budget,
    batch: i64,
    lease: Duration,
}

impl Looker {
    /// A looker with these options.
    pub fn new(pool: PgPool, client: Client, options: &DeliveryOptions) -> Looker {
        let gap = options.lookup_rate.gap();
        let batch = BATCH_TIME.as_micros().checked_div(gap.as_micros()).and_then(|batch| i64::try_from(batch).ok());
        let batch = batch.unwrap_or(MAX_BATCH).clamp(1, MAX_BATCH);
        // Each waits for its turn, and the last ones for as many calls as are in flight before them.
        let rounds = u32::try_from(batch).unwrap_or(1).div_ceil(IN_FLIGHT as u32);
        let lease = BATCH_TIME + gap + client.timeout() * rounds;
        Looker { pool, client, budget: Budget::new(gap), batch, lease }
    }

    /// Takes a batch of looks that are due, makes them, and records what they brought. `failures`: passes before this one that
    /// stood back. Errors: `OutboxError::Lookups`; what was taken is due again after its lease.
    pub async fn pass(&self, failures: u32) -> Result<Pass, OutboxError> {
        let taken = lookups::take(&self.pool, self.batch, self.lease).await?;
        if taken.is_empty() {
            return Ok(Pass { next_in: lookups::next_in(&self.pool).await?, ..Pass::default() });
        }
        let trouble = Trouble::default();
        let (given_up, to_ask): (Vec<_>, Vec<_>) = taken.into_iter().partition(|lookup| lookup.age >= GIVE_UP);
        let calls: Vec<_> = to_ask.iter().map(|lookup| self.ask(lookup, failures, &trouble)).collect();
        let answers: Vec<(&Lookup, Asked)> = stream::iter(calls).buffer_unordered(IN_FLIGHT).collect().await;
        let mut looks: Vec<_> = given_up.into_iter().map(|lookup| (lookup, Look::Unreadable)).collect();
        let (mut failed, mut unasked) = (Vec::new(), Vec::new());
        for (lookup, asked) in answers {
            match asked {
                Asked::Answered(look) => looks.push((lookup.clone(), look)),
                Asked::Failed => failed.push(lookup.clone()),
                Asked::Unasked => unasked.push(lookup.clone()),
            }
        }
        let noted = lookups::note(&self.pool, &looks).await?;
        let stood_back = trouble.into_inner();
        if let Some((wait, _)) = &stood_back {
            lookups::put_back(&self.pool, &unasked, *wait).await?;
            // Behind the others: Chert may fail at these alone, and they shall hold up nobody.
            lookups::put_back(&self.pool, &failed, 2 * *wait).await?;
        }
        Ok(Pass { noted, stood_back, next_in: None })
    }

    async fn ask<'a>(&self, lookup: &'a Lookup, failures: u32, trouble: &Trouble) -> (&'a Lookup, Asked) {
        self.budget.turn().await;
        if trouble.lock().await.is_some() {
            return (lookup, Asked::Unasked);
        }
        let asked = match self.client.message(&lookup.message_id).await {
            Ok(Some(message)) => Asked::Answered(Look::Seen(message)),
            Ok(None) => Asked::Answered(Look::NotFound),
            Err(error) => match wait_after(&error, failures) {
                None => Asked::Answered(Look::Unreadable),
                Some(wait) => {
                    trouble.lock().await.get_or_insert((wait, error.to_string()));
                    Asked::Failed
                }
            },
        };
        (lookup, asked)
    }
}

/// The first failure of a batch: how long to leave Chert alone, and why.
type Trouble = Mutex<Option<(Duration, String)>>;

/// What came of a look that was due.
enum Asked {
    Answered(Look),
    /// Chert could not be reached, or had no time for us, or does not know us.
    Failed,
    /// Another one of the batch had failed before.
    Unasked,
}

/// How long to leave Chert alone after such an error; none if it is about one message.
fn wait_after(error: &AskError, failures: u32) -> Option<Duration> {
    let named = match error {
        AskError::Unreadable(_) => return None,
        AskError::Unreachable(_) => None,
        AskError::Refused(answer) => match classify(&Reply::Answered(answer.clone())) {
            Outcome::Rejected => return None,
            Outcome::RateLimited { wait } | Outcome::Deferred { wait } => Some(wait),
            Outcome::Retry { wait, .. } => wait,
            _ => None,
        },
    };
    Some(named.unwrap_or_default().max(backoff(failures + 1, &mut rand::rng())))
}

/// The budget of this process's looks, with governor.
struct Budget {
    limiter: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
}

impl Budget {
    fn new(gap: Duration) -> Budget {
        let quota = Quota::with_period(gap).map(|quota| quota.allow_burst(NonZeroU32::MIN));
        Budget { limiter: quota.map(RateLimiter::direct), clock: DefaultClock::default() }
    }

    /// Waits for the next turn: one gap for each that waits before this one.
    async fn turn(&self) {
        let Some(limiter) = &self.limiter else { return };
        while let Err(not_until) = limiter.check() {
            tokio::time::sleep(not_until.wait_time_from(self.clock.now())).await;
        }
    }
}
