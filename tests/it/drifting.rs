//! A year of drift: everybody ends in exactly one place, nobody is moved twice, no leaver is touched.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import_csv, sandbox, started, until_done, until_status};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(
    after_a_year_everybody_ends_in_exactly_one_place,
    a_rollout_goes_on_small_and_doubles,
    a_release_is_refused_until_the_people_who_were_imported_are_measured,
    drift_says_so_when_there_is_none_and_names_what_it_cannot_measure,
    whoever_was_under_way_when_a_process_died_is_in_doubt_and_not_in_the_way,
);

const HEAD: &str = "employee_id,user_name,country,active\n";

/// Somebody: directory id, user name, country.
type Person = (u32, String, &'static str);

fn people_of_then() -> Vec<Person> {
    let country = |n: u32| ["DE", "US", "FR"][n as usize % 3];
    (0..3000)
        .map(|n| (n, format!("user{n}"), country(n)))
        .collect()
}

fn csv(people: &[Person]) -> String {
    let rows = people
        .iter()
        .map(|(id, name, country)| format!("e{id:05},{name},{country},true\n"));
    HEAD.chars()
        .chain(rows.collect::<String>().chars())
        .collect()
}

fn spec() -> String {
    let gate = "gate: {failures_at_most: 100%, unknown_at_most: 100%}";
    format!(
        "rollout: move\npopulation: staff\ntarget: box\nlate_joiners: matching_unfinished_wave\n\
         exclude: {{attribute: active, equals: false}}\nwaves:\n\
         \x20 - {{name: germany, select: {{attribute: country, equals: DE}}, {gate}}}\n\
         \x20 - {{name: america, select: {{attribute: country, equals: US}}, {gate}}}\n\
         \x20 - {{name: france, select: {{attribute: country, equals: FR}}}}\n"
    )
}

async fn population(api: &Api, people: &[Person]) {
    let body = json!({"name": "staff"});
    api.post("/v1/populations", body).await.ok();
    import_csv(api, csv(people)).await;
}

/// Halts the rollout, and waits until whatever was under way has come back.
async fn halt(api: &Api) -> String {
    let scope = json!({"type": "rollout", "id": "move"});
    let hold = json!({"kind": "halt", "scope": scope, "reason": "state actor"});
    let placed = api.post("/v1/holds?wait=quiesced", hold).await.ok();
    until("what was under way has come back", 10, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    placed["id"].as_str().unwrap().to_owned()
}

/// Returns where everybody stands: by directory id, state and wave.
async fn standing(api: &Api) -> BTreeMap<String, (String, u64)> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let page = api
            .get(&format!("/v1/rollouts/move/members?limit=1000{cursor}"))
            .await
            .ok();
        for item in page["items"].as_array().unwrap() {
            let text = |name: &str| item[name].as_str().unwrap().to_owned();
            if text("state") == "transferred" {
                continue;
            }
            let stands = (text("state"), item["wave"].as_u64().unwrap());
            let twice = found.insert(text("key"), stands);
            assert_eq!(twice, None, "{item:#}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

async fn class(api: &Api, name: &str) -> BTreeSet<String> {
    let path = format!("/v1/rollouts/move/drift/people?limit=1000&class={name}");
    let page = api.get(&path).await.ok();
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|item| item["key"].as_str().unwrap().to_owned())
        .collect()
}

fn id(number: u32) -> String {
    format!("e{number:05}")
}

async fn after_a_year_everybody_ends_in_exactly_one_place(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let then = people_of_then();
    population(api, &then).await;
    sandbox(api, json!({"latency_ms": 40, "concurrency": 8})).await;
    started(api, &spec()).await;
    // Germany is through, America under way, France has not begun.
    until_done(api, "move", 1100, 60).await;
    let hold = halt(api).await;
    let before = standing(api).await;
    let seen = api.get("/v1/rollouts/move/exposure").await.ok();
    let until_then = seen["to"].as_str().unwrap().to_owned();
    let exposed = exposed_until(api, &until_then).await;
    let state = |n: u32| before[&id(n)].0.as_str();
    let queued_us = |n: &u32| n % 3 == 1 && state(*n) == "queued";
    let first = |wanted: &dyn Fn(&u32) -> bool| (0..3000).find(wanted).unwrap();

    // A year: the first hundred leave, and others change.
    let mut now: Vec<Person> = then.iter().filter(|(n, ..)| *n >= 100).cloned().collect();
    let to_america = first(&|n| n % 3 == 2 && *n > 200);
    let to_germany = first(&|n| n % 3 == 2 && *n > 300);
    let to_france = first(&|n| queued_us(n) && *n > 400);
    let to_nowhere = first(&|n| n % 3 == 2 && *n > 500);
    let moved_already = first(&|n| n % 3 == 0 && *n > 600);
    let renamed = first(&|n| n % 3 == 2 && *n > 700);
    for (n, name, country) in &mut now {
        match *n {
            n if n == to_america => *country = "US",
            n if n == to_germany => *country = "DE",
            n if n == to_france => *country = "FR",
            n if n == to_nowhere => *country = "PL",
            n if n == moved_already => *country = "FR",
            n if n == renamed => *name = "married".to_owned(),
            _ => {}
        }
    }
    // Joiners: one for each country, and one with the name of somebody who was moved and has left.
    now.extend([
        (9000, "new0".to_owned(), "DE"),
        (9001, "new1".to_owned(), "US"),
        (9002, "new2".to_owned(), "FR"),
        (9003, "user0".to_owned(), "US"),
        (9004, "new4".to_owned(), "PL"),
    ]);
    now.sort_by_key(|(n, ..)| std::cmp::Reverse(*n));
    import_csv(api, csv(&now)).await;
    let view = api.post("/v1/rollouts/move/drift", json!({})).await.ok();
    assert_eq!(view["status"], "measured", "{view:#}");
    check_outcome(&view, &before, 5);

    let left: BTreeSet<String> = (0..100).filter(|n| state(*n) == "queued").map(id).collect();
    let moved: BTreeSet<String> = (0..100).filter(|n| state(*n) == "done").map(id).collect();
    assert!(!left.is_empty() && !moved.is_empty());
    assert_eq!(class(api, "left").await, left);
    assert_eq!(class(api, "deprovision").await, moved);
    assert_eq!(
        class(api, "moved").await,
        [to_america, to_germany, to_france].map(id).into()
    );
    assert_eq!(
        class(api, "catch_up").await,
        [to_germany, 9000].map(id).into()
    );
    assert_eq!(class(api, "excluded").await, [id(to_nowhere)].into());
    assert_eq!(
        class(api, "joined").await,
        [9000, 9001, 9002, 9003].map(id).into()
    );
    assert_eq!(class(api, "joined_outside").await, [id(9004)].into());
    assert_eq!(class(api, "renamed").await, [id(renamed)].into());
    assert_eq!(class(api, "recycled").await, [id(9003)].into());
    assert_eq!(class(api, "review").await, [id(9003)].into());
    assert_eq!(standing(api).await, before, "measuring changes nobody");

    crate::support::release::halt(api, &hold).await;
    let done = until_status(api, "move", "completed", 90).await;
    let after = standing(api).await;
    for (key, (state, wave)) in &before {
        let (is, in_wave) = &after[key];
        match state.as_str() {
            "done" => assert_eq!((is.as_str(), in_wave), ("done", wave), "{key}"),
            _ if left.contains(key) => assert_eq!(is, "departed", "{key}"),
            _ if *key == id(to_nowhere) => assert_eq!(is, "skipped"),
            _ => assert_eq!(is, "done", "{key}"),
        }
    }
    let wave = |n: u32| after[&id(n)].1;
    assert_eq!([to_america, to_germany, to_france].map(wave), [2, 4, 3]);
    assert_eq!([9000, 9001, 9002, 9003].map(wave), [4, 2, 3, 2]);
    assert_eq!(
        after[&id(9003)].0,
        "review",
        "their name is somebody else's account"
    );
    assert_eq!(
        wave(moved_already),
        1,
        "whoever has been moved stays where they were"
    );
    assert_eq!(done["waves"][3]["name"], "catch-up-4");
    // Who had been exposed when it was halted is the same question a year later, with the same answer.
    assert!(!exposed.is_empty());
    assert_eq!(exposed_until(api, &until_then).await, exposed);
    let all = api.get("/v1/rollouts/move/exposure").await.ok();
    assert_eq!(all["unexplained"], 0, "{all:#}");
    assert_eq!(all["counts"]["exposed"], done["totals"]["done"], "{all:#}");
    let people = after.len() as u64;
    assert_eq!(
        all["people"], people,
        "nobody is counted twice who was put into another wave"
    );
    let person = api
        .get(&format!("/v1/rollouts/move/members/{}", id(renamed)))
        .await
        .ok();
    assert_eq!(person["attributes"]["user_name"], "married", "{person:#}");
    service.end_and_fsck();
}

/// Who had been moved, or might have been, at an instant.
async fn exposed_until(api: &Api, to: &str) -> BTreeSet<String> {
    let mut exposed = BTreeSet::new();
    for class in ["exposed", "in_flight"] {
        let mut cursor = String::new();
        loop {
            let path = format!(
                "/v1/rollouts/move/exposure/people?class={class}&to={to}&limit=1000{cursor}"
            );
            let page = api.get(&path).await.ok();
            for person in page["items"].as_array().unwrap() {
                exposed.insert(person["key"].as_str().unwrap().to_owned());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
    }
    exposed
}

/// Everybody of then and now is counted once.
#[track_caller]
fn check_outcome(view: &Value, before: &BTreeMap<String, (String, u64)>, new: u64) {
    let outcome = view["report"]["outcome"].as_object().unwrap();
    let counted: u64 = outcome
        .values()
        .map(|people| people.as_u64().unwrap())
        .sum();
    let then = u64::try_from(before.len()).unwrap();
    assert_eq!(counted, then + new, "{view:#}");
    assert_eq!(view["report"]["people_then"], then);
}

async fn a_rollout_goes_on_small_and_doubles(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    population(api, &people_of_then()).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 4})).await;
    started(api, &spec()).await;
    until_done(api, "move", 200, 60).await;
    let hold = halt(api).await;
    let before = api.get("/v1/rollouts/move").await.ok();
    let begun = before["totals"]["done"].as_u64().unwrap();
    crate::support::release::halt(api, &hold).await;
    until_status(api, "move", "completed", 90).await;
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let entries = trail["items"].as_array().unwrap();
    let after = entries
        .iter()
        .skip_while(|entry| entry["action"] != "rollout.went_on");
    let people: Vec<u64> = after
        .filter_map(|entry| entry["detail"]["change"]["tranche"]["people"].as_u64())
        .collect();
    // At least 50 people, then twice as many as were let in since.
    let grown: Vec<u64> = people.iter().map(|people| people - begun).take(4).collect();
    assert_eq!(grown, [50, 100, 200, 400], "{people:?}");
    service.end_and_fsck();
}

async fn a_release_is_refused_until_the_people_who_were_imported_are_measured(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let mut people = people_of_then();
    population(api, &people).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 4})).await;
    started(api, &spec()).await;
    until_done(api, "move", 200, 60).await;
    let hold = halt(api).await;
    people.push((9000, "new0".to_owned(), "US"));
    import_csv(api, csv(&people)).await;
    let view = api.get("/v1/rollouts/move/drift").await.ok();
    assert_eq!(view["status"], "unmeasured", "{view:#}");
    let path = format!("/v1/holds/{hold}/preflight");
    let looked = api.get(&path).await.ok();
    let items = looked["items"].as_array().unwrap().iter();
    let open: Vec<&Value> = items
        .filter(|item| item["ok"] == false)
        .map(|item| &item["code"])
        .collect();
    assert!(open.contains(&&json!("drift_unmeasured")), "{looked:#}");
    // A preflight measures it; the approvals are of what it found.
    let digest = crate::support::release::ready(api, &hold).await;
    let view = api.get("/v1/rollouts/move/drift").await.ok();
    assert_eq!(view["status"], "measured", "{view:#}");
    // Others are imported after everybody has said yes: that is not what was approved.
    people.push((9001, "new1".to_owned(), "US"));
    import_csv(api, csv(&people)).await;
    let refused = crate::support::release::execute(api, &hold, &digest).await;
    refused.refused(409, "release_configuration_changed");
    assert!(
        refused
            .text
            .contains("who is in the population of rollout `move`"),
        "{}",
        refused.text
    );
    let halted = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(halted["status"], "halted");
    crate::support::release::halt(api, &hold).await;
    let done = until_status(api, "move", "completed", 90).await;
    assert_eq!(done["totals"]["done"], 3002, "{done:#}");
    service.end_and_fsck();
}

