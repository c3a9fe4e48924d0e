//! Holds that race with whoever lifts them: what the lifter had not seen stands.

use futures_util::future::join;
use reqwest::Method;
use serde_json::json;

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::holds;
use crate::support::on_each_database;
use crate::support::service::Service;
use crate::support::{Random, seed};

on_each_database!(
    a_hold_that_was_joined_outlives_a_release_that_had_not_seen_it,
    of_two_who_start_at_once_one_does_and_the_halt_beside_them_stands,
);

/// How many races are run; a race takes a few milliseconds.
const RACES: u32 = 150;

/// Waits for some tens of microseconds, so that the calls meet at another place in every race.
async fn a_moment(micros: u64) {
    tokio::time::sleep(std::time::Duration::from_micros(micros)).await;
}

async fn release_if(api: &Api, id: &str, generation: &str) -> Answer {
    let request = api.request(Method::POST, &format!("/v1/holds/{id}/release"));
    let request = request.header("if-match", generation);
    send(request.json(&json!({"reason": "as I saw it"}))).await
}

async fn a_hold_that_was_joined_outlives_a_release_that_had_not_seen_it(database: Database) {
    let mut random = Random(seed());
    let service = Service::start(&database);
    let api = &service.api;
    let ann = api.as_role("ann", "manager").await;
    let bob = api.as_role("bob", "manager").await;
    let everything = json!({"type": "everything"});
    let mut joined = 0;
    for race in 0..RACES {
        let first = holds::place(&ann, "pause", everything.clone()).await;
        let id = first["id"].as_str().unwrap();
        let seen = format!("\"{}\"", first["generation"]);
        let (one, other) = (random.below(6_000), random.below(6_000));
        let (released, second) = join(
            async {
                a_moment(one).await;
                release_if(&ann, id, &seen).await
            },
            async {
                a_moment(other).await;
                holds::place(&bob, "pause", everything.clone()).await
            },
        )
        .await;
        joined += u32::from(second["id"] == first["id"]);
        let left = holds::in_force(api).await;
        let ids: Vec<_> = left.iter().map(|hold| hold["id"].clone()).collect();
        assert_eq!(
            ids,
            [second["id"].clone()],
            "race {race}: bob was told that it stands; the release said {} {}",
            released.status,
            released.text
        );
        holds::lift_all(api).await;
    }
    println!("{joined} of {RACES} joined first");
    assert!(
        joined > 0 && joined < RACES,
        "both orders were met: {joined}"
    );
}

async fn of_two_who_start_at_once_one_does_and_the_halt_beside_them_stands(database: Database) {
    let mut random = Random(seed());
    let service = Service::start(&database);
    let api = &service.api;
    let security = api.as_role("ann", "security").await;
    crate::support::people::import(api, 20).await;
    crate::support::people::sandbox(api, json!({})).await;
    for race in 0..RACES / 5 {
        let name = format!("race-{race}");
        let spec = crate::support::people::two_waves();
        let spec = spec.replace("rollout: move", &format!("rollout: {name}"));
        let spec = spec.replace("count: 50", "count: 5");
        let plan = crate::support::people::planned(api, &spec).await;
        let start = async || {
            let body = json!({"digest": plan["digest"]});
            api.post(&format!("/v1/rollouts/{name}/start"), body).await
        };
        let wait = random.below(8_000);
        let halt = async {
            a_moment(wait).await;
            let scope = json!({"type": "rollout", "id": name});
            holds::place_quiesced(&security, "halt", scope).await
        };
        let resume = async {
            a_moment(wait / 2).await;
            let path = format!("/v1/rollouts/{name}/resume");
            api.post(&path, json!({"reason": "go on"})).await
        };
        let ((one, two), (placed, _)) = join(join(start(), start()), join(halt, resume)).await;
        // A double click is one start: the second is told so, and changes nothing.
        let before = api.get(&format!("/v1/rollouts/{name}")).await.ok();
        let subject = format!("rollout:{}", before["id"].as_str().unwrap());
        let trail = api.get("/v1/audit?last=200&limit=200").await.ok();
        let starts = trail["items"].as_array().unwrap().iter().filter(|entry| {
            entry["action"] == "rollout.started" && entry["subject"] == subject.as_str()
        });
        let said = format!("{} {}", one.text, two.text);
        let is_started = one.status < 300 || two.status < 300;
        assert_eq!(
            starts.count(),
            usize::from(is_started),
            "race {race}: {said}"
        );
        let is_over = before["lifecycle"] == "completed";
        assert!(is_over || before["status"] == "halted", "{before:#}");
        a_moment(20_000).await;
        let after = api.get(&format!("/v1/rollouts/{name}")).await.ok();
        assert_eq!(after["totals"]["in_flight"], 0, "{after:#}");
        assert!(
            after["holds"]
                .as_array()
                .unwrap()
                .iter()
                .any(|hold| hold["id"] == placed["id"])
        );
    }
}
