//! How people are taken back in tests: ask, have two say yes, start.

use serde_json::{Value, json};

use super::api::{Answer, Api};
use super::database::Database;
use super::people::{import, sandbox, started, two_waves, until_status};
use super::release::People;
use super::service::Service;

/// Why everybody is taken back.
pub(crate) const WHY: &str = "the vendor was breached";

/// A finished rollout `move` of 2,000 people: a canary of 50, then the rest.
pub(crate) async fn moved(database: &Database, settings: Value) -> Service {
    let service = Service::start(database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, settings).await;
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 60).await;
    service
}

/// Asks for the people of waves of `move`.
pub(crate) async fn ask(api: &Api, waves: Value) -> Answer {
    let body = json!({"waves": waves, "reason": WHY});
    api.post("/v1/rollouts/move/revert", body).await
}

/// Says yes to a revert.
pub(crate) async fn yes(api: &Api, revert: &str, digest: &str) -> Answer {
    let body = json!({"digest": digest, "reason": "looked at all of it"});
    let path = format!("/v1/rollouts/{revert}/revert-approvals");
    api.post(&path, body).await
}

/// Starts a revert.
pub(crate) async fn start(api: &Api, revert: &str, digest: &str) -> Answer {
    let body = json!({"digest": digest});
    api.post(&format!("/v1/rollouts/{revert}/start"), body)
        .await
}

/// Asks, has two say yes, and starts; returns the name of the revert.
pub(crate) async fn taken_back(who: &People, wish: Value) -> String {
    let asked = who.asks.post("/v1/rollouts/move/revert", wish).await.ok();
    let name = asked["rollout"].as_str().unwrap().to_owned();
    let digest = asked["digest"].as_str().unwrap();
    yes(&who.security, &name, digest).await.ok();
    let ready = yes(&who.operations, &name, digest).await.ok();
    assert_eq!(ready["status"], "ready", "{ready:#}");
    start(&who.asks, &name, digest).await.ok();
    name
}

/// Returns how a rollout stands.
pub(crate) async fn view(api: &Api, rollout: &str) -> Value {
    api.get(&format!("/v1/rollouts/{rollout}")).await.ok()
}

/// How many people of each wave are in a state.
pub(crate) fn by_wave(view: &Value, state: &str) -> Vec<u64> {
    let waves = view["waves"].as_array().unwrap().iter();
    waves
        .map(|wave| wave["counts"][state].as_u64().unwrap())
        .collect()
}

/// Lists people of a rollout.
pub(crate) async fn members(api: &Api, rollout: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/rollouts/{rollout}/members?limit=1000&{query}");
    let page = api.get(&path).await.ok();
    page["items"].as_array().cloned().unwrap()
}
