//! Hold rows and the epoch: the path that must work while everything else is busy.
//!
//! Placing and releasing count the epoch up in the same transaction. Claims and holds conflict:
//! on SQLite by the single writer, on PostgreSQL by an advisory lock that claims share and holds
//! take alone, which queues fairly where row locks would starve the hold.

use std::sync::{Arc, PoisonError, RwLock};

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Value};
use tidegate_orchestrator::hold::{Hold, HoldKind, HoldSet, MovedPeople, Release, Scope};
use tidegate_orchestrator::ids::{
    Epoch, Generation, HoldId, Principal, Timestamp, WaveNumber, millis,
};
use tidegate_orchestrator::permit::PERMIT_MILLIS;

use super::query;
use super::{Store, StoreError, Txn, exemption};

/// The advisory lock between claims (shared) and holds (alone). "tide" in ASCII.
const CLAIM_LOCK: i64 = 0x7469_6465;
/// Waits for the claims under way, as the expression of a `SELECT`.
pub(super) const HOLD_LOCK: &str = "pg_advisory_xact_lock(x'74696465'::bigint)";

/// A hold as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRow {
    /// The hold.
    pub id: HoldId,
    /// pause, halt, freeze or gate.
    pub kind: String,
    /// everything, target, rollout, wave or part.
    pub scope_kind: String,
    /// Empty for everything, else the id of the target or rollout.
    pub scope_id: String,
    /// 0 unless the scope is a wave.
    pub scope_wave: u32,
    /// Which people of the wave, as JSON.
    pub part: Option<String>,
    /// Whether its wave is still to be sorted on its account.
    pub unsorted: bool,
    /// What led to it, as JSON; with everyone who asked for it.
    pub cause: String,
    /// Why.
    pub reason: String,
    /// Who may be asked about it.
    pub owner: String,
    /// keep, freeze or revert.
    pub effect: String,
    /// Who placed it.
    pub placed_by: String,
    /// When.
    pub placed_at: Timestamp,
    /// The epoch it began.
    pub placed_epoch: Epoch,
    /// When somebody must look at it again.
    pub review_at: Option<Timestamp>,
    /// Who released it.
    pub released_by: Option<String>,
    /// When.
    pub released_at: Option<Timestamp>,
    /// The epoch that began with the release.
    pub released_epoch: Option<Epoch>,
    /// Why.
    pub release_reason: Option<String>,
    /// Grows with every change.
    pub generation: Generation,
}

#[derive(Debug, FromQueryResult)]
pub(super) struct RawHold {
    id: String,
    kind: String,
    scope_kind: String,
    scope_id: String,
    scope_wave: i64,
    part: Option<String>,
    unsorted: i64,
    cause: String,
    reason: String,
    owner: String,
    effect: String,
    placed_by: String,
    placed_at: i64,
    placed_epoch: i64,
    review_at: Option<i64>,
    released_by: Option<String>,
    released_at: Option<i64>,
    released_epoch: Option<i64>,
    release_reason: Option<String>,
    generation: i64,
}

pub(super) const COLUMNS: &str = "id, kind, scope_kind, scope_id, scope_wave, part, unsorted, cause, reason, owner, effect, \
                       placed_by, placed_at, placed_epoch, review_at, released_by, released_at, \
                       released_epoch, release_reason, generation";

impl TryFrom<RawHold> for HoldRow {
    type Error = StoreError;

    fn try_from(raw: RawHold) -> Result<Self, StoreError> {
        Ok(Self {
            id: query::id(&raw.id)?,
            kind: raw.kind,
            scope_kind: raw.scope_kind,
            scope_id: raw.scope_id,
            scope_wave: query::unsigned(raw.scope_wave)?,
            part: raw.part,
            unsorted: raw.unsorted != 0,
            cause: raw.cause,
            reason: raw.reason,
            owner: raw.owner,
            effect: raw.effect,
            placed_by: raw.placed_by,
            placed_at: query::instant(raw.placed_at)?,
            placed_epoch: Epoch::new(raw.placed_epoch),
            review_at: raw.review_at.map(query::instant).transpose()?,
            released_by: raw.released_by,
            released_at: raw.released_at.map(query::instant).transpose()?,
            released_epoch: raw.released_epoch.map(Epoch::new),
            release_reason: raw.release_reason,
            generation: Generation::new(raw.generation),
        })
    }
}

