//! A campaign as it would go, were it begun now: everybody rendered, nothing written. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::Serialize;

use crate::campaign::draft::{Fault, Person, draft};
use crate::campaign::file::shape::{Missing, StopOn};
use crate::campaign::file::words::Name;
use crate::campaign::forecast::{Beside, Entrant, Forecast, Line, Load, Rules, Way, forecast_beside};
use crate::campaign::lint::bubbles;
use crate::campaign::program::Op;
use crate::campaign::running::Running;
use crate::campaign::template::Vars;
use crate::campaign::zone::{region_of, zones_of};
use crate::line::ANY_LINE;
use crate::phone::Phone;

/// At the latest: lines keep about so much of their pace (`prove` measures 86 to 100 %).
pub(super) const PACE_AT_WORST: f64 = 0.85;
/// Rows that are shown of those who are left out or held.
const MOST_EXAMPLES: usize = 20;

/// What the database knows of somebody. Nothing, of most.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pub line_id: Option<String>,
    /// They were written to, or have written.
    pub touched: bool,
    pub zone: Option<Tz>,
    /// Why they are not enrolled: `suppressed`, `in_review`, `already_active`, `already_enrolled`.
    pub bar: Option<String>,
}

/// A row of the audience.
#[derive(Debug, Clone)]
pub struct Row {
    /// Of a file the line, of a query the number of the row.
    pub n: i64,
    pub phone: Option<Phone>,
    pub vars: serde_json::Map<String, serde_json::Value>,
    /// Why it is nobody: `bad_number`, `duplicate`, `unreadable`.
    pub problem: Option<String>,
}

/// A line of the campaign's pool that may send.
#[derive(Debug, Clone)]
pub struct PlanLine {
    pub id: String,
    pub line: Line,
    /// What else is queued for it, and goes first.
    pub queued: Load,
}

/// Lines behind what is queued for them, by their ids; what any line may take is dealt out among them.
pub fn behind(mut lines: Vec<PlanLine>, queued: &HashMap<String, Load>) -> Vec<PlanLine> {
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX).max(1);
    let anywhere = queued.get(ANY_LINE).copied().unwrap_or_default();
    let dealt = |all: u32, place: u32| all / count + u32::from(place < all % count);
    for (place, line) in (0..).zip(&mut lines) {
        let own = queued.get(&line.id).filter(|_| line.id != ANY_LINE).copied().unwrap_or_default();
        line.queued = Load {
            first_touches: own.first_touches + dealt(anywhere.first_touches, place),
            follow_ups: own.follow_ups + dealt(anywhere.follow_ups, place),
        };
    }
    lines
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub campaign: Name,
    pub starts_at: DateTime<Utc>,
    pub people: People,
    /// The steps that send, in the order of the program.
    pub steps: Vec<Step>,
    /// Who get the very same text at two steps.
    pub people_with_a_text_twice: u32,
    pub lines: usize,
    pub days: Vec<Day>,
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

#[derive(Debug, Clone, Default, Serialize)]
pub struct People {
    pub rows: usize,
    pub enrolled: usize,
    /// Of those: new contacts, of whom each costs a first touch.
    pub new: usize,
    /// They wait until somebody mends what is missing.
    pub held: BTreeMap<String, u32>,
    pub left_out: BTreeMap<String, u32>,
    /// The first of those who are held or left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// Of a file the line, of a query the number of the row.
    pub row: i64,
    /// Masked.
    pub phone: Option<String>,
    pub why: String,
}

/// A step that sends, over everybody who may reach it.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub index: usize,
    pub name: Name,
    /// Messages that go out, of both ways the fewer and the more.
    pub messages: (u32, u32),
    /// Whose deadline comes before their turn.
    pub expired: u32,
    /// Renderings, by variant; one without a name where there are none.
    pub variants: BTreeMap<String, u32>,
    /// The fewest and the most bubbles that a text makes.
    pub bubbles: (usize, usize),
    pub longest_chars: usize,
    /// How many people get the text that most people get.
    pub same_text: u32,
    /// Who get none here, which ends or holds their enrolment.
    pub faults: BTreeMap<String, u32>,
}

/// What all lines send on one day, by the lines' clocks, on the longer way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Day {
    pub date: NaiveDate,
    pub first_touches: u32,
    pub follow_ups: u32,
    /// First touches that the lines may send on a day; none without caps.
    pub first_touch_cap: Option<u32>,
}

