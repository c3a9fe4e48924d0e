//! Looking changes nothing: whatever is asked with `GET` leaves every table as it was, and so does every link
//! of an event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::sending::{endpoint, reaching};
use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::receiver::Receiver;
use crate::support::until;

on_each_database!(
    nothing_that_is_asked_with_get_changes_anything,
    the_links_of_an_event_show_and_do_nothing,
);

/// Returns every row of every table, as text. Left out is what a process says of itself twice a second.
async fn everything(database: &Database) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    if database.is_postgres() {
        let mut at = PgConnection::connect(&database.url).await.unwrap();
        let tables =
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut at).await.unwrap();
        for table in tables {
            let sql = format!("SELECT t::text FROM \"{table}\" t ORDER BY 1");
            let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(&mut at)
                .await;
            found.insert(table, rows.unwrap());
        }
    } else {
        let mut at = SqliteConnection::connect(&database.url).await.unwrap();
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
        let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut at).await.unwrap();
        for table in tables {
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            let columns: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(columns))
                .fetch_all(&mut at)
                .await
                .unwrap();
            let quoted: Vec<String> = columns
                .iter()
                .map(|name| format!("quote(\"{name}\")"))
                .collect();
            let sql = format!(
                "SELECT {} FROM \"{table}\" ORDER BY 1",
                quoted.join(" || ',' || ")
            );
            let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(&mut at)
                .await;
            found.insert(table, rows.unwrap());
        }
    }
    found.remove("worker");
    found
}

#[track_caller]
fn check_same(
    before: &BTreeMap<String, Vec<String>>,
    after: &BTreeMap<String, Vec<String>>,
    what: &str,
) {
    for (table, rows) in before {
        assert!(after.get(table) == Some(rows), "{what} changed `{table}`");
    }
    assert_eq!(before.len(), after.len());
}

/// A service in which there is something of everything, standing still.
async fn in_the_middle(
    database: &Database,
    receiver: &Receiver,
) -> (crate::support::service::Service, String) {
    let service = reaching(database, &[receiver]);
    let api = &service.api;
    endpoint(api, "pager", receiver).await;
    import(api, 500).await;
    sandbox(api, json!({"latency_ms": 5})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 60, 30).await;
    let scope = json!({"type": "rollout", "id": "move"});
    let body = json!({"kind": "halt", "scope": scope, "reason": "a drill"});
    let placed = api.post("/v1/holds?wait=quiesced", body).await.ok();
    let id = placed["id"].as_str().unwrap().to_owned();
    let requirement = json!({
        "title": "t", "text": "x", "category": "monitor_and_detect", "severity": "high",
    });
    api.post(&format!("/v1/holds/{id}/requirements"), requirement)
        .await
        .ok();
    let signal = json!({"id": "1", "kind": "vendor_breach", "severity": "low"});
    api.post("/v1/signals", signal).await.ok();
    // What runs by itself has come to rest when nothing is written for a while.
    until("everything rests", 30, async || {
        let seen = everything(database).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        everything(database).await == seen
    })
    .await;
    (service, id)
}

/// The path of a call with the names of what there is.
fn filled(path: &str, hold: &str) -> String {
    let id = match path.split('/').nth(2).unwrap() {
        "populations" => "staff",
        "targets" => "box",
        "rollouts" => "move",
        "holds" => hold,
        _ => "0198c0de-0000-7000-8000-000000000000",
    };
    let query = match path {
        "/v1/rollouts/{id}/exposure" | "/v1/rollouts/{id}/exposure/people" => {
            "?from=2024-01-01T00:00:00Z&to=2999-01-01T00:00:00Z"
        }
        _ => "",
    };
    let path = path
        .replace("{wave}", "1")
        .replace("{id}", id)
        .replace("{key}", "e0000001")
        .replace("{name}", "starter");
    format!("{path}{query}")
}

async fn look(api: &Api, method: Method, path: &str) -> u16 {
    if path.starts_with("/v1/events") {
        // A stream: its head is the answer.
        let answer = api.request(method, path).send().await.unwrap();
        return answer.status().as_u16();
    }
    send(api.request(method, path)).await.status
}

async fn nothing_that_is_asked_with_get_changes_anything(database: Database) {
    let receiver = Receiver::start().await;
    let (service, hold) = in_the_middle(&database, &receiver).await;
    let api = &service.api;
    let described = api.get("/openapi.json").await.body;
    let before = everything(&database).await;
    let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for (path, calls) in described["paths"].as_object().unwrap() {
        if calls.get("get").is_none() {
            continue;
        }
        for method in [Method::GET, Method::HEAD] {
            let status = look(api, method.clone(), &filled(path, &hold)).await;
            assert!(status < 500, "{method} {path}: {status}");
            if status == 200 {
                answered.insert(path.clone());
            }
        }
        asked.insert(path.clone());
    }
    for path in ["/metrics", "/readyz", "/healthz", "/openapi.json"] {
        assert_eq!(look(api, Method::GET, path).await, 200);
    }
    check_same(&before, &everything(&database).await, "looking");
    // What needs an id that is not there (an import, an emergency, a revert) or has not been measured.
    let missing: Vec<_> = asked.difference(&answered).collect();
    assert!(
        asked.len() >= 30 && missing.len() <= 5,
        "not shown: {missing:?}"
    );
    service.end_and_fsck();
}

async fn the_links_of_an_event_show_and_do_nothing(database: Database) {
    let receiver = Receiver::start().await;
    let (service, _) = in_the_middle(&database, &receiver).await;
    let api = &service.api;
    let before = everything(&database).await;
    let mut links = BTreeSet::new();
    for got in receiver.got() {
        let of: &Value = &got.event["data"]["links"];
        for link in of.as_object().unwrap().values() {
            let link = link.as_str().unwrap();
            links.insert(
                link.strip_prefix("https://tidegate.example.org")
                    .unwrap()
                    .to_owned(),
            );
        }
    }
    let has = |part: &str| links.iter().any(|link| link.ends_with(part));
    assert!(
        has("/approvals") && has("/preflight") && has("/waves/1"),
        "{links:?}"
    );
    for link in &links {
        assert_eq!(look(api, Method::GET, link).await, 200, "{link}");
        assert_eq!(look(api, Method::HEAD, link).await, 200, "{link}");
        let nobody = send(api.with_token("").request(Method::GET, link)).await;
        nobody.refused(401, "token_missing");
    }
    check_same(&before, &everything(&database).await, "a link");
    service.end_and_fsck();
}
