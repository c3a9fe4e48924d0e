//! SCIM 2.0 (RFC 7643, RFC 7644): people become users of a server that somebody else runs.
//!
//! The directory id is the `externalId`; whoever has it is ours. A create that clashes is looked up: an
//! account with our `externalId` is adopted, anything else is somebody's and goes to review untouched.
//! Whoever may have been created without our knowing is looked up before anything is sent again.
//! Accounts are changed by PATCH, never replaced.

mod answer;
mod check;
mod client;
mod user;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ledger::SlotIndex;
use tidegate_orchestrator::permit::NotNow;
use tokio::sync::Mutex;

use super::{CheckReport, ConfigError, Person, SendGate, SendResult, TargetTrouble, Trouble};
use crate::clock::Clock;
use answer::Answer;
use client::{Client, Found};

/// The longest a sender waits for a target that asked for a pause; beyond, people are given back.
const PAUSE_WAITED_MAX_MS: u64 = 2000;
/// How long a target is left alone that does not let us in.
const LOCKED_OUT: Duration = Duration::from_secs(60);
/// How long a target is left alone that nobody reaches.
const UNREACHABLE: Duration = Duration::from_secs(5);

/// What becomes of an account that has our user name and no external id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnowned {
    /// Somebody decides.
    #[default]
    Review,
    /// It becomes ours.
    Link,
}

/// Where a credential is kept: never here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// In an environment variable of the service.
    Env(String),
    /// In a file that the service can read.
    File(std::path::PathBuf),
}

/// The attributes that become parts of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserMapping {
    /// `userName`.
    pub user_name: String,
    /// The primary of `emails`.
    pub email: String,
    /// `name.givenName`.
    pub given_name: String,
    /// `name.familyName`.
    pub family_name: String,
}

impl Default for UserMapping {
    fn default() -> Self {
        Self {
            user_name: "user_name".to_owned(),
            email: "email".to_owned(),
            given_name: "given_name".to_owned(),
            family_name: "family_name".to_owned(),
        }
    }
}

fn eight() -> usize {
    8
}

fn ten() -> u64 {
    10
}

/// The settings of a SCIM target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScimConfig {
    /// Where the server is, such as `https://example.com/scim/v2`.
    pub base_url: String,
    /// Where the bearer token is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// How many requests at once.
    #[serde(default = "eight")]
    pub concurrency: usize,
    /// How long one request may take.
    #[serde(default = "ten")]
    pub timeout_seconds: u64,
    /// What becomes of an account that has our user name and no external id.
    #[serde(default)]
    pub on_existing_unowned: OnUnowned,
    /// Which attribute becomes what.
    #[serde(default)]
    pub mapping: UserMapping,
}

/// A SCIM server.
#[derive(Debug)]
pub struct Scim {
    config: ScimConfig,
    client: Client,
    clock: Clock,
    /// Until when, in milliseconds of the monotonic clock, the server wants to be left alone.
    closed_until: Mutex<u64>,
}

impl Scim {
    /// Makes the way to a server out of its settings; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the settings are not understood.
    pub fn new(config: &serde_json::Value, clock: &Clock) -> Result<Self, ConfigError> {
        let config: ScimConfig = serde_json::from_value(config.clone())
            .map_err(|error| ConfigError(format!("scim settings: {error}")))?;
        if !(1..=256).contains(&config.concurrency) || !(1..=300).contains(&config.timeout_seconds)
        {
            let sentence = "scim settings: concurrency is 1 to 256, timeout_seconds 1 to 300";
            return Err(ConfigError(sentence.to_owned()));
        }
        let client = Client::new(&config)?;
        Ok(Self {
            config,
            client,
            clock: clock.clone(),
            closed_until: Mutex::new(0),
        })
    }

