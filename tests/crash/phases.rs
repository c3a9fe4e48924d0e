//! Kills while something other than sending is under way: import, plan, preparation, halt, release.

use std::time::Duration;

use serde_json::{Value, json};

use super::journal::Journal;
use super::{kills, number, people, random_moment, ready, restart};
use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::people::{
    EASY, csv, import, import_csv, planned, sandbox, started, two_waves, until_done, until_status,
};
use crate::support::service::{Service, check_books};
use crate::support::{Random, on_each_database, seed};

on_each_database!(
    a_killed_import_publishes_everybody_or_nobody,
    a_killed_plan_can_be_made_again,
    a_killed_preparation_goes_on_where_it_was,
    what_a_halt_or_a_release_was_told_is_there_after_the_kill,
    a_service_killed_in_its_first_moments_starts_again,
);

/// Rows of versions that were never published.
const STAGED: &str = "SELECT (SELECT COUNT(*) FROM population_version WHERE status <> 'published') \
    + (SELECT COUNT(*) FROM population_block WHERE version_id NOT IN (SELECT id FROM population_version)) \
    + (SELECT COUNT(*) FROM population_key WHERE version_id NOT IN (SELECT id FROM population_version)) \
    + (SELECT COUNT(*) FROM population_dictionary WHERE version_id NOT IN (SELECT id FROM population_version))";

/// Sends a request and kills the service meanwhile; `Some` with the answer when there was one.
async fn cut_short(
    service: &mut Service,
    random: &mut Random,
    within_ms: u64,
    request: reqwest::RequestBuilder,
) -> Option<(u16, Value)> {
    let asked = tokio::spawn(async move {
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json::<Value>().await.ok()?))
    });
    let wait = Duration::from_micros(random.below(within_ms * 1000 + 1));
    tokio::time::sleep(wait).await;
    restart(service);
    asked.await.unwrap()
}

fn post(api: &Api, path: &str, body: &Value) -> reqwest::RequestBuilder {
    api.request(reqwest::Method::POST, path).json(body)
}

async fn a_killed_import_publishes_everybody_or_nobody(database: Database) {
    let mut random = Random(seed());
    let mut service = Service::start(&database);
    import(&service.api, 1_000).await;
    let mut members = 1_000;
    for round in 1..=8_u32 {
        let more = 20_000 + round * 1_000;
        let request = service
            .api
            .request(reqwest::Method::POST, "/v1/populations/staff/imports")
            .header("content-type", "text/csv")
            .body(csv(0..more));
        let answer = cut_short(&mut service, &mut random, 1_200, request).await;
        let population = service.api.get("/v1/populations/staff").await.ok();
        let found = population["current_version"]["member_count"].as_u64();
        let found = found.expect("a version is always current");
        match answer {
            Some((status, body)) => {
                assert!(status < 300, "{body:#}");
                assert_eq!(found, u64::from(more), "what was told is there");
            }
            None => assert!(found == members || found == u64::from(more), "{found}"),
        }
        members = found;
        assert_eq!(
            number(&database, STAGED).await,
            0,
            "nothing is left half-done"
        );
        let receiving = "SELECT COUNT(*) FROM population_import WHERE status = 'receiving'";
        assert_eq!(number(&database, receiving).await, 0);
    }
    import_csv(&service.api, csv(0..40_000)).await;
    let last = service
        .api
        .get("/v1/populations/staff/members/e0039999")
        .await;
    last.ok();
    service.end_and_fsck();
}

async fn a_killed_plan_can_be_made_again(database: Database) {
    let mut random = Random(seed());
    let mut service = Service::start(&database);
    import(&service.api, 30_000).await;
    sandbox(&service.api, json!({})).await;
    let first = planned(&service.api, &two_waves()).await;
    for _ in 0..8 {
        let request = post(&service.api, "/v1/rollouts/move/plan", &json!({}));
        cut_short(&mut service, &mut random, 400, request).await;
        let view = service.api.get("/v1/rollouts/move").await.ok();
        assert_eq!(view["lifecycle"], "planned", "{view:#}");
    }
    let again = service
        .api
        .post("/v1/rollouts/move/plan", json!({}))
        .await
        .ok();
    assert_eq!(
        again["digest"], first["digest"],
        "the same people in the same waves"
    );
    let body = json!({"digest": again["digest"]});
    service.api.post("/v1/rollouts/move/start", body).await.ok();
    let view = until_status(&service.api, "move", "completed", 60).await;
    assert_eq!(people(&view, "done"), 30_000);
    service.end_and_fsck();
}

