//! `campaign people` and `campaign export`: everybody of a campaign, one by one.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cli::campaign::list::shown;
use crate::cli::import::Format;
use crate::cli::{DatabaseOptions, ListOptions, has_reader_gone, output, print_json, table};
use crate::outbox::campaigns::everybody::{Filter, HELD_BACK, NO_LINE, Person, REASONS, Reader};
use crate::outbox::campaigns::left_out::{LeftOut, left_out};
use crate::units::counted;

/// People of one page of an export.
const PAGE: i64 = 10_000;

/// Which people.
#[derive(Debug, Args)]
struct Which {
    /// The campaign.
    name: String,
    /// Only people in this state.
    #[arg(long, value_parser = ["active", "held", "done", "stopped"])]
    state: Option<String>,
    /// Only people with this reason, such as `missing_variable` or `replied`, or whose message waits for it, such as
    /// `unanswered`.
    #[arg(long, value_parser = PossibleValuesParser::new(REASONS.into_iter().chain(HELD_BACK).chain([NO_LINE])))]
    reason: Option<String>,
    /// Only people who stand at the step of this name, or stood there when it ended.
    #[arg(long)]
    step: Option<String>,
}

impl Which {
    fn is_all_held(&self) -> bool {
        self.state.as_deref() == Some("held") && self.reason.is_none() && self.step.is_none()
    }

    fn filter(&self) -> Filter {
        Filter { state: self.state.clone(), reason: self.reason.clone(), step: self.step.clone() }
    }
}

/// List the people of a campaign by number: where they stand, why, and when they are looked at next.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox campaign people welcome --state held
  chert-outbox campaign people welcome --step first-help --limit 1000 --json
  chert-outbox campaign people win-back --left-out")]
pub struct People {
    #[command(flatten)]
    page: ListOptions,
    #[command(flatten)]
    which: Which,
    /// Print whole numbers.
    #[arg(long)]
    show_numbers: bool,
    /// List instead whom its firings left out, the newest firing first: the row (of a file the line), why, and the masked number. Who was
    /// enrolled already is only counted, in `campaign status`.
    #[arg(long, conflicts_with_all = ["state", "reason", "step", "show_numbers"])]
    left_out: bool,
    /// Whom this firing left out, by its id.
    #[arg(long, value_name = "ID", requires = "left_out")]
    firing: Option<i64>,
}

