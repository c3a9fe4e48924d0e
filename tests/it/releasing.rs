//! The release of a halt cannot be tricked: each missing piece is refused by name, and a change voids
//! what was approved.

use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::release::{People, execute, people, ready};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    a_release_is_refused_for_each_missing_piece,
    one_person_counts_once_whatever_tokens_they_have,
    a_requirement_is_met_when_somebody_else_has_verified_it,
    a_change_after_the_approvals_voids_them_and_says_what_changed,
    an_approver_who_loses_the_role_counts_no_more,
    security_ends_a_request_with_one_no,
    two_who_carry_a_release_out_at_once_do_it_once,
    terms_become_stricter_and_never_looser,
    nothing_else_ends_a_halt,
    another_tenant_behind_the_target_voids_the_approvals,
    a_halt_of_one_wave_is_released_while_another_goes_on,
    people_imported_again_unchanged_are_known_as_of_then,
    every_refused_step_is_in_the_trail,
    what_is_reported_after_the_approvals_voids_them_though_it_holds_nothing_new,
);

const GO: &str = "the vendor delivered";

async fn halted(database: &Database) -> (Service, String) {
    let service = Service::start(database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 100, 30).await;
    let scope = json!({"type": "rollout", "id": "move"});
    let body = json!({"kind": "halt", "scope": scope, "reason": "state actor"});
    let placed = api.post("/v1/holds?wait=quiesced", body).await.ok();
    until("what was under way has come back", 10, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    let hold = placed["id"].as_str().unwrap().to_owned();
    (service, hold)
}

async fn call(api: &Api, hold: &str, verb: &str, body: Value) -> Answer {
    api.post(&format!("/v1/holds/{hold}/{verb}"), body).await
}

async fn ask(api: &Api, hold: &str) -> String {
    let asked = call(api, hold, "release-request", json!({"reason": GO}))
        .await
        .ok();
    asked["digest"].as_str().unwrap().to_owned()
}

async fn yes(api: &Api, hold: &str, digest: &str) -> Answer {
    call(
        api,
        hold,
        "approvals",
        json!({"digest": digest, "reason": "looked"}),
    )
    .await
}

async fn look(api: &Api, hold: &str) -> Value {
    call(api, hold, "preflight", json!({})).await.ok()
}

async fn a_release_is_refused_for_each_missing_piece(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let People {
        asks,
        security,
        operations,
    } = people(api).await;
    let nothing = "0".repeat(64);
    execute(&asks, &hold, &nothing)
        .await
        .refused(409, "release_request_missing");
    yes(&security, &hold, &nothing)
        .await
        .refused(409, "release_request_missing");
    // Whoever placed it does not ask for its end.
    call(api, &hold, "release-request", json!({"reason": GO}))
        .await
        .refused(409, "release_placer_requests");
    let digest = ask(&asks, &hold).await;
    call(&operations, &hold, "release-request", json!({"reason": GO}))
        .await
        .refused(409, "release_request_open");
    execute(&asks, &hold, &digest)
        .await
        .refused(409, "release_approvals_missing");
    yes(&security, &hold, &nothing)
        .await
        .refused(409, "release_digest_differs");
    yes(&asks, &hold, &digest)
        .await
        .refused(409, "release_requester_approves");
    // A machine, an auditor and an administrator have no seat; neither has one made for the purpose.
    yes(api, &hold, &digest).await.refused(409, "seat_missing");
    let late = api.as_role("late", "manager").await;
    yes(&late, &hold, &digest)
        .await
        .refused(409, "seat_too_new");
    yes(&security, &hold, &digest).await.ok();
    let one = execute(&asks, &hold, &digest).await;
    let sentence = one.refused(409, "release_approvals_missing");
    assert!(
        sentence.contains("one more person; nobody yet of operations"),
        "{sentence}"
    );
    yes(&operations, &hold, &digest).await.ok();
    execute(&asks, &hold, &digest)
        .await
        .refused(409, "preflight_missing");
    let looked = look(api, &hold).await;
    assert_eq!(looked["ok"], true, "{looked:#}");
    assert_eq!(looked["digest"], digest.as_str());
    let ended = execute(&asks, &hold, &digest).await.ok();
    assert!(ended["released_at"].is_string(), "{ended:#}");
    execute(&asks, &hold, &digest)
        .await
        .refused(409, "hold_already_released");
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 2_000);
    service.end_and_fsck();
}

