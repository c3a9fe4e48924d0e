//! Storms: very many reports at once are one hold and a counter, none that was answered is lost, and
//! forgeries leave nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::people::sandbox;
use crate::support::service::Service;
use crate::support::webhooks::{Sender, VARIABLE, again_with_key, service_with_key, source};
use crate::support::{on_each_database, until};

on_each_database!(
    a_storm_is_one_hold_with_a_counter_and_nothing_answered_is_lost_by_a_kill,
    forgeries_hold_nothing_and_keep_nobody_else_waiting_for_long,
    repetitions_use_up_nothing_of_what_their_source_may_send,
    other_words_under_the_same_id_are_judged_anew,
);

const MESSAGES: usize = 2_000;
const SENDERS: usize = 16;

/// The target `box` of a vendor.
async fn of_vendor(api: &Api, vendor: &str) {
    let facts = json!({"vendor": vendor});
    let path = "/v1/targets/box/facts";
    send(api.request(reqwest::Method::PUT, path).json(&facts))
        .await
        .ok();
}

fn breach(severity: &str) -> String {
    json!({"type": "security.vendor_breach", "data": {"severity": severity}}).to_string()
}

/// Sends messages by their numbers, sixteen at a time; returns which were answered as admitted.
async fn storm(
    sender: &Sender,
    numbers: Vec<usize>,
    answered: &Arc<AtomicUsize>,
) -> BTreeSet<usize> {
    let left = Arc::new(Mutex::new(numbers.into_iter()));
    let done = Arc::new(Mutex::new(BTreeSet::new()));
    let senders = (0..SENDERS).map(|_| {
        let (sender, left, done) = (sender.clone(), left.clone(), done.clone());
        let answered = answered.clone();
        tokio::spawn(async move {
            loop {
                let next = left.lock().unwrap().next();
                let Some(number) = next else { return };
                let severity = if number == 77 { "critical" } else { "high" };
                if sender
                    .try_send(&format!("m{number}"), &breach(severity))
                    .await
                {
                    done.lock().unwrap().insert(number);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let done = done.lock().unwrap();
    done.clone()
}

async fn halts(api: &Api) -> Vec<Value> {
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    let items = holds["items"].as_array().unwrap().clone();
    items
        .into_iter()
        .filter(|hold| hold["kind"] == "halt")
        .collect()
}

async fn a_storm_is_one_hold_with_a_counter_and_nothing_answered_is_lost_by_a_kill(
    database: Database,
) {
    let mut service = service_with_key(&database);
    let token = service.api.token.clone();
    sandbox(&service.api, json!({})).await;
    of_vendor(&service.api, "acme").await;
    source(&service.api, "siem", "acme").await;
    let answered = Arc::new(AtomicUsize::new(0));
    let sender = Sender::new(&service.api, "siem");
    let raging = {
        let answered = answered.clone();
        tokio::spawn(async move { storm(&sender, (0..MESSAGES).collect(), &answered).await })
    };
    until("the storm is at its height", 60, async || {
        answered.load(Ordering::SeqCst) > MESSAGES / 4
    })
    .await;
    service.kill();
    let before = raging.await.unwrap();
    assert!(before.len() < MESSAGES, "it was killed in the middle");
    let service = again_with_key(&database, &token);
    let api = &service.api;
    let sender = Sender::new(api, "siem");
    // Whoever got no answer sends again, as an honest sender does; and so does one who had an answer.
    let again = (0..MESSAGES).filter(|number| !before.contains(number) || number % 10 == 0);
    let after = storm(&sender, again.collect(), &answered).await;
    assert_eq!(before.union(&after).count(), MESSAGES);
    until("everything is judged", 60, async || {
        let halts = halts(api).await;
        halts.len() == 1 && halts[0]["reported"]["signals"] == MESSAGES
    })
    .await;
    let halts = halts(api).await;
    assert_eq!(halts[0]["reported"]["worst"], "critical", "{halts:#?}");
    service.end_and_fsck();
}

async fn forgeries_hold_nothing_and_keep_nobody_else_waiting_for_long(database: Database) {
    let service = service_with_key(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    of_vendor(api, "acme").await;
    source(api, "siem", "acme").await;
    let sender = Sender::new(api, "siem");
    let forger = {
        let sender = sender.clone();
        tokio::spawn(async move {
            for number in 0..500 {
                let wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
                let id = format!("f{number}");
                let message = sender.message((&id, 0), wrong, &breach("critical"));
                send(message).await.refused(401, "forged");
            }
        })
    };
    until("an honest message gets in", 5, async || {
        sender.try_send("m1", &breach("low")).await
    })
    .await;
    forger.await.unwrap();
    let listed = api.get("/v1/signals").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed:#}");
    assert!(halts(api).await.is_empty());
    service.end_and_fsck();
}

async fn repetitions_use_up_nothing_of_what_their_source_may_send(database: Database) {
    let service = service_with_key(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    of_vendor(api, "acme").await;
    let config = json!({"keys": [{"env": VARIABLE}], "vendor": "acme", "rate_per_minute": 3});
    let limited = json!({"name": "siem", "profile": "standard_webhooks", "config": config});
    api.post("/v1/sources", limited).await.ok();
    let sender = Sender::new(api, "siem");
    let alive = json!({"type": "security.other", "data": {"severity": "info"}}).to_string();
    for _ in 0..10 {
        assert!(
            sender.try_send("caught", &alive).await,
            "known, and no more"
        );
    }
    assert!(sender.try_send("m1", &breach("critical")).await, "heard");
    until("it halts", 10, async || !halts(api).await.is_empty()).await;
    let listed = api.get("/v1/signals").await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "{listed:#}");
    service.end_and_fsck();
}

async fn other_words_under_the_same_id_are_judged_anew(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    sandbox(api, json!({})).await;
    of_vendor(api, "acme").await;
    let report = |severity: &str, lifecycle: &str| json!({"id": "case", "kind": "vendor_breach", "vendor": "acme", "severity": severity, "lifecycle": lifecycle});
    for (severity, lifecycle, admitted) in [
        ("info", "test", 1),
        ("info", "test", 0),
        ("critical", "opened", 1),
    ] {
        let sent = api
            .post("/v1/signals", report(severity, lifecycle))
            .await
            .ok();
        assert_eq!(sent["admitted"], admitted, "{severity} {lifecycle}");
    }
    until("it halts", 10, async || !halts(api).await.is_empty()).await;
    service.end_and_fsck();
}
