//! Slow and lying targets: what they say they did counts when it is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::own::{Book, Own, Reply};
use super::{ONE_WAVE, people_in, target_at, total};
use crate::support::database::Database;
use crate::support::people::{import, started, until_status};
use crate::support::service::Service;
use crate::support::targets::check_nobody_twice;
use crate::support::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_success_without_effect_moves_nobody() {
    let (book, is_honest) = (Book::default(), Arc::new(AtomicBool::new(false)));
    let own = Own::start({
        let (book, is_honest) = (book.clone(), is_honest.clone());
        move |asked| {
            if asked.method == "POST" && !is_honest.load(Ordering::SeqCst) {
                return Reply::Raw(201, ("x-lie", "yes".to_owned()), String::new());
            }
            book.answer(asked)
        }
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 10).await;
    target_at(api, &own.url, json!({})).await;
    started(api, ONE_WAVE).await;
    until("nobody is believed to be there", 10, async || {
        let people = people_in(api, "unknown").await;
        people.len() == 10 && people.iter().all(|person| person["code"] == "no_effect")
    })
    .await;
    assert_eq!(total(api, "done").await, 0);
    is_honest.store(true, Ordering::SeqCst);
    let done = until_status(api, "move", "completed", 30).await;
    assert_eq!(done["totals"]["done"], 10, "{done:#}");
    assert_eq!(check_nobody_twice(&book.accounts()), 10);
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_that_shows_nothing_is_looked_up_and_believed() {
    let book = Book::default();
    let own = Own::start({
        let book = book.clone();
        move |asked| match (asked.method.as_str(), book.answer(asked)) {
            ("POST", _) => Reply::Raw(204, ("x-terse", "yes".to_owned()), String::new()),
            (_, reply) => reply,
        }
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 10).await;
    target_at(api, &own.url, json!({})).await;
    started(api, ONE_WAVE).await;
    let done = until_status(api, "move", "completed", 20).await;
    assert_eq!(done["totals"]["done"], 10, "{done:#}");
    assert_eq!(
        done["totals"]["adopted"].as_u64().unwrap_or(0),
        0,
        "they were created"
    );
    assert_eq!(own.count("POST"), 10);
    service.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_gets_an_answer_ends_in_doubt_and_the_next_wave_stays_shut() {
    let book = Book::default();
    let own = Own::start({
        let book = book.clone();
        move |asked| {
            let name = asked.body["userName"].as_str().unwrap_or_default();
            if asked.method == "POST" && name.ends_with("7@example.test") {
                return Reply::Json(504, json!({"status": "504"}));
            }
            book.answer(asked)
        }
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 200).await;
    target_at(api, &own.url, json!({})).await;
    let gate = "gate: {success_at_least: 50%, unknown_at_most: 1%, silence: 2s}";
    let spec = format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: canary, count: 100, {gate}}}\n  - {{name: rest, rest: true}}\n"
    );
    started(api, &spec).await;
    // Undecided and not failed: an answer may come yet.
    until(
        "the silence is over, and the gate undecided",
        30,
        async || {
            let view = api.get("/v1/rollouts/move").await.ok();
            view["waves"][0]["state"] == "gated" && view["why_not_now"]["code"] == "undecided"
        },
    )
    .await;
    let silent = people_in(api, "unknown").await;
    assert!(
        (2..30).contains(&silent.len()),
        "they are listed: {}",
        silent.len()
    );
    let view = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(
        view["waves"][1]["counts"]["done"].as_u64().unwrap_or(0),
        0,
        "{view:#}"
    );
    assert!(
        book.accounts().len() <= 100,
        "nobody of the next wave was sent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_final_failures_trips_the_gate_before_the_next_wave() {
    let book = Book::default();
    let own = Own::start({
        let book = book.clone();
        move |asked| {
            let name = asked.body["userName"].as_str().unwrap_or_default();
            if asked.method == "POST" && name.ends_with("3@example.test") {
                return Reply::Json(400, json!({"status": "400", "detail": "no licence left"}));
            }
            book.answer(asked)
        }
    })
    .await;
    let service = Service::start(&Database::sqlite());
    let api = &service.api;
    import(api, 400).await;
    target_at(api, &own.url, json!({})).await;
    let spec = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: canary, count: 200, gate: {failures_at_most: 2%}}\n  - {name: rest, rest: true}\n";
    started(api, spec).await;
    until("the gate has tripped", 20, async || {
        let view = api.get("/v1/rollouts/move").await.ok();
        view["status"] == "held" && view["why_not_now"]["code"] == "gate_failed"
    })
    .await;
    let view = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(
        view["waves"][1]["counts"]["done"].as_u64().unwrap_or(0),
        0,
        "{view:#}"
    );
    assert!(book.accounts().len() <= 200);
    let failed = people_in(api, "failed").await;
    assert!(
        failed[0]["message"]
            .as_str()
            .unwrap()
            .contains("no licence left")
    );
}
