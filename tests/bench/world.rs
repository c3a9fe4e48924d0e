//! A running service with people in it, and rollouts to measure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::measure::{forget_peak, megabytes};
use crate::support::api::{Api, send};
use crate::support::database::{Database, Folder};
use crate::support::people::planned;
use crate::support::repository;
use crate::support::service::{PROGRAM, Service};

/// Longer than anything here may take.
const TOO_LONG: Duration = Duration::from_secs(900);

/// Files of made-up people, each written once.
#[derive(Debug)]
pub(crate) struct Files(Folder);

impl Files {
    pub(crate) fn new() -> Self {
        Self(Folder::new())
    }

    /// Returns a CSV file of so many people.
    pub(crate) fn people(&self, count: u64) -> PathBuf {
        let path = self.0.path().join(format!("people-{count}.csv"));
        if !path.exists() {
            println!("  writing {count} made-up people");
            let written = Command::new(PROGRAM)
                .args(["population", "sample", "--people", &count.to_string()])
                .arg("--out")
                .arg(&path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(written.is_ok_and(|status| status.success()), "a sample");
        }
        path
    }
}

/// What it took to do something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// How long.
    pub(crate) seconds: f64,
    /// The most memory of the service meanwhile, in megabytes.
    pub(crate) peak_mb: f64,
}

/// A drain from its start to its end, by the instants of the audit trail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drain {
    /// How many people it moved.
    pub(crate) people: u64,
    /// From the start to `completed`.
    pub(crate) seconds: f64,
    /// Of these: laying the rollout out as batches.
    pub(crate) preparing: f64,
    /// Of these: from the first ledger turn to the last.
    pub(crate) sending: f64,
    /// How many ledger turns there were: each is one durable commit.
    pub(crate) turns: usize,
    /// The bytes that the turns put into the audit trail.
    pub(crate) trail_bytes: u64,
    /// The most memory of the service meanwhile, in megabytes.
    pub(crate) peak_mb: f64,
}

impl Drain {
    /// Returns how many people were moved in a second, everything included.
    pub(crate) fn rate(&self) -> f64 {
        self.people as f64 / self.seconds
    }
}

/// A service with a population.
#[derive(Debug)]
pub(crate) struct World {
    /// The service.
    pub(crate) service: Service,
    /// Where its database is, for people.
    pub(crate) on: &'static str,
    /// How many people are in the file that was imported.
    pub(crate) people: u64,
    /// What the import took.
    pub(crate) import: Cost,
    seen: i64,
    rollouts: u32,
}

impl World {
    /// Returns its database.
    pub(crate) fn database(&self) -> &Database {
        &self.service.database
    }

    /// Starts a service on a new database and imports a file of people.
    pub(crate) async fn new(database: &Database, file: &Path, people: u64) -> Self {
        let service = Service::start(database);
        let api = &service.api;
        api.post("/v1/populations", json!({"name": "staff"}))
            .await
            .ok();
        let target = json!({"name": "box", "connector": "sandbox", "config": {}});
        api.post("/v1/targets", target).await.ok();
        forget_peak(service.pid());
        let begun = Instant::now();
        import(api, file).await;
        let import = Cost {
            seconds: begun.elapsed().as_secs_f64(),
            peak_mb: megabytes(service.resident().1),
        };
        let on = if database.is_postgres() {
            "PostgreSQL"
        } else {
            "SQLite"
        };
        Self {
            service,
            on,
            people,
            import,
            seen: 0,
            rollouts: 0,
        }
    }

    /// Returns the client.
    pub(crate) fn api(&self) -> &Api {
        &self.service.api
    }

    /// Plans a new rollout; returns its name, the plan, and what it took.
    pub(crate) async fn plan(&mut self, spec: impl Fn(&str) -> String) -> (String, Value, Cost) {
        self.rollouts += 1;
        let name = format!("r{}", self.rollouts);
        let spec = spec(&name);
        forget_peak(self.service.pid());
        let begun = Instant::now();
        let plan = planned(self.api(), &spec).await;
        let cost = Cost {
            seconds: begun.elapsed().as_secs_f64(),
            peak_mb: megabytes(self.service.resident().1),
        };
        (name, plan, cost)
    }

    /// Starts a plan.
    pub(crate) async fn start(&self, name: &str, plan: &Value) {
        let body = json!({"digest": plan["digest"]});
        let path = format!("/v1/rollouts/{name}/start");
        self.api().post(&path, body).await.ok();
    }

    /// Returns how a rollout stands.
    pub(crate) async fn status(&self, name: &str) -> Value {
        self.api().get(&format!("/v1/rollouts/{name}")).await.ok()
    }

