//! Exposure: who was moved between two instants, held against a replay of the trail that keeps everything.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::people::{
    EASY, import, planned, sandbox, started, two_waves, until_done, until_status,
};
use crate::support::service::Service;
use crate::support::{Random, on_each_database, seed, until};

on_each_database!(
    the_numbers_are_exact_to_the_person_while_people_are_moved,
    whoever_is_moved_and_disproved_was_exposed_in_between,
    a_past_interval_has_the_same_digest_whatever_has_happened_since,
    nobody_is_exposed_by_a_plan_and_what_cannot_be_answered_says_why,
    the_command_fits_a_terminal_and_its_list_has_the_digest,
    whoever_stands_elsewhere_than_the_trail_says_is_counted_as_touched,
);

/// An entry that changed people: its number, its instant, its bytes.
type Entry = (i64, i64, Vec<u8>);

async fn trail(database: &Database) -> Vec<Entry> {
    let sql = "SELECT seq, at, data FROM audit WHERE data IS NOT NULL ORDER BY seq";
    if database.is_postgres() {
        let mut at = PgConnection::connect(&database.url).await.unwrap();
        sqlx::query_as(sql).fetch_all(&mut at).await.unwrap()
    } else {
        let mut at = SqliteConnection::connect(&database.url).await.unwrap();
        sqlx::query_as(sql).fetch_all(&mut at).await.unwrap()
    }
}

const STATES: [&str; 13] = [
    "queued",
    "in_flight",
    "awaiting",
    "done",
    "failed",
    "retry",
    "unknown",
    "skipped",
    "departed",
    "reverting",
    "reverted",
    "review",
    "transferred",
];

/// Which place of which batch of which wave.
type Place = (u32, u32, u16);

/// Every state of every person with the instant it began, out of the trail up to an entry.
fn lives(trail: &[Entry], seq: i64) -> BTreeMap<Place, Vec<(i64, &'static str)>> {
    let mut lives: BTreeMap<Place, Vec<(i64, &'static str)>> = BTreeMap::new();
    let mut latest: BTreeMap<(u32, u32), i64> = BTreeMap::new();
    for (_, at, data) in trail.iter().filter(|(number, ..)| *number <= seq) {
        assert_eq!(data[0], 1, "version 1");
        let mut rest = &data[1..];
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at(count);
            rest = tail;
            let mut bytes = [0; 8];
            bytes[..count].copy_from_slice(head);
            (u64::from_le_bytes(bytes), rest.is_empty())
        };
        let mut is_over = data.len() == 1;
        while !is_over {
            let (wave, batch) = (take(4).0 as u32, take(4).0 as u32);
            take(8);
            let runs = take(2).0;
            let known = latest.entry((wave, batch)).or_insert(i64::MIN);
            *known = (*known).max(*at);
            for _ in 0..runs {
                let (first, length) = (take(2).0 as u16, take(2).0 as u16);
                let (state, over) = take(1);
                is_over = over;
                for place in first..first + length {
                    let life = lives.entry((wave, batch, place)).or_default();
                    life.push((*known, STATES[state as usize]));
                }
            }
        }
    }
    lives
}

/// The definition of the classes, over a whole life.
fn class_of(life: Option<&Vec<(i64, &'static str)>>, from: i64, to: i64) -> &'static str {
    let mut whole = vec![(i64::MIN, "queued")];
    whole.extend(life.into_iter().flatten());
    let ends = whole.iter().skip(1).map(|(at, _)| *at).chain([i64::MAX]);
    let during: Vec<&str> = whole
        .iter()
        .zip(ends)
        .filter(|((began, _), end)| *began <= to && *end >= from)
        .map(|((_, state), _)| *state)
        .collect();
    let any = |states: &[&str]| during.iter().any(|state| states.contains(state));
    if any(&["done", "reverting"]) {
        "exposed"
    } else if any(&["in_flight", "awaiting", "unknown"]) {
        "in_flight"
    } else {
        let last = whole.iter().rfind(|(began, _)| *began <= to).unwrap().1;
        if last == "queued" { "untouched" } else { last }
    }
}

/// The directory id of everybody by their place: lists of people go wave by wave, batch by batch.
async fn places(api: &Api) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    let mut counted: BTreeMap<u32, u32> = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/rollouts/move/members?limit=1000{cursor}");
        let page = api.get(&path).await.ok();
        for item in page["items"].as_array().unwrap() {
            let wave = item["wave"].as_u64().unwrap() as u32;
            let number = counted.entry(wave).or_default();
            let place = (wave, *number / 1024, (*number % 1024) as u16);
            *number += 1;
            places.insert(item["key"].as_str().unwrap().to_owned(), place);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return places,
        }
    }
}

