//! The release of a halt: preflight, request, approvals, veto, and one execution.
//!
//! Nothing is remembered as decided. Each step reads everything anew, inside its own transaction, and asks
//! `orchestrator::hold::release`; so what changed, who lost a role and what ran out counts at once.
//!
//! `facts` reads what there is to decide from, `view` is how it is shown.

mod facts;
mod view;

pub use view::{ApprovalView, ItemView, PreflightView, ReleaseView};

use serde_json::json;
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::release::{End, ReleaseRefusal, Seat};
use tidegate_orchestrator::hold::terms::{Group, Terms};
use tidegate_orchestrator::hold::{Hold, HoldKind, Release, Scope};
use tidegate_orchestrator::ids::{HoldId, Principal};

use super::view::HoldView;
use super::{Actor, Detail, OperationError, drift, hold as holds, refused as refusals, target};
use crate::app::App;
use crate::store::hold::{self as rows, HoldRow};
use crate::store::release::{self as stored, ApprovalRow, RequestRow};
use crate::store::{Connection, Lane, StoreError, Txn, target as targets, token, transact};
use facts::{TargetSeen, look};

/// Returns the seat of whoever acts: the person behind the token, and the group of its role.
///
/// # Errors
///
/// When the store cannot be reached.
pub(super) async fn seat_of<C: Connection>(db: &C, actor: &Actor) -> Result<Seat, OperationError> {
    let row = token::token_find(db, &actor.principal).await?;
    let row = row.ok_or_else(|| OperationError::not_found("token", &actor.principal))?;
    let person = row.person.unwrap_or_else(|| row.name.clone());
    Ok(Seat {
        token: Principal::new(row.name),
        person: Principal::new(person),
        group: group_of(&row.role).filter(|_| row.revoked_at.is_none()),
        since: row.created_at,
    })
}

/// Returns the seat of a role. Machines, auditors and administrators have none.
pub(super) fn group_of(role: &str) -> Option<Group> {
    match role {
        "security" => Some(Group::Security),
        "manager" => Some(Group::Operations),
        "approver" => Some(Group::Approvers),
        _ => None,
    }
}

pub(super) fn refused(refusal: &ReleaseRefusal) -> OperationError {
    let details = refusal.details().into_iter();
    OperationError::Refused {
        code: refusal.code().to_owned(),
        sentence: refusal.to_string(),
        details: details
            .map(|(code, sentence)| Detail::new(&code, sentence))
            .collect(),
    }
}

pub(super) fn named(id: &str) -> Result<HoldId, OperationError> {
    id.parse()
        .map_err(|_| OperationError::not_found("hold", id))
}

/// Reads a hold.
pub(super) async fn loaded<C: Connection>(
    db: &C,
    id: HoldId,
) -> Result<(HoldRow, Hold), OperationError> {
    let row = rows::hold_load(db, id).await?;
    let row = row.ok_or_else(|| OperationError::not_found("hold", id))?;
    let hold = row.hold()?;
    Ok((row, hold))
}

