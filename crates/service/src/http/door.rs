//! The door: how many connections there may be, how long each may take, and who makes room when all are taken.
//!
//! Whoever only opens connections must not keep out whoever stops. A connection is a stranger's until a token that is
//! known, or a report that proves itself, has come over it. When every place is taken, the stranger who has been there
//! longest makes room, then whoever may not stop anything; whoever may is never sent away. So a flood of slow
//! connections loses its own, and a halt, which is read in milliseconds, gets in. A stranger is answered once and has
//! to come again, and whoever asks without a pause lets everybody else have a turn first.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// The longest a request's headers may take to come, and the longest a connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// What one connection may fill with a request's headers: 64 KiB.
const HEAD_MAX: usize = 64 << 10;
/// How long the calls that are under way may take to end when the process does.
const GOODBYE: Duration = Duration::from_secs(20);
/// The same for whoever has shown no token: they may be in the middle of a report, or of nothing at all.
const GOODBYE_UNKNOWN: Duration = Duration::from_secs(1);
/// How long a connection may take to say who it is before others go first.
const JUST_CAME: Duration = Duration::from_millis(250);
/// What is no pause between an answer and the next request of the same connection.
const NO_PAUSE: Duration = Duration::from_millis(1);
/// How many connections may wait to be let in: a flood must not make the system drop others.
const BACKLOG: u32 = 4_096;
/// How often a door that is full says so.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);
/// How long a door waits when the system gives it no connection, such as for want of files.
const BREATH: Duration = Duration::from_millis(50);
/// The most connections a door has unless told otherwise.
const PLACES_MAX: usize = 2_048;
/// The fewest, however few files there are.
const PLACES_MIN: usize = 16;
/// The files that are kept for the databases and for what this process asks others.
const FILES_KEPT: usize = 256;

/// Raises what this process may open to what the system lets it, and says how many connections that allows at
/// each of so many doors.
#[must_use]
pub fn places(doors: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Some systems give no more than they promised; then it stays as it was.
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = usize::try_from(files.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let each = files.saturating_sub(FILES_KEPT) / doors.max(1);
    each.clamp(PLACES_MIN, PLACES_MAX)
}

/// Takes an address, with room for many who wait to be let in.
///
/// # Errors
///
/// When it is in use, or not this machine's.
pub fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match at {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// One connection, as the calls over it see it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seat(Arc<SeatState>);

#[derive(Debug, Default)]
struct SeatState {
    standing: AtomicU8,
    answered: Mutex<Option<Instant>>,
    leave: CancellationToken,
}

/// Who a connection has shown itself to be; whoever is less makes room first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nobody we know.
    Stranger,
    /// Somebody with a token, or a source whose report proved itself.
    Known,
    /// Somebody who may stop something.
    MayStop,
}

impl Seat {
    /// Notes who came over this connection.
    pub(super) fn shows(&self, standing: Standing) {
        self.0.standing.fetch_max(standing as u8, Ordering::Relaxed);
    }

    fn standing(&self) -> Standing {
        match self.0.standing.load(Ordering::Relaxed) {
            0 => Standing::Stranger,
            1 => Standing::Known,
            _ => Standing::MayStop,
        }
    }

    fn answered(&self) -> MutexGuard<'_, Option<Instant>> {
        let answered = self.0.answered.lock();
        answered.unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an answer is about to be sent.
    fn was_answered(&self) {
        *self.answered() = Some(Instant::now());
    }

    /// Says whether the request that has come follows at once upon an answer.
    fn asks_without_a_pause(&self) -> bool {
        self.answered().is_some_and(|at| at.elapsed() < NO_PAUSE)
    }
}

/// A connection in the book.
#[derive(Debug)]
struct Taken {
    seat: Seat,
    since: Instant,
}

/// Who is at a door, by when they came.
#[derive(Debug)]
struct Seats {
    places: Arc<Semaphore>,
    head_time: Duration,
    taken: Mutex<BTreeMap<u64, Taken>>,
}

/// A place at a door, free again when it is dropped.
#[derive(Debug)]
struct Sitting {
    seats: Arc<Seats>,
    number: u64,
    seat: Seat,
    _place: OwnedSemaphorePermit,
}

impl Drop for Sitting {
    fn drop(&mut self) {
        self.seats.taken().remove(&self.number);
    }
}

impl Seats {
    fn new(places: usize, head_time: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            head_time,
            taken: Mutex::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u64, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends somebody away: whoever is least, and of those who has been here longest. Whoever came this very moment
    /// may be about to say who they are, so they go only when nobody else is left. Says whether there was one.
    fn make_room(&self) -> bool {
        let mut taken = self.taken();
        let now = Instant::now();
        let least = taken
            .iter()
            .map(|(number, one)| (now - one.since < JUST_CAME, one.seat.standing(), *number))
            .filter(|(_, standing, _)| *standing < Standing::MayStop)
            .min();
        // Out of the book at once: the next one sends away another.
        let Some(gone) = least.and_then(|(_, _, number)| taken.remove(&number)) else {
            return false;
        };
        gone.seat.0.leave.cancel();
        true
    }

    /// Gives a place to the connection of this number, if one can be had.
    async fn sit(self: &Arc<Self>, number: u64) -> Option<Sitting> {
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) if self.make_room() => Arc::clone(&self.places).acquire_owned().await.ok()?,
            Err(_) => return None,
        };
        let seat = Seat::default();
        let taken = Taken {
            seat: seat.clone(),
            since: Instant::now(),
        };
        self.taken().insert(number, taken);
        Some(Sitting {
            seats: Arc::clone(self),
            number,
            seat,
            _place: place,
        })
    }
}

