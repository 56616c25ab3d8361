//! How many requests there are, how long each takes, and how many connections.
//!
//! A request is counted by its route, as in `/streams/{stream}/submit`, and not by its path: there are as many paths as callers like.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use metrics::{describe_counter, describe_gauge, describe_histogram, histogram};

/// Says what is measured. Once for each frame, which does no harm.
pub(super) fn describe() {
    describe_histogram!(
        "synddb_http_request_seconds",
        "Time from the head of a request to the head of its answer, by route, method and status."
    );
    describe_counter!(
        "synddb_http_connections_closed_for_others_total",
        "Idle connections that were closed to make room for who came."
    );
    describe_counter!(
        "synddb_http_handshakes_failed_total",
        "TLS handshakes whose client spoke something else, was not accepted, or took too long."
    );
    describe_gauge!(
        "synddb_service_file_refused",
        "1 while a file of credentials or certificates cannot be used, and what was read before is."
    );
}

/// Measures a request. What no route takes is one route.
pub(super) async fn measured(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = method(request.method());
    let began = Instant::now();
    let answer = next.run(request).await;
    let code = answer.status().as_str().to_owned();
    let seconds = began.elapsed().as_secs_f64();
    histogram!("synddb_http_request_seconds", "route" => route, "method" => method, "code" => code)
        .record(seconds);
    answer
}

/// Callers may make methods up.
const fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "other",
    }
}
