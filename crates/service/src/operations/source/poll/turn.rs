//! One question to one source: what is the same whatever is asked.

use std::sync::Arc;

use reqwest::Url;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::Signal;
use tidegate_policy::dialect::{Origin, Unreadable};
use tokio::sync::Semaphore;

use super::super::feed::{self, Feed};
use super::{Kept, Polled, TASK, Trouble};
use crate::app::App;
use crate::fetch::{Answer, Ask, FetchError, Proof};
use crate::operations::{Actor, signal};
use crate::signal::gpgv;
use crate::signal::verify::openpgp::Keyring;
use crate::store::source::{self as rows, SourceRow};
use crate::store::{Lane, StoreError, transact};

/// How long one turn goes on asking, in milliseconds. What is left is asked for in the next one. With the
/// time of one request it stays below what the command line waits for.
const TURN_MS: u64 = 25_000;
/// How many signals are admitted at once: others write in between.
const GROUP: usize = 250;
/// How many days pass before the same alarm is written into the trail again.
const TOLD_EVERY_DAYS: i64 = 1;
/// The longest sentence about somebody else's nonsense.
const SENTENCE_MAX: usize = 500;

/// What is read at once, in all of this process: a tree of JSON is many times its bytes.
static READING: Semaphore = Semaphore::const_new(1);

/// One question, and what came of it so far.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    app: &'a App,
    row: &'a SourceRow,
    pub(super) feed: &'a Feed,
    pub(super) origin: Origin,
    kept: Kept,
    proof: Option<Proof>,
    until_ms: u64,
    polled: Polled,
}

impl<'a> Turn<'a> {
    pub(super) fn new(
        app: &'a App,
        row: &'a SourceRow,
        feed: &'a Feed,
        origin: Origin,
        kept: Kept,
    ) -> Self {
        Self {
            app,
            row,
            feed,
            origin,
            kept,
            proof: None,
            until_ms: app.clock.monotonic().0.saturating_add(TURN_MS),
            polled: Polled::default(),
        }
    }

    /// Returns where the last question ended.
    pub(super) fn at<T: DeserializeOwned + Default>(&self) -> Result<T, Trouble> {
        if self.kept.at.is_null() {
            return Ok(T::default());
        }
        let at = serde_json::from_value(self.kept.at.clone());
        Ok(at.map_err(StoreError::corrupt)?)
    }

    /// Returns when the source was created.
    pub(super) fn created_at(&self) -> Timestamp {
        tidegate_orchestrator::ids::from_millis(self.row.created_at)
            .unwrap_or(self.origin.received_at)
    }

    /// Says whether it has asked for long enough.
    pub(super) fn is_over(&self) -> bool {
        self.app.clock.monotonic().0 >= self.until_ms
    }

    /// Reads the address of a place that may be asked.
    pub(super) fn place(&self, url: &str) -> Result<Url, Trouble> {
        Ok(self.app.fetch.may(url).map_err(FetchError::from)?)
    }

    /// Sets what further questions prove themselves with.
    pub(super) fn prove(&mut self, proof: Proof) {
        self.proof = Some(proof);
    }

    /// Reads the keys that documents must be signed by; `None`: nobody said that they are.
    pub(super) fn keyring(&mut self) -> Result<Option<Keyring>, Trouble> {
        let Some(name) = &self.feed.openpgp_keys else {
            return Ok(None);
        };
        gpgv::keyring(self.app, name).map(Some).map_err(|sentence| {
            self.refuse(&sentence);
            Trouble::Unproved {
                code: "openpgp_keys_unreadable",
                sentence,
                is_of_all: true,
            }
        })
    }

    /// Checks what is beside a document by those keys.
    pub(super) async fn is_signed(
        &self,
        keys: &Keyring,
        document: &[u8],
        beside: &[u8],
    ) -> Result<(), Trouble> {
        let checked = gpgv::verify(self.app, keys, document, beside).await;
        checked.map_err(|why| Trouble::Unproved {
            code: why.code(),
            sentence: why.to_string(),
            is_of_all: why.is_of_all(),
        })
    }

    /// Reads a secret from where it is kept.
    pub(super) fn secret(&self, from: &crate::connector::Credential) -> Result<String, Trouble> {
        feed::secret(self.app, from).map_err(Trouble::Credential)
    }

    /// Asks with what the feed proves itself with. Only its own host is shown that.
    pub(super) async fn fetch(&mut self, mut ask: Ask) -> Result<Answer, Trouble> {
        let proof = match &self.proof {
            Some(proof) => proof.clone(),
            None => feed::proof(self.app, self.feed).map_err(Trouble::Credential)?,
        };
        let own = self.place(&self.feed.url)?;
        if own.origin() == ask.url.origin() {
            ask.proof = proof;
        }
        self.fetch_bare(ask).await
    }

    /// Asks with what the request itself has.
    pub(super) async fn fetch_bare(&mut self, ask: Ask) -> Result<Answer, Trouble> {
        let row = rows::source_find(self.app.store.read(), &self.row.name).await?;
        if row.is_none_or(|row| row.revoked_at.is_some()) {
            return Err(Trouble::Revoked);
        }
        self.polled.requests += 1;
        Ok(self.app.fetch.ask(ask).await?)
    }

