//! `lines`: the sender lines and their paces.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::{DatabaseOptions, print_json, table};
use crate::config::ChertOptions;
use crate::outbox::lines::{self, LineStatus, Paces, Which};
use crate::units::{Rate, counted, duration, show_duration};

/// The phone lines that messages go out from, and how fast each may send.
#[derive(Debug, Subcommand)]
pub enum Lines {
    /// Read the lines from Chert and take over new ones.
    Sync(Sync),
    /// Show the lines with their paces, today's first touches and what waits for them.
    List(List),
    /// Set how fast lines may send.
    Set(Set),
    /// Stop sending from lines until they are resumed.
    Pause(Pause),
    /// Let paused lines send again, at their pace.
    Resume(Resume),
}

impl Lines {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Lines::Sync(args) => args.run().await?,
            Lines::List(args) => args.run().await?,
            Lines::Set(args) => args.run().await?,
            Lines::Pause(args) => {
                let pool = args.database.outbox(1).await?;
                let lines = lines::pause(&pool, &args.which.which(), args.reason.as_deref()).await?;
                outln!("paused {}", counted(lines, "line", "lines"));
            }
            Lines::Resume(args) => {
                let pool = args.database.outbox(1).await?;
                let lines = lines::resume(&pool, &args.which.which()).await?;
                outln!("{} may send", counted(lines, "line", "lines"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub struct Sync {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    chert: ChertOptions,
    /// Print what changed as JSON.
    #[arg(long)]
    json: bool,
}

impl Sync {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.chert.client()?;
        let pool = self.database.outbox(1).await?;
        let synced = lines::sync(&pool, &client.lines().await?).await?;
        if self.json {
            return print_json(&synced);
        }
        let known = counted(synced.known, "line", "lines");
        outln!("{known}: {} new, {} gone", synced.added.len(), synced.removed.len());
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Print the lines as JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let lines = lines::list(&pool).await?;
        if self.json {
            return print_json(&lines);
        }
        outln!("{}", render(&lines).trim_fmt());
        Ok(())
    }
}

/// The lines as a table.
pub fn render(lines: &[LineStatus]) -> comfy_table::Table {
    let mut rows = table(&["line", "state", "rate", "first touches", "gap", "next first touch", "ready"]);
    for line in lines {
        let cap = line.first_touch_cap.map_or("none".to_owned(), |cap| cap.to_string());
        rows.add_row([
            if line.is_default() { "* (new lines)".to_owned() } else { line.id.clone() },
            state(line),
            rate(line),
            format!("{} of {cap} today", line.first_touches_today),
            show_duration(Duration::from_micros(line.first_touch_gap_us.unsigned_abs())),
            line.next_first_touch_at.map_or("-".to_owned(), |at| at.format("%F %T UTC").to_string()),
            line.ready.to_string(),
        ]);
    }
    rows
}

fn state(line: &LineStatus) -> String {
    match () {
        () if line.paused => match &line.paused_reason {
            Some(reason) => format!("paused: {reason}"),
            None => "paused".to_owned(),
        },
        () if !line.active => "inactive".to_owned(),
        () => match line.saturated_until {
            Some(until) => format!("full until {}", until.format("%T UTC")),
            None => "active".to_owned(),
        },
    }
}

fn rate(line: &LineStatus) -> String {
    let rate = Rate::every(Duration::from_micros(line.gap_us.unsigned_abs()));
    if line.slowdown > 1.0 { format!("{rate}, slowed {:.1} times", line.slowdown) } else { rate.to_string() }
}

/// One line, or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// The line's id, as `lines list` shows it.
    line: Option<String>,
    /// Every line, and every line that is added later.
    #[arg(long)]
    all: bool,
}

impl WhichArgs {
    fn which(&self) -> Which {
        match &self.line {
            Some(id) => Which::One(id.clone()),
            None => Which::All,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox lines set --all --rate 1/s --first-touch-gap 10m --first-touch-cap 30
  chert-outbox lines set pl_1 --rate 20/s
  chert-outbox lines set --all --first-touch-cap none --time-zone America/New_York")]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub struct Set {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    which: WhichArgs,
    /// How many messages of any kind may leave: `1/s`, `20/s`, `90/m`, or `none` for no limit.
    #[arg(long, group = "what")]
    rate: Option<Rate>,
    /// The least time between two first messages to new recipients: `10m`, or `0s`.
    #[arg(long, group = "what", value_parser = duration)]
    first_touch_gap: Option<Duration>,
    /// How many new recipients a day: a number, or `none`.
    #[arg(long, group = "what", value_parser = cap)]
    first_touch_cap: Option<Cap>,
    /// Where the line's day begins and ends, e.g. `America/New_York`.
    #[arg(long, group = "what")]
    time_zone: Option<String>,
}

/// A daily cap, or none.
#[derive(Debug, Clone, Copy)]
struct Cap(Option<i32>);

fn cap(text: &str) -> Result<Cap, String> {
    if text == "none" {
        return Ok(Cap(None));
    }
    match text.parse::<i32>() {
        Ok(cap) if cap >= 0 => Ok(Cap(Some(cap))),
        _ => Err("write a number such as 30, or none".to_owned()),
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let paces = Paces {
            gap: self.rate.map(Rate::gap),
            first_touch_gap: self.first_touch_gap,
            first_touch_cap: self.first_touch_cap.map(|Cap(cap)| cap),
            time_zone: self.time_zone,
        };
        let which = self.which.which();
        let changed = lines::set(&pool, &which, &paces).await?;
        match which {
            // The row of '*' is not a line.
            Which::All => outln!("set {}, and those to come", counted(changed - 1, "line", "lines")),
            Which::One(id) => outln!("set line {id}"),
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct Pause {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    which: WhichArgs,
    /// Why, for whoever looks at `status`.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    database: DatabaseOptions,
    #[command(flatten)]
    which: WhichArgs,
}
