//! Holidays and business days, by calendars that are files. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use chrono::{Datelike as _, Days, NaiveDate, Weekday};

/// The calendars that come with the product, by country, and one for those who keep no holidays.
const BUILT_IN: [(&str, &str); 7] = [
    ("au", include_str!("calendars/au.txt")),
    ("ca", include_str!("calendars/ca.txt")),
    ("de", include_str!("calendars/de.txt")),
    ("fr", include_str!("calendars/fr.txt")),
    ("gb", include_str!("calendars/gb.txt")),
    ("us", include_str!("calendars/us.txt")),
    ("weekdays", include_str!("calendars/weekdays.txt")),
];

static CALENDARS: LazyLock<HashMap<&str, Calendar>> = LazyLock::new(|| {
    let read = |(name, text)| (name, Calendar::read(name, text).expect("the built-in calendars are read by a test"));
    BUILT_IN.map(read).into()
});

/// So many days ahead a business day is looked for; no calendar that is read has as many without one.
const SEARCH_DAYS: u64 = 366;

/// The holidays of one place. Saturday and Sunday are never business days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    holidays: BTreeMap<NaiveDate, String>,
}

/// A calendar that cannot be read, with the line that is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the calendar {name}: {problem}")]
pub struct CalendarError {
    name: String,
    line: usize,
    problem: &'static str,
}

