//! `suppress`: who must not be written to.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::import::{BadRecord, Format, Row};
use crate::cli::load::{Load, Stopped, load};
use crate::cli::{DatabaseOptions, ListOptions, has_reader_gone, output, print_json, table};
use crate::outbox::suppress::{self, Exported, NewSuppression};
use crate::phone::Phone;
use crate::scope::Scope;
use crate::units::{counted, instant};

/// Entries of one page of an export.
const PAGE: i64 = 10_000;

/// Who must not be written to, for everything or for the jobs of a campaign or a label.
#[derive(Debug, Subcommand)]
pub enum Suppress {
    /// Suppress recipients: what waits for them is not sent any more.
    Add(Add),
    /// Take a recipient off the list.
    Remove(Remove),
    /// Show the list, the newest first.
    List(List),
    /// Suppress the recipients of a CSV file.
    Import(Import),
    /// Write the list as such a file, with whole numbers.
    Export(Export),
}

impl Suppress {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Suppress::Add(args) => args.run().await?,
            Suppress::Remove(args) => args.run().await?,
            Suppress::List(args) => args.run().await?,
            Suppress::Import(args) => return args.run().await,
            Suppress::Export(args) => args.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "A message that is on its way at this moment is not called back.

Examples:
  chert-outbox suppress add +15550142200 --reason 'asked on the phone'
  chert-outbox suppress add +15550142200 --scope campaign=spring")]
pub struct Add {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The recipients, e.g. +15550142200.
    #[arg(required = true, value_name = "PHONE")]
    phones: Vec<Phone>,
    /// What it covers: all, campaign=NAME, or the label KEY=VALUE.
    #[arg(long, default_value = "all")]
    scope: Scope,
    /// Why; shown with the entry.
    #[arg(long, default_value = "by hand")]
    reason: String,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

impl Add {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let mut told = Vec::new();
        for phone in &self.phones {
            let one = NewSuppression {
                phone: phone.clone(),
                scope: self.scope.clone(),
                reason: self.reason.clone(),
                source: "operator".to_owned(),
                created_at: None,
                event_id: None,
            };
            let done = suppress::add(&pool, &[one]).await?;
            let new = done.new.first() == Some(&true);
            if self.json {
                told.push(json!({"phone": phone.to_string(), "scope": self.scope.as_str(), "new": new,
                    "jobs_suppressed": done.jobs, "jobs_parked": done.parked}));
                continue;
            }
            let was = if new { "is suppressed" } else { "was suppressed already" };
            let parked = match done.parked {
                0 => String::new(),
                1 => ", 1 may be on the phone already and is parked".to_owned(),
                parked => format!(", {parked} may be on the phone already and are parked"),
            };
            let jobs = counted(done.jobs, "job", "jobs");
            outln!("{phone} {was} ({}): {jobs} will not be sent{parked}", self.scope);
        }
        if self.json {
            print_json(&told)?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "It also lets somebody come back who was erased. Jobs that were suppressed stay so; `jobs retry ID` puts one back.

Example:
  chert-outbox suppress remove +15550142200 --scope campaign=spring"
)]
pub struct Remove {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The recipient, e.g. +15550142200.
    phone: Phone,
    /// Only this entry; all of the recipient's when not given.
    #[arg(long)]
    scope: Option<Scope>,
}

impl Remove {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let removed = suppress::remove(&pool, &self.phone, self.scope.as_ref()).await?;
        if removed == 0 {
            bail!(
                "{} is not suppressed{}",
                self.phone,
                self.scope.map(|scope| format!(" ({scope})")).unwrap_or_default()
            );
        }
        outln!("{}: {} removed", self.phone, counted(removed, "suppression", "suppressions"));
        Ok(())
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox suppress list --json
  chert-outbox suppress list --phone +15550142200")]
pub struct List {
    #[command(flatten)]
    page: ListOptions,
    /// Only the entries of this recipient; also of one who was erased.
    #[arg(long)]
    phone: Option<Phone>,
    /// Print whole numbers.
    #[arg(long)]
    show_numbers: bool,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.page.database.outbox(1).await?;
        let listed = suppress::list(&pool, self.phone.as_ref(), self.show_numbers, self.page.limit).await?;
        if self.page.json {
            return print_json(&listed);
        }
        let mut rows = table(&["phone", "scope", "since", "reason", "source", "event"]);
        for entry in &listed {
            rows.add_row([
                entry.phone.clone().unwrap_or_else(|| "(erased)".to_owned()),
                entry.scope.clone(),
                entry.created_at.format("%F %T").to_string(),
                entry.reason.clone(),
                entry.source.clone(),
                entry.event_id.clone().unwrap_or_default(),
            ]);
        }
        outln!("{}", rows.trim_fmt());
        if listed.len() as i64 == self.page.limit {
            outln!("(the newest {}; --limit shows more)", self.page.limit);
        }
        if self.phone.is_none() {
            let erased = suppress::erased(&pool).await?;
            if erased > 0 {
                outln!("and {} erased, known by a hash alone", counted(erased, "person who was", "people who were"));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "The first line names the columns: phone, and any of scope, reason, source and created_at. Somebody who is on the list
already stays there as they are. A file may be read twice.

Examples:
  chert-outbox suppress import opt-outs.csv
  export-opt-outs | chert-outbox suppress import - --format csv

Exit code: 0 all are suppressed, 1 something was rejected or went wrong."
)]
pub struct Import {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The file, or `-` for standard input.
    file: PathBuf,
    /// How the file is written; by its extension (.csv, .jsonl, .ndjson) when not given.
    #[arg(long)]
    format: Option<Format>,
    /// Go on after this line of the file, where an earlier run ended.
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip_lines: u64,
    /// Where rejected lines are listed, with the reason; FILE.rejects.csv when not given.
    #[arg(long, value_name = "PATH")]
    rejects: Option<PathBuf>,
    /// List the rejected lines themselves too, with all that they hold.
    #[arg(long)]
    rejects_with_rows: bool,
    /// Print the counts as JSON.
    #[arg(long)]
    json: bool,
}

impl Import {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let file = Load {
            file: &self.file,
            format: self.format,
            skip_lines: self.skip_lines,
            rejects: self.rejects.as_deref(),
            rejects_with_rows: self.rejects_with_rows,
            json: self.json,
            done: "suppressed",
            command: "chert-outbox suppress import",
            doubt: "it does no harm to read it again",
        };
        let write = async |rows: Vec<NewSuppression>| {
            let written = suppress::add(&pool, &rows).await.map_err(Stopped::in_doubt)?;
            Ok(written.new.into_iter().map(Ok).collect())
        };
        load(&file, write).await
    }
}

impl Row for NewSuppression {
    const FIELDS: &'static [(&'static str, &'static str)] =
        &[("phone", "text"), ("scope", "text"), ("reason", "text"), ("source", "text"), ("created_at", "a time")];
    const NEEDED: &'static [&'static str] = &["phone"];

