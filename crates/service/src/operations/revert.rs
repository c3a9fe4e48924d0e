//! Taking people back: ask, preview, approve and start a rollout that takes back whom another one has moved.
//!
//! `ask` works out who, and makes a planned rollout of them; nothing moves. `approve` and `start` look at
//! everything anew and ask `orchestrator::revert`. From the start on it is a rollout like any other, but for what
//! a worker does with people; the ledger of the original follows with each outcome (`tasks::dispatch::turn`).
//!
//! `wish` reads what was asked for, `people` who that is, `case` what decisions are made from, `view` is what is
//! answered.

mod case;
mod people;
mod view;
mod wish;

pub use case::{closed, refuse_of_revert, refuse_open, refuse_open_in};
pub use people::remote_ids;
pub use view::{RevertNotView, RevertView, RevertWaveView, TakesBackView, takes_back};
pub use wish::{Waves, Wish};

use chrono::TimeDelta;
use serde_json::json;
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::release::End;
use tidegate_orchestrator::hold::{Exemption, HoldSet, Place};
use tidegate_orchestrator::ids::{Generation, Principal, RolloutId, WaveNumber};
use tidegate_orchestrator::revert::{self, RevertRefusal};
use tidegate_orchestrator::rollout::{Change, Command, Event, PlanRef, Rollout, record};
use tidegate_orchestrator::spec::SpecFormat;

use super::release::{digest_of, seat_of};
use super::view::RolloutView;
use super::{Actor, Detail, OperationError, hold, load, refused as refusals, rollout, status};
use crate::app::App;
use crate::store::hold as holds;
use crate::store::release::{self as approvals, ApprovalRow};
use crate::store::revert::{self as rows, RevertRow};
use crate::store::rollout::{self as rollouts, RolloutRow};
use crate::store::{Lane, StoreError, Txn, exemption, transact};
use case::Looked;
use people::Found;

/// How long a revert goes on under the holds that its approval named: a large one at a gentle rate takes days, and
/// what nobody has asked for anew in a week is stopped by them again.
const EXEMPT_DAYS: i64 = 7;
/// The longest part of the name of the original that goes into the name of its revert.
const NAME_PART_MAX: usize = 80;
/// How many reverts of one rollout are tried for a name that is free.
const NAMES_TRIED: usize = 1000;

fn refused(refusal: &RevertRefusal) -> OperationError {
    let details = refusal.details().into_iter();
    OperationError::Refused {
        code: refusal.code().to_owned(),
        sentence: refusal.to_string(),
        details: details
            .map(|(code, sentence)| Detail::new(&code, sentence))
            .collect(),
    }
}

/// Says whether a rollout takes people back; one that is not there does not.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn is_one(app: &App, name: &str) -> Result<bool, OperationError> {
    let found = rollouts::rollout_find(app.store.read(), name).await?;
    Ok(found.is_some_and(|row| row.reverts.is_some()))
}

/// Works out who would be taken back and, unless that is all that is wanted, makes a planned rollout of them.
///
/// # Errors
///
/// When somebody is under way, nobody was moved, a hold freezes them, or what is asked for is no gate, ramp, rate
/// or condition.
pub async fn ask(
    app: &App,
    actor: &Actor,
    name: &str,
    wish: &Wish,
) -> Result<RevertView, OperationError> {
    hold::check_reason(&wish.reason)?;
    let original = load::find(app, name).await?;
    if original.reverts.is_some() {
        return Err(refused(&RevertRefusal::OfARevert(original.name)));
    }
    let id: RolloutId = app.ids.make();
    let found = people::find(app, &original, wish, id).await?;
    if wish.dry_run {
        return Ok(view::preview(&found));
    }
    let row = planned(app, actor, &original, id, &found).await?;
    people::keep(app, &row, &found).await?;
    let kept: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "revert_ask", |txn| {
            keep(txn, actor, (&original, &row), &found, wish, app.ids.make()).await
        });
    match kept {
        Ok(()) => show(app, &row.name).await,
        Err(OperationError::Failed(StoreError::Conflict | StoreError::Taken)) => {
            Err(OperationError::Conflict { what: "rollout" })
        }
        Err(error) => Err(error),
    }
}

