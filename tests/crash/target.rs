//! `kill -9` beside servers that other people wrote, behind a network that loses answers.

use serde_json::json;

use super::{kills, people, random_moment, restart};
use crate::support::database::Database;
use crate::support::people::{EASY, import, started, until_status};
use crate::support::service::{Service, check_books};
use crate::support::targets::{Target, check_nobody_twice};
use crate::support::{Random, on_each_database, seed};

on_each_database!(
    scimmy_has_everybody_once_through_kills_and_lost_answers,
    scim2_server_has_everybody_once_through_kills_and_lost_answers,
);

async fn scimmy_has_everybody_once_through_kills_and_lost_answers(database: Database) {
    let Some(target) = Target::scimmy(&[]).await else {
        return;
    };
    let killed = killed_again_and_again(&database, &target, 5_000, 50).await;
    let stats = target.figures("/_stats").await;
    assert_eq!(stats["duplicated_external_ids"], json!([]));
    assert_eq!(stats["users"], killed, "{stats:#}");
}

async fn scim2_server_has_everybody_once_through_kills_and_lost_answers(database: Database) {
    let Some(target) = Target::scim2(&[]).await else {
        return;
    };
    killed_again_and_again(&database, &target, 600, 6).await;
}

/// Moves people to a server through a bad network, with kills on the way; returns how many they were.
async fn killed_again_and_again(
    database: &Database,
    target: &Target,
    everybody: u32,
    usual: u32,
) -> u64 {
    let seed = seed();
    let mut random = Random(seed);
    let kills = kills(usual);
    let everybody = everybody.max(kills * 100);
    let proxy_seed = (seed % 1_000_000).to_string();
    let mut trouble = vec!["--lost", "0.05", "--late5xx", "0.05"];
    trouble.extend(["--methods", "POST", "--seed", &proxy_seed]);
    let faulty = target.faulty(&trouble).await;
    let mut service = Service::start(database);
    import(&service.api, everybody).await;
    let settings = json!({"timeout_seconds": 2, "concurrency": 8});
    faulty.register(&service.api, "box", settings).await;
    started(&service.api, &spec()).await;
    let mut interrupted = 0;
    for kill in 0..kills {
        random_moment(&mut random, 50, 500).await;
        let view = service.api.get("/v1/rollouts/move").await.ok();
        interrupted += u32::from(people(&view, "in_flight") > 0);
        restart(&mut service);
        if kill % 10 == 0 {
            check_books(database);
        }
    }
    // On PostgreSQL a lease outlives its process: there is not always somebody to send to.
    println!("{interrupted} of {kills} kills met people under way");
    assert!(interrupted > 0, "kills interrupt somebody");
    let done = until_status(&service.api, "move", "completed", 240).await;
    assert_eq!(people(&done, "done"), u64::from(everybody), "{done:#}");
    let faults = faulty.figures("/_faults").await;
    assert!(
        faults["committed_but_unanswered"].as_u64() > Some(0),
        "{faults:#}"
    );
    let accounts = target.accounts().await;
    assert_eq!(check_nobody_twice(&accounts), everybody as usize);
    service.end_and_fsck();
    u64::from(everybody)
}

fn spec() -> String {
    format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: everybody, rest: true, {EASY}}}\n"
    )
}