impl People {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.page.database.outbox(1).await?;
        if self.left_out {
            let rows = left_out(&pool, &self.which.name, self.firing, self.page.limit).await?;
            self.print_left_out(&rows)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut reader = Reader::of(&pool, &self.which.name, self.which.filter()).await?;
        let people = reader.next(self.page.limit, self.show_numbers).await?;
        if self.page.json {
            print_json(&people)?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows = table(&["phone", "step", "state", "next", "variants", "sent", "last message", "answered"]);
        for person in &people {
            rows.add_row([
                person.phone.clone(),
                person.step.clone(),
                state(person),
                person.next_at.map_or_else(String::new, shown),
                person.variants.clone().unwrap_or_default(),
                person.sent.to_string(),
                person.last_sent_at.map_or_else(String::new, shown),
                answered(person),
            ]);
        }
        outln!("{}", rows.trim_fmt());
        self.print_limit(people.len());
        if people.iter().any(|person| person.reason.as_deref() == Some("unreadable")) {
            outln!(
                "unreadable: what they have cannot be used in this field of their step; explain PHONE says what to do"
            );
        }
        if self.which.is_all_held() {
            self.print_held_back(&reader).await?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print_left_out(&self, people: &[LeftOut]) -> anyhow::Result<()> {
        if self.page.json {
            return print_json(&people);
        }
        let mut rows = table(&["firing", "at", "row", "reason", "phone"]);
        for person in people {
            rows.add_row([
                person.firing.to_string(),
                shown(person.at),
                person.row.to_string(),
                person.reason.clone(),
                person.phone.clone().unwrap_or_default(),
            ]);
        }
        outln!("{}", rows.trim_fmt());
        self.print_limit(people.len());
        Ok(())
    }

    fn print_limit(&self, printed: usize) {
        if printed as i64 == self.page.limit {
            outln!("(the first {}; --limit shows more)", self.page.limit);
        }
    }

    /// Those of whom other lists say what their message waits for. Their enrolment is not held.
    async fn print_held_back(&self, reader: &Reader<'_>) -> anyhow::Result<()> {
        let held_back = reader.held_back().await?;
        if !held_back.is_empty() {
            let all = counted(held_back.values().sum::<i64>(), "more person is", "more people are");
            let reasons: Vec<String> = held_back.iter().map(|(reason, people)| format!("{people} {reason}")).collect();
            outln!("{all} held back: {}; --reason REASON lists them", reasons.join(", "));
        }
        Ok(())
    }
}

fn state(person: &Person) -> String {
    let state = person.standing.as_ref().unwrap_or(&person.state);
    let why: Vec<&str> =
        [&person.reason, &person.detail, &person.waits_for].into_iter().filter_map(|why| why.as_deref()).collect();
    if why.is_empty() { state.clone() } else { format!("{state} ({})", why.join(": ")) }
}

fn answered(person: &Person) -> String {
    match (person.opted_out_at, person.replied_at) {
        (Some(at), _) => format!("stop {}", shown(at)),
        (None, Some(at)) => shown(at),
        (None, None) => String::new(),
    }
}

/// Write everybody of a campaign, with whole numbers, by number.
#[derive(Debug, Args)]
#[command(after_help = "One row an enrolment: somebody who goes through a campaign twice has two.

Examples:
  chert-outbox campaign export welcome --to welcome.csv
  chert-outbox campaign export welcome --reason replied --format jsonl | jq -r .phone")]
pub struct Export {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    which: Which,
    /// Where to write it, for the owner's eyes only; standard output when not given.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// How it is written.
    #[arg(long, default_value = "csv")]
    format: Format,
}

/// The header, which is there also where nobody is.
const COLUMNS: [&str; 20] = [
    "enrolment",
    "phone",
    "round",
    "version",
    "state",
    "reason",
    "detail",
    "step",
    "standing",
    "next_at",
    "waits_for",
    "variants",
    "sent",
    "delivered",
    "last_sent_at",
    "replied_at",
    "opted_out_at",
    "enrolled_at",
    "reached_at",
    "finished_at",
];

impl Export {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.write().await {
            Err(error) if self.to.is_none() && has_reader_gone(&error) => {}
            written => written?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn write(&self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let mut reader = Reader::of(&pool, &self.which.name, self.which.filter()).await?;
        let out = output(self.to.as_deref())?;
        let written = match self.format {
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(out);
                writer.write_record(COLUMNS)?;
                let written = each(&mut reader, |person| Ok(writer.serialize(person)?)).await?;
                writer.flush()?;
                written
            }
            Format::Jsonl => {
                let mut out = std::io::BufWriter::new(out);
                let write = |person: &Person| {
                    serde_json::to_writer(&mut out, person)?;
                    Ok(out.write_all(b"\n")?)
                };
                let written = each(&mut reader, write).await?;
                out.flush()?;
                written
            }
        };
        if let Some(file) = &self.to {
            outln!("{} written to {}", counted(written, "person", "people"), file.display());
        }
        Ok(())
    }
}

/// Every one of them, a page at a time; returns how many there were.
async fn each(reader: &mut Reader<'_>, mut write: impl FnMut(&Person) -> anyhow::Result<()>) -> anyhow::Result<usize> {
    let mut written = 0;
    loop {
        let page = reader.next(PAGE, true).await?;
        if page.is_empty() {
            return Ok(written);
        }
        page.iter().try_for_each(&mut write)?;
        written += page.len();
    }
}