impl HoldRow {
    /// Returns the row of a hold.
    ///
    /// # Errors
    ///
    /// When its cause cannot be written as JSON, which no cause brings about.
    pub fn of(hold: &Hold) -> Result<Self, StoreError> {
        let released = hold.released.as_ref();
        let part = hold.part.as_ref().map(serde_json::to_string);
        Ok(Self {
            id: hold.id,
            kind: hold.kind.name().to_owned(),
            scope_kind: hold.scope.name().to_owned(),
            scope_id: hold
                .scope
                .uuid()
                .map(|id| id.to_string())
                .unwrap_or_default(),
            scope_wave: hold.scope.wave().map_or(0, WaveNumber::get),
            part: part.transpose().map_err(StoreError::corrupt)?,
            unsorted: hold.part.as_ref().is_some_and(|part| !part.is_sorted),
            cause: serde_json::to_string(&hold.cause).map_err(StoreError::corrupt)?,
            reason: hold.reason.clone(),
            owner: hold.owner.to_string(),
            effect: hold.effect.name().to_owned(),
            placed_by: hold.placed_by.to_string(),
            placed_at: hold.placed_at,
            placed_epoch: hold.placed_epoch,
            review_at: hold.review_at,
            released_by: released.map(|released| released.by.to_string()),
            released_at: released.map(|released| released.at),
            released_epoch: released.map(|released| released.epoch),
            release_reason: released.map(|released| released.reason.clone()),
            generation: hold.generation,
        })
    }

    /// Returns the hold of the row.
    ///
    /// # Errors
    ///
    /// When the row is damaged; the caller then treats everything as held.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        let id = if self.scope_id.is_empty() {
            None
        } else {
            Some(query::id(&self.scope_id)?)
        };
        let wave = (self.scope_wave > 0).then_some(WaveNumber(self.scope_wave));
        let released = match (
            &self.released_by,
            self.released_at,
            self.released_epoch,
            &self.release_reason,
        ) {
            (Some(by), Some(at), Some(epoch), Some(reason)) => Some(Release {
                by: Principal::new(by.clone()),
                at,
                epoch,
                reason: reason.clone(),
            }),
            _ => None,
        };
        Ok(Hold {
            id: self.id,
            kind: HoldKind::from_name(&self.kind).ok_or_else(|| {
                StoreError::corrupt(format!("`{}` is no kind of hold", self.kind))
            })?,
            scope: Scope::from_parts(&self.scope_kind, id, wave).map_err(StoreError::corrupt)?,
            part: match &self.part {
                Some(part) => Some(serde_json::from_str(part).map_err(StoreError::corrupt)?),
                None => None,
            },
            cause: serde_json::from_str(&self.cause).map_err(StoreError::corrupt)?,
            reason: self.reason.clone(),
            owner: Principal::new(self.owner.clone()),
            effect: MovedPeople::from_name(&self.effect).unwrap_or_default(),
            placed_by: Principal::new(self.placed_by.clone()),
            placed_at: self.placed_at,
            placed_epoch: self.placed_epoch,
            review_at: self.review_at,
            released,
            generation: self.generation,
        })
    }
}

/// Reads the holds in force, as workers and the planner need them.
async fn hold_set<C: ConnectionTrait>(db: &C) -> Result<HoldSet, StoreError> {
    // Side by side: whoever hears of a hold waits for both.
    let (rows, exemptions) = tokio::try_join!(holds_in_force(db), exemption::exemptions_open(db))?;
    let holds: Vec<Hold> = rows.iter().map(HoldRow::hold).collect::<Result<_, _>>()?;
    let mut set: HoldSet = holds.iter().filter_map(Hold::in_force).collect();
    for exemption in exemptions {
        set.exempt(exemption);
    }
    Ok(set)
}

/// The holds in force as they were last read, and the epoch they belong to.
///
/// Every hold that begins or ends moves the epoch, so the set of an epoch never changes: whoever knows
/// the epoch need not read a hundred thousand rows again.
#[derive(Debug, Clone, Default)]
pub struct HoldCache(Arc<RwLock<Option<Known>>>);

