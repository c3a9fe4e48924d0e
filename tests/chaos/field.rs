//! The field of an attack: real processes, the network between each and the database, the database, the
//! target; and everything that can be done to them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::schedule::{Fault, ROLLOUTS, Schedule};
use crate::crash::number;
use crate::support::api::Api;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::people::{EASY, import, started};
use crate::support::recorder::{Recorder, Trouble};
use crate::support::relay::{Network, Relay, port_of};
use crate::support::service::Service;
use crate::support::until;

/// How many requests at once each process has to each target, and how long one may take.
const CONCURRENCY: u64 = 4;
const TIMEOUT_SECONDS: u64 = 1;
/// What the target does to everybody.
const TROUBLE: Trouble = Trouble {
    latency_ms: 40,
    lost: 10_000,
    hang: 5_000,
    hang_ms: 1_500,
    busy: 15_000,
    refused: 10_000,
};

/// One process, with what is between it and its database.
struct Replica {
    service: tokio::sync::Mutex<Service>,
    api: Mutex<Api>,
    relay: Option<Relay>,
    clock: Option<PathBuf>,
}

/// Everything that an attack is about.
pub(super) struct Field<'a> {
    cluster: Option<&'a Cluster>,
    at_the_cluster: tokio::sync::Mutex<()>,
    /// The database, without a relay.
    pub(super) database: Database,
    replicas: Vec<Replica>,
    /// The target.
    pub(super) target: Recorder,
    token: String,
}

/// Returns the library that shows a process another wall clock, where it is installed.
pub(super) fn other_clock() -> Option<PathBuf> {
    let folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib",
    ];
    let library = |folder: &&str| Path::new(folder).join("faketime/libfaketimeMT.so.1");
    folders.iter().map(library).find(|path| path.exists())
}

impl<'a> Field<'a> {
    /// Sets everything up for a schedule, and starts its rollouts.
    pub(super) async fn new(schedule: &Schedule, cluster: Option<&'a Cluster>) -> Self {
        let database = match cluster {
            Some(cluster) => cluster.database().await,
            None => Database::sqlite(),
        };
        let first = tokio::task::block_in_place(|| Service::start(&database));
        let token = first.api.token.clone();
        let target = Recorder::start(schedule.seed, TROUBLE);
        import(&first.api, schedule.people).await;
        for name in ROLLOUTS {
            target
                .register(&first.api, name, CONCURRENCY, TIMEOUT_SECONDS)
                .await;
        }
        let mut field = Self {
            cluster,
            at_the_cluster: tokio::sync::Mutex::new(()),
            database,
            replicas: Vec::new(),
            target,
            token,
        };
        // Politely, so that it counts no longer as somebody who may still send.
        let mut first = first;
        assert!(tokio::task::block_in_place(|| first.stop()), "it ends");
        for number in 0..schedule.replicas {
            let replica = field.replica(schedule, number).await;
            field.replicas.push(replica);
        }
        for name in ROLLOUTS {
            started(&field.api(0), &spec(name)).await;
        }
        field
    }

    async fn replica(&self, schedule: &Schedule, number: usize) -> Replica {
        let relay = match self.cluster {
            Some(_) => Some(Relay::to(port_of(&self.database.url)).await),
            None => None,
        };
        let is_wrong =
            |fault: &Fault| matches!(fault, Fault::Clock { replica, .. } if *replica == number);
        // Where a test says what happens, it may be any clock.
        let is_wrong =
            schedule.faults.is_empty() || schedule.faults.iter().any(|step| is_wrong(&step.what));
        let clock = other_clock().filter(|_| is_wrong).map(|_| {
            let file = self.database.file(&format!("clock{number}"));
            std::fs::write(&file, "+0\n").unwrap();
            file
        });
        let service = self.start(relay.as_ref(), clock.as_deref()).await;
        Replica {
            api: Mutex::new(service.api.clone()),
            service: tokio::sync::Mutex::new(service),
            relay,
            clock,
        }
    }

