//! When a recipient may be sent to: windows, quiet hours and presets, by the clocks where they are. Pure.

use chrono::{DateTime, Days as DayCount, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::hours::Span;
use super::preset::{self, Rule};
use super::zone::first_instant;

/// Nothing is looked for further ahead: a weekly window may fall on holidays two weeks in a row.
const SEARCH_DAYS: i64 = 22;

/// All that decides when a recipient may be sent to. It is open when every part of it is, in every zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    parts: Vec<Part>,
}

/// What cannot be a window, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("there are no quiet hours named \"{name}\": write one of {}, or from and to", preset::names().join(", "))]
    Preset { name: String },
    #[error("no time of the week is inside the windows and outside the quiet hours")]
    NeverOpen,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    /// Open within any of these.
    Within(Vec<Span>),
    /// Open outside all of these.
    Outside(Vec<Span>),
    Rule(&'static Rule),
}

impl Windows {
    /// Always open, save for the `quiet` hours and the hours outside the `open` windows, if there are any, and what the
    /// presets forbid; [`preset::names`] lists them.
    /// Errors: an unknown preset; windows and quiet hours that leave no time.
    pub fn new(open: Vec<Span>, quiet: Vec<Span>, presets: &[&str]) -> Result<Windows, WindowError> {
        let mut parts = Vec::new();
        if !open.is_empty() {
            parts.push(Part::Within(open));
        }
        if !quiet.is_empty() {
            parts.push(Part::Outside(quiet));
        }
        let own = Windows { parts: parts.clone() };
        // Any day will do: without rules, weeks are alike, and UTC has them whole.
        own.next_open(DateTime::UNIX_EPOCH, &[Tz::UTC]).ok_or(WindowError::NeverOpen)?;
        for name in presets {
            let rules = preset::with_implied(name).ok_or_else(|| WindowError::Preset { name: (*name).to_owned() })?;
            for rule in rules {
                let part = Part::Rule(rule);
                // Another preset may have brought it along.
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
        }
        Ok(Windows { parts })
    }

    /// The same for a recipient of one region, as [`super::zone::region_of`] tells it: without the rules of other places.
    /// A country's rules also hold for those of whose country nothing is said. A state's hold for those of its country whose
    /// state is not known.
    pub fn in_region(&self, region: Option<&str>) -> Windows {
        let rules = self.parts.iter().filter_map(|part| if let Part::Rule(rule) = part { Some(*rule) } else { None });
        let spoken_of = rules.into_iter().any(|rule| region.is_some_and(|region| rule.is_of_country(region)));
        let concerns = |part: &&Part| match part {
            Part::Rule(rule) => rule.concerns(region, spoken_of),
            _ => true,
        };
        Windows { parts: self.parts.iter().filter(concerns).cloned().collect() }
    }

    /// The countries and states that its presets have rules of.
    pub fn regions(&self) -> Vec<&'static str> {
        let region = |part: &Part| if let Part::Rule(rule) = part { Some(rule.region()) } else { None };
        self.parts.iter().filter_map(region).collect()
    }

    /// The first instant from `at` on that is open in every zone: `at` itself if it is. None if there is none within
    /// three weeks, because the parts of the windows never agree in these zones; or no zone is given.
    pub fn next_open(&self, at: DateTime<Utc>, zones: &[Tz]) -> Option<DateTime<Utc>> {
        self.next(true, at, zones)
    }

    /// The first instant from `at` on that is not open in some zone: `at` itself if it is not. None if it stays open for
    /// three weeks.
    pub fn closes_at(&self, at: DateTime<Utc>, zones: &[Tz]) -> Option<DateTime<Utc>> {
        self.next(false, at, zones)
    }

    /// Whether it is open at an instant in every zone, of which there must be one.
    pub fn is_open(&self, at: DateTime<Utc>, zones: &[Tz]) -> bool {
        let open_in = |zone: &Tz| {
            let local = at.with_timezone(zone).naive_local();
            self.parts.iter().all(|part| part.is_open(local))
        };
        !zones.is_empty() && zones.iter().all(open_in)
    }

    /// What closes it at an instant in some of these zones: `windows`, `quiet hours`, and presets with their regions.
    pub fn closed_by(&self, at: DateTime<Utc>, zones: &[Tz]) -> Vec<String> {
        let is_closed = |part: &&Part| zones.iter().any(|zone| !part.is_open(at.with_timezone(zone).naive_local()));
        self.parts.iter().filter(is_closed).map(Part::name).collect()
    }

