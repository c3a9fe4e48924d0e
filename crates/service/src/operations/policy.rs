//! Policy sets: proposed, tested, approved, active.
//!
//! A set is proposed as a draft and becomes active by the yes of people from security: one where it only
//! tightens, two who did not write it where anything may slip through that did not before. `judging` is about
//! what the active set makes of signals, `facts` about what it knows of targets, and `replaying` about looking back.

pub mod facts;
pub mod judging;
pub mod replaying;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::hold::terms::Group;
use tidegate_orchestrator::ids::{Principal, from_millis};
use tidegate_policy::document::{DocumentErrors, Format};
use tidegate_policy::set::PolicySet;
use tidegate_policy::set::case::Failure;
use tidegate_policy::set::change::Change;

use super::release::seat_of;
use super::{Actor, Detail, OperationError};
use crate::app::App;
use crate::store::policy::{self as rows, PolicyRow};
use crate::store::{Connection, Lane, StoreError, Txn, transact};

/// How many people say yes to a set by which something may slip through that did not before.
const YES_TO_LOOSEN: usize = 2;
/// What stands in the place of a name in addresses of the API.
const RESERVED: [&str; 3] = ["replay", "schema", "test"];
/// How many versions are listed.
const LISTED_MAX: usize = 200;

/// Somebody who said yes to a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Yes {
    /// Who.
    #[schema(value_type = String)]
    pub person: Principal,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: tidegate_orchestrator::ids::Timestamp,
    /// By which token.
    pub token: String,
    /// The digest of the set that was active then: what was said yes to is the change from that one.
    pub instead_of: String,
}

/// A version of a policy set as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyView {
    /// The name of the set.
    pub name: String,
    /// Which version it is.
    pub version: i64,
    /// draft, active or replaced.
    pub status: String,
    /// The digest of what it says.
    pub digest: String,
    /// Who wrote it.
    pub author: String,
    /// Who said yes.
    pub approvals: Vec<Yes>,
    /// When it was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<tidegate_orchestrator::ids::Timestamp>,
    /// When it became active.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub activated_at: Option<tidegate_orchestrator::ids::Timestamp>,
    /// How many rules it has.
    pub rules: usize,
    /// What changes, beside the active one; of a draft.
    #[schema(value_type = Vec<Object>)]
    pub changes: Vec<Change>,
    /// Whether something may slip through that did not before.
    pub loosens: bool,
    /// How many people must say yes, and have not; of a draft.
    pub needed: usize,
    /// How it is written, and the text.
    pub format: String,
    /// The text.
    pub text: String,
}

/// Reads a stored version.
///
/// # Errors
///
/// When this program cannot read what another one has written.
pub(super) fn read(row: &PolicyRow) -> Result<PolicySet, StoreError> {
    let format = Format::from_name(&row.format)
        .ok_or_else(|| StoreError::corrupt(format!("`{}` is no format", row.format)))?;
    PolicySet::parse(&row.text, format).map_err(StoreError::corrupt)
}

fn invalid(errors: &DocumentErrors) -> OperationError {
    let details = errors.0.iter().map(|error| Detail {
        line: error.line.and_then(|line| usize::try_from(line).ok()),
        column: error.column.and_then(|column| usize::try_from(column).ok()),
        field: Some(error.field.clone()).filter(|field| !field.is_empty()),
        code: error.code.clone(),
        message: error.message.clone(),
    });
    OperationError::Invalid {
        code: "policy_invalid".to_owned(),
        sentence: errors.to_string(),
        details: details.collect(),
    }
}

fn failing(failures: &[Failure]) -> OperationError {
    let details = failures.iter().map(|failure| {
        let message = format!("{}: {}", failure.name, failure.sentence);
        Detail::new("test_failed", message)
    });
    OperationError::Invalid {
        code: "policy_tests_fail".to_owned(),
        sentence: format!("{} of its own tests fail", failures.len()),
        details: details.collect(),
    }
}

