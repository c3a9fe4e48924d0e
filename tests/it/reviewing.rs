//! Holds that nobody looks at nag and stay; holds say whom they stop, who owns them, and what they mean for
//! people who were moved.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, planned, sandbox, started, until_done, until_status};
use crate::support::release::{execute, ready};
use crate::support::service::Service;
use crate::support::trail::{count, trail};
use crate::support::until;

on_each_database!(
    an_overdue_review_is_reminded_of_once_whoever_looks_and_releases_nothing,
    a_hold_without_a_date_gets_one,
    a_review_is_for_the_owner_and_for_security_and_moves_the_date,
    an_overdue_review_stands_in_the_way_of_a_release_and_a_review_voids_no_approval,
    a_hold_is_handed_over_and_shows_when_its_owner_is_gone,
    a_hold_says_whom_it_stops_before_and_after,
    a_halt_that_cannot_be_counted_stands_and_says_so,
    people_who_were_moved_stay_as_they_are_under_a_freeze,
);

const LONG_AGO: &str = "2024-02-01T00:00:00Z";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hold(kind: &str, scope: Value) -> Value {
    json!({"kind": kind, "scope": scope, "reason": "a state actor"})
}

fn everything() -> Value {
    json!({"type": "everything"})
}

async fn place(api: &Api, body: Value) -> Value {
    api.post("/v1/holds", body).await.ok()
}

fn id(hold: &Value) -> &str {
    hold["id"].as_str().unwrap()
}

async fn call(api: &Api, hold: &Value, verb: &str, body: Value) -> Answer {
    api.post(&format!("/v1/holds/{}/{verb}", id(hold)), body)
        .await
}

async fn show(api: &Api, hold: &Value) -> Value {
    api.get(&format!("/v1/holds/{}", id(hold))).await.ok()
}

/// Makes a token of a person.
async fn token(admin: &Api, name: &str, role: &str, person: &str) -> Api {
    let body = json!({"name": name, "role": role, "person": person});
    let made = admin.post("/v1/tokens", body).await.ok();
    admin.with_token(made["token"].as_str().unwrap())
}

/// A rollout of 1,000 people that has moved 100 and waits until tomorrow.
async fn hundred_moved(api: &Api) {
    import(api, 1_000).await;
    sandbox(api, json!({})).await;
    let spec = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: all, rest: true, ramp: {first: 100, double_every: 24h}}\n";
    started(api, spec).await;
    until_done(api, "move", 100, 30).await;
    until("nobody is under way", 10, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
}

fn people(heads: &Value) -> (u64, u64, u64) {
    let count = |field: &str| heads["people"][field].as_u64().unwrap();
    (count("not_begun"), count("in_flight"), count("moved"))
}

async fn an_overdue_review_is_reminded_of_once_whoever_looks_and_releases_nothing(
    database: Database,
) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    planned(api, &crate::support::people::two_waves()).await;
    // Only PostgreSQL has several processes.
    let other = database
        .is_postgres()
        .then(|| Service::start_again(&database, &api.token));
    let mut overdue = hold("halt", everything());
    overdue["review_at"] = json!(LONG_AGO);
    let halt = place(api, overdue).await;
    assert_eq!(halt["overdue_since"], LONG_AGO, "{halt:#}");
    let reminders = async || count(&trail(api).await, "hold.review_due");
    until("somebody is reminded", 10, async || reminders().await == 1).await;
    // When a later one has been reminded of, the first had its chance to be reminded of twice.
    let mut later = hold("pause", everything());
    later["review_at"] = json!("2024-03-01T00:00:00Z");
    let placed_by = other.as_ref().map_or(api, |other| &other.api);
    let pause = place(placed_by, later).await;
    until("of the other one, too", 10, async || reminders().await >= 2).await;
    let entries = trail(api).await;
    let subjects: Vec<&str> = entries
        .iter()
        .filter(|entry| entry["action"] == "hold.review_due")
        .map(|entry| entry["subject"].as_str().unwrap())
        .collect();
    let expected = [&halt, &pause].map(|hold| format!("hold:{}", id(hold)));
    assert_eq!(subjects, expected, "once each");
    let listed = api.get("/v1/holds?overdue=true").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    for hold in [&halt, &pause] {
        let now = show(api, hold).await;
        assert!(now["released_at"].is_null(), "nothing ends by it: {now:#}");
        assert_eq!(
            now["generation"], hold["generation"],
            "nobody has changed it"
        );
        assert_eq!(now["epoch"], hold["epoch"]);
    }
    // Shown wherever somebody may look.
    let view = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted");
    for arguments in [
        &["hold", "list"][..],
        &["hold", "list", "--overdue"],
        &["status", "move"],
    ] {
        let said = text(&service.cli(arguments).stdout);
        let since = "review overdue since 2024-02-01 00:00Z";
        assert!(said.contains(since), "{arguments:?}: {said}");
    }
    service.end_and_fsck();
}

