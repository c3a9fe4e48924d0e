//! The order in which things happen in one pass: protection first, then what permission allows.
//!
//! One event at a time, each on the state the one before has left, until none is due. Every rule reads
//! the state alone, so that asking again at the same instant finds nothing left to do.

use super::snapshot::{Snapshot, Wave};
use crate::ids::{Timestamp, WaveNumber};
use crate::ledger::SlotState;
use crate::rollout::{Change, Event, Rollout, WaveStatus};
use crate::wave::gate::Outcome;
use crate::wave::ramp::Tranche;
use crate::wave::window::WindowState;

/// How many events one wave can see in one pass: from waiting through a failed gate, doubled.
const EVENTS_PER_WAVE_MAX: usize = 16;

pub(super) fn advance(snapshot: &Snapshot<'_>, now: Timestamp) -> (Rollout, Vec<Event>) {
    let mut rollout = snapshot.rollout.clone();
    let mut events = Vec::new();
    // A rule that undid another would turn for ever; the bound makes that a late wave instead.
    let bound = rollout.waves.len().saturating_add(1) * EVENTS_PER_WAVE_MAX;
    while events.len() < bound {
        let Some(change) = next_change(snapshot, &rollout, now) else {
            break;
        };
        let event = Event { at: now, change };
        rollout = rollout.apply(&event);
        events.push(event);
    }
    (rollout, events)
}

fn next_change(snapshot: &Snapshot<'_>, rollout: &Rollout, now: Timestamp) -> Option<Change> {
    if !Snapshot::is_running(rollout) {
        return None;
    }
    let mut waves = snapshot.waves_of(rollout);
    if let Some(change) = waves.find_map(|wave| fail(rollout, wave, now)) {
        return Some(change);
    }
    // Under a hold nothing ticks: what is due is found due when the hold has gone. Waves that are exempt from
    // it go on by themselves; the others are held one by one.
    if snapshot.held(None, now).is_some() {
        return None;
    }
    let free = |wave: &Wave<'_>| snapshot.held(Some(wave.number), now).is_none();
    let mut waves = snapshot.waves_of(rollout).filter(free);
    if let Some(change) = waves.find_map(|wave| settle(wave, now)) {
        return Some(change);
    }
    if is_stopped_by_gate(rollout) {
        return None;
    }
    let known = |wave: &Wave<'_>| free(wave) && !snapshot.is_letting_go(wave);
    let mut waves = snapshot.waves_of(rollout).filter(known);
    if let Some(change) = waves.find_map(|wave| earn(rollout, wave, now)) {
        return Some(change);
    }
    open(snapshot, rollout, now).or_else(|| complete(snapshot, rollout))
}

/// Whether a failed gate, or a retry that has not queued everybody yet, stops the whole rollout.
pub(super) fn is_stopped_by_gate(rollout: &Rollout) -> bool {
    rollout.waves.iter().any(|wave| {
        matches!(
            wave.status,
            WaveStatus::Failed { .. } | WaveStatus::Retrying {}
        )
    })
}

/// A limit crossed for certain fails the wave at once, also one that has passed before.
fn fail(rollout: &Rollout, wave: Wave<'_>, now: Timestamp) -> Option<Change> {
    match wave.progress.status {
        WaveStatus::Failed { .. } | WaveStatus::Retrying {} => return None,
        // Nothing is asked of a wave before the first of its people has been begun.
        WaveStatus::Pending {} if wave.facts.begun() == 0 => return None,
        WaveStatus::Pending {}
        | WaveStatus::Open {}
        | WaveStatus::Waiting {}
        | WaveStatus::Draining { .. }
        | WaveStatus::Soaking { .. }
        | WaveStatus::Gated {}
        | WaveStatus::Passed {} => {}
    }
    let evidence = wave.facts.evidence(rollout, wave.progress);
    let judgement = wave.facts.gate.watch(&evidence, now);
    let finding = judgement.findings.first()?;
    Some(Change::GateFailed {
        wave: wave.number,
        condition: finding.condition.name().to_owned(),
        sentence: finding.sentence.clone(),
    })
}

