//! Stops of every kind, in every state: what they stop, whom they name, and what does not undo them.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{
    csv, import, import_csv, planned, sandbox, started, two_waves, until_done, until_status,
};
use crate::support::recorder::{Recorder, Trouble};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    a_halt_while_a_big_rollout_is_laid_out_binds_at_once,
    a_hold_placed_twice_by_two_people_is_one_record_with_two_actors,
    a_new_spec_or_plan_while_halted_does_not_lift_the_halt,
    the_one_who_lifts_a_pause_lifts_no_halt,
    a_halt_outlives_a_restart,
    a_halt_is_acknowledged_quickly_and_everybody_is_accounted_for,
    nothing_that_would_go_on_is_accepted_under_a_halt,
    a_start_that_races_a_halt_ends_halted,
    a_hold_covers_what_its_scope_says_and_nothing_else,
    a_halt_is_accepted_in_every_state,
    an_endless_failing_neighbour_does_not_delay_a_halt,
    a_halt_is_quiet_while_one_neighbour_hangs_and_another_floods,
);

async fn place(api: &Api, kind: &str, scope: Value) -> Value {
    let body = json!({"kind": kind, "scope": scope, "reason": format!("{kind} it")});
    api.post("/v1/holds", body).await.ok()
}

async fn release(api: &Api, hold: &Value) {
    let id = hold["id"].as_str().unwrap();
    if hold["kind"] == "halt" {
        return crate::support::release::halt(api, id).await;
    }
    let path = format!("/v1/holds/{id}/release");
    api.post(&path, json!({"reason": "over"})).await.ok();
}

async fn view(api: &Api, name: &str) -> Value {
    api.get(&format!("/v1/rollouts/{name}")).await.ok()
}

/// Fails unless everybody is in exactly one state.
fn check_sums(view: &Value) {
    let totals = view["totals"].as_object().unwrap();
    let sum: u64 = totals
        .iter()
        .filter(|(state, _)| !["people", "adopted"].contains(&state.as_str()))
        .map(|(_, people)| people.as_u64().unwrap())
        .sum();
    assert_eq!(Some(sum), totals["people"].as_u64(), "{view:#}");
}

async fn a_halt_while_a_big_rollout_is_laid_out_binds_at_once(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 120_000).await;
    sandbox(api, json!({})).await;
    let plan = planned(api, &two_waves()).await;
    api.post("/v1/rollouts/move/start", json!({"digest": plan["digest"]}))
        .await
        .ok();
    let begun = Instant::now();
    let hold = place(api, "halt", json!({"type": "rollout", "id": "move"})).await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "took {:?}",
        begun.elapsed()
    );
    let halted = view(api, "move").await;
    assert_eq!(
        (&halted["status"], &halted["lifecycle"]),
        (&json!("halted"), &json!("preparing"))
    );
    // As often as the planner could look: nothing is sent, and the laying out does not end.
    for _ in 0..40 {
        let now = view(api, "move").await;
        assert_eq!(
            (&now["totals"]["done"], &now["in_flight"]),
            (&json!(0), &json!(0)),
            "{now:#}"
        );
        assert_eq!(now["lifecycle"], "preparing");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    release(api, &hold).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 120_000);
    service.end_and_fsck();
}

