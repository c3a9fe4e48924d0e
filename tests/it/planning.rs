//! Plans: the same from the same, exact, honest about overlaps, and refused when they are stale.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{
    EASY, csv, import, import_csv, planned, sandbox, started, two_waves, until_status,
};
use crate::support::service::{Service, cli};

on_each_database!(
    the_same_spec_and_people_make_the_same_plan_everywhere,
    exact_sizes_are_exact,
    a_larger_count_takes_the_same_people_and_more,
    overlaps_are_reported_and_the_first_wave_keeps_them,
    excluded_and_pinned_people_are_where_the_spec_says,
    people_without_a_directory_id_never_get_a_place,
    a_plan_is_refused_when_the_people_have_changed,
    a_plan_is_refused_when_the_spec_was_revised,
    only_the_digest_that_was_looked_at_starts,
    a_started_rollout_keeps_its_spec_and_plan,
    starting_twice_is_starting_once,
    a_stale_plan_ends_the_command_with_code_five,
);

async fn plan(api: &Api, name: &str) -> Value {
    api.post(&format!("/v1/rollouts/{name}/plan"), json!({}))
        .await
        .ok()
}

async fn start(api: &Api, digest: &Value) -> Answer {
    api.post("/v1/rollouts/move/start", json!({"digest": digest}))
        .await
}

async fn revise(api: &Api, spec: &str) -> Answer {
    let seen = api.get("/v1/rollouts/move").await.etag();
    revise_if(api, &seen, spec).await
}

async fn revise_if(api: &Api, seen: &str, spec: &str) -> Answer {
    let request = api
        .request(Method::PUT, "/v1/rollouts/move")
        .header("if-match", seen);
    send(
        request
            .header("content-type", "application/yaml")
            .body(spec.to_owned()),
    )
    .await
}

async fn keys_of_wave(api: &Api, wave: u32) -> BTreeSet<String> {
    let path = format!("/v1/rollouts/move/members?wave={wave}&limit=1000");
    let page = api.get(&path).await.ok();
    assert_eq!(page["next_cursor"], Value::Null);
    page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["key"].as_str().unwrap().to_owned())
        .collect()
}

async fn the_same_spec_and_people_make_the_same_plan_everywhere(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({})).await;
    let first = planned(api, &two_waves()).await;
    let again = plan(api, "move").await;
    assert_eq!(again["digest"], first["digest"]);
    assert_eq!(
        again["plan_id"], first["plan_id"],
        "the same plan is not kept twice"
    );
    // The same people in another order, and a comment in the spec: nothing has changed.
    let text = csv(0..2_000);
    let (head, rows) = text.split_once('\n').unwrap();
    let turned: String = rows.lines().rev().map(|line| format!("{line}\n")).collect();
    import_csv(api, format!("{head}\n{turned}")).await;
    revise(api, &format!("# a comment\n{}", two_waves()))
        .await
        .ok();
    let other = plan(api, "move").await;
    assert_eq!(
        other["digest"], first["digest"],
        "neither order nor comments matter"
    );
    // Written down, so that no release and no database makes another one.
    assert_eq!(
        first["digest"],
        "57125c04895bc0a56600d16fc08bf03112b2f9e95d2973efc00e40d12f671899"
    );
}

async fn exact_sizes_are_exact(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_003).await;
    sandbox(api, json!({})).await;
    let spec = format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: a, count: 1, {EASY}}}\n  - {{name: b, count: 249, {EASY}}}\n  \
         - {{name: c, size: 10%, {EASY}}}\n  - {{name: d, size: 999ppm, {EASY}}}\n  - {{name: e, rest: true}}\n"
    );
    let plan = planned(api, &spec).await;
    let sizes: Vec<u64> = plan["waves"]
        .as_array()
        .unwrap()
        .iter()
        .map(|wave| wave["people"].as_u64().unwrap())
        .collect();
    assert_eq!(
        sizes,
        [1, 249, 100, 1, 652],
        "shares are of everybody who is to be moved, rounded down"
    );
    assert_eq!(
        (&plan["people"], &plan["unassigned"]),
        (&json!(1_003), &json!(0))
    );
    let impossible = spec
        .replace("count: 249", "count: 1003")
        .replace("rollout: move", "rollout: never");
    api.post_text("/v1/rollouts", "application/yaml", impossible)
        .await
        .ok();
    let refused = api.post("/v1/rollouts/never/plan", json!({})).await;
    refused.refused(422, "plan_refused");
    assert!(
        refused.text.contains("1,002"),
        "says how many there are: {}",
        refused.text
    );
}

