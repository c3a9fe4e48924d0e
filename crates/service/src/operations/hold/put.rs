//! Puts a hold into a transaction: as a new one with an epoch of its own, or as one voice more for one that is in force.

use tidegate_orchestrator::hold::{Hold, HoldSet, MovedPeople, Placement, Wanted};
use tidegate_orchestrator::ids::{HoldId, Principal};

use super::join;
use super::rows::{self, HoldRow};
use crate::operations::Actor;
use crate::store::{Connection, StoreError, Txn, exemption, review as reviews};

/// Places a hold inside a transaction; says whether that changes anything, and tells the trail if it does.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn put(
    txn: &mut Txn,
    actor: &Actor,
    id: HoldId,
    wanted: Wanted,
) -> Result<(Hold, bool), StoreError> {
    put_owned(txn, actor, (id, None), wanted).await
}

/// The same with somebody who owns it in place of whoever places it, when that is nobody who could be asked.
pub(in crate::operations) async fn put_owned(
    txn: &mut Txn,
    actor: &Actor,
    (id, owner): (HoldId, Option<Principal>),
    wanted: Wanted,
) -> Result<(Hold, bool), StoreError> {
    rows::hold_lock(txn).await?;
    let in_force = rows::holds_within(txn).await?;
    put_seen(txn, actor, (id, owner), wanted, in_force).await
}

/// The same for whoever has seen an epoch and its holds, which nobody needs to have locked.
///
/// # Errors
///
/// As `put`; and `Serialization` when it is another epoch by now.
pub(super) async fn put_seen(
    txn: &mut Txn,
    actor: &Actor,
    (id, owner): (HoldId, Option<Principal>),
    wanted: Wanted,
    (epoch, in_force): rows::Known,
) -> Result<(Hold, bool), StoreError> {
    let now = txn.now();
    match placement(txn, &wanted, &in_force).await? {
        Placement::New => {
            let by = Principal::new(actor.principal.clone());
            let mut hold = wanted.into_hold(id, by, epoch.next(), now);
            hold.owner = owner.unwrap_or(hold.owner);
            rows::hold_begin(txn, &HoldRow::of(&hold)?).await?;
            txn.audit(join::entry(actor, "hold.place", &hold));
            Ok((hold, true))
        }
        Placement::Joined(known) => join::join(txn, actor, known, wanted).await,
    }
}

/// What is in force, for a hold that is placed by itself: as this process read it last, if the hold is a new one by
/// that. Whether that was the last word is seen when its epoch begins; whoever joins one wants to know before.
pub(super) async fn seen(txn: &Txn, wanted: &Wanted) -> Result<rows::Known, StoreError> {
    if !txn.has_lost()
        && let Some(last) = txn.hold_cache().last()
        && placement(txn, wanted, &last.1).await? == Placement::New
    {
        return Ok(last);
    }
    rows::hold_lock(txn).await?;
    rows::holds_within(txn).await
}

/// Says whether a hold is new or joins one. Whoever says stop while somebody has asked to go on from the hold in force
/// gets a hold of their own, which that does not end. So does whoever wants more for people who were moved: a freeze
/// that was asked for is not silently left out.
pub(super) async fn placement<C: Connection>(
    db: &C,
    wanted: &Wanted,
    in_force: &HoldSet,
) -> Result<Placement, StoreError> {
    let placement = wanted.placement(in_force).map_err(StoreError::corrupt)?;
    if placement == Placement::New {
        return Ok(placement);
    }
    let asked = match exemption::holds_asked_to_go_on_from(db).await {
        // A row that is damaged must not keep anybody from a stop that stands by itself.
        Err(StoreError::Corrupt(_)) => return Ok(Placement::New),
        asked => asked?,
    };
    let with_effect = match wanted.effect {
        MovedPeople::Keep => None,
        MovedPeople::Freeze | MovedPeople::Revert => {
            Some(reviews::holds_of_effect(db, wanted.effect).await?)
        }
    };
    let alike = in_force.alike(wanted.kind, wanted.scope, wanted.part.as_ref());
    let mut same = alike
        .map(|hold| hold.id)
        .filter(|id| !asked.contains(id))
        .filter(|id| with_effect.as_ref().is_none_or(|with| with.contains(id)))
        // As there: something may go on under a hold that is exempted from.
        .filter(|id| !in_force.is_exempted_from(*id));
    Ok(same.next().map_or(Placement::New, Placement::Joined))
}
