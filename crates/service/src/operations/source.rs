//! Sources: who reports without a token of ours, how that is proved, and whether it is still heard.
//!
//! `receive` checks and admits what a source sends; `poll` asks those that send nothing by themselves,
//! as `feed` says; `silence` notices when nothing comes any more. Keys are references to files or
//! variables that the operator granted, never stored.

pub mod feed;
pub mod poll;
pub mod receive;
pub mod silence;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_policy::signal::Trust;
use tidegate_policy::time::Seconds;

use self::feed::Feed;
use super::{Actor, OperationError, population};
use crate::app::App;
use crate::connector::Credential;
use crate::store::source::{self as rows, SourceRow, StateRow};
use crate::store::{Lane, StoreError, policy, transact};

/// The most keys of one source: an old and a new one, and some to spare.
const KEYS_MAX: usize = 8;

/// How what a source sends is signed and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Standard Webhooks 1.0: signed and fresh.
    StandardWebhooks,
    /// GitHub: signed, and without freshness.
    Github,
    /// In the way of Stripe: signed and fresh.
    Stripe,
    /// A collection of a TAXII 2.1 server, asked by us.
    Taxii,
    /// The catalogue of known exploited vulnerabilities of CISA, asked by us.
    Kev,
    /// A provider of CSAF 2.0 advisories, asked by us.
    Csaf,
    /// Alerts of Microsoft Graph, asked by us.
    GraphAlerts,
    /// Service health issues of Microsoft Graph, asked by us. Never about security.
    GraphHealth,
}

impl Profile {
    /// How sure it is who sent what comes from such a source.
    const fn trust(self) -> Trust {
        match self {
            Self::StandardWebhooks | Self::Stripe => Trust::SignedFresh,
            Self::Github => Trust::Signed,
            // Fetched with our own credentials from whoever raised it.
            Self::GraphAlerts | Self::GraphHealth => Trust::AuthenticatedChannel,
            Self::Taxii | Self::Csaf | Self::Kev => Trust::Unauthenticated,
        }
    }

    /// The same of a source of which the operator may have said that only people we trust write there.
    const fn trust_if(self, is_trusted: bool) -> Trust {
        match self {
            // Shared and public unless said.
            Self::Taxii | Self::Csaf if is_trusted => Trust::AuthenticatedChannel,
            other => other.trust(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::StandardWebhooks => "standard_webhooks",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::Taxii => "taxii",
            Self::Kev => "kev",
            Self::Csaf => "csaf",
            Self::GraphAlerts => "graph_alerts",
            Self::GraphHealth => "graph_health",
        }
    }

    /// Says whether such a source is asked by us, and sends nothing by itself.
    const fn is_asked(self) -> bool {
        match self {
            Self::StandardWebhooks | Self::Github | Self::Stripe => false,
            Self::Taxii | Self::Kev | Self::Csaf | Self::GraphAlerts | Self::GraphHealth => true,
        }
    }
}

/// A source to create, and what is kept of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Where its keys are kept: `{"file": "name inside the folder of credentials"}` or `{"env": "TIDEGATE_CREDENTIAL_NAME"}`.
    /// Any of them is enough, so that keys can be changed without a gap.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    pub keys: Vec<Credential>,
    /// The vendor of what names none.
    #[serde(default)]
    pub vendor: Option<String>,
    /// The products of what names none.
    #[serde(default)]
    pub products: BTreeSet<String>,
    /// It is blind when nothing was heard of it for so many seconds; without it nobody notices its silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent_after_seconds: Option<u32>,
    /// Where and how often it is asked, when it sends nothing by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<Feed>,
}

impl SourceConfig {
    /// Returns after how long without a word it is blind; `None`: nobody would notice. Whoever is asked
    /// and has not answered three times over is.
    #[must_use]
    pub fn silent_after(&self) -> Option<Seconds> {
        let asked = self
            .feed
            .as_ref()
            .map(|feed| feed.every_seconds.saturating_mul(3));
        self.silent_after_seconds.or(asked).map(Seconds)
    }
}

/// A source as it is shown. Its keys are references, so there is nothing to hide.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// How what it sends is signed and written.
    pub profile: Profile,
    /// Keys, vendor and products.
    pub config: SourceConfig,
    /// Where it sends to; where it is asked from, when it sends nothing by itself.
    pub path: String,
    /// When it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it was taken out of use.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// When something that proves itself last came from it, or it last answered; since it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard_at: Option<Timestamp>,
    /// Since when it is blind: what it should report is not heard.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub blind_since: Option<Timestamp>,
    /// Why it is blind.
    pub blind_why: Option<String>,
    /// What was wrong with the last question that it did not answer.
    pub trouble: Option<String>,
    /// What it answered and was not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<poll::Refusals>,
}

