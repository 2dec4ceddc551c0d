//! From one version of a campaign to another: where whoever stands at a step of the one goes on in the other. Pure.

use std::collections::BTreeMap;

use crate::campaign::program::{Op, Program, Step};

/// Two versions, and what was said of steps that only one of them has: names of the old one, and of the new one.
#[derive(Debug, Clone, Copy)]
pub struct Moving<'a> {
    pub old: &'a Program,
    pub new: &'a Program,
    pub map: &'a BTreeMap<String, String>,
}

/// Where somebody goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub step: usize,
    /// The message that they wait for is the one of this step: they go on behind it.
    pub behind: bool,
}

/// Somebody of the old version: where they stand, and what they had before they came to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Standing {
    pub version: i32,
    pub step: i32,
    /// They have a message of this step queued or on its way.
    pub waiting: bool,
    /// The messages of still older versions, by the names of their steps.
    pub had: Vec<String>,
}

/// Why whoever stands at a step cannot be moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmoved {
    #[error("the new version has no step `{0}`: add --map {0}=STEP, or {0}=end")]
    Missing(String),
    #[error("`{0}` is another step in the new version, and has no name: add --map {0}=STEP, or {0}=end")]
    Differs(String),
    #[error("`{0}` is no step of the new version")]
    NoSuchStep(String),
    #[error("they have had the message of `{had}`, and the new version would send them `{again}`")]
    Twice { had: String, again: String },
}

impl<'a> Moving<'a> {
    /// Where somebody goes on. A message of theirs that is queued or on its way stays theirs: they go on behind its step, or where they
    /// were sent instead.
    /// Errors: nothing says where; or a message would come once more.
    pub fn place(&self, standing: &Standing) -> Result<Place, Unmoved> {
        let at = self.at(standing.step);
        let to = self.counterpart(at)?;
        let behind = standing.waiting && is_send(&self.new.steps()[to]) && self.is_the_same(at, to);
        let past = self.past(standing);
        let coming = self.new.leads_to(if behind { to + 1 } else { to });
        for again in (0..coming.len()).filter(|index| coming[*index]) {
            if let Some(had) = self.earlier(again, &past, &standing.had) {
                return Err(Unmoved::Twice { had, again: self.new.steps()[again].name.to_string() });
            }
        }
        Ok(Place { step: to, behind })
    }

