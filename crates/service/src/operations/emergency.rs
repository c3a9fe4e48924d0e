//! The emergency go-on: two custodians let named waves go on for hours although a halt stands.
//!
//! Who may is decided by `orchestrator::hold::emergency`. A confirmation moves the epoch like a hold does,
//! and so does an early end, so that every worker reads anew what it may do; the end of its time needs
//! nobody, and is written down by the planner afterwards.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::hold::emergency::{
    Case, Emergency, EmergencyRefusal, Stage, Standing, Wish,
};
use tidegate_orchestrator::hold::{Hold, HoldKind, Place};
use tidegate_orchestrator::ids::{ExemptionId, HoldId, Timestamp, WaveNumber};
use tidegate_orchestrator::rollout::{Lifecycle, WaveStatus};
use tidegate_orchestrator::sentence::people;

use super::drift::{self, DriftView};
use super::hold::check_reason;
use super::release::{self, ItemView, seat_of};
use super::{Actor, OperationError, load, refused as refusals};
use crate::app::App;
use crate::store::exemption as stored;
use crate::store::hold as holds;
use crate::store::rollout::{self as rollouts, RolloutRow};
use crate::store::{Lane, StoreError, Txn, token, transact};

/// What a custodian asks for.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEmergency {
    /// The waves that must go on.
    pub waves: BTreeSet<u32>,
    /// For how long from the confirmation: 1 to 240 minutes.
    pub minutes: u32,
    /// The number of the incident.
    pub incident: String,
    /// Why.
    pub reason: String,
}

/// A word somebody gave.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WordView {
    /// The person.
    pub by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What they said.
    pub note: String,
}

/// An emergency go-on as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EmergencyView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ExemptionId,
    /// The rollout's name.
    pub rollout: String,
    /// The waves that it lets go on.
    pub waves: Vec<u32>,
    /// The halts under which they go on. Any other hold stops them.
    #[schema(value_type = Vec<String>)]
    pub holds: Vec<HoldId>,
    /// For how long it was asked.
    pub minutes: u32,
    /// The number of the incident.
    pub incident: String,
    /// Why.
    pub reason: String,
    /// The first custodian.
    pub asked_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub asked_at: Timestamp,
    /// The second custodian.
    pub confirmed_by: Option<String>,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub confirmed_at: Option<Timestamp>,
    /// asked, dropped, running, review_due or reviewed.
    pub standing: String,
    /// When what it stands at ends: the question, or the emergency itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Who ended it before its time.
    pub ended: Option<WordView>,
    /// What somebody found who looked back at it.
    pub review: Option<WordView>,
    /// The same in one line.
    pub sentence: String,
    /// What the release of the same halts would wait for: what this leaps over. As it is now while it is asked for,
    /// and as it was when it was confirmed from then on.
    pub leaps_over: Vec<String>,
}

/// Why no emergency is needed: no halt covers these waves, though one may keep some of their people back.
async fn not_needed(txn: &Txn, wish: &Wish) -> Result<OperationError, StoreError> {
    let (_, in_force) = holds::holds_within(txn).await?;
    let mut parts = wish.waves.iter().filter_map(|wave| {
        let hold = in_force.on_part(wish.rollout, *wave).next()?;
        Some((wave, hold.kind, hold.id))
    });
    Ok(match parts.next() {
        Some((wave, kind, id)) => OperationError::refused(
            "emergency_not_for_some",
            format!(
                "no halt covers these waves as a whole; {} {id} keeps some people of wave {wave} back, and an \
                 emergency lets nobody of them go: release it",
                kind.name()
            ),
        ),
        None => refused(&EmergencyRefusal::NotNeeded),
    })
}

