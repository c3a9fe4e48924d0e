//! A few dozen attacks of fixed seeds, with every other test.
//!
//! They take their time waiting and not computing: both tests run beside the others. Attacks in which somebody
//! is frozen for longer than a lease are left to `long`.

use super::{Kind, again, attacks};

/// How many attacks on each database, and in how many lanes: each is mostly waiting, but three processes that
/// were built to be debugged have enough to do.
const ON_POSTGRES: (usize, usize) = (12, 3);
const ON_SQLITE: (usize, usize) = (12, 3);

async fn withstands(kind: Kind, (count, lanes): (usize, usize)) {
    let short = (1..).filter(|seed| !kind.schedule(*seed).outlasts_a_lease());
    let seeds = again().map_or_else(|| short.take(count).collect(), |seed| vec![seed]);
    if let Some(report) = attacks(kind, seeds, lanes, None).await {
        report.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nobody_is_sent_under_a_quiet_hold_whatever_three_replicas_suffer() {
    withstands(Kind::Postgres, ON_POSTGRES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nobody_is_sent_under_a_quiet_hold_whatever_one_process_suffers() {
    withstands(Kind::Sqlite, ON_SQLITE).await;
}
