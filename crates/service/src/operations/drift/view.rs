//! What a measurement is shown as: counts, classes, and the people in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::drift::Class;
use tidegate_orchestrator::ids::{DriftId, Ordinal, Timestamp};
use tidegate_orchestrator::roster;

use super::super::{OperationError, Page, load, member};
use super::{Standing, standing};
use crate::app::App;
use crate::store::drift::{self as rows, DriftRow};
use crate::store::{StoreError, plan as plans};

/// How many people one chunk of a class holds.
const CHUNK: usize = 1024;

/// People to whom the same has happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClassView {
    /// left, deprovision, joined, joined_outside, excluded, moved, catch_up, renamed, recycled, returned,
    /// by_hand or review.
    pub class: String,
    /// How many.
    pub people: u64,
    /// What happened to them.
    pub sentence: String,
}

/// What becomes of the people of a wave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WaveDrift {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// How many were in it.
    pub before: u64,
    /// How many stand in another wave from now on.
    pub transferred: u64,
    /// How many stand here who did not.
    pub added: u64,
}

/// A measurement, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Report {
    /// How many people the rollout was planned for, its exclusions included.
    pub people_then: u64,
    /// How many there are now.
    pub people_now: u64,
    /// Everybody of then and now, each once, by where they stand afterwards.
    pub outcome: BTreeMap<String, u64>,
    /// What happened to whom. Somebody may be in several classes.
    pub classes: Vec<ClassView>,
    /// What becomes of waves.
    pub waves: Vec<WaveDrift>,
    /// How many waves the rollout had.
    pub waves_before: u32,
    /// The attribute that user names were compared by.
    pub user_names_by: Option<String>,
}

/// A measurement, as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DriftView {
    /// current: nothing was imported since; unmeasured; measured; or applied.
    pub status: String,
    /// What that means, and what to do.
    pub sentence: String,
    /// The measurement.
    #[schema(value_type = Option<String>)]
    pub id: Option<DriftId>,
    /// What it is known by; an approval of a release covers it.
    pub digest: Option<String>,
    /// The digest of the plan for the people of now.
    pub plan_digest: Option<String>,
    /// When it was measured.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub measured_at: Option<Timestamp>,
    /// What was found.
    pub report: Option<Report>,
}

/// Somebody in a class.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DriftPerson {
    /// The directory id.
    pub key: String,
    /// What is known of them now; of those who have left, what was known then.
    #[schema(value_type = Object)]
    pub attributes: BTreeMap<String, serde_json::Value>,
}

/// Shows how the people of a rollout stand to the people there are now.
///
/// # Errors
///
/// When there is no such rollout, or the store cannot be reached.
pub async fn show(app: &App, name: &str) -> Result<DriftView, OperationError> {
    let row = load::find(app, name).await?;
    match standing(app.store.read(), &row).await? {
        Standing::Measured(found) => of(app, "measured", &found).await,
        Standing::Unmeasured { sentence } => Ok(none("unmeasured", sentence)),
        Standing::Current => match rows::drift_newest(app.store.read(), row.id, "applied").await? {
            Some(applied) => of(app, "applied", &applied).await,
            None => Ok(none(
                "current",
                "nothing has been imported since the plan was made".to_owned(),
            )),
        },
    }
}

fn none(status: &str, sentence: String) -> DriftView {
    DriftView {
        status: status.to_owned(),
        sentence,
        id: None,
        digest: None,
        plan_digest: None,
        measured_at: None,
        report: None,
    }
}

pub(super) async fn of(
    app: &App,
    status: &str,
    row: &DriftRow,
) -> Result<DriftView, OperationError> {
    let report: Report = serde_json::from_str(&row.report).map_err(StoreError::corrupt)?;
    let plan = plans::plan_load(app.store.read(), row.plan).await?;
    let sentence = match status {
        "applied" => "the rollout goes on with these people".to_owned(),
        _ => "look at it: whoever approves the release of the halt approves this, too".to_owned(),
    };
    Ok(DriftView {
        status: status.to_owned(),
        sentence,
        id: Some(row.id),
        digest: Some(row.digest.clone()),
        plan_digest: plan.map(|plan| plan.digest),
        measured_at: Some(row.created_at),
        report: Some(report),
    })
}

/// Lists the people of a class of the newest measurement, in the order of the population.
///
/// # Errors
///
/// When there is no such rollout, class or measurement, or the cursor is none.
pub async fn people(
    app: &App,
    name: &str,
    class: &str,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<DriftPerson>, OperationError> {
    let row = load::find(app, name).await?;
    let Some(class) = Class::from_name(class) else {
        let names: Vec<&str> = Class::ALL.into_iter().map(Class::name).collect();
        let sentence = format!("`{class}` is none of the classes: {}", names.join(", "));
        return Err(OperationError::invalid("class_unknown", sentence));
    };
    let found = match standing(app.store.read(), &row).await? {
        Standing::Measured(found) => Some(*found),
        _ => rows::drift_newest(app.store.read(), row.id, "applied").await?,
    };
    let found = found.ok_or_else(|| OperationError::not_found("measurement of drift", name))?;
    let plan = load::plan(app, found.plan).await?;
    let mut from: usize = match cursor {
        Some(text) => text.parse().map_err(|_| {
            OperationError::invalid("cursor_invalid", "the cursor is not one of ours")
        })?,
        None => 0,
    };
    let mut ordinals: Vec<Ordinal> = Vec::new();
    while ordinals.len() <= limit {
        let chunk = u32::try_from(from / CHUNK).unwrap_or(u32::MAX);
        let body =
            rows::drift_people_chunk(app.store.read(), found.id, class.name(), chunk).await?;
        let Some(body) = body else { break };
        let all = roster::decode(&body).map_err(StoreError::corrupt)?;
        let rest = all.get(from % CHUNK..).unwrap_or_default();
        if rest.is_empty() {
            break;
        }
        from += rest.len();
        ordinals.extend(rest);
    }
    let read = ordinals.len();
    ordinals.truncate(limit);
    let next = (read > limit).then(|| (from - (read - limit)).to_string());
    let members = member::by_ordinals(app, plan.population_version, &ordinals).await?;
    let items = members.into_iter().map(|member| DriftPerson {
        key: member.key,
        attributes: member
            .attributes
            .into_iter()
            .map(|(name, value)| (name, member::json(&value)))
            .collect(),
    });
    Ok(Page {
        items: items.collect(),
        next_cursor: next,
    })
}

/// Packs a class in chunks.
pub(super) fn chunks(people: &[Ordinal]) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
    let parts = people.chunks(CHUNK).zip(0..);
    parts
        .map(|(part, number)| Ok((number, roster::encode(part).map_err(StoreError::corrupt)?)))
        .collect()
}
