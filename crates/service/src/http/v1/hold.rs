//! Holds.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::{Generation, Timestamp};

use super::{Tagged, tagged};
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, IfMatch, Query};
use crate::operations::hold::heads::{self, HoldPreview};
use crate::operations::hold::{self, NewHold, review as reviews};
use crate::operations::token::Permission;
use crate::operations::view::HoldView;
use crate::operations::{OperationError, Page, release};

/// The longest that `wait=quiesced` waits: a dead worker can no longer send by then.
const WAIT_MAX: Duration = Duration::from_secs(45);

/// Which holds to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct HoldsQuery {
    /// Only those in force.
    in_force: Option<bool>,
    /// Only those in force whose review is overdue.
    overdue: Option<bool>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many, up to 1,000.
    limit: Option<usize>,
}

/// List holds.
#[utoipa::path(get, path = "/v1/holds", tag = "holds", params(HoldsQuery), responses((status = 200, body = Page<HoldView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<HoldsQuery>,
) -> Result<Json<Page<HoldView>>, Problem> {
    caller.may(Permission::Read)?;
    let limit = query.limit.unwrap_or(100).clamp(1, 1000);
    Ok(Json(
        hold::list(
            &app,
            (
                query.in_force.unwrap_or(false),
                query.overdue.unwrap_or(false),
            ),
            query.cursor.as_deref(),
            limit,
        )
        .await?,
    ))
}

/// Whether to wait.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct WaitQuery {
    /// `quiesced`: answer only when nobody can send any more under it.
    wait: Option<String>,
    /// Place nothing, and say whom it would stop.
    dry_run: Option<bool>,
}

/// What placing a hold is answered with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(in crate::http) enum PlaceAnswer {
    /// The hold that is in force.
    Hold(Box<HoldView>),
    /// What would be.
    Preview(Box<HoldPreview>),
}

/// Place a hold: one call, no confirmation, in any state. With `dry_run=true` nothing is placed.
#[utoipa::path(post, path = "/v1/holds", tag = "holds", params(WaitQuery), request_body = NewHold, responses((status = 201, body = HoldView), (status = 200, body = PlaceAnswer, description = "the same hold was in force already; or, with `dry_run=true`, whom it would stop")))]
pub(in crate::http) async fn place(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<WaitQuery>,
    Body(body): Body<NewHold>,
) -> Result<Tagged<PlaceAnswer>, Problem> {
    let actor = caller.may(if body.kind == "halt" {
        Permission::Halt
    } else {
        Permission::Pause
    })?;
    if query.wait.as_deref().is_some_and(|wait| wait != "quiesced") {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "query_invalid",
            "`wait` can only be `quiesced`",
        ));
    }
    if query.dry_run.unwrap_or(false) {
        let preview = heads::preview(&app, &actor, &body).await?;
        let answer = PlaceAnswer::Preview(Box::new(preview));
        return Ok(tagged(StatusCode::OK, Generation(0), answer));
    }
    let placed = hold::place(&app, &actor, &body).await?;
    let mut view = placed.hold;
    let people = view.people.take();
    if query.wait.is_some() && !view.quiesced {
        hold::wait(&app, view.id, WAIT_MAX).await?;
        view = hold::get(&app, &view.id.to_string()).await?;
    }
    let status = if placed.is_new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let generation = view.generation;
    view.people = people;
    let answer = PlaceAnswer::Hold(Box::new(view));
    Ok(tagged(status, generation, answer))
}

/// What to show of a hold.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct HoldQuery {
    /// Whether to count its people, too; true unless said otherwise.
    people: Option<bool>,
}

/// Show a hold.
#[utoipa::path(get, path = "/v1/holds/{id}", tag = "holds", params(("id" = String, Path), HoldQuery), responses((status = 200, body = HoldView)))]
pub(in crate::http) async fn show(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Query(query): Query<HoldQuery>,
) -> Result<Tagged<HoldView>, Problem> {
    caller.may(Permission::Read)?;
    let view = match query.people.unwrap_or(true) {
        true => hold::get_counted(&app, &id).await?,
        false => hold::get(&app, &id).await?,
    };
    Ok(tagged(StatusCode::OK, view.generation, view))
}

/// That somebody has looked.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReviewBody {
    /// What was looked at, and why the hold stays.
    note: String,
    /// When somebody must look again, up to 366 days ahead; by default 30 days for a halt, 7 for a pause.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    next_review_at: Option<Timestamp>,
}

/// Review a hold: somebody has looked, and it stays until the next review. Its owner and any security lead may; of a pause managers, too.
#[utoipa::path(post, path = "/v1/holds/{id}/review", tag = "holds", params(("id" = String, Path)), request_body = ReviewBody, responses((status = 200, body = HoldView)))]
pub(in crate::http) async fn review(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<ReviewBody>,
) -> Result<Tagged<HoldView>, Problem> {
    // Which of them may is decided by the hold: its owner, or a seat.
    let actor = caller.may(Permission::ReleaseHalt)?;
    let said = (body.note.as_str(), body.next_review_at);
    let view = reviews::review(&app, &actor, (&id, seen.0), said).await?;
    Ok(tagged(StatusCode::OK, view.generation, view))
}

/// Who shall own a hold, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct OwnerBody {
    /// The name of a token that may take part in ending the hold.
    owner: String,
    /// Why; it goes into the audit trail.
    reason: String,
}

/// Hand a hold to another owner. Its owner, any security lead and an admin may.
#[utoipa::path(post, path = "/v1/holds/{id}/owner", tag = "holds", params(("id" = String, Path)), request_body = OwnerBody, responses((status = 200, body = HoldView)))]
pub(in crate::http) async fn owner(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<OwnerBody>,
) -> Result<Tagged<HoldView>, Problem> {
    let actor = caller.may(Permission::ReleaseHalt)?;
    let said = (body.owner.as_str(), body.reason.as_str());
    let view = reviews::hand_over(&app, &actor, (&id, seen.0), said).await?;
    Ok(tagged(StatusCode::OK, view.generation, view))
}

/// Why a hold is released, and for a halt exactly which release.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ReleaseBody {
    /// Why; it goes into the audit trail.
    reason: String,
    /// The digest that was approved; a halt needs it.
    #[serde(default)]
    digest: Option<String>,
}

/// Release a hold; others stay. A pause ends with this call, a halt when its release was asked for and approved.
#[utoipa::path(post, path = "/v1/holds/{id}/release", tag = "holds", params(("id" = String, Path)), request_body = ReleaseBody, responses((status = 200, body = HoldView)))]
pub(in crate::http) async fn release(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<ReleaseBody>,
) -> Result<Tagged<HoldView>, Problem> {
    // Asked before the hold is looked up, so that nobody learns ids by guessing.
    caller
        .may(Permission::Pause)
        .or_else(|_| caller.may(Permission::ReleaseHalt))?;
    let known = hold::get(&app, &id).await?;
    let is_halt = known.kind == "halt";
    let actor = caller.may(if is_halt {
        Permission::ReleaseHalt
    } else {
        Permission::Pause
    })?;
    if seen.0.is_some_and(|seen| seen != known.generation) {
        return Err(OperationError::Conflict { what: "hold" }.into());
    }
    let view = match body.digest.as_deref().filter(|_| is_halt) {
        Some(digest) => release::execute(&app, &actor, &id, (digest, &body.reason)).await?,
        None => hold::release(&app, &actor, &id, seen.0, &body.reason).await?,
    };
    Ok(tagged(StatusCode::OK, view.generation, view))
}
