//! `prove`: breaks everything on purpose, and counts.

use std::num::NonZero;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use comfy_table::CellAlignment;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use crate::cli::stage::Stage;
use crate::cli::{print_json, stop, table};
use crate::trial::Audience as _;
use crate::trial::prove::{ProveError, Scenario, Verdict, prove, scenarios};
use crate::units::counted;

/// Break real parts on purpose - workers, Postgres, the API, time, operators - and count what was lost, doubled, out of
/// order, over pace or sent after a stop. Each scenario runs in a Postgres, a Chert and workers of its own on this machine,
/// some scenarios at a time.
#[derive(Debug, Args)]
#[command(
    after_help = "A seed decides what a scenario inserts and breaks; give the seed of a failure to play it again.

Exit codes: 0 if every count is 0, else 1.

Examples:
  chert-outbox prove                                    # all of it, in six minutes on two cores
  chert-outbox prove --quick                            # in less than one
  chert-outbox prove --list
  chert-outbox prove --scenario kill-random --seed 42
  chert-outbox prove --scenario drip-full               # 20,000 people, in some 50 minutes, by a release build
  chert-outbox prove --json 2>/dev/null | jq '.verdicts[] | select(.ok | not)'"
)]
pub struct Prove {
    /// Only the scenarios that together take about a minute.
    #[arg(long)]
    quick: bool,

    /// Only this scenario; may be given more than once.
    #[arg(long, value_name = "NAME", conflicts_with = "quick")]
    scenario: Vec<String>,

    /// What decides everything that is left to chance; drawn if it is not given, and shown.
    #[arg(long)]
    seed: Option<u64>,

    /// Show the scenarios, and run none.
    #[arg(long)]
    list: bool,

    /// Print the verdicts as JSON on standard output; the story goes to standard error in any case.
    #[arg(long)]
    json: bool,
}

/// What was proved.
#[derive(Serialize)]
struct Report {
    ok: bool,
    seed: u64,
    /// From the first scenario's beginning to the last one's end; some are played side by side.
    secs: f64,
    verdicts: Vec<Verdict>,
    skipped: Vec<Skipped>,
}

/// A scenario that cannot be played here, and why.
#[derive(Serialize)]
struct Skipped {
    scenario: &'static str,
    why: String,
}

impl Prove {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let chosen = self.chosen()?;
        if self.list {
            print_list(&chosen);
            return Ok(ExitCode::SUCCESS);
        }
        let mut stop = stop::signaled(|| eprintln!("Stopping: everything that was started ends"))?;
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let (began, mut stage) = (Instant::now(), Stage::new());
        stage.say(&format!("{}, seed {seed}", counted(chosen.len(), "scenario", "scenarios")));
        let proved = tokio::select! {
            proved = prove_all(&chosen, seed, &stage) => proved?,
            // Whatever was going on is dropped, and with it every process.
            _ = stop.wait_for(|stop| *stop) => anyhow::bail!("stopped before the end"),
        };
        let mut report = Report { ok: true, seed, secs: 0.0, verdicts: Vec::new(), skipped: Vec::new() };
        for (scenario, proved) in proved {
            match proved {
                Ok(verdict) => {
                    report.ok &= verdict.ok;
                    report.verdicts.push(verdict);
                }
                Err(why) => report.skipped.push(Skipped { scenario: scenario.name, why }),
            }
        }
        report.secs = began.elapsed().as_secs_f64();
        if self.json {
            print_json(&report)?;
        } else {
            print(&report);
        }
        Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn chosen(&self) -> anyhow::Result<Vec<&'static Scenario>> {
        let all = scenarios();
        if let Some(unknown) = self.scenario.iter().find(|name| all.iter().all(|scenario| scenario.name != **name)) {
            anyhow::bail!("there is no scenario '{unknown}': chert-outbox prove --list shows those there are");
        }
        let chosen = |scenario: &&Scenario| match self.scenario.as_slice() {
            [] => (self.list || !scenario.only_named()) && (scenario.quick || !self.quick),
            named => named.iter().any(|name| name == scenario.name),
        };
        Ok(all.into_iter().filter(chosen).collect())
    }
}

/// A verdict, or why the scenario cannot be played here.
type Proved = Result<Verdict, String>;

/// Plays the scenarios, some at a time where nothing speaks against it, and returns them in the order of the list.
async fn prove_all<'a>(
    chosen: &[&'a Scenario],
    seed: u64,
    stage: &Stage,
) -> anyhow::Result<Vec<(&'a Scenario, Proved)>> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (alone, beside): (Vec<_>, Vec<_>) = chosen.iter().enumerate().partition(|(_, scenario)| scenario.alone());
    let play = |(place, scenario): (usize, &&'a Scenario)| {
        let (scenario, stage) = (*scenario, stage.beside(scenario.name));
        async move { Ok::<_, anyhow::Error>((place, scenario, prove_one(scenario, seed, stage).await?)) }
    };
    // The longest stand last in the list: begun first, none of them goes on when all others are over.
    let beside = stream::iter(beside.into_iter().rev().map(play)).buffer_unordered((cores + 1).min(AT_ONCE));
    let alone = stream::iter(alone.into_iter().map(play)).buffered(1);
    let mut proved: Vec<_> = beside.chain(alone).try_collect().await?;
    proved.sort_by_key(|(place, ..)| *place);
    Ok(proved.into_iter().map(|(_, scenario, proved)| (scenario, proved)).collect())
}

