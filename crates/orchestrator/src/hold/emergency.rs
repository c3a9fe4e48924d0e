//! The emergency go-on (break-glass): two custodians let named waves go on for hours, although a halt stands.
//!
//! It is meant for the night on which standing still is the greater harm: nothing of the release procedure is
//! asked, and everything is written down. So it is kept narrow. Two people of different groups, one of them of
//! security, say it of named waves and an incident; it lasts four hours at the most; it lets them go on under
//! exactly the halts that stood when it was asked for; a review by somebody else comes before the next one.
//!
//! Where one stands is worked out from its record and from `now`; its end needs nobody to notice it.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hold::release::Seat;
use crate::hold::requirement::{Word, is_same};
use crate::hold::terms::Group;
use crate::hold::{Exemption, InForce};
use crate::ids::{ExemptionId, HoldId, Principal, RolloutId, Timestamp, WaveNumber};
use crate::sentence::instant;

/// The longest emergency.
pub const EMERGENCY_MINUTES_MAX: u32 = 240;
/// The second custodian says yes within this time, or it is asked for again.
pub const CONFIRM_MINUTES: i64 = 60;
/// So many emergencies within `EMERGENCY_DAYS`: more is no emergency, and has a procedure.
pub const EMERGENCIES_MAX: usize = 2;
/// The days in which they are counted.
pub const EMERGENCY_DAYS: i64 = 30;
/// The longest name of an incident, in characters.
const INCIDENT_CHARS_MAX: usize = 200;

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The rollout.
    pub rollout: RolloutId,
    /// Its waves that shall go on.
    pub waves: BTreeSet<WaveNumber>,
    /// For how long, from the confirmation.
    pub minutes: u32,
    /// The number of the incident, in whatever system it is kept.
    pub incident: String,
    /// Why.
    pub reason: String,
}

/// The second custodian's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Who.
    pub by: Seat,
    /// When.
    pub at: Timestamp,
    /// When it is over, at the latest.
    pub until: Timestamp,
}

/// An emergency go-on. It is the exemption of the same id from its confirmation on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emergency {
    /// Its name.
    pub id: ExemptionId,
    /// What was asked for.
    pub wish: Wish,
    /// The halts that stood in its way then.
    pub holds: BTreeSet<HoldId>,
    /// The first custodian.
    pub by: Seat,
    /// When it was asked for.
    pub at: Timestamp,
    /// The second custodian.
    pub confirmed: Option<Confirmation>,
    /// Who ended it before its time, or took the question back.
    pub ended: Option<Word>,
    /// What somebody else found when they looked at it afterwards.
    pub review: Option<Word>,
    /// What the release of those halts would have waited for when it was confirmed: what was leapt over.
    #[serde(default)]
    pub leaps_over: Vec<String>,
}

/// Where an emergency stands at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// One custodian has asked.
    Asked {
        /// Until when another one may say yes.
        until: Timestamp,
    },
    /// Nobody said yes in time, or it was taken back.
    Dropped,
    /// Its waves go on.
    Running {
        /// Until when.
        until: Timestamp,
    },
    /// It is over, and nobody has looked back at it yet.
    ReviewDue {
        /// Since when.
        since: Timestamp,
    },
    /// It is over, and somebody has looked back at it.
    Reviewed,
}

impl Standing {
    /// Returns the stable name of the standing.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asked { .. } => "asked",
            Self::Dropped => "dropped",
            Self::Running { .. } => "running",
            Self::ReviewDue { .. } => "review_due",
            Self::Reviewed => "reviewed",
        }
    }
}

/// What matters of a wave here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has passed: nobody of it goes on.
    Over,
    /// It has been open.
    Begun,
    /// It opens when every wave before it has passed.
    Pending,
}

/// What a decision is made from, besides the emergency itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Whether the rollout is running: only then there is something to go on with.
    pub is_running: bool,
    /// Where each wave of the rollout stands, from the first.
    pub waves: Vec<Stage>,
    /// The halts in force that cover any of the named waves.
    pub halts: BTreeSet<HoldId>,
    /// The seat that whoever asked has now.
    pub asker_now: Option<Group>,
    /// Every other emergency that there has been.
    pub others: Vec<Emergency>,
}

