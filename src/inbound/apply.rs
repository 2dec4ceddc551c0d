//! Applying: what stored events mean for recipients, suppressions and jobs, each once. One transaction a batch: after a crash the
//! same events are applied, whole. One applier at a time in the whole deployment, whoever comes: so words are weighed in turn.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use sqlx::{PgPool, PgTransaction};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::config::{OptOutScope, ReplyOptions};
use crate::database;
use crate::inbound::InboundError;
use crate::inbound::effects::{
    Answered, Waiting, confirm, find_answered, finish, follow_deliveries, lift, lock, mark_answered, phones, put_aside,
    read_before, read_events, tell, touch_recipients, waiting, wake,
};
use crate::inbound::optout::Words;
use crate::inbound::weigh::{Read, weigh};
use crate::outbox::MAX_RACES;
use crate::outbox::admit::wake_after_commit;
use crate::outbox::campaigns::stops;
use crate::outbox::suppress::{NewSuppression, suppress_all};
use crate::phone::Phone;
use crate::scope::Scope;

/// The most events that one transaction applies.
const BATCH: i64 = 200;
/// How often is looked for events when nobody rings: a stop is to be honoured within a second.
const EVERY: Duration = Duration::from_millis(200);
/// How long a batch waits for a row that another transaction holds; and an event by itself, since many may be held at once.
const LOCK_WAIT: Duration = Duration::from_millis(300);
const LOCK_WAIT_SINGLY: Duration = Duration::from_millis(50);
/// How long events are applied one by one before the oldest of them are tried again.
const LONGEST_ROUND: Duration = Duration::from_secs(10);
/// After an error.
const PAUSE: Duration = Duration::from_millis(500);

/// How events are applied.
#[derive(Debug)]
pub struct Applier {
    words: Words,
    options: ReplyOptions,
}

/// What a batch did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    pub events: usize,
    pub opted_out: usize,
    /// Jobs that ended because their recipient said stop.
    pub suppressed_jobs: u64,
    /// Enrolments that ended because their person wrote to us.
    pub stopped_enrolments: i64,
}

impl Applier {
    /// An applier that knows these words.
    pub fn new(words: Words, options: ReplyOptions) -> Applier {
        Applier { words, options }
    }

