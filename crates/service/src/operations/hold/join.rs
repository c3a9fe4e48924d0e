//! What the trail hears of a hold, and whoever asks for one that is in force already: they are named in it, why
//! they wanted it is kept, and nothing they say is lost without a word.

use serde_json::{Value, json};
use tidegate_orchestrator::hold::place::NO_REASON;
use tidegate_orchestrator::hold::{Hold, Wanted};
use tidegate_orchestrator::ids::{HoldId, Principal, Timestamp};
use tidegate_orchestrator::sentence::instant;
use tidegate_policy::condition::written;

use super::rows::{self, HoldRow};
use crate::operations::Actor;
use crate::store::audit::{self, Entry};
use crate::store::{StoreError, Txn, review as reviews};

/// Says in the trail what a hold is.
pub(super) fn entry(actor: &Actor, action: &str, hold: &Hold) -> Entry {
    let detail = json!({
        "kind": hold.kind, "scope": hold.scope, "where": whom(hold), "reason": hold.reason, "cause": hold.cause,
        "effect": hold.effect, "epoch": hold.placed_epoch,
    });
    actor.entry(action, format!("hold:{}", hold.id), detail)
}

/// Which people of a wave a hold means, as it was written; null: all of them.
pub(in crate::operations) fn whom(hold: &Hold) -> Value {
    let part = hold.part.as_ref();
    part.map_or(Value::Null, |part| written::write(&part.condition))
}

/// Adds whoever asked to a hold that is in force. A hold without a reason takes theirs, and an earlier review
/// counts. Saying the same again changes nothing.
pub(super) async fn join(
    txn: &mut Txn,
    actor: &Actor,
    known: HoldId,
    wanted: Wanted,
) -> Result<(Hold, bool), StoreError> {
    let row = rows::hold_load(txn, known).await?;
    let row = row.ok_or(StoreError::NotFound)?;
    let mut hold = row.hold()?;
    let is_new = hold.join(Principal::new(actor.principal.clone()));
    let is_said = !is_new && wanted.reason != NO_REASON && wanted.reason != hold.reason;
    let is_explained = hold.take_reason(&wanted.reason);
    let is_sooner = wanted.review_at.is_some_and(|at| hold.review_sooner(at));
    let is_heard = is_new
        || is_explained
        || is_sooner
        || (is_said && !has_said(txn, actor, known, &wanted.reason).await?);
    if !is_heard {
        return Ok((hold, false));
    }
    if hold.generation != row.generation {
        rows::hold_save(txn, &HoldRow::of(&hold)?, row.generation).await?;
    }
    if is_sooner {
        reviews::review_save(txn, &hold, hold.generation).await?;
    }
    if is_explained {
        // Whoever knows the holds of an epoch knows their reasons: they read this one anew.
        rows::epoch_next(txn).await?;
    }
    let mut entry = entry(actor, "hold.join", &hold);
    // The hold keeps the reason of whoever gave one first; why another one wanted it too is kept here.
    if let Some(detail) = entry.detail.as_object_mut() {
        detail.insert("joined_because".to_owned(), json!(wanted.reason));
        if is_sooner {
            detail.insert("review_at".to_owned(), json!(hold.review_at));
        }
    }
    txn.audit(entry);
    Ok((hold, true))
}

/// Says whether somebody has given this reason for the hold before: a client that repeats itself says nothing new.
async fn has_said(
    txn: &Txn,
    actor: &Actor,
    hold: HoldId,
    reason: &str,
) -> Result<bool, StoreError> {
    let subject = format!("hold:{hold}");
    let last = audit::detail_last(txn, &subject, "hold.join", &actor.principal).await?;
    let said = last.and_then(|detail| detail.get("joined_because").cloned());
    Ok(said == Some(json!(reason)))
}

/// Says that a date somebody named is not the one that counts: the hold is looked at sooner.
pub(super) fn not_taken(hold: &Hold, asked: Option<Timestamp>) -> Option<String> {
    let (asked, counts) = asked.zip(hold.review_at)?;
    (asked != counts).then(|| {
        format!(
            "`review_at` {} was not taken: the hold was in force, and is looked at by {}; `tidegate hold review` moves it",
            instant(asked),
            instant(counts)
        )
    })
}