fn sum(counts: &Value) -> u64 {
    let counts = counts.as_object().unwrap().values();
    counts.map(|people| people.as_u64().unwrap()).sum()
}

/// Fails unless every set of counts adds up to the roster.
fn check_sums(view: &Value, people: u64) {
    assert_eq!(view["people"], people, "{view:#}");
    assert_eq!(sum(&view["counts"]), people, "{view:#}");
    let states = view["states"].as_object().unwrap().values().map(sum);
    assert_eq!(states.sum::<u64>(), people, "{view:#}");
    let all = |parts: &Value| -> u64 {
        let parts = parts.as_array().unwrap().iter();
        parts
            .map(|part| {
                assert_eq!(part["people"], sum(&part["counts"]), "{part:#}");
                part["people"].as_u64().unwrap()
            })
            .sum()
    };
    assert_eq!(all(&view["waves"]), people);
    for by in view["by"].as_array().unwrap() {
        assert_eq!(all(&by["values"]), people, "{by:#}");
    }
    assert_eq!(view["unexplained"], 0, "{view:#}");
}

/// Reads the whole list, page by page, as of the entry of an answer.
async fn everybody(api: &Api, view: &Value) -> Vec<Value> {
    let again = view["again"].as_str().unwrap();
    let first = again.replace("/exposure?", "/exposure/people?limit=1000&");
    let mut items = Vec::new();
    let mut path = first.clone();
    loop {
        let page = api.get(&path).await.ok();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => path = format!("{first}&cursor={next}"),
            None => return items,
        }
    }
}

fn millis(text: &Value) -> i64 {
    let parsed = chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap());
    parsed.unwrap().timestamp_millis()
}

async fn the_numbers_are_exact_to_the_person_while_people_are_moved(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 5_000).await;
    let settings = json!({"latency_ms": 40, "concurrency": 24, "failure_ppm": 20_000, "retry_ppm": 60_000, "review_ppm": 10_000});
    sandbox(api, settings).await;
    let spec = format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: canary, count: 50, {EASY}}}\n  - {{name: second, count: 1500, {EASY}}}\n  - {{name: rest, rest: true}}\n"
    );
    let rollout = started(api, &spec).await;
    let began = millis(&rollout["created_at"]);
    until_done(api, "move", 60, 30).await;
    let places = places(api).await;
    assert_eq!(places.len(), 5_000);
    let mut random = Random(seed());
    let mut seen = Vec::new();
    while seen.len() < 8 {
        let whole = api.get("/v1/rollouts/move/exposure").await.ok();
        check_sums(&whole, 5_000);
        let now = millis(&whole["to"]);
        let from = began + random.below((now - began).cast_unsigned()).cast_signed();
        let to = from + random.below((now - from).cast_unsigned() + 1).cast_signed();
        let at = |millis: i64| {
            let at = chrono::DateTime::from_timestamp_millis(millis).unwrap();
            at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
        };
        let path = format!(
            "/v1/rollouts/move/exposure?from={}&to={}&by=department",
            at(from),
            at(to)
        );
        let view = api.get(&path).await.ok();
        check_sums(&view, 5_000);
        seen.push((whole, now));
        seen.push((view, to));
    }
    let trail = trail(&database).await;
    for (view, to) in &seen {
        assert_eq!(millis(&view["to"]), *to);
        let from = millis(&view["from"]);
        let lives = lives(&trail, view["data_version"]["seq"].as_i64().unwrap());
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let people = everybody(api, view).await;
        assert_eq!(people.len(), 5_000);
        for person in &people {
            let place = places[person["key"].as_str().unwrap()];
            let class = class_of(lives.get(&place), from, *to);
            assert_eq!(person["class"], class, "{person} {:?}", lives.get(&place));
            *counts.entry(class).or_default() += 1;
        }
        for (class, people) in view["counts"].as_object().unwrap() {
            let expected = counts.get(class.as_str()).copied().unwrap_or(0);
            assert_eq!(people, expected, "{class}");
        }
        let again = api.get(view["again"].as_str().unwrap()).await.ok();
        assert_eq!(again["counts"], view["counts"]);
        assert_eq!(again["digest"], view["digest"], "stable on re-run");
    }
    let exposed = |view: &Value| view["counts"]["exposed"].as_u64().unwrap();
    assert!(exposed(&seen[0].0) >= 50 && exposed(&seen[0].0) < 5_000);
    service.end_and_fsck();
}

