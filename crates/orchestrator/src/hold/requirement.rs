//! Requirements: what must be true before a halt is released, in the shape of a plan of action and
//! milestones.
//!
//! A requirement counts as met when somebody verified it who neither owns it nor attested its evidence,
//! or while a waiver lasts that two people gave. Evidence is only ever added. Whatever is edited after
//! that opens it again, and makes other what approvers approved.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::digest::Digest;
use crate::hold::release::Seat;
use crate::ids::{Generation, HoldId, Principal, RequirementId, Timestamp};

/// The longest time between two looks at what the vendor does.
pub const CHECKIN_DAYS_MAX: i64 = 30;
/// How many people a waiver takes.
pub const WAIVER_PEOPLE: usize = 2;
/// The longest waiver.
pub const WAIVER_DAYS_MAX: i64 = 366;
/// How much one requirement may gather of evidence, of milestones and of check-ins.
pub const ITEMS_MAX: usize = 200;

/// What kind of weakness it is about: the six pillars of the Secure Future Initiative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the vocabulary")]
pub enum Category {
    IdentitiesAndSecrets,
    TenantsAndIsolation,
    Networks,
    EngineeringSystems,
    MonitorAndDetect,
    RespondAndRemediate,
}

/// How bad it is while it is not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the vocabulary")]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Somebody asks for it.
    Proposed,
    /// Whoever must do it has said yes.
    Accepted,
    /// It is being done.
    InProgress,
    /// It is said to be done.
    Delivered,
    /// Somebody else has looked, and it is.
    Verified,
    /// Two people have agreed to go on without it, for a time.
    Waived,
    /// What was delivered is not what was asked for.
    Rejected,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Proposed,
        Self::Accepted,
        Self::InProgress,
        Self::Delivered,
        Self::Verified,
        Self::Waived,
        Self::Rejected,
    ];

    /// Returns the stable name of the status.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Accepted => "accepted",
            Self::InProgress => "in_progress",
            Self::Delivered => "delivered",
            Self::Verified => "verified",
            Self::Waived => "waived",
            Self::Rejected => "rejected",
        }
    }
}

/// Whom to ask on the other side.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vendor {
    /// A person or a desk.
    pub contact: String,
    /// What they call it: a case number.
    pub reference: String,
}

/// A step on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// What.
    pub text: String,
    /// Until when.
    pub due: Timestamp,
    /// When it was done.
    #[serde(default)]
    pub done: Option<Timestamp>,
}

/// A look at what the vendor does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckIn {
    /// Who looked.
    pub by: Principal,
    /// When.
    pub at: Timestamp,
    /// What they heard.
    pub note: String,
}

/// What evidence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// A text that is kept here.
    Text,
    /// An address; what lies there is known by its hash.
    Link,
    /// A file that is kept elsewhere, known by its hash.
    File,
}

/// Something that shows that a requirement is met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// What it is.
    pub kind: EvidenceKind,
    /// The text, the address, or the name of the file.
    pub text: String,
    /// What its bytes are known by.
    pub sha256: Digest,
    /// How many bytes, when that is known.
    pub bytes: Option<u64>,
    /// Who attests it.
    pub by: Principal,
    /// The person behind them.
    pub person: Principal,
    /// When.
    pub at: Timestamp,
}

/// One person's word: a verification, or half a waiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Word {
    /// Who.
    pub by: Principal,
    /// The person behind them.
    pub person: Principal,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub note: String,
}

/// An agreement to go on without it for a time. It is worth something once enough people gave their word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// When it ends.
    pub expires: Timestamp,
    /// Who agreed, each with a rationale.
    pub words: Vec<Word>,
}

impl Waiver {
    fn is_given(&self) -> bool {
        let people: BTreeSet<&Principal> = self.words.iter().map(|word| &word.person).collect();
        people.len() >= WAIVER_PEOPLE
    }
}

