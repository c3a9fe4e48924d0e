//! Silence: whoever should report and is not heard is blind, and whoever needs it is held by a rule.
//!
//! Nothing is decided here but whether a source is heard. It says itself that it sends nothing, or nothing
//! was heard for as long as it says; it is heard again by the next word that proves itself. Both are audited.

use serde_json::json;
use tidegate_orchestrator::ids::{Timestamp, from_millis};
use tidegate_policy::time::Seconds;

use super::progress::Progress;
use super::{SourceConfig, config_of};
use crate::app::App;
use crate::operations::Actor;
use crate::store::source::{self as rows, StateRow};
use crate::store::{Lane, StoreError, policy, transact};

/// Who finds that a source is blind.
const TASK: &str = "sources";

/// How old the keys of an issuer may be: then nothing that it sends is believed.
const KEYS_AGE_MAX: Seconds = Seconds(86_400);

/// Says why a source is blind; `None`: it is heard.
#[must_use]
pub fn why_blind(state: &StateRow, config: &SourceConfig, now: Timestamp) -> Option<String> {
    if let Some(why) = &state.stopped {
        return Some(format!("it says that it sends nothing: {why}"));
    }
    if keys_expired(state, config, now) {
        return Some(
            "JWKS expired: the keys of its issuer could not be fetched for a day".to_owned(),
        );
    }
    let silent_after = config.silent_after();
    let heard = from_millis(state.heard_at).unwrap_or(Timestamp::UNIX_EPOCH);
    let after = silent_after?;
    if heard > now {
        return Some(
            "its last word is from a clock that was ahead: it was not heard since".to_owned(),
        );
    }
    if !after.has_passed(heard, now) {
        return None;
    }
    let seconds = match after.0 {
        1 => "a second".to_owned(),
        seconds => format!("{seconds} seconds"),
    };
    let silent = format!("nothing was heard of it for {seconds}");
    Some(match &state.trouble {
        Some(trouble) => format!("{silent}: {trouble}"),
        None => silent,
    })
}

/// Says whether the keys of an issuer are so old that what it sends is refused. Since it was created, when they
/// were never fetched.
fn keys_expired(state: &StateRow, config: &SourceConfig, now: Timestamp) -> bool {
    let stream = config.stream.as_ref();
    if stream.is_none_or(|stream| stream.jwks_url.is_none()) {
        return false;
    }
    let progress = Progress::of(state).unwrap_or_default();
    // What was never fetched has never been heard either: then the instant is the one of its creation.
    let since = progress.keys_at.or_else(|| from_millis(state.heard_at));
    KEYS_AGE_MAX.has_passed(since.unwrap_or(Timestamp::UNIX_EPOCH), now)
}

/// Looks at every source in use, and writes what has changed. Returns how many did.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn look(app: &App) -> Result<usize, StoreError> {
    let sources = rows::sources(app.store.read()).await?;
    if sources.is_empty() {
        return Ok(0);
    }
    let states = rows::states(app.store.read()).await?;
    let now = app.store.now().await?;
    let mut changed = 0;
    for source in sources.iter().filter(|source| source.revoked_at.is_none()) {
        let Some(state) = states.get(&source.name) else {
            continue;
        };
        let (_, config) = config_of(source)?;
        if why_blind(state, &config, now).is_some() != state.blind_since.is_some()
            && turn(app, &source.name, &config).await?
        {
            changed += 1;
        }
    }
    if changed > 0 {
        app.wake.judge();
    }
    Ok(changed)
}

