//! Who wants events: an address, a secret to sign with, and which types. Contract 4.5.

use chrono::{DateTime, Utc};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::simulate::error::Refusal;
use crate::simulate::events::{DEFAULT_VERSION, timestamp};
use crate::simulate::state::random_uuid;

/// Most subscriptions; a further one gets 2008. Our choice: the contract names no number.
const SUBSCRIPTIONS_LIMIT: usize = 100;
/// The address that stands for no address: events are only put down.
const DEV_INBOX: &str = "https://dev-inbox";

/// One subscription. It never shows its secret after its creation.
pub struct Subscription {
    pub id: Uuid,
    pub url: String,
    /// Types, spelt exactly; none means all.
    pub events: Vec<String>,
    pub version: String,
    pub is_active: bool,
    pub created_at: DateTime<Utc>,
    /// 64 hex digits; as text they are the key.
    pub secret: SecretString,
}

/// What a caller says of a subscription: all of it to create one, or what is to change. `null` is nothing said.
#[derive(Deserialize)]
pub struct Wish {
    #[serde(default, deserialize_with = "text")]
    url: Option<String>,
    events: Option<Vec<String>>,
    version: Option<String>,
    is_active: Option<bool>,
}

/// All subscriptions, in order of creation.
pub struct Subscriptions {
    all: Vec<Subscription>,
    takes_http: bool,
}

impl Subscription {
    /// Whether events of this type go to it.
    pub fn wants(&self, kind: &str) -> bool {
        self.is_active && (self.events.is_empty() || self.events.iter().any(|wanted| wanted == kind))
    }

    /// Whether its events are only put down.
    pub fn is_dev_inbox(&self) -> bool {
        self.url.trim_end_matches('/') == DEV_INBOX
    }

    /// As it is told, without its secret.
    pub fn object(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "url": self.url,
            "events": self.events,
            "version": self.version,
            "is_active": self.is_active,
            "created_at": timestamp(self.created_at),
        })
    }

    /// As it is told once, when it was created.
    pub fn object_with_secret(&self) -> Value {
        let mut object = self.object();
        object["secret"] = json!(self.secret.expose_secret());
        object
    }
}

impl Subscriptions {
    /// None yet. `takes_http` says whether an `http` address of this machine will do.
    pub fn new(takes_http: bool) -> Subscriptions {
        Subscriptions { all: Vec::new(), takes_http }
    }

