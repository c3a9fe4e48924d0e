//! The audit trail: append-only, hash-linked, written in the transaction of the change it records.
//!
//! The hash of an entry is SHA-256 over its parts, each preceded by its length (`DigestBuilder`): the
//! hash before it, sequence and instant (8 bytes little-endian), actor, action, subject, request id,
//! detail, data. An edit, a drop or a reordering breaks the chain from there on.

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};
use tidegate_orchestrator::digest::{Digest, DigestBuilder};

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

impl Txn {
    /// Appends an entry. Call it last: it locks the end of the trail until the commit.
    ///
    /// # Errors
    ///
    /// When the store cannot be reached.
    pub async fn audit(&mut self, entry: Entry) -> Result<i64, StoreError> {
        let lock = query::for_update(self);
        let head: Head = query::one(
            self,
            format!("SELECT seq, hash FROM audit_head WHERE id = 1{lock}"),
            [],
        )
        .await?
        .ok_or_else(|| StoreError::corrupt("the audit trail has no end"))?;
        let mut row = AuditRow {
            seq: head.seq + 1,
            at: self.now().timestamp_millis(),
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
        let seq = row.seq;
        let end = "UPDATE audit_head SET seq = $1, hash = $10 WHERE id = 1";
        let insert = "INSERT INTO audit (seq, at, actor, action, subject, request_id, detail, data, prev_hash, hash) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let sql = match self.get_database_backend() {
            // One round trip for both: whoever comes next waits for the end of the trail.
            DbBackend::Postgres => format!("WITH head AS ({end}) {insert}"),
            _ => {
                let end = "UPDATE audit_head SET seq = $1, hash = $2 WHERE id = 1";
                query::execute(self, end, [row.seq.into(), row.hash.clone().into()]).await?;
                insert.to_owned()
            }
        };
        let values = [
            row.seq.into(),
            row.at.into(),
            row.actor.into(),
            row.action.into(),
            row.subject.into(),
            row.request_id.into(),
            row.detail.into(),
            row.data.into(),
            row.prev_hash.into(),
            row.hash.into(),
        ];
        query::execute(self, sql, values).await?;
        Ok(seq)
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
