//! When the enrolments that run will be through: the same forecast as a plan's, played from where everybody stands. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::campaign::draft::{Fault, Person, line};
use crate::campaign::forecast::{Beside, Entrant, Forecast, Line, Load, Others, Place, Rules, Way, resume};
use crate::campaign::plan::{Lines, PACE_AT_WORST};
use crate::campaign::program::Op;
use crate::campaign::running::Running;
use crate::campaign::template::Vars;
use crate::campaign::zone::{self, region_of, zones_of};
use crate::phone::Phone;

/// Somebody who is on the way through a version.
#[derive(Debug, Clone)]
pub struct Member {
    pub phone: Phone,
    pub vars: Map<String, Value>,
    /// The index of the program at which they stand, and when they are looked at there next.
    pub step: usize,
    pub at: DateTime<Utc>,
    /// The message of that step is made already.
    pub made: bool,
    /// When that step's time came, or comes.
    pub reached_at: DateTime<Utc>,
    /// The line that their message on its way names, else the one that they are pinned to.
    pub line_id: Option<String>,
    pub zone: Option<Tz>,
    /// They were written to, or have written.
    pub touched: bool,
    /// What they got and what still counts under a cap, the oldest first.
    pub sent: Vec<DateTime<Utc>>,
    /// Messages that they have not answered yet.
    pub unanswered: u32,
}

/// What is left of a campaign, if the lines stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Eta {
    /// Who are on the way, but for those who wait for somebody.
    pub people: usize,
    /// Who go on only when they reply, or when somebody has looked at what they wrote.
    pub wait_for_somebody: usize,
    /// Whose hours never open, or for whom there is no line.
    pub stuck: u32,
    /// Who get no message, which ends their enrolment at the next step that sends, by reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub no_message: BTreeMap<String, u32>,
    /// Who drop out, since the deadline of their step comes before their turn.
    pub expired: u32,
    /// Who come to a message that waits for a reply from them, since so many before it are unanswered.
    pub unanswered: u32,
    /// Messages that are left, of both ways the fewer and the more.
    pub messages: (u32, u32),
    /// The last message, if every branch takes its shorter way and the lines keep their whole pace. None if there is none. Who replies gets
    /// less than is foretold, so that it may be over sooner.
    pub from: Option<DateTime<Utc>>,
    /// The last message, if every branch takes its longer way and the lines lose some of their pace.
    pub by: Option<DateTime<Utc>>,
}

/// The enrolments of one version, and the account's lines as it finds them.
#[derive(Debug)]
pub struct OnTheWay {
    pub running: Running,
    pub lines: Lines,
    pub members: Vec<Member>,
}

/// Tells it. Each version is played by itself; the later end supposes that each has only its share of the lines. `unanswered_limit`: after
/// how many messages without a reply marketing waits for one.
pub fn eta(versions: &[OnTheWay], unanswered_limit: Option<u16>) -> Eta {
    let people: usize = versions.iter().map(|version| version.members.len()).sum();
    let mut eta = Eta { people, ..Eta::default() };
    for OnTheWay { running, lines, members } in versions.iter().filter(|version| !version.members.is_empty()) {
        let entrants: Vec<Entrant> = members.iter().map(|member| member.entrant(running, lines)).collect();
        let play = |way, pace: f64, share: f64| {
            let rules = Rules::of(running, way, unanswered_limit);
            let sending = lines.sending.iter();
            let others: Vec<Others> = sending.clone().map(|line| share_of(&line.others, share)).collect();
            let lines: Vec<Line> = sending.map(|line| part_of(&line.line, pace, share)).collect();
            let places = members.iter().map(|member| member.place(running)).collect();
            resume(rules, &lines, &entrants, places, Beside { others: &others, half_answer: false })
        };
        for fault in members.iter().filter_map(|member| member.refused(running, &lines.open)) {
            *eta.no_message.entry(fault.to_string()).or_default() += 1;
        }
        let share = members.len() as f64 / people as f64;
        eta.add(&play(Way::Short, 1.0, 1.0), &play(Way::Long, PACE_AT_WORST, share));
    }
    eta
}

