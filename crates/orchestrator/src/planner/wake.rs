//! When to look again. A sleeping rollout sleeps until something is due; a moving one is watched.

use chrono::TimeDelta;

use super::advance::{is_stopped_by_gate, openable};
use super::snapshot::{Snapshot, Wave};
use crate::ids::Timestamp;
use crate::ledger::SlotState;
use crate::rollout::{Rollout, WaveStatus};
use crate::wave::window::WindowState;

/// How often a wave is looked at while its people move: a limit is found crossed within this time.
const MOVING_MILLIS: i64 = 1000;

/// How often a gate is judged again that waits for a measurement from outside.
const METRIC_MILLIS: i64 = 60_000;

pub(super) fn wake_at(
    snapshot: &Snapshot<'_>,
    rollout: &Rollout,
    now: Timestamp,
) -> Option<Timestamp> {
    // Also when nothing else is due: what it let go on can be proved quiet only once it is closed.
    let exempt = snapshot.exemptions(now).map(|exemption| exemption.until);
    let next = running(snapshot, rollout, now);
    exempt.chain(next).min()
}

fn running(snapshot: &Snapshot<'_>, rollout: &Rollout, now: Timestamp) -> Option<Timestamp> {
    if !Snapshot::is_running(rollout) {
        return None;
    }
    let moving = || after(now, MOVING_MILLIS);
    let is_moving = snapshot
        .waves_of(rollout)
        .any(|wave| wave.facts.tally.get(SlotState::InFlight) > 0);
    if snapshot.held(None, now).is_some() {
        // Nothing ticks under a hold; but what was on the way still comes back, and may fail a gate.
        return is_moving.then(moving);
    }
    let is_retrying = rollout
        .waves
        .iter()
        .any(|wave| wave.status == WaveStatus::Retrying {});
    if is_moving || is_retrying {
        return Some(moving());
    }
    let due = snapshot
        .waves_of(rollout)
        .flat_map(|wave| due(snapshot, wave, now));
    let opening = (!is_stopped_by_gate(rollout)).then(|| openable(snapshot, rollout, now));
    let openings = opening.into_iter().flatten().filter_map(|wave| {
        match wave.facts.window {
            // It would have opened, but for another one at this instant.
            WindowState::Open { .. } => Some(moving()),
            WindowState::Closed { next, .. } => next,
        }
    });
    // What is due already and did not happen waits for something else; looking at once is no help.
    let least = after(now, MOVING_MILLIS);
    due.chain(openings).min().map(|at| at.max(least))
}

/// Returns the instants at which something falls due in a wave by itself.
fn due(snapshot: &Snapshot<'_>, wave: Wave<'_>, now: Timestamp) -> Vec<Timestamp> {
    if snapshot.held(Some(wave.number), now).is_some() {
        return Vec::new();
    }
    let later = |at: Option<Timestamp>| at.filter(|at| *at > now);
    let metric = (!wave.facts.gate.metrics.is_empty()).then(|| after(now, METRIC_MILLIS));
    let found = match wave.progress.status {
        WaveStatus::Open {} => {
            let closes = match wave.facts.window {
                WindowState::Open { until } => until,
                WindowState::Closed { .. } => None,
            };
            let tranche = wave.progress.tranche.zip(wave.tranche_rest());
            let rested = tranche.map(|(tranche, rest)| rest.after(tranche.since));
            let silent = (wave.facts.counts().unknown > 0)
                .then(|| Some(wave.facts.gate.silence.after(wave.progress.tranche?.since)))
                .flatten();
            let waits_for_tranche = wave
                .progress
                .tranche
                .is_some_and(|tranche| wave.facts.begun() >= tranche.people);
            let target = later(snapshot.target_closed_until);
            // Work that can be taken up is watched; work that cannot is waited for.
            let ready = if waits_for_tranche {
                None
            } else {
                wave.facts.ready_at
            };
            let ready = ready.map(|at| target.map_or(at, |target| at.max(target)));
            let ready = ready.map(|at| at.max(after(now, MOVING_MILLIS)));
            vec![
                later(closes),
                later(wave.progress.window_until),
                later(rested),
                later(silent),
                ready,
                metric,
            ]
        }
        WaveStatus::Draining { until } => {
            let ready = wave
                .facts
                .ready_at
                .map(|at| at.max(after(now, MOVING_MILLIS)));
            vec![Some(until), ready, metric]
        }
        WaveStatus::Soaking { until } => vec![Some(until), metric],
        WaveStatus::Gated {} | WaveStatus::Passed {} | WaveStatus::Waiting {} => vec![metric],
        WaveStatus::Pending {} | WaveStatus::Failed { .. } | WaveStatus::Retrying {} => Vec::new(),
    };
    found.into_iter().flatten().collect()
}

fn after(now: Timestamp, millis: i64) -> Timestamp {
    now.checked_add_signed(TimeDelta::milliseconds(millis))
        .unwrap_or(Timestamp::MAX_UTC)
}
