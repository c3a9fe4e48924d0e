//! Rollouts: specs, plans, starts and stops, waves and people.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tidegate_orchestrator::hold::HoldKind;

use super::{PageQuery, ReasonBody, Tagged, tagged};
use crate::app::App;
use crate::http::error::Problem;
use crate::http::extract::{At, Body, Caller, IfMatch, Query, SpecBody};
use crate::operations::people::{self, PeopleFilter};
use crate::operations::token::Permission;
use crate::operations::view::{
    MemberItem, PersonView, PlanView, ReportView, RolloutView, WaveView,
};
use crate::operations::{Page, plan as plans, revert, rollout, slots, status};

type View = Result<Tagged<RolloutView>, Problem>;

fn ok(view: RolloutView) -> Tagged<RolloutView> {
    tagged(StatusCode::OK, view.generation, view)
}

/// List rollouts.
#[utoipa::path(get, path = "/v1/rollouts", tag = "rollouts", params(PageQuery), responses((status = 200, body = Page<RolloutView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<RolloutView>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(
        rollout::list(&app, page.cursor.as_deref(), page.limit()).await?,
    ))
}

/// Create a rollout out of a spec: the body is the spec, in YAML, JSON or TOML.
#[utoipa::path(post, path = "/v1/rollouts", tag = "rollouts", request_body(content = String, content_type = "application/yaml"), responses((status = 201, body = RolloutView)))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    spec: SpecBody,
) -> View {
    let actor = caller.may(Permission::Manage)?;
    let view = rollout::create(&app, &actor, &spec.text, spec.format).await?;
    Ok(tagged(StatusCode::CREATED, view.generation, view))
}

/// Show how a rollout stands.
#[utoipa::path(get, path = "/v1/rollouts/{id}", tag = "rollouts", params(("id" = String, Path)), responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn show(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> View {
    caller.may(Permission::Read)?;
    Ok(ok(rollout::get(&app, &id).await?))
}

/// Replace the spec of a rollout that has not started.
#[utoipa::path(put, path = "/v1/rollouts/{id}", tag = "rollouts", params(("id" = String, Path)), request_body(content = String, content_type = "application/yaml"), responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn revise(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    spec: SpecBody,
) -> View {
    let actor = caller.may(Permission::Manage)?;
    Ok(ok(rollout::revise(
        &app,
        &actor,
        &id,
        seen.required()?,
        &spec.text,
        spec.format,
    )
    .await?))
}

/// Nothing is taken in the body of this call.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Nothing {}

/// Make a plan; nothing starts.
#[utoipa::path(post, path = "/v1/rollouts/{id}/plan", tag = "rollouts", params(("id" = String, Path)), request_body = Nothing, responses((status = 200, body = PlanView)))]
pub(in crate::http) async fn plan(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<PlanView>, Problem> {
    let actor = caller.may(Permission::Manage)?;
    Ok(Json(plans::make(&app, &actor, &id).await?))
}

/// Which plan to start.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct StartBody {
    /// The digest of the plan that was looked at.
    digest: String,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// Start exactly the plan that was looked at.
#[utoipa::path(post, path = "/v1/rollouts/{id}/start", tag = "rollouts", params(("id" = String, Path)), request_body = StartBody, responses((status = 202, body = RolloutView)))]
pub(in crate::http) async fn start(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<StartBody>,
) -> View {
    // Whoever may ask for a revert may start it, once enough others have said yes.
    let permission = if revert::is_one(&app, &id).await? {
        Permission::TakeBack
    } else {
        Permission::Manage
    };
    let actor = caller.may(permission)?;
    if let Some(reason) = &body.reason {
        crate::operations::hold::check_reason(reason)?;
    }
    let view = rollout::start(&app, &actor, &id, seen.0, &body.digest).await?;
    Ok(tagged(StatusCode::ACCEPTED, view.generation, view))
}

/// Show what the planner sees, line by line.
#[utoipa::path(get, path = "/v1/rollouts/{id}/report", tag = "rollouts", params(("id" = String, Path)), responses((status = 200, body = ReportView)))]
pub(in crate::http) async fn report(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
) -> Result<Json<ReportView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(status::report(&app, &id).await?))
}

/// Pause a rollout.
#[utoipa::path(post, path = "/v1/rollouts/{id}/pause", tag = "rollouts", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn pause(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> View {
    let actor = caller.may(Permission::Pause)?;
    Ok(ok(rollout::stop(
        &app,
        &actor,
        &id,
        HoldKind::Pause,
        &body.reason,
    )
    .await?))
}

/// Let go of the pauses of a rollout; halts stay.
#[utoipa::path(post, path = "/v1/rollouts/{id}/resume", tag = "rollouts", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn resume(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<ReasonBody>,
) -> View {
    let actor = caller.may(Permission::Pause)?;
    Ok(ok(
        rollout::resume(&app, &actor, &id, seen.0, &body.reason).await?
    ))
}

/// Halt a rollout: one call, in any state.
#[utoipa::path(post, path = "/v1/rollouts/{id}/halt", tag = "rollouts", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn halt(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Body(body): Body<ReasonBody>,
) -> View {
    let actor = caller.may(Permission::Halt)?;
    Ok(ok(rollout::stop(
        &app,
        &actor,
        &id,
        HoldKind::Halt,
        &body.reason,
    )
    .await?))
}

