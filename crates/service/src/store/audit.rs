//! The audit trail: append-only, hash-linked, written in the transaction of the change it records, at its end.
//!
//! The hash of an entry is SHA-256 over its parts, each preceded by its length (`DigestBuilder`): the
//! hash before it, sequence and instant (8 bytes little-endian), actor, action, subject, request id,
//! detail, data. An edit, a drop or a reordering breaks the chain from there on.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Value};
use tidegate_orchestrator::digest::{Digest, DigestBuilder};
use tidegate_orchestrator::ids::Timestamp;

use super::{StoreError, Txn, query};

/// What happened, for the trail.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who.
    pub actor: String,
    /// What, such as `hold.place`.
    pub action: String,
    /// To what, such as `rollout:ID`.
    pub subject: String,
    /// The request it came with.
    pub request_id: Option<String>,
    /// The rest, as JSON.
    pub detail: serde_json::Value,
    /// Packed changes of people.
    pub data: Option<Vec<u8>>,
}

/// An entry of the trail as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct AuditRow {
    /// Its place, from 1.
    pub seq: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// The request it came with.
    pub request_id: Option<String>,
    /// The rest, as JSON text.
    pub detail: String,
    /// Packed changes of people.
    pub data: Option<Vec<u8>>,
    /// The hash of the entry before.
    pub prev_hash: Vec<u8>,
    /// The hash of this entry.
    pub hash: Vec<u8>,
}

impl AuditRow {
    /// Computes what the hash of this entry must be.
    #[must_use]
    pub fn expected_hash(&self) -> Digest {
        let mut builder = DigestBuilder::default();
        builder.part(&self.prev_hash);
        builder.part(&self.seq.to_le_bytes());
        builder.part(&self.at.to_le_bytes());
        builder.part(self.actor.as_bytes());
        builder.part(self.action.as_bytes());
        builder.part(self.subject.as_bytes());
        builder.part(self.request_id.as_deref().unwrap_or_default().as_bytes());
        builder.part(self.detail.as_bytes());
        builder.part(self.data.as_deref().unwrap_or_default());
        builder.finish()
    }

    /// How many values a row has.
    const WIDTH: usize = 10;

    /// Makes the row that comes after the end of the trail.
    fn after(head: Head, entry: Entry, at: Timestamp) -> Self {
        let mut row = Self {
            seq: head.seq + 1,
            at: at.timestamp_millis(),
            actor: entry.actor,
            action: entry.action,
            subject: entry.subject,
            request_id: entry.request_id,
            detail: entry.detail.to_string(),
            data: entry.data,
            prev_hash: head.hash,
            hash: Vec::new(),
        };
        row.hash = row.expected_hash().0.to_vec();
        row
    }

    fn values(self) -> [Value; Self::WIDTH] {
        [
            self.seq.into(),
            self.at.into(),
            self.actor.into(),
            self.action.into(),
            self.subject.into(),
            self.request_id.into(),
            self.detail.into(),
            self.data.into(),
            self.prev_hash.into(),
            self.hash.into(),
        ]
    }
}

#[derive(Debug, FromQueryResult)]
struct Head {
    seq: i64,
    hash: Vec<u8>,
}

#[derive(Debug, FromQueryResult)]
struct RawDetail {
    detail: String,
}

/// Returns the detail of the last entry of an action that somebody has brought about.
///
/// # Errors
///
/// When the store cannot be reached, or the detail is no JSON.
pub async fn detail_last<C: ConnectionTrait>(
    db: &C,
    subject: &str,
    action: &str,
    actor: &str,
) -> Result<Option<serde_json::Value>, StoreError> {
    let sql = "SELECT detail FROM audit WHERE subject = $1 AND action = $2 AND actor = $3 \
               ORDER BY seq DESC LIMIT 1";
    let values = [subject.into(), action.into(), actor.into()];
    let raw: Option<RawDetail> = query::one(db, sql, values).await?;
    raw.map(|raw| serde_json::from_str(&raw.detail).map_err(StoreError::corrupt))
        .transpose()
}

/// How many entries one statement appends at most, well below what a statement may have of values.
const APPENDED_AT_ONCE: usize = 500;

impl Txn {
    /// Has the trail hear of something, when the transaction commits.
    ///
    /// The end of the trail is locked by whoever writes there until the commit. So all of it is written last,
    /// whatever the order in which it is told: whoever has the end of the trail waits for no row of anybody.
    pub fn audit(&mut self, entry: Entry) {
        self.trail.push(entry);
    }