/// A condition of release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Its name.
    pub id: RequirementId,
    /// The halt whose release waits for it.
    pub hold: HoldId,
    /// Its place among the requirements of the halt, from 1.
    pub number: u32,
    /// In a few words.
    pub title: String,
    /// What exactly must be true, and how that is tested.
    pub text: String,
    /// What kind of weakness it is about.
    pub category: Category,
    /// How bad it is.
    pub severity: Severity,
    /// Whether the release waits for it.
    pub blocking: bool,
    /// Everybody who ever owned it; the last one does.
    pub owners: Vec<Principal>,
    /// Whom to ask.
    pub vendor: Vendor,
    /// Who asked for it.
    pub opened_by: Principal,
    /// When.
    pub opened_at: Timestamp,
    /// Until when it should be met.
    pub due: Option<Timestamp>,
    /// Steps on the way.
    pub milestones: Vec<Milestone>,
    /// Looks at what the vendor does.
    pub checkins: Vec<CheckIn>,
    /// When the next look is due.
    pub next_checkin_due: Timestamp,
    /// How far it has come.
    pub status: Status,
    /// What shows that it is met; only ever added to.
    pub evidence: Vec<Evidence>,
    /// Who verified it.
    pub verified: Option<Word>,
    /// Who agreed to go on without it.
    pub waiver: Option<Waiver>,
    /// The number of its last change.
    pub generation: Generation,
}

/// An edit of a requirement. What is not given stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Edit {
    /// How far it has come.
    pub status: Option<Status>,
    /// Who owns it now.
    pub owner: Option<Principal>,
    /// Until when it should be met.
    pub due: Option<Timestamp>,
    /// All milestones.
    pub milestones: Option<Vec<Milestone>>,
    /// What the vendor said.
    pub checkin: Option<String>,
    /// When the next look is due.
    pub next_checkin_due: Option<Timestamp>,
    /// That the release waits for it from now on.
    pub blocking: Option<bool>,
}

/// The domain says no to a change of a requirement.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequirementRefusal {
    /// This status is not set by hand.
    #[error("`{}` is not set by an edit: {}", status.name(), if *status == Status::Verified { "somebody verifies it" } else { "two people waive it" })]
    StatusIsEarned {
        /// The status.
        status: Status,
    },
    /// A requirement that the release waits for stays one.
    #[error("the release waits for this requirement, and goes on waiting: verify it or waive it")]
    StaysBlocking,
    /// A look too far away.
    #[error(
        "the next check-in is due within {CHECKIN_DAYS_MAX} days: a vendor nobody asks does nothing"
    )]
    CheckinTooFar,
    /// There are too many already.
    #[error("a requirement has at most {ITEMS_MAX} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// Nothing has been delivered.
    #[error("the requirement is {} and not delivered: there is nothing to verify yet", status.name())]
    NotDelivered {
        /// How far it has come.
        status: Status,
    },
    /// Nothing shows it.
    #[error("no evidence is attached: add a text, a link or the hash of a file first")]
    EvidenceMissing,
    /// Whoever owns it does not verify it.
    #[error("`{person}` owns this requirement, or did: somebody else must verify it")]
    OwnerVerifies {
        /// The person.
        person: Principal,
    },
    /// Whoever attested the evidence does not verify it.
    #[error("`{person}` attested evidence of this requirement: somebody else must verify it")]
    AttesterVerifies {
        /// The person.
        person: Principal,
    },
    /// Machines, auditors and administrators have no seat.
    #[error(
        "`{token}` has no seat in security, operations or approvers: only people with one give their word"
    )]
    NoSeat {
        /// The token.
        token: Principal,
    },
    /// Whoever owns it does not waive it.
    #[error("`{person}` owns this requirement, or did: others must waive it")]
    OwnerWaives {
        /// The person.
        person: Principal,
    },
    /// One person is one person.
    #[error("`{person}` has agreed to this waiver: it takes somebody else now")]
    SamePersonWaives {
        /// The person.
        person: Principal,
    },
    /// A waiver that is over, or never ends.
    #[error("a waiver ends after now and within {WAIVER_DAYS_MAX} days")]
    WaiverTime,
}

