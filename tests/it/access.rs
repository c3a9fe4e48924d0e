//! Who may do what: tokens, and the whole table of roles and calls.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::service::Service;

on_each_database!(
    a_call_without_a_good_token_is_unauthorized,
    a_revoked_token_is_worthless_at_once,
    a_token_is_shown_once,
    each_role_may_do_exactly_what_the_table_says,
    nobody_releases_a_halt_alone,
    revoking_ones_own_token_works_and_is_in_the_trail,
    health_needs_no_token_and_the_api_does,
);

const ROLES: [&str; 6] = [
    "admin",
    "manager",
    "security",
    "approver",
    "auditor",
    "signal_source",
];

async fn a_call_without_a_good_token_is_unauthorized(database: Database) {
    let service = Service::start(&database);
    let none = service.api.with_token("");
    let ask = async |value: Option<&str>| {
        let request = none.request(Method::GET, "/v1/rollouts");
        let request = match value {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        let answer = send(request).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{value:?}");
        answer
    };
    ask(None).await.refused(401, "token_missing");
    ask(Some("")).await.refused(401, "token_missing");
    ask(Some("Basic dXNlcjpwYXNz"))
        .await
        .refused(401, "token_missing");
    ask(Some("Bearer")).await.refused(401, "token_missing");
    let token = &service.api.token;
    let (cut, longer) = (&token[..token.len() - 1], format!("{token}0"));
    let upper = token.to_uppercase();
    for wrong in [
        "tg_",
        "tg_nobody",
        "nonsense",
        cut,
        longer.as_str(),
        upper.as_str(),
    ] {
        ask(Some(&format!("Bearer {wrong}")))
            .await
            .refused(401, "token_invalid");
    }
    let answer = send(
        none.request(Method::GET, "/v1/rollouts")
            .header("authorization", format!("bearer {token}")),
    );
    assert_eq!(
        answer.await.status,
        200,
        "the scheme is written in any case"
    );
}

async fn a_revoked_token_is_worthless_at_once(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let auditor = api.as_role("leaver", "auditor").await;
    auditor.get("/v1/rollouts").await.ok();
    let revoked = api
        .post("/v1/tokens/leaver/revoke", json!({"reason": "left"}))
        .await
        .ok();
    assert!(revoked["revoked_at"].is_string(), "{revoked}");
    let answer = auditor.get("/v1/rollouts").await;
    answer.refused(401, "token_invalid");
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    let again = api
        .post("/v1/tokens/leaver/revoke", json!({"reason": "left"}))
        .await
        .ok();
    assert_eq!(
        again["revoked_at"], revoked["revoked_at"],
        "the first time counts"
    );
    let create = json!({"name": "leaver", "role": "auditor"});
    api.post("/v1/tokens", create)
        .await
        .refused(409, "name_taken");
}

async fn a_token_is_shown_once(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let made = api
        .post("/v1/tokens", json!({"name": "ci", "role": "manager"}))
        .await
        .ok();
    let secret = made["token"].as_str().unwrap();
    let tokens = api.get("/v1/tokens").await;
    let audit = api.get("/v1/audit?limit=1000").await;
    for (place, text) in [("list", &tokens.text), ("trail", &audit.text)] {
        assert!(!text.contains(secret), "the secret is in the {place}");
    }
    let log = std::fs::read_to_string(database.file("service.log")).unwrap();
    assert!(
        !log.contains(secret) && !log.contains(&api.token),
        "a secret is in the log"
    );
    assert!(
        tokens.text.contains("\"ci\"") && !tokens.text.contains("hash"),
        "{}",
        tokens.text
    );
}

/// Every call, with what it needs: r read, t read the trail, m manage, a approve, p pause, h halt, k tokens.
fn calls() -> Vec<(Method, &'static str, Value, char)> {
    let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
    let reason = json!({"reason": "because"});
    let scope = json!({"type": "target", "id": "none"});
    let hold = |kind: &str| json!({"kind": kind, "scope": scope, "reason": "because"});
    let sandbox = json!({"connector": "sandbox", "config": {}});
    let none = Value::Null;
    vec![
        (get.clone(), "/v1/populations", none.clone(), 'r'),
        (get.clone(), "/v1/populations/none", none.clone(), 'r'),
        (
            get.clone(),
            "/v1/populations/none/members/e1",
            none.clone(),
            'r',
        ),
        (get.clone(), "/v1/imports/none", none.clone(), 'r'),
        (get.clone(), "/v1/targets", none.clone(), 'r'),
        (get.clone(), "/v1/targets/none", none.clone(), 'r'),
        (get.clone(), "/v1/rollouts", none.clone(), 'r'),
        (get.clone(), "/v1/rollouts/none", none.clone(), 'r'),
        (get.clone(), "/v1/rollouts/none/report", none.clone(), 'r'),
        (get.clone(), "/v1/rollouts/none/waves/1", none.clone(), 'r'),
        (get.clone(), "/v1/rollouts/none/members", none.clone(), 'r'),
        (
            get.clone(),
            "/v1/rollouts/none/members/e1",
            none.clone(),
            'r',
        ),
        (get.clone(), "/v1/holds", none.clone(), 'r'),
        (get.clone(), "/v1/holds/none", none.clone(), 'r'),
        (get.clone(), "/v1/audit", none.clone(), 't'),
        (get.clone(), "/v1/fsck", none.clone(), 't'),
        (get.clone(), "/v1/events", none.clone(), 't'),
        (post.clone(), "/v1/populations", json!({"name": ""}), 'm'),
        (
            put.clone(),
            "/v1/populations/none",
            json!({"mapping": {}}),
            'm',
        ),
        (
            post.clone(),
            "/v1/populations/none/imports",
            none.clone(),
            'm',
        ),
        (
            post.clone(),
            "/v1/targets",
            json!({"name": "", "connector": "sandbox"}),
            'm',
        ),
        (put.clone(), "/v1/targets/none", sandbox, 'm'),
        (post.clone(), "/v1/targets/none/check", none.clone(), 'm'),
        (post.clone(), "/v1/rollouts", json!({}), 'm'),
        (put, "/v1/rollouts/none", json!({}), 'm'),
        (post.clone(), "/v1/rollouts/none/plan", json!({}), 'm'),
        (
            post.clone(),
            "/v1/rollouts/none/start",
            json!({"digest": "d"}),
            'm',
        ),
        (
            post.clone(),
            "/v1/rollouts/none/cancel",
            reason.clone(),
            'm',
        ),
        (post.clone(), "/v1/rollouts/none/retry", reason.clone(), 'm'),
        (
            post.clone(),
            "/v1/rollouts/none/waves/1/approve",
            json!({"digest": "d", "reason": "r"}),
            'a',
        ),
        (post.clone(), "/v1/rollouts/none/pause", reason.clone(), 'p'),
        (
            post.clone(),
            "/v1/rollouts/none/resume",
            reason.clone(),
            'p',
        ),
        (post.clone(), "/v1/holds", hold("pause"), 'p'),
        (post.clone(), "/v1/holds/none/release", reason.clone(), 'l'),
        (
            post.clone(),
            "/v1/holds/none/release-request",
            reason.clone(),
            'l',
        ),
        (post.clone(), "/v1/holds/none/veto", reason.clone(), 'l'),
        (
            post.clone(),
            "/v1/holds/none/review",
            json!({"note": "looked"}),
            'l',
        ),
        (
            post.clone(),
            "/v1/holds/none/owner",
            json!({"owner": "none", "reason": "because"}),
            'l',
        ),
        (post.clone(), "/v1/holds?dry_run=true", hold("pause"), 'p'),
        (post.clone(), "/v1/holds?dry_run=true", hold("halt"), 'h'),
        (post.clone(), "/v1/holds/none/preflight", json!({}), 'l'),
        (
            post.clone(),
            "/v1/holds/none/approvals",
            json!({"digest": "d", "reason": "r"}),
            'l',
        ),
        (
            post.clone(),
            "/v1/rollouts/none/revert",
            json!({"waves": "all", "reason": "r"}),
            'l',
        ),
        (
            get.clone(),
            "/v1/rollouts/none/revert-approvals",
            none.clone(),
            'r',
        ),
        (
            post.clone(),
            "/v1/rollouts/none/revert-approvals",
            json!({"digest": "d", "reason": "r"}),
            'l',
        ),
        (post.clone(), "/v1/rollouts/none/halt", reason.clone(), 'h'),
        (post.clone(), "/v1/holds", hold("halt"), 'h'),
        (get, "/v1/tokens", none, 'k'),
        (
            post.clone(),
            "/v1/tokens",
            json!({"name": "", "role": "auditor"}),
            'k',
        ),
        (post, "/v1/tokens/none/revoke", reason, 'k'),
    ]
}

fn may(role: &str, need: char) -> bool {
    match role {
        "admin" => true,
        "manager" => "rtmpl".contains(need),
        "security" => "rtphl".contains(need),
        "approver" => "ral".contains(need),
        "auditor" => "rt".contains(need),
        _ => false,
    }
}

async fn each_role_may_do_exactly_what_the_table_says(database: Database) {
    let service = Service::start(&database);
    let mut wrong = Vec::new();
    for role in ROLES {
        let api = service.api.as_role(&format!("one-{role}"), role).await;
        for (method, path, body, need) in calls() {
            let mut request = api
                .request(method.clone(), path)
                .header("if-match", "\"1\"");
            if !body.is_null() {
                request = request.json(&body);
            }
            // Only the head of the answer: a stream of events has no end.
            let status = request.send().await.unwrap().status().as_u16();
            let is_allowed = status != 401 && status != 403;
            if is_allowed != may(role, need) || status >= 500 {
                wrong.push(format!("{role} {method} {path}: {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let auditor = service.api.as_role("two", "auditor").await;
    let sentence = auditor
        .post("/v1/populations", json!({"name": "x"}))
        .await
        .refused(403, "forbidden");
    assert!(sentence.contains("auditor"), "says what one is: {sentence}");
}

async fn place(api: &Api, kind: &str) -> String {
    let body = json!({"kind": kind, "scope": {"type": "everything"}, "reason": "because"});
    let placed = api.post("/v1/holds", body).await.ok();
    placed["id"].as_str().unwrap().to_owned()
}

async fn nobody_releases_a_halt_alone(database: Database) {
    let service = Service::start(&database);
    let admin = &service.api;
    let halt = place(admin, "halt").await;
    let release = async |api: &Api, hold: &str| {
        api.post(
            &format!("/v1/holds/{hold}/release"),
            json!({"reason": "done"}),
        )
        .await
    };
    for role in ["auditor", "signal_source"] {
        let api = admin.as_role(role, role).await;
        release(&api, &halt).await.refused(403, "forbidden");
    }
    for role in ["manager", "approver", "security"] {
        let api = admin.as_role(role, role).await;
        release(&api, &halt)
            .await
            .refused(409, "release_needs_procedure");
    }
    release(admin, &halt)
        .await
        .refused(409, "release_needs_procedure");
    // A pause on everything is let go by whoever owns it, by security or an admin: a manager answers for rollouts.
    let pause = place(admin, "pause").await;
    let manager = admin.as_role("other-manager", "manager").await;
    release(&manager, &pause)
        .await
        .refused(409, "hold_wider_than_yours");
    release(admin, &pause).await.ok();
    let own = place(&manager, "pause").await;
    assert_eq!(
        release(&manager, &own).await.ok()["released_by"],
        "other-manager"
    );
}

async fn revoking_ones_own_token_works_and_is_in_the_trail(database: Database) {
    let service = Service::start(&database);
    let other = service.api.as_role("second-admin", "admin").await;
    other
        .post(
            "/v1/tokens/second-admin/revoke",
            json!({"reason": "found in a log"}),
        )
        .await
        .ok();
    other
        .get("/v1/rollouts")
        .await
        .refused(401, "token_invalid");
    let audit = service.api.get("/v1/audit").await.ok();
    let last = audit["items"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (last["action"].as_str(), last["actor"].as_str()),
        (Some("token.revoke"), Some("second-admin"))
    );
    assert_eq!(last["detail"]["reason"], "found in a log");
}

async fn health_needs_no_token_and_the_api_does(database: Database) {
    let service = Service::start(&database);
    let nobody = service.api.with_token("");
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
    }
    let metrics = nobody.get("/metrics").await.text;
    for name in [
        "tidegate_epoch",
        "tidegate_permit_alive 1",
        "tidegate_holds_in_force 0",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }
    let described = nobody.get("/openapi.json").await;
    let reviewed =
        std::fs::read_to_string(crate::support::repository().join("docs/openapi.json")).unwrap();
    let reviewed: Value = serde_json::from_str(&reviewed).unwrap();
    assert_eq!(described.body, reviewed, "the API is as it was reviewed");
    assert_eq!(described.headers["content-type"], "application/json");
    for (path, calls) in described.body["paths"].as_object().unwrap() {
        for (method, call) in calls.as_object().unwrap() {
            if call["security"] == json!([{}]) {
                // The signature says who it is.
                assert_eq!(path, "/v1/sources/{name}/events");
                continue;
            }
            let path = path
                .replace("{wave}", "1")
                .replace("{id}", "none")
                .replace("{key}", "e1");
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = send(nobody.request(method.clone(), &path)).await;
            answer.refused(401, "token_missing");
        }
    }
}