fn show(
    row: &PolicyRow,
    set: &PolicySet,
    active: Option<&PolicySet>,
) -> Result<PolicyView, StoreError> {
    let approvals: Vec<Yes> = serde_json::from_str(&row.approvals).map_err(StoreError::corrupt)?;
    let changes = match active {
        Some(active) if row.status == "draft" => active.changes(set),
        _ => Vec::new(),
    };
    // Beside a set that cannot be read nothing can be shown to tighten.
    let loosens = row.status == "draft"
        && (active.is_none() || changes.iter().any(|change| change.change.loosens()));
    let needed = match (row.status.as_str(), loosens) {
        ("draft", true) => YES_TO_LOOSEN.saturating_sub(approvals.len()),
        ("draft", false) => 1_usize.saturating_sub(approvals.len()),
        _ => 0,
    };
    Ok(PolicyView {
        name: row.name.clone(),
        version: row.version,
        status: row.status.clone(),
        digest: row.digest.clone(),
        author: row.author.clone(),
        approvals,
        created_at: from_millis(row.created_at),
        activated_at: row.activated_at.and_then(from_millis),
        rules: set.rules.len(),
        changes,
        loosens,
        needed,
        format: row.format.clone(),
        text: row.text.clone(),
    })
}

async fn active<C: Connection>(db: &C) -> Result<Option<PolicySet>, StoreError> {
    let row = rows::policy_active(db).await?;
    Ok(row.as_ref().and_then(|row| read(row).ok()))
}

/// Proposes a version of a set. It is read, checked and tested first; it decides nothing until people say yes.
///
/// # Errors
///
/// When it cannot be read, a test of its own fails, or the store cannot be reached.
pub async fn propose(
    app: &App,
    actor: &Actor,
    text: &str,
    format: Format,
) -> Result<PolicyView, OperationError> {
    let set = PolicySet::parse(text, format).map_err(|errors| invalid(&errors))?;
    if RESERVED.contains(&set.name.as_str()) {
        let sentence = format!(
            "`{}` is an address of the API: call the set otherwise",
            set.name
        );
        return Err(OperationError::invalid("name_reserved", sentence));
    }
    let failures = set.failures();
    if !failures.is_empty() {
        return Err(failing(&failures));
    }
    let id = app.ids.token();
    let done: Result<PolicyRow, StoreError> =
        transact!(app.store, Lane::Ordinary, "policy_propose", |txn| {
            let newest = rows::policy_find(txn, &set.name, None).await?;
            let row = PolicyRow {
                id: id.clone(),
                name: set.name.clone(),
                version: newest.map_or(0, |row| row.version) + 1,
                format: format.name().to_owned(),
                text: text.to_owned(),
                digest: set.digest().to_string(),
                status: "draft".to_owned(),
                author: seat_of(txn, actor)
                    .await
                    .map_or_else(|_| actor.principal.clone(), |seat| seat.person.to_string()),
                approvals: "[]".to_owned(),
                created_at: txn.now().timestamp_millis(),
                activated_at: None,
            };
            rows::policy_insert(txn, &row).await?;
            let detail =
                json!({"version": row.version, "digest": row.digest, "rules": set.rules.len()});
            txn.audit(actor.entry("policy.propose", format!("policy:{}", row.name), detail));
            Ok(row)
        });
    let row = done?;
    let active = active(app.store.read()).await?;
    Ok(show(&row, &set, active.as_ref())?)
}

/// Says yes to a draft. With the last yes that is needed it becomes active, in the same transaction.
///
/// # Errors
///
/// When there is none, it is not theirs to say, it would loosen a rule whose hold is in force, or the store
/// cannot be reached.
pub async fn approve(
    app: &App,
    actor: &Actor,
    name: &str,
    version: i64,
) -> Result<PolicyView, OperationError> {
    let done: Result<PolicyRow, OperationError> =
        transact!(app.store, Lane::Hold, "policy_approve", |txn| {
            say_yes(txn, actor, name, version).await
        });
    let row = done?;
    app.wake.judge();
    let active = active(app.store.read()).await?;
    Ok(show(&row, &read(&row)?, active.as_ref())?)
}

