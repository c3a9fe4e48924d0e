//! Streams that are asked: whether they are there, what they say of themselves, and for their tokens.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    again, check_refused, check_thanked, entries, needs, okta, push, service_of, signals,
    until_held,
};
use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::transmitter::{Signer, Transmitter, about_stream, risk};
use crate::support::{Random, seed, until};

on_each_database!(
    a_stream_that_answers_no_verification_is_blind_until_it_does,
    a_stream_that_says_it_is_paused_is_blind_and_old_words_change_nothing,
    tokens_are_fetched_and_acknowledged_only_once_they_are_durable,
    a_stream_that_cannot_be_fetched_is_blind_and_recovers,
    killed_at_any_moment_each_token_counts_once_and_none_that_was_thanked_for_is_lost,
);

/// How it stands with `okta`.
async fn standing(api: &Api) -> Value {
    let listed = api.get("/v1/sources").await.ok();
    let all = listed.as_array().unwrap();
    let found = all.iter().find(|source| source["name"] == "okta");
    found.cloned().unwrap_or_default()
}

async fn until_blind(api: &Api, is_blind: bool) -> Value {
    until("it is blind, or heard again", 20, async || {
        standing(api).await["blind_since"].is_null() != is_blind
    })
    .await;
    standing(api).await
}

async fn a_stream_that_answers_no_verification_is_blind_until_it_does(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    let verify = json!({"url": format!("{}/verify", transmitter.url), "stream_id": "stream-1", "every_seconds": 1});
    okta(api, &transmitter, json!({"verify": verify})).await;
    needs(api, &["okta"]).await;
    let blind = until_blind(api, true).await;
    let why = blind["blind_why"].as_str().unwrap().to_owned();
    assert!(
        why.starts_with("nothing was heard of it for 3 seconds"),
        "{why}"
    );
    let asked = transmitter.book().verifications.clone();
    assert!(asked.len() >= 2, "{asked:?}");
    assert_eq!(asked[0]["stream_id"], "stream-1");
    let held = until_held(api, 1).await;
    assert_eq!(held[0]["kind"], "gate", "{held:#?}");
    let wrong = about_stream("v0", "verification", json!({"state": "nobody asked"}), 0);
    check_refused(&push(api, &signer.token(&wrong)).await, "invalid_state");
    assert!(!standing(api).await["blind_since"].is_null());
    // From here on it answers whatever it is asked.
    let number = AtomicU32::new(0);
    until("it is heard again", 20, async || {
        let last = transmitter.book().verifications.last().cloned();
        let state = last.map(|asked| asked["state"].clone());
        let number = number.fetch_add(1, Ordering::Relaxed);
        let answer = about_stream(
            &format!("v{number}"),
            "verification",
            json!({"state": state}),
            0,
        );
        check_thanked(&push(api, &signer.token(&answer)).await);
        standing(api).await["blind_since"].is_null()
    })
    .await;
    assert!(!entries(api, "source.blind").await.is_empty());
    assert!(!entries(api, "source.heard").await.is_empty());
    assert!(signals(api).await.is_empty(), "it is no signal");
    service.end_and_fsck();
}

async fn a_stream_that_says_it_is_paused_is_blind_and_old_words_change_nothing(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    okta(api, &transmitter, json!({})).await;
    let updated = |jti: &str, status: &str, age: i64| {
        let payload = json!({"status": status, "reason": "maintenance"});
        signer.token(&about_stream(jti, "stream-updated", payload, age))
    };
    let enabled = updated("e1", "enabled", 60);
    check_thanked(&push(api, &enabled).await);
    check_thanked(&push(api, &updated("p1", "paused", 30)).await);
    let blind = until_blind(api, true).await;
    assert_eq!(
        blind["blind_why"],
        "it says that it sends nothing: paused: maintenance"
    );
    // Whoever caught the earlier word says it again; and an honest one comes late.
    check_thanked(&push(api, &enabled).await);
    check_thanked(&push(api, &updated("e0", "enabled", 45)).await);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!standing(api).await["blind_since"].is_null());
    check_thanked(&push(api, &updated("e2", "enabled", 0)).await);
    until_blind(api, false).await;
    assert_eq!(entries(api, "source.stopped").await.len(), 1);
    assert_eq!(entries(api, "source.enabled").await.len(), 2);
    service.end_and_fsck();
}

