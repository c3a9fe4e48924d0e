//! Three processes on one PostgreSQL: how long until all of them are quiet, told by a notification.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::asking::{QUIET_MS, place, release};
use crate::measure::Times;
use crate::report::{Report, Row};
use crate::support::Random;
use crate::support::database::Database;
use crate::support::service::Service;
use crate::world::{Files, World, one_wave};

/// How many processes there are.
const PROCESSES: usize = 3;
/// How many people there are for each halt: all processes always have somebody to send.
const PEOPLE_PER_HALT: u64 = 2_000;
/// A target that answers as quickly as one nearby. What is under way ends before it is quiet, so its
/// time is part of the figure.
const LATENCY_MS: u64 = 5;

/// Reports how long a halt takes until every one of three processes is quiet, while all of them send.
pub(crate) async fn quiet(report: &mut Report, files: &Files, samples: usize) {
    let what = format!("all {PROCESSES} replicas quiet by notification");
    let Some(database) = Database::postgres().await else {
        report.add_unmeasured(&what, "PostgreSQL", "there is no server");
        return;
    };
    let people = samples as u64 * PEOPLE_PER_HALT;
    let mut world = World::new(&database, &files.people(people), people).await;
    let target = json!({"name": "near", "connector": "sandbox",
        "config": {"latency_ms": LATENCY_MS, "concurrency": 2}});
    world.api().post("/v1/targets", target).await.ok();
    let token = world.api().token.clone();
    let others = [(); PROCESSES - 1].map(|()| Service::start_again(&database, &token));
    // The reference: the same words between the same processes, and nobody under way.
    let idle = halts(&world, None, samples).await;
    let (name, plan, _) = world
        .plan(|name| one_wave(name).replace("target: box", "target: near"))
        .await;
    world.start(&name, &plan).await;
    let busy = halts(&world, Some(&name), samples).await;
    drop(others);
    let note = format!(
        "{samples} halts at any moment of a renewal, people under way in {} of them, requests of {LATENCY_MS} ms; until the \
         answer over HTTP. The slowest worker's own word after the placing: {}. Reference: nobody under way",
        busy.sending,
        busy.slowest.text()
    );
    report.add(Row {
        what,
        on: world.on.to_owned(),
        ours: busy.answered.text(),
        reference: idle.answered.text(),
        ratio: Some(busy.answered.within(0.99) / idle.answered.within(0.99)),
        budget: format!("p99 ≤ {QUIET_MS} ms"),
        met: Some(busy.answered.within(0.99) <= QUIET_MS),
        note,
        figures: json!({"answer": busy.answered.figures(), "slowest_worker": busy.slowest.figures(),
            "answer_idle": idle.answered.figures(), "slowest_worker_idle": idle.slowest.figures()}),
        ..Row::default()
    });
}

/// What halting three processes showed.
#[derive(Debug, Default)]
struct Halts {
    /// Until the answer that nobody can send any more.
    answered: Times,
    /// Until the last of the processes said so.
    slowest: Times,
    /// In how many of them somebody was under way.
    sending: usize,
}

/// Halts everything again and again, at any moment of a renewal; while a rollout moves people, if any.
async fn halts(world: &World, rollout: Option<&str>, samples: usize) -> Halts {
    let (mut halts, mut random) = (Halts::default(), Random(1));
    while halts.answered.len() < samples {
        if let Some(name) = rollout {
            until_all_send(world, name).await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(500))).await;
        if let Some(name) = rollout {
            let view = world.status(name).await;
            halts.sending += usize::from(view["in_flight"].as_u64() > Some(0));
        }
        let (time, hold) = place(world, json!({"type": "everything"}), true);
        assert_eq!(hold["quiesced"], true, "{hold:#}");
        let hold = until_all_confirmed(world, &hold).await;
        halts.answered.push(time);
        let slowest = hold["slowest_ms"].as_u64().expect("a figure");
        halts.slowest.push(Duration::from_millis(slowest));
        release(world, &hold).await;
    }
    halts
}

/// Waits until more people are done: the release has reached whoever sends.
async fn until_all_send(world: &World, name: &str) {
    let done = async || {
        let view = world.status(name).await;
        assert_ne!(
            view["status"], "completed",
            "too few people to measure with"
        );
        view["totals"]["done"].as_u64().unwrap_or(0)
    };
    let (begun, before) = (Instant::now(), done().await);
    while done().await <= before {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "`{name}` stands still");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Looks until all have confirmed a hold: whoever has nothing to send is not waited for.
async fn until_all_confirmed(world: &World, hold: &Value) -> Value {
    let path = format!("/v1/holds/{}", hold["id"].as_str().expect("an id"));
    let begun = Instant::now();
    loop {
        let seen = world.api().get(&path).await.ok();
        if seen["confirmed"] == PROCESSES {
            return seen;
        }
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "unconfirmed: {seen:#}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
