//! Advisories of a provider: its list is read, and each document that was changed since.
//!
//! A document that cannot be had is noted and tried again a few times; it stands in no other's way. A
//! hash beside a document is checked, and must be there when the source is trusted.
//!
//! When the operator has pinned OpenPGP keys, every document must be signed by one of them. One that is not is
//! read by nobody and given up by nobody: until it is, or is listed no more, no answer is whole, and the source
//! falls silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::dialect::csaf::directory::Listed;
use tidegate_policy::dialect::csaf::{self, directory};
use tidegate_policy::dialect::{Origin, Unreadable};

use super::Trouble;
use super::turn::Turn;
use crate::fetch::{Ask, FetchError};
use crate::signal::verify::openpgp::Keyring;

/// The most bytes of a document.
const DOCUMENT_MAX: usize = 8 << 20;
/// The most bytes of a list of lines: the largest provider has a quarter of a million of them.
const LINES_MAX: usize = 32 << 20;
/// The most bytes of a feed, which takes more memory once it is read.
const FEED_MAX: usize = 16 << 20;
/// The most bytes of a signature: 16 of the largest keys have less.
const SIGNATURE_MAX: usize = 64 << 10;
/// The most bytes of a hash.
const HASH_MAX: usize = 4096;
/// How far back the first question goes, unless the source says.
const BACK: TimeDelta = TimeDelta::days(90);
/// How often a document is asked for that cannot be had.
const TRIES_MAX: u8 = 5;
/// How many documents are tried again at most.
const AGAIN_MAX: usize = 100;
/// How many documents without an instant are read, at every question.
const UNDATED_MAX: usize = 200;

/// What is kept between two questions, by list. Decoded for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    #[serde(default)]
    lists: BTreeMap<String, Place>,
}

/// How far a list was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// Everything that was changed before was read.
    #[serde(default)]
    since: Option<Timestamp>,
    /// What was changed at that very instant and was read.
    #[serde(default)]
    done: BTreeSet<String>,
    /// What could not be had, and how often it was tried.
    #[serde(default)]
    again: BTreeMap<String, u8>,
}

/// Where a provider lists its documents.
#[derive(Debug, Clone)]
enum List {
    Directory(Url),
    Feed(Url),
}

impl List {
    const fn url(&self) -> &Url {
        match self {
            Self::Directory(url) | Self::Feed(url) => url,
        }
    }

    /// Returns the address of a document. What a list says is a claim: the fetcher checks the host.
    fn document(&self, turn: &Turn<'_>, one: &Listed) -> Result<Url, Trouble> {
        match self {
            // Read as a path without steps upwards, so that it stays below the directory.
            Self::Directory(url) => turn.place(&format!("{url}{}", one.location)),
            Self::Feed(_) => turn.place(&one.location),
        }
    }
}

/// Asks for the lists, and for each document that was changed.
pub(super) async fn poll(turn: &mut Turn<'_>) -> Result<bool, Trouble> {
    let mut at: At = turn.at()?;
    let first = turn.feed.since.unwrap_or_else(|| turn.created_at() - BACK);
    let keys = turn.keyring()?;
    let mut unproved = None;
    for list in lists(turn).await? {
        let key = list.url().to_string();
        let listed = listed(turn, &list).await?;
        let mut place = at.lists.get(&key).cloned().unwrap_or_default();
        let wanted = pick(&mut place, listed, first)?;
        for one in wanted {
            if turn.is_over() {
                return unproved.map_or(Ok(true), Err);
            }
            match document(turn, &list, &one, keys.as_ref()).await {
                Ok(()) => place.took(&one, turn.origin.received_at, true),
                Err(trouble) if is_of_document(&trouble) => {
                    turn.refuse(&format!("{}: {trouble}", one.location));
                    place.took(&one, turn.origin.received_at, false);
                }
                Err(trouble @ Trouble::Unproved { is_of_all, .. }) => {
                    turn.refuse(&format!("{}: {trouble}", one.location));
                    if is_of_all || !place.keeps(&one, turn.origin.received_at) {
                        return Err(trouble);
                    }
                    unproved.get_or_insert(trouble);
                }
                Err(trouble) => return Err(trouble),
            }
            at.lists.insert(key.clone(), place.clone());
            turn.keep(&at).await?;
        }
    }
    unproved.map_or(Ok(false), Err)
}

