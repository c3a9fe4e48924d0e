//! Attacks with real processes: kills, freezes, restarts of the database, partitions, wrong clocks, and
//! several people who hold and lift at once; all of it drawn from a seed.
//!
//! `schedule` draws, `field` has the processes and does to them what was drawn, `run` plays, `log` keeps what
//! the clients were told, and `judge` says what must hold (docs/CHAOS.md). `scenarios` are attacks that somebody
//! thought of, `short` runs a few dozen seeds with every other test, and `long` as many as `make chaos` is asked for.

mod field;
mod judge;
mod log;
mod long;
mod run;
mod scenarios;
mod schedule;
mod short;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Instant;

use futures_util::FutureExt as _;

use crate::support::cluster::Cluster;
use crate::support::database::Database;
use field::Field;
use judge::{Sum, Verdict};
use schedule::Schedule;

/// A process crash loses nothing that was written, so the clusters of attacks need not wait for the disk.
const CLUSTER: &str =
    "-c fsync=off -c shared_buffers=16MB -c max_connections=120 -c log_min_messages=fatal";
/// How many people there are: few enough to be one batch, which a hold divides all the same.
const PEOPLE: u32 = 150;
/// How many attacks one field suffers, one after another: to start its processes costs as much as an attack.
const CHAIN: usize = 8;
/// How many lines of their log are shown of processes that did not withstand an attack.
const LAST_WORDS: usize = 60;

/// Which database an attack is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Three replicas.
    Postgres,
    /// One.
    Sqlite,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    fn schedule(self, seed: u64) -> Schedule {
        Schedule::draw(seed, if self == Self::Postgres { 3 } else { 1 })
    }
}

/// The seed to run again, when there is one.
fn again() -> Option<u64> {
    let given = std::env::var("TIDEGATE_SEED").ok();
    given.and_then(|text| text.parse().ok())
}

/// How to run an attack again, alone.
fn command(kind: Kind, seed: u64) -> String {
    let on = kind.name();
    format!("TIDEGATE_SEED={seed} TIDEGATE_CHAOS_SEEDS=1 TIDEGATE_CHAOS_ON={on} make chaos")
}