/// Asks for an emergency go-on. Nothing goes on before another custodian confirms it.
///
/// # Errors
///
/// When it may not be asked for, with the reason why.
pub async fn ask(
    app: &App,
    actor: &Actor,
    rollout: &str,
    new: &NewEmergency,
) -> Result<EmergencyView, OperationError> {
    check_reason(&new.reason)?;
    let row = load::find(app, rollout).await?;
    let id: ExemptionId = app.ids.make();
    let wish = Wish {
        rollout: row.id,
        waves: new.waves.iter().copied().map(WaveNumber).collect(),
        minutes: new.minutes,
        incident: new.incident.clone(),
        reason: new.reason.clone(),
    };
    let done: Result<Emergency, OperationError> =
        transact!(app.store, Lane::Ordinary, "emergency_ask", |txn| {
            holds::hold_lock(txn).await?;
            let now = txn.now();
            let seat = seat_of(txn, actor).await?;
            let case = case_of(txn, &row, &wish.waves, None).await?;
            let asked = wish.clone().ask(id, &case, &seat, now);
            let asked = match asked {
                Err(EmergencyRefusal::NotNeeded) => return Err(not_needed(txn, &wish).await?),
                other => other.map_err(|no| refused(&no))?,
            };
            stored::emergency_put(txn, &asked).await?;
            told(txn, actor, "emergency.ask", &asked);
            Ok(asked)
        });
    answer(app, actor, &row, ("ask", done)).await
}

/// Confirms an emergency go-on: its waves go on from now.
///
/// # Errors
///
/// When the yes does not count, with the reason why.
pub async fn confirm(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
) -> Result<EmergencyView, OperationError> {
    check_reason(reason)?;
    let (row, known) = find(app, id).await?;
    // Looked at before the lock: it takes a while, and decides nothing.
    let leapt = leapt(app, &row, &known).await;
    let leaps_over: Vec<String> = leapt.into_iter().map(|item| item.sentence).collect();
    let done: Result<Emergency, OperationError> =
        transact!(app.store, Lane::Hold, "emergency_confirm", |txn| {
            holds::hold_lock(txn).await?;
            let now = txn.now();
            let seat = seat_of(txn, actor).await?;
            let row = rollouts::rollout_load(txn, row.id).await?;
            let row = row.ok_or(StoreError::NotFound)?;
            let asked = again(txn, known.id).await?;
            let case = case_of(txn, &row, &asked.wish.waves, Some(&asked)).await?;
            let confirmed = asked.confirm(&case, &seat, now);
            let mut confirmed = confirmed.map_err(|no| refused(&no))?;
            confirmed.leaps_over.clone_from(&leaps_over);
            let exemption = confirmed.exemption().ok_or(StoreError::NotFound)?;
            let epoch = holds::epoch_next(txn).await?;
            stored::exemption_insert(txn, &exemption, epoch).await?;
            stored::emergency_put(txn, &confirmed).await?;
            rollouts::rollout_ring(txn, now, row.id).await?;
            told(txn, actor, "emergency.confirm", &confirmed);
            Ok(confirmed)
        });
    moved(app, done.is_ok());
    answer(app, actor, &row, ("confirm", done)).await
}

/// Ends an emergency go-on before its time, or takes the question back. One custodian is enough.
///
/// # Errors
///
/// When it is over, or whoever asks is no custodian.
pub async fn end(
    app: &App,
    actor: &Actor,
    id: &str,
    reason: &str,
) -> Result<EmergencyView, OperationError> {
    check_reason(reason)?;
    let (row, known) = find(app, id).await?;
    let done: Result<Emergency, OperationError> =
        transact!(app.store, Lane::Hold, "emergency_end", |txn| {
            holds::hold_lock(txn).await?;
            let now = txn.now();
            let seat = seat_of(txn, actor).await?;
            let ended = again(txn, known.id).await?.end(&seat, reason, now);
            let ended = ended.map_err(|no| refused(&no))?;
            if ended.confirmed.is_some() {
                let epoch = holds::epoch_next(txn).await?;
                stored::exemption_end(txn, ended.id, epoch).await?;
                rollouts::rollout_ring(txn, now, ended.wish.rollout).await?;
            }
            stored::emergency_put(txn, &ended).await?;
            told(txn, actor, "emergency.end", &ended);
            Ok(ended)
        });
    moved(app, done.is_ok());
    answer(app, actor, &row, ("end", done)).await
}

