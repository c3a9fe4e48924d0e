//! Exemptions from holds, and the emergencies that made them.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::hold::Exemption;
use tidegate_orchestrator::hold::emergency::Emergency;
use tidegate_orchestrator::ids::{Epoch, ExemptionId, HoldId, Timestamp, millis};
use tidegate_orchestrator::revert::Sheet;

use super::query;
use super::{StoreError, Txn};

/// An exemption as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExemptionRow {
    /// The exemption.
    pub exemption: Exemption,
    /// When, and under which epoch, it was written down that it is over.
    pub ended: Option<(Timestamp, Epoch)>,
}

#[derive(Debug, FromQueryResult)]
struct RawExemption {
    body: String,
    ended_at: Option<i64>,
    ended_epoch: Option<i64>,
}

impl TryFrom<RawExemption> for ExemptionRow {
    type Error = StoreError;

    fn try_from(raw: RawExemption) -> Result<Self, StoreError> {
        let ended = raw.ended_at.map(query::instant).transpose()?;
        Ok(Self {
            exemption: serde_json::from_str(&raw.body).map_err(StoreError::corrupt)?,
            ended: ended.zip(raw.ended_epoch.map(Epoch::new)),
        })
    }
}

/// Reads every exemption that has not been ended.
pub async fn exemptions_open<C: ConnectionTrait>(db: &C) -> Result<Vec<Exemption>, StoreError> {
    let sql =
        "SELECT body, ended_at, ended_epoch FROM exemption WHERE ended_at IS NULL ORDER BY id";
    let rows = readable(query::all(db, sql, []).await?);
    Ok(rows.map(|row| row.exemption).collect())
}

/// Reads every exemption that names a hold, ended or not. There are never many of them.
pub async fn exemptions_from<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
) -> Result<Vec<ExemptionRow>, StoreError> {
    let sql = "SELECT body, ended_at, ended_epoch FROM exemption ORDER BY id";
    let rows = readable(query::all(db, sql, []).await?);
    let names = |row: &ExemptionRow| row.exemption.holds.contains(&hold);
    Ok(rows.filter(names).collect())
}

/// A row that is damaged lets nothing go on, and must not keep anybody from placing a hold.
fn readable(raws: Vec<RawExemption>) -> impl Iterator<Item = ExemptionRow> {
    raws.into_iter().filter_map(|raw| {
        ExemptionRow::try_from(raw)
            .inspect_err(
                |error| tracing::error!(%error, "an exemption is damaged, and counts for nothing"),
            )
            .ok()
    })
}

/// Writes a new exemption, under the epoch that it makes.
pub async fn exemption_insert<C: ConnectionTrait>(
    db: &C,
    exemption: &Exemption,
    epoch: Epoch,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO exemption (id, rollout_id, body, began_epoch) VALUES ($1, $2, $3, $4)";
    let body = serde_json::to_string(exemption).map_err(StoreError::corrupt)?;
    let values = [
        exemption.id.to_string().into(),
        exemption.rollout.to_string().into(),
        body.into(),
        epoch.get().into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Writes down that an exemption is over; says whether that was not known yet.
pub async fn exemption_end(
    txn: &mut Txn,
    id: ExemptionId,
    epoch: Epoch,
) -> Result<bool, StoreError> {
    let sql =
        "UPDATE exemption SET ended_at = $2, ended_epoch = $3 WHERE id = $1 AND ended_at IS NULL";
    let values = [
        id.to_string().into(),
        millis(txn.now()).into(),
        epoch.get().into(),
    ];
    Ok(query::execute(txn, sql, values).await? == 1)
}

#[derive(Debug, FromQueryResult)]
struct RawBody {
    body: String,
}

/// Reads every emergency, the newest first.
pub async fn emergencies_load<C: ConnectionTrait>(db: &C) -> Result<Vec<Emergency>, StoreError> {
    let sql = "SELECT body FROM emergency ORDER BY at DESC, id";
    let raws: Vec<RawBody> = query::all(db, sql, []).await?;
    let read = |raw: RawBody| serde_json::from_str(&raw.body).map_err(StoreError::corrupt);
    raws.into_iter().map(read).collect()
}

#[derive(Debug, FromQueryResult)]
struct RawHold {
    hold_id: String,
}

/// Returns the holds that somebody has asked to go on from, and that goes on from nowhere yet: by their release, by an
/// emergency, or by a revert that takes people back under them. Also by what is too old to be done by now.
///
/// # Errors
///
/// When the store cannot be reached, or a row is damaged.
pub async fn holds_asked_to_go_on_from<C: ConnectionTrait>(
    db: &C,
) -> Result<BTreeSet<HoldId>, StoreError> {
    let sql = "SELECT DISTINCT r.hold_id FROM hold h JOIN release_request r ON r.hold_id = h.id \
               WHERE h.released_at IS NULL AND r.ended IS NULL";
    let released: Vec<RawHold> = query::all(db, sql, []).await?;
    let mut asked: BTreeSet<HoldId> = released
        .iter()
        .map(|raw| query::id(&raw.hold_id))
        .collect::<Result<_, _>>()?;
    let is_asked = |one: &Emergency| one.confirmed.is_none() && one.ended.is_none();
    let emergencies = emergencies_load(db).await?;
    let emergencies = emergencies.into_iter().filter(is_asked);
    asked.extend(emergencies.flat_map(|one| one.holds));
    let sql = "SELECT r.body FROM revert r JOIN rollout o ON o.id = r.rollout_id \
               WHERE r.ended IS NULL AND o.lifecycle IN ('draft', 'planned')";
    let reverts: Vec<RawBody> = query::all(db, sql, []).await?;
    for raw in reverts {
        let sheet: Sheet = serde_json::from_str(&raw.body).map_err(StoreError::corrupt)?;
        asked.extend(sheet.holds);
    }
    Ok(asked)
}

/// Writes an emergency, new or changed. Whoever changes one has the hold lock.
pub async fn emergency_put<C: ConnectionTrait>(
    db: &C,
    emergency: &Emergency,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO emergency (id, rollout_id, at, body) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (id) DO UPDATE SET body = $4";
    let body = serde_json::to_string(emergency).map_err(StoreError::corrupt)?;
    let values = [
        emergency.id.to_string().into(),
        emergency.wish.rollout.to_string().into(),
        millis(emergency.at).into(),
        body.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}