    /// Reads bytes beside the tasks: it may take a while, and one at a time.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        body: &Arc<Vec<u8>>,
        how: impl FnOnce(&[u8], &Origin) -> Result<T, Unreadable> + Send + 'static,
    ) -> Result<T, Trouble> {
        let (body, origin) = (body.clone(), self.origin.clone());
        let place = READING.acquire().await;
        let read = tokio::task::spawn_blocking(move || how(&body, &origin)).await;
        drop(place);
        let lost = |_| Unreadable::new("unreadable", "what came could not be read at all");
        Ok(read.map_err(lost)??)
    }

    /// Admits signals that were read from these bytes: durable when this returns.
    pub(super) async fn admit(&mut self, signals: Vec<Signal>, body: &[u8]) -> Result<(), Trouble> {
        let actor = Actor::task(TASK);
        for group in signals.chunks(GROUP) {
            let admitted = signal::admit_part(self.app, &actor, group.to_vec(), body).await?;
            self.polled.admitted += admitted.admitted;
            self.polled.repeated += admitted.repeated;
        }
        Ok(())
    }

    /// Counts things that report nothing.
    pub(super) fn ignore(&mut self, count: usize) {
        self.polled.ignored += count;
    }

    /// Notes something that is not taken; the rest is.
    pub(super) fn refuse(&mut self, sentence: &str) {
        self.polled.refused += 1;
        let first = || tidegate_policy::dialect::clipped(sentence);
        self.polled.refused_why.get_or_insert_with(first);
    }

    /// Keeps where the next question goes on, after everything before it is durable.
    pub(super) async fn keep(&mut self, at: &impl Serialize) -> Result<(), Trouble> {
        self.kept.at = serde_json::to_value(at).map_err(StoreError::corrupt)?;
        let text = serde_json::to_string(&self.kept).map_err(StoreError::corrupt)?;
        let name = &self.row.name;
        let done: Result<(), StoreError> =
            transact!(self.app.store, Lane::Ordinary, "source_progress", |txn| {
                rows::progress_set(txn, name, &text).await
            });
        Ok(done?)
    }

    /// Keeps how the question ended: `Ok` when all of the answer was read, or as much as one turn takes
    /// and there is more.
    pub(super) async fn finish(mut self, done: Result<bool, Trouble>) -> Result<Polled, Trouble> {
        let failed = match done {
            Ok(more) => {
                self.polled.more = more;
                None
            }
            // Not the source's fault: it is asked again.
            Err(trouble @ (Trouble::Store(_) | Trouble::Revoked)) => return Err(trouble),
            Err(trouble) => Some(trouble),
        };
        if let Some(alarm) = failed.as_ref().filter(|trouble| trouble.is_alarm()) {
            self.refuse(&alarm.to_string());
        }
        let done: Result<(), StoreError> = transact!(
            self.app.store,
            Lane::Ordinary,
            "source_polled",
            |txn| {
                let now = txn.now();
                let mut kept = self.kept.clone();
                let is_told = note(&mut kept, &self.polled, now);
                let name = &self.row.name;
                let text = serde_json::to_string(&kept).map_err(StoreError::corrupt)?;
                match &failed {
                    None => rows::answered(txn, name, Some(&text), now).await?,
                    Some(trouble) => {
                        rows::progress_set(txn, name, &text).await?;
                        let sentence: String =
                            trouble.to_string().chars().take(SENTENCE_MAX).collect();
                        rows::unanswered(txn, name, &sentence).await?;
                    }
                }
                if is_told {
                    let detail = json!({
                        "refused": self.polled.refused, "why": self.polled.refused_why, "whole": failed.is_some(),
                    });
                    txn.audit(Actor::task(TASK).entry(
                        "source.refused",
                        format!("source:{name}"),
                        detail,
                    ));
                }
                Ok(())
            }
        );
        done?;
        if self.polled.refused > 0 {
            let (source, why) = (&self.row.name, &self.polled.refused_why);
            tracing::warn!(
                source,
                why,
                refused = self.polled.refused,
                "what a source answered was not taken"
            );
        }
        match failed {
            None => Ok(self.polled),
            Some(trouble) => Err(trouble),
        }
    }
}

/// Adds what was refused to what is kept of that; says whether the trail must tell.
fn note(kept: &mut Kept, polled: &Polled, now: Timestamp) -> bool {
    let Some(why) = polled.refused_why.as_ref().filter(|_| polled.refused > 0) else {
        return false;
    };
    let refused = &mut kept.refused;
    refused.count = refused.count.saturating_add(polled.refused);
    refused.at = Some(now);
    let is_same = &refused.sentence == why;
    refused.sentence.clone_from(why);
    let is_recent = |told: Timestamp| (now - told).num_days() < TOLD_EVERY_DAYS;
    if is_same && refused.told_at.is_some_and(is_recent) {
        return false;
    }
    refused.told_at = Some(now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_alarm_is_told_once_a_day_and_another_at_once() {
        let mut kept = Kept::default();
        let of = |why: &str| Polled {
            refused: 2,
            refused_why: Some(why.to_owned()),
            ..Polled::default()
        };
        assert!(!note(
            &mut kept,
            &Polled::default(),
            at("2026-01-01T00:00:00Z")
        ));
        assert!(note(&mut kept, &of("a"), at("2026-01-01T00:00:00Z")));
        assert!(!note(&mut kept, &of("a"), at("2026-01-01T23:00:00Z")));
        assert!(note(&mut kept, &of("b"), at("2026-01-01T23:01:00Z")));
        assert!(!note(&mut kept, &of("b"), at("2026-01-02T22:00:00Z")));
        assert!(note(&mut kept, &of("b"), at("2026-01-02T23:02:00Z")));
        assert_eq!(kept.refused.count, 10);
    }
}