/// End a rollout for good; whoever has been moved stays moved.
#[utoipa::path(post, path = "/v1/rollouts/{id}/cancel", tag = "rollouts", params(("id" = String, Path)), request_body = ReasonBody, responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<ReasonBody>,
) -> View {
    let actor = caller.may(Permission::Manage)?;
    Ok(ok(
        rollout::cancel(&app, &actor, &id, seen.0, &body.reason).await?
    ))
}

/// Who is tried again, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RetryBody {
    /// Why.
    reason: String,
    /// Only this wave; every wave that has been open and not passed when missing.
    #[serde(default)]
    wave: Option<u32>,
}

/// Try the failed people again.
#[utoipa::path(post, path = "/v1/rollouts/{id}/retry", tag = "rollouts", params(("id" = String, Path)), request_body = RetryBody, responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn retry(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    seen: IfMatch,
    Body(body): Body<RetryBody>,
) -> View {
    let actor = caller.may(Permission::Manage)?;
    Ok(ok(rollout::retry(
        &app,
        &actor,
        &id,
        seen.0,
        body.wave,
        &body.reason,
    )
    .await?))
}

/// Show one wave.
#[utoipa::path(get, path = "/v1/rollouts/{id}/waves/{wave}", tag = "rollouts", params(("id" = String, Path), ("wave" = u32, Path)), responses((status = 200, body = WaveView)))]
pub(in crate::http) async fn wave(
    State(app): State<App>,
    caller: Caller,
    At((id, wave)): At<(String, u32)>,
) -> Result<Json<WaveView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(status::one_wave(&app, &id, wave).await?))
}

/// What is approved, and why.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ApproveBody {
    /// The digest of the plan that runs.
    digest: String,
    /// Why.
    reason: String,
}

/// Say yes to what a wave has shown.
#[utoipa::path(post, path = "/v1/rollouts/{id}/waves/{wave}/approve", tag = "rollouts", params(("id" = String, Path), ("wave" = u32, Path)), request_body = ApproveBody, responses((status = 200, body = RolloutView)))]
pub(in crate::http) async fn approve(
    State(app): State<App>,
    caller: Caller,
    At((id, wave)): At<(String, u32)>,
    seen: IfMatch,
    Body(body): Body<ApproveBody>,
) -> View {
    let actor = caller.may(Permission::Approve)?;
    Ok(ok(rollout::approve(
        &app,
        &actor,
        &id,
        seen.0,
        wave,
        (&body.digest, &body.reason),
    )
    .await?))
}

/// Which people to list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct MembersQuery {
    /// Only those in this state.
    state: Option<String>,
    /// Only those of this wave.
    wave: Option<u32>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many, up to 1,000.
    limit: Option<usize>,
}

/// List the people of a rollout.
#[utoipa::path(get, path = "/v1/rollouts/{id}/members", tag = "rollouts", params(("id" = String, Path), MembersQuery), responses((status = 200, body = Page<MemberItem>)))]
pub(in crate::http) async fn members(
    State(app): State<App>,
    caller: Caller,
    At(id): At<String>,
    Query(query): Query<MembersQuery>,
) -> Result<Json<Page<MemberItem>>, Problem> {
    caller.may(Permission::Read)?;
    let state = query.state.as_deref().map(str::parse).transpose().map_err(
        |error: tidegate_orchestrator::ledger::state::UnknownState| {
            Problem::new(StatusCode::BAD_REQUEST, "state_unknown", error.to_string())
        },
    )?;
    let page = PageQuery {
        cursor: query.cursor,
        limit: query.limit,
    };
    let limit = page.limit();
    let filter = PeopleFilter {
        state,
        wave: query.wave,
        cursor: page.cursor,
    };
    Ok(Json(people::list(&app, &id, &filter, limit).await?))
}

/// Show where one person stands, and why.
#[utoipa::path(get, path = "/v1/rollouts/{id}/members/{key}", tag = "rollouts", params(("id" = String, Path), ("key" = String, Path)), responses((status = 200, body = PersonView)))]
pub(in crate::http) async fn member(
    State(app): State<App>,
    caller: Caller,
    At((id, key)): At<(String, String)>,
) -> Result<Json<PersonView>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(people::one(&app, &id, &key).await?))
}

/// Take back that somebody was moved: later evidence shows that they were not. Their wave is judged anew.
#[utoipa::path(post, path = "/v1/rollouts/{id}/members/{key}/disprove", tag = "rollouts", params(("id" = String, Path), ("key" = String, Path)), request_body = ReasonBody, responses((status = 200, body = PersonView)))]
pub(in crate::http) async fn disprove(
    State(app): State<App>,
    caller: Caller,
    At((id, key)): At<(String, String)>,
    Body(body): Body<ReasonBody>,
) -> Result<Json<PersonView>, Problem> {
    let actor = caller.may(Permission::Manage)?;
    Ok(Json(
        slots::disprove(&app, &actor, &id, &key, &body.reason).await?,
    ))
}
