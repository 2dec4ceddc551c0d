//! What becomes of one enrolment, from what is known of it and its person. Nothing here reads or writes.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use rand::Rng;
use serde_json::Value;

use crate::campaign::draft::{self, Fault, Person, about};
use crate::campaign::file::shape::{Missing, Variable, is_name};
use crate::campaign::opening::{Opening, place};
use crate::campaign::pool::drawn;
use crate::campaign::program::{Message, Op};
use crate::campaign::running::Running;
use crate::campaign::template::{Facts, RenderError, Vars};
use crate::campaign::walk::{Clocks, Way, walk};
use crate::campaign::zone::{self, zone_of};
use crate::job::NewJob;
use crate::line::ANY_LINE;
use crate::outbox::campaigns::everybody::NO_LINE;
use crate::outbox::campaigns::rooms::Queue;
use crate::outbox::campaigns::steps::{Cap, Capped, Change, Enrolment, Full, Known};
use crate::phone::Phone;

/// While a job is under way its enrolment is looked at this often, for the case that nobody has told of its end.
const NET: Duration = Duration::from_secs(120);
/// Who waits for a reply or a person is looked at this often.
const HELD_BACK: Duration = Duration::from_secs(6 * 60 * 60);
/// Who is behind a message on its way, under a cap, or has no line or no room; who is behind another campaign; and who has room under a cap
/// again.
const FULL: Duration = Duration::from_secs(10 * 60);
const BEHIND: Duration = Duration::from_secs(60);
const JUST_FREE: Duration = Duration::from_secs(1);

/// What is told of whose zone cannot be told.
const UNKNOWN_ZONE: &str = "time_zone (given, but no zone is called so)";

/// So many keys that were given and are not declared are shown.
const UNDECLARED: usize = 5;

/// What becomes of an enrolment, and the job that it makes, if it makes one.
pub(super) struct Decision {
    pub change: Change,
    pub job: Option<Box<NewJob>>,
}

impl From<Change> for Decision {
    fn from(change: Change) -> Decision {
        Decision { change, job: None }
    }
}

/// As it was, but looked at again after the net's time.
pub(super) fn stays(enrolment: &Enrolment, now: DateTime<Utc>) -> Change {
    Change {
        id: enrolment.id,
        state: "active",
        reason: None,
        detail: None,
        step: enrolment.step,
        reached_at: enrolment.reached_at,
        due_at: Some(now + TimeDelta::seconds(NET.as_secs().cast_signed())),
        ready: false,
        queue: enrolment.queue(),
        waiting: enrolment.waiting,
        job_id: enrolment.job_id,
        made: enrolment.made,
        sent_at: enrolment.sent_at,
    }
}

/// What is known where it is decided what becomes of one enrolment.
pub(super) struct Deciding<'a, R> {
    pub enrolment: &'a Enrolment,
    pub running: &'a Running,
    pub known: &'a Known,
    pub capped: &'a Capped,
    /// The lines of its pool that new contacts are drawn among.
    pub open: &'a [String],
    /// Whether the queue in which it stands may take one more job.
    pub has_room: bool,
    /// After how many messages without a reply marketing waits for one.
    pub unanswered_limit: i32,
    pub rng: &'a mut R,
}

