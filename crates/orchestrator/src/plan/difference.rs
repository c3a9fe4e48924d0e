//! What changed between the plan somebody agreed to and the plan there would be now.

use std::collections::BTreeMap;

use super::{Plan, PlannedWave};
use crate::sentence::grouped;

/// Says, one sentence each, how `after` differs from `before`; empty when their digests agree.
#[must_use]
pub fn difference(before: &Plan, after: &Plan) -> Vec<String> {
    if before.digest == after.digest {
        return Vec::new();
    }
    let mut found = Vec::new();
    if before.spec_digest != after.spec_digest {
        found.push("the spec has changed".to_owned());
    }
    if before.population_digest != after.population_digest {
        found.push(format!(
            "the population has changed: {}",
            counts("people in waves", before.people, after.people)
        ));
    }
    if before.order != after.order {
        found
            .push("the order of people has changed: another algorithm, version or salt".to_owned());
    }
    if before.excluded != after.excluded {
        found.push(counts("excluded people", before.excluded, after.excluded));
    }
    if before.unassigned != after.unassigned {
        found.push(counts(
            "people in no wave",
            before.unassigned,
            after.unassigned,
        ));
    }
    waves(before, after, &mut found);
    found
}

fn counts(what: &str, before: u64, after: u64) -> String {
    if before == after {
        format!(
            "{what}: {} as before, but not the same ones",
            grouped(after)
        )
    } else {
        format!("{what}: {} before, {} now", grouped(before), grouped(after))
    }
}

fn waves(before: &Plan, after: &Plan, found: &mut Vec<String>) {
    let by_name = |plan: &Plan| -> BTreeMap<String, PlannedWave> {
        plan.waves
            .iter()
            .map(|wave| (wave.name.clone(), wave.clone()))
            .collect()
    };
    let (old, new) = (by_name(before), by_name(after));
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        found.push(format!("wave `{name}` is gone"));
    }
    for wave in &after.waves {
        let Some(was) = old.get(&wave.name) else {
            found.push(format!(
                "wave `{}` is new, with {} people",
                wave.name,
                grouped(wave.people)
            ));
            continue;
        };
        if was.roster_digest != wave.roster_digest {
            found.push(counts(
                &format!("wave `{}`", wave.name),
                was.people,
                wave.people,
            ));
        }
        if was.number != wave.number {
            found.push(format!(
                "wave `{}` was wave {} and is wave {}",
                wave.name, was.number, wave.number
            ));
        }
        for (what, changed) in [
            ("schedule", was.schedule != wave.schedule),
            ("ramp", was.ramp != wave.ramp),
            ("soak", was.soak != wave.soak),
            ("gate", was.gate != wave.gate),
        ] {
            if changed {
                found.push(format!("wave `{}` has another {what}", wave.name));
            }
        }
    }
}
