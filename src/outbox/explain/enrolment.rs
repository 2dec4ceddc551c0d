//! What binds somebody in a campaign: where they stand in its program, and what the engine would hold there. Deciding is pure.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sqlx::PgTransaction;

use crate::campaign::draft::{self, Fault, Person};
use crate::campaign::opening::Opening;
use crate::campaign::pool;
use crate::campaign::program::{Message, Op};
use crate::campaign::running::Running;
use crate::campaign::template::{Facts, RenderError};
use crate::campaign::walk::{Clocks, Way, walk};
use crate::campaign::zone::{self, region_of, zone_of, zones_of};
use crate::line::ANY_LINE;
use crate::outbox::campaigns::steps::{Cap, Capped, Full, Known};
use crate::outbox::explain::facts::{JobFacts, World};
use crate::outbox::explain::next::{Bind, Next};
use crate::outbox::explain::reading::{self, Row};
use crate::outbox::explain::{ExplainError, Rules};
use crate::outbox::lines;
use crate::phone::Phone;

/// Whom one of these binds, the engine ends at the next look.
const ENDS: [&str; 3] = ["never_open", "not_pinned", "not_in_pool"];

/// Somebody's way through a campaign, as it stands.
#[derive(Debug, Clone, serde::Serialize)]
pub struct EnrolmentView {
    pub id: i64,
    pub campaign: String,
    pub version: i32,
    /// How often they have gone through it, with this time.
    pub round: i32,
    pub state: String,
    pub reason: Option<String>,
    /// The variable that is missing, or the field that does not fit; of who is active, why no message is made.
    pub detail: Option<String>,
    /// The step's name, else its number where the version cannot be read.
    pub step: String,
    pub reached_at: DateTime<Utc>,
    pub job_id: Option<i64>,
    pub sent_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Of one that has ended, if no later one has followed: when a firing or the application may enrol them once more, by the rule of the
    /// newest version. None where the campaign was stopped.
    pub again: Option<Again>,
    pub next: Next,
}

/// When somebody may go through a campaign again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    Never,
    From(DateTime<Utc>),
}

/// What is known beside the enrolment itself.
struct Around<'a> {
    known: &'a Known,
    capped: &'a Capped,
    /// Of those on their way, by which a cap is full: the job that may be held for longest.
    on_the_way: Option<String>,
    /// How many jobs may still be made where it stands.
    room: i64,
    /// How many stand there before it, if it is due, counted to 10,000.
    before: i64,
    /// The lines of its pool that new contacts are drawn among.
    open: &'a [String],
    unanswered_limit: i32,
    /// What comes next of the job that it waits for.
    job: Option<&'a Next>,
}

/// What comes next of an enrolment, with its version where that can be read. `job` is what comes next of the one that it waits for.
pub(super) async fn explained(
    tx: &mut PgTransaction<'_>,
    row: &Row,
    world: &World,
    rules: &Rules,
    job: Option<&Next>,
) -> Result<(Option<Running>, Next), ExplainError> {
    let Ok(running) = Running::read(&row.definition) else {
        return Ok((None, unreadable(row, world.now)));
    };
    let (known, capped, room) = reading::beside(tx, row, &running, rules.campaigns).await?;
    let before = reading::before(tx, row, world.now).await?;
    let is_full = Cap::of(&running).and_then(|cap| capped.full(cap, world.now)) == Some(Full::OnTheWay);
    let on_the_way = if is_full { reading::on_the_way(tx, &row.phone).await? } else { None };
    let open = match running.campaign.lines.pool.as_slice() {
        [] => Vec::new(),
        pool => pool::open(pool, &lines::account(tx).await.map_err(ExplainError::Read)?),
    };
    let known = Known { now: world.now, ..known };
    let unanswered_limit = rules.holds.unanswered.limit.0.map_or(i32::MAX, i32::from);
    let around =
        Around { known: &known, capped: &capped, on_the_way, room, before, open: &open, unanswered_limit, job };
    let next = next(row, &running, &around);
    Ok((Some(running), next))
}

