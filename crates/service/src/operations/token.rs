//! API tokens: who may do what, until people come with an identity of their own.

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tidegate_orchestrator::ids::{Timestamp, TokenId};

use super::{Actor, OperationError, Page, hold, population};
use crate::app::App;
use crate::store::token::{self as rows, TokenRow};
use crate::store::{Lane, StoreError, transact};

/// What a token begins with, so that one found in a log is known for what it is.
pub const PREFIX: &str = "tg_";

/// What somebody may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, tokens included.
    Admin,
    /// Populations, targets, rollouts, pauses.
    Manager,
    /// Halts, and letting go of them.
    Security,
    /// Says yes to waves.
    Approver,
    /// Reads everything.
    Auditor,
    /// Posts signals; reads nothing.
    SignalSource,
}

/// What can be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Look at populations, targets, rollouts and holds.
    Read,
    /// Look at the audit trail.
    ReadAudit,
    /// Change populations, targets and rollouts.
    Manage,
    /// Say yes to a wave.
    Approve,
    /// Pause, and let go of a pause.
    Pause,
    /// Halt.
    Halt,
    /// Take part in letting go of a halt: requirements, requests, approvals; who exactly is decided there.
    ReleaseHalt,
    /// Take part in taking people back: ask, approve, start; who exactly counts is decided there.
    TakeBack,
    /// Make and revoke tokens.
    ManageTokens,
    /// Report: send signals.
    Report,
    /// Propose policy sets, say yes to them, say what rules know of targets, and set up who reports and who
    /// is told.
    Policy,
    /// Say which credential a target is sent, and where it is sent to.
    UseCredential,
}

impl Permission {
    /// Says what it is to do, after "may not".
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Read => "look at rollouts",
            Self::ReadAudit => "read the audit trail",
            Self::Manage => "change populations, targets and rollouts",
            Self::Approve => "approve a wave",
            Self::Pause => "pause, or let go of a pause",
            Self::Halt => "halt",
            Self::ReleaseHalt => "take part in letting go of a halt",
            Self::TakeBack => "take part in taking people back",
            Self::ManageTokens => "make and revoke tokens",
            Self::Report => "send signals",
            Self::Policy => {
                "change policy sets, sources, endpoints, and what rules know of targets"
            }
            Self::UseCredential => "say which credential a target is sent, and where",
        }
    }

    /// Names the roles that may.
    #[must_use]
    pub fn roles(self) -> String {
        let may = Role::ALL.into_iter().filter(|role| role.may(self));
        may.map(Role::name).collect::<Vec<_>>().join(", ")
    }
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [
        Self::Admin,
        Self::Manager,
        Self::Security,
        Self::Approver,
        Self::Auditor,
        Self::SignalSource,
    ];

    /// Returns the name of the role.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Security => "security",
            Self::Approver => "approver",
            Self::Auditor => "auditor",
            Self::SignalSource => "signal_source",
        }
    }

    /// Returns the role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The whole permission table.
    #[must_use]
    pub const fn may(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Admin => true,
            Self::Manager => matches!(
                permission,
                P::Read | P::ReadAudit | P::Manage | P::Pause | P::ReleaseHalt | P::TakeBack
            ),
            // Anybody who sees the danger stops: a halt needs no rollout manager.
            Self::Security => matches!(
                permission,
                P::Read
                    | P::ReadAudit
                    | P::Pause
                    | P::Halt
                    | P::ReleaseHalt
                    | P::TakeBack
                    | P::Report
                    | P::Policy
            ),
            Self::Approver => matches!(
                permission,
                P::Read | P::Approve | P::ReleaseHalt | P::TakeBack
            ),
            Self::Auditor => matches!(permission, P::Read | P::ReadAudit),
            Self::SignalSource => matches!(permission, P::Report),
        }
    }
}

/// A token as it is shown: never its secret.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TokenView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// Whose it is.
    pub name: String,
    /// What it may do.
    pub role: String,
    /// The person behind it: two tokens of one person are one person where people are counted.
    pub person: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was made worthless.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// The token itself, only in the answer that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

fn show(row: TokenRow, token: Option<String>) -> TokenView {
    TokenView {
        id: row.id,
        person: row.person.unwrap_or_else(|| row.name.clone()),
        name: row.name,
        role: row.role,
        created_at: row.created_at,
        revoked_at: row.revoked_at,
        token,
    }
}

fn hash(token: &str) -> [u8; 32] {
    // The secret has 244 random bits: a plain hash cannot be guessed back.
    Sha256::digest(token.as_bytes()).into()
}

