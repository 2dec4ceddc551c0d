//! What a plan has the lines send, day by day and line by line, in the terminal.

use std::cmp::Reverse;

use crate::campaign::plan::{Day, LineLoad};
use crate::cli::table;
use crate::units::counted;

/// Days of the chart; a longer campaign is shown in weeks, and the rest of a very long one in a sentence.
const MOST_BARS: usize = 60;
const BAR_WIDTH: u32 = 40;
/// So many lines are shown.
const MOST_LINES: usize = 10;

/// Load by day: first touches solid, follow-ups light. Nothing without any.
pub fn chart(days: &[Day]) -> String {
    if days.is_empty() {
        return String::new();
    }
    let span = if days.len() > MOST_BARS { 7 } else { 1 };
    let bars: Vec<Day> = days.chunks(span).map(sum).collect();
    let most = bars.iter().map(messages).max().unwrap_or(1).max(1);
    let width = |messages: u32| (u64::from(messages) * u64::from(BAR_WIDTH)).div_ceil(u64::from(most)) as usize;
    let each = if span == 1 { "a day" } else { "in seven days" };
    let mut chart = format!("messages {each} by the lines' clocks, first touches █ and follow-ups ░\n");
    for day in bars.iter().take(MOST_BARS) {
        let bar = "█".repeat(width(day.first_touches)) + &"░".repeat(width(day.follow_ups));
        chart += &format!("  {}  {bar:<44}  {}\n", day.date, load(day));
    }
    if let Some(last) = bars.last().filter(|_| bars.len() > MOST_BARS) {
        chart += &format!("  … until {}\n", last.date);
    }
    chart
}

/// Load by line, those that end last first. Nothing where there is but one, whose load is that of the days.
pub fn lines(loads: &[LineLoad]) -> String {
    let ends = |line: &LineLoad| {
        Some((line.id.clone(), *line.days.iter().max_by_key(|day| messages(day))?, line.days.last()?.date))
    };
    let mut used: Vec<_> = loads.iter().filter_map(ends).collect();
    if loads.len() < 2 || used.is_empty() {
        return String::new();
    }
    used.sort_by_key(|(_, busiest, last)| Reverse((*last, messages(busiest))));
    let mut rows = table(&["line", "busiest day", "its load", "last day"]);
    for (id, busiest, last) in used.iter().take(MOST_LINES) {
        rows.add_row([id.clone(), busiest.date.to_string(), load(busiest), last.to_string()]);
    }
    let mut told = format!("\n{rows}\n");
    if let Some(more) = used.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        told +=
            &format!("and {}, none of which ends later: --json has all\n", counted(more, "more line", "more lines"));
    }
    let idle = loads.len() - used.len();
    if idle > 0 {
        told += &format!("{} nothing\n", counted(idle, "line sends", "lines send"));
    }
    told
}

/// First touches of those that may be sent, and follow-ups.
fn load(day: &Day) -> String {
    let cap = day.first_touch_cap.map(|cap| format!(" of {cap}")).unwrap_or_default();
    format!("{}{cap} + {}", day.first_touches, day.follow_ups)
}

fn messages(day: &Day) -> u32 {
    day.first_touches + day.follow_ups
}

fn sum(days: &[Day]) -> Day {
    let mut all = days[0];
    for day in &days[1..] {
        all.first_touches += day.first_touches;
        all.follow_ups += day.follow_ups;
        all.first_touch_cap = all.first_touch_cap.zip(day.first_touch_cap).map(|(one, other)| one + other);
    }
    all
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    fn days(count: usize, first_touches: u32, follow_ups: u32, first_touch_cap: Option<u32>) -> Vec<Day> {
        let first: NaiveDate = "2026-12-01".parse().expect("a date");
        first.iter_days().take(count).map(|date| Day { date, first_touches, follow_ups, first_touch_cap }).collect()
    }

    #[test]
    fn a_bar_is_a_day_with_first_touches_before_follow_ups() {
        let mut days = days(2, 30, 10, Some(30));
        days[1] = Day { first_touches: 0, first_touch_cap: None, ..days[1] };
        let chart = chart(&days);
        let lines: Vec<&str> = chart.lines().collect();
        assert!(lines[0].starts_with("messages a day "), "{chart}");
        assert_eq!(lines[1], format!("  2026-12-01  {}{}      30 of 30 + 10", "█".repeat(30), "░".repeat(10)));
        assert_eq!(lines[2], format!("  2026-12-02  {}{}  0 + 10", "░".repeat(10), " ".repeat(34)));
        assert_eq!((lines.len(), self::chart(&[]).as_str()), (3, ""));
    }

    #[test]
    fn a_long_campaign_is_shown_in_weeks_of_which_the_last_may_be_short() {
        let chart = chart(&days(61, 12, 0, Some(600)));
        let lines: Vec<&str> = chart.lines().collect();
        assert!(lines[0].starts_with("messages in seven days "), "{chart}");
        assert!(lines[1].ends_with("  84 of 4200 + 0") && lines[9].ends_with("  60 of 3000 + 0"), "{chart}");
        assert_eq!(lines.len(), 10, "{chart}");
        let chart = self::chart(&days(7 * 62, 1, 0, None));
        assert_eq!((chart.lines().count(), chart.lines().last()), (62, Some("  … until 2028-02-01")), "{chart}");
    }

    fn line(id: usize, days: Vec<Day>) -> LineLoad {
        LineLoad { id: format!("pl_{id}"), days }
    }

    #[test]
    fn lines_are_shown_by_their_busiest_day_those_that_end_last_first() {
        let mut uneven = days(3, 5, 0, Some(30));
        uneven[1].follow_ups = 9;
        let shown = lines(&[line(1, days(2, 30, 0, Some(30))), line(2, Vec::new()), line(3, uneven)]);
        let words = |at: usize| shown.lines().nth(at).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(words(2).as_deref(), Some("pl_3 2026-12-02 5 of 30 + 9 2026-12-03"), "{shown}");
        assert_eq!(words(3).as_deref(), Some("pl_1 2026-12-02 30 of 30 + 0 2026-12-02"), "{shown}");
        assert!(shown.ends_with("\n1 line sends nothing\n"), "{shown}");
        assert_eq!(lines(&[line(1, days(2, 30, 0, None))]), "");
    }

    #[test]
    fn many_lines_do_not_flood_the_terminal() {
        let many: Vec<LineLoad> = (0..300).map(|id| line(id, days(2, 30, 0, Some(30)))).collect();
        let shown = lines(&many);
        assert!(
            shown.lines().count() < 15 && shown.contains("and 290 more lines, none of which ends later"),
            "{shown}"
        );
    }
}
