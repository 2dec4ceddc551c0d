//! `purge`: erasing a person, and deleting what is old. Either says first what it would do.

use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sqlx::PgPool;

use crate::cli::{DatabaseOptions, print_json, table};
use crate::outbox::erase::{self, Counts, Receipt};
use crate::outbox::prune::{self, Kind, Mark, Old};
use crate::phone::Phone;
use crate::units::{counted, duration, show_duration};

/// Erase a person, or delete what is finished and old; it only says what it would do, unless --yes is given.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).multiple(true).args(["phones", "finished_jobs", "attempts", "events", "texts", "enrolments", "goals", "firings", "replaced_files"]),
    after_help = "Erasing takes out whatever names the person: their jobs with the attempts, number and text of their events, their consents and what
was known of them as a recipient. That they must not be written to is kept by a keyed hash, so that a file which brings the number back
writes to nobody. Texts of other people that mention the number stay. A message that is on its way is waited for.

Deleting takes out what has ended for longer than the given time, in small batches beside the workers. Jobs that wait, are being sent or
are parked stay, and so do events that were not applied. Of campaigns, jobs of enrolments that go on stay too, and messages for as long
as the longest frequency cap of any version counts them. The dedupe_key of a deleted job is free again: a producer that repeats it
sends once more. An event that Chert repeats after it was deleted is applied anew. Texts are what people wrote to us; what was
written to them goes with the job, since a job must say the same at every attempt.

Of campaigns, a person's latest enrolment stays for as long as the newest version's rule needs it: where nobody is enrolled again, for good.

Examples:
  chert-outbox purge --phone +15550142200
  chert-outbox purge --phone +15550142200 --reason 'request of 3 June' --yes --json
  chert-outbox purge --finished-jobs 90d --attempts 90d --events 30d --texts 30d --yes
  chert-outbox purge --enrolments 180d --goals 180d --firings 90d --replaced-files 30d --yes"
)]
pub struct Purge {
    #[command(flatten)]
    database: DatabaseOptions,
    /// Erase this person; may be repeated.
    #[arg(long = "phone", value_name = "PHONE", help_heading = "A person", conflicts_with_all = ["finished_jobs", "attempts", "events", "texts", "enrolments", "goals", "firings", "replaced_files"])]
    phones: Vec<Phone>,
    /// Why, for the receipt; without the number.
    #[arg(long, requires = "phones", help_heading = "A person")]
    reason: Option<String>,
    /// Add no suppression: whoever brings the number back may write to it, unless it was suppressed before.
    #[arg(long, requires = "phones", help_heading = "A person")]
    may_return: bool,
    /// Jobs that ended longer ago than this, such as 90d, with their attempts.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    finished_jobs: Option<Duration>,
    /// Attempts older than this, of jobs that have ended.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    attempts: Option<Duration>,
    /// Events that came longer ago than this.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    events: Option<Duration>,
    /// The texts of events that came longer ago than this; the events stay.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    texts: Option<Duration>,
    /// Enrolments in campaigns that ended longer ago than this.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    enrolments: Option<Duration>,
    /// Goals of campaigns that were reached longer ago than this.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    goals: Option<Duration>,
    /// Firings of campaigns that ended longer ago than this, with whom they left out.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    firings: Option<Duration>,
    /// The people of CSV files that were applied longer ago than this, and that a newer version has replaced.
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "What is old")]
    replaced_files: Option<Duration>,
    /// Do it.
    #[arg(long)]
    yes: bool,
    /// Print what was done, or would be, as JSON.
    #[arg(long)]
    json: bool,
}

