//! Bounds hold for the target, whoever sends: requests at once, people a second, pauses, time, bytes.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

use super::own::{Book, Own, Reply};
use super::{ONE_WAVE, account, ledger, people_in, target_at, total};
use crate::support::database::Database;
use crate::support::people::{import, started, until_done, until_status};
use crate::support::service::Service;
use crate::support::targets::{Target, check_nobody_twice};
use crate::support::until;

/// A rollout of those in a country, or of all others.
fn half(name: &str, select: &str) -> String {
    format!(
        "rollout: {name}\npopulation: staff\ntarget: box\nexclude: {select}\nwaves:\n  - {{name: all, rest: true}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_are_bounded_per_target_and_not_per_batch() {
    let Some(server) = Target::scimmy(&[]).await else {
        return;
    };
    let proxy = server.faulty(&["--latency", "20"]).await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 500).await;
    proxy.register(api, "box", json!({"concurrency": 6})).await;
    let germans = "{attribute: country, equals: DE}";
    // Two rollouts are two batches at once.
    started(api, &half("others", germans)).await;
    started(api, &half("move", &format!("{{not: {germans}}}"))).await;
    until_status(api, "others", "completed", 60).await;
    until_status(api, "move", "completed", 60).await;
    let faults = proxy.figures("/_faults").await;
    assert_eq!(
        faults["max_inflight"], 6,
        "all seats, and no more: {faults:#}"
    );
    assert_eq!(faults["requests"], 500, "nobody is looked up for nothing");
    assert_eq!(check_nobody_twice(&server.accounts().await), 500);
    service.end_and_fsck();
}

/// A rollout `move` in one wave with a rate.
fn paced(rate: &str) -> String {
    ONE_WAVE.replace("waves:", &format!("rate: {rate}\nwaves:"))
}

/// Fails when any window of the ledger saw more people than burst and rate allow, and some slack for
/// what happens between the last look at the clock and the proxy.
fn check_rate(times: &[i64], per_second: i64, burst: i64, slack: i64) {
    for (index, first) in times.iter().enumerate() {
        for (count, last) in times[index..].iter().enumerate() {
            let most = burst + slack + (last - first) * per_second / 1000;
            let count = count as i64;
            assert!(count <= most, "{count} in {} ms", last - first);
        }
    }
}

