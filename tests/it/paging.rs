//! Lists: every item once, in pages, also while more come.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_status};
use crate::support::service::Service;

on_each_database!(
    pages_walk_every_item_exactly_once,
    pages_walk_every_item_exactly_once_while_items_are_added,
    people_are_listed_exactly_once_by_state_and_wave,
    a_bad_cursor_is_refused,
);

/// Walks a list to its end; `between` is called after every page.
async fn walk(
    api: &Api,
    path: &str,
    limit: usize,
    mut between: impl AsyncFnMut(usize),
) -> Vec<Value> {
    let (mut found, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    let joint = if path.contains('?') { '&' } else { '?' };
    loop {
        let more = cursor
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        let page = api
            .get(&format!("{path}{joint}limit={limit}{more}"))
            .await
            .ok();
        let items = page["items"].as_array().unwrap().clone();
        assert!(items.len() <= limit, "{path}: a page of {}", items.len());
        found.extend(items);
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return found;
        }
        pages += 1;
        assert!(pages < 10_000, "{path}: the list has no end");
        between(pages).await;
    }
}

fn ids(items: &[Value], field: &str) -> Vec<String> {
    items.iter().map(|item| item[field].to_string()).collect()
}

async fn make(api: &Api, number: usize) {
    let name = format!("n{number:03}");
    api.post("/v1/populations", json!({"name": name}))
        .await
        .ok();
    api.post("/v1/targets", json!({"name": name, "connector": "sandbox"}))
        .await
        .ok();
    api.post("/v1/tokens", json!({"name": name, "role": "auditor"}))
        .await
        .ok();
    let spec = format!(
        "rollout: {name}\npopulation: {name}\ntarget: {name}\nwaves: [{{name: all, rest: true}}]\n"
    );
    api.post_text("/v1/rollouts", "application/yaml", spec)
        .await
        .ok();
    let hold = json!({"kind": "pause", "scope": {"type": "target", "id": name}, "reason": "r"});
    api.post("/v1/holds", hold).await.ok();
}

const LISTS: [(&str, &str); 7] = [
    ("/v1/populations", "id"),
    ("/v1/targets", "id"),
    ("/v1/tokens", "id"),
    ("/v1/rollouts", "id"),
    ("/v1/holds", "id"),
    ("/v1/holds?in_force=true", "id"),
    ("/v1/audit", "seq"),
];

async fn pages_walk_every_item_exactly_once(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    for number in 0..7 {
        make(api, number).await;
    }
    for (path, field) in LISTS {
        let whole = walk(api, path, 1000, async |_| {}).await;
        assert!(whole.len() >= 7, "{path}: {}", whole.len());
        for limit in [1, 2, 3, whole.len(), whole.len() + 1] {
            let paged = walk(api, path, limit, async |_| {}).await;
            assert_eq!(ids(&paged, field), ids(&whole, field), "{path} by {limit}");
        }
    }
}

async fn pages_walk_every_item_exactly_once_while_items_are_added(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    for number in 0..5 {
        make(api, number).await;
    }
    let mut next = 5;
    for (path, field) in LISTS {
        let before = ids(&walk(api, path, 1000, async |_| {}).await, field);
        let paged = walk(api, path, 2, async |pages| {
            if pages <= 2 {
                make(api, next).await;
                next += 1;
            }
        })
        .await;
        let found = ids(&paged, field);
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert_eq!(
            distinct.len(),
            found.len(),
            "{path}: somebody is listed twice"
        );
        let missing: Vec<&String> = before.iter().filter(|id| !distinct.contains(id)).collect();
        assert!(missing.is_empty(), "{path}: left out: {missing:?}");
    }
}

async fn people_are_listed_exactly_once_by_state_and_wave(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 3_000).await;
    sandbox(
        api,
        json!({"failure_ppm": 100_000, "review_ppm": 50_000, "seed": 7}),
    )
    .await;
    started(api, &two_waves()).await;
    let view = until_status(api, "move", "completed", 30).await;
    let all = ids(
        &walk(api, "/v1/rollouts/move/members", 1000, async |_| {}).await,
        "key",
    );
    assert_eq!(all.len(), 3_000);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3_000);
    for limit in [7, 333] {
        let paged = walk(api, "/v1/rollouts/move/members", limit, async |_| {}).await;
        assert_eq!(ids(&paged, "key"), all, "by {limit}");
    }
    let mut counted = 0;
    for state in ["done", "failed", "review", "queued"] {
        let path = format!("/v1/rollouts/move/members?state={state}");
        let found = walk(api, &path, 50, async |_| {}).await;
        assert_eq!(view["totals"][state], found.len(), "{state}");
        assert!(found.iter().all(|item| item["state"] == state), "{state}");
        counted += found.len();
    }
    assert_eq!(counted, 3_000);
    let canary = walk(api, "/v1/rollouts/move/members?wave=1", 20, async |_| {}).await;
    assert_eq!(canary.len(), 50);
    assert!(canary.iter().all(|item| item["wave"] == 1));
    let nobody = walk(api, "/v1/rollouts/move/members?wave=9", 20, async |_| {}).await;
    assert!(nobody.is_empty());
    let unknown = api.get("/v1/rollouts/move/members?state=happy").await;
    assert!(unknown.refused(400, "state_unknown").contains("happy"));
}

async fn a_bad_cursor_is_refused(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    started(api, &two_waves()).await;
    for cursor in [
        "x",
        "7",
        "_",
        "a_b",
        "1_2_three",
        "%F0%9F%90%99",
        "99999999999999999999_1_1",
    ] {
        for list in ["rollouts", "holds", "rollouts/move/members"] {
            let answer = api.get(&format!("/v1/{list}?cursor={cursor}")).await;
            answer.refused(422, "cursor_invalid");
        }
    }
    for cursor in ["1_-9223372036854775808_0", "-5_3_0", "1_2_-1", "1_2_65536"] {
        let answer = api
            .get(&format!("/v1/rollouts/move/members?cursor={cursor}"))
            .await;
        answer.refused(422, "cursor_invalid");
    }
    for cursor in ["x", "1_2", "99999999999999999999"] {
        api.get(&format!("/v1/audit?cursor={cursor}"))
            .await
            .refused(422, "cursor_invalid");
    }
}
