//! What happened to a job, in its order. Pure.

use chrono::{DateTime, Utc};

use crate::outbox::explain::facts::JobFacts;
use crate::outbox::jobs::AttemptRow;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Past {
    /// None where it is not kept.
    pub at: Option<DateTime<Utc>>,
    /// `inserted`, `admitted`, `attempt`, `sent`, `delivered`, `read`, `replied` or `ended`.
    pub what: &'static str,
    /// Of an attempt its outcome, of an end the state; else who or what.
    pub of: Option<String>,
    /// What came of it, in words that are not ours: codes, and what Chert said.
    pub detail: Option<String>,
}

/// A job's past, the oldest first.
pub fn past(job: &JobFacts, attempts: &[AttemptRow]) -> Vec<Past> {
    let at = |at: Option<DateTime<Utc>>, what| Past { at, what, of: None, detail: None };
    let of = |of: &str, past: Past| Past { of: Some(of.to_owned()), ..past };
    let by = match (&job.campaign, job.enrolment) {
        (Some(campaign), Some(enrolment)) => format!("campaign {campaign}, enrolment {enrolment}"),
        _ => job.producer.clone(),
    };
    let mut past = vec![of(&by, at(Some(job.created_at), "inserted"))];
    if job.looked_at {
        past.push(of(&job.line_id, at(None, "admitted")));
    }
    past.extend(attempts.iter().map(|attempt| Past {
        at: Some(attempt.started_at),
        what: "attempt",
        of: Some(attempt.outcome.clone()),
        detail: Some(answer(attempt)).filter(|text| !text.is_empty()),
    }));
    let known = |when: Option<DateTime<Utc>>, what| when.map(|_| at(when, what));
    past.extend(known(job.sent_at, "sent").map(|past| match &job.sent_line_id {
        Some(line) => of(line, past),
        None => past,
    }));
    past.extend(known(job.delivered_at, "delivered"));
    past.extend(known(job.read_at, "read"));
    past.extend(known(job.replied_at, "replied"));
    if job.sent_at.is_none() && job.finished_at.is_some() {
        let ended = Past { detail: job.reason.clone(), ..at(job.finished_at, "ended") };
        past.push(of(&job.state, ended));
    }
    past
}

fn answer(attempt: &AttemptRow) -> String {
    let parts = [
        attempt.late.then(|| "came late".to_owned()),
        attempt.http_status.map(|status| format!("HTTP {status}")),
        attempt.code.map(|code| format!("code {code}")),
        attempt.message.clone(),
        attempt.retry_after_s.map(|secs| format!("again after {secs} s")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
