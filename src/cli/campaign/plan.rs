//! `campaign plan`: everybody rendered, nothing written, and when it would be over.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::Args;
use serde_json::json;
use sqlx::PgPool;

use crate::campaign::file::shape::{Audience as Source, Schedule};
use crate::campaign::fires;
use crate::campaign::plan::{Audience, Plan, Row, Step, plan};
use crate::campaign::running::Running;
use crate::cli::campaign::lines::Account;
use crate::cli::campaign::loads::{chart, lines};
use crate::cli::campaign::people::{self, People};
use crate::cli::campaign::{beside, query};
use crate::cli::{DatabaseOptions, print_json, table};
use crate::config::UnansweredOptions;
use crate::outbox::campaigns::audience::{self, Person, Query, QueryError};
use crate::outbox::campaigns::known::{Asking, Ours, backlog, known};
use crate::units::{counted, instant};

/// So many rows are shown of those with which something is wrong.
const EXAMPLES: usize = 20;
/// The end is not the one that was asked for, or people are held.
const NOT_AS_WANTED: u8 = 3;

/// Show what a campaign would do, without writing anything: whom it reaches, what they read, and when it is over.
#[derive(Debug, Args)]
#[command(
    after_help = "Everybody is rendered, step by step along the ways that they may take. Where a branch asks for what is known, such as a variable, that is one
way. Where it asks for a reply or a delivery, texts are counted by the way that takes longer, those of the other are counted apart, and
who would get none is told of either. People, suppressions, pins and lines are read from the database as they stand; who goes by a line
that may not send now is stuck. The end is a range: at best every branch takes its shorter way, half of the people answer their first
message (where that ends it), and the lines keep their whole pace; at worst every branch takes its longer way, nobody answers, and the
lines lose 15 % of their pace. What else is queued for the same lines goes first, and whom other campaigns have to write to by then go in
turn with it, unless their priority is later.

People are counted as a firing counts them, and in its words: who is held for a variable that their row has is `already_active`, and goes
on, from the first step as far as a plan can tell. Who is on the way now is `already_active` too, also where the firing is days off: how many
of them may be through by then, and enrolled again, is said below the table, and nothing of theirs is foretold.

What people got from any campaign counts under `caps.per_recipient`. Marketing waits for a reply after OUTBOX_UNANSWERED_LIMIT messages
without one: who comes to a message that waits is counted there, as if nobody answered, and what waits is not in the end. That limit is an
option of workers: give this command the same environment.

Examples:
  chert-outbox campaign plan jobs/welcome.yaml --people new.csv
  chert-outbox campaign plan jobs/announcement.yaml --preview 3
  chert-outbox campaign plan jobs/announcement.yaml --finish-by 2027-06-05T00:00:00Z --strict --json

Exit code: 0 planned, 1 an error, 3 it ends after --finish-by, or with --strict somebody is held, waits for a reply, gets no text, or gets a
link in a first message, or it is for nobody, or fires no more."
)]
pub struct PlanArgs {
    #[command(flatten)]
    database: DatabaseOptions,
    /// The campaign file.
    file: PathBuf,
    /// Plan for the people of this CSV instead of the campaign's own audience.
    #[arg(long, value_name = "CSV")]
    people: Option<PathBuf>,
    /// Begin at this instant; when it next fires, or now, unless given.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    from: Option<DateTime<Utc>>,
    /// Show the texts of the first so many people.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    preview: u16,
    /// Fail if it may end later than this.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    finish_by: Option<DateTime<Utc>>,
    /// Fail if somebody is held, in review, waits for a reply, gets no text at a step, drops out because its deadline comes first, is stuck
    /// without a line or hours, or is new and gets a link in their first message; or if nobody is enrolled or let go, or it fires no more.
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    unanswered: UnansweredOptions,
    /// Print the plan as JSON.
    #[arg(long)]
    json: bool,
}

