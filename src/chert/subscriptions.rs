//! Who is told of events by webhook. Source: API contract 4.5.

use reqwest::Method;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chert::ask::{AskError, segment};
use crate::chert::client::Client;

const ROUTE: &str = "webhook-subscriptions";

/// A subscription; its secret is told only once, when it is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    pub id: String,
    #[serde(default)]
    pub url: String,
    /// The types it wants, spelt exactly; all if there are none.
    #[serde(default, deserialize_with = "or_default")]
    pub events: Vec<String>,
    pub version: Option<String>,
    #[serde(default = "yes")]
    pub is_active: bool,
    pub created_at: Option<String>,
}

/// What to ask for, or what to change; what is absent is left to Chert, or as it is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SubscriptionChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// No types at all means every type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// The version of the envelope, e.g. `2026-05-04`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_active: Option<bool>,
}

/// A subscription that has just come to be.
#[derive(Debug, Clone)]
pub struct Created {
    pub subscription: Subscription,
    /// What its deliveries are signed with; none if Chert did not tell, and it never will again.
    pub secret: Option<SecretString>,
}

impl Client {
    /// Creates a subscription. Not idempotent: asking twice creates two.
    pub async fn create_subscription(&self, wish: &SubscriptionChange) -> Result<Created, AskError> {
        let what = "a subscription";
        let answer: Value = self.ask(Method::POST, ROUTE, &[], &json!(wish), what).await?;
        created(&answer).ok_or(AskError::Unreadable(what))
    }

    /// All subscriptions.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, AskError> {
        let what = "a list of subscriptions";
        let answer: Value = self.ask(Method::GET, ROUTE, &[], &Value::Null, what).await?;
        listed(&answer).ok_or(AskError::Unreadable(what))
    }

    /// Changes what is named.
    pub async fn update_subscription(&self, id: &str, change: &SubscriptionChange) -> Result<Subscription, AskError> {
        let what = "a subscription";
        let answer: Value = self.ask(Method::PATCH, &route(id), &[], &json!(change), what).await?;
        subscription(&answer).ok_or(AskError::Unreadable(what))
    }

    /// Deletes it.
    pub async fn delete_subscription(&self, id: &str) -> Result<(), AskError> {
        self.ask::<serde::de::IgnoredAny>(Method::DELETE, &route(id), &[], &Value::Null, "JSON").await.map(drop)
    }
}

fn route(id: &str) -> String {
    format!("{ROUTE}/{}", segment(id))
}

/// The documented shape has everything under `subscription`; another client reads it flat, with other names (API contract
/// 4.5). The answer holds the secret: it is read here, and goes no further.
fn created(answer: &Value) -> Option<Created> {
    let inner = answer.get("subscription").unwrap_or(&Value::Null);
    let mut shapes = [inner, answer].into_iter();
    let secret = shapes.find_map(|at| ["secret", "webhook_secret"].into_iter().find_map(|name| at.get(name)?.as_str()));
    Some(Created { subscription: subscription(answer)?, secret: secret.map(SecretString::from) })
}

fn subscription(answer: &Value) -> Option<Subscription> {
    Subscription::deserialize(answer.get("subscription").unwrap_or(answer)).ok()
}

/// The name of the list is not documented.
fn listed(answer: &Value) -> Option<Vec<Subscription>> {
    let names = ["subscriptions", "webhook_subscriptions", "data"];
    let list = names.into_iter().find_map(|name| answer.get(name)).unwrap_or(answer);
    Vec::deserialize(list).ok()
}

fn or_default<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn the_secret_is_read_in_both_shapes_and_shown_by_none() {
        let documented =
            json!({"subscription": {"id": "ws_1", "url": "https://a.example", "events": [], "secret": "abc"}});
        for answer in
            [documented, json!({"id": "ws_1", "webhook_secret": "abc"}), json!({"id": "ws_1", "secret": "abc"})]
        {
            let created = created(&answer).expect("readable");
            assert_eq!(created.subscription.id, "ws_1");
            assert_eq!(created.secret.as_ref().expect("told").expose_secret(), "abc");
            assert!(!format!("{created:?}").contains("abc"));
        }
        assert!(created(&json!({"id": "ws_1"})).expect("readable").secret.is_none());
        assert!(created(&json!({"ok": true})).is_none());
    }

    #[test]
    fn a_list_is_read_under_any_name_with_fields_missing() {
        let row = json!({"id": "ws_1", "events": null});
        for answer in [json!({"subscriptions": [row]}), json!({"data": [row]}), json!([row])] {
            let listed = listed(&answer).expect("readable");
            assert!(listed.len() == 1 && listed[0].is_active && listed[0].events.is_empty());
        }
    }

    #[test]
    fn only_what_changes_is_said() {
        let change = SubscriptionChange { is_active: Some(false), ..SubscriptionChange::default() };
        assert_eq!(json!(change), json!({"is_active": false}));
    }
}
