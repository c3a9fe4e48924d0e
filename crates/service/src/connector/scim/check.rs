//! What a SCIM server can do, found out by asking and by a canary that is created, found, changed and
//! deleted. What a server announces is shown; what was tried is believed.

use serde_json::{Value, json};

use super::answer::Answer;
use super::client::Client;
use super::user::USER;
use super::{OnUnowned, ScimConfig};
use crate::clock::Clock;
use crate::connector::{CheckItem, CheckReport, Trouble};

/// What may be missing on a server that people can still be moved to.
const OPTIONAL: [&str; 3] = ["patch", "external id", "existing accounts"];

/// Looks at the server and explains what was found.
pub(super) async fn check(client: &Client, config: &ScimConfig, clock: &Clock) -> CheckReport {
    let mut probe = Probe {
        client,
        config,
        items: Vec::new(),
        capability: json!({}),
        key: format!("tidegate-canary-{}", clock.now().timestamp_millis()),
    };
    probe.credential();
    probe.service().await;
    if probe.is_fine() {
        let before = probe.accounts().await;
        if let Some(id) = probe.create().await {
            probe.look_up().await;
            probe.patch(&id).await;
            let is_unique = probe.second().await;
            probe.delete(&id).await;
            probe.existing(before, is_unique);
        }
    }
    CheckReport {
        ok: probe.is_fine(),
        items: probe.items,
        capability: probe.capability,
    }
}

struct Probe<'a> {
    client: &'a Client,
    config: &'a ScimConfig,
    items: Vec<CheckItem>,
    capability: Value,
    key: String,
}

