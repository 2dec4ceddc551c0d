//! When a cron spec fires. The `cron` crate reads the fields and finds the days; what five fields have always meant, and
//! what happens when clocks change, is decided here. Pure.
//!
//! - Five fields are those of crontab(5): minute, hour, day of month, month, day of week; Sunday is 0 or 7. Six fields have the
//!   second first; seven have the year last. More fields never change what the others mean.
//! - When neither day field starts with `*` (or `?`), a day that either of them names will do; else both must name it.
//! - A spec names local times. One that the clocks skip fires at the first instant after the gap, and several in one gap are
//!   one firing; one that comes twice fires once, the first time. So a spec of every minute is silent while an hour repeats.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::zone::first_instant;

/// A longer text is no spec.
const MAX_SPEC: usize = 500;

/// As many local times may be passed over because they have fired already: a day of seconds, more than any clock was ever put back.
const MAX_REPEATED: usize = 86_401;

/// The fields in the order of seven.
const FIELDS: [FieldKind; 7] = [
    FieldKind { name: "second", write: "0 to 59, a range such as 0-29, a step such as */10" },
    FieldKind { name: "minute", write: "0 to 59, a range such as 0-29, a step such as */15" },
    FieldKind { name: "hour", write: "0 to 23, a range such as 9-17, a step such as */4" },
    FieldKind { name: "day of month", write: "1 to 31, a range such as 1-7, a step such as */2" },
    FieldKind { name: "month", write: "1 to 12 or jan to dec, a range such as jan-mar, a step such as */3" },
    FieldKind { name: "day of week", write: "0 to 7 (0 and 7 are Sunday) or sun to sat, a range such as mon-fri" },
    FieldKind { name: "year", write: "1970 to 2100, a range such as 2026-2028" },
];

const DAY_OF_MONTH: usize = 3;
const DAY_OF_WEEK: usize = 5;

/// The names of a week's days; full names are read too.
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// One cron spec, read. Two are equal if they were written alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    /// It fires when either does: the crate knows no "or" between the day fields.
    either: Vec<cron::Schedule>,
}

/// Why a text is no cron spec, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    #[error(
        "a cron spec has 5 fields (minute, hour, day of month, month, day of week), 6 (second first) or 7 (year last); this has {0}: \
         write e.g. 0 9 * * mon-fri"
    )]
    Count(usize),
    #[error(
        "\"{item}\" is no {field} (field {number}, column {column} of the spec): write {write}, several with commas, or *"
    )]
    Field {
        /// What the field is called, e.g. `hour`.
        field: &'static str,
        /// Its place in the spec, from 1.
        number: usize,
        /// Where the bad part begins in the spec, in characters from 1.
        column: usize,
        item: String,
        write: &'static str,
    },
    #[error(
        "\"{0}\" is no name for a cron spec: write @yearly, @monthly, @weekly, @daily, @hourly, or five fields such as 0 9 * * *"
    )]
    Macro(String),
    #[error("a cron spec has no zone in it: write the zone as a key of its own beside it")]
    Zone,
    #[error(
        "this cron spec never fires: no such day exists up to the year 2100; check the day of month against the month and the year"
    )]
    Never,
    #[error("a cron spec has at most {MAX_SPEC} characters")]
    TooLong,
}

struct FieldKind {
    name: &'static str,
    write: &'static str,
}

