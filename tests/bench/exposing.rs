//! While people are moved at full speed: who was exposed, to the person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::measure::{Times, forget_peak, megabytes};
use crate::report::{Report, Row, short};
use crate::support::api::Api;
use crate::world::{World, one_wave};

/// How long an answer may take, in seconds.
const EXPOSURE_SECONDS: f64 = 5.0;
/// How long a writer may be delayed meanwhile, in milliseconds.
const WRITER_MS: f64 = 100.0;
/// How many answers are asked for at least.
const LOOKS: usize = 6;

/// What asking during drains showed.
#[derive(Default)]
struct Asked {
    seconds: Vec<f64>,
    /// Answers in which a sum is not the roster.
    wrong: usize,
    /// How many had been moved at the first and the last of them.
    moved: Vec<u64>,
    /// The writes that were asked for beside it, with and without an answer under way.
    beside: Times,
    alone: Times,
    peak_mb: f64,
}

/// Reports how long it takes to say who was exposed, and how long writers wait meanwhile.
pub(crate) async fn exposure(report: &mut Report, world: &mut World) {
    let mut asked = Asked::default();
    // Somebody's pause of a target of its own: a write like any other, and it stops nobody here.
    let target = json!({"name": "beside", "connector": "sandbox", "config": {}});
    world.api().post("/v1/targets", target).await.ok();
    while asked.seconds.len() < LOOKS {
        let (name, plan, _) = world.plan(one_wave).await;
        let people = plan["people"].as_u64().expect("a number of people");
        let (end, busy) = (flag(), flag());
        world.start(&name, &plan).await;
        let writer = tokio::spawn(write(world.api().clone(), end.clone(), busy.clone()));
        forget_peak(world.service.pid());
        let path = format!("/v1/rollouts/{name}/exposure");
        loop {
            busy.store(true, Ordering::Relaxed);
            let begun = Instant::now();
            let view = world.api().get(&path).await.ok();
            let seconds = begun.elapsed().as_secs_f64();
            busy.store(false, Ordering::Relaxed);
            asked.wrong += usize::from(!adds_up(&view, people));
            let moved = view["counts"]["exposed"].as_u64().unwrap_or(0);
            asked.seconds.push(seconds);
            asked.moved.push(moved);
            if moved == people {
                break;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        asked.peak_mb = asked.peak_mb.max(megabytes(world.service.resident().1));
        world.until_completed(&name).await;
        end.store(true, Ordering::Relaxed);
        let (beside, alone) = writer.await.expect("the writes");
        asked.beside.extend(beside);
        asked.alone.extend(alone);
    }
    rows(report, world, &asked);
}

fn flag() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(false))
}

fn rows(report: &mut Report, world: &World, asked: &Asked) {
    let people = short(world.people as f64);
    let longest = asked.seconds.iter().copied().fold(0.0, f64::max);
    let during = asked.moved.iter().filter(|moved| **moved > 0);
    report.add(Row {
        what: format!("who of {people} was exposed, under drain"),
        on: world.on.to_owned(),
        ours: format!("{longest:.2} s, {:.0} MB", asked.peak_mb),
        budget: format!("≤ {EXPOSURE_SECONDS} s"),
        met: Some(longest <= EXPOSURE_SECONDS),
        note: format!(
            "the longest of {} answers ({} while or after people were moved), by country and department, with the digest of everybody; \
             memory is all of the process",
            asked.seconds.len(),
            during.count()
        ),
        figures: json!({"seconds": asked.seconds, "moved": asked.moved, "peak_mb": asked.peak_mb}),
        ..Row::default()
    });
    report.add(Row {
        what: "sums that are not the roster".to_owned(),
        on: world.on.to_owned(),
        ours: asked.wrong.to_string(),
        budget: "0".to_owned(),
        met: Some(asked.wrong == 0),
        promised: true,
        note: "of all classes, of each wave, of each attribute, in each answer".to_owned(),
        figures: json!({"wrong": asked.wrong}),
        ..Row::default()
    });
    let longest = asked.beside.within(1.0);
    report.add(Row {
        what: "a write beside it".to_owned(),
        on: world.on.to_owned(),
        ours: asked.beside.text(),
        reference: format!("none: {}", asked.alone.text()),
        budget: format!("max ≤ {WRITER_MS} ms"),
        met: Some(longest <= WRITER_MS),
        note: format!(
            "{} pauses placed and released over HTTP while an answer was under way, beside {} while none was, each under drain",
            asked.beside.len(),
            asked.alone.len()
        ),
        figures: json!({"beside": asked.beside.figures(), "alone": asked.alone.figures()}),
        ..Row::default()
    });
}

/// Says whether every set of counts is the roster.
fn adds_up(view: &Value, people: u64) -> bool {
    let sum = |counts: &Value| -> u64 {
        let counts = counts.as_object().into_iter().flatten();
        counts.filter_map(|(_, people)| people.as_u64()).sum()
    };
    let all = |parts: &Value| -> u64 {
        let parts = parts.as_array().into_iter().flatten();
        parts.map(|part| sum(&part["counts"])).sum()
    };
    let by = view["by"].as_array().into_iter().flatten();
    let others = |by: &Value| sum(&by["others"]["counts"]);
    view["unexplained"] == 0
        && sum(&view["counts"]) == people
        && all(&view["waves"]) == people
        && by.clone().count() > 0
        && by
            .map(|by| all(&by["values"]) + others(by))
            .all(|all| all == people)
}

/// Places and releases a pause again and again; returns how long each took with an answer under way, and without.
async fn write(api: Api, end: Arc<AtomicBool>, busy: Arc<AtomicBool>) -> (Times, Times) {
    let (mut beside, mut alone) = (Times::default(), Times::default());
    let hold =
        json!({"kind": "pause", "scope": {"type": "target", "id": "beside"}, "reason": "measured"});
    while !end.load(Ordering::Relaxed) {
        let was_busy = busy.load(Ordering::Relaxed);
        let begun = Instant::now();
        let placed = api.post("/v1/holds", hold.clone()).await.ok();
        let took = begun.elapsed();
        let path = format!(
            "/v1/holds/{}/release",
            placed["id"].as_str().expect("an id")
        );
        let begun = Instant::now();
        api.post(&path, json!({"reason": "measured"})).await.ok();
        let times = if was_busy { &mut beside } else { &mut alone };
        times.push(took);
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (beside, alone)
}
