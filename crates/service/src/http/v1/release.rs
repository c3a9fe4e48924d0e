//! The release of a halt: requirements, preflight, request, approvals, veto.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_orchestrator::hold::requirement::Requirement;
use tidegate_orchestrator::hold::terms::Terms;
use tidegate_orchestrator::ids::Timestamp;

use super::{ReasonBody, Tagged, tagged};
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, IfMatch};
use crate::operations::release::{self, PreflightView, ReleaseView};
use crate::operations::requirement::{self, NewEvidence, NewRequirement, RequirementEdit};
use crate::operations::token::Permission;

/// List the requirements of a halt.
#[utoipa::path(get, path = "/v1/holds/{id}/requirements", tag = "release", params(("id" = String, Path)), responses((status = 200, body = Vec<Object>)))]
pub(in crate::http) async fn requirements(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<Vec<Requirement>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(requirement::list(&app, &id).await?))
}

/// Add a requirement to a halt.
#[utoipa::path(post, path = "/v1/holds/{id}/requirements", tag = "release", params(("id" = String, Path)), request_body = NewRequirement, responses((status = 201, body = Object)))]
pub(in crate::http) async fn require(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<NewRequirement>,
) -> Result<Tagged<Requirement>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let added = requirement::add(&app, &actor, &id, &body).await?;
    Ok(tagged(StatusCode::CREATED, added.generation, added))
}

/// Change a requirement.
#[utoipa::path(patch, path = "/v1/holds/{id}/requirements/{requirement}", tag = "release", params(("id" = String, Path), ("requirement" = String, Path)), request_body = RequirementEdit, responses((status = 200, body = Object)))]
pub(in crate::http) async fn requirement_edit(
    State(app): State<App>,
    caller: Caller,
    At((id, number)): At<(String, String)>,
    seen: IfMatch,
    Body(body): Body<RequirementEdit>,
) -> Result<Tagged<Requirement>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let changed = requirement::edit(&app, &actor, (&id, &number), seen.0, &body).await?;
    Ok(tagged(StatusCode::OK, changed.generation, changed))
}

/// Add evidence to a requirement.
#[utoipa::path(post, path = "/v1/holds/{id}/requirements/{requirement}/evidence", tag = "release", params(("id" = String, Path), ("requirement" = String, Path)), request_body = NewEvidence, responses((status = 200, body = Object)))]
pub(in crate::http) async fn evidence(
    State(app): State<App>,
    caller: Caller,
    At((id, number)): At<(String, String)>,
    Body(body): Body<NewEvidence>,
) -> Result<Tagged<Requirement>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let changed = requirement::attest(&app, &actor, (&id, &number), &body).await?;
    Ok(tagged(StatusCode::OK, changed.generation, changed))
}

/// Verify a requirement: somebody else than its owner, and than whoever attested its evidence.
#[utoipa::path(post, path = "/v1/holds/{id}/requirements/{requirement}/verify", tag = "release", params(("id" = String, Path), ("requirement" = String, Path)), request_body = ReasonBody, responses((status = 200, body = Object)))]
pub(in crate::http) async fn verify(
    State(app): State<App>,
    caller: Caller,
    At((id, number)): At<(String, String)>,
    Body(body): Body<ReasonBody>,
) -> Result<Tagged<Requirement>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let changed = requirement::verify(&app, &actor, (&id, &number), &body.reason).await?;
    Ok(tagged(StatusCode::OK, changed.generation, changed))
}

/// Why, and for how long, the release may go on without a requirement.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct WaiveBody {
    /// Why.
    reason: String,
    /// Until when.
    #[schema(value_type = String, format = DateTime)]
    expires: Timestamp,
}

/// Waive a requirement for a time: two people, never its owner.
#[utoipa::path(post, path = "/v1/holds/{id}/requirements/{requirement}/waive", tag = "release", params(("id" = String, Path), ("requirement" = String, Path)), request_body = WaiveBody, responses((status = 200, body = Object)))]
pub(in crate::http) async fn waive(
    State(app): State<App>,
    caller: Caller,
    At((id, number)): At<(String, String)>,
    Body(body): Body<WaiveBody>,
) -> Result<Tagged<Requirement>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let said = (body.reason.as_str(), body.expires);
    let changed = requirement::waive(&app, &actor, (&id, &number), said).await?;
    Ok(tagged(StatusCode::OK, changed.generation, changed))
}

/// Show the release terms of a halt.
#[utoipa::path(get, path = "/v1/holds/{id}/terms", tag = "release", params(("id" = String, Path)), responses((status = 200, body = Object)))]
pub(in crate::http) async fn terms(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<Terms>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(release::terms(&app, &id).await?))
}

/// Make the release terms of a halt stricter.
#[utoipa::path(put, path = "/v1/holds/{id}/terms", tag = "release", params(("id" = String, Path)), request_body = Object, responses((status = 200, body = Object)))]
pub(in crate::http) async fn terms_set(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<Terms>,
) -> Result<Json<Terms>, Problem> {
    let actor = caller.may(Permission::Halt)?;
    Ok(Json(release::terms_set(&app, &actor, &id, &body).await?))
}

/// Show what the release of a halt would meet now.
#[utoipa::path(get, path = "/v1/holds/{id}/preflight", tag = "release", params(("id" = String, Path)), responses((status = 200, body = PreflightView)))]
pub(in crate::http) async fn preflight_show(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<PreflightView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(release::preflight_show(&app, &id).await?))
}

/// Test the targets, measure the drift, and look at everything the release of a halt would meet.
#[utoipa::path(post, path = "/v1/holds/{id}/preflight", tag = "release", params(("id" = String, Path)), responses((status = 200, body = PreflightView)))]
pub(in crate::http) async fn preflight(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<PreflightView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    Ok(Json(release::preflight(&app, &actor, &id).await?))
}

/// Show where the release of a halt stands.
#[utoipa::path(get, path = "/v1/holds/{id}/approvals", tag = "release", params(("id" = String, Path)), responses((status = 200, body = ReleaseView)))]
pub(in crate::http) async fn approvals(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<ReleaseView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(release::show(&app, &id).await?))
}

/// Ask for the release of a halt, as everything stands now.
#[utoipa::path(post, path = "/v1/holds/{id}/release-request", tag = "release", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = ReleaseView)))]
pub(in crate::http) async fn request(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> Result<Json<ReleaseView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    Ok(Json(
        release::request(&app, &actor, &id, &body.reason).await?,
    ))
}

/// What is approved, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReleaseApproveBody {
    /// The digest of the request.
    digest: String,
    /// Why.
    reason: String,
}

/// Say yes to exactly the release that was asked for.
#[utoipa::path(post, path = "/v1/holds/{id}/approvals", tag = "release", params(("id" = String, Path)), request_body = ReleaseApproveBody, responses((status = 200, body = ReleaseView)))]
pub(in crate::http) async fn approve(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReleaseApproveBody>,
) -> Result<Json<ReleaseView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let said = (body.digest.as_str(), body.reason.as_str());
    Ok(Json(release::approve(&app, &actor, &id, said).await?))
}

/// Say no to a release that was asked for, or take it back.
#[utoipa::path(post, path = "/v1/holds/{id}/veto", tag = "release", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = ReleaseView)))]
pub(in crate::http) async fn veto(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> Result<Json<ReleaseView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    Ok(Json(release::veto(&app, &actor, &id, &body.reason).await?))
}
