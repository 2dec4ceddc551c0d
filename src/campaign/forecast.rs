//! When a campaign's messages go out: its people and steps against the budgets of the lines, event by event. What nobody can know
//! yet, such as who replies, is taken one way or the other. Pure.

mod budget;
mod group;
mod lengths;
mod room;
mod waiting;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::campaign::calendar::Calendar;
use crate::campaign::file::words::Cap;
use crate::campaign::forecast::budget::{Budget, Made};
use crate::campaign::forecast::group::Group;
use crate::campaign::forecast::room::Room;
use crate::campaign::opening::{Opening, place};
use crate::campaign::program::{Message, Op, Program};
use crate::campaign::running::Running;
use crate::campaign::template::Vars;
use crate::campaign::walk::{Clocks, until};
use crate::campaign::window::Windows;

pub use budget::{Line, Load};
pub(super) use lengths::{Answers, Lengths};

/// Somebody who is enrolled.
#[derive(Debug, Clone)]
pub struct Entrant {
    pub at: DateTime<Utc>,
    pub vars: Vars,
    /// Where they may be, at least one zone; the first one tells their times of day.
    pub zones: Vec<Tz>,
    pub region: Option<&'static str>,
    /// The place of their line among the lines.
    pub pin: Option<usize>,
    /// Nobody has written to them, nor they to us.
    pub is_new: bool,
    /// Steps that have no text for them, which ends or holds it there.
    pub no_text_at: Vec<usize>,
}

/// Which way a branch is taken whose condition hangs on what is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The one that is over sooner.
    Short,
    /// The one that takes longer.
    Long,
}

/// What holds for everybody.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub program: &'a Program,
    pub hours: &'a Windows,
    pub calendar: Option<&'static Calendar>,
    pub labels: &'a BTreeMap<String, String>,
    pub cap: Option<Cap>,
    pub way: Way,
}

impl<'a> Rules<'a> {
    /// Those of a version, on this way through its branches.
    pub fn of(running: &'a Running, way: Way) -> Rules<'a> {
        Rules {
            program: &running.program,
            hours: &running.hours,
            calendar: running.calendar,
            labels: &running.campaign.labels,
            cap: running.campaign.caps.per_recipient,
            way,
        }
    }
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    pub sent: u32,
    /// Their deadline came before their turn, which ends these enrolments.
    pub expired: u32,
}

/// How it comes out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    /// By day, by the line's clock, and the line's place.
    pub loads: BTreeMap<(NaiveDate, usize), Load>,
    /// By index of the program.
    pub steps: BTreeMap<usize, Fate>,
    pub first_at: Option<DateTime<Utc>>,
    pub last_at: Option<DateTime<Utc>>,
    /// People whose hours never open, or for whom there is no line.
    pub stuck: u32,
}

/// Where somebody stands who is in the middle of it.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub step: usize,
    /// When the message of that step fell due, if it is one that sends.
    pub due: Option<DateTime<Utc>>,
    /// What they got before and what still counts under a cap, the oldest first.
    pub sent: Vec<DateTime<Utc>>,
}

/// What bears upon it from outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// What else is queued for each line, by its place, and goes first.
    pub queued: &'a [Load],
    /// Every second person answers their first message, which ends it for them.
    pub half_answer: bool,
}

/// Plays it beside all else that happens. The work is about that of sorting all messages.
pub fn forecast(rules: Rules<'_>, lines: &[Line], entrants: &[Entrant], beside: Beside<'_>) -> Forecast {
    let mut play = Play::new(rules, lines, entrants);
    play.half_answer = beside.half_answer;
    for (line, queued) in beside.queued.iter().enumerate() {
        // They do not wait for the campaign.
        let now = play.budgets[line].put_before(*queued);
        play.plan(line, now);
    }
    run(play)
}

