//! `chert-outbox enqueue`: one job from flags, or many from a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::database::begin_plain;
use crate::job::{Class, InvalidJob};
use crate::outbox::enqueue::DatabaseFault;
use crate::phone::{NotE164, Phone};
use crate::units::{duration, instant};
use crate::{EnqueueError, NewJob, enqueue_many};
use anyhow::anyhow;
use chrono::{DateTime, Utc};
use serde::Deserialize as _;
use serde_json::{Value, json};
use sqlx::{Acquire as _, PgPool};

use crate::cli::DatabaseOptions;
use crate::cli::import::{BadRecord, Format, Row};
use crate::cli::load::{Load, Stopped, Told, load};

const EXAMPLES: &str = "\
Examples:
  chert-outbox enqueue --phone +15550142200 --body 'Hi Ann'
  chert-outbox enqueue --phone +15550142200 --body 'See you soon' \\
      --in 10m --expires-in 1h --label order=1001
  chert-outbox enqueue --phone +15550142200 --body 'It is on its way' \\
      --dedupe-key order-1001-shipped --json
  chert-outbox enqueue --file people.csv
  chert-outbox enqueue --file people.csv --skip-lines 4001
  export-people | chert-outbox enqueue --file - --format jsonl

A CSV file names its columns in its first line: phone, body and any other
field of a job. Labels stand in one column `labels` (a JSON object) or in a
column `label.KEY` each; attachments are ids separated by `;`, or a JSON
list. An empty cell is one that is not given. A file of JSON lines has one
object a line, with the same fields. A file that is read twice is queued
twice, but for rows with a dedupe_key.

Exit code: 0 all are queued, 1 something was rejected or went wrong, 2 the
command line is wrong.";

/// Put one job into the outbox, or a file of them
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Enqueue {
    #[command(flatten)]
    database: DatabaseOptions,

    /// The recipient in E.164, e.g. +15550142200
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    phone: Option<String>,
    /// The text to send
    #[arg(long, required_unless_present = "file", requires = "phone", allow_hyphen_values = true)]
    body: Option<String>,
    /// The recipient's name
    #[arg(long, requires = "phone")]
    name: Option<String>,
    /// Your own id of the recipient
    #[arg(long, requires = "phone")]
    external_id: Option<String>,
    /// The line that must send it; Chert chooses when it is not given
    #[arg(long, requires = "phone")]
    phone_line_id: Option<String>,
    /// The id of an uploaded file, or a JSON object with it; may be repeated
    #[arg(long = "attachment", value_name = "ID|JSON", requires = "phone")]
    attachments: Vec<String>,
    /// An Apple send effect, e.g. celebration
    #[arg(long, requires = "phone")]
    effect: Option<String>,
    /// A job with a key that is there already is not queued again
    #[arg(long, requires = "phone")]
    dedupe_key: Option<String>,
    /// Lower goes first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, conflicts_with = "file")]
    priority: i16,
    /// Not before this time, e.g. 2026-06-03T09:15:00Z
    #[arg(long, value_name = "TIME", value_parser = instant, requires = "phone", conflicts_with = "due_in")]
    due_at: Option<DateTime<Utc>>,
    /// Not before so long from now, e.g. 10m
    #[arg(long = "in", value_name = "LENGTH", value_parser = duration, requires = "phone")]
    due_in: Option<Duration>,
    /// Not after this time
    #[arg(long, value_name = "TIME", value_parser = instant, requires = "phone", conflicts_with = "expires_in")]
    expires_at: Option<DateTime<Utc>>,
    /// Not later than so long after it falls due, e.g. 1h
    #[arg(long, value_name = "LENGTH", value_parser = duration, requires = "phone")]
    expires_in: Option<Duration>,
    /// Marketing is held back while we may have missed a stop, and from those who do not answer; transactional when not given
    #[arg(long, requires = "phone")]
    class: Option<Class>,
    /// 1 to 100; 10 when not given
    #[arg(long, requires = "phone")]
    max_attempts: Option<i32>,
    /// A label to find the job by; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label, requires = "phone")]
    labels: Vec<(String, String)>,
    /// The W3C trace context that the message belongs to
    #[arg(long, requires = "phone")]
    traceparent: Option<String>,

    /// Read jobs from a file, or from standard input with `-`
    #[arg(long, value_name = "PATH", help_heading = "Many jobs")]
    file: Option<PathBuf>,
    /// How the file is written; by its extension (.csv, .jsonl, .ndjson) when not given
    #[arg(long, requires = "file", help_heading = "Many jobs")]
    format: Option<Format>,
    /// Go on after this line of the file, where an earlier run ended
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "phone", help_heading = "Many jobs")]
    skip_lines: u64,
    /// Where rejected lines are listed, with the reason; FILE.rejects.csv when not given
    #[arg(long, value_name = "PATH", requires = "file", help_heading = "Many jobs")]
    rejects: Option<PathBuf>,
    /// List the rejected lines themselves too, with all that they hold
    #[arg(long, requires = "file", help_heading = "Many jobs")]
    rejects_with_rows: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Enqueue {
    /// Enqueues what the flags say, and prints what became of it.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        match &self.file {
            None => one(&self, &pool).await,
            Some(file) => many(&self, file, &pool).await,
        }
    }
}

