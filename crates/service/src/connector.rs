//! The ways to targets. One kind per target: the sandbox, or SCIM 2.0.
//!
//! A connector moves people, or takes them back, one by one or many at once, and says what became of each. Before every
//! write to a socket it asks the gate, which asks the permit: nothing is sent after a stop. It never
//! touches the database.

pub mod grants;
pub mod sandbox;
pub mod scim;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tidegate_orchestrator::hold::Place;
use tidegate_orchestrator::ids::{Generation, TargetId};
use tidegate_orchestrator::ledger::{ClaimedSlot, SlotIndex};
use tidegate_orchestrator::permit::{Deadline, NotNow};
use tidegate_policy::AttributeValue;

use crate::clock::Clock;
use crate::store::target::TargetRow;
use crate::tasks::dispatch::rate::Pace;
use crate::tasks::permit::PermitCell;
use grants::Grants;
use sandbox::Sandbox;
pub use scim::Credential;
use scim::Scim;

/// What is done with people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// They get an account that is in use.
    Move,
    /// Their account is taken out of use. It is never deleted.
    TakeBack,
}

/// A person to be moved, or taken back.
#[derive(Debug, Clone)]
pub struct Person {
    /// The place in the batch.
    pub index: SlotIndex,
    /// The place in the claim, for pacing.
    pub turn: u32,
    /// Which attempt this is, from 1.
    pub attempt: u8,
    /// Whether the target may have them already: look before sending.
    pub doubtful: bool,
    /// The directory id.
    pub key: String,
    /// What the directory says of them.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// What the target called them when they were moved, where that is known: to take them back.
    pub remote_id: Option<String>,
}

/// What became of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendResult {
    /// Moved, or taken back; the target calls them `remote_id`.
    Done {
        /// It had our account already.
        adopted: bool,
        /// What the target calls them.
        remote_id: Option<String>,
    },
    /// No, for good.
    Failed(Trouble),
    /// Not now.
    Retry {
        /// When the target wants to hear of it again; `None`: as we see fit.
        after: Option<Duration>,
        /// What was wrong.
        trouble: Trouble,
    },
    /// No answer.
    Unknown(Trouble),
    /// Something that is not ours is in the way.
    Review(Trouble),
    /// Nothing was sent, because the gate said no.
    NotSent(NotNow),
}

/// What was wrong, for the one who looks at it later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The stable code.
    pub code: String,
    /// What the target said.
    pub message: String,
}

impl Trouble {
    /// Names a trouble.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

/// Trouble that is not one person's: nobody is sent for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetTrouble {
    /// For how long.
    pub closed_for: Duration,
    /// What was wrong.
    pub trouble: Trouble,
}

/// Until when the people of a batch may be begun; shared by the sender, which moves it on, and the
/// gate, which asks.
#[derive(Debug, Clone)]
pub struct Lease(Arc<RwLock<Option<Deadline>>>);

impl Lease {
    /// Returns a lease that ends then.
    #[must_use]
    pub fn until(end: Deadline) -> Self {
        Self(Arc::new(RwLock::new(Some(end))))
    }

    /// Returns when it ends; nothing when it was lost.
    #[must_use]
    pub fn end(&self) -> Option<Deadline> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the end on. What was lost stays lost.
    pub fn renew(&self, end: Deadline) {
        let mut lease = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if lease.is_some() {
            *lease = Some(end);
        }
    }

