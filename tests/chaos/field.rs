//! The field of an attack: real processes, the network between each and the database, the database, the
//! target; and everything that can be done to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::log::Told;
use super::schedule::Fault;
use crate::crash::number;
use crate::support::api::Api;
use crate::support::clock::other_clock;
use crate::support::cluster::Cluster;
use crate::support::database::Database;
use crate::support::people::import;
use crate::support::recorder::{Recorder, Trouble};
use crate::support::relay::{Network, Relay, port_of};
use crate::support::service::Service;
use crate::support::until;

/// What the target does to everybody.
const TROUBLE: Trouble = Trouble {
    latency_ms: 100,
    lost: 10_000,
    hang: 5_000,
    hang_ms: 1_500,
    busy: 15_000,
    refused: 10_000,
};

/// How soon after a fault a replica may be asked anything again.
const RECOVERS_WITHIN: Duration = Duration::from_secs(1);

/// One process, with what is between it and its database.
struct Replica {
    service: tokio::sync::Mutex<Service>,
    api: Mutex<Api>,
    relay: Option<Relay>,
    clock: Option<PathBuf>,
}

/// Somebody was frozen, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frozen {
    pub(super) replica: usize,
    pub(super) from: Instant,
    pub(super) until: Option<Instant>,
}

/// Something went wrong for one replica, or for all, and until when.
#[derive(Debug, Clone, Copy)]
struct Suffered {
    replica: Option<usize>,
    from: Instant,
    until: Option<Instant>,
}

