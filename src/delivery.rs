//! What becomes of a message after it was sent: what Chert's words for it mean, and when it is looked at again. Pure: age and
//! time come in as arguments.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::chert::messages::Message;

const MINUTE: Duration = Duration::from_secs(60);

/// When a message is looked at, counted from its sending. Source: design 7.
pub const LOOKS: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// Chert may not know a message just after it took it (API contract 8, question 36).
const MAY_BE_UNKNOWN: Duration = MINUTE;

/// What one look brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Seen(Message),
    /// Chert does not know the message.
    NotFound,
    /// There was an answer, and nothing could be made of it.
    Unreadable,
}

/// What a look makes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `sent`, `delivered`, `failed`, `unconfirmed`, `not_found`, or a word of Chert's that we do not know.
    pub state: String,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
    /// When it is looked at again, counted from its sending; none once it is settled.
    pub next: Option<Duration>,
    /// What the producer has not been told yet, in order: `delivered`, `read`, `failed`.
    pub news: Vec<&'static str>,
}

/// What this look, at `now` and `age` after the sending, makes of a message of which `known` was known. What was delivered stays
/// so, whatever a later look says, unless it failed. Source: design 7; API contract 4.1 and 8, questions 34 to 38.
pub fn judge(known: &str, age: Duration, look: &Look, now: DateTime<Utc>) -> Verdict {
    let nothing = Message::default();
    let (message, is_lost) = match look {
        Look::Seen(message) => (message, false),
        Look::NotFound => (&nothing, age >= MAY_BE_UNKNOWN),
        Look::Unreadable => (&nothing, false),
    };
    let status = message.status.as_deref().unwrap_or("sent");
    let is_read = message.read_at.is_some() || status == "read";
    let has_failed = status == "failed" && !is_read;
    let was_delivered = known == "delivered";
    let is_delivered =
        !has_failed && (is_read || was_delivered || status == "delivered" || message.delivered_at.is_some());
    let next = match is_read || has_failed || is_lost {
        true => None,
        false => next_look(age),
    };
    let state = match (has_failed, is_delivered) {
        (true, _) => "failed",
        (_, true) => "delivered",
        _ if is_lost => "not_found",
        _ if next.is_none() => "unconfirmed",
        _ if matches!(look, Look::Seen(_)) => status,
        _ => known,
    };
    // Chert may say that it happened and not when: then it was not later than this.
    let read_at = is_read.then(|| message.read_at.unwrap_or(now));
    let delivered_at = is_delivered.then(|| message.delivered_at.or(read_at).unwrap_or(now));
    let news = [("delivered", is_delivered && !was_delivered), ("read", is_read), ("failed", has_failed)];
    Verdict {
        state: state.to_owned(),
        delivered_at,
        read_at,
        next,
        news: news.into_iter().filter_map(|(word, is_new)| is_new.then_some(word)).collect(),
    }
}

/// The first look that lies ahead. What was missed is not made up for: one look tells all that they would have told.
fn next_look(age: Duration) -> Option<Duration> {
    LOOKS.into_iter().find(|look| *look > age)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> DateTime<Utc> {
        "2026-06-03T10:00:00Z".parse().expect("a time")
    }

    fn earlier() -> Option<DateTime<Utc>> {
        "2026-06-03T09:00:00Z".parse().ok()
    }

    fn seen(status: &str) -> Look {
        Look::Seen(Message { status: Some(status.to_owned()), ..Message::default() })
    }

    fn told(known: &str, age: Duration, look: &Look) -> (String, Option<Duration>, Vec<&'static str>) {
        let verdict = judge(known, age, look, now());
        (verdict.state, verdict.next, verdict.news)
    }

    #[test]
    fn a_message_is_followed_until_it_is_read() {
        assert_eq!(told("sent", 5 * SECOND, &seen("sent")), ("sent".into(), Some(30 * SECOND), vec![]));
        let delivered = seen("delivered");
        assert_eq!(told("sent", 31 * SECOND, &delivered), ("delivered".into(), Some(2 * MINUTE), vec!["delivered"]));
        assert_eq!(told("delivered", 3 * MINUTE, &delivered), ("delivered".into(), Some(10 * MINUTE), vec![]));
        let read = Look::Seen(Message { read_at: earlier(), ..Message::default() });
        assert_eq!(told("delivered", MINUTE, &read), ("delivered".into(), None, vec!["read"]));
        assert_eq!(told("sent", MINUTE, &read), ("delivered".into(), None, vec!["delivered", "read"]));
    }

    #[test]
    fn the_times_are_cherts_or_else_those_of_the_look() {
        let silent = judge("sent", MINUTE, &seen("read"), now());
        assert_eq!((silent.delivered_at, silent.read_at), (Some(now()), Some(now())));
        let exact = Look::Seen(Message { delivered_at: earlier(), ..Message::default() });
        let exact = judge("sent", MINUTE, &exact, now());
        assert_eq!((exact.state.as_str(), exact.delivered_at, exact.read_at), ("delivered", earlier(), None));
    }

    #[test]
    fn a_message_that_failed_is_settled() {
        assert_eq!(told("sent", MINUTE, &seen("failed")), ("failed".into(), None, vec!["failed"]));
        let verdict = judge("delivered", MINUTE, &seen("failed"), now());
        assert_eq!((verdict.state.as_str(), verdict.delivered_at), ("failed", None));
    }

    #[test]
    fn a_word_that_nobody_knows_is_kept_and_followed_on() {
        assert_eq!(told("sent", MINUTE, &seen("on hold")), ("on hold".into(), Some(2 * MINUTE), vec![]));
        assert_eq!(told("on hold", MINUTE, &Look::Unreadable), ("on hold".into(), Some(2 * MINUTE), vec![]));
        assert_eq!(told("delivered", MINUTE, &seen("on hold")), ("delivered".into(), Some(2 * MINUTE), vec![]));
    }

    #[test]
    fn at_the_end_what_was_not_delivered_is_unconfirmed() {
        for look in [seen("sent"), seen("on hold"), Look::Unreadable] {
            assert_eq!(told("sent", DAY, &look), ("unconfirmed".into(), None, vec![]), "{look:?}");
        }
        assert_eq!(told("sent", DAY, &seen("delivered")), ("delivered".into(), None, vec!["delivered"]));
        assert_eq!(told("delivered", DAY, &seen("delivered")), ("delivered".into(), None, vec![]));
    }

    #[test]
    fn chert_may_not_know_a_message_for_a_minute() {
        assert_eq!(told("sent", 59 * SECOND, &Look::NotFound), ("sent".into(), Some(2 * MINUTE), vec![]));
        assert_eq!(told("sent", MINUTE, &Look::NotFound), ("not_found".into(), None, vec![]));
        assert_eq!(told("delivered", DAY / 2, &Look::NotFound), ("delivered".into(), None, vec![]));
    }

    proptest! {
        #[test]
        fn looks_end_within_a_day_however_late_each_comes(lateness in prop::collection::vec(0u64..100_000, 1..20)) {
            let (mut age, mut looks) = (LOOKS[0], 0);
            for late in lateness.into_iter().cycle() {
                age += Duration::from_secs(late);
                looks += 1;
                match judge("sent", age, &seen("sent"), now()).next {
                    Some(next) => { prop_assert!(next > age); age = next; }
                    None => { prop_assert!(age >= DAY); break; }
                }
            }
            prop_assert!(looks <= LOOKS.len());
        }
    }
}