async fn drift_says_so_when_there_is_none_and_names_what_it_cannot_measure(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let mut people = people_of_then();
    population(api, &people).await;
    sandbox(api, json!({"latency_ms": 20})).await;
    let early = api.post("/v1/rollouts/move/drift", json!({})).await;
    assert_eq!(early.status, 404, "{}", early.text);
    started(api, &spec()).await;
    until_done(api, "move", 10, 60).await;
    let hold = halt(api).await;
    let none = api.post("/v1/rollouts/move/drift", json!({})).await.ok();
    assert_eq!(none["status"], "current", "{none:#}");
    people.push((9000, "new0".to_owned(), "US"));
    let without = csv(&people).replace("country", "land");
    import_csv(api, without).await;
    let refused = api.post("/v1/rollouts/move/drift", json!({})).await;
    assert_eq!(
        refused.body["code"], "attribute_unknown",
        "{}",
        refused.text
    );
    let listed = api.get("/v1/rollouts/move/drift/people?class=gone").await;
    assert_eq!(listed.body["code"], "class_unknown", "{}", listed.text);
    drop(hold);
    service.end_and_fsck();
}

async fn whoever_was_under_way_when_a_process_died_is_in_doubt_and_not_in_the_way(
    database: Database,
) {
    let mut service = Service::start(&database);
    let api = service.api.clone();
    let mut people = people_of_then();
    population(&api, &people).await;
    // Slow enough for many to be under way when it dies.
    sandbox(&api, json!({"latency_ms": 2_000, "concurrency": 16})).await;
    started(&api, &spec()).await;
    until("many are under way", 20, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"].as_u64() > Some(100)
    })
    .await;
    let scope = json!({"type": "rollout", "id": "move"});
    let body = json!({"kind": "halt", "scope": scope, "reason": "state actor"});
    let placed = api.post("/v1/holds", body).await.ok();
    service.kill();
    let service = Service::start_again(&database, &api.token);
    let api = &service.api;
    let hold = placed["id"].as_str().unwrap();
    // Half of everybody leaves, also of those of whom nobody knows whether they were moved.
    people.retain(|(n, ..)| n % 6 < 3);
    let path = "/v1/populations/staff/imports?override_shrink_reason=year";
    api.post_text(path, "text/csv", csv(&people)).await.ok();
    until(
        "their leases are over, and the drift is measured",
        60,
        async || api.post("/v1/rollouts/move/drift", json!({})).await.status < 300,
    )
    .await;
    let doubtful = class(api, "review").await;
    assert!(!doubtful.is_empty(), "left, and perhaps moved");
    let fast = json!({"connector": "sandbox", "config": {}});
    let seen = api.get("/v1/targets/box").await.etag();
    let put = api.request(reqwest::Method::PUT, "/v1/targets/box");
    crate::support::api::send(put.header("if-match", seen).json(&fast))
        .await
        .ok();
    crate::support::release::halt(api, hold).await;
    until_status(api, "move", "completed", 90).await;
    let after = standing(api).await;
    for key in doubtful {
        assert_eq!(after[&key].0, "review", "{key}");
    }
    service.end_and_fsck();
}