async fn one(args: &Enqueue, database: &PgPool) -> anyhow::Result<ExitCode> {
    let mut tx = begin_plain(database).await.map_err(fault("connecting to the database"))?;
    let job = job(args, &mut tx).await?;
    let told = enqueue_many(&mut tx, &[job]).await.map_err(|error| match error {
        EnqueueError::InvalidAt { rule, .. } => EnqueueError::Invalid(rule),
        other => other,
    })?;
    tx.commit().await.map_err(fault("enqueueing the job"))?;
    for told in told {
        match (args.json, told.inserted) {
            (true, _) => outln!("{}", json!(told)),
            (false, true) => outln!("queued job {}", told.id),
            (false, false) => outln!("job {} is there already (dedupe_key)", told.id),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The job that the flags describe; "now" is the database's.
async fn job(args: &Enqueue, conn: &mut sqlx::PgConnection) -> anyhow::Result<NewJob> {
    let phone: Phone = args.phone.as_deref().unwrap_or_default().parse()?;
    let now = match args.due_in.or(args.expires_in) {
        Some(_) => Some(
            sqlx::query_scalar!(r#"select now() as "now!""#)
                .fetch_one(conn)
                .await
                .map_err(fault("asking the database for the time"))?,
        ),
        None => None,
    };
    let due_at = args.due_at.or(args.due_in.zip(now).map(|(wait, now)| now + wait));
    let attachments = args.attachments.iter().map(|attachment| match attachment.starts_with('{') {
        true => {
            serde_json::from_str(attachment).map_err(|_| anyhow!("--attachment is neither an id nor a JSON object"))
        }
        false => Ok(Value::String(attachment.clone())),
    });
    Ok(NewJob {
        name: args.name.clone(),
        external_id: args.external_id.clone(),
        phone_line_id: args.phone_line_id.clone(),
        attachments: attachments.collect::<Result<_, _>>()?,
        effect: args.effect.clone(),
        dedupe_key: args.dedupe_key.clone(),
        priority: args.priority,
        due_at,
        expires_at: args.expires_at.or(args.expires_in.zip(due_at.or(now)).map(|(length, due)| due + length)),
        class: args.class.unwrap_or_default(),
        max_attempts: args.max_attempts,
        labels: args.labels.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect(),
        traceparent: args.traceparent.clone(),
        ..NewJob::new(phone, args.body.clone().unwrap_or_default())
    })
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as order=1001")?;
    Ok((key.to_owned(), value.to_owned()))
}

async fn many(args: &Enqueue, file: &Path, database: &PgPool) -> anyhow::Result<ExitCode> {
    let file = Load {
        file,
        format: args.format,
        skip_lines: args.skip_lines,
        rejects: args.rejects.as_deref(),
        rejects_with_rows: args.rejects_with_rows,
        json: args.json,
        done: "enqueued",
        command: "chert-outbox enqueue --file",
        doubt: "its rows that have a dedupe_key cannot get in twice",
    };
    load(&file, async |jobs: Vec<NewJob>| insert(database, &jobs).await).await
}

impl Row for NewJob {
    const FIELDS: &'static [(&'static str, &'static str)] = &[
        ("phone", "text"),
        ("body", "text"),
        ("name", "text"),
        ("external_id", "text"),
        ("phone_line_id", "text"),
        ("attachments", "a JSON list; in CSV also ids separated by `;`"),
        ("effect", "text"),
        ("dedupe_key", "text"),
        ("priority", "a whole number from -32768 to 32767"),
        ("due_at", "a time with its zone, such as 2026-06-03T09:15:00Z"),
        ("expires_at", "a time with its zone, such as 2026-06-03T09:15:00Z"),
        ("class", "transactional or marketing"),
        ("max_attempts", "a whole number"),
        ("labels", "a JSON object"),
        ("traceparent", "text"),
    ];
    const NEEDED: &'static [&'static str] = &["phone", "body"];

    /// serde's own messages quote what they refuse, so the field that it chokes on is looked for, and described by the table above.
    fn of(fields: Value) -> Result<NewJob, BadRecord> {
        match NewJob::deserialize(&fields) {
            Ok(job) => job.check().map(|()| job).map_err(|rule| BadRecord::new(rule.field(), rule.to_string())),
            Err(_) => Err(first_unreadable(&fields)),
        }
    }
}

fn first_unreadable(fields: &Value) -> BadRecord {
    let unreadable = |field: &str| {
        let mut probe = serde_json::json!({"phone": "+15550142200", "body": "Hi"});
        probe[field] = fields[field].clone();
        NewJob::deserialize(&probe).is_err()
    };
    match NewJob::FIELDS.iter().find(|(field, _)| !fields[*field].is_null() && unreadable(field)) {
        Some(("phone", _)) if fields["phone"].is_string() => BadRecord::new("phone", NotE164.to_string()),
        Some((field, holds)) => BadRecord::new(field, format!("{field} is not {holds}")),
        None => BadRecord::new("line", "is not a job"),
    }
}

/// One transaction for all; where the database refuses one of them, each by itself.
async fn insert(database: &PgPool, jobs: &[NewJob]) -> Result<Told, Stopped> {
    let mut tries_left = 3;
    loop {
        tries_left -= 1;
        let mut tx = begin_plain(database).await.map_err(fault("beginning a transaction")).map_err(Stopped::sure)?;
        match enqueue_many(&mut tx, jobs).await {
            Ok(told) => {
                tx.commit().await.map_err(fault("committing")).map_err(Stopped::in_doubt)?;
                return Ok(told.into_iter().map(|told| Ok(told.inserted)).collect());
            }
            Err(error) if error.is_about_a_job() => {
                drop(tx);
                return insert_one_by_one(database, jobs).await;
            }
            Err(error) if error.is_transient() && tries_left > 0 => {}
            Err(error) => return Err(Stopped::sure(error)),
        }
    }
}

async fn insert_one_by_one(database: &PgPool, jobs: &[NewJob]) -> Result<Told, Stopped> {
    let mut tx = begin_plain(database).await.map_err(fault("beginning a transaction")).map_err(Stopped::sure)?;
    let mut all = Vec::with_capacity(jobs.len());
    for job in jobs {
        let mut savepoint = tx.begin().await.map_err(fault("setting a savepoint")).map_err(Stopped::sure)?;
        match enqueue_many(&mut savepoint, std::slice::from_ref(job)).await {
            Ok(told) => {
                savepoint.commit().await.map_err(fault("releasing a savepoint")).map_err(Stopped::sure)?;
                all.extend(told.into_iter().map(|told| Ok(told.inserted)));
            }
            Err(error) if error.is_about_a_job() => {
                savepoint.rollback().await.map_err(fault("going back to a savepoint")).map_err(Stopped::sure)?;
                all.push(Err(refusal(&error)));
            }
            Err(error) => return Err(Stopped::sure(error)),
        }
    }
    tx.commit().await.map_err(fault("committing")).map_err(Stopped::in_doubt)?;
    Ok(all)
}

fn refusal(error: &EnqueueError) -> BadRecord {
    let rule = |rule: &InvalidJob| BadRecord::new(rule.field(), rule.to_string());
    match error {
        EnqueueError::Invalid(broken) | EnqueueError::InvalidAt { rule: broken, .. } => rule(broken),
        other => BadRecord::new("line", other.to_string()),
    }
}

/// An error of the database without what it says of the row.
fn fault(doing: &'static str) -> impl Fn(sqlx::Error) -> anyhow::Error {
    move |error| anyhow!("{doing}: {}", DatabaseFault::from(error))
}
