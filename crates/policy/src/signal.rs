//! Signals: what others report, in the one form that rules see.
//!
//! Every dialect (webhooks, security event tokens, advisories, feeds) ends in this record, so a missing
//! field is a typed absence and never an error of a rule. What is not known is said explicitly:
//! `unknown` is a member of each list, not a default that looks like one of the others. The raw bytes
//! are kept elsewhere, by their digest. `subject` says whom it is about, `trust` what may follow from it.

pub mod subject;
pub mod trust;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

pub use self::subject::{Reach, Subject};
pub use self::trust::Trust;
use crate::digest::Digest;
use crate::named::named;
use crate::time::Timestamp;

named! {
    /// What a signal reports.
    pub enum SignalKind: "kind of signal" {
        /// The vendor itself was broken into.
        VendorBreach = "vendor_breach",
        /// Credentials of somebody are in other hands.
        CredentialCompromise = "credential_compromise",
        /// A session or a token was stolen or revoked.
        SessionTheft = "session_theft",
        /// An account was taken over or disabled for that.
        AccountCompromise = "account_compromise",
        /// The risk of a user, device, session or tenant changed.
        RiskChange = "risk_change",
        /// A device no longer complies with policy.
        DeviceNoncompliance = "device_noncompliance",
        /// A weakness in a product.
        Vulnerability = "vulnerability",
        /// A weakness that is known to be exploited.
        ExploitedVulnerability = "exploited_vulnerability",
        /// What a publisher says about a product, when it is not about one weakness.
        Advisory = "advisory",
        /// An actor or a campaign, without a breach of the vendor.
        ThreatActivity = "threat_activity",
        /// An authority orders something.
        Directive = "directive",
        /// A product does not work as it should; not about security.
        ServiceIncident = "service_incident",
        /// A vendor reports progress on what it owes.
        VendorProgress = "vendor_progress",
        /// A detection that says no more of what it is.
        Detection = "detection",
        /// Anything else that was authentic.
        Other = "other",
    }
}

named! {
    /// How bad it is. `Unknown` is no rank: every comparison says what to make of it.
    pub enum Severity: "severity" {
        /// Not said, or said in a word that is not known here.
        Unknown = "unknown",
        /// For information.
        Info = "info",
        /// Low.
        Low = "low",
        /// Medium.
        Medium = "medium",
        /// High.
        High = "high",
        /// Critical.
        Critical = "critical",
    }
}

impl Severity {
    /// Returns this severity, or `unknown_is` when it is not known.
    #[must_use]
    pub const fn or(self, unknown_is: Self) -> Self {
        match self {
            Self::Unknown => unknown_is,
            Self::Info | Self::Low | Self::Medium | Self::High | Self::Critical => self,
        }
    }
}

named! {
    /// Where a report stands with whoever sent it. Nothing here ever releases a hold.
    pub enum Lifecycle: "lifecycle" {
        /// It is new.
        Opened = "opened",
        /// A later revision of something reported before.
        Updated = "updated",
        /// The sender holds it to be over.
        Closed = "closed",
        /// The sender took it back.
        Withdrawn = "withdrawn",
        /// The sender says that there was nothing.
        FalsePositive = "false_positive",
        /// An exercise.
        Test = "test",
        /// A word that is not known here.
        Unknown = "unknown",
    }
}

impl Lifecycle {
    /// Says whether a report of that standing may begin or worsen anything. An end of a matter, or an
    /// exercise, may not; a word that is not known may.
    #[must_use]
    pub const fn can_tighten(self) -> bool {
        match self {
            Self::Opened | Self::Updated | Self::Unknown => true,
            Self::Closed | Self::Withdrawn | Self::FalsePositive | Self::Test => false,
        }
    }
}

named! {
    /// The format a signal came in.
    pub enum Dialect: "dialect" {
        /// Standard Webhooks 1.0, with our own fields as data.
        StandardWebhooks = "standard_webhooks",
        /// A GitHub webhook.
        Github = "github",
        /// A webhook in the way of Stripe.
        Stripe = "stripe",
        /// CloudEvents 1.0.
        CloudEvents = "cloudevents",
        /// A security event token (RFC 8417) of a Shared Signals stream.
        SecurityEvent = "security_event",
        /// STIX 2.1 objects from a TAXII 2.1 collection.
        Taxii = "taxii",
        /// A CSAF 2.0 advisory.
        Csaf = "csaf",
        /// The catalogue of known exploited vulnerabilities of CISA.
        Kev = "kev",
        /// An alert of Microsoft Graph.
        GraphAlert = "graph_alert",
        /// A service health issue of Microsoft Graph.
        GraphHealth = "graph_health",
        /// An OCSF finding.
        Ocsf = "ocsf",
        /// Somebody with a token, by hand.
        Manual = "manual",
        /// What this installation reports of itself.
        Own = "own",
    }
}