async fn fetched(turn: &mut Turn<'_>, url: Url, max: usize) -> Result<Arc<Vec<u8>>, Trouble> {
    let answer = turn.fetch(Ask::get(url, "*/*", max)).await?;
    Ok(Arc::new(answer.ok()?))
}

/// Finds out where the documents are listed.
async fn lists(turn: &mut Turn<'_>) -> Result<Vec<List>, Trouble> {
    let url = turn.place(&turn.feed.url)?;
    if url.path().ends_with('/') {
        return Ok(vec![List::Directory(url)]);
    }
    if !url.path().ends_with("/provider-metadata.json") {
        return Ok(vec![List::Feed(url)]);
    }
    let body = fetched(turn, url, HASH_MAX * 64).await?;
    let provider = turn
        .read(&body, |body, _: &Origin| directory::provider(body))
        .await?;
    let mut lists = Vec::new();
    for feed in &provider.feeds {
        lists.push(List::Feed(turn.place(feed)?));
    }
    // Both list the same documents.
    if lists.is_empty() {
        for directory in &provider.directories {
            let directory = directory.trim_end_matches('/');
            lists.push(List::Directory(turn.place(&format!("{directory}/"))?));
        }
    }
    if lists.is_empty() {
        let sentence = "the provider names neither a ROLIE feed nor a directory";
        return Err(Unreadable::new("nothing_listed", sentence).into());
    }
    Ok(lists)
}

async fn listed(turn: &mut Turn<'_>, list: &List) -> Result<Vec<Listed>, Trouble> {
    match list {
        List::Feed(url) => {
            let body = fetched(turn, url.clone(), FEED_MAX).await?;
            turn.read(&body, |body, _: &Origin| directory::feed(body))
                .await
        }
        List::Directory(url) => {
            let changes = turn.place(&format!("{url}changes.csv"))?;
            let answer = turn.fetch(Ask::get(changes, "text/csv", LINES_MAX)).await?;
            if answer.status != 404 {
                let body = Arc::new(answer.ok()?);
                return turn
                    .read(&body, |body, _: &Origin| directory::changes(body))
                    .await;
            }
            let index = turn.place(&format!("{url}index.txt"))?;
            let body = fetched(turn, index, LINES_MAX).await?;
            turn.read(&body, |body, _: &Origin| directory::index(body))
                .await
        }
    }
}

/// Picks what is to be read of a list, the earliest change first, and what could not be had before all.
fn pick(
    place: &mut Place,
    listed: Vec<Listed>,
    first: Timestamp,
) -> Result<Vec<Listed>, Unreadable> {
    let since = place.since.unwrap_or(first);
    let (mut again, mut wanted, mut undated) = (Vec::new(), Vec::new(), Vec::new());
    for one in listed {
        let is_new =
            |at: Timestamp| at > since || (at == since && !place.done.contains(&one.location));
        match one.updated_at {
            None => undated.push(one),
            Some(_) if place.again.contains_key(&one.location) => again.push(one),
            Some(at) if is_new(at) => wanted.push(one),
            Some(_) => {}
        }
    }
    if undated.len() > UNDATED_MAX {
        let sentence = format!(
            "the list says of {} documents not when they were changed, and {UNDATED_MAX} are read at most: name one that does (changes.csv or a ROLIE feed)",
            undated.len()
        );
        return Err(Unreadable::new("undated", sentence));
    }
    // What is not listed any more is not asked for any more.
    let still: BTreeSet<&String> = again.iter().map(|one| &one.location).collect();
    place.again.retain(|location, _| still.contains(location));
    wanted.sort_by_key(|one| one.updated_at);
    again.append(&mut wanted);
    again.append(&mut undated);
    Ok(again)
}

impl Place {
    /// Moves on behind a document that is asked for at every question until somebody has signed it. Says no
    /// when there are too many of those: then nothing moves.
    fn keeps(&mut self, one: &Listed, now: Timestamp) -> bool {
        if one.updated_at.is_none() {
            return true;
        }
        if self.again.len() >= AGAIN_MAX && !self.again.contains_key(&one.location) {
            return false;
        }
        self.again.insert(one.location.clone(), 0);
        self.moved_behind(one, now);
        true
    }

    /// Moves on behind a document that was read, or could not be had.
    fn took(&mut self, one: &Listed, now: Timestamp, is_read: bool) {
        if is_read {
            self.again.remove(&one.location);
        } else if one.updated_at.is_some() {
            let tries = self
                .again
                .get(&one.location)
                .copied()
                .unwrap_or(0)
                .saturating_add(1);
            if tries >= TRIES_MAX || (tries == 1 && self.again.len() >= AGAIN_MAX) {
                self.again.remove(&one.location);
            } else {
                self.again.insert(one.location.clone(), tries);
            }
        }
        self.moved_behind(one, now);
    }

