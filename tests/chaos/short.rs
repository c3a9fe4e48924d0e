//! A few dozen attacks of fixed seeds, with every other test.

use super::{Kind, again, attacks};

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nobody_is_sent_under_a_quiet_hold_whatever_three_replicas_suffer() {
    if !super::is_asked_for() {
        return;
    }
    let seeds = again().map_or_else(|| (1..=4).collect(), |seed| vec![seed]);
    if let Some(report) = attacks(Kind::Postgres, seeds, 8, None).await {
        report.check();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn nobody_is_sent_under_a_quiet_hold_whatever_one_process_suffers() {
    if !super::is_asked_for() {
        return;
    }
    let seeds = again().map_or_else(|| (1..=6).collect(), |seed| vec![seed]);
    if let Some(report) = attacks(Kind::Sqlite, seeds, 6, None).await {
        report.check();
    }
}
