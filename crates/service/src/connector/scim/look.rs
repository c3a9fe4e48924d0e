//! Looking a person up before, or instead of, creating an account: ours, somebody else's, or nobody's.
//!
//! An account is ours when it carries our external id. Nobody having it counts only on a server whose
//! look-ups were seen to find somebody: some answer every filter with an empty list.

use std::sync::{Mutex, PoisonError};

use super::answer::Answer;
use super::user::{self, Found};
use super::{OnUnowned, Scim, stopped};
use crate::connector::{Person, SendGate, SendResult, Trouble};

/// Attributes by which people are looked up, in this order.
const ATTRIBUTES: [&str; 2] = ["externalId", "userName"];

/// What is known of the look-ups of one server.
#[derive(Debug, Default)]
pub(super) struct Proofs(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By which attributes somebody was found.
    proved: [bool; ATTRIBUTES.len()],
    /// An account that is surely there: one that this process created.
    there: Option<Found>,
}

impl Proofs {
    /// Remembers an account that was created a moment ago.
    pub(super) fn remember(&self, found: &Found) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.there.is_none() {
            known.there = Some(found.clone());
        }
    }

    fn is_proved(&self, attribute: usize) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.proved.get(attribute).copied().unwrap_or(false)
    }

    fn prove(&self, attribute: usize) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(proved) = known.proved.get_mut(attribute) {
            *proved = true;
        }
    }

    fn there(&self) -> Option<Found> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.there.clone()
    }
}

/// What stopped a look-up: the person stays as doubtful as before.
fn unread<T>(answer: Answer<T>) -> SendResult {
    match stopped(answer, true) {
        SendResult::Failed(trouble) | SendResult::Retry { trouble, .. } => {
            SendResult::Unknown(trouble)
        }
        other => other,
    }
}

impl Scim {
    /// Looks for an account of this person: ours by external id, or one in the way by user name.
    pub(super) async fn look(
        &self,
        person: &Person,
        gate: &SendGate,
    ) -> Result<Option<SendResult>, SendResult> {
        let user_name = user::name(person, &self.config.mapping);
        let values = [person.key.as_str(), user_name.as_str()];
        for (number, (attribute, value)) in ATTRIBUTES.into_iter().zip(values).enumerate() {
            let found = self.find(gate, attribute, value).await?;
            let ours: Vec<&Found> = found
                .iter()
                .filter(|one| one.has("externalId", &person.key))
                .collect();
            match (ours.as_slice(), found.first()) {
                ([one], _) => {
                    self.proofs.prove(number);
                    return Ok(Some(self.adopt(one, person, gate).await));
                }
                ([], None) => self.prove(gate, number).await?,
                ([], Some(other)) => {
                    self.proofs.prove(number);
                    return Ok(Some(self.not_ours(other, person, gate).await));
                }
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

    /// Finds the account that carries a person's external id; nobody counts only where look-ups find somebody.
    pub(super) async fn by_external_id(
        &self,
        person: &Person,
        gate: &SendGate,
    ) -> Result<Option<Found>, SendResult> {
        let mut found = self.find(gate, "externalId", &person.key).await?;
        match (found.pop(), found.len()) {
            (Some(one), 0) => {
                self.proofs.prove(0);
                Ok(Some(one))
            }
            (Some(_), more) => {
                let message = format!(
                    "{} accounts have the external id `{}`",
                    more + 1,
                    person.key
                );
                Err(SendResult::Review(Trouble::new(
                    "several_accounts",
                    message,
                )))
            }
            (None, _) => {
                self.prove(gate, 0).await?;
                Ok(None)
            }
        }
    }

    async fn find(
        &self,
        gate: &SendGate,
        attribute: &str,
        value: &str,
    ) -> Result<Vec<Found>, SendResult> {
        match self.ask(gate, self.client.find(attribute, value)).await {
            Ok(Answer::Done(found)) => Ok(found),
            Ok(other) => Err(unread(other)),
            Err(why) => Err(SendResult::NotSent(why)),
        }
    }

    /// Makes sure, once, that an empty answer means that nobody is there: somebody who is there is
    /// looked up the same way.
    async fn prove(&self, gate: &SendGate, number: usize) -> Result<(), SendResult> {
        let Some(attribute) = ATTRIBUTES.get(number).copied() else {
            return Ok(());
        };
        if self.proofs.is_proved(number) {
            return Ok(());
        }
        let there = match self.proofs.there() {
            Some(found) => vec![found],
            None => match self.ask(gate, self.client.some()).await {
                Ok(Answer::Done(found)) => found,
                Ok(other) => return Err(unread(other)),
                Err(why) => return Err(SendResult::NotSent(why)),
            },
        };
        let value = there.iter().find_map(|found| match attribute {
            "externalId" => found.external_id.as_deref(),
            _ => found.user_name.as_deref(),
        });
        // Nobody is there, or nobody has such a value: the next look-up decides.
        let Some(value) = value else {
            return Ok(());
        };
        if self.find(gate, attribute, value).await?.is_empty() {
            let message = format!(
                "the server does not find by {attribute} an account that it has, so nobody can be told to be absent"
            );
            return Err(SendResult::Unknown(Trouble::new("look_up_blind", message)));
        }
        self.proofs.prove(number);
        Ok(())
    }

    /// Takes an account over that is ours already; only what differs is changed.
    async fn adopt(&self, found: &Found, person: &Person, gate: &SendGate) -> SendResult {
        let done = SendResult::Done {
            adopted: true,
            remote_id: found.id.clone(),
        };
        let changes = found.difference(&user::of(person, &self.config.mapping));
        let Some(id) = found.id.as_deref().filter(|_| !changes.is_empty()) else {
            return done;
        };
        match self.ask(gate, self.client.patch(id, &changes)).await {
            Ok(Answer::Done(())) => done,
            // The account is ours, and the name it should have is somebody else's.
            Ok(Answer::Clash(trouble)) => SendResult::Review(trouble),
            Ok(Answer::Refused(trouble)) => {
                let paths: Vec<&str> = changes.iter().map(|(path, _)| *path).collect();
                let message = format!(
                    "account {id} was there, and {} could not be changed: {}",
                    paths.join(", "),
                    trouble.message
                );
                SendResult::Failed(Trouble { message, ..trouble })
            }
            // Still in doubt, never merely tried again: under another name they would be created anew.
            Ok(other) => unread(other),
            Err(why) => SendResult::NotSent(why),
        }
    }

    async fn not_ours(&self, found: &Found, person: &Person, gate: &SendGate) -> SendResult {
        let id = found.id.as_deref().unwrap_or_default();
        let name = found.user_name.as_deref().unwrap_or_default();
        match (&found.external_id, self.config.on_existing_unowned) {
            (None, OnUnowned::Link) => self.adopt(found, person, gate).await,
            (None, OnUnowned::Review) => {
                let message = format!(
                    "account {id} has the user name `{name}` and no external id; set on_existing_unowned to link, or decide by hand"
                );
                SendResult::Review(Trouble::new("account_unowned", message))
            }
            (Some(other), _) => {
                let message = format!(
                    "account {id} has the user name `{name}` and belongs to `{other}`, not to `{}`",
                    person.key
                );
                SendResult::Review(Trouble::new("account_of_another", message))
            }
        }
    }
}
