//! The emergency go-on: two custodians let one wave go on under a halt, and anybody stops it.

use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::release::people;
use crate::support::service::Service;
use crate::support::trail::{count, trail};
use crate::support::{on_each_database, until};

on_each_database!(
    an_emergency_moves_its_wave_under_a_halt_until_somebody_says_stop,
    a_killed_service_comes_back_and_knows_what_may_go_on,
    an_emergency_is_refused_to_whoever_may_not,
    a_freeze_asked_for_during_an_emergency_joins_nothing_that_something_goes_on_under,
);

/// A rollout whose second wave was halted on its way.
async fn halted(database: &Database) -> (Service, Value) {
    let service = Service::start(database);
    let api = &service.api;
    import(api, 20_000).await;
    sandbox(api, json!({"latency_ms": 40, "concurrency": 16})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 100, 60).await;
    let halt = halt(api).await;
    (service, halt)
}

async fn halt(api: &Api) -> Value {
    let scope = json!({"type": "everything"});
    let body = json!({"kind": "halt", "scope": scope, "reason": "state actor"});
    api.post("/v1/holds?wait=quiesced", body).await.ok()
}

async fn ask(api: &Api, wave: u32) -> Answer {
    let body = json!({"waves": [wave], "minutes": 60, "incident": "INC-1", "reason": "the ward"});
    api.post("/v1/rollouts/move/emergencies", body).await
}

async fn say(api: &Api, emergency: &Value, verb: &str) -> Answer {
    let id = emergency["id"].as_str().unwrap();
    let path = format!("/v1/emergencies/{id}/{verb}");
    api.post(&path, json!({"reason": "the ward"})).await
}

async fn done(api: &Api) -> u64 {
    let view = api.get("/v1/rollouts/move").await.ok();
    view["totals"]["done"].as_u64().unwrap()
}

async fn goes_on(api: &Api) {
    let before = done(api).await;
    until("people are moved", 30, async || done(api).await > before).await;
}

/// Nobody is on the way, and whoever looks at the hold is told that nobody can be.
async fn stands(api: &Api, hold: &Value) -> u64 {
    let path = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    until("it is quiet", 30, async || {
        api.get(&path).await.ok()["quiesced"] == true
    })
    .await;
    done(api).await
}