async fn a_hold_without_a_date_gets_one(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    planned(api, &crate::support::people::two_waves()).await;
    let days = |hold: &Value| {
        let at = |field: &str| -> chrono::DateTime<chrono::Utc> {
            hold[field].as_str().unwrap().parse().unwrap()
        };
        (at("review_at") - at("placed_at")).num_days()
    };
    let reason = json!({"reason": "look"});
    assert_eq!(days(&place(api, hold("halt", everything())).await), 30);
    assert_eq!(days(&place(api, hold("pause", everything())).await), 7);
    for (verb, expected) in [("halt", 30), ("pause", 7)] {
        let path = format!("/v1/rollouts/move/{verb}");
        let view = api.post(&path, reason.clone()).await.ok();
        let holds = view["holds"].as_array().unwrap();
        let own = holds
            .iter()
            .find(|hold| hold["scope"]["type"] == "rollout" && hold["kind"] == verb);
        assert_eq!(days(own.unwrap()), expected, "{verb}");
    }
    let listed = api.get("/v1/holds?overdue=true").await.ok();
    assert_eq!(listed["items"], json!([]), "nothing is overdue yet");
    let none = text(&service.cli(&["hold", "list", "--overdue"]).stdout);
    assert!(none.contains("no review is overdue"), "{none}");
}

async fn a_review_is_for_the_owner_and_for_security_and_moves_the_date(database: Database) {
    let service = Service::start(&database);
    let admin = &service.api;
    let laptop = token(admin, "ann-laptop", "security", "ann").await;
    let phone = token(admin, "ann-phone", "manager", "ann").await;
    let security = token(admin, "dee", "security", "dee").await;
    let manager = token(admin, "bo", "manager", "bo").await;
    let approver = token(admin, "cy", "approver", "cy").await;
    let auditor = token(admin, "aud", "auditor", "aud").await;
    let mut body = hold("halt", everything());
    body["review_at"] = json!(LONG_AGO);
    let halt = place(&laptop, body).await;
    let pause = place(&laptop, hold("pause", everything())).await;
    let note = json!({"note": "looked; the vendor has not finished"});
    let review = async |api: &Api, hold: &Value| call(api, hold, "review", note.clone()).await;
    for (who, may_halt, may_pause) in [
        (&laptop, true, true),
        // The same person: the role of this token does not matter.
        (&phone, true, true),
        (&security, true, true),
        (&manager, false, true),
        (&approver, false, false),
        (admin, false, false),
    ] {
        for (hold, may) in [(&halt, may_halt), (&pause, may_pause)] {
            let answer = review(who, hold).await;
            if may {
                let reviewed = answer.ok();
                assert!(reviewed["overdue_since"].is_null(), "{reviewed:#}");
                assert!(reviewed["released_at"].is_null());
            } else {
                answer.refused(409, "review_not_yours");
            }
        }
    }
    review(&auditor, &halt).await.refused(403, "forbidden");
    let with = async |next: &str| {
        let body = json!({"note": "looked", "next_review_at": next});
        call(&security, &halt, "review", body).await
    };
    with(LONG_AGO).await.refused(422, "review_not_ahead");
    with("2999-01-01T00:00:00Z")
        .await
        .refused(422, "review_too_far_ahead");
    let silent = call(&security, &halt, "review", json!({"note": " "})).await;
    silent.refused(422, "note_missing");
    let next = (chrono::Utc::now() + chrono::TimeDelta::days(90)).format("%Y-%m-%dT00:00:00Z");
    let moved = with(&next.to_string()).await.ok();
    assert_eq!(moved["review_at"], next.to_string());
    let stale = security.request(Method::POST, &format!("/v1/holds/{}/review", id(&halt)));
    send(stale.header("if-match", "\"1\"").json(&note))
        .await
        .refused(412, "generation_stale");
    let entries = trail(admin).await;
    assert_eq!(count(&entries, "hold.review"), 3 + 4 + 1);
    assert_eq!(count(&entries, "hold.refused"), 3 + 2, "refused steps, too");
    let first = entries
        .iter()
        .find(|entry| entry["action"] == "hold.review");
    let detail = &first.unwrap()["detail"];
    assert_eq!(detail["was_overdue"], true, "{detail:#}");
    assert_eq!(detail["review_at"], LONG_AGO);
    // A gate or a hold that has ended is not reviewed.
    call(&laptop, &pause, "release", json!({"reason": "over"}))
        .await
        .ok();
    review(&laptop, &pause)
        .await
        .refused(409, "hold_already_released");
}