/// What one person would read.
#[derive(Debug, Clone, Serialize)]
pub struct Rendered {
    pub row: i64,
    /// Masked.
    pub phone: String,
    pub step: Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<Name>,
    pub text: String,
}

/// Whom it is about, and what is known of them.
pub struct Audience<'a> {
    pub rows: &'a [Row],
    /// By number.
    pub known: &'a HashMap<String, Known>,
}

/// Plans it. `previews`: how many people are shown with their texts.
pub fn plan(
    running: &Running,
    audience: &Audience<'_>,
    lines: &[PlanLine],
    starts_at: DateTime<Utc>,
    previews: usize,
) -> Plan {
    let (members, people) = enrol(running, audience);
    let mut texts = Texts::new(running);
    let mut entrants = Vec::with_capacity(members.len());
    let mut preview = Vec::new();
    let spread = running.jitter();
    for (n, member) in members.iter().enumerate() {
        let shown = (n < previews).then_some(&mut preview);
        texts.render(running, member, shown);
        entrants.push(member.entrant(running, lines, spread_at(starts_at, spread, n, members.len())));
    }
    let queued: Vec<Load> = lines.iter().map(|line| line.queued).collect();
    let answers_end_it = running.campaign.stop_on.iter().any(|stop| matches!(stop, StopOn::Reply | StopOn::OptOut));
    let play = |way, pace: f64| {
        let rules = Rules::of(running, way);
        let slower = |gap: Duration| gap.mul_f64(1.0 / pace);
        let slowed = |PlanLine { line, .. }: &PlanLine| Line {
            gap: slower(line.gap),
            first_touch_gap: slower(line.first_touch_gap),
            ..line.clone()
        };
        let half_answer = way == Way::Short && answers_end_it;
        forecast_beside(
            rules,
            &lines.iter().map(slowed).collect::<Vec<_>>(),
            &entrants,
            Beside { queued: &queued, half_answer },
        )
    };
    let (short, long) = (play(Way::Short, 1.0), play(Way::Long, PACE_AT_WORST));
    let people_with_a_text_twice = texts.twice;
    Plan {
        campaign: running.campaign.name.clone(),
        starts_at,
        people,
        steps: texts.steps(&short, &long),
        people_with_a_text_twice,
        lines: lines.len(),
        days: days(&long, lines),
        first_at: long.first_at.into_iter().chain(short.first_at).min(),
        finishes_from: short.last_at.into_iter().chain(long.last_at).min(),
        finishes_by: short.last_at.max(long.last_at),
        line_days: line_days(&long, lines),
        stuck: long.stuck,
        preview,
    }
}

/// Somebody who is enrolled.
struct Member<'a> {
    row: i64,
    phone: &'a Phone,
    known: Known,
    vars: Vars,
}

impl Member<'_> {
    fn entrant(&self, running: &Running, lines: &[PlanLine], at: DateTime<Utc>) -> Entrant {
        let pin = self.known.line_id.as_ref().and_then(|id| lines.iter().position(|line| line.id == *id));
        let (zones, _) = zones_of(self.phone, self.known.zone, running.campaign.zone);
        let region = region_of(self.phone);
        Entrant { at, vars: self.vars.clone(), zones: zones.into_owned(), region, pin, is_new: !self.known.touched }
    }
}

/// Who of the audience is enrolled, and what becomes of the others.
fn enrol<'a>(running: &Running, audience: &Audience<'a>) -> (Vec<Member<'a>>, People) {
    let mut people = People { rows: audience.rows.len(), ..People::default() };
    let mut members = Vec::new();
    let mut seen = HashSet::new();
    for row in audience.rows {
        let Some(phone) = row.phone.as_ref().filter(|_| row.problem.is_none()) else {
            people.leave_out(row, row.problem.clone().unwrap_or_else(|| "bad_number".to_owned()));
            continue;
        };
        if !seen.insert(phone) {
            people.leave_out(row, "duplicate".to_owned());
            continue;
        }
        let known = audience.known.get(phone.as_str()).cloned().unwrap_or_default();
        if let Some(bar) = known.bar {
            people.leave_out(row, bar);
            continue;
        }
        match running.vars(row.vars.clone()) {
            Ok(vars) => {
                people.enrolled += 1;
                people.new += usize::from(!known.touched);
                members.push(Member { row: row.n, phone, known, vars });
            }
            Err(lacking) => {
                let why = format!("{} is missing", lacking.variable);
                match lacking.missing {
                    Missing::Hold => people.hold(row, why),
                    Missing::Skip => people.leave_out(row, why),
                }
            }
        }
    }
    (members, people)
}

