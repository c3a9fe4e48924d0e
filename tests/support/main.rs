//! What every black-box test stands on: a database of its own, the real binary as a process of its
//! own, a client, and other people's servers.
//!
//! Nothing here names a type of the service: what a test knows, a user could know.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that cannot be set up has failed, and real processes live in real time"
)]

pub(crate) mod api;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod feed;
pub(crate) mod holds;
pub(crate) mod people;
pub(crate) mod receiver;
pub(crate) mod recorder;
pub(crate) mod relay;
pub(crate) mod release;
pub(crate) mod revert;
pub(crate) mod service;
pub(crate) mod some_people;
pub(crate) mod targets;
pub(crate) mod trail;
pub(crate) mod transmitter;
pub(crate) mod webhooks;
pub(crate) mod wire;

use std::future::Future;
use std::time::{Duration, Instant};

/// Declares each test once per database: `on_each_database!(claim_one, claim_two)`, where each claim
/// is an `async fn(Database)`. PostgreSQL is left out, with a line that says so, where no server is.
macro_rules! on_each_database {
    ($($claim:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                super::$claim($crate::support::database::Database::sqlite()).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $claim() {
                if let Some(database) = $crate::support::database::Database::postgres().await {
                    super::$claim(database).await;
                }
            })+
        }
    };
}
pub(crate) use on_each_database;

/// Awaits a condition: asks again and again until it holds, for at most `seconds`.
#[track_caller]
pub(crate) fn until<F, Fut>(what: &str, seconds: u64, mut holds: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < deadline {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{caller}: after {seconds} s still not: {what}");
    }
}

/// Says that a test did not run, and why; where everything must run, that is a failure.
pub(crate) fn skipped(why: &str) {
    println!("skipped: {why}");
    assert!(
        std::env::var_os("TIDEGATE_REQUIRE_TARGETS").is_none(),
        "nothing may be skipped here: {why}"
    );
}

/// Returns the repository.
pub(crate) fn repository() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns a random number and says what it was, so that a failed test can be run again with it:
/// `TIDEGATE_TEST_SEED=…`.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("TIDEGATE_TEST_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().subsec_nanos().into()
    });
    println!("TIDEGATE_TEST_SEED={seed}");
    seed
}

/// Random numbers out of a seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Random(pub u64);

impl Random {
    /// Returns a number from 0 up to `below`.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}
