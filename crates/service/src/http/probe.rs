//! The routes that every process has: whether it lives and can do its work, its metrics, its document, and what its problems mean.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use synddb_protocol::http::Reason;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Refusal;
use crate::telemetry::Metrics;

/// What the problems mean, and what to do: a section for each code.
const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");

/// Whether a process can do its work now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot, for this reason.
    NotReady(String),
}

/// Says whether the process can do its work.
pub type Probe = Arc<dyn Fn() -> Readiness + Send + Sync>;

/// What these handlers need.
#[derive(Clone)]
pub(super) struct Probed {
    pub(super) metrics: Metrics,
    pub(super) probe: Probe,
    /// The document of the process.
    pub(super) document: Bytes,
}

pub(super) fn probes() -> OpenApiRouter<Probed> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(exposition))
        .routes(routes!(openapi))
        .routes(routes!(problem))
}

crate::refusals! {
    /// Nothing but what any request can meet.
    OfAny:
}

crate::refusals! {
    /// Of a name that may be none.
    OfName: "not_found"
}

/// Whether the process runs
///
/// Says nothing of what it can do: see `/readyz`.
#[utoipa::path(
    get, path = "/livez", tag = "process", operation_id = "livez",
    responses((status = 200, description = "It runs.", body = String, content_type = "text/plain"), OfAny),
)]
async fn livez() -> &'static str {
    "alive\n"
}

/// Whether the process can do its work
///
/// 503 `unavailable` says in `detail` what stands in the way.
#[utoipa::path(
    get, path = "/readyz", tag = "process", operation_id = "readyz",
    responses((status = 200, description = "It can.", body = String, content_type = "text/plain"), OfAny),
)]
async fn readyz(State(probed): State<Probed>) -> Response {
    match (probed.probe)() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::NotReady(why) => Refusal::new(Reason::Unavailable, why).into_response(),
    }
}

/// Metrics
///
/// In the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "process", operation_id = "metrics",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain"), OfAny),
)]
async fn exposition(State(probed): State<Probed>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], probed.metrics.render()).into_response()
}

/// This document
///
/// What the process answers, as OpenAPI 3.1.
#[utoipa::path(
    get, path = "/openapi.json", tag = "process", operation_id = "openapi",
    responses((status = 200, description = "The document.", body = Object, content_type = "application/json"), OfAny),
)]
async fn openapi(State(probed): State<Probed>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], probed.document).into_response()
}

/// What a problem means
///
/// The `type` of a problem leads here: what its code means, who sees it, and what to do.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "process", operation_id = "problem",
    params(("code" = String, Path, description = "The code of a problem.", pattern = "^[a-z_]+$", example = "busy")),
    responses((status = 200, description = "The section of the runbook.", body = String, content_type = "text/markdown"), OfName),
)]
async fn problem(
    code: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Response, Refusal> {
    let nothing = || Refusal::new(Reason::NotFound, "no problem has this code");
    let Path(code) = code.map_err(|_| nothing())?;
    let section = section(&code).ok_or_else(nothing)?;
    Ok(([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], section).into_response())
}

/// What the runbook says of a code, from the heading on.
fn section(code: &str) -> Option<&'static str> {
    let is_code = Reason::CODES.contains(&code);
    let heading = format!("### `{code}`\n");
    let from = RUNBOOK.find(&heading).filter(|_| is_code)?;
    let section = &RUNBOOK[from..];
    let end = section.match_indices("\n##").map(|(at, _)| at + 1).next();
    Some(&section[..end.unwrap_or(section.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_its_section_and_every_section_its_problem() {
        let chapter = RUNBOOK.split("\n## ").find(|chapter| chapter.starts_with("Problems\n")).unwrap();
        let headings = chapter.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
        assert_eq!(headings.collect::<Vec<_>>(), Reason::CODES);
        for reason in Reason::of_each() {
            let text = section(reason.code()).unwrap();
            let status = format!("{}", reason.status());
            assert!(text.contains(&status), "{text}");
            for part in ["**Means:**", "**Seen by:**", "**Do:**", "**Shown by:**"] {
                assert!(text.contains(part), "{part} is missing: {text}");
            }
        }
        assert_eq!(section("nothing"), None);
    }
}
