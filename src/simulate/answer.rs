//! How every answer of the API leaves: JSON, with a trace id that is also in `X-Trace-ID`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

/// The id of one request, 12 hex digits: `trace_id` in an error's body and `X-Trace-ID` of every answer.
pub struct Trace(String);

impl Trace {
    /// A new random id.
    pub fn random() -> Trace {
        Trace(format!("{:012x}", rand::random::<u64>() >> 16))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An answer with `body` as JSON.
    pub fn json(&self, http_status: u16, body: &impl Serialize) -> Response {
        let body = serde_json::to_vec(body).expect("plain data with text keys becomes JSON");
        self.bytes(http_status, "application/json", body)
    }

    /// An answer with `body` as it is. A status outside 100..1000 becomes 500.
    pub fn bytes(&self, http_status: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let trace_id = HeaderValue::from_str(&self.0).expect("hex digits fit a header");
        response.headers_mut().insert("x-trace-id", trace_id);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}
