//! All SQL of campaigns, one family of statements a file. It stands with the outbox's own, since replies and the end of a job reach
//! enrolments in the transactions that apply and record them.

pub mod audience;
pub mod enrolling;
pub mod everybody;
pub mod funnel;
pub mod known;
pub mod left_out;
pub mod manage;
pub mod moving;
pub mod overview;
pub mod pruning;
mod refused;
pub mod rooms;
pub mod steps;
pub mod stops;
pub mod ticks;
pub mod under_way;
pub mod versions;

/// What a statement was for when the database refused it.
#[derive(Debug, thiserror::Error)]
pub enum CampaignsError {
    #[error("reading campaigns: {}", crate::database::describe(.0))]
    Read(#[source] sqlx::Error),
    #[error("recording firings: {}", crate::database::describe(.0))]
    Fire(#[source] sqlx::Error),
    #[error("reading an audience: {}", crate::database::describe(.0))]
    Audience(#[source] sqlx::Error),
    #[error("enrolling: {}", crate::database::describe(.0))]
    Enrol(#[source] sqlx::Error),
    #[error("advancing enrolments: {}", crate::database::describe(.0))]
    Advance(#[source] sqlx::Error),
    #[error("changing a campaign: {}", crate::database::describe(.0))]
    Change(#[source] sqlx::Error),
    #[error("there is no campaign named {0}: chert-outbox campaign list shows what there is")]
    NoSuchCampaign(String),
    #[error("the campaign {campaign} has no step named {step}: its steps are {steps}")]
    NoSuchStep { campaign: String, step: String, steps: String },
    #[error("the campaign {0} was stopped, and some of its enrolments are not ended yet: try again in a moment")]
    StillStopping(String),
    #[error("the campaign {0} is {1}: resume it first")]
    NotRunning(String, String),
    #[error("the campaign {0} has a version {1} by now: look again at what would be moved")]
    NewerVersion(String, i32),
    #[error("the campaign {name}, version {version}, cannot be read by this release: {why}")]
    Unreadable { name: String, version: i32, why: String },
}

impl CampaignsError {
    /// Whether two transactions got in each other's way (class 40), so that trying the same again is all there is to do.
    pub fn is_conflict(&self) -> bool {
        let (CampaignsError::Read(error)
        | CampaignsError::Fire(error)
        | CampaignsError::Audience(error)
        | CampaignsError::Enrol(error)
        | CampaignsError::Advance(error)
        | CampaignsError::Change(error)) = self
        else {
            return false;
        };
        super::is_conflict(error)
    }
}
