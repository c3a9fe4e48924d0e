//! `kill -9` at random moments, again and again: everybody is moved exactly once.

use std::time::{Duration, Instant};

use super::journal::Journal;
use super::{kills, people, random_moment, restart};
use crate::support::database::Database;
use crate::support::people::{EASY, import, sandbox, started, until_status};
use crate::support::service::{Service, check_books};
use crate::support::{Random, on_each_database, seed};

on_each_database!(
    everybody_is_moved_exactly_once_through_fifty_kills,
    a_restart_after_a_kill_is_ready_within_two_seconds,
);

/// The rest is one wave, so that there is always work for whoever comes next.
fn spec() -> String {
    format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: canary, count: 100, {EASY}}}\n  - {{name: rest, rest: true}}\n"
    )
}

async fn everybody_is_moved_exactly_once_through_fifty_kills(database: Database) {
    let mut random = Random(seed());
    let kills = kills(50);
    // More people than the sandbox can move between the kills: the last one finds work to interrupt.
    let everybody = kills * 500;
    let journal = Journal::new(&database);
    let mut service = Service::start(&database);
    import(&service.api, everybody).await;
    sandbox(&service.api, journal.settings(10, 4)).await;
    started(&service.api, &spec()).await;
    // Kills while it is prepared are `phases`'s.
    until_status(&service.api, "move", "running", 60).await;
    for kill in 0..kills {
        random_moment(&mut random, 50, 600).await;
        let view = service.api.get("/v1/rollouts/move").await.ok();
        assert_eq!(view["lifecycle"], "running", "kill {kill} interrupts work");
        restart(&mut service);
        if kill % 10 == 0 {
            check_books(&database);
        }
    }
    let view = until_status(&service.api, "move", "completed", 120).await;
    assert_eq!(people(&view, "done"), u64::from(everybody), "{view:#}");
    journal.check_everybody_once(u64::from(everybody));
    service.end_and_fsck();
}

async fn a_restart_after_a_kill_is_ready_within_two_seconds(database: Database) {
    let everybody = 60_000;
    let mut service = Service::start(&database);
    import(&service.api, everybody).await;
    let journal = Journal::new(&database);
    sandbox(&service.api, journal.settings(50, 32)).await;
    started(&service.api, &spec()).await;
    crate::support::people::until_done(&service.api, "move", 500, 60).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        service.kill();
        let begun = Instant::now();
        service = Service::start_again(&database, &service.api.token.clone());
        assert_eq!(super::ready(&service.api).await, 200);
        slowest = slowest.max(begun.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    service.end_and_fsck();
}