    fn moved_behind(&mut self, one: &Listed, now: Timestamp) {
        // What says that it is changed later than now is read again at every question, and hides nothing.
        let Some(at) = one.updated_at.filter(|at| *at <= now) else {
            return;
        };
        if self.since.is_none_or(|since| at > since) {
            self.since = Some(at);
            self.done.clear();
        }
        if self.since == Some(at) {
            self.done.insert(one.location.clone());
        }
    }
}

async fn document(
    turn: &mut Turn<'_>,
    list: &List,
    one: &Listed,
    keys: Option<&Keyring>,
) -> Result<(), Trouble> {
    let url = list.document(turn, one)?;
    let hashes: Vec<String> = match list {
        List::Directory(_) => vec![format!("{url}.sha512"), format!("{url}.sha256")],
        List::Feed(_) => one.hashes.clone(),
    };
    let signature = one
        .signature
        .clone()
        .unwrap_or_else(|| format!("{url}.asc"));
    let body = fetched(turn, url, DOCUMENT_MAX).await?;
    // Before anything else is looked at: a document that was changed on the way is a forgery, not a slip.
    if let Some(keys) = keys {
        let beside = beside(turn, &signature).await?;
        turn.is_signed(keys, &body, &beside).await?;
    }
    let mut is_proved = keys.is_some();
    for hash in hashes {
        let url = turn.place(&hash)?;
        let answer = turn.fetch(Ask::get(url, "*/*", HASH_MAX)).await?;
        if answer.status == 404 {
            continue;
        }
        check_hash(&body, &answer.ok()?)?;
        is_proved = true;
        break;
    }
    if turn.feed.trusted && !is_proved {
        let sentence = "there is no hash beside it, which a trusted provider has";
        return Err(Unreadable::new("hash_missing", sentence).into());
    }
    let signals = turn.read(&body, csaf::read).await?;
    turn.admit(signals, &body).await
}

/// Fetches the signature of a document. That it is not to be had is no slip either.
async fn beside(turn: &mut Turn<'_>, signature: &str) -> Result<Arc<Vec<u8>>, Trouble> {
    let fetched = match turn.place(signature) {
        Ok(url) => fetched(turn, url, SIGNATURE_MAX).await,
        Err(trouble) => Err(trouble),
    };
    fetched.map_err(|trouble| match trouble {
        trouble if is_of_document(&trouble) => Trouble::Unproved {
            code: "signature_missing",
            sentence: format!("there is no signature beside it: {trouble}"),
            is_of_all: false,
        },
        other => other,
    })
}

/// Checks a document by what is written beside it: the digest, and often a name behind it.
fn check_hash(document: &[u8], said: &[u8]) -> Result<(), Unreadable> {
    let said = String::from_utf8_lossy(said).to_lowercase();
    let said = said.split_whitespace().next().unwrap_or_default();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let real = match said.len() {
        64 => hex(&Sha256::digest(document)),
        128 => hex(&Sha512::digest(document)),
        _ => {
            let sentence = "the hash beside it is neither of SHA-256 nor of SHA-512";
            return Err(Unreadable::new("hash_invalid", sentence));
        }
    };
    if real == said {
        return Ok(());
    }
    let sentence = "it differs from the hash beside it";
    Err(Unreadable::new("hash_differs", sentence))
}