async fn a_hold_placed_twice_by_two_people_is_one_record_with_two_actors(database: Database) {
    let service = Service::start(&database);
    let ann = service.api.as_role("ann", "security").await;
    let bob = service.api.as_role("bob", "security").await;
    let scope = json!({"type": "everything"});
    let first = place(&ann, "halt", scope.clone()).await;
    let second = place(&bob, "halt", scope.clone()).await;
    // A flaky client repeats its call.
    let third = place(&bob, "halt", scope.clone()).await;
    assert_eq!((&first["id"], &second["id"]), (&second["id"], &third["id"]));
    assert_eq!(
        (&first["epoch"], &second["epoch"]),
        (&third["epoch"], &third["epoch"])
    );
    assert_eq!(third["actors"], json!(["ann", "bob"]));
    assert_eq!(
        (&third["placed_by"], &third["owner"]),
        (&json!("ann"), &first["owner"])
    );
    let listed = ann.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    // Another kind and another scope are other holds.
    let pause = place(&bob, "pause", scope).await;
    assert_ne!(pause["id"], first["id"]);
    let audit = ann.get("/v1/audit?limit=1000").await.ok();
    let of_hold = |action: &str| {
        let entries = audit["items"].as_array().unwrap().iter();
        entries
            .filter(|entry| entry["action"] == action)
            .map(|entry| entry["actor"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of_hold("hold.place"), [json!("ann"), json!("bob")]);
    assert_eq!(of_hold("hold.join"), [json!("bob")], "a repeat is no entry");
    let twenty = (0..20).map(|_| place(&ann, "halt", json!({"type": "everything"})));
    for hold in futures_util::future::join_all(twenty).await {
        assert_eq!(hold["id"], first["id"]);
    }
}

async fn a_new_spec_or_plan_while_halted_does_not_lift_the_halt(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 200).await;
    sandbox(api, json!({})).await;
    planned(api, &two_waves()).await;
    let halt = place(api, "halt", json!({"type": "rollout", "id": "move"})).await;
    let etag = api.get("/v1/rollouts/move").await.etag();
    let request = api
        .request(Method::PUT, "/v1/rollouts/move")
        .header("if-match", etag);
    let spec = two_waves().replace("count: 50", "count: 60");
    let revised = send(
        request
            .header("content-type", "application/yaml")
            .body(spec),
    )
    .await
    .ok();
    assert_eq!(revised["status"], "halted");
    import_csv(api, csv(0..210)).await;
    let plan = api.post("/v1/rollouts/move/plan", json!({})).await.ok();
    assert_eq!(view(api, "move").await["status"], "halted");
    let start = || api.post("/v1/rollouts/move/start", json!({"digest": plan["digest"]}));
    assert!(
        start()
            .await
            .refused(409, "rollout_halted")
            .contains("halt it")
    );
    // Another rollout in its place does not slip through a hold on everything.
    let wide = place(api, "halt", json!({"type": "target", "id": "box"})).await;
    let other = planned(api, &two_waves().replace("rollout: move", "rollout: other")).await;
    let started = api
        .post(
            "/v1/rollouts/other/start",
            json!({"digest": other["digest"]}),
        )
        .await;
    started.refused(409, "rollout_halted");
    release(api, &halt).await;
    start().await.refused(409, "rollout_halted");
    release(api, &wide).await;
    start().await.ok();
    until_status(api, "move", "completed", 30).await;
}

async fn the_one_who_lifts_a_pause_lifts_no_halt(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let manager = api.as_role("manager", "manager").await;
    let security = api.as_role("security", "security").await;
    import(api, 400).await;
    sandbox(api, json!({"latency_ms": 50, "concurrency": 10})).await;
    started(api, &two_waves()).await;
    let reason = json!({"reason": "why"});
    manager
        .post("/v1/rollouts/move/pause", reason.clone())
        .await
        .ok();
    security
        .post("/v1/rollouts/move/halt", reason.clone())
        .await
        .ok();
    manager
        .post("/v1/rollouts/move/halt", reason.clone())
        .await
        .refused(403, "forbidden");
    let resumed = manager
        .post("/v1/rollouts/move/resume", reason.clone())
        .await
        .ok();
    assert_eq!(resumed["status"], "halted");
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    let left = holds["items"].as_array().unwrap();
    assert_eq!((left.len(), &left[0]["kind"]), (1, &json!("halt")));
    let path = format!("/v1/holds/{}/release", left[0]["id"].as_str().unwrap());
    for alone in [&manager, &security] {
        alone
            .post(&path, reason.clone())
            .await
            .refused(409, "release_needs_procedure");
    }
    release(api, &left[0]).await;
    until_status(api, "move", "completed", 60).await;
}

async fn a_halt_outlives_a_restart(database: Database) {
    let mut service = Service::start(&database);
    let token = service.api.token.clone();
    import(&service.api, 1_000).await;
    sandbox(&service.api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(&service.api, &two_waves()).await;
    until_done(&service.api, "move", 20, 30).await;
    let halt = place(&service.api, "halt", json!({"type": "everything"})).await;
    service.kill();
    let service = Service::start_again(&database, &token);
    let api = &service.api;
    let before = view(api, "move").await;
    assert_eq!(before["status"], "halted");
    assert_eq!(
        api.get("/v1/holds?in_force=true").await.ok()["items"][0]["id"],
        halt["id"]
    );
    for _ in 0..40 {
        let now = view(api, "move").await;
        assert_eq!(
            now["totals"]["done"], before["totals"]["done"],
            "nobody is moved"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    release(api, &halt).await;
    // Whoever was on the way when it was killed is looked up when the lease has ended.
    let done = until_status(api, "move", "completed", 120).await;
    assert_eq!(done["totals"]["done"], 1_000);
    service.end_and_fsck();
}

async fn a_halt_is_acknowledged_quickly_and_everybody_is_accounted_for(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 5_000).await;
    sandbox(api, json!({"latency_ms": 300, "concurrency": 100})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 150, 30).await;
    let begun = Instant::now();
    let body = json!({"kind": "halt", "scope": {"type": "target", "id": "box"}, "reason": "now"});
    let placed = api.post("/v1/holds", body.clone()).await.ok();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "acknowledged after {:?}",
        begun.elapsed()
    );
    let quiet = api.post("/v1/holds?wait=quiesced", body).await.ok();
    assert_eq!(
        (&quiet["quiesced"], &quiet["in_flight"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(quiet["id"], placed["id"], "to wait is to ask again");
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "quiet after {:?}",
        begun.elapsed()
    );
    let mut settled = view(api, "move").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while settled["in_flight"] != 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(25)).await;
        settled = view(api, "move").await;
    }
    assert_eq!(
        settled["in_flight"], 0,
        "what was not sent is queued again: {settled:#}"
    );
    check_sums(&settled);
    assert!(
        settled["totals"]["queued"].as_u64() > Some(1_000),
        "{settled:#}"
    );
    let queued = api
        .get("/v1/rollouts/move/members?state=queued&limit=10")
        .await
        .ok();
    assert_eq!(
        queued["items"].as_array().unwrap().len(),
        10,
        "who was not reached is listed"
    );
    service.end_and_fsck();
}

async fn nothing_that_would_go_on_is_accepted_under_a_halt(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let approver = api.as_role("approver", "approver").await;
    import(api, 200).await;
    sandbox(api, json!({"failure_ppm": 1_000_000})).await;
    let spec = two_waves().replace(
        "failures_at_most: 100%",
        "failures_at_most: 0, approvals: {count: 1}",
    );
    let plan = started(api, &spec).await;
    until_status(api, "move", "held", 30).await;
    api.post("/v1/rollouts/move/halt", json!({"reason": "token theft"}))
        .await
        .ok();
    let before = view(api, "move").await;
    let reason = json!({"reason": "go on"});
    let refused = api
        .post("/v1/rollouts/move/retry", reason)
        .await
        .refused(409, "rollout_halted");
    assert!(refused.contains("token theft"), "names the halt: {refused}");
    let body = json!({"digest": plan["plan_digest"], "reason": "yes"});
    let refused = approver
        .post("/v1/rollouts/move/waves/1/approve", body)
        .await
        .refused(409, "rollout_halted");
    assert!(refused.contains("token theft"), "names the halt: {refused}");
    let after = view(api, "move").await;
    assert_eq!(
        (&after["waves"], &after["totals"]),
        (&before["waves"], &before["totals"])
    );
    // To give up is no going on.
    let cancelled = api
        .post("/v1/rollouts/move/cancel", json!({"reason": "enough"}))
        .await
        .ok();
    assert_eq!(cancelled["lifecycle"], "cancelled");
}

async fn a_start_that_races_a_halt_ends_halted(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 300).await;
    sandbox(api, json!({"latency_ms": 100, "concurrency": 5})).await;
    for round in 0..6_u64 {
        let name = format!("race{round}");
        let plan = planned(
            api,
            &two_waves().replace("rollout: move", &format!("rollout: {name}")),
        )
        .await;
        let path = format!("/v1/rollouts/{name}");
        let start = async {
            tokio::time::sleep(Duration::from_millis(round % 3)).await;
            api.post(&format!("{path}/start"), json!({"digest": plan["digest"]}))
                .await
        };
        let halt = async {
            tokio::time::sleep(Duration::from_millis(2 - round % 3)).await;
            api.post(&format!("{path}/halt"), json!({"reason": "stop"}))
                .await
        };
        let (start, halt) = tokio::join!(start, halt);
        assert!([202, 409].contains(&start.status), "{}", start.text);
        assert_eq!(halt.ok()["status"], "halted");
        let body =
            json!({"kind": "halt", "scope": {"type": "rollout", "id": name}, "reason": "stop"});
        api.post("/v1/holds?wait=quiesced", body).await.ok();
        let quiet = view(api, &name).await;
        for _ in 0..10 {
            let now = view(api, &name).await;
            assert_eq!(now["status"], "halted");
            assert!(
                now["totals"]["done"].as_u64()
                    <= quiet["totals"]["done"].as_u64().map(|done| done + 5),
                "{now:#}"
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

async fn a_hold_covers_what_its_scope_says_and_nothing_else(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 300).await;
    for target in ["box", "crate"] {
        let body = json!({"name": target, "connector": "sandbox", "config": {"latency_ms": 10}});
        api.post("/v1/targets", body).await.ok();
    }
    let hold = place(api, "halt", json!({"type": "target", "id": "box"})).await;
    let spec = |name: &str, target: &str| {
        two_waves()
            .replace("rollout: move", &format!("rollout: {name}"))
            .replace("target: box", &format!("target: {target}"))
    };
    let stopped = planned(api, &spec("stopped", "box")).await;
    started(api, &spec("free", "crate")).await;
    let refused = api
        .post(
            "/v1/rollouts/stopped/start",
            json!({"digest": stopped["digest"]}),
        )
        .await;
    refused.refused(409, "rollout_halted");
    until_status(api, "free", "completed", 30).await;
    assert_eq!(view(api, "free").await["holds"], json!([]));
    release(api, &hold).await;
    // One wave alone: the wave before it moves.
    let wave = json!({"type": "wave", "id": "stopped", "wave": 2});
    let second = place(api, "pause", wave.clone()).await;
    assert_eq!(second["scope"]["wave"], 2);
    api.post(
        "/v1/rollouts/stopped/start",
        json!({"digest": stopped["digest"]}),
    )
    .await
    .ok();
    let moved = until_done(api, "stopped", 50, 30).await;
    assert_eq!(moved["waves"][1]["counts"]["done"], 0);
    for _ in 0..20 {
        assert_eq!(
            view(api, "stopped").await["waves"][1]["counts"]["done"],
            0,
            "wave 2 is held"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    release(api, &second).await;
    until_status(api, "stopped", "completed", 30).await;
    let none = json!({"kind": "halt", "scope": {"type": "wave", "id": "stopped", "wave": 9}, "reason": "r"});
    api.post("/v1/holds", none)
        .await
        .refused(404, "wave_not_found");
}

async fn a_halt_is_accepted_in_every_state(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let halt = async || {
        let done = api
            .post("/v1/rollouts/move/halt", json!({"reason": "now"}))
            .await
            .ok();
        let holds = api.get("/v1/holds?in_force=true").await.ok();
        release(api, &holds["items"][0]).await;
        done["status"].clone()
    };
    // Before there is anything at all.
    let everything = place(api, "halt", json!({"type": "everything"})).await;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    api.post_text("/v1/rollouts", "application/yaml", two_waves())
        .await
        .ok();
    assert_eq!(
        view(api, "move").await["status"],
        "halted",
        "what is created under a halt is halted"
    );
    release(api, &everything).await;
    assert_eq!(halt().await, "halted", "a draft");
    let plan = api.post("/v1/rollouts/move/plan", json!({})).await.ok();
    assert_eq!(halt().await, "halted", "planned");
    api.post("/v1/rollouts/move/start", json!({"digest": plan["digest"]}))
        .await
        .ok();
    until_status(api, "move", "completed", 30).await;
    assert_eq!(halt().await, "completed", "what is over stays over");
    let hold = place(api, "halt", json!({"type": "everything"})).await;
    release(api, &hold).await;
    let path = format!("/v1/holds/{}/release", hold["id"].as_str().unwrap());
    api.post(&path, json!({"reason": "again"}))
        .await
        .refused(409, "hold_already_released");
}

async fn an_endless_failing_neighbour_does_not_delay_a_halt(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 30_000).await;
    sandbox(api, json!({"latency_ms": 100, "concurrency": 10})).await;
    let noisy = json!({"name": "noisy", "connector": "sandbox", "config": {"retry_ppm": 1_000_000, "silence_ppm": 500_000}});
    api.post("/v1/targets", noisy).await.ok();
    let spec = |name: &str, target: &str| {
        two_waves()
            .replace("rollout: move", &format!("rollout: {name}"))
            .replace("target: box", &format!("target: {target}"))
    };
    started(api, &spec("noisy", "noisy")).await;
    started(api, &spec("preparing", "box")).await;
    started(api, &spec("quiet", "box")).await;
    until_done(api, "quiet", 10, 60).await;
    for _ in 0..5 {
        let begun = Instant::now();
        let hold = place(api, "halt", json!({"type": "rollout", "id": "quiet"})).await;
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "took {:?}",
            begun.elapsed()
        );
        assert_eq!(view(api, "quiet").await["status"], "halted");
        release(api, &hold).await;
    }
}

async fn a_halt_is_quiet_while_one_neighbour_hangs_and_another_floods(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 5_000).await;
    sandbox(api, json!({"latency_ms": 50, "concurrency": 10})).await;
    let hanging = Trouble {
        hang: 1_000_000,
        hang_ms: 600_000,
        ..Trouble::default()
    };
    let hanging = Recorder::start(1, hanging, 0);
    hanging.register(api, "hanging", 8, 60).await;
    let flood =
        json!({"name": "flood", "connector": "sandbox", "config": {"retry_ppm": 1_000_000}});
    api.post("/v1/targets", flood).await.ok();
    for (name, target) in [("hanging", "hanging"), ("flood", "flood"), ("quiet", "box")] {
        let spec = two_waves()
            .replace("rollout: move", &format!("rollout: {name}"))
            .replace("target: box", &format!("target: {target}"));
        started(api, &spec).await;
    }
    until_done(api, "quiet", 60, 120).await;
    until("requests hang", 60, async || hanging.len() >= 8).await;
    for _ in 0..3 {
        let begun = Instant::now();
        let hold = place(api, "halt", json!({"type": "rollout", "id": "quiet"})).await;
        let path = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
        // What hangs next to it may hang for a minute.
        until("nobody can send under it", 15, async || {
            api.get(&path).await.ok()["quiesced"] == true
        })
        .await;
        println!("quiet after {:?}", begun.elapsed());
        let (now, hangs) = (view(api, "quiet").await, view(api, "hanging").await);
        assert_eq!(now["status"], "halted", "{now:#}");
        assert!(hangs["in_flight"].as_u64() > Some(0), "{hangs:#}");
        release(api, &hold).await;
    }
    let done = view(api, "quiet").await["totals"]["done"].as_u64().unwrap();
    until_done(api, "quiet", done + 10, 120).await;
}
