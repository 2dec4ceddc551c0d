//! Recipients who must not be sent to: admission and claim look by themselves; this is the last look before a call.

use std::collections::HashSet;

use sqlx::PgPool;

use crate::database;
use crate::outbox::OutboxError;
use crate::phone::Phone;

/// Which of these recipients are suppressed now. Source: invariant 6.
pub async fn suppressed(pool: &PgPool, phones: &[Phone]) -> Result<HashSet<Phone>, OutboxError> {
    let mut tx = database::begin(pool).await.map_err(OutboxError::Suppressions)?;
    let phones: Vec<String> = phones.iter().map(|phone| phone.as_str().to_owned()).collect();
    let found = sqlx::query_scalar!(
        r#"
        select u.phone as "phone!"
          from unnest($1::text[]) as u (phone)
         where exists (select from outbox.suppressions s where s.phone = u.phone offset 0)
        "#,
        &phones
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(OutboxError::Suppressions)?;
    tx.commit().await.map_err(OutboxError::Suppressions)?;
    Ok(found.iter().filter_map(|phone| phone.parse().ok()).collect())
}
