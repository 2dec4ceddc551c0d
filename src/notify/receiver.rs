//! Who is told: an address, and the post to it, signed.

use std::time::Duration;

use chrono::Utc;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use crate::chert::client::cause;
use crate::notify::sign::Key;

/// How long a receiver may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// One receiver; cheap to clone, keeps its connections.
#[derive(Debug, Clone)]
pub struct Receiver {
    http: reqwest::Client,
    url: reqwest::Url,
    key: Key,
    /// Whether it is told the recipients' numbers.
    pub with_phone: bool,
}

impl Receiver {
    /// A receiver at this address. Errors: the HTTP client cannot be set up.
    pub fn new(url: reqwest::Url, key: Key, with_phone: bool) -> Result<Receiver, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // What is signed for one address is not for another.
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("chert-outbox/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Receiver { http, url, key, with_phone })
    }

    /// Posts these exact bytes under this id. The signature is made anew at every attempt; the id is not.
    /// Errors: why there is no answer, in words that do not name the address.
    pub async fn post(&self, id: &str, payload: Vec<u8>) -> Result<StatusCode, String> {
        let secs = unix_secs();
        let post = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", secs)
            .header("webhook-signature", self.key.sign(id, secs, &payload))
            .body(payload);
        post.send().await.map(|response| response.status()).map_err(|error| cause(&error).to_string())
    }
}

#[expect(clippy::disallowed_methods, reason = "a signature is made for the wall clock that the receiver checks it by")]
fn unix_secs() -> i64 {
    Utc::now().timestamp()
}