impl Schedule {
    /// Reads a spec of five, six or seven fields or a macro such as `@daily`.
    /// Errors: the field, the place and what to write; also for a spec that never fires, such as 30 February.
    pub fn parse(text: &str) -> Result<Schedule, CronError> {
        if text.len() > MAX_SPEC {
            return Err(CronError::TooLong);
        }
        let spec = expand_macro(text)?;
        let words = words(spec);
        if words.first().is_some_and(|(_, word)| word.contains('=')) {
            return Err(CronError::Zone);
        }
        if !(5..=7).contains(&words.len()) {
            return Err(CronError::Count(words.len()));
        }
        let mut fields = ["0", "*", "*", "*", "*", "*", "*"].map(str::to_owned);
        let first = if words.len() == 5 { 1 } else { 0 };
        for (index, (column, word)) in words.iter().enumerate() {
            fields[first + index] = read_field(first + index, index + 1, *column, word)?;
        }
        let either = match [DAY_OF_MONTH, DAY_OF_WEEK].map(|day| words[day - first].1.starts_with(['*', '?'])) {
            [false, false] => [DAY_OF_MONTH, DAY_OF_WEEK].map(|day| compile(&fields, Some(day))).to_vec(),
            _ => vec![compile(&fields, None)],
        };
        let schedule = Schedule { text: text.trim().to_owned(), either };
        let start = DateTime::UNIX_EPOCH.naive_utc() - chrono::TimeDelta::seconds(1);
        let fires = schedule.either.iter().any(|one| one.after(&start.and_utc()).next().is_some());
        if fires { Ok(schedule) } else { Err(CronError::Never) }
    }

    /// The first instant after `at` at which the spec fires where the clocks are those of `zone`; none if there is none
    /// before the year 2101. Asking again with the answer gives every firing once.
    pub fn next_after(&self, at: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        // The crate walks over local times as if they were UTC's, which has neither gaps nor repeats. Later local times never
        // map to earlier instants, so the first that lies after `at` is the next; those before it fired in an hour that repeats.
        let local = at.with_timezone(&zone).naive_local().and_utc();
        let next = |one: &cron::Schedule| {
            let named = one.after(&local).take(MAX_REPEATED);
            named.filter_map(|named| first_instant(named.naive_utc(), zone)).find(|instant| *instant > at)
        };
        self.either.iter().filter_map(next).min()
    }
}

impl FromStr for Schedule {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Schedule, CronError> {
        Schedule::parse(text)
    }
}

/// As it was written.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn expand_macro(text: &str) -> Result<&str, CronError> {
    let word = text.trim();
    if !word.starts_with('@') {
        return Ok(text);
    }
    let known = MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    known.map(|(_, spec)| *spec).ok_or_else(|| CronError::Macro(word.to_owned()))
}

/// The words of a text, each with its column in characters from 1.
fn words(text: &str) -> Vec<(usize, &str)> {
    let place = |word: &str| text[..word.as_ptr() as usize - text.as_ptr() as usize].chars().count() + 1;
    text.split_whitespace().map(|word| (place(word), word)).collect()
}

/// One field as the crate reads it, each part of a list tried by itself so that an error can point at it.
fn read_field(kind: usize, number: usize, column: usize, word: &str) -> Result<String, CronError> {
    let mut read = Vec::new();
    let mut column = column;
    for item in word.split(',') {
        let written = if kind == DAY_OF_WEEK { weekdays(item) } else { Some(item.to_owned()) };
        // The crate would take nothing at all for the year left out.
        let written = written.filter(|written| !written.is_empty());
        let understood = written.filter(|written| spec_of_one(kind, written).parse::<cron::Schedule>().is_ok());
        let FieldKind { name: field, write } = FIELDS[kind];
        let bad = || CronError::Field { field, number, column, item: item.to_owned(), write };
        read.push(understood.ok_or_else(bad)?);
        column += item.chars().count() + 1;
    }
    Ok(read.join(","))
}

/// All seven fields are always there: the crate would take what is too much in one field for the next.
fn spec_of_one(kind: usize, item: &str) -> String {
    let mut fields = ["*"; 7];
    fields[kind] = item;
    fields.join(" ")
}

/// Puts the fields together; `only_day` is the one day field that counts.
fn compile(fields: &[String; 7], only_day: Option<usize>) -> cron::Schedule {
    let mut fields = fields.clone();
    match only_day {
        Some(DAY_OF_MONTH) => fields[DAY_OF_WEEK] = "*".to_owned(),
        Some(_) => fields[DAY_OF_MONTH] = "*".to_owned(),
        None => {}
    }
    fields.join(" ").parse().expect("every part of it was read before")
}

