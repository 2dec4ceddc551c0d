//! `campaign`: files that say who is written to, when and what.

mod apply;
mod beside;
mod control;
mod everybody;
mod lines;
mod list;
mod loads;
mod migrate;
mod people;
mod plan;
mod query;
mod status;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use chrono_tz::Tz;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::campaign::file::node::MAX_BYTES;
use crate::campaign::file::shape::{Audience, Holidays, Missing, QuietHours, Schedule, Variable};
use crate::campaign::file::{self, Checked, Finding};
use crate::campaign::fires;
use crate::campaign::opening::Opening;
use crate::campaign::preset;
use crate::campaign::program::Op;
use crate::cli::{print_json, table};
use crate::units::{counted, instant};

/// So many coming fires are shown.
const FIRES: usize = 10;
/// The days of so long a time are to be known, as far as calendars go.
const SOON: TimeDelta = TimeDelta::days(90);

/// Campaigns: files that say who is written to, when and what.
#[derive(Debug, Subcommand)]
pub enum Campaign {
    /// Check campaign files, and show what they mean and when they fire.
    Check(Check),
    /// Print the JSON Schema of campaign files, for editors.
    Schema,
    Plan(plan::PlanArgs),
    Apply(apply::Apply),
    List(list::List),
    Status(status::Status),
    People(everybody::People),
    Export(everybody::Export),
    Pause(control::Pause),
    Resume(control::Resume),
    Stop(control::Stop),
    Run(control::Run),
    Migrate(migrate::Migrate),
}