impl RequirementRefusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::StatusIsEarned { .. } => "requirement_status_earned",
            Self::StaysBlocking => "requirement_stays_blocking",
            Self::CheckinTooFar => "requirement_checkin_too_far",
            Self::TooMany { .. } => "requirement_too_many",
            Self::NotDelivered { .. } => "requirement_not_delivered",
            Self::EvidenceMissing => "requirement_evidence_missing",
            Self::OwnerVerifies { .. } => "requirement_owner_verifies",
            Self::AttesterVerifies { .. } => "requirement_attester_verifies",
            Self::NoSeat { .. } => "seat_missing",
            Self::OwnerWaives { .. } => "requirement_owner_waives",
            Self::SamePersonWaives { .. } => "waiver_same_person",
            Self::WaiverTime => "waiver_time_invalid",
        }
    }
}

/// Says whether two names are of one person: names differ by more than by their capitals.
#[must_use]
pub fn is_same(one: &Principal, other: &Principal) -> bool {
    one.as_str().trim().to_lowercase() == other.as_str().trim().to_lowercase()
}

impl Requirement {
    /// Says whether the release need not wait for it any more, at this instant.
    #[must_use]
    pub fn is_met(&self, now: Timestamp) -> bool {
        match self.status {
            Status::Verified => self.verified.is_some(),
            Status::Waived => self
                .waiver
                .as_ref()
                .is_some_and(|waiver| waiver.is_given() && now < waiver.expires),
            Status::Proposed
            | Status::Accepted
            | Status::InProgress
            | Status::Delivered
            | Status::Rejected => false,
        }
    }

