//! The two seams: killed after the claim and before the call, and after the call and before the record.

use super::journal::Journal;
use super::{kills, people, reconfigure, restart};
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_status};
use crate::support::service::Service;
use crate::support::{on_each_database, until};

on_each_database!(
    killed_between_target_and_record_everybody_is_looked_up,
    killed_between_claim_and_call_nobody_is_lost,
);

const EVERYBODY: u64 = 3_000;

async fn begun(database: &Database, latency_ms: u64) -> (Service, Journal) {
    let journal = Journal::new(database);
    let service = Service::start(database);
    import(&service.api, EVERYBODY as u32).await;
    sandbox(&service.api, journal.settings(latency_ms, 50)).await;
    started(&service.api, &two_waves()).await;
    (service, journal)
}

async fn killed_between_target_and_record_everybody_is_looked_up(database: Database) {
    let (mut service, journal) = begun(&database, 100).await;
    for _ in 0..kills(4).min(8) {
        // What came back is written every half second: a creation just seen is not recorded yet.
        let known = journal.len();
        until("somebody is created", 60, async || journal.len() > known).await;
        restart(&mut service);
    }
    let view = until_status(&service.api, "move", "completed", 120).await;
    assert_eq!(people(&view, "done"), EVERYBODY);
    journal.check_everybody_once(EVERYBODY);
    let adopted = people(&view, "adopted");
    assert!(
        adopted > 0,
        "the seam was hit, and whoever was there was found"
    );
    service.end_and_fsck();
}

async fn killed_between_claim_and_call_nobody_is_lost(database: Database) {
    // The first call is a second away from the claim.
    let (mut service, journal) = begun(&database, 1000).await;
    for _ in 0..2 {
        let known = journal.len();
        until("people are in flight", 60, async || {
            let view = service.api.get("/v1/rollouts/move").await.ok();
            people(&view, "in_flight") > 0
        })
        .await;
        restart(&mut service);
        assert_eq!(journal.len(), known, "the call had not been made");
    }
    reconfigure(&service.api, journal.settings(5, 50)).await;
    let view = until_status(&service.api, "move", "completed", 120).await;
    assert_eq!(people(&view, "done"), EVERYBODY);
    journal.check_everybody_once(EVERYBODY);
    service.end_and_fsck();
}