async fn prove_one(scenario: &Scenario, seed: u64, mut stage: Stage) -> anyhow::Result<Proved> {
    stage.say(scenario.breaks);
    let proved = prove(scenario, seed, &mut stage).await;
    stage.close();
    match proved {
        Ok(verdict) => {
            stage.say(&sentence(&verdict));
            Ok(Ok(verdict))
        }
        Err(ProveError::Skipped(why)) => {
            stage.say(&format!("skipped: {why}"));
            Ok(Err(why))
        }
        Err(error) => Err(anyhow::Error::new(error).context(scenario.name)),
    }
}

/// Side by side are played one more than there are cores, and no more than this: most of their time they wait, but a call that a busy
/// machine keeps for longer than the guard between slots looks like one that was sent too early.
const AT_ONCE: usize = 4;

fn print_list(scenarios: &[&Scenario]) {
    let mut rows = table(&["scenario", "breaks", "--quick"]);
    for scenario in scenarios {
        let when = if scenario.only_named() {
            "only by name"
        } else if scenario.quick {
            "yes"
        } else {
            ""
        };
        rows.add_row([scenario.name, scenario.breaks, when]);
    }
    outln!("{}", rows.trim_fmt());
}

fn sentence(verdict: &Verdict) -> String {
    let notes = verdict.notes.join(", ");
    if verdict.ok {
        return format!("ok, {}, {notes}", counted(verdict.jobs, "job", "jobs"));
    }
    let evidence = verdict.evidence.as_ref().map_or(String::new(), |path| format!("; evidence in {}", path.display()));
    format!("FAILED: {}{evidence}", wrongs(verdict).join(", "))
}

/// What went wrong, in words.
fn wrongs(verdict: &Verdict) -> Vec<String> {
    let counts = counts(verdict).into_iter().zip(COUNTED);
    let counts = counts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    counts.chain(verdict.findings.iter().cloned()).collect()
}

/// The columns that must be 0, and their names.
const COUNTED: [&str; 6] = ["lost", "doubled", "out of order", "over pace", "after stop", "misreported"];

fn counts(verdict: &Verdict) -> [u64; 6] {
    let tally = &verdict.tally;
    [tally.lost, tally.doubled, tally.out_of_order, tally.over_pace, verdict.sent_after_suppression, tally.misreported]
}

fn print(report: &Report) {
    let mut header = vec!["scenario", "jobs"];
    header.extend(COUNTED);
    header.extend(["else", "MB", "s", "what happened"]);
    let mut rows = table(&header);
    for verdict in &report.verdicts {
        let counts = counts(verdict).map(|count| count.to_string());
        let mut row = vec![verdict.scenario.clone(), verdict.jobs.to_string()];
        row.extend(counts);
        row.extend([
            verdict.findings.len().to_string(),
            (verdict.peak_rss_kb / 1024).to_string(),
            format!("{:.0}", verdict.secs),
            verdict.notes.join(", "),
        ]);
        rows.add_row(row);
    }
    let sum = |of: fn(&Verdict) -> u64| report.verdicts.iter().map(of).sum::<u64>().to_string();
    let mut total = vec!["all".to_owned(), sum(|verdict| verdict.jobs)];
    total.extend(
        (0..COUNTED.len())
            .map(|column| report.verdicts.iter().map(|verdict| counts(verdict)[column]).sum::<u64>().to_string()),
    );
    let peak = report.verdicts.iter().map(|verdict| verdict.peak_rss_kb / 1024).max().unwrap_or(0);
    total.extend([
        sum(|verdict| verdict.findings.len() as u64),
        peak.to_string(),
        format!("{:.0}", report.secs),
        format!("seed {}", report.seed),
    ]);
    rows.add_row(total);
    for column in 1..header.len() - 1 {
        rows.column_mut(column).expect("the header has as many").set_cell_alignment(CellAlignment::Right);
    }
    outln!("\n{}", rows.trim_fmt());
    for skipped in &report.skipped {
        outln!("skipped {}: {}", skipped.scenario, skipped.why);
    }
    for verdict in report.verdicts.iter().filter(|verdict| !verdict.ok) {
        outln!("\n{} FAILED: {}", verdict.scenario, wrongs(verdict).join(", "));
        outln!("  again: chert-outbox prove --scenario {} --seed {}", verdict.scenario, verdict.seed);
        if let Some(evidence) = &verdict.evidence {
            outln!("  logs, ledger and tables: {}", evidence.display());
        }
    }
}
