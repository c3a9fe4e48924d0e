//! What others report stops what it is about, at once and for good, and nothing else.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::Service;
use crate::support::until;
use crate::support::webhooks::{SECRET, Sender, service_with_key, source};

on_each_database!(
    a_reported_breach_halts_people_on_their_way_and_stays,
    what_was_answered_is_judged_after_a_kill,
    whoever_reports_may_do_nothing_else,
    a_report_that_cannot_be_read_holds_nothing,
    a_signed_webhook_halts_once_and_a_forged_or_stale_one_leaves_nothing,
    what_gets_worse_is_told_once_for_each_step_and_not_for_each_signal,
    a_word_that_is_not_known_is_taken_and_said,
    a_vendor_is_the_same_however_its_name_is_written,
    a_rule_about_waves_holds_the_wave_of_whom_a_signal_names_and_all_of_it_for_strangers,
);

/// Says that the target `box` is a product of `acme`.
async fn of_acme(api: &Api) {
    let facts = json!({"vendor": "Acme"});
    send(
        api.request(Method::PUT, "/v1/targets/box/facts")
            .json(&facts),
    )
    .await
    .ok();
}

fn breach(id: &str) -> Value {
    json!({"id": id, "kind": "vendor_breach", "severity": "critical", "vendor": "acme", "title": "they are in"})
}

async fn halts(api: &Api) -> Vec<Value> {
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    let items = holds["items"].as_array().unwrap().clone();
    items
        .into_iter()
        .filter(|hold| hold["kind"] == "halt")
        .collect()
}

async fn a_reported_breach_halts_people_on_their_way_and_stays(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 5_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    of_acme(api).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 100, 30).await;
    let siem = api.as_role("siem", "signal_source").await;
    siem.post("/v1/signals", breach("1")).await.ok();
    until_status(api, "move", "halted", 5).await;
    until("what had come back is written", 5, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    let done = api.get("/v1/rollouts/move").await.ok()["totals"]["done"].clone();
    let again = siem.post("/v1/signals", breach("1")).await.ok();
    assert_eq!(
        (&again["admitted"], &again["repeated"]),
        (&json!(0), &json!(1))
    );
    let closed = json!({"id": "2", "kind": "vendor_breach", "severity": "low", "vendor": "acme", "lifecycle": "closed"});
    siem.post("/v1/signals", closed).await.ok();
    until("the end of the matter is judged", 5, async || {
        let listed = api.get("/v1/signals").await.ok();
        listed["items"][0]["outcome"] == "unmapped"
    })
    .await;
    let halts = halts(api).await;
    assert_eq!(halts.len(), 1, "{halts:#?}");
    let metrics = api.get("/metrics").await.text;
    for line in [
        "tidegate_signals_admitted_total{source=\"token:siem\"} 2",
        "tidegate_signals_judged_total{outcome=\"halt\"} 1",
        "tidegate_signals_judged_total{outcome=\"unmapped\"} 1",
        "tidegate_signals_waiting 0",
        "tidegate_signal_judged_seconds_bucket{le=\"300.000\"} 2",
        "tidegate_signal_judged_seconds_count 2",
        "tidegate_holds_standing{kind=\"halt\",by=\"rule\"} 1",
        "tidegate_holds_standing{kind=\"halt\",by=\"others\"} 0",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}\n{metrics}");
    }
    let id = halts[0]["id"].as_str().unwrap();
    let release = json!({"reason": "it is over"});
    let answer = api.post(&format!("/v1/holds/{id}/release"), release).await;
    answer.refused(409, "release_needs_procedure");
    let requirements = api.get(&format!("/v1/holds/{id}/requirements")).await.ok();
    assert_eq!(
        requirements.as_array().map(Vec::len),
        Some(4),
        "{requirements:#}"
    );
    let halted = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(halted["totals"]["done"], done, "nobody moved meanwhile");
    service.end_and_fsck();
}

async fn what_was_answered_is_judged_after_a_kill(database: Database) {
    let mut service = Service::start(&database);
    let token = service.api.token.clone();
    sandbox(&service.api, json!({})).await;
    of_acme(&service.api).await;
    let answer = service.api.post("/v1/signals", breach("1")).await;
    service.kill();
    assert_eq!(answer.ok()["admitted"], 1);
    let service = Service::start_again(&database, &token);
    until("the signal is judged", 10, async || {
        !halts(&service.api).await.is_empty()
    })
    .await;
    assert_eq!(halts(&service.api).await.len(), 1);
    service.end_and_fsck();
}

