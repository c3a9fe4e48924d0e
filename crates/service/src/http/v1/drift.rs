//! Drift: the people of a rollout beside those there are now.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;

use super::PageQuery;
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, Query};
use crate::operations::Page;
use crate::operations::drift::{self, DriftPerson, DriftView};
use crate::operations::token::Permission;

/// Show how the people of a rollout stand to the people there are now.
#[utoipa::path(get, path = "/v1/rollouts/{id}/drift", tag = "drift", params(("id" = String, Path)), responses((status = 200, body = DriftView)))]
pub(in crate::http) async fn show(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<DriftView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(drift::show(&app, &id).await?))
}

/// What to look for besides.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct MeasureBody {
    /// Who is said to have been moved by hand meanwhile: a condition as in a spec.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    by_hand: Option<Value>,
}

/// Measure the drift of a rollout: everybody of then beside everybody of now. Changes nobody.
#[utoipa::path(post, path = "/v1/rollouts/{id}/drift", tag = "drift", params(("id" = String, Path)), request_body = MeasureBody, responses((status = 200, body = DriftView)))]
pub(in crate::http) async fn measure(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<MeasureBody>,
) -> Result<Json<DriftView>, Problem> {
    let actor = caller.may(Permission::Pause)?;
    Ok(Json(
        drift::measure(&app, &actor, &id, body.by_hand.as_ref()).await?,
    ))
}

/// Whom to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ClassQuery {
    /// left, deprovision, joined, joined_outside, excluded, moved, catch_up, renamed, recycled, returned,
    /// by_hand or review.
    class: String,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many, up to 1,000.
    limit: Option<usize>,
}

/// List the people of one class of the newest measurement.
#[utoipa::path(get, path = "/v1/rollouts/{id}/drift/people", tag = "drift", params(("id" = String, Path), ClassQuery), responses((status = 200, body = Page<DriftPerson>)))]
pub(in crate::http) async fn people(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Query(query): Query<ClassQuery>,
) -> Result<Json<Page<DriftPerson>>, Problem> {
    caller.may(Permission::Read)?;
    let page = PageQuery {
        cursor: query.cursor,
        limit: query.limit,
    };
    let limit = page.limit();
    let found = drift::people(&app, &id, &query.class, page.cursor.as_deref(), limit).await?;
    Ok(Json(found))
}
