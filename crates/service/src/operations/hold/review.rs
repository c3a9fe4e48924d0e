//! Reviews and owners of holds: somebody has looked, or somebody else looks from now on. Neither releases
//! anything, and neither voids an approval of a release.

use serde_json::json;
use tidegate_orchestrator::hold::release::Seat;
use tidegate_orchestrator::hold::review::{NewOwner, ReviewRefusal, next_reminder};
use tidegate_orchestrator::hold::{Hold, HoldKind, Scope};
use tidegate_orchestrator::ids::{Generation, HoldId, Principal, Timestamp, from_millis};

use super::super::refused as refusals;
use super::{check_reason, get, named, rows};
use crate::app::App;
use crate::operations::release::seat_of;
use crate::operations::token::{Permission, Role};
use crate::operations::view::HoldView;
use crate::operations::{Actor, OperationError};
use crate::store::review::{self as stored, DueRow};
use crate::store::{Lane, StoreError, Txn, token, transact};

/// How many reminders one transaction writes: a halt may be waiting for the end of the trail meanwhile.
const REMINDERS_AT_ONCE: usize = 16;

/// Moves the date of the review of a hold: somebody has looked, and it stays.
///
/// # Errors
///
/// When there is no such hold, it is not theirs to review, it has ended, or the date is none.
pub async fn review(
    app: &App,
    actor: &Actor,
    (id, seen): (&str, Option<Generation>),
    (note, next): (&str, Option<Timestamp>),
) -> Result<HoldView, OperationError> {
    if !note.trim().is_empty() {
        check_reason(note)?;
    }
    let id = named(id)?;
    let done: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "hold_review", |txn| {
            let now = txn.now();
            let (hold, seat, owner) = asked(txn, actor, id, seen).await?;
            let reviewed = hold.review((&seat, &owner), note, next, now);
            let after = reviewed.map_err(|no| refused(&no))?;
            save(txn, &after, hold.generation).await?;
            let detail = json!({
                "kind": hold.kind, "scope": hold.scope, "note": note, "review_at": hold.review_at,
                "next_review_at": after.review_at, "was_overdue": hold.overdue_since(now).is_some(),
            });
            txn.audit(actor.entry("hold.review", format!("hold:{id}"), detail));
            Ok(())
        });
    refusals::told(app, actor, what_of(id), "review", done).await?;
    app.wake.review();
    get(app, &id.to_string()).await
}

/// Hands a hold to another owner, who is asked about it from now on.
///
/// # Errors
///
/// When there is no such hold or token, it is not theirs to give, or the new owner cannot see to its end.
pub async fn hand_over(
    app: &App,
    actor: &Actor,
    (id, seen): (&str, Option<Generation>),
    (owner, reason): (&str, &str),
) -> Result<HoldView, OperationError> {
    check_reason(reason)?;
    let id = named(id)?;
    let done: Result<(), OperationError> = transact!(
        app.store,
        Lane::Ordinary,
        "hold_owner",
        |txn| {
            let (hold, seat, person) = asked(txn, actor, id, seen).await?;
            let to = new_owner(txn, hold.kind, owner).await?;
            let is_admin = is_admin(txn, actor).await?;
            let handed = hold.hand_over((&seat, &person), is_admin, &to);
            let after = handed.map_err(|no| refused(&no))?;
            if after == hold {
                return Ok(());
            }
            save(txn, &after, hold.generation).await?;
            let detail = json!({
                "kind": hold.kind, "scope": hold.scope, "from": hold.owner, "to": after.owner, "reason": reason,
            });
            txn.audit(actor.entry("hold.owner", format!("hold:{id}"), detail));
            Ok(())
        }
    );
    refusals::told(app, actor, what_of(id), "owner", done).await?;
    get(app, &id.to_string()).await
}

/// Reads a hold, who asks, and the person who owns it.
async fn asked(
    txn: &mut Txn,
    actor: &Actor,
    id: HoldId,
    seen: Option<Generation>,
) -> Result<(Hold, Seat, Principal), OperationError> {
    let row = rows::hold_load(txn, id)
        .await?
        .ok_or_else(|| OperationError::not_found("hold", id))?;
    if seen.is_some_and(|seen| seen != row.generation) {
        return Err(OperationError::Conflict { what: "hold" });
    }
    let hold = row.hold()?;
    let seat = seat_of(txn, actor).await?;
    let person = owner_of(txn, &hold).await?;
    Ok((hold, seat, person))
}

/// Returns the person who owns a hold.
async fn owner_of(txn: &mut Txn, hold: &Hold) -> Result<Principal, OperationError> {
    let found = token::token_find(txn, hold.owner.as_str()).await?;
    Ok(found.map_or_else(
        || hold.owner.clone(),
        |row| Principal::new(row.person.unwrap_or(row.name)),
    ))
}