/// Returns what the processes of a field logged last.
fn last_words(database: &Database) -> String {
    let log = std::fs::read_to_string(database.file("service.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(LAST_WORDS));
    last.map(|line| format!("  | {line}\n")).collect()
}

/// What came of many attacks.
#[derive(Debug, Default)]
struct Report {
    verdicts: Vec<Verdict>,
    sums: Vec<Sum>,
    failed: Vec<String>,
}

impl Report {
    /// Fails unless every attack was withstood, and they were attacks.
    #[track_caller]
    fn check(&self) {
        println!("{}", self.summary());
        assert!(
            self.failed.is_empty(),
            "not withstood (each alone: see above):\n{}",
            self.failed.join("\n")
        );
        let quiet: usize = self.verdicts.iter().map(|one| one.quiet).sum();
        assert!(quiet >= self.verdicts.len(), "holds became quiet: {quiet}");
    }

    fn summary(&self) -> String {
        let count = |of: fn(&Verdict) -> usize| self.verdicts.iter().map(of).sum::<usize>();
        let sum = |of: fn(&Sum) -> usize| self.sums.iter().map(of).sum::<usize>();
        let times = self.verdicts.iter();
        let watched: f64 = times.clone().map(|one| one.watched.as_secs_f64()).sum();
        let own = times.clone().map(|one| one.last_own).max();
        let all = times.map(|one| one.last_of_all).max();
        format!(
            "{} attacks withstood, {} not; {} requests; {} holds acknowledged, by {} processes in all; {} told quiet \
             and watched for {watched:.0} s; the last request of a replica that had answered came {} ms after, of any \
             {} ms; {} requests came late whose process had been frozen between the check and the socket; {} late outcomes \
             refused, {} creations came again and were refused",
            self.verdicts.len(),
            self.failed.len(),
            sum(|one| one.requests),
            count(|one| one.holds),
            count(|one| one.acknowledged),
            count(|one| one.quiet),
            own.unwrap_or_default().as_millis(),
            all.unwrap_or_default().as_millis(),
            count(|one| one.frozen_on_the_way.len()),
            sum(|one| one.refused_late),
            sum(|one| one.again),
        )
    }
}

/// The attacks that are still to come, and the report on those that were.
struct Work {
    kind: Kind,
    total: usize,
    until: Option<Instant>,
    left: Mutex<VecDeque<u64>>,
    report: Mutex<Report>,
}

/// Runs the attacks of some seeds in so many lanes at once, each with fields and a cluster of its own. Returns
/// nothing where there are no PostgreSQL programs. None is begun after `until`.
async fn attacks(
    kind: Kind,
    seeds: Vec<u64>,
    lanes: usize,
    until: Option<Instant>,
) -> Option<Report> {
    let work = Work {
        kind,
        total: seeds.len(),
        until,
        left: Mutex::new(seeds.into()),
        report: Mutex::default(),
    };
    let lanes = (0..lanes.min(work.total)).map(|_| work.lane());
    let done = futures_util::future::join_all(lanes).await;
    let is_run = done.iter().all(Option::is_some);
    is_run.then(|| work.report.into_inner().unwrap())
}

impl Work {
    async fn lane(&self) -> Option<()> {
        let folder = Database::sqlite();
        let cluster = match self.kind {
            Kind::Postgres => {
                let start = || Cluster::start(&folder, CLUSTER);
                Some(tokio::task::block_in_place(start)?)
            }
            Kind::Sqlite => None,
        };
        // A seed that nobody has taken is one more field.
        while let Some(first) = self.next() {
            self.chain(cluster.as_ref(), first).await;
        }
        Some(())
    }

    fn next(&self) -> Option<u64> {
        let is_late = self.until.is_some_and(|until| Instant::now() > until);
        let mut left = self.left.lock().unwrap();
        left.pop_front().filter(|_| !is_late)
    }

    /// One field, and attack after attack on it, until one is not withstood.
    async fn chain(&self, cluster: Option<&Cluster>, first: u64) {
        let replicas = self.kind.schedule(first).replicas;
        let field = Field::new(cluster, replicas, PEOPLE).await;
        let (mut rounds, mut verdicts, mut next) = (Vec::new(), Vec::new(), Some(first));
        while let Some(seed) = next {
            let begun = Instant::now();
            let schedule = self.kind.schedule(seed);
            let attack = AssertUnwindSafe(run::attack(&field, &schedule));
            let outcome = attack.catch_unwind().await;
            let took = begun.elapsed().as_secs_f64();
            let place = format!("{} seed {seed}: {took:.1} s", self.kind.name());
            let Ok((round, verdict)) = outcome else {
                let command = command(self.kind, seed);
                let before: Vec<u64> = rounds.iter().map(|round: &run::Round| round.seed).collect();
                println!(
                    "{place}, NOT WITHSTOOD, after {before:?}\n{schedule}{}  again: {command}",
                    last_words(&field.database)
                );
                // They were withstood so far; whether everybody arrives is judged on another field.
                self.left.lock().unwrap().extend(before);
                return self.failed(command);
            };
            println!(
                "{place}, {} of {} holds told quiet, {} acknowledgements, answers {:?}, last own {:?}, last of all {:?}, frozen on the way {}, parts {:.1?}",
                verdict.quiet,
                verdict.holds,
                verdict.acknowledged,
                verdict.answers,
                verdict.last_own,
                verdict.last_of_all,
                verdict.frozen_on_the_way.len(),
                verdict.parts,
            );
            rounds.push(round);
            verdicts.push(verdict);
            next = if rounds.len() < CHAIN {
                self.next()
            } else {
                None
            };
        }
        let seeds: Vec<u64> = rounds.iter().map(|round| round.seed).collect();
        let begun = Instant::now();
        let end = AssertUnwindSafe(judge::in_the_end(field, &rounds));
        match end.catch_unwind().await {
            Ok(sum) => {
                let mut report = self.report.lock().unwrap();
                report.sums.push(sum.clone());
                report.verdicts.extend(verdicts);
                println!(
                    "{}/{} {} seeds {seeds:?} in the end: {:.1} s, {sum:?}",
                    report.verdicts.len() + report.failed.len(),
                    self.total,
                    self.kind.name(),
                    begun.elapsed().as_secs_f64(),
                );
            }
            Err(_) => {
                println!(
                    "{} seeds {seeds:?}: NOT WITHSTOOD in the end",
                    self.kind.name()
                );
                for seed in seeds {
                    self.failed(command(self.kind, seed));
                }
            }
        }
    }

    fn failed(&self, command: String) {
        self.report.lock().unwrap().failed.push(command);
    }
}