impl Eta {
    fn add(&mut self, short: &Forecast, long: &Forecast) {
        let messages = |forecast: &Forecast| forecast.steps.values().map(|fate| fate.sent).sum::<u32>();
        let (short_messages, long_messages) = (messages(short), messages(long));
        self.messages.0 += short_messages.min(long_messages);
        self.messages.1 += short_messages.max(long_messages);
        self.stuck += long.stuck;
        self.expired += long.steps.values().map(|fate| fate.expired).sum::<u32>();
        self.unanswered += long.steps.values().map(|fate| fate.unanswered).sum::<u32>();
        self.from = self.from.max(short.last_at.into_iter().chain(long.last_at).min());
        self.by = self.by.max(short.last_at).max(long.last_at);
    }
}

impl Member {
    fn entrant(&self, running: &Running, lines: &Lines) -> Entrant {
        // Whoever lacks one is held when they come to it, and was counted before.
        let vars = running.vars(self.vars.clone()).unwrap_or_default();
        let given = zone::given(self.zone, vars.get(zone::VARIABLE)).unwrap_or_default();
        let zones = zones_of(&self.phone, given, running.campaign.zone);
        Entrant {
            at: self.at,
            vars,
            zones: zones.into_owned(),
            region: region_of(&self.phone),
            pin: lines.pin(&self.phone, self.line_id.as_deref()),
            is_new: !self.touched,
            sent: self.sent.clone(),
            unanswered: self.unanswered,
            no_text_at: self.refused(running, &lines.open).map_or(Vec::new(), |_| self.sends(running).collect()),
        }
    }

    /// Why no line may write to them for the campaign, where that ends their enrolment.
    fn refused(&self, running: &Running, open: &[String]) -> Option<Fault> {
        let (line_id, touched, vars) = (self.line_id.as_deref(), self.touched, &Vars::new());
        let refused = line(&running.campaign.lines, Person { phone: &self.phone, vars, line_id, touched, open }).err();
        refused.filter(|fault| {
            matches!(fault, Fault::NotPinned | Fault::NotInPool) && self.sends(running).next().is_some()
        })
    }

    /// The steps that have still to make a message for them, if they come to them.
    fn sends(&self, running: &Running) -> impl Iterator<Item = usize> {
        let from = self.step + usize::from(self.made);
        let steps = running.program.steps().iter().enumerate().skip(from);
        steps.filter(|(_, step)| matches!(step.op, Op::Send(_))).map(|(index, _)| index)
    }

    fn place(&self, running: &Running) -> Place {
        let sends = running.program.get(self.step).is_some_and(|step| matches!(step.op, Op::Send(_)));
        Place { step: self.step, due: sends.then_some(self.reached_at) }
    }
}

/// A share of a line, which keeps so much of its pace.
fn part_of(line: &Line, pace: f64, share: f64) -> Line {
    let slower = |gap: Duration, by: f64| gap.mul_f64(1.0 / by);
    let some = |touches: u32| (f64::from(touches) * share).ceil() as u32;
    Line {
        gap: slower(line.gap, pace * share),
        first_touch_gap: slower(line.first_touch_gap, pace * share),
        first_touch_cap: line.first_touch_cap.map(some),
        first_touches_left: line.first_touches_left.map(some),
        ..line.clone()
    }
}

