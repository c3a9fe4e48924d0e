//! Targets.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{PageQuery, Tagged, tagged};
use crate::app::App;
use crate::connector::CheckReport;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, IfMatch, Query};
use crate::operations::Page;
use crate::operations::target::{self, TargetView};
use crate::operations::token::Permission;

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// A target to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewTarget {
    /// Its name.
    name: String,
    /// sandbox or scim.
    connector: String,
    /// The connector's settings; credentials by reference only.
    #[serde(default = "nothing")]
    #[schema(value_type = Object)]
    config: Value,
}

/// New settings of a target.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewConfig {
    /// sandbox or scim.
    connector: String,
    /// The connector's settings.
    #[schema(value_type = Object)]
    config: Value,
}

/// List targets.
#[utoipa::path(get, path = "/v1/targets", tag = "targets", params(PageQuery), responses((status = 200, body = Page<TargetView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TargetView>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(
        target::list(
            &app,
            page.cursor.as_deref().unwrap_or_default(),
            page.limit(),
        )
        .await?,
    ))
}

/// Whoever names a credential, or changes where one is sent, could have it sent to a server of their own.
fn needed(wanted: &Value, known: Option<&Value>) -> Permission {
    let names_one = |config: &Value| config.get("credential").is_some_and(|one| !one.is_null());
    if names_one(wanted) || known.is_some_and(names_one) {
        Permission::UseCredential
    } else {
        Permission::Manage
    }
}

/// Create a target; nothing is sent to it.
#[utoipa::path(post, path = "/v1/targets", tag = "targets", request_body = NewTarget, responses((status = 201, body = TargetView)))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NewTarget>,
) -> Result<Tagged<TargetView>, Problem> {
    let actor = caller.may(needed(&body.config, None))?;
    let view = target::create(&app, &actor, &body.name, &body.connector, &body.config).await?;
    Ok(tagged(StatusCode::CREATED, view.generation, view))
}

/// Show a target.
#[utoipa::path(get, path = "/v1/targets/{id}", tag = "targets", params(("id" = String, Path)), responses((status = 200, body = TargetView)))]
pub(in crate::http) async fn show(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Tagged<TargetView>, Problem> {
    caller.may(Permission::Read)?;
    let view = target::get(&app, &id).await?;
    Ok(tagged(StatusCode::OK, view.generation, view))
}

/// Change the settings of a target.
#[utoipa::path(put, path = "/v1/targets/{id}", tag = "targets", params(("id" = String, Path)), request_body = NewConfig, responses((status = 200, body = TargetView)))]
pub(in crate::http) async fn configure(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<NewConfig>,
) -> Result<Tagged<TargetView>, Problem> {
    // Asked before the target is looked up, so that nobody learns names by guessing.
    caller.may(Permission::Manage)?;
    let known = target::get(&app, &id).await?;
    let actor = caller.may(needed(&body.config, Some(&known.config)))?;
    let view = target::configure(
        &app,
        &actor,
        &id,
        seen.required()?,
        &body.connector,
        &body.config,
    )
    .await?;
    Ok(tagged(StatusCode::OK, view.generation, view))
}

/// Connect to a target and explain what was found.
#[utoipa::path(post, path = "/v1/targets/{id}/check", tag = "targets", params(("id" = String, Path)), responses((status = 200, body = CheckReport)))]
pub(in crate::http) async fn check(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<CheckReport>, Problem> {
    let actor = caller.may(Permission::Manage)?;
    Ok(Json(target::check(&app, &actor, &id).await?))
}
