//! The counter-test: holding for each entry of the catalogue of known exploited vulnerabilities.
//!
//! `kev.json` is an extract of the catalogue of CISA (public domain, CC0), version 2025.08.25: the entries of
//! the vendor that were added from November 2023 to December 2024, without their sentences.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Scenario, evening, sometime};
use crate::dialect::{Origin, Unreadable, kev};
use crate::document::Format;
use crate::rule::judge::Judge;
use crate::set::PolicySet;
use crate::set::replay::Replay;
use crate::signal::{Signal, Trust};

const ENTRIES: &str = include_str!("midnight_blizzard/kev.json");
const RULES: &str = include_str!("midnight_blizzard/kev.yaml");

/// What a rule that holds for each entry would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many entries it would have held for, had the catalogue been signed.
    pub entries: u64,
    /// How many holds that would be, with what is the same counted to one.
    pub holds: u64,
    /// How many of the entries are of the day on which the breach became known.
    pub on_the_day: u64,
    /// For how many it may hold anything as the catalogue is: not signed.
    pub as_it_is: u64,
}

/// Counts.
///
/// # Errors
///
/// Never in a release: what is read is embedded, and its test reads it.
pub(super) fn counted() -> Result<Counted, Unreadable> {
    let set = PolicySet::parse(RULES, Format::Yaml)
        .map_err(|errors| Unreadable::new("policy_invalid", errors.to_string()))?;
    let target = Scenario::midnight_blizzard()?.target;
    // Every product of the vendor: such a rule asks for the vendor alone.
    let decided = |trust: Trust| -> Result<Vec<Signal>, Unreadable> {
        let mut judge = Judge::new(set.rules.clone(), vec![target.clone()]);
        let mut signals = entries(trust)?;
        signals.retain(|signal| !judge.take(signal).is_empty());
        Ok(signals)
    };
    let held = decided(Trust::Signed)?;
    let mut replay = Replay::new(&set, vec![target.clone()]);
    for signal in &held {
        replay.take(&signal.external_id, signal);
    }
    let the_day = NaiveDate::from_ymd_opt(2024, 1, 19);
    let of_the_day = |signal: &&Signal| Some(signal.received_at.date_naive()) == the_day;
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(Counted {
        entries: count(held.len()),
        holds: count(replay.told().stops.len()),
        on_the_day: count(held.iter().filter(of_the_day).count()),
        as_it_is: count(decided(Trust::Unauthenticated)?.len()),
    })
}

/// Reads the extract as the catalogue that it is of, each entry received on the evening of its day.
fn entries(trust: Trust) -> Result<Vec<Signal>, Unreadable> {
    let entries: Vec<Value> = serde_json::from_str(ENTRIES)
        .map_err(|error| Unreadable::new("not_json", error.to_string()))?;
    let whole: Vec<Value> = entries
        .into_iter()
        .map(|mut entry| {
            if let Some(fields) = entry.as_object_mut() {
                fields.insert("vendorProject".to_owned(), json!("Microsoft"));
                fields.insert("shortDescription".to_owned(), json!("left out"));
                fields.insert("requiredAction".to_owned(), json!("left out"));
            }
            entry
        })
        .collect();
    let catalogue = json!({
        "catalogVersion": "2025.08.25", "dateReleased": "2025-08-25T00:00:00Z", "count": whole.len(),
        "vulnerabilities": whole,
    });
    let origin = Origin {
        source: "kev".to_owned(),
        trust,
        vendor: None,
        products: Default::default(),
        received_at: sometime(),
    };
    let mut signals = kev::read(catalogue.to_string().as_bytes(), &origin)?.signals;
    for signal in &mut signals {
        if let Some(day) = signal.occurred_at {
            signal.received_at = evening(day.date_naive());
        }
    }
    signals.sort_by_key(|signal| signal.received_at);
    Ok(signals)
}