/// Looks at everything that a release of the halt would meet, tests its targets, and measures the drift of
/// whatever would go on. Changes nobody.
///
/// # Errors
///
/// When there is no such hold, it is no halt in force, or the store cannot be reached.
pub async fn preflight(
    app: &App,
    actor: &Actor,
    id: &str,
) -> Result<PreflightView, OperationError> {
    let id = named(id)?;
    let (_, hold) = loaded(app.store.read(), id).await?;
    must_be_a_halt(&hold)?;
    let mut seen: Vec<TargetSeen> = Vec::new();
    for row in drift::covered(app.store.read(), &hold.scope).await? {
        let is_wave = matches!(hold.scope, Scope::Wave(..) | Scope::Part(..));
        if !is_wave
            && matches!(
                drift::standing(app.store.read(), &row).await?,
                drift::Standing::Unmeasured { .. }
            )
        {
            match drift::measure(app, actor, &row.name, None).await {
                // What cannot be measured now is named by the preflight.
                Ok(_) | Err(OperationError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if !seen.iter().any(|known| known.id == row.target) {
            let found = targets::target_load(app.store.read(), row.target).await?;
            seen.push(TargetSeen::of(
                &found,
                target::check(app, actor, &found.name).await,
            ));
        }
    }
    let body = serde_json::to_string(&seen).map_err(StoreError::corrupt)?;
    let done: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "preflight", |txn| {
        let now = txn.now();
        stored::preflight_put(txn, id, (now, &body)).await?;
        let entry = actor.entry(
            "hold.preflight",
            format!("hold:{id}"),
            json!({"targets": seen}),
        );
        txn.audit(entry);
        Ok(())
    });
    done?;
    shown_preflight(app, id).await
}

/// Shows what a release would meet now, with the targets as they were tested last.
///
/// # Errors
///
/// When there is no such hold, or it is no halt in force.
pub async fn preflight_show(app: &App, id: &str) -> Result<PreflightView, OperationError> {
    shown_preflight(app, named(id)?).await
}

async fn shown_preflight(app: &App, id: HoldId) -> Result<PreflightView, OperationError> {
    let (_, hold) = loaded(app.store.read(), id).await?;
    must_be_a_halt(&hold)?;
    let quiesced = holds::show(app, &hold).await?.quiesced;
    let looked = look(app.store.read(), &hold, quiesced, app.store.now().await?).await?;
    Ok(PreflightView::of(id, &looked))
}

fn must_be_a_halt(hold: &Hold) -> Result<(), OperationError> {
    if hold.kind != HoldKind::Halt {
        return Err(refused(&ReleaseRefusal::NotAHalt(hold.id)));
    }
    if !hold.is_in_force() {
        return Err(refused(&ReleaseRefusal::AlreadyReleased(hold.id)));
    }
    Ok(())
}

/// Shows where the release of a halt stands.
///
/// # Errors
///
/// When there is no such hold.
pub async fn show(app: &App, id: &str) -> Result<ReleaseView, OperationError> {
    let (_, hold) = loaded(app.store.read(), named(id)?).await?;
    let now = app.store.now().await?;
    let looked = look(app.store.read(), &hold, false, now).await?;
    let vetoes = stored::vetoes_load(app.store.read(), hold.id).await?;
    Ok(ReleaseView::of(&looked, vetoes, now))
}

/// Asks for the release of a halt as everything stands now. The approvals are bound to exactly that.
///
/// # Errors
///
/// When it is no halt in force, whoever asks placed it, or a request stands.
pub async fn request(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
) -> Result<ReleaseView, OperationError> {
    holds::check_reason(reason)?;
    let id = named(id)?;
    let request_id = app.ids.make();
    let done: Result<(), OperationError> = transact!(
        app.store,
        Lane::Ordinary,
        "release_request",
        |txn| {
            let now = txn.now();
            let (_, hold) = loaded(txn, id).await?;
            let looked = look(txn, &hold, false, now).await?;
            let seat = seat_of(txn, actor).await?;
            let open = looked.request.as_ref().map(|(_, request)| request);
            looked
                .case
                .may_request(open, &seat, now)
                .map_err(|no| refused(&no))?;
            if let Some((known, _)) = &looked.request {
                stored::request_end(txn, known.id, End::Replaced).await?;
            }
            let row = RequestRow {
                id: request_id,
                hold: id,
                at: now,
                reason: reason.to_owned(),
                seat,
                substance: looked.case.substance.clone(),
                ended: None,
            };
            stored::request_insert(txn, &row).await?;
            let detail = json!({"reason": reason, "digest": row.substance.digest(), "person": row.seat.person});
            told(txn, actor, "release.request", id, detail);
            Ok(())
        }
    );
    answer(app, actor, id, "request", done).await
}

/// Says yes to the release that was asked for, by its digest.
///
/// # Errors
///
/// When the yes would not count, with the reason why.
pub async fn approve(
    app: &App,
    actor: &Actor,
    id: &str,
    (digest, reason): (&str, &str),
) -> Result<ReleaseView, OperationError> {
    holds::check_reason(reason)?;
    let (id, digest) = (named(id)?, digest_of(digest)?);
    let done: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "release_approve", |txn| {
            let now = txn.now();
            let (_, hold) = loaded(txn, id).await?;
            let looked = look(txn, &hold, false, now).await?;
            let seat = seat_of(txn, actor).await?;
            let open = looked.request.as_ref().map(|(_, request)| request);
            let is_new = looked.case.may_approve(open, (&seat, digest), now);
            let is_new = is_new.map_err(|no| refused(&no))?;
            let Some((known, _)) = looked.request.as_ref().filter(|_| is_new) else {
                return Ok(());
            };
            let person = seat.person.clone();
            let row = ApprovalRow {
                seat,
                reason: reason.to_owned(),
                at: now,
                role_now: None,
            };
            if !stored::release_approval_put(txn, known.id, &row).await? {
                return Ok(());
            }
            let detail = json!({"reason": reason, "digest": digest, "person": person});
            told(txn, actor, "release.approve", id, detail);
            Ok(())
        });
    answer(app, actor, id, "approve", done).await
}

/// Ends a request: security says no, or whoever asked takes it back.
///
/// # Errors
///
/// When there is none, or whoever asks may not.
pub async fn veto(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
) -> Result<ReleaseView, OperationError> {
    holds::check_reason(reason)?;
    let id = named(id)?;
    let done: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "release_veto", |txn| {
            let now = txn.now();
            let (_, hold) = loaded(txn, id).await?;
            let looked = look(txn, &hold, false, now).await?;
            let seat = seat_of(txn, actor).await?;
            let open = looked.request.as_ref().map(|(_, request)| request);
            looked
                .case
                .may_veto(open, &seat)
                .map_err(|no| refused(&no))?;
            if let Some((known, _)) = &looked.request {
                stored::request_veto(txn, known.id, &seat.word(reason, now)).await?;
            }
            told(txn, actor, "release.veto", id, json!({"reason": reason}));
            Ok(())
        });
    answer(app, actor, id, "veto", done).await
}

