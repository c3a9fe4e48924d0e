//! What a hold covers, as people name it: read from a call, and said in words.

use tidegate_orchestrator::hold::Scope;
use tidegate_orchestrator::ids::{RolloutId, TargetId, WaveNumber};
use tidegate_policy::Condition;

use super::ScopeView;
use crate::app::App;
use crate::operations::{OperationError, condition, load, target};
use crate::store::{StoreError, rollout as rollouts, target as targets};

/// Finds what a scope names, by id or by name.
pub(super) async fn scope_of(app: &App, scope: &ScopeView) -> Result<Scope, OperationError> {
    let id = || {
        let missing = format!("a scope of `{}` names an `id`", scope.scope_type);
        scope
            .id
            .as_deref()
            .ok_or_else(|| OperationError::invalid("scope_invalid", missing))
    };
    if scope.condition.is_some() && scope.scope_type != "wave" {
        let sentence =
            "`where` picks people of one wave: the scope is {type: wave, id, wave, where}";
        return Err(OperationError::invalid("scope_invalid", sentence));
    }
    match (scope.scope_type.as_str(), scope.wave) {
        ("everything", None) if scope.id.is_none() => Ok(Scope::Everything),
        ("target", None) => Ok(Scope::Target(target_id(app, id()?).await?)),
        ("rollout", None) => Ok(Scope::Rollout(load::find(app, id()?).await?.id)),
        ("wave", Some(wave)) => wave_scope(app, id()?, wave).await,
        _ => {
            let sentence = "a scope is {type: everything}, {type: target, id}, {type: rollout, id} or {type: wave, id, wave}";
            Err(OperationError::invalid("scope_invalid", sentence))
        }
    }
}

/// Reads which people of a wave a scope names. A condition that cannot be asked of them is refused here: a hold
/// that could never be narrowed is another one than was asked for.
pub(super) async fn part_of(
    app: &App,
    view: &ScopeView,
    scope: &Scope,
) -> Result<Option<Condition>, OperationError> {
    let (Some(written), Some(rollout)) = (&view.condition, scope.uuid()) else {
        return Ok(None);
    };
    let row = load::row(app, RolloutId::new(rollout)).await?;
    // The wave was found in its plan.
    let Some(plan) = row.plan else {
        return Ok(None);
    };
    let version = load::plan(app, plan).await?.population_version;
    condition::read(app, condition::WHERE, written, version)
        .await
        .map(Some)
}

async fn target_id(app: &App, name: &str) -> Result<TargetId, OperationError> {
    Ok(target::find(app, name).await?.id)
}

/// A hold on a wave that is not there would look like safety and be none.
async fn wave_scope(app: &App, rollout: &str, wave: u32) -> Result<Scope, OperationError> {
    let row = load::find(app, rollout).await?;
    let record = load::record(&row)?;
    let waves = record.lifecycle.plan().map_or(0, |plan| plan.waves);
    if wave == 0 || wave > waves {
        return Err(OperationError::not_found("wave", wave));
    }
    Ok(Scope::Wave(row.id, WaveNumber(wave)))
}

/// Says in words what a hold over a scope covers, or over some of the people in it.
pub(super) async fn covers(app: &App, scope: Scope, is_part: bool) -> Result<String, StoreError> {
    let rollout = async |id: RolloutId| -> Result<String, StoreError> {
        let found = rollouts::rollout_load(app.store.read(), id).await?;
        Ok(found.map_or_else(|| id.to_string(), |row| format!("`{}`", row.name)))
    };
    Ok(match scope {
        Scope::Everything => "everything".to_owned(),
        Scope::Target(id) => {
            let found = targets::target_load(app.store.read(), id).await?;
            format!("target `{}`", found.name)
        }
        Scope::Rollout(id) => format!("rollout {}", rollout(id).await?),
        Scope::Wave(id, wave) | Scope::Part(id, wave) => {
            let some = if is_part { "some people of " } else { "" };
            format!("{some}wave {wave} of rollout {}", rollout(id).await?)
        }
    })
}
