//! The database goes away: nobody is sent, the service says so, and work goes on when it is back.

use std::time::{Duration, Instant};

use serde_json::json;

use super::journal::Journal;
use super::{people, random_moment, ready};
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::Service;
use crate::support::{Random, seed, until};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_service_sends_nobody_and_goes_on_afterwards() {
    let mut random = Random(seed());
    let elsewhere = Database::sqlite();
    let Some(cluster) = Cluster::start(&elsewhere, "") else {
        return;
    };
    let database = Database {
        url: cluster.url(),
        folder: elsewhere.folder.clone(),
    };
    let everybody = 12_000;
    let journal = Journal::new(&elsewhere);
    let service = Service::start(&database);
    let api = &service.api;
    import(api, everybody).await;
    sandbox(api, journal.settings(50, 16)).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 300, 60).await;
    for _ in 0..2 {
        random_moment(&mut random, 100, 800).await;
        cluster.down();
        // A permit lives for two seconds, and this sandbox answers within a tenth of one.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let known = journal.len();
        let asked = Instant::now();
        assert_eq!(ready(api).await, 503);
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "a probe does not wait"
        );
        let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "drill"});
        api.post("/v1/holds", halt)
            .await
            .refused(503, "store_unavailable");
        assert_eq!(journal.len(), known, "nobody is sent without a permit");
        cluster.up();
        until("the service is ready again", 15, async || {
            ready(api).await == 200
        })
        .await;
    }
    let view = until_status(api, "move", "completed", 180).await;
    assert_eq!(people(&view, "done"), u64::from(everybody), "{view:#}");
    journal.check_everybody_once(u64::from(everybody));
    service.end_and_fsck();
}
