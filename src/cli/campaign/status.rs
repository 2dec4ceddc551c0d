//! `campaign status`: one campaign's firings, its funnel, and when it will be through; once, or again and again.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde::Serialize;
use sqlx::PgPool;

use crate::campaign::eta::{Eta, OnTheWay, eta};
use crate::campaign::funnel::{Counts, Funnel, Step, funnel};
use crate::campaign::running::Running;
use crate::cli::campaign::lines::Account;
use crate::cli::campaign::list::{rows, shown};
use crate::cli::campaign::plan::range;
use crate::cli::{DatabaseOptions, print_json, stop, table};
use crate::config::UnansweredOptions;
use crate::outbox::campaigns::known::{self, Ours};
use crate::outbox::campaigns::overview::{self, Listed, Tick};
use crate::outbox::campaigns::{funnel as counting, under_way};
use crate::units::{counted, duration};

/// The end is foretold anew when so many times the time has gone by that it took.
const FORETELL_EVERY: u32 = 20;

/// Show one campaign: its newest firings, how many people came to which step and what became of it, and when it will be through.
#[derive(Debug, Args)]
#[command(
    after_help = "Of each step: who wait for its time (coming), whose time has come (reached), and of these whose message is not made yet (due; in brackets
who are held back, until they reply, somebody looks at what they wrote or the account has a line for them), waits for its line (queued) or was sent, who stand there until
something is mended (held), and whose enrolment ended there first (ended; `before it`, if the step's time had not come). A reply or a stop
counts where it answered: at the message that was sent last before it. A stop is no reply. What retention has deleted is not counted.

The end is that of `campaign plan`, played from where everybody stands, over the lines as they are and beside what others have to send on
them: see there what makes it a range. But nobody is foretold to answer: where that ends an enrolment, it may be over sooner. People who
are held, or wait for somebody, are not in it, nor those who are not enrolled yet, nor whom no line may write to for the campaign
(not_pinned, not_in_pool), who drop out at the next step that sends, nor what will wait for a reply, if nobody answers, after
OUTBOX_UNANSWERED_LIMIT messages without one: that is an option of workers, so give this command the same environment. Where no end can be
foretold it is said why, in JSON by `no_eta` beside an `eta` of null.

Examples:
  chert-outbox campaign status welcome
  chert-outbox campaign status welcome --watch
  chert-outbox campaign status welcome --json | jq '.funnel.steps[] | {name, sent, replied}'"
)]
pub struct Status {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign.
    name: String,
    /// Show it again and again, until nothing of it is under way any more, or Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// How often, with --watch.
    #[arg(long, value_name = "LENGTH", default_value = "2s", value_parser = duration, requires = "watch")]
    every: Duration,
    /// Print it as JSON; with --watch, each look as one line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    unanswered: UnansweredOptions,
}