async fn a_killed_preparation_goes_on_where_it_was(database: Database) {
    let mut random = Random(seed());
    let mut service = Service::start(&database);
    import(&service.api, 60_000).await;
    sandbox(&service.api, json!({})).await;
    // Each wave is laid out by a step of its own.
    let mut spec = String::from("rollout: move\npopulation: staff\ntarget: box\nwaves:\n");
    for wave in 0..40 {
        spec += &format!("  - {{name: w{wave}, count: 1000, {EASY}}}\n");
    }
    spec += "  - {name: rest, rest: true}\n";
    let plan = planned(&service.api, &spec).await;
    let digest = json!({"digest": plan["digest"]});
    service
        .api
        .post("/v1/rollouts/move/start", digest)
        .await
        .ok();
    let mut interrupted = 0;
    for _ in 0..12 {
        random_moment(&mut random, 0, 60).await;
        let view = service.api.get("/v1/rollouts/move").await.ok();
        interrupted += u32::from(view["lifecycle"] == "preparing");
        restart(&mut service);
    }
    println!("{interrupted} kills in the preparation");
    let view = until_status(&service.api, "move", "completed", 120).await;
    assert_eq!(people(&view, "done"), 60_000);
    assert_eq!(number(&database, "SELECT COUNT(*) FROM wave").await, 41);
    service.end_and_fsck();
}

async fn what_a_halt_or_a_release_was_told_is_there_after_the_kill(database: Database) {
    let mut random = Random(seed());
    let everybody = 40_000;
    let journal = Journal::new(&database);
    let mut service = Service::start(&database);
    import(&service.api, everybody).await;
    sandbox(&service.api, journal.settings(10, 8)).await;
    started(&service.api, &two_waves()).await;
    until_done(&service.api, "move", 60, 60).await;
    let (mut told, rounds) = (0, kills(20).min(200));
    for round in 0..rounds {
        let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": format!("drill {round}")});
        let request = post(&service.api, "/v1/holds", &halt);
        let answer = cut_short(&mut service, &mut random, 25, request).await;
        let held = in_force(&service.api).await;
        if let Some((status, body)) = answer {
            assert!(status < 300, "{body:#}");
            assert_eq!(held, [body["id"].as_str().unwrap()], "round {round}");
            told += 1;
        }
        let Some(id) = held.first() else { continue };
        let known = journal.len();
        random_moment(&mut random, 0, 100).await;
        assert_eq!(
            journal.len(),
            known,
            "nobody is sent under a halt, also by the next process"
        );
        let digest = crate::support::release::ready(&service.api, id).await;
        let release = json!({"reason": "the drill is over", "digest": digest});
        let request = post(&service.api, &format!("/v1/holds/{id}/release"), &release);
        let answer = cut_short(&mut service, &mut random, 25, request).await;
        let held = in_force(&service.api).await;
        if answer.is_some_and(|(status, _)| status < 300) {
            assert!(held.is_empty(), "round {round}: released is released");
            continue;
        }
        if held.is_empty() {
            continue;
        }
        assert_eq!(held, [id.as_str()]);
        // What was approved still stands, unless what had been under way was written meanwhile.
        let again = crate::support::release::execute(&service.api, id, &digest).await;
        if again.status >= 300 {
            crate::support::release::halt(&service.api, id).await;
        }
    }
    println!("{told} of {rounds} halts were told before the kill");
    let moved = people(&service.api.get("/v1/rollouts/move").await.ok(), "done");
    assert!(moved < u64::from(everybody), "the halts met work");
    service.kill();
    check_books(&database);
}

/// Returns the ids of the holds in force.
async fn in_force(api: &Api) -> Vec<String> {
    let page = api.get("/v1/holds?in_force=true&limit=100").await.ok();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let id = |hold: &Value| hold["id"].as_str().unwrap_or_default().to_owned();
    items.iter().map(id).collect()
}

async fn a_service_killed_in_its_first_moments_starts_again(database: Database) {
    let mut random = Random(seed());
    let mut token = None;
    for _ in 0..10 {
        let wait = Duration::from_millis(random.below(120));
        token = token.or(crate::support::service::killed_at_start(&database, wait));
    }
    let service = Service::start_again(&database, &token.unwrap_or_default());
    assert_eq!(ready(&service.api).await, 200);
    service.end_and_fsck();
}
