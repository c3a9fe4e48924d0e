//! A collection of a TAXII 2.1 server, page by page.
//!
//! Objects that were added together share an instant, so the instant is moved on only behind the last
//! page; until then `next` is followed. Some servers hand out each page of a `next` once, and call all of
//! them by the same: one that was asked for and did not come is lost to it. So `next` is kept only when a
//! turn ends between two pages, and given up before it is used; whoever is killed reads again from the
//! instant before, as does whoever a server has forgotten. What is known counts once.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::dialect::{Unreadable, taxii};
use tidegate_policy::digest::Digest;

use super::Trouble;
use super::turn::Turn;
use crate::fetch::Ask;

const MEDIA_TYPE: &str = "application/taxii+json;version=2.1";
/// The most bytes of one page.
const BODY_MAX: usize = 8 << 20;
/// How many objects are asked for at once; a server may send fewer.
const LIMIT: &str = "500";
/// The most pages of one turn.
const TURN_PAGES: u32 = 2_000;
/// The most pages that a collection is believed to have.
const PAGES_MAX: u32 = 100_000;
/// How far the clock of a server may be ahead.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What is kept between two questions. Decoded for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    /// Everything added until then was read. As the server wrote it: it counts finer than we do.
    #[serde(default)]
    after: Option<String>,
    /// Where reading stopped between two pages.
    #[serde(default)]
    reading: Option<Reading>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reading {
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    next: Option<String>,
    /// The latest instant of what was read.
    #[serde(default)]
    last: Option<String>,
    #[serde(default)]
    pages: u32,
}

/// What a page says of the rest.
#[derive(Debug, Clone)]
struct Rest {
    more: bool,
    next: Option<String>,
    last: Option<String>,
    /// What the page is known by.
    raw: Digest,
}

/// Asks for what was added, and admits it.
pub(super) async fn poll(turn: &mut Turn<'_>) -> Result<bool, Trouble> {
    let mut at: At = turn.at()?;
    let (mut seen, mut is_anew) = (BTreeSet::new(), false);
    if at.reading.is_some() {
        turn.keep(&At {
            reading: None,
            ..at.clone()
        })
        .await?;
    }
    for _ in 0..TURN_PAGES {
        let since = || {
            turn.feed
                .since
                .map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true))
        };
        let reading = at.reading.clone().unwrap_or_else(|| Reading {
            after: at.after.clone().or_else(since),
            ..Reading::default()
        });
        let url = page_url(turn, &reading)?;
        let answer = turn.fetch(Ask::get(url, MEDIA_TYPE, BODY_MAX)).await?;
        if [400, 404, 410].contains(&answer.status) && reading.next.is_some() && !is_anew {
            (at.reading, is_anew) = (None, true);
            seen.clear();
            continue;
        }
        let last = answer.header("x-taxii-date-added-last").map(str::to_owned);
        let body = Arc::new(answer.ok()?);
        let page = turn.read(&body, taxii::envelope).await?;
        turn.ignore(page.ignored);
        page.refused
            .iter()
            .for_each(|one| turn.refuse(&one.sentence));
        turn.admit(page.signals, &body).await?;
        let (more, next) = (page.more, page.next);
        let rest = Rest {
            more,
            next,
            last,
            raw: Digest::of(&body),
        };
        at = step(at, reading, rest, &mut seen, turn.origin.received_at)?;
        if at.reading.is_none() || turn.is_over() {
            break;
        }
    }
    turn.keep(&at).await?;
    Ok(at.reading.is_some())
}

fn page_url(turn: &Turn<'_>, reading: &Reading) -> Result<Url, Trouble> {
    let collection = turn.feed.collection.as_deref().unwrap_or_default();
    let root = turn.feed.url.trim_end_matches('/');
    let mut url = turn.place(&format!("{root}/collections/{collection}/objects/"))?;
    let mut query = url.query_pairs_mut();
    query.append_pair("limit", LIMIT);
    if let Some(after) = &reading.after {
        query.append_pair("added_after", after);
    }
    if let Some(next) = &reading.next {
        query.append_pair("next", next);
    }
    drop(query);
    Ok(url)
}

/// Says where reading goes on behind a page whose objects are all durable.
fn step(
    at: At,
    reading: Reading,
    rest: Rest,
    seen: &mut BTreeSet<(String, Digest)>,
    now: Timestamp,
) -> Result<At, Unreadable> {
    // An instant that is still to come would hide everything that is added until then.
    let believed = rest
        .last
        .filter(|last| instant(last).is_some_and(|last| last <= now + AHEAD));
    let last = later(reading.last.clone(), believed);
    if !rest.more {
        let after = later(reading.after, last);
        return Ok(At {
            after,
            reading: None,
        });
    }
    let pages = reading.pages.saturating_add(1);
    if pages > PAGES_MAX {
        let sentence = format!("the collection has more than {PAGES_MAX} pages");
        return Err(Unreadable::new("endless", sentence));
    }
    let mut go_on = Reading {
        pages,
        last,
        ..reading.clone()
    };
    match rest.next {
        Some(next) => {
            // The same `next` alone is no circle; the same with the same page is.
            if !seen.insert((next.clone(), rest.raw)) {
                let sentence = "the pages go round in a circle: the same page came twice";
                return Err(Unreadable::new("next_loops", sentence));
            }
            go_on.next = Some(next);
        }
        None => {
            // The instant is all there is to go on with. Somewhat before it, so that nothing is lost that
            // shares it; what comes again counts once.
            let before = go_on.last.as_deref().and_then(instant);
            let before = before.map(|last| last - TimeDelta::milliseconds(1));
            let was = reading.after.as_deref().and_then(instant);
            let Some(before) = before.filter(|before| was.is_none_or(|was| *before > was)) else {
                let sentence = "there is more, and neither `next` nor X-TAXII-Date-Added-Last says how to ask for it";
                return Err(Unreadable::new("next_missing", sentence));
            };
            go_on.after = Some(before.to_rfc3339_opts(SecondsFormat::Micros, true));
            go_on.next = None;
        }
    }
    Ok(At {
        after: at.after,
        reading: Some(go_on),
    })
}