impl Probe<'_> {
    fn is_fine(&self) -> bool {
        let mut items = self.items.iter();
        items.all(|item| item.ok || OPTIONAL.contains(&item.name.as_str()))
    }

    fn say(&mut self, name: &str, ok: bool, sentence: impl Into<String>) {
        self.items.push(CheckItem::new(name, ok, sentence));
    }

    fn learn(&mut self, name: &str, can: impl Into<Value>) {
        if let Some(fields) = self.capability.as_object_mut() {
            fields.insert(name.to_owned(), can.into());
        }
    }

    fn credential(&mut self) {
        let is_clear = self.config.base_url.starts_with("http://");
        match self.client.has_token() {
            Ok(true) if is_clear => self.say(
                "credential",
                true,
                "the bearer token can be read, and travels in the clear: base_url is http, not https",
            ),
            Ok(true) => self.say(
                "credential",
                true,
                "the bearer token can be read; it is kept nowhere else",
            ),
            Ok(false) => self.say(
                "credential",
                true,
                "no credential is configured: requests are sent without one",
            ),
            Err(sentence) => self.say("credential", false, sentence),
        }
    }

    async fn service(&mut self) {
        let base = &self.config.base_url;
        let found = match self.client.get("ServiceProviderConfig", &[]).await {
            Answer::Done(found)
                if found.get("schemas").is_some() || found.get("patch").is_some() =>
            {
                found
            }
            Answer::Done(_) => {
                let sentence =
                    format!("{base} answers, and not as a SCIM 2.0 server; look at base_url");
                return self.say("service", false, sentence);
            }
            other => {
                let sentence = explained(&other, base);
                return self.say("service", false, sentence);
            }
        };
        let can = |name: &str| {
            let part = found.get(name).and_then(|part| part.get("supported"));
            part.and_then(Value::as_bool)
        };
        for name in ["patch", "bulk", "filter", "etag"] {
            self.learn(name, can(name));
        }
        self.say(
            "service",
            true,
            format!("{base} answers as a SCIM 2.0 server"),
        );
    }

    /// Returns whether somebody is there before us.
    async fn accounts(&self) -> bool {
        match self.client.some().await {
            Answer::Done(found) => !found.is_empty(),
            // Not shown is not empty.
            _ => true,
        }
    }

    async fn create(&mut self) -> Option<String> {
        let key = self.key.clone();
        let user = json!({"schemas": [USER], "userName": key, "externalId": key, "active": false, "displayName": "Tidegate canary"});
        let found = match self.client.create(&user).await {
            Answer::Done(found) => found,
            other => {
                let mut sentence = explained(&other, "creating the canary account");
                if matches!(other, Answer::Silent(_)) {
                    sentence.push_str(&format!("; look whether `{key}` is there, and delete it"));
                }
                self.say("create", false, sentence);
                return None;
            }
        };
        let Some(id) = found.id else {
            let sentence =
                format!("the server created `{key}` and did not say its id: delete it by hand");
            self.say("create", false, sentence);
            return None;
        };
        self.say(
            "create",
            true,
            format!("a canary account was created (`{key}`)"),
        );
        Some(id)
    }

    async fn look_up(&mut self) {
        let key = self.key.clone();
        for (attribute, name) in [
            ("externalId", "found_by_external_id"),
            ("userName", "found_by_user_name"),
        ] {
            let (can, sentence) = match self.client.find(attribute, &key).await {
                Answer::Done(found) if found.len() == 1 => {
                    (true, format!("accounts are found by {attribute}"))
                }
                Answer::Done(found) => (
                    false,
                    format!(
                        "the canary was looked up by {attribute}, and {} accounts were found: doubtful people could not be told apart",
                        found.len()
                    ),
                ),
                other => (
                    false,
                    explained(&other, &format!("looking up by {attribute}")),
                ),
            };
            self.say("look up", can, sentence);
            self.learn(name, can);
        }
        // A filter that is ignored can find a lonely canary, and everybody.
        let absent = format!("{key}-absent");
        if let Answer::Refused(trouble) = self.client.find("userName", &absent).await {
            let sentence = format!(
                "somebody who is not there was looked up: {}",
                trouble.message
            );
            self.say("look up", false, sentence);
            self.learn("found_by_user_name", false);
        }
    }

    async fn patch(&mut self, id: &str) {
        let name = "Tidegate canary, changed";
        let sentence = match self.client.patch(id, &[("displayName", name.into())]).await {
            Answer::Done(()) => match self.client.read(id).await {
                Answer::Done(found) if found.shows("displayName", name) => {
                    self.learn("patch_works", true);
                    return self.say("patch", true, "accounts can be changed by PATCH");
                }
                Answer::Done(_) => "the server says yes to a PATCH and changes nothing".to_owned(),
                other => explained(&other, "reading the canary after a PATCH"),
            },
            other => explained(&other, "changing the canary by PATCH"),
        };
        self.learn("patch_works", false);
        let sentence =
            format!("{sentence}; accounts that are there already cannot be brought up to date");
        self.say("patch", false, sentence);
    }

    /// Says whether a second account with the same external id is refused.
    async fn second(&mut self) -> bool {
        let user = json!({"schemas": [USER], "userName": format!("{}-second", self.key), "externalId": self.key, "active": false});
        let is_unique = match self.client.create(&user).await {
            Answer::Done(found) => {
                if let Some(id) = found.id {
                    self.delete(&id).await;
                }
                false
            }
            Answer::Clash(_) => true,
            _ => return true,
        };
        self.learn("external_id_unique", is_unique);
        is_unique
    }

    async fn delete(&mut self, id: &str) {
        match self.client.delete(id).await {
            Answer::Done(()) => self.say("delete", true, "the canary account is gone again"),
            other => {
                let why = explained(&other, "deleting it");
                let sentence = format!("the canary `{}` ({id}) is still there: {why}", self.key);
                self.say("delete", false, sentence);
            }
        }
    }

    fn existing(&mut self, before: bool, is_unique: bool) {
        if before && !is_unique && !self.config.look_first {
            self.say(
                "external id",
                false,
                "the server has accounts already and takes a second one with the same external id: set look_first if some of them are ours",
            );
        }
        let sentence = match self.config.on_existing_unowned {
            OnUnowned::Review => "an account with our user name and no external id goes to review",
            OnUnowned::Link => "an account with our user name and no external id becomes ours",
        };
        self.say("existing accounts", true, sentence);
    }
}

fn explained<T>(answer: &Answer<T>, what: &str) -> String {
    let say = |why: &str, trouble: &Trouble| format!("{what}: {why}: {}", trouble.message);
    match answer {
        Answer::Done(_) => format!("{what}: worked"),
        Answer::LockedOut(trouble) => match trouble.code.as_str() {
            "redirected" => say(
                "the server points elsewhere, and the credential does not follow; look at base_url",
                trouble,
            ),
            "not_found" | "not_supported" => say(
                "the server knows no such resource; look at base_url",
                trouble,
            ),
            _ => say(
                "the server does not let us in; look at the credential and its rights",
                trouble,
            ),
        },
        Answer::Unreachable(trouble) => say(
            "nobody reaches the server; look at base_url and the network",
            trouble,
        ),
        Answer::Busy { trouble, .. } => {
            say("the server asks for a pause; try again later", trouble)
        }
        Answer::Silent(trouble) => say("no usable answer came", trouble),
        Answer::Clash(trouble) => say("somebody has this name already", trouble),
        Answer::Refused(trouble) if trouble.code == "not_found" => say(
            "the server knows no such resource; look at base_url",
            trouble,
        ),
        Answer::Refused(trouble) => say("the server says no", trouble),
    }
}