/// An epoch, and the holds in force in it.
pub type Known = (Epoch, Arc<HoldSet>);

impl HoldCache {
    fn of(&self, epoch: Epoch) -> Option<Arc<HoldSet>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|(of, _)| *of == epoch)
            .map(|(_, holds)| Arc::clone(holds))
    }

    /// Follows a hold that began or ended with an epoch, once that is committed. Saves everybody from
    /// reading all holds again; when another epoch was missed, they are read.
    pub fn follow(&self, epoch: Epoch, change: impl FnOnce(&mut HoldSet)) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, holds)) = known.as_mut()
            && of.get() + 1 == epoch.get()
        {
            *of = epoch;
            change(Arc::make_mut(holds));
        }
    }

    /// Returns the epoch that was last read, and its holds: the next one may have begun since.
    #[must_use]
    pub fn last(&self) -> Option<Known> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Forgets what was read: the store is another one than it was read from.
    pub fn forget(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn keep(&self, epoch: Epoch, holds: &Arc<HoldSet>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_none_or(|(of, _)| *of < epoch) {
            *known = Some((epoch, Arc::clone(holds)));
        }
    }
}

/// Returns the epoch and the holds in force, which are at least as new as the epoch.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged.
pub async fn holds_known(store: &Store) -> Result<Known, StoreError> {
    let epoch = epoch_load(store.read()).await?;
    Ok((epoch, holds_at(store, epoch).await?))
}

/// Returns the holds in force, which are at least as new as an epoch that was read before.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged.
pub async fn holds_at(store: &Store, epoch: Epoch) -> Result<Arc<HoldSet>, StoreError> {
    let (db, cache) = (store.read(), store.hold_cache());
    if let Some(holds) = cache.of(epoch) {
        return Ok(holds);
    }
    let holds = Arc::new(hold_set(db).await?);
    // Kept only when no hold came or went while they were read. What a transaction sees is kept by nobody: it may
    // have ended a hold itself, and never commit.
    if epoch_load(db).await? == epoch {
        cache.keep(epoch, &holds);
    }
    Ok(holds)
}

/// Returns the holds in force as a connection or a transaction sees them, which has seen an epoch before.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged.
pub async fn holds_seen<C: ConnectionTrait>(
    db: &C,
    cache: &HoldCache,
    epoch: Epoch,
) -> Result<Arc<HoldSet>, StoreError> {
    match cache.of(epoch) {
        Some(holds) => Ok(holds),
        None => Ok(Arc::new(hold_set(db).await?)),
    }
}

/// Returns the epoch and the holds in force as a transaction sees them, which may have written some itself.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged.
pub async fn holds_within(txn: &Txn) -> Result<Known, StoreError> {
    let epoch = epoch_load(txn).await?;
    Ok((epoch, holds_seen(txn, txn.hold_cache(), epoch).await?))
}

/// Returns the holds in force as they are stored, in whatever connection or transaction.
///
/// # Errors
///
/// When the store cannot be reached or a row is damaged.
pub async fn hold_set_for<C: ConnectionTrait>(db: &C) -> Result<HoldSet, StoreError> {
    hold_set(db).await
}

/// Lets claims through until the transaction ends, and keeps holds waiting meanwhile.
pub async fn claim_lock<C: ConnectionTrait>(db: &C) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Postgres {
        // As long as a permit: whoever claims and is not heard for longer may send nothing any more, and must
        // not keep a hold waiting.
        let silent = query::client_silent(PERMIT_MILLIS);
        let sql = format!("SELECT {silent}, pg_advisory_xact_lock_shared($1)");
        query::execute(db, sql, [CLAIM_LOCK.into()]).await?;
    }
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct Got {
    got: bool,
}

/// The same for claims that were made under an epoch that was read without the lock: nobody waits for whoever only
/// thinks. For the end of a transaction, whose rows it has locked by then: so it never waits, and whoever loses
/// begins anew.
///
/// # Errors
///
/// `Serialization` when a hold is being placed, or one came or went since.
pub async fn claim_lock_late(txn: &Txn, read: Epoch) -> Result<(), StoreError> {
    if txn.get_database_backend() != DbBackend::Postgres {
        // One writer: nobody came between.
        return Ok(());
    }
    let silent = query::client_silent(PERMIT_MILLIS);
    let sql = format!("SELECT {silent}, pg_try_advisory_xact_lock_shared($1) AS got");
    let got: Option<Got> = query::one(txn, sql, [CLAIM_LOCK.into()]).await?;
    // A statement of its own: what one sees is what was committed before it began, and that was before the lock.
    if !got.is_some_and(|row| row.got) || epoch_load(txn).await? != read {
        return Err(StoreError::Serialization);
    }
    Ok(())
}

