//! Holds: place with one call and no confirmation, release one at a time, list.
//!
//! Placing is the small, separate path: no planning, no approval, one row, one epoch, one audit
//! record, whatever the size of what it covers. The permit of this process is withdrawn before the
//! call returns; other processes hear of the epoch at once, or by their next renewal. `quiescence` says
//! who has, `heads` counts whom it stops once it stands, `review` nags until somebody looks.

pub mod heads;
mod join;
mod matching;
pub mod part;
mod put;
mod quiescence;
mod resume;
pub mod review;
mod scope;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::hold::{
    Cause, Hold, HoldKind, HoldRefusal, MovedPeople, Place, Release, Scope, Wanted, moved,
    review as review_date,
};
use tidegate_orchestrator::ids::{Generation, HoldId, Principal, Timestamp};
use tidegate_orchestrator::quiesce::Quiescence;

use super::view::{HoldView, ReportedView, ScopeView};
use super::{Actor, OperationError, Page, restored};
pub(super) use join::whom;
pub use put::put;
pub(in crate::operations) use put::put_owned;
use put::{placement, put_seen, seen};
pub use quiescence::wait;
pub use resume::resume;

use crate::app::App;
use crate::store::hold::{self as rows, HoldRow, Listed};
use crate::store::{
    Lane, Stopping, StoreError, StoreTime, Txn, policy as policies, review as reviews,
    rollout as rollouts, transact,
};

/// The longest reason, in characters: a paragraph, not a document.
const REASON_CHARS_MAX: usize = 4000;

/// How long an answer needs at most to get out of this process. The planner looks by itself within a second.
const ANSWER_TIME: Duration = Duration::from_millis(1);

/// A hold somebody asks for.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHold {
    /// pause or halt; gates and freezes are placed by the planner.
    pub kind: String,
    /// What it covers.
    pub scope: ScopeView,
    /// Why.
    pub reason: String,
    /// keep, freeze or revert people already moved; keep unless said otherwise.
    #[serde(default)]
    pub effect: Option<String>,
    /// When somebody must look at it again.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub review_at: Option<Timestamp>,
}

/// A hold that is in force now, and whether this call placed it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The hold.
    pub hold: HoldView,
    /// Whether it was placed by this call; otherwise the actor was added to it.
    pub is_new: bool,
}

