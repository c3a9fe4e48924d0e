//! The world of a story: a clock, people in packed batches, and a target that does as it is told.

use std::collections::{BTreeMap, VecDeque};

use chrono::TimeDelta;
use uuid::Uuid;

use super::script::{Fate, Line, StoryWave};
use crate::digest::Digest;
use crate::hold::{HoldKind, HoldSet, InForce, Place, Scope};
use crate::ids::{
    HoldId, PlanId, Principal, RolloutId, TargetId, Timestamp, WaveNumber, from_millis,
};
use crate::ledger::{BATCH_SIZE_MAX, Outcome, SlotCommand, SlotIndex, SlotState, Slots, Tally};
use crate::planner::{self, Approval, Effect, Snapshot, Step, WaveFacts};
use crate::rollout::{Change, Claims, Command, Event, PlanRef, Rollout};
use crate::wave::ramp::Reentry;
use crate::wave::soak::Seconds;
use crate::wave::window::{self, Freeze, open_at};

/// How long the target takes to answer.
const LATENCY: TimeDelta = TimeDelta::seconds(1);
/// How long somebody who was put off, or was silent, is left alone.
const AGAIN: TimeDelta = TimeDelta::minutes(5);

/// Names one person: the batch and the place in it.
type Who = (usize, SlotIndex);

#[derive(Debug)]
struct People {
    terms: StoryWave,
    batches: Vec<Slots>,
    fates: VecDeque<Fate>,
    /// Who never gives an answer, and how.
    mute: BTreeMap<Who, Fate>,
    approvals: Vec<Approval>,
    /// What may be claimed, as a database would have it.
    claims: Option<Claims>,
}

#[derive(Debug)]
struct Answer {
    at: Timestamp,
    wave: usize,
    who: Who,
    outcome: Outcome,
}

#[derive(Debug)]
pub(super) struct World {
    now: Timestamp,
    speed: u32,
    freezes: Vec<Freeze>,
    rollout: Rollout,
    waves: Vec<People>,
    holds: HoldSet,
    holds_placed: u128,
    answers: Vec<Answer>,
    told: Vec<String>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            now: from_millis(0).unwrap_or_default(),
            speed: 10,
            freezes: Vec::new(),
            rollout: Rollout::new(),
            waves: Vec::new(),
            holds: HoldSet::default(),
            holds_placed: 0,
            answers: Vec::new(),
            told: Vec::new(),
        }
    }
}

const fn place() -> Place {
    Place::rollout(
        TargetId::new(Uuid::from_u128(1)),
        RolloutId::new(Uuid::from_u128(2)),
    )
}

fn manager() -> Principal {
    Principal::new("manager")
}

fn later(at: Timestamp, by: TimeDelta) -> Timestamp {
    at.checked_add_signed(by).unwrap_or(Timestamp::MAX_UTC)
}