/// The same from where each of them stands, as if nothing else happened; who is at no place begins at the first step.
pub fn resume(rules: Rules<'_>, lines: &[Line], entrants: &[Entrant], places: Vec<Place>) -> Forecast {
    let mut play = Play::new(rules, lines, entrants);
    for (standing, place) in play.people.iter_mut().zip(places) {
        standing.written = rules.program.steps()[..place.step].iter().any(|step| matches!(step.op, Op::Send(_)));
        (standing.step, standing.due, standing.sent) = (place.step, place.due, place.sent);
    }
    run(play)
}

fn run(mut play: Play<'_>) -> Forecast {
    while play.turn() {}
    play.forecast.stuck += play.left_waiting();
    play.forecast
}

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
    /// The campaign has sent them something.
    written: bool,
    sent: Vec<DateTime<Utc>>,
    /// Who share zones and region share their hours.
    group: usize,
}

struct Play<'a> {
    rules: Rules<'a>,
    entrants: &'a [Entrant],
    people: Vec<Standing>,
    budgets: Vec<Budget>,
    groups: Vec<Group>,
    /// Messages that any line may take.
    anyone: Made,
    /// Of later messages, then of everybody's first one.
    rooms: [Room; 2],
    half_answer: bool,
    lengths: Lengths,
    events: BinaryHeap<Reverse<(DateTime<Utc>, Event)>>,
    forecast: Forecast,
}

impl Standing {
    /// Which room a message of theirs takes.
    fn room(&self) -> usize {
        usize::from(!self.written)
    }
}

