//! People on their way back: nobody is lost, nobody is begun meanwhile, and a stop stops it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::api::send;
use crate::support::database::Database;
use crate::support::holds::{place, release_request};
use crate::support::on_each_database;
use crate::support::people::{
    EASY, csv, import, import_csv, sandbox, started, two_waves, until_done, until_status,
};
use crate::support::release::{self, people};
use crate::support::revert::{WHY, ask, by_wave, members, moved, start, taken_back, view, yes};
use crate::support::service::{Service, check_books};
use crate::support::until;

on_each_database!(
    nobody_is_taken_back_while_somebody_of_the_wave_is_under_way,
    a_gate_that_fails_on_the_way_back_leaves_the_other_waves_where_they_are,
    a_killed_process_loses_nobody_on_the_way_back,
    a_halt_that_the_approval_named_does_not_stop_a_revert_and_a_later_one_does,
    a_wave_that_is_taken_back_begins_nobody_meanwhile,
    a_revert_keeps_its_people_when_others_are_imported,
    a_cancelled_revert_lets_go_of_its_waves,
    people_who_came_into_a_wave_late_are_taken_back_like_all_others,
    a_wave_that_had_passed_stays_passed_when_its_people_are_taken_back,
    people_of_a_dead_process_keep_nobody_from_being_taken_back,
    a_revert_is_not_given_up_while_somebody_may_be_taken_back_already,
);

/// The last word of a journal about everybody: true while they have an account.
fn journal(database: &Database) -> BTreeMap<String, bool> {
    let text = std::fs::read_to_string(database.file("journal.txt")).unwrap();
    let mut there = BTreeMap::new();
    for line in text.lines() {
        let (word, key) = line.split_once(' ').unwrap();
        assert_ne!(word, "twice", "{key} was created twice");
        there.insert(key.to_owned(), word == "created");
    }
    there
}

async fn nobody_is_taken_back_while_somebody_of_the_wave_is_under_way(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 40, "concurrency": 16})).await;
    started(api, &two_waves()).await;
    let who = people(api).await;
    until_done(api, "move", 200, 30).await;
    ask(&who.asks, json!([2]))
        .await
        .refused(409, "revert_in_flight");
    // The canary is through, and can be taken back while the rest goes on being moved.
    let name = taken_back(&who, json!({"waves": [1], "reason": WHY})).await;
    until_status(api, &name, "completed", 60).await;
    let done = until_status(api, "move", "completed", 90).await;
    assert_eq!(by_wave(&done, "reverted"), [50, 0]);
    assert_eq!(by_wave(&done, "done"), [0, 1_950]);
    service.end_and_fsck();
}

async fn a_gate_that_fails_on_the_way_back_leaves_the_other_waves_where_they_are(
    database: Database,
) {
    let service = moved(&database, json!({"back_failure_ppm": 100_000})).await;
    let api = &service.api;
    let who = people(api).await;
    let name = taken_back(&who, json!({"waves": "all", "reason": WHY})).await;
    until("the gate fails", 30, async || {
        view(api, &name).await["waves"][0]["state"] == "failed"
    })
    .await;
    until("nobody is under way", 30, async || {
        view(api, &name).await["in_flight"] == 0
    })
    .await;
    let back = view(api, &name).await;
    assert_eq!(back["waves"][1]["state"], "pending");
    let after = view(api, "move").await;
    assert_eq!(by_wave(&after, "reverted"), [0, by_wave(&back, "done")[0]]);
    let failed = by_wave(&back, "failed")[0];
    assert!(failed > 19, "more than one in a hundred: {failed}");
    let still = by_wave(&after, "done")[1];
    assert_eq!(
        still,
        1_950 - by_wave(&back, "done")[0],
        "whoever could not be taken back is still moved"
    );
    service.end_and_fsck();
}

async fn a_killed_process_loses_nobody_on_the_way_back(database: Database) {
    let granted = database.granted("journal.txt");
    let settings = json!({"journal": granted, "latency_ms": 5, "concurrency": 16});
    let mut service = moved(&database, settings).await;
    let who = people(&service.api).await;
    let name = taken_back(&who, json!({"waves": "all", "reason": WHY})).await;
    for part in [200, 600, 1_200] {
        until_done(&service.api, &name, part, 60).await;
        service.kill();
        check_books(&database);
        service = Service::start_again(&database, &service.api.token.clone());
    }
    let api = &service.api;
    let back = until_status(api, &name, "completed", 120).await;
    assert_eq!(back["totals"]["done"], 2_000, "{back:#}");
    assert_eq!(view(api, "move").await["totals"]["reverted"], 2_000);
    let there = journal(&database);
    assert_eq!(there.len(), 2_000);
    assert!(
        there.values().all(|there| !there),
        "nobody has an account any more"
    );
    service.end_and_fsck();
}

