//! `chert-outbox enqueue`: one job from flags, or many from a file.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::database::begin_plain;
use crate::job::{Class, InvalidJob};
use crate::outbox::enqueue::DatabaseFault;
use crate::phone::Phone;
use crate::units::{duration, instant};
use crate::{EnqueueError, Enqueued, NewJob, enqueue_many};
use anyhow::{Context as _, anyhow, bail};
use chrono::{DateTime, Utc};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use sqlx::{Acquire as _, PgPool};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::DatabaseOptions;
use crate::cli::import::{self, BadRecord, Batch, Format, ImportError, Record};

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

/// A batch is read ahead while one is written, and each is one transaction; so whatever happens, the file is in up to some
/// line and not beyond it, and the next run goes on from there.
async fn many(args: &Enqueue, file: &Path, database: &PgPool) -> anyhow::Result<ExitCode> {
    let format = args.format.map_or_else(|| format_of(file), Ok)?;
    let (source, bytes) = open(file)?;
    let mut import = Import {
        rejects: Rejects::new(args, file),
        progress: Progress::new(bytes),
        totals: Totals { line: args.skip_lines, ..Totals::default() },
    };

    // A thread and not a task: one that waits for standard input would keep the runtime from ending.
    let (sender, mut batches) = tokio::sync::mpsc::channel::<Batch>(1);
    let skip_lines = args.skip_lines;
    let reader = std::thread::spawn(move || {
        import::read(source, format, skip_lines, |batch| sender.blocking_send(batch).is_ok())
    });
    let mut interrupts = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut stopped = None;
    while stopped.is_none() {
        let batch = tokio::select! {
            biased;
            _ = interrupts.recv() => { stopped = Some(Stopped::sure("interrupted")); None }
            batch = batches.recv() => batch,
        };
        let Some(batch) = batch else { break };
        let mut write = pin!(import.write(batch, database));
        let mut told = false;
        stopped = loop {
            tokio::select! {
                written = &mut write => break written.err().or(told.then(|| Stopped::sure("interrupted"))),
                // The first Ctrl-C waits for the batch, the second for nothing.
                _ = interrupts.recv() => if std::mem::replace(&mut told, true) {
                    break Some(Stopped::in_doubt("interrupted"));
                },
            }
        };
    }
    let read = match stopped.is_some() {
        true => Ok(()),
        false => reader.join().map_err(|_| anyhow!("the reader of the file panicked"))?,
    };
    import.progress.finish();
    import.report(args, file, stopped, read)
}

fn format_of(file: &Path) -> anyhow::Result<Format> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => Ok(Format::Csv),
        Some("jsonl" | "ndjson") => Ok(Format::Jsonl),
        _ => bail!("{}: say with --format csv or --format jsonl how it is written", file.display()),
    }
}

type Source = BufReader<Box<dyn Read + Send>>;

/// The file and its size, where it has one.
fn open(file: &Path) -> anyhow::Result<(Source, Option<u64>)> {
    if file == Path::new("-") {
        return Ok((BufReader::new(Box::new(io::stdin())), None));
    }
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let bytes = opened.metadata().ok().filter(|file| file.is_file()).map(|file| file.len());
    Ok((BufReader::with_capacity(1 << 16, Box::new(opened)), bytes))
}

/// Why the import ended before the file did, and whether the last batch may be in all the same.
struct Stopped {
    why: String,
    in_doubt: bool,
}

impl Stopped {
    fn sure(why: impl ToString) -> Stopped {
        Stopped { why: why.to_string(), in_doubt: false }
    }

    fn in_doubt(why: impl ToString) -> Stopped {
        Stopped { why: why.to_string(), in_doubt: true }
    }
}

#[derive(Default)]
struct Totals {
    enqueued: u64,
    already_there: u64,
    rejected: u64,
    /// The last line of the last record that is committed, or listed as rejected.
    line: u64,
}

struct Import {
    rejects: Rejects,
    progress: Progress,
    totals: Totals,
}

