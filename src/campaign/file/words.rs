//! Values that are written as one text: names, lengths of time, waits, caps.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{NaiveDateTime, NaiveTime};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::units::{duration, show_duration};

/// Longer than any wait, expiry or repetition is meant to be.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What a campaign, a step or a variant is called: 1 to 64 of `a-z`, `0-9`, `_` and `-`, the first no sign.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// A length of time from a second to a year, e.g. `2d`, `6h`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

/// A time of day, e.g. `09:00` or `9:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock(pub NaiveTime);

/// A local time, e.g. `2026-12-01T09:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime(pub NaiveDateTime);

/// How long an enrolment rests before its next step; times of day are the recipient's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// `2d`
    For(Length),
    /// `until 09:00`: the next time that the recipient's clock shows it.
    Until(Clock),
    /// `next business day 09:00`; without a time of day, as soon as that day begins.
    BusinessDay(Option<Clock>),
}

/// How often somebody may be written to, e.g. `3 in 7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    pub messages: u32,
    pub within: Length,
}

/// When somebody may be enrolled again: `never`, `after 30d`, `always`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Again {
    #[default]
    Never,
    After(Length),
    Always,
}

impl Length {
    /// `secs` is not 0.
    pub const fn secs(secs: u64) -> Length {
        Length(Duration::from_secs(secs))
    }
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that is made, not written.
    pub(in crate::campaign) fn made(text: String) -> Name {
        Name(text)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let signs = |c: char| c == '_' || c == '-';
        let valid = (1..=64).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || signs(c))
            && !text.starts_with(signs);
        if valid {
            return Ok(Name(text.to_owned()));
        }
        let cleaned: String =
            text.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let cleaned = cleaned.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        let example: String =
            if cleaned.is_empty() { "welcome".to_owned() } else { cleaned.chars().take(64).collect() };
        Err(format!("this is no name: write 1 to 64 of a-z, 0-9, _ and -, such as {example}"))
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Length, String> {
        refuse_months(text)?;
        let length = duration(text).ok().filter(|length| *length <= LONGEST);
        match length {
            Some(Duration::ZERO) => {
                Err("this is no time at all: write a length such as 30m or 2d, or leave it out".to_owned())
            }
            Some(length) if length.subsec_nanos() == 0 => Ok(Length(length)),
            _ => Err(format!(
                "\"{}\" is no length of time: write a number and its unit, such as 30m, 6h or 2d, at most a year",
                shortened(text)
            )),
        }
    }
}

impl FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Clock, String> {
        let number = |part: &str| part.parse::<u32>().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()));
        let parts = text.split_once(':').filter(|(hour, minute)| hour.len() <= 2 && minute.len() == 2);
        let time = parts.and_then(|(hour, minute)| NaiveTime::from_hms_opt(number(hour)?, number(minute)?, 0));
        time.map(Clock).ok_or_else(|| {
            format!(
                "\"{}\" is no time of day: write hours and minutes from \"00:00\" to \"23:59\", such as \"09:00\"",
                shortened(text)
            )
        })
    }
}

impl FromStr for LocalTime {
    type Err = String;

    fn from_str(text: &str) -> Result<LocalTime, String> {
        let read = |format| NaiveDateTime::parse_from_str(text, format).ok();
        let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"];
        let time = formats.into_iter().find_map(read);
        let time = time.filter(|time| (2000..2200).contains(&chrono::Datelike::year(time)));
        time.map(LocalTime).ok_or_else(|| {
            let zoned = text.ends_with('Z') || text.contains('+');
            let zone = if zoned { "; the zone is a key of its own" } else { "" };
            format!("\"{}\" is no local time: write it like 2026-12-01T09:00{zone}", shortened(text))
        })
    }
}

impl FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Wait, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["until", time] | ["until", time, "local"] => Ok(Wait::Until(time.parse()?)),
            ["next", "business", "day"] => Ok(Wait::BusinessDay(None)),
            ["next", "business", "day", time] => Ok(Wait::BusinessDay(Some(time.parse()?))),
            ["0"] => Err("a wait of nothing is no step: write a length such as 2d, or take the step out".to_owned()),
            _ => {
                refuse_months(text)?;
                match duration(text) {
                    Ok(Duration::ZERO) => {
                        Err("a wait of nothing is no step: write a length such as 2d, or take the step out".to_owned())
                    }
                    _ => text.parse().map(Wait::For).map_err(|_| {
                        format!(
                            "\"{}\" is no wait: write a length such as 2d or 6h, `until 09:00`, `next business day` or `next business day 09:00`",
                            shortened(text)
                        )
                    }),
                }
            }
        }
    }
}

