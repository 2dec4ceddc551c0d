//! `events`: what Chert told, as it was stored; and having it told again.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};

use crate::chert::client::{Client, wall_clock};
use crate::chert::events::PAGE_LIMIT;
use crate::cli::{DatabaseOptions, stop};
use crate::config::ChertOptions;
use crate::inbound::event::Incoming;
use crate::inbound::tail::{EventRow, LOOK_LIMIT, Tail};

/// How often new events are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the id of a row in Chert's log begins with. Source: API contract 4.7.
const ROW: &str = "evt_";
/// So many pages of the log are gone through for an event, from the newest on.
const LOOK_PAGES: u32 = 100;
/// Before all events.
const DAWN: &str = "1970-01-01T00:00:00Z";

/// Follow what Chert tells, and have it told again.
#[derive(Debug, Subcommand)]
pub enum Events {
    /// Show the newest events, and with --follow those that come.
    Tail(TailArgs),
    /// Ask Chert to deliver an event to webhooks again.
    Replay(Replay),
}

impl Events {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Events::Tail(args) => args.run().await?,
            Events::Replay(args) => args.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(
    name = "tail",
    after_help = "A line holds the time of the event, its type, its sender, the way by which it came first, what it did (\"waiting\" until it is
applied) and its id.

Examples:
  chert-outbox events tail --follow
  chert-outbox events tail --type message.received --limit 100 --json
  chert-outbox events tail --show-text"
)]
pub struct TailArgs {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Go on with what comes, until Ctrl-C.
    #[arg(long)]
    follow: bool,
    /// Only events of this type, such as message.received.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// How many of those that are there.
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(i64).range(0..=LOOK_LIMIT))]
    limit: i64,
    /// Show what people wrote.
    #[arg(long)]
    show_text: bool,
    /// Print a JSON object a line.
    #[arg(long)]
    json: bool,
}

impl TailArgs {
    async fn run(self) -> anyhow::Result<()> {
        let mut stopping = stop::signaled(|| {})?;
        let pool = self.database.outbox(1).await?;
        let (mut tail, rows) = Tail::begin(pool, self.kind.clone(), self.limit, self.show_text).await?;
        // Whoever read along has gone away: that is an end, and no error.
        let mut goes_on = self.print(&rows)? && self.follow;
        let mut is_full = false;
        while goes_on {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return Ok(()),
                () = tokio::time::sleep(if is_full { Duration::ZERO } else { LOOK_EVERY }) => {}
            }
            let rows;
            (rows, is_full) = tail.look().await?;
            goes_on = self.print(&rows)?;
        }
        Ok(())
    }

    /// Prints them, and returns whether anybody reads it.
    fn print(&self, rows: &[EventRow]) -> anyhow::Result<bool> {
        let mut out = std::io::stdout().lock();
        for row in rows {
            let line = if self.json { serde_json::to_string(row)? } else { line(row) };
            if writeln!(out, "{line}").is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn line(row: &EventRow) -> String {
    let id = row.log_id.as_ref().unwrap_or(&row.event_id);
    let effect = row.effect.as_deref().unwrap_or("waiting");
    let job = row.job_id.map(|job| format!(" job {job}")).unwrap_or_default();
    let time = row.occurred_at.format("%F %T%.3f");
    let phone = row.phone.as_deref().unwrap_or("-");
    let text = row.text.as_ref().map(|text| format!("  {text:?}")).unwrap_or_default();
    let with = row.attachments.iter().map(|id| format!("  [{id}]")).collect::<String>();
    format!("{time}  {:<17} {phone:<16} {:<8} {effect}{job}  {id}{text}{with}", row.kind, row.source)
}

#[derive(Debug, Args)]
#[command(
    after_help = "Chert asks for the id of the event's row in its log, evt_…, which `events tail` shows for what came by stream or list. An event
that came by webhook alone shows its own id: with that the log is gone through for its row, the newest 20,000 events of it.
An event that is here already is stored once, however often it is told again.

Examples:
  chert-outbox events replay evt_01J8Z3
  chert-outbox events replay chert:msg:6f1c0a"
)]
pub struct Replay {
    #[command(flatten)]
    chert: ChertOptions,
    /// The id of the event, or of its row in Chert's log.
    id: String,
    /// Only to this webhook subscription.
    #[arg(long)]
    subscription: Option<String>,
}

impl Replay {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.chert.client()?;
        let row = if self.id.starts_with(ROW) { self.id.clone() } else { row_of(&client, &self.id).await? };
        client.replay(&row, self.subscription.as_deref()).await?;
        outln!("Chert delivers {} again", self.id);
        Ok(())
    }
}

/// The id of the row in which Chert's log holds this event.
async fn row_of(client: &Client, event_id: &str) -> anyhow::Result<String> {
    let mut cursor = None;
    for _ in 0..LOOK_PAGES {
        let page = client.events(DAWN, cursor.as_deref(), PAGE_LIMIT).await?;
        let rows = page.events.iter().filter_map(|row| Incoming::read(row, wall_clock()).ok());
        if let Some(id) = rows.filter(|event| event.event_id == event_id).find_map(|event| event.log_id()) {
            return Ok(id);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    bail!("the newest {} events of Chert's log do not hold {event_id}", LOOK_PAGES * u32::from(PAGE_LIMIT))
}