async fn whoever_is_moved_and_disproved_was_exposed_in_between(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 200).await;
    sandbox(api, json!({})).await;
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 30).await;
    let moved = api.get("/v1/rollouts/move/members/e0000007").await.ok();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let between = api.get("/v1/rollouts/move/exposure").await.ok();
    assert_eq!(between["counts"]["exposed"], 200);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let reason = json!({"reason": "their mail still arrives at the old place"});
    let path = "/v1/rollouts/move/members/e0000007/disprove";
    let failed = api.post(path, reason).await.ok();
    let at = |text: &Value| text.as_str().unwrap().to_owned();
    let person = async |from: &str, to: &str| {
        let path = format!("/v1/rollouts/move/exposure/people?from={from}&to={to}&limit=1000");
        let page = api.get(&path).await.ok();
        let items = page["items"].as_array().unwrap().iter();
        let mut found = items.filter(|item| item["key"] == "e0000007").cloned();
        found.next().unwrap()
    };
    let (moved_at, asked_at) = (at(&moved["changed_at"]), at(&between["to"]));
    let found = person(&moved_at, &asked_at).await;
    assert_eq!(
        (&found["class"], &found["state"]),
        (&json!("exposed"), &json!("done"))
    );
    assert_eq!(found["since"], moved["changed_at"]);
    // At the end of an interval that goes on they count as failed, and were exposed all the same.
    let found = person(&moved_at, "2100-01-01").await;
    assert_eq!(
        (&found["class"], &found["state"]),
        (&json!("exposed"), &json!("failed"))
    );
    let since = millis(&failed["changed_at"]);
    let later = chrono::DateTime::from_timestamp_millis(since + 1).unwrap();
    let later = later.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    until("that instant is over", 5, async || {
        let path = format!("/v1/rollouts/move/exposure?from={later}");
        api.get(&path).await.status == 200
    })
    .await;
    let found = person(&later, "2100-01-01").await;
    assert_eq!(
        (&found["class"], &found["state"]),
        (&json!("failed"), &json!("failed"))
    );
    service.end_and_fsck();
}

async fn a_past_interval_has_the_same_digest_whatever_has_happened_since(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 16})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 400, 30).await;
    let half = api.get("/v1/rollouts/move/exposure").await.ok();
    let (from, to) = (half["from"].as_str().unwrap(), half["to"].as_str().unwrap());
    // Whatever was being written at that instant is written a moment later.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let path = format!("/v1/rollouts/move/exposure?from={from}&to={to}");
    let first = api.get(&path).await.ok();
    let halt =
        json!({"kind": "halt", "scope": {"type": "rollout", "id": "move"}, "reason": "theft"});
    let halt = api.post("/v1/holds?wait=quiesced", halt).await.ok();
    let held = api.get(&path).await.ok();
    crate::support::release::halt(api, halt["id"].as_str().unwrap()).await;
    until_status(api, "move", "completed", 60).await;
    let done = api.get(&path).await.ok();
    for later in [&held, &done] {
        assert_eq!(later["digest"], first["digest"]);
        assert_eq!(later["counts"], first["counts"]);
    }
    assert!(done["data_version"]["seq"].as_i64() > first["data_version"]["seq"].as_i64());
    assert_eq!(
        api.get("/v1/rollouts/move/exposure").await.ok()["counts"]["exposed"],
        3_000
    );
    service.end_and_fsck();
}

