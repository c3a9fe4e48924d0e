//! Telling endpoints: nothing lost, nothing out of order, whatever fails and whoever looks.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::telling::{Turn, tell};
use super::*;
use crate::connector::Connectors;
use crate::connector::grants::Grants;
use crate::fetch::{Bounds, Fetcher};
use crate::operations::hold::{self, NewHold};
use crate::operations::target;
use crate::operations::view::ScopeView;
use crate::outgoing::pace;
use crate::signal::verify::standard_webhooks::{Headers, Key, verify};
use crate::store::endpoint::{DEAD, GONE, Lease};
use crate::store::testing::{apps_standing, each_app};

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What came: id, instant of the attempt, event.
type Got = (String, i64, Value);

#[derive(Debug)]
struct Book {
    status: u16,
    clock: crate::clock::Clock,
    got: Vec<Got>,
}

/// A receiver that checks what comes as our own sources do.
#[derive(Debug, Clone)]
struct Receiver {
    host: String,
    book: Arc<Mutex<Book>>,
}

impl Receiver {
    async fn start(app: &App) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let book = Arc::new(Mutex::new(Book {
            status: 204,
            clock: app.clock.clone(),
            got: Vec::new(),
        }));
        let router = Router::new().fallback(take).with_state(Arc::clone(&book));
        app.background
            .spawn(async move { axum::serve(listener, router).await });
        Self { host, book }
    }

    fn answers(&self, status: u16) {
        self.book.lock().unwrap().status = status;
    }

    fn got(&self) -> Vec<Got> {
        self.book.lock().unwrap().got.clone()
    }

    fn ids(&self) -> Vec<String> {
        self.got().into_iter().map(|(id, ..)| id).collect()
    }

    fn sequences(&self) -> Vec<String> {
        let of = |(_, _, event): Got| event["sequence"].as_str().unwrap().to_owned();
        self.got().into_iter().map(of).collect()
    }
}

async fn take(
    State(book): State<Arc<Mutex<Book>>>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let headers = Headers {
        id,
        timestamp,
        signature: header("webhook-signature"),
    };
    let mut book = book.lock().unwrap();
    let asked = if book.status == 429 { "60" } else { "0" };
    let wait = [("retry-after", asked)];
    let keys = [Key::parse(KEY).unwrap()];
    if verify(&keys, headers, &body, book.clock.now()).is_err() {
        return (StatusCode::UNAUTHORIZED, wait);
    }
    let event = serde_json::from_slice(&body).unwrap();
    let at = timestamp.unwrap().parse().unwrap();
    book.got.push((id.unwrap().to_owned(), at, event));
    (StatusCode::from_u16(book.status).unwrap(), wait)
}

fn ann() -> Actor {
    Actor::person("ann", None)
}

