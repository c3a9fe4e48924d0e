//! Rollouts: create, revise, start, cancel, approve, retry, and how they stand.

use serde_json::json;
use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::{Cause, HoldKind, HoldSet, MovedPeople, Scope, Wanted};
use tidegate_orchestrator::ids::{Generation, Principal, RolloutId, WaveNumber};
use tidegate_orchestrator::ledger::SlotState;
use tidegate_orchestrator::rollout::{Command, Event, Refusal, Rollout, record};
use tidegate_orchestrator::sentence::people;
use tidegate_orchestrator::spec::{Spec, SpecErrors, SpecFormat};

use super::view::RolloutView;
use super::{
    Actor, Detail, OperationError, Page, hold, load, plan, population, revert, status, target,
};
use crate::app::App;
use crate::store::rollout::{self as rows, RolloutRow};
use crate::store::wave::{self, ApprovalRow};
use crate::store::{Lane, StoreError, Txn, hold as holds, transact};

/// Creates a rollout out of a spec. Nothing is planned, and nothing moves.
///
/// # Errors
///
/// When the spec is wrong, names what is not there, or its name is taken.
pub async fn create(
    app: &App,
    actor: &Actor,
    text: &str,
    format: SpecFormat,
) -> Result<RolloutView, OperationError> {
    let spec = Spec::parse(text, format).map_err(|errors| invalid_spec(&errors))?;
    population::check_name(&spec.rollout)?;
    let row = RolloutRow {
        id: app.ids.make(),
        name: spec.rollout.clone(),
        population: population::find(app, &spec.population).await?.id,
        target: target::find(app, &spec.target).await?.id,
        spec_format: format.name().to_owned(),
        spec_text: text.to_owned(),
        spec_digest: spec.digest().to_string(),
        lifecycle: "draft".to_owned(),
        state: record::encode(&Rollout::new()).map_err(StoreError::corrupt)?,
        plan: None,
        wake_at: None,
        generation: Generation(1),
        created_at: app.clock.now(),
        reverts: None,
    };
    let created: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "rollout_create", |txn| {
            rows::rollout_insert(txn, &row).await?;
            let detail =
                json!({"name": row.name, "spec_digest": row.spec_digest, "spec": row.spec_text});
            txn.audit(actor.entry("rollout.create", format!("rollout:{}", row.id), detail));
            Ok(())
        });
    match created {
        Ok(()) => status::of(app, &row).await,
        Err(StoreError::Conflict | StoreError::Taken) => {
            Err(OperationError::name_taken("rollout", &row.name))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) fn invalid_spec(errors: &SpecErrors) -> OperationError {
    let details = errors.0.iter().map(|error| Detail {
        line: error.line.and_then(|line| usize::try_from(line).ok()),
        column: error.column.and_then(|column| usize::try_from(column).ok()),
        field: Some(error.field.clone()).filter(|field| !field.is_empty()),
        code: error.code.clone(),
        message: error.message.clone(),
    });
    OperationError::Invalid {
        code: "spec_invalid".to_owned(),
        sentence: errors.to_string(),
        details: details.collect(),
    }
}

/// Replaces the spec of a rollout that has not started; its plan is void.
///
/// # Errors
///
/// When the spec is wrong or of another rollout, the rollout has started, or it changed meanwhile.
pub async fn revise(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Generation,
    text: &str,
    format: SpecFormat,
) -> Result<RolloutView, OperationError> {
    let spec = Spec::parse(text, format).map_err(|errors| invalid_spec(&errors))?;
    let row = load::find(app, name).await?;
    revert::refuse_of_revert(&row)?;
    if spec.rollout != row.name {
        let sentence = format!(
            "the spec is of rollout `{}`, and this is `{}`: a rollout keeps its name",
            spec.rollout, row.name
        );
        return Err(OperationError::invalid("rollout_differs", sentence));
    }
    let population = population::find(app, &spec.population).await?.id;
    let target = target::find(app, &spec.target).await?.id;
    let by = Principal::new(actor.principal.clone());
    let revised: Result<RolloutRow, OperationError> =
        transact!(app.store, Lane::Ordinary, "rollout_revise", |txn| {
            let mut row = rows::rollout_load(txn, row.id)
                .await?
                .ok_or(StoreError::NotFound)?;
            if row.generation != generation {
                return Err(OperationError::Conflict { what: "rollout" });
            }
            row.population = population;
            row.target = target;
            format.name().clone_into(&mut row.spec_format);
            text.clone_into(&mut row.spec_text);
            row.spec_digest = spec.digest().to_string();
            commit(app, txn, actor, row, &Command::Revise { by: by.clone() }).await
        });
    status::of(app, &revised?).await
}

/// Starts exactly the plan that was looked at.
///
/// # Errors
///
/// When there is no plan, the digest is of another one, the population or the spec changed since, or
/// a hold stands in the way.
pub async fn start(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Option<Generation>,
    digest: &str,
) -> Result<RolloutView, OperationError> {
    let row = load::find(app, name).await?;
    if row.reverts.is_some() {
        return revert::start(app, actor, &row, (generation, digest)).await;
    }
    check_generation(&row, generation)?;
    let digest = digest_of(digest)?;
    let state = load::record(&row)?;
    if let (Some(bound), None) = (state.lifecycle.plan(), state.lifecycle.started())
        && !state.lifecycle.is_over()
    {
        let changed = plan::changes(app, &row, bound.id).await?;
        if !changed.is_empty() {
            return Err(stale(&row.name, changed));
        }
        if bound.digest != digest {
            let sentence = format!(
                "the plan of `{}` is {}, and not the one you named",
                row.name, bound.digest
            );
            return Err(stale(&row.name, vec![sentence]));
        }
    }
    let by = Principal::new(actor.principal.clone());
    let row = command(app, actor, row.id, &Command::Start { digest, by }).await?;
    status::of(app, &row).await
}

fn stale(name: &str, changed: Vec<String>) -> OperationError {
    OperationError::Refused {
        code: "plan_stale".to_owned(),
        sentence: format!(
            "the plan of `{name}` is not what would run now: look at a new one with `tidegate plan`"
        ),
        details: changed
            .into_iter()
            .map(|sentence| Detail::new("changed", sentence))
            .collect(),
    }
}

fn digest_of(text: &str) -> Result<Digest, OperationError> {
    text.parse()
        .map_err(|error: tidegate_orchestrator::digest::DigestError| {
            OperationError::invalid("digest_invalid", error.to_string())
        })
}

fn check_generation(row: &RolloutRow, expected: Option<Generation>) -> Result<(), OperationError> {
    match expected {
        Some(expected) if expected != row.generation => {
            Err(OperationError::Conflict { what: "rollout" })
        }
        _ => Ok(()),
    }
}

/// Ends a rollout for good; whoever has been moved stays moved.
///
/// # Errors
///
/// When there is none, or it is over.
pub async fn cancel(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Option<Generation>,
    reason: &str,
) -> Result<RolloutView, OperationError> {
    hold::check_reason(reason)?;
    let row = load::find(app, name).await?;
    check_generation(&row, generation)?;
    let by = Principal::new(actor.principal.clone());
    let row = command(
        app,
        actor,
        row.id,
        &Command::Cancel {
            by,
            reason: reason.to_owned(),
        },
    )
    .await?;
    status::of(app, &row).await
}

/// Tries the failed people again.
///
/// # Errors
///
/// When nobody has been tried yet, or a hold stands in the way.
pub async fn retry(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Option<Generation>,
    wave: Option<u32>,
    reason: &str,
) -> Result<RolloutView, OperationError> {
    hold::check_reason(reason)?;
    let row = load::find(app, name).await?;
    check_generation(&row, generation)?;
    let by = Principal::new(actor.principal.clone());
    let command_ = Command::RetryFailed {
        wave: wave.map(WaveNumber),
        by,
        reason: reason.to_owned(),
    };
    let row = command(app, actor, row.id, &command_).await?;
    status::of(app, &row).await
}

/// Says yes to what a wave has shown, for exactly one plan.
///
/// # Errors
///
/// When the wave is not at its gate, the plan is another one, or the person made or started it.
pub async fn approve(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Option<Generation>,
    number: u32,
    (digest, reason): (&str, &str),
) -> Result<RolloutView, OperationError> {
    hold::check_reason(reason)?;
    let row = load::find(app, name).await?;
    check_generation(&row, generation)?;
    let digest = digest_of(digest)?;
    let wave = WaveNumber(number);
    let by = Principal::new(actor.principal.clone());
    let approved: Result<RolloutRow, OperationError> =
        transact!(app.store, Lane::Ordinary, "wave_approve", |txn| {
            let row = rows::rollout_load(txn, row.id)
                .await?
                .ok_or(StoreError::NotFound)?;
            let approval = ApprovalRow {
                wave,
                principal: actor.principal.clone(),
                plan_digest: digest.to_string(),
                reason: reason.to_owned(),
                at: txn.now(),
            };
            wave::approval_put(txn, row.id, &approval).await?;
            commit(
                app,
                txn,
                actor,
                row,
                &Command::ApproveWave {
                    wave,
                    digest,
                    by: by.clone(),
                },
            )
            .await
        });
    let row = approved?;
    app.wake.ring();
    status::of(app, &row).await
}

/// Pauses or halts a whole rollout.
///
/// # Errors
///
/// When there is none.
pub async fn stop(
    app: &App,
    actor: &Actor,
    name: &str,
    kind: HoldKind,
    reason: &str,
) -> Result<RolloutView, OperationError> {
    hold::check_reason(reason)?;
    let row = load::find(app, name).await?;
    let wanted = Wanted {
        kind,
        scope: Scope::Rollout(row.id),
        part: None,
        cause: Cause::People {
            principals: vec![Principal::new(actor.principal.clone())],
        },
        reason: reason.to_owned(),
        effect: MovedPeople::Keep,
        review_at: None,
    };
    let before_others = app.store.stopping();
    let (hold, is_new) = hold::place_wanted(app, actor, wanted).await?;
    drop(before_others);
    if is_new {
        hold::count(app, &hold);
    }
    app.wake.ring();
    // The hold stands, whatever the rest looks like.
    status::of(app, &row).await.map_err(|error| {
        tracing::error!(rollout = %row.id, %error, "a rollout that was stopped cannot be shown");
        let sentence = format!(
            "the {} is in force, but the rollout cannot be shown: when that stays so, `tidegate fsck` says what is damaged",
            kind.name()
        );
        OperationError::refused("rollout_unreadable", sentence)
    })
}

/// Lets go of the pauses of a rollout; halts stay.
///
/// # Errors
///
/// When there is none.
pub async fn resume(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Option<Generation>,
    reason: &str,
) -> Result<RolloutView, OperationError> {
    check_generation(&load::find(app, name).await?, generation)?;
    hold::resume(app, actor, name, reason).await?;
    get(app, name).await
}

/// Returns how a rollout stands.
///
/// # Errors
///
/// When there is none.
pub async fn get(app: &App, name: &str) -> Result<RolloutView, OperationError> {
    status::of(app, &load::find(app, name).await?).await
}

/// Lists rollouts in the order in which they were created.
///
/// # Errors
///
/// When the cursor is none or the store cannot be reached.
pub async fn list(
    app: &App,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<RolloutView>, OperationError> {
    let after = match cursor {
        Some(cursor) => {
            let parsed = cursor.split_once('_').and_then(|(at, id)| {
                Some((at.parse().ok()?, id.parse::<RolloutId>().ok()?.to_string()))
            });
            Some(parsed.ok_or_else(|| {
                OperationError::invalid("cursor_invalid", "the cursor is not one of ours")
            })?)
        }
        None => None,
    };
    let mut views = Vec::new();
    for row in rows::rollout_page(app.store.read(), after, limit + 1).await? {
        views.push(status::of(app, &row).await?);
    }
    Ok(Page::cut(views, limit, |view| {
        format!("{}_{}", view.created_at.timestamp_millis(), view.id)
    }))
}

/// Asks whether a command would be accepted, and changes nothing.
///
/// # Errors
///
/// When it would not.
pub async fn check(app: &App, row: &RolloutRow, wanted: &Command) -> Result<(), OperationError> {
    let held = load::held(app, row, None).await?;
    let decided = load::record(row)?.decide(wanted, held.as_ref(), app.clock.now());
    decided.map(|_| ()).map_err(|refusal| refused(&refusal))
}

/// Nobody looks up what became of people once their rollout is over; whoever was being taken back might be, and
/// the original would go on saying that they are moved.
async fn refuse_in_doubt(txn: &Txn, row: &RolloutRow) -> Result<(), OperationError> {
    let waves = wave::waves_load(txn, row.id).await?;
    let doubtful = [SlotState::InFlight, SlotState::Unknown, SlotState::Awaiting];
    let of = |state: SlotState| {
        waves
            .iter()
            .map(move |wave| wave.tally.get(state))
            .sum::<u64>()
    };
    let count: u64 = doubtful.into_iter().map(of).sum();
    if count == 0 {
        return Ok(());
    }
    let name = &row.name;
    let sentence = format!(
        "{} of `{name}` may be taken back already, and nobody would look: pause it, wait until what had been under way \
         has come back, let it look up who is in doubt, and cancel it then",
        people(count)
    );
    Err(OperationError::refused("revert_in_doubt", sentence))
}

/// Carries out a command on a rollout: load, decide, save with its audit record, and ring.
///
/// # Errors
///
/// When the domain says no, or somebody changed the rollout meanwhile.
pub async fn command(
    app: &App,
    actor: &Actor,
    id: RolloutId,
    wanted: &Command,
) -> Result<RolloutRow, OperationError> {
    let done: Result<RolloutRow, OperationError> =
        transact!(app.store, Lane::Ordinary, "rollout_command", |txn| {
            let row = rows::rollout_load(txn, id)
                .await?
                .ok_or_else(|| OperationError::not_found("rollout", id))?;
            if matches!(wanted, Command::Cancel { .. }) && row.reverts.is_some() {
                refuse_in_doubt(txn, &row).await?;
            }
            commit(app, txn, actor, row, wanted).await
        });
    if done.is_ok() {
        app.wake.ring();
    }
    done
}

pub(super) async fn commit(
    _app: &App,
    txn: &mut Txn,
    actor: &Actor,
    row: RolloutRow,
    wanted: &Command,
) -> Result<RolloutRow, OperationError> {
    let (_, held) = holds::holds_within(txn).await?;
    commit_under(txn, actor, row, (wanted, &held)).await
}

/// The same, under holds that the transaction knows better than anybody else.
pub(super) async fn commit_under(
    txn: &mut Txn,
    actor: &Actor,
    mut row: RolloutRow,
    (wanted, held): (&Command, &HoldSet),
) -> Result<RolloutRow, OperationError> {
    let now = txn.now();
    let wave = match wanted {
        Command::ApproveWave { wave, .. } => Some(*wave),
        Command::RetryFailed { wave, .. } => {
            revert::refuse_open(txn, row.id, *wave).await?;
            *wave
        }
        _ => None,
    };
    let place = tidegate_orchestrator::hold::Place {
        target: row.target,
        rollout: row.id,
        wave,
    };
    let mut state = load::record(&row)?;
    let was_over = state.lifecycle.is_over();
    let events = state
        .decide(wanted, load::hold_on(held, &row, &place, now), now)
        .map_err(|refusal| refused(&refusal))?;
    if events.is_empty() {
        return Ok(row);
    }
    for event in &events {
        state = state.apply(event);
    }
    state.lifecycle.name().clone_into(&mut row.lifecycle);
    row.plan = state.lifecycle.plan().map(|plan| plan.id);
    row.state = record::encode(&state).map_err(StoreError::corrupt)?;
    let wake_was = row.wake_at.replace(now);
    rows::rollout_save(txn, &mut row, wake_was)
        .await
        .map_err(|error| match error {
            // Somebody else was faster: load what they left, and decide again.
            StoreError::Conflict => StoreError::Serialization,
            other => other,
        })?;
    if state.lifecycle.is_over() && !was_over {
        revert::closed(txn, &row).await?;
    }
    for event in &events {
        txn.audit(entry(actor, &row, event));
    }
    Ok(row)
}

fn entry(actor: &Actor, row: &RolloutRow, event: &Event) -> crate::store::audit::Entry {
    let detail = json!({"wave": event.change.wave(), "change": event.change, "spec_digest": row.spec_digest});
    actor.entry(event.change.code(), format!("rollout:{}", row.id), detail)
}

fn refused(refusal: &Refusal) -> OperationError {
    OperationError::refused(refusal.code(), refusal.to_string())
}
