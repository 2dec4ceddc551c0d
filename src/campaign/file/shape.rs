//! A campaign as its file says it: plain data, of which everything that can be checked without a database is checked. The JSON
//! Schema is made of these types; serialised they are such a file again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::campaign::calendar::Calendar;
use crate::campaign::cron;
use crate::campaign::file::step::Step;
use crate::campaign::file::words::{Again, Cap, Length, LocalTime, Name};
use crate::campaign::hours::{Days, Span};
use crate::campaign::window::{WindowError, Windows};
use crate::job::Class;

/// A campaign of chert-outbox: who is written to, when and what.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields, title = "Campaign")]
pub struct Campaign {
    /// What the campaign is called everywhere; no two share a name.
    #[schemars(schema_with = "name")]
    pub name: Name,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Put on each of its jobs, to find them by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub labels: BTreeMap<String, String>,
    /// What the messages are to those who get them; marketing unless given.
    #[schemars(schema_with = "class", default = "marketing")]
    pub class: Class,
    /// When people are enrolled. Left out only where the application enrols them.
    #[schemars(with = "Option<Schedule>")]
    pub schedule: Schedule,
    /// Who is written to.
    pub audience: Audience,
    /// What is known of each person, and what happens where it is not. Templates may use these and no others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub variables: BTreeMap<String, Variable>,
    /// The time zone of the campaign, and of people whose own is not known.
    #[serde(serialize_with = "as_text")]
    #[schemars(schema_with = "zone")]
    pub zone: Tz,
    /// Whose holidays are no business days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calendar: Option<Holidays>,
    /// The recipient's hours in which messages go out; all of them unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub windows: Vec<Window>,
    /// The recipient's hours in which no message goes out: presets by name, or times of day.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMany<QuietHours>", default)]
    pub quiet_hours: Vec<QuietHours>,
    /// What ends an enrolment before its last step; reply and opt_out unless given.
    #[schemars(with = "OneOrMany<StopOn>", default = "stop_on")]
    pub stop_on: Vec<StopOn>,
    /// How often people are written to, over all campaigns.
    #[schemars(default)]
    pub caps: Caps,
    /// Which lines send.
    #[schemars(default)]
    pub lines: Lines,
    /// What happens to a person, in this order.
    #[schemars(length(min = 1))]
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum Schedule {
    /// At each firing of a cron spec.
    Cron {
        /// Five fields as in crontab(5), six with the second first, seven with the year last, or such as @daily.
        #[serde(serialize_with = "as_text")]
        #[schemars(with = "String", example = &"0 9 * * mon-fri")]
        cron: cron::Schedule,
        /// Where the clocks are; the campaign's zone unless given.
        #[serde(serialize_with = "maybe_as_text", skip_serializing_if = "Option::is_none")]
        #[schemars(schema_with = "zone", default)]
        zone: Option<Tz>,
        /// Which firings are made up for that nothing ran at; the last unless given.
        #[schemars(default)]
        catch_up: CatchUp,
        /// How late they may be; 6h unless given.
        #[schemars(default = "catch_up_within")]
        catch_up_within: Length,
        /// What happens while an earlier firing is still enrolling; skip unless given.
        #[schemars(default)]
        overlap: Overlap,
        /// Enrolments are spread over so long a time.
        #[serde(skip_serializing_if = "Option::is_none")]
        jitter: Option<Length>,
    },
    /// Once.
    At {
        at: LocalTime,
        /// Where the clocks are; the campaign's zone unless given.
        #[serde(serialize_with = "maybe_as_text", skip_serializing_if = "Option::is_none")]
        #[schemars(schema_with = "zone", default)]
        zone: Option<Tz>,
        /// How late it may be; 6h unless given.
        #[schemars(default = "catch_up_within")]
        catch_up_within: Length,
        /// Enrolments are spread over so long a time.
        #[serde(skip_serializing_if = "Option::is_none")]
        jitter: Option<Length>,
    },
    /// When somebody says so.
    Manual { manual: True },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    Skip,
    #[default]
    Last,
    All,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    #[default]
    Skip,
    Queue,
    Allow,
}

/// The value true, which is the only one that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct True;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum Audience {
    /// The rows of a query.
    Sql {
        /// A query that only reads; the column phone is needed, others are variables by their names.
        sql: String,
        /// The database role that runs it.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<String>,
        /// 30s unless given.
        #[schemars(default = "time_limit")]
        time_limit: Length,
        /// 100000 unless given; more rows are an error, not a part of them.
        #[schemars(default = "row_limit", range(min = 1, max = 10_000_000))]
        row_limit: u32,
        #[schemars(default)]
        again: Again,
    },
    /// The rows of a file.
    Csv {
        /// The file, beside this one; the column phone is needed, others are variables by their names.
        csv: String,
        #[schemars(default)]
        again: Again,
    },
    /// Whom the application enrols, one by one.
    Enrolled {
        enrolled: True,
        #[schemars(default)]
        again: Again,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum Variable {
    /// Who does not have it waits, or is left out.
    Needed {
        #[schemars(default)]
        missing: Missing,
    },
    /// What stands for it where it is missing.
    Default { default: String },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The person waits, with the reason.
    #[default]
    Hold,
    /// The person is left out, with the reason.
    Skip,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum Holidays {
    /// The name of a calendar that comes with chert-outbox, or of a file beside this one.
    Named(String),
    /// The days by themselves, as 2026-12-25, with what they are called: what is kept of a file.
    Days {
        #[schemars(
            with = "BTreeMap<String, String>",
            extend("propertyNames" = {"pattern": "^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}$"})
        )]
        days: BTreeMap<NaiveDate, String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Window {
    /// Days of the week such as mon-fri, or sat,sun, or a list of them; daily unless given.
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "Option<OneOrMany<String>>")]
    pub days: Days,
    #[schemars(schema_with = "time_of_day")]
    pub from: String,
    #[schemars(schema_with = "time_of_day")]
    pub to: String,
    /// All of it, read.
    #[serde(skip)]
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(deny_unknown_fields)]
pub enum QuietHours {
    /// The name of a preset.
    Preset(String),
    /// From one time of day to another, over midnight where that is earlier.
    Between {
        #[schemars(schema_with = "time_of_day")]
        from: String,
        #[schemars(schema_with = "time_of_day")]
        to: String,
        /// All of it, read.
        #[serde(skip)]
        span: Span,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopOn {
    Reply,
    OptOut,
    Goal,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Caps {
    /// The most messages that somebody gets in a time, such as 3 in 7d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_recipient: Option<Cap>,
    /// Which campaign goes first; the lower number does, 0 unless given.
    #[schemars(default, range(min = 0, max = 1000))]
    pub priority: i16,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Lines {
    /// The ids of the lines that may send; any unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub pool: Vec<String>,
    /// Whether only people are written to whom a line has written to before, or who have written to one.
    #[schemars(default)]
    pub pinned_only: bool,
}

// Only for the schema: an item is as good as a list of one. A doc comment would be shown in editors.
#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code, reason = "it describes what is read, and holds nothing")]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl Campaign {
    /// When its recipients may be written to, anywhere.
    /// Errors: a preset that is unknown, or hours that leave no time; neither after the file was read.
    pub fn hours(&self) -> Result<Windows, WindowError> {
        let open = self.windows.iter().map(|window| window.span).collect();
        let (mut quiet, mut presets) = (Vec::new(), Vec::new());
        for hours in &self.quiet_hours {
            match hours {
                QuietHours::Preset(name) => presets.push(name.as_str()),
                QuietHours::Between { span, .. } => quiet.push(*span),
            }
        }
        Windows::new(open, quiet, &presets)
    }
}

impl Audience {
    /// After how long somebody may be enrolled again; none for never.
    pub fn again_after(&self) -> Option<Duration> {
        match self {
            Audience::Sql { again, .. } | Audience::Csv { again, .. } | Audience::Enrolled { again, .. } => match again
            {
                Again::Never => None,
                Again::After(length) => Some(length.0),
                Again::Always => Some(Duration::ZERO),
            },
        }
    }
}

impl Holidays {
    /// The calendar; none of a file that has not been read.
    pub fn calendar(&self) -> Option<Cow<'static, Calendar>> {
        match self {
            Holidays::Named(name) => Calendar::named(name).map(Cow::Borrowed),
            Holidays::Days { days } => Some(Cow::Owned(Calendar::of(days.clone()))),
        }
    }
}

impl Schedule {
    /// Where its clocks are.
    pub fn zone(&self, campaign: Tz) -> Tz {
        match self {
            Schedule::Cron { zone, .. } | Schedule::At { zone, .. } => zone.unwrap_or(campaign),
            Schedule::Manual { .. } => campaign,
        }
    }
}

impl Serialize for True {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl JsonSchema for True {
    fn schema_name() -> Cow<'static, str> {
        "True".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"const": true})
    }
}

/// Whether a variable may be called so.
pub fn is_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name.len() <= 64
}

/// Unless the file says otherwise.
pub fn catch_up_within() -> Length {
    Length::secs(6 * 3_600)
}

/// Unless the file says otherwise.
pub fn time_limit() -> Length {
    Length::secs(30)
}

/// Unless the file says otherwise.
pub fn row_limit() -> u32 {
    100_000
}

/// Unless the file says otherwise.
pub fn stop_on() -> Vec<StopOn> {
    vec![StopOn::Reply, StopOn::OptOut]
}

/// Unless the file says otherwise: what holds marketing back does no harm to other messages.
pub fn marketing() -> Class {
    Class::Marketing
}

fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": "^([a-z]|[0-9]+[a-z_-])[a-z0-9_-]*$",
        "maxLength": 64,
        "examples": ["welcome"],
    })
}

fn class(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["marketing", "transactional"]})
}

fn zone(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "examples": ["America/New_York", "Europe/Berlin", "UTC"]})
}

fn time_of_day(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^(([0-9]|[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", "examples": ["09:00"]})
}

fn as_text<T: std::fmt::Display, S: serde::Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn maybe_as_text<T: std::fmt::Display, S: serde::Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
