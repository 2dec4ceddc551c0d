//! Hours of the week as people write them: days, and from a time to a time. Pure.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike as _, NaiveDate, NaiveDateTime, TimeDelta, Timelike as _, Weekday};

const DAY_MINUTES: u16 = 1_440;

const WEEK: [Weekday; 7] =
    [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sat, Weekday::Sun];

/// Some days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days([bool; 7]);

/// From a time of day up to another, on some days; past midnight if the second is the earlier one, and then the day is the
/// one on which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    days: Days,
    /// Minutes after midnight.
    from: u16,
    to: u16,
}

/// What cannot be hours of the week, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    #[error("\"{0}\" is not days of the week: write mon-fri, or mon,wed,sat, or daily")]
    Days(String),
    #[error("\"{0}\" is not a time of day: write it from 00:00 to 24:00, such as 09:00")]
    Time(String),
    #[error("from {from} to {to} there is no time: write 00:00 to 24:00 for the whole day")]
    Empty { from: String, to: String },
}

impl Span {
    /// Reads, e.g., `mon-fri`, `09:00`, `18:00`.
    /// Errors: days or times that are none, or no time between them.
    pub fn new(days: &str, from: &str, to: &str) -> Result<Span, HoursError> {
        let (days, from_minute, to_minute) = (days.parse()?, minute(from)?, minute(to)?);
        if from_minute == to_minute || from_minute == DAY_MINUTES {
            return Err(HoursError::Empty { from: from.to_owned(), to: to.to_owned() });
        }
        Ok(Span { days, from: from_minute, to: to_minute })
    }

    fn is_overnight(&self) -> bool {
        self.to < self.from
    }

    /// Whether it is within the span, unless the day on which the span begins is `closed`.
    pub fn holds(&self, local: NaiveDateTime, closed: &dyn Fn(NaiveDate) -> bool) -> bool {
        let now = (local.hour() * 60 + local.minute()) as u16;
        let begins_on = |date: NaiveDate| self.days.has(date.weekday()) && !closed(date);
        let date = local.date();
        if !self.is_overnight() {
            return (self.from..self.to).contains(&now) && begins_on(date);
        }
        (now >= self.from && begins_on(date)) || (now < self.to && date.pred_opt().is_some_and(begins_on))
    }

    /// When the span that begins on a date does so.
    pub fn begins(&self, date: NaiveDate) -> Option<NaiveDateTime> {
        time_of(date, self.from)
    }

    /// When the span that begins on a date, or on the day before it, ends.
    pub fn ends(&self, date: NaiveDate) -> Option<NaiveDateTime> {
        time_of(date, self.to)
    }
}

impl Days {
    pub fn has(self, day: Weekday) -> bool {
        self.0[day.num_days_from_monday() as usize]
    }
}

impl FromStr for Days {
    type Err = HoursError;

    /// Reads `mon-fri`, `mon,wed,sat`, `fri-mon` or `daily`.
    fn from_str(text: &str) -> Result<Days, HoursError> {
        let bad = || HoursError::Days(text.to_owned());
        let mut days = [false; 7];
        for item in text.split(',').map(str::trim) {
            let (first, last) = match item.split_once('-') {
                _ if item == "daily" => (Weekday::Mon, Weekday::Sun),
                Some((first, last)) => (weekday(first).ok_or_else(bad)?, weekday(last).ok_or_else(bad)?),
                None => weekday(item).map(|day| (day, day)).ok_or_else(bad)?,
            };
            let length = last.days_since(first) as usize;
            let start = first.num_days_from_monday() as usize;
            (start..=start + length).for_each(|day| days[day % 7] = true);
        }
        Ok(Days(days))
    }
}

/// As it is read, one name a day.
impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = WEEK.into_iter().filter(|day| self.has(*day)).map(|day| day.to_string().to_lowercase());
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span { days, from, to } = self;
        write!(f, "{days} {:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// `mon` or `monday`, in any case.
fn weekday(text: &str) -> Option<Weekday> {
    // chrono also reads "tues" and the like.
    text.trim().parse().ok()
}

/// Minutes after midnight of a time such as `09:00`; `24:00` is the day's end.
fn minute(text: &str) -> Result<u16, HoursError> {
    let read = || {
        let (hour, minute) = text.split_once(':')?;
        let digits =
            |text: &str, most: usize| (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let plain = digits(hour, 2) && minute.len() == 2 && digits(minute, 2);
        let (hour, minute) = plain.then(|| hour.parse::<u16>().ok().zip(minute.parse::<u16>().ok())).flatten()?;
        let minutes = hour * 60 + minute;
        (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
    };
    read().ok_or_else(|| HoursError::Time(text.to_owned()))
}

fn time_of(date: NaiveDate, minute: u16) -> Option<NaiveDateTime> {
    date.and_hms_opt(0, 0, 0)?.checked_add_signed(TimeDelta::minutes(minute.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(days: &str, from: &str, to: &str) -> Result<String, HoursError> {
        Span::new(days, from, to).map(|span| span.to_string())
    }

    #[test]
    fn hours_are_written_as_people_do() {
        assert_eq!(span("mon-fri", "09:00", "18:00").as_deref(), Ok("mon,tue,wed,thu,fri 09:00-18:00"));
        assert_eq!(span("Fri - Monday", "9:00", "24:00").as_deref(), Ok("mon,fri,sat,sun 09:00-24:00"));
        assert_eq!(span("wed, sat", "22:00", "06:30").as_deref(), Ok("wed,sat 22:00-06:30"));
        assert_eq!(span("daily", "00:00", "24:00").as_deref(), Ok("mon,tue,wed,thu,fri,sat,sun 00:00-24:00"));
        for days in ["", "mon-", "workdays", "mon;tue", "1-5"] {
            assert_eq!(span(days, "09:00", "18:00"), Err(HoursError::Days(days.to_owned())));
        }
        for time in ["", "9", "09:60", "24:01", "25:00", "-1:00", "9:5", "09:00:00", "0９:00"] {
            assert_eq!(span("mon", time, "18:00"), Err(HoursError::Time(time.to_owned())));
        }
        for (from, to) in [("09:00", "9:00"), ("24:00", "09:00")] {
            assert!(matches!(span("mon", from, to), Err(HoursError::Empty { .. })), "{from} {to}");
        }
    }

    #[test]
    fn a_span_past_midnight_belongs_to_the_day_on_which_it_begins() {
        let late = Span::new("fri", "22:00", "02:00").expect("a span");
        let holds = |at: &str, closed: &str| {
            let local = format!("{at}:00").parse().expect("a time");
            late.holds(local, &|date| date.to_string() == closed)
        };
        // 6 November 2026 is a Friday.
        for (at, within) in [
            ("2026-11-06T21:59", false),
            ("2026-11-06T22:00", true),
            ("2026-11-07T01:59", true),
            ("2026-11-07T02:00", false),
            ("2026-11-06T01:00", false),
            ("2026-11-07T22:30", false),
        ] {
            assert_eq!(holds(at, ""), within, "{at}");
            assert!(!holds(at, "2026-11-06"), "{at}: the day on which it begins is closed");
        }
        assert!(holds("2026-11-07T01:00", "2026-11-07"));
    }
}
