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

/// Of every step how somebody comes to it, if they may. Steps lead to later ones only, so that they are gone through in order.
pub(super) struct Course(Vec<Option<By>>);

impl Course {
    /// It begins at the first step.
    pub fn of(program: &Program) -> Course {
        let mut course = Course(vec![None; program.steps().len()]);
        course.lead(0, By::TheWay);
        course
    }

    pub fn at(&self, step: usize) -> Option<By> {
        self.0.get(step).copied().flatten()
    }

    /// From a step that they come to `by` this it goes on there.
    pub fn lead(&mut self, to: usize, by: By) {
        if let Some(reached) = self.0.get_mut(to) {
            *reached = (*reached).max(Some(by));
        }
    }

    /// The same of a branch: every way that may become so, and one of them is counted.
    pub fn part(&mut self, lengths: &Lengths, answers: &Answers, (then, otherwise): (usize, usize), by: By) {
        for (to, answer) in [(then, true), (otherwise, false)] {
            if answers.may_be(answer) {
                self.lead(to, By::AnotherWay);
            }
        }
        if let Some(to) = lengths.after(Way::Long, answers, then, otherwise) {
            self.lead(to, by);
        }
    }
}