/// Writes that a source is blind or heard again, by what is known of it in the transaction.
async fn turn(app: &App, name: &str, config: &SourceConfig) -> Result<bool, StoreError> {
    transact!(app.store, Lane::Ordinary, "source_silence", |txn| {
        let now = txn.now();
        let states = rows::states(txn).await?;
        let Some(state) = states.get(name) else {
            return Ok(false);
        };
        let why = why_blind(state, config, now);
        if !rows::blind_set(txn, name, why.as_deref(), now).await? {
            return Ok(false);
        }
        policy::facts_changed(txn).await?;
        let action = if why.is_some() {
            "source.blind"
        } else {
            "source.heard"
        };
        let detail = json!({
            "why": why, "heard_at": from_millis(state.heard_at), "blind_since": state.blind_since.and_then(from_millis),
        });
        txn.audit(Actor::task(TASK).entry(action, format!("source:{name}"), detail));
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::source::SourceRow;
    use crate::store::testing::apps_standing;

    const HOUR: u32 = 60 * 60 * 1000;

    async fn put(app: &App, config: &serde_json::Value) {
        let row = SourceRow {
            name: "okta".to_owned(),
            profile: "security_events".to_owned(),
            config: config.to_string(),
            created_at: app.clock.now().timestamp_millis(),
            revoked_at: None,
        };
        let put: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            rows::source_insert(txn, &row, txn.now()).await
        });
        put.unwrap();
    }

    /// Writes that the keys were fetched just now.
    async fn fetched(app: &App) {
        let progress = Progress {
            keys_at: Some(app.clock.now()),
            ..Progress::default()
        };
        let put: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            rows::progress_set(txn, "okta", &progress.written()?).await
        });
        put.unwrap();
    }

    async fn why(app: &App) -> Option<String> {
        look(app).await.unwrap();
        let states = rows::states(app.store.read()).await.unwrap();
        states["okta"].blind_why.clone()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_whose_keys_are_a_day_old_is_blind_until_they_are_fetched() {
        for app in apps_standing().await {
            let stream =
                json!({"issuer": "i", "audience": ["a"], "jwks_url": "https://idp.example/keys"});
            put(&app, &json!({"vendor": "acme", "stream": stream})).await;
            app.clock.advance(12 * HOUR);
            fetched(&app).await;
            app.clock.advance(23 * HOUR);
            assert_eq!(why(&app).await, None);
            app.clock.advance(2 * HOUR);
            let said = why(&app).await.unwrap();
            assert!(said.starts_with("JWKS expired"), "{said}");
            fetched(&app).await;
            assert_eq!(why(&app).await, None);
        }
    }

    /// Writes that it was heard so many milliseconds from now.
    async fn heard(app: &App, ahead: i64) {
        let put: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            let at = txn.now() + chrono::TimeDelta::milliseconds(ahead);
            rows::heard(txn, &["okta"], at).await
        });
        put.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_word_from_the_future_is_no_sign_of_life_and_the_next_one_is() {
        for app in apps_standing().await {
            let config = json!({"vendor": "acme", "silent_after_seconds": 3600});
            put(&app, &config).await;
            // A machine that was years ahead wrote it: as it stands, nobody would notice any silence for years.
            heard(&app, 3 * 365 * 24 * 3_600_000).await;
            let said = why(&app).await.unwrap();
            assert!(said.contains("a clock that was ahead"), "{said}");
            app.clock.advance(HOUR / 2);
            assert!(why(&app).await.is_some(), "time alone does not help");
            heard(&app, 0).await;
            assert_eq!(why(&app).await, None, "a word of now replaces it");
            app.clock.advance(HOUR + 1000);
            let said = why(&app).await.unwrap();
            assert_eq!(said, "nothing was heard of it for 3600 seconds");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_is_asked_is_blind_after_three_intervals() {
        for app in apps_standing().await {
            let verify =
                json!({"url": "https://idp.example/v", "stream_id": "s", "every_seconds": 1200});
            let stream =
                json!({"issuer": "i", "audience": ["a"], "jwks_file": "k", "verify": verify});
            put(&app, &json!({"vendor": "acme", "stream": stream})).await;
            app.clock.advance(HOUR - 1000);
            assert_eq!(why(&app).await, None);
            app.clock.advance(2000);
            let said = why(&app).await.unwrap();
            assert_eq!(said, "nothing was heard of it for 3600 seconds");
        }
    }
}