async fn whoever_reports_may_do_nothing_else(database: Database) {
    let service = Service::start(&database);
    let siem = service.api.as_role("siem", "signal_source").await;
    siem.get("/v1/signals").await.refused(403, "forbidden");
    siem.post(
        "/v1/holds",
        json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "x"}),
    )
    .await
    .refused(403, "forbidden");
    siem.post("/v1/policies/starter/versions/1/approve", json!({}))
        .await
        .refused(403, "forbidden");
    let manager = service.api.as_role("mo", "manager").await;
    manager
        .post("/v1/signals", breach("1"))
        .await
        .refused(403, "forbidden");
}

async fn a_report_that_cannot_be_read_holds_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    of_acme(api).await;
    for (body, code) in [
        (json!([]), "field_invalid"),
        (
            json!({"kind": "vendor_breach", "subject": 7}),
            "field_invalid",
        ),
    ] {
        api.post("/v1/signals", body).await.refused(422, code);
    }
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let sent = api.post_text("/v1/signals", "application/json", deep).await;
    sent.refused(422, "too_deep");
    let sent = api
        .post_text("/v1/signals", "text/plain", "x".to_owned())
        .await;
    sent.refused(415, "media_type");
    assert_eq!(api.get("/v1/signals").await.ok()["items"], json!([]));
    assert!(halts(api).await.is_empty());
}

async fn a_signed_webhook_halts_once_and_a_forged_or_stale_one_leaves_nothing(database: Database) {
    let service = service_with_key(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    of_acme(api).await;
    source(api, "siem", "acme").await;
    let body =
        json!({"type": "security.vendor_breach", "data": {"severity": "critical"}}).to_string();
    let sender = Sender::new(api, "siem");
    let sent = async |id: &str, age: i64, secret: &str| {
        send(sender.message((id, age), secret, &body)).await
    };
    sent("m1", 0, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
        .await
        .refused(401, "forged");
    sent("m1", 400, SECRET).await.refused(401, "stale");
    assert_eq!(api.get("/v1/signals").await.ok()["items"], json!([]));
    assert_eq!(sent("m1", 0, SECRET).await.ok()["admitted"], 1);
    assert_eq!(
        sent("m1", 10, SECRET).await.ok()["repeated"],
        1,
        "an honest repetition"
    );
    until("it halts", 5, async || !halts(api).await.is_empty()).await;
    assert_eq!(halts(api).await.len(), 1);
    let unknown = reqwest::Client::new()
        .post(format!("{}/v1/sources/other/events", api.url))
        .json(&json!({}));
    send(unknown).await.refused(404, "source_not_found");
    service.end_and_fsck();
}

async fn a_rule_about_waves_holds_the_wave_of_whom_a_signal_names_and_all_of_it_for_strangers(
    database: Database,
) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 300).await;
    sandbox(api, json!({"latency_ms": 500, "concurrency": 2})).await;
    of_acme(api).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 1, 30).await;
    let rules = "policy_set: waves\nrules:\n  - id: theft\n    says: A stolen account holds its wave.\n    when:\n      all:\n        \
        - {signal: kind, equals: account_compromise}\n        - {signal: severity, at_least: high, unknown_is: high}\n        \
        - {signal: vendor, is: target.vendor}\n    trust_at_least: authenticated_channel\n    \
        then: {verdict: hold, kind: pause, scope: wave}\n";
    let draft = api
        .post_text("/v1/policies", "application/yaml", rules)
        .await
        .ok();
    let path = format!("/v1/policies/waves/versions/{}/approve", draft["version"]);
    for who in ["sam", "kim"] {
        let security = api.as_role(who, "security").await;
        security.post(&path, json!({})).await.ok();
    }
    let stolen = async |id: &str, user: &str| {
        let report = json!({"id": id, "kind": "account_compromise", "severity": "high", "vendor": "acme", "subject": {"user": user}});
        api.post("/v1/signals", report).await.ok();
    };
    let scopes = async || {
        let holds = api.get("/v1/holds?in_force=true").await.ok();
        let items = holds["items"].as_array().unwrap().clone();
        let mut scopes: Vec<String> = items
            .iter()
            .map(|hold| {
                format!(
                    "{} {}",
                    hold["scope"]["type"].as_str().unwrap(),
                    hold["scope"]["wave"]
                )
            })
            .collect();
        scopes.sort();
        scopes
    };
    let member = api.get("/v1/rollouts/move/members/e0000007").await.ok();
    let wave = member["wave"]["number"].clone();
    stolen("1", "e0000007").await;
    until("their wave is held", 10, async || {
        scopes().await == [format!("wave {wave}")]
    })
    .await;
    let held = api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(
        held["items"][0]["owner"], "kim",
        "who said the last yes is asked: {held:#}"
    );
    stolen("2", "stranger").await;
    until("the rollout is held", 10, async || {
        scopes().await == ["rollout null".to_owned(), format!("wave {wave}")]
    })
    .await;
    service.end_and_fsck();
}