/// Refuses to let go of a pause that stops more than whoever asks answers for.
///
/// # Errors
///
/// When it does, or the store cannot be reached.
pub(super) async fn may_let_go(
    txn: &mut Txn,
    actor: &Actor,
    hold: &Hold,
) -> Result<(), OperationError> {
    let is_wide = matches!(hold.scope, Scope::Everything | Scope::Target(_));
    if !is_wide && hold.rule().is_none() {
        return Ok(());
    }
    let seat = seat_of(txn, actor).await?;
    let owner = owner_of(txn, hold).await?;
    let is_admin = is_admin(txn, actor).await?;
    hold.may_let_go((&seat, &owner), is_admin)
        .map_err(|no| OperationError::refused(no.code(), no.to_string()))
}

async fn save(txn: &mut Txn, hold: &Hold, was: Generation) -> Result<(), OperationError> {
    let saved = stored::review_save(txn, hold, was).await;
    saved.map_err(|error| match error {
        // Somebody else was faster: look at what they left, and decide again.
        StoreError::Conflict => StoreError::Serialization.into(),
        other => other.into(),
    })
}

/// Returns the first of these tokens that is in use and may see to the end of any hold.
pub(in crate::operations) async fn first_owner<'a>(
    txn: &mut Txn,
    names: impl Iterator<Item = &'a str>,
) -> Result<Option<Principal>, StoreError> {
    for name in names {
        let row = token::token_find(txn, name).await?;
        let Some(row) = row.filter(|row| row.revoked_at.is_none()) else {
            continue;
        };
        let kinds = [HoldKind::Halt, HoldKind::Pause].into_iter();
        let mut needs = kinds.flat_map(needs);
        let role = Role::from_name(&row.role);
        if role.is_some_and(|role| needs.all(|one| role.may(*one))) {
            return Ok(Some(Principal::new(row.name)));
        }
    }
    Ok(None)
}

/// What whoever owns a hold must be allowed, to see to its end.
const fn needs(kind: HoldKind) -> &'static [Permission] {
    match kind {
        HoldKind::Halt => &[Permission::Halt, Permission::ReleaseHalt],
        HoldKind::Pause | HoldKind::Gate | HoldKind::Freeze => &[Permission::Pause],
    }
}

async fn new_owner(txn: &mut Txn, kind: HoldKind, name: &str) -> Result<NewOwner, OperationError> {
    let row = token::token_find(txn, name)
        .await?
        .ok_or_else(|| OperationError::not_found("token", name))?;
    let needs = needs(kind);
    let role = Role::from_name(&row.role);
    Ok(NewOwner {
        token: Principal::new(row.name),
        may_end: role.is_some_and(|role| needs.iter().any(|one| role.may(*one))),
        role: row.role,
        is_revoked: row.revoked_at.is_some(),
    })
}

async fn is_admin(txn: &mut Txn, actor: &Actor) -> Result<bool, OperationError> {
    let row = token::token_find(txn, &actor.principal).await?;
    Ok(row.is_some_and(|row| row.revoked_at.is_none() && row.role == Role::Admin.name()))
}

fn refused(refusal: &ReviewRefusal) -> OperationError {
    match refusal {
        ReviewRefusal::NoteMissing
        | ReviewRefusal::NotAhead { .. }
        | ReviewRefusal::TooFarAhead { .. } => {
            OperationError::invalid(refusal.code(), refusal.to_string())
        }
        ReviewRefusal::Hold(_)
        | ReviewRefusal::NotTheirs { .. }
        | ReviewRefusal::NotTheirsToGive { .. }
        | ReviewRefusal::OwnerRevoked(_)
        | ReviewRefusal::OwnerMayNot { .. } => {
            OperationError::refused(refusal.code(), refusal.to_string())
        }
    }
}

fn what_of(id: HoldId) -> (&'static str, String) {
    ("hold.refused", format!("hold:{id}"))
}

/// Reminds of reviews that are due, a few at a time, and returns of how many. Releases nothing.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn remind(app: &App) -> Result<usize, StoreError> {
    transact!(app.store, Lane::Ordinary, "hold_remind", |txn| {
        let now = txn.now();
        let due = stored::reminders_due(txn, now, REMINDERS_AT_ONCE).await?;
        let next = next_reminder(now);
        let mut reminded = 0;
        for row in due {
            if stored::reminder_put_off(txn, &row, next).await? {
                reminded += 1;
                tracing::warn!(
                    hold = row.id,
                    owner = row.owner,
                    "the review of a hold is overdue"
                );
                let entry = reminder(&row, (now, next));
                txn.audit(entry);
            }
        }
        Ok(reminded)
    })
}

fn reminder(row: &DueRow, (now, next): (Timestamp, Timestamp)) -> crate::store::audit::Entry {
    let review_at = row.review_at.and_then(from_millis);
    let detail = json!({
        "kind": row.kind, "scope": row.scope_kind, "scope_id": row.scope_id, "owner": row.owner,
        "review_at": review_at, "days_overdue": review_at.map(|at| (now - at).num_days()),
        "next_reminder_at": next,
    });
    Actor::task("reviews").entry("hold.review_due", format!("hold:{}", row.id), detail)
}