async fn one_person_counts_once_whatever_tokens_they_have(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let token = async |name: &str, role: &str, person: &str| {
        let body = json!({"name": name, "role": role, "person": person});
        let made = api.post("/v1/tokens", body).await.ok();
        api.with_token(made["token"].as_str().unwrap())
    };
    let asks = token("lind-laptop", "approver", "lind").await;
    let lind = token("lind-phone", "security", "Lind").await;
    let okafor = token("okafor", "security", "okafor").await;
    let also_okafor = token("okafor-ops", "manager", "okafor").await;
    let digest = ask(&asks, &hold).await;
    yes(&lind, &hold, &digest)
        .await
        .refused(409, "release_requester_approves");
    yes(&okafor, &hold, &digest).await.ok();
    yes(&okafor, &hold, &digest).await.ok();
    yes(&also_okafor, &hold, &digest)
        .await
        .refused(409, "release_same_person");
    let stands = api.get(&format!("/v1/holds/{hold}/approvals")).await.ok();
    assert_eq!(
        stands["approvals"].as_array().unwrap().len(),
        1,
        "{stands:#}"
    );
    execute(&asks, &hold, &digest)
        .await
        .refused(409, "release_approvals_missing");
}

async fn a_requirement_is_met_when_somebody_else_has_verified_it(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let who = people(api).await;
    let body = json!({
        "title": "user activity is logged", "text": "a synthetic action is in our SIEM within five minutes",
        "category": "monitor_and_detect", "severity": "critical",
    });
    let made = call(&who.security, &hold, "requirements", body).await.ok();
    // By its number among those of the halt, as people speak of it; its id does as well.
    let id = made["number"].as_u64().unwrap();
    let of = |verb: &str| format!("/v1/holds/{hold}/requirements/{id}{verb}");
    let open = look(api, &hold).await;
    assert_eq!(open["ok"], false);
    assert!(
        open.to_string()
            .contains("requirement 1 (user activity is logged)"),
        "{open:#}"
    );
    let reason = json!({"reason": "seen in the SIEM"});
    who.operations
        .post(&of("/verify"), reason.clone())
        .await
        .refused(409, "requirement_not_delivered");
    let edit = |status: &str| json!({"status": status, "checkin": "the vendor says so"});
    let patch = async |api: &Api, body: Value| {
        let request = api.request(reqwest::Method::PATCH, &of("")).json(&body);
        send(request).await
    };
    patch(&who.security, edit("verified"))
        .await
        .refused(409, "requirement_status_earned");
    patch(&who.security, edit("delivered")).await.ok();
    who.operations
        .post(&of("/verify"), reason.clone())
        .await
        .refused(409, "requirement_evidence_missing");
    let other = json!({"kind": "text", "text": "log excerpt 42", "sha256": "0".repeat(64)});
    who.operations
        .post(&of("/evidence"), other)
        .await
        .refused(422, "sha256_wrong");
    let evidence = json!({"kind": "text", "text": "log excerpt 42"});
    who.operations.post(&of("/evidence"), evidence).await.ok();
    who.operations
        .post(&of("/verify"), reason.clone())
        .await
        .refused(409, "requirement_attester_verifies");
    who.security
        .post(&of("/verify"), reason.clone())
        .await
        .refused(409, "requirement_owner_verifies");
    let verified = who.asks.post(&of("/verify"), reason).await.ok();
    assert_eq!(verified["status"], "verified", "{verified:#}");
    assert_eq!(look(api, &hold).await["ok"], true);
    // Evidence that comes after the verification must be looked at again.
    let more =
        json!({"kind": "link", "text": "https://vendor.example/report", "sha256": "a".repeat(64)});
    who.operations.post(&of("/evidence"), more).await.ok();
    assert_eq!(look(api, &hold).await["ok"], false);
}

async fn a_change_after_the_approvals_voids_them_and_says_what_changed(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let digest = ready(api, &hold).await;
    let who = people(api).await;
    let body = json!({
        "title": "keys rotated", "text": "all of them", "category": "identities_and_secrets", "severity": "high",
    });
    call(&who.security, &hold, "requirements", body).await.ok();
    let refused = execute(api, &hold, &digest).await;
    refused.refused(409, "release_configuration_changed");
    assert!(
        refused
            .text
            .contains("requirement 1 (keys rotated), or its evidence came since"),
        "{}",
        refused.text
    );
    let stands = api.get(&format!("/v1/holds/{hold}/approvals")).await.ok();
    assert_eq!(stands["status"], "configuration_changed", "{stands:#}");
    let halted = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(halted["status"], "halted");
}

