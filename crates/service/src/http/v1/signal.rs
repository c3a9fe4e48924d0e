//! Signals.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use super::PageQuery;
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Caller, Query, RawBody};
use crate::operations::Page;
use crate::operations::policy::replaying::{self, ExplainView};
use crate::operations::signal::{self, Admitted, SignalView};
use crate::operations::source::config::PayloadKind;
use crate::operations::token::Permission;

/// List signals, the newest first.
#[utoipa::path(get, path = "/v1/signals", tag = "signals", params(PageQuery), responses((status = 200, body = Page<SignalView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<SignalView>>, Problem> {
    caller.may(Permission::Read)?;
    let page = signal::list(&app, page.cursor.as_deref(), page.limit()).await?;
    Ok(Json(page))
}

/// How a signal is written.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct FormatQuery {
    /// `report` (our own fields), `ocsf` (a finding, or a list of them) or `cloudevent` (structured mode); a report unless said.
    #[serde(default)]
    format: PayloadKind,
}

/// Send a signal. It is durable when this answers, and judged at once.
///
/// The body is a report: `kind`, `severity`, `vendor`, `products`, `subject`, `title`, `id` and more, see docs/POLICIES.md.
/// The same `id` again counts once.
#[utoipa::path(post, path = "/v1/signals", tag = "signals", params(FormatQuery), request_body = Object, responses((status = 202, body = Admitted)))]
pub(in crate::http) async fn send(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<FormatQuery>,
    body: RawBody,
) -> Result<(StatusCode, Json<Admitted>), Problem> {
    let actor = caller.may(Permission::Report)?;
    let admitted = signal::send(&app, &actor, query.format, &body.0).await?;
    Ok((StatusCode::ACCEPTED, Json(admitted)))
}

/// At which target.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct TargetQuery {
    /// Its name; every one unless said.
    target: Option<String>,
}

/// Explain what every rule of the active set says of a signal at every target: each test with what it saw.
#[utoipa::path(get, path = "/v1/signals/{id}/explain", tag = "signals", params(("id" = String, Path), TargetQuery), responses((status = 200, body = ExplainView)))]
pub(in crate::http) async fn explain(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Query(query): Query<TargetQuery>,
) -> Result<Json<ExplainView>, Problem> {
    caller.may(Permission::Read)?;
    let view = replaying::explain(&app, &id, query.target.as_deref()).await?;
    Ok(Json(view))
}