impl Import {
    /// Commits a batch, then lists what was rejected of it.
    async fn write(&mut self, batch: Batch, database: &PgPool) -> Result<(), Stopped> {
        let mut jobs = Vec::new();
        let mut slots = Vec::with_capacity(batch.records.len());
        for Record { first_line, last_line, job, raw } in batch.records {
            slots.push((first_line, last_line, raw, job.map(|job| jobs.push(job))));
        }
        let mut told = insert(database, &jobs).await?.into_iter();
        let mut rejected = Vec::new();
        for (first_line, last_line, raw, job) in slots {
            match job.and_then(|()| told.next().expect("every job of the batch is told of")) {
                Ok(Enqueued { inserted: true, .. }) => self.totals.enqueued += 1,
                Ok(Enqueued { inserted: false, .. }) => self.totals.already_there += 1,
                Err(bad) => rejected.push((first_line, bad, raw)),
            }
            self.totals.line = last_line;
        }
        self.totals.rejected += rejected.len() as u64;
        self.rejects.list(&rejected).map_err(|error| {
            // The batch is in, so this list exists here alone.
            rejected.iter().for_each(|(line, bad, _)| eprintln!("rejected line {line}: {}", bad.reason));
            Stopped::sure(format!("writing the rejected lines to {}: {error}", self.rejects.path.display()))
        })?;
        self.progress.advance(batch.bytes_read, &self.totals);
        Ok(())
    }

    fn report(
        &self,
        args: &Enqueue,
        file: &Path,
        stopped: Option<Stopped>,
        read: Result<(), ImportError>,
    ) -> anyhow::Result<ExitCode> {
        let Totals { enqueued, already_there, rejected, line } = &self.totals;
        let complete = stopped.is_none() && read.is_ok();
        let rejects = (*rejected > 0).then(|| self.rejects.path.display().to_string());
        if args.json {
            let summary = json!({"enqueued": enqueued, "already_there": already_there, "rejected": rejected,
                "rejects": rejects, "complete": complete, "lines": line});
            outln!("{summary}");
        } else if complete {
            let see = rejects.map(|path| format!(" (see {path})")).unwrap_or_default();
            outln!("{}{see}", self.totals);
        }
        let stopped = match (stopped, read) {
            (Some(stopped), _) => stopped,
            (None, Err(error)) => Stopped::sure(error),
            (None, Ok(())) if *rejected > 0 => return Ok(ExitCode::FAILURE),
            (None, Ok(())) => return Ok(ExitCode::SUCCESS),
        };
        let file = file.display();
        if *line == 0 && !stopped.in_doubt {
            bail!("{file}: {}\nnothing was enqueued", stopped.why);
        }
        let doubt = match stopped.in_doubt {
            true => {
                "\nthe batch after that line was being committed and may be in as well; its rows that have a \
                     dedupe_key cannot get in twice"
            }
            false => "",
        };
        bail!(
            "{file}: {}\ncommitted up to line {line}: {}{doubt}\nto go on: chert-outbox enqueue --file {file} --skip-lines {line}",
            stopped.why,
            self.totals
        )
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [enqueued, there, rejected] = [self.enqueued, self.already_there, self.rejected].map(HumanCount);
        write!(f, "enqueued {enqueued} · already there {there} · rejected {rejected}")
    }
}

type Told = Vec<Result<Enqueued, BadRecord>>;

