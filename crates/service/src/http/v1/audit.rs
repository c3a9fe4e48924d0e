//! The audit trail, and the check of everything.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{Caller, Query};
use crate::operations::audit::{self, AuditView};
use crate::operations::token::Permission;
use crate::operations::view::FsckView;
use crate::operations::{Page, fsck as checks};

/// Which entries to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct AuditQuery {
    /// Only entries after this one.
    after: Option<i64>,
    /// Only so many entries at the end.
    last: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many, up to 1,000.
    limit: Option<usize>,
}

/// List the audit trail, oldest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery), responses((status = 200, body = Page<AuditView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditView>>, Problem> {
    caller.may(Permission::ReadAudit)?;
    let cursor = query
        .cursor
        .as_deref()
        .map(str::parse::<i64>)
        .transpose()
        .map_err(|_| {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "cursor_invalid",
                "the cursor is not one of ours",
            )
        })?;
    let after = match (cursor.or(query.after), query.last) {
        (Some(_), Some(_)) if cursor.is_none() => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "query_invalid",
                "`after` says where to begin and `last` how far from the end: give one of them",
            ));
        }
        (Some(after), _) => after,
        (None, Some(last)) => audit::last(&app).await?.saturating_sub(last.max(0)),
        (None, None) => 0,
    };
    Ok(Json(
        audit::list(&app, after, query.limit.unwrap_or(100).clamp(1, 1000)).await?,
    ))
}

/// Add everything up again from the bytes, person by person.
#[utoipa::path(get, path = "/v1/fsck", tag = "audit", responses((status = 200, body = FsckView)))]
pub(in crate::http) async fn fsck(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<FsckView>, Problem> {
    caller.may(Permission::ReadAudit)?;
    Ok(Json(checks::check(&app).await?))
}