    /// Applies stored events until `stopping`, soon after `bell` rings and often anyway.
    pub async fn run(&self, pool: &PgPool, bell: &Arc<Notify>, mut stopping: watch::Receiver<bool>) {
        let mut failing = false;
        while !*stopping.borrow() {
            let applied = tokio::time::timeout(database::TIMEOUT, self.apply(pool)).await;
            let rest = match applied {
                Ok(Ok(applied)) if applied.events == BATCH as usize => continue,
                Ok(Ok(_)) => {
                    failing = false;
                    EVERY.mul_f64(rand::rng().random_range(0.8..1.2))
                }
                Ok(Err(error)) if !std::mem::replace(&mut failing, true) => {
                    warn!(%error, "Replies and stops cannot be applied; they wait in outbox.events");
                    PAUSE
                }
                Ok(Err(_)) | Err(_) => PAUSE,
            };
            tokio::select! {
                // Whoever could have said so may be gone.
                _ = stopping.wait_for(|stop| *stop) => return,
                () = bell.notified() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Applies one batch; nothing if another process is applying just now. Where one event keeps the batch from being applied, each
    /// is applied by itself. Errors: `InboundError::Apply`, nothing applied. Source: invariant 10.
    pub async fn apply(&self, pool: &PgPool) -> Result<Applied, InboundError> {
        let mut races = 0;
        loop {
            match self.apply_batch(pool, 0, BATCH, LOCK_WAIT).await {
                // It met a claim or an admission at the same jobs, and was the one to give way.
                Err(error) if error.is_conflict() && races < MAX_RACES => races += 1,
                Err(error) if error.is_conflict() || error.is_refusal() || error.is_locked() => {
                    return self.apply_singly(pool).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Applies the events that wait one by one: one that the database refuses is put aside as `unreadable`; one whose rows somebody
    /// else holds stays for later, and so do the others of its sender. None holds up those of anybody else.
    async fn apply_singly(&self, pool: &PgPool) -> Result<Applied, InboundError> {
        let (began, mut after) = (Instant::now(), 0);
        let mut sum = Applied::default();
        let mut locked_out = HashSet::new();
        loop {
            let page = waiting(pool, after, BATCH).await?;
            let Some(last) = page.last() else { return Ok(sum) };
            after = last.id;
            for event in page {
                if began.elapsed() >= LONGEST_ROUND {
                    return Ok(sum);
                }
                let Waiting { id, phone } = event;
                if phone.as_ref().is_some_and(|phone| locked_out.contains(phone)) {
                    continue;
                }
                match self.apply_batch(pool, id - 1, 1, LOCK_WAIT_SINGLY).await {
                    Ok(applied) => {
                        sum.events += applied.events;
                        sum.opted_out += applied.opted_out;
                        sum.suppressed_jobs += applied.suppressed_jobs;
                        sum.stopped_enrolments += applied.stopped_enrolments;
                    }
                    Err(error) if error.is_conflict() || error.is_locked() => {
                        warn!(%error, event.id = id, "Event {id} waits for a transaction that holds its recipient's jobs");
                        locked_out.extend(phone);
                    }
                    Err(error) if error.is_refusal() => {
                        put_aside(pool, id).await?;
                        sum.events += 1;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Applies up to `limit` events after this one, all or none.
    async fn apply_batch(
        &self,
        pool: &PgPool,
        after: i64,
        limit: i64,
        lock_wait: Duration,
    ) -> Result<Applied, InboundError> {
        let mut tx = database::begin(pool).await.map_err(InboundError::Apply)?;
        let (applied, ended) = match self.apply_in(&mut tx, after, limit, lock_wait).await {
            Ok(done) => done,
            Err(error) => {
                // Here and now: a transaction that is merely dropped ends a moment later, and holds the lock until then.
                tx.rollback().await.map_err(InboundError::Apply)?;
                return Err(InboundError::Apply(error));
            }
        };
        tx.commit().await.map_err(InboundError::Apply)?;
        wake_after_commit(pool, &ended).await;
        if applied.opted_out > 0 {
            info!(
                "{} recipients said stop; {} jobs of theirs are suppressed",
                applied.opted_out, applied.suppressed_jobs
            );
        }
        Ok(applied)
    }

    /// Returns also whose jobs have ended.
    async fn apply_in(
        &self,
        tx: &mut PgTransaction<'_>,
        after: i64,
        limit: i64,
        lock_wait: Duration,
    ) -> Result<(Applied, Vec<String>), sqlx::Error> {
        let stored = if lock(tx, lock_wait).await? { read_events(tx, after, limit).await? } else { Vec::new() };
        if stored.is_empty() {
            return Ok(Default::default());
        }
        let reads: Vec<Read> = stored.iter().map(|stored| Read::of(&stored.event, &self.words)).collect();
        for (stored, _) in stored.iter().zip(&reads).filter(|(_, read)| read.is_unaddressed_stop) {
            warn!(
                event.id = stored.id,
                "Event {} may be a stop, from an address that is no number: find out who it is (events tail --show-text), \
                 and suppress them (suppress add)",
                stored.id
            );
        }
        let before = read_before(tx, &reads).await?;
        let verdicts = weigh(&reads, |phone| before.get(phone.as_str()).copied().unwrap_or_default());
        let answered = find_answered(tx, &stored, &reads).await?;

        let place =
            |id: &String| reads.iter().position(|read| read.event_id == *id).expect("the stop is of this batch");
        let stops: Vec<(&Phone, usize)> = verdicts
            .iter()
            .flat_map(|(phone, verdict)| verdict.stops.iter().map(move |id| (phone, place(id))))
            .collect();
        let suppressions = self.suppressions(&stops, &reads, &answered);
        let suppressed = suppress_all(tx, &suppressions).await?;
        let opted_out: Vec<_> = suppressions.iter().map(|one| (&one.phone, &one.scope)).collect();
        let replies: Vec<_> = verdicts.iter().map(|(phone, verdict)| (phone, verdict.last_inbound_at)).collect();
        let stopped_enrolments = stops::opted_out(tx, &opted_out).await? + stops::replied(tx, &replies).await?;
        stops::look_again(tx, &phones(&verdicts)).await?;
        let new = stops.iter().zip(&suppressed.new).filter(|(_, is_new)| **is_new);
        let mut confirmed = BTreeMap::new();
        for ((phone, index), _) in new.clone() {
            confirmed.entry((*phone).clone()).or_insert(stored[*index].id);
        }
        let applied = Applied {
            events: stored.len(),
            opted_out: new.count(),
            suppressed_jobs: suppressed.jobs,
            stopped_enrolments,
        };
        let lifted: Vec<String> = phones(verdicts.iter().filter(|(_, verdict)| verdict.start));
        lift(tx, &lifted).await?;
        confirm(tx, &confirmed, &self.options).await?;
        wake(tx, &phones(&verdicts)).await?;
        mark_answered(tx, &reads, &answered).await?;
        touch_recipients(tx, &verdicts).await?;
        follow_deliveries(tx, &reads).await?;
        tell(tx, &reads, &answered).await?;
        finish(tx, &stored, &reads, &answered).await?;
        Ok((applied, suppressed.ended))
    }

    /// A stop is of all, or of the campaign of the message that it answers.
    fn suppressions(
        &self,
        stops: &[(&Phone, usize)],
        reads: &[Read],
        answered: &[Option<Answered>],
    ) -> Vec<NewSuppression> {
        let suppression = |(phone, index): &(&Phone, usize)| NewSuppression {
            phone: (*phone).clone(),
            scope: self.scope(answered[*index].as_ref()),
            reason: "said stop".to_owned(),
            source: "reply".to_owned(),
            created_at: None,
            event_id: Some(reads[*index].event_id.clone()),
        };
        stops.iter().map(suppression).collect()
    }

    /// All, where a campaign's name is none that a scope can have.
    fn scope(&self, answered: Option<&Answered>) -> Scope {
        match (self.options.opt_out_scope, answered.and_then(|job| job.campaign.as_ref())) {
            (OptOutScope::Campaign, Some(campaign)) => {
                format!("campaign={campaign}").parse().unwrap_or_else(|_| Scope::all())
            }
            _ => Scope::all(),
        }
    }
}
