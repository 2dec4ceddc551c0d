//! What was explained, for people.

use chrono::{DateTime, Utc};

use crate::cli::explain::words::{self, when};
use crate::cli::table;
use crate::line::ANY_LINE;
use crate::outbox::explain::{
    Again, CampaignExplained, Ended, EnrolmentView, JobExplained, JobView, Next, PersonExplained, QueueView, Share,
};
use crate::units::counted;

pub fn job(explained: &JobExplained) {
    let JobView { job, next } = &explained.job;
    let reason = job.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    let class = if job.first_touch { "a first touch" } else { "a follow-up" };
    let queue = if job.line_id == "*" { "any line".to_owned() } else { format!("line {}", job.line_id) };
    outln!("job {} to {} is {}{reason}", job.id, job.phone, job.state);
    outln!("{} message, {class}, for {queue}; {} of {} attempts are spent", job.class, job.attempt, job.max_attempts);
    if let Some(expires_at) = job.expires_at.filter(|_| job.finished_at.is_none()) {
        outln!("expires: {}", when(expires_at, None));
    }
    outln!("now: {}\n", when(explained.now, None));
    let mut rows = table(&["when", "what happened"]);
    for past in &explained.past {
        rows.add_row([past.at.map_or_else(|| "not known".to_owned(), |at| when(at, None)), words::past(past)]);
    }
    outln!("{}\n", rows.trim_fmt());
    show_next(next, explained.now);
}

fn show_next(next: &Next, now: DateTime<Utc>) {
    outln!("{}", words::next(next, now));
    if next.binds.is_empty() {
        return;
    }
    let mut rows = table(&["binds", "until", "what it is"]);
    for bind in &next.binds {
        rows.add_row([bind.what.to_owned(), words::lifts(bind), words::binds(bind)]);
    }
    outln!("{}", rows.trim_fmt());
}

pub fn person(person: &PersonExplained) {
    let suppressed = if person.suppressions.is_empty() { "" } else { " is suppressed" };
    outln!("{}{suppressed}", person.phone);
    outln!("now: {}", when(person.now, None));
    print_known(person);
    if !person.enrolments.is_empty() {
        outln!("\ncampaigns");
        for enrolment in &person.enrolments {
            print_enrolment(enrolment, person.now);
        }
    }
    if !person.ended.is_empty() {
        let mut rows = table(&["ended", "job", "what happened"]);
        for ended in person.ended.iter().rev() {
            let at = ended.finished_at.map_or_else(|| "not known".to_owned(), |at| when(at, None));
            rows.add_row([at, ended.id.to_string(), story(ended)]);
        }
        outln!("\n{}", rows.trim_fmt());
    }
    if let Some(view) = &person.under_way {
        outln!("\njob {} is under way", view.job.id);
        show_next(&view.next, person.now);
    }
    for view in &person.waiting {
        let reason = view.job.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        outln!("\njob {} waits{reason}", view.job.id);
        show_next(&view.next, person.now);
    }
    if person.more_waiting > 0 {
        outln!("\nand {}", counted(person.more_waiting, "more waits", "more wait"));
    }
    if person.under_way.is_none() && person.waiting.is_empty() {
        outln!("\nno message waits");
    }
}

fn print_known(person: &PersonExplained) {
    let mut facts = table(&[]);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.add_row([name.to_owned(), value]);
        }
    };
    let time = |at: Option<DateTime<Utc>>| at.map(|at| when(at, None));
    let known = person.recipient.as_ref();
    fact("line", Some(known.and_then(|known| known.line_id.clone()).unwrap_or_else(|| "none yet".to_owned())));
    fact("next message", Some(if person.first_touch { "a first touch" } else { "a follow-up" }.to_owned()));
    fact("last message", time(known.and_then(|known| known.last_outbound_at)));
    fact("last reply", time(known.and_then(|known| known.last_inbound_at)));
    fact("unanswered", known.map(|known| known.unanswered.to_string()));
    fact("in review since", time(known.and_then(|known| known.review_since)));
    fact("because", known.and_then(|known| known.review_reason.clone()));
    for entry in &person.suppressions {
        let since = when(entry.created_at, None);
        fact("suppressed", Some(format!("{}: {} (by {}) since {since}", entry.scope, entry.reason, entry.source)));
    }
    for consent in &person.consents {
        let given = when(consent.given_at, None);
        fact("consent", Some(format!("{} {given}, text {} ({})", consent.kind, consent.text_version, consent.source)));
    }
    outln!("{}", facts.trim_fmt());
}

fn print_enrolment(enrolment: &EnrolmentView, now: DateTime<Utc>) {
    let EnrolmentView { campaign, version, step, state, .. } = enrolment;
    let why = match (enrolment.reason.as_deref(), enrolment.detail.as_deref()) {
        (Some("unreadable"), Some(field)) => format!(" (`{field}` cannot be used)"),
        (Some(reason), Some(detail)) => format!(" ({reason}: {detail})"),
        (Some(reason), None) => format!(" ({reason})"),
        (None, _) => String::new(),
    };
    match enrolment.finished_at {
        Some(at) => {
            let again = match enrolment.again {
                Some(Again::Never) => "; nobody enrols them again (again: never)".to_owned(),
                Some(Again::From(at)) if at <= now => "; they may be enrolled again".to_owned(),
                Some(Again::From(at)) => format!("; they may be enrolled again from {}", when(at, None)),
                None => String::new(),
            };
            outln!("{campaign}, version {version}: {state}{why} at {step}, {}{again}", when(at, None));
        }
        None => {
            let since = when(enrolment.reached_at, None);
            outln!("{campaign}, version {version}: {state}{why} at {step}, reached {since}");
            show_next(&enrolment.next, now);
        }
    }
}

