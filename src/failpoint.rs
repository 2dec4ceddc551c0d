//! Named points at which a worker of a debug build dies when it is told to, so that `prove` can kill it exactly there.
//! Release builds have none of them.

/// Where a worker can be made to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The claim is committed; nothing of it is under way.
    AfterClaim,
    /// The slot has come, and the call is not made.
    BeforeCall,
    /// Chert has answered, and nobody was told.
    AfterAnswer,
    /// The attempts are inserted and the jobs are not updated; the transaction is open.
    InRecord,
    /// The outcomes are committed; the next jobs of their recipients are not woken once more.
    AfterRecord,
}

impl Point {
    /// All of them, in the order of a job's way.
    pub const ALL: [Point; 5] =
        [Point::AfterClaim, Point::BeforeCall, Point::AfterAnswer, Point::InRecord, Point::AfterRecord];

    /// Its name in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Point::AfterClaim => "after_claim",
            Point::BeforeCall => "before_call",
            Point::AfterAnswer => "after_answer",
            Point::InRecord => "in_record",
            Point::AfterRecord => "after_record",
        }
    }
}

/// Names a point and how many times it is reached first, e.g. `after_claim=3` to die the third time.
pub const VARIABLE: &str = "OUTBOX_FAILPOINT";

/// Whether this build has failpoints.
pub const ARE_BUILT_IN: bool = cfg!(debug_assertions);

/// Dies here, by a SIGKILL to itself, if [`VARIABLE`] says so.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reached(_: Point) {}

/// Dies here, by a SIGKILL to itself, if [`VARIABLE`] says so.
#[cfg(debug_assertions)]
pub fn reached(point: Point) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    /// The chosen point, and how many times it still passes.
    static CHOSEN: LazyLock<Option<(String, AtomicI64)>> = LazyLock::new(|| {
        let chosen = std::env::var(VARIABLE).ok()?;
        let (name, times) = chosen.split_once('=')?;
        Some((name.to_owned(), AtomicI64::new(times.parse().ok()?)))
    });
    if let Some((name, times)) = &*CHOSEN
        && name == point.name()
        && times.fetch_sub(1, Ordering::SeqCst) == 1
    {
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
}
