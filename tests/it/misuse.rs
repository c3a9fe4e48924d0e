//! What the API answers to requests that it cannot mean: a status, a stable code, and a sentence that
//! says where and what to do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::service::Service;
use crate::support::wire::Wire;

on_each_database!(
    unknown_fields_are_refused_and_named,
    values_of_the_wrong_type_are_refused_and_their_field_is_named,
    a_body_is_one_json_value_in_utf_8,
    a_body_of_another_media_type_is_refused,
    a_body_that_is_too_large_is_refused_before_it_is_read,
    unknown_paths_and_methods_are_problems_too,
    unknown_ids_of_every_resource_are_not_found_by_their_kind,
    queries_that_make_no_sense_are_refused,
    every_refusal_is_a_problem_document,
);

/// Every call that takes a JSON object, with an object it takes.
fn calls() -> Vec<(&'static str, Value)> {
    let reason = json!({"reason": "because"});
    let everything = json!({"type": "everything"});
    vec![
        ("/v1/populations", json!({"name": "p"})),
        ("/v1/targets", json!({"name": "t", "connector": "sandbox"})),
        ("/v1/tokens", json!({"name": "n", "role": "auditor"})),
        ("/v1/tokens/none/revoke", reason.clone()),
        (
            "/v1/holds",
            json!({"kind": "pause", "scope": everything, "reason": "r"}),
        ),
        ("/v1/holds/none/release", reason.clone()),
        ("/v1/rollouts/none/plan", json!({})),
        ("/v1/rollouts/none/start", json!({"digest": "d"})),
        ("/v1/rollouts/none/pause", reason.clone()),
        ("/v1/rollouts/none/resume", reason.clone()),
        ("/v1/rollouts/none/halt", reason.clone()),
        ("/v1/rollouts/none/cancel", reason.clone()),
        ("/v1/rollouts/none/retry", reason.clone()),
        (
            "/v1/rollouts/none/waves/1/approve",
            json!({"digest": "d", "reason": "r"}),
        ),
    ]
}

async fn unknown_fields_are_refused_and_named(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    for (path, mut body) in calls() {
        body["surprise"] = json!(1);
        let sentence = api.post(path, body).await.refused(400, "body_invalid");
        assert!(sentence.contains("`surprise`"), "{path}: {sentence}");
    }
    let nested = json!({"name": "p", "mapping": {"kee": "employee_id"}});
    let refused = api.post("/v1/populations", nested).await;
    assert!(refused.refused(400, "body_invalid").contains("`kee`"));
    let field = refused.body["errors"][0]["field"]
        .as_str()
        .unwrap_or_default();
    assert!(field.starts_with("mapping"), "{}", refused.text);
    let scope = json!({"kind": "pause", "scope": {"type": "rollout", "name": "x"}, "reason": "r"});
    let refused = api.post("/v1/holds", scope).await;
    refused.refused(400, "body_invalid");
    assert!(refused.text.contains("`name`"), "{}", refused.text);
    let setting = json!({"name": "t", "connector": "sandbox", "config": {"latency": 1}});
    let sentence = api
        .post("/v1/targets", setting)
        .await
        .refused(422, "config_invalid");
    assert!(sentence.contains("`latency`"), "{sentence}");
    let listed = api.get("/v1/populations").await.ok();
    assert_eq!(listed["items"], json!([]), "nothing refused is created");
}

async fn values_of_the_wrong_type_are_refused_and_their_field_is_named(database: Database) {
    let service = Service::start(&database);
    let hold = |scope: Value| json!({"kind": "pause", "scope": scope, "reason": "r"});
    for (path, body, field) in [
        ("/v1/populations", json!({"name": 7}), "name"),
        ("/v1/populations", json!({"name": null}), "name"),
        (
            "/v1/populations",
            json!({"name": "p", "mapping": {"keep_together": "x"}}),
            "mapping.keep_together",
        ),
        (
            "/v1/targets",
            json!({"name": "t", "connector": ["sandbox"]}),
            "connector",
        ),
        ("/v1/holds", hold(json!("everything")), "scope"),
        (
            "/v1/holds",
            hold(json!({"type": "wave", "id": "x", "wave": "two"})),
            "scope.wave",
        ),
        (
            "/v1/holds",
            hold(json!({"type": "wave", "id": "x", "wave": -1})),
            "scope.wave",
        ),
        (
            "/v1/rollouts/x/retry",
            json!({"reason": "r", "wave": 1.5}),
            "wave",
        ),
        ("/v1/rollouts/x/start", json!({"digest": 9}), "digest"),
        (
            "/v1/rollouts/x/pause",
            json!({"reason": {"why": "x"}}),
            "reason",
        ),
    ] {
        let refused = service.api.post(path, body).await;
        refused.refused(400, "body_invalid");
        let error = &refused.body["errors"][0];
        assert_eq!(error["field"], field, "{path}: {}", refused.text);
        assert_eq!(error["line"], 1, "{path}: {}", refused.text);
    }
    for path in ["/v1/populations", "/v1/targets", "/v1/rollouts/x/pause"] {
        let refused = service.api.post(path, json!(["a list"])).await;
        refused.refused(400, "body_invalid");
        let missing = service.api.request(Method::POST, path);
        let sentence = send(missing).await.refused(400, "body_invalid");
        assert!(sentence.contains("missing field"), "{path}: {sentence}");
    }
}

