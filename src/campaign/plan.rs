//! A campaign as it would go, were it begun now: everybody rendered, nothing written. Pure.

mod course;
mod people;
mod texts;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::campaign::file::shape::StopOn;
use crate::campaign::file::words::Name;
use crate::campaign::forecast::{Beside, Entrant, Forecast, Line, Load, Others, Pin, Rules, Way, forecast};
use crate::campaign::plan::people::enrol;
use crate::campaign::plan::texts::Texts;
use crate::campaign::pool::drawn;
use crate::campaign::running::Running;
use crate::line::ANY_LINE;
use crate::phone::Phone;

pub use people::{Example, People};
pub use texts::{Rendered, Step};

/// At the latest: lines keep about so much of their pace (`prove` measures 86 to 100 %).
pub(super) const PACE_AT_WORST: f64 = 0.85;
/// What the database knows of somebody. Nothing, of most.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    pub line_id: Option<String>,
    /// They were written to, or have written.
    pub touched: bool,
    pub zone: Option<Tz>,
    /// What they got from any campaign and what still counts under the cap, the oldest first.
    pub sent: Vec<DateTime<Utc>>,
    /// Messages that they have not answered yet.
    pub unanswered: u32,
    /// Somebody has to look at what they wrote before anything is sent to them.
    pub in_review: bool,
    /// Why a firing does not enrol them: `already_active`, `already_enrolled`, `suppressed`.
    pub bar: Option<String>,
    /// What they were enrolled with, without what says nothing, if they are held: a row that brings something new lets them go on.
    pub held: Option<Map<String, Value>>,
}

/// A row of the audience.
#[derive(Debug, Clone)]
pub struct Row {
    /// Of a file the line, of a query the number of the row.
    pub n: i64,
    pub phone: Option<Phone>,
    pub vars: Map<String, Value>,
    /// Why it is nobody: `bad_number`, `duplicate`, `unreadable`, `unknown_zone`.
    pub problem: Option<String>,
    /// What is wrong with it, in words; nothing of what stands there.
    pub told: Option<String>,
}

/// A line that may send for the campaign.
#[derive(Debug, Clone)]
pub struct PlanLine {
    pub id: String,
    pub line: Line,
    /// What else it has to send.
    pub others: Others,
}

/// The account's lines, as a campaign finds them.
#[derive(Debug, Clone, Default)]
pub struct Lines {
    /// Those that may send for it.
    pub sending: Vec<PlanLine>,
    /// The other ones that are there, by their ids: who is written to by one of them waits.
    pub resting: Vec<String>,
    /// Those of its pool that new contacts are drawn among, by their ids.
    pub open: Vec<String>,
}

impl Lines {
    /// By which of them somebody is written to: by the one that they are pinned to, else by the one that the engine draws for them.
    pub(super) fn pin(&self, phone: &Phone, line_id: Option<&str>) -> Pin {
        let Some(id) = line_id.or_else(|| drawn(&self.open, phone)) else { return Pin::Any };
        match self.sending.iter().position(|line| line.id == id) {
            Some(place) => Pin::Line(place),
            None if self.resting.iter().any(|resting| resting == id) => Pin::Resting,
            // The account has it no more, or no line is known yet.
            None => Pin::Any,
        }
    }
}

/// What is to be sent by each line, by its id, and under `*` what any line may take.
pub type Loads = HashMap<String, Load>;

/// What others have to send.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    /// What goes first.
    pub queued: Loads,
    /// What goes in turn with the campaign, of each other campaign.
    pub in_turn: Vec<Loads>,
}

/// All lines of an account that may send, with what else they have to; what any line may take is dealt out among them.
pub fn beside(mut lines: Vec<PlanLine>, backlog: &Backlog) -> Vec<PlanLine> {
    let queued = dealt_out(&lines, &backlog.queued);
    let in_turn: Vec<Vec<Load>> = backlog.in_turn.iter().map(|loads| dealt_out(&lines, loads)).collect();
    for (place, line) in lines.iter_mut().enumerate() {
        let in_turn = in_turn.iter().map(|loads| loads[place]).filter(|load| *load != Load::default());
        line.others = Others { queued: queued[place], in_turn: in_turn.collect() };
    }
    lines
}

