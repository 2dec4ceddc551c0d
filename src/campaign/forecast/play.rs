//! A campaign played event by event: its people and steps against the budgets of the lines. Pure.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::campaign::file::words::Cap;
use crate::campaign::forecast::budget::{Budget, Line, Made};
use crate::campaign::forecast::group::Group;
use crate::campaign::forecast::lengths::{Answers, Lengths};
use crate::campaign::forecast::room::Room;
use crate::campaign::forecast::{Beside, Entrant, Forecast, Others, Pin, Place, Rules};
use crate::campaign::opening::{Opening, place};
use crate::campaign::program::{Message, Op};
use crate::campaign::walk::{Clocks, until};

/// At one instant people come first, so that a line finds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Person(usize),
    Room(usize),
    Line(usize),
}

/// Where somebody stands.
struct Standing {
    step: usize,
    /// When the message that waits fell due.
    due: Option<DateTime<Utc>>,
    pin: Option<usize>,
    is_new: bool,
    sent: Vec<DateTime<Utc>>,
    unanswered: u32,
    /// Who share zones and region share their hours.
    group: usize,
}

pub(super) struct Play<'a> {
    rules: Rules<'a>,
    entrants: &'a [Entrant],
    people: Vec<Standing>,
    budgets: Vec<Budget>,
    pub groups: Vec<Group>,
    /// Messages that any line may take: follow-ups of who is known and has no line, and first touches.
    anyone: [Made; 2],
    rooms: Vec<Room>,
    half_answer: bool,
    lengths: Lengths,
    events: BinaryHeap<Reverse<(DateTime<Utc>, Event)>>,
    pub forecast: Forecast,
}

impl Standing {
    /// Which room a message of theirs takes.
    fn room(&self) -> usize {
        first_room(self.pin) + usize::from(self.is_new)
    }
}

