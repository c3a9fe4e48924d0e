//! Holds on some people of a wave: what several tests of them begin with.

use serde_json::{Value, json};

use super::api::Api;
use super::until;

/// Everybody in one wave that only ends when everybody has answered.
pub(crate) const ONE_WAVE: &str =
    "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: all, rest: true}\n";

pub(crate) fn country(name: &str) -> Value {
    json!({"attribute": "country", "equals": name})
}

pub(crate) fn some(kind: &str, condition: &Value) -> Value {
    let scope = json!({"type": "wave", "id": "move", "wave": 1, "where": condition});
    json!({"kind": kind, "scope": scope, "reason": "the works council asks"})
}

pub(crate) async fn place(api: &Api, hold: Value) -> String {
    let placed = api.post("/v1/holds", hold).await.ok();
    placed["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn until_sorted(api: &Api, hold: &str) -> Value {
    let path = format!("/v1/holds/{hold}");
    until("its people are sorted out", 20, async || {
        api.get(&path).await.ok()["part"]["sorted"] == true
    })
    .await;
    api.get(&path).await.ok()
}