/// One transaction for all; where the database refuses one of them, each by itself.
async fn insert(database: &PgPool, jobs: &[NewJob]) -> Result<Told, Stopped> {
    let mut tries_left = 3;
    loop {
        tries_left -= 1;
        let mut tx = begin_plain(database).await.map_err(fault("beginning a transaction")).map_err(Stopped::sure)?;
        match enqueue_many(&mut tx, jobs).await {
            Ok(told) => {
                tx.commit().await.map_err(fault("committing")).map_err(Stopped::in_doubt)?;
                return Ok(told.into_iter().map(Ok).collect());
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
                all.extend(told.into_iter().map(Ok));
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
    let rule = |rule: &InvalidJob| BadRecord { field: rule.field().to_owned(), reason: rule.to_string() };
    match error {
        EnqueueError::Invalid(broken) | EnqueueError::InvalidAt { rule: broken, .. } => rule(broken),
        other => BadRecord { field: "line".to_owned(), reason: other.to_string() },
    }
}

/// An error of the database without what it says of the row.
fn fault(doing: &'static str) -> impl Fn(sqlx::Error) -> anyhow::Error {
    move |error| anyhow!("{doing}: {}", DatabaseFault::from(error))
}

/// The list of rejected lines: a file that is there only when there are any.
struct Rejects {
    path: PathBuf,
    with_rows: bool,
    go_on: bool,
    writer: Option<csv::Writer<File>>,
}

impl Rejects {
    fn new(args: &Enqueue, file: &Path) -> Rejects {
        let beside = || match file == Path::new("-") {
            true => PathBuf::from("stdin.rejects.csv"),
            false => PathBuf::from(format!("{}.rejects.csv", file.display())),
        };
        let path = args.rejects.clone().unwrap_or_else(beside);
        Rejects { path, with_rows: args.rejects_with_rows, go_on: args.skip_lines > 0, writer: None }
    }

    fn list(&mut self, rejected: &[(u64, BadRecord, Vec<u8>)]) -> io::Result<()> {
        let with_rows = self.with_rows;
        for (line, bad, raw) in rejected {
            let row = String::from_utf8_lossy(raw);
            let row = with_rows.then(|| row.trim_end_matches(['\r', '\n']));
            let line = line.to_string();
            let cells = [line.as_str(), &bad.field, &bad.reason].into_iter().chain(row);
            self.writer()?.write_record(cells).map_err(io::Error::other)?;
        }
        self.writer.as_mut().map_or(Ok(()), |writer| writer.flush())
    }

    /// Opened at the first use. A run that goes on from an earlier one adds to its list. For the owner's eyes only.
    fn writer(&mut self) -> io::Result<&mut csv::Writer<File>> {
        if self.writer.is_none() {
            let mut options = File::options();
            options.create(true).write(true).append(self.go_on).truncate(!self.go_on).mode(0o600);
            let file = options.open(&self.path)?;
            let is_new = file.metadata()?.len() == 0;
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(file);
            if is_new {
                let header = ["line", "field", "reason"].into_iter().chain(self.with_rows.then_some("row"));
                writer.write_record(header).map_err(io::Error::other)?;
            }
            self.writer = Some(writer);
        }
        Ok(self.writer.as_mut().expect("it was just opened"))
    }
}

/// A bar on a terminal, else a line every few seconds; both on standard error.
enum Progress {
    Bar(ProgressBar),
    Lines { bytes: Option<u64>, last: Instant },
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(5);

    fn new(bytes: Option<u64>) -> Progress {
        if !io::stderr().is_terminal() {
            return Progress::Lines { bytes, last: Instant::now() };
        }
        let (bar, template) = match bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{wide_bar} {bytes}/{total_bytes}, {eta} left · {msg}"),
            None => (ProgressBar::no_length(), "{spinner} {elapsed} · {msg}"),
        };
        Progress::Bar(bar.with_style(ProgressStyle::with_template(template).expect("the template is ours")))
    }

    fn advance(&mut self, bytes_read: u64, totals: &Totals) {
        match self {
            Progress::Bar(bar) => {
                bar.set_message(totals.to_string());
                bar.set_position(bytes_read);
            }
            Progress::Lines { bytes, last } if last.elapsed() >= Progress::EVERY => {
                *last = Instant::now();
                let share = bytes.filter(|bytes| *bytes > 0).map(|bytes| 100 * bytes_read / bytes);
                let share = share.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
                eprintln!("line {}{share}: {totals}", HumanCount(totals.line));
            }
            Progress::Lines { .. } => {}
        }
    }

    fn finish(&self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