/// Carries the release of a halt out, once: everything is looked at again in the transaction that ends it.
///
/// # Errors
///
/// With the first thing that is missing; those of the preflight are all named.
pub async fn execute(
    app: &App,
    actor: &Actor,
    id: &str,
    (digest, reason): (&str, &str),
) -> Result<HoldView, OperationError> {
    holds::check_reason(reason)?;
    let (id, digest) = (named(id)?, digest_of(digest)?);
    let (_, hold) = loaded(app.store.read(), id).await?;
    // Once nobody can send under a hold that stands, nobody can later.
    let quiesced = holds::show(app, &hold).await?.quiesced;
    let done: Result<Hold, OperationError> =
        transact!(app.store, Lane::Hold, "release_execute", |txn| {
            carry_out(app, txn, actor, id, (digest, reason, quiesced)).await
        });
    let ended = told_refusal(app, actor, id, "execute", done).await?;
    holds::let_go(app, &ended);
    holds::show(app, &ended).await
}

async fn carry_out(
    app: &App,
    txn: &mut Txn,
    actor: &Actor,
    id: HoldId,
    (digest, reason, quiesced): (Digest, &str, bool),
) -> Result<Hold, OperationError> {
    rows::hold_lock(txn).await?;
    // One of two clocks is wrong, and what was approved ends by them.
    if txn.is_clock_wrong() {
        let sentence = "the clock of this machine and that of the database differ by more than 5 s: set it right, or ask another process";
        return Err(OperationError::refused("clock_wrong", sentence));
    }
    let now = txn.now();
    let (row, hold) = loaded(txn, id).await?;
    let looked = look(txn, &hold, quiesced, now).await?;
    let open = looked.request.as_ref().map(|(_, request)| request);
    let checked = looked.checked(now);
    let may = looked.case.may_execute(open, (digest, &checked), now);
    may.map_err(|no| refused(&no))?;
    let Some((known, request)) = &looked.request else {
        return Err(refused(&ReleaseRefusal::RequestMissing(id)));
    };
    if !stored::request_end(txn, known.id, End::Executed).await? {
        return Err(OperationError::Conflict { what: "hold" });
    }
    let epoch = rows::epoch_next(txn).await?;
    let release = Release {
        by: Principal::new(actor.principal.clone()),
        at: now,
        epoch,
        reason: reason.to_owned(),
    };
    let ended = hold
        .end(release)
        .map_err(|no| OperationError::refused(no.code(), no.to_string()))?;
    rows::hold_save(txn, &HoldRow::of(&ended)?, row.generation).await?;
    drift::released(app, txn, actor, &ended, looked.case.terms.reentry).await?;
    holds::ring_released(txn, &ended.scope).await?;
    let people: Vec<_> = request.approvals.iter().map(|one| &one.by.person).collect();
    let detail = json!({
        "kind": ended.kind, "scope": ended.scope, "where": holds::whom(&ended), "reason": reason, "epoch": epoch,
        "request": known.id, "digest": digest, "requested_by": request.by.person, "approved_by": people, "substance": request.substance,
    });
    told(txn, actor, "hold.release", id, detail);
    Ok(ended)
}

