//! The words for what binds. Nothing is guessed: what is not known is said to be so.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use crate::outbox::explain::{Bind, COUNTED, Lifts, Next, Past};
use crate::outbox::status;
use crate::units::{counted, show_duration};

/// An instant in UTC, and as the clocks show it in each of the zones that it goes by.
pub fn when(at: DateTime<Utc>, zones: Option<&str>) -> String {
    let local = |zone: Tz| at.with_timezone(&zone).format("%a %H:%M %Z").to_string();
    let others: Vec<Tz> =
        zones.into_iter().flat_map(|zones| zones.split(", ")).filter_map(|zone| zone.parse().ok()).collect();
    let mut shown: Vec<String> = others.into_iter().filter(|zone| *zone != Tz::UTC).map(local).collect();
    shown.dedup();
    let at = at.format("%F %T UTC");
    if shown.is_empty() { at.to_string() } else { format!("{at} ({})", shown.join(", ")) }
}

/// How far off it is, in whole seconds.
fn from_now(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let secs = (at - now).num_milliseconds().max(0).unsigned_abs().div_ceil(1_000);
    match secs {
        0 => "now".to_owned(),
        secs => format!("in {}", show_duration(std::time::Duration::from_secs(secs))),
    }
}

/// The headline of what comes next.
pub fn next(next: &Next, now: DateTime<Utc>) -> String {
    let what = match next.what {
        "send" => "it is sent",
        "answer" => "its call ends",
        "look" => "Chert is asked for its delivery",
        "step" => "it goes on",
        "end" => "it ends without a call",
        _ => return "next: nothing, it has ended".to_owned(),
    };
    match (next.at, next.certain) {
        (Some(at), true) if at <= now => format!("next: {what} now"),
        (Some(at), true) => format!("next: {what} at {}, {}, at the earliest", when(at, None), from_now(at, now)),
        (Some(at), false) if at <= now => {
            format!("next: {what} as soon as all that binds has lifted; when is not known")
        }
        (Some(at), false) => {
            format!("next: {what} not before {}, {}; when after that is not known", when(at, None), from_now(at, now))
        }
        (None, _) => format!("next: {what} when what binds has lifted; when is not known"),
    }
}

/// When it lifts.
pub fn lifts(bind: &Bind) -> String {
    let zone = bind.zone.as_deref();
    match (bind.lifts, bind.until) {
        (Lifts::At, Some(at)) => when(at, zone),
        (Lifts::NotBefore, Some(at)) => format!("not before {}", when(at, zone)),
        _ => "not known".to_owned(),
    }
}

