//! While people are moved at full speed: looking at a rollout, looking a person up, and halting.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::measure::{Times, ask, post};
use crate::reference::Small;
use crate::report::{Report, Row, short};
use crate::support::Random;
use crate::world::{World, one_wave};

/// How long a look may take, in milliseconds.
const LOOK_MS: f64 = 5.0;
/// How long a halt may take until it is acknowledged, in milliseconds.
const HALT_MS: f64 = 10.0;
/// How long it may take until nobody can send, in milliseconds, while every process is alive.
pub(crate) const QUIET_MS: f64 = 50.0;

/// Reports how long looking at a rollout and at one person takes under drain.
pub(crate) async fn looks(report: &mut Report, world: &mut World, samples: usize) {
    let (mut status, mut person) = (Times::default(), Times::default());
    let mut drains = 0_u64;
    while status.len() < samples {
        let (name, plan, _) = world.plan(one_wave).await;
        let end = Arc::new(AtomicBool::new(false));
        world.start(&name, &plan).await;
        let path = format!("/v1/rollouts/{name}");
        let people = world.people;
        let both = [
            tokio::spawn(ask(world.api().clone(), end.clone(), drains, {
                let path = path.clone();
                move |_| path.clone()
            })),
            tokio::spawn(ask(
                world.api().clone(),
                end.clone(),
                drains,
                move |random| format!("{path}/members/E{:07}", random.below(people)),
            )),
        ];
        world.until_completed(&name).await;
        end.store(true, Ordering::Relaxed);
        let [asked_status, asked_person] = both;
        status.extend(asked_status.await.expect("the looks at the rollout"));
        person.extend(asked_person.await.expect("the looks at people"));
        drains += 1;
    }
    let kinds = [
        ("status of a rollout", status),
        ("state of one person", person),
    ];
    for (what, answers) in kinds {
        let p99 = answers.within(0.99);
        report.add(Row {
            what: format!("{what} of {} under drain", short(world.people as f64)),
            on: world.on.to_owned(),
            ours: answers.text(),
            budget: format!("p99 ≤ {LOOK_MS} ms"),
            met: Some(p99 <= LOOK_MS),
            note: format!(
                "{} looks over {drains} drains, one of each kind every 10 ms; what waited for an answer before it counts from when it was due",
                answers.len()
            ),
            figures: answers.figures(),
            ..Row::default()
        });
    }
}

/// What halting under drain showed.
#[derive(Debug, Default)]
struct Halts {
    /// Until the halt was acknowledged.
    acknowledged: Times,
    /// Until the answer that nobody can send any more.
    quiesced: Times,
    /// A small row committed by hand beside the same drain: what the machine itself takes.
    by_hand: Times,
}

/// Reports how long a halt takes under drain, and that nothing is claimed while it is in force.
pub(crate) async fn halts(report: &mut Report, world: &mut World, samples: usize) {
    // A process that was ended a moment ago counts as one that might still send: it is waited for.
    let (_, hold) = place(world, json!({"type": "everything"}), true);
    release(world, &hold).await;
    let (mut halts, mut random) = (Halts::default(), Random(1));
    let mut small = Small::open(world.database()).await;
    world.trail().await;
    while halts.quiesced.len() < samples {
        let (name, plan, _) = world.plan(one_wave).await;
        world.start(&name, &plan).await;
        let mut moved = 0;
        while halts.quiesced.len() < samples {
            let Some(now_moved) = until_moving(world, &name, moved).await else {
                break;
            };
            moved = now_moved;
            tokio::time::sleep(Duration::from_millis(random.below(20))).await;
            if let Some(small) = &mut small {
                halts.by_hand.push(small.commit().await);
            }
            // One of each kind in turn.
            let wait = halts.quiesced.len() < halts.acknowledged.len();
            let scope = json!({"type": "rollout", "id": name});
            let (time, hold) = place(world, scope, wait);
            if wait {
                assert_eq!(hold["quiesced"], true, "{hold:#}");
                halts.quiesced.push(time);
            } else {
                halts.acknowledged.push(time);
            }
            release(world, &hold).await;
        }
        world.until_completed(&name).await;
    }
    let trail = world.trail().await;
    report_halts(report, world, &halts, claims_under_hold(&trail));
}

