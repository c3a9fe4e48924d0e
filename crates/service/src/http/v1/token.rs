//! API tokens.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::{PageQuery, ReasonBody};
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, Query};
use crate::operations::Page;
use crate::operations::token::{self, Permission, TokenView};

/// A token to make.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewToken {
    /// Whose it is.
    name: String,
    /// admin, manager, security, approver, auditor or `signal_source`.
    role: String,
    /// The person behind it, when that is not its name: two tokens of one person count once.
    #[serde(default)]
    person: Option<String>,
}

/// List tokens, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(PageQuery), responses((status = 200, body = Page<TokenView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TokenView>>, Problem> {
    caller.may(Permission::ManageTokens)?;
    Ok(Json(
        token::list(
            &app,
            page.cursor.as_deref().unwrap_or_default(),
            page.limit(),
        )
        .await?,
    ))
}

/// Make a token; its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewToken, responses((status = 201, body = TokenView)))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<NewToken>,
) -> Result<(StatusCode, Json<TokenView>), Problem> {
    let actor = caller.may(Permission::ManageTokens)?;
    Ok((
        StatusCode::CREATED,
        Json(
            token::create(
                &app,
                &actor,
                (&body.name, body.person.as_deref()),
                &body.role,
            )
            .await?,
        ),
    ))
}

/// Make a token worthless.
#[utoipa::path(post, path = "/v1/tokens/{id}/revoke", tag = "tokens", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = TokenView)))]
pub(in crate::http) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> Result<Json<TokenView>, Problem> {
    let actor = caller.may(Permission::ManageTokens)?;
    Ok(Json(token::revoke(&app, &actor, &id, &body.reason).await?))
}
