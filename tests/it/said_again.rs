//! Stop, said again while somebody has asked to go on: what was asked for does not end it.

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::holds::place_quiesced;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::release::{execute, people, ready};
use crate::support::revert::{ask, moved, start, view, yes};
use crate::support::service::Service;

on_each_database!(
    a_release_ends_no_stop_that_was_said_after_it_was_asked_for,
    an_emergency_goes_past_no_stop_that_was_said_after_it_was_asked_for,
    a_revert_goes_past_no_stop_that_was_said_after_it_was_asked_for,
);

async fn halt(api: &Api) -> Value {
    place_quiesced(api, "halt", json!({"type": "everything"})).await
}

async fn halted(database: &Database) -> (Service, String) {
    let service = Service::start(database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 100, 30).await;
    let first = halt(api).await;
    let again = halt(api).await;
    assert_eq!(first["id"], again["id"], "nobody has asked for anything");
    (service, first["id"].as_str().unwrap().to_owned())
}

/// The same person says the same again: a hold of its own, and one more does not make one more.
async fn stop_again(api: &Api, first: &str) -> String {
    let second = halt(api).await;
    let id = second["id"].as_str().unwrap().to_owned();
    assert_ne!(id, first, "{second:#}");
    assert_eq!(halt(api).await["id"], id.as_str());
    id
}

async fn check_halted(api: &Api, by: &str) {
    let view = view(api, "move").await;
    assert_eq!(view["status"], "halted", "{view:#}");
    let holds = view["holds"].as_array().unwrap();
    assert!(holds.iter().any(|hold| hold["id"] == by), "{view:#}");
}

async fn a_release_ends_no_stop_that_was_said_after_it_was_asked_for(database: Database) {
    let (service, first) = halted(&database).await;
    let api = &service.api;
    let digest = ready(api, &first).await;
    let second = stop_again(api, &first).await;
    // Whether the one that was asked about still ends, or must be looked at again: the other one stands.
    execute(api, &first, &digest).await;
    check_halted(api, &second).await;
    service.end_and_fsck();
}

async fn an_emergency_goes_past_no_stop_that_was_said_after_it_was_asked_for(database: Database) {
    let (service, first) = halted(&database).await;
    let api = &service.api;
    let who = people(api).await;
    let body = json!({"waves": [2], "minutes": 60, "incident": "INC-1", "reason": "the ward"});
    let asked = who.security.post("/v1/rollouts/move/emergencies", body);
    let asked = asked.await.ok();
    let second = stop_again(api, &first).await;
    let path = format!("/v1/emergencies/{}/confirm", asked["id"].as_str().unwrap());
    who.operations
        .post(&path, json!({"reason": "the ward"}))
        .await
        .refused(409, "emergency_holds_changed");
    check_halted(api, &second).await;
    service.end_and_fsck();
}

async fn a_revert_goes_past_no_stop_that_was_said_after_it_was_asked_for(database: Database) {
    let service = moved(&database, json!({})).await;
    let api = &service.api;
    let first = halt(api).await["id"].as_str().unwrap().to_owned();
    let who = people(api).await;
    let asked = ask(&who.asks, json!("all")).await.ok();
    let name = asked["rollout"].as_str().unwrap();
    let digest = asked["digest"].as_str().unwrap();
    yes(&who.security, name, digest).await.ok();
    yes(&who.operations, name, digest).await.ok();
    stop_again(api, &first).await;
    let begun = start(&who.asks, name, digest).await;
    assert!(begun.status >= 400, "{}", begun.text);
    assert_eq!(view(api, "move").await["totals"]["reverted"], 0);
    service.end_and_fsck();
}
