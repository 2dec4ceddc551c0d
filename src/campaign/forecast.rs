//! When a campaign's messages go out: what is asked, and what is told. What nobody can know yet, such as who replies, is taken one way
//! or the other. Pure.

mod budget;
mod group;
mod lengths;
mod play;
mod room;
mod waiting;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::campaign::calendar::Calendar;
use crate::campaign::file::words::Cap;
use crate::campaign::forecast::play::Play;
use crate::campaign::program::Program;
use crate::campaign::running::Running;
use crate::campaign::template::Vars;
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
    pub pin: Pin,
    /// Nobody has written to them, nor they to us.
    pub is_new: bool,
    /// What they got before, from any campaign, and what still counts under a cap, the oldest first.
    pub sent: Vec<DateTime<Utc>>,
    /// Messages that they have not answered yet.
    pub unanswered: u32,
    /// Steps that have no text for them, which ends or holds it there.
    pub no_text_at: Vec<usize>,
}

/// By which line somebody is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    Any,
    /// By this one alone, by its place among the lines.
    Line(usize),
    /// By one that may not send.
    Resting,
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
    pub calendar: Option<&'a Calendar>,
    pub labels: &'a BTreeMap<String, String>,
    pub cap: Option<Cap>,
    /// After how many messages without a reply they wait for one; none for never.
    pub unanswered_limit: Option<u16>,
    pub way: Way,
}

