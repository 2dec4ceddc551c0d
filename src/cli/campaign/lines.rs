//! The account's lines, as a campaign finds them.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::PgPool;

use crate::campaign::file::Checked;
use crate::campaign::file::finding::nearest;
use crate::campaign::file::step::Step;
use crate::campaign::forecast::{Line, Others};
use crate::campaign::plan::{Backlog, Lines, PlanLine, beside};
use crate::campaign::pool::{AccountLine, open};
use crate::campaign::running::Running;
use crate::campaign::template::Vars;
use crate::outbox::lines::{self, LineStatus};

/// As they are now.
pub struct Account {
    /// With the default, which stands for any line as long as none is known.
    all: Vec<LineStatus>,
    /// The database's time.
    pub now: DateTime<Utc>,
}

impl Account {
    pub async fn read(pool: &PgPool) -> anyhow::Result<Account> {
        let (all, now) = lines::list_now(pool).await?;
        Ok(Account { all, now })
    }

    /// Errors: each line of the campaign's pool, and each that a step names for everybody, that the account does not have, at its place in the
    /// file. As long as no line of the account is known, any may be there.
    pub fn must_have_lines(&self, path: &Path, checked: &Checked) -> anyhow::Result<()> {
        let known: Vec<&str> = self.known().map(|line| line.id.as_str()).collect();
        let missing = |(path_to, id): (String, String)| {
            let hint = match nearest(&id, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "chert-outbox lines list shows those there are".to_owned(),
            };
            let is_missing = !known.is_empty() && !known.contains(&id.as_str());
            let told = || checked.about(&path_to, format!("there is no line `{id}`"), hint);
            is_missing.then(|| format!("{}:{}", path.display(), told()))
        };
        let pool = checked.campaign.lines.pool.iter().enumerate();
        let mut named: Vec<(String, String)> = pool.map(|(n, id)| (format!("lines.pool[{n}]"), id.clone())).collect();
        of_steps(&checked.campaign.steps, "steps", &mut named);
        let missing: Vec<String> = named.into_iter().filter_map(missing).collect();
        ensure!(missing.is_empty(), "{}", missing.join("\n"));
        Ok(())
    }

    /// How a campaign finds them, with what others have to send. Of what any line may take, those outside of its pool take their part.
    pub fn of(&self, running: &Running, backlog: &Backlog) -> Lines {
        let pool = &running.campaign.lines.pool;
        let knows_lines = self.known().next().is_some();
        let is_of_it = |id: &String| !knows_lines || pool.is_empty() || pool.contains(id);
        let may_send = |line: &&LineStatus| line.active && !line.paused && line.is_default() != knows_lines;
        let resting = self.known().filter(|line| !may_send(line) || !is_of_it(&line.id)).map(|line| line.id.clone());
        let sending = self.all.iter().filter(may_send).map(|line| plan_line(line, self.now)).collect();
        let account = self.known().map(|line| AccountLine { id: line.id.clone(), takes_new: line.takes_new() });
        Lines {
            sending: beside(sending, backlog).into_iter().filter(|line| is_of_it(&line.id)).collect(),
            resting: resting.collect(),
            open: open(pool, &account.collect::<Vec<_>>()),
        }
    }

    fn known(&self) -> impl Iterator<Item = &LineStatus> {
        self.all.iter().filter(|line| !line.is_default())
    }
}

/// The lines that steps name for everybody, each with its place in the file.
fn of_steps(steps: &[Step], path: &str, named: &mut Vec<(String, String)>) {
    for (index, step) in steps.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match step {
            Step::Wait(_) => {}
            Step::Send(step) => {
                let line = step.send.phone_line_id.as_ref().filter(|line| line.variables().is_empty());
                let line = line.and_then(|line| line.render(&Vars::new()).ok()).filter(|line| !line.is_empty());
                named.extend(line.map(|line| (format!("{path}.send.phone_line_id"), line)));
            }
            Step::Branch(step) => {
                of_steps(&step.branch.then, &format!("{path}.branch.then"), named);
                of_steps(&step.branch.otherwise, &format!("{path}.branch.else"), named);
            }
        }
    }
}

fn plan_line(line: &LineStatus, now: DateTime<Utc>) -> PlanLine {
    let gap = |us: i64| Duration::from_micros(us.unsigned_abs());
    let cap = line.first_touch_cap.map(i32::unsigned_abs);
    let zone: Tz = line.time_zone.parse().unwrap_or(Tz::UTC);
    PlanLine {
        id: line.id.clone(),
        line: Line {
            gap: gap(line.gap_us),
            first_touch_gap: gap(line.first_touch_gap_us),
            slowdown: line.slowdown,
            first_touch_cap: cap,
            zone,
            next_at: line.next_at.max(now),
            next_first_touch_at: line.next_first_touch_at.unwrap_or(now).max(now),
            first_touches_left: cap.map(|cap| cap.saturating_sub(line.first_touches_today.unsigned_abs())),
            today: now.with_timezone(&zone).date_naive(),
        },
        others: Others::default(),
    }
}