/// Whether a campaign makes the message of a job anew once that has expired: because its window closes then, while the step is still
/// worth its message.
pub(super) async fn is_made_anew(tx: &mut PgTransaction<'_>, job: &JobFacts) -> Result<bool, ExplainError> {
    let (Some(enrolment), Some(expires_at)) = (job.enrolment, job.expires_at) else { return Ok(false) };
    let row = reading::rows(tx, &[enrolment]).await?.pop();
    Ok(row.is_some_and(|row| row.follows(job.id, expires_at)))
}

impl Row {
    /// As people see it.
    pub fn view(self, running: Option<&Running>, next: Next) -> EnrolmentView {
        let index = usize::try_from(self.step).unwrap_or(usize::MAX);
        let named = running.and_then(|running| running.program.get(index));
        let may_follow = self.finished_at.is_some() && self.is_last && self.campaign_state != "stopped";
        EnrolmentView {
            id: self.id,
            campaign: self.campaign,
            version: self.version,
            round: self.round,
            state: self.state,
            reason: self.reason,
            detail: self.detail,
            step: named.map_or_else(|| self.step.to_string(), |step| step.name.to_string()),
            reached_at: self.reached_at,
            job_id: self.job_id,
            sent_at: self.sent_at,
            created_at: self.created_at,
            finished_at: self.finished_at,
            again: may_follow.then(|| self.again_from.map_or(Again::Never, Again::From)),
            next,
        }
    }

    /// Whether another job follows this one, which it waits for, if that expires then.
    fn follows(&self, job_id: i64, expires_at: DateTime<Utc>) -> bool {
        let waits = self.state == "active" && self.waiting && self.job_id == Some(job_id);
        let Ok(running) = Running::read(&self.definition) else { return false };
        let step = usize::try_from(self.step).ok().and_then(|step| running.program.get(step));
        let deadline = match step.map(|step| &step.op) {
            Some(Op::Send(message)) => ends_at(self, message),
            _ => None,
        };
        // Who was moved to another version while it waited has that one's message before them.
        waits && self.campaign_state != "stopped" && (self.made == 0 || deadline.is_none_or(|at| at > expires_at))
    }

    fn stands_paused(&self) -> Option<Bind> {
        (self.campaign_state == "paused").then(|| Bind::unknown("campaign_paused").of(&self.campaign))
    }

    /// Of a campaign that was stopped the next pass of an engine ends it, wherever it stands.
    fn is_to_end(&self, now: DateTime<Utc>) -> Option<Next> {
        let is_live = ["active", "held"].contains(&self.state.as_str());
        let stopped = Bind::not_before("campaign_stopped", Some(now)).of(&self.campaign);
        (is_live && self.campaign_state == "stopped").then(|| Next::of("end", now, vec![stopped]))
    }
}

/// What comes next of an enrolment whose version cannot be read.
fn unreadable(row: &Row, now: DateTime<Utc>) -> Next {
    if let Some(end) = row.is_to_end(now) {
        return end;
    }
    match row.state.as_str() {
        "active" => Next::of("step", now, vec![Bind::unknown("unreadable_version").of(row.version)]),
        _ => Next::nothing(),
    }
}

/// What comes next of an enrolment.
fn next(row: &Row, running: &Running, around: &Around<'_>) -> Next {
    let now = around.known.now;
    if let Some(end) = row.is_to_end(now) {
        return end;
    }
    let mut binds: Vec<Bind> = row.stands_paused().into_iter().collect();
    match row.state.as_str() {
        "active" => {}
        "held" => {
            let detail = row.detail.as_deref().or(row.reason.as_deref()).unwrap_or_default();
            binds.push(match row.reason.as_deref() {
                Some("missing_variable") => Bind::unknown("missing_variable").of(detail),
                _ => held(detail, running, usize::try_from(row.step).unwrap_or(usize::MAX)),
            });
            return held_until(row, running, Next::of("step", now, binds), now);
        }
        _ => return Next::nothing(),
    }
    if row.waiting {
        let ended = !matches!(around.known.job_state.as_deref(), Some("queued" | "sending"));
        let job_id = row.job_id.unwrap_or_default();
        binds.push(match around.job.filter(|_| !ended) {
            Some(job) => Bind::not_before("job", job.at).of(job_id),
            // Whatever ended it has told, or the net finds it.
            None => Bind::at("looked_at_again", row.due_at.unwrap_or(now)).of(format!("job {job_id}")),
        });
        return Next::of("step", now, binds);
    }
    let Ok(phone) = row.phone.parse::<Phone>() else {
        return Next::of("step", now, vec![Bind::unknown("held").of("phone")]);
    };
    let (standing, deadline) = standing(row, running, around, &phone);
    binds.extend(standing);
    let what = if binds.iter().any(|bind| ENDS.contains(&bind.what)) { "end" } else { "step" };
    or_ends(row, deadline, Next::of(what, now, binds), now)
}