/// What became of a job, in a line.
fn story(job: &Ended) -> String {
    let mut said = job.reason.as_ref().map_or(job.state.clone(), |reason| format!("{} ({reason})", job.state));
    let mut add = |text: String| said.push_str(&text);
    if let Some(line) = job.line_id.as_ref().filter(|_| job.sent_at.is_some()) {
        add(format!(" from line {line}"));
    }
    if let Some(code) = job.error_code.filter(|_| job.sent_at.is_none()) {
        add(format!(", code {code} {}", job.error_message.as_deref().unwrap_or_default()));
    }
    for (what, at) in [("delivered", job.delivered_at), ("read", job.read_at), ("answered", job.replied_at)] {
        if let Some(at) = at {
            add(format!(", {what} {}", at.format("%F %T")));
        }
    }
    if job.delivered_at.is_none()
        && let Some(state) = job.delivery_state.as_ref().filter(|state| *state != "sent")
    {
        add(format!(", {state}"));
    }
    said
}

pub fn campaign(explained: &CampaignExplained) {
    let CampaignExplained { name, version, state, now, .. } = explained;
    outln!("{name}, version {version}, is {state} since {}", when(explained.changed_at, None));
    outln!("now: {}", when(*now, None));
    match explained.next_firing_at {
        Some(at) if state == "running" => outln!("next firing: {}", when(at, explained.zone.as_deref())),
        Some(at) => outln!("next firing: {}, if it runs by then", when(at, explained.zone.as_deref())),
        None => outln!("next firing: none by itself"),
    }
    if explained.open_firings > 0 {
        outln!("{}", counted(explained.open_firings, "firing is open", "firings are open"));
    }
    outln!(
        "look-ahead: {} that any line may take, and {} of each line, first touches and follow-ups apart",
        counted(explained.look_ahead, "message", "messages"),
        explained.look_ahead_of_a_line
    );
    show_full_queues(&explained.queues);
    print_shares(explained, &explained.people, "people", person_waits);
    print_shares(explained, &explained.queued, "queued", |what| match what {
        "slot" => "stand ready for a slot",
        "campaign_stopped" => "the campaign was stopped: the next pass of an engine cancels them",
        word => crate::outbox::status::explain(word),
    });
}

/// Those in which people wait until a message has gone; the first of them, where they are many.
fn show_full_queues(queues: &[QueueView]) {
    const MOST: usize = 10;
    let full: Vec<String> = queues
        .iter()
        .filter(|queue| queue.people_wait && queue.room == 0)
        .map(|queue| {
            let class = if queue.first_touch { "first touches" } else { "follow-ups" };
            let line = if queue.line_id == ANY_LINE { "any line" } else { &queue.line_id };
            format!("{class} by {line}")
        })
        .collect();
    if !full.is_empty() {
        let more = if full.len() > MOST { format!(" and {} more", full.len() - MOST) } else { String::new() };
        outln!("full for {}{more}", full[..full.len().min(MOST)].join(", "));
    }
}

fn person_waits(what: &str) -> &'static str {
    match what {
        "wait" => "rest at a wait",
        "job" => "have a message that has not ended",
        "turn" => "are to be written to: within hours and caps, and as the look-ahead has room",
        "missing_variable" => "held: a variable is missing",
        "unreadable" => "held: what they have cannot be used in a field of their step; explain PHONE says which",
        _ => "held",
    }
}

fn print_shares(explained: &CampaignExplained, shares: &[Share], head: &str, words: impl Fn(&str) -> &'static str) {
    if shares.is_empty() {
        return;
    }
    let mut rows = table(&[head, "count", "the first goes on", "what it is"]);
    for share in shares {
        let count = if share.or_more { format!("{} or more", share.count) } else { share.count.to_string() };
        let first = first_goes_on(share, explained.now);
        rows.add_row([share.what.clone(), count, first, words(&share.what).to_owned()]);
    }
    outln!("\n{}", rows.trim_fmt());
    let mut binding = table(&["the first", "binds", "until", "what it is"]);
    for share in shares {
        for bind in share.next.iter().flat_map(|next| &next.binds) {
            binding.add_row([share.what.clone(), bind.what.to_owned(), words::lifts(bind), words::binds(bind)]);
        }
    }
    if !binding.is_empty() {
        outln!("\n{}", binding.trim_fmt());
    }
}

fn first_goes_on(share: &Share, now: DateTime<Utc>) -> String {
    let Some(next) = &share.next else {
        return "not known".to_owned();
    };
    match next.at {
        Some(at) if next.certain && next.what == "end" => format!("ends {}", when(at.max(now), None)),
        Some(at) if next.certain && at <= now => "now".to_owned(),
        Some(at) if next.certain => when(at, None),
        Some(at) if at > now => format!("not before {}", when(at, None)),
        _ => "not known".to_owned(),
    }
}