impl<'a> Play<'a> {
    pub fn new(rules: Rules<'a>, lines: &[Line], entrants: &'a [Entrant]) -> Play<'a> {
        let mut groups: Vec<Group> = Vec::new();
        let mut known: HashMap<(&[Tz], Option<&str>), usize> = HashMap::new();
        let mut people = Vec::with_capacity(entrants.len());
        let mut events = BinaryHeap::with_capacity(entrants.len());
        for (person, entrant) in entrants.iter().enumerate() {
            let group = *known.entry((&entrant.zones, entrant.region)).or_insert_with(|| {
                let hours = rules.hours.in_region(entrant.region);
                groups.push(Group::new(hours, entrant.zones.clone()));
                groups.len() - 1
            });
            let pin = if let Pin::Line(line) = entrant.pin { Some(line) } else { None };
            let is_new = entrant.is_new;
            // Nothing is allocated for somebody who got nothing.
            let (sent, unanswered) = (entrant.sent.clone(), entrant.unanswered);
            people.push(Standing { step: 0, due: None, pin, is_new, sent, unanswered, group });
            events.push(Reverse((entrant.at, Event::Person(person))));
        }
        let budgets = lines.iter().map(Budget::new).collect();
        let lengths = Lengths::of(rules.program);
        let (anyone, forecast) = ([Made::new(), Made::new()], Forecast::default());
        let rooms = Room::of_lines(lines.len());
        Play { rules, entrants, people, budgets, groups, anyone, rooms, half_answer: false, lengths, events, forecast }
    }

    pub fn beside(mut self, beside: Beside<'_>) -> Play<'a> {
        self.half_answer = beside.half_answer;
        for (line, Others { queued, in_turn }) in beside.others.iter().enumerate() {
            // They do not wait for the campaign.
            let now = self.budgets[line].put_beside(*queued, in_turn.clone());
            self.plan(line, now);
        }
        self
    }

    /// Who are at no place begin at the first step.
    pub fn from(mut self, places: Vec<Place>) -> Play<'a> {
        for (standing, place) in self.people.iter_mut().zip(places) {
            (standing.step, standing.due) = (place.step, place.due);
        }
        self
    }

    /// Plays it to its end.
    pub fn run(mut self) -> Forecast {
        while self.turn() {}
        self.forecast.stuck += self.left_waiting();
        self.forecast
    }

    /// Plays the next event, and tells whether there was one.
    pub fn turn(&mut self) -> bool {
        let Some(Reverse((at, event))) = self.events.pop() else { return false };
        match event {
            Event::Person(person) => self.go_on(person, at),
            Event::Room(room) => self.look(room, at),
            Event::Line(line) => self.serve(line, at),
        }
        true
    }

    /// Somebody goes on at this instant, until they wait for time or for a line.
    fn go_on(&mut self, person: usize, at: DateTime<Utc>) {
        let entrant = &self.entrants[person];
        let program = self.rules.program;
        while let Some(step) = program.get(self.people[person].step) {
            let next = self.people[person].step + 1;
            match &step.op {
                Op::End => return,
                Op::Jump(to) => self.people[person].step = *to,
                Op::Branch { when, otherwise } => {
                    let answers = Answers::of(when, &entrant.vars, self.rules.labels);
                    // Whoever it cannot be answered of is held there.
                    let Some(to) = self.lengths.after(self.rules.way, &answers, next, *otherwise) else { return };
                    let standing = &mut self.people[person];
                    standing.step = to;
                    if answers.needs_a_reply(to == next) {
                        standing.unanswered = 0;
                    }
                }
                Op::Wait(wait) => {
                    self.people[person].step = next;
                    let clocks = Clocks { zone: entrant.zones[0], calendar: self.rules.calendar };
                    return self.events.push(Reverse((until(*wait, at, clocks), Event::Person(person))));
                }
                Op::Send(_) if entrant.no_text_at.contains(&(next - 1)) => return,
                Op::Send(_) => return self.queue(person, at),
            }
        }
    }

    /// A message is due: it waits for the recipient's hours and caps, and then for its line.
    fn queue(&mut self, person: usize, at: DateTime<Utc>) {
        let standing = &mut self.people[person];
        if self.rules.unanswered_limit.is_some_and(|limit| standing.unanswered >= u32::from(limit)) {
            self.forecast.steps.entry(standing.step).or_default().unanswered += 1;
            return;
        }
        if self.entrants[person].pin == Pin::Resting {
            return self.forecast.stuck += 1;
        }
        standing.due.get_or_insert(at);
        let allowed = self.rules.cap.and_then(|cap| free_at(cap, &standing.sent)).unwrap_or(at).max(at);
        let later = match self.groups[standing.group].opening(allowed) {
            Opening::Open { .. } => allowed,
            Opening::Later { at, spread } => place(person as i64, at, spread),
            Opening::Never => return self.forecast.stuck += 1,
        };
        if later > at {
            return self.events.push(Reverse((later, Event::Person(person))));
        }
        let room = self.people[person].room();
        self.rooms[room].waiting.push(self.people[person].group, person);
        self.fill(room, at);
    }

    /// Makes messages as long as there is room, for who waits and may be written to.
    fn fill(&mut self, room: usize, at: DateTime<Utc>) {
        while !self.rooms[room].is_full() {
            let Room { waiting, standing, next, .. } = &mut self.rooms[room];
            let Some(person) = waiting.pop(&mut self.groups, at) else {
                let opens = waiting.opens_at(&mut self.groups, at);
                if let Some(opens) = opens.filter(|opens| next.is_none_or(|next| *opens < next)) {
                    *next = Some(opens);
                    self.events.push(Reverse((opens, Event::Room(room))));
                }
                return;
            };
            *standing += 1;
            self.make(person, at);
        }
    }

    /// Hours of somebody who waits have opened.
    fn look(&mut self, room: usize, at: DateTime<Utc>) {
        if self.rooms[room].next == Some(at) {
            self.rooms[room].next = None;
            self.fill(room, at);
        }
    }

    fn make(&mut self, person: usize, at: DateTime<Utc>) {
        let Standing { pin, is_new, .. } = self.people[person];
        let Some(line) = pin else {
            let queue = &mut self.anyone[usize::from(is_new)];
            queue.push_back((at, person));
            if queue.len() == 1 {
                // Lines know of the others.
                (0..self.budgets.len()).for_each(|line| self.plan(line, at));
            }
            return;
        };
        let budget = &mut self.budgets[line];
        let queue = if is_new { &mut budget.first_touches } else { &mut budget.follow_ups };
        queue.push_back((at, person));
        self.plan(line, at);
    }

    /// A line has its turn: one message, and it plans its next turn.
    fn serve(&mut self, line: usize, at: DateTime<Utc>) {
        if self.budgets[line].next != Some(at) {
            return;
        }
        self.budgets[line].next = None;
        self.budgets[line].begin_day(at);
        let budget = &self.budgets[line];
        let opens = (at >= budget.follow_up_at(at), budget.first_touch_at(at).is_some_and(|opens| at >= opens));
        if let Some(is_first_touch) = self.budgets[line].take_of_others(opens) {
            self.budgets[line].spend(is_first_touch, at);
        } else if let Some(person) = self.take(line, at, opens) {
            // With a line left to Chert, who wrote to us first may have no pin and be no first touch.
            let is_new = self.people[person].is_new;
            self.send(person, line, is_new, at);
        } else if let Some(is_first_touch) = self.budgets[line].take_of_others(opens) {
            self.budgets[line].spend(is_first_touch, at);
        }
        let (any, own) = (first_room(None), first_room(Some(line)));
        for room in [any, any + 1, own, own + 1] {
            self.fill(room, at);
        }
        self.plan(line, at);
    }

    /// Who may be written to now; of those before them the message has expired, or their hours have ended before their turn.
    fn take(&mut self, line: usize, at: DateTime<Utc>, opens: (bool, bool)) -> Option<usize> {
        while let Some(person) = self.pop(line, opens) {
            let standing = &self.people[person];
            let (step, room, group) = (standing.step, &mut self.rooms[standing.room()], standing.group);
            room.standing -= 1;
            if !matches!(self.groups[group].opening(at), Opening::Open { .. }) {
                room.waiting.push(group, person);
                continue;
            }
            let deadline = self.message(step).and_then(|message| {
                standing.due?.checked_add_signed(TimeDelta::from_std(message.expires_after?.0).ok()?)
            });
            if deadline.is_none_or(|deadline| at <= deadline) {
                return Some(person);
            }
            self.forecast.steps.entry(step).or_default().expired += 1;
        }
        None
    }

    /// Takes what was made first of what the line may send now: a follow-up, a first touch, or both. So do claims.
    fn pop(&mut self, line: usize, opens: (bool, bool)) -> Option<usize> {
        let (budget, [any_follow_ups, any_first_touches]) = (&mut self.budgets[line], &mut self.anyone);
        let queues = [
            (opens.0, &mut budget.follow_ups),
            (opens.0, any_follow_ups),
            (opens.1, &mut budget.first_touches),
            (opens.1, any_first_touches),
        ];
        let open = queues.into_iter().filter_map(|(opens, queue)| opens.then_some(queue));
        let heads = open.filter_map(|queue| Some((queue.front()?.0, queue)));
        let (_, queue) = heads.min_by_key(|(made_at, _)| *made_at)?;
        queue.pop_front().map(|(_, person)| person)
    }

    fn send(&mut self, person: usize, line: usize, is_first_touch: bool, at: DateTime<Utc>) {
        let day = self.budgets[line].spend(is_first_touch, at);
        let load = self.forecast.loads.entry((day, line)).or_default();
        if is_first_touch {
            load.first_touches += 1;
        } else {
            load.follow_ups += 1;
        }
        self.forecast.first_at.get_or_insert(at);
        self.forecast.last_at = Some(at);
        let standing = &mut self.people[person];
        self.forecast.steps.entry(standing.step).or_default().sent += 1;
        (standing.pin, standing.is_new, standing.due) = (Some(line), false, None);
        standing.step += 1;
        standing.unanswered += 1;
        if self.rules.cap.is_some() {
            standing.sent.push(at);
        }
        if self.half_answer && answers(person) {
            return;
        }
        self.events.push(Reverse((at, Event::Person(person))));
    }

    /// Sets the line's next turn, if it has anything to do.
    fn plan(&mut self, line: usize, at: DateTime<Utc>) {
        let budget = &self.budgets[line];
        let [any_follow_ups, any_first_touches] = &self.anyone;
        let others_have = budget.others_have();
        let follows = others_have.0 || !budget.follow_ups.is_empty() || !any_follow_ups.is_empty();
        let touches = others_have.1 || !budget.first_touches.is_empty() || !any_first_touches.is_empty();
        let follow_up = follows.then(|| budget.follow_up_at(at));
        let first_touch = touches.then(|| budget.first_touch_at(at)).flatten();
        let next = [follow_up, first_touch].into_iter().flatten().min();
        if let Some(next) = next.filter(|next| budget.next.is_none_or(|planned| *next < planned)) {
            self.budgets[line].next = Some(next);
            self.events.push(Reverse((next, Event::Line(line))));
        }
    }

    fn message(&self, step: usize) -> Option<&'a Message> {
        match &self.rules.program.get(step)?.op {
            Op::Send(message) => Some(message),
            _ => None,
        }
    }

    pub fn left_waiting(&self) -> u32 {
        self.rooms.iter().map(|room| room.standing + room.waiting.len()).sum::<usize>() as u32
    }
}

/// The room of follow-ups by this line, or by any; the one of first touches is next to it.
fn first_room(line: Option<usize>) -> usize {
    2 * line.map_or(0, |line| line + 1)
}

/// One of every two people, and not by a rhythm that could be that of the lines: which one goes by the golden ratio.
fn answers(person: usize) -> bool {
    let other = (person as u64 / 2).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63;
    person as u64 & 1 == other
}

/// From when on somebody may be written to again.
fn free_at(cap: Cap, sent: &[DateTime<Utc>]) -> Option<DateTime<Utc>> {
    let oldest = sent.len().checked_sub(cap.messages as usize)?;
    sent.get(oldest)?.checked_add_signed(TimeDelta::from_std(cap.within.0).ok()?)
}