/// Days of the week as the crate counts them, from Sunday as 1, in a list. None if it is not a number, a name, a range or a step.
fn weekdays(item: &str) -> Option<String> {
    let (range, step) = match item.split_once('/') {
        Some((range, step)) => (range, Some(number(step).filter(|step| (1..=7).contains(step))?)),
        None => (item, None),
    };
    let (from, to) = match range.split_once('-') {
        _ if matches!(range, "*" | "?") => (0, 6),
        // A range ends on the Sunday after it began: fri-sun.
        Some((from, to)) => (weekday(from)?, weekday(to).map(|to| if to == 0 && !is_sunday(from) { 7 } else { to })?),
        // As the crate has it in other fields, a step goes on to the end of the week.
        None => weekday(range).map(|from| (from, if step.is_some() { from.max(6) } else { from }))?,
    };
    if from > to {
        return None;
    }
    let days = (from..=to).step_by(step.unwrap_or(1));
    Some(days.map(|day| (day % 7 + 1).to_string()).collect::<Vec<_>>().join(","))
}

fn is_sunday(text: &str) -> bool {
    weekday(text) == Some(0)
}

/// 0 to 7; a name is 0 to 6.
fn weekday(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let named = WEEKDAYS.iter().position(|name| *name == lower || name[..3] == lower);
    named.or_else(|| number(text).filter(|day| *day <= 7))
}

