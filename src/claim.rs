//! A job in the hands of a worker: claimed, then finished, each a value that is spent once.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use tokio::time::Instant;

use crate::chert::reply::{Answer, Reply};
use crate::clock::Anchor;
use crate::outcome::Outcome;
use crate::phone::Phone;
use crate::retry::{Next, Standing};

/// One claimed job, its slot and its lease. It becomes a [`Finished`] exactly once, by an attempt or by handing back.
#[derive(Debug)]
pub struct Claim {
    pub job_id: i64,
    /// The fence: every later write names it.
    pub claim: i32,
    pub phone: Phone,
    /// The exact bytes to post.
    pub request: Vec<u8>,
    pub line: ClaimedLine,
    pub first_touch: bool,
    /// Whether this claim counted against the line's daily cap; a job that was counted before the same day is not again.
    pub counted: bool,
    pub standing: Standing,
    /// When the line may send this message, on this process's steady clock.
    pub slot: Instant,
    /// No call may be under way after this.
    pub lease_ends: Instant,
    /// Whether no earlier claim made a call: then a key frozen by this claim may be forgotten when it is handed back.
    pub untried: bool,
    pub anchor: Anchor,
}

/// The line that a slot was taken from.
#[derive(Debug, Clone)]
pub struct ClaimedLine {
    pub id: String,
    pub gap: Duration,
    pub first_touch_gap: Duration,
    /// The slot, on the database's clock.
    pub slot_at: DateTime<Utc>,
    /// What a first touch in this slot made of the line's `next_first_touch_at`: while the line still says so, the slot
    /// was its latest and can be given back.
    pub first_touch_until: DateTime<Utc>,
    /// The line's day that a first touch was counted on.
    pub day: NaiveDate,
    /// How many times slower than its own pace the line was when the slot was taken.
    pub slowdown: f32,
    /// How often in a row it had answered 4002 then.
    pub saturations: i32,
}

/// What became of a claim, ready to be recorded.
#[derive(Debug)]
pub struct Finished {
    pub job_id: i64,
    pub claim: i32,
    pub phone: Phone,
    pub line: ClaimedLine,
    pub first_touch: bool,
    pub counted: bool,
    pub ending: Ending,
}

/// How a claim ended.
#[derive(Debug)]
pub enum Ending {
    /// A call was made.
    Attempted(Box<Attempt>),
    /// No call was made: the job goes back as it was. `forget_key`: nothing was ever called with its key.
    HandedBack { forget_key: bool },
}

/// One HTTP call and what it meant.
#[derive(Debug)]
pub struct Attempt {
    pub started_at: DateTime<Utc>,
    pub duration: Duration,
    pub answer: Option<Box<Answer>>,
    pub outcome: Outcome,
    pub next: Next,
}

impl Claim {
    /// Ends the claim with the call that was made for it, from `started` until now.
    pub fn finish(self, started: Instant, reply: Reply, outcome: Outcome, next: Next) -> Finished {
        let answer = match reply {
            Reply::Answered(answer) => Some(answer),
            Reply::NotSent(_) | Reply::NoAnswer(_) => None,
        };
        let (started_at, duration) = (self.anchor.time_of(started), started.elapsed());
        let attempt = Attempt { started_at, duration, answer, outcome, next };
        self.end(Ending::Attempted(Box::new(attempt)))
    }

    /// Ends the claim without a call: no attempt is spent.
    pub fn hand_back(self) -> Finished {
        let forget_key = self.untried;
        self.end(Ending::HandedBack { forget_key })
    }

    fn end(self, ending: Ending) -> Finished {
        let Claim { job_id, claim, phone, line, first_touch, counted, .. } = self;
        Finished { job_id, claim, phone, line, first_touch, counted, ending }
    }
}