impl World {
    /// Returns what has happened since it was last asked.
    pub(super) fn take_told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    pub(super) fn carry_out(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::At(at) => self.now = at,
            Line::Speed(people) => self.speed = people,
            Line::Freeze(freeze) => {
                freeze.check().map_err(|error| error.to_string())?;
                self.freezes.push(freeze);
            }
            Line::Wave(terms) => self.waves.push(People::new(*terms)),
            Line::Start => self.start(),
            Line::Next(wave, fate, people) => {
                self.wave_mut(wave)?.fates.extend((0..people).map(|_| fate));
            }
            Line::Answer(wave) => self.wave_mut(wave)?.mute.clear(),
            Line::For(length) => self.run(length.after(self.now)),
            Line::Until(at) => self.run(at),
            Line::Down(length) => self.sleep(length),
            Line::Hold(kind, reason) => self.hold(kind, reason, "a person"),
            Line::Release(kind) => self.release(kind),
            Line::Retry(wave) => self.command(&Command::RetryFailed {
                wave: Some(wave),
                by: manager(),
                reason: "the cause is gone".to_owned(),
            }),
            Line::Approve(wave, by) => self.approve(wave, by)?,
            Line::Revise => self.command(&Command::Revise { by: manager() }),
            Line::Cancel => self.command(&Command::Cancel {
                by: manager(),
                reason: "the story ends".to_owned(),
            }),
            Line::Report => {
                let step = self.look();
                let lines = step.report.lines.iter();
                let told = lines.map(|line| format!("{}: {line}", line.code()));
                self.told.extend(told);
            }
            Line::Counts => self.count(),
        }
        Ok(())
    }

    fn wave_mut(&mut self, wave: WaveNumber) -> Result<&mut People, String> {
        let index = index_of(wave).ok_or_else(|| format!("there is no wave {wave}"))?;
        let found = self.waves.get_mut(index);
        found.ok_or_else(|| format!("there is no wave {wave}"))
    }

    fn start(&mut self) {
        let plan = PlanRef {
            id: PlanId::new(Uuid::from_u128(3)),
            digest: digest(),
            waves: u32::try_from(self.waves.len()).unwrap_or(u32::MAX),
            opens_at: None,
            made_by: manager(),
            made_at: self.now,
        };
        self.command(&Command::Plan { plan });
        self.command(&Command::Start {
            digest: digest(),
            by: manager(),
        });
        self.command(&Command::Prepare { next: None });
    }

    fn approve(&mut self, wave: WaveNumber, by: Principal) -> Result<(), String> {
        let before = self.told.len();
        self.command(&Command::ApproveWave {
            wave,
            digest: digest(),
            by: by.clone(),
        });
        let was_accepted = self
            .told
            .iter()
            .skip(before)
            .any(|line| line.contains("wave.approved"));
        if was_accepted {
            let at = self.now;
            let digest = digest();
            let approval = Approval { by, digest, at };
            self.wave_mut(wave)?.approvals.push(approval);
        }
        Ok(())
    }

    fn command(&mut self, command: &Command) {
        let held = self.holds.worst(&place()).cloned();
        match self.rollout.decide(command, held.as_ref(), self.now) {
            Ok(events) if events.is_empty() => self.tell("done before"),
            Ok(events) => self.apply(&events),
            Err(refusal) => self.tell(&format!("refused, {}: {refusal}", refusal.code())),
        }
    }

    fn apply(&mut self, events: &[Event]) {
        for event in events {
            let rollout = std::mem::take(&mut self.rollout);
            self.rollout = rollout.apply(event);
            let told = self.sentence(event);
            self.tell(&told);
        }
    }

    fn tell(&mut self, what: &str) {
        let at = self.now.format("%Y-%m-%d %H:%M:%SZ");
        self.told.push(format!("{at}  {what}"));
    }

    fn sentence(&self, event: &Event) -> String {
        let code = event.change.code();
        let Some(wave) = event.change.wave() else {
            return code.to_owned();
        };
        let terms = index_of(wave).and_then(|index| self.waves.get(index));
        let schedule = terms.and_then(|people| people.terms.schedule.as_ref());
        let local = schedule
            .and_then(|schedule| window::zone(&schedule.zone).ok())
            .map(|zone| {
                self.now
                    .with_timezone(&zone)
                    .format(" (%H:%M %Z there)")
                    .to_string()
            });
        let local = local.unwrap_or_default();
        match &event.change {
            Change::WaveOpened { until, tranche, .. } => {
                let until = until.map_or_else(String::new, |until| {
                    format!(" until {}", crate::sentence::instant(until))
                });
                let tranche = tranche.map_or_else(String::new, |t| format!(" for {}", t.people));
                format!("{code} {wave}{local}{until}{tranche}")
            }
            Change::WindowClosed { .. } => format!("{code} {wave}{local}"),
            Change::TrancheGrown { tranche, .. } => format!("{code} {wave} to {}", tranche.people),
            Change::GateFailed { sentence, .. } => format!("{code} {wave}: {sentence}"),
            Change::Revised { .. }
            | Change::Planned { .. }
            | Change::Started { .. }
            | Change::PreparedTo { .. }
            | Change::Prepared {}
            | Change::Cancelled { .. }
            | Change::WaveApproved { .. }
            | Change::RetryBegan { .. }
            | Change::WaveReopened { .. }
            | Change::WaveDrained { .. }
            | Change::SoakBegan { .. }
            | Change::SoakEnded { .. }
            | Change::WavePassed { .. }
            | Change::WentOn { .. }
            | Change::Rebased { .. }
            | Change::Completed {} => format!("{code} {wave}"),
        }
    }

    fn hold(&mut self, kind: HoldKind, reason: String, by: &str) {
        self.holds_placed += 1;
        let scope = Scope::Rollout(place().rollout);
        self.tell(&format!("hold.placed {} by {by}: {reason}", kind.name()));
        self.holds.add(InForce {
            by_rule: false,
            id: HoldId::new(Uuid::from_u128(self.holds_placed)),
            kind,
            scope,
            since: self.now,
            reason,
            part: None,
            keeps: None,
        });
    }

    fn release(&mut self, kind: HoldKind) {
        let found = self.holds.same(kind, Scope::Rollout(place().rollout));
        if let Some(id) = found.map(|hold| hold.id) {
            self.holds.remove(id);
            self.tell(&format!("hold.released {}", kind.name()));
            if kind == HoldKind::Halt {
                let (plan, reentry) = (None, Reentry::default());
                self.command(&Command::GoOn {
                    plan,
                    reentry,
                    wave: None,
                });
            }
        } else {
            self.tell(&format!("no {} is in force", kind.name()));
        }
    }

    fn look(&self) -> Step {
        let facts = self
            .waves
            .iter()
            .map(|people| people.facts(&self.freezes, self.now));
        let snapshot = Snapshot {
            place: place(),
            rollout: &self.rollout,
            waves: facts.collect(),
            holds: &self.holds,
            target_closed_until: None,
            takes_back: false,
        };
        planner::step(&snapshot, self.now)
    }

    /// Looks and works whenever something is due, up to an instant.
    fn run(&mut self, until: Timestamp) {
        loop {
            self.take_answers();
            let step = self.look();
            self.apply(&step.events);
            for effect in step.effects {
                self.effect(effect);
            }
            self.work();
            let next = self.next_instant(step.wake_at);
            match next.filter(|next| *next <= until) {
                Some(next) => self.now = next,
                None => break,
            }
        }
        self.now = until.max(self.now);
    }

    /// Nobody looks and nobody works; whoever was on the way is lost.
    fn sleep(&mut self, length: Seconds) {
        self.now = length.after(self.now);
        self.answers.clear();
        for people in &mut self.waves {
            for batch in &mut people.batches {
                batch.lapse(self.now);
            }
        }
    }

    fn next_instant(&self, wake_at: Option<Timestamp>) -> Option<Timestamp> {
        let answers = self.answers.iter().map(|answer| answer.at);
        answers.chain(wake_at).filter(|at| *at > self.now).min()
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::OpenClaims { wave, claims } => self.store_claims(wave, Some(claims)),
            Effect::CloseClaims { wave } => self.store_claims(wave, None),
            Effect::PlaceGateHold { reason, .. } => {
                self.hold(HoldKind::Gate, reason, "the planner")
            }
            Effect::EndGateHold { .. } => self.release(HoldKind::Gate),
            Effect::EndExemption { exemption } => {
                self.holds.end_exemption(exemption);
            }
            Effect::RequeueFailed { wave } => {
                let now = self.now;
                if let Ok(people) = self.wave_mut(wave) {
                    people.requeue(now);
                }
            }
        }
    }

    fn store_claims(&mut self, wave: WaveNumber, claims: Option<Claims>) {
        if let Ok(people) = self.wave_mut(wave) {
            people.claims = claims;
        }
    }

    fn take_answers(&mut self) {
        let now = self.now;
        let answers = std::mem::take(&mut self.answers);
        let (due, waiting) = answers.into_iter().partition(|answer| answer.at <= now);
        self.answers = waiting;
        let due: Vec<Answer> = due;
        for answer in due {
            let (batch, index) = answer.who;
            let people = self.waves.get_mut(answer.wave);
            if let Some(batch) = people.and_then(|people| people.batches.get_mut(batch)) {
                batch.record(&[(index, answer.outcome)], now);
            }
        }
    }

    /// Takes up whoever may be begun now: the same questions a worker asks before it claims.
    fn work(&mut self) {
        for index in 0..self.waves.len() {
            let number = number_of(index);
            let claims = self.waves.get(index).and_then(|people| people.claims);
            let place = Place::wave(place().target, place().rollout, number);
            let is_held = self.holds.stops(&place, self.now).is_some();
            let Some(claims) = claims.filter(|_| !is_held) else {
                continue;
            };
            if claims.until.is_some_and(|until| until <= self.now) {
                continue;
            }
            let Some(people) = self.waves.get_mut(index) else {
                continue;
            };
            let taken = people.take(self.speed, claims.begin_at_most, self.now);
            let answer = |(who, outcome)| Answer {
                at: later(self.now, LATENCY),
                wave: index,
                who,
                outcome,
            };
            self.answers.extend(taken.into_iter().map(answer));
        }
    }

    fn count(&mut self) {
        for (index, people) in self.waves.iter().enumerate() {
            let tally = people.tally();
            let counts = tally.iter().filter(|(_, count)| *count > 0);
            let counts: Vec<_> = counts
                .map(|(state, count)| format!("{state} {count}"))
                .collect();
            let number = number_of(index);
            let status = self
                .rollout
                .wave(number)
                .map_or("not started", |wave| wave.status.name());
            let name = &people.terms.name;
            self.told.push(format!(
                "wave {number} {name}, {status}: {}",
                counts.join(", ")
            ));
        }
    }
}

