//! What happens is told to endpoints: signed, in order, at least once, and without slowing anybody down.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crash::number;
use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{EASY, import, sandbox, started, two_waves, until_status};
use crate::support::receiver::{Got, KEY, Mood, Receiver};
use crate::support::service::Service;
use crate::support::trail::{count, trail};
use crate::support::until;

on_each_database!(
    a_halt_is_told_signed_with_what_people_need_to_know,
    every_hold_release_gate_verdict_and_reminder_is_told_in_the_order_of_the_trail,
    what_was_not_taken_comes_again_with_the_same_id_before_anything_else,
    a_kill_between_sending_and_noting_repeats_and_loses_nothing,
    a_gone_endpoint_is_told_nothing_and_goes_on_there_when_revived,
    a_dead_endpoint_is_reported_everywhere_and_loses_nothing,
    an_endpoint_that_hangs_delays_neither_a_halt_nor_the_others,
    keys_change_without_a_gap_and_are_never_stored,
    where_nobody_may_send_to_is_refused_and_redirects_are_not_followed,
    the_command_line_sets_up_tries_out_and_ends_an_endpoint,
);

const VARIABLE: &str = "TIDEGATE_CREDENTIAL_PAGER";
const OTHER_KEY: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Starts a service that may reach these receivers.
pub(crate) fn reaching(database: &Database, receivers: &[&Receiver]) -> Service {
    let mut first = Service::start(database);
    let token = first.api.token.clone();
    first.stop();
    again(database, &token, receivers)
}

fn again(database: &Database, token: &str, receivers: &[&Receiver]) -> Service {
    let hosts: Vec<&str> = receivers.iter().map(|one| one.host.as_str()).collect();
    let reach = hosts.join(",");
    let variables = [
        (VARIABLE, KEY),
        ("TIDEGATE_CREDENTIAL_NEXT", OTHER_KEY),
        ("TIDEGATE_REACH", &reach),
        ("TIDEGATE_PUBLIC_URL", "https://tidegate.example.org/"),
    ];
    Service::start_with(database, token, &variables)
}

fn body(name: &str, url: &str) -> Value {
    json!({"name": name, "url": url, "config": {"keys": [{"env": VARIABLE}]}})
}

pub(crate) async fn endpoint(api: &Api, name: &str, receiver: &Receiver) -> Value {
    api.post("/v1/endpoints", body(name, &receiver.url()))
        .await
        .ok()
}

async fn halt(api: &Api) -> Value {
    let body = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "a drill"});
    api.post("/v1/holds", body).await.ok()
}

async fn pause(api: &Api, reason: &str) -> String {
    let body = json!({"kind": "pause", "scope": {"type": "everything"}, "reason": reason});
    let placed = api.post("/v1/holds", body).await.ok();
    placed["id"].as_str().unwrap().to_owned()
}

async fn pause_and_release(api: &Api, reason: &str) {
    let id = pause(api, reason).await;
    api.post(
        &format!("/v1/holds/{id}/release"),
        json!({"reason": "over"}),
    )
    .await
    .ok();
}

async fn show(api: &Api, name: &str) -> Value {
    let all = api.get("/v1/endpoints").await.ok();
    let found = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == name);
    found.unwrap().clone()
}

/// Waits until everything that is told has been taken, once at least, and returns it without repetitions.
async fn until_all_taken(
    api: &Api,
    receiver: &Receiver,
    actions: &[&str],
    seconds: u64,
) -> Vec<Got> {
    let wanted: Vec<i64> = trail(api)
        .await
        .iter()
        .filter(|entry| actions.contains(&entry["action"].as_str().unwrap()))
        .map(|entry| entry["seq"].as_i64().unwrap())
        .collect();
    let taken = || {
        let mut taken = receiver.taken();
        let mut seen = std::collections::BTreeSet::new();
        taken.retain(|got| seen.insert(got.id.clone()));
        taken
    };
    let of = |taken: &[Got]| taken.iter().map(Got::sequence).collect::<Vec<_>>();
    until("everything was taken", seconds, async || {
        of(&taken()).ends_with(&wanted[wanted.len().saturating_sub(1)..])
    })
    .await;
    assert_eq!(
        of(&taken()),
        wanted,
        "in the order of the trail, and all of it"
    );
    taken()
}