    /// The name of the step of the old version at which somebody stands.
    pub fn name(&self, step: i32) -> &'a str {
        self.old.steps()[self.at(step)].name.as_str()
    }

    /// The messages that somebody may have had, by the names of their steps: behind a branch those of both its ways, since nobody notes
    /// by which one they came. A step without a name is called as another one may be by now, and is left out.
    pub fn had(&self, standing: &Standing) -> Vec<String> {
        let past = self.old.steps().iter().zip(self.past(standing)).filter(|(step, past)| *past && is_named(step));
        standing.had.iter().cloned().chain(past.map(|(step, _)| step.name.to_string())).collect()
    }

    /// Of every step of the old version, whether it is a message that somebody may have had.
    fn past(&self, standing: &Standing) -> Vec<bool> {
        let at = self.at(standing.step);
        let leads_here = |index| self.old.leads_to(index)[at];
        let is_past = |index| if index == at { standing.waiting } else { index < at && leads_here(index) };
        self.old.steps().iter().enumerate().map(|(index, step)| is_send(step) && is_past(index)).collect()
    }

    /// Behind the end of a way is the step after both; behind the last one the end.
    fn at(&self, step: i32) -> usize {
        let mut step = usize::try_from(step).unwrap_or(usize::MAX);
        while let Some(Step { op: Op::Jump(to), .. }) = self.old.get(step) {
            step = *to;
        }
        step.min(self.old.steps().len() - 1)
    }

    fn counterpart(&self, at: usize) -> Result<usize, Unmoved> {
        let name = self.old.steps()[at].name.as_str();
        if let Some(to) = self.map.get(name) {
            return self.new.index_of(to).ok_or_else(|| Unmoved::NoSuchStep(to.clone()));
        }
        self.own(at).ok_or_else(|| match self.new.index_of(name) {
            Some(_) => Unmoved::Differs(name.to_owned()),
            None => Unmoved::Missing(name.to_owned()),
        })
    }

    /// The step of the new version that is this one. One without a name is called by its place in the file, where by now another may
    /// stand: it must say the same.
    fn own(&self, at: usize) -> Option<usize> {
        let step = &self.old.steps()[at];
        let found = self.new.index_of(step.name.as_str())?;
        (is_named(step) || says_the_same(step, &self.new.steps()[found])).then_some(found)
    }

    fn is_the_same(&self, at: usize, to: usize) -> bool {
        self.own(at) == Some(to) || self.origin(to).is_none() && self.mapped(to).any(|index| index == at)
    }

    /// Of a message of the new version, the name by which somebody has had it.
    fn earlier(&self, again: usize, past: &[bool], had: &[String]) -> Option<String> {
        let step = &self.new.steps()[again];
        if !is_send(step) {
            return None;
        }
        let past = |index: &usize| past[*index];
        let name = |index: usize| self.old.steps()[index].name.to_string();
        if let Some(origin) = self.origin(again) {
            return Some(origin).filter(past).map(name);
        }
        if let Some(had) = had.iter().find(|had| *had == step.name.as_str()) {
            return Some(had.clone());
        }
        let mut mapped = self.mapped(again).peekable();
        if mapped.peek().is_some() {
            return mapped.find(past).map(name);
        }
        // It may have been renamed. Two that say the same are two messages.
        let same: Vec<usize> =
            (0..self.old.steps().len()).filter(|index| says_the_same(&self.old.steps()[*index], step)).collect();
        same.first().copied().filter(|_| same.iter().all(past)).map(name)
    }

    /// The step of the old version that is this one of the new one.
    fn origin(&self, to: usize) -> Option<usize> {
        let index = self.old.index_of(self.new.steps()[to].name.as_str())?;
        (self.own(index) == Some(to)).then_some(index)
    }

    /// The steps of the old version that were said to go on at this one.
    fn mapped(&self, to: usize) -> impl Iterator<Item = usize> {
        let name = self.new.steps()[to].name.as_str();
        self.map.iter().filter(move |(_, new)| *new == name).filter_map(|(old, _)| self.old.index_of(old))
    }
}

fn is_send(step: &Step) -> bool {
    matches!(step.op, Op::Send(_))
}

