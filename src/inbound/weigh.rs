//! What a batch of events says of each sender: the later word counts, whatever the order in which they came. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::inbound::event::{InboundMessage, Incoming};
use crate::inbound::optout::{Ask, Words};
use crate::phone::Phone;

/// One event and what it was taken for.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    pub event_id: String,
    pub at: DateTime<Utc>,
    /// Nothing for events that bring no message of somebody else's, which are kept and ignored.
    pub message: Option<(InboundMessage, Ask)>,
    /// A message of ours and the state it came to.
    pub delivery: Option<(String, String)>,
    /// It asks, or may ask, for a stop, from an address that is no number: who is meant, a person must find out.
    pub is_unaddressed_stop: bool,
}

impl Read {
    /// Reads a stored event: a message is looked for whatever the event's type, since a stop must not be missed for its name.
    pub fn of(event: &Incoming, words: &Words) -> Read {
        let message = event.message().filter(|_| !event.kind.starts_with("reaction."));
        let message = message.map(|message| {
            let ask = words.read(&message.text);
            (message, ask)
        });
        let unaddressed = event.unaddressed().map(|text| words.read(&text));
        Read {
            event_id: event.event_id.clone(),
            at: event.occurred_at,
            message,
            delivery: event.delivery(),
            is_unaddressed_stop: matches!(unaddressed, Some(Ask::Stop | Ask::Review(_))),
        }
    }

    /// What the database keeps of it.
    pub fn effect(&self) -> &'static str {
        match &self.message {
            None if self.is_unaddressed_stop => "unreadable",
            None if self.delivery.is_some() => "delivery",
            None => "ignored",
            Some((_, Ask::Stop)) => "opt_out",
            Some((_, Ask::Start)) => "opt_in",
            Some((_, Ask::Review(_))) => "review",
            Some((_, Ask::Nothing)) => "reply",
        }
    }
}

/// What is known of a recipient's own words before this batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    pub opted_out_at: Option<DateTime<Utc>>,
    pub opted_in_at: Option<DateTime<Utc>>,
}

/// What the batch says of one sender.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub last_inbound_at: DateTime<Utc>,
    pub opted_out_at: Option<DateTime<Utc>>,
    pub opted_in_at: Option<DateTime<Utc>>,
    /// To be suppressed, by the events that say so: each may cover something else. Oldest first.
    pub stops: Vec<String>,
    /// To be let back: the newest word is a start.
    pub start: bool,
    /// To be looked at by a person: the phrase that made it so.
    pub review: Option<String>,
    /// Our own number that the newest message came to.
    pub line_number: Option<String>,
}