const HOLDS: &[&str] = &["hold.place", "hold.release", "hold.join"];

async fn a_halt_is_told_signed_with_what_people_need_to_know(database: Database) {
    let receiver = Receiver::start().await;
    let service = reaching(&database, &[&receiver]);
    let api = &service.api;
    endpoint(api, "pager", &receiver).await;
    let placed = halt(api).await;
    until("it is told", 5, async || !receiver.got().is_empty()).await;
    let got = receiver.got().remove(0);
    let id = placed["id"].as_str().unwrap();
    assert!(got.genuine, "{got:#?}");
    assert_eq!(got.media, "application/cloudevents+json");
    assert!((chrono::Utc::now().timestamp() - got.at).abs() < 60);
    let event = &got.event;
    assert_eq!(event["id"], got.id.as_str());
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["type"], "dev.tidegate.hold.placed");
    assert_eq!(event["source"], "https://tidegate.example.org");
    assert_eq!(event["subject"], format!("hold/{id}"));
    let hold = &event["data"]["hold"];
    assert_eq!(hold["kind"], "halt");
    assert_eq!(hold["scope"], json!({"type": "everything"}));
    assert_eq!(hold["reason"], "a drill");
    assert_eq!(event["data"]["by"], "first-admin");
    let link = event["data"]["links"]["hold"].as_str().unwrap();
    assert_eq!(link, format!("https://tidegate.example.org/v1/holds/{id}"));
    until("it is noted", 5, async || {
        show(api, "pager").await["delivered_at"].is_string()
    })
    .await;
    service.end_and_fsck();
}

async fn every_hold_release_gate_verdict_and_reminder_is_told_in_the_order_of_the_trail(
    database: Database,
) {
    let receiver = Receiver::start().await;
    let service = reaching(&database, &[&receiver]);
    let api = &service.api;
    endpoint(api, "pager", &receiver).await;
    import(api, 300).await;
    sandbox(api, json!({})).await;
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 60).await;
    let failing =
        json!({"name": "bad", "connector": "sandbox", "config": {"failure_ppm": 1_000_000}});
    api.post("/v1/targets", failing).await.ok();
    let strict = two_waves()
        .replace("rollout: move", "rollout: fails")
        .replace("target: box", "target: bad")
        .replace(EASY, "gate: {failures_at_most: 0}");
    started(api, &strict).await;
    until_status(api, "fails", "held", 60).await;
    let scope = json!({"type": "rollout", "id": "fails"});
    let overdue = json!({
        "kind": "halt", "scope": scope, "reason": "look", "review_at": "2024-02-01T00:00:00Z",
    });
    let placed = api.post("/v1/holds", overdue).await.ok();
    pause_and_release(api, "a moment").await;
    until("a reminder is written", 10, async || {
        count(&trail(api).await, "hold.review_due") == 1
    })
    .await;
    let told = [
        HOLDS,
        &["hold.review_due", "hold.end"],
        &["rollout.started", "rollout.completed", "rollout.went_on"],
        &[
            "wave.opened",
            "wave.passed",
            "wave.gate_failed",
            "wave.approved",
        ],
    ]
    .concat();
    let taken = until_all_taken(api, &receiver, &told, 20).await;
    let of = |kind: &str| -> Vec<&Got> { taken.iter().filter(|got| got.kind() == kind).collect() };
    assert_eq!(of("wave.passed").len(), 2);
    let verdict = &of("wave.gate_failed")[0].event["data"];
    assert_eq!(verdict["rollout"]["name"], "fails");
    assert_eq!(verdict["wave"], 1);
    assert!(
        verdict["detail"]["change"]["sentence"].is_string(),
        "{verdict:#}"
    );
    let gate = of("hold.placed");
    assert!(
        gate.iter()
            .any(|got| got.event["data"]["hold"]["kind"] == "gate")
    );
    let due = &of("hold.review_due")[0].event["data"];
    assert_eq!(due["hold"]["id"], placed["id"]);
    assert_eq!(due["hold"]["scope"]["name"], "fails", "{due:#}");
    assert_eq!(of("hold.released").len(), 1);
    assert!(taken.iter().all(|got| got.genuine));
    assert!(taken.iter().all(|got| got.event.to_string().len() < 20_000));
    service.end_and_fsck();
}

