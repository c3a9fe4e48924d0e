//! Attacks that somebody thought of, on three replicas: each is set up, suffered, and brought to its end.

use std::time::{Duration, Instant};

use super::CLUSTER;
use super::field::{Field, other_clock};
use super::log::Log;
use super::run::{arrives, finish, place, watch};
use super::schedule::{Fault, ROLLOUTS, Schedule, Scope};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::relay::Network;
use crate::support::{seed, skipped, until};

/// How soon a halt is acknowledged by a replica to which nothing has happened.
const ACKNOWLEDGED: Duration = Duration::from_secs(1);
/// A lease, and the margin: nobody who had one can send after it.
const LEASE_OVER: Duration = Duration::from_secs(25);

/// Starts a cluster, in a folder that must outlive it.
fn cluster() -> Option<(Cluster, Database)> {
    let folder = Database::sqlite();
    let cluster = tokio::task::block_in_place(|| Cluster::start(&folder, CLUSTER))?;
    Some((cluster, folder))
}

async fn until_sent(field: &Field<'_>, requests: usize) {
    let what = format!("{requests} requests");
    until(&what, 60, async || field.target.len() >= requests).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_halt_under_load_is_quiet_in_time_beside_a_frozen_and_a_cut_off_replica() {
    if !super::is_asked_for() {
        return;
    }
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let schedule = Schedule::quiet(seed(), 3, 500);
    let field = Field::new(&schedule, Some(&cluster)).await;
    let log = Log::default();
    until("replicas 1 and 2 are sending", 60, async || {
        field.has_a_lease(1).await && field.has_a_lease(2).await
    })
    .await;
    field.signal(1, "STOP").await;
    field.set_network(2, Network::Stalled);
    let begun = Instant::now();
    let id = place(&field, &log, 0, "halt", Scope::Everything).await;
    let id = id.expect("a halt is acknowledged");
    assert!(begun.elapsed() < ACKNOWLEDGED, "{:?}", begun.elapsed());
    let is_quiet = watch(&field, &log, 0, &id, LEASE_OVER).await;
    println!("quiet after {:?}", begun.elapsed());
    assert!(is_quiet, "not quiet when every lease is over");
    field.signal(1, "CONT").await;
    field.set_network(2, Network::Open);
    // Longer than a permit, and than the first wait before anybody is tried again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let verdict = finish(field, &log, &schedule).await;
    assert!(verdict.quiet >= 1, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_people_of_two_dead_are_found_though_the_database_restarts_meanwhile() {
    if !super::is_asked_for() {
        return;
    }
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let schedule = Schedule::quiet(seed(), 3, 500);
    let field = Field::new(&schedule, Some(&cluster)).await;
    until_sent(&field, 300).await;
    let begun = Instant::now();
    let restarts = async {
        // Before their leases end, while they are found, and right after.
        for at in [3_000, 19_500, 20_500, 21_500] {
            tokio::time::sleep_until((begun + Duration::from_millis(at)).into()).await;
            field.suffer(Fault::DatabaseRestart { down: 100 }).await;
        }
    };
    let killed = |replica| Fault::Kill {
        replica,
        down: 19_000,
    };
    tokio::join!(field.suffer(killed(1)), field.suffer(killed(2)), restarts);
    field.until_ready().await;
    for name in ROLLOUTS {
        arrives(&field, name).await;
    }
    assert!(begun.elapsed() < 2 * LEASE_OVER, "{:?}", begun.elapsed());
    finish(field, &Log::default(), &schedule).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_whose_clock_is_hours_wrong_keeps_nobody_from_arriving() {
    if !super::is_asked_for() {
        return;
    }
    if other_clock().is_none() {
        return skipped("no libfaketime: apt-get install faketime");
    }
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let schedule = Schedule::quiet(seed(), 3, 300);
    let field = Field::new(&schedule, Some(&cluster)).await;
    let wrong = |replica, wrong_by| Fault::Clock {
        replica,
        wrong_by,
        lasts: 600_000,
    };
    let arrive = async {
        for name in ROLLOUTS {
            arrives(&field, name).await;
        }
    };
    tokio::select! {
        () = field.suffer(wrong(1, 7_200)) => {}
        () = field.suffer(wrong(2, -7_200)) => {}
        () = arrive => {}
    }
    finish(field, &Log::default(), &schedule).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_halt_through_connections_that_died_unnoticed_is_acknowledged_or_refused_in_time() {
    if !super::is_asked_for() {
        return;
    }
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let schedule = Schedule::quiet(seed(), 3, 300);
    let field = Field::new(&schedule, Some(&cluster)).await;
    let log = Log::default();
    until_sent(&field, 100).await;
    // As a firewall that forgets connections which were idle for long.
    field.set_network(0, Network::Forgotten);
    let begun = Instant::now();
    until("the halt is acknowledged", 30, async || {
        place(&field, &log, 0, "halt", Scope::Everything)
            .await
            .is_some()
    })
    .await;
    println!("acknowledged after {:?}", begun.elapsed());
    field.set_network(0, Network::Cut);
    field.set_network(0, Network::Open);
    finish(field, &log, &schedule).await;
}
