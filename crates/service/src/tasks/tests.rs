//! Whole rollouts through the real engine and every database at hand.

use std::io::Cursor;
use std::time::Duration;

use serde_json::json;
use tidegate_orchestrator::hold::HoldKind;
use tidegate_orchestrator::spec::SpecFormat;

use super::driver::Driver;
use crate::app::App;
use crate::operations::import::ImportOptions;
use crate::operations::view::RolloutView;
use crate::operations::{Actor, fsck, hold, import, people, plan, population, rollout, target};
use crate::source::mapping::Mapping;
use crate::source::rows::{Compression, RowFormat};
use crate::store::testing::each_app;

pub(super) const TWO_WAVES: &str = "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {name: canary, count: 50, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";

fn actor() -> Actor {
    Actor::person("manager", None)
}

pub(super) async fn with_people(app: &App, number: u32, script: serde_json::Value) {
    population::create(app, &actor(), "staff", &Mapping::default())
        .await
        .unwrap();
    let mut text = String::from("employee_id,country\n");
    for person in 0..number {
        text.push_str(&format!("e{person:06},DE\n"));
    }
    let options = ImportOptions {
        format: RowFormat::Csv,
        compression: Compression::None,
        file_name: None,
        bad_rows_max: None,
        override_shrink_reason: None,
    };
    import::import(
        app,
        &actor(),
        "staff",
        options,
        Cursor::new(text.into_bytes()),
    )
    .await
    .unwrap();
    target::create(app, &actor(), "box", "sandbox", &script)
        .await
        .unwrap();
}

pub(super) async fn started(app: &App, spec: &str) -> tidegate_orchestrator::ids::RolloutId {
    let view = rollout::create(app, &actor(), spec, SpecFormat::Yaml)
        .await
        .unwrap();
    let made = plan::make(app, &actor(), "move").await.unwrap();
    rollout::start(app, &actor(), "move", None, &made.digest)
        .await
        .unwrap();
    view.id
}

/// Waits until the rollout is as wanted; a minute is far more than any of this takes.
async fn until(app: &App, what: &str, wanted: impl Fn(&RolloutView) -> bool) -> RolloutView {
    for _ in 0..1200 {
        let view = rollout::get(app, "move").await.unwrap();
        if wanted(&view) {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let view = rollout::get(app, "move").await.unwrap();
    panic!("never {what}: {view:#?}");
}

async fn check_books(app: &App) {
    let found = fsck::check(app).await.unwrap();
    assert!(found.ok, "{:#?}", found.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_people_move_in_two_waves_and_the_books_are_right() {
    each_app!(app => {
        with_people(&app, 10_000, json!({})).await;
        started(&app, TWO_WAVES).await;
        let driver = Driver::start(&app).await.unwrap();
        let view = until(&app, "completed", |view| view.status == "completed").await;
        assert_eq!((view.totals["done"], view.totals["people"]), (10_000, 10_000));
        driver.stop().await;
        check_books(&app).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_fail_are_named_and_those_told_to_come_back_are_moved() {
    each_app!(app => {
        with_people(&app, 5_000, json!({"seed": 3, "failure_ppm": 2000, "retry_ppm": 20_000, "review_ppm": 1000})).await;
        let spec = TWO_WAVES.replace("failures_at_most: 5", "failures_at_most: 20");
        started(&app, &spec).await;
        let driver = Driver::start(&app).await.unwrap();
        let view = until(&app, "completed", |view| view.status == "completed").await;
        let trouble = view.totals["failed"] + view.totals["review"];
        assert!(view.totals["failed"] > 0 && view.totals["review"] > 0);
        assert_eq!(view.totals["done"] + trouble, 5_000);
        let filter = people::PeopleFilter { state: Some("failed".parse().unwrap()), ..people::PeopleFilter::default() };
        let listed = people::list(&app, "move", &filter, 1000).await.unwrap();
        assert_eq!(u64::try_from(listed.items.len()).unwrap(), view.totals["failed"]);
        let person = people::one(&app, "move", &listed.items[0].key).await.unwrap();
        assert!(person.why.contains("sandbox_failure"), "{}", person.why);
        driver.stop().await;
        check_books(&app).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_stops_it_and_nobody_releases_it_alone() {
    each_app!(app => {
        with_people(&app, 20_000, json!({"latency_ms": 5, "concurrency": 64})).await;
        started(&app, TWO_WAVES).await;
        let driver = Driver::start(&app).await.unwrap();
        until(&app, "under way", |view| view.totals["done"] > 500).await;
        let view = rollout::stop(&app, &actor(), "move", HoldKind::Halt, "state actor").await.unwrap();
        assert_eq!(view.status, "halted");
        assert!(view.why_not_now.is_some());
        let halted = until(&app, "quiesced", |view| view.holds[0].quiesced && view.in_flight == 0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let later = rollout::get(&app, "move").await.unwrap();
        assert_eq!(later.totals["done"], halted.totals["done"], "nobody moves under a halt");
        rollout::resume(&app, &actor(), "move", None, "go on").await.unwrap();
        assert_eq!(rollout::get(&app, "move").await.unwrap().status, "halted", "resume releases no halt");
        let alone = hold::release(&app, &actor(), &later.holds[0].id.to_string(), None, "go on").await;
        assert!(alone.is_err(), "nobody releases a halt alone");
        driver.stop().await;
        check_books(&app).await;
    });
}
