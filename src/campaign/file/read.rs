//! A campaign out of its tree: each key of the file, in its order.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::campaign::calendar::Calendar;
use crate::campaign::cron;
use crate::campaign::file::finding::{Findings, did_you_mean, nearest};
use crate::campaign::file::hours::{quiet_hours, window};
use crate::campaign::file::node::{Place, Value};
use crate::campaign::file::reader::{choice, each, entries, fields, filled, list, number, one_of, text, truth, word};
use crate::campaign::file::shape::{
    self, Audience, Campaign, Caps, CatchUp, Holidays, Lines, Missing, Overlap, Schedule, StopOn, True, Variable,
};
use crate::campaign::file::steps::{self, Known};
use crate::campaign::file::words::{Again, Name};
use crate::campaign::template::is_kept;
use crate::campaign::window::WindowError;
use crate::campaign::zone::VARIABLE as TIME_ZONE;
use crate::job::{Class, KEY_MAX_CHARS};

const EXAMPLE_DAYS: &str = "{ 2026-12-25: Christmas Day }";

const KEYS: [&str; 15] = [
    "name",
    "description",
    "labels",
    "class",
    "schedule",
    "audience",
    "variables",
    "zone",
    "calendar",
    "windows",
    "quiet_hours",
    "stop_on",
    "caps",
    "lines",
    "steps",
];

/// The whole file.
pub fn campaign(root: &Place<'_>, findings: &mut Findings) -> Option<Campaign> {
    let of = fields(root, &KEYS, findings)?;
    let name = of.needed("name", "welcome", findings, campaign_name);
    let zone_of_campaign = of.needed("zone", "America/New_York", findings, zone);
    let audience = of.needed("audience", "{ csv: people.csv }", findings, audience);
    let enrolled = of.place("audience").is_some_and(|audience| audience.node.get("enrolled").is_some());
    let schedule = match of.place("schedule") {
        None if enrolled => Some(Schedule::Manual { manual: True }),
        _ => of.needed("schedule", "{ cron: \"0 9 * * mon-fri\" }", findings, schedule),
    };
    if let (Some(place), Some(Schedule::Cron { .. } | Schedule::At { .. })) = (of.place("schedule"), &schedule)
        && enrolled
    {
        findings.refuse(
            &place,
            "the application enrols people, so nothing is enrolled by the clock",
            "leave `schedule` out",
        );
    }
    let variables = of.given("variables", findings, |place, findings| variables(place, enrolled, findings));
    let variables = variables.unwrap_or_default();
    let calendar = of.given("calendar", findings, calendar);
    // What is written wrong under `variables` or `labels` is known all the same: each mistake is told once.
    let names = |key: &str| match of.place(key).map(|place| &place.node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| key.name.as_str()).collect(),
        _ => Vec::new(),
    };
    let (variable_names, label_names) = (names("variables"), names("labels"));
    let calendar_is_given = of.place("calendar").is_some();
    let known = Known { variables: &variable_names, labels: &label_names, calendar: calendar_is_given };
    let windows = of.given("windows", findings, |place, findings| each(place, window, findings)).unwrap_or_default();
    let quiet_hours = of.given("quiet_hours", findings, quiet_hours).unwrap_or_default();
    let steps = of.needed("steps", "[{ send: { body: \"Hi\" } }]", findings, |place, findings| {
        steps::steps(place, known, findings)
    });
    let description = of.given("description", findings, |place, findings| filled(place, findings).map(str::to_owned));
    let labels = of.given("labels", findings, labels).unwrap_or_default();
    let class = of.given("class", findings, class).unwrap_or_else(shape::marketing);
    let stop_on = of.given("stop_on", findings, stop_on).unwrap_or_else(shape::stop_on);
    let caps = of.given("caps", findings, caps).unwrap_or_default();
    let lines = of.given("lines", findings, lines).unwrap_or_default();
    // Only now may anything that is missing end it: all mistakes are to be told.
    let campaign = Campaign {
        name: name?,
        description,
        labels,
        class,
        schedule: schedule?,
        audience: audience?,
        variables,
        zone: zone_of_campaign?,
        calendar,
        windows,
        quiet_hours,
        stop_on,
        caps,
        lines,
        steps: steps?,
    };
    let hours = of.place("windows").or_else(|| of.place("quiet_hours"));
    if let (Err(WindowError::NeverOpen), Some(place)) = (campaign.hours(), hours) {
        let message = "no time of the week is inside the windows and outside the quiet hours";
        findings.refuse(&place, message, "let them leave some hours in which messages may go out");
    }
    Some(campaign)
}

