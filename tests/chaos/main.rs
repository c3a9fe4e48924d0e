//! Attacks with real processes: kills, freezes, restarts of the database, partitions, wrong clocks, and
//! several people who hold and lift at once; all of it drawn from a seed.
//!
//! `schedule` draws, `field` has the processes and does to them what was drawn, `run` plays, `log` keeps what
//! the clients were told, and `judge` says what must hold. `scenarios` are attacks that somebody
//! thought of, `short` runs a few seeds, and `long` as many as `TIDEGATE_CHAOS_SEEDS` says: all of them only with
//! `make chaos`, which has the machine for itself. A schedule is run again with `TIDEGATE_SEED=…`.

mod field;
mod judge;
mod log;
mod long;
mod run;
mod scenarios;
mod schedule;
mod short;

use std::sync::Mutex;
use std::time::Instant;

use futures_util::FutureExt as _;

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use judge::Verdict;
use schedule::Schedule;

/// A process crash loses nothing that was written, so the clusters of attacks need not wait for the disk.
const CLUSTER: &str =
    "-c fsync=off -c shared_buffers=16MB -c max_connections=120 -c log_min_messages=fatal";

/// Which database an attack is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Three replicas.
    Postgres,
    /// One.
    Sqlite,
}

/// The seed to run again, when there is one.
fn again() -> Option<u64> {
    let given = std::env::var("TIDEGATE_SEED").ok();
    given.and_then(|text| text.parse().ok())
}

/// What came of many attacks.
#[derive(Debug, Default)]
struct Report {
    verdicts: Vec<Verdict>,
    failed: Vec<u64>,
}

impl Report {
    /// Fails unless every attack was withstood, and they were attacks.
    #[track_caller]
    fn check(&self) {
        println!("{}", self.summary());
        assert!(
            self.failed.is_empty(),
            "run again with TIDEGATE_SEED=: {:?}",
            self.failed
        );
        let quiet: usize = self.verdicts.iter().map(|one| one.quiet).sum();
        assert!(quiet >= self.verdicts.len(), "holds became quiet: {quiet}");
    }

    fn summary(&self) -> String {
        let sum = |of: fn(&Verdict) -> usize| self.verdicts.iter().map(of).sum::<usize>();
        let watched: f64 = self
            .verdicts
            .iter()
            .map(|one| one.watched.as_secs_f64())
            .sum();
        format!(
            "{} attacks withstood, {} not; {} requests, {} holds acknowledged, {} told quiet and watched for {watched:.0} s; \
             {} late outcomes refused, {} creations came again and were refused",
            self.verdicts.len(),
            self.failed.len(),
            sum(|one| one.requests),
            sum(|one| one.holds),
            sum(|one| one.quiet),
            sum(|one| one.refused_late),
            sum(|one| one.again),
        )
    }
}

/// Says whether attacks were asked for: they take the whole machine for minutes, and run with `make chaos`.
fn is_asked_for() -> bool {
    std::env::var_os("TIDEGATE_CHAOS_SEEDS").is_some()
}

/// Runs the attacks of some seeds, `lanes` of them at once, each lane with a cluster of its own. Returns
/// nothing where there are no PostgreSQL programs. None is begun after `until`.
async fn attacks(
    kind: Kind,
    seeds: Vec<u64>,
    lanes: usize,
    until: Option<Instant>,
) -> Option<Report> {
    let report = Mutex::new(Report::default());
    let total = seeds.len();
    let left = Mutex::new(seeds.into_iter().enumerate());
    let lane = async || {
        let folder = Database::sqlite();
        let cluster = match kind {
            Kind::Postgres => Some(tokio::task::block_in_place(|| {
                Cluster::start(&folder, CLUSTER)
            })?),
            Kind::Sqlite => None,
        };
        loop {
            if until.is_some_and(|until| Instant::now() > until) {
                return Some(());
            }
            let next = left.lock().unwrap().next();
            let Some((number, seed)) = next else {
                return Some(());
            };
            let begun = Instant::now();
            let replicas = if kind == Kind::Postgres { 3 } else { 1 };
            let schedule = Schedule::draw(seed, replicas);
            let attack = run::attack(&schedule, cluster.as_ref());
            let outcome = std::panic::AssertUnwindSafe(attack).catch_unwind().await;
            let took = begun.elapsed().as_secs_f64();
            let place = format!("{kind:?} {}/{total} seed {seed}: {took:.1} s", number + 1);
            let mut report = report.lock().unwrap();
            match outcome {
                Ok(verdict) => {
                    println!(
                        "{place}, {} requests, {} of {} holds told quiet, answers {:?}",
                        verdict.requests, verdict.quiet, verdict.holds, verdict.answers
                    );
                    report.verdicts.push(verdict);
                }
                Err(_) => {
                    println!("{place}, NOT WITHSTOOD\n{schedule}");
                    report.failed.push(seed);
                }
            }
        }
    };
    let lanes = (0..lanes.min(total)).map(|_| lane());
    let done = futures_util::future::join_all(lanes).await;
    let is_run = done.iter().all(Option::is_some);
    is_run.then(|| report.into_inner().unwrap())
}
