//! The catalogue of known exploited vulnerabilities: read whole, and only what changed is a signal.
//!
//! It is not signed. A catalogue that is older, miscounts or has shrunk is not believed: what was known
//! stays known, and nothing is ever "resolved" by not being there.

use std::sync::Arc;

use reqwest::header::{ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use serde::{Deserialize, Serialize};
use tidegate_policy::Signal;
use tidegate_policy::dialect::Unreadable;
use tidegate_policy::dialect::kev::{self, Catalogue, Known};

use super::Trouble;
use super::turn::Turn;
use crate::fetch::Ask;

/// Three times what the catalogue was in 2025.
const BODY_MAX: usize = 4 << 20;
/// The longest validator that is sent back.
const VALIDATOR_MAX: usize = 256;

/// What is kept of the catalogue until it is read again. Decoded for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    version: String,
    known: Known,
    #[serde(default)]
    etag: Option<String>,
    #[serde(default)]
    modified: Option<String>,
}

/// Asks for the catalogue, and admits what is new in it.
pub(super) async fn poll(turn: &mut Turn<'_>) -> Result<bool, Trouble> {
    let at: At = turn.at()?;
    let mut ask = Ask::get(turn.place(&turn.feed.url)?, "application/json", BODY_MAX);
    if let Some(etag) = &at.etag {
        ask.headers.push((IF_NONE_MATCH, etag.clone()));
    }
    if let Some(modified) = &at.modified {
        ask.headers.push((IF_MODIFIED_SINCE, modified.clone()));
    }
    let was_conditional = !ask.headers.is_empty();
    let answer = turn.fetch(ask).await?;
    if answer.status == 304 && was_conditional {
        return Ok(false);
    }
    let validator = |name: &str| {
        let value = answer
            .header(name)
            .filter(|value| value.len() <= VALIDATOR_MAX);
        value.map(str::to_owned)
    };
    let (etag, modified) = (validator(ETAG.as_str()), validator(LAST_MODIFIED.as_str()));
    let body = Arc::new(answer.ok()?);
    let step = turn.read(&body, move |body, origin| {
        step(&at, &kev::read(body, origin)?)
    });
    let (signals, next) = step.await?;
    turn.admit(signals, &body).await?;
    turn.keep(&At {
        etag,
        modified,
        ..next
    })
    .await?;
    Ok(false)
}

/// Says what is new in a catalogue, and what is known afterwards.
fn step(at: &At, new: &Catalogue) -> Result<(Vec<Signal>, At), Unreadable> {
    let (before, now) = (version(&at.version), version(&new.version));
    let Some(now) = now else {
        return Err(Unreadable::field("catalogVersion", "like `2025.08.25`"));
    };
    if before.is_some_and(|before| now < before) {
        let sentence = format!(
            "the catalogue is of version {}, and {} was read before",
            new.version, at.version
        );
        return Err(Unreadable::new("older", sentence));
    }
    let changes = kev::changes(&at.known, new)?;
    let signals = changes.added.into_iter().chain(changes.revised).collect();
    let next = At {
        version: new.version.clone(),
        known: new.known(),
        etag: None,
        modified: None,
    };
    Ok((signals, next))
}

/// Reads a version, which is a day, and sometimes a number behind it.
fn version(text: &str) -> Option<Vec<u32>> {
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    parts.filter(|parts| (3..=4).contains(&parts.len()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};
    use tidegate_policy::dialect::Origin;
    use tidegate_policy::signal::{Lifecycle, Trust};

    use super::*;

    fn catalogue(version: &str, ids: impl Iterator<Item = u32>, due: &str) -> Catalogue {
        let entry = |id: u32| {
            json!({
                "cveID": format!("CVE-2024-{id:05}"), "vendorProject": "Acme", "product": "Box",
                "vulnerabilityName": "a hole", "dateAdded": "2024-01-02", "shortDescription": "x",
                "requiredAction": "patch", "dueDate": due,
            })
        };
        let entries: Vec<Value> = ids.map(entry).collect();
        let whole = json!({
            "title": "KEV", "catalogVersion": version, "dateReleased": "2024-01-02T00:00:00.0000Z",
            "count": entries.len(), "vulnerabilities": entries,
        });
        let origin = Origin {
            source: "kev".to_owned(),
            trust: Trust::Unauthenticated,
            vendor: None,
            products: BTreeSet::new(),
            received_at: "2024-01-02T00:00:00Z".parse().unwrap(),
        };
        kev::read(whole.to_string().as_bytes(), &origin).unwrap()
    }

    #[test]
    fn only_what_is_new_or_changed_becomes_a_signal() {
        let first = catalogue("2024.01.02", 0..20, "2024-02-01");
        let (signals, at) = step(&At::default(), &first).unwrap();
        assert_eq!(signals.len(), 20);
        assert_eq!(step(&at, &first).unwrap(), (Vec::new(), at.clone()));
        let (signals, later) = step(&at, &catalogue("2024.01.03", 0..22, "2024-02-01")).unwrap();
        assert_eq!(signals.len(), 2);
        let (signals, _) = step(&later, &catalogue("2024.1.3", 0..22, "2024-03-01")).unwrap();
        assert_eq!(signals.len(), 22);
        assert!(
            signals
                .iter()
                .all(|one| one.lifecycle == Lifecycle::Updated)
        );
    }

    #[test]
    fn an_older_or_shrunk_catalogue_is_not_believed() {
        let (_, at) = step(&At::default(), &catalogue("2024.01.10", 0..20, "x")).unwrap();
        let refused = |new: &Catalogue| step(&at, new).unwrap_err().code;
        assert_eq!(refused(&catalogue("2024.01.09", 0..30, "x")), "older");
        assert_eq!(refused(&catalogue("2024.01.11", 0..10, "x")), "shrunk");
        assert_eq!(refused(&catalogue("soon", 0..30, "x")), "field_invalid");
        assert!(step(&at, &catalogue("2024.02.01.2", 0..20, "x")).is_ok());
    }

    #[test]
    fn what_was_kept_by_any_version_is_read() {
        let kept =
            r#"{"version":"2024.01.02","known":{"CVE-2024-00001":"2024-01-02.0123456789abcdef"}}"#;
        let at: At = serde_json::from_str(kept).unwrap();
        assert_eq!((at.known.len(), at.etag), (1, None));
    }
}