/// What a step does not outlast ends it at the deadline; where nobody knows when the rest lifts, the deadline is told beside it.
fn or_ends(row: &Row, deadline: Option<DateTime<Utc>>, mut next: Next, now: DateTime<Utc>) -> Next {
    let Some(deadline) = deadline.filter(|_| next.what != "end") else { return next };
    if deadline <= now || next.at.is_some_and(|at| deadline <= at) {
        next.binds.push(Bind::at("deadline", deadline));
        let at = row.due_at.map_or(deadline, |due_at| due_at.max(deadline)).max(now);
        return Next { what: "end", at: Some(at), certain: row.campaign_state != "paused", ..next };
    }
    if !next.certain {
        next.binds.push(Bind::unknown("deadline").again_at(Some(deadline)));
    }
    next
}

/// Who is held has the deadline of their step all the same: whoever is let go after it ends. But where nothing was sent to them yet, it
/// begins when they are let go.
fn held_until(row: &Row, running: &Running, mut next: Next, now: DateTime<Utc>) -> Next {
    if row.sent_at.is_none() {
        return next;
    }
    let Some(Op::Send(message)) =
        usize::try_from(row.step).ok().and_then(|step| running.program.get(step)).map(|step| &step.op)
    else {
        return next;
    };
    let Some(deadline) = ends_at(row, message) else { return next };
    if deadline <= now {
        next.what = "end";
    }
    next.binds.push(Bind::unknown("deadline").again_at(Some(deadline)));
    next
}

/// Somebody for whom a field of a step cannot be used.
fn held(field: &str, running: &Running, step: usize) -> Bind {
    let step = running.program.get(step).map_or_else(|| step.to_string(), |step| step.name.to_string());
    Bind::unknown("held").of(format!("`{field}` of the step {step}"))
}

/// What holds somebody who waits for no job, and until when their step is worth its message, if it makes one.
fn standing(row: &Row, running: &Running, around: &Around<'_>, phone: &Phone) -> (Vec<Bind>, Option<DateTime<Utc>>) {
    let now = around.known.now;
    let due_at = row.due_at.unwrap_or(now);
    let rests = (row.reached_at > now).then(|| Bind::at("wait", row.reached_at));
    let vars = match row.vars.as_object().cloned().map(|given| running.vars(given)) {
        Some(Ok(vars)) => vars,
        Some(Err(lacking)) => {
            return (rests.into_iter().chain([Bind::unknown("missing_variable").of(lacking.variable)]).collect(), None);
        }
        None => return (vec![Bind::unknown("held").of("vars")], None),
    };
    let Ok(given) = zone::given(known_zone(around.known), vars.get(zone::VARIABLE)) else {
        return (rests.into_iter().chain([Bind::unknown("missing_variable").of(zone::VARIABLE)]).collect(), None);
    };
    let facts = Facts {
        replied: around.known.has_replied(row.sent_at),
        delivered: row.sent_at.is_some() && around.known.delivered,
        vars: &vars,
        labels: &running.campaign.labels,
    };
    let zone = zone_of(phone, given, running.campaign.zone);
    let clocks = Clocks { zone, calendar: running.calendar.as_deref() };
    let from = usize::try_from(row.step).unwrap_or(usize::MAX);
    let mut binds: Vec<Bind> = rests.into_iter().map(|bind| bind.in_zone(zone)).collect();
    let mut deadline = None;
    match walk(&running.program, from, row.reached_at, facts, clocks) {
        Way::Rest { until, .. } => binds.push(Bind::at("wait", until).in_zone(zone)),
        Way::End { .. } => binds.push(Bind::at("end", due_at)),
        Way::Fault { error: RenderError::Missing(variable), .. } => {
            binds.push(Bind::unknown("missing_variable").of(variable))
        }
        Way::Fault { step, .. } => binds.push(held("if", running, step)),
        Way::Send { step, message } => {
            binds.extend(at_send(row, running, around, phone, given));
            let (line_id, touched) = (around.known.line_id.as_deref(), around.known.touched);
            let person = Person { phone, vars: &vars, line_id, touched, open: around.open };
            binds.extend(refused(running, step, message, person, due_at.max(now)));
            deadline = ends_at(row, message);
        }
    }
    // What is looked at sooner once it lifts says so itself.
    let is_told = |bind: &Bind| bind.again_at == Some(due_at) || bind.until.is_some_and(|until| until >= due_at);
    if due_at > now && !binds.iter().any(is_told) {
        binds.push(Bind::at("looked_at_again", due_at));
    }
    (binds, deadline)
}