impl PlanArgs {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let checked = super::checked(&self.file)?;
        let running = Running::read(&serde_json::to_value(&checked.campaign)?)
            .with_context(|| format!("reading {}", self.file.display()))?;
        let pool = self.database.outbox(2).await?;
        Account::read(&pool).await?.must_have_lines(&self.file, &checked)?;
        if self.people.is_none() {
            query::must_be_planned(&pool, &self.file, &checked).await?;
            // What makes it fail is told by the plan itself.
            super::warn(&self.file, &beside::look(&self.file, &checked).unwrap_or_default());
        }
        let plan = self.plan(&running, &pool).await?;
        if self.json {
            print_json(&plan)?;
        } else {
            self.show(&plan, &running);
        }
        Ok(self.verdict(&plan))
    }

    /// What is asked of a plan before a file is applied.
    pub fn before_applying(database: DatabaseOptions, unanswered: UnansweredOptions, file: PathBuf) -> PlanArgs {
        let (people, from, preview, finish_by, strict, json) = (None, None, 0, None, false, false);
        PlanArgs { database, file, people, from, preview, finish_by, strict, unanswered, json }
    }

    pub async fn plan(&self, running: &Running, pool: &PgPool) -> anyhow::Result<Plan> {
        let rows = self.rows(running, pool).await?;
        let phones: Vec<String> = rows.iter().filter_map(|row| Some(row.phone.as_ref()?.as_str().to_owned())).collect();
        let account = Account::read(pool).await?;
        let next = fires::next_after(&running.campaign.schedule, running.campaign.zone, account.now);
        let starts_at = self.from.or(next).unwrap_or(account.now);
        let (campaign, priority) = (running.campaign.name.as_str(), running.campaign.caps.priority);
        let labels = json!(running.campaign.labels);
        let asking = Asking {
            campaign,
            labels: &labels,
            at: starts_at,
            again_after: running.campaign.audience.again_after(),
            cap: running.campaign.caps.per_recipient,
        };
        let known = known(pool, asking, &phones).await?;
        let ours = Ours { at: starts_at, priority, campaign, from_where_they_stand: false };
        let lines = account.of(running, &backlog(pool, ours).await?);
        let audience = Audience { rows: &rows, known: &known };
        let mut plan = plan(running, &audience, &lines, starts_at, self.unanswered.limit.0, usize::from(self.preview));
        if starts_at <= account.now {
            plan.people.may_be_through = 0;
        }
        let is_manual = matches!(running.campaign.schedule, Schedule::Manual { .. });
        plan.fires_no_more = self.from.or(next).is_none() && !is_manual;
        Ok(plan)
    }

    async fn rows(&self, running: &Running, pool: &PgPool) -> anyhow::Result<Vec<Row>> {
        let beside = |csv: &String| self.file.parent().unwrap_or(Path::new(".")).join(csv);
        let People { people, problems, .. } = match (&self.people, &running.campaign.audience) {
            (Some(path), _) => people::read(path)?,
            (None, Source::Csv { csv, .. }) => people::read(&beside(csv))?,
            (None, Source::Sql { sql, role, time_limit, row_limit, .. }) => {
                let query = Query { sql, role: role.as_deref(), time_limit: time_limit.0, row_limit: *row_limit };
                return audience::look(pool, query).await.map_err(|error| match error {
                    QueryError::Role { role, why } => anyhow!(
                        "{}: audience.role: you may not take the role `{role}` ({why}): grant it to the user that you connect as, or name \
                         people with --people CSV",
                        self.file.display()
                    ),
                    error => error.into(),
                });
            }
            (None, Source::Enrolled { .. }) => {
                bail!("the application enrols the people of {}: name some with --people CSV", running.campaign.name)
            }
        };
        let mut told: HashMap<i64, String> = problems.into_iter().collect();
        let row = |person: Person| Row {
            n: person.n,
            phone: person.phone,
            vars: person.vars,
            problem: person.problem.map(|problem| problem.word().to_owned()),
            told: told.remove(&person.n),
        };
        Ok(people.into_iter().map(row).collect())
    }

    fn show(&self, plan: &Plan, running: &Running) {
        show_people(plan, running.campaign.zone);
        show_steps(&plan.steps);
        show_losses(plan);
        show_times(plan, running.campaign.zone);
        outln!("{}", chart(&plan.days) + &lines(&plan.loads));
        // Of a file the line is told, of a query the number of the row.
        let is_file = self.people.is_some() || matches!(running.campaign.audience, Source::Csv { .. });
        let row = if is_file { "line" } else { "row" };
        for example in plan.people.examples.iter().take(EXAMPLES) {
            let phone = example.phone.as_ref().map(|phone| format!("{phone} ")).unwrap_or_default();
            outln!("{row} {}: {phone}{}", example.row, example.why);
        }
        if let Some(more) = plan.people.examples.len().checked_sub(EXAMPLES).filter(|more| *more > 0) {
            outln!("and {more} more; --json tells all");
        }
        for text in &plan.preview {
            let variant = text.variant.as_ref().map(|variant| format!(" ({variant})")).unwrap_or_default();
            let way = if text.another_way { ", by another way" } else { "" };
            outln!("\n{row} {}, {}, {}{variant}{way}\n{}", text.row, text.phone, text.step, indented(&text.text));
        }
    }

    fn verdict(&self, plan: &Plan) -> ExitCode {
        let is_late = self.finish_by.is_some_and(|by| plan.stuck > 0 || plan.finishes_by.is_some_and(|end| end > by));
        let fails =
            |step: &Step| !step.faults.is_empty() || step.expired > 0 || step.unanswered > 0 || step.links_to_new > 0;
        let (held, in_review) = (&plan.people.held, plan.people.in_review);
        let holds = !held.is_empty() || in_review > 0 || !plan.held_at_branches.is_empty();
        let people = &plan.people;
        let for_nobody = people.enrolled == 0 && people.let_go == 0 && people.may_be_through == 0;
        let for_nothing = for_nobody || plan.fires_no_more;
        let lacks = self.strict && (for_nothing || plan.stuck > 0 || holds || plan.steps.iter().any(fails));
        if is_late || lacks { ExitCode::from(NOT_AS_WANTED) } else { ExitCode::SUCCESS }
    }
}