    /// Returns what it is known by: everything in it but the number of its last change.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let without = Self {
            generation: Generation(0),
            ..self.clone()
        };
        // A document of plain fields is always written.
        Digest::of(&serde_json::to_vec(&without).unwrap_or_default())
    }

    /// Returns how it is named in a sentence.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} ({})", self.number, self.title)
    }

    fn is_owner(&self, seat: &Seat) -> bool {
        let is_theirs = |owner| is_same(owner, &seat.person) || is_same(owner, &seat.token);
        self.owners.iter().any(is_theirs)
    }

    /// Carries out an edit. Whatever was verified or waived is open again when its status is edited.
    ///
    /// # Errors
    /// When the edit sets what must be earned, or makes the release easier.
    pub fn edit(
        &mut self,
        edit: Edit,
        by: &Principal,
        now: Timestamp,
    ) -> Result<(), RequirementRefusal> {
        if let Some(status @ (Status::Verified | Status::Waived)) = edit.status {
            return Err(RequirementRefusal::StatusIsEarned { status });
        }
        if self.blocking && edit.blocking == Some(false) {
            return Err(RequirementRefusal::StaysBlocking);
        }
        let latest = now + TimeDelta::days(CHECKIN_DAYS_MAX);
        if edit.next_checkin_due.is_some_and(|due| due > latest) {
            return Err(RequirementRefusal::CheckinTooFar);
        }
        let too_many = |what| Err(RequirementRefusal::TooMany { what });
        if edit
            .milestones
            .as_ref()
            .is_some_and(|all| all.len() > ITEMS_MAX)
        {
            return too_many("milestones");
        }
        if edit.checkin.is_some() && self.checkins.len() >= ITEMS_MAX {
            return too_many("check-ins");
        }
        let is_new_owner = |owner: &Principal| self.owners.last() != Some(owner);
        let owner = edit.owner.filter(is_new_owner);
        if owner.is_some() && self.owners.len() >= ITEMS_MAX {
            return too_many("owners");
        }
        if let Some(status) = edit.status {
            self.status = status;
            self.verified = None;
            self.waiver = None;
        }
        // Whoever owns it now may be whoever verified or waived it.
        if owner.is_some() && matches!(self.status, Status::Verified | Status::Waived) {
            self.status = Status::Delivered;
            self.verified = None;
            self.waiver = None;
        }
        self.owners.extend(owner);
        self.due = edit.due.or(self.due);
        self.milestones = edit
            .milestones
            .unwrap_or_else(|| std::mem::take(&mut self.milestones));
        self.blocking |= edit.blocking.unwrap_or(false);
        if let Some(note) = edit.checkin {
            let by = by.clone();
            self.checkins.push(CheckIn { by, at: now, note });
            self.next_checkin_due = latest;
        }
        self.next_checkin_due = edit.next_checkin_due.unwrap_or(self.next_checkin_due);
        self.generation = self.generation.next();
        Ok(())
    }

    /// Adds evidence. What was verified before it came must be looked at again.
    ///
    /// # Errors
    /// When there is too much of it.
    pub fn attest(&mut self, evidence: Evidence) -> Result<(), RequirementRefusal> {
        if self.evidence.len() >= ITEMS_MAX {
            return Err(RequirementRefusal::TooMany {
                what: "pieces of evidence",
            });
        }
        self.evidence.push(evidence);
        if self.status == Status::Verified {
            self.status = Status::Delivered;
            self.verified = None;
        }
        self.generation = self.generation.next();
        Ok(())
    }

    /// Records that somebody else has looked, and that it is met.
    ///
    /// # Errors
    /// When nothing was delivered or shown, or whoever looks owns it or attested its evidence.
    pub fn verify(
        &mut self,
        by: &Seat,
        note: &str,
        now: Timestamp,
    ) -> Result<(), RequirementRefusal> {
        if by.group.is_none() {
            return Err(RequirementRefusal::NoSeat {
                token: by.token.clone(),
            });
        }
        let person = by.person.clone();
        if self.is_owner(by) {
            return Err(RequirementRefusal::OwnerVerifies { person });
        }
        if self
            .evidence
            .iter()
            .any(|one| is_same(&one.person, &person))
        {
            return Err(RequirementRefusal::AttesterVerifies { person });
        }
        if self.status != Status::Delivered {
            let status = self.status;
            return Err(RequirementRefusal::NotDelivered { status });
        }
        if self.evidence.is_empty() {
            return Err(RequirementRefusal::EvidenceMissing);
        }
        self.status = Status::Verified;
        self.verified = Some(by.word(note, now));
        self.generation = self.generation.next();
        Ok(())
    }

    /// Records one person's word that the release may go on without it until `expires`. A word for
    /// another end begins a new waiver.
    ///
    /// # Errors
    /// When the person owns it or has agreed before, or the end is none.
    pub fn waive(
        &mut self,
        by: &Seat,
        (rationale, expires): (&str, Timestamp),
        now: Timestamp,
    ) -> Result<(), RequirementRefusal> {
        if by.group.is_none() {
            return Err(RequirementRefusal::NoSeat {
                token: by.token.clone(),
            });
        }
        let person = by.person.clone();
        if self.is_owner(by) {
            return Err(RequirementRefusal::OwnerWaives { person });
        }
        if expires <= now || expires > now + TimeDelta::days(WAIVER_DAYS_MAX) {
            return Err(RequirementRefusal::WaiverTime);
        }
        let same = self.waiver.take_if(|waiver| waiver.expires == expires);
        let mut waiver = same.unwrap_or(Waiver {
            expires,
            words: Vec::new(),
        });
        let has_agreed = |word: &Word| is_same(&word.person, &person);
        if waiver.words.iter().any(has_agreed) {
            self.waiver = Some(waiver);
            return Err(RequirementRefusal::SamePersonWaives { person });
        }
        waiver.words.push(by.word(rationale, now));
        if waiver.is_given() {
            self.status = Status::Waived;
            self.verified = None;
        }
        self.waiver = Some(waiver);
        self.generation = self.generation.next();
        Ok(())
    }
}
