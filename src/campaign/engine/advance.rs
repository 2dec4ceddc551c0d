//! Advancing: a batch of due enrolments of one campaign in one transaction. Those that only move on go as many as there are; those whose
//! step makes a job, as many as the look-ahead of each line has room for.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use sqlx::PgTransaction;

use crate::campaign::draft::about;
use crate::campaign::engine::decide::{Deciding, Decision, stays};
use crate::campaign::engine::{Engine, TURNS, UNREADABLE, bounded};
use crate::campaign::pool;
use crate::campaign::program::Op;
use crate::campaign::running::Running;
use crate::database;
use crate::job::NewJob;
use crate::outbox::campaigns::CampaignsError;
use crate::outbox::campaigns::rooms::{self, Queue, Standing};
use crate::outbox::campaigns::steps::{self, Cap, Capped, Change, Enrolment, Known, Made};
use crate::outbox::lines;

/// Enrolments of one transaction.
const MOVES: i64 = 200;
const SENDS: i64 = 100;

impl Engine {
    /// Advances what is due, some of each campaign in turn.
    pub(super) async fn advance(&self) -> Result<bool, CampaignsError> {
        let mut any = false;
        // Whoever is due and waits for room may do so for weeks: such a campaign is looked at once.
        let mut stands = HashSet::new();
        for _ in 0..TURNS {
            let mut goes_on = false;
            for campaign in bounded(steps::due(&self.pool)).await? {
                if stands.contains(&campaign) {
                    continue;
                }
                let mut moved = 0;
                for written in [true, false] {
                    moved += bounded(self.move_some(&campaign, written)).await?;
                }
                moved += bounded(self.make_some(&campaign)).await?;
                goes_on |= moved > 0;
                if moved == 0 {
                    stands.insert(campaign);
                }
            }
            if !goes_on {
                return Ok(any);
            }
            any = true;
        }
        Ok(any)
    }

    /// One transaction for those whose step makes no job; returns how many enrolments it changed.
    async fn move_some(&self, campaign: &str, written: bool) -> Result<usize, CampaignsError> {
        let mut tx = database::begin(&self.pool).await.map_err(CampaignsError::Advance)?;
        let due = steps::lock(&mut tx, campaign, written, MOVES).await.map_err(CampaignsError::Advance)?;
        self.advance_these(tx, campaign, due, &BTreeSet::new()).await
    }

    /// One transaction for those whose step makes one, some of each queue that has room; returns how many enrolments it changed.
    async fn make_some(&self, campaign: &str) -> Result<usize, CampaignsError> {
        let mut tx = database::begin(&self.pool).await.map_err(CampaignsError::Advance)?;
        let mut standing = rooms::standing(&mut tx, campaign).await.map_err(CampaignsError::Advance)?;
        standing.retain(|queue| queue.is_due);
        if standing.is_empty() {
            return Ok(0);
        }
        let rooms = rooms::rooms(&mut tx, campaign, self.options).await.map_err(CampaignsError::Advance)?;
        let share = (SENDS / standing.len() as i64).max(1);
        let (roomy, full): (Vec<_>, Vec<_>) = standing.into_iter().partition(|queue| rooms.left(&queue.queue()) > 0);
        let with_room = |queue: &Standing| (queue.queue(), rooms.left(&queue.queue()).min(share));
        let mut turns: Vec<(Queue, i64)> = roomy.iter().map(with_room).collect();
        let full = self.drawn_no_more(&mut tx, campaign, full).await?;
        turns.extend(full.iter().map(|queue| (queue.clone(), share)));
        let due = steps::lock_ready(&mut tx, campaign, &turns).await.map_err(CampaignsError::Advance)?;
        self.advance_these(tx, campaign, due, &full).await
    }

