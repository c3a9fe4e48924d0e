//! Looking a person up before, or instead of, creating an account: ours, somebody else's, or nobody's.
//!
//! An account is ours when it carries our external id. Nobody having it counts only on a server whose
//! look-ups were seen to find somebody: some answer every filter with an empty list.

use std::sync::{Mutex, PoisonError};

use super::answer::Answer;
use super::user::{self, Found};
use super::{OnUnowned, Scim, stopped};
use crate::connector::{Person, SendGate, SendResult, Trouble};

/// What a server says of an account that it does not have.
pub(super) const NOT_FOUND: &str = "not_found";
/// Attributes by which people are looked up, in this order.
const ATTRIBUTES: [&str; 2] = ["externalId", "userName"];

/// What is known of the look-ups of one server.
#[derive(Debug, Default)]
pub(super) struct Proofs(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By which attributes somebody was found.
    proved: [bool; ATTRIBUTES.len()],
    /// An account that this process created. Somebody else may delete or change it later.
    there: Option<Found>,
    /// Whether this process has created anybody.
    has_created: bool,
}

impl Proofs {
    /// Remembers an account that was created a moment ago.
    pub(super) fn remember(&self, found: &Found) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.has_created = true;
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

    fn has_created(&self) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.has_created
    }

    fn there(&self) -> Option<Found> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.there.clone()
    }

    /// Forgets an account that is not there any more, or not as it was.
    fn forget(&self, gone: &Found) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .there
            .as_ref()
            .is_some_and(|there| there.id == gone.id)
        {
            known.there = None;
        }
    }
}

/// A server whose look-ups find nobody.
fn blind(attribute: &str) -> SendResult {
    let message = format!(
        "the server does not find by {attribute} an account that it has, so nobody can be told to be absent"
    );
    SendResult::Unknown(Trouble::new("look_up_blind", message))
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
                ([], None) => self.prove(number, (person, gate)).await?,
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
                self.prove(0, (person, gate)).await?;
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
    async fn prove(
        &self,
        number: usize,
        (person, gate): (&Person, &SendGate),
    ) -> Result<(), SendResult> {
        let Some(attribute) = ATTRIBUTES.get(number).copied() else {
            return Ok(());
        };
        if self.proofs.is_proved(number) {
            return Ok(());
        }
        if let Some(witness) = self.proofs.there() {
            match self.finds(gate, attribute, [&witness]).await? {
                Some(true) => {
                    self.proofs.prove(number);
                    return Ok(());
                }
                Some(false) if self.is_unchanged(&witness, attribute, gate).await? => {
                    return Err(blind(attribute));
                }
                Some(false) => self.proofs.forget(&witness),
                None => {}
            }
        }
        let some = match self.ask(gate, self.client.some()).await {
            Ok(Answer::Done(found)) => found,
            Ok(other) => return Err(unread(other)),
            Err(why) => return Err(SendResult::NotSent(why)),
        };
        match self.finds(gate, attribute, &some).await? {
            // Somebody was: what has nobody to show is another place, or one that we may not look into.
            None if some.is_empty()
                && (self.proofs.has_created() || person.remote_id.is_some()) =>
            {
                let message = "the server shows nobody at all, and people were moved there: is it still the same one, and may we look?";
                Err(SendResult::Unknown(Trouble::new("look_up_blind", message)))
            }
            // Nobody is there, or nobody has such a value: the next look-up decides.
            None => Ok(()),
            Some(true) => {
                self.proofs.prove(number);
                Ok(())
            }
            Some(false) => Err(blind(attribute)),
        }
    }

    /// Says whether the server finds the first of some accounts that has an attribute; `None`: none has it.
    async fn finds(
        &self,
        gate: &SendGate,
        attribute: &str,
        there: impl IntoIterator<Item = &Found>,
    ) -> Result<Option<bool>, SendResult> {
        let value = there.into_iter().find_map(|found| found.value(attribute));
        match value {
            Some(value) => Ok(Some(!self.find(gate, attribute, value).await?.is_empty())),
            None => Ok(None),
        }
    }

    /// Says whether an account is still there and shows no other value of an attribute than it had: only then
    /// does it show anything that the server does not find it. Deleted or changed by somebody, it shows nothing.
    async fn is_unchanged(
        &self,
        witness: &Found,
        attribute: &str,
        gate: &SendGate,
    ) -> Result<bool, SendResult> {
        let Some(id) = witness.id.as_deref() else {
            return Ok(true);
        };
        match self.ask(gate, self.client.read(id)).await {
            Ok(Answer::Done(now)) => {
                let before = witness.value(attribute);
                Ok(now
                    .value(attribute)
                    .is_none_or(|_| before.is_some_and(|before| now.has(attribute, before))))
            }
            Ok(Answer::Refused(trouble)) if trouble.code == NOT_FOUND => Ok(false),
            Ok(other) => Err(unread(other)),
            Err(why) => Err(SendResult::NotSent(why)),
        }
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
