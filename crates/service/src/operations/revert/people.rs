//! Who is taken back: whoever is `done` in chosen waves, batch by batch of the original.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tidegate_orchestrator::digest::Digest;
use tidegate_orchestrator::hold::{HoldKind, Place};
use tidegate_orchestrator::ids::{BatchSeq, Ordinal, RolloutId, WaveNumber};
use tidegate_orchestrator::ledger::{SlotState, Slots, receipt};
use tidegate_orchestrator::plan::{Order, PLAN_FORMAT, Plan, PlannedWave};
use tidegate_orchestrator::revert::{
    self, Matching, RevertRefusal, SHEET_FORMAT, Sheet, SheetWave, basis, roster_digest, taken,
};
use tidegate_orchestrator::roster;
use tidegate_orchestrator::wave::soak::Seconds;
use tidegate_policy::Condition;

use super::wish::{Settings, Wish};
use super::{case, refused};
use crate::app::App;
use crate::operations::view::PopulationRef;
use crate::operations::{Detail, OperationError, load, member};
use crate::store::ledger::{self, BatchAddress};
use crate::store::plan::{self as plans, PlanRosterRow, PlanRow};
use crate::store::revert::{self as rows, Origin};
use crate::store::rollout::RolloutRow;
use crate::store::{
    Lane, StoreError, failure, hold as holds, population as populations, target as targets,
    transact, wave,
};

/// How many batches one read brings.
const BATCHES_PER_READ: usize = 64;
/// How many rosters one transaction writes.
const ROSTERS_PER_TXN: usize = 64;

/// Everything that a revert consists of before it is written down.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) plan: Plan,
    pub(super) sheet: Sheet,
    /// The settings, as a spec.
    pub(super) spec: String,
    /// Where the chosen waves stood when they were read.
    pub(super) basis: Digest,
    /// By wave of the revert: its batches, each with the batch of the original that its people are in.
    batches: Vec<Vec<(BatchSeq, Vec<Ordinal>)>>,
}

async fn chosen(
    app: &App,
    original: &RolloutRow,
    numbers: &[WaveNumber],
) -> Result<Vec<revert::Chosen>, OperationError> {
    let now = app.store.now().await?;
    Ok(rows::chosen_load(app.store.read(), original.id, numbers, now).await?)
}

/// Finds out who would be taken back.
pub(super) async fn find(
    app: &App,
    original: &RolloutRow,
    wish: &Wish,
    id: RolloutId,
) -> Result<Found, OperationError> {
    let there = wave::waves_load(app.store.read(), original.id).await?;
    let Some(plan_id) = original.plan.filter(|_| !there.is_empty()) else {
        return Err(refused(&RevertRefusal::Nobody));
    };
    let plan = load::plan(app, plan_id).await?;
    let numbers = wish.numbers(&there)?;
    let settings = settings(app, original, wish).await?;
    let chosen = chosen(app, original, &numbers).await?;
    let (_, in_force) = holds::holds_known(&app.store).await?;
    let frozen = case::frozen(app.store.read(), original, &numbers).await?;
    revert::may_take_back(&chosen, frozen).map_err(|no| refused(&no))?;
    let wanted = wanted(app, &plan, &settings).await?;
    let (mut waves, mut batches, mut sheet) = (Vec::new(), Vec::new(), Vec::new());
    for wave in &chosen {
        let name = plan
            .wave(wave.number)
            .map_or_else(String::new, |planned| planned.name.clone());
        let found = of_wave(app, original.id, wave.number, wanted.as_ref()).await?;
        let people: usize = found.iter().map(|(_, batch)| batch.len()).sum();
        let people = u64::try_from(people).unwrap_or(u64::MAX);
        let number = u32::try_from(waves.len() + 1).unwrap_or(u32::MAX);
        let number = (people > 0).then_some(WaveNumber(number));
        if let Some(number) = number {
            let ramp = plan.wave(wave.number).and_then(|planned| planned.ramp);
            let rosters: Vec<Vec<Ordinal>> = found.iter().map(|(_, batch)| batch.clone()).collect();
            waves.push(PlannedWave {
                number,
                name: name.clone(),
                people,
                roster_digest: roster_digest(plan.population_version, &rosters),
                schedule: None,
                ramp: settings.ramp.or(ramp),
                soak: Seconds(0),
                gate: Some(settings.gate.clone()),
            });
            batches.push(found);
        }
        sheet.push(SheetWave {
            origin: wave.number,
            name,
            number,
            people,
            tally: wave.tally,
        });
    }
    if waves.is_empty() {
        return Err(refused(&nobody(&chosen, settings.matching.as_ref())));
    }
    check_gates(&waves)?;
    let sheet = Sheet {
        format: SHEET_FORMAT,
        original: original.name.clone(),
        original_plan: plan.digest,
        waves: sheet,
        matching: wish.matching.as_ref().map(ToString::to_string),
        // Halts alone: whoever may place anything else may release it.
        holds: in_force
            .covering(&Place::rollout(original.target, id))
            .filter(|hold| hold.kind == HoldKind::Halt)
            .map(|hold| hold.id)
            .collect(),
    };
    Ok(Found {
        plan: planned(&plan, original, waves, &sheet, &settings),
        sheet,
        spec: settings.text,
        basis: basis(&chosen),
        batches,
    })
}