    /// Returns how long one request may take.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.config.timeout_seconds)
    }

    /// Sends people, several at a time.
    pub async fn send(
        &self,
        people: Vec<Person>,
        gate: &SendGate,
        on_result: &(impl Fn(SlotIndex, SendResult) + Sync),
    ) -> Option<TargetTrouble> {
        let worst: Mutex<Option<TargetTrouble>> = Mutex::new(None);
        let worst_of = &worst;
        stream::iter(people)
            .for_each_concurrent(self.config.concurrency, async |person| {
                gate.turn(&person).await;
                let (result, trouble) = self.one(&person, gate).await;
                if let Some(trouble) = trouble {
                    self.close(trouble.closed_for).await;
                    let mut worst = worst_of.lock().await;
                    if worst
                        .as_ref()
                        .is_none_or(|known| known.closed_for < trouble.closed_for)
                    {
                        *worst = Some(trouble);
                    }
                }
                on_result(person.index, result);
            })
            .await;
        worst.into_inner()
    }

    async fn close(&self, for_: Duration) {
        let until = self
            .clock
            .monotonic()
            .0
            .saturating_add(u64::try_from(for_.as_millis()).unwrap_or(u64::MAX));
        let mut closed = self.closed_until.lock().await;
        *closed = (*closed).max(until);
    }

    /// Waits for a short pause of the server; says no to a long one, and when the gate says no.
    async fn may_send(&self, gate: &SendGate) -> Result<(), NotNow> {
        loop {
            let wait = self
                .closed_until
                .lock()
                .await
                .saturating_sub(self.clock.monotonic().0);
            if wait == 0 {
                return gate.may_send();
            }
            if wait > PAUSE_WAITED_MAX_MS {
                // Nothing was sent: the person goes back, and is claimed when the target is open again.
                return Err(NotNow::LeaseExpired);
            }
            gate.may_send()?;
            tokio::time::sleep(Duration::from_millis(wait.min(100))).await;
        }
    }

    async fn one(&self, person: &Person, gate: &SendGate) -> (SendResult, Option<TargetTrouble>) {
        if person.doubtful {
            match self.look(person, gate).await {
                Ok(Some(result)) => return (result, None),
                Ok(None) => {}
                Err(stopped) => return stopped,
            }
        }
        if let Err(why) = self.may_send(gate).await {
            return (SendResult::NotSent(why), None);
        }
        let account = user::of(person, &self.config.mapping);
        match self.client.create(&account).await {
            Answer::Done(found) => (
                SendResult::Done {
                    adopted: false,
                    remote_id: found.id,
                },
                None,
            ),
            Answer::Clash(_) => match self.look(person, gate).await {
                Ok(Some(result)) => (result, None),
                Ok(None) => {
                    let message = "the server says the name is taken, and shows nobody who has it";
                    (
                        SendResult::Review(Trouble::new("clash_unseen", message)),
                        None,
                    )
                }
                Err(stopped) => stopped,
            },
            other => stopped(other, person.doubtful),
        }
    }

    /// Looks for an account of this person: ours by external id, or one in the way by user name.
    async fn look(
        &self,
        person: &Person,
        gate: &SendGate,
    ) -> Result<Option<SendResult>, (SendResult, Option<TargetTrouble>)> {
        let user_name = user::name(person, &self.config.mapping);
        for (attribute, value) in [
            ("externalId", person.key.as_str()),
            ("userName", user_name.as_str()),
        ] {
            if let Err(why) = self.may_send(gate).await {
                return Err((SendResult::NotSent(why), None));
            }
            let found = match self.client.find(attribute, value).await {
                Answer::Done(found) => found,
                other => return Err(unread(other)),
            };
            let ours: Vec<&Found> = found
                .iter()
                .filter(|one| one.external_id.as_deref() == Some(person.key.as_str()))
                .collect();
            match (ours.as_slice(), found.first()) {
                ([one], _) => return Ok(Some(self.adopt(one, gate).await)),
                ([], None) => {}
                ([], Some(other)) => return Ok(Some(self.not_ours(other, person, gate).await)),
                _ => {
                    let message = format!(
                        "{} accounts have the external id `{}`",
                        ours.len(),
                        person.key
                    );
                    return Ok(Some(SendResult::Review(Trouble::new(
                        "several_accounts",
                        message,
                    ))));
                }
            }
        }
        Ok(None)
    }

    /// Takes an account over that is ours already; only what differs is changed.
    async fn adopt(&self, found: &Found, gate: &SendGate) -> SendResult {
        let done = SendResult::Done {
            adopted: true,
            remote_id: found.id.clone(),
        };
        let (Some(id), Some(false)) = (&found.id, found.active) else {
            return done;
        };
        if let Err(why) = self.may_send(gate).await {
            return SendResult::NotSent(why);
        }
        match self
            .client
            .patch(id, "active", &serde_json::Value::Bool(true))
            .await
        {
            Answer::Done(()) => done,
            other => stopped(other, true).0,
        }
    }

    async fn not_ours(&self, found: &Found, person: &Person, gate: &SendGate) -> SendResult {
        let id = found.id.clone().unwrap_or_default();
        match (&found.external_id, self.config.on_existing_unowned) {
            (None, OnUnowned::Link) => {
                if let Err(why) = self.may_send(gate).await {
                    return SendResult::NotSent(why);
                }
                match self
                    .client
                    .patch(
                        &id,
                        "externalId",
                        &serde_json::Value::from(person.key.as_str()),
                    )
                    .await
                {
                    Answer::Done(()) => SendResult::Done {
                        adopted: true,
                        remote_id: Some(id),
                    },
                    other => stopped(other, true).0,
                }
            }
            (None, OnUnowned::Review) => {
                let message = format!(
                    "account {id} has the user name `{}` and no external id; set on_existing_unowned to link, or decide by hand",
                    found.user_name.as_deref().unwrap_or_default()
                );
                SendResult::Review(Trouble::new("account_unowned", message))
            }
            (Some(other), _) => {
                let message = format!(
                    "account {id} has the user name `{}` and belongs to `{other}`, not to `{}`",
                    found.user_name.as_deref().unwrap_or_default(),
                    person.key
                );
                SendResult::Review(Trouble::new("account_of_another", message))
            }
        }
    }

    /// Looks at the server and explains what was found.
    pub async fn check(&self) -> CheckReport {
        check::check(&self.client, &self.config, &self.clock).await
    }
}

