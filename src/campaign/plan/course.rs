//! Which steps somebody may come to, as far as that is known before anybody has answered.

use crate::campaign::forecast::{Answers, Lengths, Way};
use crate::campaign::program::Program;

/// By which way somebody comes to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// Only by one that is not counted: it hangs on what is not known yet.
    AnotherWay,
    /// By the one that is counted, which is the longer one of the forecast.
    TheWay,
}

/// How somebody comes to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coming {
    pub by: By,
    /// On some way no message comes before it.
    pub unwritten: bool,
}

/// Of every step how somebody comes to it, if they may. Steps lead to later ones only, so that they are gone through in order.
pub(super) struct Course(Vec<Option<Coming>>);

impl Course {
    /// It begins at the first step.
    pub fn of(program: &Program) -> Course {
        let mut course = Course(vec![None; program.steps().len()]);
        course.lead(0, Coming { by: By::TheWay, unwritten: true });
        course
    }

    pub fn at(&self, step: usize) -> Option<Coming> {
        self.0.get(step).copied().flatten()
    }

    /// From a step to which they come like this it goes on there.
    pub fn lead(&mut self, to: usize, coming: Coming) {
        if let Some(reached) = self.0.get_mut(to) {
            let before = reached.unwrap_or(coming);
            let (by, unwritten) = (before.by.max(coming.by), before.unwritten || coming.unwritten);
            *reached = Some(Coming { by, unwritten });
        }
    }

    /// The same of a branch: every way that may become so, and one of them is counted.
    pub fn part(&mut self, lengths: &Lengths, answers: &Answers, (then, otherwise): (usize, usize), coming: Coming) {
        for (to, answer) in [(then, true), (otherwise, false)] {
            if answers.may_be(answer) {
                self.lead(to, Coming { by: By::AnotherWay, ..coming });
            }
        }
        if let Some(to) = lengths.after(Way::Long, answers, then, otherwise) {
            self.lead(to, coming);
        }
    }
}
