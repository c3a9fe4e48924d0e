//! Sources of signals, and what they send.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, RawBody};
use crate::operations::signal::Admitted;
use crate::operations::source::poll::Polled;
use crate::operations::source::{self, Profile, SourceConfig, SourceView, poll, receive};
use crate::operations::token::Permission;

/// A source to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewSource {
    /// Its name.
    name: String,
    /// How what it sends is signed and written.
    profile: Profile,
    /// Keys by reference, vendor and products.
    config: SourceConfig,
}

/// List every source of signals.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", responses((status = 200, body = Vec<SourceView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<SourceView>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(source::list(&app).await?))
}

/// Create a source of signals.
#[utoipa::path(post, path = "/v1/sources", tag = "sources", request_body = NewSource, responses((status = 201, body = SourceView)))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewSource>,
) -> Result<(StatusCode, Json<SourceView>), Problem> {
    let actor = caller.may(Permission::Policy)?;
    let view = source::create(&app, &actor, &new.name, new.profile, &new.config).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Take a source out of use: what it sends from now on is refused.
#[utoipa::path(post, path = "/v1/sources/{name}/revoke", tag = "sources", params(("name" = String, Path)), responses((status = 200, body = SourceView)))]
pub(in crate::http) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<SourceView>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(source::revoke(&app, &actor, &name).await?))
}

/// Ask a source now that sends nothing by itself, and say what came. It is asked when it is due all the same.
#[utoipa::path(post, path = "/v1/sources/{name}/poll", tag = "sources", params(("name" = String, Path)), responses((status = 200, body = Polled)))]
pub(in crate::http) async fn ask(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<Polled>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(poll::ask(&app, &actor, &name).await?))
}

/// Report, signed as the source is set up. No token: the signature says who it is. Durable when this answers.
#[utoipa::path(post, path = "/v1/sources/{name}/events", tag = "sources", params(("name" = String, Path)), request_body = Object, responses((status = 202, body = Admitted)), security(()))]
pub(in crate::http) async fn receive(
    State(app): State<App>,
    At(name): At<String>,
    headers: HeaderMap,
    body: RawBody,
) -> Result<(StatusCode, Json<Admitted>), Problem> {
    let header = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    let admitted = receive::receive(&app, &name, header, &body.0).await?;
    Ok((StatusCode::ACCEPTED, Json(admitted)))
}