impl People {
    fn leave_out(&mut self, row: &Row, why: String) {
        self.example(row, &why);
        *self.left_out.entry(why).or_default() += 1;
    }

    fn hold(&mut self, row: &Row, why: String) {
        self.example(row, &why);
        *self.held.entry(why).or_default() += 1;
    }

    fn example(&mut self, row: &Row, why: &str) {
        if self.examples.len() < MOST_EXAMPLES {
            let phone = row.phone.as_ref().map(Phone::to_string);
            self.examples.push(Example { row: row.n, phone, why: why.to_owned() });
        }
    }
}

/// What everybody would read.
struct Texts {
    steps: Vec<Step>,
    /// How many people get a text, by step.
    counts: Vec<HashMap<String, u32>>,
    twice: u32,
}

impl Texts {
    fn new(running: &Running) -> Texts {
        let sends = running.program.steps().iter().enumerate().filter(|(_, step)| matches!(step.op, Op::Send(_)));
        let step = |(index, step): (usize, &crate::campaign::program::Step)| Step {
            index,
            name: step.name.clone(),
            messages: (0, 0),
            expired: 0,
            variants: BTreeMap::new(),
            bubbles: (usize::MAX, 0),
            longest_chars: 0,
            same_text: 0,
            faults: BTreeMap::new(),
        };
        let steps: Vec<Step> = sends.map(step).collect();
        let counts = vec![HashMap::new(); steps.len()];
        Texts { steps, counts, twice: 0 }
    }

    fn render(&mut self, running: &Running, member: &Member<'_>, mut shown: Option<&mut Vec<Rendered>>) {
        let touched = member.known.touched;
        let mut own: Vec<String> = Vec::new();
        for (step, counts) in self.steps.iter_mut().zip(&mut self.counts) {
            let Some(Op::Send(message)) = running.program.get(step.index).map(|step| &step.op) else { continue };
            // Whoever gets a second message has had a first one.
            let touched = touched || !own.is_empty();
            let line_id = member.known.line_id.as_deref();
            let person = Person { phone: member.phone, vars: &member.vars, line_id, touched };
            let job = match draft(running, &step.name, message, person) {
                Ok(job) => job,
                Err(fault) => {
                    *step.faults.entry(sentence(&fault)).or_default() += 1;
                    continue;
                }
            };
            let wording = message.wording(&running.campaign.name, &step.name, member.phone);
            let variant = wording.variant.clone();
            *step.variants.entry(variant.as_ref().map(Name::to_string).unwrap_or_default()).or_default() += 1;
            let made = bubbles(&job.body);
            step.bubbles = (step.bubbles.0.min(made), step.bubbles.1.max(made));
            step.longest_chars = step.longest_chars.max(job.body.chars().count());
            let count = counts.entry(job.body.clone()).or_default();
            *count += 1;
            step.same_text = step.same_text.max(*count);
            if let Some(shown) = &mut shown {
                let (phone, text) = (member.phone.to_string(), job.body.clone());
                shown.push(Rendered { row: member.row, phone, step: step.name.clone(), variant, text });
            }
            own.push(job.body);
        }
        let all = own.len();
        own.sort_unstable();
        own.dedup();
        self.twice += u32::from(own.len() < all);
    }

    fn steps(self, short: &Forecast, long: &Forecast) -> Vec<Step> {
        let fate = |forecast: &Forecast, index| forecast.steps.get(&index).copied().unwrap_or_default();
        let counted = |mut step: Step| {
            let (short, long) = (fate(short, step.index), fate(long, step.index));
            step.messages = (short.sent.min(long.sent), short.sent.max(long.sent));
            step.expired = long.expired;
            step.bubbles.0 = step.bubbles.0.min(step.bubbles.1);
            step
        };
        self.steps.into_iter().map(counted).collect()
    }
}

fn sentence(fault: &Fault) -> String {
    match fault {
        Fault::NotPinned => "no line has written to them".to_owned(),
        Fault::NotInPool => "their line is not in the pool".to_owned(),
        Fault::Missing(variable) => format!("{variable} is missing"),
        Fault::Unreadable(field) => format!("{field} cannot be rendered"),
    }
}

