//! Everything that is asked of the API beside sending: a signed request, and its JSON or the reason why there is none.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::chert::client::{Client, cause, read, unix_secs};
use crate::chert::reply::{Answer, Cause};

/// A listing has no paging or at most 200 rows a page: this holds tens of thousands of lines, or the largest page.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Why a question has no answer. None of it quotes a secret, a body or a number.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the Chert API cannot be reached: {0}")]
    Unreachable(Cause),
    /// It answered, with something else than 2xx.
    #[error("the Chert API refuses: HTTP {}, {}", .0.http_status, .0.message.as_deref().unwrap_or("no reason given"))]
    Refused(Box<Answer>),
    #[error("the Chert API's answer is not {0}")]
    Unreadable(&'static str),
}

impl AskError {
    /// The HTTP status of a refusal.
    pub fn http_status(&self) -> Option<u16> {
        match self {
            AskError::Refused(answer) => Some(answer.http_status),
            AskError::Unreachable(_) | AskError::Unreadable(_) => None,
        }
    }
}

/// What may stand in a part of a route as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An id from outside as one part of a route, percent-encoded.
pub(super) fn segment(id: &str) -> String {
    utf8_percent_encode(id, SEGMENT).to_string()
}

/// The response, if it is 2xx. Errors: `AskError::Refused` with what the response says.
pub(super) async fn accepted(response: Response) -> Result<Response, AskError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = read(response, MAX_BODY).await.map_err(AskError::Unreachable)?;
    Err(AskError::Refused(Box::new(Answer::decode(status.as_u16(), retry_after.as_deref(), None, &body))))
}

impl Client {
    /// Asks `route` (such as `events/evt_1/replay`; its parts percent-encoded where they come from outside), with this query
    /// and, unless it is null, this body. `what` names what is expected, for the error.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        route: &str,
        query: &[(&str, &str)],
        body: &Value,
        what: &'static str,
    ) -> Result<T, AskError> {
        let response = self.request(method, route, query, body).send().await;
        let response = response.map_err(|error| AskError::Unreachable(cause(&error)))?;
        let response = accepted(response).await?;
        let body = read(response, MAX_BODY).await.map_err(AskError::Unreachable)?;
        // A deletion may answer with nothing at all.
        let body = if body.is_empty() { b"null".to_vec() } else { body };
        serde_json::from_slice(&body).map_err(|_| AskError::Unreadable(what))
    }

    /// A request that proves who calls. Its bytes are signed as they are sent.
    pub(super) fn request(
        &self,
        method: Method,
        route: &str,
        query: &[(&str, &str)],
        body: &Value,
    ) -> reqwest::RequestBuilder {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut request = self.http.request(method, self.url(route)).query(query);
        for (name, value) in self.credentials.headers(&bytes, unix_secs()) {
            request = request.header(name, value);
        }
        if bytes.is_empty() { request } else { request.header(CONTENT_TYPE, "application/json").body(bytes) }
    }
}
