//! Which way through a program is the longer one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::campaign::file::words::Wait;
use crate::campaign::forecast::Way;
use crate::campaign::program::{Op, Program};
use crate::campaign::template::{Condition, Facts, Vars};

/// What a condition says of somebody of whom it is not known yet whether they reply and whether they get what is sent: one answer for each
/// of the four, none where it cannot be answered.
#[derive(Debug, Clone, Copy)]
pub struct Answers([Option<bool>; 4]);

impl Answers {
    pub fn of(when: &Condition, vars: &Vars, labels: &BTreeMap<String, String>) -> Answers {
        let all = [(false, false), (false, true), (true, false), (true, true)];
        Answers(all.map(|(replied, delivered)| when.holds(Facts { replied, delivered, vars, labels }).ok()))
    }

    /// Whether it may come to this.
    pub fn may_be(&self, answer: bool) -> bool {
        self.0.contains(&Some(answer))
    }

    /// Whether only those who have replied come to this.
    pub fn needs_a_reply(&self, answer: bool) -> bool {
        let [without_a_reply @ .., _, _] = self.0;
        !without_a_reply.contains(&Some(answer))
    }

    /// Whether it may be that it cannot be answered.
    pub fn may_fail(&self) -> bool {
        self.0.contains(&None)
    }
}

/// How long the rest of the program takes from each step on, at least and at most, if no line and no window held it up.
pub struct Lengths(Vec<(Duration, Duration)>);

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

    /// Where a branch goes on, at `then` or `otherwise`: as it must, or, where both may be, by the way. Nowhere if it cannot be answered.
    pub fn after(&self, way: Way, answers: &Answers, then: usize, otherwise: usize) -> Option<usize> {
        let takes = match (answers.may_be(true), answers.may_be(false)) {
            (false, false) => return None,
            (true, true) => {
                let (then, otherwise) = (self.from(then), self.from(otherwise));
                match way {
                    Way::Short => then.0 <= otherwise.0,
                    Way::Long => then.1 >= otherwise.1,
                }
            }
            (holds, _) => holds,
        };
        Some(if takes { then } else { otherwise })
    }

    fn from(&self, step: usize) -> (Duration, Duration) {
        self.0.get(step).copied().unwrap_or_default()
    }
}