/// As much of what others have to send as of the line.
fn share_of(others: &Others, share: f64) -> Others {
    let some = |messages: u32| (f64::from(messages) * share).ceil() as u32;
    let part = |load: &Load| Load { first_touches: some(load.first_touches), follow_ups: some(load.follow_ups) };
    Others { queued: part(&others.queued), in_turn: others.in_turn.iter().map(part).collect() }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::campaign::file;
    use crate::campaign::file::shape::Lines as CampaignLines;
    use crate::campaign::forecast::Pin;
    use crate::campaign::plan::PlanLine;
    use crate::job::Class;

    fn start() -> DateTime<Utc> {
        "2026-11-30T15:00:00Z".parse().expect("a time")
    }

    fn running(steps: &str) -> Running {
        let source =
            format!("name: a\nzone: UTC\nschedule: {{ manual: true }}\naudience: {{ csv: a.csv }}\nsteps: {steps}\n");
        let checked = file::read(&source).unwrap_or_else(|findings| panic!("{findings:?} in {source}"));
        Running::read(&serde_json::to_value(&checked.campaign).expect("serialisable")).expect("it reads back")
    }

    fn line(gap: Duration, first_touch_gap: Duration) -> PlanLine {
        let line = Line {
            gap,
            first_touch_gap,
            slowdown: 1.0,
            first_touch_cap: None,
            zone: Tz::UTC,
            next_at: start(),
            next_first_touch_at: start(),
            first_touches_left: None,
            today: start().date_naive(),
        };
        PlanLine { id: "pl_1".to_owned(), line, others: Others::default() }
    }

    fn member(n: usize, step: usize, in_hours: i64, touched: bool) -> Member {
        let at = start() + TimeDelta::hours(in_hours);
        Member {
            phone: format!("+4915112345{n:03}").parse().expect("valid"),
            vars: Map::new(),
            step,
            at,
            made: false,
            reached_at: at,
            line_id: touched.then(|| "pl_1".to_owned()),
            zone: None,
            touched,
            sent: Vec::new(),
            unanswered: 0,
        }
    }

    /// Without a limit of unanswered messages.
    fn ends(versions: Vec<(Running, Vec<Member>)>, lines: &[PlanLine]) -> Eta {
        ends_at(versions, lines, None)
    }

    fn ends_at(versions: Vec<(Running, Vec<Member>)>, lines: &[PlanLine], unanswered_limit: Option<u16>) -> Eta {
        let lines = || Lines { sending: lines.to_vec(), ..Lines::default() };
        let on_the_way = |(running, members)| OnTheWay { running, lines: lines(), members };
        eta(&versions.into_iter().map(on_the_way).collect::<Vec<_>>(), unanswered_limit)
    }

    const TWO: &str = "[{ send: { body: A } }, { wait: 1d }, { send: { body: B } }]";

    #[test]
    fn everybody_goes_on_from_where_they_stand() {
        let lines = [line(Duration::ZERO, Duration::ZERO)];
        let members = vec![member(1, 2, 5, true), member(2, 2, 3, true)];
        let eta = ends(vec![(running(TWO), members)], &lines);
        assert_eq!((eta.people, eta.messages, eta.stuck), (2, (2, 2), 0));
        let end = Some(start() + TimeDelta::hours(5));
        assert_eq!((eta.from, eta.by), (end, end), "the first step is behind them");
    }

    #[test]
    fn new_contacts_take_the_lines_first_touches_and_others_do_not() {
        let lines = [line(Duration::ZERO, Duration::from_secs(600))];
        let end = |touched| {
            let members = (0..7).map(|n| member(n, 0, 0, touched)).collect();
            ends(vec![(running("[{ send: { body: A } }]"), members)], &lines).by.expect("there is a message")
        };
        assert_eq!(end(true), start());
        assert!(end(false) >= start() + TimeDelta::hours(1), "six gaps of ten minutes");
    }

    #[test]
    fn what_fell_due_before_keeps_its_deadline() {
        let lines = [line(Duration::ZERO, Duration::ZERO)];
        let late = Member { reached_at: start() - TimeDelta::hours(2), ..member(1, 0, 0, true) };
        let eta = ends(vec![(running("[{ send: { body: A }, expires_after: 1h }]"), vec![late])], &lines);
        assert_eq!((eta.messages, eta.expired, eta.by), ((0, 0), 1, None));
    }

    #[test]
    fn a_default_gives_the_zone_of_whom_nothing_else_gives_it() {
        let steps = "[{ send: { body: A } }]\nwindows: [{ from: '09:00', to: '18:00' }]\nvariables:";
        let tokyo = running(&format!("{steps} {{ time_zone: {{ default: Asia/Tokyo }} }}"));
        let lines = [line(Duration::ZERO, Duration::ZERO)];
        let by = |member: Member| ends(vec![(tokyo.clone(), vec![member])], &lines).by.expect("there is a message");
        assert_eq!(by(Member { zone: Some(chrono_tz::Europe::Berlin), ..member(1, 0, 0, true) }), start());
        assert_eq!(by(member(1, 0, 0, true)), start() + TimeDelta::hours(9), "midnight, there");
    }

    #[test]
    fn what_was_sent_before_counts_under_a_cap() {
        let mut running = running("[{ send: { body: A } }]");
        running.campaign.caps.per_recipient = Some("1 in 1d".parse().expect("a cap"));
        let lines = [line(Duration::ZERO, Duration::ZERO)];
        let sent = Member { sent: vec![start() - TimeDelta::hours(4)], ..member(1, 0, 0, true) };
        assert_eq!(ends(vec![(running, vec![sent])], &lines).by, Some(start() + TimeDelta::hours(20)));
    }

    #[test]
    fn whoever_comes_to_the_limit_of_unanswered_messages_waits_there_for_a_reply() {
        let lines = [line(Duration::ZERO, Duration::ZERO)];
        let members = || vec![member(1, 0, 0, true), Member { unanswered: 2, ..member(2, 0, 0, true) }];
        let told = |running: Running| {
            let eta = ends_at(vec![(running, members())], &lines, Some(3));
            (eta.unanswered, eta.messages, eta.by.expect("there is a message") - start())
        };
        assert_eq!(told(running(TWO)), (1, (3, 3), TimeDelta::days(1)));
        let mut transactional = running(TWO);
        transactional.campaign.class = Class::Transactional;
        assert_eq!(told(transactional), (0, (4, 4), TimeDelta::days(1)), "the limit is for marketing");
        let one = || vec![Member { unanswered: 2, ..member(2, 0, 0, true) }];
        let eta = ends_at(vec![(running(TWO), one())], &lines, Some(3));
        assert_eq!((eta.unanswered, eta.messages, eta.by), (1, (1, 1), Some(start())), "what waits is not in the end");
    }

    #[test]
    fn who_goes_by_a_line_that_may_not_send_is_stuck_and_a_pool_draws_as_the_engine_does() {
        let open = vec!["pl_1".to_owned(), "pl_2".to_owned()];
        let sending = vec![line(Duration::ZERO, Duration::ZERO)];
        let lines = Lines { sending, resting: vec!["pl_2".to_owned()], open };
        let members: Vec<Member> = (0..20).map(|n| member(n, 0, 0, false)).collect();
        let to_two = members.iter().filter(|member| lines.pin(&member.phone, None) == Pin::Resting).count();
        assert!((1..20).contains(&to_two), "{to_two}");
        let pinned = Member { line_id: Some("pl_2".to_owned()), ..member(20, 0, 0, true) };
        let members = members.into_iter().chain([pinned]).collect();
        let told = eta(&[OnTheWay { running: running("[{ send: { body: A } }]"), lines, members }], None);
        let (stuck, sent) = (to_two as u32 + 1, 20 - to_two as u32);
        assert_eq!((told.stuck, told.messages), (stuck, (sent, sent)));
    }

    #[test]
    fn what_others_have_to_send_delays_both_ends() {
        let load = |messages| Load { first_touches: 0, follow_ups: messages };
        let length = |others: Others, versions: usize| {
            let line = PlanLine { others, ..line(Duration::from_secs(10), Duration::ZERO) };
            let members = |of: usize| (of * 10..of * 10 + 10).map(|n| member(n, 0, 0, true)).collect();
            let versions = (0..versions).map(|of| (running("[{ send: { body: A } }]"), members(of)));
            let eta = ends(versions.collect(), &[line]);
            [eta.from, eta.by].map(|at| (at.expect("there are messages") - start()).num_seconds())
        };
        // A gap of eleven seconds with its guard, and of 12.8 at worst.
        assert_eq!(length(Others::default(), 1), [9 * 11, 114]);
        assert_eq!(length(Others { queued: load(90), ..Others::default() }, 1), [99 * 11, 1_263]);
        assert_eq!(length(Others { in_turn: vec![load(90)], ..Others::default() }, 1), [19 * 11, 242]);
        let [from, by] = length(Others { queued: load(90), ..Others::default() }, 2);
        assert!(
            from == 99 * 11 && (1_263..1_500).contains(&by),
            "each has half of the line, and of what goes first: {by}"
        );
    }

    #[test]
    fn versions_share_the_lines_at_worst() {
        let lines = [line(Duration::from_secs(60), Duration::ZERO)];
        let of = |from: usize| (from..from + 30).map(|n| member(n, 0, 0, true)).collect::<Vec<_>>();
        let one = || running("[{ send: { body: A } }]");
        let (alone, both) = (ends(vec![(one(), of(0))], &lines), ends(vec![(one(), of(0)), (one(), of(30))], &lines));
        assert_eq!((alone.from, alone.messages.0), (both.from, 30));
        let length = |eta: &Eta| eta.by.expect("there are messages") - start();
        assert!(length(&both) > length(&alone) * 19 / 10, "{} and {}", length(&both), length(&alone));
    }

    #[test]
    fn who_drops_out_for_their_line_gets_none_of_the_messages_that_are_left() {
        let told = |rule: &str, resting: &[&str], members: Vec<Member>| {
            let mut running = running(TWO);
            running.campaign.lines = match rule {
                "pinned_only" => CampaignLines { pinned_only: true, ..CampaignLines::default() },
                _ => CampaignLines { pool: vec!["pl_1".to_owned()], ..CampaignLines::default() },
            };
            let resting = resting.iter().map(|id| (*id).to_owned()).collect();
            let sending = vec![line(Duration::ZERO, Duration::ZERO)];
            let lines = Lines { sending, resting, open: vec!["pl_1".to_owned()] };
            let eta = eta(&[OnTheWay { running, lines, members }], None);
            let reasons: Vec<_> = eta.no_message.iter().map(|(reason, people)| format!("{people} {reason}")).collect();
            (eta.messages, eta.stuck, reasons.join(", "))
        };
        let by_two = |n, made| Member { line_id: Some("pl_2".to_owned()), made, ..member(n, 0, 0, true) };
        let members = vec![member(1, 0, 0, true), member(2, 0, 0, false)];
        assert_eq!(told("pinned_only", &[], members), ((2, 2), 0, "1 not_pinned".to_owned()));
        let members = vec![member(1, 0, 0, true), by_two(2, false)];
        assert_eq!(told("pool", &["pl_2"], members), ((2, 2), 0, "1 not_in_pool".to_owned()));
        assert_eq!(told("pool", &[], vec![by_two(1, true)]), ((1, 1), 0, "1 not_in_pool".to_owned()), "one is made");
        let through = Member { step: 3, ..by_two(1, false) };
        assert_eq!(told("pool", &[], vec![through]), ((0, 0), 0, String::new()));
    }

    #[test]
    fn without_a_line_they_are_stuck() {
        let eta = ends(vec![(running(TWO), vec![member(1, 0, 0, false)])], &[]);
        assert_eq!((eta.stuck, eta.from), (1, None));
    }
}
