//! `recipients`: what is known of single people, and deciding about them.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::{DatabaseOptions, ListOptions, print_json, table};
use crate::inbound::event::Incoming;
use crate::outbox::recipients::{self, Known, NewConsent, Recipient, TheirEvent};
use crate::phone::Phone;
use crate::units::{counted, instant};

/// What is known of the people who are written to, and what a person decides about them.
#[derive(Debug, Subcommand)]
pub enum Recipients {
    /// Show one recipient: line, replies, opt-outs, consents, the last jobs and events.
    Show(Show),
    /// List those who wait for a person to look at what they wrote.
    List(List),
    /// Let the held jobs of recipients go, after a look.
    Release(Release),
    /// Keep the fact that somebody agreed, or no longer does.
    Consent(Consent),
}

impl Recipients {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Recipients::Show(args) => args.run().await?,
            Recipients::List(args) => args.run().await?,
            Recipients::Release(args) => {
                let pool = args.database.outbox(1).await?;
                for phone in &args.phones {
                    let jobs = recipients::release(&pool, phone, args.unanswered).await?;
                    outln!("{phone} is released: {} looked at now", counted(jobs, "job is", "jobs are"));
                }
            }
            Recipients::Consent(args) => args.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox recipients show +15550142200
  chert-outbox recipients show +15550142200 --show-text --json")]
pub struct Show {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The recipient, e.g. +15550142200.
    phone: Phone,
    /// Print what they wrote.
    #[arg(long)]
    show_text: bool,
    /// Print whole numbers.
    #[arg(long)]
    show_numbers: bool,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let known = recipients::show(&pool, &self.phone, self.show_numbers).await?;
        if self.json {
            return print_json(&self.with_texts(&known)?);
        }
        let phone = if self.show_numbers { self.phone.as_str().to_owned() } else { self.phone.to_string() };
        outln!("{phone}{}", headline(&known));
        if let Some(recipient) = &known.recipient {
            print_recipient(recipient);
        }
        print_lists(&known);
        print_history(&known, self.show_text);
        Ok(())
    }

    fn with_texts(&self, known: &Known) -> anyhow::Result<Value> {
        let mut shown = json!(known);
        if self.show_text {
            for (event, shown) in known.events.iter().zip(shown["events"].as_array_mut().into_iter().flatten()) {
                shown["text"] = json!(text(event));
            }
        }
        Ok(shown)
    }
}

fn headline(known: &Known) -> &'static str {
    match &known.recipient {
        _ if !known.suppressions.is_empty() => " is suppressed",
        Some(recipient) if recipient.review_since.is_some() => {
            " waits for a person to look: recipients release lets them go"
        }
        Some(_) => "",
        None => ": nothing was sent to or received from this number",
    }
}

/// What they wrote; none where it is kept no longer, or is no message.
fn text(event: &TheirEvent) -> Option<String> {
    let body = event.body.as_deref()?;
    Some(Incoming::read(body, event.occurred_at).ok()?.message()?.text)
}

fn time(at: Option<DateTime<Utc>>) -> Option<String> {
    at.map(|at| at.format("%F %T UTC").to_string())
}

fn print_recipient(recipient: &Recipient) {
    let mut facts = table(&[]);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.add_row([name.to_owned(), value]);
        }
    };
    fact("line", recipient.line_id.clone());
    fact("first message", time(recipient.first_touched_at));
    fact("last message", time(recipient.last_outbound_at));
    fact("last reply", time(recipient.last_inbound_at));
    fact("unanswered", Some(recipient.unanswered.to_string()));
    fact("time zone", recipient.time_zone.clone());
    fact("in review", time(recipient.review_since));
    fact("because", recipient.review_reason.clone());
    fact("opted out", time(recipient.opted_out_at));
    fact("opted in", time(recipient.opted_in_at));
    outln!("{}", facts.trim_fmt());
}

fn print_lists(known: &Known) {
    if !known.suppressions.is_empty() {
        let mut rows = table(&["suppressed", "since", "reason", "source"]);
        for entry in &known.suppressions {
            let since = entry.created_at.format("%F %T").to_string();
            let scope = if entry.phone.is_some() { entry.scope.clone() } else { format!("{} (erased)", entry.scope) };
            rows.add_row([scope, since, entry.reason.clone(), entry.source.clone()]);
        }
        outln!("\n{}", rows.trim_fmt());
    }
    if !known.consents.is_empty() {
        let mut rows = table(&["consent", "at", "text", "source", "note"]);
        for fact in &known.consents {
            rows.add_row([
                fact.kind.clone(),
                fact.given_at.format("%F %T").to_string(),
                fact.text_version.clone(),
                fact.source.clone(),
                fact.note.clone().unwrap_or_default(),
            ]);
        }
        outln!("\n{}", rows.trim_fmt());
    }
}

