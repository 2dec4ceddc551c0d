//! The call itself. It tells apart the three cases that matter: answered, cannot have been sent, and nobody knows.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use crate::chert::auth::Credentials;
use crate::chert::reply::{Answer, Cause, Reply};

/// A response body is read to this size and no further: an error page is never worth more.
const MAX_BODY: usize = 64 * 1024;
/// Connecting is given up before the whole call is, so that "never sent" is told apart from "no answer".
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A client for one tenant; cheap to clone, keeps its connections.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    base_url: reqwest::Url,
    pub(super) credentials: Credentials,
    timeout: Duration,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the base URL must look like https://console.trychert.com/api/v1")]
    BaseUrl,
    #[error("setting up the HTTP client")]
    Setup(#[source] reqwest::Error),
}

impl Client {
    /// A client that gives up a call after `timeout`, at least 1 ms; connecting gets at most 10 s of it.
    pub fn new(base_url: &str, credentials: Credentials, timeout: Duration) -> Result<Client, ClientError> {
        let base_url = reqwest::Url::parse(base_url.trim_end_matches('/')).map_err(|_| ClientError::BaseUrl)?;
        if !matches!(base_url.scheme(), "http" | "https") {
            return Err(ClientError::BaseUrl);
        }
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout / 2))
            // Credentials never follow a redirect (API contract 8, question 20).
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .tcp_nodelay(true)
            .user_agent(concat!("chert-outbox/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Setup)?;
        Ok(Client { http, base_url, credentials, timeout })
    }

    /// How long a call may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Posts these exact bytes to `/send`. The signature is made anew at every call; the bytes are not.
    pub async fn send(&self, body: Vec<u8>) -> Reply {
        let headers = self.credentials.headers(&body, unix_secs());
        let mut request = self.http.post(self.url("send")).header(CONTENT_TYPE, "application/json").body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        exchange(request).await
    }

    pub(super) fn url(&self, route: &str) -> reqwest::Url {
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}/{route}", url.path().trim_end_matches('/')));
        url
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Reply {
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() || error.is_builder() => return Reply::NotSent(cause(&error)),
        Err(error) => return Reply::NoAnswer(cause(&error)),
    };
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (retry_after, trace_id) = (header("retry-after"), header("x-trace-id"));
    match read(response, MAX_BODY).await {
        Ok(body) => {
            Reply::Answered(Box::new(Answer::decode(status, retry_after.as_deref(), trace_id.as_deref(), &body)))
        }
        Err(cause) => Reply::NoAnswer(cause),
    }
}

pub(super) async fn read(mut response: reqwest::Response, most: usize) -> Result<Vec<u8>, Cause> {
    let mut body = Vec::new();
    while body.len() < most {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => return Err(cause(&error)),
        }
    }
    body.truncate(most);
    Ok(body)
}

/// The innermost reason, which is the one that helps; the URL is left out.
pub(crate) fn cause(error: &reqwest::Error) -> Cause {
    if error.is_timeout() {
        return Cause("no answer in time".to_owned());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Cause(innermost.to_string())
}

pub(super) fn unix_secs() -> i64 {
    wall_clock().timestamp()
}

/// This machine's clock, for what the far end's clock is held against; for everything of our own the database's counts.
#[expect(clippy::disallowed_methods, reason = "signatures and the event log are made by the wall clock of the far end")]
pub fn wall_clock() -> DateTime<Utc> {
    Utc::now()
}
