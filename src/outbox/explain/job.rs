//! What binds a job: first what may keep it from its queue, then its place there. Deciding is pure; what it decides on was read before.

use chrono::{DateTime, Utc};
use sqlx::PgTransaction;

use crate::config::HoldOptions;
use crate::line::ANY_LINE;
use crate::outbox::explain::ExplainError;
use crate::outbox::explain::enrolment;
use crate::outbox::explain::facts::{self, JobFacts, Line, Queued, World};
use crate::outbox::explain::foresee::{Ahead, foresee};
use crate::outbox::explain::next::{Bind, Next};
use crate::outbox::status::no_worker_sends;
use crate::pace::allot::Candidate;
use crate::pace::slots::Touch;

/// So many jobs of its own queues are looked at that come before it; and of each other queue that draws from the same lines.
const MOST_OWN: i64 = 1_000;
const MOST_OTHER: i64 = 50;

/// What comes next of a job. `head` is what comes next of the first message to its recipient, where that is another one.
pub(super) async fn next(
    tx: &mut PgTransaction<'_>,
    job: &JobFacts,
    world: &World,
    holds: &HoldOptions,
    head: Option<&Next>,
) -> Result<Next, ExplainError> {
    let starts = Next::of("send", world.now, kept_back(job, world, holds, head)).at;
    let queues = queues(job, world);
    // Who comes later finds the queues as they will be then: nothing is known of who stands there.
    let before = match job.state == "queued" && starts.is_none_or(|at| at <= world.now) {
        true => facts::before(tx, job, &queues).await?,
        false => Vec::new(),
    };
    let next = decide(job, world, holds, head, &before, &queues);
    // One that may be on the phone is parked, and nothing follows it.
    if expires(&next) && !job.unknown && enrolment::is_made_anew(tx, job).await? {
        return Ok(made_anew(job, next));
    }
    Ok(next)
}

fn expires(next: &Next) -> bool {
    next.binds.iter().any(|bind| ["expires", "expired"].contains(&bind.what))
}

/// What expires because its window closes, as its campaign has it.
fn made_anew(job: &JobFacts, next: Next) -> Next {
    let with_hours = |bind: Bind| match bind.what {
        "expires" | "expired" => Bind { what: "hours_end", ..bind }.of(job.campaign.as_deref().unwrap_or_default()),
        _ => bind,
    };
    Next { binds: next.binds.into_iter().map(with_hours).collect(), ..next }
}

/// The same, from what was read; `before` are those of the `queues` that come before it.
fn decide(
    job: &JobFacts,
    world: &World,
    holds: &HoldOptions,
    head: Option<&Next>,
    before: &[Queued],
    queues: &[(String, bool, i64)],
) -> Next {
    if job.state != "queued" {
        return unqueued(job, world);
    }
    if let Some(end) = ends(job, world.now) {
        return end;
    }
    let mut binds = kept_back(job, world, holds, head);
    let from = Next::of("send", world.now, binds.clone()).at.unwrap_or(world.now);
    binds.extend(slot(job, world, before, queues, from));
    or_expires(job, Next::of("send", world.now, binds))
}

/// Of a job that does not wait: under way, or ended.
fn unqueued(job: &JobFacts, world: &World) -> Next {
    let Some(lease_until) = job.lease_until else {
        let look = job.look_at.map(|at| Next::of("look", world.now, vec![Bind::at("delivery_look", at)]));
        return look.unwrap_or_else(Next::nothing);
    };
    let worker = job.worker_name.clone().or_else(|| job.worker.clone()).unwrap_or_default();
    let lives = world.workers.iter().any(|it| it.alive && Some(&it.id) == job.worker.as_ref());
    let bind = match lives && lease_until > world.now {
        true => Bind::unknown("under_way").again_at(Some(lease_until)),
        // Whoever finds it takes it over.
        false => Bind::at("lease", lease_until),
    };
    let nobody = no_worker_sends(&world.workers).filter(|_| !lives).map(|why| Bind::unknown("no_worker").of(why));
    Next::of("answer", world.now, [Some(bind.of(worker)), nobody].into_iter().flatten().collect())
}

