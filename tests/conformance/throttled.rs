//! A target that asks for patience gets it, in every form in which it can ask.

use std::time::Duration;

use serde_json::json;

use super::own::{Book, Own, Reply};
use super::{ONE_WAVE, ledger, on_each_server, people_in, target_at, total};
use crate::support::database::Database;
use crate::support::people::{import, started, until_status};
use crate::support::service::Service;
use crate::support::targets::{Target, check_nobody_twice};
use crate::support::until;

on_each_server!(
    retry_after_in_whole_seconds_is_kept,
    retry_after_with_a_fraction_is_kept,
    retry_after_as_a_date_is_kept,
);

async fn retry_after_in_whole_seconds_is_kept(server: Target) {
    check_half_throttled(&server, &["--retry-after", "1"]).await;
}

async fn retry_after_with_a_fraction_is_kept(server: Target) {
    check_half_throttled(&server, &["--retry-after", "2.128", "--scale", "0.3"]).await;
}

async fn retry_after_as_a_date_is_kept(server: Target) {
    check_half_throttled(&server, &["--retry-after", "date", "--scale", "0.01"]).await;
}

/// Half of all requests are throttled: everybody arrives once, nobody comes back early, and no more is
/// sent than the throttling explains.
async fn check_half_throttled(server: &Target, options: &[&str]) {
    let proxy = server
        .faulty(&[&["--p429", "0.5", "--seed", "7"], options].concat())
        .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 40).await;
    proxy.register(api, "box", json!({"concurrency": 16})).await;
    started(api, ONE_WAVE).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 40, "{done:#}");
    let faults = proxy.figures("/_faults").await;
    assert_eq!(faults["early_retries"], 0, "{faults:#}");
    assert!(faults["sent429"].as_u64() >= Some(20), "{faults:#}");
    assert!(faults["requests"].as_u64() <= Some(92), "{faults:#}");
    assert_eq!(check_nobody_twice(&server.accounts().await), 40);
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_retry_after_pauses_grow_and_nobody_is_given_up() {
    let Some(server) = Target::scimmy(&[]).await else {
        return;
    };
    let database = Database::sqlite();
    let book = database.file("ledger.ndjson");
    let proxy = server
        .faulty(&[
            "--p429",
            "1",
            "--retry-after",
            "none",
            "--ledger",
            book.to_str().unwrap(),
        ])
        .await;
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 30).await;
    proxy.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    // Eight at first, then fewer and fewer after 0.25, 0.5, 1 and 2 seconds, give or take a quarter.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let faults = proxy.figures("/_faults").await;
    assert!(faults["requests"].as_u64() <= Some(24), "{faults:#}");
    let times: Vec<i64> = ledger(&book)
        .iter()
        .filter_map(|line| line["t"].as_i64())
        .collect();
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let longest = gaps.iter().max().copied().unwrap_or(0);
    assert!(longest >= 1_000, "the pauses grow: {gaps:?}");
    proxy.change_faults(json!({"p429": 0})).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 30, "{done:#}");
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_whole_tenant_costs_few_requests_and_nobody() {
    let Some(server) = Target::scim2(&[]).await else {
        return;
    };
    let proxy = server
        .faulty(&["--p503", "1", "--retry-after", "none"])
        .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 200).await;
    proxy.register(api, "box", json!({})).await;
    started(api, ONE_WAVE).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let faults = proxy.figures("/_faults").await;
    assert!(faults["requests"].as_u64() <= Some(24), "{faults:#}");
    assert_eq!(total(api, "failed").await, 0);
    proxy.change_faults(json!({"p503": 0})).await;
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 200, "{done:#}");
    assert_eq!(check_nobody_twice(&server.accounts().await), 200);
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_was_tried_while_nobody_reached_the_server_is_not_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 20).await;
    target_at(api, &format!("http://{address}/v2"), json!({})).await;
    started(api, ONE_WAVE).await;
    until("the target is left alone", 10, async || {
        let view = api.get("/v1/targets/box").await.ok();
        view["closed_until"].is_string()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let waiting = people_in(api, "queued").await;
    assert_eq!(waiting.len(), 20);
    assert!(
        waiting.iter().all(|person| person["attempts"] == 0),
        "what was never sent was no attempt: {waiting:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_left_alone_and_felt_for_with_one_request() {
    let is_silent = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (book, silent) = (Book::default(), is_silent.clone());
    let own = Own::start({
        let book = book.clone();
        move |asked| {
            if silent.load(std::sync::atomic::Ordering::SeqCst) {
                Reply::Hang
            } else {
                book.answer(asked)
            }
        }
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 100).await;
    target_at(api, &own.url, json!({"timeout_seconds": 1})).await;
    started(api, ONE_WAVE).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Eight, four in the place of those that ended before the fifth, then one after each pause.
    assert!(own.asked().len() <= 16, "{}", own.asked().len());
    is_silent.store(false, std::sync::atomic::Ordering::SeqCst);
    let done = until_status(api, "move", "completed", 60).await;
    assert_eq!(done["totals"]["done"], 100, "{done:#}");
    assert_eq!(check_nobody_twice(&book.accounts()), 100);
    service.end_and_fsck();
}