fn show_steps(steps: &[Step]) {
    let another_way = steps.iter().any(|step| step.another_way > 0);
    let mut names = vec!["step", "messages", "variants", "bubbles", "longest", "the same text", "no text", "too late"];
    names.extend(another_way.then_some("another way"));
    let mut rows = table(&names);
    for step in steps {
        let mut row = vec![
            step.name.to_string(),
            range(step.messages.0, step.messages.1),
            variants(&step.variants),
            range(step.bubbles.0, step.bubbles.1),
            counted(step.longest_chars, "character", "characters"),
            counted(step.same_text, "person", "people"),
            reasons(&step.faults),
            step.expired.to_string(),
        ];
        row.extend(another_way.then(|| counted(step.another_way, "person", "people")));
        rows.add_row(row);
    }
    outln!("{rows}\n");
    if another_way {
        outln!(
            "Who replies, and who gets what is sent, is not known yet: texts are counted by the way that takes longer, and under `another way` \
             who comes to a step by any other\n"
        );
    }
}

/// Who do not get to the end, or what Chert would refuse them, and who read the same twice.
fn show_losses(plan: &Plan) {
    for (branch, people) in &plan.held_at_branches {
        outln!(
            "{} held at {branch}, or may be: its condition does not fit what their variables hold\n",
            counted(*people, "person is", "people are")
        );
    }
    for step in plan.steps.iter().filter(|step| step.links_to_new > 0) {
        outln!(
            "{} a link in their first message, at {}, which Chert refuses: send it in a later step\n",
            counted(step.links_to_new, "new contact gets", "new contacts get"),
            step.name
        );
    }
    let expired: u32 = plan.steps.iter().map(|step| step.expired).sum();
    if expired > 0 {
        outln!(
            "{} out, since the deadline of their step comes before their turn: take more lines, a longer expires_after, or fewer people \
             at once\n",
            counted(expired, "person drops", "people drop")
        );
    }
    if plan.people_with_a_text_twice > 0 {
        outln!("{} would get the very same text twice\n", counted(plan.people_with_a_text_twice, "person", "people"));
    }
}