/// Takes in what somebody found who looked back at an emergency.
///
/// # Errors
///
/// When there is nothing to look back at, or they were one of its custodians.
pub async fn review(
    app: &App,
    actor: &Actor,
    id: &str,
    note: &str,
) -> Result<EmergencyView, OperationError> {
    check_reason(note)?;
    let (row, known) = find(app, id).await?;
    let done: Result<Emergency, OperationError> =
        transact!(app.store, Lane::Ordinary, "emergency_review", |txn| {
            holds::hold_lock(txn).await?;
            let now = txn.now();
            let seat = seat_of(txn, actor).await?;
            let reviewed = again(txn, known.id).await?.review(&seat, note, now);
            let reviewed = reviewed.map_err(|no| refused(&no))?;
            stored::emergency_put(txn, &reviewed).await?;
            told(txn, actor, "emergency.review", &reviewed);
            Ok(reviewed)
        });
    answer(app, actor, &row, ("review", done)).await
}

/// Returns one emergency.
///
/// # Errors
///
/// When there is none.
pub async fn get(app: &App, id: &str) -> Result<EmergencyView, OperationError> {
    let (row, known) = find(app, id).await?;
    show(app, &row, &known).await
}

/// Lists the emergencies of a rollout, the newest first.
///
/// # Errors
///
/// When there is no such rollout.
pub async fn list(app: &App, rollout: &str) -> Result<Vec<EmergencyView>, OperationError> {
    let row = load::find(app, rollout).await?;
    let mut views = Vec::new();
    for known in stored::emergencies_load(app.store.read()).await? {
        if known.wish.rollout == row.id {
            views.push(show(app, &row, &known).await?);
        }
    }
    Ok(views)
}

async fn find(app: &App, id: &str) -> Result<(RolloutRow, Emergency), OperationError> {
    let missing = || OperationError::not_found("emergency", id);
    let named: ExemptionId = id.parse().map_err(|_| missing())?;
    let all = stored::emergencies_load(app.store.read()).await?;
    let known = all.into_iter().find(|one| one.id == named);
    let known = known.ok_or_else(missing)?;
    Ok((load::row(app, known.wish.rollout).await?, known))
}

/// Reads it once more, under the lock of whoever changes it.
async fn again(txn: &Txn, id: ExemptionId) -> Result<Emergency, StoreError> {
    let all = stored::emergencies_load(txn).await?;
    let known = all.into_iter().find(|one| one.id == id);
    known.ok_or(StoreError::NotFound)
}

async fn case_of(
    txn: &Txn,
    row: &RolloutRow,
    waves: &BTreeSet<WaveNumber>,
    asked: Option<&Emergency>,
) -> Result<Case, OperationError> {
    let record = load::record(row)?;
    let (_, in_force) = holds::holds_within(txn).await?;
    let covering = waves.iter().flat_map(|wave| {
        let place = Place::wave(row.target, row.id, *wave);
        in_force.covering(&place)
    });
    let halts = covering.filter(|hold| hold.kind == HoldKind::Halt);
    let asker_now = match asked {
        Some(asked) => {
            let found = token::token_find(txn, asked.by.token.as_str()).await?;
            let found = found.filter(|found| found.revoked_at.is_none());
            found.and_then(|found| release::group_of(&found.role))
        }
        None => None,
    };
    Ok(Case {
        is_running: matches!(record.lifecycle, Lifecycle::Running { .. }),
        waves: record
            .waves
            .iter()
            .map(|wave| stage(&wave.status))
            .collect(),
        halts: halts.map(|hold| hold.id).collect(),
        asker_now,
        others: stored::emergencies_load(txn).await?,
    })
}

const fn stage(status: &WaveStatus) -> Stage {
    match status {
        WaveStatus::Passed {} => Stage::Over,
        WaveStatus::Pending {} => Stage::Pending,
        WaveStatus::Open {}
        | WaveStatus::Waiting {}
        | WaveStatus::Draining { .. }
        | WaveStatus::Soaking { .. }
        | WaveStatus::Gated {}
        | WaveStatus::Failed { .. }
        | WaveStatus::Retrying {} => Stage::Begun,
    }
}

fn refused(refusal: &EmergencyRefusal) -> OperationError {
    OperationError::refused(refusal.code(), refusal.to_string())
}

fn told(txn: &mut Txn, actor: &Actor, action: &str, emergency: &Emergency) {
    let detail = json!({"emergency": emergency});
    let subject = format!("rollout:{}", emergency.wish.rollout);
    txn.audit(actor.entry(action, subject, detail));
}

/// Has this process act on it at once; the others hear of the epoch.
fn moved(app: &App, is_done: bool) {
    if is_done {
        app.permit.hurry();
        app.wake.ring();
    }
}