    /// All of them, oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Subscription> {
        self.all.iter()
    }

    /// The one with this id.
    pub fn get(&self, id: Uuid) -> Option<&Subscription> {
        self.all.iter().find(|one| one.id == id)
    }

    /// Creates one; a wish that comes twice makes two. Errors: 1001 without an address, 1002 for one that is not
    /// acceptable, 2008 if there are too many.
    pub fn create(&mut self, wish: Wish, now: DateTime<Utc>) -> Result<&Subscription, Refusal> {
        let url = wish.url.ok_or_else(|| Refusal::new(1001).because("`url` is missing."))?;
        self.check(&url)?;
        if self.all.len() >= SUBSCRIPTIONS_LIMIT {
            return Err(Refusal::new(2008).because("There are too many subscriptions."));
        }
        let index = self.all.len();
        self.all.push(Subscription {
            id: random_uuid(),
            url,
            events: wish.events.unwrap_or_default(),
            version: wish.version.unwrap_or_else(|| DEFAULT_VERSION.to_owned()),
            is_active: wish.is_active.unwrap_or(true),
            created_at: now,
            secret: hex::encode(rand::random::<[u8; 32]>()).into(),
        });
        Ok(&self.all[index])
    }

    /// Changes what the wish names. Errors: 2011 if it is not there, 1002.
    pub fn change(&mut self, id: Uuid, wish: Wish) -> Result<&Subscription, Refusal> {
        if let Some(url) = &wish.url {
            self.check(url)?;
        }
        let one = self.all.iter_mut().find(|one| one.id == id).ok_or_else(|| Refusal::new(2011))?;
        one.url = wish.url.unwrap_or_else(|| one.url.clone());
        one.events = wish.events.unwrap_or_else(|| one.events.clone());
        one.version = wish.version.unwrap_or_else(|| one.version.clone());
        one.is_active = wish.is_active.unwrap_or(one.is_active);
        Ok(one)
    }

    /// Deletes one. Errors: 2011 if it is not there.
    pub fn delete(&mut self, id: Uuid) -> Result<(), Refusal> {
        let index = self.all.iter().position(|one| one.id == id).ok_or_else(|| Refusal::new(2011))?;
        self.all.remove(index);
        Ok(())
    }

    /// Chert wants public HTTPS. That an address is public cannot be told here; one of this machine may do without TLS.
    fn check(&self, url: &str) -> Result<(), Refusal> {
        let is_taken = Url::parse(url).is_ok_and(|url| match url.scheme() {
            "https" => url.has_host(),
            "http" => self.takes_http && is_loopback(&url),
            _ => false,
        });
        let refusal = || Refusal::new(1002).because("`url` must be https, or http on a loopback address.");
        if is_taken { Ok(()) } else { Err(refusal()) }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A text; a blank one is none.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(fields: Value) -> Wish {
        serde_json::from_value(fields).expect("a wish")
    }

    fn code(takes_http: bool, fields: Value) -> u16 {
        let mut all = Subscriptions::new(takes_http);
        all.create(wish(fields), DateTime::UNIX_EPOCH).err().map_or(0, |refusal| refusal.code)
    }

    #[test]
    fn only_https_and_http_of_this_machine_are_taken() {
        for (url, with_http, without) in [
            ("https://worker.example/hooks", 0, 0),
            ("https://dev-inbox", 0, 0),
            ("http://127.0.0.1:80/hooks", 0, 1002),
            ("http://[::1]:80/", 0, 1002),
            ("http://localhost/", 0, 1002),
            ("http://127.0.0.1.example/", 1002, 1002),
            ("http://10.0.0.1/", 1002, 1002),
            ("http://worker.example/", 1002, 1002),
            ("file:///etc", 1002, 1002),
            ("hooks", 1002, 1002),
            (" ", 1001, 1001),
        ] {
            assert_eq!(
                (code(true, json!({"url": url})), code(false, json!({"url": url}))),
                (with_http, without),
                "{url}"
            );
        }
    }

    #[test]
    fn types_are_compared_exactly_and_none_means_all() {
        let mut all = Subscriptions::new(true);
        let url = "https://worker.example/hooks";
        let one =
            all.create(wish(json!({"url": url, "events": ["message.received"]})), DateTime::UNIX_EPOCH).expect("taken");
        assert_eq!(
            (one.wants("message.received"), one.wants("message"), one.wants("reaction.added")),
            (true, false, false)
        );
        let id = one.id;
        assert!(all.change(id, wish(json!({"events": []}))).expect("there").wants("reaction.added"));
        assert!(!all.change(id, wish(json!({"is_active": false}))).expect("there").wants("reaction.added"));
        assert_eq!(
            all.change(id, wish(json!({"url": "ftp://worker.example"}))).err().map(|refusal| refusal.code),
            Some(1002)
        );
        assert_eq!(all.get(id).expect("there").url, url);
    }

    #[test]
    fn there_is_an_end_to_subscriptions() {
        let mut all = Subscriptions::new(true);
        let mut create =
            || all.create(wish(json!({"url": "https://dev-inbox"})), DateTime::UNIX_EPOCH).map(|one| one.id);
        let created: Vec<_> = (0..SUBSCRIPTIONS_LIMIT).map(|_| create().expect("there is room")).collect();
        assert_eq!(create().err().map(|refusal| refusal.code), Some(2008));
        all.delete(created[0]).expect("there");
        assert!(all.create(wish(json!({"url": "https://dev-inbox"})), DateTime::UNIX_EPOCH).is_ok());
    }
}