fn dealt_out(lines: &[PlanLine], loads: &Loads) -> Vec<Load> {
    let anywhere = loads.get(ANY_LINE).copied().unwrap_or_default();
    let dealt = |all: u32, place: u32, count: u32| all / count + u32::from(place < all % count);
    let touching = lines.iter().filter(|line| line.line.first_touch_cap != Some(0)).count();
    let (count, touching) = (lines.len() as u32, touching as u32);
    let mut place_touching = 0;
    let load = |(place, line): (u32, &PlanLine)| {
        let mut load = loads.get(&line.id).filter(|_| line.id != ANY_LINE).copied().unwrap_or_default();
        load.follow_ups += dealt(anywhere.follow_ups, place, count);
        if line.line.first_touch_cap != Some(0) {
            load.first_touches += dealt(anywhere.first_touches, place_touching, touching);
            place_touching += 1;
        }
        load
    };
    (0..).zip(lines).map(load).collect()
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub campaign: Name,
    pub starts_at: DateTime<Utc>,
    /// Its time has passed: this is what a firing by hand would do.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub fires_no_more: bool,
    pub people: People,
    /// The steps that send, in the order of the program.
    pub steps: Vec<Step>,
    /// Who get the very same text at two steps of the longer way.
    pub people_with_a_text_twice: u32,
    /// Who are held where a branch's condition cannot be answered, or may be, by its name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub held_at_branches: BTreeMap<Name, u32>,
    pub lines: usize,
    pub days: Vec<Day>,
    /// The same of each line.
    pub loads: Vec<LineLoad>,
    pub first_at: Option<DateTime<Utc>>,
    /// The last message, if every branch takes its shorter way, half of the people answer the first one, and lines keep their
    /// whole pace.
    pub finishes_from: Option<DateTime<Utc>>,
    /// The last message, if every branch takes its longer way, nobody answers, and lines lose some of their pace.
    pub finishes_by: Option<DateTime<Utc>>,
    /// How many whole days of one line's budget it takes.
    pub line_days: f64,
    /// People whose hours never open, or for whom there is no line.
    pub stuck: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preview: Vec<Rendered>,
}

/// What one line sends.
#[derive(Debug, Clone, Serialize)]
pub struct LineLoad {
    pub id: String,
    /// On which it sends anything.
    pub days: Vec<Day>,
}

/// What is sent on one day, by the lines' clocks, on the longer way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Day {
    pub date: NaiveDate,
    pub first_touches: u32,
    pub follow_ups: u32,
    /// First touches that may be sent on it; none without caps.
    pub first_touch_cap: Option<u32>,
}

/// Whom it is about, and what is known of them.
pub struct Audience<'a> {
    pub rows: &'a [Row],
    /// By number.
    pub known: &'a HashMap<String, Known>,
}

/// Plans it. `unanswered_limit`: after how many messages without a reply marketing waits for one. `previews`: how many people are shown with
/// their texts.
pub fn plan(
    running: &Running,
    audience: &Audience<'_>,
    lines: &Lines,
    starts_at: DateTime<Utc>,
    unanswered_limit: Option<u16>,
    previews: usize,
) -> Plan {
    let (members, people) = enrol(running, audience);
    let mut texts = Texts::new(running);
    let mut entrants = Vec::with_capacity(members.len());
    // Over whom the jitter is spread: who is let go goes on at once.
    let mut spread = Vec::with_capacity(members.len());
    let mut preview = Vec::new();
    for (n, member) in members.iter().enumerate() {
        let shown = (n < previews).then_some(&mut preview);
        let no_text_at = texts.render(running, &lines.open, member, shown);
        // Who is in review goes on when somebody has looked at what they wrote, which nobody can foretell.
        if !member.known.in_review {
            spread.extend((!member.is_let_go).then_some(entrants.len()));
            entrants.push(member.entrant(running, lines, starts_at, no_text_at));
        }
    }
    let spread_out = |shares_later, entrants: &mut [Entrant]| {
        for (n, place) in spread.iter().enumerate() {
            entrants[*place].at = spread_at(starts_at, running.jitter(), n + shares_later, spread.len());
        }
    };
    spread_out(0, &mut entrants);
    let lines = &lines.sending[..];
    let others: Vec<Others> = lines.iter().map(|line| line.others.clone()).collect();
    let answers_end_it = running.campaign.stop_on.contains(&StopOn::Reply);
    let play = |entrants: &[Entrant], way, pace: f64| {
        let rules = Rules::of(running, way, unanswered_limit);
        let slower = |gap: Duration| gap.mul_f64(1.0 / pace);
        let slowed = |PlanLine { line, .. }: &PlanLine| Line {
            gap: slower(line.gap),
            first_touch_gap: slower(line.first_touch_gap),
            ..line.clone()
        };
        let half_answer = way == Way::Short && answers_end_it;
        forecast(
            rules,
            &lines.iter().map(slowed).collect::<Vec<_>>(),
            entrants,
            Beside { others: &others, half_answer },
        )
    };
    let short = play(&entrants, Way::Short, 1.0);
    // At worst up to its end.
    spread_out(1, &mut entrants);
    let long = play(&entrants, Way::Long, PACE_AT_WORST);
    let (people_with_a_text_twice, held_at_branches) = (texts.twice, std::mem::take(&mut texts.held_at_branches));
    Plan {
        campaign: running.campaign.name.clone(),
        starts_at,
        fires_no_more: false,
        people,
        steps: texts.steps(&short, &long),
        people_with_a_text_twice,
        held_at_branches,
        lines: lines.len(),
        days: days(&long, lines),
        loads: loads(&long, lines),
        first_at: long.first_at.into_iter().chain(short.first_at).min(),
        finishes_from: short.last_at.into_iter().chain(long.last_at).min(),
        finishes_by: short.last_at.max(long.last_at),
        line_days: line_days(&long, lines),
        stuck: long.stuck,
        preview,
    }
}

