//! Brings the plan of a started rollout up to the people there are now: waves keep their number, name
//! and gate; whoever belongs to a finished one is in a catch-up wave at the end.

use super::{Plan, PlannedWave, timeline};
use crate::digest::{Digest, DigestBuilder};
use crate::ids::{PopulationVersionId, Timestamp, WaveNumber};

/// What changes about who is in a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaveDelta {
    /// The wave; one after the last is the catch-up wave.
    pub number: WaveNumber,
    /// How many stand in another wave from now on.
    pub transferred: u64,
    /// How many stand here from now on who did not before.
    pub added: u64,
    /// What is known of who they are.
    pub members: Digest,
}

/// Returns the plan for the people of `version`, whose content is known by `content`.
///
/// Its digest covers the plan it comes from, the people, and who moved where.
#[must_use]
pub fn amend(
    plan: &Plan,
    (version, content): (PopulationVersionId, Digest),
    deltas: &[WaveDelta],
    now: Timestamp,
) -> Plan {
    let mut waves = plan.waves.clone();
    let mut builder = DigestBuilder::default();
    builder.part(b"tidegate plan amended 1");
    builder.part(&plan.digest.0);
    builder.part(&content.0);
    for delta in deltas {
        if !waves.iter().any(|wave| wave.number == delta.number) {
            waves.extend(catch_up(plan, delta));
        }
        let Some(wave) = waves.iter_mut().find(|wave| wave.number == delta.number) else {
            continue;
        };
        wave.people = wave
            .people
            .saturating_sub(delta.transferred)
            .saturating_add(delta.added);
        let mut roster = DigestBuilder::default();
        roster.part(&wave.roster_digest.0);
        roster.part(&delta.members.0);
        wave.roster_digest = roster.finish();
        builder.part(wave.name.as_bytes());
        builder.part(&wave.roster_digest.0);
    }
    let timeline = timeline::predict(&waves, plan.rate, &plan.freezes, now);
    Plan {
        digest: builder.finish(),
        population_version: version,
        population_digest: content,
        people: waves.iter().map(|wave| wave.people).sum(),
        waves,
        timeline,
        ..plan.clone()
    }
}

/// A wave like the last one. A gate that so few people cannot meet is left out: everybody must have
/// answered all the same.
fn catch_up(plan: &Plan, delta: &WaveDelta) -> Option<PlannedWave> {
    let last = plan.waves.last()?;
    let gate = last
        .gate
        .clone()
        .filter(|gate| gate.check(delta.added).is_empty());
    Some(PlannedWave {
        number: delta.number,
        name: format!("catch-up-{}", delta.number),
        people: 0,
        roster_digest: Digest::of(b""),
        schedule: last.schedule.clone(),
        ramp: None,
        soak: last.soak,
        gate,
    })
}