/// A job that is not sent any more, although it waits still: the next look ends it.
fn ends(job: &JobFacts, now: DateTime<Utc>) -> Option<Next> {
    let looked_at = if job.ready { now } else { job.wake_at.unwrap_or(job.due_at) };
    let bind = |what| Bind::not_before(what, Some(looked_at));
    let bind = match (&job.suppressed, &job.enrolment_ended) {
        (Some(scope), _) => bind("suppressed").of(scope),
        (None, Some(reason)) => bind("enrolment_ended").of(reason),
        _ if job.expires_at.is_some_and(|at| at <= now) => bind("expired"),
        // An engine cancels it, whenever admission would look at it.
        _ if job.campaign_state.as_deref() == Some("stopped") && !job.past_suppression => {
            Bind::not_before("campaign_stopped", Some(now)).of(job.campaign.as_deref().unwrap_or_default())
        }
        _ => return None,
    };
    Some(Next::of("end", now, vec![bind]))
}

/// What keeps a job from standing in its queue, and what keeps everybody from being sent to.
fn kept_back(job: &JobFacts, world: &World, holds: &HoldOptions, head: Option<&Next>) -> Vec<Bind> {
    let mut binds = Vec::new();
    let held = job.holds(world.deaf, holds);
    let looked_at = job.wake_at.unwrap_or(job.due_at);
    if !job.ready {
        binds.extend(match job.reason.as_deref() {
            None if looked_at > world.now => Some(Bind::at("not_due", looked_at)),
            None => Some(Bind::at("new", world.now)),
            Some("behind_earlier") if job.flying.is_some() || job.head.is_some() => None,
            Some("recipient_saturated") => Some(Bind::at("recipient_saturated", looked_at)),
            Some("retrying") => Some(Bind::at("retrying", looked_at)),
            Some("outcome_unknown") => Some(Bind::at("outcome_unknown", looked_at)),
            Some("account_stopped") => Some(Bind::at("account_stopped", looked_at)),
            Some("unreachable") => Some(Bind::at("unreachable", looked_at)),
            Some(reason) if held.contains(&reason) => None,
            // It was held back for what is gone, and nobody has looked yet.
            Some(reason) => Some(Bind::at("looked_at_again", looked_at).of(reason)),
        });
    }
    for what in held {
        let bind = Bind::unknown(what).again_at(job.wake_at.filter(|_| job.reason.as_deref() == Some(what)));
        binds.push(match what {
            "campaign_paused" => bind.of(job.campaign.as_deref().unwrap_or_default()),
            "unanswered" => Bind { count: Some(i64::from(job.unanswered)), ..bind },
            _ => bind,
        });
    }
    binds.extend(match (job.flying, job.head) {
        (Some(flying), _) => Some(Bind::not_before("behind_earlier", None).of(flying).again_at(job.flying_until)),
        (None, Some(first)) => Some(Bind::not_before("behind_earlier", head.and_then(|next| next.at)).of(first)),
        (None, None) => None,
    });
    if world.account.blocked {
        let until = world.account.until;
        binds.push(match (world.account.kind.as_deref(), until) {
            (Some("rate_limited"), Some(until)) => Bind::at("rate_limit", until),
            _ => {
                Bind::unknown("account_halted").of(world.account.reason.as_deref().unwrap_or_default()).again_at(until)
            }
        });
    }
    binds.extend(no_worker_sends(&world.workers).map(|why| Bind::unknown("no_worker").of(why)));
    binds
}

/// The lines that may take it.
fn serving<'a>(job: &JobFacts, world: &'a World) -> impl Iterator<Item = &'a Line> {
    let line_id = job.line_id.clone();
    world.lines.iter().filter(move |line| line_id == ANY_LINE || line.id == line_id)
}

/// Whether the day of a line that takes from this queue has counted a job of it already.
fn is_counted(line_id: &str, counted_until: Option<DateTime<Utc>>, world: &World) -> bool {
    let has_counted = |line: &Line| (line_id == ANY_LINE || line.id == line_id) && line.day_ends_at == counted_until;
    counted_until.is_some() && world.lines.iter().any(has_counted)
}

fn touch(job: &JobFacts, world: &World) -> Touch {
    Touch::of(job.first_touch, is_counted(&job.line_id, job.counted_until, world))
}