fn posts(book: &std::path::Path) -> Vec<i64> {
    let mut times: Vec<i64> = ledger(book)
        .iter()
        .filter(|line| line["m"] == "POST")
        .map(|line| line["t"].as_i64().unwrap())
        .collect();
    times.sort_unstable();
    times
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_of_a_spec_is_kept_and_smooth() {
    let Some(server) = Target::scimmy(&[]).await else {
        return;
    };
    let database = Database::sqlite();
    let book = database.file("ledger.ndjson");
    let proxy = server.faulty(&["--ledger", book.to_str().unwrap()]).await;
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 200).await;
    proxy.register(api, "box", json!({})).await;
    started(api, &paced("{per_second: 50, burst: 4}")).await;
    until_status(api, "move", "completed", 60).await;
    proxy.figures("/_faults").await;
    let times = posts(&book);
    assert_eq!(times.len(), 200);
    check_rate(&times, 50, 4, 8);
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_keep_one_rate() {
    let (Some(database), Some(server)) = (Database::postgres().await, Target::scim2(&[]).await)
    else {
        return;
    };
    let book = database.file("ledger.ndjson");
    let proxy = server.faulty(&["--ledger", book.to_str().unwrap()]).await;
    let first = Service::start(&database);
    let second = Service::start_again(&database, &first.api.token);
    let api = &first.api;
    import(api, 2_200).await;
    proxy.register(api, "box", json!({})).await;
    started(api, &paced("{per_second: 60}")).await;
    until_done(api, "move", 400, 60).await;
    proxy.figures("/_faults").await;
    let times = posts(&book);
    // Each keeps to its own people's times; a machine under load may let one stand still for up to the
    // second for which it has claimed.
    check_rate(&times, 60, 1, 60);
    let mut gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    gaps.sort_unstable();
    assert!(
        gaps[gaps.len() / 2] >= 5,
        "one by one, not in heaps: {gaps:?}"
    );
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_a_target_asked_one_process_for_is_kept_by_another() {
    let (Some(database), Some(server)) = (Database::postgres().await, Target::scim2(&[]).await)
    else {
        return;
    };
    let proxy = server.faulty(&["--p429", "1", "--retry-after", "5"]).await;
    let mut first = Service::start(&database);
    let api = first.api.clone();
    import(&api, 50).await;
    proxy.register(&api, "box", json!({})).await;
    started(&api, ONE_WAVE).await;
    until("the target is left alone", 10, async || {
        let view = api.get("/v1/targets/box").await.ok();
        view["closed_until"].is_string()
    })
    .await;
    let begun = Instant::now();
    let before = proxy.figures("/_faults").await["requests"].clone();
    first.kill();
    proxy.change_faults(json!({"p429": 0})).await;
    let second = Service::start_again(&database, &api.token);
    until("the pause is over", 20, async || {
        proxy.figures("/_faults").await["requests"] != before
    })
    .await;
    assert!(
        begun.elapsed() > Duration::from_millis(4_300),
        "{:?}",
        begun.elapsed()
    );
    // Whoever was under way in the killed process is in doubt until its lease ends.
    until_done(&second.api, "move", 42, 40).await;
    assert_eq!(proxy.figures("/_faults").await["early_retries"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_hangs_ends_in_its_time_and_leaves_doubt() {
    let book = Book::default();
    let own = Own::start({
        let book = book.clone();
        move |asked| {
            let name = asked.body["userName"].as_str().unwrap_or_default();
            match book.answer(asked) {
                _ if asked.method == "POST" && name.starts_with("user1@") => Reply::Hang,
                reply => reply,
            }
        }
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 30).await;
    target_at(api, &own.url, json!({"timeout_seconds": 1})).await;
    started(api, ONE_WAVE).await;
    until("one is in doubt, and says why", 10, async || {
        let people = people_in(api, "unknown").await;
        people
            .first()
            .is_some_and(|person| person["code"] == "timeout")
    })
    .await;
    let done = until_status(api, "move", "completed", 20).await;
    assert_eq!(
        (&done["totals"]["done"], &done["totals"]["adopted"]),
        (&json!(30), &json!(1))
    );
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_cut_off() {
    let own = Own::start(|asked| match asked.method.as_str() {
        "POST" => {
            let kind = ("content-type", "application/scim+json".to_owned());
            Reply::Raw(201, kind, "{\"id\": \"".to_owned() + &"x".repeat(64 << 20))
        }
        _ => Reply::Json(200, json!({"totalResults": 0, "Resources": []})),
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 8).await;
    target_at(api, &own.url, json!({})).await;
    started(api, ONE_WAVE).await;
    until("everybody is in doubt", 20, async || {
        total(api, "unknown").await == 8
    })
    .await;
    let people: Vec<Value> = people_in(api, "unknown").await;
    assert!(
        people
            .iter()
            .all(|person| person["code"] == "answer_too_large"),
        "{people:?}"
    );
    let (_, most) = service.resident();
    assert!(most < 400 << 20, "{most} bytes");
}

/// Creates accounts eight at a time, as fast as the server takes them; returns how many a second.
async fn bare_rate(server: &Target, people: std::ops::Range<u32>) -> f64 {
    let http = reqwest::Client::new();
    let (count, begun) = (people.len(), Instant::now());
    let url = format!("{}/Users", server.url);
    futures_util::StreamExt::for_each_concurrent(
        futures_util::stream::iter(people),
        8,
        async |person| {
            let request = http
                .post(&url)
                .header("content-type", "application/scim+json");
            let answer = request
                .body(account(person).to_string())
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 201);
            answer.bytes().await.unwrap();
        },
    )
    .await;
    count as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_move_nearly_as_fast_as_the_server_takes_them() {
    if std::env::var_os("TIDEGATE_MEASURE").is_none() {
        println!("skipped: a measurement wants the machine for itself; set TIDEGATE_MEASURE");
        return;
    }
    let Some(server) = Target::scimmy(&[("LATENCY_MS", "25")]).await else {
        return;
    };
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 4_000).await;
    server.register(api, "box", json!({})).await;
    let bare = bare_rate(&server, 100_000..102_000).await;
    started(api, ONE_WAVE).await;
    until_done(api, "move", 1, 10).await;
    let begun = Instant::now();
    let done = until_done(api, "move", 3_000, 60).await;
    let ours = done["totals"]["done"].as_u64().unwrap() as f64 / begun.elapsed().as_secs_f64();
    println!(
        "bare {bare:.0}/s, moved {ours:.0}/s: {:.0} %",
        ours / bare * 100.0
    );
    assert!(ours >= bare * 0.9);
}
