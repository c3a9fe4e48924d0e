//! Stop-watches: percentiles, look-ups at a steady pace, peaks of memory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::support::Random;
use crate::support::api::Api;

/// Times in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Adds one.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e3);
    }

    /// Adds those of another.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the time that this share of all stays within (nearest rank).
    pub(crate) fn within(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        let last = sorted.len().saturating_sub(1);
        sorted
            .get(rank.saturating_sub(1).min(last))
            .copied()
            .unwrap_or(f64::NAN)
    }

    /// Writes p50, p99 and the longest, for people.
    pub(crate) fn text(&self) -> String {
        format!(
            "p50 {:.1} · p99 {:.1} · max {:.1} ms",
            self.within(0.5),
            self.within(0.99),
            self.within(1.0)
        )
    }

    /// Writes them as numbers.
    pub(crate) fn figures(&self) -> Value {
        json!({"samples": self.len(), "p50_ms": self.within(0.5), "p99_ms": self.within(0.99),
            "max_ms": self.within(1.0)})
    }
}

/// How often each kind of question is asked.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Asks one question again and again, at a steady pace, until told to end; returns how long each answer took.
///
/// A question that had to wait for the answer before counts from when it was due, so that a stall does not
/// count once only. Otherwise it counts from when it was sent: our own timer fires up to a millisecond late.
pub(crate) async fn ask<F>(api: Api, end: Arc<AtomicBool>, seed: u64, path: F) -> Times
where
    F: Fn(&mut Random) -> String + Send + 'static,
{
    let mut times = Times::default();
    let mut random = Random(seed);
    let mut ticks = tokio::time::interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut answered = Instant::now();
    while !end.load(Ordering::Relaxed) {
        let due = ticks.tick().await.into_std();
        let begun = if answered > due { due } else { Instant::now() };
        api.get(&path(&mut random)).await.ok();
        times.push(begun.elapsed());
        answered = Instant::now();
    }
    times
}

/// Posts a JSON document from the connect to the last byte of the answer; returns how long that took, and the answer.
///
/// By hand and on this thread: a client with a runtime of its own wakes several of its threads for each answer, and
/// beside a machine that is full that is what would be measured.
pub(crate) fn post(api: &Api, path: &str, body: &Value) -> (Duration, Value) {
    let address = api.url.trim_start_matches("http://");
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        api.token,
        body.len()
    );
    let mut answer = String::new();
    let begun = Instant::now();
    let read = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)
    });
    let time = begun.elapsed();
    read.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 20"), "{answer}");
    (time, serde_json::from_str(body).expect("JSON"))
}

/// Forgets the peak of a process's memory, so that the next one is of what comes next.
pub(crate) fn forget_peak(pid: u32) {
    // Value 5 resets the high water mark (proc_pid_clear_refs(5)); where that is not allowed, the
    // peak is that of the whole life, which errs on the strict side.
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Writes bytes as megabytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
