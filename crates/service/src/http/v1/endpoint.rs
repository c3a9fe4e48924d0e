//! Endpoints: who is told what happens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller};
use crate::operations::endpoint::{self, EndpointConfig, EndpointTried, EndpointView};
use crate::operations::token::Permission;

/// An endpoint to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewEndpoint {
    /// Its name.
    name: String,
    /// Where it is told: https, at a host that the service was started with.
    url: String,
    /// Keys by reference, and types.
    config: EndpointConfig,
}

/// List every endpoint, and how telling it goes.
#[utoipa::path(get, path = "/v1/endpoints", tag = "endpoints", responses((status = 200, body = Vec<EndpointView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<EndpointView>>, Problem> {
    // Addresses are what the trail shows, too; of some of them nobody else should know.
    caller.may(Permission::ReadAudit)?;
    Ok(Json(endpoint::list(&app).await?))
}

/// Create an endpoint: it is told what happens from now on.
#[utoipa::path(post, path = "/v1/endpoints", tag = "endpoints", request_body = NewEndpoint, responses((status = 201, body = EndpointView)))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewEndpoint>,
) -> Result<(StatusCode, Json<EndpointView>), Problem> {
    let actor = caller.may(Permission::Policy)?;
    let view = endpoint::create(&app, &actor, (&new.name, &new.url), &new.config).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Take an endpoint out of use: it is told nothing more.
#[utoipa::path(post, path = "/v1/endpoints/{name}/revoke", tag = "endpoints", params(("name" = String, Path)), responses((status = 200, body = EndpointView)))]
pub(in crate::http) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<EndpointView>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(endpoint::revoke(&app, &actor, &name).await?))
}

/// Let an endpoint that is dead or gone be told again, from exactly where it was.
#[utoipa::path(post, path = "/v1/endpoints/{name}/revive", tag = "endpoints", params(("name" = String, Path)), responses((status = 200, body = EndpointView)))]
pub(in crate::http) async fn revive(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<EndpointView>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(endpoint::revive(&app, &actor, &name).await?))
}

/// Which event to leave out.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct SkipBody {
    /// The id of the event that the endpoint is stuck at (`stuck_at`).
    event: String,
    /// Why; it goes into the audit trail.
    reason: String,
}

/// Leave out the event that an endpoint does not take, so that it is told what comes after it.
#[utoipa::path(post, path = "/v1/endpoints/{name}/skip", tag = "endpoints", params(("name" = String, Path)), request_body = SkipBody, responses((status = 200, body = EndpointView)))]
pub(in crate::http) async fn skip(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
    Body(body): Body<SkipBody>,
) -> Result<Json<EndpointView>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    let what = (body.event.as_str(), body.reason.as_str());
    Ok(Json(endpoint::skip(&app, &actor, &name, what).await?))
}

/// Send an endpoint an event that says nothing, and show what it answered.
#[utoipa::path(post, path = "/v1/endpoints/{name}/test", tag = "endpoints", params(("name" = String, Path)), responses((status = 200, body = EndpointTried)))]
pub(in crate::http) async fn test(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<EndpointTried>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(endpoint::test(&app, &actor, &name).await?))
}