    /// Between two neighbouring changes nothing opens or closes, so only they need to be tried.
    fn next(&self, open: bool, at: DateTime<Utc>, zones: &[Tz]) -> Option<DateTime<Utc>> {
        if self.is_open(at, zones) == open {
            return Some(at);
        }
        (0..SEARCH_DAYS).find_map(|day| {
            let from = at.checked_add_signed(TimeDelta::days(day))?;
            let changes = self.changes(from, from.checked_add_signed(TimeDelta::days(1))?, zones);
            changes.into_iter().find(|instant| self.is_open(*instant, zones) == open)
        })
    }

    /// Every instant after `from` up to `to` at which anything may open or close, in order.
    fn changes(&self, from: DateTime<Utc>, to: DateTime<Utc>, zones: &[Tz]) -> Vec<DateTime<Utc>> {
        let mut changes = Vec::new();
        for zone in zones {
            changes.extend(change_of_clocks(from, to, *zone));
            // A day that begins late in the evening may end on the day after the next, when the clocks go forward.
            let first = from.with_timezone(zone).date_naive().pred_opt();
            let dates = (0..4).filter_map(|days| first?.checked_add_days(DayCount::new(days)));
            for date in dates {
                let spans = self.parts.iter().flat_map(Part::spans);
                let ends = spans.flat_map(|span| [span.begins(date), span.ends(date)]);
                for local in ends.flatten() {
                    changes.extend(first_instant(local, *zone));
                    let second = zone.from_local_datetime(&local).latest();
                    changes.extend(second.map(|instant| instant.with_timezone(&Utc)));
                }
            }
        }
        changes.retain(|instant| *instant > from && *instant <= to);
        changes.sort_unstable();
        changes.dedup();
        changes
    }
}

impl Part {
    fn is_open(&self, local: NaiveDateTime) -> bool {
        match self {
            Part::Within(spans) => spans.iter().any(|span| span.holds(local, &|_| false)),
            Part::Outside(spans) => !spans.iter().any(|span| span.holds(local, &|_| false)),
            Part::Rule(rule) => rule.spans.iter().any(|span| span.holds(local, &|date| rule.is_closed(date))),
        }
    }

    fn name(&self) -> String {
        match self {
            Part::Within(_) => "windows".to_owned(),
            Part::Outside(_) => "quiet hours".to_owned(),
            Part::Rule(rule) => format!("{} ({})", preset::of(rule).unwrap_or("preset"), rule.region()),
        }
    }

    fn spans(&self) -> &[Span] {
        match self {
            Part::Within(spans) | Part::Outside(spans) => spans,
            Part::Rule(rule) => &rule.spans,
        }
    }
}