/// The domain says no.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmergencyRefusal {
    /// Machines, auditors, approvers and administrators are no custodians.
    #[error("`{0}` is no custodian: only a seat in security or in operations is")]
    NoCustodian(Principal),
    /// Machines, auditors and administrators do not look back.
    #[error("`{0}` has no seat in security, operations or approvers: one of them looks back at it")]
    NoSeat(Principal),
    /// The first custodian is none any more.
    #[error("`{0}` has lost the seat in which they asked for it: ask again")]
    SeatLost(Principal),
    /// Nothing can go on.
    #[error("the rollout is not running: there is nothing that could go on")]
    NotRunning,
    /// There is no such wave, or none was named.
    #[error("name the waves that must go on, by their numbers from 1 to {waves}")]
    WavesUnknown {
        /// How many waves there are.
        waves: u32,
    },
    /// It would be over before anybody of it could go on.
    #[error(
        "wave {wave} goes on only after wave {after} has passed: name that one as well, or wait for it"
    )]
    WaveBehind {
        /// The wave.
        wave: WaveNumber,
        /// The wave it waits for.
        after: WaveNumber,
    },
    /// There is nobody left.
    #[error("wave {0} has passed: nobody of it is left to go on")]
    WaveOver(WaveNumber),
    /// It would last for no time, or for too long.
    #[error("an emergency lasts from one minute to {EMERGENCY_MINUTES_MAX}")]
    Duration,
    /// Nobody can look it up later.
    #[error(
        "name the incident, in at most {INCIDENT_CHARS_MAX} characters: the review begins with it"
    )]
    IncidentMissing,
    /// No halt stands in the way.
    #[error(
        "no halt covers these waves: an emergency lets nothing else go on (a pause is released with one call)"
    )]
    NotNeeded,
    /// One at a time.
    #[error("emergency `{0}` is asked for or runs: one at a time")]
    AnotherOpen(ExemptionId),
    /// First the last one is understood.
    #[error("the review of emergency `{0}` is due: it comes before the next one")]
    ReviewFirst(ExemptionId),
    /// It happens too often.
    #[error(
        "there have been {EMERGENCIES_MAX} emergencies in {EMERGENCY_DAYS} days, of whatever rollout: from now on the halt is released, or stays"
    )]
    TooMany,
    /// It is not waiting for a yes.
    #[error("emergency `{id}` is {standing}: there is nothing to confirm")]
    NotAsked {
        /// The emergency.
        id: ExemptionId,
        /// Where it stands.
        standing: &'static str,
    },
    /// One person is not two.
    #[error("`{0}` asked for it: another custodian confirms")]
    SamePerson(Principal),
    /// Two of one group are not two groups.
    #[error("both custodians sit in {}: the other one must be of {}", .0.name(), .1.name())]
    SameGroup(Group, Group),
    /// A seat made for the purpose.
    #[error(
        "token `{0}` was made after the emergency was asked for: who is asked was settled by then"
    )]
    SeatTooNew(Principal),
    /// Somebody has said stop since.
    #[error(
        "the halts in force are not those that it was asked for under: read why, then ask again"
    )]
    HoldsChanged,
    /// It is over, or was never begun.
    #[error("emergency `{id}` is {standing}: there is nothing to end")]
    NotOpen {
        /// The emergency.
        id: ExemptionId,
        /// Where it stands.
        standing: &'static str,
    },
    /// It still runs, never ran, or was looked at before.
    #[error("emergency `{id}` is {standing}: there is nothing to review")]
    NoReviewDue {
        /// The emergency.
        id: ExemptionId,
        /// Where it stands.
        standing: &'static str,
    },
    /// Whoever did it does not judge it.
    #[error("`{0}` was one of its custodians: somebody else looks back at it")]
    CustodianReviews(Principal),
}

impl EmergencyRefusal {
    /// Returns the stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoCustodian(_) => "emergency_no_custodian",
            Self::NoSeat(_) => "emergency_no_seat",
            Self::SeatLost(_) => "emergency_seat_lost",
            Self::NotRunning => "emergency_not_running",
            Self::WavesUnknown { .. } => "emergency_waves_unknown",
            Self::WaveBehind { .. } => "emergency_wave_behind",
            Self::WaveOver(_) => "emergency_wave_over",
            Self::Duration => "emergency_duration",
            Self::IncidentMissing => "emergency_incident_missing",
            Self::NotNeeded => "emergency_not_needed",
            Self::AnotherOpen(_) => "emergency_another_open",
            Self::ReviewFirst(_) => "emergency_review_first",
            Self::TooMany => "emergency_too_many",
            Self::NotAsked { .. } => "emergency_not_asked",
            Self::SamePerson(_) => "emergency_same_person",
            Self::SameGroup(..) => "emergency_same_group",
            Self::SeatTooNew(_) => "emergency_seat_too_new",
            Self::HoldsChanged => "emergency_holds_changed",
            Self::NotOpen { .. } => "emergency_not_open",
            Self::NoReviewDue { .. } => "emergency_no_review_due",
            Self::CustodianReviews(_) => "emergency_custodian_reviews",
        }
    }
}

