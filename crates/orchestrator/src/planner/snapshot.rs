//! Everything the planner knows. Whoever fills it reads the database once, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::hold::{Exemption, HoldKind, HoldSet, InForce, Place, Scope};
use crate::ids::{Principal, Timestamp, WaveNumber, as_stored};
use crate::ledger::{SlotState, Tally};
use crate::plan::PlannedWave;
use crate::rollout::{Claims, Lifecycle, Rollout, WaveProgress, WaveStatus};
use crate::wave::gate::judge::Counts;
use crate::wave::gate::{Evidence, Gate, Judgement, Reading};
use crate::wave::ramp::Ramp;
use crate::wave::soak::Seconds;
use crate::wave::window::{Freeze, WindowState, open_at};

/// One person's yes, from somebody who may still give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Who.
    pub by: Principal,
    /// The digest of the plan they looked at.
    pub digest: Digest,
    /// When.
    pub at: Timestamp,
}

/// What is known of one wave: what the plan promises, and what has become of it.
#[derive(Debug, Clone)]
pub struct WaveFacts {
    /// Its name.
    pub name: String,
    /// How many people are in its roster.
    pub people: u64,
    /// What it must show. A last wave without a gate of its own is judged by `Gate::default()`:
    /// everybody has answered.
    pub gate: Gate,
    /// How long it rests.
    pub soak: Seconds,
    /// How it grows.
    pub ramp: Option<Ramp>,
    /// What its schedule and the freezes say now: `wave::window::open_at`.
    pub window: WindowState,
    /// Its people by state.
    pub tally: Tally,
    /// What workers may claim of it, as it is stored; `None`: nothing.
    pub claims: Option<Claims>,
    /// The earliest instant at which one of them can be claimed; `None`: nobody can.
    pub ready_at: Option<Timestamp>,
    /// Every yes to it by somebody who may still give one.
    pub approvals: Vec<Approval>,
    /// The newest reading of each metric by name.
    pub readings: BTreeMap<String, Reading>,
    /// Whether its people are being taken back: nobody of it is begun meanwhile.
    pub taking_back: bool,
}

/// Everything the planner knows of one rollout.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    /// The rollout as a place that holds cover.
    pub place: Place,
    /// The rollout.
    pub rollout: &'a Rollout,
    /// Its waves, from the first.
    pub waves: Vec<WaveFacts>,
    /// Every hold in force that may cover any of it.
    pub holds: &'a HoldSet,
    /// Until when the target has asked everybody to wait.
    pub target_closed_until: Option<Timestamp>,
    /// Whether it takes people back.
    pub takes_back: bool,
}

impl WaveFacts {
    /// Returns what the plan promises of a wave and what its people have come to. What else is known
    /// (`claims`, `ready_at`, `approvals`, `readings`) is for the caller to add.
    #[must_use]
    pub fn planned(wave: &PlannedWave, freezes: &[Freeze], tally: Tally, now: Timestamp) -> Self {
        Self {
            name: wave.name.clone(),
            people: wave.people,
            gate: wave.gate.clone().unwrap_or_default(),
            soak: wave.soak,
            ramp: wave.ramp,
            window: open_at(wave.schedule.as_ref(), freezes, now),
            tally,
            claims: None,
            ready_at: None,
            approvals: Vec::new(),
            readings: BTreeMap::new(),
            taking_back: false,
        }
    }