/// What time and the people themselves decide: windows end, waves drain, soaks end.
fn settle(wave: Wave<'_>, now: Timestamp) -> Option<Change> {
    let number = wave.number;
    let facts = wave.facts;
    let to_begin = facts.to_begin();
    let is_closed = matches!(facts.window, WindowState::Closed { .. })
        || wave.progress.window_until.is_some_and(|until| until <= now);
    match wave.progress.status {
        WaveStatus::Open {} | WaveStatus::Waiting {} if to_begin == 0 => Some(drain(wave, now)),
        WaveStatus::Open {} if is_closed => Some(Change::WindowClosed { wave: number }),
        WaveStatus::Draining { .. } if to_begin > 0 => {
            is_closed.then_some(Change::WindowClosed { wave: number })
        }
        WaveStatus::Draining { until } => {
            let counts = facts.counts();
            let is_over = counts.open == 0 && counts.unknown == 0 || until <= now;
            is_over.then(|| Change::SoakBegan {
                wave: number,
                until: facts.soak.after(now),
            })
        }
        // Somebody came back to the queue, late or by a decision: the wave has not finished.
        // Whoever is kept back had been begun before the wave was through: that asks for nothing anew.
        WaveStatus::Soaking { .. } | WaveStatus::Gated {} | WaveStatus::Passed {}
            if to_begin > facts.parked() =>
        {
            Some(Change::WaveReopened { wave: number })
        }
        WaveStatus::Soaking { until } => {
            (until <= now).then_some(Change::SoakEnded { wave: number })
        }
        WaveStatus::Retrying {} => (facts.tally.get(SlotState::Failed) == 0)
            .then_some(Change::WaveReopened { wave: number }),
        WaveStatus::Pending {}
        | WaveStatus::Open {}
        | WaveStatus::Waiting {}
        | WaveStatus::Gated {}
        | WaveStatus::Passed {}
        | WaveStatus::Failed { .. } => None,
    }
}

fn drain(wave: Wave<'_>, now: Timestamp) -> Change {
    let since = wave.progress.drained_at.unwrap_or(now);
    Change::WaveDrained {
        wave: wave.number,
        until: wave.facts.gate.silence.after(since),
    }
}

/// What must be earned: a larger tranche, and a gate that passes.
fn earn(rollout: &Rollout, wave: Wave<'_>, now: Timestamp) -> Option<Change> {
    match wave.progress.status {
        WaveStatus::Open {} => {
            let tranche = grown(wave, now)?;
            let wave = wave.number;
            Some(Change::TrancheGrown { wave, tranche })
        }
        WaveStatus::Gated {} => {
            let judgement = wave.facts.judge(rollout, wave.progress, now);
            let passes = judgement.outcome() == Outcome::Pass;
            passes.then_some(Change::WavePassed { wave: wave.number })
        }
        WaveStatus::Pending {}
        | WaveStatus::Waiting {}
        | WaveStatus::Draining { .. }
        | WaveStatus::Soaking { .. }
        | WaveStatus::Passed {}
        | WaveStatus::Failed { .. }
        | WaveStatus::Retrying {} => None,
    }
}

fn grown(wave: Wave<'_>, now: Timestamp) -> Option<Tranche> {
    let tranche = wave.progress.tranche?;
    if !has_shown(wave, tranche, now) {
        return None;
    }
    if tranche.reentry_from.is_some() {
        return tranche.regrown(wave.facts.people, wave.tranche_rest()?, now);
    }
    let ramp = wave.facts.ramp?;
    ramp.next(tranche, wave.facts.people, now)
}

/// Whether everybody of a tranche has been begun and decided; silence decides once it lasted.
pub(super) fn has_shown(wave: Wave<'_>, tranche: Tranche, now: Timestamp) -> bool {
    let facts = wave.facts;
    let counts = facts.counts();
    let gate = &facts.gate;
    let silence_counts = gate.silence.has_passed(tranche.since, now)
        && !gate
            .unknown_at_most
            .is_crossed(counts.unknown, counts.eligible);
    facts.taken() >= tranche.people.min(counts.eligible)
        && facts.on_the_way() == 0
        && (counts.unknown == 0 || silence_counts)
}

