//! Puts the people of a rollout beside those there are now, and keeps what becomes of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_orchestrator::digest::{Digest, DigestBuilder};
use tidegate_orchestrator::drift::{
    self as pure, Class, Late, Measured, NewSlot, SlotChange, Standing as Stands, Then, body,
};
use tidegate_orchestrator::ids::{
    BatchSeq, DriftId, Ordinal, PlanId, PopulationVersionId, WaveNumber,
};
use tidegate_orchestrator::ledger::{SlotCommand, SlotIndex, SlotState, Slots};
use tidegate_orchestrator::plan::{Plan, WaveDelta, amend};
use tidegate_orchestrator::population::Population;
use tidegate_orchestrator::rollout::{Lifecycle, Rollout};
use tidegate_orchestrator::roster;
use tidegate_orchestrator::spec::Spec;
use tidegate_policy::Condition;

use super::super::plan::spec_of;
use super::super::slots::is_lease_over;
use super::super::{Actor, OperationError, condition, load, member, revert};
use super::matching::matched;
use super::merge::{self, Both};
use super::view::{self, ClassView, DriftView, Report, WaveDrift};
use super::{basis, current_version, source};
use crate::app::App;
use crate::store::drift::{self as rows, DriftBatchRow, DriftRow};
use crate::store::part::holds_of_rollout;
use crate::store::plan::{self as plans, PlanRosterRow, PlanRow};
use crate::store::rollout::RolloutRow;
use crate::store::{Lane, StoreError, ledger, target, transact};

/// How many batches one read or one transaction takes.
const BATCHES: usize = 64;
/// The attribute that user names are looked for in, when the target does not say.
const USER_NAME: &str = "user_name";

/// What is measured, and where it is kept.
struct Measuring {
    row: RolloutRow,
    rollout: Rollout,
    plan: Arc<Plan>,
    spec: Spec,
    now: PopulationVersionId,
    names_by: Option<String>,
}

/// Measures the drift of a started rollout, and keeps it until a release binds it. `by_hand` tells who is said
/// to have been moved by hand meanwhile.
///
/// # Errors
///
/// When the rollout is not under way, people are in flight, or the spec no longer fits the population.
pub async fn measure(
    app: &App,
    actor: &Actor,
    name: &str,
    by_hand: Option<&Value>,
) -> Result<DriftView, OperationError> {
    let row = load::find(app, name).await?;
    revert::refuse_of_revert(&row)?;
    let Some(task) = begin(app, row).await? else {
        return view::show(app, name).await;
    };
    let by_hand = match by_hand {
        Some(asked) => Some(condition::read(app, condition::BY_HAND, asked, task.now).await?),
        None => None,
    };
    let based_on = basis(app.store.read(), &task.row).await?;
    let (measured, who, population, places) = compare(app, &task, by_hand).await?;
    let (content, people_now) = (population.content_digest(), population.len());
    drop(population);
    if measured.in_flight > 0 {
        let sentence = format!(
            "{} are still under way: measure again when they have come back",
            tidegate_orchestrator::sentence::people(measured.in_flight)
        );
        return Err(OperationError::refused("drift_in_flight", sentence));
    }
    let derived: PopulationVersionId = app.ids.make();
    let both = Both {
        then: task.plan.population_version,
        now: task.now,
        who: Arc::clone(&who),
    };
    merge::write(app, derived, &both).await?;
    let kept = keep(
        app,
        &task,
        (derived, based_on),
        &measured,
        ((content, people_now), &places, &who),
    )
    .await;
    let drift = match kept {
        Ok(drift) => drift,
        Err(error) => {
            discard(app, derived).await;
            return Err(error);
        }
    };
    let told: Result<(), StoreError> = transact!(
        app.store,
        Lane::Ordinary,
        "drift_measured",
        |txn| {
            let detail = json!({"drift": drift.id, "digest": drift.digest, "from": drift.from, "to": drift.to});
            // What was measured before and never bound is of no use any more.
            while let Some(before) = rows::drift_newest(txn, task.row.id, "proposed").await? {
                let plan = plans::plan_load(txn, before.plan).await?;
                let derived = plan.map(|plan| plan.population_version);
                rows::drift_status_set(txn, before.id, "replaced").await?;
                if let Some(derived) = derived {
                    rows::drift_clear(txn, before.id, before.plan, derived).await?;
                }
            }
            rows::drift_insert(txn, &drift).await?;
            txn.audit(actor.entry(
                "rollout.drift_measured",
                format!("rollout:{}", task.row.id),
                detail,
            ));
            Ok(())
        }
    );
    told?;
    view::of(app, "measured", &drift).await
}