    fn of(fields: Value) -> Result<NewSuppression, BadRecord> {
        let text = |field: &str| match &fields[field] {
            Value::Null => Ok(None),
            Value::String(text) if !text.contains('\0') => Ok(Some(text.as_str())),
            _ => Err(BadRecord::new(field, format!("{field} is not text"))),
        };
        let phone = text("phone")?.unwrap_or_default().parse::<Phone>();
        let scope = text("scope")?.map_or(Ok(Scope::all()), str::parse);
        let created_at = text("created_at")?.map(instant).transpose();
        Ok(NewSuppression {
            phone: phone.map_err(|error| BadRecord::new("phone", error.to_string()))?,
            scope: scope.map_err(|error| BadRecord::new("scope", error.to_string()))?,
            reason: text("reason")?.unwrap_or("imported").to_owned(),
            source: text("source")?.unwrap_or("import").to_owned(),
            created_at: created_at
                .map_err(|help| BadRecord::new("created_at", format!("created_at is no time: {help}")))?,
            event_id: None,
        })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "The numbers of people who were erased are not known any more, and not in it.

Examples:
  chert-outbox suppress export --file opt-outs.csv
  chert-outbox suppress export | wc -l")]
pub struct Export {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Where to write it, for the owner's eyes only; standard output when not given.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

impl Export {
    async fn run(self) -> anyhow::Result<()> {
        match self.write().await {
            Err(error) if self.file.is_none() && has_reader_gone(&error) => Ok(()),
            written => written,
        }
    }

    async fn write(&self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let mut writer = csv::Writer::from_writer(output(self.file.as_deref())?);
        let mut written = 0;
        let mut last: Option<Exported> = None;
        writer.write_record(["phone", "scope", "reason", "source", "created_at"])?;
        loop {
            let page = suppress::export(&pool, last.as_ref(), PAGE).await?;
            for entry in &page {
                let created_at = entry.created_at.to_rfc3339();
                writer.write_record([&entry.phone, &entry.scope, &entry.reason, &entry.source, &created_at])?;
            }
            written += page.len();
            match page.into_iter().last() {
                Some(entry) => last = Some(entry),
                None => break,
            }
        }
        writer.flush()?;
        if let Some(file) = &self.file {
            outln!("{} written to {}", counted(written, "suppression", "suppressions"), file.display());
        }
        Ok(())
    }
}