/// Opens one wave: the first that may, in the order of the plan.
fn open(snapshot: &Snapshot<'_>, rollout: &Rollout, now: Timestamp) -> Option<Change> {
    if rollout.last_opened_at.is_some_and(|at| at >= now) {
        return None;
    }
    let wave = openable(snapshot, rollout, now).find(|wave| {
        matches!(wave.facts.window, WindowState::Open { until } if until.is_none_or(|u| u > now))
    })?;
    let WindowState::Open { until } = wave.facts.window else {
        return None;
    };
    let first = || Some(wave.facts.ramp?.first(wave.facts.people, now));
    let tranche = match wave.progress.reentry.or(rollout.reentry) {
        Some(reentry) => Some(reentry.tranche(wave.facts.begun(), wave.facts.waiting(), now)),
        None => wave.progress.tranche.or_else(first),
    };
    Some(Change::WaveOpened {
        wave: wave.number,
        until,
        tranche,
    })
}

/// Returns the waves that would open if their calendar let them, from the first.
pub(super) fn openable<'r>(
    snapshot: &'r Snapshot<'_>,
    rollout: &'r Rollout,
    now: Timestamp,
) -> impl Iterator<Item = Wave<'r>> {
    let next = next_pending(rollout);
    let reentering = reentering(snapshot, rollout);
    snapshot.waves_of(rollout).filter(move |wave| {
        if reentering.is_some_and(|number| number != wave.number) {
            return false;
        }
        let is_due = match wave.progress.status {
            WaveStatus::Waiting {} => true,
            WaveStatus::Pending {} => next == Some(wave.number),
            WaveStatus::Open {}
            | WaveStatus::Draining { .. }
            | WaveStatus::Soaking { .. }
            | WaveStatus::Gated {}
            | WaveStatus::Passed {}
            | WaveStatus::Failed { .. }
            | WaveStatus::Retrying {} => false,
        };
        is_due && snapshot.held(Some(wave.number), now).is_none() && !snapshot.is_letting_go(wave)
    })
}

/// Returns the wave that re-enters after a release and has not grown to everybody yet: no other opens.
pub(super) fn reentering(snapshot: &Snapshot<'_>, rollout: &Rollout) -> Option<WaveNumber> {
    let mut waves = snapshot.waves_of(rollout);
    let found = waves.find(|wave| {
        let is_under_way = matches!(
            wave.progress.status,
            WaveStatus::Open {} | WaveStatus::Waiting {} | WaveStatus::Draining { .. }
        );
        let tranche = wave.progress.tranche.filter(|_| is_under_way);
        tranche.is_some_and(|tranche| tranche.is_reentry(wave.facts.people))
    });
    found.map(|wave| wave.number)
}

/// Returns the first wave that has never been open, if every wave before it has passed.
pub(super) fn next_pending(rollout: &Rollout) -> Option<WaveNumber> {
    let (number, first) = rollout
        .numbered()
        .find(|(_, wave)| wave.status != WaveStatus::Passed {})?;
    (first.status == WaveStatus::Pending {}).then_some(number)
}

/// An emergency may move the last people, and still ends nothing: that waits for the release.
fn complete(snapshot: &Snapshot<'_>, rollout: &Rollout) -> Option<Change> {
    let own = snapshot.own_gate_hold().map(|hold| hold.id);
    let mut holds = snapshot.holds.covering(&snapshot.place);
    // A revert that goes on under a halt ends under it: nobody waits for its end to let anything go on.
    if !snapshot.takes_back && holds.any(|hold| Some(hold.id) != own) {
        return None;
    }
    let all_passed = rollout
        .waves
        .iter()
        .all(|wave| wave.status == WaveStatus::Passed {});
    // Whoever is kept back is waited for, whatever their wave has shown without them.
    let is_kept_back = snapshot.waves.iter().any(|wave| wave.parked() > 0);
    (all_passed && !is_kept_back && !rollout.waves.is_empty()).then_some(Change::Completed {})
}