async fn discard(app: &App, derived: PopulationVersionId) {
    let cleared: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "drift_discard", |txn| {
            rows::drift_clear(txn, app.ids.make(), app.ids.make(), derived).await
        });
    if let Err(error) = cleared {
        tracing::warn!(%error, "a measurement that failed could not be cleared away");
    }
}

/// Loads what there is to measure; nothing when nobody was imported since.
async fn begin(app: &App, row: RolloutRow) -> Result<Option<Measuring>, OperationError> {
    let rollout = load::record(&row)?;
    let Lifecycle::Running { plan: bound, .. } = &rollout.lifecycle else {
        let sentence = format!(
            "rollout `{}` is {}: drift is measured of one that runs, held or not",
            row.name,
            rollout.lifecycle.name()
        );
        return Err(OperationError::refused("not_running", sentence));
    };
    let plan = load::plan(app, bound.id).await?;
    let current = current_version(app.store.read(), &row).await?;
    let Some(now) = current else {
        return Ok(None);
    };
    if now == source(app.store.read(), bound.id).await? {
        return Ok(None);
    }
    for held in holds_of_rollout(app.store.read(), row.id).await? {
        if held.part.as_ref().is_some_and(|part| !part.is_sorted) {
            let sentence = format!(
                "hold {} still sorts the people of its wave: measure again in a moment; `tidegate hold show` says what it waits for",
                held.id
            );
            return Err(OperationError::refused("drift_unsorted", sentence));
        }
    }
    let spec = spec_of(&row)?;
    let schema = member::schema(app, now).await?;
    let has = |name: &str| schema.columns.iter().any(|column| column.name == name);
    if let Some(gone) = spec.attributes().into_iter().find(|name| !has(name)) {
        let sentence = format!(
            "the population has no attribute `{gone}` any more, which the spec asks for: import it with that column"
        );
        return Err(OperationError::refused("attribute_unknown", sentence));
    }
    let target = target::target_load(app.store.read(), row.target).await?;
    let connector = app.connectors.of(&target, &app.clock).ok();
    let named_by = connector.and_then(|way| way.user_name_attribute().map(str::to_owned));
    let names_by = Some(named_by.unwrap_or_else(|| USER_NAME.to_owned())).filter(|name| has(name));
    Ok(Some(Measuring {
        row,
        rollout,
        plan,
        spec,
        now,
        names_by,
    }))
}

type Compared = (Measured, Arc<Vec<Option<Ordinal>>>, Arc<Population>, Places);