fn number(text: &str) -> Option<usize> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike as _, NaiveDateTime, TimeDelta, TimeZone as _, Timelike as _};
    use chrono_tz::{America, Europe, TZ_VARIANTS};
    use proptest::prelude::*;

    use super::super::zone;
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).expect("a time").with_timezone(&Utc)
    }

    /// The next `count` firings, as local times with their offset.
    fn fires(spec: &str, after: &str, zone: Tz, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(spec).expect(spec);
        let next = |at: &DateTime<Utc>| schedule.next_after(*at, zone);
        std::iter::successors(next(&utc(after)), next)
            .take(count)
            .map(|at| at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M:%S%:z").to_string())
            .collect()
    }

    #[test]
    fn five_fields_are_those_of_crontab() {
        let week = |spec| {
            let all = fires(spec, "2026-11-01T12:00:00Z", Tz::UTC, 7);
            all.iter().map(|at| at[..3].to_owned()).collect::<Vec<_>>().join(" ")
        };
        for (spec, days) in [
            ("0 9 * * 0", "Sun Sun Sun Sun Sun Sun Sun"),
            ("0 9 * * 7", "Sun Sun Sun Sun Sun Sun Sun"),
            ("0 9 * * 1", "Mon Mon Mon Mon Mon Mon Mon"),
            ("0 9 * * mon-fri", "Mon Tue Wed Thu Fri Mon Tue"),
            ("0 9 * * MON-Friday", "Mon Tue Wed Thu Fri Mon Tue"),
            ("0 9 * * 5-7", "Fri Sat Sun Fri Sat Sun Fri"),
            ("0 9 * * fri-sun", "Fri Sat Sun Fri Sat Sun Fri"),
            ("0 9 * * sun-tue", "Mon Tue Sun Mon Tue Sun Mon"),
            ("0 9 * * 0-7", "Mon Tue Wed Thu Fri Sat Sun"),
            ("0 9 * * sun-sun", "Sun Sun Sun Sun Sun Sun Sun"),
            ("0 9 * * */2", "Tue Thu Sat Sun Tue Thu Sat"),
            ("0 9 * * 1-5/2,sat", "Mon Wed Fri Sat Mon Wed Fri"),
            ("0 9 * * 4/2", "Thu Sat Thu Sat Thu Sat Thu"),
        ] {
            assert_eq!(week(spec), days, "{spec}");
        }
        assert_eq!(
            fires("30 4 1,15 * fri", "2026-11-01T12:00:00Z", Tz::UTC, 4),
            [
                "Fri 2026-11-06 04:30:00+00:00",
                "Fri 2026-11-13 04:30:00+00:00",
                "Sun 2026-11-15 04:30:00+00:00",
                "Fri 2026-11-20 04:30:00+00:00"
            ],
            "either day field will do when both are restricted"
        );
        assert_eq!(
            fires("0 0 */2 * mon", "2026-11-01T12:00:00Z", Tz::UTC, 2),
            ["Mon 2026-11-09 00:00:00+00:00", "Mon 2026-11-23 00:00:00+00:00"],
            "a field that starts with * restricts nothing by itself, as in crontab(5): both must match"
        );
    }

    #[test]
    fn more_fields_add_seconds_and_a_year_and_change_nothing_else() {
        let after = "2026-11-01T12:00:00Z";
        assert_eq!(fires("0 9 13 * fri", after, Tz::UTC, 9), fires("0 0 9 13 * fri", after, Tz::UTC, 9));
        assert_eq!(fires("0 9 * * 7", after, Tz::UTC, 9), fires("0 0 9 ? * 7 *", after, Tz::UTC, 9));
        assert_eq!(
            fires("*/20 59 23 31 12 * 2026,2028", after, Tz::UTC, 9),
            [
                "Thu 2026-12-31 23:59:00+00:00",
                "Thu 2026-12-31 23:59:20+00:00",
                "Thu 2026-12-31 23:59:40+00:00",
                "Sun 2028-12-31 23:59:00+00:00",
                "Sun 2028-12-31 23:59:20+00:00",
                "Sun 2028-12-31 23:59:40+00:00",
            ]
        );
    }

    #[test]
    fn macros_are_their_five_fields() {
        for (name, spec) in MACROS {
            let after = "2026-11-01T12:00:00Z";
            assert_eq!(fires(name, after, America::New_York, 5), fires(spec, after, America::New_York, 5), "{name}");
        }
        assert_eq!(Schedule::parse(" @Daily ").expect("a macro").to_string(), "@Daily");
    }

    #[test]
    fn a_skipped_time_fires_after_the_gap_and_a_repeated_one_once() {
        // New York skips 2:00 to 3:00 on 14 March 2027 and repeats 1:00 to 2:00 on 7 November 2027.
        let (spring, fall) = ("2027-03-13T12:00:00Z", "2027-11-06T12:00:00Z");
        assert_eq!(
            fires("30 2 * * *", spring, America::New_York, 2),
            ["Sun 2027-03-14 03:00:00-04:00", "Mon 2027-03-15 02:30:00-04:00"]
        );
        assert_eq!(
            fires("30 1 * * *", fall, America::New_York, 2),
            ["Sun 2027-11-07 01:30:00-04:00", "Mon 2027-11-08 01:30:00-05:00"]
        );
        assert_eq!(
            fires("*/30 0-3 * * *", spring, America::New_York, 6)[3..],
            ["Sun 2027-03-14 01:30:00-05:00", "Sun 2027-03-14 03:00:00-04:00", "Sun 2027-03-14 03:30:00-04:00"],
            "several in one gap are one"
        );
        assert_eq!(
            fires("@hourly", "2027-11-07T04:30:00Z", America::New_York, 2),
            ["Sun 2027-11-07 01:00:00-04:00", "Sun 2027-11-07 02:00:00-05:00"],
            "each local hour once"
        );
        // Asked in the middle of the hour that repeats, the second time round.
        assert_eq!(
            fires("* * * * * *", "2027-11-07T06:15:00.5Z", America::New_York, 1),
            ["Sun 2027-11-07 02:00:00-05:00"]
        );
        assert_eq!(
            fires("45 23 31 12 *", "2026-11-01T12:00:00.25Z", Europe::Paris, 1),
            ["Thu 2026-12-31 23:45:00+01:00"]
        );
    }

    #[test]
    fn an_error_names_the_field_and_the_place_and_what_to_write() {
        let error = |spec: &str| Schedule::parse(spec).expect_err(spec);
        assert_eq!(
            error("0 9,24 * * *").to_string(),
            "\"24\" is no hour (field 2, column 5 of the spec): write 0 to 23, a range such as 9-17, a step such as */4, several \
             with commas, or *"
        );
        for (spec, field, number, column, item) in [
            ("60 9 * * *", "minute", 1, 1, "60"),
            (" 0  9 * * 8", "day of week", 5, 11, "8"),
            ("0 9 * * mon,funday", "day of week", 5, 13, "funday"),
            ("0 9 * * fri-mon", "day of week", 5, 9, "fri-mon"),
            ("0 9 * * */9", "day of week", 5, 9, "*/9"),
            ("0 9 0 * *", "day of month", 3, 5, "0"),
            ("0 9 L * *", "day of month", 3, 5, "L"),
            ("0 9 * 13 *", "month", 4, 7, "13"),
            ("0 22-2 * * *", "hour", 2, 3, "22-2"),
            ("*/0 * * * *", "minute", 1, 1, "*/0"),
            ("1,,2 * * * *", "minute", 1, 3, ""),
            ("** * * * *", "minute", 1, 1, "**"),
            ("1* * * * *", "minute", 1, 1, "1*"),
            ("0 0 9 * * * 1969", "year", 7, 13, "1969"),
            ("61 0 9 * * *", "second", 1, 1, "61"),
        ] {
            let CronError::Field { field: f, number: n, column: c, item: i, .. } = error(spec) else {
                panic!("{spec}: {}", error(spec));
            };
            assert_eq!((f, n, c, i.as_str()), (field, number, column, item), "{spec}");
        }
        assert_eq!(error("0 9 * *"), CronError::Count(4));
        assert_eq!(error(""), CronError::Count(0));
        assert_eq!(error("* * * * * * * *"), CronError::Count(8));
        assert_eq!(error("@every 5m"), CronError::Macro("@every 5m".to_owned()));
        assert_eq!(error("CRON_TZ=UTC 0 9 * * *"), CronError::Zone);
        assert_eq!(error(&"0,".repeat(400)), CronError::TooLong);
    }

    #[test]
    fn a_spec_that_never_fires_is_refused() {
        for spec in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 29 2 * 2026", "0 0 0 29 2 * 2100"] {
            assert_eq!(Schedule::parse(spec), Err(CronError::Never), "{spec}");
        }
        assert!(Schedule::parse("0 0 29 2 *").is_ok());
        assert!(Schedule::parse("0 0 30 2 mon").is_ok(), "the Mondays of February");
        let past = Schedule::parse("0 0 0 1 1 * 2020").expect("it fired once");
        assert_eq!(past.next_after(utc("2026-01-01T00:00:00Z"), Tz::UTC), None);
    }

    /// A field as crontab(5) has it, apart from how it is written.
    #[derive(Debug, Clone)]
    struct Field {
        star: bool,
        values: Vec<u32>,
        text: String,
    }

    fn field(min: u32, max: u32, sunday_7: bool) -> impl Strategy<Value = Field> {
        let item = (min..=max, min..=max, 1..=max.min(7), 0..4_u8).prop_map(move |(a, b, step, shape)| {
            let (a, b) = (a.min(b), a.max(b));
            let last = if sunday_7 { 6 } else { max };
            match shape {
                0 => (vec![a], format!("{a}")),
                1 => ((a..=b).collect(), format!("{a}-{b}")),
                2 => ((a..=b).step_by(step as usize).collect(), format!("{a}-{b}/{step}")),
                _ => ((min..=last).step_by(step as usize).collect(), format!("*/{step}")),
            }
        });
        let fold = move |items: Vec<(Vec<u32>, String)>| {
            let text = items.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(",");
            let values = items.into_iter().flat_map(|(values, _)| values);
            let values = values.map(|value| if sunday_7 { value % 7 } else { value }).collect();
            Field { star: text.starts_with('*'), values, text }
        };
        let star = Just(Field { star: true, values: (min..=max).collect(), text: "*".to_owned() });
        prop_oneof![star, proptest::collection::vec(item, 1..3).prop_map(fold)]
    }

    fn named(fields: &[Field; 5], local: NaiveDateTime) -> bool {
        let has = |index: usize, value: u32| fields[index].values.contains(&value);
        let (month_day, week_day) = (has(2, local.day()), has(4, local.weekday().num_days_from_sunday()));
        let day = if fields[2].star || fields[4].star { month_day && week_day } else { month_day || week_day };
        has(0, local.minute()) && has(1, local.hour()) && has(3, local.month()) && day
    }

    /// Walks over every minute with an eye on the wall clock alone: what it newly shows, or has jumped over, fires now.
    fn walk(
        named: impl Fn(NaiveDateTime) -> bool,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        zone: Tz,
    ) -> Vec<DateTime<Utc>> {
        let minute = TimeDelta::minutes(1);
        let mut highest = from.with_timezone(&zone).naive_local();
        let mut fires = Vec::new();
        let mut at = from + minute;
        while at <= until {
            let shown = at.with_timezone(&zone).naive_local();
            let mut any = false;
            while highest < shown {
                highest += minute;
                any |= named(highest);
            }
            if any {
                fires.push(at);
            }
            at += minute;
        }
        fires
    }

    fn all_fires(schedule: &Schedule, from: DateTime<Utc>, until: DateTime<Utc>, zone: Tz) -> Vec<DateTime<Utc>> {
        let next = |at: &DateTime<Utc>| schedule.next_after(*at, zone).filter(|at| *at <= until);
        std::iter::successors(next(&from), next).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_walk_over_every_minute_finds_the_same_firings(
            fields in [field(0, 59, false), field(0, 23, false), field(1, 31, false), field(1, 12, false), field(0, 7, true)],
            hours in 0..90_000_i64, zone in proptest::sample::select(&TZ_VARIANTS[..]),
        ) {
            let text = fields.iter().map(|field| field.text.as_str()).collect::<Vec<_>>().join(" ");
            let parsed = Schedule::parse(&text);
            prop_assume!(parsed != Err(CronError::Never));
            let schedule = parsed.map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
            let from = utc("2025-01-01T00:00:00Z") + TimeDelta::hours(hours);
            let until = from + TimeDelta::days(12);
            let clear = |at: DateTime<Utc>| zone.from_local_datetime(&at.with_timezone(&zone).naive_local()).single().is_some();
            prop_assume!(clear(from));
            prop_assert_eq!(all_fires(&schedule, from, until, zone), walk(|local| named(&fields, local), from, until, zone), "{}", text);
        }

        #[test]
        fn no_text_breaks_it(text in "[0-9*/,?@a-z -]{0,40}", any in any::<String>()) {
            let _ = Schedule::parse(&text);
            let _ = Schedule::parse(&any);
        }
    }

    #[test]
    fn every_change_of_clocks_in_ten_years_fires_each_local_time_once() {
        let specs = ["*/5 * * * *", "30 0-3 * * *", "15 2 * * *", "0 * * * sun"];
        let specs = specs.map(|spec| (spec, Schedule::parse(spec).expect(spec)));
        let wants = |spec: &str, local: NaiveDateTime| match spec {
            "*/5 * * * *" => local.minute().is_multiple_of(5),
            "30 0-3 * * *" => local.minute() == 30 && local.hour() <= 3,
            "15 2 * * *" => local.minute() == 15 && local.hour() == 2,
            _ => local.minute() == 0 && local.weekday() == chrono::Weekday::Sun,
        };
        for (changes, zone) in zone::changes::of_every_zone() {
            for (change, ..) in changes {
                let (from, until) = (change - TimeDelta::hours(5), change + TimeDelta::hours(5));
                for (spec, schedule) in &specs {
                    let want = walk(|local| wants(spec, local), from, until, zone);
                    assert_eq!(all_fires(schedule, from, until, zone), want, "{spec} in {zone} around {change}");
                    // Asked at any time, also while an hour comes the second time.
                    for at in (0..30).map(|step| from + TimeDelta::minutes(step * 20 + 7)) {
                        let next = want.iter().find(|fire| **fire > at).copied();
                        let found = schedule.next_after(at, zone).filter(|fire| *fire <= until);
                        assert_eq!(found, next, "{spec} in {zone} after {at}");
                    }
                }
            }
        }
    }
}