async fn tokens_are_fetched_and_acknowledged_only_once_they_are_durable(database: Database) {
    let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
    let transmitter = Transmitter::start(&[&signer]).await;
    for number in 0..5 {
        let jti = format!("t{number}");
        let token = signer.token(&risk(&jti, "HIGH", 0));
        transmitter.book().queue.insert(jti, token);
    }
    let forged = other.token(&risk("forged", "HIGH", 0));
    transmitter.book().queue.insert("forged".to_owned(), forged);
    let renamed = signer.token(&risk("another", "HIGH", 0));
    transmitter
        .book()
        .queue
        .insert("renamed".to_owned(), renamed);
    let mut service = service_of(&database, &transmitter).await;
    let token = service.api.token.clone();
    let poll = json!({"url": format!("{}/poll", transmitter.url), "every_seconds": 1});
    okta(&service.api, &transmitter, json!({"poll": poll})).await;
    until("everything was fetched and acknowledged", 20, async || {
        transmitter.book().queue.is_empty()
    })
    .await;
    let api = &service.api;
    assert_eq!(signals(api).await.len(), 5);
    until_held(api, 1).await;
    {
        let book = transmitter.book();
        let mut acks = book.acks.clone();
        acks.sort();
        assert_eq!(acks, ["t0", "t1", "t2", "t3", "t4"]);
        assert_eq!(book.errs["forged"]["err"], "authentication_failed");
        assert_eq!(book.errs["renamed"]["err"], "invalid_request");
        assert_eq!(
            book.polls[0]["ack"],
            json!([]),
            "nothing before it was seen"
        );
        assert_eq!(book.polls[0]["returnImmediately"], true);
    }
    api.post("/v1/sources/okta/events", json!({}))
        .await
        .refused(409, "not_a_receiver");
    // Killed at any moment: what was acknowledged is here, and what was not comes again.
    for number in 5..25 {
        let jti = format!("t{number}");
        let token = signer.token(&risk(&jti, "LOW", 0));
        transmitter.book().queue.insert(jti, token);
    }
    until("it fetches", 20, async || transmitter.book().acks.len() > 5).await;
    service.kill();
    let acked = transmitter.book().acks.len();
    let service = again(&database, &token, &transmitter);
    assert!(
        signals(&service.api).await.len() >= acked,
        "none was thanked for and lost"
    );
    until("the rest was fetched", 30, async || {
        transmitter.book().queue.is_empty()
    })
    .await;
    assert_eq!(signals(&service.api).await.len(), 25);
    service.end_and_fsck();
}

async fn a_stream_that_cannot_be_fetched_is_blind_and_recovers(database: Database) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let service = service_of(&database, &transmitter).await;
    let api = &service.api;
    let poll = json!({"url": format!("{}/poll", transmitter.url), "every_seconds": 1});
    okta(api, &transmitter, json!({"poll": poll})).await;
    until("it was asked", 10, async || {
        !transmitter.book().polls.is_empty()
    })
    .await;
    transmitter.book().is_down = true;
    let blind = until_blind(api, true).await;
    let why = blind["blind_why"].as_str().unwrap();
    assert!(why.ends_with("its endpoint answered 502"), "{why}");
    transmitter.book().is_down = false;
    until_blind(api, false).await;
    service.end_and_fsck();
}

async fn killed_at_any_moment_each_token_counts_once_and_none_that_was_thanked_for_is_lost(
    database: Database,
) {
    let signer = Signer::new("k1");
    let transmitter = Transmitter::start(&[&signer]).await;
    let mut service = service_of(&database, &transmitter).await;
    let token = service.api.token.clone();
    okta(&service.api, &transmitter, json!({})).await;
    let mut random = Random(seed());
    let mut thanked = 0;
    for round in 0..6 {
        let tokens: Vec<String> = (0..20)
            .map(|number| signer.token(&risk(&format!("{round}-{number}"), "LOW", 0)))
            .collect();
        let api = service.api.clone();
        let sent = tokens.clone();
        let sending = tokio::spawn(async move {
            let mut answered = 0;
            for token in &sent {
                let answer = super::pushed(&api, token).send().await;
                if !answer.is_ok_and(|answer| answer.status() == 202) {
                    break;
                }
                answered += 1;
            }
            answered
        });
        tokio::time::sleep(Duration::from_millis(random.below(120))).await;
        service.kill();
        let answered: usize = sending.await.unwrap();
        service = again(&database, &token, &transmitter);
        let kept = signals(&service.api).await.len();
        assert!(
            kept >= thanked + answered,
            "{answered} were thanked for, and {kept} are here"
        );
        for token in &tokens {
            check_thanked(&push(&service.api, token).await);
        }
        thanked = signals(&service.api).await.len();
        assert_eq!(thanked, (round + 1) * 20, "each once");
    }
    service.end_and_fsck();
}