/// Waits for the claims under way and keeps new ones waiting until the transaction ends.
pub async fn hold_lock(txn: &Txn) -> Result<(), StoreError> {
    if txn.get_database_backend() == DbBackend::Postgres && !txn.has_hold_lock() {
        query::execute(txn, format!("SELECT {HOLD_LOCK}"), []).await?;
    }
    Ok(())
}

/// Reads the epoch.
pub async fn epoch_load<C: ConnectionTrait>(db: &C) -> Result<Epoch, StoreError> {
    let sql = "SELECT epoch AS number FROM installation WHERE id = 1";
    epoch_of(query::one(db, sql, []).await?)
}

/// Counts the epoch up.
const EPOCH_NEXT: &str =
    "UPDATE installation SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch AS number";
/// Returns the `next` one and tells every replica, which hears it once the transaction commits.
const EPOCH_TOLD: &str = "SELECT number, pg_notify('tidegate_epoch', number::text) FROM next";

/// Counts the epoch up and returns the new one. Every replica is told, and hears it once the transaction commits.
///
/// # Errors
///
/// `Older` when this process has seen that epoch before; when the store cannot be reached.
pub async fn epoch_next(txn: &Txn) -> Result<Epoch, StoreError> {
    let sql = match txn.get_database_backend() {
        DbBackend::Postgres => format!("WITH next AS ({EPOCH_NEXT}) {EPOCH_TOLD}"),
        _ => EPOCH_NEXT.to_owned(),
    };
    let epoch = epoch_of(query::one(txn, sql, []).await?)?;
    never_seen(txn, epoch)?;
    Ok(epoch)
}

/// Makes sure that an epoch begins for the first time. One that was in force before it began is of a store that this
/// one was put in the place of.
fn never_seen(txn: &Txn, epoch: Epoch) -> Result<(), StoreError> {
    if txn.epoch_seen() < epoch {
        Ok(())
    } else {
        Err(StoreError::Older)
    }
}

fn epoch_of(row: Option<query::Number>) -> Result<Epoch, StoreError> {
    row.map(|row| Epoch::new(row.number))
        .ok_or(StoreError::NotFound)
}

/// Reads every hold in force.
pub async fn holds_in_force<C: ConnectionTrait>(db: &C) -> Result<Vec<HoldRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM hold WHERE released_at IS NULL ORDER BY placed_at, id");
    let raws: Vec<RawHold> = query::all(db, sql, []).await?;
    raws.into_iter().map(HoldRow::try_from).collect()
}

/// Reads the holds in force that have frozen people who were moved.
pub async fn holds_freezing<C: ConnectionTrait>(db: &C) -> Result<Vec<Hold>, StoreError> {
    let frozen = MovedPeople::Freeze.name();
    let sql =
        format!("SELECT {COLUMNS} FROM hold WHERE released_at IS NULL AND effect = '{frozen}'");
    let raws: Vec<RawHold> = query::all(db, sql, []).await?;
    raws.into_iter()
        .map(|raw| HoldRow::try_from(raw)?.hold())
        .collect()
}

/// Which holds a page lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// All, also those that were released.
    All,
    /// Those in force.
    InForce,
    /// Those in force whose review was due by an instant.
    Overdue(Timestamp),
}

/// Reads a page of holds in the order they were placed.
pub async fn hold_page<C: ConnectionTrait>(
    db: &C,
    listed: Listed,
    after: Option<(i64, String)>,
    limit: usize,
) -> Result<Vec<HoldRow>, StoreError> {
    let (placed_at, id) = after.unwrap_or((i64::MIN, String::new()));
    let only = match listed {
        Listed::All => String::new(),
        Listed::InForce => " AND released_at IS NULL".to_owned(),
        Listed::Overdue(by) => {
            format!(" AND released_at IS NULL AND review_at <= {}", millis(by))
        }
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM hold WHERE (placed_at > $1 OR (placed_at = $1 AND id > $2)){only} \
         ORDER BY placed_at, id LIMIT $3"
    );
    let values = [placed_at.into(), id.into(), query::signed(limit)?.into()];
    let raws: Vec<RawHold> = query::all(db, sql, values).await?;
    raws.into_iter().map(HoldRow::try_from).collect()
}