/// Evenly over the jitter, as chance does for many.
fn spread_at(starts_at: DateTime<Utc>, jitter: Duration, n: usize, count: usize) -> DateTime<Utc> {
    let share = jitter.mul_f64(n as f64 / count.max(1) as f64);
    TimeDelta::from_std(share).ok().and_then(|share| starts_at.checked_add_signed(share)).unwrap_or(starts_at)
}

fn days(forecast: &Forecast, lines: &[PlanLine]) -> Vec<Day> {
    let caps: Option<u32> = lines.iter().map(|line| line.line.first_touch_cap).sum();
    let empty = |date| Day { date, first_touches: 0, follow_ups: 0, first_touch_cap: caps };
    let dates = forecast.loads.keys().map(|(date, _)| *date);
    let Some((first, last)) = dates.clone().min().zip(dates.max()) else { return Vec::new() };
    let mut days: BTreeMap<NaiveDate, Day> =
        first.iter_days().take_while(|date| *date <= last).map(|date| (date, empty(date))).collect();
    for ((date, _), load) in &forecast.loads {
        let day = days.entry(*date).or_insert_with(|| empty(*date));
        day.first_touches += load.first_touches;
        day.follow_ups += load.follow_ups;
    }
    days.into_values().collect()
}

fn loads(forecast: &Forecast, lines: &[PlanLine]) -> Vec<LineLoad> {
    let empty = |line: &PlanLine| LineLoad { id: line.id.clone(), days: Vec::new() };
    let mut loads: Vec<LineLoad> = lines.iter().map(empty).collect();
    for ((date, line), Load { first_touches, follow_ups }) in &forecast.loads {
        let (date, first_touch_cap) = (*date, lines[*line].line.first_touch_cap);
        let day = Day { date, first_touches: *first_touches, follow_ups: *follow_ups, first_touch_cap };
        loads[*line].days.push(day);
    }
    loads
}

