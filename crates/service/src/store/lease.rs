//! The leases in force: who may still send, and until when.

use sea_orm::{ConnectionTrait, FromQueryResult, Value};
use tidegate_orchestrator::hold::{Place, Scope};
use tidegate_orchestrator::ids::{Timestamp, WaveNumber, millis};
use tidegate_orchestrator::quiesce::LeaseInForce;

use super::StoreError;
use super::query;

#[derive(Debug, FromQueryResult)]
struct RawLease {
    target_id: String,
    rollout_id: String,
    wave_no: i64,
    lease_owner: String,
    until: i64,
}

/// Reads the leases under a scope that are in force at `now`, one line for each worker and wave.
///
/// A batch that is leased becomes ready when its lease ends, so the index of what is ready finds them
/// among the many that wait; and a wave in which nobody is in flight has none.
pub async fn leases_in_force<C: ConnectionTrait>(
    db: &C,
    scope: &Scope,
    now: Timestamp,
) -> Result<Vec<LeaseInForce>, StoreError> {
    if matches!(scope, Scope::Part(..)) {
        // Whoever is parked is in nobody's hands.
        return Ok(Vec::new());
    }
    let mut values: Vec<Value> = vec![millis(now).into()];
    values.extend(scope.uuid().map(|id| Value::from(id.to_string())));
    values.extend(scope.wave().map(|wave| Value::from(i64::from(wave.get()))));
    let covered = match scope {
        Scope::Everything => "",
        Scope::Target(_) => " AND r.target_id = $2",
        Scope::Rollout(_) => " AND w.rollout_id = $2",
        Scope::Wave(..) | Scope::Part(..) => " AND w.rollout_id = $2 AND w.wave_no = $3",
    };
    let sql = format!(
        "SELECT r.target_id, b.rollout_id, b.wave_no, b.lease_owner, MAX(b.lease_until) AS until \
         FROM wave w JOIN rollout r ON r.id = w.rollout_id JOIN batch b ON b.rollout_id = w.rollout_id \
         AND b.wave_no = w.wave_no AND b.ready_at > $1 WHERE w.in_flight > 0{covered} \
         AND b.lease_owner IS NOT NULL AND b.lease_until > $1 \
         GROUP BY r.target_id, b.rollout_id, b.wave_no, b.lease_owner"
    );
    let raws: Vec<RawLease> = query::all(db, sql, values).await?;
    raws.into_iter()
        .map(|raw| {
            Ok(LeaseInForce {
                owner: query::id(&raw.lease_owner)?,
                place: Place::wave(
                    query::id(&raw.target_id)?,
                    query::id(&raw.rollout_id)?,
                    WaveNumber(query::unsigned(raw.wave_no)?),
                ),
                until: query::instant(raw.until)?,
            })
        })
        .collect()
}