fn campaign_name(place: &Place<'_>, findings: &mut Findings) -> Option<Name> {
    let name: Name = word(place, findings)?;
    if name.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
        let hint = "put a letter in it: `chert-outbox explain` takes digits for the id of a job";
        findings.refuse(place, "this is a name of digits alone", hint);
    }
    Some(name)
}

/// A name of the time zone database.
pub fn zone(place: &Place<'_>, findings: &mut Findings) -> Option<Tz> {
    let written = text(place, findings)?;
    if let Ok(zone) = written.parse() {
        return Some(zone);
    }
    let wanted = written.trim().replace(' ', "_").to_lowercase();
    let known = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let city = |name: &&str| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&wanted));
    let meant = known().find(city).or_else(|| nearest(&wanted, known()));
    let hint = match meant {
        Some(name) => format!("did you mean {name}?"),
        None => "write a place such as America/New_York or Europe/Berlin, or UTC".to_owned(),
    };
    findings.add(place, format!("the time zone `{}` is unknown", written.chars().take(40).collect::<String>()), hint);
    None
}

fn schedule(place: &Place<'_>, findings: &mut Findings) -> Option<Schedule> {
    let kinds = ["cron", "at", "manual"];
    let kind = one_of(place, &kinds, "cron: \"0 9 * * mon-fri\"", "keep one of them", findings)?;
    let known: &[&str] = match kind {
        "cron" => &["cron", "zone", "catch_up", "catch_up_within", "overlap", "jitter"],
        "at" => &["at", "zone", "catch_up_within", "jitter"],
        _ => &["manual"],
    };
    let of = fields(place, known, findings)?;
    if kind == "manual" {
        return of.given("manual", findings, only_true).map(|manual| Schedule::Manual { manual });
    }
    let zone = of.given("zone", findings, zone);
    let catch_up_within = of.given("catch_up_within", findings, word).unwrap_or_else(shape::catch_up_within);
    let jitter = of.given("jitter", findings, word);
    if kind == "at" {
        let at = of.given("at", findings, word)?;
        return Some(Schedule::At { at, zone, catch_up_within, jitter });
    }
    let catch_up = [("skip", CatchUp::Skip), ("last", CatchUp::Last), ("all", CatchUp::All)];
    let overlap = [("skip", Overlap::Skip), ("queue", Overlap::Queue), ("allow", Overlap::Allow)];
    let catch_up = of.given("catch_up", findings, |place, findings| choice(place, &catch_up, findings));
    let overlap = of.given("overlap", findings, |place, findings| choice(place, &overlap, findings));
    let cron = of.given("cron", findings, cron_spec)?;
    Some(Schedule::Cron {
        cron,
        zone,
        catch_up: catch_up.unwrap_or_default(),
        catch_up_within,
        overlap: overlap.unwrap_or_default(),
        jitter,
    })
}

fn cron_spec(place: &Place<'_>, findings: &mut Findings) -> Option<cron::Schedule> {
    let written = filled(place, findings)?;
    let error = match cron::Schedule::parse(written) {
        Ok(schedule) => return Some(schedule),
        Err(error) => error,
    };
    let sentence = error.to_string();
    let (message, hint) = sentence.rsplit_once(": ").unwrap_or((&sentence, "write e.g. 0 9 * * mon-fri"));
    // A field's column is counted in characters of the spec.
    let offset = match &error {
        cron::CronError::Field { column, .. } => written.char_indices().nth(column.saturating_sub(1)).map(|(at, _)| at),
        _ => None,
    };
    findings.add_within(place, offset.unwrap_or(0), message, hint);
    None
}

