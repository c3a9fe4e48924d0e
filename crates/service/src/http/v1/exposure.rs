//! Who was exposed: the blast radius of an interval, in numbers and by name.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tidegate_orchestrator::ledger::exposure::{ExposureClass, UnknownClass};

use super::PageQuery;
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Caller, Query};
use crate::operations::Page;
use crate::operations::exposure::view::{ExposedPerson, ExposureView};
use crate::operations::exposure::{Asked, list};
use crate::operations::token::Permission;

/// Which interval, and what to count by.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ExposureQuery {
    /// The first instant, or day (UTC); the creation of the rollout when missing.
    from: Option<String>,
    /// The last instant, or day (UTC); now when missing, and never later.
    to: Option<String>,
    /// Answer as of this entry of the audit trail; its end when missing.
    seq: Option<i64>,
    /// Attributes to count by, with commas; country and department when missing.
    by: Option<String>,
}

/// Say who was moved, on the way or untouched between two instants.
#[utoipa::path(get, path = "/v1/rollouts/{id}/exposure", tag = "rollouts", params(("id" = String, Path), ExposureQuery), responses((status = 200, body = ExposureView)))]
pub(in crate::http) async fn exposure(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Query(query): Query<ExposureQuery>,
) -> Result<Json<ExposureView>, Problem> {
    caller.may(Permission::Read)?;
    let asked = Asked {
        from: query.from,
        to: query.to,
        seq: query.seq,
    };
    Ok(Json(
        list::report(&app, &id, &asked, query.by.as_deref()).await?,
    ))
}

/// Which interval, and whom to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ExposedQuery {
    /// The first instant, or day (UTC); the creation of the rollout when missing.
    from: Option<String>,
    /// The last instant, or day (UTC); now when missing, and never later.
    to: Option<String>,
    /// Answer as of this entry of the audit trail; its end when missing.
    seq: Option<i64>,
    /// Only people of this class; everybody when missing.
    class: Option<String>,
    /// `json`, page by page, or `csv`, everybody at once; as `Accept` says when missing.
    format: Option<String>,
    /// The `next_cursor` of the page before; it names interval and entry.
    cursor: Option<String>,
    /// How many, up to 1,000.
    limit: Option<usize>,
}

/// List who was moved, on the way or untouched between two instants.
#[utoipa::path(get, path = "/v1/rollouts/{id}/exposure/people", tag = "rollouts", params(("id" = String, Path), ExposedQuery), responses((status = 200, body = Page<ExposedPerson>)))]
pub(in crate::http) async fn exposure_people(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    headers: HeaderMap,
    Query(query): Query<ExposedQuery>,
) -> Result<Response, Problem> {
    caller.may(Permission::Read)?;
    let refused =
        |code: &str, sentence: String| Problem::new(StatusCode::BAD_REQUEST, code, sentence);
    let class = query.class.as_deref().map(str::parse::<ExposureClass>);
    let class = class
        .transpose()
        .map_err(|error: UnknownClass| refused("class_unknown", error.to_string()))?;
    let asked = Asked {
        from: query.from,
        to: query.to,
        seq: query.seq,
    };
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let wants_csv = match query.format.as_deref() {
        Some("csv") => true,
        Some("json") => false,
        None => accepted.is_some_and(|accepted| accepted.contains("text/csv")),
        Some(other) => {
            let sentence = format!("`format` is json or csv, and not `{other}`");
            return Err(refused("query_invalid", sentence));
        }
    };
    if wants_csv {
        let lines = list::csv(&app, &id, &asked, class).await?;
        let kind = [(header::CONTENT_TYPE, "text/csv; charset=utf-8")];
        return Ok((kind, Body::from_stream(lines)).into_response());
    }
    let page = PageQuery {
        cursor: query.cursor,
        limit: query.limit,
    };
    let (limit, cursor) = (page.limit(), page.cursor.as_deref());
    let found = list::page(&app, &id, &asked, (class, cursor), limit).await?;
    Ok(Json(found).into_response())
}