async fn what_gets_worse_is_told_once_for_each_step_and_not_for_each_signal(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    of_acme(api).await;
    let siem = api.as_role("siem", "signal_source").await;
    let report = async |id: String, severity: &str| {
        let mut report = breach(&id);
        report["severity"] = json!(severity);
        siem.post("/v1/signals", report).await.ok();
    };
    let counted = async |signals: u64| {
        until("they are judged", 10, async || {
            let holds = api.get("/v1/holds?in_force=true").await.ok();
            let gates = holds["items"].as_array().unwrap().clone();
            let gate = gates.iter().find(|hold| hold["kind"] == "gate").cloned();
            gate.is_some_and(|gate| gate["reported"]["signals"] == signals)
        })
        .await;
    };
    let worse = async || {
        let entries = crate::support::trail::trail(api).await;
        let worse = entries.into_iter();
        let worse = worse.filter(|entry| entry["action"] == "hold.worsen");
        worse.collect::<Vec<Value>>()
    };
    report("0".to_owned(), "low").await;
    counted(1).await;
    assert_eq!(worse().await.len(), 0, "a hold that is new is no worse");
    for number in 1..=20 {
        report(number.to_string(), "medium").await;
    }
    counted(21).await;
    let told = worse().await;
    assert_eq!(told.len(), 1, "{told:#?}");
    let detail = &told[0]["detail"];
    assert_eq!(
        (&detail["severity_was"], &detail["severity"]),
        (&json!("low"), &json!("medium"))
    );
    report("21".to_owned(), "critical").await;
    report("22".to_owned(), "critical").await;
    counted(23).await;
    assert_eq!(worse().await.len(), 2, "once for the step up");
    let listed = String::from_utf8_lossy(&service.cli(&["hold", "list"]).stdout).into_owned();
    assert!(
        listed.contains("23 signals, the worst critical"),
        "{listed}"
    );
    service.end_and_fsck();
}

async fn a_word_that_is_not_known_is_taken_and_said(database: Database) {
    let service = Service::start(&database);
    let siem = service.api.as_role("siem", "signal_source").await;
    let slip =
        json!({"id": "1", "kind": "vendor_breach", "severity": "kritisch", "vendor": "acme"});
    for _ in 0..2 {
        let answer = siem.post("/v1/signals", slip.clone()).await.ok();
        let warnings = answer["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{answer:#}");
        assert_eq!(
            (&warnings[0]["field"], &warnings[0]["word"]),
            (&json!("severity"), &json!("kritisch"))
        );
        let known = warnings[0]["known"].as_array().unwrap();
        assert!(known.contains(&json!("critical")), "{answer:#}");
    }
    let good = siem.post("/v1/signals", breach("2")).await.ok();
    assert!(good.get("warnings").is_none(), "{good:#}");
    let file = database.file("report.json");
    std::fs::write(&file, r#"{"id": "3", "kind": "vendor_breech"}"#).unwrap();
    let sent = service.cli(&["signal", "send", file.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(sent.status.success(), "{said}");
    assert!(
        said.contains("admitted as") && said.contains("`vendor_breech` is not known"),
        "{said}"
    );
}

async fn a_vendor_is_the_same_however_its_name_is_written(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    // Composed here, and decomposed in what is reported.
    let facts = json!({"vendor": "M\u{fc}ller  Straße"});
    let set = async |facts: &Value| {
        let put = api
            .request(Method::PUT, "/v1/targets/box/facts")
            .json(facts);
        send(put).await
    };
    let shown = set(&facts).await.ok();
    assert_eq!(
        shown["vendor"], "M\u{fc}ller Straße",
        "shown as it was given"
    );
    let mut report = breach("1");
    report["vendor"] = json!("MU\u{308}LLER STRASSE");
    api.post("/v1/signals", report).await.ok();
    until("it halts", 5, async || !halts(api).await.is_empty()).await;
    set(&json!({"vendor": "mu\u{308}ller strasse"})).await.ok();
    set(&json!({"vendor": "another"}))
        .await
        .refused(409, "rule_in_use");
}