fn print_history(known: &Known, show_text: bool) {
    if !known.jobs.is_empty() {
        let mut rows = table(&["job", "class", "due", "state", "delivery"]);
        for job in &known.jobs {
            let delivery = match (job.replied_at, job.read_at, &job.delivery_state) {
                (Some(at), ..) => format!("answered {}", at.format("%F %T")),
                (_, Some(at), _) => format!("read {}", at.format("%F %T")),
                (.., state) => state.clone().unwrap_or_default(),
            };
            rows.add_row([
                job.id.to_string(),
                job.class.clone(),
                job.due_at.format("%F %T").to_string(),
                job.reason.as_ref().map_or(job.state.clone(), |reason| format!("{} ({reason})", job.state)),
                delivery,
            ]);
        }
        outln!("\n{}", rows.trim_fmt());
    }
    if !known.events.is_empty() {
        let last = if show_text { "text" } else { "job" };
        let mut rows = table(&["event", "at", "effect", last]);
        for event in &known.events {
            let job = || event.job_id.map(|id| id.to_string());
            rows.add_row([
                event.kind.clone(),
                event.occurred_at.format("%F %T").to_string(),
                event.effect.clone().unwrap_or_else(|| "not applied yet".to_owned()),
                if show_text { text(event) } else { job() }.unwrap_or_default(),
            ]);
        }
        outln!("\n{}", rows.trim_fmt());
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chert-outbox recipients list --review
  chert-outbox recipients list --review --show-numbers --json")]
pub struct List {
    #[command(flatten)]
    page: ListOptions,
    /// Those who wait for a person to look, the longest wait first.
    #[arg(long, required = true)]
    review: bool,
    /// Print whole numbers.
    #[arg(long)]
    show_numbers: bool,
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.page.database.outbox(1).await?;
        let found = recipients::in_review(&pool, self.show_numbers, self.page.limit).await?;
        if self.page.json {
            return print_json(&found);
        }
        let mut rows = table(&["phone", "since", "because", "last reply", "unanswered"]);
        for recipient in &found {
            rows.add_row([
                recipient.phone.clone(),
                time(recipient.review_since).unwrap_or_default(),
                recipient.review_reason.clone().unwrap_or_default(),
                time(recipient.last_inbound_at).unwrap_or_default(),
                recipient.unanswered.to_string(),
            ]);
        }
        outln!("{}", rows.trim_fmt());
        if found.len() as i64 == self.page.limit {
            outln!("(the first {}; --limit shows more)", self.page.limit);
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Example:
  chert-outbox recipients release +15550142200 --unanswered")]
pub struct Release {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The recipients, e.g. +15550142200.
    #[arg(required = true, value_name = "PHONE")]
    phones: Vec<Phone>,
    /// Also count their unanswered messages from zero.
    #[arg(long)]
    unanswered: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "It is a record, and stops nothing: `suppress add` does.

Examples:
  chert-outbox recipients consent +15550142200 --text-version 2026-05 --source signup-form
  chert-outbox recipients consent +15550142200 --text-version 2026-05 --source phone-call --withdrawn")]
pub struct Consent {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The recipient, e.g. +15550142200.
    phone: Phone,
    /// The version of the text that they agreed to, or no longer agree to.
    #[arg(long, value_parser = words)]
    text_version: String,
    /// Where they said so, such as `signup-form`.
    #[arg(long, value_parser = words)]
    source: String,
    /// When they said so, e.g. 2026-06-03T09:15:00Z; now when not given.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<DateTime<Utc>>,
    /// Whatever else belongs to it.
    #[arg(long)]
    note: Option<String>,
    /// They no longer agree.
    #[arg(long)]
    withdrawn: bool,
}

impl Consent {
    async fn run(self) -> anyhow::Result<()> {
        let pool = self.database.outbox(1).await?;
        let Consent { phone, text_version, source, at, note, withdrawn, .. } = self;
        let fact = NewConsent { withdrawn, at, text_version, source, note };
        recipients::consent(&pool, &phone, &fact).await?;
        outln!("recorded that {phone} {} text {}", if withdrawn { "withdrew" } else { "agreed to" }, fact.text_version);
        Ok(())
    }
}

fn words(text: &str) -> Result<String, String> {
    let fits = (1..=200).contains(&text.chars().count());
    if fits { Ok(text.to_owned()) } else { Err("give 1 to 200 characters".to_owned()) }
}