impl Calendar {
    /// A calendar that comes with the product, e.g. `us`; see [`Calendar::names`].
    pub fn named(name: &str) -> Option<&'static Calendar> {
        CALENDARS.get(name)
    }

    /// What [`Calendar::named`] knows, in order.
    pub fn names() -> [&'static str; BUILT_IN.len()] {
        BUILT_IN.map(|(name, _)| name)
    }

    /// Reads a calendar: a date such as `2026-12-25` and a name on each line; `#` begins a comment.
    /// Errors: the line that is not so, or from which on no business day comes for more than a year.
    pub fn read(name: &str, text: &str) -> Result<Calendar, CalendarError> {
        let (mut holidays, mut lines) = (BTreeMap::new(), HashMap::new());
        let wrong = |line, problem| CalendarError { name: name.to_owned(), line, problem };
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let bad = |problem| wrong(index + 1, problem);
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (date, holiday) = line.split_once(char::is_whitespace).ok_or_else(|| bad("write a date and a name"))?;
            let date = date.parse().map_err(|_| bad("write the date as in 2026-12-25"))?;
            holidays.entry(date).or_insert_with(|| holiday.trim().to_owned());
            lines.entry(date).or_insert(index + 1);
        }
        let calendar = Calendar { holidays };
        match calendar.closed_from() {
            Some(date) => Err(wrong(lines[&date], "from this day on there is no business day for more than a year")),
            None => Ok(calendar),
        }
    }

    /// A calendar of these holidays, with their names.
    pub fn of(holidays: BTreeMap<NaiveDate, String>) -> Calendar {
        Calendar { holidays }
    }

    pub fn holidays(&self) -> &BTreeMap<NaiveDate, String> {
        &self.holidays
    }

    /// The last year that the calendar tells of: after it, every weekday counts as a business day. None for an empty one.
    pub fn last_year(&self) -> Option<i32> {
        self.holidays.last_key_value().map(|(date, _)| date.year())
    }

    /// What holiday a day is, if it is one.
    pub fn holiday(&self, date: NaiveDate) -> Option<&str> {
        self.holidays.get(&date).map(String::as_str)
    }

    /// Whether a day is neither a Saturday, nor a Sunday, nor a holiday.
    pub fn is_business_day(&self, date: NaiveDate) -> bool {
        !matches!(date.weekday(), Weekday::Sat | Weekday::Sun) && self.holiday(date).is_none()
    }

    /// The first holiday from which on no business day comes for more than a year; none of a calendar to live by.
    pub fn closed_from(&self) -> Option<NaiveDate> {
        let mut open = NaiveDate::MIN;
        for date in self.holidays.keys() {
            // All days up to the next business day have the same one.
            if *date < open {
                continue;
            }
            // A weekend may stand before it, and whoever waits does so since the day before that.
            let mut before = *date;
            while !self.is_business_day(before) {
                before = before.pred_opt()?;
            }
            match self.next_business_day(before) {
                Some(next) => open = next,
                None => return Some(*date),
            }
        }
        None
    }

    /// The first business day after a day, which itself does not count; none if there is none within a year.
    pub fn next_business_day(&self, date: NaiveDate) -> Option<NaiveDate> {
        let later = (1..=SEARCH_DAYS).filter_map(|days| date.checked_add_days(Days::new(days)));
        later.into_iter().find(|day| self.is_business_day(*day))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().expect(text)
    }

    fn calendar(name: &str) -> &'static Calendar {
        Calendar::named(name).expect(name)
    }

    #[test]
    fn a_file_that_an_editor_begins_with_a_mark_is_read() {
        assert_eq!(
            Calendar::read("ours", "\u{feff}2026-12-25 Christmas\n"),
            Calendar::read("ours", "2026-12-25 Christmas\n")
        );
        assert!(Calendar::read("ours", "2026-12-25 Christmas\n").is_ok());
    }

    #[test]
    fn every_calendar_that_comes_with_the_product_is_read_and_reaches_far() {
        assert_eq!(calendar("weekdays").last_year(), None, "it knows no holiday");
        for name in Calendar::names().into_iter().filter(|name| *name != "weekdays") {
            let calendar = calendar(name);
            assert!(calendar.last_year() >= Some(2035), "{name}");
            for year in 2025..=2035 {
                let days = calendar.holidays.keys().filter(|date| date.year() == year).count();
                assert!((7..=15).contains(&days), "{name} has {days} holidays in {year}");
            }
        }
        assert_eq!(Calendar::named("atlantis"), None);
    }

    #[test]
    fn the_next_business_day_passes_over_weekends_and_holidays() {
        let next = |name, day| calendar(name).next_business_day(date(day)).map(|day| day.to_string());
        assert_eq!(next("us", "2026-11-25").as_deref(), Some("2026-11-27"), "Thanksgiving");
        assert_eq!(
            next("us", "2026-07-02").as_deref(),
            Some("2026-07-06"),
            "Independence Day is a Saturday: Friday is free"
        );
        assert_eq!(
            next("us", "2027-12-30").as_deref(),
            Some("2028-01-03"),
            "New Year of 2028 is kept on the Friday before"
        );
        assert_eq!(next("gb", "2026-12-24").as_deref(), Some("2026-12-29"), "Boxing Day is kept on the Monday");
        assert_eq!(next("de", "2026-04-02").as_deref(), Some("2026-04-07"), "Easter");
        assert_eq!(next("fr", "2026-07-13").as_deref(), Some("2026-07-15"));
        assert_eq!(next("us", "2026-07-13").as_deref(), Some("2026-07-14"));
        assert_eq!(next("weekdays", "2026-12-24").as_deref(), Some("2026-12-25"));
        assert_eq!(next("weekdays", "2026-12-25").as_deref(), Some("2026-12-28"));
        assert_eq!(calendar("us").holiday(date("2026-11-26")), Some("Thanksgiving Day"));
    }

    /// 5 U.S.C. 6103, by a walk over the days of a year.
    fn is_federal_holiday(day: NaiveDate) -> bool {
        let nth = (day.day() - 1) / 7 + 1;
        let last = day.checked_add_days(Days::new(7)).is_none_or(|next| next.month() != day.month());
        let fixed =
            |date: NaiveDate| matches!((date.month(), date.day()), (1, 1) | (6, 19) | (7, 4) | (11, 11) | (12, 25));
        let shifted = |days: i64| day.checked_add_signed(chrono::TimeDelta::days(days)).expect("a day");
        let floating = match (day.month(), day.weekday()) {
            (1 | 2, Weekday::Mon) => nth == 3,
            (5, Weekday::Mon) => last,
            (9, Weekday::Mon) => nth == 1,
            (10, Weekday::Mon) => nth == 2,
            (11, Weekday::Thu) => nth == 4,
            _ => false,
        };
        floating
            || fixed(day)
            || (day.weekday() == Weekday::Fri && fixed(shifted(1)))
            || (day.weekday() == Weekday::Mon && fixed(shifted(-1)))
    }

    #[test]
    fn the_federal_holidays_follow_their_law() {
        let (start, end) = (date("2025-01-01"), date("2036-01-01"));
        for day in start.iter_days().take_while(|day| *day < end) {
            assert_eq!(calendar("us").holiday(day).is_some(), is_federal_holiday(day), "{day}");
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        let own = Calendar::read("own", "# ours\n2026-05-04 Founders' Day # since 1999\n").expect("a good calendar");
        assert_eq!(own.holiday(date("2026-05-04")), Some("Founders' Day"));
        for (text, line) in [("2026-05-04\n", 1), ("\n4 May, our day\n", 2)] {
            assert_eq!(Calendar::read("own", text).expect_err(text).line, line);
        }
    }

    #[test]
    fn a_tab_parts_a_date_from_its_name() {
        let own = Calendar::read("own", "2026-05-04\tFounders' Day\n2026-05-05 \t Rest\n").expect("a good calendar");
        assert_eq!(own.holiday(date("2026-05-04")), Some("Founders' Day"));
        assert_eq!(own.holiday(date("2026-05-05")), Some("Rest"));
    }

    /// A calendar's text of so many days from a Monday on.
    fn closed(days: usize) -> String {
        let monday = date("2026-06-01");
        monday.iter_days().take(days).map(|day| format!("{day} Summer\n")).collect()
    }

    #[test]
    fn long_holidays_are_passed_over_and_endless_ones_refused() {
        let summer = Calendar::read("school", &closed(45)).expect("a good calendar");
        for day in ["2026-05-29", "2026-06-01", "2026-07-10"] {
            assert_eq!(summer.next_business_day(date(day)), Some(date("2026-07-16")), "{day}");
        }
        // From the Friday before it, a year passes.
        let long = Calendar::read("school", &closed(361)).expect("a good calendar");
        assert_eq!(long.next_business_day(date("2026-05-29")), Some(date("2027-05-28")));
        for days in [363, 366, 400, 5_000] {
            let error =
                Calendar::read("school", &format!("2026-01-01 New Year\n{}", closed(days))).expect_err("endless");
            let said = "line 2 of the calendar school: from this day on there is no business day for more than a year";
            assert_eq!(error.to_string(), said, "{days}");
        }
    }

    proptest! {
        #[test]
        fn the_next_business_day_is_one_and_none_lies_before_it(
            name in proptest::sample::select(Calendar::names().to_vec()), day in 0..4_000_u64,
        ) {
            let calendar = calendar(name);
            let day = date("2025-01-01") + Days::new(day);
            let next = calendar.next_business_day(day).expect("never a year without");
            prop_assert!(next > day && calendar.is_business_day(next));
            prop_assert!(day.iter_days().skip(1).take_while(|day| *day < next).all(|day| !calendar.is_business_day(day)));
        }
    }
}