async fn an_approver_who_loses_the_role_counts_no_more(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let guard = api.as_role("guard", "security").await;
    let who = people(api).await;
    look(api, &hold).await;
    let digest = ask(&who.asks, &hold).await;
    yes(&guard, &hold, &digest).await.ok();
    yes(&who.operations, &hold, &digest).await.ok();
    api.post("/v1/tokens/guard/revoke", json!({"reason": "left"}))
        .await
        .ok();
    let refused = execute(&who.asks, &hold, &digest).await;
    let sentence = refused.refused(409, "release_approvals_missing");
    assert!(sentence.contains("`guard` has lost the role"), "{sentence}");
    yes(&who.security, &hold, &digest).await.ok();
    execute(&who.asks, &hold, &digest).await.ok();
}

async fn security_ends_a_request_with_one_no(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let who = people(api).await;
    let digest = ask(&who.asks, &hold).await;
    let no = json!({"reason": "not yet"});
    call(&who.operations, &hold, "veto", no.clone())
        .await
        .refused(409, "release_veto_seat");
    let stands = call(&who.security, &hold, "veto", no).await.ok();
    assert_eq!(stands["status"], "vetoed");
    assert_eq!(stands["vetoes"][0]["reason"], "not yet", "{stands:#}");
    yes(&who.operations, &hold, &digest)
        .await
        .refused(409, "release_vetoed");
    execute(&who.asks, &hold, &digest)
        .await
        .refused(409, "release_vetoed");
    // Whoever is asked the next time reads who said no, and why.
    ask(&who.asks, &hold).await;
    let again = call_get(api, &hold).await;
    assert_eq!(again["status"], "collecting", "{again:#}");
    let by = again["vetoes"][0]["person"].as_str().unwrap();
    assert!(
        by.starts_with("guard") && again["vetoes"][0]["reason"] == "not yet",
        "{again:#}"
    );
}

async fn call_get(api: &Api, hold: &str) -> Value {
    api.get(&format!("/v1/holds/{hold}/approvals")).await.ok()
}

async fn two_who_carry_a_release_out_at_once_do_it_once(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let digest = ready(api, &hold).await;
    let both = (0..8).map(|_| {
        let (api, hold, digest) = (api.clone(), hold.clone(), digest.clone());
        tokio::spawn(async move { execute(&api, &hold, &digest).await.status })
    });
    let mut carried_out = 0;
    for one in both.collect::<Vec<_>>() {
        carried_out += u32::from(one.await.unwrap() < 300);
    }
    assert_eq!(carried_out, 1);
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let entries = trail["items"].as_array().unwrap().iter();
    assert_eq!(
        entries
            .filter(|entry| entry["action"] == "hold.release")
            .count(),
        1
    );
}

async fn terms_become_stricter_and_never_looser(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let path = format!("/v1/holds/{hold}/terms");
    let terms = api.get(&path).await.ok();
    assert_eq!(terms["approvals_needed"], 2, "{terms:#}");
    let put = async |terms: &Value| {
        let request = api.request(reqwest::Method::PUT, &path).json(terms);
        send(request).await
    };
    let mut stricter = terms.clone();
    stricter["approvals_needed"] = json!(3);
    put(&stricter).await.ok();
    put(&terms).await.refused(409, "terms_looser");
    let digest = ready(api, &hold).await;
    let refused = execute(api, &hold, &digest).await;
    refused.refused(409, "release_approvals_missing");
}

async fn nothing_else_ends_a_halt(database: Database) {
    let (mut service, hold) = halted(&database).await;
    let api = service.api.clone();
    let reason = json!({"reason": "go"});
    let pause =
        json!({"kind": "pause", "scope": {"type": "rollout", "id": "move"}, "reason": "look"});
    api.post("/v1/holds", pause).await.ok();
    api.post("/v1/rollouts/move/resume", reason.clone())
        .await
        .ok();
    for verb in ["plan", "retry", "resume"] {
        api.post(&format!("/v1/rollouts/move/{verb}"), reason.clone())
            .await;
    }
    api.post_text("/v1/rollouts", "application/yaml", two_waves())
        .await;
    crate::support::people::import_csv(&api, crate::support::people::csv(0..2_100)).await;
    service.kill();
    let service = Service::start_again(&database, &api.token);
    let view = service.api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
    assert_eq!(view["holds"][0]["id"], hold.as_str());
}