async fn nobody_is_exposed_by_a_plan_and_what_cannot_be_answered_says_why(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 2_500).await;
    sandbox(api, json!({})).await;
    api.post_text(
        "/v1/rollouts",
        "application/yaml",
        two_waves().replace("rollout: move", "rollout: draft"),
    )
    .await
    .ok();
    api.get("/v1/rollouts/draft/exposure")
        .await
        .refused(409, "plan_missing");
    planned(api, &two_waves()).await;
    let view = api.get("/v1/rollouts/move/exposure").await.ok();
    check_sums(&view, 2_500);
    assert_eq!(view["counts"]["untouched"], 2_500);
    assert_eq!(view["by"][0]["attribute"], "country");
    assert_eq!(view["by"][1]["attribute"], "department");
    assert_eq!(view["by"][0]["values"].as_array().unwrap().len(), 4);
    let path = |query: &str| format!("/v1/rollouts/move/exposure{query}");
    let refusals = [
        ("?from=2024-02-01&to=2024-01-01", 422, "interval_invalid"),
        ("?from=yesterday", 422, "interval_invalid"),
        ("?from=2100-01-01", 422, "interval_invalid"),
        ("?by=shoe_size", 422, "attribute_unknown"),
        ("?seq=999999", 422, "seq_unknown"),
        ("?until=now", 400, "query_invalid"),
        ("/people?class=gone", 400, "class_unknown"),
        ("/people?format=xml", 400, "query_invalid"),
        ("/people?cursor=7_x", 422, "cursor_invalid"),
    ];
    for (query, status, code) in refusals {
        let sentence = api.get(&path(query)).await.refused(status, code);
        assert!(!sentence.is_empty());
    }
    let mapped = api
        .get(&path("?by=shoe_size"))
        .await
        .refused(422, "attribute_unknown");
    assert!(mapped.contains("country"), "says which there are: {mapped}");
    let auditor = api.as_role("auditor", "auditor").await;
    auditor.get(&path("")).await.ok();
    let source = api.as_role("siem", "signal_source").await;
    source.get(&path("")).await.refused(403, "forbidden");
    let none = api.get(&path("/people?class=exposed")).await.ok();
    assert_eq!(none, json!({"items": [], "next_cursor": null}));
}

async fn the_command_fits_a_terminal_and_its_list_has_the_digest(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_200).await;
    sandbox(api, json!({"failure_ppm": 20_000})).await;
    started(
        api,
        &format!(
            "{}    gate: {{failures_at_most: 100%}}\n",
            two_waves().replace(
                "  - {name: rest, rest: true}\n",
                "  - name: rest\n    rest: true\n"
            )
        ),
    )
    .await;
    until_status(api, "move", "completed", 30).await;
    let text = |arguments: &[&str]| {
        let done = service.cli(arguments);
        let (out, said) = (
            String::from_utf8(done.stdout),
            String::from_utf8_lossy(&done.stderr).into_owned(),
        );
        assert!(done.status.success(), "{arguments:?}: {said}");
        out.unwrap()
    };
    let shown = text(&["exposure", "move", "--by", "country"]);
    for line in shown.lines() {
        assert!(line.chars().count() <= 80, "wider than 80: {line}");
    }
    assert!(
        shown.contains("exposed") && shown.contains("DE") && shown.contains("sha256"),
        "{shown}"
    );
    let view: Value = serde_json::from_str(&text(&["-o", "json", "exposure", "move"])).unwrap();
    let seq = view["data_version"]["seq"].to_string();
    let (from, to) = (view["from"].as_str().unwrap(), view["to"].as_str().unwrap());
    let list = text(&[
        "-o", "csv", "exposure", "move", "--from", from, "--to", to, "--seq", &seq,
    ]);
    let digest: String = Sha256::digest(list.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(view["digest"], digest);
    assert_eq!(list.lines().count(), 1_201);
    assert_eq!(list.lines().next(), Some("key,wave,class,state,since"));
    let some = text(&["-o", "csv", "exposure", "move", "--class", "in_flight"]);
    assert_eq!(
        some.lines().count() as u64 - 1,
        view["counts"]["in_flight"].as_u64().unwrap()
    );
    let named = text(&["exposure", "move", "--class", "exposed", "--limit", "5"]);
    assert_eq!(named.lines().count(), 6, "{named}");
    let refused = service.cli(&["-o", "csv", "status"]);
    assert_eq!(refused.status.code(), Some(1));
    service.end_and_fsck();
}

async fn whoever_stands_elsewhere_than_the_trail_says_is_counted_as_touched(database: Database) {
    let mut service = Service::start(&database);
    let api = &service.api;
    import(api, 1_500).await;
    sandbox(api, json!({})).await;
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 30).await;
    let token = api.token.clone();
    service.stop();
    let sql = "UPDATE audit SET data = NULL WHERE action = 'ledger.turn'";
    if database.is_postgres() {
        let mut at = PgConnection::connect(&database.url).await.unwrap();
        sqlx::query(sql).execute(&mut at).await.unwrap();
    } else {
        let mut at = SqliteConnection::connect(&database.url).await.unwrap();
        sqlx::query(sql).execute(&mut at).await.unwrap();
    }
    let service = Service::start_again(&database, &token);
    let view = service.api.get("/v1/rollouts/move/exposure").await.ok();
    assert_eq!(
        (&view["counts"]["exposed"], &view["unexplained"]),
        (&json!(1_500), &json!(1_500))
    );
    let shown = service.cli(&["exposure", "move"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("tidegate fsck"), "{shown}");
}
