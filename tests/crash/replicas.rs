//! Several processes on one PostgreSQL database: killed, frozen, and started beside one another.

use std::time::{Duration, Instant};

use super::journal::Journal;
use super::{audited, number, people, random_moment};
use crate::support::api::Answer;
use crate::support::database::Database;
use crate::support::people::{csv, import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::{Service, check_books};
use crate::support::{Random, seed, until};

/// A lease lasts 20 seconds, somebody looks every second or two, and a process ends what it is at before
/// it takes up the next.
const TAKEN_OVER: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_killed_in_turn_move_everybody_once() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let mut random = Random(seed());
    // So many that there is more to do than the time allows: whoever is lost must not come last.
    let everybody = 36_000;
    let journal = Journal::new(&database);
    let first = Service::start(&database);
    let token = first.api.token.clone();
    import(&first.api, everybody).await;
    sandbox(&first.api, journal.settings(20, 8)).await;
    let mut services = vec![first];
    services.push(Service::start_again(&database, &token));
    services.push(Service::start_again(&database, &token));
    started(&services[0].api, &two_waves()).await;
    until_done(&services[0].api, "move", 200, 60).await;
    for service in &mut services {
        random_moment(&mut random, 300, 1200).await;
        service.kill();
        random_moment(&mut random, 0, 300).await;
        *service = Service::start_again(&database, &token);
    }
    // Two die for good: what they had is taken over by the third.
    services[0].kill();
    services[1].kill();
    let died = Instant::now();
    let leased = leased_by_others(&services[2]);
    assert!(number(&database, &leased).await > 0, "the dead had leases");
    until("nobody waits for the dead", 60, async || {
        number(&database, &leased).await == 0
    })
    .await;
    assert!(died.elapsed() < TAKEN_OVER, "{:?}", died.elapsed());
    let view = until_status(&services[2].api, "move", "completed", 120).await;
    assert_eq!(people(&view, "done"), u64::from(everybody), "{view:#}");
    journal.check_everybody_once(u64::from(everybody));
    services.pop().unwrap().end_and_fsck();
}

/// Counts, as SQL, the leases that are not this process's.
fn leased_by_others(alive: &Service) -> String {
    // A worker is called `host:process`.
    let own = format!("SELECT id FROM worker WHERE name LIKE '%:{}'", alive.pid());
    format!(
        "SELECT COUNT(*) FROM batch WHERE lease_owner IS NOT NULL AND lease_owner NOT IN ({own})"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_process_comes_back_with_is_refused_and_nobody_is_sent_twice() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let everybody = 4_000;
    let journal = Journal::new(&database);
    let frozen = Service::start(&database);
    import(&frozen.api, everybody).await;
    sandbox(&frozen.api, journal.settings(50, 8)).await;
    started(&frozen.api, &two_waves()).await;
    until_done(&frozen.api, "move", 300, 60).await;
    let other = Service::start_again(&database, &frozen.api.token);
    until("the other works as well", 30, async || {
        let owners = "SELECT COUNT(DISTINCT lease_owner) FROM batch WHERE lease_owner IS NOT NULL";
        number(&database, owners).await == 2
    })
    .await;
    // What came back is written every half second, so that something is always on the way.
    frozen.signal("STOP");
    let view = until_status(&other.api, "move", "completed", 120).await;
    assert_eq!(people(&view, "done"), u64::from(everybody), "{view:#}");
    assert_eq!(audited(&database, "ledger.outcomes_refused").await, 0);
    frozen.signal("CONT");
    until("late outcomes are refused", 20, async || {
        audited(&database, "ledger.outcomes_refused").await > 0
    })
    .await;
    let metrics = frozen.api.get("/metrics").await.text;
    let refused = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tidegate_outcomes_refused_total "))
        .and_then(|count| count.parse::<u64>().ok());
    assert!(refused > Some(0), "and counted");
    until("the frozen process may send again", 20, async || {
        super::ready(&frozen.api).await == 200
    })
    .await;
    let later = other.api.get("/v1/rollouts/move").await.ok();
    assert_eq!(later["totals"], view["totals"], "and changed nothing");
    journal.check_everybody_once(u64::from(everybody));
    drop(frozen);
    other.end_and_fsck();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_goes_on_while_another_process_starts() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let service = Service::start(&database);
    import(&service.api, 100).await;
    let (rows, body) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(futures_util::stream::unfold(body, async |mut body| {
        Some((body.recv().await?, body))
    }));
    let request = service
        .api
        .request(reqwest::Method::POST, "/v1/populations/staff/imports")
        .header("content-type", "text/csv")
        .body(body);
    let import: tokio::task::JoinHandle<Answer> = tokio::spawn(crate::support::api::send(request));
    let text = csv(0..20_000);
    let (head, rest) = text.split_at(text.len() * 3 / 4);
    rows.send(Ok(head.to_owned())).await.unwrap();
    until("some of it is staged", 30, async || {
        number(&database, "SELECT COUNT(*) FROM population_block").await > 1
    })
    .await;
    let second = Service::start_again(&database, &service.api.token);
    rows.send(Ok(rest.to_owned())).await.unwrap();
    drop(rows);
    let done = import.await.unwrap().ok();
    assert_eq!(done["status"], "published", "{done:#}");
    let population = second.api.get("/v1/populations/staff").await.ok();
    assert_eq!(population["current_version"]["member_count"], 20_000);
    check_books(&database);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_sqlite_file_is_refused_until_the_first_is_dead() {
    let database = Database::sqlite();
    let mut service = Service::start(&database);
    let second = std::process::Command::new(crate::support::service::PROGRAM)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database",
            &database.url,
        ])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another process serves"), "{said}");
    service.signal("STOP");
    service.kill();
    Service::start_again(&database, &service.api.token).end_and_fsck();
}