/// Returns what is kept of a source.
pub(crate) fn config_of(row: &SourceRow) -> Result<(Profile, SourceConfig), StoreError> {
    let profile = serde_json::from_value(json!(row.profile)).map_err(StoreError::corrupt)?;
    let config = serde_json::from_str(&row.config).map_err(StoreError::corrupt)?;
    Ok((profile, config))
}

fn show(row: &SourceRow, state: Option<&StateRow>) -> Result<SourceView, StoreError> {
    let (profile, config) = config_of(row)?;
    let at = |of: fn(&StateRow) -> Option<i64>| state.and_then(of).and_then(from_millis);
    let said = |of: fn(&StateRow) -> &Option<String>| state.and_then(|state| of(state).clone());
    Ok(SourceView {
        name: row.name.clone(),
        profile,
        config,
        path: format!(
            "/v1/sources/{}/{}",
            row.name,
            if profile.is_asked() { "poll" } else { "events" }
        ),
        created_at: from_millis(row.created_at),
        revoked_at: row.revoked_at.and_then(from_millis),
        heard_at: at(|state| Some(state.heard_at)),
        blind_since: at(|state| state.blind_since),
        blind_why: said(|state| &state.blind_why),
        trouble: said(|state| &state.trouble),
        refused: state.and_then(poll::refusals_of),
    })
}

/// Creates a source. Its keys must be there, and be keys.
///
/// # Errors
///
/// When the name is taken or is none, or a key cannot be read.
pub async fn create(
    app: &App,
    actor: &Actor,
    name: &str,
    profile: Profile,
    config: &SourceConfig,
) -> Result<SourceView, OperationError> {
    population::check_name(name)?;
    check(app, profile, config)
        .map_err(|sentence| OperationError::invalid("config_invalid", sentence))?;
    if config.silent_after_seconds == Some(0) {
        let sentence = "`silent_after_seconds` is how long nothing may be heard: at least 1";
        return Err(OperationError::invalid("config_invalid", sentence));
    }
    let row = SourceRow {
        name: name.to_owned(),
        profile: profile.name().to_owned(),
        config: serde_json::to_string(config).map_err(StoreError::corrupt)?,
        created_at: app.clock.now().timestamp_millis(),
        revoked_at: None,
    };
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "source_create", |txn| {
            rows::source_insert(txn, &row, txn.now()).await?;
            let detail = json!({"profile": row.profile, "config": config});
            txn.audit(actor.entry("source.create", format!("source:{name}"), detail))
                .await?;
            Ok(())
        });
    match done {
        Ok(()) => view(app, name).await,
        Err(StoreError::Taken | StoreError::Conflict) => {
            Err(OperationError::name_taken("source", name))
        }
        Err(error) => Err(error.into()),
    }
}

fn check(app: &App, profile: Profile, config: &SourceConfig) -> Result<(), String> {
    if profile.is_asked() {
        return feed::check(app, profile, config);
    }
    if config.feed.is_some() {
        return Err("a source of this profile sends by itself: it has no `feed`".to_owned());
    }
    if config.keys.is_empty() || config.keys.len() > KEYS_MAX {
        return Err(format!("a source has 1 to {KEYS_MAX} keys"));
    }
    if config.vendor.is_none() && matches!(profile, Profile::Github | Profile::Stripe) {
        let sentence = "what this profile sends never names a vendor: say which one it is about";
        return Err(sentence.to_owned());
    }
    receive::check_keys(app, profile, config)
}

/// Lists every source.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn list(app: &App) -> Result<Vec<SourceView>, OperationError> {
    let found = rows::sources(app.store.read()).await?;
    let states = rows::states(app.store.read()).await?;
    let views = found
        .iter()
        .map(|row| show(row, states.get(&row.name)))
        .collect::<Result<_, _>>()?;
    Ok(views)
}

/// Takes a source out of use: what it sends from now on is refused.
///
/// # Errors
///
/// When there is none.
pub async fn revoke(app: &App, actor: &Actor, name: &str) -> Result<SourceView, OperationError> {
    let done: Result<(), StoreError> =
        transact!(app.store, Lane::Ordinary, "source_revoke", |txn| {
            let now = txn.now();
            if rows::source_revoke(txn, name, now).await? {
                // Whoever needs it is blind from now on.
                policy::facts_changed(txn).await?;
                txn.audit(actor.entry("source.revoke", format!("source:{name}"), json!({})))
                    .await?;
            }
            Ok(())
        });
    done?;
    app.wake.judge();
    view(app, name).await
}

async fn view(app: &App, name: &str) -> Result<SourceView, OperationError> {
    let row = rows::source_find(app.store.read(), name).await?;
    let row = row.ok_or_else(|| OperationError::not_found("source", name))?;
    let states = rows::states(app.store.read()).await?;
    Ok(show(&row, states.get(name))?)
}
