//! Waves: in which one somebody is whom a signal is about.
//!
//! Looked up before anything is locked, by directory id, and only for rules that hold waves.

use std::collections::BTreeMap;

use tidegate_orchestrator::ids::{RolloutId, WaveNumber};
use tidegate_policy::rule::Reaches;

use super::Judging;
use super::deciding::Sayings;
use crate::app::App;
use crate::operations::{OperationError, people};
use crate::store::{StoreError, rollout};

/// The wave of a person in a rollout, where they are in one.
pub(super) type Waves = BTreeMap<(RolloutId, String), WaveNumber>;

/// How many people are looked up for one decision; of the others all of the rollout is held.
const LOOKED_UP_MAX: usize = 100;

/// Looks up the waves of whom rules that hold waves are about.
pub(super) async fn look_up(
    app: &App,
    known: &Judging,
    said: &Sayings,
) -> Result<Waves, StoreError> {
    let mut waves = Waves::new();
    for ((rule, target), said) in said {
        let rule = known.judge.rules().get(*rule);
        let target = known.targets.get(*target);
        let (Some(rule), Some(target)) = (rule, target) else {
            continue;
        };
        if rule.then.reaches != Reaches::Wave {
            continue;
        }
        for id in rollout::rollouts_onto(app.store.read(), *target).await? {
            let Some(row) = rollout::rollout_load(app.store.read(), id).await? else {
                continue;
            };
            for user in said.named() {
                if waves.len() >= LOOKED_UP_MAX {
                    return Ok(waves);
                }
                match people::find(app, &row, user).await {
                    Ok(found) => {
                        waves.insert((id, user.to_owned()), found.address.wave);
                    }
                    Err(OperationError::Failed(error)) => return Err(error),
                    Err(_) => {}
                }
            }
        }
    }
    Ok(waves)
}