fn report_halts(report: &mut Report, world: &World, halts: &Halts, (holds, late): (usize, usize)) {
    let people = short(world.people as f64);
    let kinds = [
        ("halt acknowledged", &halts.acknowledged, HALT_MS),
        ("halt quiesced", &halts.quiesced, QUIET_MS),
    ];
    let by_hand = Some(&halts.by_hand).filter(|times| times.len() > 0);
    for (what, times, most) in kinds {
        report.add(Row {
            what: format!("{what} under drain of {people}"),
            on: world.on.to_owned(),
            ours: times.text(),
            reference: by_hand.map_or_else(|| "-".to_owned(), Times::text),
            ratio: by_hand.map(|by_hand| times.within(0.99) / by_hand.within(0.99)),
            budget: format!("p99 ≤ {most} ms"),
            met: Some(times.within(0.99) <= most),
            note: format!(
                "{} calls over HTTP, each while people were moving; the reference: one small row committed by hand beside them, on an open connection",
                times.len()
            ),
            figures: times.figures(),
            ..Row::default()
        });
    }
    report.add(Row {
        what: "claims committed while a halt was in force".to_owned(),
        on: world.on.to_owned(),
        ours: late.to_string(),
        budget: "0".to_owned(),
        met: Some(late == 0),
        promised: true,
        note: format!("read in the audit trail between {holds} holds and their releases"),
        figures: json!({"holds": holds, "claims": late}),
        ..Row::default()
    });
}

/// Places a halt; returns how long the answer took, and the hold.
pub(crate) fn place(world: &World, scope: Value, wait: bool) -> (Duration, Value) {
    // Placed by the same path as a halt, whose release would let people go on fifty at a time.
    let hold = json!({"kind": "pause", "scope": scope, "reason": "measured"});
    let path = if wait {
        "/v1/holds?wait=quiesced"
    } else {
        "/v1/holds"
    };
    post(world.api(), path, &hold)
}

pub(crate) async fn release(world: &World, hold: &Value) {
    let id = hold["id"].as_str().expect("an id");
    let path = format!("/v1/holds/{id}/release");
    let reason = json!({"reason": "measured"});
    world.api().post(&path, reason).await.ok();
}

/// Waits until more people are moved than were; `None` when everybody is.
pub(crate) async fn until_moving(world: &World, name: &str, moved: u64) -> Option<u64> {
    let begun = Instant::now();
    loop {
        let view = world.status(name).await;
        if view["status"] == "completed" {
            return None;
        }
        let done = view["totals"]["done"].as_u64().unwrap_or(0);
        if done > moved {
            return Some(done);
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "`{name}` stands still: {view:#}"
        );
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// Counts the holds of a trail, and the turns that claimed somebody while a hold was in force. One
/// rollout runs at a time, so a claim is a claim of what is held.
fn claims_under_hold(trail: &[Value]) -> (usize, usize) {
    let (mut holds, mut late) = (0, 0);
    let mut in_force: HashSet<&str> = HashSet::new();
    for entry in trail {
        let subject = entry["subject"].as_str().unwrap_or_default();
        match entry["action"].as_str().unwrap_or_default() {
            "hold.place" => {
                holds += 1;
                in_force.insert(subject);
            }
            "hold.release" => {
                in_force.remove(subject);
            }
            "ledger.turn" if !in_force.is_empty() => {
                late += usize::from(entry["detail"]["claimed"].as_u64() != Some(0));
            }
            _ => {}
        }
    }
    (holds, late)
}