fn audience(place: &Place<'_>, findings: &mut Findings) -> Option<Audience> {
    let kind = one_of(place, &["sql", "csv", "enrolled"], "csv: people.csv", "keep one of them", findings)?;
    let known: &[&str] = match kind {
        "sql" => &["sql", "role", "time_limit", "row_limit", "again"],
        "csv" => &["csv", "again"],
        _ => &["enrolled", "again"],
    };
    let of = fields(place, known, findings)?;
    let again = of.given("again", findings, word::<Again>).unwrap_or_default();
    match kind {
        "sql" => {
            let role = of.given("role", findings, |place, findings| filled(place, findings).map(str::to_owned));
            let time_limit = of.given("time_limit", findings, word).unwrap_or_else(shape::time_limit);
            let rows = |place: &Place<'_>, findings: &mut Findings| number(place, 1..=10_000_000, findings);
            let row_limit = of.given("row_limit", findings, rows).unwrap_or_else(shape::row_limit);
            let sql = of.given("sql", findings, query)?;
            Some(Audience::Sql { sql, role, time_limit, row_limit, again })
        }
        "csv" => {
            let csv = of.given("csv", findings, filled)?.to_owned();
            Some(Audience::Csv { csv, again })
        }
        _ => of.given("enrolled", findings, only_true).map(|enrolled| Audience::Enrolled { enrolled, again }),
    }
}

/// A query; what else it may not do is for the database to refuse, which runs it in a transaction that only reads.
fn query(place: &Place<'_>, findings: &mut Findings) -> Option<String> {
    let sql = filled(place, findings)?;
    let first = beginning(sql).split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_lowercase();
    if !matches!(first.as_str(), "select" | "with" | "values" | "table") {
        findings.refuse(place, "this is no query that only reads", "begin with select or with; name a column phone");
    }
    Some(sql.to_owned())
}

/// A query without the comments and parentheses that it begins with.
fn beginning(sql: &str) -> &str {
    let mut rest = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    while rest.starts_with("--") || rest.starts_with("/*") {
        let comment = if rest.starts_with("--") { rest.find('\n').unwrap_or(rest.len()) } else { block_comment(rest) };
        rest = rest[comment..].trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    }
    rest
}

/// The length of a comment, in which others may stand.
fn block_comment(sql: &str) -> usize {
    let (mut at, mut open) = (2, 1);
    while open > 0
        && let Some(found) = sql[at..].find(['/', '*'])
    {
        at += found;
        let (step, deeper) = match sql.as_bytes().get(at..at + 2) {
            Some(b"/*") => (2, 1),
            Some(b"*/") => (2, -1),
            _ => (1, 0),
        };
        (at, open) = (at + step, open + deeper);
    }
    if open > 0 { sql.len() } else { at }
}

/// Of people whom the application enrols, `phone` may be one.
fn variables(place: &Place<'_>, enrolled: bool, findings: &mut Findings) -> Option<BTreeMap<String, Variable>> {
    let hint = "write each name with what happens where it is missing, such as first_name: { missing: hold }";
    let mut variables = BTreeMap::new();
    for (key, node) in entries(place, hint, findings)? {
        let place = place.key(&key.name, node);
        if !shape::is_name(&key.name) {
            let message = format!("`{}` cannot be the name of a variable", key.name);
            findings.at(&place.path, key.line, key.column, message, "write a-z, 0-9 and _, such as first_name");
            continue;
        }
        if is_kept(&key.name) {
            let message = format!("`{}` means something else in a template", key.name);
            findings.refuse_at(&place.path, key.line, key.column, message, "choose another name");
        }
        if key.name == "phone" && !enrolled {
            let message = "the column `phone` says who it is, and is no variable";
            let hint = "bring it once more under another name, such as number";
            findings.refuse_at(&place.path, key.line, key.column, message, hint);
        }
        if let Some(variable) = variable(&place, findings) {
            variables.insert(key.name.clone(), variable);
        }
    }
    Some(variables)
}

fn variable(place: &Place<'_>, findings: &mut Findings) -> Option<Variable> {
    if !matches!(place.node.value, Value::Map(_)) {
        let hint = "write { missing: hold }, { missing: skip } or { default: \"there\" }";
        findings.add(place, "this does not say what happens where the variable is missing", hint);
        return None;
    }
    let of = fields(place, &["missing", "default"], findings)?;
    if let (Some(default), Some(_)) = (of.place("default"), of.place("missing")) {
        findings.add(&default, "a variable with a default is never missing", "keep one of the two");
        return None;
    }
    if let Some(default) = of.place("default") {
        if place.path == format!("variables.{TIME_ZONE}") {
            zone(&default, findings)?;
        }
        return filled(&default, findings).map(|default| Variable::Default { default: default.to_owned() });
    }
    let rules = [("hold", Missing::Hold), ("skip", Missing::Skip)];
    let missing = of.given("missing", findings, |place, findings| choice(place, &rules, findings));
    Some(Variable::Needed { missing: missing.unwrap_or_default() })
}