/// When the clocks of a zone change after `from` up to `to`, which are at most a day apart: none change twice in a day.
fn change_of_clocks(from: DateTime<Utc>, to: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
    let offset = |secs: i64| {
        DateTime::from_timestamp(secs, 0).map(|at| at.with_timezone(&zone).offset().fix().local_minus_utc())
    };
    // Clocks change on whole seconds, so the last one before the change is found by halving.
    let (mut before, mut after) = (from.timestamp(), to.timestamp());
    let old = offset(before);
    if offset(after) == old {
        return None;
    }
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset(middle) == old { before = middle } else { after = middle }
    }
    DateTime::from_timestamp(after, 0)
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike as _, Timelike as _};
    use chrono_tz::{America, Europe, Pacific, TZ_VARIANTS};
    use proptest::prelude::*;

    use super::super::zone;
    use super::*;

    const NOTHING: &[&str] = &[];

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn span(days: &str, from: &str, to: &str) -> Span {
        Span::new(days, from, to).expect("a span")
    }

    fn open(spans: &[(&str, &str, &str)], presets: &[&str]) -> Windows {
        let spans = spans.iter().map(|(days, from, to)| span(days, from, to)).collect();
        Windows::new(spans, Vec::new(), presets).expect("windows")
    }

    /// When it next opens and then closes, by the clocks of the first zone.
    fn hours(windows: &Windows, at: &str, zones: &[Tz]) -> Option<String> {
        let opens = windows.next_open(utc(at), zones)?;
        let closes = windows.closes_at(opens, zones)?;
        let local = |at: DateTime<Utc>| at.with_timezone(&zones[0]).format("%a %m-%d %H:%M").to_string();
        Some(format!("{} to {}", local(opens), local(closes)))
    }

    #[test]
    fn a_window_is_of_the_recipients_clock() {
        let office = open(&[("mon-fri", "09:00", "18:00")], NOTHING);
        let friday_night = "2026-11-07T00:30:00Z";
        assert_eq!(
            hours(&office, friday_night, &[America::New_York]).as_deref(),
            Some("Mon 11-09 09:00 to Mon 11-09 18:00")
        );
        assert_eq!(
            hours(&office, friday_night, &[Pacific::Honolulu]).as_deref(),
            Some("Fri 11-06 14:30 to Fri 11-06 18:00")
        );
        assert_eq!(
            office.next_open(utc("2026-11-09T15:00:30Z"), &[America::New_York]),
            Some(utc("2026-11-09T15:00:30Z"))
        );
    }

    #[test]
    fn where_the_zone_is_in_doubt_it_must_be_open_in_every_one() {
        let day = open(&[("daily", "08:00", "21:00")], NOTHING);
        let zones = [America::New_York, America::Los_Angeles];
        assert_eq!(hours(&day, "2026-11-09T05:00:00Z", &zones).as_deref(), Some("Mon 11-09 11:00 to Mon 11-09 21:00"));
        let far = [Tz::UTC, Pacific::Auckland];
        let short = open(&[("daily", "09:00", "12:00")], NOTHING);
        assert_eq!(short.next_open(utc("2026-11-09T05:00:00Z"), &far), None, "it is never morning in both");
        assert_eq!(short.next_open(utc("2026-11-09T05:00:00Z"), &[]), None, "no zone, no day");
    }

    #[test]
    fn quiet_hours_close_what_a_window_opens() {
        let windows = Windows::new(
            vec![span("daily", "07:00", "23:00")],
            vec![span("daily", "20:00", "08:00"), span("sun", "00:00", "24:00")],
            NOTHING,
        );
        let windows = windows.expect("windows");
        let zones = [Europe::Berlin];
        assert_eq!(
            hours(&windows, "2026-11-07T21:00:00Z", &zones).as_deref(),
            Some("Mon 11-09 08:00 to Mon 11-09 20:00")
        );
        let never = Windows::new(vec![span("daily", "21:00", "23:00")], vec![span("daily", "20:00", "08:00")], NOTHING);
        assert_eq!(never, Err(WindowError::NeverOpen));
        let none = Windows::new(Vec::new(), Vec::new(), NOTHING).expect("windows");
        assert_eq!(none.next_open(utc("2026-11-07T21:00:00Z"), &zones), Some(utc("2026-11-07T21:00:00Z")));
        assert_eq!(none.closes_at(utc("2026-11-07T21:00:00Z"), &zones), None);
    }

    #[test]
    fn presets_hold_in_their_regions_and_on_their_days() {
        let zones = [America::New_York];
        let presets = open(&[], &["us-federal", "us-states", "france"]);
        let saturday = |region| hours(&presets.in_region(region), "2026-11-07T09:00:00Z", &zones);
        assert_eq!(saturday(Some("US-NY")).as_deref(), Some("Sat 11-07 08:00 to Sat 11-07 21:00"));
        assert_eq!(saturday(Some("US-FL")).as_deref(), Some("Sat 11-07 08:00 to Sat 11-07 20:00"));
        assert_eq!(saturday(Some("US-RI")).as_deref(), Some("Sat 11-07 10:00 to Sat 11-07 17:00"));
        assert_eq!(saturday(Some("US-PA")).as_deref(), Some("Sat 11-07 08:00 to Sat 11-07 12:00"));
        assert_eq!(saturday(Some("US-SD")).as_deref(), Some("Mon 11-09 09:00 to Mon 11-09 21:00"));
        assert_eq!(saturday(Some("US-NV")).as_deref(), Some("Sat 11-07 09:00 to Sat 11-07 20:00"));
        assert_eq!(saturday(Some("US-WY")).as_deref(), Some("Sat 11-07 08:00 to Sat 11-07 20:00"));
        assert_eq!(saturday(Some("US")).as_deref(), Some("Mon 11-09 10:00 to Mon 11-09 17:00"), "all states");
        assert_eq!(saturday(Some("FR")).as_deref(), Some("Sat 11-07 08:00 to Sat 11-07 20:00"));
        let sunday = |region| hours(&presets.in_region(region), "2026-11-08T09:00:00Z", &zones);
        assert_eq!(sunday(Some("US-TX")).as_deref(), Some("Sun 11-08 12:00 to Sun 11-08 21:00"));
        for (region, monday) in [("US-AL", "08:00 to Mon 11-09 20:00"), ("US-ME", "09:00 to Mon 11-09 17:00")] {
            assert_eq!(sunday(Some(region)), Some(format!("Mon 11-09 {monday}")));
        }
        for region in ["US-IL", "US-MI", "US-MN"] {
            assert_eq!(sunday(Some(region)).as_deref(), Some("Sun 11-08 09:00 to Sun 11-08 21:00"), "{region}");
        }
        // Veterans Day and Armistice Day are one.
        let eleventh = |region| hours(&presets.in_region(region), "2026-11-11T09:00:00Z", &zones);
        assert_eq!(eleventh(Some("US-NY")).as_deref(), Some("Wed 11-11 08:00 to Wed 11-11 21:00"));
        assert_eq!(eleventh(Some("US-UT")).as_deref(), Some("Thu 11-12 08:00 to Thu 11-12 21:00"));
        assert_eq!(eleventh(Some("FR")).as_deref(), Some("Thu 11-12 08:00 to Thu 11-12 20:00"));
        let unknown = Windows::new(Vec::new(), Vec::new(), &["sundays"]).expect_err("no such preset");
        assert!(unknown.to_string().contains("\"sundays\": write one of us-federal, us-states"), "{unknown}");
    }

    #[test]
    fn the_hours_of_states_come_with_those_of_the_whole_country() {
        let states = open(&[], &["us-states"]);
        for region in [Some("US-NY"), Some("US-CA"), Some("GB"), None] {
            assert_eq!(
                hours(&states.in_region(region), "2026-11-07T08:00:00Z", &[America::New_York]).as_deref(),
                Some("Sat 11-07 08:00 to Sat 11-07 21:00"),
                "at 3 a.m., {region:?}"
            );
        }
        assert_eq!(
            hours(&states.in_region(Some("US-FL")), "2026-11-07T08:00:00Z", &[America::New_York]).as_deref(),
            Some("Sat 11-07 08:00 to Sat 11-07 20:00")
        );
        for both in [&["us-federal", "us-states"], &["us-states", "us-federal"]] {
            assert_eq!(open(&[], both).parts.len(), states.parts.len(), "no rule holds twice");
        }
        assert_eq!(
            open(&[], &["us-states", "us-federal"])
                .in_region(Some("US-NY"))
                .closed_by(utc("2026-11-07T08:00:00Z"), &[America::New_York]),
            ["us-federal (US)"]
        );
    }

    #[test]
    fn changes_of_clocks_neither_lose_nor_stretch_a_window() {
        let night = open(&[("daily", "01:30", "02:30")], NOTHING);
        let zones = [America::New_York];
        // 2:00 to 3:00 is skipped on 14 March 2027; 1:00 to 2:00 comes twice on 7 November.
        assert_eq!(
            hours(&night, "2027-03-14T05:30:00Z", &zones).as_deref(),
            Some("Sun 03-14 01:30 to Sun 03-14 03:00")
        );
        assert_eq!(night.next_open(utc("2027-11-07T04:00:00Z"), &zones), Some(utc("2027-11-07T05:30:00Z")));
        assert_eq!(
            night.closes_at(utc("2027-11-07T05:30:00Z"), &zones),
            Some(utc("2027-11-07T06:00:00Z")),
            "the clock reads 1:00 again"
        );
        assert_eq!(night.next_open(utc("2027-11-07T06:00:00Z"), &zones), Some(utc("2027-11-07T06:30:00Z")));
        // From Saturday 23:30 it is less than a day to the window, which is the date after the next.
        let monday = open(&[("mon", "00:10", "12:00")], NOTHING);
        let opens = hours(&monday, "2027-03-14T04:30:00Z", &zones);
        assert_eq!(opens.as_deref(), Some("Mon 03-15 00:10 to Mon 03-15 12:00"));
    }

    /// Which minutes of a week are in a span, from Monday's midnight.
    fn minutes(days: [bool; 7], from: usize, to: usize) -> Vec<bool> {
        let mut week = vec![false; 7 * 1_440];
        let length = if to > from { to - from } else { to + 1_440 - from };
        for start in (0..7).filter(|day| days[*day]).map(|day| day * 1_440 + from) {
            (start..start + length).for_each(|minute| week[minute % (7 * 1_440)] = true);
        }
        week
    }

    fn any_span() -> impl Strategy<Value = (Span, Vec<bool>)> {
        (any::<[bool; 7]>(), 0..1_440_usize, 1..=1_440_usize).prop_filter_map("no time", |(days, from, to)| {
            let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let named: Vec<&str> = names.iter().zip(days).filter_map(|(name, on)| on.then_some(*name)).collect();
            let time = |minute: usize| format!("{:02}:{:02}", minute / 60, minute % 60);
            let span = Span::new(&named.join(","), &time(from), &time(to)).ok()?;
            Some((span, minutes(days, from, to)))
        })
    }

    /// Every kind of change of clocks, with the zones that have it.
    fn any_change() -> impl Strategy<Value = (DateTime<Utc>, Tz)> {
        let zones: Vec<(zone::changes::Changes, Tz)> = zone::changes::of_every_zone().into_iter().collect();
        let zones: Vec<_> = zones.into_iter().filter(|(changes, _)| !changes.is_empty()).collect();
        (proptest::sample::select(zones), any::<proptest::sample::Index>())
            .prop_map(|((changes, zone), index)| (index.get(&changes).0, zone))
    }

    fn week_minute(at: DateTime<Utc>, zone: Tz) -> usize {
        let local = at.with_timezone(&zone);
        (local.weekday().num_days_from_monday() * 1_440 + local.hour() * 60 + local.minute()) as usize
    }

    proptest! {
        #[test]
        fn what_opens_next_is_open_and_nothing_before_it_is(
            within in proptest::collection::vec(any_span(), 0..3), without in proptest::collection::vec(any_span(), 0..2),
            (change, zone) in any_change(), other in proptest::option::of(proptest::sample::select(&TZ_VARIANTS[..])),
            minutes_before in -2_000..4_000_i64,
        ) {
            let spans = |list: &[(Span, Vec<bool>)]| list.iter().map(|(span, _)| *span).collect::<Vec<_>>();
            let windows = Windows::new(spans(&within), spans(&without), NOTHING);
            let windows = match windows {
                Err(error) => {
                    prop_assert_eq!(error, WindowError::NeverOpen);
                    return Ok(());
                }
                Ok(windows) => windows,
            };
            let zones: Vec<Tz> = std::iter::once(zone).chain(other).collect();
            let is_open = |at| zones.iter().all(|zone| {
                let minute = week_minute(at, *zone);
                (within.is_empty() || within.iter().any(|(_, week)| week[minute])) && !without.iter().any(|(_, week)| week[minute])
            });
            let at = change - TimeDelta::minutes(minutes_before);
            // Two weeks of minutes: after the change, one week is like another.
            let walk = || (0..14 * 1_440).map(|minute| at + TimeDelta::minutes(minute));
            prop_assert_eq!(windows.next_open(at, &zones), walk().find(|at| is_open(*at)));
            prop_assert_eq!(windows.closes_at(at, &zones), walk().find(|at| !is_open(*at)));
        }
    }

    #[test]
    fn every_change_of_clocks_in_ten_years_keeps_the_windows() {
        let day = open(&[("daily", "08:00", "21:00")], NOTHING);
        let night = open(&[("daily", "23:30", "02:15"), ("sun", "03:00", "03:30")], NOTHING);
        for (changes, zone) in zone::changes::of_every_zone() {
            for (change, ..) in changes {
                let start = change - TimeDelta::hours(4);
                let end = change + TimeDelta::hours(4);
                for (windows, is_open) in [
                    (&day, (|minute: usize| (480..1_260).contains(&(minute % 1_440))) as fn(usize) -> bool),
                    (&night, |minute| {
                        let (day, minute) = (minute / 1_440, minute % 1_440);
                        !(135..1_410).contains(&minute) || (day == 6 && (180..210).contains(&minute))
                    }),
                ] {
                    let mut at = start;
                    while at < end {
                        let opens = windows.next_open(at, &[zone]).expect("it opens daily");
                        let closes = windows.closes_at(opens, &[zone]).expect("it closes daily");
                        let mut minute = at;
                        while minute < closes.min(end) {
                            let open = is_open(week_minute(minute, zone));
                            assert_eq!(open, minute >= opens, "{zone}, {minute}, from {at}: {opens} to {closes}");
                            minute += TimeDelta::minutes(5);
                        }
                        at = closes;
                    }
                }
            }
        }
    }
}
