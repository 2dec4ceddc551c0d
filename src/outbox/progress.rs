//! Telling the producer: listeners hear of it at the commit of the change itself, and webhooks get their rows with it.

use std::collections::BTreeMap;

use sqlx::PgTransaction;

/// Tells that this happened to these jobs: `sent`, `duplicate`, `failed`, `parked`, `expired`, `suppressed`, `delivered`, `read`,
/// `replied` or `opted_out`. It belongs into the transaction that changes them.
pub async fn announce(tx: &mut PgTransaction<'_>, jobs: &[i64], what: &str) -> Result<(), sqlx::Error> {
    if !jobs.is_empty() {
        sqlx::query!("select outbox.announce($1, $2)", jobs, what).fetch_one(&mut **tx).await?;
    }
    Ok(())
}

/// Tells of jobs, each with the word for what happened to it, in one call a word.
pub(super) async fn announce_each(tx: &mut PgTransaction<'_>, jobs: &[(i64, &str)]) -> Result<(), sqlx::Error> {
    let mut by_word: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (job, word) in jobs {
        by_word.entry(word).or_default().push(*job);
    }
    for (word, jobs) in by_word {
        announce(tx, &jobs, word).await?;
    }
    Ok(())
}