/// Compares everybody, on a thread of its own.
async fn compare(
    app: &App,
    task: &Measuring,
    by_hand: Option<Condition>,
) -> Result<Compared, OperationError> {
    let mut attributes = task.spec.attributes();
    attributes.extend(
        by_hand
            .iter()
            .flat_map(Condition::attributes)
            .map(str::to_owned),
    );
    let then = task.plan.population_version;
    let now = Arc::new(member::load(app, task.now, &attributes).await?);
    // Side by side: each of them reads everybody, and unpacks them on a thread of its own.
    let (who, names_then, names_now) = tokio::try_join!(
        matched(app, then, &now),
        names_of(app, then, task.names_by.as_deref()),
        names_of(app, task.now, task.names_by.as_deref()),
    )?;
    let (standing, places) = ledger_of(app, &task.row, who.len()).await?;
    let finished: Vec<bool> = task
        .rollout
        .waves
        .iter()
        .map(|wave| pure::is_finished(&wave.status))
        .collect();
    let spec = task.spec.clone();
    let compared = tokio::task::spawn_blocking(move || {
        let people = Then {
            standing: &standing,
            now: &who,
            names: &names_then,
        };
        let late = Late {
            people: &now,
            names: &names_now,
            finished: &finished,
            by_hand: by_hand.as_ref(),
        };
        let measured = pure::measure(&spec, people, late);
        (measured, Arc::new(who), now, places)
    });
    Ok(compared.await.map_err(StoreError::corrupt)?)
}

/// Returns a hash of everybody's user name; nothing when user names are not known.
async fn names_of(
    app: &App,
    version: PopulationVersionId,
    attribute: Option<&str>,
) -> Result<Vec<u64>, OperationError> {
    match attribute {
        Some(attribute) => Ok(member::hashes(app, version, attribute).await?),
        None => Ok(Vec::new()),
    }
}

/// How many batches each wave has.
type Places = BTreeMap<WaveNumber, u32>;

/// Reads where everybody stands.
async fn ledger_of(
    app: &App,
    row: &RolloutRow,
    people: usize,
) -> Result<(Vec<Option<Stands>>, Places), OperationError> {
    let mut standing = vec![None; people];
    let mut places = Places::new();
    let now = app.store.now().await?;
    let mut after = (0, -1);
    loop {
        let page =
            ledger::batches_page(app.store.read(), row.id, None, after, None, BATCHES).await?;
        let Some(last) = page.last() else { break };
        let (wave, seq) = (last.address.wave, last.address.seq);
        after = (i64::from(wave.get()), i64::from(seq.get()));
        for batch in &page {
            let wave = batch.address.wave;
            *places.entry(wave).or_default() += 1;
            let slots = Slots::decode(&batch.slots).map_err(StoreError::corrupt)?;
            let ordinals = roster::decode(&batch.roster).map_err(StoreError::corrupt)?;
            let is_over = is_lease_over(batch, now)?;
            for ((state, index), ordinal) in slots.states().zip(0..).zip(ordinals) {
                let state = match state {
                    SlotState::Transferred => continue,
                    SlotState::Parked if slots.is_parked_in_doubt(SlotIndex(index)) => {
                        SlotState::Unknown
                    }
                    // Their worker died, and under a hold nobody claims the batch and finds that out.
                    SlotState::InFlight if is_over => SlotState::Unknown,
                    state => state,
                };
                let place = usize::try_from(ordinal.get()).ok();
                if let Some(found) = place.and_then(|place| standing.get_mut(place)) {
                    *found = Some(Stands { wave, state });
                }
            }
        }
    }
    Ok((standing, places))
}