    /// Starts a process; the database may be away for a while.
    async fn start(&self, relay: Option<&Relay>, clock: Option<&Path>) -> Service {
        let mut database = self.database.clone();
        if let Some(relay) = relay {
            database.url = relay.through(&database.url);
        }
        let mut variables = Vec::new();
        let library = other_clock().unwrap_or_default().display().to_string();
        let file = clock.unwrap_or(Path::new("")).display().to_string();
        if clock.is_some() {
            variables.push(("LD_PRELOAD", library.as_str()));
            variables.push(("FAKETIME_TIMESTAMP_FILE", file.as_str()));
            variables.extend([("FAKETIME_NO_CACHE", "1"), ("NO_FAKE_STAT", "1")]);
            // The other clock goes on as it is: it is the wall that jumps.
            variables.extend([
                ("DONT_FAKE_MONOTONIC", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ]);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let started = tokio::task::block_in_place(|| {
                Service::try_start(&database, &self.token, &variables)
            });
            match started {
                Ok(service) => return service,
                Err(log) => assert!(Instant::now() < deadline, "{log}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns a client of a replica as it is now.
    pub(super) fn api(&self, replica: usize) -> Api {
        let api = self.replicas[replica].api.lock();
        api.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how many replicas there are.
    pub(super) fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Does what a fault says, and returns when it is over.
    pub(super) async fn suffer(&self, fault: Fault) {
        let wait = |lasts| tokio::time::sleep(Duration::from_millis(lasts));
        match fault {
            Fault::Kill { replica, down } => self.kill(replica, down).await,
            Fault::Freeze { replica, lasts } => {
                self.signal(replica, "STOP").await;
                wait(lasts).await;
                self.signal(replica, "CONT").await;
            }
            Fault::DatabaseRestart { down } => {
                let Some(cluster) = self.cluster else { return };
                let _alone = self.at_the_cluster.lock().await;
                tokio::task::block_in_place(|| cluster.down());
                wait(down).await;
                tokio::task::block_in_place(|| cluster.up());
            }
            Fault::Stall { replica, lasts } => self.network(replica, Network::Stalled, lasts).await,
            Fault::Cut { replica, lasts } => self.network(replica, Network::Cut, lasts).await,
            Fault::Clock {
                replica,
                wrong_by,
                lasts,
            } => {
                let Some(file) = &self.replicas[replica].clock else {
                    return;
                };
                std::fs::write(file, format!("{wrong_by:+}\n")).unwrap();
                wait(lasts).await;
                std::fs::write(file, "+0\n").unwrap();
            }
        }
    }

    /// Changes the network of a replica for good.
    pub(super) fn set_network(&self, replica: usize, network: Network) {
        if let Some(relay) = &self.replicas[replica].relay {
            relay.set(network);
        }
    }

    async fn network(&self, replica: usize, network: Network, lasts: u64) {
        if let Some(relay) = &self.replicas[replica].relay {
            relay.set(network);
            tokio::time::sleep(Duration::from_millis(lasts)).await;
            relay.set(Network::Open);
        }
    }

    /// Kills a replica, and starts it again after a while.
    pub(super) async fn kill(&self, number: usize, down: u64) {
        let replica = &self.replicas[number];
        let mut service = replica.service.lock().await;
        tokio::task::block_in_place(|| service.kill());
        tokio::time::sleep(Duration::from_millis(down)).await;
        if let Some(relay) = &replica.relay {
            relay.set(Network::Open);
        }
        *service = self
            .start(replica.relay.as_ref(), replica.clock.as_deref())
            .await;
        let mut api = replica.api.lock().unwrap_or_else(PoisonError::into_inner);
        *api = service.api.clone();
    }

    /// Sends a signal to a replica. One that is down at the moment is waited for.
    pub(super) async fn signal(&self, number: usize, name: &str) {
        self.replicas[number].service.lock().await.signal(name);
    }

    /// Says whether a replica has somebody under way: a lease.
    pub(super) async fn has_a_lease(&self, replica: usize) -> bool {
        let pid = self.replicas[replica].service.lock().await.pid();
        // A worker is called `host:process`.
        let own = format!("SELECT id FROM worker WHERE name LIKE '%:{pid}'");
        let sql = format!("SELECT COUNT(*) FROM batch WHERE lease_owner IN ({own})");
        number(&self.database, &sql).await > 0
    }

    /// Waits until every replica may send.
    pub(super) async fn until_ready(&self) {
        for number in 0..self.len() {
            until("a replica is ready again", 30, async || {
                let api = self.api(number);
                let asked = api.request(reqwest::Method::GET, "/readyz");
                let asked = asked.timeout(Duration::from_secs(2)).send().await;
                asked.is_ok_and(|answer| answer.status() == 200)
            })
            .await;
        }
    }

    /// Lets the target answer at once and do nobody any harm.
    pub(super) fn calm_the_target(&self) {
        self.target.set(Trouble::default());
    }

    /// Ends every process and gives back what the last checks need.
    pub(super) fn end(self) -> (Database, Recorder) {
        tokio::task::block_in_place(|| {
            for replica in self.replicas {
                replica.service.into_inner().stop();
            }
        });
        (self.database, self.target)
    }

    /// Describes the rollouts: the id of the target by the id of the rollout, and the names by id.
    pub(super) async fn rollouts(&self) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        for name in ROLLOUTS {
            let view = self.api(0).get(&format!("/v1/rollouts/{name}")).await.ok();
            found.push(json!({"id": view["id"], "name": name, "target": view["target"]["id"]}));
        }
        found
    }
}

fn spec(name: &str) -> String {
    format!(
        "rollout: {name}\npopulation: staff\ntarget: {name}\nwaves:\n  - {{name: canary, count: 30, {EASY}}}\n  - {{name: rest, rest: true, {EASY}}}\n"
    )
}