impl Purge {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        match self.phones.is_empty() {
            false => self.erase(&pool).await?,
            true => self.delete(&pool).await?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn erase(&self, pool: &PgPool) -> anyhow::Result<()> {
        let mut told = Vec::new();
        for phone in &self.phones {
            if !self.yes {
                let counts = erase::look(pool, phone, self.may_return).await?;
                match self.json {
                    true => told.push(json!({"phone": phone.to_string(), "erased": false, "counts": counts})),
                    false => outln!("would erase {phone}\n{}", found(&counts)),
                }
                continue;
            }
            let mut said = false;
            let waiting = |flying: erase::Flying| {
                if !std::mem::replace(&mut said, true) {
                    let until = flying.until.format("%T UTC");
                    let messages = counted(flying.jobs, "message is on its way", "messages are on their way");
                    eprintln!("{messages}: waiting until {until} at most; nothing more is sent");
                }
            };
            let receipt = erase::erase(pool, phone, self.reason.as_deref(), self.may_return, waiting).await?;
            match self.json {
                true => told
                    .push(json!({"receipt": receipt.id, "erased": true, "at": receipt.at, "counts": receipt.counts,
                    "reason": receipt.reason})),
                false => print_receipt(&receipt),
            }
        }
        match (self.json, self.yes) {
            (true, _) => print_json(&told)?,
            (false, true) => {}
            (false, false) => outln!("nothing was erased: add --yes to do it"),
        }
        Ok(())
    }

    async fn delete(&self, pool: &PgPool) -> anyhow::Result<()> {
        // Texts before events, and attempts before the jobs that keep them, so that each count is what its own age takes.
        let kinds = [
            ("texts", Kind::Texts, self.texts),
            ("events", Kind::Events, self.events),
            ("attempts", Kind::Attempts, self.attempts),
            ("finished jobs", Kind::FinishedJobs, self.finished_jobs),
            ("enrolments", Kind::Enrolments, self.enrolments),
            ("goals", Kind::Goals, self.goals),
            ("firings", Kind::Firings, self.firings),
            ("replaced files", Kind::Files, self.replaced_files),
        ];
        let mut told = Vec::new();
        let mut rows = table(&["what", "older than", if self.yes { "deleted" } else { "rows" }, "the oldest", "kept"]);
        for (name, kind, age) in kinds {
            let Some(age) = age else { continue };
            let before = prune::before(pool, age).await?;
            let old = prune::look(pool, kind, before).await?;
            let deleted = if self.yes { Some(delete(pool, name, kind, before, &old).await?) } else { None };
            told.push(
                json!({"what": name, "before": before, "rows": old.count, "oldest": old.oldest, "kept": old.kept,
                "deleted": deleted}),
            );
            rows.add_row([
                name.to_owned(),
                show_duration(age),
                deleted.map_or(old.count.to_string(), |deleted| deleted.to_string()),
                old.oldest.map_or("-".to_owned(), |at| at.format("%F %T").to_string()),
                old.kept.to_string(),
            ]);
        }
        if self.json {
            return print_json(&told);
        }
        outln!("{}", rows.trim_fmt());
        if !self.yes {
            outln!("nothing was deleted: add --yes to do it");
        }
        Ok(())
    }
}

/// Deletes one kind, batch after batch until nothing is left; it can be cut short at any time and run again.
async fn delete(
    pool: &PgPool,
    name: &'static str,
    kind: Kind,
    before: DateTime<Utc>,
    old: &Old,
) -> anyhow::Result<u64> {
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len}, {eta} left").expect("the template is ours");
    let bar = ProgressBar::new(old.count.unsigned_abs()).with_style(style).with_message(name);
    let (mut mark, mut deleted) = (Mark::default(), 0);
    loop {
        match prune::prune(pool, kind, before, &mut mark).await? {
            0 => break,
            rows => deleted += rows,
        }
        bar.set_position(deleted);
    }
    bar.finish_and_clear();
    Ok(deleted)
}

fn print_receipt(receipt: &Receipt) {
    outln!("erasure {} at {}\n{}", receipt.id, receipt.at.format("%F %T UTC"), found(&receipt.counts));
    if let Some(reason) = &receipt.reason {
        outln!("  reason: {reason}");
    }
}

fn found(counts: &Counts) -> String {
    let erased = [
        counted(counts.jobs, "job", "jobs"),
        counted(counts.attempts, "attempt", "attempts"),
        counted(counts.events, "event", "events"),
        counted(counts.enrolments, "enrolment", "enrolments"),
        counted(counts.recipients, "recipient", "recipients"),
        counted(counts.consents, "consent", "consents"),
    ];
    format!("  {}\n  {} kept by hash", erased.join(", "), counted(counts.suppressions, "suppression", "suppressions"))
}