async fn an_overdue_review_stands_in_the_way_of_a_release_and_a_review_voids_no_approval(
    database: Database,
) {
    let service = Service::start(&database);
    let api = &service.api;
    hundred_moved(api).await;
    let security = api.as_role("dee", "security").await;
    let mut body = hold("halt", json!({"type": "rollout", "id": "move"}));
    body["review_at"] = json!(LONG_AGO);
    let halt = place(&security, body).await;
    let preflight = call(api, &halt, "preflight", json!({})).await.ok();
    let open: Vec<&Value> = preflight["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|item| item["ok"] == false)
        .map(|item| &item["code"])
        .collect();
    assert_eq!(open, ["review_overdue"], "{preflight:#}");
    let note = json!({"note": "the vendor has delivered"});
    call(&security, &halt, "review", note.clone()).await.ok();
    let digest = ready(api, id(&halt)).await;
    call(&security, &halt, "review", note).await.ok();
    execute(api, id(&halt), &digest).await.ok();
    assert_eq!(api.get("/v1/rollouts/move").await.ok()["status"], "running");
    service.end_and_fsck();
}

async fn a_hold_is_handed_over_and_shows_when_its_owner_is_gone(database: Database) {
    let service = Service::start(&database);
    let admin = &service.api;
    import(admin, 100).await;
    sandbox(admin, json!({})).await;
    let ann = token(admin, "ann", "security", "ann").await;
    token(admin, "ann-phone", "security", "ann").await;
    token(admin, "dee", "security", "dee").await;
    token(admin, "aud", "auditor", "aud").await;
    let manager = token(admin, "bo", "manager", "bo").await;
    let approver = token(admin, "cy", "approver", "cy").await;
    let halt = place(&ann, hold("halt", everything())).await;
    let to = |owner: &str| json!({"owner": owner, "reason": "she is on leave"});
    let hand = async |api: &Api, owner: &str| call(api, &halt, "owner", to(owner)).await;
    hand(&manager, "bo").await.refused(409, "owner_not_yours");
    hand(&approver, "cy").await.refused(409, "owner_not_yours");
    hand(&ann, "nobody").await.refused(404, "token_not_found");
    hand(&ann, "aud").await.refused(409, "owner_may_not");
    let silent = json!({"owner": "dee", "reason": ""});
    call(&ann, &halt, "owner", silent)
        .await
        .refused(422, "reason_missing");
    // Gone is who has no token left.
    let gone = async || show(admin, &halt).await["owner_gone"] == true;
    let revoke = async |name: &str| {
        let path = format!("/v1/tokens/{name}/revoke");
        admin.post(&path, json!({"reason": "left"})).await.ok();
    };
    revoke("ann").await;
    assert!(!gone().await, "she has another token");
    revoke("ann-phone").await;
    assert!(gone().await);
    hand(admin, "ann").await.refused(409, "owner_revoked");
    let listed = text(&service.cli(&["hold", "list"]).stdout);
    assert!(listed.contains("owner gone: ann"), "{listed}");
    let preflight = call(&manager, &halt, "preflight", json!({})).await.ok();
    let items = preflight["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["code"] == "owner_gone");
    assert_eq!(item.unwrap()["ok"], true, "it stands in nobody's way");
    let done = service.cli(&[
        "hold",
        "owner",
        id(&halt),
        "dee",
        "--reason",
        "ann has left",
    ]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("owned by dee"));
    let owned = show(admin, &halt).await;
    assert_eq!(owned["owner"], "dee");
    assert_eq!(owned["placed_by"], "ann", "who placed it stays");
    assert!(!gone().await);
    let before = owned["generation"].clone();
    assert_eq!(hand(admin, "dee").await.ok()["generation"], before);
    let entries = trail(admin).await;
    assert_eq!(
        count(&entries, "hold.owner"),
        1,
        "the same owner is no change"
    );
    let handed = entries.iter().find(|entry| entry["action"] == "hold.owner");
    let detail = &handed.unwrap()["detail"];
    assert_eq!(
        (&detail["from"], &detail["to"]),
        (&json!("ann"), &json!("dee"))
    );
}

async fn a_hold_says_whom_it_stops_before_and_after(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    hundred_moved(api).await;
    let spec =
        "rollout: later\npopulation: staff\ntarget: box\nwaves:\n  - {name: all, rest: true}\n";
    planned(api, spec).await;
    let body = |effect: &str, scope: Value| {
        let mut body = hold("halt", scope);
        body["effect"] = json!(effect);
        body
    };
    let before = trail(api).await;
    for (effect, said) in [
        ("keep", "100 people moved: they keep what they have"),
        ("freeze", "nothing about them changes"),
        ("revert", "take them back with `tidegate revert`"),
    ] {
        let body = body(effect, everything());
        let preview = api.post("/v1/holds?dry_run=true", body).await.ok();
        assert_eq!(preview["would"], "place", "{preview:#}");
        let now = &preview["people"]["now"];
        assert_eq!((people(now), &now["rollouts"]), ((900, 0, 100), &json!(2)));
        let sentences = preview["people"]["sentences"].to_string();
        assert!(sentences.contains(said), "{effect}: {sentences}");
        let largest = now["largest"].as_array().unwrap();
        assert_eq!(
            (&largest[0]["name"], people(&largest[0])),
            (&json!("move"), (900, 0, 100))
        );
        assert_eq!(
            (&largest[1]["lifecycle"], people(&largest[1])),
            (&json!("planned"), (0, 0, 0))
        );
    }
    let wave = json!({"type": "wave", "id": "move", "wave": 1});
    let preview = api
        .post("/v1/holds?dry_run=true", body("keep", wave))
        .await
        .ok();
    assert_eq!(people(&preview["people"]["now"]), (900, 0, 100));
    let nowhere = json!({"type": "rollout", "id": "nowhere"});
    let unknown = api
        .post("/v1/holds?dry_run=true", body("keep", nowhere))
        .await;
    unknown.refused(404, "rollout_not_found");
    let manager = api.as_role("bo", "manager").await;
    let forbidden = manager
        .post("/v1/holds?dry_run=true", body("keep", everything()))
        .await;
    forbidden.refused(403, "forbidden");
    let drill = service.cli(&["halt", "--everything", "--effect", "freeze", "--dry-run"]);
    let said = text(&drill.stdout);
    assert!(
        said.contains("900 people not begun") && said.contains("nothing has changed"),
        "{said}{}",
        text(&drill.stderr)
    );
    assert_eq!(api.get("/v1/holds").await.ok()["items"], json!([]));
    // But for the token of the manager.
    assert_eq!(
        trail(api).await.len(),
        before.len() + 1,
        "a drill writes nothing"
    );

    let halt = place(api, body("keep", everything())).await;
    let counted = &halt["people"];
    assert_eq!(people(&counted["placed"]), (900, 0, 100), "{halt:#}");
    assert_eq!(people(&counted["now"]), (900, 0, 100));
    let again = api
        .post("/v1/holds?dry_run=true", body("keep", everything()))
        .await
        .ok();
    assert_eq!(
        (&again["would"], &again["hold"]),
        (&json!("join"), &halt["id"])
    );
    // What it stopped then stays as it was counted; what it stops now is counted anew.
    let key = moved_person(api).await;
    let reason = json!({"reason": "the account is empty"});
    let path = format!("/v1/rollouts/move/members/{key}/disprove");
    api.post(&path, reason).await.ok();
    until("the count of the placing is kept", 10, async || {
        !show(api, &halt).await["people"]["placed"].is_null()
    })
    .await;
    let later = show(api, &halt).await;
    assert_eq!(later["people"]["placed"], counted["placed"]);
    assert_eq!(people(&later["people"]["now"]), (900, 0, 99), "{later:#}");
    let shown = text(&service.cli(&["hold", "show", id(&halt)]).stdout);
    assert!(
        shown.contains("when it was placed: 900 not begun, 0 in flight, 100 moved"),
        "{shown}"
    );
    let listed = api.get("/v1/holds").await.ok();
    assert!(
        listed["items"][0]["people"].is_null(),
        "a list counts nobody"
    );
    service.end_and_fsck();
}

async fn moved_person(api: &Api) -> String {
    let page = api
        .get("/v1/rollouts/move/members?state=done&limit=1")
        .await
        .ok();
    page["items"][0]["key"].as_str().unwrap().to_owned()
}

async fn a_halt_that_cannot_be_counted_stands_and_says_so(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    hundred_moved(api).await;
    database.execute("UPDATE wave SET queued = -5000").await;
    let answer = api.post("/v1/holds", hold("halt", everything())).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let halt = answer.ok();
    assert!(halt["people"]["now"].is_null(), "{halt:#}");
    let why = halt["people"]["not_counted"].as_str().unwrap();
    assert!(why.contains("does not depend on it"), "{why}");
    database.execute("UPDATE wave SET queued = 900").await;
    let later = show(api, &halt).await;
    assert!(later["released_at"].is_null());
    assert_eq!(people(&later["people"]["now"]), (900, 0, 100));
    assert!(
        later["people"]["placed"].is_null(),
        "they were not counted then"
    );
    until_status(api, "move", "halted", 5).await;
    service.end_and_fsck();
}

async fn people_who_were_moved_stay_as_they_are_under_a_freeze(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    hundred_moved(api).await;
    let key = moved_person(api).await;
    let path = format!("/v1/rollouts/move/members/{key}/disprove");
    let reason = json!({"reason": "the account is empty"});
    let freeze = |scope: Value| {
        let mut body = hold("pause", scope);
        body["effect"] = json!("freeze");
        body
    };
    for scope in [
        everything(),
        json!({"type": "target", "id": "box"}),
        json!({"type": "rollout", "id": "move"}),
        json!({"type": "wave", "id": "move", "wave": 1}),
    ] {
        let frozen = place(api, freeze(scope)).await;
        let sentence = api
            .post(&path, reason.clone())
            .await
            .refused(409, "moved_people_frozen");
        assert!(sentence.contains(id(&frozen)), "names the hold: {sentence}");
        assert_eq!(
            api.get("/v1/rollouts/move").await.ok()["totals"]["done"],
            100
        );
        call(api, &frozen, "release", json!({"reason": "over"}))
            .await
            .ok();
    }
    // A freeze that is asked for while a hold like it only keeps them is not left out.
    let kept = place(api, hold("pause", everything())).await;
    let frozen = place(api, freeze(everything())).await;
    assert_ne!(frozen["id"], kept["id"]);
    assert_eq!(place(api, freeze(everything())).await["id"], frozen["id"]);
    let joined = place(api, hold("pause", everything())).await;
    assert_eq!(
        joined["id"], kept["id"],
        "whoever asks for nothing more joins"
    );
    api.post(&path, reason.clone())
        .await
        .refused(409, "moved_people_frozen");
    for hold in [&frozen, &kept] {
        call(api, hold, "release", json!({"reason": "over"}))
            .await
            .ok();
    }
    // Trying the failed again is refused by any hold of people that covers them.
    let frozen = place(api, freeze(json!({"type": "rollout", "id": "move"}))).await;
    let retry = api
        .post("/v1/rollouts/move/retry", json!({"reason": "again"}))
        .await;
    retry.refused(409, "rollout_paused");
    call(api, &frozen, "release", json!({"reason": "over"}))
        .await
        .ok();
    // A hold that keeps them as they are for themselves lets evidence be written down.
    place(api, hold("pause", everything())).await;
    assert_eq!(api.post(&path, reason).await.ok()["state"], "failed");
    service.end_and_fsck();
}