    /// Ends it at once: the batch is somebody else's.
    pub fn lose(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Asks, last before every write to a socket, whether it may still be written.
#[derive(Debug, Clone)]
pub struct SendGate {
    /// This process's right to send.
    pub permit: PermitCell,
    /// Where the people are.
    pub place: Place,
    /// The lease of the batch.
    pub lease: Lease,
    /// When each may begin.
    pub pace: Option<Pace>,
    /// The time.
    pub clock: Clock,
}

impl SendGate {
    /// Says whether a request may begin now.
    ///
    /// # Errors
    ///
    /// With the reason why not.
    pub fn may_send(&self) -> Result<(), NotNow> {
        let end = self.lease.end().ok_or(NotNow::LeaseExpired)?;
        self.permit.may_send(&self.place, end, self.clock.moment())
    }

    /// Waits until it is a person's turn by the rate of the target.
    pub async fn turn(&self, person: &Person) {
        if let Some(pace) = self.pace {
            let wait = pace
                .begin_us(person.turn)
                .saturating_sub(self.clock.now().timestamp_micros());
            if let Ok(wait) = u64::try_from(wait)
                && wait > 0
            {
                // Nobody is let in a second ahead: a longer wait is a clock that was set back.
                let wait = Duration::from_micros(wait).min(PACE_AHEAD_MAX);
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// One thing a check of a target looked at.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckItem {
    /// What was looked at.
    pub name: String,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was found, and what to do about it.
    pub sentence: String,
}

impl CheckItem {
    /// Names something that was looked at.
    #[must_use]
    pub fn new(name: &str, ok: bool, sentence: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            ok,
            sentence: sentence.into(),
        }
    }
}

/// What a check of a target found.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckReport {
    /// Whether people can be moved there.
    pub ok: bool,
    /// Each thing that was looked at.
    pub items: Vec<CheckItem>,
    /// What it can do.
    #[schema(value_type = Object)]
    pub capability: serde_json::Value,
}

/// The settings of a target cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The way to one target.
#[derive(Debug)]
pub enum Connector {
    /// In this process, as scripted.
    Sandbox(Sandbox),
    /// SCIM 2.0.
    Scim(Box<Scim>),
}

impl Connector {
    /// Makes the way to a target out of its settings; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the settings cannot be used.
    pub fn new(
        kind: &str,
        config: &serde_json::Value,
        grants: &Grants,
        clock: &Clock,
    ) -> Result<Self, ConfigError> {
        match kind {
            "sandbox" => Sandbox::new(config, grants).map(Self::Sandbox),
            "scim" => Scim::new(config, grants, clock).map(|scim| Self::Scim(Box::new(scim))),
            other => Err(ConfigError(format!(
                "`{other}` is no connector: it is sandbox or scim"
            ))),
        }
    }

    /// Returns what becomes of people without their records, if nothing but memory is involved.
    pub fn instant(
        &self,
        act: Act,
        slots: &[ClaimedSlot],
        ordinals: &[u32],
    ) -> Option<Vec<(SlotIndex, SendResult)>> {
        match self {
            Self::Sandbox(sandbox) => sandbox.instant(act, slots, ordinals),
            Self::Scim(_) => None,
        }
    }

    /// Returns how many batches to have under way at once.
    #[must_use]
    pub fn batches_at_once(&self) -> usize {
        match self {
            Self::Sandbox(sandbox) => sandbox.batches_at_once(),
            Self::Scim(_) => 2,
        }
    }

    /// Returns the attribute that accounts get their user names from, when the target has user names.
    #[must_use]
    pub fn user_name_attribute(&self) -> Option<&str> {
        match self {
            Self::Sandbox(_) => None,
            Self::Scim(scim) => Some(scim.user_name_attribute()),
        }
    }

    /// Returns how long one request may take.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        match self {
            Self::Sandbox(_) => Duration::from_secs(1),
            Self::Scim(scim) => scim.request_timeout(),
        }
    }

    /// Sends people, and hands over what became of each as it becomes known.
    pub async fn send(
        &self,
        act: Act,
        people: Vec<Person>,
        gate: &SendGate,
        on_result: &(impl Fn(SlotIndex, SendResult) + Sync),
    ) -> Option<TargetTrouble> {
        match self {
            Self::Sandbox(sandbox) => sandbox.send(act, people, gate, on_result).await,
            Self::Scim(scim) => scim.send(act, people, gate, on_result).await,
        }
    }

    /// Looks at a target and explains what it found.
    pub async fn check(&self) -> CheckReport {
        match self {
            Self::Sandbox(sandbox) => sandbox.check(),
            Self::Scim(scim) => scim.check().await,
        }
    }
}

/// The ways to all targets, each made once per generation of its settings.
#[derive(Debug, Clone, Default)]
pub struct Connectors {
    known: Arc<Mutex<HashMap<TargetId, Known>>>,
    grants: Grants,
}

/// A connector, and the generation of the settings it was made of.
type Known = (Generation, Arc<Connector>);

/// The longest that anybody waits for their turn by the rate: somewhat more than they are let in ahead.
const PACE_AHEAD_MAX: Duration = Duration::from_secs(2);

/// The least that a request to some target may take: another process may know of one that this does not.
const REQUEST_TIMEOUT_LEAST: Duration = Duration::from_secs(30);

impl Connectors {
    /// Reads a secret from where it is kept: a variable or a file that the operator granted.
    ///
    /// # Errors
    ///
    /// When it is not there, or not granted. The message never shows it.
    pub fn secret(&self, from: &Credential) -> Result<String, ConfigError> {
        self.grants.secret(from)
    }

    /// Returns what the operator grants.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Lets targets reach what the operator grants.
    #[must_use]
    pub fn granting(grants: Grants) -> Self {
        Self {
            grants,
            ..Self::default()
        }
    }

    /// Says whether settings can be used; nothing is sent.
    ///
    /// # Errors
    ///
    /// When they cannot.
    pub fn check(
        &self,
        kind: &str,
        config: &serde_json::Value,
        clock: &Clock,
    ) -> Result<(), ConfigError> {
        Connector::new(kind, config, &self.grants, clock)?;
        let file = config
            .pointer("/credential/file")
            .and_then(serde_json::Value::as_str);
        match file
            .map(|name| self.grants.credential(name.as_ref()))
            .transpose()?
        {
            // Its name is not repeated: it may be the secret itself, in the wrong place.
            Some(path) if !path.is_file() => Err(ConfigError(
                "the folder of credentials has no file of the name given as credential".to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// Returns how long a request to any target in use may take.
    #[must_use]
    pub fn request_timeout_max(&self) -> Duration {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let timeouts = known
            .values()
            .map(|(_, connector)| connector.request_timeout());
        timeouts
            .max()
            .unwrap_or_default()
            .max(REQUEST_TIMEOUT_LEAST)
    }

    /// Returns the way to a target.
    ///
    /// # Errors
    ///
    /// When its settings cannot be used.
    pub fn of(&self, row: &TargetRow, clock: &Clock) -> Result<Arc<Connector>, ConfigError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((generation, connector)) = known.get(&row.id)
            && *generation == row.generation
        {
            return Ok(connector.clone());
        }
        let config =
            serde_json::from_str(&row.config).map_err(|error| ConfigError(error.to_string()))?;
        let connector = Arc::new(Connector::new(
            &row.connector,
            &config,
            &self.grants,
            clock,
        )?);
        known.insert(row.id, (row.generation, connector.clone()));
        Ok(connector)
    }
}