/// Makes the release terms of a halt stricter.
///
/// # Errors
///
/// When something would become looser, or makes no sense.
pub async fn terms_set(
    app: &App,
    actor: &Actor,
    id: &str,
    terms: &Terms,
) -> Result<Terms, OperationError> {
    let id = named(id)?;
    let done: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "release_terms", |txn| {
            let (_, hold) = loaded(txn, id).await?;
            must_be_a_halt(&hold)?;
            let was = stored::terms_load(txn, id).await?;
            terms
                .replacing(&was)
                .map_err(|no| OperationError::refused(no.code(), no.to_string()))?;
            stored::terms_put(txn, id, terms).await?;
            let detail = json!({"was": was, "terms": terms});
            told(txn, actor, "release.terms", id, detail);
            Ok(())
        });
    told_refusal(app, actor, id, "terms", done).await?;
    Ok(terms.clone())
}

/// Returns the release terms of a halt.
///
/// # Errors
///
/// When there is no such hold.
pub async fn terms(app: &App, id: &str) -> Result<Terms, OperationError> {
    let (_, hold) = loaded(app.store.read(), named(id)?).await?;
    Ok(stored::terms_load(app.store.read(), hold.id).await?)
}

/// Reads the digest that somebody names.
pub(super) fn digest_of(text: &str) -> Result<Digest, OperationError> {
    text.parse().map_err(|_| {
        OperationError::invalid("digest_invalid", "the digest is 64 hexadecimal digits")
    })
}

fn told(txn: &mut Txn, actor: &Actor, action: &str, id: HoldId, detail: serde_json::Value) {
    txn.audit(actor.entry(action, format!("hold:{id}"), detail));
}

async fn answer(
    app: &App,
    actor: &Actor,
    id: HoldId,
    step: &str,
    done: Result<(), OperationError>,
) -> Result<ReleaseView, OperationError> {
    told_refusal(app, actor, id, step, done).await?;
    show(app, &id.to_string()).await
}

/// Hands the outcome of a step on; one that was refused is in the trail then.
pub(super) async fn told_refusal<T>(
    app: &App,
    actor: &Actor,
    id: HoldId,
    step: &str,
    done: Result<T, OperationError>,
) -> Result<T, OperationError> {
    let what = ("release.refused", format!("hold:{id}"));
    refusals::told(app, actor, what, step, done).await
}