/// Where nobody was killed: nobody can send, and what had been answered before is written within a moment.
async fn settles(api: &Api, hold: &Value) -> u64 {
    stands(api, hold).await;
    until("what had come back is written", 10, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    done(api).await
}

/// What had gone on under a halt says under which newer one it stands still.
async fn says_that_it_stands_still(api: &Api, (path, second): (&str, &Value), running: &Value) {
    let still = api.get(path).await.ok();
    let sentence = still["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("stands still") && sentence.contains(second["id"].as_str().unwrap()),
        "{sentence}"
    );
    let emergency = format!("/v1/emergencies/{}", running["id"].as_str().unwrap());
    let shown = api.get(&emergency).await.ok();
    let sentence = shown["sentence"].as_str().unwrap();
    assert!(sentence.contains("stands still under halt"), "{sentence}");
}

async fn an_emergency_moves_its_wave_under_a_halt_until_somebody_says_stop(database: Database) {
    let (service, first) = halted(&database).await;
    let api = &service.api;
    let who = people(api).await;
    let stood = settles(api, &first).await;
    let asked = ask(&who.security, 2).await.ok();
    assert_eq!(asked["standing"], "asked");
    // What a release would wait for is said to whoever leaps over it.
    assert!(
        asked["leaps_over"]
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "{asked:#}"
    );
    assert_eq!(done(api).await, stood, "a question moves nobody");
    let running = say(&who.operations, &asked, "confirm").await.ok();
    assert_eq!(running["standing"], "running");
    // A drill knows who goes on although the halt stays.
    let drill = service.cli(&["resume", "move", "--dry-run"]);
    let drill = String::from_utf8_lossy(&drill.stdout).into_owned();
    let but = "nobody would go on but wave 2 under the emergency of incident INC-1 until";
    assert!(drill.contains(but), "{drill}");
    goes_on(api).await;
    let why = api.get("/v1/rollouts/move/report").await.ok();
    let lines = why["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["code"] == "exempt"), "{why:#}");
    // The halt stands, and does not say that it is quiet.
    let path = format!("/v1/holds/{}", first["id"].as_str().unwrap());
    let seen = api.get(&path).await.ok();
    assert!(
        seen["released_at"].is_null() && seen["quiesced"] == false,
        "{seen:#}"
    );

    // Somebody who knows of no emergency says stop: that is a halt of its own, and it is quiet.
    let second = halt(&who.security).await;
    assert_ne!(second["id"], first["id"]);
    assert_eq!(second["quiesced"], true, "{second:#}");
    // Nobody can send; what had been answered before is written within a moment.
    until("what had come back is written", 10, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    let at = done(api).await;
    says_that_it_stands_still(api, (&path, &second), &running).await;
    // Whoever says it again joins that one.
    assert_eq!(halt(api).await["id"], second["id"]);

    let ended = say(&who.security, &running, "end").await.ok();
    assert_eq!(ended["standing"], "review_due");
    assert_eq!(
        stands(api, &first).await,
        at,
        "nobody was moved after the second halt"
    );
    ask(&who.security, 2)
        .await
        .refused(409, "emergency_review_first");
    say(&who.operations, &running, "review")
        .await
        .refused(409, "emergency_custodian_reviews");
    say(&who.asks, &running, "review").await.ok();
    let again = ask(&who.operations, 2).await.ok();
    assert_eq!(
        again["holds"].as_array().unwrap().len(),
        2,
        "it names both halts"
    );
    say(&who.operations, &again, "end").await.ok();
    let entries = trail(api).await;
    let counts = ["ask", "confirm", "end", "review", "refused"]
        .map(|step| count(&entries, &format!("emergency.{step}")));
    assert_eq!(counts, [2, 1, 2, 1, 2]);
    service.end_and_fsck();
}

async fn a_killed_service_comes_back_and_knows_what_may_go_on(database: Database) {
    let (mut service, first) = halted(&database).await;
    let who = people(&service.api).await;
    let asked = ask(&who.operations, 2).await.ok();
    say(&who.security, &asked, "confirm").await.ok();
    goes_on(&service.api).await;
    service.kill();
    let service = Service::start_again(&database, &service.api.token);
    let api = &service.api;
    goes_on(api).await;
    // A pause is no halt, and stops it all the same.
    let pause =
        json!({"kind": "pause", "scope": {"type": "rollout", "id": "move"}, "reason": "look"});
    let paused = api.post("/v1/holds?wait=quiesced", pause).await.ok();
    assert_eq!(paused["quiesced"], true, "{paused:#}");
    let at = done(api).await;
    let security = api.with_token(&who.security.token);
    say(&security, &asked, "end").await.ok();
    assert_eq!(
        stands(api, &first).await,
        at,
        "nobody was moved after the pause"
    );
    service.end_and_fsck();
}

async fn an_emergency_is_refused_to_whoever_may_not(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 60, 60).await;
    let who = people(api).await;
    ask(&who.security, 2)
        .await
        .refused(409, "emergency_not_needed");
    halt(api).await;
    ask(api, 2).await.refused(409, "emergency_no_custodian");
    ask(&who.asks, 2)
        .await
        .refused(409, "emergency_no_custodian");
    ask(&who.security, 9)
        .await
        .refused(409, "emergency_waves_unknown");
    let auditor = api.as_role("auditor", "auditor").await;
    assert_eq!(ask(&auditor, 2).await.status, 403);
    let asked = ask(&who.security, 2).await.ok();
    ask(&who.security, 1)
        .await
        .refused(409, "emergency_wave_over");
    ask(&who.operations, 2)
        .await
        .refused(409, "emergency_another_open");
    say(&who.security, &asked, "confirm")
        .await
        .refused(409, "emergency_same_person");
    let made_for_it = api.as_role("late", "manager").await;
    say(&made_for_it, &asked, "confirm")
        .await
        .refused(409, "emergency_seat_too_new");
    let stop =
        json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "this too"});
    api.post("/v1/holds", stop).await.ok();
    say(&who.operations, &asked, "confirm")
        .await
        .refused(409, "emergency_holds_changed");
    let nobody = json!({"reason": "x"});
    let path = "/v1/emergencies/01a221a5-46be-736b-8ffb-74228c5b8818/confirm";
    assert_eq!(who.operations.post(path, nobody).await.status, 404);
    let shown = service.cli(&["emergency", "list", "move"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        text.contains("asked") && text.contains("leaps over"),
        "{text}"
    );
    service.end_and_fsck();
}

async fn a_freeze_asked_for_during_an_emergency_joins_nothing_that_something_goes_on_under(
    database: Database,
) {
    let (service, keeps) = halted(&database).await;
    let api = &service.api;
    let who = people(api).await;
    let freeze = async || {
        let scope = json!({"type": "everything"});
        let body =
            json!({"kind": "halt", "scope": scope, "reason": "touch nobody", "effect": "freeze"});
        api.post("/v1/holds?wait=quiesced", body).await.ok()
    };
    let first = freeze().await;
    assert_ne!(first["id"], keeps["id"], "more than the one in force does");
    let asked = ask(&who.security, 2).await.ok();
    say(&who.operations, &asked, "confirm").await.ok();
    goes_on(api).await;
    // A third one stands, so nothing goes on; the freeze must not join the one with the exemption all the same.
    let third = halt(api).await;
    let second = freeze().await;
    assert!(
        second["id"] != first["id"] && second["id"] != third["id"],
        "{second:#}"
    );
    assert_eq!(second["quiesced"], true, "{second:#}");
    assert_eq!(
        freeze().await["id"],
        second["id"],
        "and the next one joins it"
    );
    service.end_and_fsck();
}