/// No name in a file begins so with a digit behind it.
fn is_named(step: &Step) -> bool {
    step.name.as_str().strip_prefix("step-").is_none_or(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// But for where it leads to.
fn says_the_same(one: &Step, other: &Step) -> bool {
    match (&one.op, &other.op) {
        (Op::Branch { when: one, .. }, Op::Branch { when: other, .. }) => one == other,
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::campaign::file;

    fn program(steps: &str) -> Program {
        let source =
            format!("name: a\nzone: UTC\nschedule: {{ manual: true }}\naudience: {{ csv: a.csv }}\nsteps: {steps}\n");
        file::read(&source).unwrap_or_else(|findings| panic!("{findings:?} in {source}")).program
    }

    fn send(name: &str) -> String {
        format!("{{ send: {{ body: says {name} }}, name: {name} }}")
    }

    fn sends(names: &[&str]) -> Program {
        program(&format!("[{}]", names.iter().map(|name| send(name)).collect::<Vec<_>>().join(", ")))
    }

    fn standing(step: usize, waiting: bool) -> Standing {
        Standing { version: 1, step: i32::try_from(step).expect("small"), waiting, had: Vec::new() }
    }

    /// Where whoever stands at a step of the old version goes on: `name`, or `behind name`.
    fn moved(old: &Program, new: &Program, map: &[(&str, &str)], at: usize, waiting: bool) -> String {
        let map = map.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect();
        match (Moving { old, new, map: &map }).place(&standing(at, waiting)) {
            Ok(place) => {
                format!("{}{}", if place.behind { "behind " } else { "" }, new.steps()[place.step].name)
            }
            Err(unmoved) => unmoved.to_string(),
        }
    }

    fn twice(had: &str, again: &str) -> String {
        format!("they have had the message of `{had}`, and the new version would send them `{again}`")
    }

    #[test]
    fn steps_are_matched_by_name_or_as_it_was_said() {
        let (old, new) = (sends(&["a", "b", "c"]), sends(&["a", "new", "c"]));
        assert_eq!(moved(&old, &new, &[], 0, false), "a");
        assert_eq!(moved(&old, &new, &[], 2, true), "behind c");
        assert_eq!(moved(&old, &new, &[], 3, false), "end", "whoever is at the end stays there");
        assert_eq!(moved(&old, &new, &[], 1, false), "the new version has no step `b`: add --map b=STEP, or b=end");
        assert_eq!(moved(&old, &new, &[("b", "end")], 1, false), "end");
        assert_eq!(moved(&old, &new, &[("b", "x")], 1, false), "`x` is no step of the new version");
        assert_eq!(moved(&old, &new, &[("b", "new")], 1, true), "behind new", "the same message by another name");
        assert_eq!(moved(&old, &new, &[("b", "c")], 1, false), "c");
        assert_eq!(moved(&old, &new, &[("b", "c")], 1, true), "c", "their message is another one: c follows it");
        assert_eq!(moved(&old, &new, &[("b", "c")], 2, false), "c", "and for those at c nothing changes");
    }

    #[test]
    fn a_step_without_a_name_is_the_same_only_if_it_says_the_same() {
        let old = program("[{ send: { body: one } }, { wait: 1d }, { send: { body: two } }]");
        let new =
            program("[{ send: { body: one } }, { wait: 2d }, { send: { body: other } }, { send: { body: two } }]");
        assert_eq!(moved(&old, &new, &[], 0, true), "behind step-1");
        let differs = |name: &str| {
            format!(
                "`{name}` is another step in the new version, and has no name: add --map {name}=STEP, or {name}=end"
            )
        };
        assert_eq!(moved(&old, &new, &[], 1, false), differs("step-2"));
        assert_eq!(moved(&old, &new, &[], 2, false), differs("step-3"));
        assert_eq!(moved(&old, &new, &[("step-3", "step-4")], 2, false), "step-4");
    }

    #[test]
    fn who_stands_where_a_way_ends_stands_behind_both() {
        let steps = |then: &str| {
            program(&format!(
                "[{}, {{ name: fork, branch: {{ if: replied, then: [{then}], else: [{}] }} }}, {}]",
                send("a"),
                send("c"),
                send("d")
            ))
        };
        let (old, new) = (steps(&send("b")), steps(&format!("{}, {{ wait: 1d, name: rest }}", send("b"))));
        let jump = old.steps().iter().position(|step| matches!(step.op, Op::Jump(_))).expect("there is one");
        assert_eq!(moved(&old, &new, &[], jump, false), "d");
        assert_eq!(moved(&old, &new, &[("d", "rest")], jump, false), "rest");
        assert_eq!(moved(&old, &new, &[], 1, false), "fork");
        let c = old.index_of("c").expect("there is one");
        assert_eq!(moved(&old, &new, &[("c", "b")], c, false), "b", "whoever went the other way did not have it");
        assert_eq!(
            moved(&old, &new, &[("d", "b")], jump, false),
            twice("b", "b"),
            "and of whoever is behind it nobody knows"
        );
    }

    #[test]
    fn nobody_is_moved_to_where_a_message_comes_again() {
        let old = sends(&["a", "b", "c"]);
        assert_eq!(moved(&old, &sends(&["b", "c", "a"]), &[], 1, false), twice("a", "a"));
        assert_eq!(moved(&old, &old, &[("b", "a")], 1, false), twice("a", "a"));
        assert_eq!(moved(&old, &sends(&["b", "c", "hello"]), &[("a", "hello")], 1, false), twice("a", "hello"));
        let renamed = program(&format!("[{}, {{ send: {{ body: says a }}, name: hello }}]", send("b")));
        assert_eq!(moved(&old, &renamed, &[], 1, false), twice("a", "hello"), "it says what a said");
        let behind = program(&format!("[{{ send: {{ body: x }} }}, {{ wait: 1d, name: rest }}, {}]", send("b")));
        assert_eq!(moved(&old, &behind, &[("b", "rest")], 1, false), "rest");
        assert_eq!(moved(&old, &behind, &[("b", "rest")], 1, true), twice("b", "b"), "they have it queued");
    }

    #[test]
    fn what_was_had_under_a_version_before_the_old_one_does_not_come_again_either() {
        let (first, second, third) = (sends(&["a", "b", "c"]), sends(&["a", "c"]), sends(&["a", "c", "b"]));
        let map = BTreeMap::new();
        let at_c = Moving { old: &first, new: &second, map: &map };
        let had = at_c.had(&standing(2, false));
        assert_eq!(had, ["a", "b"]);
        let later = Standing { version: 2, had, ..standing(1, false) };
        let onward = Moving { old: &second, new: &third, map: &map }.had(&later);
        assert!(onward.iter().any(|had| had == "b"), "nor under one after that: {onward:?}");
        let nameless = program("[{ send: { body: one } }, { wait: 1d }, { send: { body: two }, name: two }]");
        assert_eq!(Moving { old: &nameless, new: &first, map: &map }.had(&standing(3, false)), ["two"]);
        let moving = Moving { old: &second, new: &third, map: &map };
        let twice = Unmoved::Twice { had: "b".to_owned(), again: "b".to_owned() };
        assert_eq!(moving.place(&later), Err(twice));
        assert_eq!(
            moving.place(&standing(1, false)).map(|place| place.step),
            Ok(1),
            "who began with the second had none"
        );
    }

    proptest! {
        #[test]
        fn whoever_is_moved_gets_each_message_once_and_in_the_order_of_the_new_version(
            old in any_steps(), new in any_steps(), map in any_map(), at in 0_usize..7, waiting in any::<bool>(),
        ) {
            let (before, after) = (sends(&old), sends(&new));
            let at = at.min(old.len());
            let waiting = waiting && at < old.len();
            let Ok(place) = (Moving { old: &before, new: &after, map: &map }).place(&standing(at, waiting)) else { return Ok(()) };
            let mut had: Vec<&str> = old[..if waiting { at + 1 } else { at }].to_vec();
            had.extend(&new[(if place.behind { place.step + 1 } else { place.step }).min(new.len())..]);
            let mut once = had.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), had.len(), "{:?}", had);
        }

        #[test]
        fn whoever_is_moved_to_the_very_same_version_stands_where_they_stood(steps in any_steps(), at in 0_usize..7, waiting in any::<bool>()) {
            let (program, map) = (sends(&steps), BTreeMap::new());
            let (at, waiting) = (at.min(steps.len()), waiting && at < steps.len());
            let place = (Moving { old: &program, new: &program, map: &map }).place(&standing(at, waiting));
            prop_assert_eq!(place, Ok(Place { step: at, behind: waiting }));
        }
    }

    fn any_steps() -> impl Strategy<Value = Vec<&'static str>> {
        Just(vec!["a", "b", "c", "d", "e", "f"])
            .prop_shuffle()
            .prop_flat_map(|all| (1..=all.len()).prop_map(move |len| all[..len].to_vec()))
    }

    fn any_map() -> impl Strategy<Value = BTreeMap<String, String>> {
        let name = || prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "end"]).prop_map(str::to_owned);
        prop::collection::btree_map(name(), name(), 0..4)
    }
}
