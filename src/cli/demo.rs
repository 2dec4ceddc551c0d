//! `demo`: the whole product on this machine, in under a minute, with the count at the end.

use std::process::ExitCode;

use clap::Args;
use comfy_table::CellAlignment;
use tokio::sync::watch;

use crate::cli::stage::Stage;
use crate::cli::{DatabaseOptions, print_json, stop, table};
use crate::trial::Audience as _;
use crate::trial::demo::{Demo, Report};
use crate::trial::ground::Ground;
use crate::units::counted;

/// See all of it work on this machine: a simulated Chert that fails now and then, two workers, one of them killed half
/// way, and a count of what the phones received. It takes under a minute and leaves nothing behind.
#[derive(Debug, Args)]
#[command(
    after_help = "It runs in a new database on the server that DATABASE_URL names, else on a throw-away Postgres of this
machine (its own programs, or Docker). Jobs of yours are never touched.

Exit codes: 0 if nothing was lost, doubled, out of order or over pace, else 1.

Examples:
  chert-outbox demo
  chert-outbox demo --keep             # stays up, to look around and to insert jobs of your own, until Ctrl-C
  chert-outbox demo --json 2>/dev/null | jq .doubled"
)]
pub struct DemoArgs {
    #[command(flatten)]
    database: DatabaseOptions,

    /// Stay up afterwards, with workers and simulator, until Ctrl-C.
    #[arg(long)]
    keep: bool,

    /// Print the count as JSON on standard output; the story goes to standard error in any case.
    #[arg(long)]
    json: bool,
}

impl DemoArgs {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut stop = stop::signaled(|| eprintln!("Stopping: everything that was started ends"))?;
        let mut stage = Stage::new();
        let ground = match self.find_ground(&mut stop).await? {
            Some(ground) => ground,
            None => return Ok(ExitCode::FAILURE),
        };
        stage.say(&format!("Postgres: {}", ground.describe()));

        let shown = tokio::select! {
            shown = self.show(&ground, &mut stage) => shown,
            // Whatever was going on is dropped, and with it every process.
            _ = stop.wait_for(|stop| *stop) => Err(anyhow::anyhow!("stopped before the end")),
        };
        stage.close();
        let (demo, report) = match shown {
            Ok(shown) => shown,
            Err(error) => {
                return match ground.clear().await {
                    Ok(()) => Err(error),
                    Err(left) => Err(error.context(left)),
                };
            }
        };
        let removal = if self.keep {
            explain(&ground, &demo);
            // An error means that the signals are gone, and so are we.
            let _ = stop.wait_for(|stop| *stop).await;
            ground.removal()
        } else {
            None
        };
        let ended = demo.end().await;
        match removal {
            Some(statement) => eprintln!("The database stays; to remove it: {statement}"),
            None => ground.clear().await?,
        }
        ended?;
        Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// None if it was stopped meanwhile; what was found is removed then.
    async fn find_ground(&self, stop: &mut watch::Receiver<bool>) -> anyhow::Result<Option<Ground>> {
        let database_url = self.database.database_url.as_deref().filter(|url| !url.is_empty());
        let mut finding = std::pin::pin!(Ground::find(database_url));
        tokio::select! {
            found = &mut finding => Ok(Some(found?)),
            _ = stop.wait_for(|stop| *stop) => {
                // A server or a database that is half made is not left behind.
                finding.await?.clear().await?;
                Ok(None)
            }
        }
    }

    async fn show(&self, ground: &Ground, stage: &mut Stage) -> anyhow::Result<(Demo, Report)> {
        let mut demo = Demo::prepare(ground, stage).await?;
        demo.play(stage).await?;
        // Stopped before the count, so that nothing is left to be recorded; told after it, so that there is a count anyway.
        let stopped = if self.keep { Ok(()) } else { demo.stop_workers().await };
        let report = demo.count().await?;
        stage.close();
        if self.json {
            print_json(&report)?;
        } else {
            print(&report);
        }
        stopped?;
        Ok((demo, report))
    }
}

fn print(report: &Report) {
    let mut rows = table(&["counted", "", ""]);
    let mut row = |name: &str, count: u64, note: &str| {
        rows.add_row([name.to_owned(), count.to_string(), note.to_owned()]);
    };
    row("jobs", report.inserted, &format!("{} more refused by a constraint", report.refused_at_insert));
    for (name, count) in &report.jobs {
        let kept = report.with_allowed_effects > 0 && name.contains("4098");
        row(&format!("  {name}"), *count, if kept { "allowed_effects kept" } else { "" });
    }
    let faults: Vec<String> = report.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    row("attempts", report.attempts.values().sum(), &format!("on purpose {}", faults.join(", ")));
    for (name, count) in &report.attempts {
        row(&format!("  {name}"), *count, "");
    }
    let (phones, lines) = (counted(report.phones, "phone", "phones"), counted(report.lines, "line", "lines"));
    row("messages on phones", report.messages, &format!("{phones}, {lines}"));
    row("  replays", report.replays, "Chert knew the key and sent nothing");
    let workers = &report.workers;
    row("workers", workers.started, &format!("{} killed with SIGKILL", workers.killed));
    let held = counted(workers.held_when_killed, "was held", "were held");
    let on_phones = workers.on_a_phone_when_killed;
    row("  jobs taken over", workers.rescued, &format!("{held}, {on_phones} on a phone already"));
    let tally = &report.tally;
    row("lost", tally.lost, "not ended, or called sent and on no phone");
    row("doubled", tally.doubled, "on a phone twice, or asked for by no job");
    row("out of order", tally.out_of_order, "before an earlier one to the same phone");
    row("over pace", tally.over_pace, "closer than the line's gap, or over its cap");
    row("misreported", tally.misreported, "called failed, and on a phone");
    rows.column_mut(1).expect("there are three columns").set_cell_alignment(CellAlignment::Right);
    outln!("\n{}", rows.trim_fmt());
}

fn explain(ground: &Ground, demo: &Demo) {
    let url = ground.shown_url();
    eprintln!("\nIt stays up until Ctrl-C, with its workers. Look around, or insert a job and see it on the phone:");
    eprintln!("  database   {url}");
    eprintln!("  psql       insert into outbox.jobs (phone, body) values ('+15550142200', 'Hi');");
    eprintln!("  phones     curl -s '{}?phone=%2B15550142200'", demo.ledger_url());
    eprintln!("  status     chert-outbox status --database-url {url}");
    eprintln!("  logs       {}", demo.logs().display());
}
