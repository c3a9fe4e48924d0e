//! Microsoft Graph: alerts, and issues of service health, changed since they were read last.
//!
//! A token is asked for anew at every question and kept nowhere. A link to the next page is followed only
//! to the very place that was asked: it is sent the token. Service health is never about security.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{SecondsFormat, TimeDelta};
use reqwest::Url;
use reqwest::header::HeaderName;
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::Timestamp;
use tidegate_policy::dialect::{self, Page, Unreadable, graph};

use super::Trouble;
use super::turn::Turn;
use crate::fetch::{Ask, FetchError, Proof};

/// The most bytes of one page.
const BODY_MAX: usize = 8 << 20;
/// The most bytes of an answer with a token.
const TOKEN_MAX: usize = 64 << 10;
/// How far back the first question goes, unless the source says.
const BACK: TimeDelta = TimeDelta::days(90);
/// How far each question goes back behind the last: what is written there appears somewhat later.
const OVERLAP: TimeDelta = TimeDelta::minutes(5);
/// The most pages that an answer is believed to have.
const PAGES_MAX: u32 = 10_000;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Alerts,
    Health,
}

impl What {
    const fn path(self) -> &'static str {
        match self {
            Self::Alerts => "v1.0/security/alerts_v2",
            Self::Health => "v1.0/admin/serviceAnnouncement/issues",
        }
    }

    const fn changed(self) -> &'static str {
        match self {
            Self::Alerts => "lastUpdateDateTime",
            Self::Health => "lastModifiedDateTime",
        }
    }
}

/// What is kept between two questions. Decoded for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    /// Everything that was changed until then was read.
    #[serde(default)]
    since: Option<Timestamp>,
    /// Where reading stopped between two pages.
    #[serde(default)]
    reading: Option<Reading>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Reading {
    next: String,
    /// The latest change of what was read.
    #[serde(default)]
    last: Option<Timestamp>,
    #[serde(default)]
    pages: u32,
}

/// Asks for what was changed, and admits it.
pub(super) async fn poll(turn: &mut Turn<'_>, what: What) -> Result<bool, Trouble> {
    let mut at: At = turn.at()?;
    let token = token(turn).await?;
    turn.prove(Proof::Bearer(token));
    let first = turn.feed.since.unwrap_or_else(|| turn.created_at() - BACK);
    let (mut seen, mut is_anew) = (BTreeSet::new(), false);
    loop {
        let url = match &at.reading {
            Some(reading) => next_url(turn, &reading.next)?,
            None => first_url(turn, what, at.since.map_or(first, |since| since - OVERLAP))?,
        };
        let mut ask = Ask::get(url, "application/json", BODY_MAX);
        let prefer = "include-unknown-enum-members".to_owned();
        ask.headers
            .push((HeaderName::from_static("prefer"), prefer));
        let answer = turn.fetch(ask).await?;
        if [400, 404, 410].contains(&answer.status) && at.reading.is_some() && !is_anew {
            (at.reading, is_anew) = (None, true);
            seen.clear();
            turn.keep(&at).await?;
            continue;
        }
        let body = Arc::new(answer.ok()?);
        let page = match what {
            What::Alerts => turn.read(&body, graph::alerts).await?,
            What::Health => turn.read(&body, graph::issues).await?,
        };
        page.refused
            .iter()
            .for_each(|one| turn.refuse(&one.sentence));
        let next = step(&at, &page, &mut seen, turn.origin.received_at);
        turn.admit(page.signals, &body).await?;
        at = next?;
        turn.keep(&at).await?;
        if at.reading.is_none() {
            return Ok(false);
        }
        if turn.is_over() {
            return Ok(true);
        }
    }
}

/// Asks for a token, as the client of the feed.
async fn token(turn: &mut Turn<'_>) -> Result<String, Trouble> {
    let Some(client) = &turn.feed.client else {
        return Err(Trouble::Credential("it has no client".to_owned()));
    };
    let secret = turn.secret(&client.secret)?;
    let mut form = turn.place(&client.token_url)?;
    let mut ask = Ask::get(form.clone(), "application/json", TOKEN_MAX);
    form.query_pairs_mut()
        .clear()
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", &client.id)
        .append_pair("client_secret", &secret)
        .append_pair("scope", &client.scope);
    let kind = "application/x-www-form-urlencoded";
    ask.posted = Some((kind, form.query().unwrap_or_default().to_owned()));
    let answer = turn.fetch_bare(ask).await?;
    // Also 400: that is how a wrong client is told.
    if (400..500).contains(&answer.status) && answer.status != 429 {
        let sentence = format!(
            "no token was given: the token address answers {}",
            answer.status
        );
        return Err(Trouble::Credential(sentence));
    }
    let whole = dialect::json(&answer.ok()?)?;
    let token = dialect::text(&whole, "access_token");
    let is_token =
        |token: &&str| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let token = token.filter(is_token);
    Ok(token
        .ok_or_else(|| Unreadable::field("access_token", "a token"))?
        .to_owned())
}