/// Answers requests at one address until the token rings, and then lets what is under way end.
pub(super) async fn answer(
    router: Router,
    listener: TcpListener,
    places: usize,
    ending: CancellationToken,
) {
    let seats = Arc::new(Seats::new(places, HEAD_TIME));
    let connections = TaskTracker::new();
    let mut complaint: Option<Instant> = None;
    for number in 0.. {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ending.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                refused_by_the_system(&error).await;
                continue;
            }
        };
        if seats.places.available_permits() == 0 {
            complain(&mut complaint, places);
        }
        match seats.sit(number).await {
            Some(sitting) => {
                // Answers are small and wanted now.
                let _ = stream.set_nodelay(true);
                let (router, ending) = (router.clone(), ending.clone());
                connections.spawn(attend(router, stream, sitting, ending));
            }
            None => turn_away(&stream),
        }
    }
    connections.close();
    connections.wait().await;
}

/// Answers the requests of one connection, until it ends, takes too long, or makes room.
async fn attend<S>(router: Router, stream: S, sitting: Sitting, ending: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seat = sitting.seat.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let seat = seat.clone();
        request.extensions_mut().insert(seat.clone());
        let answering = router.clone().oneshot(request);
        async move {
            if seat.asks_without_a_pause() {
                // Everybody else has a turn first.
                tokio::task::yield_now().await;
            }
            let mut answered = answering.await;
            if let Ok(answer) = &mut answered
                && seat.standing() == Standing::Stranger
            {
                let headers = answer.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            seat.was_answered();
            answered
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(sitting.seats.head_time)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How it ended is the client's affair: it hung up, or it was too slow.
        _ = connection.as_mut() => return,
        () = sitting.seat.0.leave.cancelled() => return,
        () = ending.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let patience = match sitting.seat.standing() {
        Standing::Stranger => GOODBYE_UNKNOWN,
        Standing::Known | Standing::MayStop => GOODBYE,
    };
    let _ = tokio::time::timeout(patience, connection).await;
}

/// Tells a connection for which there is no place that there is none.
fn turn_away(stream: &TcpStream) {
    let _ = stream.try_write(full().as_bytes());
}

/// An answer in bytes: no request of this connection is read.
fn full() -> String {
    let body = serde_json::json!({
        "type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "connections_used_up",
        "detail": "every connection to this address is in use by somebody with a token: try again in a second, or at another address of this service",
    });
    let body = body.to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A client that hung up before it was let in is nothing; anything else passes with time.
async fn refused_by_the_system(error: &std::io::Error) {
    let hung_up = [
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionReset,
    ];
    if !hung_up.contains(&error.kind()) {
        tracing::error!(%error, "the system gives no connection");
        tokio::time::sleep(BREATH).await;
    }
}

fn complain(last: &mut Option<Instant>, places: usize) {
    let now = Instant::now();
    if last.is_none_or(|last| now - last >= COMPLAINT_EVERY) {
        *last = Some(now);
        tracing::warn!(
            places,
            "every connection is in use: whoever was there longest and may stop nothing makes room"
        );
    }
}
