//! Taking people back: ask, look, approve. It is started like any rollout.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller};
use crate::operations::revert::{self, RevertView, Wish};
use crate::operations::token::Permission;

/// Ask to take people of chosen waves back: makes a planned rollout of them, or only says who they would be.
#[utoipa::path(post, path = "/v1/rollouts/{id}/revert", tag = "reverts", params(("id" = String, Path)), request_body = Wish, responses((status = 201, body = RevertView), (status = 200, body = RevertView)))]
pub(in crate::http) async fn ask(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(wish): Body<Wish>,
) -> Result<(StatusCode, Json<RevertView>), Problem> {
    let actor = caller.may(Permission::TakeBack)?;
    let view = revert::ask(&app, &actor, &id, &wish).await?;
    let status = if wish.dry_run {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(view)))
}

/// Show a revert: who is taken back, who said yes, and what is missing.
#[utoipa::path(get, path = "/v1/rollouts/{id}/revert-approvals", tag = "reverts", params(("id" = String, Path)), responses((status = 200, body = RevertView)))]
pub(in crate::http) async fn show(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<RevertView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(revert::show(&app, &id).await?))
}

/// What is approved, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RevertApproveBody {
    /// The digest of the revert.
    digest: String,
    /// Why.
    reason: String,
}

/// Say yes to exactly one revert.
#[utoipa::path(post, path = "/v1/rollouts/{id}/revert-approvals", tag = "reverts", params(("id" = String, Path)), request_body = RevertApproveBody, responses((status = 200, body = RevertView)))]
pub(in crate::http) async fn approve(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<RevertApproveBody>,
) -> Result<Json<RevertView>, Problem> {
    let actor = caller.may(Permission::TakeBack)?;
    let said = (body.digest.as_str(), body.reason.as_str());
    Ok(Json(revert::approve(&app, &actor, &id, said).await?))
}
