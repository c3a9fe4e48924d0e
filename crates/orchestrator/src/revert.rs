//! Taking people back: who of which waves, what is asked for, and who must say yes.
//!
//! A revert is a rollout of its own whose people are those who are `done` in chosen waves of another one,
//! the last wave first. It has its waves, gates and rate like any other; what is here is what it has besides:
//! the preview (`fate`), what the yes of people is to (`digest`, `Sheet`), and whether it may be asked for and
//! started. Terms are those of the release of a halt: two people, one of security and one of operations.
//!
//! Nothing here reads a row or sends anything.

mod matching;
mod refusal;

use serde::{Deserialize, Serialize};

pub use self::matching::Matching;
pub use self::refusal::RevertRefusal;
use crate::digest::{Digest, DigestBuilder};
use crate::hold::moved::MovedFrozen;
use crate::hold::quorum::may_say_yes;
use crate::hold::release::{End, Request, Seat, Standing, Substance};
use crate::hold::terms::Terms;
use crate::ids::{HoldId, Ordinal, PopulationVersionId, TargetId, Timestamp, WaveNumber};
use crate::ledger::{SlotState, Slots, Tally};
use crate::plan::PlannedWave;
use crate::spec::RateLimit;

/// The version of the frozen form of a sheet.
pub const SHEET_FORMAT: u32 = 1;

/// What a revert makes of somebody who stands somewhere in the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Taken back.
    TakenBack,
    /// A request is under way: nobody knows yet what becomes of it.
    UnderWay,
    /// May exist at the target: to be settled first.
    Unsettled,
    /// The target holds something that is not ours: a person decides first.
    NeedsDecision,
    /// Taken back before.
    Before,
    /// Was not moved.
    NotMoved,
}

impl Fate {
    /// Returns what becomes of somebody in this state.
    #[must_use]
    pub const fn of(state: SlotState) -> Self {
        match state {
            SlotState::Done => Self::TakenBack,
            SlotState::InFlight | SlotState::Reverting => Self::UnderWay,
            SlotState::Unknown | SlotState::Awaiting => Self::Unsettled,
            SlotState::Review => Self::NeedsDecision,
            SlotState::Reverted => Self::Before,
            SlotState::Queued
            | SlotState::Retry
            | SlotState::Failed
            | SlotState::Skipped
            | SlotState::Departed
            | SlotState::Transferred
            | SlotState::Parked => Self::NotMoved,
        }
    }

    /// Returns the stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TakenBack => "taken_back",
            Self::UnderWay => "under_way",
            Self::Unsettled => "unsettled",
            Self::NeedsDecision => "needs_decision",
            Self::Before => "taken_back_before",
            Self::NotMoved => "not_moved",
        }
    }

    /// Says why, in words.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::TakenBack => "are taken back",
            Self::UnderWay => "are under way: wait until what became of them is written",
            Self::Unsettled => {
                "may exist at the target, which has not said so: they must be settled first"
            }
            Self::NeedsDecision => "need a decision: the target holds something that is not ours",
            Self::Before => "were taken back before",
            Self::NotMoved => "were not moved",
        }
    }
}

/// Returns who of a batch is taken back: whoever is done, of those who are `wanted`.
pub fn taken(slots: &Slots, roster: &[Ordinal], wanted: impl Fn(Ordinal) -> bool) -> Vec<Ordinal> {
    let people = slots.states().zip(roster.iter().copied());
    people
        .filter(|(state, ordinal)| *state == SlotState::Done && wanted(*ordinal))
        .map(|(_, ordinal)| ordinal)
        .collect()
}

/// One wave of the original, as it was when its people were asked back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SheetWave {
    /// Its number in the original.
    pub origin: WaveNumber,
    /// Its name.
    pub name: String,
    /// Its number in the revert; `None`: nobody of it is taken back.
    pub number: Option<WaveNumber>,
    /// How many are taken back.
    pub people: u64,
    /// Where everybody of it stood.
    pub tally: Tally,
}

impl SheetWave {
    /// Counts its people by what becomes of them: those who were moved and are not wanted are not in it.
    #[must_use]
    pub fn fates(&self) -> Vec<(Fate, u64)> {
        let all = [
            Fate::UnderWay,
            Fate::Unsettled,
            Fate::NeedsDecision,
            Fate::Before,
            Fate::NotMoved,
        ];
        let count = |fate| {
            let states = self
                .tally
                .iter()
                .filter(|(state, _)| Fate::of(*state) == fate);
            (fate, states.map(|(_, people)| people).sum::<u64>())
        };
        let counted = all.into_iter().map(count);
        counted.filter(|(_, people)| *people > 0).collect()
    }

    /// Returns how many were moved and do not match what was asked for.
    #[must_use]
    pub fn unmatched(&self) -> u64 {
        self.tally.get(SlotState::Done).saturating_sub(self.people)
    }
}

/// What was asked for, as it is stored for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sheet {
    /// The version of this form.
    pub format: u32,
    /// The name of the rollout whose people are taken back.
    pub original: String,
    /// The digest of its plan.
    pub original_plan: Digest,
    /// The chosen waves, in the order in which they are taken back.
    pub waves: Vec<SheetWave>,
    /// Which of their people, as it was written; `None`: everybody.
    pub matching: Option<String>,
    /// The halts that covered the revert when it was asked for. They do not stop it once it is approved; any
    /// other hold does.
    pub holds: Vec<HoldId>,
}