impl<'a> Rules<'a> {
    /// Those of a version, on this way through its branches. `unanswered_limit`: as workers are told.
    pub fn of(running: &'a Running, way: Way, unanswered_limit: Option<u16>) -> Rules<'a> {
        Rules {
            program: &running.program,
            hours: &running.hours,
            calendar: running.calendar.as_deref(),
            labels: &running.campaign.labels,
            cap: running.campaign.caps.per_recipient,
            unanswered_limit: running.unanswered_limit(unanswered_limit),
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
    /// They wait there for a reply, since so many messages to them are unanswered: what comes then is not played.
    pub unanswered: u32,
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
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    pub step: usize,
    /// When the message of that step fell due, if it is one that sends.
    pub due: Option<DateTime<Utc>>,
}

/// What else a line has to send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Others {
    /// What goes first.
    pub queued: Load,
    /// What goes in turn with the campaign, of each other campaign.
    pub in_turn: Vec<Load>,
}

/// What bears upon it from outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// Of each line, by its place.
    pub others: &'a [Others],
    /// Every second person answers their first message, which ends it for them.
    pub half_answer: bool,
}

/// Plays it beside all else that happens. The work is about that of sorting all messages.
pub fn forecast(rules: Rules<'_>, lines: &[Line], entrants: &[Entrant], beside: Beside<'_>) -> Forecast {
    Play::new(rules, lines, entrants).beside(beside).run()
}

/// The same from where each of them stands; who is at no place begins at the first step.
pub fn resume(
    rules: Rules<'_>,
    lines: &[Line],
    entrants: &[Entrant],
    places: Vec<Place>,
    beside: Beside<'_>,
) -> Forecast {
    Play::new(rules, lines, entrants).from(places).beside(beside).run()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;
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
            slowdown: 1.0,
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
            pin: if is_new { Pin::Any } else { Pin::Line(0) },
            is_new,
            sent: Vec::new(),
            unanswered: 0,
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
            unanswered_limit: None,
            way,
        }
    }

    fn fate(sent: u32, expired: u32) -> Fate {
        Fate { sent, expired, unanswered: 0 }
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
        assert_eq!(forecast.steps[&0], fate(10, 0));
        assert_eq!(forecast.last_at, Some(start() + 29 * Duration::from_millis(1_100)));
    }

    #[test]
    fn beyond_the_look_ahead_first_messages_leave_room_for_second_ones() {
        let two = "steps: [{ send: { body: One } }, { send: { body: Two }, expires_after: 20m }]";
        let brisk = Line { first_touch_gap: Duration::ZERO, ..line(None) };
        let forecast = play(two, Way::Long, &[brisk], &people(3_000, true));
        // As many of each stand in the queue: nobody's second message waits until all first ones are sent, which takes almost an hour.
        assert_eq!(forecast.steps[&1], fate(3_000, 0));
    }

    #[test]
    fn whoever_is_known_waits_for_their_first_message_behind_no_new_contacts() {
        let mut everybody = people(1_000, true);
        everybody.extend(people(1, false));
        let brisk = Line { first_touch_gap: Duration::ZERO, ..line(None) };
        let forecast = play("steps: [{ send: { body: Hi }, expires_after: 5m }]", Way::Long, &[brisk], &everybody);
        let load = forecast.loads.values().next().expect("a day");
        assert_eq!((load.first_touches, load.follow_ups), (272, 1), "as many as a line sends in five minutes");
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
        let (once, twice) = (work(8_000), work(16_000));
        // Each closing sends back what stands in the queue, which weighs less the fewer people there are.
        let (events, looks) = (10 * twice.0 / once.0, 10 * twice.1 / once.1);
        assert!((19..=21).contains(&events) && (19..=21).contains(&looks), "{once:?}, {twice:?}");
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
            let others = [Others { queued, ..Others::default() }];
            let beside = Beside { others: &others, half_answer: false };
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
    fn other_campaigns_go_in_turn_with_this_one_as_long_as_they_last() {
        let end = |people: &[Entrant], of_others: &[u32]| {
            let load = |messages: &u32| Load { follow_ups: *messages, first_touches: 0 };
            let others = [Others { in_turn: of_others.iter().map(load).collect(), ..Others::default() }];
            let beside = Beside { others: &others, half_answer: false };
            let end = play_beside(ONE, Way::Long, &[line(None)], people, beside).last_at.expect("sent");
            (end - start()).num_milliseconds() / 1_100
        };
        let known = people(100, false);
        assert_eq!([end(&known, &[]), end(&known, &[30]), end(&known, &[20_000])], [99, 129, 199]);
        assert_eq!([end(&known, &[20_000, 20_000]), end(&known, &[20_000, 10])], [299, 209]);
        let tomorrow = start() + TimeDelta::days(1);
        let later: Vec<Entrant> = known.into_iter().map(|person| Entrant { at: tomorrow, ..person }).collect();
        let day = 86_400_000 / 1_100;
        assert_eq!(end(&later, &[70_000]) - day, 99, "they are through by then");
        assert!((198..=200).contains(&(end(&later, &[90_000]) - day)), "they are not");
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
        assert_eq!(forecast.steps[&0], fate(6, 4));
        assert_eq!(forecast.steps[&1], fate(6, 0));
    }

    #[test]
    fn a_cap_of_a_recipient_defers_and_skips_nothing() {
        let rest = "caps: { per_recipient: 2 in 7d }\nsteps: [{ send: { body: A } }, { send: { body: B } }, { send: { body: C } }]";
        let forecast = play(rest, Way::Long, &[line(None)], &people(1, true));
        assert_eq!(forecast.steps.values().map(|fate| fate.sent).sum::<u32>(), 3);
        assert_eq!(forecast.last_at, Some(start() + TimeDelta::days(7)));
    }

    #[test]
    fn what_somebody_got_before_counts_under_a_cap() {
        let rest = "caps: { per_recipient: 2 in 7d }\nsteps: [{ send: { body: A } }, { send: { body: B } }]";
        let days = |before: &[i64]| {
            let sent = before.iter().map(|days| start() - TimeDelta::days(*days)).collect();
            let person = Entrant { sent, ..people(1, false).remove(0) };
            let forecast = play(rest, Way::Long, &[line(None)], &[person]);
            [forecast.first_at, forecast.last_at].map(|at| (at.expect("sent") - start()).num_days())
        };
        assert_eq!((days(&[]), days(&[6]), days(&[6, 2])), ([0, 0], [0, 1], [1, 5]));
        assert_eq!(days(&[9, 8]), [0, 0], "that is too long ago");
    }

    /// Two messages, and a third one for whoever has answered by then, or has not.
    const ASKS: &str = "steps: [{ send: { body: A } }, { send: { body: B } },
                                { branch: { if: replied, then: [{ wait: 1h }, { send: { body: C } }], else: [{ send: { body: D } }, { wait: 1h }] } }]";

    /// How many were sent and how many wait for a reply, by step.
    fn limited(rest: &str, way: Way, limit: u16, people: &[Entrant]) -> (Vec<(u32, u32)>, Option<DateTime<Utc>>) {
        let (checked, hours) = read(rest);
        let rules = Rules { unanswered_limit: Some(limit), ..rules(&checked, &hours, way) };
        let forecast = forecast(rules, &[line(None)], people, Beside::default());
        assert_eq!(forecast.stuck, 0);
        (forecast.steps.values().map(|fate| (fate.sent, fate.unanswered)).collect(), forecast.last_at)
    }

    #[test]
    fn after_so_many_messages_without_a_reply_somebody_waits_for_one() {
        let three =
            "steps: [{ send: { body: A } }, { wait: 1d }, { send: { body: B } }, { wait: 1d }, { send: { body: C } }]";
        let mut everybody = people(3, false);
        (everybody[1].unanswered, everybody[2].unanswered) = (1, 7);
        let (fates, last_at) = limited(three, Way::Long, 2, &everybody);
        assert_eq!(fates, [(2, 1), (1, 1), (0, 1)], "each message that is sent counts too");
        // A follow-up goes when the line's gap is over.
        assert!(last_at.is_some_and(|at| (at - start()).num_days() == 1), "{last_at:?}");
        assert_eq!(limited(three, Way::Long, 9, &everybody).0, [(3, 0), (3, 0), (2, 1)]);
        assert_eq!(play(three, Way::Long, &[line(None)], &everybody).steps[&4], fate(3, 0), "without a limit");
    }

    #[test]
    fn whoever_takes_the_way_of_a_reply_has_replied() {
        let everybody = people(1, false);
        assert_eq!(limited(ASKS, Way::Long, 2, &everybody).0, [(1, 0), (1, 0), (1, 0)], "C");
        let quiet = ASKS.replace("if: replied", "if: not replied");
        assert_eq!(limited(&quiet, Way::Long, 2, &everybody).0, [(1, 0), (1, 0), (0, 1)], "C is for the quiet now");
        assert_eq!(limited(&quiet, Way::Long, 3, &everybody).0, [(1, 0), (1, 0), (1, 0)]);
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
    fn who_is_known_and_has_no_line_waits_for_no_first_touch() {
        let mut everybody = people(40, true);
        everybody.extend(people(20, false).into_iter().map(|person| Entrant { pin: Pin::Any, ..person }));
        let forecast = play(ONE, Way::Long, &[line(Some(30))], &everybody);
        let day = forecast.loads.values().next().expect("a day");
        assert_eq!((day.first_touches, day.follow_ups), (30, 20), "though the others came first");
        let forecast = play(ONE, Way::Long, &[line(Some(0))], &everybody);
        assert_eq!((forecast.steps[&0].sent, forecast.stuck), (20, 40));
        assert_eq!(forecast.last_at, Some(start() + 19 * Duration::from_millis(1_100)), "each at the line's pace");
    }

    #[test]
    fn a_line_that_was_slowed_down_gets_its_pace_back_with_each_message() {
        let slowed = Line { slowdown: 8.0, ..line(None) };
        let end = |line: &Line, count, is_new| {
            let forecast = play(ONE, Way::Long, std::slice::from_ref(line), &people(count, is_new));
            forecast.last_at.expect("sent") - start()
        };
        assert_eq!(end(&slowed, 2, false), TimeDelta::milliseconds(8_800), "the first gap is the slowed one");
        let (whole, after) = (end(&line(None), 1_000, false), end(&slowed, 1_000, false));
        assert!(after - whole < TimeDelta::seconds(25), "ten messages bring it back: {whole}, {after}");
        assert_eq!(end(&slowed, 2, true), TimeDelta::minutes(80) + TimeDelta::seconds(1), "of first touches, too");
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
        let others = [Others { queued: Load { first_touches: 20, follow_ups: 50 }, ..Others::default() }];
        let beside = Beside { others: &others, half_answer: false };
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
