//! What a webhook says: which message, and what became of it. Never its text, and its recipient only where that is asked for.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use crate::outbox::notifications::Notification;

/// The exact bytes to sign and post.
pub fn payload(notification: &Notification, with_phone: bool) -> Vec<u8> {
    let mut data = match &notification.job {
        None => json!({}),
        Some(job) => json!({
            "dedupe_key": job.dedupe_key,
            "labels": job.labels,
            "state": job.state,
            "reason": job.reason,
            "error_code": job.error_code,
            "message_id": job.message_id,
            "delivery_state": job.delivery_state,
            "sent_at": job.sent_at,
            "delivered_at": job.delivered_at,
            "read_at": job.read_at,
            "replied_at": job.replied_at,
        }),
    };
    data["job_id"] = json!(notification.job_id);
    if let Some(job) = notification.job.as_ref().filter(|_| with_phone) {
        data["phone"] = json!(job.phone);
    }
    let payload = json!({
        "type": format!("message.{}", notification.what),
        "timestamp": notification.created_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "data": without_nulls(data),
    });
    payload.to_string().into_bytes()
}

fn without_nulls(mut data: Value) -> Value {
    if let Some(fields) = data.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    data
}
