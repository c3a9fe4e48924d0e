//! What a SCIM server can do, found out by asking and by a canary that is created, found and deleted.

use serde_json::{Value, json};

use super::answer::Answer;
use super::client::Client;
use super::user::USER;
use super::{OnUnowned, ScimConfig};
use crate::clock::Clock;
use crate::connector::{CheckItem, CheckReport, Trouble};

/// Looks at the server and explains what was found.
pub(super) async fn check(client: &Client, config: &ScimConfig, clock: &Clock) -> CheckReport {
    let mut items = vec![credential(client, config)];
    let mut capability = json!({});
    match client.get("ServiceProviderConfig", &[]).await {
        Answer::Done(found) => {
            let can = |name: &str| {
                found
                    .get(name)
                    .and_then(|part| part.get("supported"))
                    .and_then(Value::as_bool)
            };
            capability = json!({"patch": can("patch"), "bulk": can("bulk"), "filter": can("filter"), "etag": can("etag")});
            items.push(CheckItem::new(
                "service",
                true,
                format!("{} answers as a SCIM 2.0 server", config.base_url),
            ));
            let patch = can("patch").unwrap_or(false);
            let sentence = if patch {
                "accounts can be changed by PATCH"
            } else {
                "the server announces no PATCH: accounts found inactive cannot be made active"
            };
            items.push(CheckItem::new("patch", patch, sentence));
        }
        other => items.push(CheckItem::new(
            "service",
            false,
            explained(&other, &config.base_url),
        )),
    }
    if items.iter().all(|item| item.ok || item.name == "patch") {
        items.extend(canary(client, clock).await);
    }
    let sentence = match config.on_existing_unowned {
        OnUnowned::Review => "an account with our user name and no external id goes to review",
        OnUnowned::Link => "an account with our user name and no external id becomes ours",
    };
    items.push(CheckItem::new("existing accounts", true, sentence));
    CheckReport {
        ok: items.iter().all(|item| item.ok || item.name == "patch"),
        items,
        capability,
    }
}

fn credential(client: &Client, config: &ScimConfig) -> CheckItem {
    match (client.token(), &config.credential) {
        (Ok(Some(_)), _) => CheckItem::new(
            "credential",
            true,
            "the bearer token can be read; it is kept nowhere else",
        ),
        (Ok(None), _) => CheckItem::new(
            "credential",
            true,
            "no credential is configured: requests are sent without one",
        ),
        (Err(sentence), _) => CheckItem::new("credential", false, sentence),
    }
}

async fn canary(client: &Client, clock: &Clock) -> Vec<CheckItem> {
    let key = format!("tidegate-canary-{}", clock.now().timestamp_millis());
    let user = json!({"schemas": [USER], "userName": key, "externalId": key, "active": false, "displayName": "Tidegate canary"});
    let id = match client.create(&user).await {
        Answer::Done(found) => found.id,
        other => {
            return vec![CheckItem::new(
                "create",
                false,
                explained(&other, "creating the canary account"),
            )];
        }
    };
    let Some(id) = id else {
        return vec![CheckItem::new(
            "create",
            false,
            format!("the server created `{key}` and did not say its id: delete it by hand"),
        )];
    };
    let mut items = vec![CheckItem::new(
        "create",
        true,
        format!("a canary account was created ({key})"),
    )];
    for attribute in ["externalId", "userName"] {
        items.push(match client.find(attribute, &key).await {
            Answer::Done(found) if found.len() == 1 => {
                CheckItem::new("look up", true, format!("accounts are found by {attribute}"))
            }
            Answer::Done(found) => CheckItem::new(
                "look up",
                false,
                format!("the canary was looked up by {attribute}, and {} accounts were found: doubtful people could not be told apart", found.len()),
            ),
            other => CheckItem::new("look up", false, explained(&other, &format!("looking up by {attribute}"))),
        });
    }
    items.push(match client.delete(&id).await {
        Answer::Done(()) => CheckItem::new("delete", true, "the canary account is gone again"),
        other => CheckItem::new(
            "delete",
            false,
            format!(
                "the canary `{key}` ({id}) is still there: {}",
                explained(&other, "deleting it")
            ),
        ),
    });
    items
}

fn explained<T>(answer: &Answer<T>, what: &str) -> String {
    let say = |why: &str, trouble: &Trouble| format!("{what}: {why}: {}", trouble.message);
    match answer {
        Answer::Done(_) => format!("{what}: worked"),
        Answer::LockedOut(trouble) => say(
            "the server does not let us in; look at the credential and its rights",
            trouble,
        ),
        Answer::Unreachable(trouble) => say(
            "nobody reaches the server; look at base_url and the network",
            trouble,
        ),
        Answer::Busy { trouble, .. } => {
            say("the server asks for a pause; try again later", trouble)
        }
        Answer::Silent(trouble) => say("no usable answer came", trouble),
        Answer::Clash(trouble) => say("somebody has this name already", trouble),
        Answer::Refused(trouble) => say("the server says no", trouble),
    }
}