    /// Those of these queues for whose line new contacts are drawn no more: who waits for it is another line's by now.
    async fn drawn_no_more(
        &self,
        tx: &mut PgTransaction<'_>,
        campaign: &str,
        mut queues: Vec<Standing>,
    ) -> Result<BTreeSet<Queue>, CampaignsError> {
        queues.retain(|queue| queue.first_touch);
        let mut none = BTreeSet::new();
        if queues.is_empty() {
            return Ok(none);
        }
        let account = lines::account(tx).await.map_err(CampaignsError::Advance)?;
        // The lines that each version draws among; none where it draws no line, or cannot be read.
        let mut drawn: HashMap<i32, Option<BTreeSet<String>>> = HashMap::new();
        for queue in queues {
            let open = match drawn.entry(queue.version) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(match self.version(tx, campaign, queue.version).await {
                    Err(CampaignsError::Unreadable { .. }) => None,
                    running => match running?.campaign.lines.pool.as_slice() {
                        [] => None,
                        pool => Some(pool::open(pool, &account).into_iter().collect()),
                    },
                }),
            };
            if open.as_ref().is_some_and(|open| !open.contains(&queue.line_id)) {
                none.insert(queue.queue());
            }
        }
        Ok(none)
    }

    async fn advance_these(
        &self,
        mut tx: PgTransaction<'_>,
        campaign: &str,
        mut due: Vec<Enrolment>,
        full: &BTreeSet<Queue>,
    ) -> Result<usize, CampaignsError> {
        let Some(version) = due.first().map(|first| first.version) else { return Ok(0) };
        // Those of another version come next: this one's rules are not theirs.
        due.retain(|enrolment| enrolment.version == version);
        let changed = match self.version(&mut tx, campaign, version).await {
            Ok(running) => advance_in(&mut tx, &running, due, full, self.unanswered_limit).await,
            Err(error @ CampaignsError::Unreadable { .. }) => {
                self.tell(&error, "lets nobody go on");
                put_off(&mut tx, due).await
            }
            Err(error) => return Err(error),
        };
        let changed = changed.map_err(CampaignsError::Advance)?;
        tx.commit().await.map_err(CampaignsError::Advance)?;
        Ok(changed)
    }
}

/// Locked enrolments of one version: what is known of them is read, then what becomes of them is written, with their jobs.
async fn advance_in(
    tx: &mut PgTransaction<'_>,
    running: &Running,
    mut due: Vec<Enrolment>,
    full: &BTreeSet<Queue>,
    unanswered_limit: i32,
) -> Result<usize, sqlx::Error> {
    let campaign = running.campaign.name.as_str();
    let cap = Cap::of(running);
    if cap.is_some() {
        let phones: Vec<String> = due.iter().map(|enrolment| enrolment.phone.clone()).collect();
        let mine = steps::lock_people(tx, &phones).await?;
        due.retain(|enrolment| mine.contains(&enrolment.phone));
    }
    let known = steps::know(tx, &due).await?;
    let capped = match cap {
        Some(cap) => steps::capped(tx, campaign, &due, cap).await?,
        None => vec![Capped::default(); due.len()],
    };
    let open = match running.campaign.lines.pool.as_slice() {
        [] => Vec::new(),
        pool => pool::open(pool, &lines::account(tx).await?),
    };
    let (mut changes, made) = decide(running, &due, &known, &capped, (&open, full), unanswered_limit);
    if !made.is_empty() {
        let (makers, made): (Vec<usize>, Vec<Made>) = made.into_iter().unzip();
        let ids = steps::make(tx, campaign, &made).await?;
        for (maker, id) in makers.into_iter().zip(ids) {
            changes[maker].job_id = Some(id);
        }
    }
    steps::write(tx, &changes).await?;
    Ok(changes.len())
}

/// What becomes of each, and the jobs that some make, with their places among them.
fn decide(
    running: &Running,
    due: &[Enrolment],
    known: &[Known],
    capped: &[Capped],
    (open, full): (&[String], &BTreeSet<Queue>),
    unanswered_limit: i32,
) -> (Vec<Change>, Vec<(usize, Made)>) {
    let (mut changes, mut made, mut rng) = (Vec::with_capacity(due.len()), Vec::new(), rand::rng());
    for ((enrolment, known), capped) in due.iter().zip(known).zip(capped) {
        let has_room = !full.contains(&enrolment.queue());
        let mut deciding =
            Deciding { enrolment, running, known, capped, open, has_room, unanswered_limit, rng: &mut rng };
        let Decision { change, job } = deciding.decide();
        if let Some(job) = job {
            made.push((changes.len(), made_by(running, &change, *job)));
        }
        changes.push(change);
    }
    (changes, made)
}

/// A job with what tells it apart from others of its campaign, whatever version follows.
fn made_by(running: &Running, change: &Change, job: NewJob) -> Made {
    let step = usize::try_from(change.step).ok().and_then(|step| running.program.get(step));
    let variant = step.and_then(|step| match &step.op {
        Op::Send(message) => message.wording(&running.campaign.name, &step.name, &job.phone).variant.clone(),
        _ => None,
    });
    Made {
        enrolment: change.id,
        step: change.step,
        step_name: step.map_or_else(|| change.step.to_string(), |step| step.name.to_string()),
        variant: variant.map(|name| name.to_string()),
        job,
    }
}

async fn put_off(tx: &mut PgTransaction<'_>, due: Vec<Enrolment>) -> Result<usize, sqlx::Error> {
    let known = steps::know(tx, &due).await?;
    let wait = about(UNREADABLE, &mut rand::rng());
    let later = |(enrolment, known): (&Enrolment, &Known)| Change {
        due_at: Some(known.now + wait),
        ready: enrolment.ready,
        ..stays(enrolment, known.now)
    };
    steps::write(tx, &due.iter().zip(&known).map(later).collect::<Vec<_>>()).await?;
    Ok(0)
}