/// Digests who is in a roster, by their places in one version of the population.
#[must_use]
pub fn roster_digest(version: PopulationVersionId, batches: &[Vec<Ordinal>]) -> Digest {
    let mut builder = DigestBuilder::default();
    builder.part(version.uuid().as_bytes());
    for batch in batches {
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|ordinal| ordinal.get().to_le_bytes())
            .collect();
        builder.part(&bytes);
    }
    builder.finish()
}

/// Digests everything that people say yes to: whose plan, which waves, who, how fast, under which gates, where,
/// and past which holds.
#[must_use]
pub fn digest(
    sheet: &Sheet,
    waves: &[PlannedWave],
    rate: Option<RateLimit>,
    target: TargetId,
) -> Digest {
    // None of these can fail: every key is a text.
    let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    let mut builder = DigestBuilder::default();
    builder.part(b"tidegate revert 1");
    builder.part(json(serde_json::to_string(sheet)).as_bytes());
    builder.part(target.uuid().as_bytes());
    builder.part(json(serde_json::to_string(&rate)).as_bytes());
    for wave in waves {
        builder.part(wave.name.as_bytes());
        builder.part(&wave.roster_digest.0);
        builder.part(json(serde_json::to_string(&(&wave.gate, &wave.ramp))).as_bytes());
    }
    builder.finish()
}

/// A chosen wave of the original as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its number.
    pub number: WaveNumber,
    /// Where its people stand.
    pub tally: Tally,
    /// How many are in flight under a lease that is in force. Whose lease is over is in doubt: under a hold nobody
    /// claims the batch, which is when that is written.
    pub under_way: u64,
    /// The sum of the fences of its batches: every claim moves it on.
    pub fences: i64,
    /// Whether another revert takes its people back already.
    pub taking_back: bool,
}

/// Digests where the chosen waves stand. Whoever is done leaves that by a decision, which the counts show, and
/// comes to it by a claim, which the fences show: while this is the same, the same people are done.
#[must_use]
pub fn basis(chosen: &[Chosen]) -> Digest {
    let mut builder = DigestBuilder::default();
    for wave in chosen {
        builder.part(&wave.number.get().to_le_bytes());
        builder.part(&wave.fences.to_le_bytes());
        for (_, people) in wave.tally.iter() {
            builder.part(&people.to_le_bytes());
        }
    }
    builder.finish()
}

/// Decides whether people of these waves can be taken back as things are. `frozen` says of a hold in force that
/// nothing about people already moved may change.
///
/// # Errors
/// When somebody is under way, another revert is, nobody was moved, or a hold freezes them.
pub fn may_take_back(chosen: &[Chosen], frozen: Option<MovedFrozen>) -> Result<(), RevertRefusal> {
    if let Some(frozen) = frozen {
        return Err(frozen.into());
    }
    for wave in chosen {
        let number = wave.number;
        if wave.taking_back {
            return Err(RevertRefusal::AlreadyOpen { wave: number });
        }
        let people = wave.under_way;
        if people > 0 {
            return Err(RevertRefusal::InFlight {
                wave: number,
                people,
            });
        }
    }
    let moved = chosen.iter().map(|wave| wave.tally.get(SlotState::Done));
    if moved.sum::<u64>() == 0 {
        return Err(RevertRefusal::Nobody);
    }
    Ok(())
}

/// A revert that was asked for, and what it is about now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// What was asked, by whom, and who said yes.
    pub request: Request,
    /// The digest that a yes names.
    pub digest: Digest,
    /// What it is about now.
    pub substance: Substance,
}

impl Case {
    /// Says where it stands.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        self.request.stands(&Terms::default(), &self.substance, now)
    }

    /// Decides whether somebody's yes is taken; says whether it is a new one.
    ///
    /// # Errors
    /// When it would not count, with the reason why.
    pub fn may_approve(
        &self,
        (by, digest): (&Seat, Digest),
        now: Timestamp,
    ) -> Result<bool, RevertRefusal> {
        self.alive(digest, now)?;
        let request = &self.request;
        let asked = (&request.by, request.at);
        Ok(may_say_yes(asked, &request.approvals, by)?)
    }

    /// Decides whether it may be started now.
    ///
    /// # Errors
    /// With the first thing that is missing.
    pub fn may_start(&self, digest: Digest, now: Timestamp) -> Result<(), RevertRefusal> {
        match self.alive(digest, now)? {
            Standing::Collecting { missing, .. } => Err(RevertRefusal::ApprovalsMissing(missing)),
            Standing::Ready { .. }
            | Standing::ApprovalsExpired { .. }
            | Standing::ExecutionExpired { .. }
            | Standing::Changed { .. }
            | Standing::Ended(_) => Ok(()),
        }
    }

    /// Returns where it stands when its approvals can count, and it is for this digest.
    fn alive(&self, digest: Digest, now: Timestamp) -> Result<Standing, RevertRefusal> {
        match self.standing(now) {
            Standing::Ended(End::Executed) => Err(RevertRefusal::Started),
            Standing::Ended(End::Vetoed | End::Replaced) => Err(RevertRefusal::Ended),
            Standing::Changed { differences } => Err(RevertRefusal::Changed { differences }),
            Standing::ApprovalsExpired { at } => Err(RevertRefusal::ApprovalsExpired { at }),
            Standing::ExecutionExpired { at } => Err(RevertRefusal::ExecutionExpired { at }),
            standing @ (Standing::Collecting { .. } | Standing::Ready { .. }) => {
                if digest == self.digest {
                    Ok(standing)
                } else {
                    Err(RevertRefusal::DigestDiffers {
                        current: self.digest,
                    })
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