impl People {
    fn new(terms: StoryWave) -> Self {
        let mut batches = Vec::new();
        let mut left = terms.people;
        while left > 0 {
            let size = u16::try_from(left).unwrap_or(u16::MAX).min(BATCH_SIZE_MAX);
            batches.push(Slots::new(size));
            left = left.saturating_sub(u32::from(size));
        }
        Self {
            terms,
            batches,
            fates: VecDeque::new(),
            mute: BTreeMap::new(),
            approvals: Vec::new(),
            claims: None,
        }
    }

    fn tally(&self) -> Tally {
        let tallies = self.batches.iter().map(Slots::tally);
        tallies.fold(Tally::ZERO, |sum, tally| sum.plus(&tally))
    }

    fn facts(&self, freezes: &[Freeze], now: Timestamp) -> WaveFacts {
        let ready = self.batches.iter().filter_map(Slots::ready_at).min();
        WaveFacts {
            name: self.terms.name.clone(),
            people: u64::from(self.terms.people),
            gate: self.terms.gate.clone(),
            soak: self.terms.soak,
            ramp: self.terms.ramp,
            window: open_at(self.terms.schedule.as_ref(), freezes, now),
            tally: self.tally(),
            claims: self.claims,
            ready_at: ready.and_then(from_millis),
            approvals: self.approvals.clone(),
            readings: BTreeMap::new(),
            taking_back: false,
        }
    }

