//! What the release of a halt is decided from: terms, requirements, requests, approvals, preflights.

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_orchestrator::hold::release::{End, Seat, Substance};
use tidegate_orchestrator::hold::requirement::{Requirement, Word};
use tidegate_orchestrator::hold::terms::Terms;
use tidegate_orchestrator::ids::{
    Generation, HoldId, ReleaseRequestId, RequirementId, Timestamp, millis,
};

use super::{StoreError, query};

fn written<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::corrupt)
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(StoreError::corrupt)
}

#[derive(Debug, FromQueryResult)]
struct RawBody {
    body: String,
}

/// Reads the release terms of a halt; those of all others when it has none of its own.
pub async fn terms_load<C: ConnectionTrait>(db: &C, hold: HoldId) -> Result<Terms, StoreError> {
    let sql = "SELECT body FROM hold_terms WHERE hold_id = $1";
    let raw: Option<RawBody> = query::one(db, sql, [hold.to_string().into()]).await?;
    raw.map_or_else(|| Ok(Terms::default()), |raw| read(&raw.body))
}

/// Writes the release terms of a halt.
pub async fn terms_put<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
    terms: &Terms,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO hold_terms (hold_id, body) VALUES ($1, $2) \
               ON CONFLICT (hold_id) DO UPDATE SET body = $2";
    query::execute(db, sql, [hold.to_string().into(), written(terms)?.into()]).await?;
    Ok(())
}

/// Reads the requirements of a halt in the order of their numbers.
pub async fn requirements_load<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
) -> Result<Vec<Requirement>, StoreError> {
    let sql = "SELECT body FROM requirement WHERE hold_id = $1 ORDER BY number";
    let raws: Vec<RawBody> = query::all(db, sql, [hold.to_string().into()]).await?;
    raws.iter().map(|raw| read(&raw.body)).collect()
}

/// Reads one requirement of a halt.
pub async fn requirement_load<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
    id: RequirementId,
) -> Result<Option<Requirement>, StoreError> {
    let sql = "SELECT body FROM requirement WHERE hold_id = $1 AND id = $2";
    let values = [hold.to_string().into(), id.to_string().into()];
    let raw: Option<RawBody> = query::one(db, sql, values).await?;
    raw.map(|raw| read(&raw.body)).transpose()
}

/// Writes a new requirement; a number that was taken meanwhile is a conflict.
pub async fn requirement_insert<C: ConnectionTrait>(
    db: &C,
    requirement: &Requirement,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO requirement (id, hold_id, number, body, generation) \
               VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let values = [
        requirement.id.to_string().into(),
        requirement.hold.to_string().into(),
        i64::from(requirement.number).into(),
        written(requirement)?.into(),
        requirement.generation.get().into(),
    ];
    if query::execute(db, sql, values).await? == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// Saves a requirement whose stored generation is still `was`.
pub async fn requirement_save<C: ConnectionTrait>(
    db: &C,
    requirement: &Requirement,
    was: Generation,
) -> Result<(), StoreError> {
    let sql = "UPDATE requirement SET body = $3, generation = $4 WHERE id = $1 AND generation = $2";
    let values = [
        requirement.id.to_string().into(),
        was.get().into(),
        written(requirement)?.into(),
        requirement.generation.get().into(),
    ];
    if query::execute(db, sql, values).await? == 1 {
        Ok(())
    } else {
        Err(StoreError::Conflict)
    }
}

/// A request to release a halt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// Its id.
    pub id: ReleaseRequestId,
    /// The halt.
    pub hold: HoldId,
    /// When it was made.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// Who made it.
    pub seat: Seat,
    /// What the approvals are bound to.
    pub substance: Substance,
    /// How it ended, if it has.
    pub ended: Option<End>,
}

#[derive(Debug, FromQueryResult)]
struct RawRequest {
    id: String,
    hold_id: String,
    at: i64,
    reason: String,
    seat: String,
    substance: String,
    ended: Option<String>,
}

/// Reads the newest request to release a halt.
pub async fn request_newest<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
) -> Result<Option<RequestRow>, StoreError> {
    let sql = "SELECT id, hold_id, at, reason, seat, substance, ended FROM release_request \
               WHERE hold_id = $1 ORDER BY at DESC, id DESC LIMIT 1";
    let raw: Option<RawRequest> = query::one(db, sql, [hold.to_string().into()]).await?;
    let Some(raw) = raw else { return Ok(None) };
    let ended = match raw.ended {
        Some(name) => Some(
            End::from_name(&name)
                .ok_or_else(|| StoreError::corrupt(format!("`{name}` is no end of a request")))?,
        ),
        None => None,
    };
    Ok(Some(RequestRow {
        id: query::id(&raw.id)?,
        hold: query::id(&raw.hold_id)?,
        at: query::instant(raw.at)?,
        reason: raw.reason,
        seat: read(&raw.seat)?,
        substance: read(&raw.substance)?,
        ended,
    }))
}

