//! Policy sets and their versions, how far signals have been judged, and what rules have held.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, FromQueryResult};
use tidegate_orchestrator::ids::{HoldId, TargetId, Timestamp, from_millis, millis};
use tidegate_policy::document::Format;
use tidegate_policy::rule::judge::TargetFacts;
use tidegate_policy::set::{PolicySet, STARTER};
use tidegate_policy::signal::Severity;

use super::{StoreError, query, source};

/// One version of a policy set.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct PolicyRow {
    /// Its id.
    pub id: String,
    /// The name of the set.
    pub name: String,
    /// Which version it is, from 1.
    pub version: i64,
    /// How it is written.
    pub format: String,
    /// As it was written.
    pub text: String,
    /// The digest of what it says.
    pub digest: String,
    /// draft, active or replaced.
    pub status: String,
    /// Who wrote it.
    pub author: String,
    /// Who said yes, as JSON.
    pub approvals: String,
    /// When it was written, in milliseconds since 1970.
    pub created_at: i64,
    /// When it became active.
    pub activated_at: Option<i64>,
}

const COLUMNS: &str =
    "id, name, version, format, text, digest, status, author, approvals, created_at, activated_at";

/// Writes a version of a set.
pub async fn policy_insert<C: ConnectionTrait>(db: &C, row: &PolicyRow) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO policy_set ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    );
    let values = [
        row.id.clone().into(),
        row.name.clone().into(),
        row.version.into(),
        row.format.clone().into(),
        row.text.clone().into(),
        row.digest.clone().into(),
        row.status.clone().into(),
        row.author.clone().into(),
        row.approvals.clone().into(),
        row.created_at.into(),
        row.activated_at.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

impl PolicyRow {
    /// Returns the set that an installation begins with.
    ///
    /// # Errors
    ///
    /// Never in a release: the set is read by its own tests.
    pub fn starter(id: &str) -> Result<Self, StoreError> {
        let set = PolicySet::parse(STARTER, Format::Yaml).map_err(StoreError::corrupt)?;
        Ok(Self {
            id: id.to_owned(),
            name: set.name.clone(),
            version: 1,
            format: Format::Yaml.name().to_owned(),
            text: STARTER.to_owned(),
            digest: set.digest().to_string(),
            status: "active".to_owned(),
            author: "tidegate".to_owned(),
            approvals: "[]".to_owned(),
            created_at: 0,
            activated_at: None,
        })
    }
}

/// Writes the first set of an installation that has none. Every process that starts may try.
pub async fn starter_install<C: ConnectionTrait>(
    db: &C,
    row: &PolicyRow,
) -> Result<(), StoreError> {
    let sql = "SELECT COUNT(*) AS number FROM policy_set";
    let known: Option<query::Number> = query::one(db, sql, []).await?;
    if known.is_some_and(|known| known.number > 0) {
        return Ok(());
    }
    match policy_insert(db, row).await {
        // Another process was faster.
        Err(StoreError::Taken) => Err(StoreError::Serialization),
        other => other,
    }
}

/// Reads the active set; `None` in a database that never had one.
pub async fn policy_active<C: ConnectionTrait>(db: &C) -> Result<Option<PolicyRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM policy_set WHERE status = 'active'");
    query::one(db, sql, []).await
}

/// Reads one version of a set; the newest without a number.
pub async fn policy_find<C: ConnectionTrait>(
    db: &C,
    name: &str,
    version: Option<i64>,
) -> Result<Option<PolicyRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM policy_set WHERE name = $1 AND version <= $2 ORDER BY version DESC LIMIT 1"
    );
    let row: Option<PolicyRow> =
        query::one(db, sql, [name.into(), version.unwrap_or(i64::MAX).into()]).await?;
    Ok(row.filter(|row| version.is_none_or(|version| row.version == version)))
}

/// Lists every version of every set, the newest first.
pub async fn policies<C: ConnectionTrait>(
    db: &C,
    limit: usize,
) -> Result<Vec<PolicyRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM policy_set ORDER BY created_at DESC, version DESC LIMIT $1");
    query::all(db, sql, [query::signed(limit)?.into()]).await
}

