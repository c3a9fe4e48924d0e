//! Plans: a spec put against the current version of its population, kept with its rosters.

use serde_json::json;
use tidegate_orchestrator::ids::{BatchSeq, PlanId, PopulationVersionId, Principal, RolloutId};
use tidegate_orchestrator::plan::{Compiled, Plan, PlanRefusal, compile, difference, is_note};
use tidegate_orchestrator::rollout::{Command, PlanRef};
use tidegate_orchestrator::roster;
use tidegate_orchestrator::spec::{Spec, SpecFormat};

use super::view::{PlanView, PlanWaveView};
use super::{Actor, Detail, OperationError, load, member, revert, rollout};
use crate::app::App;
use crate::source::mapping::Mapping;
use crate::source::pack::ColumnInfo;
use crate::store::plan::{self as rows, PlanRosterRow, PlanRow};
use crate::store::rollout::RolloutRow;
use crate::store::{Lane, StoreError, population as populations, target as targets, transact};

/// How many rosters one transaction writes.
const ROSTERS_PER_TXN: usize = 64;

/// Compiles the spec of a rollout against the current population and binds the plan to it.
///
/// # Errors
///
/// When the rollout has started, or no plan can be made.
pub async fn make(app: &App, actor: &Actor, name: &str) -> Result<PlanView, OperationError> {
    let row = load::find(app, name).await?;
    revert::refuse_of_revert(&row)?;
    // Refused early: compiling 1.5 million people for nothing would be rude.
    let state = load::record(&row)?;
    let compiled = compiled(app, &row).await?;
    if let Some(bound) = state.lifecycle.plan()
        && bound.digest == compiled.plan.digest
        && state.lifecycle.started().is_none()
        && !state.lifecycle.is_over()
    {
        let known = load::plan(app, bound.id).await?;
        if known.population_version == compiled.plan.population_version {
            return Ok(show(bound.id, &compiled.plan));
        }
    }
    let id: PlanId = app.ids.make();
    let plan = PlanRef::of(
        id,
        &compiled.plan,
        Principal::new(actor.principal.clone()),
        app.clock.now(),
    );
    // Asked before a row is written, so that a refusal leaves nothing behind.
    rollout::check(app, &row, &Command::Plan { plan: plan.clone() }).await?;
    write_rosters(app, id, &compiled).await?;
    keep(app, row.id, id, &compiled.plan).await?;
    rollout::command(app, actor, row.id, &Command::Plan { plan }).await?;
    Ok(show(id, &compiled.plan))
}

/// Compiles the spec of a rollout against the population as it is now.
///
/// # Errors
///
/// When there are no people yet, or no plan can be made.
pub async fn compiled(app: &App, row: &RolloutRow) -> Result<Compiled, OperationError> {
    let spec = spec_of(row)?;
    let population =
        populations::population_find(app.store.read(), &row.population.to_string()).await?;
    let population =
        population.ok_or_else(|| OperationError::not_found("population", row.population))?;
    let Some(version) = population.current_version else {
        let sentence = format!(
            "nothing has been imported into population `{}` yet",
            population.name
        );
        return Err(OperationError::refused("population_empty", sentence));
    };
    let mapping: Mapping =
        serde_json::from_str(&population.mapping).map_err(StoreError::corrupt)?;
    if let Some(key) = spec.identity.as_ref().filter(|key| **key != mapping.key) {
        let sentence = format!(
            "the spec identifies people by `{key}`, and population `{}` by `{}`",
            population.name, mapping.key
        );
        return Err(OperationError::invalid("identity_differs", sentence));
    }
    let loaded = member::load(app, version, &spec.attributes()).await?;
    let now = app.clock.now();
    // Compiling takes a second or two of one core: not on a thread that others wait for.
    let compiled = tokio::task::spawn_blocking(move || compile(&spec, &loaded, now))
        .await
        .map_err(StoreError::corrupt)?;
    let mut compiled = compiled.map_err(|refusal| refused(&refusal))?;
    let unnamed = unnamed(app, row, version).await?;
    compiled.plan.warnings.splice(0..0, unnamed);
    Ok(compiled)
}

/// Warns of a target whose user names come from an attribute that nobody has: accounts would be called
/// by their directory ids, for good.
async fn unnamed(
    app: &App,
    row: &RolloutRow,
    version: PopulationVersionId,
) -> Result<Option<String>, OperationError> {
    let target = targets::target_load(app.store.read(), row.target).await?;
    let connector = app.connectors.of(&target, &app.clock);
    let named_by = connector
        .ok()
        .and_then(|way| way.user_name_attribute().map(str::to_owned));
    let Some(attribute) = named_by else {
        return Ok(None);
    };
    let columns = populations::version_load(app.store.read(), version)
        .await?
        .columns;
    let columns: Vec<ColumnInfo> = serde_json::from_str(&columns).map_err(StoreError::corrupt)?;
    let is_known = columns.iter().any(|column| column.name == attribute);
    Ok((!is_known).then(|| {
        format!(
            "the population has no attribute `{attribute}`, which target `{}` takes user names from: every account \
             would be called by its directory id. Say which attribute it is in the target's `mapping.user_name`",
            target.name
        )
    }))
}