impl<R: Rng> Deciding<'_, R> {
    /// What becomes of it.
    pub fn decide(&mut self) -> Decision {
        let now = self.known.now;
        let mut change = stays(self.enrolment, now);
        if self.enrolment.waiting {
            match self.known.job_state.as_deref() {
                Some("queued" | "sending") => {
                    change.due_at = Some(now + about(NET, self.rng));
                    return change.into();
                }
                Some("sent" | "duplicate") => {
                    let sent_at = self.known.job_sent_at.unwrap_or(now);
                    change.waiting = false;
                    change.sent_at = Some(sent_at);
                    let step = if self.is_of_another_version() { change.step } else { change.step + 1 };
                    (change.step, change.reached_at, change.made) = (step, sent_at, 0);
                }
                Some("expired") if self.is_of_another_version() => {
                    (change.waiting, change.reached_at) = (false, now);
                }
                // Its window has closed before its turn, and the step is still worth its message.
                Some("expired") if self.deadline(&change).is_none_or(|deadline| deadline > now) => {
                    change.waiting = false
                }
                ended => return stopped(change, job_reason(ended)).into(),
            }
        }
        let Value::Object(given) = self.enrolment.vars.clone() else {
            return held(change, "unreadable", "vars").into();
        };
        let vars = match self.running.vars(given) {
            Ok(vars) => vars,
            Err(lacking) => return self.lacks(change, lacking.missing, &lacking.variable).into(),
        };
        self.go_on(change, &vars)
    }

    /// Along the program from where it stands.
    fn go_on(&mut self, mut change: Change, vars: &Vars) -> Decision {
        let running = self.running;
        if change.reached_at > self.known.now {
            // Whatever it is looked at for, a wait is not cut short.
            (change.ready, change.due_at) = (self.enrolment.ready, Some(change.reached_at));
            return change.into();
        }
        let Ok(phone) = self.enrolment.phone.parse::<Phone>() else {
            return held(change, "unreadable", "phone").into();
        };
        let known = self.known.time_zone.as_deref().and_then(|zone| zone.parse().ok());
        let Ok(given) = zone::given(known, vars.get(zone::VARIABLE)) else {
            return held(change, "missing_variable", UNKNOWN_ZONE).into();
        };
        let facts = Facts {
            replied: self.known.has_replied(change.sent_at),
            delivered: change.sent_at.is_some() && self.known.delivered,
            vars,
            labels: &running.campaign.labels,
        };
        let zone = zone_of(&phone, given, running.campaign.zone);
        let clocks = Clocks { zone, calendar: running.calendar.as_deref() };
        let from = usize::try_from(change.step).unwrap_or(usize::MAX);
        match walk(&running.program, from, change.reached_at, facts, clocks) {
            Way::Rest { step, until } => {
                (change.step, change.reached_at, change.due_at, change.made) = (index(step), until, Some(until), 0);
                // Whether its step makes a job is known: it need not be moved once more for that.
                change.ready = running.program.get(step).is_some_and(|step| matches!(step.op, Op::Send(_)));
                change.queue = self.queue(&phone);
                change.into()
            }
            Way::End { step } => {
                (change.step, change.due_at) = (index(step), None);
                change.state = "done";
                change.into()
            }
            Way::Fault { step, error } => {
                change.step = index(step);
                match error {
                    RenderError::Missing(variable) => {
                        let missing = self.policy(&variable);
                        self.lacks(change, missing, &variable).into()
                    }
                    _ => held(change, "unreadable", "if").into(),
                }
            }
            Way::Send { step, message } => {
                if change.step != index(step) {
                    (change.step, change.made) = (index(step), 0);
                }
                self.send(change, step, message, &phone, given, vars)
            }
        }
    }

    /// At a step that makes a job: now, or when it may.
    fn send(
        &mut self,
        mut change: Change,
        step: usize,
        message: &Message,
        phone: &Phone,
        given: Option<Tz>,
        vars: &Vars,
    ) -> Decision {
        let (now, running) = (self.known.now, self.running);
        let deadline = message.expires_after.and_then(|after| plus(change.reached_at, after.0));
        if deadline.is_some_and(|deadline| deadline <= now) {
            return stopped(change, "expired").into();
        }
        let queue = self.queue(phone);
        if !self.enrolment.ready || self.enrolment.queue() != queue {
            // It takes its place among those who wait for room.
            (change.ready, change.queue, change.due_at) = (true, queue, Some(change.reached_at.min(now)));
            return change.into();
        }
        change.ready = true;
        let later = |change: Change, at: DateTime<Utc>| -> Decision {
            // The deadline is not slept through.
            let due_at = deadline.map_or(at, |deadline| deadline.min(at));
            Change { due_at: Some(due_at), ..change }.into()
        };
        if let Some(why) = self.known.held_back(running.campaign.class, self.unanswered_limit) {
            let at = now + about(HELD_BACK, self.rng);
            return later(Change { detail: Some(why.to_owned()), ..change }, at);
        }
        let until = match Opening::for_person(running, phone, given, now) {
            Opening::Open { until } => until,
            Opening::Later { at, spread } => return later(change, place(self.enrolment.id, at, spread)),
            Opening::Never => return stopped(change, "never_open").into(),
        };
        if let Some(at) = self.cap_holds_until(now) {
            return later(change, at);
        }
        if !self.has_room {
            return later(change, now + about(FULL, self.rng));
        }
        let (line_id, touched) = (self.known.line_id.as_deref(), self.known.touched);
        let person = Person { phone, vars, line_id, touched, open: self.open };
        let name = &running.program.steps()[step].name;
        let job = match draft::draft(running, name, message, person) {
            Ok(job) => job,
            Err(Fault::NotPinned) => return stopped(change, "not_pinned").into(),
            Err(Fault::NotInPool) => return stopped(change, "not_in_pool").into(),
            Err(Fault::NoLine) => {
                let at = now + about(FULL, self.rng);
                return later(Change { detail: Some(NO_LINE.to_owned()), ..change }, at);
            }
            Err(Fault::Unreadable(field)) => return held(change, "unreadable", &field).into(),
            Err(Fault::Missing(variable)) => {
                let missing = self.policy(&variable);
                return self.lacks(change, missing, &variable).into();
            }
        };
        let job = NewJob {
            dedupe_key: Some(self.key(&change)),
            expires_at: [until, deadline].into_iter().flatten().min(),
            ..job
        };
        change.made += 1;
        (change.ready, change.waiting) = (false, true);
        change.due_at = Some(now + about(NET, self.rng));
        Decision { change, job: Some(Box::new(job)) }
    }

    /// Where its message stands: with its line's, or with that of the line that is drawn for it.
    fn queue(&self, phone: &Phone) -> Queue {
        let line_id = self.known.line_id.as_deref().or_else(|| drawn(self.open, phone)).unwrap_or(ANY_LINE);
        Queue { line_id: line_id.to_owned(), first_touch: !self.known.touched }
    }

    /// The job that it waits for is of a step of the version that it was moved from, and not of the one at which it stands: this one has
    /// made none.
    fn is_of_another_version(&self) -> bool {
        self.enrolment.made == 0
    }

    /// A step's first job, and each that follows one whose window has closed. Who was moved may have had another step by this number.
    fn key(&self, change: &Change) -> String {
        let Enrolment { id, version, moved, .. } = self.enrolment;
        let version = if *moved { format!("v{version}/") } else { String::new() };
        let key = format!("campaign/{}/{id}/{version}{}", self.running.campaign.name, change.step);
        if change.made == 0 { key } else { format!("{key}/{}", change.made + 1) }
    }

    /// When the cap lets this person be looked at again, if they may not be written to now.
    fn cap_holds_until(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let full = self.capped.full(Cap::of(self.running)?, now)?;
        Some(match full {
            Full::Until(at) => at + about(JUST_FREE, self.rng),
            Full::OnTheWay => now + about(FULL, self.rng),
            Full::Behind => now + about(BEHIND, self.rng),
        })
    }

    fn deadline(&self, change: &Change) -> Option<DateTime<Utc>> {
        let step = usize::try_from(change.step).ok().and_then(|step| self.running.program.get(step))?;
        let Op::Send(message) = &step.op else { return None };
        plus(change.reached_at, message.expires_after?.0)
    }

    fn policy(&self, variable: &str) -> Missing {
        match self.running.campaign.variables.get(variable) {
            Some(Variable::Needed { missing }) => *missing,
            Some(Variable::Default { .. }) | None => Missing::Hold,
        }
    }

    fn lacks(&self, change: Change, missing: Missing, variable: &str) -> Change {
        let detail = match self.undeclared().as_slice() {
            [] => variable.to_owned(),
            given => format!("{variable} (given, but not declared: {})", given.join(", ")),
        };
        match missing {
            Missing::Hold => held(change, "missing_variable", &detail),
            Missing::Skip => Change { detail: Some(detail), ..stopped(change, "missing_variable") },
        }
    }

    /// The first keys that were given and that the campaign does not declare: one of them may be meant. What cannot be the name of a
    /// variable is not shown, whatever it is.
    fn undeclared(&self) -> Vec<&str> {
        let given = self.enrolment.vars.as_object().into_iter().flat_map(|vars| vars.keys());
        let is_undeclared = |key: &&str| is_name(key) && !self.running.campaign.variables.contains_key(*key);
        given.map(String::as_str).filter(is_undeclared).take(UNDECLARED).collect()
    }
}