async fn a_larger_count_takes_the_same_people_and_more(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 900).await;
    sandbox(api, json!({"latency_ms": 1000})).await;
    let spec = |count: u32| two_waves().replace("count: 50", &format!("count: {count}"));
    let mut before = BTreeSet::new();
    for count in [50, 51, 400] {
        let name = format!("r{count}");
        let text = spec(count).replace(
            "rollout: move",
            &format!("rollout: {name}\norder: {{salt: s}}"),
        );
        let plan = planned(api, &text).await;
        api.post(
            &format!("/v1/rollouts/{name}/start"),
            json!({"digest": plan["digest"]}),
        )
        .await
        .ok();
        until_status(api, &name, "running", 20).await;
        let page = api
            .get(&format!("/v1/rollouts/{name}/members?wave=1&limit=1000"))
            .await
            .ok();
        let keys: BTreeSet<String> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["key"].to_string())
            .collect();
        assert_eq!(keys.len(), count as usize);
        assert!(before.is_subset(&keys), "{count} leaves somebody out");
        before = keys;
    }
}

async fn overlaps_are_reported_and_the_first_wave_keeps_them(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_200).await;
    sandbox(api, json!({})).await;
    let spec = format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: it, select: {{attribute: department, equals: IT}}, {EASY}}}\n  \
         - {{name: germany, select: {{attribute: country, equals: DE}}, {EASY}}}\n"
    );
    let plan = planned(api, &spec).await;
    assert_eq!(plan["waves"][0]["people"], 400);
    assert_eq!(
        plan["waves"][1]["people"], 200,
        "a third of the 300 Germans are in IT"
    );
    assert_eq!(plan["unassigned"], 600);
    let overlaps = plan["overlaps"].to_string();
    assert!(
        overlaps.contains("100") && overlaps.contains("germany") && overlaps.contains("`it`"),
        "{overlaps}"
    );
}

async fn excluded_and_pinned_people_are_where_the_spec_says(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 400).await;
    sandbox(api, json!({})).await;
    let spec = format!(
        "rollout: move\npopulation: staff\ntarget: box\nexclude: {{attribute: country, equals: US}}\npins:\n  \
         - {{keys: [e0000001, e0000004], wave: canary}}\n  - {{keys: [e0000005], out: true}}\nwaves:\n  \
         - {{name: canary, count: 10, {EASY}}}\n  - {{name: rest, rest: true}}\n"
    );
    let plan = started(api, &spec).await;
    assert_eq!(plan["totals"]["people"], 299);
    until_status(api, "move", "completed", 30).await;
    let canary = keys_of_wave(api, 1).await;
    assert_eq!(canary.len(), 10);
    assert!(
        canary.contains("e0000001") && canary.contains("e0000004"),
        "{canary:?}"
    );
    for out in ["e0000002", "e0000005"] {
        let person = api
            .get(&format!("/v1/rollouts/move/members/{out}"))
            .await
            .ok();
        assert_eq!(person["state"], "not_in_rollout", "{person}");
        assert_eq!(person["wave"], Value::Null);
    }
}

async fn people_without_a_directory_id_never_get_a_place(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    let mut text = csv(0..50);
    text.push_str(
        ",x@example.test,A,B,x@example.test,DE,IT\n \t,x@example.test,A,B,x@example.test,DE,IT\n",
    );
    let done = import_csv(api, text).await;
    assert_eq!(
        (&done["rows_bad"], &done["version"]["member_count"]),
        (&json!(2), &json!(50))
    );
    sandbox(api, json!({})).await;
    let spec = "rollout: move\npopulation: staff\ntarget: box\nwaves: [{name: all, rest: true}]\n";
    assert_eq!(planned(api, spec).await["people"], 50);
}

async fn a_plan_is_refused_when_the_people_have_changed(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({})).await;
    let old = planned(api, &two_waves()).await;
    import_csv(api, csv(10..1_050)).await;
    let refused = start(api, &old["digest"]).await;
    refused.refused(409, "plan_stale");
    let changes = refused.body["errors"].to_string();
    assert!(
        changes.contains("1,000 before, 1,040 now"),
        "says what changed: {changes}"
    );
    assert!(changes.contains("`rest`"), "and in which wave: {changes}");
    assert_eq!(api.get("/v1/rollouts/move").await.ok()["status"], "planned");
    let new = plan(api, "move").await;
    start(api, &old["digest"]).await.refused(409, "plan_stale");
    start(api, &new["digest"]).await.ok();
    assert_eq!(
        until_status(api, "move", "completed", 30).await["totals"]["done"],
        1_040
    );
}