/// Says why there is nobody to take back: nobody was moved, or the condition picks none of them.
fn nobody(chosen: &[revert::Chosen], matching: Option<&Condition>) -> RevertRefusal {
    let moved = chosen.iter().map(|wave| wave.tally.get(SlotState::Done));
    match (moved.sum(), matching) {
        (0, _) | (_, None) => RevertRefusal::Nobody,
        (moved, Some(condition)) => RevertRefusal::NobodyMatches {
            moved,
            condition: condition.to_string(),
        },
    }
}

async fn settings(
    app: &App,
    original: &RolloutRow,
    wish: &Wish,
) -> Result<Settings, OperationError> {
    let population =
        populations::population_find(app.store.read(), &original.population.to_string()).await?;
    let target = targets::target_load(app.store.read(), original.target).await?;
    let population = PopulationRef {
        id: original.population,
        name: population.map(|found| found.name).unwrap_or_default(),
        version_id: None,
    };
    wish.settings(original, (&population, &target.name))
}

/// Returns who matches the condition, when there is one.
async fn wanted(
    app: &App,
    plan: &Plan,
    settings: &Settings,
) -> Result<Option<Matching>, OperationError> {
    let Some(condition) = &settings.matching else {
        return Ok(None);
    };
    let attributes = settings.spec.attributes();
    let population = member::load(app, plan.population_version, &attributes).await?;
    Matching::of(condition, &population)
        .map(Some)
        .map_err(|errors| OperationError::Invalid {
            code: "where_invalid".to_owned(),
            sentence: "the condition in `where` does not fit the people".to_owned(),
            details: errors
                .into_iter()
                .map(|(code, sentence)| Detail::new(&code, sentence))
                .collect(),
        })
}

/// Reads who of one wave is taken back, by the batch of the original they are in.
async fn of_wave(
    app: &App,
    original: RolloutId,
    number: WaveNumber,
    wanted: Option<&Matching>,
) -> Result<Vec<(BatchSeq, Vec<Ordinal>)>, OperationError> {
    let mut found = Vec::new();
    let mut after = (0, -1);
    loop {
        let page = ledger::batches_page(
            app.store.read(),
            original,
            Some(number),
            after,
            Some(SlotState::Done),
            BATCHES_PER_READ,
        )
        .await?;
        let Some(last) = page.last() else {
            return Ok(found);
        };
        let at = last.address;
        after = (i64::from(at.wave.get()), i64::from(at.seq.get()));
        for row in page {
            let slots = Slots::decode(&row.slots).map_err(StoreError::corrupt)?;
            let here = roster::decode(&row.roster).map_err(StoreError::corrupt)?;
            let batch = taken(&slots, &here, |person| {
                wanted.is_none_or(|wanted| wanted.holds(person))
            });
            if !batch.is_empty() {
                found.push((row.address.seq, batch));
            }
        }
    }
}

fn check_gates(waves: &[PlannedWave]) -> Result<(), OperationError> {
    let faults = waves.iter().flat_map(|wave| {
        let gate = wave.gate.iter();
        gate.flat_map(|gate| gate.check(wave.people))
            .map(|fault| Detail {
                field: Some(format!("gate of wave {}", wave.name)),
                ..Detail::new(fault.code(), fault.to_string())
            })
    });
    let details: Vec<Detail> = faults.collect();
    if details.is_empty() {
        return Ok(());
    }
    Err(OperationError::Invalid {
        code: "gate_unfit".to_owned(),
        sentence: "the gate does not fit the people who would be taken back".to_owned(),
        details,
    })
}

