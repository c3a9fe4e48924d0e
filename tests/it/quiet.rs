//! Who has acknowledged a hold, who has not, and until when it can still send.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

use crate::crash::journal::Journal;
use crate::crash::number;
use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::service::Service;
use crate::support::{on_each_database, until};

on_each_database!(
    a_hold_names_the_worker_that_has_acknowledged_it,
    a_hold_elsewhere_is_quiet_while_others_are_moved,
    whoever_waits_on_the_command_line_is_told_who_has_confirmed,
);

async fn halt(api: &Api, scope: Value, wait: bool) -> Value {
    let path = if wait {
        "/v1/holds?wait=quiesced"
    } else {
        "/v1/holds"
    };
    let body = json!({"kind": "halt", "scope": scope, "reason": "stop"});
    api.post(path, body).await.ok()
}

async fn look(api: &Api, hold: &Value) -> Value {
    let path = format!("/v1/holds/{}", hold["id"].as_str().unwrap());
    api.get(&path).await.ok()
}

async fn release(api: &Api, hold: &Value) {
    let id = hold["id"].as_str().unwrap();
    if hold["kind"] == "halt" {
        return crate::support::release::halt(api, id).await;
    }
    let path = format!("/v1/holds/{id}/release");
    api.post(&path, json!({"reason": "over"})).await.ok();
}

/// Starts processes that move people together, each with leases of its own.
async fn replicas(database: &Database, count: usize, settings: Value) -> Vec<Service> {
    let mut services = vec![Service::start(database)];
    for _ in 1..count {
        let token = services[0].api.token.clone();
        services.push(Service::start_again(database, &token));
    }
    let api = &services[0].api;
    import(api, 40_000).await;
    sandbox(api, settings).await;
    started(api, &two_waves()).await;
    let owners = "SELECT COUNT(DISTINCT lease_owner) FROM batch WHERE lease_owner IS NOT NULL";
    until("everybody has something to send", 60, async || {
        number(database, owners).await == count as i64
    })
    .await;
    services
}

fn standings(hold: &Value) -> Vec<&str> {
    let workers = hold["workers"].as_array().unwrap().iter();
    workers
        .map(|worker| worker["standing"].as_str().unwrap())
        .collect()
}

async fn a_hold_names_the_worker_that_has_acknowledged_it(database: Database) {
    let services = replicas(&database, 1, json!({"latency_ms": 20, "concurrency": 8})).await;
    let api = &services[0].api;
    let quiet = halt(api, json!({"type": "rollout", "id": "move"}), true).await;
    assert_eq!(
        (&quiet["quiesced"], &quiet["confirmed"], &quiet["of"]),
        (&json!(true), &json!(1), &json!(1)),
        "{quiet:#}"
    );
    let slowest = quiet["slowest_ms"].as_u64().unwrap();
    assert_eq!(quiet["workers"][0]["acknowledged_after_ms"], slowest);
    let sentence = quiet["sentence"].as_str().unwrap();
    assert!(
        sentence.starts_with("1 of 1 worker confirmed, slowest "),
        "{sentence}"
    );
    assert_eq!(quiet["quiet_by"], Value::Null);
    // It stays what it was, whatever epochs follow.
    let other = halt(api, json!({"type": "everything"}), true).await;
    assert_eq!(look(api, &quiet).await["slowest_ms"], slowest);
    release(api, &other).await;
    release(api, &quiet).await;
    let over = look(api, &quiet).await;
    assert_eq!(
        (&over["quiesced"], &over["sentence"]),
        (&json!(false), &json!("released: it stops nothing"))
    );
}

async fn a_hold_elsewhere_is_quiet_while_others_are_moved(database: Database) {
    let count = if database.is_postgres() { 2 } else { 1 };
    let settings = json!({"latency_ms": 200, "concurrency": 8});
    let services = replicas(&database, count, settings).await;
    let api = &services[0].api;
    let body = json!({"name": "crate", "connector": "sandbox", "config": {}});
    api.post("/v1/targets", body).await.ok();
    let quiet = halt(api, json!({"type": "target", "id": "crate"}), true).await;
    assert_eq!(quiet["quiesced"], true, "{quiet:#}");
    let view = api.get("/v1/rollouts/move").await.ok();
    assert!(view["in_flight"].as_u64() > Some(0), "{view:#}");
    until("everybody has confirmed it", 10, async || {
        look(api, &quiet).await["confirmed"] == count
    })
    .await;
}

