//! From a spec and a population to a plan and its rosters.

use sha2::{Digest as _, Sha256};
use tidegate_policy::{AttributeType, Condition};

use super::assign::{Assigner, Assignment};
use super::order::VERSION;
use super::{Order, PLAN_FORMAT, Plan, PlanFault, PlanRefusal, PlannedWave, timeline};
use crate::digest::{Digest, DigestBuilder};
use crate::ids::{Ordinal, Timestamp, WaveNumber};
use crate::population::Population;
use crate::spec::{LateJoiners, ORDER_ALGORITHM, Selection, Spec};

/// A plan, and who is in each of its waves.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The plan.
    pub plan: Plan,
    /// By wave: the ordinals of its people, ascending.
    pub rosters: Vec<Vec<Ordinal>>,
}

/// Compiles a spec against a population. The same spec and the same people give the same plan,
/// whatever the order of the rows; only the timeline depends on `now`.
///
/// # Errors
///
/// Every reason why there can be no plan: unknown attributes, sizes that cannot be met, components
/// that would be parted, gates that could never pass, windows that never open.
pub fn compile(
    spec: &Spec,
    population: &Population,
    now: Timestamp,
) -> Result<Compiled, PlanRefusal> {
    check_attributes(spec, population).map_err(PlanRefusal)?;
    let assignment = Assigner::new(spec, population).run().map_err(PlanRefusal)?;
    let mut rosters = vec![Vec::new(); spec.waves.len()];
    let (mut excluded, mut unassigned) = (0, 0);
    for ordinal in population.ordinals() {
        match assignment
            .wave(ordinal)
            .and_then(|wave| rosters.get_mut(wave))
        {
            Some(roster) => roster.push(ordinal),
            None if assignment.is_out(ordinal) => excluded += 1,
            None => unassigned += 1,
        }
    }
    check_gates(spec, &rosters).map_err(PlanRefusal)?;
    let waves = waves(spec, population, &rosters);
    let plan = finish(
        spec,
        population,
        assignment,
        waves,
        (excluded, unassigned),
        now,
    );
    check_schedules(&plan).map_err(PlanRefusal)?;
    Ok(Compiled { plan, rosters })
}