async fn a_halt_that_the_approval_named_does_not_stop_a_revert_and_a_later_one_does(
    database: Database,
) {
    let granted = database.granted("journal.txt");
    let settings = json!({"journal": granted, "latency_ms": 20, "concurrency": 8});
    let service = moved(&database, settings).await;
    let api = &service.api;
    let who = people(api).await;
    let first = place(api, "halt", json!({"type": "everything"})).await;
    let name = taken_back(&who, json!({"waves": "all", "reason": WHY})).await;
    let shown = api
        .get(&format!("/v1/rollouts/{name}/revert-approvals"))
        .await
        .ok();
    assert_eq!(shown["holds"], json!([first["id"]]), "{shown:#}");
    // Under a halt of everything it goes on, and says so.
    let going = until_done(api, &name, 200, 60).await;
    assert_eq!(going["status"], "running", "{going:#}");
    // Whoever says stop now needs no knowledge of it.
    let second = api
        .post(
            "/v1/holds?wait=quiesced",
            json!({"kind": "halt", "scope": {"type": "target", "id": "box"}, "reason": "stop this, too"}),
        )
        .await
        .ok();
    assert_eq!(second["quiesced"], true, "{second:#}");
    until("what was under way is written", 20, async || {
        view(api, &name).await["in_flight"] == 0
    })
    .await;
    let stopped = view(api, &name).await;
    assert_eq!(stopped["status"], "halted", "{stopped:#}");
    let lines = journal(&database).values().filter(|there| !**there).count();
    let done = stopped["totals"]["done"].as_u64().unwrap();
    assert!(done < 2_000, "it was stopped in the middle");
    // A new revert names both, and takes back the others.
    let cancel = json!({"reason": "the halt came first"});
    api.post(&format!("/v1/rollouts/{name}/cancel"), cancel)
        .await
        .ok();
    assert_eq!(view(api, "move").await["totals"]["reverted"], done);
    assert_eq!(
        lines as u64, done,
        "nobody was taken back after it was quiet"
    );
    let next = taken_back(&who, json!({"waves": "all", "reason": WHY})).await;
    let back = until_status(api, &next, "completed", 90).await;
    assert_eq!(back["totals"]["done"], 2_000 - done);
    assert_eq!(view(api, "move").await["totals"]["reverted"], 2_000);
    // The halts are as they were, and quiet again.
    let halt = format!("/v1/holds/{}", first["id"].as_str().unwrap());
    until("the halt is quiet again", 20, async || {
        let halt = api.get(&halt).await.ok();
        halt["released_at"].is_null() && halt["quiesced"] == true
    })
    .await;
    service.end_and_fsck();
}

async fn a_wave_that_is_taken_back_begins_nobody_meanwhile(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(
        api,
        json!({"latency_ms": 20, "concurrency": 8, "failure_ppm": 20_000}),
    )
    .await;
    let spec = format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: all, rest: true, {EASY}}}\n"
    );
    started(api, &spec).await;
    let who = people(api).await;
    until_done(api, "move", 300, 30).await;
    let pause = place(api, "pause", json!({"type": "rollout", "id": "move"})).await;
    until("nobody is under way", 20, async || {
        view(api, "move").await["in_flight"] == 0
    })
    .await;
    let before = view(api, "move").await;
    let done = before["totals"]["done"].as_u64().unwrap();
    let queued = before["totals"]["queued"].as_u64().unwrap();
    assert!(queued > 0, "somebody is left to be begun");
    let name = taken_back(
        &who,
        json!({"waves": [1], "reason": WHY, "rate": {"per_second": 100}}),
    )
    .await;
    // Let go, the wave begins nobody while its people are on the way back.
    send(release_request(api, pause["id"].as_str().unwrap()))
        .await
        .ok();
    let retry = json!({"reason": "again", "wave": 1});
    api.post("/v1/rollouts/move/retry", retry.clone())
        .await
        .refused(409, "revert_open");
    let person = members(api, "move", "state=done").await[0]["key"].clone();
    let path = format!(
        "/v1/rollouts/move/members/{}/disprove",
        person.as_str().unwrap()
    );
    api.post(&path, json!({"reason": "no"}))
        .await
        .refused(409, "revert_open");
    ask(&who.asks, json!([1])).await.refused(409, "revert_open");
    let report = api.get("/v1/rollouts/move/report").await.ok();
    assert_eq!(report["lines"][0]["code"], "taken_back", "{report:#}");
    let during = view(api, "move").await;
    assert_eq!(during["totals"]["queued"], queued, "{during:#}");
    assert_eq!(
        view(api, &name).await["lifecycle"],
        "running",
        "it was still under way"
    );
    until_status(api, &name, "completed", 60).await;
    // Afterwards the others go on, and whoever was taken back stays so.
    until("the others go on", 60, async || {
        view(api, "move").await["totals"]["queued"] == 0
            && view(api, "move").await["in_flight"] == 0
    })
    .await;
    let after = view(api, "move").await;
    assert_eq!(after["totals"]["reverted"], done, "{after:#}");
    service.end_and_fsck();
}

