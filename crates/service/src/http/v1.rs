//! Version 1 of the API: one file per resource, one short handler per call.

pub(super) mod audit;
pub(super) mod drift;
pub(super) mod emergency;
pub(super) mod endpoint;
pub(super) mod exposure;
pub(super) mod hold;
pub(super) mod policy;
pub(super) mod population;
pub(super) mod release;
pub(super) mod revert;
pub(super) mod rollout;
pub(super) mod signal;
pub(super) mod source;
pub(super) mod target;
pub(super) mod token;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::Generation;

/// How many items a page has unless somebody says otherwise.
const PAGE: usize = 100;
/// How many items a page has at most.
const PAGE_MAX: usize = 1000;

/// Where a list goes on, and how much of it.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// The `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
    /// How many items, up to 1,000.
    pub(super) limit: Option<usize>,
}

impl PageQuery {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }
}

/// Why somebody does something.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    /// Why; it goes into the audit trail.
    pub(super) reason: String,
}

/// An answer with the generation of what it shows.
type Tagged<T> = (StatusCode, [(HeaderName, HeaderValue); 1], Json<T>);

fn tagged<T>(status: StatusCode, generation: Generation, value: T) -> Tagged<T> {
    let tag = HeaderValue::from_str(&format!("\"{generation}\""))
        .unwrap_or(HeaderValue::from_static("\"0\""));
    (status, [(header::ETAG, tag)], Json(value))
}