/// The queues whose jobs may get a slot that it could have, with how many of each are looked at. Those that any line may take go
/// elsewhere where that is sooner.
fn queues(job: &JobFacts, world: &World) -> Vec<(String, bool, i64)> {
    let mut queues = Vec::new();
    for first_touch in [false, true] {
        queues.push((ANY_LINE.to_owned(), first_touch, MOST_OWN));
        let most = if job.line_id == ANY_LINE { MOST_OTHER } else { MOST_OWN };
        let lines = serving(job, world).filter(|line| line.id != ANY_LINE);
        queues.extend(lines.map(|line| (line.id.clone(), first_touch, most)));
    }
    queues
}

/// What its line has to say, from an instant on at which nothing else is in the way.
fn slot(
    job: &JobFacts,
    world: &World,
    before: &[Queued],
    queues: &[(String, bool, i64)],
    from: DateTime<Utc>,
) -> Vec<Bind> {
    let open: Vec<(&Line, Ahead)> =
        world.lines.iter().filter_map(|line| Some((line, ahead(line, world.now)?))).collect();
    if !serving(job, world).any(|line| open.iter().any(|(open, _)| open.id == line.id)) {
        let is_active = serving(job, world).any(|line| line.active);
        return vec![Bind::unknown(if is_active { "line_paused" } else { "line_inactive" }).of(&job.line_id)];
    }
    let index = |line_id: &str| open.iter().position(|(line, _)| line.id == line_id).filter(|_| line_id != ANY_LINE);
    let mut candidates: Vec<Candidate> = before
        .iter()
        .filter(|queued| queued.line_id == ANY_LINE || index(&queued.line_id).is_some())
        .map(|queued| Candidate {
            line: index(&queued.line_id),
            touch: Touch::of(queued.first_touch, is_counted(&queued.line_id, queued.counted_until, world)),
            turn: (queued.priority, queued.due_at, queued.id),
            expires_at: None,
        })
        .collect();
    let (touch, turn) = (touch(job, world), (job.priority, job.due_at, job.id));
    let is_used_up = |line: &Line| line.day_ends_at == job.counted_until && line.first_touches_left == Some(0);
    if touch == Touch::Counted && serving(job, world).any(is_used_up) {
        // Those whom the cap holds back do not stand in its way.
        candidates.retain(|candidate| candidate.touch != Touch::First);
    }
    let others = i64::try_from(candidates.len()).unwrap_or(i64::MAX);
    candidates.push(Candidate { line: index(&job.line_id), touch, turn, expires_at: None });
    let lines: Vec<Ahead> = open.iter().map(|(_, ahead)| ahead.clone()).collect();
    let Some(mine) = foresee(lines, &candidates, from) else {
        return vec![Bind::unknown("first_touch_cap").of(&job.line_id)];
    };
    let line = open[mine.line].0;
    let mut binds = standing(touch, line, from);
    let known = binds.iter().filter_map(|bind| bind.until).max().unwrap_or(from);
    if mine.slot > known {
        // There may be more of a queue than were looked at.
        let more = queues.iter().any(|(id, first_touch, most)| {
            let of_queue = before.iter().filter(|queued| queued.line_id == *id && queued.first_touch == *first_touch);
            of_queue.count() as i64 == *most
        });
        binds.push(match others {
            0 => Bind::at("line_day", mine.slot).in_zone(&line.time_zone).of(&line.id),
            _ if more => Bind { count: Some(others), ..Bind::not_before("queue", Some(mine.slot)).of(&line.id) },
            _ => Bind { count: Some(others), ..Bind::at("queue", mine.slot).of(&line.id) },
        });
    }
    binds
}

/// What a line's own columns hold back from an instant on, each by itself.
fn standing(touch: Touch, line: &Line, from: DateTime<Utc>) -> Vec<Bind> {
    let mut binds = Vec::new();
    let mut until = |what, at: Option<DateTime<Utc>>| {
        binds.extend(at.filter(|at| *at > from).map(|at| Bind::at(what, at).of(&line.id)));
    };
    until("line_slot", Some(line.next_at));
    if touch.is_first() {
        until("first_touch_gap", Some(line.next_first_touch_at));
        until("line_full", line.saturated_until);
        if touch == Touch::First && line.first_touches_left == Some(0) {
            until("first_touch_cap", line.day_ends_at);
        }
    }
    let in_zone = |bind: Bind| match bind.what {
        "first_touch_cap" => bind.in_zone(&line.time_zone),
        _ => bind,
    };
    binds.into_iter().map(in_zone).collect()
}