fn first_url(turn: &Turn<'_>, what: What, since: Timestamp) -> Result<Url, Trouble> {
    let root = turn.feed.url.trim_end_matches('/');
    let mut url = turn.place(&format!("{root}/{}", what.path()))?;
    let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
    let filter = format!("{} ge {since}", what.changed());
    url.query_pairs_mut().append_pair("$filter", &filter);
    Ok(url)
}

/// Reads a link to a next page: to the same host, and no other way than before.
fn next_url(turn: &Turn<'_>, next: &str) -> Result<Url, Trouble> {
    let own = turn.place(&turn.feed.url)?;
    match turn.place(next) {
        Ok(url) if url.origin() == own.origin() => Ok(url),
        Ok(_) | Err(Trouble::Fetch(FetchError::Reach(_))) => {
            let sentence = "`@odata.nextLink` leads to another host than was asked";
            Err(Unreadable::new("next_elsewhere", sentence).into())
        }
        Err(trouble) => Err(trouble),
    }
}

/// Says where reading goes on behind a page.
fn step(
    at: &At,
    page: &Page,
    seen: &mut BTreeSet<String>,
    now: Timestamp,
) -> Result<At, Unreadable> {
    // An instant that is still to come would hide everything that is changed until then.
    let changes = page
        .signals
        .iter()
        .filter_map(|one| one.issued_at)
        .filter(|at| *at <= now);
    let reading = at.reading.clone().unwrap_or_default();
    let last = reading.last.max(changes.max());
    let Some(next) = &page.next else {
        return Ok(At {
            since: at.since.max(last),
            reading: None,
        });
    };
    let pages = reading.pages.saturating_add(1);
    if pages > PAGES_MAX || &reading.next == next || !seen.insert(next.clone()) {
        let sentence = "the pages go round in a circle, or never end";
        return Err(Unreadable::new("next_loops", sentence));
    }
    let next = next.clone();
    Ok(At {
        since: at.since,
        reading: Some(Reading { next, last, pages }),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_policy::dialect::Origin;
    use tidegate_policy::signal::Trust;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn page(changed: &str, next: Option<&str>) -> Page {
        let origin = Origin {
            source: "m365".to_owned(),
            trust: Trust::AuthenticatedChannel,
            vendor: None,
            products: BTreeSet::new(),
            received_at: at("2026-01-05T08:00:00Z"),
        };
        let alert = json!({"id": "a", "lastUpdateDateTime": changed, "createdDateTime": changed});
        let whole = json!({"value": [alert], "@odata.nextLink": next});
        graph::alerts(whole.to_string().as_bytes(), &origin).unwrap()
    }

    #[test]
    fn the_instant_is_moved_on_only_behind_the_last_page() {
        let (now, mut seen) = (at("2026-01-05T08:00:00Z"), BTreeSet::new());
        let first = step(
            &At::default(),
            &page("2026-01-03T00:00:00Z", Some("n1")),
            &mut seen,
            now,
        )
        .unwrap();
        assert_eq!(first.since, None);
        let last = step(&first, &page("2026-01-02T00:00:00Z", None), &mut seen, now).unwrap();
        assert_eq!(
            last,
            At {
                since: Some(at("2026-01-03T00:00:00Z")),
                reading: None
            }
        );
        let ahead = step(&last, &page("2099-01-01T00:00:00Z", None), &mut seen, now).unwrap();
        assert_eq!(
            ahead, last,
            "an instant that is still to come moves nothing"
        );
        let round = step(
            &first,
            &page("2026-01-03T00:00:00Z", Some("n1")),
            &mut seen,
            now,
        );
        assert_eq!(round.unwrap_err().code, "next_loops");
    }

    #[test]
    fn what_was_kept_by_any_version_is_read() {
        let kept =
            r#"{"since":"2026-01-03T00:00:00Z","reading":{"next":"n1","last":null,"pages":1}}"#;
        assert_eq!(
            serde_json::from_str::<At>(kept)
                .unwrap()
                .reading
                .unwrap()
                .pages,
            1
        );
        assert_eq!(serde_json::from_str::<At>("{}").unwrap(), At::default());
    }
}