named! {
    /// How far a report may be handed on (Traffic Light Protocol 2.0).
    pub enum Tlp: "TLP label" {
        /// Anybody.
        Clear = "clear",
        /// The community.
        Green = "green",
        /// The organisation and its clients.
        Amber = "amber",
        /// The organisation.
        AmberStrict = "amber+strict",
        /// Those who were told.
        Red = "red",
    }
}

/// What somebody reported, admitted and normalised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The name of the source that it came from.
    pub source: String,
    /// The format that it came in.
    pub dialect: Dialect,
    /// Its id at the source; with the source, what a repetition is known by.
    pub external_id: String,
    /// Which revision of that id it is, as the source counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How sure it is who sent it.
    pub trust: Trust,
    /// What it reports.
    pub kind: SignalKind,
    /// How bad it is.
    pub severity: Severity,
    /// The severity in the words of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity_raw: Option<String>,
    /// How sure the source is, 0 to 100; `None`: not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u8>,
    /// Where it stands.
    pub lifecycle: Lifecycle,
    /// The vendor that it is about, in lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// The products that it is about, in lower case; empty: not said.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub products: BTreeSet<String>,
    /// Whom it is about.
    #[serde(default, skip_serializing_if = "Subject::is_empty")]
    pub subject: Subject,
    /// Labels, in lower case.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// What it says, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Where more of it can be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// When it happened, as the source says. For reports only: nothing is ordered or counted by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<Timestamp>,
    /// When the source issued it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// When it was received, by the clock of the database.
    pub received_at: Timestamp,
    /// When the source expects it to be out of date. Nothing ends by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether it came so long after it was issued that it was held up on the way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
    /// How far it may be handed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlp: Option<Tlp>,
    /// The digest of the bytes it was read from.
    pub raw: Digest,
}

/// Writes a vendor, product or label the way all of them are compared: without case and in one Unicode form (NFKC), one
/// blank between words and none around them. (The catalogue of CISA has products with a blank at the end; a name typed on
/// one system is composed and on another one not.) By full case folding: `Straße` and `STRASSE` are the same.
#[must_use]
pub fn folded(text: &str) -> String {
    if text.is_ascii() {
        return words_of(&text.to_ascii_lowercase());
    }
    let mut now = text.to_owned();
    // Folding may leave what composes anew; what is folded twice is the same as once.
    for _ in 0..FOLDS_MAX {
        let next = folded_once(&now);
        if next == now {
            break;
        }
        now = next;
    }
    now
}

/// After how many times a text no longer changes. Three were enough for every character there is.
const FOLDS_MAX: usize = 8;

fn folded_once(text: &str) -> String {
    let composed: String = text.nfkc().collect();
    // Upper case writes `ß` as `SS` and knows one sigma; letter by letter, lower case has one as well.
    let upper = composed.to_lowercase().to_uppercase();
    let lower: String = upper.chars().flat_map(char::to_lowercase).collect();
    let composed: String = lower.nfkc().collect();
    words_of(&composed)
}

fn words_of(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

/// Says whether two names mean the same, however they are written.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    one == other
        || one.eq_ignore_ascii_case(other)
        || (!(one.is_ascii() && other.is_ascii()) && folded(one) == folded(other))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_the_same_however_it_is_written() {
        for (one, other) in [
            ("Müller", "Mu\u{308}ller"),
            ("MÜLLER", "mu\u{308}ller"),
            ("Straße", "STRASSE"),
            ("Ｍicrosoft", "microsoft"),
            ("Ǆ", "dž"),
            ("ΣΑΣ", "σας"),
            ("ẞ", "ß"),
            ("Contoso\u{a0}AG ", "contoso ag"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} and {other}");
            assert!(same(one, other), "{one} and {other}");
        }
        assert!(!same("Muller", "Müller"));
        assert!(!same("acme", "acme corp"));
    }

    #[test]
    fn every_character_is_folded_for_good_at_once() {
        for character in char::MIN..=char::MAX {
            let once = folded(&character.to_string());
            assert_eq!(folded(&once), once, "{character:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_folded_stays_as_it_is(text: String) {
            let once = folded(&text);
            prop_assert_eq!(folded(&once), once);
        }
    }
}