/// Of each line's day the share that is used: of its first touches or of its time, whichever is more.
fn line_days(forecast: &Forecast, lines: &[PlanLine]) -> f64 {
    const DAY_SECS: f64 = 86_400.0;
    let share = |((_, line), load): (&(NaiveDate, usize), &Load)| {
        let line = &lines[*line].line;
        let messages = f64::from(load.first_touches + load.follow_ups);
        let touches = line.first_touch_cap.map_or(0.0, |cap| f64::from(load.first_touches) / f64::from(cap.max(1)));
        let day_share = |messages: f64, gap: Duration| messages * gap.as_secs_f64() / DAY_SECS;
        let touching = day_share(f64::from(load.first_touches), line.first_touch_gap);
        touches.max(touching).max(day_share(messages, line.gap))
    };
    // A sum of nothing is -0.0.
    forecast.loads.iter().map(share).sum::<f64>() + 0.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::campaign::file;

    fn start() -> DateTime<Utc> {
        "2026-11-30T15:00:00Z".parse().expect("a time")
    }

    fn running(rest: &str) -> Running {
        let source = format!(
            "name: a\nzone: America/New_York\nschedule: {{ manual: true }}\naudience: {{ csv: a.csv }}\n{rest}\n"
        );
        let checked = file::read(&source).unwrap_or_else(|findings| panic!("{findings:?} in {source}"));
        Running::read(&serde_json::to_value(&checked.campaign).expect("serialisable")).expect("it reads back")
    }

    fn row(n: i64, phone: &str, vars: Value) -> Row {
        let phone: Option<Phone> = phone.parse().ok();
        let problem = phone.is_none().then(|| "bad_number".to_owned());
        Row { n, phone, vars: vars.as_object().cloned().expect("an object"), problem, told: None }
    }

    fn lines(caps: &[u32]) -> Lines {
        let line = |(n, cap): (usize, &u32)| PlanLine {
            id: format!("pl_{n}"),
            line: Line {
                gap: Duration::from_secs(1),
                first_touch_gap: Duration::from_secs(600),
                slowdown: 1.0,
                first_touch_cap: Some(*cap),
                zone: chrono_tz::America::New_York,
                next_at: start(),
                next_first_touch_at: start(),
                first_touches_left: Some(*cap),
                today: start().date_naive(),
            },
            others: Others::default(),
        };
        Lines { sending: caps.iter().enumerate().map(line).collect(), ..Lines::default() }
    }

    const TWO: &str = "variables: { name: { missing: skip }, city: { missing: hold } }
steps: [{ name: hello, send: { body: 'Hi {{ name }}' } }, { wait: 1d }, { name: again, send: { body: 'Hi {{ name }}' } }]";

    #[test]
    fn everybody_is_counted_once_with_the_reason() {
        let known = HashMap::from([
            ("+12125550104".to_owned(), Known { bar: Some("suppressed".to_owned()), ..Known::default() }),
            ("+12125550105".to_owned(), Known { touched: true, line_id: Some("pl_0".to_owned()), ..Known::default() }),
        ]);
        let whole = json!({"name": "Ann", "city": "Rome"});
        let rows = [
            row(1, "+12125550101", whole.clone()),
            row(2, "+12125550101", whole.clone()),
            row(3, "5550101", whole.clone()),
            row(4, "+12125550104", whole.clone()),
            row(5, "+12125550105", whole.clone()),
            row(6, "+12125550106", json!({"city": "Rome"})),
            row(7, "+12125550107", json!({"name": "Bob"})),
        ];
        let plan = plan(&running(TWO), &Audience { rows: &rows, known: &known }, &lines(&[30]), start(), None, 1);
        let people = &plan.people;
        assert_eq!((people.people, people.enrolled, people.new), (7, 4, 3), "as a firing counts them");
        let told = |reasons: &BTreeMap<String, u32>| reasons.keys().cloned().collect::<Vec<_>>().join(", ");
        assert_eq!(told(&people.excluded), "bad_number, duplicate, suppressed");
        assert_eq!(
            (told(&people.held), told(&people.ended)),
            ("missing_variable: city".into(), "missing_variable: name".into())
        );
        assert_eq!(people.examples.iter().map(|example| example.row).collect::<Vec<_>>(), [2, 3, 4, 6, 7]);
        assert!(people.examples.iter().all(|example| example.phone.as_ref().is_none_or(|phone| phone.contains('*'))));
        assert_eq!(plan.preview.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(), ["Hi Ann", "Hi Ann"]);
        assert_eq!((plan.people_with_a_text_twice, plan.steps[0].same_text), (2, 2));
    }

    #[test]
    fn examples_are_all_the_rows_with_which_something_is_wrong() {
        let mut rows = crowd(90);
        let again = |bar: &str| Known { bar: Some(bar.to_owned()), ..Known::default() };
        let known = rows[..50].iter().map(|row| (row.phone.clone().expect("a number"), again("already_enrolled")));
        let known: HashMap<String, Known> = known.map(|(phone, known)| (phone.as_str().to_owned(), known)).collect();
        let twin = rows[60].clone();
        rows.extend((0..25).map(|n| Row { n: 100 + n, ..twin.clone() }));
        rows[70].vars.remove("city");
        let people =
            plan(&running(TWO), &Audience { rows: &rows, known: &known }, &lines(&[30]), start(), None, 0).people;
        let told = |n: usize| (people.examples[n].row, people.examples[n].why.as_str());
        assert_eq!(people.examples.len(), 26, "who was enrolled before is none");
        assert_eq!([told(0), told(1)], [(70, "missing_variable: city"), (100, "the same number stands in row 60")]);
    }

    #[test]
    fn the_zone_of_a_row_is_its_persons() {
        let nine = "windows: [{ from: '09:00', to: '18:00' }]\nsteps: [{ send: { body: Hi } }]";
        let first = |vars: Value| {
            let rows = [row(1, "+12125550101", vars)];
            let audience = Audience { rows: &rows, known: &HashMap::new() };
            plan(&running(nine), &audience, &lines(&[30]), start(), None, 0).first_at.expect("there is a message")
        };
        let (new_york, tokyo) = (first(json!({})), first(json!({"time_zone": "Asia/Tokyo"})));
        assert_eq!(new_york, start(), "it is day there");
        assert!(tokyo > start(), "{tokyo}");
        assert_eq!(tokyo.with_timezone(&chrono_tz::Asia::Tokyo).time().to_string(), "09:00:00");
    }

    #[test]
    fn who_is_in_review_is_enrolled_and_gets_nothing_yet() {
        let known = Known { in_review: true, touched: true, ..Known::default() };
        let known = HashMap::from([("+12125550100".to_owned(), known)]);
        let rows = crowd(3);
        let plan = plan(&running(TWO), &Audience { rows: &rows, known: &known }, &lines(&[30]), start(), None, 0);
        assert_eq!((plan.people.enrolled, plan.people.new, plan.people.in_review), (3, 2, 1));
        assert_eq!(plan.steps.iter().map(|step| step.messages.1).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn what_people_got_and_did_not_answer_bears_on_what_goes() {
        let known = |sent: &[i64], unanswered| {
            let sent = sent.iter().map(|days| start() - TimeDelta::days(*days)).collect();
            Known { touched: true, sent, unanswered, ..Known::default() }
        };
        let known = HashMap::from([
            ("+12125550100".to_owned(), known(&[3], 1)),
            ("+12125550101".to_owned(), known(&[], 2)),
            ("+12125550102".to_owned(), known(&[], 3)),
        ]);
        let rows = crowd(4);
        let planned = |class: &str| {
            let source = format!("class: {class}\nstop_on: [opt_out]\ncaps: {{ per_recipient: 2 in 7d }}\n{TWO}");
            let audience = Audience { rows: &rows, known: &known };
            let plan = plan(&running(&source), &audience, &lines(&[30]), start(), Some(3), 0);
            let fate = |step: &Step| (step.messages, step.unanswered);
            let days = |at: Option<DateTime<Utc>>| (at.expect("sent") - start()).num_days();
            (plan.steps.iter().map(fate).collect::<Vec<_>>(), [days(plan.finishes_from), days(plan.finishes_by)])
        };
        // Who got one message three days ago and one now gets the next when the first of them counts no more, after four days.
        assert_eq!(planned("marketing"), (vec![((3, 3), 1), ((2, 2), 1)], [4, 4]));
        assert_eq!(planned("transactional"), (vec![((4, 4), 0), ((4, 4), 0)], [4, 4]), "the limit is for marketing");
    }

    /// Those of many new people for whom this line of the pool is drawn.
    fn drawn_to(line: &str, lines: &Lines, count: usize) -> Vec<Row> {
        let is_theirs = |row: &Row| row.phone.as_ref().is_some_and(|phone| drawn(&lines.open, phone) == Some(line));
        let rows: Vec<Row> = crowd(100).into_iter().filter(is_theirs).take(count).collect();
        assert_eq!(rows.len(), count);
        rows
    }

    #[test]
    fn a_new_contact_of_a_pool_waits_for_the_line_that_is_drawn_for_them() {
        let mut lines = lines(&[30, 30]);
        lines.open = vec!["pl_0".to_owned(), "pl_1".to_owned()];
        let source = "lines: { pool: [pl_0, pl_1] }\nsteps: [{ send: { body: Hi } }]";
        let plan = planned(source, &drawn_to("pl_1", &lines, 40), &lines);
        let days: Vec<u32> = plan.days.iter().map(|day| day.first_touches).collect();
        assert_eq!(days, [30, 10], "the other line has room, and takes none of them");
        lines.resting = vec![lines.sending.remove(1).id];
        let plan = planned(source, &drawn_to("pl_1", &lines, 40), &lines);
        assert_eq!((plan.stuck, plan.days.len()), (40, 0));
    }

    #[test]
    fn who_is_pinned_to_a_line_that_may_not_send_goes_by_no_other() {
        let known = |line: &str| Known { touched: true, line_id: Some(line.to_owned()), ..Known::default() };
        let known = HashMap::from([
            ("+12125550100".to_owned(), known("pl_0")),
            ("+12125550101".to_owned(), known("resting")),
            ("+12125550102".to_owned(), known("taken from the account")),
        ]);
        let mut lines = lines(&[30]);
        lines.resting = vec!["resting".to_owned()];
        let rows = crowd(4);
        let plan = plan(&running(TWO), &Audience { rows: &rows, known: &known }, &lines, start(), None, 0);
        assert_eq!((plan.people.enrolled, plan.stuck, plan.steps[0].messages), (4, 1, (3, 3)));
    }

    #[test]
    fn what_any_line_may_take_is_dealt_out_among_them() {
        let load = |first_touches, follow_ups| Load { first_touches, follow_ups };
        let all = HashMap::from([
            ("*".to_owned(), load(5, 0)),
            ("pl_1".to_owned(), load(1, 7)),
            ("of another pool".to_owned(), load(9, 9)),
        ]);
        let dealt = |caps: &[u32]| {
            let backlog = Backlog { queued: all.clone(), in_turn: vec![all.clone(), HashMap::new()] };
            let others = beside(lines(caps).sending, &backlog).into_iter().map(|line| line.others);
            let (queued, in_turn): (Vec<Load>, Vec<Vec<Load>>) =
                others.map(|others| (others.queued, others.in_turn)).unzip();
            assert_eq!(
                in_turn.concat(),
                queued.iter().copied().filter(|load| *load != Load::default()).collect::<Vec<_>>()
            );
            queued
        };
        assert_eq!(dealt(&[30, 30]), [load(3, 0), load(3, 7)]);
        assert_eq!(dealt(&[0, 30]), [load(0, 0), load(6, 7)], "a line without first touches gets none of theirs");
    }

    #[test]
    fn days_costs_and_the_end_follow_from_the_lines() {
        let rows: Vec<Row> = (0..100)
            .map(|n| row(n, &format!("+121255501{n:02}"), json!({"name": n.to_string(), "city": "Rome"})))
            .collect();
        let plan =
            plan(&running(TWO), &Audience { rows: &rows, known: &HashMap::new() }, &lines(&[30, 10]), start(), None, 0);
        let days: Vec<(u32, u32)> = plan.days.iter().map(|day| (day.first_touches, day.follow_ups)).collect();
        assert_eq!(days, [(40, 0), (40, 40), (20, 40), (0, 20)]);
        assert_eq!(plan.days[0].first_touch_cap, Some(40));
        let of = |day: &Day| (day.first_touches, day.follow_ups, day.first_touch_cap);
        let loads: Vec<_> = plan.loads.iter().map(|line| line.days.iter().map(of).collect::<Vec<_>>()).collect();
        assert_eq!(loads[1], [(10, 0, Some(10)), (10, 10, Some(10)), (10, 10, Some(10)), (0, 10, Some(10))]);
        assert_eq!(plan.loads.iter().map(|line| line.id.as_str()).collect::<Vec<_>>(), ["pl_0", "pl_1"]);
        assert_eq!(plan.steps.iter().map(|step| step.messages).collect::<Vec<_>>(), [(100, 100), (50, 100)]);
        // Two whole days of both lines; on the third, ten first touches each, which is all that the second line has.
        assert!((plan.line_days - (2.0 + 2.0 + 10.0 / 30.0 + 1.0)).abs() < 0.01, "{}", plan.line_days);
        assert!(plan.finishes_from <= plan.finishes_by && plan.stuck == 0);
    }

    /// So many new people, numbered from 0, who are named alike.
    fn crowd(count: i64) -> Vec<Row> {
        (0..count).map(|n| row(n, &format!("+121255501{n:02}"), json!({"name": "Ann", "city": "Rome"}))).collect()
    }

    fn planned(source: &str, rows: &[Row], lines: &Lines) -> Plan {
        plan(&running(source), &Audience { rows, known: &HashMap::new() }, lines, start(), None, 0)
    }

    #[test]
    fn at_worst_the_last_one_comes_at_the_end_of_the_jitter() {
        let source =
            "name: a\nzone: America/New_York\nschedule: { cron: '@daily', jitter: 30m }\naudience: { csv: a.csv }
steps: [{ send: { body: Hi } }]";
        let checked = file::read(source).expect("it is a campaign");
        let running =
            Running::read(&serde_json::to_value(&checked.campaign).expect("serialisable")).expect("it reads back");
        let ends = |count| {
            let audience = Audience { rows: &crowd(count), known: &HashMap::new() };
            let plan = plan(&running, &audience, &lines(&[30, 30]), start(), None, 0);
            [plan.finishes_from, plan.finishes_by].map(|at| (at.expect("sent") - start()).num_minutes())
        };
        assert_eq!([ends(1), ends(2)], [[0, 30], [15, 30]]);
    }

    #[test]
    fn at_best_half_answer_only_where_an_answer_ends_it() {
        let messages = |stop_on| {
            let source = format!("stop_on: [{stop_on}]\n{TWO}");
            let plan = planned(&source, &crowd(10), &lines(&[30]));
            plan.steps.iter().map(|step| step.messages).collect::<Vec<_>>()
        };
        assert_eq!(messages("reply, opt_out"), [(10, 10), (5, 10)]);
        assert_eq!(messages("opt_out"), [(10, 10), (10, 10)]);
    }

    /// Of each step that sends: its texts, those by another way, and who gets none.
    fn texts(plan: &Plan) -> Vec<(u32, u32, u32)> {
        let of = |step: &Step| (step.variants.values().sum(), step.another_way, step.faults.values().sum());
        plan.steps.iter().map(of).collect()
    }

    #[test]
    fn who_takes_which_way_by_what_is_known_is_counted_on_that_way_alone() {
        let source = "labels: { team: growth }
variables: { tier: { missing: skip }, seats: { missing: hold } }
steps: [{ send: { body: Hello } },
        { branch: { if: \"var.tier == 'pro'\", then: [{ send: { body: Hello } }, { send: { body: '{{ seats | int }}' } }], else: [{ send: { body: Bye } }] } },
        { branch: { if: \"label.team == 'sales'\", then: [{ send: { body: Bye } }] } }]";
        let person = |n, tier, seats| row(n, &format!("+1212555010{n}"), json!({"tier": tier, "seats": seats}));
        let rows = [person(1, "pro", "3"), person(2, "pro", "x"), person(3, "free", "x"), person(4, "free", "3")];
        let plan =
            plan(&running(source), &Audience { rows: &rows, known: &HashMap::new() }, &lines(&[30]), start(), None, 9);
        assert_eq!(texts(&plan), [(4, 0, 0), (2, 0, 0), (1, 0, 1), (2, 0, 0), (0, 0, 0)]);
        assert_eq!(plan.steps[2].faults, BTreeMap::from([("unreadable: body".to_owned(), 1)]));
        assert_eq!(plan.people_with_a_text_twice, 2, "of those who are pro");
        let read =
            |n| plan.preview.iter().filter(|text| text.row == n).map(|text| text.text.as_str()).collect::<Vec<_>>();
        assert_eq!((read(1), read(3)), (vec!["Hello", "Hello", "3"], vec!["Hello", "Bye"]));
        assert_eq!((plan.stuck, plan.steps[2].messages.1), (0, 1));
    }

    /// Whoever is quiet hears more, and later; whoever answers, but does not get what they asked for, hears `{{ n }}` in numbers.
    const ANSWERS: &str = "stop_on: [opt_out]
variables: { n: { missing: hold } }
steps: [{ send: { body: Hello } },
        { branch: { if: replied, then: [{ send: { body: Hello } }, { branch: { if: delivered, then: [], else: [{ wait: 1h }, { send: { body: '{{ n | int }}' } }] } }],
                    else: [{ wait: 3d }, { send: { body: Anybody? } }] } }]";

    #[test]
    fn what_is_not_known_is_counted_the_longer_way_and_faults_are_told_of_every_way() {
        let rows = [row(1, "+12125550101", json!({"n": 3})), row(2, "+12125550102", json!({"n": "x"}))];
        let plan =
            plan(&running(ANSWERS), &Audience { rows: &rows, known: &HashMap::new() }, &lines(&[30]), start(), None, 1);
        assert_eq!(texts(&plan), [(2, 0, 0), (0, 2, 0), (0, 1, 1), (2, 0, 0)]);
        assert_eq!(plan.people_with_a_text_twice, 0, "nobody on the longer way");
        let shown: Vec<(&str, bool)> = plan.preview.iter().map(|text| (text.text.as_str(), text.another_way)).collect();
        assert_eq!(shown, [("Hello", false), ("Hello", true), ("3", true), ("Anybody?", false)]);
        // The forecast plays the way that is counted.
        let (counted, played) = (texts(&plan).iter().map(|step| step.0).sum::<u32>(), plan.days.iter());
        assert_eq!(played.map(|day| day.first_touches + day.follow_ups).sum::<u32>(), counted);
        assert_eq!(
            plan.steps.iter().map(|step| step.bubbles).collect::<Vec<_>>(),
            [(1, 1); 4],
            "also of texts by another way"
        );
    }

    #[test]
    fn whoever_a_condition_does_not_fit_is_held_there() {
        let condition = |condition: &str| {
            let source = format!(
                "stop_on: [opt_out]\nvariables: {{ n: {{ missing: hold }} }}\nsteps: [{{ name: many, branch: {{ if: {condition}, then: [], else: [{{ wait: 1d }}, {{ send: {{ body: Hi }} }}] }} }}]"
            );
            let rows = [row(1, "+12125550101", json!({"n": 1})), row(2, "+12125550102", json!({"n": "x"}))];
            let plan = planned(&source, &rows, &lines(&[30]));
            let held =
                plan.held_at_branches.iter().map(|(name, people)| format!("{people} at {name}")).collect::<Vec<_>>();
            (texts(&plan)[0], plan.steps[0].messages.1, held.join(", "))
        };
        assert_eq!(condition("var.n | int >= 3"), ((1, 0, 0), 1, "1 at many".to_owned()));
        // Where they do not reply it cannot be answered, and where they do they are through.
        assert_eq!(condition("replied or var.n | int >= 3"), ((1, 0, 0), 1, "1 at many".to_owned()));
    }

    #[test]
    fn without_a_cap_first_touches_cost_the_time_of_their_gaps() {
        let mut lines = lines(&[30]);
        let line = &mut lines.sending[0].line;
        (line.first_touch_cap, line.first_touches_left) = (None, None);
        let plan = planned("steps: [{ send: { body: Hi } }]", &crowd(36), &lines);
        // Ten minutes each, of a day of 144 times that.
        assert!((plan.line_days - 0.25).abs() < 1e-9, "{}", plan.line_days);
    }

    #[test]
    fn a_text_is_the_same_by_each_letter_and_twice_within_one_person() {
        let source = "variables: { a: { missing: skip }, b: { missing: skip } }
steps: [{ send: { body: 'Hi {{ a }}' } }, { wait: 1d }, { send: { body: 'Hi {{ b }}' } }]";
        let read = |n, a: &str, b: &str| row(n, &format!("+1212555010{n}"), json!({"a": a, "b": b}));
        let plan =
            planned(source, &[read(1, "Ann", "Bob"), read(2, "Bob", "Ann"), read(3, "Bob", "bob")], &lines(&[30]));
        assert_eq!(plan.people_with_a_text_twice, 0, "each got two texts, of one length");
        assert_eq!(plan.steps.iter().map(|step| step.same_text).collect::<Vec<_>>(), [2, 1]);
        let plan = planned(source, &[read(1, "Ann", "Ann"), read(2, "Bob", "Ann")], &lines(&[30]));
        assert_eq!(plan.people_with_a_text_twice, 1);
        assert_eq!(plan.steps.iter().map(|step| step.same_text).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_link_to_a_new_contact_counts_wherever_it_comes_from_and_only_in_their_first_message() {
        let source = "variables: { url: { missing: hold } }
stop_on: [opt_out]
steps: [{ branch: { if: \"var.url == 'none'\", then: [{ send: { body: Hi } }] } }, { send: { body: 'Look: {{ url }}' } }, { send: { body: '{{ url }}' } }]";
        let person = |n, url| row(n, &format!("+1212555010{n}"), json!({"url": url}));
        let rows =
            [person(1, "acme.example/a"), person(2, "none"), person(3, "https://acme.example"), person(4, "a word")];
        let known = Known { touched: true, ..Known::default() };
        let known = HashMap::from([("+12125550103".to_owned(), known)]);
        let plan = plan(&running(source), &Audience { rows: &rows, known: &known }, &lines(&[30]), start(), None, 0);
        assert_eq!(plan.steps.iter().map(|step| step.links_to_new).collect::<Vec<_>>(), [0, 1, 0]);
        // By a way that nobody knows of yet, too.
        let branch = "[{ branch: { if: replied, then: [{ send: { body: Hi } }], else: [{ wait: 1d }] } }, { send: { body: '{{ url }}' } }]";
        let source = format!("variables: {{ url: {{ missing: hold }} }}\nstop_on: [opt_out]\nsteps: {branch}");
        assert_eq!(planned(&source, &rows[..2], &lines(&[30])).steps[1].links_to_new, 1);
    }

    #[test]
    fn who_gets_no_text_was_not_written_to_by_that() {
        let source = "stop_on: [opt_out]
lines: { pinned_only: true }
steps: [{ send: { body: Hi } }, { wait: 1d }, { send: { body: 'Hi again' } }]";
        let known = Known { touched: true, line_id: Some("pl_0".to_owned()), ..Known::default() };
        let known = HashMap::from([("+12125550101".to_owned(), known)]);
        let rows = crowd(2);
        let plan = plan(&running(source), &Audience { rows: &rows, known: &known }, &lines(&[30]), start(), None, 0);
        assert_eq!(plan.steps[0].faults, BTreeMap::from([("not_pinned".to_owned(), 1)]));
        assert!(plan.steps[1].faults.is_empty(), "they do not come to it");
        let texts = |step: &Step| step.variants.values().sum::<u32>();
        assert_eq!(plan.steps.iter().map(texts).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(plan.steps.iter().map(|step| step.messages).collect::<Vec<_>>(), [(1, 1); 2]);
    }
}
