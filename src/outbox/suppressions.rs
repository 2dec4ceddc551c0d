//! Recipients who must not be sent to: admission and claim look by themselves; this is the last look before a call.

use sqlx::PgPool;

use crate::outbox::OutboxError;
use crate::phone::Phone;

/// Whether this recipient is suppressed now. Source: invariant 6.
pub async fn is_suppressed(pool: &PgPool, phone: &Phone) -> Result<bool, OutboxError> {
    sqlx::query_scalar!(
        r#"select exists (select from outbox.suppressions where phone = $1) as "suppressed!""#,
        phone.as_str()
    )
    .fetch_one(pool)
    .await
    .map_err(OutboxError::Suppressions)
}