    /// Appends what the trail is to hear of.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    pub(super) async fn append_trail(&mut self) -> Result<(), StoreError> {
        let mut entries = std::mem::take(&mut self.trail).into_iter();
        if entries.len() == 0 {
            return Ok(());
        }
        let lock = query::for_update(self);
        let sql = format!("SELECT seq, hash FROM audit_head WHERE id = 1{lock}");
        let mut head: Head = query::one(self, sql, [])
            .await?
            .ok_or_else(|| StoreError::corrupt("the audit trail has no end"))?;
        while entries.len() > 0 {
            let mut rows = Vec::new();
            for entry in entries.by_ref().take(APPENDED_AT_ONCE) {
                let row = AuditRow::after(head, entry, self.now());
                head = Head {
                    seq: row.seq,
                    hash: row.hash.clone(),
                };
                rows.push(row);
            }
            self.append(rows, &head).await?;
        }
        Ok(())
    }

    /// Appends rows, of which there is one at least, and moves the end of the trail behind them.
    async fn append(&self, rows: Vec<AuditRow>, head: &Head) -> Result<(), StoreError> {
        let count = rows.len();
        let insert = format!(
            "INSERT INTO audit (seq, at, actor, action, subject, request_id, detail, data, prev_hash, hash) VALUES {}",
            query::rows_for(count, AuditRow::WIDTH)
        );
        let sql = match self.get_database_backend() {
            // One round trip for both: whoever comes next waits for the end of the trail.
            DbBackend::Postgres => {
                let (seq, hash) = ((count - 1) * AuditRow::WIDTH + 1, count * AuditRow::WIDTH);
                format!(
                    "WITH head AS (UPDATE audit_head SET seq = ${seq}, hash = ${hash} WHERE id = 1) {insert}"
                )
            }
            _ => {
                let end = "UPDATE audit_head SET seq = $1, hash = $2 WHERE id = 1";
                query::execute(self, end, [head.seq.into(), head.hash.clone().into()]).await?;
                insert
            }
        };
        query::execute(self, sql, rows.into_iter().flat_map(AuditRow::values)).await?;
        Ok(())
    }
}

/// Reads entries after one, in order.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn entries_after<C: ConnectionTrait>(
    db: &C,
    after: i64,
    limit: usize,
) -> Result<Vec<AuditRow>, StoreError> {
    query::all(
        db,
        "SELECT seq, at, actor, action, subject, request_id, detail, data, prev_hash, hash FROM audit \
         WHERE seq > $1 ORDER BY seq LIMIT $2",
        [after.into(), query::signed(limit)?.into()],
    )
    .await
}

/// An entry without its packed changes of people.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ToldRow {
    /// Its place, from 1.
    pub seq: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub subject: String,
    /// The rest, as JSON text.
    pub detail: String,
    /// The hash of this entry.
    pub hash: Vec<u8>,
}

/// Finds the first entry of one of these actions, after one entry and up to another.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn entry_next<C: ConnectionTrait>(
    db: &C,
    (after, until): (i64, i64),
    actions: &[&str],
) -> Result<Option<ToldRow>, StoreError> {
    let sql = format!(
        "SELECT seq, at, actor, action, subject, detail, hash FROM audit \
         WHERE seq > $1 AND seq <= $2 AND action IN ({}) ORDER BY seq LIMIT 1",
        query::placeholders(3, actions.len())
    );
    let mut values = vec![after.into(), until.into()];
    values.extend(actions.iter().map(|action| (*action).into()));
    query::one(db, sql, values).await
}

/// Returns the last sequence number and its hash, as the end of the trail remembers them.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn head<C: ConnectionTrait>(db: &C) -> Result<(i64, Vec<u8>), StoreError> {
    let head: Option<Head> =
        query::one(db, "SELECT seq, hash FROM audit_head WHERE id = 1", []).await?;
    head.map(|head| (head.seq, head.hash))
        .ok_or_else(|| StoreError::corrupt("the audit trail has no end"))
}

/// An entry that changed people.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct ChangesRow {
    /// Its place in the trail.
    pub seq: i64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The packed changes.
    pub data: Vec<u8>,
}

/// Reads the entries about one subject that changed people, after one entry and up to another, in order.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn changes_between<C: ConnectionTrait>(
    db: &C,
    subject: &str,
    (after, until): (i64, i64),
    limit: usize,
) -> Result<Vec<ChangesRow>, StoreError> {
    query::all(
        db,
        "SELECT seq, at, data FROM audit WHERE subject = $1 AND seq > $2 AND seq <= $3 \
         AND data IS NOT NULL ORDER BY seq LIMIT $4",
        [
            subject.into(),
            after.into(),
            until.into(),
            query::signed(limit)?.into(),
        ],
    )
    .await
}