async fn what_was_not_taken_comes_again_with_the_same_id_before_anything_else(database: Database) {
    let receiver = Receiver::start().await;
    let service = reaching(&database, &[&receiver]);
    let api = &service.api;
    endpoint(api, "pager", &receiver).await;
    pause_and_release(api, "first").await;
    until_all_taken(api, &receiver, HOLDS, 10).await;
    receiver.answers(Mood::Answers(500));
    for number in 0..3 {
        pause_and_release(api, &format!("then {number}")).await;
    }
    until("it was refused", 10, async || {
        show(api, "pager").await["failures"] == 1
    })
    .await;
    let view = show(api, "pager").await;
    assert_eq!(view["status"], "active");
    assert_eq!(view["last_error"], "it answered 500");
    assert!(view["next_attempt_at"].is_string());
    let refused = receiver.got().pop().unwrap();
    assert_eq!(view["stuck_at"], refused.id.as_str());
    receiver.answers(Mood::Answers(200));
    let taken = until_all_taken(api, &receiver, HOLDS, 20).await;
    assert_eq!(taken.len(), 8);
    let same: Vec<Got> = receiver
        .got()
        .into_iter()
        .filter(|got| got.id == refused.id)
        .collect();
    assert_eq!(same.len(), 2);
    assert!(same[1].at > same[0].at, "a fresh instant: {same:#?}");
    assert!(same.iter().all(|got| got.genuine) && same[0].event == same[1].event);
    let after = show(api, "pager").await;
    assert_eq!(
        (&after["failures"], &after["last_error"]),
        (&json!(0), &Value::Null)
    );
    service.end_and_fsck();
}

async fn a_kill_between_sending_and_noting_repeats_and_loses_nothing(database: Database) {
    let receiver = Receiver::start().await;
    let mut service = reaching(&database, &[&receiver]);
    let token = service.api.token.clone();
    endpoint(&service.api, "pager", &receiver).await;
    receiver.answers(Mood::Hangs);
    pause_and_release(&service.api, "first").await;
    pause_and_release(&service.api, "second").await;
    until("it was sent", 10, async || !receiver.got().is_empty()).await;
    service.kill();
    let sent = receiver.got();
    assert_eq!(sent.len(), 1, "one at a time");
    receiver.answers(Mood::Answers(204));
    let service = again(&database, &token, &[&receiver]);
    let taken = until_all_taken(&service.api, &receiver, HOLDS, 40).await;
    assert_eq!(taken.len(), 4);
    assert_eq!(taken[0].id, sent[0].id, "repeated with the same id");
    service.end_and_fsck();
}

async fn a_gone_endpoint_is_told_nothing_and_goes_on_there_when_revived(database: Database) {
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let service = reaching(&database, &[&receiver, &other]);
    let api = &service.api;
    endpoint(api, "pager", &receiver).await;
    endpoint(api, "witness", &other).await;
    // Once the other one was told of something later, this one had its chance.
    let later = async |reason: &str| {
        database.execute("UPDATE endpoint SET next_at = 0").await;
        pause_and_release(api, reason).await;
        let wanted = count(&trail(api).await, "hold.release");
        until("the witness is told", 10, async || {
            let told = other.types();
            told.iter().filter(|kind| *kind == "hold.released").count() == wanted
        })
        .await;
    };
    receiver.answers(Mood::Answers(410));
    later("first").await;
    until("it is gone", 10, async || {
        show(api, "pager").await["status"] == "gone"
    })
    .await;
    receiver.answers(Mood::Answers(204));
    later("second").await;
    assert_eq!(receiver.got().len(), 1, "at once, and nothing after it");
    assert_eq!(count(&trail(api).await, "endpoint.gone"), 1);
    api.post("/v1/endpoints/pager/revive", json!({})).await.ok();
    let told = [HOLDS, &["endpoint.gone", "endpoint.revive"]].concat();
    let taken = until_all_taken(api, &receiver, &told, 10).await;
    assert_eq!(taken[0].id, receiver.got()[0].id, "where it was");
    api.post("/v1/endpoints/pager/revoke", json!({})).await.ok();
    later("third").await;
    assert_eq!(receiver.taken().len(), taken.len());
    api.post("/v1/endpoints/pager/revive", json!({}))
        .await
        .refused(409, "endpoint_revoked");
    service.end_and_fsck();
}

