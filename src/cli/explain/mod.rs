//! `explain`: past, present and next instant of a person, a job or a campaign.

mod show;
mod words;

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::anyhow;
use clap::Args;

use crate::campaign::file::words::Name;
use crate::cli::{DatabaseOptions, print_json};
use crate::config::{CampaignOptions, HoldOptions};
use crate::outbox::explain::{self, ExplainError, Rules};
use crate::outbox::jobs::JobsError;
use crate::phone::Phone;

/// Tell what happened to a person, a job or a campaign, where it stands, and when it goes on: all that binds it, and when each of
/// that lifts.
#[derive(Debug, Args)]
#[command(
    after_help = "It reads one moment, and writes nothing. Times are the earliest that is possible: what comes in meanwhile may take a turn before. \
`jobs show` has a job's row and every attempt; `campaign status` who stands where.

What workers hold back depends on their options: give this command the same environment.

Examples:
  chert-outbox explain +15550142200
  chert-outbox explain 123
  chert-outbox explain welcome-drip
  chert-outbox explain 123 --json | jq .job.next"
)]
pub struct Explain {
    #[command(flatten)]
    database: DatabaseOptions,
    /// A recipient such as +15550142200, a job's id, or a campaign's name.
    #[arg(value_name = "PHONE|JOB|CAMPAIGN")]
    subject: Subject,
    #[command(flatten)]
    holds: HoldOptions,
    #[command(flatten)]
    campaigns: CampaignOptions,
    /// Print whole numbers.
    #[arg(long)]
    show_numbers: bool,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// What is to be explained. A name of digits alone is a job's id.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    Person(Phone),
    Job(i64),
    Campaign(Name),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Subject, String> {
        if text.starts_with('+') {
            return text.parse().map(Subject::Person).map_err(|error| format!("{error}"));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Subject::Job).map_err(|_| "no job has such an id".to_owned());
        }
        let help =
            "give a recipient such as +15550142200, a job's id such as 123, or a campaign's name such as welcome-drip";
        text.parse().map(Subject::Campaign).map_err(|_| help.to_owned())
    }
}

impl Explain {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let pool = self.database.outbox(1).await?;
        let rules = Rules { holds: self.holds, campaigns: self.campaigns };
        match self.subject {
            Subject::Person(phone) => {
                let person = explain::person(&pool, &phone, self.show_numbers, &rules).await?;
                if self.json { print_json(&person)? } else { show::person(&person) }
            }
            Subject::Job(id) => {
                let job = explain::job(&pool, id, &rules).await.map_err(|error| meant(id, error))?;
                if self.json { print_json(&job)? } else { show::job(&job) }
            }
            Subject::Campaign(name) => {
                let campaign = explain::campaign(&pool, name.as_str(), &rules).await?;
                if self.json { print_json(&campaign)? } else { show::campaign(&campaign) }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A number that was written without its plus is taken for the id of a job.
fn meant(id: i64, error: ExplainError) -> anyhow::Error {
    match (&error, format!("+{id}").parse::<Phone>()) {
        (ExplainError::Jobs(JobsError::NoSuchJob(_)), Ok(_)) if id >= 1_000_000_000 => {
            anyhow!("{error}; for the recipient write +{id}")
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_known_by_its_looks() {
        let subject = |text: &str| text.parse::<Subject>();
        assert_eq!(subject("+15550142200"), Ok(Subject::Person("+15550142200".parse().expect("valid"))));
        assert_eq!(subject("123"), Ok(Subject::Job(123)));
        assert_eq!(subject("welcome-drip"), Ok(Subject::Campaign("welcome-drip".parse().expect("valid"))));
        for bad in ["", "+1 555", "Welcome", "99999999999999999999", "5 5"] {
            assert!(subject(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_without_its_plus_is_asked_about() {
        let told = |id| meant(id, ExplainError::Jobs(JobsError::NoSuchJob(id))).to_string();
        assert_eq!(told(15550142200), "there is no job 15550142200; for the recipient write +15550142200");
        assert_eq!([told(0), told(123)], ["there is no job 0", "there is no job 123"]);
    }
}
