//! Going on where only pauses stand in the way: each pause of a rollout is released, and nothing else.

use tidegate_orchestrator::hold::{HoldKind, Scope};
use tidegate_orchestrator::ids::HoldId;

use super::{check_reason, release, rows};
use crate::app::App;
use crate::operations::{Actor, OperationError, load};

/// Releases every pause on exactly this rollout; halts and wider pauses stay.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn resume(
    app: &App,
    actor: &Actor,
    rollout: &str,
    reason: &str,
) -> Result<(), OperationError> {
    check_reason(reason)?;
    let row = load::find(app, rollout).await?;
    let (_, holds) = rows::holds_known(&app.store).await?;
    let own = |scope: &Scope| matches!(scope, Scope::Rollout(id) | Scope::Wave(id, _) | Scope::Part(id, _) if *id == row.id);
    let pauses: Vec<HoldId> = holds
        .iter()
        .filter(|hold| hold.kind == HoldKind::Pause && !hold.by_rule && own(&hold.scope))
        .map(|hold| hold.id)
        .collect();
    for id in pauses {
        match release(app, actor, &id.to_string(), None, reason).await {
            // Somebody else was faster: it is released, which is what was asked for.
            Err(OperationError::Refused { code, .. }) if code == "hold_already_released" => {}
            other => {
                other?;
            }
        }
    }
    Ok(())
}