fn planned(
    of: &Arc<Plan>,
    original: &RolloutRow,
    waves: Vec<PlannedWave>,
    sheet: &Sheet,
    settings: &Settings,
) -> Plan {
    let rate = settings.rate.or(of.rate);
    Plan {
        format: PLAN_FORMAT,
        digest: revert::digest(sheet, &waves, rate, original.target),
        spec_digest: settings.spec.digest(),
        population_version: of.population_version,
        population_digest: of.population_digest,
        order: Order {
            algorithm: of.order.algorithm.clone(),
            version: of.order.version,
            salt: of.order.salt.clone(),
        },
        people: waves.iter().map(|wave| wave.people).sum(),
        waves,
        excluded: 0,
        unassigned: 0,
        overlaps: Vec::new(),
        warnings: Vec::new(),
        rate,
        // Taking back protects: it waits for nobody's calendar.
        freezes: Vec::new(),
        timeline: Vec::new(),
    }
}

/// Writes the rosters, where they come from, and the plan. Whatever a crash leaves of it belongs to nothing.
pub(super) async fn keep(app: &App, row: &RolloutRow, found: &Found) -> Result<(), OperationError> {
    let id = row.plan.ok_or(StoreError::NotFound)?;
    let origin = |wave: &SheetWave| wave.number.map(|_| wave.origin);
    let origins = found.sheet.waves.iter().filter_map(origin);
    for ((planned, batches), from_wave) in found.plan.waves.iter().zip(&found.batches).zip(origins)
    {
        let numbered: Vec<_> = batches.iter().zip(0..).collect();
        for part in numbered.chunks(ROSTERS_PER_TXN) {
            let (mut rosters, mut from) = (Vec::new(), Vec::new());
            for ((from_seq, people), seq) in part {
                rosters.push(roster_row(planned.number, BatchSeq(*seq), people)?);
                from.push(Origin {
                    wave: planned.number,
                    seq: BatchSeq(*seq),
                    from_wave,
                    from_seq: *from_seq,
                });
            }
            let written: Result<(), StoreError> =
                transact!(app.store, Lane::Ordinary, "revert_rosters", |txn| {
                    plans::plan_roster_insert(txn, id, &rosters).await?;
                    rows::origins_insert(txn, row.id, &from).await
                });
            written?;
        }
    }
    let plan = PlanRow {
        id,
        rollout: row.id,
        population_version: found.plan.population_version,
        spec_digest: found.plan.spec_digest.to_string(),
        digest: found.plan.digest.to_string(),
        body: serde_json::to_string(&found.plan).map_err(StoreError::corrupt)?,
        created_at: row.created_at,
    };
    let written: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "plan_insert", |txn| {
            plans::plan_insert(txn, &plan).await
        });
    Ok(written?)
}

fn roster_row(
    wave: WaveNumber,
    seq: BatchSeq,
    people: &[Ordinal],
) -> Result<PlanRosterRow, StoreError> {
    let bounds = people.first().zip(people.last());
    let (first, last) = bounds.ok_or_else(|| StoreError::corrupt("a batch of nobody"))?;
    Ok(PlanRosterRow {
        wave,
        seq,
        size: u32::try_from(people.len()).unwrap_or(u32::MAX),
        ordinal_min: first.get(),
        ordinal_max: last.get(),
        roster: roster::encode(people).map_err(StoreError::corrupt)?,
    })
}

/// Returns what the target called people of one batch when they were moved, where it said so.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged.
pub async fn remote_ids(
    app: &App,
    reverts: Option<RolloutId>,
    at: BatchAddress,
    wanted: &[Ordinal],
) -> Result<HashMap<Ordinal, String>, StoreError> {
    let Some(original) = reverts else {
        return Ok(HashMap::new());
    };
    let db = app.store.read();
    let origin = rows::origin_of(db, original, at).await?;
    // What was said last counts.
    let mut said: BTreeMap<u16, String> = BTreeMap::new();
    for body in failure::receipts_load(db, origin).await? {
        let names = receipt::decode(&body).map_err(StoreError::corrupt)?;
        said.extend(names.into_iter().map(|(index, name)| (index.0, name)));
    }
    let after = (
        i64::from(origin.wave.get()),
        i64::from(origin.seq.get()) - 1,
    );
    let page = ledger::batches_page(db, original, Some(origin.wave), after, None, 1).await?;
    let row = page.first().filter(|row| row.address == origin);
    let row = row.ok_or(StoreError::NotFound)?;
    let here = roster::decode(&row.roster).map_err(StoreError::corrupt)?;
    let wanted: HashSet<&Ordinal> = wanted.iter().collect();
    let places = here.into_iter().zip(0..);
    let named = places.filter_map(|(person, place)| Some((person, said.remove(&place)?)));
    Ok(named
        .filter(|(person, _)| wanted.contains(person))
        .collect())
}
