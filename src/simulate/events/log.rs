//! The log of events: the newest, at most `limit` and no older than the retention, found by number or id.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;
use tokio::sync::watch;
use uuid::Uuid;

use super::event::{Event, EventDelivery, EventStatus, timestamp};
use crate::simulate::clock::{Clock, micros};
use crate::simulate::options::Options;

/// Second, in microseconds: how coarse `created_at` is if ties are asked for.
const SECOND_US: i64 = 1_000_000;

/// What happened, before it has a place in the log.
pub struct Happening {
    pub kind: &'static str,
    pub event_id: String,
    pub lead_id: Uuid,
    pub convo_id: Uuid,
    /// Real microseconds since the start.
    pub at_us: i64,
    /// The envelope's `data`.
    pub data: Box<RawValue>,
}

/// Which events a caller asks for.
#[derive(Default)]
pub struct Filter {
    pub kind: Option<String>,
    pub status: Option<EventStatus>,
    pub lead_id: Option<String>,
    /// Strictly after, on `created_at`.
    pub since: Option<DateTime<Utc>>,
    /// Only older ones than the one with this number.
    pub before_seq: Option<u64>,
    /// Only what a subscription to the dev-inbox took.
    pub in_dev_inbox: bool,
}

/// All events that are remembered.
pub struct Log {
    events: VecDeque<Event>,
    by_id: HashMap<String, u64>,
    limit: usize,
    retention_us: i64,
    has_ties: bool,
    partner_id: Arc<str>,
    clock: Clock,
    next_seq: u64,
    last_created_at: DateTime<Utc>,
    dropped: u64,
    /// Number of the newest event: streams wait for it to change, and then read from the log, which is their buffer.
    newest: watch::Sender<u64>,
}

impl Log {
    /// An empty log.
    pub fn new(options: &Options, clock: Clock) -> Log {
        Log {
            events: VecDeque::new(),
            by_id: HashMap::new(),
            limit: options.events.event_limit,
            retention_us: clock.real_us(micros(options.events.event_retention)),
            has_ties: options.events.event_ties,
            partner_id: options.tenant.as_str().into(),
            clock,
            next_seq: 1,
            last_created_at: DateTime::<Utc>::MIN_UTC,
            dropped: 0,
            newest: watch::Sender::new(0),
        }
    }

    /// Appends an event, and drops what is too old or too many. Returns its number.
    pub fn append(&mut self, happening: Happening) -> u64 {
        let Happening { kind, event_id, lead_id, convo_id, at_us, data } = happening;
        self.forget_old(at_us);
        if self.events.len() >= self.limit {
            self.drop_oldest();
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        let created_at = self.next_created_at(at_us);
        let id = format!("evt_{:032x}", rand::random::<u128>());
        self.by_id.insert(id.clone(), seq);
        self.events.push_back(Event {
            seq,
            id,
            event_id,
            kind,
            lead_id,
            convo_id,
            created_at,
            delivery: EventDelivery::default(),
            at_us,
            trace_id: format!("{:08x}", rand::random::<u32>()),
            partner_id: Arc::clone(&self.partner_id),
            data,
        });
        self.newest.send_replace(seq);
        seq
    }

    /// All events, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> + ExactSizeIterator {
        self.events.iter()
    }

    /// The event with this number, if it is still there.
    pub fn get(&self, seq: u64) -> Option<&Event> {
        self.index(seq).and_then(|index| self.events.get(index))
    }

    /// The same, to write down how its delivery went.
    pub fn get_mut(&mut self, seq: u64) -> Option<&mut Event> {
        self.index(seq).and_then(|index| self.events.get_mut(index))
    }

    /// The event with this `evt_…` id.
    pub fn with_id(&self, id: &str) -> Option<&Event> {
        self.by_id.get(id).and_then(|seq| self.get(*seq))
    }

    /// At most `limit` events that fit, newest first, and the cursor of the next page if there is one.
    pub fn page(&self, filter: &Filter, limit: usize) -> (Vec<Event>, Option<String>) {
        let end = filter.before_seq.map_or(self.events.len(), |seq| self.index(seq).unwrap_or(0));
        let fitting = self.events.range(..end).rev().take_while(|event| filter.is_since(event));
        let mut page: Vec<Event> = fitting.filter(|event| filter.fits(event)).take(limit + 1).cloned().collect();
        let has_more = page.len() > limit;
        page.truncate(limit);
        let last = page.last().filter(|_| has_more);
        let cursor = last.map(|event| format!("{}|{}", timestamp(event.created_at), event.id));
        (page, cursor)
    }

    /// The number of the event that a cursor names; 0, with nothing before it, if that was dropped meanwhile. `None` if it
    /// is no cursor.
    pub fn seq_of_cursor(&self, cursor: &str) -> Option<u64> {
        let (created_at, id) = cursor.split_once('|')?;
        DateTime::parse_from_rfc3339(created_at).ok()?;
        id.starts_with("evt_").then(|| self.by_id.get(id).copied().unwrap_or(0))
    }

    /// Number of the last event up to and including `since`; of the last one at all without.
    pub fn seq_at(&self, since: Option<DateTime<Utc>>) -> u64 {
        let newer =
            since.map_or(0, |since| self.events.len() - self.events.partition_point(|event| event.created_at <= since));
        self.next_seq - 1 - newer as u64
    }

    /// At most `limit` events after the one with this number, oldest first.
    pub fn after(&self, seq: u64, limit: usize) -> impl Iterator<Item = &Event> {
        let start = self.index(seq + 1).unwrap_or(0).min(self.events.len());
        self.events.range(start..).take(limit)
    }

