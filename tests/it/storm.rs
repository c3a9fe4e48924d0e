//! A storm: several people command the same rollouts at once, and the trail explains what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::database::Database;
use crate::support::people::{import, planned, sandbox, two_waves};
use crate::support::service::Service;
use crate::support::{Random, on_each_database, seed, trail};

on_each_database!(a_storm_of_commands_is_explained_by_its_trail);

const ROLLOUTS: [&str; 3] = ["north", "south", "west"];
const CLIENTS: u64 = 4;
const COMMANDS: u64 = 250;

/// Gives one command out of ten kinds; returns what it was and the answer.
async fn command(
    api: &Api,
    random: &mut Random,
    digests: &BTreeMap<&str, Value>,
) -> (String, Answer) {
    let name = ROLLOUTS[random.below(3) as usize];
    let path = format!("/v1/rollouts/{name}");
    let reason = json!({"reason": "the storm"});
    let digest = &digests[name];
    let (call, body) = match random.below(100) {
        0..15 => (format!("{path}/pause"), reason),
        15..32 => (format!("{path}/resume"), reason),
        32..44 => (format!("{path}/halt"), reason),
        44..62 => {
            let holds = api.get("/v1/holds?in_force=true").await.ok();
            let holds = holds["items"].as_array().unwrap().clone();
            let Some(count) = (holds.len() as u64).checked_sub(1) else {
                return ("nothing to release".to_owned(), api.get(&path).await);
            };
            let id = holds[random.below(count + 1) as usize]["id"].clone();
            (
                format!("/v1/holds/{}/release", id.as_str().unwrap()),
                reason,
            )
        }
        62..72 => (format!("{path}/start"), json!({"digest": digest})),
        72..80 => (format!("{path}/retry"), reason),
        80..87 => {
            let wave = 1 + random.below(2);
            (
                format!("{path}/waves/{wave}/approve"),
                json!({"digest": digest, "reason": "the storm"}),
            )
        }
        87..92 => (format!("{path}/plan"), json!({})),
        92..99 => {
            let person = random.below(300);
            (format!("{path}/members/e{person:07}/disprove"), reason)
        }
        // Once it is cancelled a rollout has little to say: late, and seldom.
        _ if random.below(8) == 0 => (format!("{path}/cancel"), reason),
        _ => {
            let scope = json!({"type": "everything"});
            let body = json!({"kind": "pause", "scope": scope, "reason": "the storm"});
            ("/v1/holds".to_owned(), body)
        }
    };
    let answer = api.post(&call, body).await;
    (call, answer)
}

/// Plays the trail from its beginning: which holds are in force at its end, that no people of a rollout
/// were claimed while one covered it, and that each rollout began and ended once.
fn replay(entries: &[Value], subjects: &BTreeMap<&str, String>) -> BTreeSet<String> {
    let in_force = trail::replay(entries, &BTreeMap::new());
    for (name, subject) in subjects {
        let of = |action: &str| {
            let ours = entries
                .iter()
                .filter(|entry| entry["subject"] == subject.as_str());
            ours.filter(|entry| entry["action"] == action).count()
        };
        assert!(of("rollout.started") <= 1, "`{name}` was started twice");
        assert!(of("rollout.cancelled") <= 1, "`{name}` was cancelled twice");
        assert!(of("rollout.cancelled") + of("rollout.completed") <= 1 + of("wave.reopened"));
    }
    in_force
}

/// Says what the status of a rollout must be by the holds that cover it.
fn expected(view: &Value) -> Option<&'static str> {
    let lifecycle = view["lifecycle"].as_str().unwrap();
    let holds = view["holds"].as_array().unwrap();
    let has = |kind: &str| holds.iter().any(|hold| hold["kind"] == kind);
    match lifecycle {
        "cancelled" => Some("cancelled"),
        "completed" => Some("completed"),
        _ if has("halt") => Some("halted"),
        _ if has("gate") => Some("held"),
        _ if has("pause") => Some("paused"),
        _ => None,
    }
}