/// Writes everything that a release would bind, but for the row that makes it count.
async fn keep(
    app: &App,
    task: &Measuring,
    (derived, based_on): (PopulationVersionId, String),
    measured: &Measured,
    ((content, people_now), places, who): ((Digest, u32), &Places, &[Option<Ordinal>]),
) -> Result<DriftRow, OperationError> {
    let id: DriftId = app.ids.make();
    let deltas = deltas(measured);
    let plan = amend(&task.plan, (derived, content), &deltas, app.clock.now());
    let plan_id: PlanId = app.ids.make();
    for (class, people) in &measured.classes {
        let chunks = view::chunks(people)?;
        let written: Result<(), StoreError> =
            transact!(app.store, Lane::Ordinary, "drift_people", |txn| {
                rows::drift_people_insert(txn, id, class.name(), &chunks).await
            });
        written?;
    }
    changed_batches(app, &task.row, id, &measured.changes).await?;
    write_plan(app, task, (plan_id, &plan), measured, places, id).await?;
    let report = report(task, &plan, measured, &deltas, (people_now, who.len()));
    let mut digest = DigestBuilder::default();
    digest.part(b"tidegate drift 1");
    digest.part(&plan.digest.0);
    digest.part(based_on.as_bytes());
    for (class, people) in &measured.classes {
        digest.part(class.name().as_bytes());
        let numbers: Vec<u8> = people
            .iter()
            .flat_map(|who| who.get().to_le_bytes())
            .collect();
        digest.part(&Digest::of(&numbers).0);
    }
    Ok(DriftRow {
        id,
        rollout: task.row.id,
        status: "proposed".to_owned(),
        from: task.plan.population_version,
        to: task.now,
        plan: plan_id,
        digest: digest.finish().to_string(),
        basis: based_on,
        report: serde_json::to_string(&report).map_err(StoreError::corrupt)?,
        created_at: app.clock.now(),
    })
}

/// By wave: how many go and come, and who they are.
fn deltas(measured: &Measured) -> Vec<WaveDelta> {
    let mut waves: BTreeMap<WaveNumber, (u64, u64, Vec<u8>)> = BTreeMap::new();
    for change in &measured.changes {
        let entry = waves.entry(change.wave).or_default();
        entry.0 += u64::from(change.command == SlotCommand::Transfer);
        entry.2.extend(change.ordinal.get().to_le_bytes());
        entry.2.extend(format!("{:?}", change.command).bytes());
    }
    for slot in &measured.new_slots {
        let entry = waves.entry(slot.wave).or_default();
        entry.1 += 1;
        entry.2.extend(slot.ordinal.get().to_le_bytes());
        entry.2.push(u8::from(slot.review));
    }
    let delta =
        |(number, (transferred, added, members)): (WaveNumber, (u64, u64, Vec<u8>))| WaveDelta {
            number,
            transferred,
            added,
            members: Digest::of(&members),
        };
    waves.into_iter().map(delta).collect()
}

/// Writes what becomes of the batches that are there.
async fn changed_batches(
    app: &App,
    row: &RolloutRow,
    id: DriftId,
    changes: &[SlotChange],
) -> Result<(), OperationError> {
    let mut after = (0, -1);
    loop {
        let page =
            ledger::batches_page(app.store.read(), row.id, None, after, None, BATCHES).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        let (wave, seq) = (last.address.wave, last.address.seq);
        after = (i64::from(wave.get()), i64::from(seq.get()));
        let mut found = Vec::new();
        for batch in &page {
            let wave = batch.address.wave;
            let slots = Slots::decode(&batch.slots).map_err(StoreError::corrupt)?;
            let ordinals = roster::decode(&batch.roster).map_err(StoreError::corrupt)?;
            let mut each = Vec::new();
            for ((state, ordinal), index) in slots.states().zip(ordinals).zip(0..) {
                let at = changes.binary_search_by_key(&(wave, ordinal), |c| (c.wave, c.ordinal));
                let change = at.ok().and_then(|at| changes.get(at));
                if let Some(change) = change.filter(|_| state != SlotState::Transferred) {
                    each.push((SlotIndex(index), change.command));
                }
            }
            if !each.is_empty() {
                found.push(DriftBatchRow {
                    wave,
                    seq: batch.address.seq,
                    body: body::encode(&each),
                });
            }
        }
        let written: Result<(), StoreError> =
            transact!(app.store, Lane::Ordinary, "drift_batches", |txn| {
                rows::drift_batches_insert(txn, id, &found).await
            });
        written?;
    }
}