    /// Waits until a rollout is completed.
    pub(crate) async fn until_completed(&self, name: &str) {
        let begun = Instant::now();
        loop {
            let view = self.status(name).await;
            if view["status"] == "completed" {
                assert_eq!(view["totals"]["done"], view["totals"]["people"], "{view:#}");
                return;
            }
            assert!(begun.elapsed() < TOO_LONG, "`{name}` takes for ever");
            // Seldom, so that looking does not slow down what is looked at.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts a plan, waits for its end, and reads in the trail what it took.
    pub(crate) async fn drain(&mut self, name: &str, plan: &Value) -> Drain {
        self.trail().await;
        forget_peak(self.service.pid());
        self.start(name, plan).await;
        self.until_completed(name).await;
        let peak_mb = megabytes(self.service.resident().1);
        let trail = self.trail().await;
        let people = plan["people"].as_u64().expect("a number of people");
        Drain {
            people,
            peak_mb,
            ..drain_of(&trail)
        }
    }

    /// Reads the entries of the audit trail since the last look.
    pub(crate) async fn trail(&mut self) -> Vec<Value> {
        let mut entries = Vec::new();
        loop {
            let path = format!("/v1/audit?after={}&limit=1000", self.seen);
            let page = self.api().get(&path).await.ok();
            let items = page["items"].as_array().cloned().unwrap_or_default();
            let Some(last) = items.last() else {
                return entries;
            };
            self.seen = last["seq"].as_i64().expect("a number");
            entries.extend(items);
        }
    }

    /// Ends the service and starts it again, so that nothing is left of what it did before.
    pub(crate) fn restart(&mut self) {
        let (database, token) = (self.service.database.clone(), self.api().token.clone());
        self.service.stop();
        self.service = Service::start_again(&database, &token);
    }
}

/// Imports a file of people.
pub(crate) async fn import(api: &Api, file: &Path) {
    // Without the client's deadline: 15 million people take longer.
    let http = reqwest::Client::new();
    let body = tokio::fs::File::open(file).await.expect("the file");
    let request = http
        .post(format!("{}/v1/populations/staff/imports", api.url))
        .bearer_auth(&api.token)
        .header("content-type", "text/csv")
        .body(body);
    let view = send(request).await.ok();
    assert_eq!(view["status"], "published", "{view:#}");
}

fn drain_of(trail: &[Value]) -> Drain {
    let at = |entry: &Value| {
        let text = entry["at"].as_str().unwrap_or_default();
        let parsed = chrono::DateTime::parse_from_rfc3339(text).expect("an instant");
        parsed.timestamp_millis()
    };
    let of = |action: &str| trail.iter().find(|entry| entry["action"] == action).map(at);
    let turns: Vec<&Value> = trail
        .iter()
        .filter(|entry| entry["action"] == "ledger.turn")
        .collect();
    let span = |from: Option<i64>, to: Option<i64>| {
        let span = from.zip(to).map_or(0, |(from, to)| to - from);
        span as f64 / 1e3
    };
    let (started, prepared) = (of("rollout.started"), of("rollout.prepared"));
    let detail = |entry: &&Value| entry["detail"].to_string().len() as u64;
    let data = |entry: &&Value| entry["data_bytes"].as_u64().unwrap_or(0);
    Drain {
        seconds: span(started, of("rollout.completed")),
        preparing: span(started, prepared),
        sending: span(
            turns.first().map(|turn| at(turn)),
            turns.last().map(|turn| at(turn)),
        ),
        turns: turns.len(),
        // Beside the two: names, hashes and numbers.
        trail_bytes: turns
            .iter()
            .map(|turn| data(turn) + detail(turn) + 150)
            .sum(),
        ..Drain::default()
    }
}

/// A spec that moves everybody in one wave.
pub(crate) fn one_wave(name: &str) -> String {
    format!(
        "rollout: {name}\npopulation: staff\ntarget: box\nwaves:\n  - {{name: everyone, rest: true}}\n"
    )
}

/// The ten waves of the demo: selections, an exact size, people who stay together. Without its rate
/// and its rests, which are there to be watched.
pub(crate) fn ten_waves(name: &str) -> String {
    let path = repository().join("deploy/demo/workforce.yaml");
    let text = std::fs::read_to_string(path).expect("the demo's spec");
    let mut spec = String::new();
    for line in text.lines() {
        let line = match line.split_once(':').map(|(field, _)| field.trim()) {
            Some("rollout") => &format!("rollout: {name}"),
            Some("population") => "population: staff",
            Some("target") => "target: box",
            Some("rate" | "soak") => continue,
            _ => line,
        };
        spec.push_str(line);
        spec.push('\n');
    }
    spec
}