/// Makes a token and returns it with its secret, once.
///
/// # Errors
///
/// When the name is taken or is none, or there is no such role.
pub async fn create(
    app: &App,
    actor: &Actor,
    (name, person): (&str, Option<&str>),
    role: &str,
) -> Result<TokenView, OperationError> {
    population::check_name(name)?;
    if let Some(person) = person {
        population::check_name(person)?;
    }
    if Role::from_name(role).is_none() {
        let names = Role::ALL.map(Role::name).join(", ");
        return Err(OperationError::invalid(
            "role_unknown",
            format!("`{role}` is no role: it is one of {names}"),
        ));
    }
    let secret = format!("{PREFIX}{}", app.ids.secret());
    let row = TokenRow {
        id: app.ids.make(),
        name: name.to_owned(),
        role: role.to_owned(),
        person: person.map(str::to_owned),
        created_at: app.clock.now(),
        revoked_at: None,
    };
    let created: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "token_create", |txn| {
            rows::token_insert(txn, &row, &hash(&secret)).await?;
            txn.audit(actor.entry(
                "token.create",
                format!("token:{}", row.id),
                json!({"name": name, "role": role, "person": person}),
            ));
            Ok(())
        });
    match created {
        Ok(()) => Ok(show(row, Some(secret))),
        Err(StoreError::Taken) => Err(OperationError::name_taken("token", name)),
        Err(error) => Err(error.into()),
    }
}

/// Makes the first token of a new database; nothing when there has ever been one.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn first(app: &App) -> Result<Option<String>, OperationError> {
    if rows::tokens_count(app.store.read()).await? > 0 {
        return Ok(None);
    }
    match create(app, &Actor::task("serve"), ("first-admin", None), "admin").await {
        Ok(view) => Ok(view.token),
        // Another process that started at the same moment has printed it.
        Err(OperationError::Refused { code, .. }) if code == "name_taken" => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes an admin token for whoever has the database in their hands: every other one was lost.
///
/// # Errors
///
/// When the name is taken or is none, or the store cannot be reached.
pub async fn rescue(app: &App, name: &str) -> Result<TokenView, OperationError> {
    create(
        app,
        &Actor::task("rescue"),
        (name, None),
        Role::Admin.name(),
    )
    .await
}

/// Returns whose token this is, and what it may do.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn identify(app: &App, token: &str) -> Result<Option<(String, Role)>, StoreError> {
    if !token.starts_with(PREFIX) {
        return Ok(None);
    }
    let row = rows::token_by_hash(app.store.read(), &hash(token)).await?;
    Ok(row
        .filter(|row| row.revoked_at.is_none())
        .and_then(|row| Some((row.name, Role::from_name(&row.role)?))))
}

/// Lists tokens by name.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(
    app: &App,
    cursor: &str,
    limit: usize,
) -> Result<Page<TokenView>, OperationError> {
    let rows = rows::tokens_page(app.store.read(), cursor, limit + 1).await?;
    Ok(Page::cut(
        rows.into_iter().map(|row| show(row, None)).collect(),
        limit,
        |view| view.name.clone(),
    ))
}

/// Makes a token worthless, at once.
///
/// # Errors
///
/// When there is none.
pub async fn revoke(
    app: &App,
    actor: &Actor,
    name: &str,
    reason: &str,
) -> Result<TokenView, OperationError> {
    hold::check_reason(reason)?;
    let row = rows::token_find(app.store.read(), name)
        .await?
        .ok_or_else(|| OperationError::not_found("token", name))?;
    let admin = Role::Admin.name();
    let revoked: Result<(), OperationError> =
        transact!(app.store, Lane::Ordinary, "token_revoke", |txn| {
            let now = txn.now();
            let is_admin = row.role == admin && row.revoked_at.is_none();
            if is_admin && rows::tokens_alive(txn, admin).await? < 2 {
                let sentence = format!(
                    "`{}` is the last admin token: make another one before this is revoked",
                    row.name
                );
                return Err(OperationError::refused("last_admin", sentence));
            }
            rows::token_revoke(txn, row.id, now).await?;
            txn.audit(actor.entry(
                "token.revoke",
                format!("token:{}", row.id),
                json!({"reason": reason}),
            ));
            Ok(())
        });
    revoked?;
    let row = rows::token_find(app.store.read(), &row.id.to_string())
        .await?
        .ok_or(StoreError::NotFound)?;
    Ok(show(row, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permission_table_is_as_reviewed() {
        use Permission as P;
        let all = [
            P::Read,
            P::ReadAudit,
            P::Manage,
            P::Approve,
            P::Pause,
            P::Halt,
            P::ReleaseHalt,
            P::TakeBack,
            P::ManageTokens,
            P::UseCredential,
        ];
        let mut table = String::new();
        for role in Role::ALL {
            let may: Vec<String> = all
                .iter()
                .filter(|one| role.may(**one))
                .map(|one| format!("{one:?}"))
                .collect();
            table.push_str(&format!("{:<14} {}\n", role.name(), may.join(" ")));
        }
        insta::assert_snapshot!("permissions", table);
    }
}
