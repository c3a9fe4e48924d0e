//! People are taken back by chosen waves, after a preview and a quorum, and both ledgers agree about it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::database::Database;
use crate::support::holds::{place, release_request};
use crate::support::on_each_database;
use crate::support::people::{
    EASY, csv, import, import_csv, sandbox, started, two_waves, until_done, until_status,
};
use crate::support::release::{People, people};
use crate::support::service::{Service, check_books};
use crate::support::until;

on_each_database!(
    a_preview_says_of_everybody_what_becomes_of_them_and_writes_nothing,
    exactly_the_chosen_waves_are_taken_back_and_both_ledgers_say_so,
    waves_are_taken_back_the_last_one_first,
    only_people_who_match_are_taken_back,
    a_revert_is_refused_for_each_missing_piece,
    a_change_of_the_waves_voids_the_approvals,
    nobody_is_taken_back_while_somebody_of_the_wave_is_under_way,
    a_hold_that_freezes_people_already_moved_refuses_a_revert,
    a_gate_that_fails_on_the_way_back_leaves_the_other_waves_where_they_are,
    a_killed_process_loses_nobody_on_the_way_back,
    a_halt_that_the_approval_named_does_not_stop_a_revert_and_a_later_one_does,
    a_wave_that_is_taken_back_begins_nobody_meanwhile,
    a_revert_keeps_its_people_when_others_are_imported,
    a_cancelled_revert_lets_go_of_its_waves,
    the_command_line_takes_people_back,
    fsck_holds_both_ledgers_against_each_other,
    whoever_counts_as_taken_back_was_taken_back_by_a_revert,
    people_who_came_into_a_wave_late_are_taken_back_like_all_others,
);

const WHY: &str = "the vendor was breached";

/// A finished rollout `move` of 2,000 people: a canary of 50, then the rest.
async fn moved(database: &Database, settings: Value) -> Service {
    let service = Service::start(database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, settings).await;
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 60).await;
    service
}

async fn ask(api: &Api, waves: Value) -> Answer {
    let body = json!({"waves": waves, "reason": WHY});
    api.post("/v1/rollouts/move/revert", body).await
}

async fn yes(api: &Api, revert: &str, digest: &str) -> Answer {
    let body = json!({"digest": digest, "reason": "looked at all of it"});
    let path = format!("/v1/rollouts/{revert}/revert-approvals");
    api.post(&path, body).await
}

async fn start(api: &Api, revert: &str, digest: &str) -> Answer {
    let body = json!({"digest": digest});
    api.post(&format!("/v1/rollouts/{revert}/start"), body)
        .await
}

/// Asks, has two say yes, and starts; returns the name of the revert.
async fn taken_back(who: &People, wish: Value) -> String {
    let asked = who.asks.post("/v1/rollouts/move/revert", wish).await.ok();
    let name = asked["rollout"].as_str().unwrap().to_owned();
    let digest = asked["digest"].as_str().unwrap();
    yes(&who.security, &name, digest).await.ok();
    let ready = yes(&who.operations, &name, digest).await.ok();
    assert_eq!(ready["status"], "ready", "{ready:#}");
    start(&who.asks, &name, digest).await.ok();
    name
}

async fn view(api: &Api, rollout: &str) -> Value {
    api.get(&format!("/v1/rollouts/{rollout}")).await.ok()
}

/// How many people of each wave are in a state.
fn by_wave(view: &Value, state: &str) -> Vec<u64> {
    let waves = view["waves"].as_array().unwrap().iter();
    waves
        .map(|wave| wave["counts"][state].as_u64().unwrap())
        .collect()
}

async fn members(api: &Api, rollout: &str, query: &str) -> Vec<Value> {
    let path = format!("/v1/rollouts/{rollout}/members?limit=1000&{query}");
    let page = api.get(&path).await.ok();
    page["items"].as_array().cloned().unwrap()
}