/// A wave that cannot open although the one before it is through would hold the rollout for ever, and a
/// started rollout keeps its plan.
fn check_schedules(plan: &Plan) -> Result<(), Vec<PlanFault>> {
    let stuck = plan.timeline.iter().zip(&plan.waves).enumerate();
    let stuck = stuck.map_while(|(place, (expected, wave))| {
        let is_reached = place == 0
            || plan
                .timeline
                .get(place - 1)
                .is_some_and(|before| before.soak_until.is_some());
        is_reached.then_some((place, expected.opens_at, wave))
    });
    let faults = stuck.filter(|(_, opens_at, _)| opens_at.is_none());
    let faults: Vec<PlanFault> = faults
        .map(|(place, _, wave)| {
            let message = format!(
                "wave `{}` never opens: its windows have no beginning in the next years outside of the freezes",
                wave.name
            );
            PlanFault::new(format!("waves[{place}].schedule"), "schedule_never_opens", message)
        })
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn check_attributes(spec: &Spec, population: &Population) -> Result<(), Vec<PlanFault>> {
    let schema = |name: &str| population.attribute_type(name);
    let mut faults = Vec::new();
    let mut check = |condition: &Condition, field: &str| {
        for error in condition.check(&schema) {
            let field = if error.path.is_empty() {
                field.to_owned()
            } else {
                format!("{field}.{}", error.path)
            };
            faults.push(PlanFault::new(field, error.code, error.sentence));
        }
    };
    if let Some(condition) = &spec.exclude {
        check(condition, "exclude");
    }
    for (place, wave) in spec.waves.iter().enumerate() {
        if let Selection::Condition(condition) = &wave.select {
            check(condition, &format!("waves[{place}].select"));
        }
    }
    for (place, wave) in spec.waves.iter().enumerate() {
        if let Some(attribute) = &wave.spread_by
            && population.column(attribute).is_none()
        {
            let field = format!("waves[{place}].spread_by");
            let message = format!("the population has no attribute `{attribute}`");
            faults.push(PlanFault::new(field, "attribute_unknown", message));
        }
    }
    for (place, attribute) in spec
        .keep_together
        .iter()
        .flat_map(|keep| &keep.by)
        .enumerate()
    {
        let field = format!("keep_together.by[{place}]");
        match population.attribute_type(attribute) {
            Some(AttributeType::Text | AttributeType::Reference) => {}
            Some(other) => {
                let message = format!(
                    "`{attribute}` is of type {}: only text and references keep people together",
                    other.name()
                );
                faults.push(PlanFault::new(field, "value_type", message));
            }
            None => {
                let message = format!("the population has no attribute `{attribute}`");
                faults.push(PlanFault::new(field, "attribute_unknown", message));
            }
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn check_gates(spec: &Spec, rosters: &[Vec<Ordinal>]) -> Result<(), Vec<PlanFault>> {
    let mut faults = Vec::new();
    for (place, (wave, roster)) in spec.waves.iter().zip(rosters).enumerate() {
        let people = count(roster);
        if people == 0 {
            let message = format!(
                "nobody is in wave `{}`: its selection matches nobody who is in no earlier wave",
                wave.name
            );
            faults.push(PlanFault::new(
                format!("waves[{place}]"),
                "wave_empty",
                message,
            ));
            continue;
        }
        for fault in wave.gate.iter().flat_map(|gate| gate.check(people)) {
            faults.push(PlanFault::new(
                format!("waves[{place}].gate"),
                fault.code(),
                fault.to_string(),
            ));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}

fn count(roster: &[Ordinal]) -> u64 {
    u64::try_from(roster.len()).unwrap_or(u64::MAX)
}

fn waves(spec: &Spec, population: &Population, rosters: &[Vec<Ordinal>]) -> Vec<PlannedWave> {
    let planned = spec.waves.iter().zip(rosters).zip(1..);
    planned
        .map(|((wave, roster), number)| PlannedWave {
            number: WaveNumber(number),
            name: wave.name.clone(),
            people: count(roster),
            roster_digest: roster_digest(population, roster),
            schedule: wave.schedule.clone(),
            ramp: wave.ramp,
            soak: wave.soak,
            gate: wave.gate.clone(),
        })
        .collect()
}

/// Digests who is in a roster and not in which order: the sum of the digests of the directory ids.
fn roster_digest(population: &Population, roster: &[Ordinal]) -> Digest {
    let mut sum: u128 = 0;
    for ordinal in roster {
        let key = population.key(*ordinal).unwrap_or_default();
        let digest = Sha256::digest(key.as_bytes());
        let half: [u8; 16] = digest.first_chunk().copied().unwrap_or_default();
        sum = sum.wrapping_add(u128::from_le_bytes(half));
    }
    let mut builder = DigestBuilder::default();
    builder.part(&count(roster).to_le_bytes());
    builder.part(&sum.to_le_bytes());
    builder.finish()
}

/// What is said where the spec leaves out what becomes of people who join later.
const NOBODY_JOINS: &str = "people who join after this plan was made are in none of its waves: import them before the start and plan again, or say `late_joiners`";

fn no_rate() -> String {
    format!(
        "no rate is given: the timeline assumes {} people a second",
        timeline::ASSUMED_PER_SECOND
    )
}

/// Says whether a sentence of a plan only names a default that the spec leaves as it is: nothing to be warned of.
#[must_use]
pub fn is_note(sentence: &str) -> bool {
    sentence == NOBODY_JOINS || sentence == no_rate()
}

fn finish(
    spec: &Spec,
    population: &Population,
    assignment: Assignment,
    waves: Vec<PlannedWave>,
    (excluded, unassigned): (u64, u64),
    now: Timestamp,
) -> Plan {
    let order = Order {
        algorithm: ORDER_ALGORITHM.to_owned(),
        version: VERSION,
        salt: spec.salt.clone(),
    };
    let mut warnings = assignment.warnings;
    if spec.rate.is_none() {
        warnings.push(no_rate());
    }
    if spec.late_joiners == LateJoiners::None {
        warnings.push(NOBODY_JOINS.to_owned());
    }
    if unassigned > 0 {
        warnings.push(format!(
            "{} match no wave and will not be moved",
            crate::sentence::people(unassigned)
        ));
    }
    let timeline = timeline::predict(&waves, spec.rate, &spec.freezes, now);
    let mut plan = Plan {
        format: PLAN_FORMAT,
        digest: Digest([0; 32]),
        spec_digest: spec.digest(),
        population_version: population.version(),
        population_digest: population.content_digest(),
        order,
        people: waves.iter().map(|wave| wave.people).sum(),
        waves,
        excluded,
        unassigned,
        overlaps: assignment.overlaps,
        warnings,
        rate: spec.rate,
        freezes: spec.freezes.clone(),
        timeline,
    };
    plan.digest = digest(&plan);
    plan
}

/// The digest covers what will run: intent, people, order and membership. Not the name of the
/// version (the same people imported again are the same plan) and not the prediction.
fn digest(plan: &Plan) -> Digest {
    let mut builder = DigestBuilder::default();
    builder.part(b"tidegate plan 1");
    builder.part(&plan.spec_digest.0);
    builder.part(&plan.population_digest.0);
    builder.part(plan.order.algorithm.as_bytes());
    builder.part(&plan.order.version.to_le_bytes());
    builder.part(plan.order.salt.as_bytes());
    for wave in &plan.waves {
        builder.part(wave.name.as_bytes());
        builder.part(&wave.roster_digest.0);
    }
    builder.finish()
}
