//! Attacks that somebody thought of, on three replicas: each is set up, suffered, and brought to its end.

use std::time::{Duration, Instant};

use super::field::Field;
use super::run::{Round, finish, place, watch};
use super::schedule::{Fault, ROLLOUTS, Scope};
use super::{CLUSTER, PEOPLE, judge};
use crate::crash::number;
use crate::support::clock::other_clock;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::people::until_status;
use crate::support::relay::Network;
use crate::support::{seed, skipped, until};

/// How soon a halt is acknowledged by a replica to which nothing has happened, though whoever is frozen or cut
/// off was so in the middle of a claim: a permit, and time for a machine that is busy.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
/// A lease, and the margin: nobody who had one can send after it.
const LEASE_OVER: Duration = Duration::from_secs(25);
/// Enough for three batches: more than one replica takes.
const FOR_ALL: u32 = 2_600;

/// Starts a cluster, in a folder that must outlive it.
fn cluster() -> Option<(Cluster, Database)> {
    let folder = Database::sqlite();
    let cluster = tokio::task::block_in_place(|| Cluster::start(&folder, CLUSTER))?;
    Some((cluster, folder))
}

async fn until_sent(field: &Field<'_>, requests: usize) {
    let what = format!("{requests} requests");
    until(&what, 120, async || field.target.len() >= requests).await;
}

async fn until_all_arrived(field: &Field<'_>, round: &Round) {
    for name in round.names() {
        until_status(&field.api(0), &name, "completed", 240).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_halt_under_load_is_quiet_in_time_beside_a_frozen_and_a_cut_off_replica() {
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let field = Field::new(Some(&cluster), 3, FOR_ALL).await;
    let round = Round::of(&field, seed(), &ROLLOUTS[..1]).await;
    // Whoever has a lease has something to send: chosen by number, it might be one that has nothing. A process
    // takes two batches of a rollout at most.
    let busy = std::cell::RefCell::new(Vec::new());
    until("two have a lease", 120, async || {
        let found = field.with_leases().await;
        let are_two = found.len() >= 2;
        busy.replace(found);
        are_two
    })
    .await;
    let busy = busy.into_inner();
    let (frozen, cut_off) = (busy[0], busy[1]);
    let asked = (0..3).find(|replica| ![frozen, cut_off].contains(replica));
    let asked = asked.expect("the third");
    field.freeze(frozen).await;
    field.set_network(cut_off, Network::Stalled);
    let begun = Instant::now();
    let id = loop {
        match place(&field, &round, asked, "halt", Scope::Everything).await {
            Some(id) => break id,
            None => assert!(begun.elapsed() < ACKNOWLEDGED, "{:?}", begun.elapsed()),
        }
    };
    println!("acknowledged after {:?}", begun.elapsed());
    let is_quiet = watch(&field, &round, asked, &id, LEASE_OVER).await;
    println!("quiet after {:?}", begun.elapsed());
    assert!(is_quiet, "not quiet when every lease is over");
    field.wake(frozen).await;
    field.set_network(cut_off, Network::Open);
    // Longer than a permit, and than the first wait before anybody is tried again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let verdict = finish(&field, &round, None).await;
    assert!(verdict.quiet >= 1, "{verdict:?}");
    // After a halt a rollout goes on small and doubles: so many people are not waited for here.
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_replica_brings_back_that_was_frozen_for_longer_than_a_lease_is_refused() {
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let field = Field::new(Some(&cluster), 3, 4 * PEOPLE).await;
    let round = Round::of(&field, seed(), &ROLLOUTS[..1]).await;
    let busy = std::cell::Cell::new(None);
    until("somebody has people under way", 120, async || {
        busy.set(field.with_leases().await.first().copied());
        busy.get().is_some() && field.target.len() > 50
    })
    .await;
    let frozen = busy.get().expect("somebody");
    field.freeze(frozen).await;
    let others = (0..3).find(|replica| *replica != frozen);
    let path = format!("/v1/rollouts/{}", round.name(ROLLOUTS[0]));
    let api = field.api(others.expect("two others"));
    // The others take its batches when its lease is over, and are in the middle of them when it comes back.
    until(
        "nobody of its batches is under way by it",
        240,
        async || {
            api.get(&path).await.ok()["status"] == "running" && !field.has_a_lease(frozen).await
        },
    )
    .await;
    field.wake(frozen).await;
    let refused = "SELECT COUNT(*) FROM audit WHERE action = 'ledger.outcomes_refused'";
    until("what it brings back is refused", 60, async || {
        number(&field.database, refused).await > 0
    })
    .await;
    finish(&field, &round, None).await;
    let sum = judge::in_the_end(field, &[round]).await;
    assert_eq!(sum.again, 0, "somebody was created again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_people_of_two_dead_are_found_though_the_database_restarts_meanwhile() {
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let field = Field::new(Some(&cluster), 3, PEOPLE).await;
    let round = Round::begin(&field, seed()).await;
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
    until_all_arrived(&field, &round).await;
    assert!(begun.elapsed() < 2 * LEASE_OVER, "{:?}", begun.elapsed());
    finish(&field, &round, None).await;
    judge::in_the_end(field, &[round]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_whose_clock_is_hours_wrong_keeps_nobody_from_arriving() {
    if other_clock().is_none() {
        return skipped("no libfaketime: apt-get install faketime");
    }
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let field = Field::new(Some(&cluster), 3, PEOPLE).await;
    let round = Round::begin(&field, seed()).await;
    let wrong = |replica, wrong_by| Fault::Clock {
        replica,
        wrong_by,
        lasts: 600_000,
    };
    let arrive = until_all_arrived(&field, &round);
    tokio::select! {
        () = field.suffer(wrong(1, 7_200)) => {}
        () = field.suffer(wrong(2, -7_200)) => {}
        () = arrive => {}
    }
    finish(&field, &round, None).await;
    judge::in_the_end(field, &[round]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_halt_through_connections_that_died_unnoticed_is_acknowledged_or_refused_in_time() {
    let Some((cluster, _folder)) = cluster() else {
        return;
    };
    let field = Field::new(Some(&cluster), 3, PEOPLE).await;
    let round = Round::begin(&field, seed()).await;
    until_sent(&field, 100).await;
    // As a firewall that forgets connections which were idle for long.
    field.set_network(0, Network::Forgotten);
    let begun = Instant::now();
    until("the halt is acknowledged", 30, async || {
        place(&field, &round, 0, "halt", Scope::Everything)
            .await
            .is_some()
    })
    .await;
    println!("acknowledged after {:?}", begun.elapsed());
    field.set_network(0, Network::Cut);
    field.set_network(0, Network::Open);
    finish(&field, &round, None).await;
    judge::in_the_end(field, &[round]).await;
}