/// Counts what the trail has to explain the generations of a rollout with: each change of it, each act of
/// its gate, and each time that it came under a hold or out of all holds, which shuts and opens its claims.
fn explained(entries: &[Value], view: &Value) -> u64 {
    let subject = format!("rollout:{}", view["id"].as_str().unwrap());
    let mut holds = BTreeSet::new();
    let (mut explained, mut is_running) = (0, false);
    for entry in entries {
        let action = entry["action"].as_str().unwrap();
        let of = entry["subject"].as_str().unwrap();
        let was_held = !holds.is_empty();
        match action {
            "hold.place" => {
                let scope = &entry["detail"]["scope"];
                if scope["type"] == "everything" || scope["id"] == view["id"] {
                    holds.insert(of);
                    explained += u64::from(entry["detail"]["kind"] == "gate");
                }
            }
            "hold.end" => explained += u64::from(holds.remove(of)),
            "hold.release" => {
                holds.remove(of);
            }
            // Who was moved and who was not: the counts of a wave, and no change of the rollout.
            "ledger.turn" | "ledger.outcomes_refused" | "ledger.leases_end" | "person.disprove" => {
            }
            _ if of == subject => {
                is_running |= ["rollout.started", "wave.reopened"].contains(&action);
                is_running &= !["rollout.cancelled", "rollout.completed"].contains(&action);
                explained += 1;
            }
            _ => {}
        }
        explained += u64::from(is_running && was_held == holds.is_empty());
    }
    explained
}

/// Waits until nobody is at work and no rollout has changed for a while.
async fn until_still(api: &Api) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let (mut seen, mut since) = (Vec::new(), Instant::now());
    while since.elapsed() < Duration::from_millis(1_500) {
        assert!(Instant::now() < deadline, "still at work: {seen:?}");
        let page = api.get("/v1/rollouts").await.ok();
        let rollouts = page["items"].as_array().unwrap().iter();
        let now: Vec<_> = rollouts
            .map(|one| (one["generation"].clone(), one["in_flight"].clone()))
            .collect();
        if now != seen || now.iter().any(|(_, in_flight)| *in_flight != 0) {
            (seen, since) = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

async fn a_storm_of_commands_is_explained_by_its_trail(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 300).await;
    let settings =
        json!({"latency_ms": 30, "concurrency": 5, "failure_ppm": 30_000, "retry_ppm": 50_000});
    sandbox(api, settings).await;
    let mut digests = BTreeMap::new();
    for name in ROLLOUTS {
        let spec = two_waves().replace("rollout: move", &format!("rollout: {name}"));
        let spec = spec.replace(
            "unknown_at_most: 100%",
            "unknown_at_most: 100%, approvals: {count: 1}",
        );
        digests.insert(name, planned(api, &spec).await["digest"].clone());
    }
    let seed = seed();
    let clients = (0..CLIENTS).map(|client| {
        let (api, digests) = (api.clone(), digests.clone());
        async move {
            // The last client holds another role, so that approvals are not all self-approvals.
            let api = match client {
                3 => api.as_role("carol", "admin").await,
                _ => api,
            };
            let mut random = Random(seed.wrapping_mul(31).wrapping_add(client));
            let mut statuses = BTreeMap::<u16, u32>::new();
            for number in 0..COMMANDS {
                let (call, answer) = command(&api, &mut random, &digests).await;
                assert!(
                    answer.status < 500,
                    "client {client}, command {number}, {call}: {} {}",
                    answer.status,
                    answer.text
                );
                *statuses.entry(answer.status).or_default() += 1;
            }
            statuses
        }
    });
    let answers = futures_util::future::join_all(clients.map(tokio::spawn)).await;
    for statuses in answers {
        let statuses = statuses.unwrap();
        let good: u32 = statuses
            .iter()
            .filter(|(status, _)| **status < 300)
            .map(|(_, n)| n)
            .sum();
        assert!(good > 50, "the storm did something: {statuses:?}");
    }
    // What is read below belongs to one moment: a halt on everything, and nobody at work any more.
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "enough"});
    api.post("/v1/holds?wait=quiesced", halt).await.ok();
    until_still(api).await;
    let mut subjects = BTreeMap::new();
    let entries = trail::trail(api).await;
    for name in ROLLOUTS {
        let view = api.get(&format!("/v1/rollouts/{name}")).await.ok();
        let subject = format!("rollout:{}", view["id"].as_str().unwrap());
        let changes = explained(&entries, &view);
        let generation = view["generation"].as_u64().unwrap();
        println!(
            "{name}: generation {generation}, {changes} entries, {}",
            view["status"]
        );
        assert!(
            generation <= changes,
            "`{name}` changed without an entry: {view:#}"
        );
        if let Some(expected) = expected(&view) {
            assert_eq!(view["status"], expected, "{view:#}");
        }
        subjects.insert(name, subject);
    }
    let left = replay(&entries, &subjects);
    let listed = api.get("/v1/holds?in_force=true&limit=1000").await.ok();
    let listed: BTreeSet<String> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hold| hold["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(left, listed, "the trail explains the holds in force");
    service.end_and_fsck();
}