/// Weighs a batch, sender by sender. A stop outweighs a start of the same instant, and what was known before counts too.
pub fn weigh(reads: &[Read], before: impl Fn(&Phone) -> Before) -> BTreeMap<Phone, Verdict> {
    let mut senders: BTreeMap<Phone, Vec<(&Read, &InboundMessage, &Ask)>> = BTreeMap::new();
    for read in reads {
        if let Some((message, ask)) = &read.message {
            senders.entry(message.from.clone()).or_default().push((read, message, ask));
        }
    }
    senders
        .into_iter()
        .map(|(phone, said)| {
            let before = before(&phone);
            let newest = |wanted: &Ask| said.iter().filter(|(.., ask)| *ask == wanted).max_by_key(|(read, ..)| read.at);
            let (stop, start) = (newest(&Ask::Stop), newest(&Ask::Start));
            let opted_out_at = before.opted_out_at.max(stop.map(|(read, ..)| read.at));
            let opted_in_at = before.opted_in_at.max(start.map(|(read, ..)| read.at));
            let is_out = opted_out_at.is_some() && opted_out_at >= opted_in_at;
            let mut stops: Vec<&Read> =
                said.iter().filter(|(.., ask)| **ask == Ask::Stop).map(|(read, ..)| *read).collect();
            stops.retain(|read| is_out && Some(read.at) >= opted_in_at);
            stops.sort_by_key(|read| read.at);
            let stops = stops.into_iter().map(|read| read.event_id.clone()).collect();
            let last = said.iter().max_by_key(|(read, ..)| read.at).expect("a sender said something");
            let review = said.iter().find_map(|(.., ask)| match ask {
                Ask::Review(phrase) => Some(phrase.clone()),
                _ => None,
            });
            let verdict = Verdict {
                last_inbound_at: last.0.at,
                opted_out_at,
                opted_in_at,
                stops,
                start: start.is_some() && !is_out,
                review,
                line_number: last.1.line_number.clone(),
            };
            (phone, verdict)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn phone() -> Phone {
        "+15550142200".parse().expect("valid")
    }

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(secs)
    }

    fn said(secs: i64, ask: Ask) -> Read {
        let message = InboundMessage { from: phone(), text: String::new(), attachments: Vec::new(), line_number: None };
        Read {
            event_id: format!("e{secs}"),
            at: at(secs),
            message: Some((message, ask)),
            delivery: None,
            is_unaddressed_stop: false,
        }
    }

    fn verdict(reads: &[Read], before: Before) -> Verdict {
        weigh(reads, |_| before).remove(&phone()).expect("the sender said something")
    }

    #[test]
    fn i10_the_later_word_counts_in_whatever_order_they_come() {
        let (stop, start) = (said(1, Ask::Stop), said(2, Ask::Start));
        for reads in [[stop.clone(), start.clone()], [start.clone(), stop.clone()]] {
            let verdict = verdict(&reads, Before::default());
            assert_eq!((verdict.stops.len(), verdict.start), (0, true));
        }
        // One after the other, the older one last.
        let after_start = Before { opted_in_at: Some(at(2)), opted_out_at: None };
        assert!(verdict(&[stop], after_start).stops.is_empty());
        let after_stop = Before { opted_in_at: None, opted_out_at: Some(at(3)) };
        assert!(!verdict(&[start], after_stop).start);
    }

    #[test]
    fn a_stop_outweighs_a_start_of_the_same_instant() {
        let verdict = verdict(&[said(1, Ask::Start), said(1, Ask::Stop)], Before::default());
        assert_eq!((verdict.stops, verdict.start), (vec!["e1".to_owned()], false));
    }

    #[test]
    fn a_phrase_holds_for_review_and_a_reply_asks_nothing() {
        let verdict =
            verdict(&[said(1, Ask::Nothing), said(2, Ask::Review("wrong number".to_owned()))], Before::default());
        assert_eq!((verdict.review.as_deref(), verdict.stops.len(), verdict.start), (Some("wrong number"), 0, false));
        assert_eq!(verdict.last_inbound_at, at(2));
    }

    #[test]
    fn a_stop_from_an_address_that_is_no_number_is_not_ignored() {
        let effect = |text: &str, handle: &str| {
            let event = serde_json::json!({"event": "message.received", "from": handle, "text": text}).to_string();
            let event = Incoming::read(&event, at(1)).expect("an event");
            Read::of(&event, &Words::default()).effect()
        };
        for text in ["stop", "please remove me"] {
            assert_eq!(effect(text, "someone@icloud.com"), "unreadable", "{text}");
        }
        assert_eq!(effect("hello", "someone@icloud.com"), "ignored");
        assert_eq!(effect("stop", "+15550142200"), "opt_out");
    }

    proptest! {
        /// However a person's stops and starts are cut into batches and ordered, the newest of them decides.
        #[test]
        fn i10_any_cut_and_any_order_end_the_same(
            asks in proptest::collection::vec((0i64..50, any::<bool>()), 1..12).prop_shuffle(), cut in 0usize..12,
        ) {
            let reads: Vec<Read> =
                asks.iter().map(|(secs, stops)| said(*secs, if *stops { Ask::Stop } else { Ask::Start })).collect();
            let newest = asks.iter().map(|(secs, _)| *secs).max().expect("not empty");
            let stopped = asks.iter().any(|(secs, stops)| *secs == newest && *stops);
            let mut before = Before::default();
            let mut out = false;
            let (first, second) = reads.split_at(cut.min(reads.len()));
            for batch in [first, second] {
                if batch.is_empty() {
                    continue;
                }
                let verdict = verdict(batch, before);
                out = !verdict.stops.is_empty() || (out && !verdict.start);
                before = Before { opted_out_at: verdict.opted_out_at, opted_in_at: verdict.opted_in_at };
            }
            prop_assert_eq!(out, stopped);
        }
    }
}