/// In short: whom it reaches, who is lost on the way, and when.
pub fn show_short(plan: &Plan, zone: Tz) {
    show_people(plan, zone);
    for step in plan.steps.iter().filter(|step| !step.faults.is_empty()) {
        outln!("no text at {}: {}\n", step.name, reasons(&step.faults));
    }
    show_losses(plan);
    show_times(plan, zone);
}

fn show_people(plan: &Plan, zone: Tz) {
    if plan.fires_no_more {
        outln!("Its time has passed, and it fires no more by itself: this is what a firing by hand would do now\n");
    }
    let people = &plan.people;
    let mut counts = vec![
        ("people".to_owned(), people.people),
        ("enrolled".to_owned(), people.enrolled),
        ("  new contacts".to_owned(), people.new),
        ("  known: written to before, or wrote to us".to_owned(), people.enrolled - people.new),
    ];
    counts.extend(by_reason("  held", &people.held));
    counts.extend(by_reason("  ended", &people.ended));
    let others = [
        ("  in review: until somebody looks at what they wrote", people.in_review),
        ("  stuck: no line that may write to them, or hours that never open", plan.stuck),
    ];
    let unanswered = plan
        .steps
        .iter()
        .map(|step| (format!("  unanswered: they wait for a reply at {}", step.name), step.unanswered as usize));
    let others = others.into_iter().map(|(what, count)| (what.to_owned(), count as usize));
    counts.extend(others.chain(unanswered).filter(|(_, count)| *count > 0));
    counts.extend(by_reason("left out", &people.excluded));
    if people.let_go > 0 {
        counts.push(("  let go: held until now, and their row has something new".to_owned(), people.let_go as usize));
    }
    let mut rows = table(&[plan.campaign.as_str(), "number"]);
    for (what, count) in counts {
        rows.add_row([what, count.to_string()]);
    }
    outln!("{rows}\n");
    if people.may_be_through > 0 {
        outln!(
            "{} on the way now, and counted as already_active: who is through by {}, and may be enrolled again by then, is enrolled, and is \
             in no other number of this plan\n",
            counted(people.may_be_through, "person is", "people are"),
            local(plan.starts_at, zone)
        );
    }
}

fn local(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%a %F %H:%M %Z").to_string()
}

fn by_reason(what: &str, reasons: &BTreeMap<String, u32>) -> impl Iterator<Item = (String, usize)> {
    reasons.iter().map(move |(reason, count)| (format!("{what}: {reason}"), *count as usize))
}

fn show_times(plan: &Plan, zone: Tz) {
    let never = if plan.people.may_be_through > 0 { "not known: to who is through by then" } else { "never" };
    let at = |at: Option<DateTime<Utc>>| at.map_or(never.to_owned(), |at| local(at, zone));
    outln!("first message  {}", at(plan.first_at));
    outln!("last message   {}", range(at(plan.finishes_from), at(plan.finishes_by)));
    outln!("cost           {:.1} line-days, on {}\n", plan.line_days, counted(plan.lines, "line", "lines"));
}

pub(super) fn range<T: PartialEq + std::fmt::Display>(from: T, to: T) -> String {
    if from == to { to.to_string() } else { format!("{from} to {to}") }
}

fn variants(variants: &BTreeMap<String, u32>) -> String {
    let named = variants.iter().filter(|(name, _)| !name.is_empty());
    named.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn reasons(reasons: &BTreeMap<String, u32>) -> String {
    reasons.iter().map(|(why, count)| format!("{count} {why}")).collect::<Vec<_>>().join(", ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
