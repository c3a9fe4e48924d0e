//! The connectors and feeds against servers that other people wrote, and against one of our own that does what
//! no honest server does; and the ways in of signals against libraries of other people that send.

mod back;
mod checking;
mod doubtful;
mod existing;
mod feeds;
mod limits;
mod lying;
mod own;
mod secrets;
mod senders;
mod stopping;
mod throttled;

use serde_json::{Value, json};

use crate::support::api::Api;

/// Declares each test once per server: `on_each_server!(claim_one, claim_two)`, where each claim is an
/// `async fn(Target)`. A server that is not installed is left out, with a line that says so.
macro_rules! on_each_server {
    ($($claim:ident),+ $(,)?) => {
        mod scim2 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                if let Some(server) = $crate::support::targets::Target::scim2(&[]).await {
                    super::$claim(server).await;
                }
            })+
        }
        mod scimmy {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                if let Some(server) = $crate::support::targets::Target::scimmy(&[]).await {
                    super::$claim(server).await;
                }
            })+
        }
    };
}
use on_each_server;

/// A rollout `move` of `staff` to `box` in one wave.
const ONE_WAVE: &str =
    "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: all, rest: true}\n";

/// Creates target `box` at an address.
async fn target_at(api: &Api, url: &str, more: Value) {
    let mut config = json!({"base_url": url});
    if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
        config.extend(more.clone());
    }
    let body = json!({"name": "box", "connector": "scim", "config": config});
    api.post("/v1/targets", body).await.ok();
}

/// The account that the connector makes of a person of `people::csv`.
fn account(person: u32) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": format!("user{person}@example.test"),
        "externalId": format!("e{person:07}"),
        "active": true,
        "displayName": format!("Given{person} Family{person}"),
        "name": {"givenName": format!("Given{person}"), "familyName": format!("Family{person}")},
        "emails": [{"value": format!("user{person}@example.test"), "type": "work", "primary": true}],
    })
}

/// Returns the people of `move` in a state.
async fn people_in(api: &Api, state: &str) -> Vec<Value> {
    let path = format!("/v1/rollouts/move/members?state={state}&limit=1000");
    let page = api.get(&path).await.ok();
    page["items"].as_array().cloned().unwrap_or_default()
}

/// Returns a count of `move`.
async fn total(api: &Api, name: &str) -> u64 {
    let view = api.get("/v1/rollouts/move").await.ok();
    view["totals"][name].as_u64().unwrap_or(0)
}

/// Reads what a proxy wrote down, one request a line; `/_faults` makes it write.
fn ledger(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of the ledger"))
        .collect()
}
