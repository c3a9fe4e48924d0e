//! Policy sets, and what rules know of targets.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, Query, SpecBody};
use crate::operations::policy::facts::{self, FactsView};
use crate::operations::policy::replaying::{self, ReplayRequest, ReplayView};
use crate::operations::policy::{self, PolicyView};
use crate::operations::token::Permission;

/// Which version.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct VersionQuery {
    /// Its number; the newest unless said.
    version: Option<i64>,
}

/// List every version of every policy set, the newest first.
#[utoipa::path(get, path = "/v1/policies", tag = "policies", responses((status = 200, body = Vec<PolicyView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<PolicyView>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(policy::list(&app).await?))
}

/// Propose a version of a policy set: read, checked and tested, and a draft until people say yes.
#[utoipa::path(post, path = "/v1/policies", tag = "policies", request_body(content = String, content_type = "application/yaml"), responses((status = 201, body = PolicyView)))]
pub(in crate::http) async fn propose(
    State(app): State<App>,
    caller: Caller,
    body: SpecBody,
) -> Result<(StatusCode, Json<PolicyView>), Problem> {
    let actor = caller.may(Permission::Policy)?;
    let view = policy::propose(&app, &actor, &body.text, body.format).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Show a version of a policy set.
#[utoipa::path(get, path = "/v1/policies/{name}", tag = "policies", params(("name" = String, Path), VersionQuery), responses((status = 200, body = PolicyView)))]
pub(in crate::http) async fn show(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
    Query(query): Query<VersionQuery>,
) -> Result<Json<PolicyView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(policy::get(&app, &name, query.version).await?))
}

/// Say yes to a draft; with the last yes that is needed it is active.
#[utoipa::path(post, path = "/v1/policies/{name}/versions/{version}/approve", tag = "policies", params(("name" = String, Path), ("version" = i64, Path)), responses((status = 200, body = PolicyView)))]
pub(in crate::http) async fn approve(
    State(app): State<App>,
    caller: Caller,
    At((name, version)): At<(String, i64)>,
) -> Result<Json<PolicyView>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(policy::approve(&app, &actor, &name, version).await?))
}

/// Show what rules know of a target.
#[utoipa::path(get, path = "/v1/targets/{id}/facts", tag = "policies", params(("id" = String, Path)), responses((status = 200, body = FactsView)))]
pub(in crate::http) async fn facts(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<FactsView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(facts::get(&app, &id).await?))
}

/// Say what rules know of a target: its vendor, products and tenant.
#[utoipa::path(put, path = "/v1/targets/{id}/facts", tag = "policies", params(("id" = String, Path)), request_body = FactsView, responses((status = 200, body = FactsView)))]
pub(in crate::http) async fn facts_set(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<FactsView>,
) -> Result<Json<FactsView>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(facts::set(&app, &actor, &id, &body).await?))
}

/// Say what a set would have done, over signals that are kept, and how that differs from the active set.
///
/// Nothing changes, and nobody who writes waits. What people placed and released is not played again.
#[utoipa::path(post, path = "/v1/policies/replay", tag = "policies", request_body = ReplayRequest, responses((status = 200, body = ReplayView)))]
pub(in crate::http) async fn replay(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<ReplayRequest>,
) -> Result<Json<ReplayView>, Problem> {
    // It costs time of the processor, so it is for whoever writes policies.
    caller.may(Permission::Policy)?;
    Ok(Json(replaying::replay(&app, &body).await?))
}

/// Return the JSON Schema of policy sets, for editors.
#[utoipa::path(get, path = "/v1/policies/schema", tag = "policies", responses((status = 200, body = Object)))]
pub(in crate::http) async fn schema(caller: Caller) -> Result<Json<Value>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(tidegate_policy::set::schema::schema()))
}