async fn say_yes(
    txn: &mut Txn,
    actor: &Actor,
    name: &str,
    version: i64,
) -> Result<PolicyRow, OperationError> {
    let row = rows::policy_find(txn, name, Some(version))
        .await?
        .ok_or_else(|| OperationError::not_found("policy", format!("{name} version {version}")))?;
    if row.status != "draft" {
        let sentence = format!(
            "`{name}` version {version} is {}: propose it again",
            row.status
        );
        return Err(OperationError::refused("policy_not_draft", sentence));
    }
    let seat = seat_of(txn, actor).await?;
    if seat.group != Some(Group::Security) {
        let sentence = "a policy set is approved by people from security";
        return Err(OperationError::refused("seat_missing", sentence));
    }
    let set = read(&row)?;
    let was = active(txn).await?;
    let shown = show(&row, &set, was.as_ref())?;
    if shown.loosens && seat.person.as_str() == row.author {
        let sentence = "something may slip through that did not before, so two people who did not write it say yes";
        return Err(OperationError::refused("author_approves", sentence));
    }
    if shown.loosens {
        in_use(txn, &shown.changes).await?;
    }
    let instead_of = was
        .as_ref()
        .map_or_else(String::new, |was| was.digest().to_string());
    let mut approvals = counted(txn, shown.approvals, &instead_of).await?;
    if !approvals.iter().any(|yes| yes.person == seat.person) {
        approvals.push(Yes {
            person: seat.person.clone(),
            at: txn.now(),
            token: seat.token.to_string(),
            instead_of,
        });
    }
    let written = serde_json::to_string(&approvals).map_err(StoreError::corrupt)?;
    rows::policy_approve(txn, &row.id, &written).await?;
    let needed = if shown.loosens { YES_TO_LOOSEN } else { 1 };
    let is_active = approvals.len() >= needed;
    if is_active {
        rows::policy_activate(txn, &row.id, txn.now()).await?;
    }
    let action = if is_active {
        "policy.activate"
    } else {
        "policy.approve"
    };
    let detail = json!({
        "version": version, "digest": row.digest, "loosens": shown.loosens, "changes": shown.changes,
        "yes": approvals.len(), "needed": needed,
    });
    txn.audit(actor.entry(action, format!("policy:{name}"), detail));
    let row = rows::policy_find(txn, name, Some(version)).await?;
    row.ok_or_else(|| OperationError::not_found("policy", name))
}

/// Returns who still counts: their yes was to this change and no other, and they still have their seat.
async fn counted(txn: &Txn, given: Vec<Yes>, instead_of: &str) -> Result<Vec<Yes>, OperationError> {
    let mut counted = Vec::new();
    for yes in given {
        let seat = seat_of(txn, &Actor::person(&yes.token, None)).await?;
        if yes.instead_of == instead_of && seat.group == Some(Group::Security) {
            counted.push(yes);
        }
    }
    Ok(counted)
}

/// Refuses to loosen a rule while a hold of it is in force: that would be a release without its procedure.
async fn in_use(txn: &mut Txn, changes: &[Change]) -> Result<(), OperationError> {
    let reports = rows::reports_in_force(txn).await?;
    let loosened = changes.iter().filter(|change| change.change.loosens());
    for change in loosened {
        if let Some(report) = reports.iter().find(|report| report.rule == change.rule) {
            let sentence = format!(
                "rule `{}` would be loosened while its hold `{}` is in force: release that first, by its terms",
                change.rule, report.hold
            );
            return Err(OperationError::refused("rule_in_use", sentence));
        }
    }
    Ok(())
}

/// Returns one version of a set, the newest without a number.
///
/// # Errors
///
/// When there is none.
pub async fn get(
    app: &App,
    name: &str,
    version: Option<i64>,
) -> Result<PolicyView, OperationError> {
    let row = rows::policy_find(app.store.read(), name, version)
        .await?
        .ok_or_else(|| OperationError::not_found("policy", name))?;
    let active = active(app.store.read()).await?;
    Ok(show(&row, &read(&row)?, active.as_ref())?)
}

/// Lists every version, the newest first.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(app: &App) -> Result<Vec<PolicyView>, OperationError> {
    let active = active(app.store.read()).await?;
    let mut views = Vec::new();
    for row in rows::policies(app.store.read(), LISTED_MAX).await? {
        // One that this program cannot read is shown with nothing in it.
        let set = read(&row).unwrap_or_else(|_| PolicySet {
            name: row.name.clone(),
            rules: Vec::new(),
            tests: Vec::new(),
        });
        views.push(show(&row, &set, active.as_ref())?);
    }
    Ok(views)
}