    /// Claims people as a worker would, and says what will become of each.
    fn take(
        &mut self,
        speed: u32,
        begin_at_most: Option<u64>,
        now: Timestamp,
    ) -> Vec<(Who, Outcome)> {
        let queued = self.tally().get(SlotState::Queued);
        let begun = u64::from(self.terms.people).saturating_sub(queued);
        let mut limit = speed;
        let mut fresh = begin_at_most.map_or(u64::MAX, |most| most.saturating_sub(begun));
        let mut taken = Vec::new();
        for batch_index in 0..self.batches.len() {
            let Some(batch) = self.batches.get_mut(batch_index) else {
                continue;
            };
            let before = batch.tally().get(SlotState::Queued);
            let claimed = batch.claim(limit, u32::try_from(fresh).unwrap_or(u32::MAX), now);
            fresh = fresh.saturating_sub(before - batch.tally().get(SlotState::Queued));
            limit = limit.saturating_sub(u32::try_from(claimed.len()).unwrap_or(u32::MAX));
            for slot in claimed {
                let who = (batch_index, slot.index);
                let outcome = self.outcome(who, now);
                taken.push((who, outcome));
            }
        }
        taken
    }

    fn outcome(&mut self, who: Who, now: Timestamp) -> Outcome {
        let again = later(now, AGAIN);
        let fate = self
            .mute
            .get(&who)
            .copied()
            .or_else(|| self.fates.pop_front());
        match fate {
            None => Outcome::Done { adopted: false },
            Some(Fate::Fail) => Outcome::Failed,
            Some(Fate::Retry) => Outcome::Retry { not_before: again },
            Some(Fate::Silent) => {
                self.mute.insert(who, Fate::Silent);
                Outcome::Unknown { not_before: again }
            }
            Some(Fate::Accept) => {
                self.mute.insert(who, Fate::Accept);
                Outcome::Accepted { confirm_by: again }
            }
        }
    }

    fn requeue(&mut self, now: Timestamp) {
        for batch in &mut self.batches {
            let failed = |index: &SlotIndex| batch.state(*index) == Some(SlotState::Failed);
            let failed: Vec<_> = (0..batch.len()).map(SlotIndex).filter(failed).collect();
            for index in failed {
                // The table lets every failed person be tried again.
                let _ = batch.apply(index, SlotCommand::Again, now);
            }
        }
    }
}

fn digest() -> Digest {
    Digest::of(b"the plan of the story")
}

fn number_of(index: usize) -> WaveNumber {
    WaveNumber(u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1))
}

fn index_of(wave: WaveNumber) -> Option<usize> {
    usize::try_from(wave.get().checked_sub(1)?).ok()
}