async fn a_body_is_one_json_value_in_utf_8(database: Database) {
    let service = Service::start(&database);
    let post = async |bytes: Vec<u8>| {
        let request = service.api.request(Method::POST, "/v1/populations");
        let request = request.header("content-type", "application/json");
        send(request.body(bytes)).await
    };
    for text in [
        r#"{"name": "a"}{"name": "b"}"#,
        r#"{"name": "a"} true"#,
        r#"{"name": "a""#,
        r#"{"name": "a",}"#,
        r#"{"name": "a", "name": "b"}"#,
        "null",
    ] {
        post(text.into()).await.refused(400, "body_invalid");
    }
    let refused = post(b"{\"name\": \"\xff\"}".to_vec()).await;
    refused.refused(400, "body_invalid");
    let deep = "[".repeat(100_000);
    post(deep.into_bytes()).await.refused(400, "body_invalid");
    let blank = post(b" {\"name\": \"a\"}\n ".to_vec()).await;
    assert_eq!(blank.status, 201, "blanks around a value are none");
}

async fn a_body_of_another_media_type_is_refused(database: Database) {
    let service = Service::start(&database);
    for (path, text) in [
        ("/v1/populations", r#"{"name": "a"}"#),
        ("/v1/rollouts", "rollout: x"),
    ] {
        for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let answer = service.api.post_text(path, kind, text).await;
            answer.refused(415, "media_type");
        }
    }
    let kind = "Application/JSON; charset=utf-8";
    let taken = service
        .api
        .post_text("/v1/populations", kind, r#"{"name": "a"}"#);
    assert_eq!(
        taken.await.status,
        201,
        "a media type is written in any case"
    );
}

async fn a_body_that_is_too_large_is_refused_before_it_is_read(database: Database) {
    let service = Service::start(&database);
    let lines = |kind: &str, more: &[&str]| {
        let mut lines = vec![
            format!("content-type: {kind}"),
            "content-length: 20000000".to_owned(),
        ];
        lines.extend(more.iter().map(|line| (*line).to_owned()));
        lines
    };
    for (first, lines) in [
        ("POST /v1/populations", lines("application/json", &[])),
        (
            "POST /v1/populations",
            lines("application/json", &["idempotency-key: k"]),
        ),
        ("POST /v1/rollouts", lines("application/yaml", &[])),
    ] {
        let mut wire = Wire::begin(&service.api, first, &lines).await;
        let answer = wire.read_until("\"code\"").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("body_too_large"), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

async fn unknown_paths_and_methods_are_problems_too(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    for path in [
        "/",
        "/v1",
        "/v1/rollout",
        "/v1/rollouts/",
        "/v1/rollouts/x/y/z",
    ] {
        api.get(path).await.refused(404, "path_unknown");
    }
    for (method, path) in [
        (Method::DELETE, "/v1/rollouts"),
        (Method::PATCH, "/v1/populations/x"),
        (Method::POST, "/v1/audit"),
        (Method::PUT, "/v1/holds/x"),
        (Method::DELETE, "/v1/holds/x"),
        (Method::GET, "/v1/rollouts/x/start"),
    ] {
        let answer = send(api.request(method.clone(), path)).await;
        answer.refused(405, "method_not_allowed");
        assert!(answer.headers.contains_key("allow"), "{method} {path}");
    }
    for path in [
        "/v1/rollouts/x/waves/two",
        "/v1/rollouts/x/waves/-1",
        "/v1/rollouts/x/waves/4294967296",
    ] {
        api.get(path).await.refused(404, "path_invalid");
    }
}

async fn unknown_ids_of_every_resource_are_not_found_by_their_kind(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let id = "0198c0de-0000-7000-8000-000000000000";
    for (collection, what) in [
        ("populations", "population"),
        ("targets", "target"),
        ("rollouts", "rollout"),
        ("holds", "hold"),
        ("imports", "import"),
    ] {
        for name in [id, "nobody", "%20", "%F0%9F%90%99", "' OR 1=1 --"] {
            let answer = api.get(&format!("/v1/{collection}/{name}")).await;
            answer.refused(404, &format!("{what}_not_found"));
        }
    }
    let reason = json!({"reason": "because"});
    for verb in ["pause", "resume", "halt", "cancel", "retry"] {
        let path = format!("/v1/rollouts/{id}/{verb}");
        api.post(&path, reason.clone())
            .await
            .refused(404, "rollout_not_found");
    }
    for path in ["report", "waves/1", "members", "members/e1"] {
        let answer = api.get(&format!("/v1/rollouts/none/{path}")).await;
        answer.refused(404, "rollout_not_found");
    }
    api.get("/v1/populations/none/members/e1")
        .await
        .refused(404, "population_not_found");
    let path = "/v1/populations/none/imports";
    api.post_text(path, "text/csv", "employee_id\n1\n")
        .await
        .refused(404, "population_not_found");
    api.post(&format!("/v1/tokens/{id}/revoke"), reason.clone())
        .await
        .refused(404, "token_not_found");
    api.post(&format!("/v1/holds/{id}/release"), reason)
        .await
        .refused(404, "hold_not_found");
    api.post("/v1/targets/none/check", json!({}))
        .await
        .refused(404, "target_not_found");
    let spec = "rollout: r\npopulation: none\ntarget: none\nwaves: [{name: all, rest: true}]\n";
    api.post_text("/v1/rollouts", "application/yaml", spec)
        .await
        .refused(404, "population_not_found");
}

async fn queries_that_make_no_sense_are_refused(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    for query in [
        "surprise=1",
        "limit=many",
        "limit=-1",
        "limit=99999999999999999999",
        "limit=1&limit=2",
    ] {
        for list in [
            "populations",
            "targets",
            "rollouts",
            "holds",
            "tokens",
            "audit",
        ] {
            api.get(&format!("/v1/{list}?{query}"))
                .await
                .refused(400, "query_invalid");
        }
    }
    for path in [
        "/v1/holds?in_force=perhaps",
        "/v1/audit?after=yesterday",
        "/v1/events?since=3",
    ] {
        api.get(path).await.refused(400, "query_invalid");
    }
    let hold = json!({"kind": "pause", "scope": {"type": "everything"}, "reason": "r"});
    api.post("/v1/holds?wait=forever", hold)
        .await
        .refused(400, "query_invalid");
    assert_eq!(
        api.get("/v1/holds").await.ok()["items"],
        json!([]),
        "nothing refused is placed"
    );
    let text = "employee_id\n1\n";
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    for (query, status, code) in [
        ("format=xlsx", 400, "format_unknown"),
        ("bad_rows_max=-1", 400, "query_invalid"),
        ("override_shrink_reason=%20", 400, "reason_missing"),
    ] {
        let path = format!("/v1/populations/staff/imports?{query}");
        api.post_text(&path, "text/csv", text)
            .await
            .refused(status, code);
    }
    for limit in ["0", "1000000"] {
        api.get(&format!("/v1/rollouts?limit={limit}")).await.ok();
    }
}

async fn every_refusal_is_a_problem_document(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let answers: Vec<Answer> = vec![
        api.get("/nothing").await,
        api.with_token("").get("/v1/rollouts").await,
        api.get("/v1/rollouts/none").await,
        api.post("/v1/populations", json!({"name": 1})).await,
        api.post("/v1/populations", json!({"name": ""})).await,
        send(api.request(Method::DELETE, "/v1/audit")).await,
    ];
    for answer in answers {
        let code = answer.body["code"].as_str().unwrap_or_default().to_owned();
        let sentence = answer.refused(answer.status, &code);
        assert!(answer.status >= 400 && !code.is_empty(), "{}", answer.text);
        assert!(
            code.chars()
                .all(|letter| letter.is_ascii_lowercase() || letter == '_'),
            "{code}"
        );
        let kind = answer.body["type"].as_str().unwrap_or_default();
        assert!(kind.ends_with(&code), "{}", answer.text);
        assert!(!answer.body["title"].as_str().unwrap_or_default().is_empty());
        assert!(
            !sentence.contains('\n') && !sentence.contains("Error("),
            "{sentence}"
        );
        assert!(
            answer.headers.contains_key("x-request-id"),
            "{}",
            answer.text
        );
    }
}