/// Says whether one document is at fault, and the others may be had.
const fn is_of_document(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Unreadable(_) => true,
        Trouble::Fetch(error) => match error {
            FetchError::Status { status, .. } => matches!(status, 400 | 404 | 406 | 410 | 451),
            FetchError::Unreachable { .. } | FetchError::Lost(_) | FetchError::Request(_) => false,
            FetchError::Reach(_)
            | FetchError::Address(_)
            | FetchError::Redirected { .. }
            | FetchError::TooLarge { .. }
            | FetchError::Encoding(_)
            | FetchError::Broken
            | FetchError::Stalled { .. }
            | FetchError::Slow { .. } => true,
        },
        Trouble::Unproved { .. }
        | Trouble::Credential(_)
        | Trouble::Revoked
        | Trouble::Store(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn listed(location: &str, updated: Option<&str>) -> Listed {
        Listed {
            location: location.to_owned(),
            updated_at: updated.map(at),
            hashes: Vec::new(),
            signature: None,
        }
    }

    fn picked(place: &mut Place, list: &[Listed]) -> Vec<String> {
        let wanted = pick(place, list.to_vec(), at("2024-01-01T00:00:00Z")).unwrap();
        wanted.into_iter().map(|one| one.location).collect()
    }

    #[test]
    fn only_what_was_changed_is_read_and_nothing_of_the_same_instant_is_lost() {
        let now = at("2024-06-01T00:00:00Z");
        let mut place = Place::default();
        let mut list = vec![
            listed("c", Some("2024-03-01T00:00:00Z")),
            listed("b", Some("2024-02-01T00:00:00Z")),
            listed("a", Some("2023-12-31T00:00:00Z")),
        ];
        assert_eq!(picked(&mut place, &list), ["b", "c"]);
        list[..2]
            .iter()
            .rev()
            .for_each(|one| place.took(one, now, true));
        assert!(picked(&mut place, &list).is_empty());
        list.push(listed("d", Some("2024-03-01T00:00:00Z")));
        list.push(listed("e", Some("2031-01-01T00:00:00Z")));
        assert_eq!(picked(&mut place, &list), ["d", "e"]);
        list[3..].iter().for_each(|one| place.took(one, now, true));
        assert_eq!(
            picked(&mut place, &list),
            ["e"],
            "what is still to come hides nothing"
        );
        list[1].updated_at = Some(at("2024-04-01T00:00:00Z"));
        assert_eq!(picked(&mut place, &list), ["b", "e"]);
    }

    #[test]
    fn what_cannot_be_had_is_tried_again_and_given_up_in_the_end() {
        let now = at("2024-06-01T00:00:00Z");
        let mut place = Place::default();
        let list = [
            listed("a", Some("2024-02-01T00:00:00Z")),
            listed("b", Some("2024-03-01T00:00:00Z")),
        ];
        place.took(&list[0], now, false);
        place.took(&list[1], now, true);
        for _ in 1..TRIES_MAX {
            assert_eq!(picked(&mut place, &list), ["a"]);
            place.took(&list[0], now, false);
        }
        assert!(picked(&mut place, &list).is_empty());
        assert_eq!(place.since, list[1].updated_at);
    }

    #[test]
    fn what_nobody_signed_is_asked_for_until_somebody_has() {
        let now = at("2024-06-01T00:00:00Z");
        let mut place = Place::default();
        let list = [listed("a", Some("2024-02-01T00:00:00Z"))];
        for _ in 0..=TRIES_MAX {
            assert_eq!(picked(&mut place, &list), ["a"]);
            assert!(place.keeps(&list[0], now));
        }
        // It cannot be had for a while, and then it can.
        place.took(&list[0], now, false);
        assert_eq!(picked(&mut place, &list), ["a"]);
        place.took(&list[0], now, true);
        assert!(picked(&mut place, &list).is_empty());
        for number in 0..AGAIN_MAX {
            assert!(place.keeps(
                &listed(&number.to_string(), Some("2024-02-02T00:00:00Z")),
                now
            ));
        }
        assert!(!place.keeps(&listed("b", Some("2024-03-01T00:00:00Z")), now));
        assert_eq!(
            place.since,
            Some(at("2024-02-02T00:00:00Z")),
            "what does not fit is not passed"
        );
    }

    #[test]
    fn what_says_no_instant_is_read_every_time_and_only_if_it_is_little() {
        let mut place = Place::default();
        let mut list = vec![listed("a", None)];
        assert_eq!(picked(&mut place, &list), ["a"]);
        place.took(&list[0], at("2024-06-01T00:00:00Z"), true);
        assert_eq!(picked(&mut place, &list), ["a"]);
        list.resize(UNDATED_MAX + 1, list[0].clone());
        let refused = pick(&mut place, list, at("2024-01-01T00:00:00Z")).unwrap_err();
        assert_eq!(refused.code, "undated");
    }

    #[test]
    fn a_document_is_what_the_hash_beside_it_says() {
        let code = |said: &str| {
            check_hash(b"abc", said.as_bytes())
                .err()
                .map(|error| error.code)
        };
        let sha256 = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        assert_eq!(code(&format!("{sha256}  advisory.json\n")), None);
        assert_eq!(code(&sha256.replace('7', "8")), Some("hash_differs"));
        assert_eq!(code("nothing"), Some("hash_invalid"));
        let sha512 = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(code(sha512), None);
    }
}