/// Makes the row of the rollout that takes back: planned, and not started.
async fn planned(
    app: &App,
    actor: &Actor,
    original: &RolloutRow,
    id: RolloutId,
    found: &Found,
) -> Result<RolloutRow, OperationError> {
    let now = app.clock.now();
    let by = Principal::new(actor.principal.clone());
    let plan = PlanRef::of(app.ids.make(), &found.plan, by, now);
    let plan_id = plan.id;
    let change = Change::Planned { plan };
    let state = Rollout::new().apply(&Event { at: now, change });
    Ok(RolloutRow {
        id,
        name: free_name(app, &original.name).await?,
        population: original.population,
        target: original.target,
        spec_format: SpecFormat::Json.name().to_owned(),
        spec_text: found.spec.clone(),
        spec_digest: found.plan.spec_digest.to_string(),
        lifecycle: state.lifecycle.name().to_owned(),
        state: record::encode(&state).map_err(StoreError::corrupt)?,
        plan: Some(plan_id),
        wake_at: None,
        generation: Generation(1),
        created_at: now,
        reverts: Some(original.id),
    })
}

async fn free_name(app: &App, original: &str) -> Result<String, OperationError> {
    let part: String = original.chars().take(NAME_PART_MAX).collect();
    for number in 1..=NAMES_TRIED {
        let name = format!("{part}-revert-{number}");
        if rollouts::rollout_find(app.store.read(), &name)
            .await?
            .is_none()
        {
            return Ok(name);
        }
    }
    Err(OperationError::name_taken("rollout", original))
}

/// Writes down what was asked for, if the original stands as it was looked at.
async fn keep(
    txn: &mut Txn,
    actor: &Actor,
    (original, row): (&RolloutRow, &RolloutRow),
    found: &Found,
    wish: &Wish,
    request: tidegate_orchestrator::ids::ReleaseRequestId,
) -> Result<(), OperationError> {
    let numbers: Vec<WaveNumber> = found.sheet.waves.iter().map(|wave| wave.origin).collect();
    let chosen = rows::chosen_load(txn, original.id, &numbers, txn.now()).await?;
    if revert::basis(&chosen) != found.basis {
        return Err(OperationError::Conflict { what: "rollout" });
    }
    let seat = seat_of(txn, actor).await?;
    let revert = RevertRow {
        rollout: row.id,
        request,
        at: txn.now(),
        reason: wish.reason.clone(),
        seat,
        substance: case::substance(txn, original, &chosen).await?,
        sheet: found.sheet.clone(),
        ended: None,
    };
    rollouts::rollout_insert(txn, row).await?;
    rows::revert_insert(txn, &revert).await?;
    let detail = json!({
        "reverts": original.id, "name": row.name, "reason": wish.reason, "digest": found.plan.digest,
        "person": revert.seat.person, "people": found.plan.people, "sheet": found.sheet,
    });
    told(txn, actor, "revert.request", row.id, detail);
    Ok(())
}

fn told(txn: &mut Txn, actor: &Actor, action: &str, rollout: RolloutId, detail: serde_json::Value) {
    txn.audit(actor.entry(action, format!("rollout:{rollout}"), detail));
}

/// Shows a revert: who is taken back, who said yes, and what is missing.
///
/// # Errors
///
/// When there is none of this name.
pub async fn show(app: &App, name: &str) -> Result<RevertView, OperationError> {
    let row = load::find(app, name).await?;
    let db = app.store.read();
    let now = app.store.now().await?;
    let looked = case::look(app, db, &row, now).await?;
    Ok(view::of(&row, &looked, now))
}

/// Says yes to exactly one revert, by its digest.
///
/// # Errors
///
/// When the yes would not count, with the reason why.
pub async fn approve(
    app: &App,
    actor: &Actor,
    name: &str,
    (digest, reason): (&str, &str),
) -> Result<RevertView, OperationError> {
    hold::check_reason(reason)?;
    let (row, digest) = (load::find(app, name).await?, digest_of(digest)?);
    let done: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "revert_approve", |txn| {
            let now = txn.now();
            let looked = case::look(app, txn, &row, now).await?;
            let seat = seat_of(txn, actor).await?;
            let is_new = looked.case.may_approve((&seat, digest), now);
            if !is_new.map_err(|no| refused(&no))? {
                return Ok(());
            }
            let person = seat.person.clone();
            let yes = ApprovalRow {
                seat,
                reason: reason.to_owned(),
                at: now,
                role_now: None,
            };
            if !approvals::release_approval_put(txn, looked.row.request, &yes).await? {
                return Ok(());
            }
            let detail = json!({"reason": reason, "digest": digest, "person": person});
            told(txn, actor, "revert.approve", row.id, detail);
            Ok(())
        });
    told_refusal(app, actor, row.id, "approve", done).await?;
    show(app, &row.name).await
}