async fn a_dead_endpoint_is_reported_everywhere_and_loses_nothing(database: Database) {
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let service = reaching(&database, &[&receiver, &other]);
    let api = &service.api;
    endpoint(api, "pager", &receiver).await;
    endpoint(api, "chat", &other).await;
    receiver.answers(Mood::Answers(503));
    pause_and_release(api, "first").await;
    until("it fails", 10, async || {
        show(api, "pager").await["failures"] == 1
    })
    .await;
    // Three days pass.
    let days = "UPDATE endpoint SET failing_since = failing_since - 259200000, next_at = 0 WHERE name = 'pager'";
    database.execute(days).await;
    until("it is dead", 10, async || {
        show(api, "pager").await["status"] == "dead"
    })
    .await;
    let sent = receiver.got().len();
    pause_and_release(api, "while dead").await;
    until("the other one is told of it", 10, async || {
        other
            .types()
            .ends_with(&["hold.placed".to_owned(), "hold.released".to_owned()])
            && other.types().contains(&"endpoint.dead".to_owned())
    })
    .await;
    assert_eq!(receiver.got().len(), sent, "told nothing more");
    let entries = trail(api).await;
    let dead = entries
        .iter()
        .find(|entry| entry["action"] == "endpoint.dead");
    let detail = &dead.unwrap()["detail"];
    assert_eq!(detail["error"], "it answered 503", "{detail:#}");
    let metrics = api.get("/metrics").await.text;
    for line in [
        "tidegate_endpoint_active{endpoint=\"pager\"} 0",
        "tidegate_endpoint_active{endpoint=\"chat\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let log = std::fs::read_to_string(database.file("service.log")).unwrap();
    assert!(
        log.contains("ERROR") && log.contains("an endpoint is told nothing more"),
        "{log}"
    );
    receiver.answers(Mood::Answers(204));
    api.post("/v1/endpoints/pager/revive", json!({})).await.ok();
    let told = [HOLDS, &["endpoint.dead", "endpoint.revive"]].concat();
    until_all_taken(api, &receiver, &told, 10).await;
    until_all_taken(api, &other, &told, 10).await;
    service.end_and_fsck();
}

async fn an_endpoint_that_hangs_delays_neither_a_halt_nor_the_others(database: Database) {
    let (hanging, other) = (Receiver::start().await, Receiver::start().await);
    let service = reaching(&database, &[&hanging, &other]);
    let api = &service.api;
    hanging.answers(Mood::Hangs);
    endpoint(api, "a-hanging-one", &hanging).await;
    endpoint(api, "pager", &other).await;
    pause_and_release(api, "first").await;
    until("somebody hangs", 10, async || !hanging.got().is_empty()).await;
    let began = Instant::now();
    halt(api).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    until("the other one is told", 5, async || {
        other.types() == ["hold.placed", "hold.released", "hold.placed"]
    })
    .await;
    assert_eq!(hanging.got().len(), 1, "one at a time");
    until("it is given up", 15, async || {
        show(api, "a-hanging-one").await["failures"] == 1
    })
    .await;
    service.end_and_fsck();
}

async fn keys_change_without_a_gap_and_are_never_stored(database: Database) {
    let receiver = Receiver::start().await;
    let service = reaching(&database, &[&receiver]);
    let api = &service.api;
    let mut new = body("pager", &receiver.url());
    new["config"]["keys"] = json!([{"env": VARIABLE}, {"env": "TIDEGATE_CREDENTIAL_NEXT"}]);
    api.post("/v1/endpoints", new).await.ok();
    for key in [KEY, OTHER_KEY] {
        receiver.knows(key);
        let tried = api.post("/v1/endpoints/pager/test", json!({})).await.ok();
        assert_eq!(tried["ok"], true, "{tried:#}");
        let got = receiver.got().pop().unwrap();
        assert!(got.genuine, "{got:#?}");
        assert_eq!((got.signatures, got.kind().as_str()), (2, "endpoint.test"));
        assert_eq!(tried["id"], got.id.as_str());
    }
    let text = api.get("/v1/endpoints").await.text + &api.get("/v1/audit").await.text;
    assert!(!text.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    for keys in [
        json!([]),
        json!([{"env": "TIDEGATE_CREDENTIAL_NONE"}]),
        json!([{"env": "PATH"}]),
    ] {
        let mut wrong = body("other", &receiver.url());
        wrong["config"]["keys"] = keys;
        api.post("/v1/endpoints", wrong)
            .await
            .refused(422, "config_invalid");
    }
}

async fn where_nobody_may_send_to_is_refused_and_redirects_are_not_followed(database: Database) {
    let receiver = Receiver::start().await;
    let service = reaching(&database, &[&receiver]);
    let api = &service.api;
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/",
        "https://example.org/",
        "http://127.0.0.1:1/",
        "http://localhost/",
        "file:///etc/passwd",
        "nowhere",
    ] {
        let refused = api.post("/v1/endpoints", body("pager", url)).await;
        refused.refused(422, "config_invalid");
    }
    for role in ["manager", "approver", "auditor", "signal_source"] {
        let who = api.as_role(role, role).await;
        let new = body("pager", &receiver.url());
        who.post("/v1/endpoints", new)
            .await
            .refused(403, "forbidden");
    }
    let security = api.as_role("sue", "security").await;
    endpoint(&security, "pager", &receiver).await;
    let twice = security
        .post("/v1/endpoints", body("pager", &receiver.url()))
        .await;
    twice.refused(409, "name_taken");
    receiver.answers(Mood::Points);
    let tried = security
        .post("/v1/endpoints/pager/test", json!({}))
        .await
        .ok();
    assert_eq!(tried["error"], "it answered 307", "{tried:#}");
    assert!(
        receiver
            .got()
            .iter()
            .all(|got| got.path == "/hooks/tidegate")
    );
    let nobody = send(
        api.with_token("")
            .request(reqwest::Method::GET, "/v1/endpoints"),
    )
    .await;
    nobody.refused(401, "token_missing");
    for verb in ["test", "revive", "revoke"] {
        let answer = api
            .post(&format!("/v1/endpoints/nobody/{verb}"), json!({}))
            .await;
        answer.refused(404, "endpoint_not_found");
    }
    assert_eq!(number(&database, "SELECT COUNT(*) FROM endpoint").await, 1);
}

async fn the_command_line_sets_up_tries_out_and_ends_an_endpoint(database: Database) {
    let receiver = Receiver::start().await;
    let service = reaching(&database, &[&receiver]);
    let said = |arguments: &[&str], code: i32| {
        let done = service.cli(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let both = text(&done.stdout) + &text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {both}");
        both
    };
    let url = receiver.url();
    let create = [
        "endpoint",
        "create",
        "pager",
        &url,
        "--key-env",
        VARIABLE,
        "--types",
        "hold.placed,hold.released",
    ];
    assert!(said(&create, 0).contains("`pager` is told what happens from now on"));
    assert!(said(&["endpoint", "test", "pager"], 0).contains("got `test_"));
    receiver.answers(Mood::Answers(400));
    assert!(said(&["endpoint", "test", "pager"], 1).contains("it answered 400"));
    pause(&service.api, "x").await;
    until("it fails", 10, async || {
        show(&service.api, "pager").await["failures"] == 1
    })
    .await;
    let listed = said(&["endpoint", "list"], 0);
    assert!(
        listed.contains("✖ pager: it answered 400, attempts in a row: 1"),
        "{listed}"
    );
    let listed: Value =
        serde_json::from_str(&said(&["-o", "json", "endpoint", "list"], 0)).unwrap();
    let stuck = listed[0]["stuck_at"].as_str().unwrap().to_owned();
    let skip = [
        "endpoint",
        "skip",
        "pager",
        "--event",
        &stuck,
        "--reason",
        "it cannot read it",
    ];
    assert!(said(&skip, 0).contains("what comes after it"));
    assert!(said(&skip, 1).contains("not stuck at"));
    assert!(said(&["endpoint", "revive", "pager"], 0).contains("is told again"));
    assert!(said(&["endpoint", "revoke", "pager"], 0).contains("is told nothing more"));
    said(&["endpoint", "revoke", "nobody"], 1);
}
