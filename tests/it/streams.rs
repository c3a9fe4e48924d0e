//! Security event tokens: what is forged or out of order is refused as RFC 8935 says and leaves nothing, what is
//! authentic holds once, and a stream that is not heard is blind.

mod standing;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::sandbox;
use crate::support::service::Service;
use crate::support::trail::trail;
use crate::support::transmitter::{
    AUDIENCE, ISSUER, Signer, Transmitter, claims, compromise, risk,
};
use crate::support::until;

on_each_database!(
    forged_tokens_are_refused_counted_and_hold_nothing,
    each_token_that_is_wrong_gets_its_code_and_none_is_admitted,
    a_token_of_a_stream_opens_no_door_and_an_access_token_reports_nothing,
    a_token_that_comes_again_counts_once_after_a_restart_too,
    a_low_risk_lowers_nothing,
    a_late_token_holds_and_says_that_it_is_late,
    five_hundred_with_an_unknown_key_cause_one_fetch,
    with_the_keys_out_of_reach_people_still_halt,
    a_file_of_keys_is_read_anew_and_without_it_a_token_is_to_be_sent_again,
    what_was_thanked_for_is_there_after_a_kill,
    a_tenant_alone_is_everybody_in_it_and_an_unknown_critical_member_is_discarded,
    the_transmitter_proves_itself_too_where_that_was_agreed,
);

/// A service that may ask a transmitter, with a target of `acme`.
async fn service_of(database: &Database, transmitter: &Transmitter) -> Service {
    let mut service = Service::start(database);
    let token = service.api.token.clone();
    service.stop();
    let service = again(database, &token, transmitter);
    sandbox(&service.api, json!({})).await;
    needs(&service.api, &[]).await;
    service
}

fn again(database: &Database, token: &str, transmitter: &Transmitter) -> Service {
    let variables = [
        ("TIDEGATE_REACH", transmitter.host.as_str()),
        (
            "TIDEGATE_CREDENTIAL_STREAM",
            "Bearer the-secret-that-we-chose",
        ),
    ];
    Service::start_with(database, token, &variables)
}

/// Says what `box` is, and which sources it needs.
async fn needs(api: &Api, sources: &[&str]) {
    let facts = json!({"vendor": "acme", "tenant": "contoso", "sources": sources});
    let etag = api.get("/v1/targets/box/facts").await;
    let mut request = api
        .request(Method::PUT, "/v1/targets/box/facts")
        .json(&facts);
    if let Some(tag) = etag.headers.get("etag") {
        request = request.header("if-match", tag);
    }
    send(request).await.ok();
}

/// Creates the source `okta` whose keys a transmitter publishes.
async fn okta(api: &Api, transmitter: &Transmitter, more: Value) {
    let mut stream = json!({
        "issuer": ISSUER, "audience": [AUDIENCE], "jwks_url": format!("{}/keys", transmitter.url),
    });
    let profile = match more.get("poll") {
        Some(_) => "security_events_poll",
        None => "security_events",
    };
    if let (Some(stream), Some(more)) = (stream.as_object_mut(), more.as_object()) {
        stream.extend(more.clone());
    }
    let config = json!({"vendor": "acme", "stream": stream});
    let source = json!({"name": "okta", "profile": profile, "config": config});
    api.post("/v1/sources", source).await.ok();
}

fn pushed(api: &Api, token: &str) -> reqwest::RequestBuilder {
    // One pool of connections, as a transmitter has.
    static HTTP: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);
    HTTP.post(format!("{}/v1/sources/okta/events", api.url))
        .header("content-type", "application/secevent+jwt")
        .header("accept", "application/json")
        .body(token.to_owned())
}

async fn push(api: &Api, token: &str) -> Answer {
    send(pushed(api, token)).await
}

#[track_caller]
fn check_thanked(answer: &Answer) {
    assert_eq!((answer.status, answer.text.as_str()), (202, ""));
}

