//! Populations: who exists, and which column of their files means what.

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::ids::{Generation, PopulationId, PopulationVersionId, Timestamp};

use super::{Actor, Detail, OperationError, Page};
use crate::app::App;
use crate::source::mapping::Mapping;
use crate::source::pack::ColumnInfo;
use crate::store::population::{self as rows, PopulationRow, VersionRow};
use crate::store::{Lane, StoreError, transact};

/// A population as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PopulationView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PopulationId,
    /// Its name.
    pub name: String,
    /// Which column means what.
    pub mapping: Mapping,
    /// The version that counts, once something has been imported.
    pub current_version: Option<VersionView>,
    /// Grows with every change.
    #[schema(value_type = i64)]
    pub generation: Generation,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A version of a population as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VersionView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PopulationVersionId,
    /// Its place among the versions, from 1.
    pub number: i64,
    /// How many members.
    pub member_count: u64,
    /// What its content is known by.
    pub content_digest: Option<String>,
    /// When it was published.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub published_at: Option<Timestamp>,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
}

impl VersionView {
    /// Shows a version.
    ///
    /// # Errors
    ///
    /// When its row is damaged.
    pub fn of(row: &VersionRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            number: row.number,
            member_count: row.members,
            content_digest: row.content_digest.clone(),
            published_at: row.published_at,
            columns: serde_json::from_str(&row.columns).map_err(StoreError::corrupt)?,
        })
    }
}

/// Finds a population by id or name.
///
/// # Errors
///
/// When there is none.
pub async fn find(app: &App, name: &str) -> Result<PopulationRow, OperationError> {
    let found = rows::population_find(app.store.read(), name).await?;
    found.ok_or_else(|| OperationError::not_found("population", name))
}

/// Says what is wrong with a name that shall stand in addresses and tables.
///
/// # Errors
///
/// When it is empty, too long, or has other letters.
pub fn check_name(name: &str) -> Result<(), OperationError> {
    let is_plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let looks_like_an_id = name.parse::<PopulationId>().is_ok();
    // Not `..`, which an address would lose, and not what a command line takes for an option.
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    if !begins || name.len() > 100 || !name.chars().all(is_plain) || looks_like_an_id {
        let sentence = format!(
            "`{name}` is no name: 1 to 100 letters, digits, `-`, `_` and `.`, not beginning with `-` or `.`, and not of the form of an id"
        );
        return Err(OperationError::invalid("name_invalid", sentence));
    }
    Ok(())
}

fn check_mapping(mapping: &Mapping) -> Result<(), OperationError> {
    let wrong = mapping.check();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(OperationError::Invalid {
        code: "mapping_invalid".to_owned(),
        sentence: "the mapping cannot be used".to_owned(),
        details: wrong
            .into_iter()
            .map(|sentence| Detail::new("mapping_invalid", sentence))
            .collect(),
    })
}

/// Creates a population.
///
/// # Errors
///
/// When the name is taken or is none, or the mapping contradicts itself.
pub async fn create(
    app: &App,
    actor: &Actor,
    name: &str,
    mapping: &Mapping,
) -> Result<PopulationView, OperationError> {
    check_name(name)?;
    check_mapping(mapping)?;
    let row = PopulationRow {
        id: app.ids.make(),
        name: name.to_owned(),
        mapping: serde_json::to_string(mapping).map_err(StoreError::corrupt)?,
        current_version: None,
        generation: Generation(1),
        created_at: app.clock.now(),
    };
    let created: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "population_create", |txn| {
            rows::population_insert(txn, &row).await?;
            txn.audit(actor.entry(
                "population.create",
                format!("population:{}", row.id),
                json!({"name": name, "mapping": mapping}),
            ));
            Ok(())
        });
    match created {
        Ok(()) => show(app, row).await,
        Err(StoreError::Taken) => Err(OperationError::name_taken("population", name)),
        Err(error) => Err(error.into()),
    }
}

/// Returns a population.
///
/// # Errors
///
/// When there is none of that name.
pub async fn get(app: &App, name: &str) -> Result<PopulationView, OperationError> {
    let row = find(app, name).await?;
    show(app, row).await
}

/// Lists populations by name.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(
    app: &App,
    cursor: &str,
    limit: usize,
) -> Result<Page<PopulationView>, OperationError> {
    let mut views = Vec::new();
    for row in rows::populations_page(app.store.read(), cursor, limit + 1).await? {
        views.push(show(app, row).await?);
    }
    Ok(Page::cut(views, limit, |view| view.name.clone()))
}

/// Changes which column means what; the next import will be read by it.
///
/// # Errors
///
/// When the population has changed since it was read, or the mapping contradicts itself.
pub async fn remap(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Generation,
    mapping: &Mapping,
) -> Result<PopulationView, OperationError> {
    check_mapping(mapping)?;
    let row = find(app, name).await?;
    let text = serde_json::to_string(mapping).map_err(StoreError::corrupt)?;
    let changed: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "population_map", |txn| {
            rows::population_map(txn, row.id, generation, &text).await?;
            txn.audit(actor.entry(
                "population.map",
                format!("population:{}", row.id),
                json!({"mapping": mapping}),
            ));
            Ok(())
        });
    match changed {
        Ok(()) => get(app, name).await,
        Err(StoreError::Conflict) => Err(OperationError::Conflict { what: "population" }),
        Err(error) => Err(error.into()),
    }
}

async fn show(app: &App, row: PopulationRow) -> Result<PopulationView, OperationError> {
    let current_version = match row.current_version {
        Some(version) => Some(VersionView::of(
            &rows::version_load(app.store.read(), version).await?,
        )?),
        None => None,
    };
    Ok(PopulationView {
        id: row.id,
        name: row.name,
        mapping: serde_json::from_str(&row.mapping).map_err(StoreError::corrupt)?,
        current_version,
        generation: row.generation,
        created_at: row.created_at,
    })
}