impl Wish {
    /// Decides whether somebody may ask for it, and makes the emergency that a second custodian can confirm.
    ///
    /// # Errors
    /// With the first thing that stands in the way.
    pub fn ask(
        self,
        id: ExemptionId,
        case: &Case,
        by: &Seat,
        now: Timestamp,
    ) -> Result<Emergency, EmergencyRefusal> {
        custodian(by)?;
        case.check_waves(&self.waves)?;
        if !(1..=EMERGENCY_MINUTES_MAX).contains(&self.minutes) {
            return Err(EmergencyRefusal::Duration);
        }
        let incident = self.incident.trim();
        if incident.is_empty() || incident.chars().count() > INCIDENT_CHARS_MAX {
            return Err(EmergencyRefusal::IncidentMissing);
        }
        case.allows(id, now)?;
        Ok(Emergency {
            id,
            wish: self,
            holds: case.halts.clone(),
            by: by.clone(),
            at: now,
            confirmed: None,
            ended: None,
            review: None,
            leaps_over: Vec::new(),
        })
    }
}

/// Returns the group of a custodian.
fn custodian(seat: &Seat) -> Result<Group, EmergencyRefusal> {
    match seat.group {
        Some(group @ (Group::Security | Group::Operations)) => Ok(group),
        Some(Group::Approvers) | None => Err(EmergencyRefusal::NoCustodian(seat.token.clone())),
    }
}

impl Case {
    /// Whether each named wave can go on once it is exempt: an emergency that moves nobody helps nobody.
    fn check_waves(&self, named: &BTreeSet<WaveNumber>) -> Result<(), EmergencyRefusal> {
        let waves = u32::try_from(self.waves.len()).unwrap_or(u32::MAX);
        let exists = |wave: &WaveNumber| (1..=waves).contains(&wave.get());
        if named.is_empty() || !named.iter().all(exists) {
            return Err(EmergencyRefusal::WavesUnknown { waves });
        }
        let mut before: Option<WaveNumber> = None;
        for (stage, number) in self.waves.iter().zip(1..) {
            let wave = WaveNumber(number);
            let is_named = named.contains(&wave);
            match (stage, before) {
                (Stage::Over, _) if is_named => return Err(EmergencyRefusal::WaveOver(wave)),
                (Stage::Pending, Some(after)) if is_named => {
                    return Err(EmergencyRefusal::WaveBehind { wave, after });
                }
                (Stage::Begun | Stage::Pending, _) if !is_named => before = before.or(Some(wave)),
                (Stage::Over | Stage::Begun | Stage::Pending, _) => {}
            }
        }
        Ok(())
    }

    fn allows(&self, id: ExemptionId, now: Timestamp) -> Result<(), EmergencyRefusal> {
        if !self.is_running {
            return Err(EmergencyRefusal::NotRunning);
        }
        if self.halts.is_empty() {
            return Err(EmergencyRefusal::NotNeeded);
        }
        let others = || self.others.iter().filter(|other| other.id != id);
        for other in others() {
            match other.standing(now) {
                Standing::Asked { .. } | Standing::Running { .. } => {
                    return Err(EmergencyRefusal::AnotherOpen(other.id));
                }
                Standing::ReviewDue { .. } => return Err(EmergencyRefusal::ReviewFirst(other.id)),
                Standing::Dropped | Standing::Reviewed => {}
            }
        }
        let since = now - TimeDelta::days(EMERGENCY_DAYS);
        let confirmed = others().filter_map(|other| other.confirmed.as_ref());
        if confirmed.filter(|yes| yes.at > since).count() >= EMERGENCIES_MAX {
            return Err(EmergencyRefusal::TooMany);
        }
        Ok(())
    }
}