impl FromStr for Cap {
    type Err = String;

    fn from_str(text: &str) -> Result<Cap, String> {
        let help =
            || format!("\"{}\" is no cap: write how many messages in what time, such as 3 in 7d", shortened(text));
        let (messages, within) = text.split_once(" in ").ok_or_else(help)?;
        refuse_months(within)?;
        let messages = messages.trim().parse().ok().filter(|count| (1..=1000).contains(count)).ok_or_else(help)?;
        Ok(Cap { messages, within: within.trim().parse().map_err(|_| help())? })
    }
}

impl FromStr for Again {
    type Err = String;

    fn from_str(text: &str) -> Result<Again, String> {
        let help = || {
            format!("\"{}\" is no rule: write never, always, or after and a length such as after 30d", shortened(text))
        };
        match text {
            "never" => Ok(Again::Never),
            "always" => Ok(Again::Always),
            _ => {
                let length = text.strip_prefix("after ").ok_or_else(help)?;
                refuse_months(length)?;
                length.trim().parse().map(Again::After).map_err(|_| help())
            }
        }
    }
}

/// To humantime `5M` is five months of 30.44 days, and hardly to anybody else.
fn refuse_months(text: &str) -> Result<(), String> {
    let is_long = |unit: &str| {
        let long = ["month", "months", "y", "yr", "yrs", "year", "years"];
        unit == "M" || long.contains(&unit.to_lowercase().as_str())
    };
    if text.split(|c: char| !c.is_alphabetic()).any(is_long) {
        return Err(format!(
            "\"{}\" counts months or years, which have no fixed length: write days, such as 30d, and minutes as in 5m",
            shortened(text)
        ));
    }
    Ok(())
}

/// What is shown of a text that was not understood.
fn shortened(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_duration(self.0))
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%H:%M"))
    }
}

impl fmt::Display for LocalTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%dT%H:%M:%S"))
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::For(length) => write!(f, "{length}"),
            Wait::Until(time) => write!(f, "until {time}"),
            Wait::BusinessDay(None) => f.write_str("next business day"),
            Wait::BusinessDay(Some(time)) => write!(f, "next business day {time}"),
        }
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.messages, self.within)
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Again::Never => f.write_str("never"),
            Again::Always => f.write_str("always"),
            Again::After(length) => write!(f, "after {length}"),
        }
    }
}

/// A length of time, for editors.
macro_rules! length {
    () => {
        r"([0-9]+(\.[0-9]+)?\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?)\s*)+"
    };
}

/// A time of day, for editors.
macro_rules! clock {
    () => {
        "([01]?[0-9]|2[0-3]):[0-5][0-9]"
    };
}

/// Written as it is shown, and described to editors.
macro_rules! written_as_text {
    ($($type:ident: $kind:tt, $description:literal, $pattern:expr, $examples:tt;)+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": $kind, "description": $description, "pattern": $pattern, "examples": $examples})
            }
        }
    )+};
}

