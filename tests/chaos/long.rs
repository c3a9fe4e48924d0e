//! As many attacks as `TIDEGATE_CHAOS_SEEDS` says: `make chaos`. Without it there are none.

use std::time::{Duration, Instant};

use super::{Kind, again, attacks};
use crate::support::seed;

/// One process on SQLite is attacked once for so many attacks on three replicas.
const SHARE: u64 = 4;
/// How many attacks run at once, unless `TIDEGATE_CHAOS_LANES` says otherwise: most of their time is waiting.
const LANES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn many_attacks_are_withstood() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let Some(count) = number("TIDEGATE_CHAOS_SEEDS") else {
        return;
    };
    let lanes = number("TIDEGATE_CHAOS_LANES").map_or(LANES, |lanes| lanes as usize);
    // The share of either, so that both are attacked when time is short.
    let begun = Instant::now();
    let minutes = number("TIDEGATE_CHAOS_MINUTES").map(|minutes| Duration::from_secs(minutes * 60));
    let all = minutes.map(|minutes| begun + minutes);
    let first_part = minutes.map(|minutes| begun + minutes * 3 / 4);
    let first = again().unwrap_or_else(|| seed() << 16);
    let on_one = match std::env::var("TIDEGATE_CHAOS_ON").as_deref() {
        Ok("postgres") => 0,
        Ok("sqlite") => count,
        _ => count / SHARE,
    };
    let seeds = |from: u64, count: u64| (from..from + count).collect();
    let replicas = attacks(
        Kind::Postgres,
        seeds(first, count - on_one),
        lanes,
        first_part,
    )
    .await;
    let one = attacks(Kind::Sqlite, seeds(first, on_one), lanes, all).await;
    for report in [replicas, one].into_iter().flatten() {
        report.check();
    }
}