impl Emergency {
    /// Says where it stands.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        let Some(confirmed) = &self.confirmed else {
            let until = self.at + TimeDelta::minutes(CONFIRM_MINUTES);
            let waits = self.ended.is_none() && now < until;
            return if waits {
                Standing::Asked { until }
            } else {
                Standing::Dropped
            };
        };
        let ended = self.ended.as_ref().map(|word| word.at);
        let until = ended.map_or(confirmed.until, |at| at.min(confirmed.until));
        if now < until {
            return Standing::Running { until };
        }
        match self.review {
            Some(_) => Standing::Reviewed,
            None => Standing::ReviewDue { since: until },
        }
    }

    /// Decides whether a second custodian's yes counts, and returns the emergency that runs from now on.
    ///
    /// # Errors
    /// When it would not, with the reason why.
    pub fn confirm(
        &self,
        case: &Case,
        by: &Seat,
        now: Timestamp,
    ) -> Result<Self, EmergencyRefusal> {
        let standing = self.standing(now);
        let Standing::Asked { .. } = standing else {
            let (id, standing) = (self.id, standing.name());
            return Err(EmergencyRefusal::NotAsked { id, standing });
        };
        let (first, second) = (custodian(&self.by)?, custodian(by)?);
        if case.asker_now != Some(first) {
            return Err(EmergencyRefusal::SeatLost(self.by.token.clone()));
        }
        if is_same(&self.by.person, &by.person) {
            return Err(EmergencyRefusal::SamePerson(by.person.clone()));
        }
        if first == second {
            let other = match first {
                Group::Security => Group::Operations,
                Group::Operations | Group::Approvers => Group::Security,
            };
            return Err(EmergencyRefusal::SameGroup(first, other));
        }
        if by.since > self.at {
            return Err(EmergencyRefusal::SeatTooNew(by.token.clone()));
        }
        if case.halts != self.holds {
            return Err(EmergencyRefusal::HoldsChanged);
        }
        case.allows(self.id, now)?;
        let mut confirmed = self.clone();
        confirmed.confirmed = Some(Confirmation {
            by: by.clone(),
            at: now,
            until: now + TimeDelta::minutes(self.wish.minutes.into()),
        });
        Ok(confirmed)
    }

    /// Returns what it lets go on, once it is confirmed.
    #[must_use]
    pub fn exemption(&self) -> Option<Exemption> {
        let confirmed = self.confirmed.as_ref()?;
        Some(Exemption {
            id: self.id,
            holds: self.holds.clone(),
            rollout: self.wish.rollout,
            waves: self.wish.waves.clone(),
            until: confirmed.until,
        })
    }

    /// Ends it before its time, or takes the question back. Any custodian may: stopping needs one.
    ///
    /// # Errors
    /// When it is over, or they are no custodian.
    pub fn end(&self, by: &Seat, note: &str, now: Timestamp) -> Result<Self, EmergencyRefusal> {
        custodian(by)?;
        let standing = self.standing(now);
        match standing {
            Standing::Asked { .. } | Standing::Running { .. } => {}
            Standing::Dropped | Standing::ReviewDue { .. } | Standing::Reviewed => {
                let (id, standing) = (self.id, standing.name());
                return Err(EmergencyRefusal::NotOpen { id, standing });
            }
        }
        let mut ended = self.clone();
        ended.ended = Some(by.word(note, now));
        Ok(ended)
    }

    /// Takes in what somebody found who looked back at it.
    ///
    /// # Errors
    /// When there is nothing to look back at, or they were one of its custodians.
    pub fn review(&self, by: &Seat, note: &str, now: Timestamp) -> Result<Self, EmergencyRefusal> {
        let standing = self.standing(now);
        let Standing::ReviewDue { .. } = standing else {
            let (id, standing) = (self.id, standing.name());
            return Err(EmergencyRefusal::NoReviewDue { id, standing });
        };
        if by.group.is_none() {
            return Err(EmergencyRefusal::NoSeat(by.token.clone()));
        }
        let second = self.confirmed.as_ref().map(|confirmed| &confirmed.by);
        let mut custodians = [Some(&self.by), second].into_iter().flatten();
        if custodians.any(|custodian| is_same(&custodian.person, &by.person)) {
            return Err(EmergencyRefusal::CustodianReviews(by.person.clone()));
        }
        let mut reviewed = self.clone();
        reviewed.review = Some(by.word(note, now));
        Ok(reviewed)
    }

    /// Says in one sentence where it stands, and what comes next.
    #[must_use]
    pub fn sentence(&self, now: Timestamp, overridden_by: Option<&InForce>) -> String {
        if let (Standing::Running { until }, Some(hold)) = (self.standing(now), overridden_by) {
            return format!(
                "it stands still under {} `{}`, which it does not name; its time lasts until {}",
                hold.kind.name(),
                hold.id,
                instant(until)
            );
        }
        match self.standing(now) {
            Standing::Asked { until } => format!(
                "`{}` asks for it; a custodian of the other group confirms until {}",
                self.by.person,
                instant(until)
            ),
            Standing::Dropped => "nobody confirmed it in time, or it was taken back".to_owned(),
            Standing::Running { until } => format!("it lasts until {}", instant(until)),
            Standing::ReviewDue { since } => format!(
                "it has been over since {}; somebody who was no custodian reviews it",
                instant(since)
            ),
            Standing::Reviewed => "it is over, and was reviewed".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