fn labels(place: &Place<'_>, findings: &mut Findings) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    for (key, node) in entries(place, "write labels such as team: growth", findings)? {
        let place = place.key(&key.name, node);
        if key.name.is_empty() || key.name.chars().count() > 64 || key.name.contains('\0') {
            let hint = "write 1 to 64 characters, none of them NUL";
            findings.refuse_at(&place.path, key.line, key.column, "this cannot be a label", hint);
        }
        if let Some(value) = filled(&place, findings) {
            labels.insert(key.name.clone(), value.to_owned());
        }
    }
    Some(labels)
}

fn class(place: &Place<'_>, findings: &mut Findings) -> Option<Class> {
    choice(place, &[("marketing", Class::Marketing), ("transactional", Class::Transactional)], findings)
}

fn calendar(place: &Place<'_>, findings: &mut Findings) -> Option<Holidays> {
    if let Value::Map(_) = place.node.value {
        let of = fields(place, &["days"], findings)?;
        return of.needed("days", EXAMPLE_DAYS, findings, days).map(|days| Holidays::Days { days });
    }
    let name = text(place, findings)?;
    let is_file = name.contains(['.', '/']);
    if Calendar::named(name).is_none() && !is_file {
        let known = did_you_mean(name, Calendar::names());
        let hint = format!("{known}; or name a file beside this one, such as holidays.txt");
        findings.add(place, format!("the calendar `{name}` is unknown"), hint);
    }
    Some(Holidays::Named(name.to_owned()))
}

fn days(place: &Place<'_>, findings: &mut Findings) -> Option<BTreeMap<NaiveDate, String>> {
    let mut days = BTreeMap::new();
    for (key, node) in entries(place, &format!("write days such as {EXAMPLE_DAYS}"), findings)? {
        let place = place.key(&key.name, node);
        match key.name.parse() {
            Ok(day) => drop(days.insert(day, filled(&place, findings)?.to_owned())),
            Err(_) => findings.at(&place.path, key.line, key.column, "this is no day", "write it as in 2026-12-25"),
        }
    }
    if let Some(day) = Calendar::of(days.clone()).closed_from() {
        let message = format!("from {day} on there is no business day for more than a year");
        findings.refuse(place, message, "write holidays alone; Saturday and Sunday are none anyway");
    }
    Some(days)
}

fn stop_on(place: &Place<'_>, findings: &mut Findings) -> Option<Vec<StopOn>> {
    let words = [("reply", StopOn::Reply), ("opt_out", StopOn::OptOut), ("goal", StopOn::Goal)];
    let items = list(place, true, "write a list such as [reply, opt_out]", findings)?;
    let mut stops = items.iter().map(|place| choice(place, &words, findings)).collect::<Option<Vec<_>>>()?;
    stops.sort_unstable();
    stops.dedup();
    Some(stops)
}

fn caps(place: &Place<'_>, findings: &mut Findings) -> Option<Caps> {
    let of = fields(place, &["per_recipient", "priority"], findings)?;
    let per_recipient = of.given("per_recipient", findings, word);
    let priority = of.given("priority", findings, |place, findings| number(place, 0..=1000, findings));
    Some(Caps { per_recipient, priority: priority.unwrap_or_default() })
}

fn lines(place: &Place<'_>, findings: &mut Findings) -> Option<Lines> {
    let of = fields(place, &["pool", "pinned_only"], findings)?;
    let line = |place: &Place<'_>, findings: &mut Findings| {
        let id = filled(place, findings)?;
        if id.chars().count() > KEY_MAX_CHARS {
            findings.add(place, "this is no id of a line", "write it as `chert-outbox lines list` shows it");
            return None;
        }
        Some(id.to_owned())
    };
    let pool = of.given("pool", findings, |place, findings| {
        let pool = each(place, line, findings)?;
        if pool.is_empty() {
            findings.add(place, "no line is in the pool", "name lines, or leave `pool` out to use all");
        }
        Some(pool)
    });
    let pinned_only = of.given("pinned_only", findings, truth).unwrap_or_default();
    Some(Lines { pool: pool.unwrap_or_default(), pinned_only })
}

fn only_true(place: &Place<'_>, findings: &mut Findings) -> Option<True> {
    if truth(place, findings)? {
        return Some(True);
    }
    findings.add(place, "false says nothing here", "write true, or another key");
    None
}