async fn a_revert_keeps_its_people_when_others_are_imported(database: Database) {
    let granted = database.granted("journal.txt");
    let settings = json!({"journal": granted, "latency_ms": 5, "concurrency": 16});
    let service = moved(&database, settings).await;
    let api = &service.api;
    let who = people(api).await;
    let name = taken_back(
        &who,
        json!({"waves": "all", "reason": WHY, "rate": {"per_second": 400}}),
    )
    .await;
    until_done(api, &name, 100, 30).await;
    // Half of them have left, and the places in the new file are others.
    import_csv(api, csv(1_000..4_000)).await;
    api.post(&format!("/v1/rollouts/{name}/drift"), json!({}))
        .await
        .refused(409, "revert_fixed");
    // Halted and released, it goes on where it was: nobody measures drift for it, and it does not begin small.
    let halt = place(api, "halt", json!({"type": "rollout", "id": name})).await;
    release::halt(api, halt["id"].as_str().unwrap()).await;
    let report = api
        .get(&format!("/v1/rollouts/{name}/report"))
        .await
        .ok()
        .to_string();
    assert!(!report.contains("tranche"), "{report}");
    let back = until_status(api, &name, "completed", 90).await;
    assert_eq!(back["totals"]["done"], 2_000);
    let there = journal(&database);
    assert!(there.len() == 2_000 && there.values().all(|there| !there));
    service.end_and_fsck();
}

async fn a_cancelled_revert_lets_go_of_its_waves(database: Database) {
    let service = moved(&database, json!({"latency_ms": 10, "concurrency": 8})).await;
    let api = &service.api;
    let who = people(api).await;
    // One that was never started has nothing to let go of, and cannot be started any more.
    let asked = ask(&who.asks, json!([1])).await.ok();
    let (never, digest) = ("move-revert-1", asked["digest"].as_str().unwrap());
    yes(&who.security, never, digest).await.ok();
    yes(&who.operations, never, digest).await.ok();
    let cancel = json!({"reason": "not now"});
    api.post(&format!("/v1/rollouts/{never}/cancel"), cancel.clone())
        .await
        .ok();
    start(&who.asks, never, digest)
        .await
        .refused(409, "revert_ended");
    let name = taken_back(
        &who,
        json!({"waves": [2], "reason": WHY, "rate": {"per_second": 200}}),
    )
    .await;
    until_done(api, &name, 50, 30).await;
    ask(&who.asks, json!([2])).await.refused(409, "revert_open");
    let pause = json!({"reason": "to cancel it"});
    api.post(&format!("/v1/rollouts/{name}/pause"), pause)
        .await
        .ok();
    until("what was under way is written", 20, async || {
        view(api, &name).await["totals"]["in_flight"] == 0
    })
    .await;
    api.post(&format!("/v1/rollouts/{name}/cancel"), cancel)
        .await
        .ok();
    let done = view(api, &name).await["totals"]["done"].clone();
    assert_eq!(view(api, "move").await["totals"]["reverted"], done);
    let rest = taken_back(&who, json!({"waves": [2], "reason": WHY})).await;
    let back = until_status(api, &rest, "completed", 60).await;
    assert_eq!(back["totals"]["done"], 1_950 - done.as_u64().unwrap());
    service.end_and_fsck();
}

async fn people_who_came_into_a_wave_late_are_taken_back_like_all_others(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    let spec = format!(
        "rollout: move\npopulation: staff\ntarget: box\nlate_joiners: matching_unfinished_wave\nwaves:\n\
         \x20 - {{name: germany, select: {{attribute: country, equals: DE}}, {EASY}}}\n\
         \x20 - {{name: america, select: {{attribute: country, equals: US}}, {EASY}}}\n\
         \x20 - {{name: others, rest: true}}\n"
    );
    started(api, &spec).await;
    until_done(api, "move", 520, 60).await;
    let halt = place(api, "halt", json!({"type": "rollout", "id": "move"})).await;
    until("what was under way is written", 20, async || {
        view(api, "move").await["in_flight"] == 0
    })
    .await;
    // Frenchmen whom nobody has begun become Americans: with places before, between and after all others.
    let moved_over = |line: &str| {
        let number = line.get(1..8).and_then(|text| text.parse::<u32>().ok());
        if number.is_some_and(|number| number % 40 == 1) {
            line.replace(",FR,", ",US,")
        } else {
            line.to_owned()
        }
    };
    let people_now: Vec<String> = csv(0..2_000).lines().map(moved_over).collect();
    import_csv(api, people_now.join("\n")).await;
    release::halt(api, halt["id"].as_str().unwrap()).await;
    let done = until_status(api, "move", "completed", 120).await;
    assert_eq!(by_wave(&done, "done"), [500, 550, 950], "{done:#}");
    let who = people(api).await;
    let name = taken_back(&who, json!({"waves": [2], "reason": WHY})).await;
    let back = until_status(api, &name, "completed", 60).await;
    assert_eq!(back["totals"]["done"], 550);
    for (key, wave) in [
        ("e0000001", "america"),
        ("e0001961", "america"),
        ("e0000002", "america"),
    ] {
        let there = api
            .get(&format!("/v1/rollouts/{name}/members/{key}"))
            .await
            .ok();
        assert_eq!(
            (&there["state"], &there["wave"]["name"]),
            (&json!("done"), &json!(wave)),
            "{there:#}"
        );
        let here = api
            .get(&format!("/v1/rollouts/move/members/{key}"))
            .await
            .ok();
        assert!(
            here["why"].as_str().unwrap().starts_with("taken back by"),
            "{here:#}"
        );
    }
    assert_eq!(by_wave(&view(api, "move").await, "reverted"), [0, 550, 0]);
    service.end_and_fsck();
}

