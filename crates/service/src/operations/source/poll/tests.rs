//! Asking by a clock that is moved: who is due, who is blind, and who is heard again.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tidegate_orchestrator::ids::from_millis;

use super::super::{self as source, SourceConfig, silence};
use super::due::{ask, take};
use super::*;
use crate::fetch::{Bounds, Fetcher};
use crate::store::audit;
use crate::store::testing::apps_standing;

/// A port on which nobody answers.
const NOBODY: &str = "127.0.0.1:9";

fn ann() -> Actor {
    Actor::person("ann", None)
}

async fn asked(app: &App, host: &str) {
    let config: SourceConfig = serde_json::from_value(json!({
        "feed": {"url": format!("http://{host}/kev.json"), "every_seconds": 600},
    }))
    .unwrap();
    source::create(app, &ann(), "kev", Profile::Kev, &config)
        .await
        .unwrap();
}

fn reaching(app: &App, host: &str) -> App {
    let fetch = Fetcher::granting(&[host.to_owned()], Bounds::default()).unwrap();
    App {
        fetch,
        ..app.clone()
    }
}

async fn state(app: &App) -> StateRow {
    let states = rows::states(app.store.read()).await.unwrap();
    states.get("kev").unwrap().clone()
}

async fn told(app: &App, action: &str) -> usize {
    let rows = audit::entries_after(app.store.read(), 0, 1_000)
        .await
        .unwrap();
    rows.iter().filter(|row| row.action == action).count()
}

/// Starts a catalogue with one entry, and returns where it is.
async fn catalogue() -> String {
    let entry = json!({
        "cveID": "CVE-2024-00001", "vendorProject": "Acme", "product": "Box", "vulnerabilityName": "a hole",
        "dateAdded": "2024-01-02", "shortDescription": "x", "requiredAction": "patch", "dueDate": "2024-02-01",
    });
    let whole: Value = json!({
        "title": "KEV", "catalogVersion": "2024.01.02", "dateReleased": "2024-01-02T00:00:00.0000Z",
        "count": 1, "vulnerabilities": [entry],
    });
    crate::fetch::tests::serving(vec![("kev.json", whole.to_string())]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_asked_by_one_process_at_a_time_and_not_before_it_is_due() {
    for app in apps_standing().await {
        let app = reaching(&app, NOBODY);
        asked(&app, NOBODY).await;
        let both = tokio::join!(take(&app, 9, |_| false), take(&app, 9, |_| false));
        let (one, other) = (both.0.unwrap(), both.1.unwrap());
        assert_eq!(one.len() + other.len(), 1);
        assert!(take(&app, 9, |_| false).await.unwrap().is_empty());
        let taken = one.into_iter().chain(other).next().unwrap();
        assert!(ask(&app, &taken).await.is_err());
        let due = from_millis(state(&app).await.due_at).unwrap() - app.clock.now();
        assert!(
            due > TimeDelta::seconds(40) && due <= TimeDelta::seconds(60),
            "{due}"
        );
        app.clock.advance(61_000);
        assert!(
            take(&app, 9, |_| true).await.unwrap().is_empty(),
            "it is asked already"
        );
        assert_eq!(take(&app, 9, |_| false).await.unwrap().len(), 1);
        app.clock.advance(76_000);
        let again = take(&app, 9, |_| false).await.unwrap();
        assert_eq!(again.len(), 1, "whoever took it has died");
        app.clock.advance(76_000);
        source::revoke(&app, &ann(), "kev").await.unwrap();
        assert!(take(&app, 9, |_| false).await.unwrap().is_empty());
        assert!(matches!(ask(&app, &again[0]).await, Err(Trouble::Revoked)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_for_three_intervals_it_is_blind_and_the_next_answer_is_heard() {
    let host = catalogue().await;
    for app in apps_standing().await {
        let well = reaching(&app, &host);
        asked(&well, &host).await;
        let cut = reaching(&app, NOBODY);
        let row = rows::source_find(app.store.read(), "kev")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(poll(&well, &row).await.unwrap().admitted, 1);
        for minute in 1..30 {
            app.clock.advance(60_000);
            assert!(poll(&cut, &row).await.is_err());
            assert_eq!(silence::look(&app).await.unwrap(), 0, "minute {minute}");
        }
        app.clock.advance(60_000);
        assert_eq!(silence::look(&app).await.unwrap(), 1);
        let blind = state(&app).await;
        assert_eq!(blind.failures, 29);
        assert!(
            blind.blind_why.unwrap().contains("is not granted"),
            "it says why"
        );
        let answered = poll(&well, &row).await.unwrap();
        assert_eq!((answered.admitted, answered.refused), (0, 0));
        assert_eq!(silence::look(&app).await.unwrap(), 1);
        let heard = state(&app).await;
        assert_eq!(
            (heard.blind_since, heard.trouble, heard.failures),
            (None, None, 0)
        );
        assert_eq!(
            (
                told(&app, "source.blind").await,
                told(&app, "source.heard").await
            ),
            (1, 1)
        );
        assert_eq!(
            told(&app, "source.refused").await,
            0,
            "an outage is no alarm"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_answers_whole_is_blind_though_a_part_comes_every_time() {
    let object = json!({
        "type": "incident", "id": "incident--11111111-1111-4111-8111-111111111111",
        "created": "2024-01-19T21:30:00Z", "modified": "2024-01-19T21:30:00Z",
    });
    let first = json!({"objects": [object], "more": true, "next": "2"}).to_string();
    let host = crate::fetch::tests::serving(vec![("limit=500 ", first)]).await;
    for app in apps_standing().await {
        let app = reaching(&app, &host);
        let config: SourceConfig = serde_json::from_value(json!({
            "feed": {"url": format!("http://{host}/api1"), "collection": "c1", "every_seconds": 600},
        }))
        .unwrap();
        source::create(&app, &ann(), "intel", Profile::Taxii, &config)
            .await
            .unwrap();
        let row = rows::source_find(app.store.read(), "intel")
            .await
            .unwrap()
            .unwrap();
        for _ in 0..3 {
            app.clock.advance(600_000);
            assert!(matches!(poll(&app, &row).await, Err(Trouble::Fetch(_))));
        }
        let admitted = crate::store::signal::signals_after(app.store.read(), 0, 9)
            .await
            .unwrap();
        assert_eq!(admitted.len(), 1, "what came is kept");
        assert_eq!(silence::look(&app).await.unwrap(), 1);
        let states = rows::states(app.store.read()).await.unwrap();
        assert!(states["intel"].blind_why.as_ref().unwrap().contains("500"));
    }
}

#[tokio::test]
async fn how_sure_it_is_who_wrote_is_said_by_the_operator_and_never_for_the_catalogue() {
    use tidegate_policy::signal::Trust;
    for (profile, plain, trusted) in [
        (Profile::Kev, Trust::Unauthenticated, Trust::Unauthenticated),
        (
            Profile::Taxii,
            Trust::Unauthenticated,
            Trust::AuthenticatedChannel,
        ),
        (
            Profile::Csaf,
            Trust::Unauthenticated,
            Trust::AuthenticatedChannel,
        ),
        (
            Profile::GraphAlerts,
            Trust::AuthenticatedChannel,
            Trust::AuthenticatedChannel,
        ),
    ] {
        assert_eq!(
            (profile.trust(), profile.trust_if(true, false)),
            (plain, trusted)
        );
    }
    let signed = |is_trusted| Profile::Csaf.trust_if(is_trusted, true);
    assert_eq!(
        (signed(false), signed(true)),
        (Trust::Signed, Trust::AuthenticatedChannel)
    );
}
