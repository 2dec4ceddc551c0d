//! Which way through a program is the longer one.

use std::time::Duration;

use crate::campaign::file::words::Wait;
use crate::campaign::forecast::Way;
use crate::campaign::program::{Op, Program};

/// How long the rest of the program takes from each step on, at least and at most, if no line and no window held it up.
pub(super) struct Lengths(Vec<(Duration, Duration)>);

impl Lengths {
    pub fn of(program: &Program) -> Lengths {
        const DAY: Duration = Duration::from_secs(86_400);
        // A message counts for a second, so that of two ways without waits the one with more messages is the longer one.
        const MESSAGE: Duration = Duration::from_secs(1);
        let steps = program.steps();
        let mut lengths = vec![(Duration::ZERO, Duration::ZERO); steps.len() + 1];
        for index in (0..steps.len()).rev() {
            let (least, most) = lengths[index + 1];
            lengths[index] = match &steps[index].op {
                Op::End => (Duration::ZERO, Duration::ZERO),
                Op::Send(_) => (least + MESSAGE, most + MESSAGE),
                Op::Wait(Wait::For(length)) => (least + length.0, most + length.0),
                Op::Wait(Wait::Until(_) | Wait::BusinessDay(_)) => (least + DAY, most + DAY),
                Op::Jump(to) => lengths[*to],
                Op::Branch { otherwise, .. } => {
                    let other = lengths[*otherwise];
                    (least.min(other.0), most.max(other.1))
                }
            };
        }
        Lengths(lengths)
    }

    /// Whether a branch goes on at `then`: as it must by its condition, which hangs on replied and delivered, or, where these are not known
    /// yet, by the way.
    pub fn takes(&self, way: Way, holds: impl Fn(bool, bool) -> bool, then: usize, otherwise: usize) -> bool {
        let all = [holds(false, false), holds(false, true), holds(true, false), holds(true, true)];
        if all.iter().all(|one| *one == all[0]) {
            return all[0];
        }
        let (then, otherwise) = (self.from(then), self.from(otherwise));
        match way {
            Way::Short => then.0 <= otherwise.0,
            Way::Long => then.1 >= otherwise.1,
        }
    }

    fn from(&self, step: usize) -> (Duration, Duration) {
        self.0.get(step).copied().unwrap_or_default()
    }
}