async fn every_refused_step_is_in_the_trail(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let who = people(api).await;
    execute(&who.asks, &hold, &"0".repeat(64))
        .await
        .refused(409, "release_request_missing");
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let entries = trail["items"].as_array().unwrap();
    let refused = entries
        .iter()
        .find(|entry| entry["action"] == "release.refused");
    let refused = refused.expect("the refused step");
    assert_eq!(
        refused["detail"]["code"], "release_request_missing",
        "{refused:#}"
    );
    assert_eq!(refused["subject"], format!("hold:{hold}"));
}

async fn another_tenant_behind_the_target_voids_the_approvals(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let digest = ready(api, &hold).await;
    let seen = api.get("/v1/targets/box").await.etag();
    let body = json!({"connector": "sandbox", "config": {"latency_ms": 1}});
    let put = api.request(reqwest::Method::PUT, "/v1/targets/box");
    send(put.header("if-match", seen).json(&body)).await.ok();
    let refused = execute(api, &hold, &digest).await;
    refused.refused(409, "release_configuration_changed");
    assert!(
        refused.text.contains("the settings of target `box`"),
        "{}",
        refused.text
    );
}

async fn a_halt_of_one_wave_is_released_while_another_goes_on(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3_000).await;
    sandbox(api, json!({"latency_ms": 300, "concurrency": 4})).await;
    started(api, &two_waves().replace("count: 50", "count: 2000")).await;
    let scope = json!({"type": "wave", "id": "move", "wave": 2});
    until("there is a plan to hold a wave of", 10, async || {
        let body = json!({"kind": "halt", "scope": scope, "reason": "not those"});
        api.post("/v1/holds", body).await.status < 300
    })
    .await;
    until_done(api, "move", 8, 30).await;
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    let hold = holds["items"][0]["id"].as_str().unwrap().to_owned();
    let digest = ready(api, &hold).await;
    // Others are moved between the approvals and the release, which is not about them.
    let before = api.get("/v1/rollouts/move").await.ok();
    let done = before["totals"]["done"].as_u64().unwrap();
    until_done(api, "move", done + 8, 30).await;
    execute(api, &hold, &digest).await.ok();
    let after = api.get("/v1/rollouts/move").await.ok();
    assert_ne!(after["waves"][0]["state"], "waiting", "{after:#}");
    assert_eq!(after["holds"], json!([]), "{after:#}");
}

async fn people_imported_again_unchanged_are_known_as_of_then(database: Database) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    // A year ago.
    for sql in [
        "UPDATE population_version SET published_at = published_at - 31536000000",
        "UPDATE population_import SET finished_at = finished_at - 31536000000",
    ] {
        database.execute(sql).await;
    }
    let open = look(api, &hold).await;
    assert!(open.to_string().contains("population_old"), "{open:#}");
    let again = crate::support::people::csv(0..2_000);
    let import = crate::support::people::import_csv(api, again).await;
    assert_eq!(import["status"], "unchanged", "{import:#}");
    assert_eq!(look(api, &hold).await["ok"], true);
}

async fn what_is_reported_after_the_approvals_voids_them_though_it_holds_nothing_new(
    database: Database,
) {
    let (service, hold) = halted(&database).await;
    let api = &service.api;
    let facts = json!({"vendor": "acme"});
    let path = "/v1/targets/box/facts";
    send(api.request(reqwest::Method::PUT, path).json(&facts))
        .await
        .ok();
    let digest = ready(api, &hold).await;
    // Of nobody's interest here, and then a weakness that people should look at: it holds nothing.
    for (id, vendor) in [("1", "else"), ("2", "acme")] {
        let report = json!({"id": id, "kind": "exploited_vulnerability", "severity": "critical", "vendor": vendor});
        api.post("/v1/signals", report).await.ok();
    }
    until("both are judged", 10, async || {
        let listed = api.get("/v1/signals").await.ok();
        let outcomes = listed["items"].as_array().unwrap().iter();
        outcomes
            .map(|one| one["outcome"].as_str().unwrap())
            .eq(["review", "unmapped"])
    })
    .await;
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let mut actions = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["action"]);
    assert!(
        actions.any(|action| action == "policy.review"),
        "people are told"
    );
    let refused = execute(api, &hold, &digest).await;
    refused.refused(409, "release_configuration_changed");
    let errors = refused.body["errors"].as_array().unwrap().iter();
    let said: Vec<&str> = errors.map(|one| one["message"].as_str().unwrap()).collect();
    assert_eq!(said, ["what was reported about target `box` changed"]);
    service.end_and_fsck();
}
