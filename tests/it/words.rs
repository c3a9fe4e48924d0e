//! Names, reasons and scopes that the API takes, and those it refuses.

use serde_json::{Value, json};

use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::service::Service;

on_each_database!(
    names_that_would_break_addresses_are_refused,
    a_nul_character_is_never_a_failure_of_ours,
    reasons_are_needed_and_bounded,
    scopes_that_name_nothing_are_refused,
    a_name_that_is_taken_is_a_conflict,
);

async fn names_that_would_break_addresses_are_refused(database: Database) {
    let service = Service::start(&database);
    let long = "x".repeat(101);
    let like_an_id = "0198c0de-0000-7000-8000-000000000000";
    for name in [
        "",
        " ",
        "a b",
        "a/b",
        "é",
        "a\nb",
        "../x",
        long.as_str(),
        like_an_id,
        "<script>",
    ] {
        for (path, body) in [
            ("/v1/populations", json!({"name": name})),
            ("/v1/targets", json!({"name": name, "connector": "sandbox"})),
            ("/v1/tokens", json!({"name": name, "role": "auditor"})),
        ] {
            let answer = service.api.post(path, body).await;
            // Two dots are letters of a name; the slash is what is wrong with `../x`.
            answer.refused(422, "name_invalid");
        }
    }
    let unknown = json!({"name": "n", "role": "king"});
    let sentence = service
        .api
        .post("/v1/tokens", unknown)
        .await
        .refused(422, "role_unknown");
    assert!(
        sentence.contains("security"),
        "says which there are: {sentence}"
    );
    let unknown = json!({"name": "n", "connector": "fax"});
    let sentence = service
        .api
        .post("/v1/targets", unknown)
        .await
        .refused(422, "config_invalid");
    assert!(
        sentence.contains("scim"),
        "says which there are: {sentence}"
    );
}

async fn a_nul_character_is_never_a_failure_of_ours(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    for path in [
        "/v1/populations/a%00b",
        "/v1/targets/%00",
        "/v1/rollouts/%00",
        "/v1/holds/%00",
        "/v1/imports/%00",
        "/v1/populations?cursor=%00",
        "/v1/targets?cursor=a%00",
        "/v1/tokens?cursor=%00",
        "/v1/holds?cursor=1_%00",
        "/v1/rollouts?cursor=1_%00",
    ] {
        let answer = api.get(path).await;
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.text
        );
    }
    let scope = json!({"type": "everything"});
    for (path, body) in [
        (
            "/v1/holds",
            json!({"kind": "pause", "scope": scope, "reason": "a\0b"}),
        ),
        (
            "/v1/holds",
            json!({"kind": "pause", "scope": {"type": "target", "id": "\0"}, "reason": "r"}),
        ),
        ("/v1/tokens/%00/revoke", json!({"reason": "r"})),
        (
            "/v1/targets",
            json!({"name": "t", "connector": "sandbox", "config": {"journal": "\0"}}),
        ),
        (
            "/v1/populations",
            json!({"name": "p", "mapping": {"key": "a\0b"}}),
        ),
    ] {
        let answer = api.post(path, body).await;
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.text
        );
    }
    let spec = json!({"rollout": "r", "population": "\0", "target": "t", "waves": [{"name": "w", "rest": true}]});
    let answer = api
        .post_text("/v1/rollouts", "application/json", spec.to_string())
        .await;
    assert!(
        (400..500).contains(&answer.status),
        "{} {}",
        answer.status,
        answer.text
    );
    let backslash =
        json!({"kind": "pause", "scope": scope, "reason": r"the text \u0000 is six letters"});
    assert_eq!(
        api.post("/v1/holds", backslash).await.status,
        201,
        "a backslash is a letter"
    );
}

async fn reasons_are_needed_and_bounded(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let hold =
        |reason: &str| json!({"kind": "halt", "scope": {"type": "everything"}, "reason": reason});
    for reason in ["", "   ", "\n\t"] {
        api.post("/v1/holds", hold(reason))
            .await
            .refused(422, "reason_missing");
        let body = json!({"reason": reason});
        api.post("/v1/tokens/first-admin/revoke", body)
            .await
            .refused(422, "reason_missing");
    }
    api.post("/v1/holds", hold(&"x".repeat(4001)))
        .await
        .refused(422, "reason_too_long");
    let long = "é".repeat(4000);
    let placed = api.post("/v1/holds", hold(&long)).await.ok();
    assert_eq!(
        placed["reason"], long,
        "a bound in characters, not in bytes"
    );
}

async fn scopes_that_name_nothing_are_refused(database: Database) {
    let service = Service::start(&database);
    let place = async |kind: &str, scope: Value, effect: &str| {
        let body = json!({"kind": kind, "scope": scope, "reason": "r", "effect": effect});
        service.api.post("/v1/holds", body).await
    };
    let everything = json!({"type": "everything"});
    for kind in ["gate", "freeze", "HALT", "", "stop"] {
        place(kind, everything.clone(), "keep")
            .await
            .refused(422, "kind_invalid");
    }
    place("halt", everything, "forget")
        .await
        .refused(422, "effect_invalid");
    for scope in [
        json!({"type": "planet"}),
        json!({"type": "target"}),
        json!({"type": "wave", "id": "x"}),
        json!({"type": "everything", "id": "x"}),
        json!({"type": "rollout", "id": "x", "wave": 1}),
    ] {
        place("halt", scope, "keep")
            .await
            .refused(422, "scope_invalid");
    }
    let target = json!({"type": "target", "id": "none"});
    place("halt", target, "keep")
        .await
        .refused(404, "target_not_found");
    let rollout = json!({"type": "rollout", "id": "none"});
    place("halt", rollout, "keep")
        .await
        .refused(404, "rollout_not_found");
    assert_eq!(service.api.get("/v1/holds").await.ok()["items"], json!([]));
}

async fn a_name_that_is_taken_is_a_conflict(database: Database) {
    let service = Service::start(&database);
    for (path, body) in [
        ("/v1/populations", json!({"name": "same"})),
        (
            "/v1/targets",
            json!({"name": "same", "connector": "sandbox"}),
        ),
        ("/v1/tokens", json!({"name": "same", "role": "auditor"})),
    ] {
        service.api.post(path, body.clone()).await.ok();
        let sentence = service
            .api
            .post(path, body)
            .await
            .refused(409, "name_taken");
        assert!(sentence.contains("`same`"), "{sentence}");
    }
    let spec = "rollout: same\npopulation: same\ntarget: same\nwaves: [{name: all, rest: true}]\n";
    let create = || {
        service
            .api
            .post_text("/v1/rollouts", "application/yaml", spec)
    };
    create().await.ok();
    create().await.refused(409, "name_taken");
}
