//! The keys of issuers, fetched when they are needed and remembered in memory.
//!
//! `verify::jwks` says when; here is who fetches: one at a time for each address, whoever asks meanwhile waits
//! for that one. A fetch goes on when the request that caused it has gone, so that nobody can leave it half done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_orchestrator::ids::Timestamp;
use tokio::sync::watch;

use super::ask;
use super::verify::jwks::{Claim, Key, KeyCache, KeySet, Lookup, SET_MAX};
use crate::app::App;

/// How long whoever waits for somebody else's fetch waits: somewhat longer than a fetch may take.
const WAIT_MAX: Duration = Duration::from_secs(12);
/// How often a key is looked for before nobody can tell: once, after a fetch, and after one that came between.
const LOOKS: usize = 3;

/// What is remembered of every issuer, by the address of its keys.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<Mutex<BTreeMap<String, Arc<Cell>>>>);

#[derive(Debug, Default)]
struct Cell {
    cache: Mutex<KeyCache>,
    ended: watch::Sender<()>,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// The issuer has none of that id.
    Unknown,
    /// The set cannot be fetched, or is too old to be believed: nobody can tell.
    Unavailable,
}

impl Keys {
    fn cell(&self, address: &str) -> Arc<Cell> {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cells.entry(address.to_owned()).or_default().clone()
    }
}

impl Cell {
    fn with<T>(&self, look: impl FnOnce(&mut KeyCache) -> T) -> T {
        look(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Finds a key at an address, and fetches the set when that is needed.
///
/// # Errors
///
/// When the issuer has no such key, or nobody can tell.
pub async fn find(app: &App, address: &str, kid: &str) -> Result<Arc<Key>, NoKey> {
    let cell = app.inbound.keys.cell(address);
    for _ in 0..LOOKS {
        // Subscribed before the look: a fetch that ends in between is not missed.
        let mut ended = cell.ended.subscribe();
        let now = app.clock.now();
        match cell.with(|cache| cache.lookup(kid, now)) {
            Lookup::Found(_) if cell.with(|cache| cache.is_stale(now)) => {
                return Err(NoKey::Unavailable);
            }
            Lookup::Found(key) => return Ok(key),
            Lookup::Negative => return Err(NoKey::Unknown),
            Lookup::Unavailable => return Err(NoKey::Unavailable),
            Lookup::Refresh => begin(app, address, &cell, now),
        }
        let _ = tokio::time::timeout(WAIT_MAX, ended.changed()).await;
    }
    Err(NoKey::Unavailable)
}

/// Fetches the set of an address when it is due, whether or not anybody asks for a key; returns when it
/// was last fetched.
pub fn refresh(app: &App, address: &str) -> Option<Timestamp> {
    let cell = app.inbound.keys.cell(address);
    let now = app.clock.now();
    if cell.with(|cache| cache.is_due(now)) {
        begin(app, address, &cell, now);
    }
    cell.with(|cache| cache.fetched_at())
}

/// Begins a fetch, unless somebody has.
fn begin(app: &App, address: &str, cell: &Arc<Cell>, now: Timestamp) {
    let Some(claim) = cell.with(|cache| cache.begin_refresh(now)) else {
        return;
    };
    let (app, address, cell) = (app.clone(), address.to_owned(), cell.clone());
    let background = app.background.clone();
    background.spawn(async move { fetch(&app, &address, &cell, claim).await });
}

async fn fetch(app: &App, address: &str, cell: &Cell, claim: Claim) {
    let fetched = ask::get(app, address, SET_MAX).await;
    let set = fetched.and_then(|body| KeySet::parse(&body).map_err(|error| error.to_string()));
    match &set {
        Ok(set) if set.is_empty() => {
            tracing::warn!(address, "an issuer publishes no key that can be used");
        }
        Ok(_) => {}
        Err(trouble) => tracing::warn!(address, trouble, "the keys of an issuer cannot be fetched"),
    }
    let now = app.clock.now();
    cell.with(|cache| cache.end_refresh(claim, set.ok(), now));
    cell.ended.send_replace(());
}

#[cfg(test)]
mod tests {
    use axum::extract::State;
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::fetch::{Bounds, Fetcher};
    use crate::store::testing::apps_standing;

    type Published = Arc<Mutex<Option<&'static str>>>;

    /// Publishes one key of this id; none: the host is down.
    async fn published(State(kid): State<Published>) -> Result<String, StatusCode> {
        let kid = kid.lock().unwrap().ok_or(StatusCode::BAD_GATEWAY)?;
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        Ok(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x}]}).to_string())
    }

    const MINUTE: u32 = 60 * 1000;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_key_that_was_taken_out_is_refused_within_ten_minutes_and_none_is_believed_after_a_day()
     {
        for mut app in apps_standing().await {
            let kid = Published::default();
            *kid.lock().unwrap() = Some("old");
            let router = axum::Router::new()
                .fallback(published)
                .with_state(kid.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let host = listener.local_addr().unwrap().to_string();
            app.background.spawn(async move {
                let _ = axum::serve(listener, router).await;
            });
            app.fetch = Fetcher::granting(std::slice::from_ref(&host), Bounds::default()).unwrap();
            let address = format!("http://{host}/keys");
            let has = async |kid: &str| find(&app, &address, kid).await.map(drop);
            assert_eq!(has("old").await, Ok(()));
            assert_eq!(has("new").await, Err(NoKey::Unknown));
            *kid.lock().unwrap() = Some("new");
            app.clock.advance(8 * MINUTE);
            assert_eq!(has("old").await, Ok(()), "remembered");
            app.clock.advance(2 * MINUTE);
            assert_eq!(has("old").await, Err(NoKey::Unknown));
            assert_eq!(has("new").await, Ok(()));
            *kid.lock().unwrap() = None;
            app.clock.advance(23 * 60 * MINUTE);
            assert_eq!(has("new").await, Ok(()), "the host is down");
            app.clock.advance(60 * MINUTE);
            assert_eq!(has("new").await, Err(NoKey::Unavailable), "for a day");
            *kid.lock().unwrap() = Some("new");
            app.clock.advance(2 * MINUTE);
            assert_eq!(has("new").await, Ok(()));
        }
    }
}