impl<'a> Play<'a> {
    fn new(rules: Rules<'a>, lines: &[Line], entrants: &'a [Entrant]) -> Play<'a> {
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
            let (pin, is_new) = (entrant.pin, entrant.is_new);
            people.push(Standing { step: 0, due: None, pin, is_new, written: false, sent: Vec::new(), group });
            events.push(Reverse((entrant.at, Event::Person(person))));
        }
        let budgets = lines.iter().map(Budget::new).collect();
        let lengths = Lengths::of(rules.program);
        let (anyone, forecast) = (Made::new(), Forecast::default());
        let rooms = [Room::new(), Room::new()];
        Play { rules, entrants, people, budgets, groups, anyone, rooms, half_answer: false, lengths, events, forecast }
    }

    /// Plays the next event, and tells whether there was one.
    fn turn(&mut self) -> bool {
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
                    self.people[person].step = to;
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
            self.anyone.push_back((at, person));
            if self.anyone.len() == 1 {
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
        let queued = &mut self.budgets[line].queued;
        if opens.0 && queued.follow_ups > 0 {
            queued.follow_ups -= 1;
            self.budgets[line].spend(false, at);
        } else if opens.1 && queued.first_touches > 0 {
            queued.first_touches -= 1;
            self.budgets[line].spend(true, at);
        } else if let Some(person) = self.take(line, at, opens) {
            // With a line left to Chert, who wrote to us first may have no pin and be no first touch.
            let is_new = self.people[person].is_new;
            self.send(person, line, is_new, at);
        }
        for room in 0..self.rooms.len() {
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
        let budget = &mut self.budgets[line];
        let queues =
            [(opens.0, &mut budget.follow_ups), (opens.1, &mut budget.first_touches), (opens.1, &mut self.anyone)];
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
        (standing.pin, standing.is_new, standing.written, standing.due) = (Some(line), false, true, None);
        standing.step += 1;
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
        let follows = budget.queued.follow_ups > 0 || !budget.follow_ups.is_empty();
        let touches = budget.queued.first_touches > 0 || !budget.first_touches.is_empty() || !self.anyone.is_empty();
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

    fn left_waiting(&self) -> u32 {
        self.rooms.iter().map(|room| room.standing + room.waiting.len()).sum::<usize>() as u32
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::campaign::file::{self, Checked};

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(time: &str) -> DateTime<Utc> {
        time.parse().expect("a time")
    }

    /// Monday, at nine in New York.
    fn start() -> DateTime<Utc> {
        at("2026-11-30T14:00:00Z")
    }

    fn line(first_touch_cap: Option<u32>) -> Line {
        Line {
            gap: Duration::from_secs(1),
            first_touch_gap: 10 * MINUTE,
            first_touch_cap,
            zone: chrono_tz::America::New_York,
            next_at: start(),
            next_first_touch_at: start(),
            first_touches_left: first_touch_cap,
            today: start().date_naive(),
        }
    }

    fn people(count: usize, is_new: bool) -> Vec<Entrant> {
        let zones = vec![chrono_tz::America::New_York];
        let person = |_| Entrant {
            at: start(),
            vars: Vars::new(),
            zones: zones.clone(),
            region: Some("US-NY"),
            pin: (!is_new).then_some(0),
            is_new,
            no_text_at: Vec::new(),
        };
        (0..count).map(person).collect()
    }

    fn play(rest: &str, way: Way, lines: &[Line], people: &[Entrant]) -> Forecast {
        play_beside(rest, way, lines, people, Beside::default())
    }

    fn play_beside(rest: &str, way: Way, lines: &[Line], people: &[Entrant], beside: Beside<'_>) -> Forecast {
        let (checked, hours) = read(rest);
        forecast(rules(&checked, &hours, way), lines, people, beside)
    }

    fn read(rest: &str) -> (Checked, Windows) {
        let source = format!(
            "name: a\nzone: America/New_York\nschedule: {{ manual: true }}\naudience: {{ csv: a.csv }}\n{rest}\n"
        );
        let checked = file::read(&source).unwrap_or_else(|findings| panic!("{findings:?} in {source}"));
        let hours = checked.campaign.hours().expect("the hours leave time");
        (checked, hours)
    }

    fn rules<'a>(checked: &'a Checked, hours: &'a Windows, way: Way) -> Rules<'a> {
        Rules {
            program: &checked.program,
            hours,
            calendar: None,
            labels: &checked.campaign.labels,
            cap: checked.campaign.caps.per_recipient,
            way,
        }
    }

    fn first_touches(forecast: &Forecast) -> Vec<u32> {
        forecast.loads.values().map(|load| load.first_touches).collect()
    }

    const ONE: &str = "steps: [{ send: { body: Hi } }]";

    #[test]
    fn first_touches_keep_the_gap_and_the_cap_of_each_day() {
        let forecast = play(ONE, Way::Long, &[line(Some(30))], &people(100, true));
        assert_eq!(first_touches(&forecast), [30, 30, 30, 10]);
        assert_eq!(forecast.first_at, Some(start()));
        // The fourth day's tenth, ten minutes and a second apart, from midnight on.
        assert_eq!(forecast.last_at, Some(at("2026-12-03T05:00:00Z") + 9 * (10 * MINUTE + Duration::from_secs(1))));
    }

    #[test]
    fn a_line_that_could_send_either_class_sends_to_whom_has_waited_the_longest() {
        let wordy =
            "steps: [{ send: { body: One }, expires_after: 20s }, { send: { body: Two } }, { send: { body: Three } }]";
        let brisk = Line { first_touch_gap: Duration::from_secs(2), ..line(None) };
        let forecast = play(wordy, Way::Long, &[brisk], &people(10, true));
        // First touches leave every 2.2 s, with one follow-up between them; the other follow-ups do not hold them up.
        assert_eq!(forecast.steps[&0], Fate { sent: 10, expired: 0 });
        assert_eq!(forecast.last_at, Some(start() + 29 * Duration::from_millis(1_100)));
    }

    #[test]
    fn beyond_the_look_ahead_first_messages_leave_room_for_second_ones() {
        let two = "steps: [{ send: { body: One } }, { send: { body: Two }, expires_after: 20m }]";
        let brisk = Line { first_touch_gap: Duration::ZERO, ..line(None) };
        let forecast = play(two, Way::Long, &[brisk], &people(3_000, true));
        // As many of each stand in the queue: nobody's second message waits until all first ones are sent, which takes almost an hour.
        assert_eq!(forecast.steps[&1], Fate { sent: 3_000, expired: 0 });
    }

    #[test]
    fn whoever_is_known_waits_for_their_first_message_like_everybody_else() {
        let mut everybody = people(1_000, true);
        everybody.extend(people(1, false));
        let brisk = Line { first_touch_gap: Duration::ZERO, ..line(None) };
        let forecast = play("steps: [{ send: { body: Hi }, expires_after: 5m }]", Way::Long, &[brisk], &everybody);
        let load = forecast.loads.values().next().expect("a day");
        assert_eq!((load.first_touches, load.follow_ups), (273, 0), "as many as a line sends in five minutes");
    }

    #[test]
    fn hours_that_are_closed_are_waited_for_and_drain_at_the_lines_pace() {
        let rest = format!("windows: [{{ days: mon-fri, from: \"09:00\", to: \"10:00\" }}]\n{ONE}");
        let forecast = play(&rest, Way::Long, &[line(None)], &people(14, true));
        // Six fit into an hour.
        assert_eq!(first_touches(&forecast), [6, 6, 2]);
        let second = at("2026-12-02T14:00:00Z") + 10 * MINUTE + Duration::from_secs(1);
        assert!((second..second + 10 * MINUTE).contains(&forecast.last_at.expect("sent")), "{:?}", forecast.last_at);
    }

    #[test]
    fn twice_as_many_people_are_twice_the_work_however_many_wait_behind_closed_hours() {
        let rest = format!("windows: [{{ from: \"09:00\", to: \"17:00\" }}]\n{ONE}");
        let (checked, hours) = read(&rest);
        // Events, and looks at hours. New York stands first in the queue, and closes while Los Angeles is served.
        let work = |count| {
            let mut everybody = people(2 * count, true);
            for person in &mut everybody[count..] {
                person.zones = vec![chrono_tz::America::Los_Angeles];
            }
            let lines = [line(None)];
            let mut play = Play::new(rules(&checked, &hours, Way::Long), &lines, &everybody);
            let mut events = 0;
            while play.turn() {
                events += 1;
            }
            assert_eq!(play.forecast.steps[&0].sent as usize, 2 * count);
            (events, play.groups.iter().map(|group| group.looks).sum::<usize>())
        };
        let (once, twice) = (work(1_000), work(2_000));
        // Each closing sends back what stands in the queue, which weighs less the fewer people there are.
        let (events, looks) = (10 * twice.0 / once.0, 10 * twice.1 / once.1);
        assert!((19..=21).contains(&events) && (19..=24).contains(&looks), "{once:?}, {twice:?}");
    }

    #[test]
    fn who_waits_for_an_opening_is_spread_over_the_time_after_it() {
        let rest = format!("windows: [{{ from: \"09:30\", to: \"18:00\" }}]\n{ONE}");
        let free = Line { gap: Duration::ZERO, first_touch_gap: Duration::ZERO, ..line(None) };
        let forecast = play(&rest, Way::Short, &[free], &people(100, false));
        let (first, last) = (forecast.first_at.expect("sent"), forecast.last_at.expect("sent"));
        assert_eq!(first, start() + 30 * MINUTE);
        assert!((9 * MINUTE..10 * MINUTE).contains(&(last - first).to_std().expect("later")), "{first} to {last}");
    }

    #[test]
    fn what_else_is_queued_goes_first_each_class_by_its_own_gap() {
        let end = |queued: Load, is_new| {
            let beside = Beside { queued: &[queued], half_answer: false };
            play_beside(ONE, Way::Long, &[line(Some(30))], &people(1, is_new), beside).last_at.expect("sent")
        };
        let nothing = Load::default();
        assert_eq!((end(nothing, true), end(nothing, false)), (start(), start()));
        let touches = Load { first_touches: 12, ..nothing };
        assert_eq!(end(touches, true), start() + 12 * (10 * MINUTE + Duration::from_secs(1)));
        assert!(end(touches, false) < start() + Duration::from_secs(2), "a follow-up passes them");
        let others = Load { follow_ups: 20, ..nothing };
        assert_eq!(end(others, false), start() + 20 * Duration::from_millis(1_100));
        let more_than_a_day = Load { first_touches: 40, ..nothing };
        assert!(end(more_than_a_day, true) > at("2026-12-01T05:00:00Z"), "the cap of the first day is theirs");
    }

    #[test]
    fn where_half_answer_the_others_hear_it_all() {
        let rest = "steps: [{ send: { body: A } }, { wait: 1d }, { send: { body: B } }]";
        let beside = Beside { half_answer: true, ..Beside::default() };
        let forecast = play_beside(rest, Way::Short, &[line(None), line(None)], &people(40, true), beside);
        assert_eq!(forecast.steps.values().map(|fate| fate.sent).collect::<Vec<_>>(), [40, 20]);
        let mut by_line = [0, 0];
        forecast.loads.iter().for_each(|((_, line), load)| by_line[*line] += load.follow_ups);
        assert!(by_line.iter().all(|follow_ups| *follow_ups >= 5), "lines take turns, answers do not: {by_line:?}");
    }

    #[test]
    fn follow_ups_pass_first_touches_that_wait_for_their_gap() {
        let mut everybody = people(50, true);
        everybody.extend(people(20, false));
        let forecast = play(ONE, Way::Long, &[line(None)], &everybody);
        let load = forecast.loads.values().next().expect("a day");
        assert_eq!((load.follow_ups, forecast.steps[&0].sent), (20, 70));
    }

    #[test]
    fn what_nobody_can_know_makes_the_range() {
        let rest = "steps: [{ send: { body: Hi } },
                            { branch: { if: replied, then: [{ send: { body: Thanks } }], else: [{ wait: 3d }, { send: { body: Hello } }] } }]";
        let days = |way| {
            let forecast = play(rest, way, &[line(None)], &people(1, true));
            (forecast.last_at.expect("sent") - forecast.first_at.expect("sent")).num_days()
        };
        assert_eq!((days(Way::Short), days(Way::Long)), (0, 3));
        // What is known of somebody is no matter of the way.
        let rest = "variables: { plan: { default: free } }\nsteps: [{ send: { body: Hi } }, { branch: { if: var.plan == 'pro', then: [{ wait: 9d }, { send: { body: Pro } }] } }]";
        let mut person = people(1, true);
        person[0].vars.insert("plan".to_owned(), "free".into());
        for way in [Way::Short, Way::Long] {
            assert_eq!(play(rest, way, &[line(None)], &person).steps.values().map(|fate| fate.sent).sum::<u32>(), 1);
        }
    }

    #[test]
    fn a_deadline_that_passes_in_the_queue_ends_the_enrolment() {
        let rest = "steps: [{ send: { body: Hi }, expires_after: 1h }, { send: { body: More } }]";
        let forecast = play(rest, Way::Long, &[line(None)], &people(10, true));
        assert_eq!(forecast.steps[&0], Fate { sent: 6, expired: 4 });
        assert_eq!(forecast.steps[&1], Fate { sent: 6, expired: 0 });
    }

    #[test]
    fn a_cap_of_a_recipient_defers_and_skips_nothing() {
        let rest = "caps: { per_recipient: 2 in 7d }\nsteps: [{ send: { body: A } }, { send: { body: B } }, { send: { body: C } }]";
        let forecast = play(rest, Way::Long, &[line(None)], &people(1, true));
        assert_eq!(forecast.steps.values().map(|fate| fate.sent).sum::<u32>(), 3);
        assert_eq!(forecast.last_at, Some(start() + TimeDelta::days(7)));
    }

    #[test]
    fn without_a_line_everybody_is_stuck_and_new_people_are_behind_a_cap_of_none() {
        assert_eq!(play(ONE, Way::Long, &[], &people(3, true)).stuck, 3);
        let mut everybody = people(3, true);
        everybody.extend(people(2, false));
        let forecast = play(ONE, Way::Long, &[line(Some(0))], &everybody);
        assert_eq!((forecast.stuck, forecast.steps[&0].sent), (3, 2));
    }

    #[test]
    fn a_cap_of_none_is_no_event_on_any_day() {
        let (checked, hours) = read(ONE);
        let (lines, everybody) = ([line(Some(0))], people(3, true));
        let mut play = Play::new(rules(&checked, &hours, Way::Long), &lines, &everybody);
        let turns = (0..1_000).take_while(|_| play.turn()).count();
        assert_eq!((turns, play.left_waiting()), (3, 3), "each comes once, and waits for good");
    }

    #[test]
    fn what_is_left_of_a_cap_is_left_of_its_own_day() {
        let used_up = Line { first_touches_left: Some(0), ..line(Some(30)) };
        let midnight = at("2026-12-01T05:00:00Z");
        let end = |line: &Line, at| {
            let people: Vec<Entrant> = people(1, true).into_iter().map(|person| Entrant { at, ..person }).collect();
            play(ONE, Way::Long, std::slice::from_ref(line), &people).last_at
        };
        assert_eq!(end(&used_up, start()), Some(midnight));
        assert_eq!(end(&Line { next_first_touch_at: midnight, ..used_up.clone() }, start()), Some(midnight));
        let next_week = start() + TimeDelta::days(7);
        assert_eq!(end(&used_up, next_week), Some(next_week));
    }

    #[test]
    fn what_else_is_queued_is_gone_before_a_campaign_that_begins_later() {
        let queued = [Load { first_touches: 20, follow_ups: 50 }];
        let beside = Beside { queued: &queued, half_answer: false };
        let tomorrow = start() + TimeDelta::days(1);
        let people: Vec<Entrant> =
            people(1, true).into_iter().map(|person| Entrant { at: tomorrow, ..person }).collect();
        assert_eq!(play_beside(ONE, Way::Long, &[line(Some(30))], &people, beside).last_at, Some(tomorrow));
    }

    #[test]
    fn who_gets_no_text_at_a_step_gets_none_after_it() {
        let rest = "steps: [{ send: { body: A } }, { send: { body: B } }, { send: { body: C } }]";
        let mut everybody = people(2, false);
        everybody[1].no_text_at = vec![1];
        let forecast = play(rest, Way::Long, &[line(None)], &everybody);
        assert_eq!(forecast.steps.values().map(|fate| fate.sent).collect::<Vec<_>>(), [2, 1, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// However many people, lines and caps there are: everybody is counted once, and no line has more than its cap on a day.
        #[test]
        fn nobody_is_lost_and_no_cap_is_broken(
            new in 0usize..200, known in 0usize..50, caps in prop::collection::vec(1u32..40, 1..5), from in 0u32..22,
        ) {
            let mut everybody = people(new, true);
            everybody.extend(people(known, false));
            let lines: Vec<Line> = caps.iter().map(|cap| line(Some(*cap))).collect();
            let rest = format!("windows: [{{ from: \"{from:02}:00\", to: \"{:02}:00\" }}]\n{ONE}", from + 2);
            let forecast = play(&rest, Way::Long, &lines, &everybody);
            prop_assert_eq!(forecast.steps.values().map(|fate| fate.sent).sum::<u32>() as usize, new + known);
            prop_assert_eq!(forecast.stuck, 0);
            for ((_, line), load) in &forecast.loads {
                prop_assert!(load.first_touches <= caps[*line]);
            }
        }
    }
}