/// Shows what came of a step; one that was refused is in the trail then.
async fn answer(
    app: &App,
    actor: &Actor,
    row: &RolloutRow,
    (step, done): (&str, Result<Emergency, OperationError>),
) -> Result<EmergencyView, OperationError> {
    let what = ("emergency.refused", format!("rollout:{}", row.id));
    let emergency = refusals::told(app, actor, what, step, done).await?;
    show(app, row, &emergency).await
}

async fn show(
    app: &App,
    row: &RolloutRow,
    emergency: &Emergency,
) -> Result<EmergencyView, OperationError> {
    let now = app.store.now().await?;
    let standing = emergency.standing(now);
    let (until, is_open) = match standing {
        Standing::Asked { until } | Standing::Running { until } => (Some(until), true),
        Standing::Dropped | Standing::ReviewDue { .. } | Standing::Reviewed => (None, false),
    };
    let leaps_over = match emergency.confirmed {
        None if is_open => {
            let leapt = leapt(app, row, emergency).await.into_iter();
            leapt.map(|item| item.sentence).collect()
        }
        Some(_) | None => emergency.leaps_over.clone(),
    };
    let word = |word: &tidegate_orchestrator::hold::requirement::Word| WordView {
        by: word.person.to_string(),
        at: word.at,
        note: word.note.clone(),
    };
    let confirmed = emergency.confirmed.as_ref();
    let (_, in_force) = holds::holds_known(&app.store).await?;
    let exemption = emergency.exemption();
    let over = exemption.and_then(|one| in_force.overrides(&one, row.target, now));
    Ok(EmergencyView {
        id: emergency.id,
        rollout: row.name.clone(),
        waves: emergency.wish.waves.iter().map(|wave| wave.get()).collect(),
        holds: emergency.holds.iter().copied().collect(),
        minutes: emergency.wish.minutes,
        incident: emergency.wish.incident.clone(),
        reason: emergency.wish.reason.clone(),
        asked_by: emergency.by.person.to_string(),
        asked_at: emergency.at,
        confirmed_by: confirmed.map(|yes| yes.by.person.to_string()),
        confirmed_at: confirmed.map(|yes| yes.at),
        standing: standing.name().to_owned(),
        until,
        ended: emergency.ended.as_ref().map(word),
        review: emergency.review.as_ref().map(word),
        sentence: emergency.sentence(now, over),
        leaps_over,
    })
}

/// What an emergency leaps over: what the release of its halts would wait for, and whoever has left since.
async fn leapt(app: &App, row: &RolloutRow, emergency: &Emergency) -> Vec<ItemView> {
    let mut leapt = Vec::new();
    for hold in &emergency.holds {
        let found = holds::hold_load(app.store.read(), *hold).await;
        let hold = found.and_then(|found| found.map(|row| row.hold()).transpose());
        if let Ok(Some(hold)) = hold {
            leapt.extend(unmet(app, &hold).await);
        }
    }
    // A drift that was measured is carried out by a release, and not by an emergency.
    if let Ok(DriftView {
        report: Some(report),
        status,
        ..
    }) = drift::show(app, &row.name).await
        && status == "measured"
    {
        let mut left = report.classes.iter().filter(|class| class.class == "left");
        if let Some(left) = left.next().filter(|left| left.people > 0) {
            leapt.push(ItemView {
                ok: false,
                code: "leavers_are_moved".to_owned(),
                sentence: format!(
                    "{} of the rollout have left since it was planned: those of the named waves are moved with the others",
                    people(left.people)
                ),
            });
        }
    }
    // Several halts wait for much of the same: it is said once.
    let mut said = BTreeSet::new();
    leapt.retain(|item| said.insert(item.sentence.clone()));
    leapt
}

/// What the release of a halt would wait for. For information: what cannot be told keeps nobody waiting.
async fn unmet(app: &App, hold: &Hold) -> Vec<ItemView> {
    if !hold.is_in_force() {
        return Vec::new();
    }
    match release::preflight_show(app, &hold.id.to_string()).await {
        Ok(view) => view.items.into_iter().filter(|item| !item.ok).collect(),
        Err(error) => {
            tracing::warn!(hold = %hold.id, %error, "what an emergency leaps over could not be looked up");
            Vec::new()
        }
    }
}
