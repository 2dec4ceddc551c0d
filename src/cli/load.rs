//! Loading a file: read in batches, each written in one transaction, with progress, and a list of the lines that were rejected.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::import::{self, BadRecord, Batch, Format, ImportError, Record, Row};

/// A file, and what to say of it.
#[derive(Debug, Clone)]
pub struct Load<'a> {
    /// `-` for standard input.
    pub file: &'a Path,
    /// By the file's extension when not given.
    pub format: Option<Format>,
    /// Where an earlier run ended.
    pub skip_lines: u64,
    /// Where rejected lines are listed; beside the file when not given.
    pub rejects: Option<&'a Path>,
    pub rejects_with_rows: bool,
    pub json: bool,
    /// What a new row has been, such as `enqueued`.
    pub done: &'static str,
    /// What goes on after a line, without the file.
    pub command: &'static str,
    /// Why it does no harm, or which, if a batch is in of which nobody knows.
    pub doubt: &'static str,
}

/// For each row of a batch, whether it is new, or why it was refused.
pub type Told = Vec<Result<bool, BadRecord>>;

/// A batch is read ahead while one is written, and each is one transaction; so whatever happens, the file is in up to some
/// line and not beyond it, and the next run goes on from there.
pub async fn load<R: Row>(
    load: &Load<'_>,
    write: impl AsyncFn(Vec<R>) -> Result<Told, Stopped>,
) -> anyhow::Result<ExitCode> {
    let format = load.format.map_or_else(|| format_of(load.file), Ok)?;
    let (source, bytes) = open(load.file)?;
    let mut import = Import {
        rejects: Rejects::new(load),
        progress: Progress::new(bytes),
        totals: Totals { done: load.done, new: 0, already_there: 0, rejected: 0, line: load.skip_lines },
    };

    // A thread and not a task: one that waits for standard input would keep the runtime from ending.
    let (sender, mut batches) = tokio::sync::mpsc::channel::<Batch<R>>(1);
    let skip_lines = load.skip_lines;
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
        let mut write = pin!(import.write(batch, &write));
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
    import.report(load, stopped, read)
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
pub struct Stopped {
    why: String,
    in_doubt: bool,
}

impl Stopped {
    /// The last batch is not in.
    pub fn sure(why: impl ToString) -> Stopped {
        Stopped { why: why.to_string(), in_doubt: false }
    }

    /// It may be in, or not.
    pub fn in_doubt(why: impl ToString) -> Stopped {
        Stopped { why: why.to_string(), in_doubt: true }
    }
}

struct Totals {
    done: &'static str,
    new: u64,
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
    async fn write<R: Row>(
        &mut self,
        batch: Batch<R>,
        write: &impl AsyncFn(Vec<R>) -> Result<Told, Stopped>,
    ) -> Result<(), Stopped> {
        let mut rows = Vec::new();
        let mut slots = Vec::with_capacity(batch.records.len());
        for Record { first_line, last_line, row, raw } in batch.records {
            slots.push((first_line, last_line, raw, row.map(|row| rows.push(row))));
        }
        let mut told = write(rows).await?.into_iter();
        let mut rejected = Vec::new();
        for (first_line, last_line, raw, row) in slots {
            match row.and_then(|()| told.next().expect("every row of the batch is told of")) {
                Ok(true) => self.totals.new += 1,
                Ok(false) => self.totals.already_there += 1,
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

    fn report(&self, load: &Load, stopped: Option<Stopped>, read: Result<(), ImportError>) -> anyhow::Result<ExitCode> {
        let Totals { done, new, already_there, rejected, line } = &self.totals;
        let complete = stopped.is_none() && read.is_ok();
        let rejects = (*rejected > 0).then(|| self.rejects.path.display().to_string());
        if load.json {
            let summary = json!({*done: new, "already_there": already_there, "rejected": rejected,
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
        let file = load.file.display();
        if *line == 0 && !stopped.in_doubt {
            bail!("{file}: {}\nnothing was {done}", stopped.why);
        }
        let doubt = match stopped.in_doubt {
            true => format!("\nthe batch after that line was being committed and may be in as well; {}", load.doubt),
            false => String::new(),
        };
        bail!(
            "{file}: {}\ncommitted up to line {line}: {}{doubt}\nto go on: {} {file} --skip-lines {line}",
            stopped.why,
            self.totals,
            load.command
        )
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [new, there, rejected] = [self.new, self.already_there, self.rejected].map(HumanCount);
        write!(f, "{} {new} · already there {there} · rejected {rejected}", self.done)
    }
}

/// The list of rejected lines: a file that is there only when there are any.
struct Rejects {
    path: PathBuf,
    with_rows: bool,
    go_on: bool,
    writer: Option<csv::Writer<File>>,
}

impl Rejects {
    fn new(load: &Load) -> Rejects {
        let beside = || match load.file == Path::new("-") {
            true => PathBuf::from("stdin.rejects.csv"),
            false => PathBuf::from(format!("{}.rejects.csv", load.file.display())),
        };
        let path = load.rejects.map_or_else(beside, Path::to_path_buf);
        Rejects { path, with_rows: load.rejects_with_rows, go_on: load.skip_lines > 0, writer: None }
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