fn instant(text: &str) -> Option<Timestamp> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.to_utc())
}

/// Returns the later of two instants, as it was written.
fn later(one: Option<String>, other: Option<String>) -> Option<String> {
    let at = |text: &Option<String>| text.as_deref().and_then(instant);
    if at(&other) > at(&one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-05T08:00:00Z";

    fn rest(more: bool, next: Option<&str>, last: Option<&str>) -> Rest {
        let owned = |text: &str| text.to_owned();
        Rest {
            more,
            next: next.map(owned),
            last: last.map(owned),
            raw: Digest::of(b"page"),
        }
    }

    fn step_on(
        at: At,
        rest: Rest,
        seen: &mut BTreeSet<(String, Digest)>,
    ) -> Result<At, Unreadable> {
        let reading = at.reading.clone().unwrap_or_else(|| Reading {
            after: at.after.clone(),
            ..Reading::default()
        });
        step(at, reading, rest, seen, instant(NOW).unwrap())
    }

    #[test]
    fn the_instant_is_moved_on_only_behind_the_last_page() {
        let mut seen = BTreeSet::new();
        let (early, late) = ("2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.000002Z");
        let at = step_on(At::default(), rest(true, Some("1"), Some(late)), &mut seen).unwrap();
        assert_eq!(at.after, None);
        let at = step_on(at, rest(true, Some("2"), Some(early)), &mut seen).unwrap();
        assert_eq!(
            (at.after.clone(), at.reading.clone().unwrap().next),
            (None, Some("2".to_owned()))
        );
        let at = step_on(at, rest(false, None, None), &mut seen).unwrap();
        assert_eq!((at.after.as_deref(), at.reading), (Some(late), None));
    }

    #[test]
    fn an_empty_page_and_a_clock_that_is_ahead_move_nothing() {
        let at = At {
            after: Some("2026-01-01T00:00:00Z".to_owned()),
            reading: None,
        };
        let mut seen = BTreeSet::new();
        for last in [
            None,
            Some("2099-01-01T00:00:00Z"),
            Some("2020-01-01T00:00:00Z"),
            Some("soon"),
        ] {
            assert_eq!(
                step_on(at.clone(), rest(false, None, last), &mut seen).unwrap(),
                at
            );
        }
    }

    #[test]
    fn pages_that_go_round_or_end_nowhere_are_noticed() {
        let mut seen = BTreeSet::new();
        let mut at = At::default();
        for next in ["1", "2", "3"] {
            at = step_on(at, rest(true, Some(next), None), &mut seen).unwrap();
        }
        let round = step_on(at.clone(), rest(true, Some("2"), None), &mut seen);
        assert_eq!(round.unwrap_err().code, "next_loops");
        let another = Rest {
            raw: Digest::of(b"another"),
            ..rest(true, Some("2"), None)
        };
        assert!(
            step_on(at.clone(), another, &mut seen).is_ok(),
            "a server may call all pages by one name"
        );
        let nowhere = step_on(At::default(), rest(true, None, None), &mut seen);
        assert_eq!(nowhere.unwrap_err().code, "next_missing");
        at.reading.as_mut().unwrap().pages = PAGES_MAX;
        assert_eq!(
            step_on(at, rest(true, Some("9"), None), &mut seen)
                .unwrap_err()
                .code,
            "endless"
        );
    }

    #[test]
    fn without_next_the_instant_goes_on_and_what_shares_it_is_asked_for_again() {
        let mut seen = BTreeSet::new();
        let last = Some("2026-01-02T00:00:00Z");
        let at = step_on(At::default(), rest(true, None, last), &mut seen).unwrap();
        let reading = at.reading.clone().unwrap();
        assert_eq!(
            reading.after.as_deref(),
            Some("2026-01-01T23:59:59.999000Z")
        );
        assert_eq!(
            step_on(at, rest(true, None, last), &mut seen)
                .unwrap_err()
                .code,
            "next_missing"
        );
    }

    #[test]
    fn what_was_kept_by_any_version_is_read() {
        let kept = r#"{"after":"2026-01-01T00:00:00Z","reading":{"after":null,"next":"7","last":null,"pages":3}}"#;
        let at: At = serde_json::from_str(kept).unwrap();
        assert_eq!(at.reading.unwrap().next.as_deref(), Some("7"));
        assert_eq!(serde_json::from_str::<At>("{}").unwrap(), At::default());
    }
}