    /// Tells of every new event by its number, the newest alone if several came.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// How many events were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops what is too old at `now_us`.
    pub fn forget_old(&mut self, now_us: i64) {
        let oldest_us = now_us.saturating_sub(self.retention_us);
        while self.events.front().is_some_and(|event| event.at_us < oldest_us) {
            self.drop_oldest();
        }
    }

    /// Callers remember the newest time that they saw, so none may be handed out twice, nor out of order.
    fn next_created_at(&mut self, at_us: i64) -> DateTime<Utc> {
        let at = whole_micros(self.clock.calendar(at_us));
        let created_at = if self.has_ties {
            let past_second = TimeDelta::microseconds(at.timestamp_micros().rem_euclid(SECOND_US));
            self.last_created_at.max(at - past_second)
        } else {
            at.max(self.last_created_at + TimeDelta::microseconds(1))
        };
        self.last_created_at = created_at;
        created_at
    }

    /// Where the event with this number is; `None` if it was dropped. One past the end for the next number.
    fn index(&self, seq: u64) -> Option<usize> {
        let first_seq = self.next_seq - self.events.len() as u64;
        seq.checked_sub(first_seq).map(|index| index as usize)
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.events.pop_front() {
            self.by_id.remove(&oldest.id);
            self.dropped += 1;
        }
    }
}

impl Filter {
    fn is_since(&self, event: &Event) -> bool {
        self.since.is_none_or(|since| event.created_at > since)
    }

    fn fits(&self, event: &Event) -> bool {
        self.kind.as_ref().is_none_or(|kind| event.kind == kind)
            && self.status.is_none_or(|status| event.delivery.status() == status)
            && self.lead_id.as_ref().is_none_or(|lead_id| event.lead_id.to_string() == *lead_id)
            && (!self.in_dev_inbox || event.delivery.is_in_dev_inbox)
    }
}

/// As it is told: a time with nanoseconds would be later than what a caller reads of it, and come again.
fn whole_micros(time: DateTime<Utc>) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.timestamp_micros()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::simulate::options::EventOptions;

    fn log(events: EventOptions) -> Log {
        Log::new(&Options { events, ..Options::default() }, Clock::start(1.0, TimeDelta::zero()))
    }

    fn append(log: &mut Log, at_us: i64) -> u64 {
        log.append(Happening {
            kind: "message.received",
            event_id: format!("chert:msg:{at_us}"),
            lead_id: Uuid::nil(),
            convo_id: Uuid::nil(),
            at_us,
            data: serde_json::value::to_raw_value(&json!({})).expect("serialisable"),
        })
    }

    fn seqs(page: &[Event]) -> Vec<u64> {
        page.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn since_is_strictly_after_and_loses_nobody() {
        let mut log = log(EventOptions::default());
        for at_us in [5, 5, 4, 5, 7] {
            append(&mut log, at_us);
        }
        let times: Vec<DateTime<Utc>> = log.events().map(|event| event.created_at).collect();
        assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
        for (index, time) in times.iter().enumerate() {
            let since = Some(timestamp(*time).parse().expect("a time"));
            let (page, _) = log.page(&Filter { since, ..Filter::default() }, 200);
            assert_eq!(page.len(), times.len() - index - 1);
            assert_eq!(log.seq_at(since), index as u64 + 1);
        }
        assert_eq!(log.seq_at(None), 5);
    }

    #[test]
    fn ties_share_their_second_and_since_loses_them() {
        let mut log = log(EventOptions { event_ties: true, ..EventOptions::default() });
        for at_us in [0, 1, 2, 5_000_000] {
            append(&mut log, at_us);
        }
        let times: Vec<DateTime<Utc>> = log.events().map(|event| event.created_at).collect();
        assert!(times.iter().all(|time| time.timestamp_subsec_micros() == 0));
        assert!(times.is_sorted() && times[2] < times[3]);
        let since = Some(timestamp(times[0]).parse().expect("a time"));
        let tied = times.iter().filter(|time| **time == times[0]).count();
        assert_eq!(log.page(&Filter { since, ..Filter::default() }, 10).0.len(), 4 - tied);
    }

    #[test]
    fn pages_go_from_new_to_old_and_the_cursor_goes_on() {
        let mut log = log(EventOptions::default());
        for at_us in 1..=5 {
            append(&mut log, at_us);
        }
        let (first, cursor) = log.page(&Filter::default(), 2);
        assert_eq!(seqs(&first), [5, 4]);
        append(&mut log, 6);
        let before_seq = log.seq_of_cursor(&cursor.expect("there is more"));
        let (second, cursor) = log.page(&Filter { before_seq, ..Filter::default() }, 3);
        assert_eq!((seqs(&second), cursor), (vec![3, 2, 1], None));
        assert_eq!(log.seq_of_cursor("nonsense"), None);
    }

    #[test]
    fn the_limit_and_the_retention_drop_the_oldest() {
        let mut log =
            log(EventOptions { event_limit: 2, event_retention: Duration::from_micros(10), ..EventOptions::default() });
        for at_us in 1..=3 {
            append(&mut log, at_us);
        }
        assert_eq!((log.dropped(), log.by_id.len()), (1, 2));
        assert!(log.get(1).is_none() && log.get(2).is_some() && log.get(4).is_none());
        assert_eq!(log.after(0, 10).map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(log.after(3, 10).count(), 0);
        log.forget_old(13);
        assert_eq!(seqs(&log.page(&Filter::default(), 10).0), [3]);
        log.forget_old(14);
        assert!(log.events.is_empty() && log.by_id.is_empty());
        assert_eq!(append(&mut log, 14), 4);
    }
}