/// Says what changed between the plan a rollout is bound to and the plan there would be now.
///
/// # Errors
///
/// When no plan can be made any more.
pub async fn changes(
    app: &App,
    row: &RolloutRow,
    bound: PlanId,
) -> Result<Vec<String>, OperationError> {
    let before = load::plan(app, bound).await?;
    let version = populations::population_find(app.store.read(), &row.population.to_string())
        .await?
        .and_then(|population| population.current_version);
    // The same version and the same spec make the same plan: no need to compile it again.
    if version == Some(before.population_version) && spec_of(row)?.digest() == before.spec_digest {
        return Ok(Vec::new());
    }
    let now = compiled(app, row).await?;
    Ok(difference(&before, &now.plan))
}

/// Reads the spec of a stored rollout.
///
/// # Errors
///
/// When it is damaged.
pub fn spec_of(row: &RolloutRow) -> Result<Spec, StoreError> {
    let format = SpecFormat::from_name(&row.spec_format).ok_or_else(|| {
        StoreError::corrupt(format!("`{}` is no format of a spec", row.spec_format))
    })?;
    Spec::parse(&row.spec_text, format).map_err(StoreError::corrupt)
}

async fn write_rosters(app: &App, id: PlanId, compiled: &Compiled) -> Result<(), OperationError> {
    for (wave, members) in compiled.plan.waves.iter().zip(&compiled.rosters) {
        let mut waiting = Vec::with_capacity(ROSTERS_PER_TXN);
        for (ordinals, seq) in roster::cut(members).zip(0..) {
            let bounds = ordinals.first().zip(ordinals.last());
            let (first, last) = bounds.ok_or_else(|| StoreError::corrupt("a batch of nobody"))?;
            waiting.push(PlanRosterRow {
                wave: wave.number,
                seq: BatchSeq(seq),
                size: u32::try_from(ordinals.len()).unwrap_or(u32::MAX),
                ordinal_min: first.get(),
                ordinal_max: last.get(),
                roster: roster::encode(ordinals).map_err(StoreError::corrupt)?,
            });
            if waiting.len() == ROSTERS_PER_TXN {
                write(app, id, &waiting).await?;
                waiting.clear();
            }
        }
        write(app, id, &waiting).await?;
    }
    Ok(())
}

async fn write(app: &App, id: PlanId, waiting: &[PlanRosterRow]) -> Result<(), StoreError> {
    if waiting.is_empty() {
        return Ok(());
    }
    transact!(app.store, Lane::Ordinary, "plan_rosters", |txn| {
        rows::plan_roster_insert(txn, id, waiting).await
    })
}

async fn keep(app: &App, rollout: RolloutId, id: PlanId, plan: &Plan) -> Result<(), StoreError> {
    let row = PlanRow {
        id,
        rollout,
        population_version: plan.population_version,
        spec_digest: plan.spec_digest.to_string(),
        digest: plan.digest.to_string(),
        body: serde_json::to_string(plan).map_err(StoreError::corrupt)?,
        created_at: app.clock.now(),
    };
    transact!(app.store, Lane::Ordinary, "plan_insert", |txn| {
        rows::plan_insert(txn, &row).await
    })
}

fn refused(refusal: &PlanRefusal) -> OperationError {
    let details = refusal.0.iter().map(|fault| Detail {
        field: Some(fault.field.clone()),
        ..Detail::new(&fault.code, fault.message.clone())
    });
    OperationError::Invalid {
        code: "plan_refused".to_owned(),
        sentence: refusal.to_string(),
        details: details.collect(),
    }
}

/// Shows a plan.
#[must_use]
pub fn show(id: PlanId, plan: &Plan) -> PlanView {
    let said = plan.warnings.iter().cloned();
    let (notes, warnings) = said.partition(|sentence| is_note(sentence));
    PlanView {
        plan_id: id,
        digest: plan.digest.to_string(),
        population_version: plan.population_version,
        people: plan.people,
        waves: plan
            .waves
            .iter()
            .map(|wave| PlanWaveView {
                number: wave.number.get(),
                name: wave.name.clone(),
                people: wave.people,
            })
            .collect(),
        overlaps: plan
            .overlaps
            .iter()
            .map(|overlap| overlap_sentence(plan, overlap))
            .collect(),
        excluded: plan.excluded,
        unassigned: plan.unassigned,
        warnings,
        notes,
        timeline: json!(plan.timeline),
    }
}

fn overlap_sentence(plan: &Plan, overlap: &tidegate_orchestrator::plan::Overlap) -> String {
    let name = |number| plan.wave(number).map_or("", |wave| wave.name.as_str());
    format!(
        "{} who match wave `{}` are in `{}`, which comes first",
        tidegate_orchestrator::sentence::people(overlap.people),
        name(overlap.also),
        name(overlap.wave)
    )
}