/// What binds, in a sentence.
pub fn binds(bind: &Bind) -> String {
    let of = bind.of.as_deref().unwrap_or_default();
    let count = bind.count.unwrap_or_default();
    let said = match bind.what {
        "not_due" => "due then".to_owned(),
        "behind_earlier" => format!("behind job {of}, which goes to the same person first"),
        "recipient_saturated" | "retrying" | "outcome_unknown" | "in_review" | "inbound_stale" | "account_stopped" => {
            status::explain(bind.what).to_owned()
        }
        "unreachable" => "Chert could not be reached, and is tried again".to_owned(),
        "new" => "not looked at yet: the next pass of a worker does".to_owned(),
        "looked_at_again" if of.is_empty() => "looked at then".to_owned(),
        "looked_at_again" => format!("looked at then; what held it ({of}) does no longer"),
        "unanswered" => {
            let messages = counted(count, "message is", "messages are");
            format!("{messages} unanswered: marketing waits for a reply, or recipients release --unanswered")
        }
        "campaign_paused" => format!("the campaign {of} is paused: campaign resume {of}"),
        "campaign_stopped" => {
            format!("the campaign {of} was stopped: the next pass of an engine ends what is left of it")
        }
        "account_halted" => format!("dispatch is stopped for the whole account, until a probe is answered: {of}"),
        "rate_limit" => status::explain("rate_limit").to_owned(),
        "no_worker" => of.to_owned(),
        "line_paused" if of == "*" => "every line that could take it is paused: lines resume".to_owned(),
        "line_paused" => format!("line {of} is paused: lines resume {of}"),
        "line_inactive" if of == "*" => "no line is active at Chert".to_owned(),
        "line_inactive" => format!("line {of} is inactive at Chert"),
        "line_slot" => format!("the gap after the last message of line {of}"),
        "first_touch_gap" => format!("the gap after the last first touch of line {of}"),
        "first_touch_cap" if bind.until.is_none() => {
            format!("line {of} makes no first touches, or none within the time looked ahead")
        }
        "first_touch_cap" => format!("line {of} has made all first touches of its day, which turns then"),
        "line_full" => format!("Chert said that line {of} is full for first touches (4002)"),
        "line_day" => format!("no first touch leaves in the last second of the day of line {of}"),
        "queue" if bind.lifts == Lifts::NotBefore => {
            format!("{count} jobs or more stand before it; line {of} has the first slot for it")
        }
        "queue" => {
            let jobs = counted(count, "job stands", "jobs stand");
            format!("{jobs} before it; line {of} has the first slot for it")
        }
        "under_way" => format!("worker {of} has it: its call is made in its slot, and ends by itself"),
        "lease" => format!("worker {of} is not heard of: whoever finds the lease over then takes it over"),
        "delivery_look" => "the next look at its delivery".to_owned(),
        "suppressed" => format!("the recipient is suppressed ({of})"),
        "enrolment_ended" => format!("its enrolment has ended ({of})"),
        "expired" => "it has expired".to_owned(),
        "expires" if bind.until.is_none() => "it expires unless it has gone by then".to_owned(),
        "expires" => "it expires then, which is before it can go".to_owned(),
        "hours_end" if bind.until.is_none() => {
            format!(
                "its hours end: the campaign {of} makes the message anew when they begin again, unless it has gone by then"
            )
        }
        "hours_end" => {
            format!("its hours end before it can go: the campaign {of} makes the message anew when they begin again")
        }
        "wait" => "the step's wait".to_owned(),
        "window" => format!("closed by {of}; opens then"),
        "window_closes" => format!("closed by {of} within 90 seconds, which is too soon; opens again then"),
        "never_open" => format!("closed by {of}, and never open within three weeks: it ends for that"),
        "frequency_cap" if bind.until.is_some() => {
            "the frequency cap: the oldest of their messages falls out then".to_owned()
        }
        "frequency_cap" if !of.is_empty() => {
            format!("the frequency cap: {of} has not gone out to this person yet, and counts until it has ended")
        }
        "frequency_cap" => "the frequency cap: messages are on their way to this person".to_owned(),
        "behind_campaign" => "a campaign that goes first waits to write to this person".to_owned(),
        "no_line" => "the account has none of the lines in the campaign's pool: mend the file and apply it; campaign \
                      migrate then lets them go on"
            .to_owned(),
        "not_pinned" => {
            "no line has written to this person, nor they to one, as pinned_only asks: it ends for that".to_owned()
        }
        "not_in_pool" => format!("line {of}, which this person knows, is not in the campaign's pool: it ends for that"),
        "look_ahead" if count > 0 => {
            let more = if count == COUNTED { " or more" } else { "" };
            format!("{count}{more} stand before this person, and only so many messages of {of} are made ahead")
        }
        "look_ahead" => format!("as many messages of {of} as may stand in the queue do"),
        "job" => format!("job {of} has to end first"),
        "missing_variable" => format!(
            "the variable {of} is missing: outbox.enrol with it, or a later firing's row that has it, lets this person go on"
        ),
        "held" => format!(
            "{of} cannot be used with what is known of this person: mend the file and apply it, and campaign migrate lets them go on; or \
             outbox.enrol with a value that can be used, or a later firing's row that has one, does"
        ),
        "deadline" if bind.until.is_none() => {
            "the step's deadline: it ends unless its message is made by then".to_owned()
        }
        "deadline" => "the step's deadline, which is before its message can be made: it ends then".to_owned(),
        "end" => "the campaign's end".to_owned(),
        "unreadable_version" => format!("version {of} cannot be read by this release"),
        other => other.to_owned(),
    };
    match bind.again_at {
        Some(again) if bind.what == "account_halted" => format!("{said}; the next probe is due {}", when(again, None)),
        Some(again) if bind.what == "under_way" || bind.what == "behind_earlier" => {
            format!("{said}; its lease ends {}", when(again, None))
        }
        Some(again) if ["deadline", "expires", "hours_end"].contains(&bind.what) => {
            format!("{said}, {}", when(again, None))
        }
        Some(again) => format!("{said}; looked at again {} at the latest", when(again, None)),
        None => said,
    }
}

