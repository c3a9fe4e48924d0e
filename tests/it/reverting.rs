//! People are asked back by chosen waves: a preview, a quorum, and both ledgers agree about what came of it.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::holds::{place, release_request};
use crate::support::on_each_database;
use crate::support::people::until_status;
use crate::support::release::people;
use crate::support::revert::{WHY, ask, by_wave, members, moved, start, taken_back, view, yes};
use crate::support::service::check_books;

on_each_database!(
    a_preview_says_of_everybody_what_becomes_of_them_and_writes_nothing,
    exactly_the_chosen_waves_are_taken_back_and_both_ledgers_say_so,
    waves_are_taken_back_the_last_one_first,
    only_people_who_match_are_taken_back,
    a_revert_is_refused_for_each_missing_piece,
    a_change_of_the_waves_voids_the_approvals,
    a_hold_that_freezes_people_already_moved_refuses_a_revert,
    the_command_line_takes_people_back,
    whoever_counts_as_taken_back_was_taken_back_by_a_revert,
    fsck_holds_both_ledgers_against_each_other,
);

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
        .refused(409, "moved_people_frozen");
    ask(&who.asks, json!([1]))
        .await
        .refused(409, "moved_people_frozen");
    let lifted = release_request(api, hold["id"].as_str().unwrap());
    send(lifted).await.ok();
    // Only halts are named by an approval: a pause that covers the revert stops it, whenever it was placed.
    let pause = place(api, "pause", json!({"type": "target", "id": "box"})).await;
    let second = ask(&who.asks, json!([1])).await.ok();
    assert_eq!(second["holds"], json!([]), "{second:#}");
    start(&who.asks, name, digest)
        .await
        .refused(409, "rollout_paused");
    send(release_request(api, pause["id"].as_str().unwrap()))
        .await
        .ok();
    start(&who.asks, name, digest).await.ok();
    until_status(api, name, "completed", 60).await;
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
