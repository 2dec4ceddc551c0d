//! Putting enrolments in past those that somebody else is putting in: an application that enrols a person and does not commit holds up
//! that person, and nobody beside them.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgTransaction};

use crate::database;
use crate::outbox::campaigns::ticks::Open;

/// For so long one waits for others, all together: most of them are about to commit. Then only to see whom they hold.
const PATIENCE: Duration = Duration::from_millis(50);
const GLANCE: Duration = Duration::from_millis(2);
/// For so long it is looked who is held; whoever is not seen by then waits too.
const SEARCH: Duration = Duration::from_millis(500);

/// A row of an audience whose person may be enrolled.
#[derive(Debug, Clone, Copy)]
pub(super) struct New {
    pub n: i64,
    pub round: i32,
    pub due_at: DateTime<Utc>,
}

/// What became of them, by row. Of whom neither is told, somebody else has enrolled them meanwhile.
#[derive(Debug, Default)]
pub(super) struct Entered {
    pub enrolled: HashSet<i64>,
    /// Somebody else enrols them and has not committed, or it was not seen in time that nobody does.
    pub held: HashSet<i64>,
    pub is_searched_through: bool,
}

/// Enrols people of a locked firing; `ready` says that the first step makes a job. A piece that waits for somebody else is tried again in
/// halves, all larger pieces first.
pub(super) async fn enter(
    tx: &mut PgTransaction<'_>,
    tick: &Open,
    ready: bool,
    new: &[New],
) -> Result<Entered, sqlx::Error> {
    let began = Instant::now();
    let mut entered = Entered { is_searched_through: true, ..Entered::default() };
    let (mut pieces, mut patience) = (VecDeque::from([new]), PATIENCE);
    while let Some(piece) = pieces.pop_front() {
        let in_time = began.elapsed() < SEARCH;
        entered.is_searched_through &= in_time;
        match in_time {
            true => match put_in(tx, tick, ready, piece, patience).await? {
                Some(enrolled) => entered.enrolled.extend(enrolled),
                None if piece.len() == 1 => drop(entered.held.insert(piece[0].n)),
                None => pieces.extend(<[_; 2]>::from(piece.split_at(piece.len() / 2))),
            },
            false => entered.held.extend(piece.iter().map(|new| new.n)),
        }
        patience = GLANCE;
    }
    Ok(entered)
}

/// All of them or none: none if one waits for somebody else for longer than this.
async fn put_in(
    tx: &mut PgTransaction<'_>,
    tick: &Open,
    ready: bool,
    piece: &[New],
    patience: Duration,
) -> Result<Option<Vec<i64>>, sqlx::Error> {
    let mut trying = tx.begin().await?;
    database::wait_for_locks(&mut trying, patience).await?;
    match insert(&mut trying, tick, ready, piece).await {
        Err(error) if database::is_locked(&error) => {
            trying.rollback().await?;
            Ok(None)
        }
        enrolled => {
            let enrolled = enrolled?;
            trying.commit().await?;
            Ok(Some(enrolled))
        }
    }
}

async fn insert(tx: &mut PgTransaction<'_>, tick: &Open, ready: bool, piece: &[New]) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with new as materialized (
            select u.n, r.phone, r.vars, u.round, u.due_at
              from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as u (n, round, due_at)
             cross join lateral (
                   select a.phone, a.vars from outbox.audience_rows a where a.audience = $4 and a.n = u.n offset 0) r
        ), enrolled as (
            insert into outbox.enrolments (campaign, version, phone, round, vars, tick_id, ready, reached_at, due_at)
            select $5, $6, new.phone, new.round, new.vars, $7, $8, new.due_at, new.due_at
              from new
             order by new.phone
                on conflict on constraint one_enrolment_a_round do nothing
            returning phone
        )
        select new.n as "n!" from new join enrolled using (phone)
        "#,
        &piece.iter().map(|new| new.n).collect::<Vec<_>>(),
        &piece.iter().map(|new| new.round).collect::<Vec<_>>(),
        &piece.iter().map(|new| new.due_at).collect::<Vec<_>>(),
        tick.audience,
        tick.campaign,
        tick.version,
        tick.id,
        ready,
    )
    .fetch_all(&mut **tx)
    .await
}
