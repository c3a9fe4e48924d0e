//! Taking people back: their account is set out of use, and it is looked at that it is. Never deleted.
//!
//! The account is read first: by what the server called it when the person was moved, else by external id. It
//! must carry our external id, or it is somebody's and stays untouched. One that is not there, or out of use,
//! needs nothing; so whatever was in doubt is asked again without harm.

use serde_json::json;

use super::answer::Answer;
use super::look::NOT_FOUND;
use super::user::Found;
use super::{Scim, UNANSWERED_MAX, stopped};
use crate::connector::{Person, SendGate, SendResult, Trouble};

/// What a server says that does not take PATCH.
const NOT_SUPPORTED: &str = "not_supported";

fn done(remote_id: Option<String>) -> SendResult {
    SendResult::Done {
        adopted: false,
        remote_id,
    }
}

impl Scim {
    /// Takes one person back.
    pub(super) async fn take_back(&self, person: &Person, gate: &SendGate) -> SendResult {
        let found = match self.account_of(person, gate).await {
            Ok(Some(found)) => found,
            // Nobody is there any more: that is what was asked for.
            Ok(None) => return done(None),
            Err(result) => return result,
        };
        if !found.has("externalId", &person.key) {
            return not_ours(&found, person);
        }
        let Some(id) = found.id.clone() else {
            let message = "the server shows the account without an id, so it cannot be changed";
            return SendResult::Review(Trouble::new("account_unnamed", message));
        };
        if found.is_active() == Some(false) {
            return done(Some(id));
        }
        match self.put_out_of_use(&id, &found, (person, gate)).await {
            Ok(()) => self.confirm_out_of_use(&id, (person, gate)).await,
            Err(result) => result,
        }
    }

    /// Finds the account of a person: what it was called when they were moved, else whoever has their external id.
    async fn account_of(
        &self,
        person: &Person,
        gate: &SendGate,
    ) -> Result<Option<Found>, SendResult> {
        if let Some(id) = person.remote_id.as_deref() {
            match self.ask(gate, self.client.read(id)).await {
                Ok(Answer::Done(found)) => return Ok(Some(found)),
                // Made anew under another name, perhaps: looked up like anybody.
                Ok(Answer::Refused(trouble)) if trouble.code == NOT_FOUND => {}
                Ok(other) => return Err(stopped(other, person.doubtful)),
                Err(why) => return Err(SendResult::NotSent(why)),
            }
        }
        self.by_external_id(person, gate).await
    }

    /// Sets an account out of use: by PATCH, or by PUT where the server takes no PATCH.
    async fn put_out_of_use(
        &self,
        id: &str,
        found: &Found,
        (person, gate): (&Person, &SendGate),
    ) -> Result<(), SendResult> {
        let change = [("active", json!(false))];
        let answer = match self.ask(gate, self.client.patch(id, &change)).await {
            Ok(Answer::Refused(trouble)) if trouble.code == NOT_SUPPORTED => {
                let account = found.out_of_use();
                match self.ask(gate, self.client.replace(id, &account)).await {
                    Ok(Answer::Done(_)) => Ok(Answer::Done(())),
                    Ok(Answer::Refused(trouble)) => Ok(Answer::Refused(trouble)),
                    Ok(other) => return Err(stopped(other, true)),
                    Err(why) => Err(why),
                }
            }
            other => other,
        };
        match answer {
            Ok(Answer::Done(())) => Ok(()),
            Ok(Answer::Refused(trouble)) if trouble.code == NOT_FOUND => Err(done(None)),
            Ok(other) => Err(stopped(other, person.doubtful)),
            Err(why) => Err(SendResult::NotSent(why)),
        }
    }

    /// Makes sure: some servers say yes and do nothing, and a person who is thought to be back is looked for by
    /// nobody.
    async fn confirm_out_of_use(
        &self,
        id: &str,
        (person, gate): (&Person, &SendGate),
    ) -> SendResult {
        match self.ask(gate, self.client.read(id)).await {
            Ok(Answer::Done(found)) if found.is_active() == Some(false) => {
                done(Some(id.to_owned()))
            }
            Ok(Answer::Done(_)) => {
                let message = "the server says it took the account out of use, and shows it in use";
                let trouble = Trouble::new("no_effect", message);
                if person.attempt >= UNANSWERED_MAX {
                    return SendResult::Failed(trouble);
                }
                SendResult::Retry {
                    after: None,
                    trouble,
                }
            }
            Ok(Answer::Refused(trouble)) if trouble.code == NOT_FOUND => done(None),
            Ok(other) => stopped(other, true),
            Err(why) => {
                let message = format!(
                    "`{}` was taken out of use, and not looked at again: {why}",
                    person.key
                );
                SendResult::Unknown(Trouble::new("not_confirmed", message))
            }
        }
    }
}

fn not_ours(found: &Found, person: &Person) -> SendResult {
    let id = found.id.as_deref().unwrap_or_default();
    let message = match found.external_id.as_deref() {
        Some(other) => format!(
            "account {id} belongs to `{other}`, and not to `{}`: it stays as it is",
            person.key
        ),
        None => format!("account {id} has no external id, so it is not known to be ours"),
    };
    SendResult::Review(Trouble::new("account_of_another", message))
}
