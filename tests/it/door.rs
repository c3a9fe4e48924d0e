//! The door: whoever only opens connections keeps nobody out, and takes nobody's stop away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::service::Service;

on_each_database!(
    a_flood_of_slow_connections_keeps_no_halt_out,
    requests_sent_without_a_pause_keep_no_halt_waiting,
    a_token_that_may_stop_nothing_keeps_nobody_out_who_may,
    the_address_for_reports_takes_nothing_else,
    a_process_with_slow_connections_ends_when_it_is_told_to,
);

/// How many connections the service has here.
const PLACES: usize = 32;

fn with_few_places(database: &Database, more: &[(&str, &str)]) -> Service {
    let mut first = Service::start(database);
    let token = first.api.token.clone();
    first.stop();
    let places = PLACES.to_string();
    let mut variables = vec![("TIDEGATE_CONNECTIONS", places.as_str())];
    variables.extend_from_slice(more);
    Service::start_with(database, &token, &variables)
}

fn address(url: &str) -> &str {
    url.strip_prefix("http://").unwrap()
}

/// Opens connections that begin to say something and do not go on; those that are sent away are not missed.
fn slow(url: &str, count: usize, beginning: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(address(url)).unwrap();
        let _ = stream.write_all(beginning.as_bytes());
        stream
    };
    (0..count).map(open).collect()
}

/// A head that does not end, and a body of a report that does not.
const BEGINNINGS: [&str; 2] = [
    "GET /healthz HTTP/1.1\r\nhost: here\r\nx: ",
    "POST /v1/sources/anybody/events HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{",
];

async fn halted(api: &Api) {
    let body = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "stop it"});
    let hold = api.post("/v1/holds?wait=quiesced", body).await.ok();
    assert_eq!(hold["kind"], "halt", "{hold:#}");
}

async fn a_flood_of_slow_connections_keeps_no_halt_out(database: Database) {
    let service = with_few_places(&database, &[]);
    for beginning in BEGINNINGS {
        let flood = slow(&service.api.url, PLACES * 4, beginning);
        // A client of its own: its connection is the last to come.
        let late = Api::new(service.api.url.clone(), service.api.token.clone());
        halted(&late).await;
        drop(flood);
    }
    service.end_and_fsck();
}

async fn requests_sent_without_a_pause_keep_no_halt_waiting(database: Database) {
    let service = with_few_places(&database, &[]);
    let many = "HEAD /openapi.json HTTP/1.1\r\nhost: here\r\n\r\n".repeat(5_000);
    let (tell, told) = std::sync::mpsc::channel();
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let mut writing = TcpStream::connect(address(&service.api.url)).unwrap();
            let mut reading = writing.try_clone().unwrap();
            let (many, tell) = (many.clone(), tell.clone());
            // Both are cut off after the first answer.
            std::thread::spawn(move || drop(writing.write_all(many.as_bytes())));
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while reading.read(&mut bytes).is_ok_and(|count| count > 0) {
                    let _ = tell.send(());
                }
            })
        })
        .collect();
    told.recv().expect("the flood has begun");
    let begun = Instant::now();
    halted(&service.api).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    for sender in senders {
        sender.join().unwrap();
    }
    service.end_and_fsck();
}

async fn a_token_that_may_stop_nothing_keeps_nobody_out_who_may(database: Database) {
    let service = with_few_places(&database, &[]);
    let weak = service.api.as_role("siem", "signal_source").await;
    let call = format!(
        "GET /v1/rollouts HTTP/1.1\r\nhost: here\r\nauthorization: Bearer {}\r\n\r\n",
        weak.token
    );
    let mut seats = slow(&service.api.url, PLACES * 2, &call);
    let mut answered = 0;
    for seat in &mut seats {
        let mut bytes = [0; 64];
        let count = seat.read(&mut bytes).unwrap_or(0);
        answered += usize::from(bytes[..count].starts_with(b"HTTP/1.1 "));
    }
    assert!(
        answered >= PLACES / 2,
        "{answered} were let in: as long as there was room"
    );
    let late = Api::new(service.api.url.clone(), service.api.token.clone());
    halted(&late).await;
    service.end_and_fsck();
}

async fn the_address_for_reports_takes_nothing_else(database: Database) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = port.local_addr().unwrap().to_string();
    drop(port);
    let service = with_few_places(&database, &[("TIDEGATE_LISTEN_REPORTS", &at)]);
    let outside = Api::new(format!("http://{at}"), service.api.token.clone());
    outside.get("/v1/holds").await.refused(404, "path_unknown");
    let hold = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "stop it"});
    outside
        .post("/v1/holds", hold)
        .await
        .refused(404, "path_unknown");
    let report = outside.post("/v1/sources/nobody/events", json!({})).await;
    report.refused(404, "source_not_found");

    // Its connections are its own.
    let _flood = slow(&outside.url, PLACES * 4, BEGINNINGS[0]);
    halted(&service.api).await;
    service.end_and_fsck();
}

async fn a_process_with_slow_connections_ends_when_it_is_told_to(database: Database) {
    let mut service = with_few_places(&database, &[]);
    let _flood = slow(&service.api.url, PLACES, BEGINNINGS[0]);
    let begun = Instant::now();
    assert!(service.stop());
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
}