/// What the engine holds at a step that makes a job, in its order.
fn at_send(row: &Row, running: &Running, around: &Around<'_>, phone: &Phone, given: Option<Tz>) -> Vec<Bind> {
    let known = around.known;
    let now = known.now;
    let from = row.due_at.unwrap_or(now).max(now);
    let mut binds = Vec::new();
    if let Some(why) = known.held_back(running.campaign.class, around.unanswered_limit) {
        let bind = Bind::unknown(why).again_at(row.due_at.filter(|at| *at > now));
        binds.push(if why == "unanswered" { Bind { count: Some(i64::from(known.unanswered)), ..bind } } else { bind });
    }
    let hours = running.hours.in_region(region_of(phone));
    let zones = zones_of(phone, given, running.campaign.zone);
    let zone = zones.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // As it is now, and as it will be when it is looked at next.
    for at in [now, from] {
        let bind = match Opening::for_person(running, phone, given, at) {
            Opening::Open { .. } => continue,
            Opening::Later { at: until, .. } if hours.is_open(at, &zones) => Bind::at("window_closes", until),
            Opening::Later { at: until, .. } => Bind::at("window", until),
            Opening::Never => Bind::at("never_open", from),
        };
        // What is left of a window is as good as closed by what ends it.
        let closed_by = hours.closed_by(hours.closes_at(at, &zones).unwrap_or(at), &zones);
        let bind = bind.of(closed_by.join(", ")).in_zone(&zone);
        if !binds.contains(&bind) {
            binds.push(bind);
        }
    }
    binds.extend(Cap::of(running).and_then(|cap| around.capped.full(cap, now)).map(|full| match full {
        Full::Until(at) => Bind::at("frequency_cap", at),
        Full::OnTheWay => Bind { of: around.on_the_way.clone(), ..Bind::unknown("frequency_cap") },
        Full::Behind => Bind::unknown("behind_campaign"),
    }));
    if row.ready && around.room <= around.before {
        let by = if row.line_id == ANY_LINE { String::new() } else { format!(" by {}", row.line_id) };
        let bind = Bind::unknown("look_ahead").of(format!("{}{by}", row.campaign));
        binds.push(Bind { count: Some(around.before), ..bind });
    }
    binds
}

/// Why a step makes no job for this person, as the engine finds when it looks at them then.
fn refused(running: &Running, step: usize, message: &Message, person: Person<'_>, at: DateTime<Utc>) -> Option<Bind> {
    let fault = draft::draft(running, &running.program.steps()[step].name, message, person).err()?;
    Some(match fault {
        Fault::NotPinned => Bind::at("not_pinned", at),
        Fault::NotInPool => Bind::at("not_in_pool", at).of(person.line_id.unwrap_or_default()),
        Fault::NoLine => Bind::unknown("no_line"),
        Fault::Missing(variable) => Bind::unknown("missing_variable").of(variable),
        Fault::Unreadable(field) => held(&field, running, step),
    })
}

fn known_zone(known: &Known) -> Option<Tz> {
    known.time_zone.as_deref().and_then(|zone| zone.parse().ok())
}

