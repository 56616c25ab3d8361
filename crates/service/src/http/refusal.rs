//! Refusals: RFC 9457 problems as responses.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use synddb_protocol::http::{Problem, Reason};

/// A problem on its way to the client.
#[derive(Debug, Clone)]
pub struct Refusal {
    problem: Box<Problem>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// The refusal for `reason`. `detail` names the values and the fix.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { problem: Box::new(Problem::new(reason, detail)), retry_after: None }
    }

    /// The same, with the time after which a retry may succeed, rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// What a client branches on.
    pub const fn reason(&self) -> &Reason {
        self.problem.reason()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let reason = self.problem.reason();
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let unauthorized = *reason == Reason::Unauthorized;
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(super::PROBLEM_JSON));
        if unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// When to try again where a queue or the memory is full.
pub const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The refusal where there is no room or no place in a queue.
pub fn busy() -> Refusal {
    Refusal::new(Reason::Busy, "too much waits already; try again").retry_after(BUSY_RETRY)
}