/// Keeps who said yes to a version.
pub async fn policy_approve<C: ConnectionTrait>(
    db: &C,
    id: &str,
    approvals: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE policy_set SET approvals = $2 WHERE id = $1 AND status = 'draft'";
    match query::execute(db, sql, [id.into(), approvals.into()]).await? {
        1 => Ok(()),
        _ => Err(StoreError::Conflict),
    }
}

/// Makes one version the active one: whatever has not been judged by now is judged by it.
pub async fn policy_activate<C: ConnectionTrait>(
    db: &C,
    id: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE policy_set SET status = 'replaced' WHERE status = 'active'";
    query::execute(db, sql, []).await?;
    let sql = "UPDATE policy_set SET status = 'active', activated_at = $2 WHERE id = $1 AND status = 'draft'";
    match query::execute(db, sql, [id.into(), millis(now).into()]).await? {
        1 => Ok(()),
        _ => Err(StoreError::Conflict),
    }
}

/// How far things have come, read in one statement.
#[derive(Debug, Clone, PartialEq, Eq, FromQueryResult)]
pub struct Standing {
    /// The last signal that was admitted.
    pub seq: i64,
    /// The last signal that was judged.
    pub judged_seq: i64,
    /// How often what is known of targets has changed.
    pub facts_rev: i64,
    /// How many targets there are.
    pub targets: i64,
    /// The active version.
    pub policy: Option<String>,
    /// How many holds by rules are in force.
    pub holds: i64,
    /// At how many targets signals are to be judged again.
    pub rejudges: i64,
}

/// Reads how far things have come.
pub async fn standing<C: ConnectionTrait>(db: &C) -> Result<Standing, StoreError> {
    let sql = "SELECT (SELECT seq FROM signal_head WHERE id = 1) AS seq, judged_seq, facts_rev, \
               (SELECT COUNT(*) FROM target) AS targets, \
               (SELECT id FROM policy_set WHERE status = 'active') AS policy, \
               (SELECT COUNT(*) FROM hold_report r JOIN hold h ON h.id = r.hold_id WHERE h.released_at IS NULL) AS holds, \
               (SELECT COUNT(*) FROM target_rejudge) AS rejudges \
               FROM policy_state WHERE id = 1";
    query::one(db, sql, []).await?.ok_or(StoreError::NotFound)
}

/// Reads how far signals have been judged, and locks it: one process decides at a time.
pub async fn judged_lock<C: ConnectionTrait>(db: &C) -> Result<i64, StoreError> {
    let lock = query::for_update(db);
    let sql = format!("SELECT judged_seq AS number FROM policy_state WHERE id = 1{lock}");
    let row: Option<query::Number> = query::one(db, sql, []).await?;
    row.map(|row| row.number).ok_or(StoreError::NotFound)
}