#[track_caller]
fn check_refused(answer: &Answer, err: &str) {
    let said = (answer.status, answer.body["err"].as_str());
    assert_eq!(said, (400, Some(err)), "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["content-language"], "en");
    let description = answer.body["description"].as_str().unwrap_or_default();
    assert!(description.len() > 10, "{}", answer.text);
}

async fn signals(api: &Api) -> Vec<Value> {
    let listed = api.get("/v1/signals?limit=1000").await.ok();
    listed["items"].as_array().unwrap().clone()
}

async fn holds(api: &Api) -> Vec<Value> {
    let listed = api.get("/v1/holds?in_force=true").await.ok();
    listed["items"].as_array().unwrap().clone()
}

async fn until_held(api: &Api, count: usize) -> Vec<Value> {
    until("rules have held", 10, async || {
        holds(api).await.len() >= count
    })
    .await;
    let found = holds(api).await;
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

async fn refused_total(api: &Api, source: &str, code: &str) -> u64 {
    let metrics = api.get("/metrics").await.text;
    let label = format!("tidegate_source_refused_total{{source=\"{source}\",code=\"{code}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&label));
    line.map_or(0, |count| count.parse().unwrap())
}

async fn entries(api: &Api, action: &str) -> Vec<Value> {
    let all = trail(api).await;
    all.into_iter()
        .filter(|entry| entry["action"] == action)
        .collect()
}

async fn forged_tokens_are_refused_counted_and_hold_nothing(database: Database) {
    let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    okta(api, &transmitter, json!({})).await;
    let forged = other.token(&risk("f", "HIGH", 0));
    check_refused(&push(api, &forged).await, "authentication_failed");
    let before = trail(api).await.len();
    let flood = async {
        for _ in 0..20 {
            let wave = (0..25).map(|_| push(api, &forged));
            for answer in futures_util::future::join_all(wave).await {
                check_refused(&answer, "authentication_failed");
            }
        }
    };
    let genuine = async {
        let mut slowest = Duration::ZERO;
        for number in 0..10 {
            let token = signer.token(&risk(&format!("g{number}"), "LOW", 0));
            let began = Instant::now();
            check_thanked(&push(api, &token).await);
            slowest = slowest.max(began.elapsed());
        }
        slowest
    };
    let ((), slowest) = tokio::join!(flood, genuine);
    assert!(
        slowest < Duration::from_secs(5),
        "{slowest:?} beside forgeries"
    );
    assert_eq!(signals(api).await.len(), 10, "the genuine ones alone");
    assert!(holds(api).await.is_empty());
    assert_eq!(
        refused_total(api, "okta", "authentication_failed").await,
        501
    );
    until("the first refusal is in the trail", 5, async || {
        !entries(api, "source.refused").await.is_empty()
    })
    .await;
    // Ten signals, what was refused, and nothing for each of five hundred forgeries.
    let written = trail(api).await.len() - before;
    assert!(written < 60, "{written} entries");
    let told = entries(api, "source.refused").await;
    assert_eq!(told[0]["detail"]["code"], "authentication_failed");
    let unknown = reqwest::Client::new().post(format!("{}/v1/sources/nobody/events", api.url));
    send(unknown.body("x"))
        .await
        .refused(404, "source_not_found");
    assert_eq!(refused_total(api, "unknown", "source_not_found").await, 1);
    assert_eq!(refused_total(api, "nobody", "source_not_found").await, 0);
    service.end_and_fsck();
}

async fn each_token_that_is_wrong_gets_its_code_and_none_is_admitted(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    okta(api, &transmitter, json!({})).await;
    let good = risk("1", "HIGH", 0);
    let header = json!({"typ": "secevent+jwt", "alg": "RS256", "kid": "k1"});
    let with = |name: &str, value: Value| {
        let mut changed = good.clone();
        changed[name] = value;
        signer.token(&changed)
    };
    let without = |name: &str| {
        let mut changed = good.clone();
        changed.as_object_mut().unwrap().remove(name);
        signer.token(&changed)
    };
    let headed = |name: &str, value: Value| {
        let mut changed = header.clone();
        changed[name] = value;
        signer.sign(&changed, &good)
    };
    let two = json!({"https://x.example/a": {}, "https://x.example/b": {}});
    let unsigned = {
        let token = headed("alg", json!("none"));
        token
            .rsplit_once('.')
            .map(|(signed, _)| format!("{signed}."))
            .unwrap()
    };
    let now = chrono::Utc::now().timestamp();
    for (name, token, err) in [
        ("none", unsigned, "authentication_failed"),
        (
            "hs256",
            headed("alg", json!("HS256")),
            "authentication_failed",
        ),
        (
            "ps256",
            headed("alg", json!("PS256")),
            "authentication_failed",
        ),
        ("typ", headed("typ", json!("JWT")), "invalid_request"),
        ("at+jwt", headed("typ", json!("at+jwt")), "invalid_request"),
        (
            "jku",
            headed("jku", json!("https://x.example")),
            "invalid_key",
        ),
        ("kid", headed("kid", json!("../../k1")), "invalid_key"),
        ("exp", with("exp", json!(now + 60)), "invalid_request"),
        ("sub", with("sub", json!("ann")), "invalid_request"),
        ("no iss", without("iss"), "invalid_issuer"),
        (
            "iss",
            with("iss", json!("https://idp.example/")),
            "invalid_issuer",
        ),
        ("no aud", without("aud"), "invalid_audience"),
        (
            "aud",
            with("aud", json!("https://other.example")),
            "invalid_audience",
        ),
        ("two events", with("events", two), "invalid_request"),
        ("no jti", without("jti"), "invalid_request"),
        ("no iat", without("iat"), "invalid_request"),
        ("future", with("iat", json!(now + 180)), "invalid_request"),
        ("nobody", without("sub_id"), "invalid_request"),
        ("no token", "no token at all".to_owned(), "invalid_request"),
    ] {
        let answer = push(api, &token).await;
        assert_eq!(answer.body["err"], err, "{name}: {}", answer.text);
        check_refused(&answer, err);
    }
    let typed = pushed(api, &signer.token(&good)).header("content-type", "application/jwt");
    let typed = typed.build().map(|mut request| {
        let kind = "application/jwt".parse().unwrap();
        request.headers_mut().insert("content-type", kind);
        request
    });
    let answer = reqwest::Client::new()
        .execute(typed.unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
    assert!(signals(api).await.is_empty());
    assert!(holds(api).await.is_empty());
    check_thanked(&push(api, &signer.token(&good)).await);
    service.end_and_fsck();
}

async fn a_token_of_a_stream_opens_no_door_and_an_access_token_reports_nothing(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    okta(api, &transmitter, json!({})).await;
    let token = signer.token(&risk("1", "HIGH", 0));
    api.with_token(&token)
        .get("/v1/rollouts")
        .await
        .refused(401, "token_invalid");
    check_refused(&push(api, &api.token).await, "invalid_request");
    let now = chrono::Utc::now().timestamp();
    let access = json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 60, "scope": "x"});
    let header = json!({"typ": "at+jwt", "alg": "RS256", "kid": "k1"});
    check_refused(
        &push(api, &signer.sign(&header, &access)).await,
        "invalid_request",
    );
    check_refused(&push(api, &signer.token(&access)).await, "invalid_request");
    assert!(signals(api).await.is_empty());
}

async fn a_token_that_comes_again_counts_once_after_a_restart_too(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let mut service = service_of(&database, &transmitter).await;
    let token = service.api.token.clone();
    okta(&service.api, &transmitter, json!({})).await;
    let first = signer.token(&risk("same", "HIGH", 390 * 86_400));
    check_thanked(&push(&service.api, &first).await);
    check_thanked(&push(&service.api, &first).await);
    until_held(&service.api, 1).await;
    service.stop();
    let service = again(&database, &token, &transmitter);
    check_thanked(&push(&service.api, &first).await);
    let resigned = signer.token(&risk("same", "HIGH", 0));
    check_thanked(&push(&service.api, &resigned).await);
    assert_eq!(signals(&service.api).await.len(), 1);
    assert_eq!(holds(&service.api).await.len(), 1);
    service.end_and_fsck();
}

async fn a_low_risk_lowers_nothing(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    okta(api, &transmitter, json!({})).await;
    let low_before = signer.token(&risk("low", "LOW", 600));
    check_thanked(&push(api, &low_before).await);
    check_thanked(&push(api, &signer.token(&risk("high", "HIGH", 0))).await);
    let before = until_held(api, 1).await;
    for token in [low_before, signer.token(&risk("low again", "LOW", 0))] {
        check_thanked(&push(api, &token).await);
    }
    until("all are judged", 5, async || {
        signals(api)
            .await
            .iter()
            .all(|signal| signal["outcome"] != "waiting")
    })
    .await;
    let after = holds(api).await;
    let same = |name: &str| assert_eq!(before[0][name], after[0][name], "{name}");
    for name in ["id", "kind", "scope", "in_force", "reported"] {
        same(name);
    }
    assert_eq!(after.len(), 1);
    service.end_and_fsck();
}

async fn a_late_token_holds_and_says_that_it_is_late(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    okta(api, &transmitter, json!({})).await;
    check_thanked(&push(api, &signer.token(&risk("late", "HIGH", 5 * 86_400))).await);
    until_held(api, 1).await;
    let found = signals(api).await;
    assert_eq!(found[0]["signal"]["late"], true, "{found:#?}");
    assert_eq!(found[0]["signal"]["trust"], "signed_fresh");
    service.end_and_fsck();
}

async fn five_hundred_with_an_unknown_key_cause_one_fetch(database: Database) {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let transmitter = Transmitter::start(&[&old]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    transmitter.book().keys.push(new.jwk());
    okta(api, &transmitter, json!({})).await;
    let tokens: Vec<String> = (0..500)
        .map(|number| new.token(&risk(&number.to_string(), "LOW", 0)))
        .collect();
    let all = tokens.iter().map(|token| push(api, token));
    for answer in futures_util::future::join_all(all).await {
        check_thanked(&answer);
    }
    assert_eq!(transmitter.book().fetches, 1);
    // What nobody publishes is refused, and costs no fetch within the minute either.
    let unknown = Signer::new("unknown");
    for number in 0..20 {
        let token = unknown.token(&risk(&format!("u{number}"), "HIGH", 0));
        check_refused(&push(api, &token).await, "invalid_key");
    }
    assert_eq!(transmitter.book().fetches, 1);
    assert_eq!(signals(api).await.len(), 500);
    service.end_and_fsck();
}

async fn with_the_keys_out_of_reach_people_still_halt(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    transmitter.book().is_down = true;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    okta(api, &transmitter, json!({})).await;
    let answer = push(api, &signer.token(&risk("1", "HIGH", 0))).await;
    answer.refused(503, "keys_unavailable");
    assert_eq!(answer.headers["retry-after"], "60");
    assert!(signals(api).await.is_empty());
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "by hand"});
    api.post("/v1/holds", halt).await.ok();
    assert_eq!(holds(api).await.len(), 1);
    service.end_and_fsck();
}

async fn a_file_of_keys_is_read_anew_and_without_it_a_token_is_to_be_sent_again(
    database: Database,
) {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let service = Service::start(&database);
    let api = &service.api;
    let write = |keys: Value| {
        std::fs::write(
            database.file("okta.jwks"),
            json!({"keys": keys}).to_string(),
        )
        .unwrap();
    };
    let stream = json!({"issuer": ISSUER, "audience": [AUDIENCE], "jwks_file": database.granted("okta.jwks")});
    let config = json!({"vendor": "acme", "stream": stream});
    let source = json!({"name": "okta", "profile": "security_events", "config": config});
    let sent = api.post("/v1/sources", source.clone()).await;
    sent.refused(422, "config_invalid");
    write(json!([old.jwk()]));
    api.post("/v1/sources", source).await.ok();
    let by_new = new.token(&risk("1", "LOW", 0));
    check_refused(&push(api, &by_new).await, "invalid_key");
    write(json!([new.jwk()]));
    check_thanked(&push(api, &by_new).await);
    check_refused(
        &push(api, &old.token(&risk("2", "LOW", 0))).await,
        "invalid_key",
    );
    std::fs::remove_file(database.file("okta.jwks")).unwrap();
    push(api, &by_new).await.refused(503, "keys_unavailable");
    service.end_and_fsck();
}

async fn what_was_thanked_for_is_there_after_a_kill(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let mut service = service_of(&database, &transmitter).await;
    let token = service.api.token.clone();
    okta(&service.api, &transmitter, json!({})).await;
    let event = signer.token(&risk("1", "HIGH", 0));
    let answer = push(&service.api, &event).await;
    service.kill();
    check_thanked(&answer);
    let service = again(&database, &token, &transmitter);
    check_thanked(&push(&service.api, &event).await);
    until_held(&service.api, 1).await;
    assert_eq!(signals(&service.api).await.len(), 1);
    service.end_and_fsck();
}

async fn a_tenant_alone_is_everybody_in_it_and_an_unknown_critical_member_is_discarded(
    database: Database,
) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    let critical = json!({"critical_subject_members": ["tenant", "orbit"]});
    okta(api, &transmitter, critical).await;
    let orbit = |tenant: &str| {
        let subject = json!({"format": "complex", "tenant": {"format": "opaque", "id": tenant},
            "orbit": {"format": "opaque", "id": "low"}});
        let payload = json!({"principal": "TENANT", "current_level": "HIGH"});
        claims(
            "o",
            "caep/event-type/risk-level-change",
            payload,
            subject,
            0,
        )
    };
    check_refused(
        &push(api, &signer.token(&orbit("contoso"))).await,
        "invalid_request",
    );
    assert!(signals(api).await.is_empty(), "not half of it");
    assert_eq!(refused_total(api, "okta", "discarded").await, 1);
    until("it is reported", 5, async || {
        let told = entries(api, "source.refused").await;
        told.iter()
            .any(|entry| entry["detail"]["code"] == "discarded")
    })
    .await;
    check_thanked(&push(api, &signer.token(&compromise("c", 0))).await);
    let found = signals(api).await;
    assert_eq!(found[0]["signal"]["subject"], json!({"tenant": "contoso"}));
    check_thanked(&push(api, &signer.token(&risk("r", "HIGH", 0))).await);
    let held = until_held(api, 1).await;
    assert_eq!(held[0]["kind"], "pause", "{held:#?}");
    assert_eq!(held[0]["scope"]["type"], "target");
    service.end_and_fsck();
}

async fn the_transmitter_proves_itself_too_where_that_was_agreed(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    let authorization = json!({"authorization": {"env": "TIDEGATE_CREDENTIAL_STREAM"}});
    okta(api, &transmitter, authorization).await;
    let token = signer.token(&risk("1", "LOW", 0));
    check_refused(&push(api, &token).await, "authentication_failed");
    let wrong = pushed(api, &token).header("authorization", "Bearer another");
    check_refused(&send(wrong).await, "authentication_failed");
    let right = pushed(api, &token).header("authorization", "Bearer the-secret-that-we-chose");
    check_thanked(&send(right).await);
}