/// Writes the plan for the people of now: the rosters there are, and those of whoever gets a slot.
async fn write_plan(
    app: &App,
    task: &Measuring,
    (plan_id, plan): (PlanId, &Plan),
    measured: &Measured,
    places: &Places,
    drift: DriftId,
) -> Result<(), OperationError> {
    let bound = task.row.plan.ok_or(StoreError::NotFound)?;
    let copied: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "drift_rosters", |txn| {
            plans::plan_roster_copy(txn, bound, plan_id).await
        });
    copied?;
    let same_wave = |one: &NewSlot, other: &NewSlot| one.wave == other.wave;
    for slots in measured.new_slots.chunk_by(same_wave) {
        let Some(wave) = slots.first().map(|slot| slot.wave) else {
            continue;
        };
        let from = places.get(&wave).copied().unwrap_or(0);
        let (mut rosters, mut changes) = (Vec::new(), Vec::new());
        for (part, seq) in slots
            .chunks(usize::from(tidegate_orchestrator::ledger::BATCH_SIZE_MAX))
            .zip(from..)
        {
            let ordinals: Vec<Ordinal> = part.iter().map(|slot| slot.ordinal).collect();
            let ends = ordinals.first().zip(ordinals.last());
            let (first, last) = ends.ok_or(StoreError::NotFound)?;
            rosters.push(PlanRosterRow {
                wave,
                seq: BatchSeq(seq),
                size: u32::try_from(ordinals.len()).unwrap_or(u32::MAX),
                ordinal_min: first.get(),
                ordinal_max: last.get(),
                roster: roster::encode(&ordinals).map_err(StoreError::corrupt)?,
            });
            let doubtful = part.iter().zip(0..).filter(|(slot, _)| slot.review);
            let each: Vec<_> = doubtful
                .map(|(_, index)| (SlotIndex(index), SlotCommand::Doubt))
                .collect();
            if !each.is_empty() {
                let (seq, body) = (BatchSeq(seq), body::encode(&each));
                changes.push(DriftBatchRow { wave, seq, body });
            }
        }
        let written: Result<(), StoreError> =
            transact!(app.store, Lane::Ordinary, "drift_rosters", |txn| {
                plans::plan_roster_insert(txn, plan_id, &rosters).await?;
                rows::drift_batches_insert(txn, drift, &changes).await
            });
        written?;
    }
    let row = PlanRow {
        id: plan_id,
        rollout: task.row.id,
        population_version: plan.population_version,
        spec_digest: plan.spec_digest.to_string(),
        digest: plan.digest.to_string(),
        body: serde_json::to_string(plan).map_err(StoreError::corrupt)?,
        created_at: app.clock.now(),
    };
    let written: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "drift_plan", |txn| {
            plans::plan_insert(txn, &row).await
        });
    Ok(written?)
}

fn report(
    task: &Measuring,
    plan: &Plan,
    measured: &Measured,
    deltas: &[WaveDelta],
    (people_now, people_then): (u32, usize),
) -> Report {
    let count = |people: usize| u64::try_from(people).unwrap_or(u64::MAX);
    let classes = Class::ALL.into_iter().filter_map(|class| {
        Some(ClassView {
            class: class.name().to_owned(),
            people: count(measured.classes.get(&class)?.len()),
            sentence: class.sentence().to_owned(),
        })
    });
    let waves = deltas.iter().map(|delta| WaveDrift {
        number: delta.number.get(),
        name: plan
            .wave(delta.number)
            .map(|wave| wave.name.clone())
            .unwrap_or_default(),
        before: task.plan.wave(delta.number).map_or(0, |wave| wave.people),
        transferred: delta.transferred,
        added: delta.added,
    });
    Report {
        people_then: count(people_then),
        people_now: u64::from(people_now),
        outcome: measured
            .outcome
            .iter()
            .filter(|(_, people)| *people > 0)
            .map(|(state, people)| (state.name().to_owned(), people))
            .collect(),
        classes: classes.collect(),
        waves: waves.collect(),
        waves_before: u32::try_from(task.plan.waves.len()).unwrap_or(u32::MAX),
        user_names_by: task.names_by.clone(),
    }
}