/// Evenly over the jitter, as chance does for many.
fn spread_at(starts_at: DateTime<Utc>, spread: Duration, n: usize, count: usize) -> DateTime<Utc> {
    let share = spread.mul_f64(n as f64 / count.max(1) as f64);
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

/// Of each line's day the share that is used: of its first touches or of its time, whichever is more.
fn line_days(forecast: &Forecast, lines: &[PlanLine]) -> f64 {
    const DAY_SECS: f64 = 86_400.0;
    let share = |((_, line), load): (&(NaiveDate, usize), &Load)| {
        let line = &lines[*line].line;
        let messages = f64::from(load.first_touches + load.follow_ups);
        let touches = line.first_touch_cap.map_or(0.0, |cap| f64::from(load.first_touches) / f64::from(cap.max(1)));
        touches.max(messages * line.gap.as_secs_f64() / DAY_SECS)
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

    fn row(n: i64, phone: &str, vars: serde_json::Value) -> Row {
        let phone: Option<Phone> = phone.parse().ok();
        let problem = phone.is_none().then(|| "bad_number".to_owned());
        Row { n, phone, vars: vars.as_object().cloned().expect("an object"), problem }
    }

    fn lines(caps: &[u32]) -> Vec<PlanLine> {
        let line = |(n, cap): (usize, &u32)| PlanLine {
            id: format!("pl_{n}"),
            line: Line {
                gap: Duration::from_secs(1),
                first_touch_gap: Duration::from_secs(600),
                first_touch_cap: Some(*cap),
                zone: chrono_tz::America::New_York,
                next_at: start(),
                next_first_touch_at: start(),
                first_touches_left: Some(*cap),
            },
            queued: Load::default(),
        };
        caps.iter().enumerate().map(line).collect()
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
        let plan = plan(&running(TWO), &Audience { rows: &rows, known: &known }, &lines(&[30]), start(), 1);
        let people = &plan.people;
        assert_eq!((people.rows, people.enrolled, people.new), (7, 2, 1));
        let told = |reasons: &BTreeMap<String, u32>| reasons.keys().cloned().collect::<Vec<_>>().join(", ");
        assert_eq!(told(&people.left_out), "bad_number, duplicate, name is missing, suppressed");
        assert_eq!(told(&people.held), "city is missing");
        assert_eq!(people.examples.iter().map(|example| example.row).collect::<Vec<_>>(), [2, 3, 4, 6, 7]);
        assert!(people.examples.iter().all(|example| example.phone.as_ref().is_none_or(|phone| phone.contains('*'))));
        assert_eq!(plan.preview.iter().map(|text| text.text.as_str()).collect::<Vec<_>>(), ["Hi Ann", "Hi Ann"]);
        assert_eq!((plan.people_with_a_text_twice, plan.steps[0].same_text), (2, 2));
    }

    #[test]
    fn what_any_line_may_take_is_dealt_out_among_them() {
        let load = |first_touches, follow_ups| Load { first_touches, follow_ups };
        let queued = HashMap::from([
            ("*".to_owned(), load(5, 0)),
            ("pl_1".to_owned(), load(1, 7)),
            ("of another pool".to_owned(), load(9, 9)),
        ]);
        let loads: Vec<Load> = behind(lines(&[30, 30]), &queued).iter().map(|line| line.queued).collect();
        assert_eq!(loads, [load(3, 0), load(3, 7)]);
    }

    #[test]
    fn days_costs_and_the_end_follow_from_the_lines() {
        let rows: Vec<Row> = (0..100)
            .map(|n| row(n, &format!("+121255501{n:02}"), json!({"name": n.to_string(), "city": "Rome"})))
            .collect();
        let plan =
            plan(&running(TWO), &Audience { rows: &rows, known: &HashMap::new() }, &lines(&[30, 10]), start(), 0);
        let days: Vec<(u32, u32)> = plan.days.iter().map(|day| (day.first_touches, day.follow_ups)).collect();
        assert_eq!(days, [(40, 0), (40, 40), (20, 40), (0, 20)]);
        assert_eq!(plan.days[0].first_touch_cap, Some(40));
        assert_eq!(plan.steps.iter().map(|step| step.messages).collect::<Vec<_>>(), [(100, 100), (50, 100)]);
        // Two whole days of both lines; on the third, ten first touches each, which is all that the second line has.
        assert!((plan.line_days - (2.0 + 2.0 + 10.0 / 30.0 + 1.0)).abs() < 0.01, "{}", plan.line_days);
        assert!(plan.finishes_from <= plan.finishes_by && plan.stuck == 0);
    }
}
