//! SCIM 2.0 (RFC 7643, RFC 7644): people become users of a server that somebody else runs.
//!
//! The directory id is the `externalId`; whoever has it is ours. A create that clashes is looked up: an
//! account with our `externalId` is adopted, anything else is somebody's and goes to review untouched.
//! Whoever may have been created without our knowing is looked up before anything is sent again.
//! Accounts are changed by PATCH, never replaced, but for taking them out of use on a server without PATCH.
//! Nobody is deleted (`back`).

mod answer;
mod back;
mod check;
mod client;
mod credential;
mod line;
mod look;
mod user;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ledger::SlotIndex;
use tidegate_orchestrator::permit::NotNow;

use super::grants::Grants;
use super::{Act, CheckReport, ConfigError, Person, SendGate, SendResult, TargetTrouble, Trouble};
use crate::clock::Clock;
use answer::Answer;
use client::Client;
pub use credential::Credential;
use line::Line;
use look::Proofs;

/// Whoever was tried so often, was looked up and not found, and still gets no answer, is no matter of
/// luck: somebody looks at it.
const UNANSWERED_MAX: u8 = 8;

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
    /// Whether everybody is looked up before anything is created, at the price of a request each: for
    /// servers that hold accounts with our external ids under other user names, and would take a second.
    #[serde(default)]
    pub look_first: bool,
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
    line: Line,
    proofs: Proofs,
}

impl Scim {
    /// Makes the way to a server out of its settings; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the settings are not understood.
    pub fn new(
        config: &serde_json::Value,
        grants: &Grants,
        clock: &Clock,
    ) -> Result<Self, ConfigError> {
        credential::check_reference(config)?;
        let config: ScimConfig = serde_json::from_value(config.clone())
            .map_err(|error| ConfigError(format!("scim settings: {error}")))?;
        if !(1..=256).contains(&config.concurrency) || !(1..=300).contains(&config.timeout_seconds)
        {
            let sentence = "scim settings: concurrency is 1 to 256, timeout_seconds 1 to 300";
            return Err(ConfigError(sentence.to_owned()));
        }
        let client = Client::new(&config, grants, clock)?;
        Ok(Self {
            line: Line::new(config.concurrency, clock.clone()),
            proofs: Proofs::default(),
            client,
            clock: clock.clone(),
            config,
        })
    }

    /// Returns the attribute that accounts get their user names from.
    #[must_use]
    pub fn user_name_attribute(&self) -> &str {
        &self.config.mapping.user_name
    }

    /// Returns how long one request may take.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.config.timeout_seconds)
    }

    /// Sends people, several at a time. Batches that are sent beside each other share the line: the
    /// bound is the target's, and the end of one batch does not let the line run dry.
    pub async fn send(
        &self,
        act: Act,
        people: Vec<Person>,
        gate: &SendGate,
        on_result: &(impl Fn(SlotIndex, SendResult) + Sync),
    ) -> Option<TargetTrouble> {
        stream::iter(people)
            .for_each_concurrent(self.config.concurrency, async |person| {
                gate.turn(&person).await;
                let seat = self.line.seat().await;
                self.line.space(gate).await;
                let result = match act {
                    Act::Move => self.one(&person, gate).await,
                    Act::TakeBack => self.take_back(&person, gate).await,
                };
                drop(seat);
                on_result(person.index, result);
            })
            .await;
        self.line.trouble()
    }

    async fn one(&self, person: &Person, gate: &SendGate) -> SendResult {
        if person.doubtful || self.config.look_first {
            match self.look(person, gate).await {
                Ok(Some(result)) | Err(result) => return result,
                Ok(None) => {}
            }
        }
        let account = user::of(person, &self.config.mapping);
        let answer = match self.ask(gate, self.client.create(&account)).await {
            Ok(answer) => answer,
            Err(why) => return SendResult::NotSent(why),
        };
        match answer {
            Answer::Done(found) if found.id.is_some() && found.has("externalId", &person.key) => {
                self.proofs.remember(&found);
                SendResult::Done {
                    adopted: false,
                    remote_id: found.id,
                }
            }
            Answer::Done(_) => self.confirm(person, gate).await,
            Answer::Clash(_) => match self.look(person, gate).await {
                Ok(Some(result)) | Err(result) => result,
                Ok(None) => {
                    let message = "the server says the name is taken, and shows nobody who has it";
                    SendResult::Review(Trouble::new("clash_unseen", message))
                }
            },
            Answer::Silent(trouble) if person.doubtful && person.attempt >= UNANSWERED_MAX => {
                let message = format!(
                    "tried {} times, looked up and not there, and no answer again: {}",
                    person.attempt, trouble.message
                );
                SendResult::Review(Trouble { message, ..trouble })
            }
            other => stopped(other, person.doubtful),
        }
    }

    /// Makes sure of a success that does not show the account: some servers say yes and do nothing.
    async fn confirm(&self, person: &Person, gate: &SendGate) -> SendResult {
        match self.look(person, gate).await {
            Ok(Some(SendResult::Done { remote_id, .. })) => SendResult::Done {
                adopted: false,
                remote_id,
            },
            Ok(Some(result)) => result,
            Ok(None) => {
                let message = "the server says it created the account, and does not show it";
                SendResult::Unknown(Trouble::new("no_effect", message))
            }
            // It was sent, so it is in doubt, whatever stopped the look-up.
            Err(SendResult::NotSent(why)) => {
                let message = format!("created, and not looked up: {why}");
                SendResult::Unknown(Trouble::new("not_confirmed", message))
            }
            Err(result) => result,
        }
    }

    /// Asks the server one thing, if it may be asked now, and learns from the answer.
    async fn ask<T>(
        &self,
        gate: &SendGate,
        request: impl Future<Output = Answer<T>>,
    ) -> Result<Answer<T>, NotNow> {
        self.line.may_send(gate).await?;
        // Nothing has been sent yet: a request begins when it is awaited.
        let answer = request.await;
        self.line.note(&answer);
        Ok(answer)
    }

    /// Looks at the server and explains what was found.
    pub async fn check(&self) -> CheckReport {
        check::check(&self.client, &self.config, &self.clock).await
    }
}

/// What becomes of a person whose request did not go well.
fn stopped<T>(answer: Answer<T>, doubtful: bool) -> SendResult {
    match answer {
        Answer::Refused(trouble) | Answer::Clash(trouble) => SendResult::Failed(trouble),
        Answer::Busy { after, trouble } => SendResult::Retry { after, trouble },
        Answer::Silent(trouble) => SendResult::Unknown(trouble),
        // Nothing was done, and it is nobody's fault: whoever was not in doubt goes back as they were,
        // however long it lasts.
        Answer::LockedOut(trouble) | Answer::Unreachable(trouble) => {
            if doubtful {
                SendResult::Unknown(trouble)
            } else {
                SendResult::NotSent(NotNow::PermitMissing)
            }
        }
        Answer::Done(_) => {
            let message = "the server answered what it was not asked";
            SendResult::Unknown(Trouble::new("answer_unexpected", message))
        }
    }
}