/// Everything that attacks are about, one after another.
pub(super) struct Field<'a> {
    cluster: Option<&'a Cluster>,
    at_the_cluster: tokio::sync::Mutex<()>,
    /// The database, without a relay.
    pub(super) database: Database,
    replicas: Vec<Replica>,
    /// Which replica each process was.
    processes: Mutex<BTreeMap<u32, usize>>,
    frozen: Mutex<Vec<Frozen>>,
    suffered: Mutex<Vec<Suffered>>,
    /// The target.
    pub(super) target: Recorder,
    /// How many people there are.
    pub(super) people: u32,
    token: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Field<'a> {
    /// Starts so many replicas, and imports so many people.
    pub(super) async fn new(cluster: Option<&'a Cluster>, replicas: usize, people: u32) -> Self {
        let database = match cluster {
            Some(cluster) => cluster.database().await,
            None => Database::sqlite(),
        };
        let mut first = tokio::task::block_in_place(|| Service::start(&database));
        let token = first.api.token.clone();
        import(&first.api, people).await;
        // Politely, so that it counts no longer as somebody who may still send.
        assert!(tokio::task::block_in_place(|| first.stop()), "it ends");
        let mut field = Self {
            cluster,
            at_the_cluster: tokio::sync::Mutex::new(()),
            database,
            replicas: Vec::new(),
            processes: Mutex::default(),
            frozen: Mutex::default(),
            suffered: Mutex::default(),
            // Who meets trouble follows from the names of the targets, which name the seed.
            target: Recorder::start(0, TROUBLE, replicas),
            people,
            token,
        };
        for number in 0..replicas {
            let replica = field.replica(number, replicas).await;
            field.replicas.push(replica);
        }
        field
    }

    async fn replica(&self, number: usize, replicas: usize) -> Replica {
        let relay = match self.cluster {
            Some(_) => Some(Relay::to(port_of(&self.database.url)).await),
            None => None,
        };
        // The first one's is always right: a library that shows another one costs time.
        let may_be_wrong = replicas > 1 && number > 0;
        let clock = other_clock().filter(|_| may_be_wrong).map(|_| {
            let file = self.database.file(&format!("clock{number}"));
            std::fs::write(&file, "+0\n").unwrap();
            file
        });
        let service = self.start(number, relay.as_ref(), clock.as_deref()).await;
        Replica {
            api: Mutex::new(service.api.clone()),
            service: tokio::sync::Mutex::new(service),
            relay,
            clock,
        }
    }

    /// Starts a process; the database may be away for a while.
    async fn start(&self, number: usize, relay: Option<&Relay>, clock: Option<&Path>) -> Service {
        let mut database = self.database.clone();
        if let Some(relay) = relay {
            database.url = relay.through(&database.url);
        }
        // A door of its own: so it is known who sent what.
        let mut variables = vec![("HTTP_PROXY", self.target.door(number)), ("NO_PROXY", "")];
        let library = other_clock().unwrap_or_default().display().to_string();
        let file = clock.unwrap_or(Path::new("")).display().to_string();
        if clock.is_some() {
            variables.push(("LD_PRELOAD", library.as_str()));
            variables.push(("FAKETIME_TIMESTAMP_FILE", file.as_str()));
            // Read again every second: at each look at a clock would cost more than all else.
            variables.extend([("FAKETIME_CACHE_DURATION", "1"), ("NO_FAKE_STAT", "1")]);
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
                Ok(service) => {
                    lock(&self.processes).insert(service.pid(), number);
                    return service;
                }
                Err(log) => assert!(Instant::now() < deadline, "{log}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns a client of a replica as it is now.
    pub(super) fn api(&self, replica: usize) -> Api {
        lock(&self.replicas[replica].api).clone()
    }

    /// Returns how many replicas there are.
    pub(super) fn len(&self) -> usize {
        self.replicas.len()
    }

    /// Does what a fault says, and returns when it is over.
    pub(super) async fn suffer(&self, fault: Fault) {
        let number = self.suffers(fault.replica());
        self.carry_out(fault).await;
        self.recovers(number);
    }

    /// Notes that something goes wrong for a replica, or for all; returns its number.
    fn suffers(&self, replica: Option<usize>) -> usize {
        let mut suffered = lock(&self.suffered);
        suffered.push(Suffered {
            replica,
            from: Instant::now(),
            until: None,
        });
        suffered.len() - 1
    }

    fn recovers(&self, number: usize) {
        lock(&self.suffered)[number].until = Some(Instant::now());
    }

    /// Says whether something went wrong for a replica while somebody waited for its answer, or shortly before.
    pub(super) fn explains(&self, replica: usize, told: Told) -> bool {
        self.ills_of(replica).into_iter().any(|(from, until)| {
            from <= told.at && until.is_none_or(|until| told.asked <= until + RECOVERS_WITHIN)
        })
    }

    /// Says whether something went wrong for a replica in the last while.
    pub(super) fn suffered_within(&self, replica: usize, last: Duration) -> bool {
        let ills = self.ills_of(replica);
        ills.into_iter()
            .any(|(_, until)| until.is_none_or(|until| until.elapsed() <= last))
    }

    /// Returns from when until when something was wrong for a replica.
    fn ills_of(&self, replica: usize) -> Vec<(Instant, Option<Instant>)> {
        let suffered = lock(&self.suffered);
        let its = suffered
            .iter()
            .filter(|one| one.replica.is_none_or(|of| of == replica));
        let frozen = self.frozen();
        let frozen = frozen.iter().filter(|one| one.replica == replica);
        its.map(|one| (one.from, one.until))
            .chain(frozen.map(|one| (one.from, one.until)))
            .collect()
    }

    async fn carry_out(&self, fault: Fault) {
        let wait = |lasts| tokio::time::sleep(Duration::from_millis(lasts));
        match fault {
            Fault::Kill { replica, down } => self.kill(replica, down).await,
            Fault::Freeze { replica, lasts } => {
                self.freeze(replica).await;
                wait(lasts).await;
                self.wake(replica).await;
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
            if network != Network::Open {
                self.suffers(Some(replica));
                return;
            }
            let mut suffered = lock(&self.suffered);
            let its = suffered
                .iter_mut()
                .filter(|one| one.replica == Some(replica));
            for one in its {
                one.until.get_or_insert_with(Instant::now);
            }
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
        let suffering = self.suffers(Some(number));
        let replica = &self.replicas[number];
        let mut service = replica.service.lock().await;
        tokio::task::block_in_place(|| service.kill());
        self.woke(number);
        tokio::time::sleep(Duration::from_millis(down)).await;
        if let Some(relay) = &replica.relay {
            relay.set(Network::Open);
        }
        *service = self
            .start(number, replica.relay.as_ref(), replica.clock.as_deref())
            .await;
        *lock(&replica.api) = service.api.clone();
        self.recovers(suffering);
    }

    /// Freezes a replica. One that is down at the moment is waited for.
    pub(super) async fn freeze(&self, replica: usize) {
        let service = self.replicas[replica].service.lock().await;
        let from = Instant::now();
        service.signal("STOP");
        lock(&self.frozen).push(Frozen {
            replica,
            from,
            until: None,
        });
    }

    /// Lets a frozen replica go on, if it still is frozen.
    pub(super) async fn wake(&self, replica: usize) {
        let service = self.replicas[replica].service.lock().await;
        // Noted before: whatever it does then, it does after that.
        self.woke(replica);
        service.signal("CONT");
    }

    fn woke(&self, replica: usize) {
        let mut frozen = lock(&self.frozen);
        let its = frozen.iter_mut().filter(|one| one.replica == replica);
        for one in its {
            one.until.get_or_insert_with(Instant::now);
        }
    }

    /// Returns when somebody was frozen.
    pub(super) fn frozen(&self) -> Vec<Frozen> {
        lock(&self.frozen).clone()
    }

    /// Returns which replica a process was.
    pub(super) fn replica_of(&self, process: u32) -> Option<usize> {
        lock(&self.processes).get(&process).copied()
    }

    /// Returns the replicas that have somebody under way: a lease.
    pub(super) async fn with_leases(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for replica in 0..self.len() {
            if self.has_a_lease(replica).await {
                found.push(replica);
            }
        }
        found
    }

    /// Says whether a replica has somebody under way: a lease.
    pub(super) async fn has_a_lease(&self, replica: usize) -> bool {
        self.leased_for(replica).await.is_some()
    }

    /// Returns for how much longer a replica has somebody under way.
    pub(super) async fn leased_for(&self, replica: usize) -> Option<Duration> {
        let pid = self.replicas[replica].service.lock().await.pid();
        // A worker is called `host:process`.
        let own = format!("SELECT id FROM worker WHERE name LIKE '%:{pid}'");
        let sql =
            format!("SELECT COALESCE(MAX(lease_until), 0) FROM batch WHERE lease_owner IN ({own})");
        let until = u64::try_from(number(&self.database, &sql).await).unwrap_or(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_millis() as u64;
        (until > 0).then(|| Duration::from_millis(until.saturating_sub(now)))
    }

    /// Waits until every replica may send.
    pub(super) async fn until_ready(&self) {
        for number in 0..self.len() {
            until("a replica is ready again", 120, async || {
                let api = self.api(number);
                let asked = api.request(reqwest::Method::GET, "/readyz");
                let asked = asked.timeout(Duration::from_secs(2)).send().await;
                asked.is_ok_and(|answer| answer.status() == 200)
            })
            .await;
        }
    }

    /// Lets the target answer at once and do nobody any harm, or makes trouble again.
    pub(super) fn calm_the_target(&self, is_calm: bool) {
        self.target
            .set(if is_calm { Trouble::default() } else { TROUBLE });
    }

    /// Ends every process and gives back what the last checks need.
    pub(super) fn end(self) -> Database {
        tokio::task::block_in_place(|| {
            for replica in self.replicas {
                replica.service.into_inner().stop();
            }
        });
        self.database
    }
}