/// When a step is not worth its message any more.
fn ends_at(row: &Row, message: &Message) -> Option<DateTime<Utc>> {
    row.reached_at.checked_add_signed(TimeDelta::from_std(message.expires_after?.0).ok()?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::campaign::file;

    fn running(more: &str) -> Running {
        running_with(
            more,
            "[{ send: { body: 'Hi {{ name }}' }, name: hello, expires_after: 2d }, { wait: 2d }, { send: { body: Bye } }]",
        )
    }

    fn running_with(more: &str, steps: &str) -> Running {
        let source = format!(
            "name: drip\nzone: UTC\naudience: {{ enrolled: true }}\nvariables: {{ name: {{ missing: hold }} }}\n{more}\nsteps: {steps}\n"
        );
        let checked = file::read(&source).unwrap_or_else(|findings| panic!("{findings:?}"));
        Running::read(&serde_json::to_value(&checked.campaign).expect("serialisable")).expect("it reads back")
    }

    /// Tuesday at noon, and hours from then.
    fn at(hours: i64) -> DateTime<Utc> {
        "2026-12-01T12:00:00Z".parse::<DateTime<Utc>>().expect("a time") + TimeDelta::hours(hours)
    }

    fn row() -> Row {
        Row {
            id: 7,
            campaign: "drip".to_owned(),
            version: 1,
            phone: "+4915112345678".to_owned(),
            round: 1,
            vars: json!({"name": "Ann"}),
            state: "active".to_owned(),
            reason: None,
            detail: None,
            step: 0,
            reached_at: at(-1),
            ready: true,
            line_id: ANY_LINE.to_owned(),
            first_touch: true,
            due_at: Some(at(0)),
            job_id: None,
            made: 0,
            waiting: false,
            moved: false,
            sent_at: None,
            created_at: at(-1),
            finished_at: None,
            is_last: true,
            again_from: None,
            campaign_state: "running".to_owned(),
            definition: json!({}),
        }
    }

    fn known() -> Known {
        Known {
            job_state: None,
            job_sent_at: None,
            delivered: false,
            line_id: None,
            time_zone: Some("Europe/Berlin".to_owned()),
            touched: true,
            last_inbound_at: None,
            answered: false,
            maybe_since: None,
            unanswered: 0,
            in_review: false,
            now: at(0),
        }
    }

    /// Held behind a first message.
    fn lacking() -> Row {
        Row {
            state: "held".to_owned(),
            reason: Some("missing_variable".to_owned()),
            detail: Some("name".to_owned()),
            due_at: None,
            sent_at: Some(at(-60)),
            ..row()
        }
    }

    /// With room for a message, and nobody before it.
    fn around<'a>(known: &'a Known, capped: &'a Capped) -> Around<'a> {
        Around { known, capped, on_the_way: None, room: 1, before: 0, open: &[], unanswered_limit: 3, job: None }
    }

    /// What binds until which hour.
    fn told(more: &str, row: &Row, known: &Known, capped: &Capped, room: i64) -> Vec<(&'static str, Option<i64>)> {
        let around = Around { room, ..around(known, capped) };
        let binds = next(row, &running(more), &around).binds;
        binds.iter().map(|bind| (bind.what, bind.until.map(|until| (until - at(0)).num_hours()))).collect()
    }

    fn of(row: &Row) -> Vec<(&'static str, Option<i64>)> {
        told("", row, &known(), &Capped::default(), 1)
    }

    #[test]
    fn whoever_rests_goes_on_after_the_wait() {
        assert_eq!(of(&row()), [], "its turn");
        let rests = Row { step: 2, reached_at: at(48), due_at: Some(at(48)), ..row() };
        assert_eq!(of(&rests), [("wait", Some(48))]);
        let comes_by = Row { step: 1, ready: false, ..row() };
        assert_eq!(of(&comes_by), [("wait", Some(47))], "from when it was reached");
        assert_eq!(of(&Row { step: 3, ready: false, ..row() }), [("end", Some(0))]);
        let ended = Row { state: "done".to_owned(), due_at: None, finished_at: Some(at(-1)), ..row() };
        assert_eq!(of(&ended), []);
    }

    #[test]
    fn the_zone_is_the_one_that_a_variable_gives() {
        let (unknown, uncapped) = (Known { time_zone: None, ..known() }, Capped::default());
        let around = around(&unknown, &uncapped);
        let bind = |zone: &str| {
            let row = Row { vars: json!({"name": "Ann", "time_zone": zone}), ..row() };
            next(&row, &running("windows: [{ from: '09:00', to: '12:00' }]"), &around).binds.remove(0)
        };
        let tokyo = bind("Asia/Tokyo");
        assert_eq!((tokyo.what, tokyo.zone.as_deref()), ("window", Some("Asia/Tokyo")));
        let berlin = bind("Berlin");
        assert_eq!((berlin.what, berlin.of.as_deref()), ("missing_variable", Some("time_zone")));
    }

    #[test]
    fn a_window_is_told_by_its_rule_and_the_recipients_clock() {
        let nine = "windows: [{ days: mon-fri, from: '09:00', to: '12:00' }]\nquiet_hours: germany";
        let (noon, uncapped) = (known(), Capped::default());
        let around = |known| around(known, &uncapped);
        let bind = next(&row(), &running(nine), &around(&noon)).binds.remove(0);
        // It is one o'clock in Berlin.
        assert_eq!((bind.what, bind.until), ("window", Some(at(20))));
        assert_eq!((bind.of.as_deref(), bind.zone.as_deref()), (Some("windows"), Some("Europe/Berlin")));
        let night = Known { now: at(9), ..known() };
        let bind = next(&row(), &running("quiet_hours: germany"), &around(&night)).binds.remove(0);
        assert_eq!(bind.of.as_deref(), Some("germany (DE)"));
        let spread = Row { due_at: Some(at(20) + TimeDelta::minutes(4)), ..row() };
        let binds = next(&spread, &running(nine), &around(&noon)).binds;
        assert_eq!(binds.iter().map(|bind| bind.what).collect::<Vec<_>>(), ["window", "looked_at_again"]);
        let twice = Row { due_at: Some(at(2)), ..row() };
        assert_eq!(told(nine, &twice, &noon, &uncapped, 1), [("window", Some(20))], "closed now and then");
        let afternoon = "windows: [{ from: '12:00', to: '14:00' }]";
        assert_eq!(told(afternoon, &row(), &noon, &uncapped, 1), []);
        let then = Row { due_at: Some(at(3)), ..row() };
        assert_eq!(told(afternoon, &then, &noon, &uncapped, 1), [("window", Some(23))], "closed when it is looked at");
        let last_minute = Known { now: at(1) + TimeDelta::seconds(-45), ..known() };
        let bind = next(&row(), &running(afternoon), &around(&last_minute)).binds.remove(0);
        assert_eq!((bind.what, bind.of.as_deref(), bind.until), ("window_closes", Some("windows"), Some(at(23))));
        let short = Row { reached_at: at(-40), ..row() };
        assert_eq!(told(nine, &short, &noon, &uncapped, 1), [("window", Some(20)), ("deadline", Some(8))]);
        let ends = next(&short, &running(nine), &around(&noon));
        assert_eq!((ends.what, ends.at, ends.certain), ("end", Some(at(8)), true));
        let paused = Row { campaign_state: "paused".to_owned(), ..short };
        assert!(!next(&paused, &running(nine), &around(&noon)).certain, "nobody is ended while it is paused");
    }

    #[test]
    fn a_deadline_is_told_wherever_nobody_knows_whether_the_message_comes_before_it() {
        let uncapped = Capped::default();
        let of = |row: &Row, known: &Known, room: i64| {
            let around = Around { room, ..around(known, &uncapped) };
            next(row, &running(""), &around)
        };
        let unanswered = Known { unanswered: 3, ..known() };
        for next in [of(&row(), &unanswered, 1), of(&row(), &known(), 0)] {
            let bind = &next.binds[1];
            assert_eq!((next.what, next.at, next.certain), ("step", None, false));
            assert_eq!((bind.what, bind.until, bind.again_at), ("deadline", None, Some(at(47))));
        }
        let looked_at_again = of(&Row { due_at: Some(at(6)), ..row() }, &unanswered, 1);
        assert_eq!((looked_at_again.what, looked_at_again.at), ("step", None), "a reply lets her go on sooner");
        let late = of(&Row { reached_at: at(-49), ..row() }, &unanswered, 1);
        assert_eq!((late.what, late.at, late.certain), ("end", Some(at(0)), true), "it has passed");
        // Of an American number alone nobody knows which of many zones it is.
        let anywhere = Row { phone: "+15550142200".to_owned(), due_at: Some(at(3)), ..row() };
        let never_open = |known: &Known| {
            let known = Known { time_zone: None, ..known.clone() };
            let around = around(&known, &uncapped);
            next(&anywhere, &running("windows: [{ from: '15:00', to: '16:00' }]"), &around)
        };
        let told = never_open(&known());
        assert_eq!((told.what, told.at, told.certain), ("end", Some(at(3)), true), "{told:?}");
        assert!(!never_open(&unanswered).certain);
    }

    #[test]
    fn who_is_held_is_told_the_deadline_that_goes_on_meanwhile() {
        let held = lacking();
        let (known, uncapped) = (known(), Capped::default());
        let around = around(&known, &uncapped);
        let unsent = Row { sent_at: None, ..held.clone() };
        assert_eq!(next(&unsent, &running(""), &around).binds.len(), 1, "its time begins when they are let go");
        for (hours, what) in [(-1, "step"), (-49, "end")] {
            let told = next(&Row { reached_at: at(hours), ..held.clone() }, &running(""), &around);
            let bind = &told.binds[1];
            assert_eq!((told.what, told.at, bind.what, bind.again_at), (what, None, "deadline", Some(at(hours + 48))));
        }
        let rests = Row { step: 2, ..held };
        assert_eq!(next(&rests, &running(""), &around).binds.len(), 1, "its step has none");
    }

    #[test]
    fn a_branch_is_taken_by_what_is_known_of_the_last_message() {
        let (known, uncapped) = (known(), Capped::default());
        let replied = Known { last_inbound_at: Some(at(0)), ..known.clone() };
        let answered = Known { answered: true, ..known.clone() };
        let maybe = Known { last_inbound_at: Some(at(-2)), maybe_since: Some(at(-3)), ..known.clone() };
        let delivered = Known { delivered: true, ..known.clone() };
        for (word, yes) in
            [("replied", &replied), ("replied", &answered), ("replied", &maybe), ("delivered", &delivered)]
        {
            let steps = format!(
                "[{{ send: {{ body: Hi }} }}, {{ branch: {{ if: {word}, then: [{{ wait: 1d }}], else: [{{ wait: 3d }}] }} }}]"
            );
            let running = running_with("", &steps);
            let waits = |row: &Row, known| {
                let around = around(known, &uncapped);
                next(row, &running, &around).at
            };
            let branch = Row { step: 1, ready: false, sent_at: Some(at(-1)), ..row() };
            assert_eq!((waits(&branch, yes), waits(&branch, &known)), (Some(at(23)), Some(at(71))), "{word}");
            let unsent = Row { sent_at: None, ..branch };
            assert_eq!(waits(&unsent, yes), Some(at(71)), "{word}, of which nothing was sent");
        }
        let running = running_with("", "[{ branch: { if: \"'a' in var.name\", then: [{ send: { body: Hi } }] } }]");
        let around = around(&known, &uncapped);
        let bind = next(&Row { vars: json!({"name": 5}), ..row() }, &running, &around).binds.remove(0);
        let told = (bind.what, bind.of.as_deref());
        assert_eq!(told, ("held", Some("`if` of the step step-1")), "what it holds cannot be asked that");
    }

    #[test]
    fn caps_guards_and_the_look_ahead_hold_a_step() {
        let capped = "caps: { per_recipient: 2 in 7d }";
        let full =
            |messages, frees_at, behind| told(capped, &row(), &known(), &Capped { messages, frees_at, behind }, 1);
        assert_eq!(full(2, Some(at(5)), false), [("frequency_cap", Some(5))]);
        assert_eq!(full(2, None, false), [("frequency_cap", None), ("deadline", None)]);
        assert_eq!(full(1, Some(at(5)), true), [("behind_campaign", None), ("deadline", None)]);
        assert_eq!(full(1, Some(at(5)), false), []);
        let unanswered = Known { unanswered: 3, ..known() };
        let held = [("unanswered", None), ("deadline", None)];
        assert_eq!(told("", &row(), &unanswered, &Capped::default(), 1), held);
        assert_eq!(told("class: transactional", &row(), &unanswered, &Capped::default(), 1), []);
        let again_at = |due_at| {
            let (uncapped, row) = (Capped::default(), Row { due_at: Some(due_at), ..row() });
            let around = around(&unanswered, &uncapped);
            next(&row, &running(""), &around).binds[0].again_at
        };
        assert_eq!((again_at(at(6)), again_at(at(-1))), (Some(at(6)), None));
        assert_eq!(told("", &row(), &known(), &Capped::default(), 0), [("look_ahead", None), ("deadline", None)]);
        let behind = |room, before| {
            let (known, uncapped) = (known(), Capped::default());
            let around = Around { room, before, ..around(&known, &uncapped) };
            next(&row(), &running(""), &around).binds.first().map(|bind| (bind.what, bind.count))
        };
        assert_eq!(
            (behind(3, 2), behind(3, 3)),
            (None, Some(("look_ahead", Some(3)))),
            "who stands before her comes first"
        );
    }

    #[test]
    fn what_no_line_may_send_is_told_and_whom_that_ends() {
        let of = |lines: &str, line_id: Option<&str>, open: &[String]| {
            let known = Known { line_id: line_id.map(str::to_owned), touched: line_id.is_some(), ..known() };
            let uncapped = Capped::default();
            let around = Around { open, ..around(&known, &uncapped) };
            let next = next(&row(), &running(&format!("lines: {lines}")), &around);
            (next.what, next.at, next.binds.first().map(|bind| bind.what))
        };
        let (pool, open) = ("{ pool: [pl_1] }", &["pl_1".to_owned()]);
        assert_eq!(of(pool, None, open), ("step", Some(at(0)), None));
        assert_eq!(of(pool, None, &[]), ("step", None, Some("no_line")));
        assert_eq!(of(pool, Some("pl_2"), open), ("end", Some(at(0)), Some("not_in_pool")));
        assert_eq!(of("{ pinned_only: true }", None, &[]), ("end", Some(at(0)), Some("not_pinned")));
        let long = Row { vars: json!({"name": "x".repeat(30_000)}), ..row() };
        assert_eq!(told("", &long, &known(), &Capped::default(), 1)[0], ("held", None), "the text is too long");
    }

    #[test]
    fn who_is_held_waits_for_and_is_told() {
        let held = lacking();
        assert_eq!(of(&held), [("missing_variable", None), ("deadline", None)]);
        let paused = Row { campaign_state: "paused".to_owned(), ..row() };
        assert_eq!(of(&paused), [("campaign_paused", None), ("deadline", None)]);
        let stopped = Row { campaign_state: "stopped".to_owned(), ..row() };
        assert_eq!(of(&stopped), [("campaign_stopped", Some(0))]);
        assert_eq!(of(&Row { campaign_state: "stopped".to_owned(), ..held }), [("campaign_stopped", Some(0))]);
        assert_eq!(unreadable(&stopped, at(0)).what, "end");
        assert_eq!(unreadable(&row(), at(0)).binds[0].what, "unreadable_version");
        let over = Row { state: "stopped".to_owned(), due_at: None, ..stopped };
        assert_eq!((of(&over), unreadable(&over, at(0))), (vec![], Next::nothing()));
        let late = Row { reached_at: at(-40), due_at: Some(at(20)), ..row() };
        assert_eq!(of(&late), [("looked_at_again", Some(20)), ("deadline", Some(8))]);
        assert_eq!(of(&Row { vars: json!([]), ..row() }), [("held", None)]);
        assert_eq!(of(&Row { phone: "555".to_owned(), ..row() }), [("held", None)]);
        let lacks = Row { vars: json!({}), ..row() };
        assert_eq!(of(&lacks), [("missing_variable", None)]);
    }

    #[test]
    fn who_waits_for_a_job_goes_on_with_it() {
        let waiting = Row { ready: false, waiting: true, job_id: Some(9), due_at: Some(at(1)), ..row() };
        let (known, uncapped) = (Known { job_state: Some("queued".to_owned()), ..known() }, Capped::default());
        let job = Next::of("send", at(0), vec![Bind::at("retrying", at(2))]);
        let around = Around { job: Some(&job), ..around(&known, &uncapped) };
        let told = next(&waiting, &running(""), &around);
        assert_eq!((told.at, told.certain, told.binds[0].of.as_deref()), (Some(at(2)), false, Some("9")));
        let sent = Known { job_state: Some("sent".to_owned()), ..known.clone() };
        let told = next(&waiting, &running(""), &Around { known: &sent, ..around });
        let bind = &told.binds[0];
        assert_eq!((bind.what, bind.of.as_deref(), bind.until), ("looked_at_again", Some("job 9"), Some(at(1))));
    }
}