/// Starts a revert that enough people have said yes to, as everything stands now.
///
/// # Errors
///
/// With the first thing that is missing.
pub async fn start(
    app: &App,
    actor: &Actor,
    row: &RolloutRow,
    (generation, digest): (Option<Generation>, &str),
) -> Result<RolloutView, OperationError> {
    let digest = digest_of(digest)?;
    let done: Result<RolloutRow, OperationError> =
        transact!(app.store, Lane::Hold, "revert_start", |txn| {
            begin(app, txn, actor, row.id, (generation, digest)).await
        });
    let row = told_refusal(app, actor, row.id, "start", done).await?;
    app.permit.hurry();
    app.wake.ring();
    status::of(app, &row).await
}

async fn begin(
    app: &App,
    txn: &mut Txn,
    actor: &Actor,
    id: RolloutId,
    (generation, digest): (Option<Generation>, Digest),
) -> Result<RolloutRow, OperationError> {
    // No claim commits meanwhile: whoever is not under way now is not begun before the waves are closed.
    holds::hold_lock(txn).await?;
    let now = txn.now();
    let row = rollouts::rollout_load(txn, id).await?;
    let row = row.ok_or_else(|| OperationError::not_found("rollout", id))?;
    if generation.is_some_and(|seen| seen != row.generation) {
        return Err(OperationError::Conflict { what: "rollout" });
    }
    let looked = case::look(app, txn, &row, now).await?;
    looked
        .case
        .may_start(digest, now)
        .map_err(|no| refused(&no))?;
    revert::may_take_back(&looked.chosen, looked.frozen.clone()).map_err(|no| refused(&no))?;
    let (_, in_force) = holds::holds_within(txn).await?;
    let in_force = exempted(app, txn, actor, (&row, &looked), &in_force).await?;
    let by = Principal::new(actor.principal.clone());
    let wanted = Command::Start { digest, by };
    let started = rollout::commit_under(txn, actor, row, (&wanted, &in_force)).await?;
    rows::revert_end(txn, id, End::Executed).await?;
    rows::taking_back_count(txn, looked.original.id, &looked.taken_waves(), 1).await?;
    rollouts::rollout_ring(txn, now, looked.original.id).await?;
    let given = looked.case.request.approvals.iter();
    let people: Vec<_> = given.map(|one| &one.by.person).collect();
    let detail = json!({
        "digest": digest, "reverts": looked.original.id, "requested_by": looked.case.request.by.person,
        "approved_by": people, "holds": looked.row.sheet.holds, "substance": looked.case.request.substance,
    });
    told(txn, actor, "revert.start", id, detail);
    Ok(started)
}

/// Lets it go on under exactly the holds that its approval named and that are still in force, and returns what is
/// in force then.
async fn exempted(
    app: &App,
    txn: &mut Txn,
    actor: &Actor,
    (row, looked): (&RolloutRow, &Looked),
    in_force: &HoldSet,
) -> Result<HoldSet, OperationError> {
    let place = Place::rollout(row.target, row.id);
    let covering = in_force.covering(&place).map(|hold| hold.id);
    let named = &looked.row.sheet.holds;
    let exemption = Exemption {
        id: app.ids.make(),
        holds: covering.filter(|id| named.contains(id)).collect(),
        rollout: row.id,
        waves: looked.plan.waves.iter().map(|wave| wave.number).collect(),
        until: txn.now() + TimeDelta::days(EXEMPT_DAYS),
    };
    let mut in_force = in_force.clone();
    if exemption.holds.is_empty() {
        return Ok(in_force);
    }
    let epoch = holds::epoch_next(txn).await?;
    exemption::exemption_insert(txn, &exemption, epoch).await?;
    let detail = json!({"exemption": exemption, "epoch": epoch});
    told(txn, actor, "exemption.begin", row.id, detail);
    in_force.exempt(exemption);
    Ok(in_force)
}

/// Hands the outcome of a step on; one that was refused is in the trail then.
async fn told_refusal<T>(
    app: &App,
    actor: &Actor,
    rollout: RolloutId,
    step: &str,
    done: Result<T, OperationError>,
) -> Result<T, OperationError> {
    let what = ("revert.refused", format!("rollout:{rollout}"));
    refusals::told(app, actor, what, step, done).await
}