    /// Returns the counts a gate is judged by.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |states: &[SlotState]| {
            let people = states.iter().map(|state| self.tally.get(*state));
            people.fold(0, u64::saturating_add)
        };
        let gone = of(&[
            SlotState::Skipped,
            SlotState::Departed,
            SlotState::Transferred,
        ]);
        Counts {
            eligible: self.tally.total().saturating_sub(gone),
            // Whoever was taken back had been moved: the decision about them says nothing of how well that went.
            done: of(&[SlotState::Done, SlotState::Reverted]),
            failed: of(&[SlotState::Failed, SlotState::Review]),
            unknown: of(&[SlotState::Unknown]),
            open: of(&[
                SlotState::Queued,
                SlotState::InFlight,
                SlotState::Awaiting,
                SlotState::Retry,
                SlotState::Reverting,
                SlotState::Parked,
            ]),
        }
    }

    /// Returns how many people have still to be begun, or begun again; also those whom a hold on some of the
    /// wave keeps back, so that no wave ends without them.
    #[must_use]
    pub fn to_begin(&self) -> u64 {
        let retry = self.tally.get(SlotState::Retry);
        self.waiting().saturating_add(retry)
    }

    /// Returns how many people nobody has begun with, whether they are kept back or not.
    pub(super) fn waiting(&self) -> u64 {
        let queued = self.tally.get(SlotState::Queued);
        queued.saturating_add(self.parked())
    }

    /// Returns how many people a hold on some of the wave keeps back.
    #[must_use]
    pub fn parked(&self) -> u64 {
        self.tally.get(SlotState::Parked)
    }

    /// Returns how many people have been begun at all.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.counts().eligible.saturating_sub(self.waiting())
    }

    /// Returns how many places of a tranche are taken: by people who have been begun, or who are kept back, whose
    /// places are kept for them. So a hold on some of the wave never lets more of the others in.
    #[must_use]
    pub fn taken(&self) -> u64 {
        let queued = self.tally.get(SlotState::Queued);
        self.counts().eligible.saturating_sub(queued)
    }

    /// Returns how many people have been begun and have come to nothing yet, the silent aside.
    #[must_use]
    pub fn on_the_way(&self) -> u64 {
        self.counts().open.saturating_sub(self.waiting())
    }

    /// Returns what the gate is judged by, with the approvals of this very plan and evidence.
    pub(super) fn evidence(&self, rollout: &Rollout, progress: &WaveProgress) -> Evidence {
        Evidence {
            counts: self.counts(),
            approvals: self.valid_approvals(rollout, progress),
            readings: self.readings.clone(),
        }
    }

    /// Judges the gate by what is known now.
    #[must_use]
    pub fn judge(&self, rollout: &Rollout, progress: &WaveProgress, now: Timestamp) -> Judgement {
        self.gate.judge(&self.evidence(rollout, progress), now)
    }

    /// Counts distinct people who approved this plan after the wave had soaked, its makers aside.
    fn valid_approvals(&self, rollout: &Rollout, progress: &WaveProgress) -> u32 {
        let Some(plan) = rollout.lifecycle.plan() else {
            return 0;
        };
        if progress.status != (WaveStatus::Gated {}) {
            return 0;
        }
        let starter = rollout.lifecycle.started().map(|started| &started.by);
        let valid = self.approvals.iter().filter(|approval| {
            approval.digest == plan.digest
                && approval.at >= as_stored(progress.since)
                && approval.by != plan.made_by
                && starter != Some(&approval.by)
        });
        let people: BTreeSet<_> = valid.map(|approval| &approval.by).collect();
        u32::try_from(people.len()).unwrap_or(u32::MAX)
    }
}

impl Snapshot<'_> {
    /// Returns each wave of a rollout with what is known of it. A wave without facts does not appear.
    pub(super) fn waves_of<'r>(
        &'r self,
        rollout: &'r Rollout,
    ) -> impl DoubleEndedIterator<Item = Wave<'r>> + ExactSizeIterator {
        let waves = rollout.waves.iter().zip(&self.waves).enumerate();
        waves.map(|(index, (progress, facts))| Wave {
            number: WaveNumber(u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)),
            progress,
            facts,
        })
    }

    /// Says whether waves of this rollout may open, soak and pass at all.
    pub(super) const fn is_running(rollout: &Rollout) -> bool {
        matches!(rollout.lifecycle, Lifecycle::Running { .. })
    }

    /// Returns the gate hold the planner itself has placed on this rollout.
    pub(super) fn own_gate_hold(&self) -> Option<&InForce> {
        let scope = Scope::Rollout(self.place.rollout);
        self.holds.same(HoldKind::Gate, scope)
    }

    /// Returns the most severe hold that stops a wave at an instant, the planner's own gate hold aside.
    pub(super) fn held(&self, wave: Option<WaveNumber>, now: Timestamp) -> Option<&InForce> {
        let place = Place { wave, ..self.place };
        let own = self.own_gate_hold().map(|hold| hold.id);
        let others = self
            .holds
            .stopping(&place, now)
            .filter(|hold| Some(hold.id) != own);
        others.min_by_key(|hold| (std::cmp::Reverse(hold.kind), hold.since, hold.id))
    }

    /// Says whether people of a wave are being let go by a hold that has ended: until they are in the queue again it
    /// neither opens nor grows, for nobody knows how many it has.
    pub(super) fn is_letting_go(&self, wave: &Wave<'_>) -> bool {
        let mut holds = self.holds.partial(self.place.rollout, wave.number);
        wave.facts.parked() > 0 && holds.next().is_none()
    }

    /// Returns the exemptions of this rollout that count at an instant.
    pub(super) fn exemptions(&self, now: Timestamp) -> impl Iterator<Item = &Exemption> {
        let rollout = self.place.rollout;
        let own =
            move |exemption: &&Exemption| exemption.rollout == rollout && now < exemption.until;
        self.holds.exemptions().filter(own)
    }
}

/// One wave: its number, how far it has come, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wave<'a> {
    pub(super) number: WaveNumber,
    pub(super) progress: &'a WaveProgress,
    pub(super) facts: &'a WaveFacts,
}

impl Wave<'_> {
    /// Returns how long its tranche rests before the next one: as the plan says; while it re-enters after
    /// a release at least its soak, and never less than its ramp.
    pub(super) fn tranche_rest(&self) -> Option<Seconds> {
        let tranche = self.progress.tranche?;
        let ramp = self.facts.ramp.map(|ramp| ramp.double_every);
        if tranche.reentry_from.is_none() {
            return ramp;
        }
        let rest = self.facts.soak.max(ramp.unwrap_or_default());
        tranche.is_reentry(self.facts.people).then_some(rest)
    }
}