written_as_text! {
    // A number stands for its digits; the name of a campaign is more than those.
    Name: ["string", "integer"], "1 to 64 of a-z, 0-9, _ and -.", "^[a-z0-9][a-z0-9_-]{0,63}$", ["welcome"];
    Length: "string", "A length of time, at most a year.", concat!(r"^\s*", length!(), "$"), ["30m", "6h", "2d"];
    Clock: "string", "A time of day.", concat!("^", clock!(), "$"), ["09:00"];
    LocalTime: "string", "A local time; its zone is a key of its own.",
        "^2[01][0-9]{2}-(0?[1-9]|1[0-2])-(0?[1-9]|[12][0-9]|3[01])[T ]([01]?[0-9]|2[0-3]):[0-5]?[0-9](:[0-5]?[0-9])?$",
        ["2026-12-01T09:00"];
    Wait: "string", "How long to rest. Times of day are the recipient's.",
        concat!(
            r"^\s*(", length!(), r"|until\s+", clock!(), r"(\s+local)?|next\s+business\s+day(\s+", clock!(), r")?)\s*$"
        ),
        ["2d", "until 09:00", "next business day", "next business day 09:00"];
    Cap: "string", "How many messages in what time.",
        concat!(r"^\s*0*([1-9][0-9]{0,2}|1000)\s* in \s*", length!(), "$"), ["3 in 7d"];
    Again: "string", "When somebody may be enrolled again.",
        concat!(r"^(never|always|after \s*", length!(), ")$"), ["never", "after 30d", "always"];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<T: FromStr<Err = String> + fmt::Display>(text: &str) -> String {
        text.parse::<T>().map_or_else(|error| error, |value| value.to_string())
    }

    #[test]
    fn words_are_shown_as_they_are_read() {
        assert_eq!(read::<Name>("weekly_check-in2"), "weekly_check-in2");
        assert_eq!(read::<Length>("90m"), "1h 30m");
        assert_eq!(read::<Length>("180d"), "180d");
        for text in ["2026-12-01T09:00", "2026-12-01T09:00:00", "2026-12-01 09:00", "2026-12-01 09:00:00"] {
            assert_eq!(read::<LocalTime>(text), "2026-12-01T09:00:00", "{text}");
        }
        assert_eq!(read::<Wait>("2d"), "2d");
        assert_eq!(read::<Wait>("until 09:00 local"), "until 09:00");
        assert_eq!(read::<Wait>("until 9:00"), "until 09:00", "as in windows");
        assert_eq!(read::<Wait>("next  business day"), "next business day");
        assert_eq!(read::<Wait>("next business day 09:00"), "next business day 09:00");
        assert_eq!(read::<Cap>("3 in 7d"), "3 in 7d");
        assert_eq!(read::<Again>("after 30d"), "after 30d");
    }

    #[test]
    fn what_is_no_word_says_what_to_write() {
        assert_eq!(
            read::<Name>("Spring Sale!"),
            "this is no name: write 1 to 64 of a-z, 0-9, _ and -, such as spring-sale"
        );
        assert!(read::<Name>("-x").ends_with("such as x"));
        for (text, says) in
            [("2", "is no wait: write"), ("0s", "a wait of nothing"), ("0", "a wait of nothing"), ("-1d", "is no wait")]
        {
            assert!(read::<Wait>(text).contains(says), "{text}");
        }
        assert!(read::<Wait>("until 9").contains("is no time of day"), "the part that is wrong");
        assert!(read::<Wait>("400d").contains("is no wait") && read::<Length>("400d").contains("at most a year"));
        assert!(read::<LocalTime>("2026-12-01T09:00Z").contains("the zone is a key of its own"));
        for text in ["3", "0 in 7d", "x in 7d", "3 in 0s"] {
            assert!(read::<Cap>(text).contains("such as 3 in 7d"), "{text}");
        }
        assert!(read::<Again>("sometimes").contains("write never, always"));
        assert!(read::<Wait>(&"x".repeat(1_000)).len() < 200, "what was written is shown in part");
    }

    #[test]
    fn months_and_years_are_no_lengths() {
        let says = "counts months or years, which have no fixed length: write days, such as 30d, and minutes as in 5m";
        for text in ["5M", "1h 5M", "1month", "2 Months", "1y", "1yr", "1 Year"] {
            let wanted = format!("\"{text}\" {says}");
            assert_eq!([read::<Length>(text), read::<Wait>(text)], [wanted.as_str(), wanted.as_str()], "{text}");
            assert_eq!(read::<Again>(&format!("after {text}")), wanted);
            assert_eq!(read::<Cap>(&format!("3 in {text}")), wanted);
        }
        for text in ["5m", "5min", "5minutes", "2w", "3days"] {
            assert!(text.parse::<Length>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_time_of_day_has_minutes() {
        for (text, shown) in [("9:00", "09:00"), ("00:00", "00:00"), ("23:59", "23:59")] {
            assert_eq!(read::<Clock>(text), shown);
        }
        for text in ["9", "9:0", ":00", "24:00", "9:60", "009:00", "+9:00", "9:00:00", "0９:00"] {
            assert!(read::<Clock>(text).contains("is no time of day"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_length_reads_back(secs in 1..=366 * 86_400_u64) {
            let length = Length::secs(secs);
            prop_assert_eq!(length.to_string().parse(), Ok(length));
        }
    }
}
