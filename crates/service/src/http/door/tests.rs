//! The door: slow heads, idle connections, and who makes room.

use axum::Extension;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// Longer than any call here takes.
const LONG: Duration = Duration::from_secs(600);
const CALL: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";
const STRONG: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\ntoken: yes\r\n\r\n";
const WEAK: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\nweak: yes\r\n\r\n";

/// A door where every call with the header `token` shows who it is.
fn router() -> Router {
    let show = async |Extension(seat): Extension<Seat>, headers: axum::http::HeaderMap| {
        if headers.contains_key("token") {
            seat.shows(Standing::MayStop);
        }
        if headers.contains_key("weak") {
            seat.shows(Standing::Known);
        }
        "answered"
    };
    Router::new().route("/", get(show))
}

struct Door {
    seats: Arc<Seats>,
    ending: CancellationToken,
    connections: TaskTracker,
    next: u64,
}

impl Door {
    fn with(places: usize, head_time: Duration) -> Self {
        Self {
            seats: Arc::new(Seats::new(places, head_time)),
            ending: CancellationToken::new(),
            connections: TaskTracker::new(),
            next: 0,
        }
    }

    async fn connect(&mut self) -> Option<DuplexStream> {
        self.next += 1;
        let sitting = self.seats.sit(self.next).await?;
        let (client, server) = tokio::io::duplex(64 << 10);
        self.connections
            .spawn(attend(router(), server, sitting, self.ending.clone()));
        Some(client)
    }
}

async fn answer_of(client: &mut DuplexStream) -> String {
    let mut bytes = vec![0; 4096];
    let count = client.read(&mut bytes).await.unwrap();
    String::from_utf8(bytes[..count].to_vec()).unwrap()
}

/// Comes in with one call, and is answered.
async fn shown(door: &mut Door, call: &[u8]) -> DuplexStream {
    let mut client = door.connect().await.unwrap();
    client.write_all(call).await.unwrap();
    assert!(answer_of(&mut client).await.ends_with("answered"));
    client
}

async fn until_closed(client: &mut DuplexStream) {
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up_however_it_drips() {
    let mut door = Door::with(1, Duration::from_millis(50));
    let mut client = door.connect().await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(client);
    let drip = async {
        while writing.write_all(b"y").await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let mut rest = Vec::new();
    let (_, ()) = tokio::join!(reading.read_to_end(&mut rest), drip);
    assert!(rest.is_empty(), "nothing was asked");
}

#[tokio::test]
async fn a_connection_that_is_idle_after_a_call_is_closed() {
    let mut door = Door::with(1, Duration::from_millis(50));
    let mut client = shown(&mut door, WEAK).await;
    until_closed(&mut client).await;
}

#[tokio::test]
async fn when_it_is_full_whoever_was_there_longest_without_a_token_makes_room() {
    let mut door = Door::with(3, LONG);
    let mut known = shown(&mut door, STRONG).await;
    let mut first = door.connect().await.unwrap();
    let mut second = door.connect().await.unwrap();
    let mut third = door.connect().await.unwrap();

    until_closed(&mut first).await;
    for client in [&mut known, &mut second, &mut third] {
        client.write_all(CALL).await.unwrap();
        assert!(answer_of(client).await.ends_with("answered"));
    }
}

#[tokio::test]
async fn whoever_has_shown_a_token_makes_no_room() {
    let mut door = Door::with(1, LONG);
    let mut known = shown(&mut door, STRONG).await;
    assert!(door.connect().await.is_none());
    known.write_all(CALL).await.unwrap();
    assert!(answer_of(&mut known).await.ends_with("answered"));
    drop(known);
    // Its place is free as soon as it has gone.
    while door.seats.places.available_permits() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(door.connect().await.is_some());
}

#[tokio::test]
async fn an_idle_connection_ends_at_once_when_the_process_does() {
    let mut door = Door::with(1, LONG);
    let mut client = shown(&mut door, WEAK).await;
    door.ending.cancel();
    until_closed(&mut client).await;
}

#[test]
fn what_is_said_to_whoever_finds_no_place_is_as_long_as_it_says() {
    let text = full();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("content-length: {}", body.len())),
        "{}",
        body.len()
    );
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["status"], 503);
}

#[tokio::test]
async fn a_stranger_is_answered_once_and_somebody_known_as_often_as_they_ask() {
    let mut door = Door::with(2, LONG);
    let mut stranger = door.connect().await.unwrap();
    stranger
        .write_all(&[CALL, CALL, CALL].concat())
        .await
        .unwrap();
    let mut said = String::new();
    stranger.read_to_string(&mut said).await.unwrap();
    assert_eq!(said.matches("answered").count(), 1, "{said}");
    let mut known = door.connect().await.unwrap();
    for _ in 0..2 {
        known.write_all(WEAK).await.unwrap();
        assert!(answer_of(&mut known).await.ends_with("answered"));
    }
}

#[tokio::test]
async fn a_token_that_stops_nothing_keeps_nobody_out_who_may() {
    let mut door = Door::with(2, LONG);
    for _ in 0..2 {
        let mut weak = door.connect().await.unwrap();
        weak.write_all(WEAK).await.unwrap();
        assert!(answer_of(&mut weak).await.ends_with("answered"));
    }
    // Both are known and have come a moment ago: the first of them goes all the same.
    let mut late = door.connect().await.unwrap();
    late.write_all(CALL).await.unwrap();
    assert!(answer_of(&mut late).await.ends_with("answered"));
}