impl Status {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let mut end = End { unanswered_limit: self.unanswered.limit.0, last: None };
        if !self.watch {
            let look = Look::at(&pool, &self.name, &mut end).await?;
            match self.json {
                true => print_json(&look)?,
                false => outln!("{}", look.text()),
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut stop = stop::signaled(|| {})?;
        let mut screen = Screen { is_terminal: io::stdout().is_terminal(), is_painted: false };
        loop {
            let began = Instant::now();
            let look = tokio::select! {
                look = Look::at(&pool, &self.name, &mut end) => look?,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let shown = match self.json {
                true => print(&serde_json::to_string(&look)?),
                false => screen.paint(&look.text()),
            };
            // Nobody reads it any more.
            if shown.is_err() || !look.is_under_way() {
                break;
            }
            // What takes long is not done all the time.
            let pause = self.every.max(LEAST_PAUSE).max(began.elapsed());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Between two looks, whatever --every says.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// All of it at about one moment.
#[derive(Serialize)]
struct Look {
    campaign: Listed,
    firings: Vec<Tick>,
    funnel: Funnel,
    /// Of its own version, and of those that somebody stands in.
    unreadable: Vec<Unreadable>,
    /// None of a campaign that is stopped, or where nothing can be foretold.
    eta: Option<Eta>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_eta: Option<String>,
    #[serde(skip)]
    zone: Tz,
}

/// A version that this release cannot read, and why.
#[derive(Serialize)]
struct Unreadable {
    version: i32,
    why: String,
}

impl Look {
    async fn at(pool: &PgPool, name: &str, end: &mut End) -> anyhow::Result<Look> {
        let campaign = overview::one(pool, name).await?;
        let firings = overview::firings(pool, name).await?;
        let counted = counting::count(pool, name, campaign.version).await?;
        let (mut running, mut unreadable) = (BTreeMap::new(), Vec::new());
        for (version, definition) in &counted.definitions {
            match Running::read(definition) {
                Ok(read) => drop(running.insert(*version, read)),
                Err(error) => unreadable.push(Unreadable { version: *version, why: error.to_string() }),
            }
        }
        let programs = running.iter().map(|(version, running)| (*version, running.program.clone())).collect();
        let funnel = funnel(&programs, &counted.standings, &counted.messages);
        let zone = running.get(&campaign.version).map_or(Tz::UTC, |running| running.campaign.zone);
        let mut look = Look { campaign, firings, funnel, unreadable, eta: None, no_eta: None, zone };
        let foretold = match look.campaign.state.as_str() {
            "stopped" => Err(anyhow::anyhow!("the campaign is stopped")),
            _ => end.foretell(pool, &look.campaign, running).await,
        };
        match foretold {
            Ok(eta) => look.eta = Some(eta),
            Err(error) => look.no_eta = Some(format!("{error:#}")),
        }
        Ok(look)
    }

    fn is_under_way(&self) -> bool {
        self.campaign.active > 0
            || self.funnel.steps.iter().any(|step| step.messages.queued > 0)
            || self.firings.iter().any(|firing| ["new", "enrolling"].contains(&firing.state.as_str()))
    }

    fn text(&self) -> String {
        let mut text = rows(std::slice::from_ref(&self.campaign)).trim_fmt();
        if !self.firings.is_empty() {
            text += &format!("\n\n{}", firings(&self.firings).trim_fmt());
        }
        text += &format!("\n\n{}", steps(&self.funnel).trim_fmt());
        for line in self.unreadable().into_iter().chain(self.end()) {
            text += &format!("\n{line}");
        }
        text
    }

    fn unreadable(&self) -> Vec<String> {
        let line = |Unreadable { version, why }: &Unreadable| {
            let fires = if *version == self.campaign.version { "it does not fire, and " } else { "" };
            format!("\nversion {version} cannot be read by this release, so that {fires}people in it wait: {why}")
        };
        self.unreadable.iter().map(line).collect()
    }

    fn end(&self) -> Vec<String> {
        let Some(eta) = &self.eta else {
            return self.no_eta.iter().map(|why| format!("\nno end is foretold: {why}")).collect();
        };
        let at = |at: DateTime<Utc>| at.with_timezone(&self.zone).format("%a %F %H:%M %Z").to_string();
        let mut lines = vec![String::new()];
        if let (Some(from), Some(by)) = (eta.from, eta.by) {
            let paused = if self.campaign.state == "paused" { ", were it resumed now" } else { "" };
            lines.push(format!("on the way     {}, {} left", people(eta.people), messages(eta.messages)));
            lines.push(format!("last message   {}{paused}", range(at(from), at(by))));
        } else {
            lines.push(format!("on the way     {}, no message left", people(eta.people)));
        }
        if eta.wait_for_somebody > 0 {
            let waiting = people(eta.wait_for_somebody);
            lines.push(format!("held back      {waiting}: until they reply, or somebody looks at what they wrote"));
        }
        if eta.unanswered > 0 {
            lines.push(format!("unanswered     {}: they will wait for a reply", people(eta.unanswered)));
        }
        if eta.expired > 0 {
            lines.push(format!(
                "too late       {}: the deadline of their step comes before their turn",
                people(eta.expired)
            ));
        }
        if !eta.no_message.is_empty() {
            let reasons = eta.no_message.iter().map(|(reason, count)| format!("{count} {reason}")).collect::<Vec<_>>();
            let dropping = people(eta.no_message.values().sum::<u32>());
            lines.push(format!("no message     {dropping}: {}, at the next step that sends", reasons.join(", ")));
        }
        if eta.stuck > 0 {
            lines.push(format!(
                "stuck          {}: no line that may write to them, or hours that never open",
                people(eta.stuck)
            ));
        }
        lines
    }
}

fn people<N: Display + PartialEq + From<u8>>(count: N) -> String {
    counted(count, "person", "people")
}

fn messages((least, most): (u32, u32)) -> String {
    if least == most { counted(most, "message", "messages") } else { format!("{} messages", range(least, most)) }
}

/// What was foretold last.
struct End {
    unanswered_limit: Option<u16>,
    last: Option<(Eta, Instant, Duration)>,
}

impl End {
    /// The end; a campaign of a million is not played anew at every look.
    async fn foretell(
        &mut self,
        pool: &PgPool,
        campaign: &Listed,
        running: BTreeMap<i32, Running>,
    ) -> anyhow::Result<Eta> {
        if let Some((eta, at, took)) = &self.last
            && at.elapsed() < *took * FORETELL_EVERY
        {
            return Ok(eta.clone());
        }
        let began = Instant::now();
        let own = running.get(&campaign.version);
        let own = own.ok_or_else(|| anyhow::anyhow!("its version cannot be read by this release"))?;
        let account = Account::read(pool).await?;
        let (priority, name) = (own.campaign.caps.priority, &campaign.name);
        let ours = Ours { at: account.now, priority, campaign: name, from_where_they_stand: true };
        let backlog = known::backlog(pool, ours).await?;
        let found = under_way::read(pool, &campaign.name, &running, self.unanswered_limit).await?;
        let mut found = found.ok_or_else(|| anyhow::anyhow!("more than a million people are on the way"))?;
        let versions = running
            .into_iter()
            .filter_map(|(version, running)| {
                let (lines, members) = (account.of(&running, &backlog), found.members.remove(&version)?);
                Some(OnTheWay { running, lines, members })
            })
            .collect::<Vec<_>>();
        let eta = Eta { wait_for_somebody: found.wait_for_somebody, ..eta(&versions, self.unanswered_limit) };
        self.last = Some((eta.clone(), began, began.elapsed()));
        Ok(eta)
    }
}

fn firings(firings: &[Tick]) -> comfy_table::Table {
    let mut rows = table(&["firing", "at", "version", "state", "people", "enrolled", "left out", "error"]);
    for tick in firings {
        let (late, manual) = (tick.late.then_some("late"), tick.manual.then_some("by hand"));
        let again = tick.again_at.map(|at| format!("tried again {}", shown(at)));
        let behind = tick.behind.map(|id| format!("behind firing {id}"));
        let state =
            [Some(tick.state.as_str()), tick.reason.as_deref(), late, manual, again.as_deref(), behind.as_deref()];
        let left_out = tick.excluded.0.iter().map(|(reason, count)| format!("{count} {reason}"));
        rows.add_row([
            tick.id.to_string(),
            shown(tick.at),
            tick.version.to_string(),
            state.into_iter().flatten().collect::<Vec<_>>().join(", "),
            tick.people.to_string(),
            tick.enrolled.to_string(),
            left_out.collect::<Vec<_>>().join(", "),
            tick.error.clone().unwrap_or_default(),
        ]);
    }
    rows
}

fn steps(funnel: &Funnel) -> comfy_table::Table {
    let mut rows = table(&[
        "step",
        "coming",
        "reached",
        "due",
        "queued",
        "sent",
        "delivered",
        "replied",
        "opted out",
        "held",
        "ended",
    ]);
    for step in &funnel.steps {
        let people = [step.coming.to_string(), step.reached.to_string(), due(step)];
        let reasons = [reasons(&step.held, ""), ended(step)];
        rows.add_row([vec![step.name.clone()], people.to_vec(), counts(step.messages), reasons.to_vec()].concat());
        for (variant, made) in &step.variants {
            let (blank, none) = (vec![String::new(); 3], vec![String::new(); 2]);
            rows.add_row([vec![format!("  {variant}")], blank, counts(*made), none].concat());
        }
    }
    rows.add_row([vec!["through".to_owned(), String::new(), funnel.done.to_string()], vec![String::new(); 8]].concat());
    rows
}

fn counts(made: Counts) -> Vec<String> {
    let share = |people: i64| match (people, made.sent) {
        (0, _) | (_, 0) => people.to_string(),
        _ => format!("{people} ({:.0} %)", 100.0 * people as f64 / made.sent as f64),
    };
    vec![
        made.queued.to_string(),
        made.sent.to_string(),
        share(made.delivered),
        share(made.replied),
        share(made.opted_out),
    ]
}

fn due(step: &Step) -> String {
    match reasons(&step.held_back, "") {
        held_back if held_back.is_empty() => step.due.to_string(),
        held_back => format!("{} ({held_back})", step.due),
    }
}

fn ended(step: &Step) -> String {
    let ended = [reasons(&step.ended, ""), reasons(&step.left_before, " before it")];
    ended.into_iter().filter(|some| !some.is_empty()).collect::<Vec<_>>().join(", ")
}

fn reasons(reasons: &BTreeMap<String, i64>, when: &str) -> String {
    reasons.iter().map(|(reason, people)| format!("{people} {reason}{when}")).collect::<Vec<_>>().join(", ")
}

/// Where looks are shown: over the one before on a terminal, else below it.
struct Screen {
    is_terminal: bool,
    is_painted: bool,
}

impl Screen {
    fn paint(&mut self, text: &str) -> io::Result<()> {
        let is_first = !std::mem::replace(&mut self.is_painted, true);
        match self.is_terminal {
            true => print(&repaint(text, is_first)),
            false if is_first => print(text),
            false => print(&format!("\n{text}")),
        }
    }
}

/// Each line over the one that stood there, so that nothing flickers, and nothing of the look before is left below.
fn repaint(text: &str, is_first: bool) -> String {
    let (begin, lines) = (if is_first { "\x1b[2J\x1b[H" } else { "\x1b[H" }, text.replace('\n', "\x1b[K\n"));
    format!("{begin}{lines}\x1b[K\x1b[J")
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repaint_leaves_nothing_of_the_look_before() {
        assert_eq!(repaint("one\ntwo", true), "\x1b[2J\x1b[Hone\x1b[K\ntwo\x1b[K\x1b[J");
        assert_eq!(repaint("one", false), "\x1b[Hone\x1b[K\x1b[J");
    }

    #[test]
    fn one_message_is_singular_and_a_range_is_not() {
        assert_eq!(
            [messages((1, 1)), messages((0, 1)), messages((2, 2))],
            ["1 message", "0 to 1 messages", "2 messages"]
        );
    }

    #[test]
    fn a_watch_goes_on_while_people_messages_or_a_firing_are_under_way() {
        let look = |active, queued, state: &str| {
            let at = DateTime::UNIX_EPOCH;
            let (name, state) = ("drip".to_owned(), state.to_owned());
            let campaign = Listed {
                name,
                version: 1,
                state: "running".to_owned(),
                changed_at: at,
                next_at: Some(at),
                active,
                held: 7,
                done: 7,
                stopped: 7,
                queued: 0,
            };
            let messages = Counts { queued, sent: 7, ..Counts::default() };
            let funnel = Funnel { steps: vec![Step { messages, ..Step::default() }], done: 7 };
            let firing = Tick {
                id: 1,
                at,
                version: 1,
                state,
                reason: None,
                error: None,
                again_at: None,
                behind: None,
                manual: false,
                late: false,
                people: 7,
                enrolled: 7,
                excluded: sqlx::types::Json(BTreeMap::new()),
            };
            let firings = vec![firing];
            Look { campaign, firings, funnel, unreadable: Vec::new(), eta: None, no_eta: None, zone: Tz::UTC }
        };
        assert!(!look(0, 0, "done").is_under_way());
        assert!(look(1, 0, "done").is_under_way() && look(0, 1, "done").is_under_way());
        assert!(look(0, 0, "new").is_under_way() && look(0, 0, "enrolling").is_under_way());
    }

    #[test]
    fn shares_are_of_those_who_got_it() {
        let made = Counts { queued: 1, sent: 8, delivered: 8, replied: 1, opted_out: 0 };
        assert_eq!(counts(made), ["1", "8", "8 (100 %)", "1 (12 %)", "0"]);
        assert_eq!(counts(Counts::default()), ["0"; 5]);
    }
}
