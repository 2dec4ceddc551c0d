//! A request to any route but `/send`: prove the caller, read it, and answer with what the route makes of it.

use axum::body::{Bytes, to_bytes};
use axum::extract::{Query, Request};
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::Trace;
use super::error::Refusal;
use super::{BODY_LIMIT_BYTES, Shared};

/// A request of a caller who is known.
pub struct Asked {
    head: Parts,
    body: Bytes,
}

impl Asked {
    /// The query; what `T` does not name is passed over. Errors: 1002.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let query = Query::try_from_uri(&self.head.uri);
        query.map(|Query(query)| query).map_err(|_| Refusal::new(1002).because("The query cannot be read."))
    }

    /// The body. Errors: 1004 if it is not JSON, 1002 if it is not a `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let value: serde_json::Value = serde_json::from_slice(&self.body).map_err(|_| Refusal::new(1004))?;
        serde_json::from_value(value).map_err(|_| Refusal::new(1002))
    }
}

/// Admits the caller, and answers 200 with what `act` returns, or with its refusal in the nested shape.
pub async fn answer<T: Serialize>(
    shared: &Shared,
    request: Request,
    act: impl FnOnce(&Asked) -> Result<T, Refusal>,
) -> Response {
    let done = admit(shared, request).await.and_then(|asked| act(&asked));
    tell(shared, &Trace::random(), done)
}

/// Counts the request and proves its caller. Errors: 1002 with 413, 2xxx, 1007.
pub async fn admit(shared: &Shared, request: Request) -> Result<Asked, Refusal> {
    shared.state().calls.requests += 1;
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT_BYTES).await.map_err(|_| Refusal::oversized())?;
    shared.admit(shared.clock.stamp(), &head.headers, &body)?;
    Ok(Asked { head, body })
}

/// The answer; a refusal is counted.
pub fn tell<T: Serialize>(shared: &Shared, trace: &Trace, done: Result<T, Refusal>) -> Response {
    match done {
        Ok(body) => trace.json(200, &body),
        Err(refusal) => {
            shared.state().calls.refused(refusal.code);
            refusal.response(false, trace)
        }
    }
}
