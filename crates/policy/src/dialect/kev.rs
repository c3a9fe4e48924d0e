//! The catalogue of known exploited vulnerabilities of CISA (JSON schema of the catalogue, as of 2025).
//!
//! One entry is one signal. The catalogue is not signed, so nothing here ever holds anything by itself:
//! it weighs and it asks for a look. Two tests stand in for a signature: `count` must be the length of
//! the list, and a catalogue that lost entries is an alarm. An entry that is gone was never "resolved".
//!
//! The catalogue says no severity, and only a day: `occurred_at` is the first instant of it, and no
//! instant of issue is made up.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::field::{
    at, at_most, day, is_cve, label, label_of, reference, required, required_id, required_list,
};
use super::{Origin, Unreadable, clipped, json, text};
use crate::digest::{Digest, DigestBuilder};
use crate::signal::{Dialect, Signal, SignalKind, folded};
use crate::time::Timestamp;

/// The most entries of one catalogue: six times what it held in 2025, at about 200 more a year.
pub const ENTRIES_MAX: usize = 10_000;
/// The most entries that may be gone beside new ones. CISA did remove a few, one at a time.
const GONE_MAX: usize = 5;

/// The catalogue, read.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// Its version: the day, as `YYYY.MM.DD`.
    pub version: String,
    /// When it was released.
    pub released_at: Option<Timestamp>,
    /// One signal for each entry, in its order.
    pub signals: Vec<Signal>,
}

/// What is known of a catalogue that was read before: the revision of each entry, by its CVE id.
pub type Known = BTreeMap<String, String>;

/// What became of the catalogue since it was read before.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Entries that are new.
    pub added: Vec<Signal>,
    /// Entries of which something changed that a signal says.
    pub revised: Vec<Signal>,
    /// Entries that are gone, for a report. They are not resolved.
    pub gone: Vec<String>,
}

/// Reads the catalogue.
///
/// # Errors
///
/// When it is no JSON, a required field is missing, `count` is not the length of the list, an id is
/// twice in it, or it has more than `ENTRIES_MAX` entries.
pub fn read(body: &[u8], origin: &Origin) -> Result<Catalogue, Unreadable> {
    let catalogue = json(body)?;
    let version = clipped(required(&catalogue, "catalogVersion", "")?);
    required(&catalogue, "dateReleased", "")?;
    let entries = required_list(&catalogue, "vulnerabilities", "", ENTRIES_MAX)?;
    let count = catalogue.get("count").and_then(Value::as_u64);
    let count = count.ok_or_else(|| Unreadable::field("count", "a whole number"))?;
    if usize::try_from(count) != Ok(entries.len()) {
        let sentence = format!(
            "`count` is {count}, but there are {} entries",
            entries.len()
        );
        return Err(Unreadable::new("count_differs", sentence));
    }
    let raw = Digest::of(body);
    let mut ids = BTreeSet::new();
    let mut signals = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let signal = entry_signal(entry, &format!("vulnerabilities[{index}]"), origin, raw)?;
        if !ids.insert(signal.external_id.clone()) {
            let sentence = format!("`{}` is twice in the catalogue", signal.external_id);
            return Err(Unreadable::new("duplicate", sentence));
        }
        signals.push(signal);
    }
    Ok(Catalogue {
        version,
        released_at: at(&catalogue, "dateReleased"),
        signals,
    })
}

fn entry_signal(
    entry: &Value,
    path: &str,
    origin: &Origin,
    raw: Digest,
) -> Result<Signal, Unreadable> {
    let id = required_id(entry, "cveID", path)?;
    if !is_cve(id) {
        let name = format!("{path}.cveID");
        return Err(Unreadable::field(&name, "like `CVE-2024-12345`"));
    }
    let vendor = folded(&clipped(required(entry, "vendorProject", path)?));
    let product = folded(&clipped(required(entry, "product", path)?));
    let title = required(entry, "vulnerabilityName", path)?;
    let added = required(entry, "dateAdded", path)?;
    required(entry, "shortDescription", path)?;
    required(entry, "requiredAction", path)?;
    let due = required(entry, "dueDate", path)?;
    let ransomware = text(entry, "knownRansomwareCampaignUse").map(folded);
    let ransomware = ransomware.as_deref().unwrap_or("unknown");

    let mut signal = origin.signal(Dialect::Kev, id, raw);
    signal.kind = SignalKind::ExploitedVulnerability;
    signal.revision = Some(revision(added, &[&vendor, &product, due, ransomware]));
    signal.title = clipped(title);
    signal.vendor = Some(vendor);
    signal.products = BTreeSet::from([product]);
    signal.occurred_at = day(added);
    label(&mut signal, id);
    label(&mut signal, &format!("due:{due}"));
    label_of(
        &mut signal,
        "ransomware",
        entry,
        "knownRansomwareCampaignUse",
    );
    if ransomware == "known" {
        label(&mut signal, "ransomware");
    }
    // The notes are links with `;` between them, and sometimes sentences.
    let notes = text(entry, "notes").unwrap_or_default();
    for word in notes.split(|c: char| c.is_whitespace() || c == ';') {
        reference(&mut signal, word);
    }
    Ok(signal)
}

/// The day it was added, and the digest of what a rule can see: a new sentence in the notes, or a
/// weakness class given to every entry at once, is no new revision of a thousand signals.
fn revision(added: &str, parts: &[&str]) -> String {
    let mut digest = DigestBuilder::default();
    parts.iter().for_each(|part| digest.part(part.as_bytes()));
    let digest: String = digest.finish().to_string().chars().take(16).collect();
    format!("{}.{digest}", clipped(added))
}

impl Catalogue {
    /// Returns what to keep of it until it is read again.
    #[must_use]
    pub fn known(&self) -> Known {
        let pair = |one: &Signal| {
            (
                one.external_id.clone(),
                one.revision.clone().unwrap_or_default(),
            )
        };
        self.signals.iter().map(pair).collect()
    }
}

/// Says what became of the catalogue since it was read before.
///
/// # Errors
///
/// `shrunk` when there are fewer entries than before, or when more than a few are gone beside new ones:
/// what was known stays known, and somebody has to look.
pub fn changes(known: &Known, new: &Catalogue) -> Result<Changes, Unreadable> {
    at_most(known.len(), ENTRIES_MAX)?;
    let ids: BTreeSet<&str> = new
        .signals
        .iter()
        .map(|one| one.external_id.as_str())
        .collect();
    let mut changes = Changes::default();
    for id in known.keys() {
        if !ids.contains(id.as_str()) {
            changes.gone.push(id.clone());
        }
    }
    if ids.len() < known.len() || changes.gone.len() > GONE_MAX {
        let sentence = format!(
            "the catalogue had {} entries and has {}; {} are gone",
            known.len(),
            ids.len(),
            changes.gone.len()
        );
        return Err(Unreadable::new("shrunk", sentence));
    }
    for signal in &new.signals {
        match known.get(&signal.external_id) {
            None => changes.added.push(signal.clone()),
            Some(before) if signal.revision.as_ref() != Some(before) => {
                let mut signal = signal.clone();
                signal.lifecycle = crate::signal::Lifecycle::Updated;
                changes.revised.push(signal);
            }
            Some(_) => {}
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;
