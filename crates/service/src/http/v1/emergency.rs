//! The emergency go-on: named waves go on for hours although a halt stands.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::ReasonBody;
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller};
use crate::operations::emergency::{self, EmergencyView, NewEmergency};
use crate::operations::token::Permission;

/// List the emergencies of a rollout, the newest first.
#[utoipa::path(get, path = "/v1/rollouts/{id}/emergencies", tag = "emergency", params(("id" = String, Path)), responses((status = 200, body = Vec<EmergencyView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<Vec<EmergencyView>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(emergency::list(&app, &id).await?))
}

/// Ask that named waves go on although a halt stands. A custodian of another group must confirm it.
#[utoipa::path(post, path = "/v1/rollouts/{id}/emergencies", tag = "emergency", params(("id" = String, Path)), request_body = NewEmergency, responses((status = 201, body = EmergencyView)))]
pub(in crate::http) async fn ask(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<NewEmergency>,
) -> Result<(StatusCode, Json<EmergencyView>), Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let asked = emergency::ask(&app, &actor, &id, &body).await?;
    Ok((StatusCode::CREATED, Json(asked)))
}

/// Show one emergency.
#[utoipa::path(get, path = "/v1/emergencies/{id}", tag = "emergency", params(("id" = String, Path)), responses((status = 200, body = EmergencyView)))]
pub(in crate::http) async fn get(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<EmergencyView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(emergency::get(&app, &id).await?))
}

/// Confirm an emergency: its waves go on from now, until its time is over or somebody says stop.
#[utoipa::path(post, path = "/v1/emergencies/{id}/confirm", tag = "emergency", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = EmergencyView)))]
pub(in crate::http) async fn confirm(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> Result<Json<EmergencyView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    Ok(Json(
        emergency::confirm(&app, &actor, &id, &body.reason).await?,
    ))
}

/// End an emergency before its time, or take the question back. One custodian is enough.
#[utoipa::path(post, path = "/v1/emergencies/{id}/end", tag = "emergency", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = EmergencyView)))]
pub(in crate::http) async fn end(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> Result<Json<EmergencyView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    Ok(Json(emergency::end(&app, &actor, &id, &body.reason).await?))
}

/// Look back at an emergency: somebody who was none of its custodians, before there can be another one.
#[utoipa::path(post, path = "/v1/emergencies/{id}/review", tag = "emergency", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = EmergencyView)))]
pub(in crate::http) async fn review(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> Result<Json<EmergencyView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    Ok(Json(
        emergency::review(&app, &actor, &id, &body.reason).await?,
    ))
}
