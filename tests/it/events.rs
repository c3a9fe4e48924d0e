//! The stream of events: everything that happens, in order, and nothing lost between two connections.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_status};
use crate::support::service::Service;

on_each_database!(
    events_are_the_trail_as_it_is_written,
    a_client_that_comes_back_misses_nothing,
    a_last_event_id_that_is_none_is_refused,
);

/// A stream that is being read.
struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(api: &Api, path: &str, last: Option<&str>) -> Self {
        let mut request = api.request(Method::GET, path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
        }
    }

    /// Reads events until there are so many; each as its id, its name and its data.
    async fn take(&mut self, count: usize) -> Vec<(i64, String, Value)> {
        let mut found = Vec::new();
        while found.len() < count {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::trim)
                };
                // A comment keeps the line warm.
                if let Some(id) = field("id:") {
                    let data = serde_json::from_str(field("data:").unwrap()).unwrap();
                    found.push((
                        id.parse().unwrap(),
                        field("event:").unwrap().to_owned(),
                        data,
                    ));
                }
            }
            if found.len() < count {
                let more =
                    tokio::time::timeout(Duration::from_secs(10), self.response.chunk()).await;
                let more =
                    more.unwrap_or_else(|_| panic!("{} of {count} events came", found.len()));
                self.text.push_str(&String::from_utf8_lossy(
                    &more.unwrap().expect("an open stream"),
                ));
            }
        }
        found
    }
}

async fn events_are_the_trail_as_it_is_written(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "before"}))
        .await
        .ok();
    let mut stream = Stream::open(api, "/v1/events", None).await;
    let hold = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "x"});
    let request = api
        .request(Method::POST, "/v1/holds")
        .header("x-request-id", "request-7");
    let hold = send(request.json(&hold)).await.ok();
    api.post("/v1/populations", json!({"name": "after"}))
        .await
        .ok();
    let events = stream.take(2).await;
    assert_eq!(
        events[0].1, "hold.place",
        "only what comes after the connection: {events:?}"
    );
    assert_eq!(events[0].2["actor"], "first-admin");
    assert_eq!(
        events[0].2["subject"],
        format!("hold:{}", hold["id"].as_str().unwrap())
    );
    assert_eq!(
        (events[1].1.as_str(), &events[1].2["detail"]["name"]),
        ("population.create", &json!("after"))
    );
    assert_eq!(events[1].0, events[0].0 + 1);
    let audit = api
        .get(&format!("/v1/audit?after={}", events[0].0 - 1))
        .await
        .ok();
    assert_eq!(
        audit["items"][0]["request_id"], "request-7",
        "the trail names the request"
    );
    assert_eq!(audit["items"][0]["seq"], events[0].0);
}

async fn a_client_that_comes_back_misses_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let mut stream = Stream::open(api, "/v1/events?after=0", None).await;
    import(api, 3_000).await;
    sandbox(api, json!({})).await;
    let mut seen = stream.take(3).await;
    // The line goes dead in the middle of it all.
    drop(stream);
    started(api, &two_waves()).await;
    until_status(api, "move", "completed", 30).await;
    let last = seen.last().unwrap().0.to_string();
    let trail = api.get("/v1/audit?limit=1000").await.ok();
    let trail = trail["items"].as_array().unwrap();
    let mut stream = Stream::open(api, "/v1/events", Some(&last)).await;
    seen.extend(stream.take(trail.len() - seen.len()).await);
    let seen: Vec<(i64, String)> = seen
        .into_iter()
        .map(|(id, action, _)| (id, action))
        .collect();
    let written: Vec<(i64, String)> = trail
        .iter()
        .map(|entry| {
            (
                entry["seq"].as_i64().unwrap(),
                entry["action"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    assert_eq!(seen, written);
}

async fn a_last_event_id_that_is_none_is_refused(database: Database) {
    let service = Service::start(&database);
    for last in ["yesterday", "1.5", "99999999999999999999"] {
        let request = service
            .api
            .request(Method::GET, "/v1/events")
            .header("last-event-id", last);
        let answer = tokio::time::timeout(Duration::from_secs(5), send(request)).await;
        answer
            .expect("an answer, not a stream that lost its place")
            .refused(400, "event_id_invalid");
    }
}