/// One thing of the past.
pub fn past(past: &Past) -> String {
    let of = past.of.as_deref().unwrap_or_default();
    let said = match past.what {
        "inserted" => format!("inserted by {of}"),
        "admitted" if of == "*" => {
            "admitted: looked at and put in the queue for any line (when is not kept)".to_owned()
        }
        "admitted" => format!("admitted: looked at and put in the queue of line {of} (when is not kept)"),
        "attempt" => format!("attempt: {of}: {}", outcome(of)),
        "sent" if of.is_empty() => "sent".to_owned(),
        "sent" => format!("sent from line {of}"),
        "replied" => "answered by the recipient, most likely".to_owned(),
        "ended" => format!("ended as {of}"),
        other => other.to_owned(),
    };
    match &past.detail {
        Some(detail) => format!("{said} ({detail})"),
        None => said,
    }
}

/// What the table of outcomes says.
fn outcome(word: &str) -> &'static str {
    match word {
        "sent" => "taken by Chert, the job ends",
        "duplicate" => "Chert had the same message already, the job ends",
        "deferred" => "no room for this recipient yet, no attempt is spent",
        "rate_limited" => "everybody waits, no attempt is spent",
        "halted" => "dispatch stops for the account, no attempt is spent",
        "retry" => "an attempt is spent, and another follows while there are any",
        "rejected" => "refused for good, the job fails",
        "unreachable" => "it never left, no attempt is spent",
        "unknown" => "it may have arrived: asked again with its own key",
        _ => "not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn times_are_told_in_utc_and_by_the_clocks_that_bind() {
        let noon = at("2026-12-01T12:00:00Z");
        assert_eq!(when(noon, None), "2026-12-01 12:00:00 UTC");
        assert_eq!(when(noon, Some("UTC")), "2026-12-01 12:00:00 UTC");
        assert_eq!(
            when(noon, Some("America/New_York, America/Chicago")),
            "2026-12-01 12:00:00 UTC (Tue 07:00 EST, Tue 06:00 CST)"
        );
    }

    #[test]
    fn what_is_not_known_is_said_to_be_so() {
        let now = at("2026-12-01T12:00:00Z");
        let headline = |binds: Vec<Bind>| next(&Next::of("send", now, binds), now);
        assert_eq!(headline(vec![]), "next: it is sent now");
        assert_eq!(
            headline(vec![Bind::at("not_due", at("2026-12-01T12:01:00Z"))]),
            "next: it is sent at 2026-12-01 12:01:00 UTC, in 1m, at the earliest"
        );
        assert_eq!(
            headline(vec![Bind::at("not_due", at("2026-12-01T12:01:00Z")), Bind::unknown("line_paused")]),
            "next: it is sent not before 2026-12-01 12:01:00 UTC, in 1m; when after that is not known"
        );
        assert_eq!(lifts(&Bind::unknown("line_paused")), "not known");
    }

    #[test]
    fn one_is_told_as_one() {
        let of =
            |what, count| binds(&Bind { count: Some(count), ..Bind::at(what, at("2026-12-01T12:00:00Z")).of("pl_1") });
        assert!(of("queue", 1).starts_with("1 job stands before it") && of("queue", 2).starts_with("2 jobs stand"));
        assert!(
            of("unanswered", 1).starts_with("1 message is unanswered")
                && of("unanswered", 3).starts_with("3 messages are")
        );
    }
}
