//! Low-water marks: where a pass begins to read. A row that leaves a queue stays in its index for as long as anybody holds
//! a snapshot from before, and every scan from the queue's head reads over it; after ten minutes of that there are
//! millions. So a pass begins where the one before found its first row. What came in before that, such as an urgent job
//! or one that a long transaction inserted, is found by a look at the whole queue, which is taken only as often as it
//! costs a small share of the time: at every pass where nothing is in the way.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::line::ANY_LINE;
use crate::pace::allot::Turn;

/// A whole look may take one part in so many of a busy worker's time, and of an idle one's.
const BUSY_SHARE: u32 = 20;
const IDLE_SHARE: u32 = 5;

/// Before anything that may be queued: see the constraint on `due_at`.
const HEAD: Turn = (i16::MIN, DateTime::<Utc>::UNIX_EPOCH, 0);

/// Where each queue is read from; at its head where nothing is noted.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    admission: Option<(DateTime<Utc>, i64)>,
    queues: HashMap<(String, bool), Turn>,
}

/// Marks as statements take them: one array a column, one element a line, `*` always among them.
#[derive(Debug, Default)]
pub(crate) struct MarkColumns {
    pub line_ids: Vec<String>,
    /// Of the queue of follow-ups, then of the queue of first touches.
    pub priorities: Vec<i16>,
    pub dues: Vec<DateTime<Utc>>,
    pub ids: Vec<i64>,
    pub touch_priorities: Vec<i16>,
    pub touch_dues: Vec<DateTime<Utc>>,
    pub touch_ids: Vec<i64>,
}

impl Marks {
    /// Where rows to admit are read from: when they are looked for, and their id.
    pub(crate) fn admission(&self) -> (DateTime<Utc>, i64) {
        self.admission.unwrap_or((DateTime::<Utc>::UNIX_EPOCH, 0))
    }

    /// Notes the first row that was admitted.
    pub(crate) fn admitted(&mut self, first: Option<(DateTime<Utc>, i64)>) {
        self.admission = first.or(self.admission);
    }

    /// Where the queue of this line and class is read from.
    pub(crate) fn of(&self, line_id: &str, first_touch: bool) -> Turn {
        self.queues.get(&(line_id.to_owned(), first_touch)).copied().unwrap_or(HEAD)
    }

    /// Notes the first rows that were found, in the order of their turns.
    pub(crate) fn found<'a>(&mut self, rows: impl DoubleEndedIterator<Item = (&'a str, bool, Turn)>) {
        for (line_id, first_touch, turn) in rows.rev() {
            self.queues.insert((line_id.to_owned(), first_touch), turn);
        }
    }

    pub(crate) fn columns(&self) -> MarkColumns {
        let lines: BTreeSet<&str> = self.queues.keys().map(|(line_id, _)| line_id.as_str()).chain([ANY_LINE]).collect();
        let mut columns = MarkColumns::default();
        for line_id in lines {
            let (follow_up, touch) = (self.of(line_id, false), self.of(line_id, true));
            columns.line_ids.push(line_id.to_owned());
            columns.priorities.push(follow_up.0);
            columns.dues.push(follow_up.1);
            columns.ids.push(follow_up.2);
            columns.touch_priorities.push(touch.0);
            columns.touch_dues.push(touch.1);
            columns.touch_ids.push(touch.2);
        }
        columns
    }
}

/// One worker's marks, and when it looks at whole queues again, by what the last whole look took.
#[derive(Debug, Default)]
pub struct Looks {
    pub marks: Marks,
    last: Option<(Instant, Duration)>,
}

impl Looks {
    /// Begins a pass; at the heads of the queues if a whole look is due, and then [`Looks::end`] belongs behind it.
    pub fn begin(&mut self, idle: bool) -> Option<WholeLook> {
        self.due_in(idle).is_zero().then(|| WholeLook { before: std::mem::take(&mut self.marks) })
    }

    /// Notes that a whole look took this long. A queue in which nothing was found keeps its mark: what is dead stays so.
    pub fn end(&mut self, look: WholeLook, took: Duration) {
        self.marks.admission = self.marks.admission.or(look.before.admission);
        for (queue, turn) in look.before.queues {
            self.marks.queues.entry(queue).or_insert(turn);
        }
        self.last = Some((Instant::now(), took));
    }

    /// The time until the next whole look.
    pub fn due_in(&self, idle: bool) -> Duration {
        let Some((ended, took)) = self.last else { return Duration::ZERO };
        let share = if idle { IDLE_SHARE } else { BUSY_SHARE };
        (took * (share - 1)).saturating_sub(ended.elapsed())
    }
}

/// A whole look that is under way.
#[derive(Debug)]
pub struct WholeLook {
    before: Marks,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_read_from_its_first_row_that_was_found() {
        let at = DateTime::<Utc>::UNIX_EPOCH;
        let mut marks = Marks::default();
        assert_eq!(marks.of("pl_1", true), HEAD);
        marks.found([("pl_1", true, (0, at, 7)), ("pl_2", true, (0, at, 8)), ("pl_1", true, (0, at, 9))].into_iter());
        assert_eq!(marks.of("pl_1", true), (0, at, 7));
        marks.found([("pl_1", true, (0, at, 12))].into_iter());
        assert_eq!((marks.of("pl_1", true), marks.of("pl_2", true)), ((0, at, 12), (0, at, 8)));
        assert_eq!(marks.columns().line_ids, ["*", "pl_1", "pl_2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn i11_whole_looks_take_a_twentieth_of_a_busy_workers_time() {
        let (mut looks, took) = (Looks::default(), Duration::from_millis(100));
        let (mut looking, start) = (Duration::ZERO, Instant::now());
        while start.elapsed() < Duration::from_secs(60) {
            if let Some(look) = looks.begin(false) {
                tokio::time::advance(took).await;
                looks.end(look, took);
                looking += took;
            }
            tokio::time::advance(Duration::from_millis(5)).await;
        }
        let share = looking.as_secs_f64() / start.elapsed().as_secs_f64();
        assert!((0.04..=0.05).contains(&share), "{share}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_worker_looks_more_often_and_keeps_the_marks_of_empty_queues() {
        let mut looks = Looks::default();
        let mark = (0, DateTime::<Utc>::UNIX_EPOCH, 7);
        looks.marks.found([("pl_1", true, mark)].into_iter());
        let look = looks.begin(true).expect("the first look is whole");
        assert_eq!(looks.marks.of("pl_1", true), HEAD);
        looks.end(look, Duration::from_millis(100));
        assert_eq!(looks.marks.of("pl_1", true), mark);
        assert_eq!(
            (looks.due_in(true), looks.due_in(false)),
            (Duration::from_millis(400), Duration::from_millis(1_900))
        );
    }
}