fn stopped(change: Change, reason: &'static str) -> Change {
    Change { state: "stopped", reason: Some(reason), due_at: None, ready: false, waiting: false, ..change }
}

fn held(change: Change, reason: &'static str, detail: &str) -> Change {
    Change {
        state: "held",
        reason: Some(reason),
        detail: Some(detail.to_owned()),
        due_at: None,
        ready: false,
        waiting: false,
        ..change
    }
}

/// Why an enrolment ends whose job has ended like this, or is gone.
fn job_reason(state: Option<&str>) -> &'static str {
    match state {
        Some("expired") => "expired",
        Some("canceled") => "canceled",
        Some("suppressed") => "suppressed",
        Some("parked") => "parked",
        Some(_) => "failed",
        None => "job_missing",
    }
}

fn plus(at: DateTime<Utc>, length: Duration) -> Option<DateTime<Utc>> {
    at.checked_add_signed(TimeDelta::from_std(length).ok()?)
}

fn index(step: usize) -> i32 {
    i32::try_from(step).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;
    use serde_json::json;

    use super::*;
    use crate::campaign::file;

    const STEPS: &str =
        "[{ send: { body: 'Hi {{ name }}' }, expires_after: 1d }, { wait: 2d }, { send: { body: Bye } }]";

    fn running(more: &str) -> Running {
        let source = format!(
            "name: drip\nzone: UTC\naudience: {{ enrolled: true }}\nvariables: {{ name: {{ missing: hold }} }}\n{more}\nsteps: {STEPS}\n"
        );
        let checked = file::read(&source).unwrap_or_else(|findings| panic!("{findings:?}"));
        Running::read(&serde_json::to_value(&checked.campaign).expect("serialisable")).expect("it reads back")
    }

    fn at(hour: i64) -> DateTime<Utc> {
        "2026-12-01T12:00:00Z".parse::<DateTime<Utc>>().expect("a time") + TimeDelta::hours(hour)
    }

    fn ready() -> Enrolment {
        Enrolment {
            id: 7,
            version: 1,
            phone: "+4915112345678".to_owned(),
            vars: json!({"name": "Ann"}),
            step: 0,
            reached_at: at(0),
            job_id: None,
            made: 0,
            ready: true,
            line_id: ANY_LINE.to_owned(),
            first_touch: true,
            waiting: false,
            sent_at: None,
            moved: false,
        }
    }

    fn waiting() -> Enrolment {
        Enrolment { ready: false, waiting: true, job_id: Some(1), made: 1, ..ready() }
    }

    fn known() -> Known {
        Known {
            job_state: None,
            job_sent_at: None,
            delivered: false,
            line_id: None,
            time_zone: None,
            touched: false,
            last_inbound_at: None,
            answered: false,
            maybe_since: None,
            unanswered: 0,
            in_review: false,
            now: at(1),
        }
    }

    fn decided(more: &str, enrolment: &Enrolment, known: &Known, capped: &Capped) -> Decision {
        decided_where(true, more, enrolment, known, capped)
    }

    fn decided_where(has_room: bool, more: &str, enrolment: &Enrolment, known: &Known, capped: &Capped) -> Decision {
        let (running, rng) = (running(more), &mut StdRng::seed_from_u64(1));
        Deciding { enrolment, running: &running, known, capped, open: &[], has_room, unanswered_limit: 3, rng }.decide()
    }

    fn of(enrolment: &Enrolment, known: &Known) -> Decision {
        decided("", enrolment, known, &Capped::default())
    }

    #[test]
    fn whose_turn_it_is_gets_a_job_with_a_key_of_the_step() {
        let Decision { change, job } = of(&ready(), &known());
        let job = job.expect("a job");
        assert_eq!((job.body.as_str(), job.dedupe_key.as_deref()), ("Hi Ann", Some("campaign/drip/7/0")));
        assert_eq!(job.expires_at, Some(at(24)), "a day after the step was reached");
        assert!(change.waiting && !change.ready && change.made == 1 && change.due_at.is_some_and(|due| due > at(1)));
    }

    #[test]
    fn who_lacks_a_variable_is_told_with_the_keys_that_are_not_declared() {
        let detail = |vars: Value| {
            let Change { state, reason, detail, .. } = of(&Enrolment { vars, ..ready() }, &known()).change;
            assert_eq!((state, reason), ("held", Some("missing_variable")));
            detail.expect("told")
        };
        assert_eq!(detail(json!({})), "name");
        assert_eq!(detail(json!({"name": " "})), "name");
        assert_eq!(detail(json!({"nmae": "Ann", "city": "Rome"})), "name (given, but not declared: city, nmae)");
        assert_eq!(detail(json!({"+15550142200": 1, "a b": 2})), "name", "nothing that is no name");
        let many: serde_json::Map<String, Value> = (0..9).map(|n| (format!("a{n}"), json!(n))).collect();
        assert_eq!(detail(Value::Object(many)), "name (given, but not declared: a0, a1, a2, a3, a4)");
    }

    #[test]
    fn how_a_job_ended_decides_what_becomes_of_its_enrolment() {
        let ended = |state: Option<&str>, now| {
            let known = Known { job_state: state.map(str::to_owned), job_sent_at: Some(at(1)), now, ..known() };
            let Decision { change, job } = of(&waiting(), &known);
            assert!(job.is_none(), "no job before its turn");
            (change.state, change.reason, change.step, change.ready)
        };
        for state in ["sent", "duplicate"] {
            assert_eq!(ended(Some(state), at(2)), ("active", None, 2, true), "rests until the next message");
        }
        for state in ["failed", "canceled", "suppressed", "parked"] {
            assert_eq!(ended(Some(state), at(2)), ("stopped", Some(state), 0, false));
        }
        assert_eq!(ended(None, at(2)), ("stopped", Some("job_missing"), 0, false));
        assert_eq!(ended(Some("queued"), at(2)), ("active", None, 0, false));
        assert_eq!(ended(Some("expired"), at(2)), ("active", None, 0, true), "its window has closed: another one");
        assert_eq!(ended(Some("expired"), at(25)), ("stopped", Some("expired"), 0, false), "it is too late for that");
    }

    #[test]
    fn who_was_moved_with_a_message_of_another_step_goes_on_where_they_stand_and_by_keys_of_the_new_version() {
        let moved = Enrolment { version: 2, made: 0, moved: true, ..waiting() };
        let ended = |state: &str, now| {
            let known = Known { job_state: Some(state.to_owned()), job_sent_at: Some(at(1)), now, ..known() };
            of(&moved, &known).change
        };
        let sent = ended("sent", at(2));
        assert_eq!((sent.step, sent.ready, sent.waiting, sent.sent_at), (0, true, false, Some(at(1))));
        let expired = ended("expired", at(25));
        assert_eq!((expired.state, expired.step, expired.ready, expired.reached_at), ("active", 0, true, at(25)));
        let job = of(&Enrolment { version: 2, moved: true, ..ready() }, &known()).job.expect("a job");
        assert_eq!(job.dedupe_key.as_deref(), Some("campaign/drip/7/v2/0"));
    }

    #[test]
    fn a_wait_is_counted_from_the_message_however_late_that_is_noticed() {
        let known = Known { job_state: Some("sent".to_owned()), job_sent_at: Some(at(1)), now: at(30), ..known() };
        let change = of(&waiting(), &known).change;
        assert_eq!((change.due_at, change.reached_at, change.sent_at), (Some(at(49)), at(49), Some(at(1))));
    }

    #[test]
    fn who_is_looked_at_before_a_wait_is_over_rests_until_then() {
        for resting in [ready(), Enrolment { ready: false, step: 2, ..ready() }] {
            let Decision { change, job } = of(&resting, &Known { now: at(-1), ..known() });
            let kept = (change.step, change.ready, change.reached_at, change.due_at);
            assert_eq!(kept, (resting.step, resting.ready, at(0), Some(at(0))));
            assert!(job.is_none() && change.state == "active", "no message before its time");
        }
    }

    #[test]
    fn who_may_not_be_written_to_now_keeps_the_step_and_its_deadline() {
        let later = |more: &str, known: &Known, capped: &Capped| {
            let Decision { change, job } = decided(more, &ready(), known, capped);
            assert!(
                job.is_none() && change.ready && change.step == 0 && change.made == 0 && change.reached_at == at(0)
            );
            change.due_at.expect("it is looked at again")
        };
        let none = Capped::default();
        let unanswered = later("", &Known { unanswered: 3, ..known() }, &none);
        assert!(unanswered >= at(7), "{unanswered}");
        let why = |known: &Known| of(&ready(), known).change.detail;
        assert_eq!(why(&Known { unanswered: 3, ..known() }).as_deref(), Some("unanswered"));
        assert_eq!(why(&Known { in_review: true, ..known() }).as_deref(), Some("in_review"));
        assert_eq!(why(&known()), None);
        assert_eq!(
            later("", &Known { in_review: true, now: at(20), ..known() }, &none),
            at(24),
            "the deadline is not slept through"
        );
        let capped = Capped { messages: 1, frees_at: Some(at(5)), behind: false };
        let frees = later("caps: { per_recipient: 1 in 1d }", &known(), &capped);
        assert!(frees >= at(5) && frees < at(6), "{frees}");
        let behind = later("caps: { per_recipient: 1 in 1d }", &known(), &Capped { behind: true, ..Capped::default() });
        assert!(behind > at(1) && behind < at(2), "{behind}");
        let closed = later("windows: [{ from: '15:00', to: '16:00' }]", &known(), &none);
        // In Berlin it is 14:00.
        assert!(closed >= at(2) && closed < at(3), "{closed}");
        assert!(decided("class: transactional", &ready(), &Known { unanswered: 3, ..known() }, &none).job.is_some());
    }

    #[test]
    fn who_waits_for_an_opening_keeps_their_place_at_every_one_and_all_lie_evenly() {
        let place = |id: i64, hours: i64, seed: u64| {
            let running = running("windows: [{ from: '15:00', to: '16:00' }]");
            let (enrolment, known) =
                (Enrolment { id, reached_at: at(hours), ..ready() }, Known { now: at(hours), ..known() });
            let (capped, rng) = (Capped::default(), &mut StdRng::seed_from_u64(seed));
            let mut deciding = Deciding {
                enrolment: &enrolment,
                running: &running,
                known: &known,
                capped: &capped,
                open: &[],
                has_room: true,
                unanswered_limit: 3,
                rng,
            };
            // In Berlin it opens at two o'clock UTC.
            deciding.decide().change.due_at.expect("it is looked at again") - at(hours + 1)
        };
        let spread = TimeDelta::minutes(10);
        let mut tenths = [0; 10];
        for id in 1_000..1_100 {
            let today = place(id, 1, 1);
            assert!((TimeDelta::zero()..spread).contains(&today), "{today}");
            assert_eq!(place(id, 25, 2), today, "tomorrow");
            tenths[usize::try_from(today.num_milliseconds() / 60_000).expect("not before it opens")] += 1;
        }
        assert!(tenths.iter().all(|people| (8..=12).contains(people)), "{tenths:?}");
    }

    #[test]
    fn who_comes_by_takes_a_place_among_those_who_wait() {
        let Decision { change, job } = of(&Enrolment { ready: false, ..ready() }, &known());
        assert!(
            job.is_none() && change.ready && change.due_at == Some(at(0)),
            "by the time at which the step was reached"
        );
    }

    #[test]
    fn who_is_of_another_line_by_now_takes_their_place_there() {
        let pinned = Known { line_id: Some("pl_1".to_owned()), touched: true, ..known() };
        let Decision { change, job } = of(&ready(), &pinned);
        let queue = Queue { line_id: "pl_1".to_owned(), first_touch: false };
        assert_eq!((&change.queue, change.ready, change.due_at), (&queue, true, Some(at(0))));
        assert!(job.is_none(), "there may be no room there");
        let there = Enrolment { line_id: queue.line_id, first_touch: false, ..ready() };
        assert!(of(&there, &pinned).job.is_some());
    }

    #[test]
    fn where_there_is_no_room_nothing_is_made() {
        let Decision { change, job } = decided_where(false, "", &ready(), &known(), &Capped::default());
        assert!(job.is_none() && change.ready && change.due_at.is_some_and(|due| due > at(1)), "{change:?}");
    }
}
