//! Advancing: a batch of due enrolments of one campaign in one transaction. Those that only move on go as many as there are; those whose
//! step makes a job, as many as the look-ahead has room for.

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
use crate::outbox::campaigns::steps::{self, Cap, Capped, Change, Enrolment, Known, Made, Turn};
use crate::outbox::lines;

/// Enrolments of one transaction.
const MOVES: i64 = 200;
const SENDS: i64 = 100;
/// In this order, so that whoever was written to goes on first.
const TURNS_OF_A_CAMPAIGN: [Turn; 4] = [
    Turn { ready: false, written: true },
    Turn { ready: false, written: false },
    Turn { ready: true, written: true },
    Turn { ready: true, written: false },
];

impl Engine {
    /// Advances what is due, some of each campaign in turn.
    pub(super) async fn advance(&self) -> Result<bool, CampaignsError> {
        let mut any = false;
        for _ in 0..TURNS {
            let mut moved = 0;
            for campaign in bounded(steps::due(&self.pool)).await? {
                for turn in TURNS_OF_A_CAMPAIGN {
                    moved += bounded(self.advance_some(&campaign, turn)).await?;
                }
            }
            if moved == 0 {
                return Ok(any);
            }
            any = true;
        }
        Ok(any)
    }

    /// One transaction; returns how many enrolments it changed.
    async fn advance_some(&self, campaign: &str, turn: Turn) -> Result<usize, CampaignsError> {
        let mut tx = database::begin(&self.pool).await.map_err(CampaignsError::Advance)?;
        let limit = if turn.ready {
            let look_ahead = i64::from(self.options.look_ahead);
            let room = steps::room(&mut tx, campaign, turn.written, look_ahead).await;
            room.map_err(CampaignsError::Advance)?.min(SENDS)
        } else {
            MOVES
        };
        if limit <= 0 {
            return Ok(0);
        }
        let mut due = steps::lock(&mut tx, campaign, turn, limit).await.map_err(CampaignsError::Advance)?;
        let Some(version) = due.first().map(|first| first.version) else { return Ok(0) };
        // Those of another version come next: this one's rules are not theirs.
        due.retain(|enrolment| enrolment.version == version);
        let changed = match self.version(&mut tx, campaign, version).await {
            Ok(running) => advance_in(&mut tx, &running, due, self.unanswered_limit).await,
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
    let (mut changes, made) = decide(running, &due, &known, &capped, &open, unanswered_limit);
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
    open: &[String],
    unanswered_limit: i32,
) -> (Vec<Change>, Vec<(usize, Made)>) {
    let (mut changes, mut made, mut rng) = (Vec::with_capacity(due.len()), Vec::new(), rand::rng());
    for ((enrolment, known), capped) in due.iter().zip(known).zip(capped) {
        let mut deciding = Deciding { enrolment, running, known, capped, open, unanswered_limit, rng: &mut rng };
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