/// Reads one hold.
pub async fn hold_load<C: ConnectionTrait>(
    db: &C,
    id: HoldId,
) -> Result<Option<HoldRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM hold WHERE id = $1");
    let raw: Option<RawHold> = query::one(db, sql, [id.to_string().into()]).await?;
    raw.map(HoldRow::try_from).transpose()
}

/// Begins the epoch of a hold, which must be the next one, and writes the hold. Every replica is told.
///
/// # Errors
///
/// `Serialization` when another hold came or went since its epoch was thought to be the next; `Older` as `epoch_next`;
/// when the store cannot be reached.
pub async fn hold_begin(txn: &Txn, row: &HoldRow) -> Result<(), StoreError> {
    // The first reminder is due with the review.
    let insert = format!("INSERT INTO hold ({COLUMNS}, review_nag_at)");
    let places = query::placeholders(1, 20);
    let begun = if txn.get_database_backend() == DbBackend::Postgres {
        // One round trip for both: whoever stops something waits for each, beside all that is moving.
        let sql = format!(
            "WITH next AS (UPDATE installation SET epoch = $14 WHERE id = 1 AND epoch = $14 - 1 RETURNING epoch AS number), \
             placed AS ({insert} SELECT {places}, $15 FROM next) {EPOCH_TOLD}"
        );
        let told: Option<query::Number> = query::one(txn, sql, values(row)).await?;
        told.is_some()
    } else {
        let next = "UPDATE installation SET epoch = $1 WHERE id = 1 AND epoch = $1 - 1";
        let counted = query::execute(txn, next, [row.placed_epoch.get().into()]).await?;
        counted == 1 && {
            let sql = format!("{insert} VALUES ({places}, $15)");
            query::execute(txn, sql, values(row)).await? == 1
        }
    };
    if !begun {
        return Err(StoreError::Serialization);
    }
    // Only now: whoever thinks of an epoch that has begun since has merely lost.
    never_seen(txn, row.placed_epoch)
}

fn values(row: &HoldRow) -> [Value; 20] {
    [
        row.id.to_string().into(),
        row.kind.clone().into(),
        row.scope_kind.clone().into(),
        row.scope_id.clone().into(),
        i64::from(row.scope_wave).into(),
        row.part.clone().into(),
        i64::from(row.unsorted).into(),
        row.cause.clone().into(),
        row.reason.clone().into(),
        row.owner.clone().into(),
        row.effect.clone().into(),
        row.placed_by.clone().into(),
        millis(row.placed_at).into(),
        row.placed_epoch.get().into(),
        row.review_at.map(millis).into(),
        row.released_by.clone().into(),
        row.released_at.map(millis).into(),
        row.released_epoch.map(Epoch::get).into(),
        row.release_reason.clone().into(),
        row.generation.get().into(),
    ]
}

/// Saves what may change about a hold whose stored generation is still `was`.
pub async fn hold_save<C: ConnectionTrait>(
    db: &C,
    row: &HoldRow,
    was: Generation,
) -> Result<(), StoreError> {
    let values: [Value; 12] = [
        row.id.to_string().into(),
        was.get().into(),
        row.generation.get().into(),
        row.cause.clone().into(),
        row.released_by.clone().into(),
        row.released_at.map(millis).into(),
        row.released_epoch.map(Epoch::get).into(),
        row.release_reason.clone().into(),
        row.scope_kind.clone().into(),
        row.part.clone().into(),
        i64::from(row.unsorted).into(),
        row.reason.clone().into(),
    ];
    let changed = query::execute(
        db,
        "UPDATE hold SET generation = $3, cause = $4, released_by = $5, released_at = $6, \
         released_epoch = $7, release_reason = $8, scope_kind = $9, part = $10, unsorted = $11, reason = $12 WHERE id = $1 AND generation = $2",
        values,
    )
    .await?;
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}
