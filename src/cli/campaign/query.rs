//! The query of an audience, as workers would find it: by its role, planned and not run.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use sqlx::PgPool;

use crate::campaign::file::shape::Audience;
use crate::campaign::file::{Checked, Finding};
use crate::outbox::campaigns::audience::{self, Query, Unplanned};

/// Errors: the role that is to run a campaign's query is not there, or workers may not become it; or Postgres does not plan the query.
/// Where we lack a right for that which workers may have, it is told on standard error.
pub async fn must_be_planned(pool: &PgPool, path: &Path, checked: &Checked) -> anyhow::Result<()> {
    let Audience::Sql { sql, role, time_limit, row_limit, .. } = &checked.campaign.audience else { return Ok(()) };
    let of_file = |finding: Finding| anyhow!("{}:{finding}", path.display());
    if let Some(role) = role
        && let Some((message, hint)) = wrong_role(pool, role).await?
    {
        return Err(of_file(checked.about("audience.role", message, hint)));
    }
    let query = Query { sql, role: role.as_deref(), time_limit: time_limit.0, row_limit: *row_limit };
    let about = |at: Option<usize>, message: String, hint: &str| {
        Err(of_file(checked.about_within("audience.sql", at.unwrap_or(0), message, hint)))
    };
    match audience::plan(pool, query).await {
        Ok(()) => Ok(()),
        Err(Unplanned::NoRight(why)) => {
            let hint = "apply it as a user with the rights of the workers, to have it planned";
            super::warn(path, &[checked.about("audience.sql", format!("the query was not planned: {why}"), hint)]);
            Ok(())
        }
        Err(Unplanned::NoPhone) => {
            about(None, "the query brings no column named phone".to_owned(), "name one so, as in `mobile as phone`")
        }
        Err(Unplanned::TwoPhones) => {
            about(None, "the query brings two columns named phone".to_owned(), "give each a name of its own")
        }
        Err(Unplanned::Refused { told, hint, at }) => {
            about(at, told, hint.as_deref().unwrap_or("mend the query: a firing would find nobody"))
        }
        Err(Unplanned::Database(error)) => Err(error).context("planning the query"),
    }
}

/// What is wrong with the role, and what to do.
async fn wrong_role(pool: &PgPool, role: &str) -> anyhow::Result<Option<(String, String)>> {
    Ok(match audience::may_become(pool, role).await.context("reading the database's roles")? {
        Some(true) => None,
        Some(false) => Some((
            format!("workers may not become the role `{role}`"),
            format!("let them: grant \"{role}\" to outbox_worker, or to the user that they connect as"),
        )),
        None => Some((
            format!("the database has no role `{role}`"),
            format!("create it, let it read what the query reads, and grant \"{role}\" to outbox_worker"),
        )),
    })
}