/// Writes how far signals have been judged, by the set that is still active; otherwise by the next one.
pub async fn judged_set<C: ConnectionTrait>(
    db: &C,
    seq: i64,
    policy: &str,
) -> Result<(), StoreError> {
    let sql = "UPDATE policy_state SET judged_seq = $1 WHERE id = 1 AND judged_seq < $1 \
               AND EXISTS (SELECT 1 FROM policy_set WHERE id = $2 AND status = 'active')";
    query::execute(db, sql, [seq.into(), policy.into()]).await?;
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawFacts {
    id: String,
    name: String,
    body: Option<String>,
}

/// Reads what rules know of every target, and which of the sources that it needs are not heard: blind, out of
/// use, or none at all.
pub async fn facts_load<C: ConnectionTrait>(
    db: &C,
) -> Result<Vec<(TargetId, TargetFacts)>, StoreError> {
    let heard = source::heard_names(db).await?;
    let sql = "SELECT t.id, t.name, f.body FROM target t LEFT JOIN target_facts f ON f.target_id = t.id ORDER BY t.name";
    let raws: Vec<RawFacts> = query::all(db, sql, []).await?;
    let facts = raws.into_iter().map(|raw| {
        let known: TargetFacts = match &raw.body {
            Some(body) => serde_json::from_str(body).map_err(StoreError::corrupt)?,
            None => TargetFacts::default(),
        };
        let facts = TargetFacts {
            name: raw.name,
            blind: known.needs.difference(&heard).cloned().collect(),
            ..known
        };
        Ok((query::id(&raw.id)?, facts))
    });
    facts.collect()
}

/// Writes what rules know of a target.
pub async fn facts_put<C: ConnectionTrait>(
    db: &C,
    target: TargetId,
    facts: &TargetFacts,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO target_facts (target_id, body) VALUES ($1, $2) \
               ON CONFLICT (target_id) DO UPDATE SET body = $2";
    let body = serde_json::to_string(facts).map_err(StoreError::corrupt)?;
    query::execute(db, sql, [target.to_string().into(), body.into()]).await?;
    facts_changed(db).await
}

/// Has whoever judges read again what is known of targets.
pub async fn facts_changed<C: ConnectionTrait>(db: &C) -> Result<(), StoreError> {
    let sql = "UPDATE policy_state SET facts_rev = facts_rev + 1 WHERE id = 1";
    query::execute(db, sql, []).await?;
    Ok(())
}

/// Keeps the last signal of which rules in force have made something at targets.
pub async fn decided_put<C: ConnectionTrait>(
    db: &C,
    decided: &BTreeMap<TargetId, i64>,
) -> Result<(), StoreError> {
    let decided: Vec<(&TargetId, &i64)> = decided.iter().collect();
    for part in decided.chunks(256) {
        let mut values: Vec<sea_orm::Value> = Vec::with_capacity(part.len() * 2);
        for (target, seq) in part {
            values.extend([target.to_string().into(), (**seq).into()]);
        }
        let sql = format!(
            "INSERT INTO target_decided (target_id, seq) VALUES {} ON CONFLICT (target_id) DO UPDATE SET seq = \
             CASE WHEN target_decided.seq < excluded.seq THEN excluded.seq ELSE target_decided.seq END",
            query::rows_for(part.len(), 2)
        );
        query::execute(db, sql, values).await?;
    }
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawDecided {
    target_id: String,
    seq: i64,
}

/// Returns the last signal of which rules in force have made something at each target.
pub async fn decided_load<C: ConnectionTrait>(
    db: &C,
) -> Result<BTreeMap<TargetId, i64>, StoreError> {
    let sql = "SELECT target_id, seq FROM target_decided ORDER BY target_id";
    let raws: Vec<RawDecided> = query::all(db, sql, []).await?;
    let rows = raws
        .into_iter()
        .map(|raw| Ok((query::id(&raw.target_id)?, raw.seq)));
    rows.collect()
}

/// Returns when each source that is heard was last found to be so again.
pub async fn recoveries<C: ConnectionTrait>(
    db: &C,
) -> Result<BTreeMap<String, Timestamp>, StoreError> {
    let states = source::states(db).await?.into_values();
    let recovered = states.filter_map(|row| Some((row.name, from_millis(row.recovered_at?)?)));
    Ok(recovered.collect())
}

/// What was judged before a target became another vendor's: judged there once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejudge {
    /// The target.
    pub target: TargetId,
    /// The signals after this one,
    pub since: i64,
    /// and up to this one.
    pub until: i64,
}

/// Has signals that were judged before judged at a target again, once.
pub async fn rejudge_put<C: ConnectionTrait>(db: &C, row: &Rejudge) -> Result<(), StoreError> {
    let sql = "INSERT INTO target_rejudge (target_id, since_seq, until_seq) VALUES ($1, $2, $3) \
               ON CONFLICT (target_id) DO UPDATE SET until_seq = $3, since_seq = \
               CASE WHEN target_rejudge.since_seq < $2 THEN target_rejudge.since_seq ELSE $2 END";
    let values = [
        row.target.to_string().into(),
        row.since.into(),
        row.until.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct RawRejudge {
    target_id: String,
    since_seq: i64,
    until_seq: i64,
}

/// Lists the targets at which signals are to be judged again.
pub async fn rejudges<C: ConnectionTrait>(db: &C) -> Result<Vec<Rejudge>, StoreError> {
    let sql = "SELECT target_id, since_seq, until_seq FROM target_rejudge ORDER BY target_id";
    let raws: Vec<RawRejudge> = query::all(db, sql, []).await?;
    let rows = raws.into_iter().map(|raw| {
        Ok(Rejudge {
            target: query::id(&raw.target_id)?,
            since: raw.since_seq,
            until: raw.until_seq,
        })
    });
    rows.collect()
}

/// Keeps that signals were judged at a target; says whether nobody else has, or asked for more meanwhile.
pub async fn rejudge_done<C: ConnectionTrait>(db: &C, row: &Rejudge) -> Result<bool, StoreError> {
    let sql =
        "DELETE FROM target_rejudge WHERE target_id = $1 AND since_seq = $2 AND until_seq = $3";
    let values = [
        row.target.to_string().into(),
        row.since.into(),
        row.until.into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Returns the first signal that a hold by a rule in force goes back to.
pub async fn first_in_force<C: ConnectionTrait>(db: &C) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT MIN(r.first_seq) AS number FROM hold_report r JOIN hold h ON h.id = r.hold_id \
               WHERE h.released_at IS NULL AND r.first_seq > 0";
    let row: Option<query::MaybeNumber> = query::one(db, sql, []).await?;
    Ok(row.and_then(|row| row.number))
}

/// What was reported of a hold that a rule placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// The hold.
    pub hold: HoldId,
    /// The rule.
    pub rule: String,
    /// The target that the rule was asked about.
    pub target: TargetId,
    /// How many signals decided so.
    pub signals: u64,
    /// The worst severity among them.
    pub worst: Severity,
    /// The first of them.
    pub first_seq: i64,
    /// The last of them.
    pub last_seq: i64,
}

#[derive(Debug, FromQueryResult)]
struct RawReport {
    hold_id: String,
    rule: String,
    target_id: String,
    signals: i64,
    worst: String,
    first_seq: i64,
    last_seq: i64,
}

impl TryFrom<RawReport> for ReportRow {
    type Error = StoreError;

    fn try_from(raw: RawReport) -> Result<Self, StoreError> {
        Ok(Self {
            hold: query::id(&raw.hold_id)?,
            rule: raw.rule,
            target: query::id(&raw.target_id)?,
            signals: query::unsigned64(raw.signals)?,
            worst: Severity::from_name(&raw.worst).unwrap_or(Severity::Unknown),
            first_seq: raw.first_seq,
            last_seq: raw.last_seq,
        })
    }
}

const REPORT: &str = "r.hold_id, r.rule, r.target_id, r.signals, r.worst, r.first_seq, r.last_seq";

/// Reads what was reported of every hold by a rule that is in force.
pub async fn reports_in_force<C: ConnectionTrait>(db: &C) -> Result<Vec<ReportRow>, StoreError> {
    let sql = format!(
        "SELECT {REPORT} FROM hold_report r JOIN hold h ON h.id = r.hold_id \
         WHERE h.released_at IS NULL ORDER BY r.first_seq, r.hold_id"
    );
    let raws: Vec<RawReport> = query::all(db, sql, []).await?;
    raws.into_iter().map(ReportRow::try_from).collect()
}

/// Reads what was reported of a hold.
pub async fn report_load<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
) -> Result<Option<ReportRow>, StoreError> {
    let sql = format!("SELECT {REPORT} FROM hold_report r WHERE r.hold_id = $1");
    let raw: Option<RawReport> = query::one(db, sql, [hold.to_string().into()]).await?;
    raw.map(ReportRow::try_from).transpose()
}

/// Writes what was reported of a hold.
pub async fn report_put<C: ConnectionTrait>(db: &C, row: &ReportRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO hold_report (hold_id, rule, target_id, signals, worst, first_seq, last_seq) \
               VALUES ($1, $2, $3, $4, $5, $6, $7) \
               ON CONFLICT (hold_id) DO UPDATE SET signals = $4, worst = $5, last_seq = $7";
    let values = [
        row.hold.to_string().into(),
        row.rule.clone().into(),
        row.target.to_string().into(),
        query::signed(row.signals)?.into(),
        row.worst.name().into(),
        row.first_seq.into(),
        row.last_seq.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Makes the active set one that nobody can read.
#[cfg(test)]
pub(crate) async fn testing_damage<C: ConnectionTrait>(db: &C) -> Result<(), StoreError> {
    query::execute(
        db,
        "UPDATE policy_set SET text = 'rules: [' WHERE status = 'active'",
        [],
    )
    .await?;
    Ok(())
}
