//! Targets: where people are moved to, and whether that works.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_orchestrator::ids::{Generation, TargetId, Timestamp};

use super::{Actor, OperationError, Page, population};
use crate::app::App;
use crate::connector::CheckReport;
use crate::store::target::{self as rows, TargetRow};
use crate::store::{Lane, StoreError, transact};

/// A target as it is shown. Credentials are references, so there is nothing to hide.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TargetId,
    /// Its name.
    pub name: String,
    /// sandbox or scim.
    pub connector: String,
    /// The connector's settings.
    #[schema(value_type = Object)]
    pub config: Value,
    /// What the last check found it can do.
    #[schema(value_type = Object)]
    pub capability: Option<Value>,
    /// When it was last checked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub checked_at: Option<Timestamp>,
    /// Nobody is sent before this instant: the target asked for it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_until: Option<Timestamp>,
    /// Grows with every change.
    #[schema(value_type = i64)]
    pub generation: Generation,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

fn show(app: &App, row: TargetRow) -> Result<TargetView, StoreError> {
    let json = |text: &str| serde_json::from_str(text).map_err(StoreError::corrupt);
    Ok(TargetView {
        id: row.id,
        name: row.name,
        connector: row.connector,
        config: json(&row.config)?,
        capability: row.capability.as_deref().map(json).transpose()?,
        checked_at: row.checked_at,
        closed_until: Some(row.closed_until).filter(|until| *until > app.clock.now()),
        generation: row.generation,
        created_at: row.created_at,
    })
}

/// Finds a target by id or name.
///
/// # Errors
///
/// When there is none.
pub async fn find(app: &App, name: &str) -> Result<TargetRow, OperationError> {
    rows::target_find(app.store.read(), name)
        .await?
        .ok_or_else(|| OperationError::not_found("target", name))
}

fn check_config(app: &App, connector: &str, config: &Value) -> Result<(), OperationError> {
    app.connectors
        .check(connector, config, &app.clock)
        .map_err(|error| OperationError::invalid("config_invalid", error.to_string()))
}

/// Creates a target. Nothing is sent to it.
///
/// # Errors
///
/// When the name is taken or is none, or the settings cannot be used.
pub async fn create(
    app: &App,
    actor: &Actor,
    name: &str,
    connector: &str,
    config: &Value,
) -> Result<TargetView, OperationError> {
    population::check_name(name)?;
    check_config(app, connector, config)?;
    let row = TargetRow {
        id: app.ids.make(),
        name: name.to_owned(),
        connector: connector.to_owned(),
        config: config.to_string(),
        capability: None,
        checked_at: None,
        closed_until: Timestamp::UNIX_EPOCH,
        generation: Generation(1),
        created_at: app.clock.now(),
    };
    let created: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "target_create", |txn| {
            rows::target_insert(txn, &row).await?;
            let detail = json!({"name": name, "connector": connector, "config": config});
            txn.audit(actor.entry("target.create", format!("target:{}", row.id), detail));
            Ok(())
        });
    match created {
        Ok(()) => Ok(show(app, row)?),
        Err(StoreError::Taken) => Err(OperationError::name_taken("target", name)),
        Err(error) => Err(error.into()),
    }
}

/// Returns a target.
///
/// # Errors
///
/// When there is none.
pub async fn get(app: &App, name: &str) -> Result<TargetView, OperationError> {
    let row = find(app, name).await?;
    Ok(show(app, row)?)
}

/// Lists targets by name.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(
    app: &App,
    cursor: &str,
    limit: usize,
) -> Result<Page<TargetView>, OperationError> {
    let rows = rows::targets_page(app.store.read(), cursor, limit + 1).await?;
    let views = rows
        .into_iter()
        .map(|row| show(app, row))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Page::cut(views, limit, |view| view.name.clone()))
}

/// Changes the settings of a target; senders take them up with their next batch.
///
/// # Errors
///
/// When the target changed since it was read, or the settings cannot be used.
pub async fn configure(
    app: &App,
    actor: &Actor,
    name: &str,
    generation: Generation,
    connector: &str,
    config: &Value,
) -> Result<TargetView, OperationError> {
    check_config(app, connector, config)?;
    let row = find(app, name).await?;
    let text = config.to_string();
    let changed: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "target_configure", |txn| {
            rows::target_configure(txn, row.id, generation, connector, &text).await?;
            let detail = json!({"connector": connector, "config": config});
            txn.audit(actor.entry("target.configure", format!("target:{}", row.id), detail));
            Ok(())
        });
    match changed {
        Ok(()) => get(app, name).await,
        Err(StoreError::Conflict) => Err(OperationError::Conflict { what: "target" }),
        Err(error) => Err(error.into()),
    }
}

/// Connects to a target, tries a canary, and explains what was found.
///
/// # Errors
///
/// When there is none, or its settings cannot be used.
pub async fn check(app: &App, actor: &Actor, name: &str) -> Result<CheckReport, OperationError> {
    let row = find(app, name).await?;
    let connector = app
        .connectors
        .of(&row, &app.clock)
        .map_err(|error| OperationError::invalid("config_invalid", error.to_string()))?;
    let report = connector.check().await;
    let capability = report.capability.to_string();
    let checked: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "target_check", |txn| {
            let now = txn.now();
            rows::target_checked(txn, row.id, &capability, now).await?;
            txn.audit(actor.entry(
                "target.check",
                format!("target:{}", row.id),
                json!({"ok": report.ok}),
            ));
            Ok(())
        });
    checked?;
    Ok(report)
}