impl Campaign {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Campaign::Check(args) => args.run(),
            Campaign::Plan(args) => args.run().await,
            Campaign::Apply(args) => args.run().await,
            Campaign::List(args) => args.run().await,
            Campaign::Status(args) => args.run().await,
            Campaign::People(args) => args.run().await,
            Campaign::Export(args) => args.run().await,
            Campaign::Pause(args) => args.run().await,
            Campaign::Resume(args) => args.run().await,
            Campaign::Stop(args) => args.run().await,
            Campaign::Run(args) => args.run().await,
            Campaign::Migrate(args) => args.run().await,
            Campaign::Schema => {
                print_json(&file::schema())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Needs neither a database nor the network. Each finding is a line of its own: FILE:LINE:COLUMN: PATH: what is wrong — what to write.

The CSV of an audience is looked at where it lies, beside its file. What `campaign apply` refuses of it is an error; a CSV that is not there
yet, that lacks a column, or that has bad lines (which --leave-out-bad leaves out) is a warning, since it may be made later.

Examples:
  chert-outbox campaign check jobs/*.yaml
  chert-outbox campaign check jobs/*.yaml --strict --json

Exit code: 0 all files are good, 1 a file has errors, or with --strict warnings."
)]
pub struct Check {
    /// The campaign files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Let warnings fail the check too.
    #[arg(long)]
    strict: bool,
    /// Show the fires after this instant, e.g. 2026-06-03T09:15:00Z; now unless given.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: Option<DateTime<Utc>>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Check {
    fn run(self) -> anyhow::Result<ExitCode> {
        let from = self.from.unwrap_or_else(|| SystemTime::now().into());
        let mut results: Vec<Checking> = self.files.iter().map(|path| Checking::of(path, from)).collect();
        refuse_shared_names(&mut results);
        let failed = |result: &Checking| result.checked.is_err() || (self.strict && !result.warnings().is_empty());
        let bad = results.iter().filter(|result| failed(result)).count();
        if self.json {
            print_json(&results.iter().map(Checking::to_json).collect::<Vec<_>>())?;
        } else {
            show(&results);
        }
        Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// One file, and what became of it.
struct Checking {
    path: String,
    checked: Result<Box<Checked>, Vec<Finding>>,
    fires: Vec<DateTime<Utc>>,
}

impl Checking {
    fn of(path: &Path, from: DateTime<Utc>) -> Checking {
        let checked = with_warnings(path, from);
        let fires = checked.as_ref().map(|checked| fires(checked, from)).unwrap_or_default();
        let checked = checked.and_then(|mut checked| {
            let beside = beside::look(path, &checked).map_err(|error| vec![error])?;
            checked.warnings.extend(beside);
            Ok(Box::new(checked))
        });
        Checking { path: path.display().to_string(), checked, fires }
    }

    fn warnings(&self) -> &[Finding] {
        self.checked.as_ref().map_or(&[], |checked| &checked.warnings)
    }

    fn errors(&self) -> &[Finding] {
        self.checked.as_ref().err().map_or(&[], Vec::as_slice)
    }

    fn to_json(&self) -> Value {
        let steps = |checked: &Checked| {
            let steps = checked.program.steps().iter().enumerate();
            steps
                .map(|(index, step)| json!({"index": index, "name": step.name, "kind": kind(&step.op)}))
                .collect::<Vec<_>>()
        };
        let checked = self.checked.as_ref().ok();
        json!({
            "file": self.path,
            "ok": self.checked.is_ok(),
            "errors": self.errors(),
            "warnings": self.warnings(),
            "campaign": checked.map(|checked| &checked.campaign),
            "steps": checked.map(|checked| steps(checked)),
            "next_fires": self.fires,
        })
    }
}

/// A file without errors; what looks wrong in it is told beside, on standard error.
/// Errors: all that is wrong with it.
fn checked(path: &Path) -> anyhow::Result<Checked> {
    let shown = path.display();
    let checked = with_warnings(path, SystemTime::now().into()).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(|finding| format!("{shown}:{finding}")).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })?;
    warn(path, &checked.warnings);
    Ok(checked)
}

fn warn(path: &Path, warnings: &[Finding]) {
    warnings.iter().for_each(|warning| eprintln!("{}:{warning} (warning)", path.display()));
}

/// A campaign file with its calendar, and all that looks wrong in it as of an instant.
fn with_warnings(path: &Path, from: DateTime<Utc>) -> Result<Checked, Vec<Finding>> {
    let mut checked = with_calendar(path)?;
    let warnings = [fires_no_more(&checked, &fires(&checked, from)), never_opens(&checked, from)].into_iter().flatten();
    let warnings: Vec<Finding> = warnings.chain(ends_soon(&checked, from)).collect();
    checked.warnings.extend(warnings);
    Ok(checked)
}

fn refuse_shared_names(results: &mut [Checking]) {
    let mut names = BTreeMap::new();
    for result in results {
        let Ok(checked) = &result.checked else { continue };
        if let Some(twin) = shared_name(&mut names, checked.campaign.name.as_str(), &result.path) {
            result.checked = Err(vec![twin]);
        }
    }
}

/// Two files of one name would be two versions of one campaign. `names` holds which file each name was found in.
fn shared_name(names: &mut BTreeMap<String, String>, name: &str, path: &str) -> Option<Finding> {
    if let Some(first) = names.get(name) {
        return Some(whole(format!("the campaign `{name}` is in {first} already"), "give it a name of its own"));
    }
    names.insert(name.to_owned(), path.to_owned());
    None
}

/// A campaign file, with the calendar that it names beside it.
fn with_calendar(path: &Path) -> Result<Checked, Vec<Finding>> {
    let mut checked = read(path).and_then(|source| file::read(&source))?;
    beside::read_calendar(path, &mut checked).map_err(|finding| vec![finding])?;
    Ok(checked)
}

/// The text of a file, of which no more is read than a campaign may have.
fn read(path: &Path) -> Result<String, Vec<Finding>> {
    let open = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes =
        open().map_err(|error| vec![whole(format!("the file cannot be read ({error})"), "name a campaign file")])?;
    String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        vec![Finding { line, ..whole("the file is not UTF-8", "save it as UTF-8") }]
    })
}

/// About a file as a whole.
fn whole(message: impl Into<String>, hint: &str) -> Finding {
    Finding { line: 1, column: 1, path: String::new(), message: message.into(), hint: hint.to_owned() }
}

fn fires_no_more(checked: &Checked, fires: &[DateTime<Utc>]) -> Option<Finding> {
    let (path, message, hint) = match checked.campaign.schedule {
        _ if !fires.is_empty() => return None,
        Schedule::At { .. } => ("schedule.at", "this time has passed", "write a later time"),
        Schedule::Cron { .. } => ("schedule.cron", "this fires no more", "write a later year, or leave it out"),
        Schedule::Manual { .. } => return None,
    };
    Some(checked.about(path, message, hint))
}

/// Calendars of which nobody knows the days that come soon.
fn ends_soon(checked: &Checked, from: DateTime<Utc>) -> Vec<Finding> {
    let campaign = &checked.campaign;
    let own = campaign.calendar.as_ref().and_then(Holidays::calendar).and_then(|calendar| calendar.last_year());
    let presets = campaign.quiet_hours.iter().filter_map(|hours| match hours {
        QuietHours::Preset(name) => preset::with_implied(name),
        QuietHours::Between { .. } => None,
    });
    let closed = presets.flatten().filter_map(|rule| rule.closed()?.last_year()).min();
    let soon = (from + SOON).year();
    [("calendar", own), ("quiet_hours", closed)]
        .into_iter()
        .filter_map(|(path, last)| {
            let last = last.filter(|last| *last < soon)?;
            let message = format!("holidays are known until the end of {last}, and none after it");
            Some(checked.about(path, message, "name a calendar that goes on, or take a later release"))
        })
        .collect()
}

/// Hours that never open, or not for long enough, for the people of some countries or states.
fn never_opens(checked: &Checked, from: DateTime<Utc>) -> Option<Finding> {
    let campaign = &checked.campaign;
    let hours = campaign.hours().ok()?;
    let never = |region| Opening::of(&hours.in_region(region), &[campaign.zone], from) == Opening::Never;
    let regions = hours.regions();
    let shown = |region: &str| {
        let has_parts = regions.iter().any(|part| part.starts_with(&format!("{region}-")));
        if has_parts { format!("{region} (state not known)") } else { region.to_owned() }
    };
    let mut closed: Vec<String> =
        regions.iter().filter(|region| never(Some(region))).map(|region| shown(region)).collect();
    let everybody = closed.len() == regions.len();
    if never(None) {
        closed.push("other countries".to_owned());
    } else if closed.is_empty() {
        return None;
    }
    let whom = if everybody { String::new() } else { format!(" for people in {}", closed.join(", ")) };
    let message = format!("`windows` and `quiet_hours` never leave time for a message{whom}");
    let path = if campaign.windows.is_empty() { "quiet_hours" } else { "windows" };
    Some(checked.about(path, message, "let them leave some minutes a week"))
}

/// When it fires after an instant, the next [`FIRES`] times at most.
fn fires(checked: &Checked, from: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let next = |at: &DateTime<Utc>| fires::next_after(&checked.campaign.schedule, checked.campaign.zone, *at);
    std::iter::successors(next(&from), next).take(FIRES).collect()
}

fn show(results: &[Checking]) {
    for result in results {
        result.errors().iter().for_each(|error| outln!("{}:{error}", result.path));
        result.warnings().iter().for_each(|warning| outln!("{}:{warning} (warning)", result.path));
    }
    let good: Vec<(&Checking, &Checked)> =
        results.iter().filter_map(|result| Some((result, result.checked.as_deref().ok()?))).collect();
    if !good.is_empty() {
        let mut rows = table(&["campaign", "class", "starts", "audience", "steps", "messages", "variables"]);
        for (_, checked) in &good {
            rows.add_row(row(checked));
        }
        outln!("{}", rows.trim_fmt());
    }
    for (result, checked) in &good {
        show_fires(&result.fires, checked);
    }
    let bad = results.iter().filter(|result| result.checked.is_err()).count();
    let warnings: usize = results.iter().map(|result| result.warnings().len()).sum();
    let (files, warnings) = (counted(results.len(), "file", "files"), counted(warnings, "warning", "warnings"));
    outln!("\n{files}: {} good, {bad} with errors; {warnings}", good.len());
}

fn row(Checked { campaign, program, .. }: &Checked) -> [String; 7] {
    let starts = match &campaign.schedule {
        Schedule::Cron { cron, .. } => cron.to_string(),
        Schedule::At { at, .. } => at.to_string(),
        Schedule::Manual { .. } if matches!(campaign.audience, Audience::Enrolled { .. }) => "when enrolled".to_owned(),
        Schedule::Manual { .. } => "by hand".to_owned(),
    };
    let audience = match &campaign.audience {
        Audience::Sql { .. } => "query".to_owned(),
        Audience::Csv { csv, .. } => csv.clone(),
        Audience::Enrolled { .. } => "application".to_owned(),
    };
    let variables = campaign.variables.iter().map(|(name, variable)| {
        let missing = match variable {
            Variable::Needed { missing: Missing::Hold } => "hold".to_owned(),
            Variable::Needed { missing: Missing::Skip } => "skip".to_owned(),
            Variable::Default { default } => format!("{default:?}"),
        };
        format!("{name} (else {missing})")
    });
    let messages = program.steps().iter().filter(|step| matches!(step.op, Op::Send(_))).count();
    let steps = program.steps().iter().filter(|step| !matches!(step.op, Op::Jump(_) | Op::End)).count();
    [
        campaign.name.to_string(),
        campaign.class.word().to_owned(),
        starts,
        audience,
        steps.to_string(),
        messages.to_string(),
        variables.collect::<Vec<_>>().join(", "),
    ]
}

fn show_fires(fires: &[DateTime<Utc>], checked: &Checked) {
    if fires.is_empty() {
        return;
    }
    let zone: Tz = checked.campaign.schedule.zone(checked.campaign.zone);
    let s = if fires.len() == 1 { "" } else { "s" };
    outln!("\n{}: next {} fire{s} ({zone})", checked.campaign.name, fires.len());
    for at in fires {
        outln!("  {}   {}", at.with_timezone(&zone).format("%a %F %T %Z"), at.format("%FT%TZ"));
    }
}

fn kind(op: &Op) -> &'static str {
    match op {
        Op::Send(_) => "send",
        Op::Wait(_) => "wait",
        Op::Branch { .. } => "branch",
        Op::Jump(_) => "jump",
        Op::End => "end",
    }
}
