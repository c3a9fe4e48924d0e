//! Killed in the middle of a rollout: how soon it is ready again, and that nobody is lost.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::report::{Report, Row, short};
use crate::support::service::Service;
use crate::world::{World, one_wave};

/// How soon the service must be ready, in seconds.
const READY_SECONDS: f64 = 2.0;

/// Kills the service while it sends, starts it again, and lets the rollout end. The books must balance.
pub(crate) async fn restart(report: &mut Report, mut world: World) {
    let (database, token) = (world.service.database.clone(), world.api().token.clone());
    let (name, people) = begin_and_kill(&mut world).await;
    let begun = Instant::now();
    world.service = Service::start_again(&database, &token);
    let http = reqwest::Client::new();
    let url = format!("{}/readyz", world.api().url);
    let is_ready = async || {
        let answer = http.get(&url).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    };
    while !is_ready().await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let view = world.status(&name).await;
    let done = view["totals"]["done"].as_u64().unwrap_or(0);
    assert!(
        done < people,
        "the rollout was over before it was killed: {view:#}"
    );
    world.until_completed(&name).await;
    let whole = begun.elapsed().as_secs_f64();
    world.service.end_and_fsck();
    report.add(Row {
        what: format!("ready after kill -9, {} people mid-flight", short(people as f64)),
        on: world.on.to_owned(),
        ours: format!("{seconds:.2} s"),
        budget: format!("≤ {READY_SECONDS} s"),
        met: Some(seconds <= READY_SECONDS),
        note: format!(
            "from the start of the process to /readyz; killed at {} done; completed {whole:.1} s after the kill with everybody done \
             (leases of the dead process run out first), and fsck finds nothing",
            short(done as f64)
        ),
        figures: json!({"seconds": seconds, "done_at_kill": done, "completed_seconds": whole}),
        ..Row::default()
    });
}

/// Starts a rollout and kills the service when a third is done; returns its name and size.
async fn begin_and_kill(world: &mut World) -> (String, u64) {
    let (name, plan, _) = world.plan(one_wave).await;
    let people = plan["people"].as_u64().expect("a number of people");
    world.start(&name, &plan).await;
    while done(world, &name).await < people / 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.service.kill();
    (name, people)
}

async fn done(world: &World, name: &str) -> u64 {
    let view = world.status(name).await;
    view["totals"]["done"].as_u64().unwrap_or(0)
}