fn ahead(line: &Line, now: DateTime<Utc>) -> Option<Ahead> {
    let schedule = line.open(now)?.schedule(std::time::Duration::ZERO);
    let cap = line.first_touch_cap.map(i32::unsigned_abs);
    Some(Ahead { schedule, cap, zone: line.time_zone.parse().unwrap_or(chrono_tz::Tz::UTC) })
}

/// A job that cannot go before it expires ends instead; where nobody knows when it can go, that is told beside it.
fn or_expires(job: &JobFacts, mut next: Next) -> Next {
    match (job.expires_at, next.at) {
        (Some(expires_at), Some(at)) if expires_at <= at => {
            let binds = next.binds.into_iter().chain([Bind::at("expires", expires_at)]).collect();
            Next { what: "end", at: Some(expires_at), certain: true, binds }
        }
        (Some(expires_at), _) if !next.certain => {
            next.binds.push(Bind::unknown("expires").again_at(Some(expires_at)));
            next
        }
        _ => next,
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::outbox::account::Account;
    use crate::outbox::workers::Worker;

    /// At this second after noon.
    fn at(secs: i64) -> DateTime<Utc> {
        "2026-12-01T12:00:00Z".parse::<DateTime<Utc>>().expect("a time") + TimeDelta::seconds(secs)
    }

    fn midnight_in_new_york() -> DateTime<Utc> {
        at(17 * 3_600)
    }

    /// A job that stands ready for the line `a`.
    fn ready() -> JobFacts {
        JobFacts {
            id: 7,
            phone: "+1*****2200".to_owned(),
            state: "queued".to_owned(),
            reason: None,
            class: "transactional".to_owned(),
            campaign: None,
            enrolment: None,
            step: None,
            priority: 0,
            due_at: at(-60),
            wake_at: None,
            expires_at: None,
            attempt: 0,
            max_attempts: 10,
            deferrals: 0,
            line_id: "a".to_owned(),
            first_touch: false,
            counted_until: None,
            producer: "app".to_owned(),
            created_at: at(-90),
            sent_at: None,
            finished_at: None,
            sent_line_id: None,
            message_id: None,
            error_code: None,
            error_message: None,
            trace_id: None,
            delivery_state: None,
            delivered_at: None,
            read_at: None,
            replied_at: None,
            ready: true,
            looked_at: true,
            past_suppression: false,
            unknown: false,
            lease_until: None,
            worker: None,
            worker_name: None,
            suppressed: None,
            enrolment_ended: None,
            campaign_state: None,
            in_review: false,
            unanswered: 0,
            flying: None,
            flying_until: None,
            head: None,
            look_at: None,
        }
    }

    /// A job that waits until this second for this reason.
    fn waits(reason: &str, secs: i64) -> JobFacts {
        JobFacts { ready: false, reason: Some(reason.to_owned()), wake_at: Some(at(secs)), ..ready() }
    }

    fn first_touch() -> JobFacts {
        JobFacts { first_touch: true, line_id: "*".to_owned(), ..ready() }
    }

    fn line(id: &str) -> Line {
        Line {
            id: id.to_owned(),
            active: true,
            gap_us: 10_000_000,
            first_touch_gap_us: 600_000_000,
            first_touch_cap: Some(30),
            next_at: at(-10),
            next_first_touch_at: at(-10),
            saturated_until: None,
            slowdown: 1.0,
            time_zone: "America/New_York".to_owned(),
            first_touches_left: Some(30),
            day: Some(at(0).date_naive()),
            day_ends_at: Some(midnight_in_new_york()),
        }
    }

    fn world(lines: Vec<Line>) -> World {
        let account = Account {
            deployment: "default".to_owned(),
            blocked: false,
            kind: None,
            reason: None,
            code: None,
            since: None,
            until: None,
            probes: 0,
        };
        let worker = Worker {
            id: "w".to_owned(),
            name: "host".to_owned(),
            pid: 1,
            version: String::new(),
            started_at: at(-600),
            heartbeat_at: at(0),
            alive: true,
            stopping: false,
            concurrency: 64,
            in_flight: 0,
            dispatch: "open".to_owned(),
            dispatch_reason: None,
            sent: 0,
        };
        World { now: at(0), deaf: false, account, workers: vec![worker], lines }
    }

    fn of(job: &JobFacts, world: &World, before: &[Queued]) -> Next {
        let queues = queues(job, world);
        decide(job, world, &HoldOptions::default(), None, before, &queues)
    }

    /// What binds, and the earliest second.
    fn told(job: &JobFacts, world: &World) -> (Vec<&'static str>, Option<i64>, bool) {
        let next = of(job, world, &[]);
        let what = next.binds.iter().map(|bind| bind.what).collect();
        (what, next.at.map(|at_| (at_ - at(0)).num_seconds()), next.certain)
    }

    #[test]
    fn a_job_that_stands_ready_goes_in_the_slot_of_its_line() {
        assert_eq!(told(&ready(), &world(vec![line("a")])), (vec![], Some(0), true));
        let busy = Line { next_at: at(8), ..line("a") };
        assert_eq!(told(&ready(), &world(vec![busy.clone()])), (vec!["line_slot"], Some(8), true));
        let other = JobFacts { line_id: "*".to_owned(), ..ready() };
        assert_eq!(told(&other, &world(vec![busy, line("b")])), (vec![], Some(0), true), "any line will do");
    }

    #[test]
    fn a_first_touch_waits_for_gap_cap_and_chert_and_the_latest_counts() {
        let scarce = Line {
            next_first_touch_at: at(300),
            saturated_until: Some(at(500)),
            first_touches_left: Some(0),
            ..line("a")
        };
        let (what, secs, certain) = told(&first_touch(), &world(vec![scarce.clone()]));
        assert_eq!(what, ["first_touch_gap", "line_full", "first_touch_cap"]);
        assert_eq!((secs, certain), (Some(17 * 3_600), true));
        let next = of(&first_touch(), &world(vec![scarce]), &[]);
        assert_eq!(next.binds[2].zone.as_deref(), Some("America/New_York"), "whose day it is");
        let full = Line {
            next_first_touch_at: at(300),
            saturated_until: Some(at(500)),
            first_touches_left: Some(0),
            ..line("a")
        };
        assert_eq!(
            told(&ready(), &world(vec![full.clone()])),
            (vec![], Some(0), true),
            "a follow-up waits for none of it"
        );
        let counted = JobFacts { counted_until: full.day_ends_at, ..first_touch() };
        let by_day = told(&counted, &world(vec![full.clone()]));
        assert_eq!(by_day, (vec!["first_touch_gap", "line_full"], Some(500), true), "the cap has counted it");
        let waits = Queued {
            line_id: "*".to_owned(),
            first_touch: true,
            counted_until: None,
            priority: 0,
            due_at: at(-70),
            id: 2,
        };
        let paused = Line { day: None, day_ends_at: None, first_touches_left: None, ..line("b") };
        let behind = of(&counted, &world(vec![full.clone(), paused]), &[waits]);
        assert_eq!(behind.at, Some(at(500)), "nor is it behind those that the cap holds back");
        let yesterday =
            JobFacts { counted_until: full.day_ends_at.map(|ends| ends - TimeDelta::days(1)), ..first_touch() };
        assert_eq!(told(&yesterday, &world(vec![full])).1, Some(17 * 3_600), "today has not counted it");
        let late = Line { next_first_touch_at: midnight_in_new_york() - TimeDelta::milliseconds(500), ..line("a") };
        assert_eq!(
            told(&first_touch(), &world(vec![late])),
            (vec!["first_touch_gap", "line_day"], Some(17 * 3_600), true)
        );
        let closed = Line { first_touches_left: Some(0), first_touch_cap: Some(0), ..line("a") };
        assert_eq!(told(&first_touch(), &world(vec![closed])), (vec!["first_touch_cap"], None, false));
    }

    #[test]
    fn who_stands_before_it_takes_a_slot_each() {
        let before = |id| Queued {
            line_id: "a".to_owned(),
            first_touch: false,
            counted_until: None,
            priority: 0,
            due_at: at(-70),
            id,
        };
        let three: Vec<Queued> = (1..=3).map(before).collect();
        let next = of(&ready(), &world(vec![line("a")]), &three);
        // A gap of ten seconds is kept as eleven.
        assert_eq!((next.at, next.certain), (Some(at(33)), true));
        assert_eq!((next.binds[0].what, next.binds[0].count), ("queue", Some(3)));
        let many: Vec<Queued> = (1..=MOST_OWN).map(before).collect();
        let next = of(&ready(), &world(vec![line("a")]), &many);
        assert_eq!(
            (next.binds[0].lifts, next.certain),
            (crate::outbox::explain::Lifts::NotBefore, false),
            "there may be more"
        );
    }

    #[test]
    fn a_job_that_waits_is_told_until_when_and_for_what() {
        let free = world(vec![line("a")]);
        let due = JobFacts { ready: false, due_at: at(90), ..ready() };
        assert_eq!(told(&due, &free), (vec!["not_due"], Some(90), true));
        assert_eq!(told(&JobFacts { ready: false, ..ready() }, &free), (vec!["new"], Some(0), true));
        for reason in ["retrying", "outcome_unknown", "recipient_saturated", "account_stopped", "unreachable"] {
            assert_eq!(told(&waits(reason, 40), &free), (vec![reason], Some(40), true));
        }
        let busy = Line { next_at: at(60), ..line("a") };
        assert_eq!(told(&waits("retrying", 40), &world(vec![busy])), (vec!["retrying", "line_slot"], Some(60), true));
    }

    #[test]
    fn what_is_held_has_no_instant_of_its_own() {
        let free = world(vec![line("a")]);
        let review = JobFacts { in_review: true, ..waits("in_review", 900) };
        assert_eq!(told(&review, &free), (vec!["in_review"], None, false));
        assert_eq!(of(&review, &free, &[]).binds[0].again_at, Some(at(900)));
        let paused = JobFacts { campaign_state: Some("paused".to_owned()), ..waits("campaign_paused", 900) };
        assert_eq!(told(&paused, &free), (vec!["campaign_paused"], None, false));
        let expires = JobFacts { expires_at: Some(at(600)), ..paused };
        let next = of(&expires, &free, &[]);
        assert_eq!(
            (next.what, next.at, next.binds[1].what, next.binds[1].again_at),
            ("send", None, "expires", Some(at(600)))
        );
        let anew = made_anew(&expires, next).binds.remove(1);
        assert_eq!((anew.what, anew.until, anew.again_at), ("hours_end", None, Some(at(600))));
        let offer = JobFacts { class: "marketing".to_owned(), unanswered: 3, ..ready() };
        assert_eq!(told(&offer, &free), (vec!["unanswered"], None, false));
        assert_eq!(
            told(&JobFacts { unanswered: 3, ..ready() }, &free),
            (vec![], Some(0), true),
            "not of an order's text"
        );
        let deaf = World { deaf: true, ..free.clone() };
        assert_eq!(told(&JobFacts { unanswered: 0, ..offer.clone() }, &deaf), (vec!["inbound_stale"], None, false));
        assert_eq!(told(&ready(), &deaf), (vec![], Some(0), true), "marketing alone");
        assert_eq!(told(&JobFacts { past_suppression: true, ..offer }, &deaf), (vec![], Some(0), true));
        let both = JobFacts { in_review: true, ..waits("retrying", 40) };
        let binds = of(&both, &free, &[]).binds;
        assert_eq!((binds[1].what, binds[1].again_at), ("in_review", None), "it is looked at again for the other one");
        assert_eq!(
            told(&waits("in_review", 900), &free),
            (vec!["looked_at_again"], Some(900), true),
            "released, and not seen yet"
        );
    }

    #[test]
    fn what_is_behind_another_message_is_told_which() {
        let free = world(vec![line("a")]);
        let behind = JobFacts { head: Some(3), ..waits("behind_earlier", 900) };
        let head = Next::of("send", at(0), vec![Bind::at("retrying", at(40))]);
        let queues = queues(&behind, &free);
        let next = decide(&behind, &free, &HoldOptions::default(), Some(&head), &[], &queues);
        assert_eq!((next.at, next.certain, next.binds[0].of.as_deref()), (Some(at(40)), false, Some("3")));
        let flying = JobFacts { flying: Some(4), ..behind };
        assert_eq!(told(&flying, &free), (vec!["behind_earlier"], None, false));
        let alone = JobFacts { head: None, flying_until: Some(at(60)), ..flying };
        let bind = of(&alone, &free, &[]).binds.remove(0);
        assert_eq!((bind.what, bind.of.as_deref(), bind.again_at), ("behind_earlier", Some("4"), Some(at(60))));
        assert_eq!(told(&alone, &free).0.len(), 1);
    }

    #[test]
    fn what_stops_everybody_binds_each_job() {
        let mut stopped = world(vec![line("a")]);
        stopped.account.blocked = true;
        (stopped.account.kind, stopped.account.until) = (Some("rate_limited".to_owned()), Some(at(20)));
        assert_eq!(told(&ready(), &stopped), (vec!["rate_limit"], Some(20), true));
        stopped.account.kind = Some("halted".to_owned());
        assert_eq!(told(&ready(), &stopped), (vec!["account_halted"], None, false), "a probe need not be answered");
        let nobody = World { workers: Vec::new(), ..world(vec![line("a")]) };
        assert_eq!(told(&ready(), &nobody), (vec!["no_worker"], None, false));
        let shut = Line { day: None, ..line("a") };
        assert_eq!(told(&ready(), &world(vec![shut.clone()])), (vec!["line_paused"], None, false));
        assert_eq!(told(&ready(), &world(vec![shut.clone(), line("b")])), (vec!["line_paused"], None, false));
        let gone = Line { active: false, ..shut };
        assert_eq!(told(&ready(), &world(vec![gone])), (vec!["line_inactive"], None, false));
    }

    #[test]
    fn what_ends_without_being_sent_is_said_to() {
        let free = world(vec![line("a")]);
        let end = |job: JobFacts| {
            let next = of(&job, &free, &[]);
            (next.what, next.binds.last().map(|bind| bind.what), next.at)
        };
        let stopped = JobFacts { suppressed: Some("all".to_owned()), ..ready() };
        assert_eq!(end(stopped), ("end", Some("suppressed"), Some(at(0))));
        let left = JobFacts { enrolment_ended: Some("replied".to_owned()), ..ready() };
        assert_eq!(end(left), ("end", Some("enrolment_ended"), Some(at(0))));
        let late = JobFacts { expires_at: Some(at(-1)), ..ready() };
        assert_eq!(end(late), ("end", Some("expired"), Some(at(0))));
        let stopped = JobFacts { campaign_state: Some("stopped".to_owned()), ..waits("campaign_paused", 900) };
        assert_eq!(end(stopped.clone()), ("end", Some("campaign_stopped"), Some(at(0))));
        assert_eq!(of(&JobFacts { past_suppression: true, ..stopped }, &free, &[]).what, "send");
        let short = JobFacts { expires_at: Some(at(30)), ..waits("retrying", 40) };
        assert_eq!(end(short), ("end", Some("expires"), Some(at(30))));
        let long = JobFacts { expires_at: Some(at(50)), ..waits("retrying", 40) };
        assert_eq!(end(long), ("send", Some("retrying"), Some(at(40))));
    }

    #[test]
    fn a_job_under_way_is_its_workers_as_long_as_that_lives() {
        let flies = |worker: &str| JobFacts {
            state: "sending".to_owned(),
            worker: Some(worker.to_owned()),
            lease_until: Some(at(60)),
            ..ready()
        };
        let free = world(vec![line("a")]);
        assert_eq!(told(&flies("w"), &free), (vec!["under_way"], None, false));
        assert_eq!(told(&flies("dead"), &free), (vec!["lease"], Some(60), true));
        let over = JobFacts { lease_until: Some(at(-1)), ..flies("w") };
        assert_eq!(told(&over, &free), (vec!["lease"], Some(0), true));
        let mut stopping = free.clone();
        stopping.workers[0].stopping = true;
        assert_eq!(told(&flies("w"), &stopping).0, ["under_way"], "it ends what it has begun");
        assert_eq!(told(&flies("dead"), &stopping).0, ["lease", "no_worker"]);
        let sent = JobFacts { state: "sent".to_owned(), ..ready() };
        assert_eq!(of(&sent, &free, &[]), Next::nothing());
        let followed = JobFacts { look_at: Some(at(5)), ..sent };
        assert_eq!((of(&followed, &free, &[]).what, told(&followed, &free).1), ("look", Some(5)));
    }
}