/// Lets an application reach receivers, with their key in a file.
fn reaching(app: &mut App, receivers: &[&Receiver]) {
    let folder = std::env::temp_dir().join(format!("tidegate-{}", app.ids.token()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("key"), KEY).unwrap();
    app.connectors = Connectors::granting(Grants {
        credentials: Some(folder),
        ..Grants::default()
    });
    let hosts: Vec<String> = receivers.iter().map(|one| one.host.clone()).collect();
    app.fetch = Fetcher::granting(&hosts, Bounds::default()).unwrap();
}

async fn endpoint(app: &App, name: &str, receiver: &Receiver) -> EndpointView {
    let config = EndpointConfig {
        keys: vec![Credential::File("key".into())],
        types: Vec::new(),
    };
    let url = format!("http://{}/", receiver.host);
    create(app, &ann(), (name, &url), &config).await.unwrap()
}

async fn paused(app: &App, name: &str) {
    let made = target::create(app, &ann(), name, "sandbox", &json!({})).await;
    let new = NewHold {
        kind: "pause".to_owned(),
        scope: ScopeView::of(&tidegate_orchestrator::hold::Scope::Target(
            made.unwrap().id,
        )),
        reason: "look".to_owned(),
        effect: None,
        review_at: None,
    };
    hold::place(app, &ann(), &new).await.unwrap();
}

/// Tells an endpoint whatever there is.
async fn all(app: &App, name: &str) -> Turn {
    loop {
        match tell(app, name, 0).await.unwrap() {
            Turn::Delivered => {}
            other => return other,
        }
    }
}

async fn row(app: &App, name: &str) -> EndpointRow {
    rows::endpoint_find(app.store.read(), name)
        .await
        .unwrap()
        .unwrap()
}

async fn actions(app: &App, action: &str) -> usize {
    let entries = audit::entries_after(app.store.read(), 0, 1_000)
        .await
        .unwrap();
    entries.iter().filter(|row| row.action == action).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_days_without_an_answer_it_is_dead_and_goes_on_there_once_revived() {
    for mut app in apps_standing().await {
        let receiver = Receiver::start(&app).await;
        reaching(&mut app, &[&receiver]);
        endpoint(&app, "pager", &receiver).await;
        paused(&app, "first").await;
        receiver.answers(503);
        let begun = app.clock.now();
        while row(&app, "pager").await.status == ACTIVE {
            assert_eq!(all(&app, "pager").await, Turn::Later);
            let wait = from_millis(row(&app, "pager").await.next_at).unwrap() - app.clock.now();
            app.clock
                .advance(u32::try_from(wait.num_milliseconds().max(0)).unwrap());
            assert!(app.clock.now() - begun <= pace::GIVE_UP, "it ends");
        }
        let attempts = receiver.got();
        assert!((70..100).contains(&attempts.len()), "{}", attempts.len());
        let (first, last) = (&attempts[0], &attempts[attempts.len() - 1]);
        assert!(attempts.iter().all(|(id, ..)| *id == first.0), "one id");
        assert!(
            attempts.windows(2).all(|two| two[0].1 < two[1].1),
            "fresh instants"
        );
        assert_eq!(last.1 - first.1, pace::GIVE_UP.num_seconds());
        let dead = row(&app, "pager").await;
        assert_eq!(
            (dead.status.as_str(), dead.last_error.as_deref()),
            (DEAD, Some("it answered 503"))
        );
        assert_eq!(actions(&app, "endpoint.dead").await, 1);
        let shown = list(&app).await.unwrap().remove(0);
        assert_eq!(shown.stuck_at.as_ref(), Some(&first.0));
        paused(&app, "second").await;
        receiver.answers(204);
        assert_eq!(
            all(&app, "pager").await,
            Turn::Later,
            "nothing until somebody revives it"
        );
        assert_eq!(receiver.got().len(), attempts.len());
        revive(&app, &ann(), "pager").await.unwrap();
        assert!(matches!(all(&app, "pager").await, Turn::Nothing(_)));
        let told = receiver.got().split_off(attempts.len());
        let types: Vec<_> = told
            .iter()
            .map(|(_, _, event)| event["type"].clone())
            .collect();
        let expected = [
            "hold.placed",
            "endpoint.dead",
            "hold.placed",
            "endpoint.revived",
        ];
        assert_eq!(types, expected.map(|name| format!("dev.tidegate.{name}")));
        assert_eq!(told[0].0, first.0, "it goes on where it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_waits_and_a_success_forgets_it() {
    for mut app in apps_standing().await {
        let receiver = Receiver::start(&app).await;
        reaching(&mut app, &[&receiver]);
        endpoint(&app, "pager", &receiver).await;
        paused(&app, "box").await;
        receiver.answers(500);
        all(&app, "pager").await;
        assert_eq!(all(&app, "pager").await, Turn::Later);
        assert_eq!(receiver.got().len(), 1, "not before its time");
        app.clock.advance(5_000);
        receiver.answers(200);
        assert!(matches!(all(&app, "pager").await, Turn::Nothing(_)));
        let ids = receiver.ids();
        assert_eq!((ids.len(), &ids[0]), (2, &ids[1]));
        let after = row(&app, "pager").await;
        assert_eq!(
            (after.failures, after.failing_since, after.last_error),
            (0, None, None)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_left_alone_for_as_long_as_it_asks() {
    for mut app in apps_standing().await {
        let receiver = Receiver::start(&app).await;
        reaching(&mut app, &[&receiver]);
        endpoint(&app, "pager", &receiver).await;
        paused(&app, "box").await;
        receiver.answers(429);
        all(&app, "pager").await;
        let next_at = from_millis(row(&app, "pager").await.next_at).unwrap();
        assert_eq!(next_at - app.clock.now(), TimeDelta::seconds(60));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_processes_look_each_event_is_told_once_and_in_order() {
    for mut app in crate::store::testing::apps().await {
        let receiver = Receiver::start(&app).await;
        reaching(&mut app, &[&receiver]);
        endpoint(&app, "pager", &receiver).await;
        for number in 0..12 {
            paused(&app, &format!("box-{number}")).await;
        }
        let until_told = async |app: App| {
            while !matches!(all(&app, "pager").await, Turn::Nothing(_)) {
                tokio::task::yield_now().await;
            }
        };
        let process = || App {
            worker: app.ids.make(),
            ..app.clone()
        };
        tokio::join!(
            until_told(process()),
            until_told(process()),
            until_told(process()),
        );
        let told = receiver.sequences();
        assert_eq!(told.len(), 12, "{told:?}");
        assert!(told.is_sorted(), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_the_lease_moves_nothing_and_a_dead_process_leads_to_a_repetition() {
    for mut app in apps_standing().await {
        let receiver = Receiver::start(&app).await;
        reaching(&mut app, &[&receiver]);
        endpoint(&app, "pager", &receiver).await;
        paused(&app, "box").await;
        let before = row(&app, "pager").await;
        let lease = Lease {
            name: "pager".to_owned(),
            told_seq: before.told_seq,
            owner: app.ids.make(),
            until: app.clock.now() + TimeDelta::seconds(15),
        };
        let now = app.clock.now();
        let taken: Result<bool, StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            rows::endpoint_lease(txn, &lease, now).await
        });
        assert!(taken.unwrap());
        assert_eq!(
            all(&app, "pager").await,
            Turn::Later,
            "another process is at it"
        );
        assert!(receiver.got().is_empty());
        app.clock.advance(15_000);
        assert!(
            matches!(all(&app, "pager").await, Turn::Nothing(_)),
            "it is taken for dead"
        );
        assert_eq!(receiver.got().len(), 1);
        let told = row(&app, "pager").await;
        let late: Result<bool, StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            rows::endpoint_delivered(txn, &lease, (before.told_seq + 1, now)).await
        });
        assert!(!late.unwrap());
        assert_eq!(row(&app, "pager").await, told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_the_trail_become_visible_in_their_order() {
    each_app!(app => {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let app = app.clone();
            writers.spawn(async move {
                let lane = if writer % 2 == 0 { Lane::Hold } else { Lane::Ordinary };
                for _ in 0..25 {
                    let entry = ann().entry("hold.place", "hold:x".to_owned(), json!({}));
                    let done: Result<(), StoreError> = transact!(app.store, lane, "test", |txn| {
                        txn.audit(entry.clone());
                        Ok(())
                    });
                    done.unwrap();
                }
            });
        }
        let (mut after, mut looks) = (0, 0);
        while after < 200 {
            let (head, _) = audit::head(app.store.read()).await.unwrap();
            while after < head {
                let next = audit::entry_next(app.store.read(), (after, head), &["hold.place"]);
                assert_eq!(next.await.unwrap().map(|row| row.seq), Some(after + 1), "no gap");
                after += 1;
            }
            looks += 1;
        }
        assert!(looks > 1);
        writers.join_all().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_gone_is_told_nothing_and_what_is_not_taken_may_be_left_out() {
    for mut app in apps_standing().await {
        let receiver = Receiver::start(&app).await;
        reaching(&mut app, &[&receiver]);
        endpoint(&app, "pager", &receiver).await;
        paused(&app, "first").await;
        paused(&app, "second").await;
        receiver.answers(410);
        all(&app, "pager").await;
        assert_eq!(row(&app, "pager").await.status, GONE);
        assert_eq!(actions(&app, "endpoint.gone").await, 1);
        app.clock.advance(4_000_000);
        all(&app, "pager").await;
        assert_eq!(receiver.got().len(), 1);
        let stuck = list(&app).await.unwrap().remove(0).stuck_at.unwrap();
        let other = skip(&app, &ann(), "pager", ("evt_1_00", "no")).await;
        assert!(other.unwrap_err().to_string().contains("not stuck"));
        skip(&app, &ann(), "pager", (&stuck, "it cannot read this one"))
            .await
            .unwrap();
        revive(&app, &ann(), "pager").await.unwrap();
        receiver.answers(204);
        all(&app, "pager").await;
        let ids = receiver.ids();
        assert_eq!(ids.iter().filter(|id| **id == stuck).count(), 1, "left out");
        assert_eq!(ids.len(), 1 + 4, "second, gone, skipped, revived");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_types_that_are_wanted_are_told_and_the_rest_is_passed_over() {
    for mut app in apps_standing().await {
        let receiver = Receiver::start(&app).await;
        reaching(&mut app, &[&receiver]);
        let url = format!("http://{}/", receiver.host);
        let config = |types: &[&str]| EndpointConfig {
            keys: vec![Credential::File("key".into())],
            types: types.iter().map(|name| (*name).to_owned()).collect(),
        };
        let unknown = create(&app, &ann(), ("x", &url), &config(&["hold.plcaed"])).await;
        assert!(unknown.unwrap_err().to_string().contains("hold.placed"));
        // Kept in the one form that it is reached by, and not as it was typed.
        let typed = format!("HTTP://{}/a/../hooks", receiver.host);
        let revived = config(&["endpoint.revived"]);
        let kept = create(&app, &ann(), ("typed", &typed), &revived).await;
        assert_eq!(kept.unwrap().url, format!("{url}hooks"));
        create(
            &app,
            &ann(),
            ("pager", &url),
            &config(&["endpoint.revived"]),
        )
        .await
        .unwrap();
        paused(&app, "box").await;
        let Turn::Nothing(until) = all(&app, "pager").await else {
            panic!("nothing is wanted");
        };
        assert_eq!(until, audit::head(app.store.read()).await.unwrap().0);
        assert!(receiver.got().is_empty());
    }
}