/// Says whether a reason says something.
///
/// # Errors
///
/// When it is empty or too long.
pub fn check_reason(reason: &str) -> Result<(), OperationError> {
    if reason.trim().is_empty() {
        return Err(OperationError::invalid(
            "reason_missing",
            "a reason is needed: it is what the next person will read",
        ));
    }
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err(OperationError::invalid(
            "reason_too_long",
            format!("a reason has at most {REASON_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

/// Places a hold, or adds the actor to the same hold that is in force already.
///
/// # Errors
///
/// When the reason is missing, the scope does not exist, or the store cannot be reached.
pub async fn place(app: &App, actor: &Actor, new: &NewHold) -> Result<Placed, OperationError> {
    check_reason(&new.reason)?;
    let before_others = app.store.stopping();
    let (wanted, mut notes) = wanted_of(app, actor, new).await?;
    let review_at = wanted.review_at;
    let counting = heads::ahead(app, wanted.scope);
    // Side by side, here and below: whoever halts waits for the answer.
    let (placed, covers) = tokio::join!(
        place_beside(app, actor, wanted.clone(), |now| {
            quiescence::ahead(app, wanted.scope, now)
        }),
        scope::covers(app, wanted.scope, wanted.part.is_some())
    );
    let (hold, new) = placed?;
    notes.extend(join::not_taken(&hold, review_at));
    let is_new = new.is_some();
    let told = is_new.then(|| counting.keep(hold.id));
    let view = match new {
        Some((time, looking)) => {
            // Whoever owns it is who asks.
            let gone = std::future::ready(Ok(false));
            let covers = std::future::ready(covers);
            show_judged(
                app,
                &hold,
                (quiescence::of_new(app, &hold, time, looking), gone, covers),
            )
            .await
        }
        None => show(app, &hold).await,
    };
    let mut view = view?;
    view.people = Some(match told {
        Some(told) => heads::of_placed(&hold, told).await,
        None => heads::of(app, &hold).await,
    });
    view.notes = notes;
    answer_first(app, before_others);
    Ok(Placed { hold: view, is_new })
}

/// Lets everybody go on, once the answer is under way: those who are woken need the same processors.
fn answer_first(app: &App, before_others: Stopping) {
    let app = app.clone();
    app.clone().background.spawn(async move {
        tokio::time::sleep(ANSWER_TIME).await;
        drop(before_others);
        app.wake.ring();
    });
}

/// Reads what somebody asks for, and finds what it names.
///
/// Beside it comes what of it was not taken as it was said: a stop is refused for as little as possible.
async fn wanted_of(
    app: &App,
    actor: &Actor,
    new: &NewHold,
) -> Result<(Wanted, Vec<String>), OperationError> {
    let kind = match HoldKind::from_name(&new.kind) {
        Some(kind @ (HoldKind::Pause | HoldKind::Halt)) => kind,
        _ => {
            return Err(OperationError::invalid(
                "kind_invalid",
                format!("`{}` is not pause or halt", new.kind),
            ));
        }
    };
    let effect = match &new.effect {
        None => MovedPeople::Keep,
        Some(name) => MovedPeople::from_name(name).ok_or_else(|| {
            OperationError::invalid(
                "effect_invalid",
                format!("`{name}` is not keep, freeze or revert"),
            )
        })?,
    };
    let scope = scope::scope_of(app, &new.scope).await?;
    let now = app.clock.now();
    let (review_at, said) = new
        .review_at
        .map_or((None, None), |at| review_date::named(at, now));
    let wanted = Wanted {
        kind,
        scope,
        part: scope::part_of(app, &new.scope, &scope).await?,
        cause: Cause::People {
            principals: vec![Principal::new(actor.principal.clone())],
        },
        reason: new.reason.clone(),
        effect,
        review_at,
    };
    Ok((wanted, said.into_iter().collect()))
}

/// Places a hold whose scope is known; says whether it is new. The caller has it counted then, and rings the bell:
/// the planner looks within a second all the same.
///
/// # Errors
///
/// When the store cannot be reached.
pub(super) async fn place_wanted(
    app: &App,
    actor: &Actor,
    wanted: Wanted,
) -> Result<(Hold, bool), OperationError> {
    let (hold, new) = place_beside(app, actor, wanted, |_| ()).await?;
    Ok((hold, new.is_some()))
}

/// The same, and has something begin beside it as soon as no claim can commit any more; of a hold that is new it
/// returns when that was, and what was begun.
async fn place_beside<T: Send>(
    app: &App,
    actor: &Actor,
    wanted: Wanted,
    beside: impl Fn(Timestamp) -> T + Send + Sync,
) -> Result<(Hold, Option<(StoreTime, T)>), OperationError> {
    let id: HoldId = app.ids.make();
    let placed = match place_once(app, actor, (id, &wanted), &beside).await {
        // Everything is halted then; this one stands beside that.
        Err(StoreError::Older) => {
            restored::check(app).await?;
            place_once(app, actor, (id, &wanted), &beside).await
        }
        other => other,
    };
    let (hold, time, begun) = placed?;
    stand(app, &hold);
    let is_new = hold.id == id;
    Ok((hold, is_new.then_some((time, begun))))
}

async fn place_once<T: Send>(
    app: &App,
    actor: &Actor,
    (id, wanted): (HoldId, &Wanted),
    beside: &(impl Fn(Timestamp) -> T + Send + Sync),
) -> Result<(Hold, StoreTime, T), StoreError> {
    let asked = app.clock.monotonic();
    transact!(app.store, Lane::Hold, "hold_place", |txn| {
        let begun = beside(txn.now());
        let in_force = seen(txn, wanted).await?;
        let (hold, _) = put_seen(txn, actor, (id, None), wanted.clone(), in_force).await?;
        Ok((hold, StoreTime::read(txn.now(), asked), begun))
    })
}

/// Tells this process that a hold stands, once that is committed.
pub(super) fn stand(app: &App, hold: &Hold) {
    tracing::info!(hold = %hold.id, kind = hold.kind.name(), scope = hold.scope.name(), epoch = hold.placed_epoch.get(),
        "a hold is in force");
    restored::seen(app, hold.placed_epoch);
    if let Some(in_force) = hold.in_force() {
        let cache = app.store.hold_cache();
        cache.follow(hold.placed_epoch, |holds| holds.add(in_force.clone()));
        app.permit.hold(in_force, hold.placed_epoch);
    }
    app.wake.stop(hold.scope);
    app.wake.review();
    if hold.part.is_some() {
        app.wake.sort();
    }
}

/// Counts whom a new hold stops, and keeps the count. Nobody waits for that.
pub(super) fn count(app: &App, hold: &Hold) {
    drop(heads::ahead(app, hold.scope).keep(hold.id));
}

/// Has the planner look at everything that a wider hold released lets go, with the release itself: a
/// crash right after it must not leave anything standing still.
pub(super) async fn ring_released(txn: &mut Txn, scope: &Scope) -> Result<(), StoreError> {
    let now = txn.now();
    match scope {
        Scope::Everything => rollouts::rollouts_ring_all(txn, now, None).await,
        Scope::Target(target) => rollouts::rollouts_ring_all(txn, now, Some(*target)).await,
        Scope::Rollout(rollout) | Scope::Wave(rollout, _) | Scope::Part(rollout, _) => {
            rollouts::rollout_ring(txn, now, *rollout).await
        }
    }
}

/// Releases one hold; others stay.
///
/// # Errors
///
/// When there is none, it has ended before, it follows a gate or a calendar, or it is another one than
/// was `seen`.
pub async fn release(
    app: &App,
    actor: &Actor,
    id: &str,
    seen: Option<Generation>,
    reason: &str,
) -> Result<HoldView, OperationError> {
    check_reason(reason)?;
    let id = named(id)?;
    let released: Result<Hold, OperationError> =
        transact!(app.store, Lane::Hold, "hold_release", |txn| {
            end(txn, actor, (id, seen), reason).await
        });
    let hold = released?;
    let_go(app, &hold);
    show(app, &hold).await
}

/// Tells this process that a hold has ended, once that is committed.
pub(super) fn let_go(app: &App, hold: &Hold) {
    tracing::info!(hold = %hold.id, kind = hold.kind.name(), scope = hold.scope.name(), "a hold was released");
    if let Some(release) = &hold.released {
        let cache = app.store.hold_cache();
        cache.follow(release.epoch, |holds| {
            holds.remove(hold.id);
        });
    }
    // Whoever may go on needs a permit of the new epoch.
    app.permit.hurry();
    app.wake.ring();
    app.wake.sort();
}

async fn end(
    txn: &mut Txn,
    actor: &Actor,
    (id, seen): (HoldId, Option<Generation>),
    reason: &str,
) -> Result<Hold, OperationError> {
    rows::hold_lock(txn).await?;
    let row = rows::hold_load(txn, id)
        .await?
        .ok_or_else(|| OperationError::not_found("hold", id))?;
    // Compared under the lock: somebody else may have joined it since, and was told that it stands.
    if seen.is_some_and(|seen| seen != row.generation) {
        return Err(OperationError::Conflict { what: "hold" });
    }
    let hold = row.hold()?;
    review::may_let_go(txn, actor, &hold).await?;
    let epoch = rows::epoch_next(txn).await?;
    let release = Release {
        by: Principal::new(actor.principal.clone()),
        at: txn.now(),
        epoch,
        reason: reason.to_owned(),
    };
    let ended = hold.release(release).map_err(refused)?;
    rows::hold_save(txn, &HoldRow::of(&ended)?, row.generation).await?;
    ring_released(txn, &ended.scope).await?;
    let detail = json!({
        "kind": ended.kind, "scope": ended.scope, "where": whom(&ended), "reason": reason, "epoch": epoch,
    });
    txn.audit(actor.entry("hold.release", format!("hold:{id}"), detail));
    Ok(ended)
}

fn refused(refusal: HoldRefusal) -> OperationError {
    OperationError::refused(refusal.code(), refusal.to_string())
}

/// Refuses what would change something about people who were moved, where a hold has frozen them. For the
/// transaction that would change it: no hold comes between.
///
/// # Errors
///
/// When they are frozen at that place.
pub(super) async fn moved_may_change(txn: &mut Txn, place: &Place) -> Result<(), OperationError> {
    rows::claim_lock(txn).await?;
    let freezing = rows::holds_freezing(txn).await?;
    moved::may_change(&freezing, place)
        .map_err(|frozen| OperationError::refused(frozen.code(), frozen.to_string()))
}

/// Returns one hold.
///
/// # Errors
///
/// When there is none.
pub async fn get(app: &App, id: &str) -> Result<HoldView, OperationError> {
    let id = named(id)?;
    let row = rows::hold_load(app.store.read(), id)
        .await?
        .ok_or_else(|| OperationError::not_found("hold", id))?;
    show(app, &row.hold()?).await
}

/// Returns one hold, with how many people it stopped when it was placed, and stops now.
///
/// # Errors
///
/// When there is none.
pub async fn get_counted(app: &App, id: &str) -> Result<HoldView, OperationError> {
    let row = rows::hold_load(app.store.read(), named(id)?).await?;
    let hold = row.ok_or_else(|| OperationError::not_found("hold", id))?;
    let hold = hold.hold()?;
    let mut view = show(app, &hold).await?;
    view.people = Some(heads::of(app, &hold).await);
    Ok(view)
}

/// Lists holds in the order in which they were placed.
///
/// # Errors
///
/// When the cursor is none or the store cannot be reached.
pub async fn list(
    app: &App,
    (in_force, overdue): (bool, bool),
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<HoldView>, OperationError> {
    let after = match cursor {
        Some(cursor) => {
            let parsed = cursor.split_once('_').and_then(|(at, id)| {
                Some((at.parse().ok()?, id.parse::<HoldId>().ok()?.to_string()))
            });
            Some(parsed.ok_or_else(|| {
                OperationError::invalid("cursor_invalid", "the cursor is not one of ours")
            })?)
        }
        None => None,
    };
    let mut views = Vec::new();
    let listed = match (in_force, overdue) {
        (_, true) => Listed::Overdue(app.clock.now()),
        (true, false) => Listed::InForce,
        (false, false) => Listed::All,
    };
    for row in rows::hold_page(app.store.read(), listed, after, limit + 1).await? {
        views.push(show(app, &row.hold()?).await?);
    }
    Ok(Page::cut(views, limit, |view| {
        format!("{}_{}", view.placed_at.timestamp_millis(), view.id)
    }))
}

/// Shows what was reported of a hold, when a rule placed it.
async fn reported(app: &App, hold: &Hold) -> Result<Option<ReportedView>, StoreError> {
    let Cause::Rule {
        rule,
        policy,
        signal,
        faults,
        ..
    } = &hold.cause
    else {
        return Ok(None);
    };
    let report = policies::report_load(app.store.read(), hold.id).await?;
    Ok(Some(ReportedView {
        rule: rule.clone(),
        policy: *policy,
        signal: signal.clone(),
        faults: faults.clone(),
        signals: report.as_ref().map_or(0, |report| report.signals),
        worst: report.map_or_else(String::new, |report| report.worst.name().to_owned()),
    }))
}

fn named(id: &str) -> Result<HoldId, OperationError> {
    id.parse()
        .map_err(|_| OperationError::not_found("hold", id))
}

/// Shows a hold, with who may still send under it.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn show(app: &App, hold: &Hold) -> Result<HoldView, OperationError> {
    let gone = async {
        let gone = reviews::owner_is_gone(app.store.read(), hold.owner.as_str());
        Ok(gone.await?)
    };
    let covers = scope::covers(app, hold.scope, hold.part.is_some());
    show_judged(app, hold, (quiescence::of(app, hold), gone, covers)).await
}

/// Shows a hold; who may still send, and whether its owner has gone, is looked for only while it is in force.
async fn show_judged(
    app: &App,
    hold: &Hold,
    (judged, gone, covers): (
        impl Future<Output = Result<Quiescence, OperationError>> + Send,
        impl Future<Output = Result<bool, OperationError>> + Send,
        impl Future<Output = Result<String, StoreError>> + Send,
    ),
) -> Result<HoldView, OperationError> {
    let covers = async { Ok(covers.await?) };
    let (quiet, owner_gone, covers) = match hold.is_in_force() {
        true => {
            let (quiet, gone, covers) = tokio::try_join!(judged, gone, covers)?;
            (Some(quiet), gone, covers)
        }
        false => (None, false, covers.await?),
    };
    let actors = match &hold.cause {
        Cause::People { principals } => principals.iter().map(ToString::to_string).collect(),
        Cause::Gate { .. } | Cause::Calendar { .. } | Cause::Rule { .. } => {
            vec![hold.placed_by.to_string()]
        }
    };
    let released = hold.released.as_ref();
    Ok(HoldView {
        id: hold.id,
        kind: hold.kind.name().to_owned(),
        scope: ScopeView::of(&hold.scope).with(hold.part.as_ref()),
        covers,
        part: part::show(app, hold).await?,
        reason: hold.reason.clone(),
        reported: reported(app, hold).await?,
        owner: hold.owner.to_string(),
        owner_gone,
        effect: hold.effect.name().to_owned(),
        actors,
        placed_by: hold.placed_by.to_string(),
        placed_at: hold.placed_at,
        epoch: hold.placed_epoch,
        review_at: hold.review_at,
        overdue_since: hold.overdue_since(app.clock.now()),
        released_by: released.map(|released| released.by.to_string()),
        released_at: released.map(|released| released.at),
        release_reason: released.map(|released| released.reason.clone()),
        generation: hold.generation,
        quiesced: quiet.as_ref().is_some_and(|quiet| quiet.quiesced),
        in_flight: quiet.as_ref().map_or(0, |quiet| quiet.in_flight),
        confirmed: quiet.as_ref().map_or(0, |quiet| quiet.confirmed),
        of: quiet.as_ref().map_or(0, |quiet| quiet.workers.len()),
        slowest_ms: quiet.as_ref().and_then(|quiet| quiet.slowest_millis),
        quiet_by: quiet.as_ref().and_then(Quiescence::quiet_by),
        sentence: quiet.as_ref().map_or_else(
            || "released: it stops nothing".to_owned(),
            Quiescence::sentence,
        ),
        workers: quiet.map_or_else(Vec::new, |quiet| {
            quiet.workers.into_iter().map(quiescence::worker).collect()
        }),
        people: None,
        notes: Vec::new(),
    })
}