async fn a_preview_says_of_everybody_what_becomes_of_them_and_writes_nothing(database: Database) {
    let settings = json!({"failure_ppm": 20_000, "review_ppm": 10_000});
    let service = moved(&database, settings).await;
    let api = &service.api;
    let before = view(api, "move").await;
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let body = json!({"waves": "all", "reason": WHY, "dry_run": true});
    let preview = api.post("/v1/rollouts/move/revert", body.clone()).await;
    assert_eq!(preview.status, 200);
    let preview = preview.ok();
    assert_eq!(preview["status"], "preview", "{preview:#}");
    assert_eq!(preview["people"], before["totals"]["done"]);
    let waves = preview["waves"].as_array().unwrap();
    let origins: Vec<_> = waves.iter().map(|wave| wave["origin"].clone()).collect();
    assert_eq!(origins, [2, 1], "the last one first");
    for (wave, origin) in waves.iter().zip([1, 0]) {
        let counts = &before["waves"][origin]["counts"];
        assert_eq!(wave["people"], counts["done"]);
        let not: BTreeMap<&str, u64> = wave["not_taken_back"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                (
                    one["code"].as_str().unwrap(),
                    one["people"].as_u64().unwrap(),
                )
            })
            .collect();
        let of = |code: &str| not.get(code).copied().unwrap_or(0);
        assert_eq!(of("not_moved"), counts["failed"].as_u64().unwrap());
        assert_eq!(of("needs_decision"), counts["review"].as_u64().unwrap());
    }
    let again = api.post("/v1/rollouts/move/revert", body).await.ok();
    assert_eq!(
        again["digest"], preview["digest"],
        "the same people, the same digest"
    );
    let rollouts = api.get("/v1/rollouts").await.ok();
    assert_eq!(rollouts["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        api.get("/v1/audit?limit=1000").await.ok(),
        trail,
        "nothing is written"
    );
    service.end_and_fsck();
}

async fn exactly_the_chosen_waves_are_taken_back_and_both_ledgers_say_so(database: Database) {
    let service = moved(&database, json!({"failure_ppm": 5_000})).await;
    let api = &service.api;
    let who = people(api).await;
    let before = view(api, "move").await;
    let name = taken_back(&who, json!({"waves": [2], "reason": WHY})).await;
    assert_eq!(name, "move-revert-1");
    let back = until_status(api, &name, "completed", 60).await;
    let rest = by_wave(&before, "done")[1];
    assert_eq!(back["totals"]["done"], rest);
    let sentence = back["takes_back"]["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("takes back: move, wave 2; 1,9"),
        "{sentence}"
    );
    let after = view(api, "move").await;
    assert_eq!(by_wave(&after, "reverted"), [0, rest]);
    assert_eq!(by_wave(&after, "done"), [by_wave(&before, "done")[0], 0]);
    assert_eq!(by_wave(&after, "failed"), by_wave(&before, "failed"));
    assert_eq!(after["totals"]["people"], 2_000);
    assert_eq!(
        after["status"], "completed",
        "nothing else happens to the original"
    );
    // Each person knows by whom they were taken back, and had been exposed until then.
    let person = members(api, "move", "wave=2&state=reverted").await[7]["key"].clone();
    let path = format!("/v1/rollouts/move/members/{}", person.as_str().unwrap());
    let why = api.get(&path).await.ok();
    let sentence = why["why"].as_str().unwrap();
    assert!(
        sentence.starts_with("taken back by `move-revert-1` at 20"),
        "{sentence}"
    );
    let exposed = api.get("/v1/rollouts/move/exposure").await.ok();
    assert_eq!(
        exposed["counts"]["exposed"], before["totals"]["done"],
        "{exposed:#}"
    );
    assert_eq!(exposed["unexplained"], 0, "{exposed:#}");
    service.end_and_fsck();
}

