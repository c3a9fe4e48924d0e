//! Holds as a test places and lifts them. What the release of a halt takes, `release` knows.

use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, send};
use super::release;

/// The body of a hold.
pub(crate) fn hold(kind: &str, scope: &Value, reason: &str) -> Value {
    json!({"kind": kind, "scope": scope, "reason": reason})
}

/// Places a hold and returns it.
pub(crate) async fn place(api: &Api, kind: &str, scope: Value) -> Value {
    let body = hold(kind, &scope, &format!("{kind} it"));
    api.post("/v1/holds", body).await.ok()
}

/// Places a hold and returns when nobody can send under it.
pub(crate) async fn place_quiesced(api: &Api, kind: &str, scope: Value) -> Value {
    let body = hold(kind, &scope, &format!("{kind} it"));
    let placed = api.post("/v1/holds?wait=quiesced", body).await.ok();
    assert_eq!(placed["quiesced"], true, "{placed:#}");
    placed
}

/// The request that releases a pause.
pub(crate) fn release_request(api: &Api, id: &str) -> reqwest::RequestBuilder {
    let request = api.request(Method::POST, &format!("/v1/holds/{id}/release"));
    request.json(&json!({"reason": "it is over"}))
}

/// Returns the holds of people that are in force: gates and freezes end by themselves.
pub(crate) async fn in_force(api: &Api) -> Vec<Value> {
    let page = api.get("/v1/holds?in_force=true&limit=1000").await.ok();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let by_people = |hold: &Value| hold["kind"] == "pause" || hold["kind"] == "halt";
    items.into_iter().filter(by_people).collect()
}

/// Lifts every hold of people, pauses first, and returns how many there were.
pub(crate) async fn lift_all(api: &Api) -> usize {
    let holds = in_force(api).await;
    let (halts, pauses): (Vec<_>, Vec<_>) = holds.iter().partition(|hold| hold["kind"] == "halt");
    for hold in pauses {
        let answer = send(release_request(api, hold["id"].as_str().expect("an id"))).await;
        let is_gone = answer.body["code"] == "hold_already_released";
        assert!(answer.status < 300 || is_gone, "{}", answer.text);
    }
    for hold in halts {
        release::halt(api, hold["id"].as_str().expect("an id")).await;
    }
    holds.len()
}
