//! Scripted recipients: what somebody does follows from the last two digits of their number, and trials know it beforehand.

use super::clock::{Stamp, micros};
use super::fate::MessageState;
use super::inbound::{Inbound, Reaction};
use super::options::Recipients;
use super::state::State;
use super::timetable::Deed;
use uuid::Uuid;

/// How the numbers that end in 60 to 69 say stop, in this order.
pub const STOPS: [&str; 10] =
    ["STOP", "stop.", "Stop!", "\"stop\"", "UNSUBSCRIBE", "opt out", "Opt-Out", "CANCEL", "  quit ", "stop all"];

/// What somebody does once our first message to them is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// 00 to 39: nothing.
    Silent,
    /// 40 to 59: writes `Yes please`.
    Replies,
    /// 60 to 69: says stop, in one of ten spellings.
    Stops(&'static str),
    /// 70 to 74: reacts with `love`.
    Reacts,
    /// 75 to 79: reacts with `like`, and takes it back.
    ReactsAndTakesItBack,
    /// 80 to 84: wrote before we did, and then nothing more.
    WroteFirst,
    /// 85 to 89: says `STOP`, and later `START`.
    StopsThenStarts,
    /// 90 to 94: writes `please remove me`.
    AsksToBeRemoved,
    /// 95 to 99: writes `Tell me more` to this and to every later message.
    RepliesToEvery,
}

impl Habit {
    /// The habit of this phone, E.164.
    pub fn of(phone: &str) -> Habit {
        let digits = phone.len().checked_sub(2).and_then(|start| phone.get(start..)?.parse().ok());
        match digits.unwrap_or(0_usize) {
            40..=59 => Habit::Replies,
            ending @ 60..=69 => Habit::Stops(STOPS[ending - 60]),
            70..=74 => Habit::Reacts,
            75..=79 => Habit::ReactsAndTakesItBack,
            80..=84 => Habit::WroteFirst,
            85..=89 => Habit::StopsThenStarts,
            90..=94 => Habit::AsksToBeRemoved,
            95..=99 => Habit::RepliesToEvery,
            _ => Habit::Silent,
        }
    }
}

impl State {
    /// Before a message to `phone` is decided about: some wrote to us before.
    pub fn write_first(&mut self, phone: &str, now: Stamp) {
        let is_scripted = self.options.messages.recipients == Recipients::Scripted;
        if is_scripted && Habit::of(phone) == Habit::WroteFirst && !self.leads.contains_key(phone) {
            // The decision that follows finds the reason itself, if it is that there are too many phones.
            drop(self.receive(&text(phone, "Is this the right number?"), now));
        }
    }

    /// After a message was put on a phone: enters what comes of it. `is_first` says whether it is our first to them.
    pub fn follow_up(&mut self, message_id: Uuid, is_first: bool) {
        let is_scripted = self.options.messages.recipients == Recipients::Scripted;
        if !is_scripted && !self.options.events.delivery_events {
            return;
        }
        let Some(entry) = self.ledger.with_message(message_id) else { return };
        let (fate, phone) = (self.fate(entry), entry.phone.clone());
        if self.options.events.delivery_events {
            for state in [MessageState::Delivered, MessageState::Read, MessageState::Failed] {
                if let Some(at_us) = fate.time_of(state) {
                    self.timetable.enter(at_us, Deed::Tell(message_id, state));
                }
            }
        }
        if let Some(delivered_us) = fate.delivered_us.filter(|_| is_scripted) {
            let wait_us = self.clock.real_us(micros(self.options.messages.reply_after));
            let times = (1..).map(|n| delivered_us.saturating_add(wait_us.saturating_mul(n)));
            for (at_us, deed) in times.zip(deeds(message_id, &phone, is_first)) {
                self.timetable.enter(at_us, deed);
            }
        }
    }
}

/// What a scripted recipient does about a message, in order.
fn deeds(message_id: Uuid, phone: &str, is_first: bool) -> Vec<Deed> {
    let says = |what| Deed::Receive(text(phone, what));
    let reacts = |reaction: &str, removed| {
        let reaction = Some(reaction.to_owned());
        let message_id = Some(message_id.simple().to_string());
        Deed::React(Reaction { phone: phone.to_owned(), message_id, reaction, removed, event_id: None })
    };
    match Habit::of(phone) {
        Habit::RepliesToEvery => vec![says("Tell me more")],
        _ if !is_first => vec![],
        Habit::Silent | Habit::WroteFirst => vec![],
        Habit::Replies => vec![says("Yes please")],
        Habit::Stops(spelling) => vec![says(spelling)],
        Habit::Reacts => vec![reacts("love", false)],
        Habit::ReactsAndTakesItBack => vec![reacts("like", false), reacts("like", true)],
        Habit::StopsThenStarts => vec![says("STOP"), says("START")],
        Habit::AsksToBeRemoved => vec![says("please remove me")],
    }
}

fn text(phone: &str, text: &str) -> Inbound {
    Inbound { phone: phone.to_owned(), text: Some(text.to_owned()), ..Inbound::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_of_the_help_text() {
        let habits: Vec<Habit> = (0..100).map(|ending| Habit::of(&format!("+155501422{ending:02}"))).collect();
        let count = |habit| habits.iter().filter(|one| **one == habit).count();
        assert_eq!(count(Habit::Silent), 40);
        assert_eq!(habits[40..60], [Habit::Replies; 20]);
        assert_eq!(habits[60..70], STOPS.map(Habit::Stops));
        assert_eq!((habits[70], habits[74], habits[75], habits[79]), {
            (Habit::Reacts, Habit::Reacts, Habit::ReactsAndTakesItBack, Habit::ReactsAndTakesItBack)
        });
        assert_eq!(habits[80..85], [Habit::WroteFirst; 5]);
        assert_eq!(habits[85..90], [Habit::StopsThenStarts; 5]);
        assert_eq!(habits[90..95], [Habit::AsksToBeRemoved; 5]);
        assert_eq!(habits[95..], [Habit::RepliesToEvery; 5]);
    }
}
