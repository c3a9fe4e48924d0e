//! Asking sources that send nothing by themselves: fetched, read, admitted, and only then moved on.
//!
//! Each profile (`kev`, `taxii`, `csaf`, `graph`) says what is asked and where the next question goes on;
//! here is what is the same for all. Whoever dies in between asks the same again, and what is known
//! counts once. What cannot be read is an alarm and hides nothing else. A source that does not answer is
//! asked less often; who decides that it is blind is `silence`.

mod csaf;
pub mod due;
mod graph;
mod kev;
mod taxii;
mod turn;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::dialect::{Origin, Unreadable};

use self::turn::Turn;
use super::{Profile, config_of};
use crate::app::App;
use crate::fetch::FetchError;
use crate::operations::{Actor, OperationError};
use crate::store::source::{self as rows, SourceRow, StateRow};
use crate::store::{Lane, StoreError, transact};

/// Who asks.
const TASK: &str = "poll";

/// What a source answered and was not taken, since it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refusals {
    /// How many things.
    pub count: u64,
    /// What was wrong with the last, or with the first of the last answer.
    pub sentence: String,
    /// When that was.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// When it was last written into the audit trail: the same is not written at every question.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub told_at: Option<Timestamp>,
}

/// What is kept from one question to the next. Decoded for ever: fields are only added.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Where the next question goes on, as the profile writes it.
    #[serde(default)]
    at: Value,
    #[serde(default)]
    refused: Refusals,
}

impl Kept {
    fn of(state: &StateRow) -> Result<Self, StoreError> {
        match &state.progress {
            Some(text) => serde_json::from_str(text).map_err(StoreError::corrupt),
            None => Ok(Self::default()),
        }
    }
}

/// Returns what a source answered and was not taken, if anything.
pub(super) fn refusals_of(state: &StateRow) -> Option<Refusals> {
    let kept = Kept::of(state).ok()?;
    (kept.refused.count > 0).then_some(kept.refused)
}

/// What came when a source was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Polled {
    /// How many requests were made.
    pub requests: u32,
    /// How many signals came that were not known.
    pub admitted: usize,
    /// How many were known already.
    pub repeated: usize,
    /// How many things were of a kind that reports nothing.
    pub ignored: usize,
    /// How many things were not taken.
    pub refused: u64,
    /// What was wrong with the first of them.
    pub refused_why: Option<String>,
    /// Whether there is more, and it is asked for at once.
    pub more: bool,
}

/// A source was asked, and nothing whole came.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    /// Nothing came.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// What came cannot be read, or is not believed.
    #[error("{}", .0.sentence)]
    Unreadable(#[from] Unreadable),
    /// A document is not signed by whoever it should be, or that cannot be told. It was counted where it was found.
    #[error("{sentence}")]
    Unproved {
        /// The stable code.
        code: &'static str,
        /// For people.
        sentence: String,
        /// Whether no other document can be told from a forgery either.
        is_of_all: bool,
    },
    /// What it must be asked with is not there.
    #[error("{0}")]
    Credential(String),
    /// It is not asked any more.
    #[error("it was taken out of use")]
    Revoked,
    /// We failed.
    #[error("the store cannot be reached")]
    Store(#[from] StoreError),
}

impl Trouble {
    /// Says whether somebody has to look at what was sent, not only at the way to it.
    fn is_alarm(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_hostile(),
            Self::Unreadable(_) => true,
            Self::Unproved { .. } | Self::Credential(_) | Self::Revoked | Self::Store(_) => false,
        }
    }

    /// How long it wants not to be asked, in seconds.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Fetch(FetchError::Status { retry_after, .. }) => *retry_after,
            Self::Fetch(_)
            | Self::Unreadable(_)
            | Self::Unproved { .. }
            | Self::Credential(_)
            | Self::Revoked
            | Self::Store(_) => None,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(error) => error.code,
            Self::Unproved { code, .. } => code,
            Self::Credential(_) => "credential_missing",
            Self::Fetch(_) | Self::Revoked | Self::Store(_) => "feed_failed",
        }
    }
}

impl From<OperationError> for Trouble {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Failed(error) => Self::Store(error),
            other => Self::Unreadable(Unreadable::new("refused", other.to_string())),
        }
    }
}

/// Asks a source now, because somebody wants to know.
///
/// # Errors
///
/// When there is none, it is not one that is asked, or nothing whole came; what came before is kept.
pub async fn ask(app: &App, actor: &Actor, name: &str) -> Result<Polled, OperationError> {
    let row = rows::source_find(app.store.read(), name).await?;
    let row = row.ok_or_else(|| OperationError::not_found("source", name))?;
    let (profile, _) = config_of(&row)?;
    if row.revoked_at.is_some() {
        let sentence = format!("`{name}` is out of use");
        return Err(OperationError::refused("source_is_not_asked", sentence));
    }
    if !profile.is_asked() {
        let sentence = format!(
            "`{name}` is no feed that is asked on a timer: it sends by itself, or is a stream that is always asked"
        );
        return Err(OperationError::refused("source_is_not_asked", sentence));
    }
    let done: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "source_poll", |txn| {
        txn.audit(actor.entry("source.poll", format!("source:{name}"), json!({})));
        Ok(())
    });
    done?;
    match poll(app, &row).await {
        Ok(polled) => Ok(polled),
        Err(Trouble::Store(error)) => Err(error.into()),
        Err(trouble) => Err(OperationError::refused(
            trouble.code(),
            format!("`{name}` was asked, and nothing whole came: {trouble}"),
        )),
    }
}

/// Asks a source once, and keeps what came of it.
pub(crate) async fn poll(app: &App, row: &SourceRow) -> Result<Polled, Trouble> {
    let (profile, config) = config_of(row)?;
    let states = rows::states(app.store.read()).await?;
    let state = states.get(&row.name).ok_or(StoreError::NotFound)?;
    let feed = config.feed.as_ref();
    let feed = feed.ok_or_else(|| Trouble::Credential("it has no feed".to_owned()))?;
    let origin = Origin {
        source: row.name.clone(),
        trust: profile.trust_if(feed.trusted, feed.openpgp_keys.is_some()),
        vendor: config.vendor.clone(),
        products: config.products.clone(),
        received_at: app.store.now().await?,
    };
    let mut turn = Turn::new(app, row, feed, origin, Kept::of(state)?);
    let done = match profile {
        Profile::Kev => kev::poll(&mut turn).await,
        Profile::Taxii => taxii::poll(&mut turn).await,
        Profile::Csaf => csaf::poll(&mut turn).await,
        Profile::GraphAlerts => graph::poll(&mut turn, graph::What::Alerts).await,
        Profile::GraphHealth => graph::poll(&mut turn, graph::What::Health).await,
        Profile::StandardWebhooks
        | Profile::Github
        | Profile::Stripe
        | Profile::Cloudevents
        | Profile::SecurityEvents
        | Profile::SecurityEventsPoll => {
            return Err(Trouble::Revoked);
        }
    };
    turn.finish(done).await
}

#[cfg(test)]
mod tests;