async fn a_plan_is_refused_when_the_spec_was_revised(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({})).await;
    let old = planned(api, &two_waves()).await;
    let view = revise(api, &two_waves().replace("count: 50", "count: 60"))
        .await
        .ok();
    assert_eq!(view["status"], "draft", "a new spec has no plan yet");
    start(api, &old["digest"])
        .await
        .refused(409, "plan_missing");
    let new = plan(api, "move").await;
    assert_ne!(new["digest"], old["digest"]);
    start(api, &old["digest"]).await.refused(409, "plan_stale");
    let renamed = revise(api, &two_waves().replace("rollout: move", "rollout: other")).await;
    renamed.refused(422, "rollout_differs");
}

async fn only_the_digest_that_was_looked_at_starts(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    let spec = two_waves();
    api.post_text("/v1/rollouts", "application/yaml", spec)
        .await
        .ok();
    let zeros = json!("0".repeat(64));
    start(api, &zeros).await.refused(409, "plan_missing");
    let plan = plan(api, "move").await;
    start(api, &zeros).await.refused(409, "plan_stale");
    for nonsense in ["", "abc", "zz", &"0".repeat(63), &"g".repeat(64)] {
        start(api, &json!(nonsense))
            .await
            .refused(422, "digest_invalid");
    }
    start(api, &plan["digest"]).await.ok();
}

async fn a_started_rollout_keeps_its_spec_and_plan(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({"latency_ms": 500})).await;
    started(api, &two_waves()).await;
    let other = two_waves().replace("count: 50", "count: 60");
    // The rollout moves on while somebody reads it: read it again, as the refusal says.
    let mut refused = revise(api, &other).await;
    while refused.status == 412 {
        refused = revise(api, &other).await;
    }
    refused.refused(409, "already_started");
    api.post("/v1/rollouts/move/plan", json!({}))
        .await
        .refused(409, "already_started");
    let view = until_status(api, "move", "completed", 30).await;
    api.post("/v1/rollouts/move/plan", json!({}))
        .await
        .refused(409, "rollout_over");
    start(api, &view["plan_digest"])
        .await
        .refused(409, "rollout_over");
    let cancel = api
        .post("/v1/rollouts/move/cancel", json!({"reason": "late"}))
        .await;
    cancel.refused(409, "rollout_over");
}

async fn starting_twice_is_starting_once(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 500).await;
    sandbox(api, json!({"latency_ms": 50})).await;
    let plan = planned(api, &two_waves()).await;
    let starts = futures_util::future::join_all((0..10).map(|_| start(api, &plan["digest"]))).await;
    assert!(
        starts.iter().all(|answer| answer.status == 202),
        "{:?}",
        starts.iter().map(|answer| &answer.text).collect::<Vec<_>>()
    );
    let audit = api.get("/v1/audit?limit=1000").await.ok();
    let entries = audit["items"].as_array().unwrap();
    let started = entries.iter().filter(|entry| {
        entry["action"]
            .as_str()
            .is_some_and(|action| action.ends_with("started"))
    });
    assert_eq!(started.count(), 1, "{entries:#?}");
    assert_eq!(
        until_status(api, "move", "completed", 30).await["totals"]["done"],
        500
    );
    service.end_and_fsck();
}

async fn a_stale_plan_ends_the_command_with_code_five(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({})).await;
    let (spec, out) = (database.file("move.yaml"), database.file("plan.json"));
    std::fs::write(&spec, two_waves()).unwrap();
    let (spec, out) = (spec.to_str().unwrap(), out.to_str().unwrap());
    let run = |arguments: &[&str]| cli(&api.url, &api.token, arguments);
    assert!(run(&["plan", spec, "--out", out]).status.success());
    import_csv(api, csv(0..1_001)).await;
    let refused = run(&["apply", out, "--reason", "go"]);
    assert_eq!(refused.status.code(), Some(5));
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(
        text.contains("plan_stale") && text.contains("1,001 now") && text.contains("tidegate plan"),
        "{text}"
    );
    let differs = run(&["plan", spec, "--exit-code", "--out", out]);
    assert_eq!(differs.status.code(), Some(2), "another plan than before");
    let same = run(&["plan", spec, "--exit-code"]);
    assert_eq!(same.status.code(), Some(0), "the same plan as before");
    let done = run(&["apply", out, "--reason", "go"]);
    assert_eq!(
        done.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}