/// Writes a new request.
pub async fn request_insert<C: ConnectionTrait>(
    db: &C,
    row: &RequestRow,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO release_request (id, hold_id, at, reason, seat, substance, ended) \
               VALUES ($1, $2, $3, $4, $5, $6, NULL)";
    let values = [
        row.id.to_string().into(),
        row.hold.to_string().into(),
        millis(row.at).into(),
        row.reason.clone().into(),
        written(&row.seat)?.into(),
        written(&row.substance)?.into(),
    ];
    query::execute(db, sql, values).await?;
    Ok(())
}

/// Ends a request that has not ended; says whether this did it.
pub async fn request_end<C: ConnectionTrait>(
    db: &C,
    id: ReleaseRequestId,
    end: End,
) -> Result<bool, StoreError> {
    let sql = "UPDATE release_request SET ended = $2 WHERE id = $1 AND ended IS NULL";
    let values = [id.to_string().into(), end.name().into()];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Ends a request that has not ended because somebody said no; says whether this did it.
pub async fn request_veto<C: ConnectionTrait>(
    db: &C,
    id: ReleaseRequestId,
    no: &Word,
) -> Result<bool, StoreError> {
    let sql = "UPDATE release_request SET ended = $2, veto = $3 WHERE id = $1 AND ended IS NULL";
    let end = End::Vetoed.name();
    let values = [id.to_string().into(), end.into(), written(no)?.into()];
    Ok(query::execute(db, sql, values).await? == 1)
}

/// Reads who has said no to a release of a halt, the first first.
pub async fn vetoes_load<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
) -> Result<Vec<Word>, StoreError> {
    let sql = "SELECT veto AS body FROM release_request WHERE hold_id = $1 AND veto IS NOT NULL ORDER BY at, id";
    let raws: Vec<RawBody> = query::all(db, sql, [hold.to_string().into()]).await?;
    raws.iter().map(|raw| read(&raw.body)).collect()
}

/// One person's yes, and the role that their token has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalRow {
    /// Who, and the seat they had.
    pub seat: Seat,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// The role of their token now; none when it was revoked.
    pub role_now: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct RawApproval {
    seat: String,
    reason: String,
    at: i64,
    role_now: Option<String>,
}

/// Reads who said yes to a request, the first first.
pub async fn release_approvals_load<C: ConnectionTrait>(
    db: &C,
    request: ReleaseRequestId,
) -> Result<Vec<ApprovalRow>, StoreError> {
    let sql = "SELECT a.seat, a.reason, a.at, t.role AS role_now FROM release_approval a \
               LEFT JOIN api_token t ON t.name = a.token AND t.revoked_at IS NULL \
               WHERE a.request_id = $1 ORDER BY a.at, a.person";
    let raws: Vec<RawApproval> = query::all(db, sql, [request.to_string().into()]).await?;
    raws.into_iter()
        .map(|raw| {
            Ok(ApprovalRow {
                seat: read(&raw.seat)?,
                reason: raw.reason,
                at: query::instant(raw.at)?,
                role_now: raw.role_now,
            })
        })
        .collect()
}

/// Writes one person's yes; says whether it is their first.
pub async fn release_approval_put<C: ConnectionTrait>(
    db: &C,
    request: ReleaseRequestId,
    row: &ApprovalRow,
) -> Result<bool, StoreError> {
    let sql = "INSERT INTO release_approval (request_id, person, token, seat, reason, at) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let values = [
        request.to_string().into(),
        row.seat.person.as_str().trim().to_lowercase().into(),
        row.seat.token.to_string().into(),
        written(&row.seat)?.into(),
        row.reason.clone().into(),
        millis(row.at).into(),
    ];
    Ok(query::execute(db, sql, values).await? == 1)
}

#[derive(Debug, FromQueryResult)]
struct RawPreflight {
    at: i64,
    body: String,
}

/// Reads when the last preflight of a halt was, and what it found of targets, as JSON.
pub async fn preflight_load<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
) -> Result<Option<(Timestamp, String)>, StoreError> {
    let sql = "SELECT at, body FROM preflight WHERE hold_id = $1";
    let raw: Option<RawPreflight> = query::one(db, sql, [hold.to_string().into()]).await?;
    raw.map(|raw| Ok((query::instant(raw.at)?, raw.body)))
        .transpose()
}

/// Writes the last preflight of a halt.
pub async fn preflight_put<C: ConnectionTrait>(
    db: &C,
    hold: HoldId,
    (at, body): (Timestamp, &str),
) -> Result<(), StoreError> {
    let sql = "INSERT INTO preflight (hold_id, at, body) VALUES ($1, $2, $3) \
               ON CONFLICT (hold_id) DO UPDATE SET at = $2, body = $3";
    let values = [hold.to_string().into(), millis(at).into(), body.into()];
    query::execute(db, sql, values).await?;
    Ok(())
}