async fn whoever_waits_on_the_command_line_is_told_who_has_confirmed(database: Database) {
    let services = replicas(&database, 1, json!({"latency_ms": 50, "concurrency": 8})).await;
    let done = services[0].cli(&["halt", "move", "--reason", "stop", "--wait"]);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}");
    assert!(said.contains("quiesced: nobody can send"), "{said}");
    assert!(said.contains("1 of 1 worker confirmed, slowest "), "{said}");
    let listed = services[0].cli(&["hold", "list"]);
    let said = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(said.contains("1 of 1 worker confirmed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_replicas_acknowledges_a_halt_and_is_named() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let services = replicas(&database, 3, json!({"latency_ms": 20, "concurrency": 8})).await;
    let api = &services[1].api;
    let halted = halt(api, json!({"type": "target", "id": "box"}), true).await;
    assert_eq!(halted["quiesced"], true, "{halted:#}");
    until("all three have confirmed it", 10, async || {
        look(api, &halted).await["confirmed"] == 3
    })
    .await;
    // Whoever is asked says the same.
    for service in &services {
        let seen = look(&service.api, &halted).await;
        assert_eq!(standings(&seen), ["acknowledged"; 3], "{seen:#}");
        assert_eq!((&seen["of"], &seen["in_flight"]), (&json!(3), &json!(0)));
        let after: Vec<u64> = seen["workers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|worker| worker["acknowledged_after_ms"].as_u64().unwrap())
            .collect();
        assert_eq!(seen["slowest_ms"].as_u64(), after.into_iter().max());
    }
    let done = services[2].api.get("/v1/rollouts/move").await.ok();
    release(api, &halted).await;
    assert!(done["totals"]["done"].as_u64() > Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notified_replica_acknowledges_long_before_its_next_renewal() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let first = Service::start(&database);
    let token = first.api.token.clone();
    let others = [(); 2].map(|()| Service::start_again(&database, &token));
    let api = &first.api;
    let mut soon = 0;
    for _ in 0..12 {
        let hold = halt(api, json!({"type": "everything"}), false).await;
        until("all three have confirmed it", 10, async || {
            look(api, &hold).await["confirmed"] == 3
        })
        .await;
        let seen = look(api, &hold).await;
        soon += u32::from(seen["slowest_ms"].as_u64() < Some(250));
        release(api, &hold).await;
    }
    // Without a notification both others come within half of their half second once in four times: ten
    // of twelve would be a chance of one in twenty thousand.
    assert!(soon >= 10, "only {soon} of 12 were soon");
    drop(others);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_whose_ear_was_cut_hears_of_a_hold_all_the_same() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let first = Service::start(&database);
    let other = Service::start_again(&database, &first.api.token);
    let api = &first.api;
    let ears = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'";
    until("both listen", 10, async || {
        number(&database, ears).await == 2
    })
    .await;
    let mut admin = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%'";
    admin.execute(cut).await.unwrap();
    let hold = halt(api, json!({"type": "everything"}), true).await;
    assert_eq!(hold["quiesced"], true);
    until("both have confirmed it", 10, async || {
        look(api, &hold).await["confirmed"] == 2
    })
    .await;
    until("both listen again", 10, async || {
        number(&database, ears).await == 2
    })
    .await;
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_replica_keeps_a_halt_waiting_until_it_can_send_nothing() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let journal = Journal::new(&database);
    let services = replicas(&database, 2, journal.settings(50, 8)).await;
    let (api, frozen) = (&services[0].api, &services[1]);
    frozen.signal("STOP");
    let placed = halt(api, json!({"type": "rollout", "id": "move"}), false).await;
    let silent = |hold: &Value| {
        let workers = hold["workers"].as_array().unwrap().clone();
        workers
            .into_iter()
            .find(|worker| worker["standing"] == "silent")
    };
    let worker = silent(&placed).expect("the frozen one is named");
    assert!(
        worker["name"]
            .as_str()
            .unwrap()
            .ends_with(&format!(":{}", frozen.pid())),
        "{placed:#}"
    );
    let mut seen = placed.clone();
    let mut bound = None;
    while seen["quiesced"] != true {
        // The bound is known from the first word of whoever has seen the halt, and only comes nearer.
        let until = seen["quiet_by"].as_str().unwrap().to_owned();
        let sentence = seen["sentence"].as_str().unwrap();
        if silent(&seen).is_some() {
            assert!(
                sentence.contains("is silent and can send until"),
                "{sentence}"
            );
            bound = Some(until);
        }
        seen = look(api, &placed).await;
    }
    let now = chrono::Utc::now();
    let bound = chrono::DateTime::parse_from_rfc3339(&bound.unwrap()).unwrap();
    assert!(now >= bound, "quiet at {now}, and bound by {bound}");
    let placed_at = chrono::DateTime::parse_from_rfc3339(placed["placed_at"].as_str().unwrap());
    // Two seconds of a permit, one of a request to the sandbox, one for the clocks: the lease is longer.
    let waited = (bound - placed_at.unwrap()).num_milliseconds();
    assert!((4_000..6_000).contains(&waited), "{waited} ms");
    assert_eq!(
        (&seen["confirmed"], &seen["of"], &seen["in_flight"]),
        (&json!(1), &json!(2), &json!(0)),
        "{seen:#}"
    );
    assert!(standings(&seen).contains(&"cannot_send"), "{seen:#}");
    let created = journal.people().len();
    frozen.signal("CONT");
    until("the frozen one has confirmed it", 20, async || {
        look(api, &placed).await["confirmed"] == 2
    })
    .await;
    assert_eq!(journal.people().len(), created, "sent after it was quiet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_frozen_in_the_middle_of_a_claim_keeps_no_halt_waiting() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let services = replicas(&database, 2, json!({"latency_ms": 5, "concurrency": 8})).await;
    let (api, frozen) = (&services[0].api, &services[1]);
    // What a claim has locked is locked for as long as its transaction lasts, also when nobody goes on with it.
    let theirs = format!(
        "SELECT COUNT(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' \
         AND l.mode = 'ShareLock' AND l.granted AND a.datname = current_database() \
         AND a.state = 'idle in transaction' AND a.client_port IN ({})",
        ports(frozen.pid()).join(",")
    );
    until("it is frozen in the middle of a claim", 120, async || {
        frozen.signal("STOP");
        let is_caught = number(&database, &theirs).await > 0;
        if !is_caught {
            frozen.signal("CONT");
        }
        is_caught
    })
    .await;
    let begun = std::time::Instant::now();
    let everything = json!({"type": "everything"});
    let hold = halt(api, everything, false).await;
    // A permit, and time for a machine that is busy.
    let waited = begun.elapsed();
    assert!(waited < std::time::Duration::from_secs(10), "{waited:?}");
    until("nobody can send", 30, async || {
        look(api, &hold).await["quiesced"] == true
    })
    .await;
    frozen.signal("CONT");
    until("the frozen one has confirmed it", 30, async || {
        look(api, &hold).await["confirmed"] == 2
    })
    .await;
    release(api, &hold).await;
    until_done(api, "move", 2_000, 120).await;
}

/// Returns the ports from which a process is connected to anything.
fn ports(process: u32) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = folder.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let names = links.filter_map(|link| Some(link.to_str()?.to_owned()));
    let own: Vec<String> = names
        .filter_map(|name| Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| {
        row.get(9)
            .is_some_and(|inode| own.iter().any(|one| one == inode))
    })
    .map(|row| u32::from_str_radix(row[1].rsplit(':').next().unwrap(), 16).unwrap())
    .map(|port| port.to_string())
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_ended_is_not_waited_for() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let mut services = replicas(&database, 2, json!({"latency_ms": 50, "concurrency": 8})).await;
    assert!(services[1].stop());
    let api = &services[0].api;
    let quiet = halt(api, json!({"type": "rollout", "id": "move"}), true).await;
    assert_eq!(
        (&quiet["quiesced"], &quiet["confirmed"], &quiet["of"]),
        (&json!(true), &json!(1), &json!(1)),
        "{quiet:#}"
    );
    let after = quiet["slowest_ms"].as_u64();
    assert!(
        after < Some(2_000),
        "its leases are still in force: {quiet:#}"
    );
    release(api, &quiet).await;
    until_done(api, "move", 500, 60).await;
}