async fn waves_are_taken_back_the_last_one_first(database: Database) {
    let service = moved(&database, json!({})).await;
    let api = &service.api;
    let who = people(api).await;
    let name = taken_back(&who, json!({"waves": [1, 2], "reason": WHY})).await;
    let back = until_status(api, &name, "completed", 60).await;
    let names = back["waves"].as_array().unwrap().iter();
    let names: Vec<_> = names.map(|wave| wave["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["rest", "canary"]);
    assert_eq!(by_wave(&back, "done"), [1_950, 50]);
    assert_eq!(by_wave(&view(api, "move").await, "reverted"), [50, 1_950]);
    // Nobody is left to be taken back.
    ask(&who.asks, json!("all"))
        .await
        .refused(409, "revert_nobody");
    service.end_and_fsck();
}

async fn only_people_who_match_are_taken_back(database: Database) {
    let service = moved(&database, json!({})).await;
    let api = &service.api;
    let who = people(api).await;
    let wrong =
        json!({"waves": "all", "where": {"attribute": "shoe_size", "equals": "44"}, "reason": WHY});
    api.post("/v1/rollouts/move/revert", wrong)
        .await
        .refused(422, "where_invalid");
    let wish =
        json!({"waves": "all", "where": {"attribute": "country", "equals": "DE"}, "reason": WHY});
    let name = taken_back(&who, wish).await;
    let back = until_status(api, &name, "completed", 60).await;
    assert_eq!(back["totals"]["done"], 500);
    let after = view(api, "move").await;
    assert_eq!(
        (&after["totals"]["reverted"], &after["totals"]["done"]),
        (&json!(500), &json!(1_500))
    );
    // The others are still there, and can be taken back by another one.
    let rest = ask(&who.asks, json!("all")).await.ok();
    assert_eq!(rest["people"], 1_500);
    let shown = api
        .get("/v1/rollouts/move-revert-1/revert-approvals")
        .await
        .ok();
    let unmatched: u64 = shown["waves"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|wave| wave["not_taken_back"].as_array().unwrap())
        .filter(|one| one["code"] == "unmatched")
        .map(|one| one["people"].as_u64().unwrap())
        .sum();
    assert_eq!(unmatched, 1_500, "{shown:#}");
    service.end_and_fsck();
}

async fn a_revert_is_refused_for_each_missing_piece(database: Database) {
    let service = moved(&database, json!({})).await;
    let api = &service.api;
    let who = people(api).await;
    ask(api, json!([]))
        .await
        .refused(409, "revert_waves_missing");
    ask(api, json!("some"))
        .await
        .refused(409, "revert_waves_missing");
    ask(api, json!([7])).await.refused(409, "wave_unknown");
    let auditor = api.as_role("auditor", "auditor").await;
    ask(&auditor, json!([2])).await.refused(403, "forbidden");
    let gate = json!({"waves": [2], "gate": {"failures_at_most": "120%"}, "reason": WHY});
    api.post("/v1/rollouts/move/revert", gate)
        .await
        .refused(422, "spec_invalid");
    let asked = ask(&who.asks, json!([2])).await.ok();
    let (name, digest) = ("move-revert-1", asked["digest"].as_str().unwrap());
    let nothing = "0".repeat(64);
    start(&who.asks, name, digest)
        .await
        .refused(409, "revert_approvals_missing");
    yes(&who.security, name, &nothing)
        .await
        .refused(409, "revert_digest_differs");
    yes(&who.asks, name, digest)
        .await
        .refused(409, "revert_requester_approves");
    yes(api, name, digest).await.refused(409, "seat_missing");
    let late = api.as_role("late", "manager").await;
    yes(&late, name, digest).await.refused(409, "seat_too_new");
    yes(&who.security, name, digest).await.ok();
    let sentence = start(&who.asks, name, digest).await;
    let sentence = sentence.refused(409, "revert_approvals_missing");
    assert!(sentence.contains("nobody yet of operations"), "{sentence}");
    yes(&who.operations, name, digest).await.ok();
    start(&who.asks, name, &nothing)
        .await
        .refused(409, "revert_digest_differs");
    start(&auditor, name, digest)
        .await
        .refused(403, "forbidden");
    // A revert has the people it was asked for: nothing makes others of them.
    api.post(&format!("/v1/rollouts/{name}/plan"), json!({}))
        .await
        .refused(409, "revert_fixed");
    api.post(
        &format!("/v1/rollouts/{name}/revert"),
        json!({"waves": "all", "reason": WHY}),
    )
    .await
    .refused(409, "revert_of_a_revert");
    api.get(&format!("/v1/rollouts/{name}/exposure"))
        .await
        .refused(409, "revert_exposure");
    let other = json!({"digest": digest, "reason": "looked"});
    api.post("/v1/rollouts/move/revert-approvals", other)
        .await
        .refused(409, "not_a_revert");
    start(&who.asks, name, digest).await.ok();
    until_status(api, name, "completed", 60).await;
    yes(&who.security, name, digest)
        .await
        .refused(409, "revert_started");
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let refused: Vec<_> = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["action"] == "revert.refused")
        .map(|entry| entry["detail"]["code"].as_str().unwrap())
        .collect();
    for code in [
        "revert_approvals_missing",
        "revert_requester_approves",
        "seat_too_new",
    ] {
        assert!(refused.contains(&code), "{code}: {refused:?}");
    }
    service.end_and_fsck();
}

async fn a_change_of_the_waves_voids_the_approvals(database: Database) {
    let service = moved(&database, json!({})).await;
    let api = &service.api;
    let who = people(api).await;
    let asked = ask(&who.asks, json!([2])).await.ok();
    let (name, digest) = ("move-revert-1", asked["digest"].as_str().unwrap());
    yes(&who.security, name, digest).await.ok();
    yes(&who.operations, name, digest).await.ok();
    // Somebody of the roster counts as moved no longer.
    let person = members(api, "move", "wave=2&state=done").await[0]["key"].clone();
    let path = format!(
        "/v1/rollouts/move/members/{}/disprove",
        person.as_str().unwrap()
    );
    api.post(&path, json!({"reason": "never got a mailbox"}))
        .await
        .ok();
    start(&who.asks, name, digest)
        .await
        .refused(409, "revert_changed");
    let shown = api
        .get(&format!("/v1/rollouts/{name}/revert-approvals"))
        .await
        .ok();
    assert_eq!(shown["status"], "configuration_changed", "{shown:#}");
    let changed = shown["changed"][0].as_str().unwrap();
    assert!(changed.contains("`move`"), "{changed}");
    // Another target behind it voids them, too.
    let second = taken_back(&who, json!({"waves": [2], "reason": WHY})).await;
    let back = until_status(api, &second, "completed", 60).await;
    assert_eq!(
        back["totals"]["done"], 1_949,
        "whoever was disproved is nobody to take back"
    );
    service.end_and_fsck();
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

async fn a_hold_that_freezes_people_already_moved_refuses_a_revert(database: Database) {
    let service = moved(&database, json!({})).await;
    let api = &service.api;
    let who = people(api).await;
    let asked = ask(&who.asks, json!([2])).await.ok();
    let (name, digest) = ("move-revert-1", asked["digest"].as_str().unwrap());
    yes(&who.security, name, digest).await.ok();
    yes(&who.operations, name, digest).await.ok();
    let scope = json!({"type": "rollout", "id": "move"});
    let hold = json!({"kind": "pause", "scope": scope, "reason": "forensics", "effect": "freeze"});
    let hold = api.post("/v1/holds", hold).await.ok();
    start(&who.asks, name, digest)
        .await
        .refused(409, "revert_frozen");
    ask(&who.asks, json!([1]))
        .await
        .refused(409, "revert_frozen");
    let lifted = release_request(api, hold["id"].as_str().unwrap());
    crate::support::api::send(lifted).await.ok();
    start(&who.asks, name, digest).await.ok();
    until_status(api, name, "completed", 60).await;
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
    crate::support::api::send(release_request(api, pause["id"].as_str().unwrap()))
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
        json!({"waves": "all", "reason": WHY, "rate": {"per_second": 1_000}}),
    )
    .await;
    until_done(api, &name, 100, 30).await;
    // Half of them have left, and the places in the new file are others.
    import_csv(api, csv(1_000..4_000)).await;
    api.post(&format!("/v1/rollouts/{name}/drift"), json!({}))
        .await
        .refused(409, "revert_fixed");
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
    api.post(&format!("/v1/rollouts/{name}/cancel"), cancel)
        .await
        .ok();
    until("what was under way is written", 20, async || {
        view(api, &name).await["in_flight"] == 0
    })
    .await;
    let done = view(api, &name).await["totals"]["done"].clone();
    assert_eq!(view(api, "move").await["totals"]["reverted"], done);
    let rest = taken_back(&who, json!({"waves": [2], "reason": WHY})).await;
    let back = until_status(api, &rest, "completed", 60).await;
    assert_eq!(back["totals"]["done"], 1_950 - done.as_u64().unwrap());
    service.end_and_fsck();
}

async fn the_command_line_takes_people_back(database: Database) {
    let service = moved(&database, json!({})).await;
    let api = &service.api;
    let who = people(api).await;
    let run = |api: &Api, arguments: &[&str]| {
        let output = crate::support::service::cli(&api.url, &api.token, arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    };
    let preview = run(
        &who.asks,
        &[
            "revert",
            "move",
            "--waves",
            "1,2",
            "--reason",
            WHY,
            "--dry-run",
        ],
    );
    assert!(
        preview.contains("2,000 of `move` are taken back, in this preview"),
        "{preview}"
    );
    run(
        &who.asks,
        &[
            "revert",
            "move",
            "--all",
            "--reason",
            WHY,
            "--per-second",
            "5000",
        ],
    );
    let stands = run(&who.asks, &["revert-status", "move-revert-1"]);
    assert!(
        stands.contains("approvals are missing: 2 more people"),
        "{stands}"
    );
    let digest = stands
        .lines()
        .find_map(|line| line.strip_prefix("digest "))
        .unwrap();
    for who in [&who.security, &who.operations] {
        let yes = [
            "revert-approve",
            "move-revert-1",
            "--digest",
            digest,
            "--reason",
            "looked",
        ];
        run(who, &yes);
    }
    let begun = run(
        &who.asks,
        &[
            "revert-start",
            "move-revert-1",
            "--digest",
            digest,
            "--reason",
            "go",
        ],
    );
    assert!(begun.starts_with("takes back: move, waves 1, 2"), "{begun}");
    until_status(api, "move-revert-1", "completed", 60).await;
    let shown = run(&who.asks, &["status", "move-revert-1"]);
    assert!(shown.contains("2,000 of 2,000 taken back"), "{shown}");
    service.end_and_fsck();
}

async fn whoever_counts_as_taken_back_was_taken_back_by_a_revert(database: Database) {
    let mut service = moved(&database, json!({})).await;
    let who = people(&service.api).await;
    let name = taken_back(&who, json!({"waves": [1], "reason": WHY})).await;
    let back = until_status(&service.api, &name, "completed", 60).await;
    let back = back["id"].as_str().unwrap();
    service.stop();
    check_books(&database);
    // The revert is some other rollout now, which adds up by itself.
    database
        .execute(&format!(
            "UPDATE rollout SET reverts = NULL WHERE id = '{back}'"
        ))
        .await;
    let said = fsck(&database);
    assert!(said.contains("no revert has done it"), "{said}");
}

async fn fsck_holds_both_ledgers_against_each_other(database: Database) {
    let mut service = moved(&database, json!({})).await;
    let api = &service.api;
    let who = people(api).await;
    let name = taken_back(&who, json!({"waves": [1], "reason": WHY})).await;
    let back = until_status(api, &name, "completed", 60).await;
    let original = view(api, "move").await;
    let (back, original) = (
        back["id"].as_str().unwrap(),
        original["id"].as_str().unwrap(),
    );
    service.stop();
    check_books(&database);
    // The canary of the original counts as moved again, in every count: alone it would add up.
    database
        .execute(&format!(
            "UPDATE batch SET done = 50, reverted = 0, slots = (SELECT slots FROM batch b WHERE b.rollout_id = '{back}') \
             WHERE rollout_id = '{original}' AND wave_no = 1"
        ))
        .await;
    database
        .execute(&format!(
            "UPDATE wave SET done = 50, reverted = 0 WHERE rollout_id = '{original}' AND wave_no = 1"
        ))
        .await;
    let said = fsck(&database);
    assert!(
        said.contains("was taken back by a revert, and counts as done"),
        "{said}"
    );
}

/// What `tidegate fsck` finds in a store that is damaged.
fn fsck(database: &Database) -> String {
    let done = std::process::Command::new(crate::support::service::PROGRAM)
        .args(["fsck", "--database", &database.url])
        .output()
        .unwrap();
    assert!(!done.status.success(), "a damage is found");
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
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
    crate::support::release::halt(api, halt["id"].as_str().unwrap()).await;
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