/// What becomes of a person whose request did not go well.
fn stopped<T>(answer: Answer<T>, doubtful: bool) -> (SendResult, Option<TargetTrouble>) {
    let close = |closed_for, trouble: &Trouble| {
        Some(TargetTrouble {
            closed_for,
            trouble: trouble.clone(),
        })
    };
    match answer {
        Answer::Refused(trouble) | Answer::Clash(trouble) => (SendResult::Failed(trouble), None),
        Answer::Busy { after, trouble } => {
            let pause = after.unwrap_or(Duration::from_secs(1));
            let close = close(pause, &trouble);
            (SendResult::Retry { after, trouble }, close)
        }
        Answer::Silent(trouble) => (SendResult::Unknown(trouble), None),
        Answer::LockedOut(trouble) => {
            let close = close(LOCKED_OUT, &trouble);
            let result = if doubtful {
                SendResult::Unknown(trouble)
            } else {
                SendResult::NotSent(NotNow::PermitMissing)
            };
            (result, close)
        }
        Answer::Unreachable(trouble) => {
            let close = close(UNREACHABLE, &trouble);
            let result = if doubtful {
                SendResult::Unknown(trouble)
            } else {
                SendResult::Retry {
                    after: Some(UNREACHABLE),
                    trouble,
                }
            };
            (result, close)
        }
        Answer::Done(_) => {
            let trouble = Trouble::new(
                "answer_unexpected",
                "the server answered what it was not asked",
            );
            (SendResult::Unknown(trouble), None)
        }
    }
}

/// A look-up that did not go well leaves the person as doubtful as before.
fn unread<T>(answer: Answer<T>) -> (SendResult, Option<TargetTrouble>) {
    let (result, close) = stopped(answer, true);
    let result = match result {
        SendResult::Failed(trouble) | SendResult::Retry { trouble, .. } => {
            SendResult::Unknown(trouble)
        }
        other => other,
    };
    (result, close)
}