/// Those who failed in it are all that is left of it, and must not be what it is judged by.
async fn a_wave_that_had_passed_stays_passed_when_its_people_are_taken_back(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    let settings = json!({"latency_ms": 40, "concurrency": 16, "failure_ppm": 60_000});
    sandbox(api, settings).await;
    let spec = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  \
        - {name: canary, count: 200, gate: {success_at_least: 80%, sample_at_least: 100}}\n  \
        - {name: rest, rest: true}\n";
    started(api, spec).await;
    let who = people(api).await;
    until("the second wave is under way", 60, async || {
        by_wave(&view(api, "move").await, "done")[1] > 50
    })
    .await;
    let halt =
        json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "stop"});
    let halt = api.post("/v1/holds?wait=quiesced", halt).await.ok();
    until("everybody has come back", 30, async || {
        view(api, "move").await["in_flight"] == 0
    })
    .await;
    let failed = by_wave(&view(api, "move").await, "failed")[0];
    assert!(failed > 0, "somebody failed in the canary");
    let name = taken_back(&who, json!({"waves": [1], "reason": WHY})).await;
    until_status(api, &name, "completed", 60).await;
    release::halt(api, halt["id"].as_str().unwrap()).await;
    let stands = view(api, "move").await;
    assert_eq!(stands["waves"][0]["state"], "passed", "{stands:#}");
    // Whoever failed in it can be tried again, and the ramp of the release does not wait for the others.
    let retry = json!({"reason": "mended", "wave": 1});
    api.post("/v1/rollouts/move/retry", retry).await.ok();
    let done = until_status(api, "move", "completed", 120).await;
    assert_eq!(by_wave(&done, "reverted"), [200 - failed, 0], "{done:#}");
    service.end_and_fsck();
}

/// Under a hold nobody claims what a dead process had under way, and so nobody finds out what became of it.
async fn people_of_a_dead_process_keep_nobody_from_being_taken_back(database: Database) {
    let mut service = Service::start(&database);
    import(&service.api, 2_000).await;
    sandbox(&service.api, json!({"latency_ms": 400, "concurrency": 64})).await;
    started(&service.api, &two_waves()).await;
    let who = people(&service.api).await;
    until_done(&service.api, "move", 150, 60).await;
    service.kill();
    let service = Service::start_again(&database, &service.api.token);
    let api = &service.api;
    let halt =
        json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "stop"});
    api.post("/v1/holds?wait=quiesced", halt).await.ok();
    let asks = api.with_token(&who.asks.token);
    until("their leases are over", 60, async || {
        ask(&asks, json!([2])).await.status < 300
    })
    .await;
    service.end_and_fsck();
}

async fn a_revert_is_not_given_up_while_somebody_may_be_taken_back_already(database: Database) {
    let settings = json!({"latency_ms": 300, "concurrency": 64});
    let mut service = moved(&database, settings).await;
    let who = people(&service.api).await;
    let name = taken_back(&who, json!({"waves": [2], "reason": WHY})).await;
    until_done(&service.api, &name, 60, 60).await;
    service.kill();
    let service = Service::start_again(&database, &service.api.token);
    let api = &service.api;
    let path = format!("/v1/rollouts/{name}/cancel");
    let cancel = json!({"reason": "enough"});
    api.post(&path, cancel)
        .await
        .refused(409, "revert_in_doubt");
    // It finds out what became of them, and everybody is in one state in both ledgers.
    until_status(api, &name, "completed", 120).await;
    assert_eq!(by_wave(&view(api, "move").await, "reverted"), [0, 1_950]);
    service.end_and_fsck();
}
