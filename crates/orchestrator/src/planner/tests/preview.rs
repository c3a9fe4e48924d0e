//! What a manager was shown before the start is what happens: the timeline of a plan against the planner.

use std::collections::BTreeMap;

use super::*;
use crate::ids::PopulationVersionId;
use crate::plan::{Plan, compile};
use crate::population::{Population, TextColumn};
use crate::spec::{Spec, SpecFormat};

/// How far the preview of an instant may be off: a window reached in the same look, and its answers.
const SLACK_SECONDS: i64 = 5;

fn plan(now: Timestamp) -> Plan {
    let zones = [
        "Pacific/Kiritimati",
        "Asia/Tokyo",
        "Asia/Kolkata",
        "Asia/Tehran",
        "Europe/Athens",
        "Europe/Berlin",
        "Europe/London",
        "Atlantic/Azores",
        "America/Sao_Paulo",
        "America/New_York",
        "America/Los_Angeles",
        "Pacific/Pago_Pago",
    ];
    let mut text = "rollout: r\npopulation: p\ntarget: t\norder: {salt: s}\n\
        rate: {per_second: 1, burst: 1}\n\
        freezes:\n  - {name: easter, from: 2026-04-03, to: 2026-04-06, zone: Europe/Berlin}\nwaves:\n"
        .to_owned();
    for (index, zone) in zones.iter().enumerate() {
        text.push_str(&format!(
            "  - {{name: site-{index}, count: 150, soak: 1h, gate: {{failures_at_most: 5}}, \
             schedule: {{cron: \"0 30 2 * * *\", zone: {zone}, window: 2m}}}}\n"
        ));
    }
    let mut keys = TextColumn::default();
    (0..2000).for_each(|number| keys.push(&format!("e{number:05}")));
    let version = PopulationVersionId::new(Uuid::nil());
    let people = Population::new(version, Digest::of(b"people"), keys, BTreeMap::new()).unwrap();
    let spec = Spec::parse(&text, SpecFormat::Yaml).unwrap_or_else(|e| panic!("{:#?}", e.0));
    compile(&spec, &people, now)
        .unwrap_or_else(|e| panic!("{:#?}", e.0))
        .plan
}

/// Plays a plan at one person a second; returns when each wave opened and was judged.
fn play(plan: &Plan, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let count = plan.waves.iter().map(|wave| queued(wave.people));
    let mut tallies: Vec<Tally> = count.collect();
    let mut world = World::running(vec![facts(1); plan.waves.len()]);
    let mut opened = BTreeMap::new();
    let mut judged = BTreeMap::new();
    let mut now = now;
    loop {
        let claims: Vec<_> = world.waves.iter().map(|wave| wave.claims).collect();
        world.waves = (plan.waves.iter().zip(&tallies).zip(claims))
            .map(|((wave, tally), claims)| WaveFacts {
                claims,
                ready_at: (tally.get(SlotState::Queued) > 0).then_some(now),
                ..WaveFacts::planned(wave, &plan.freezes, *tally, now)
            })
            .collect();
        let seconds = now.signed_duration_since(at(0)).num_seconds();
        let step = world.pass(seconds);
        for event in &step.events {
            let Some(wave) = event.change.wave() else {
                continue;
            };
            if matches!(event.change, Change::WaveOpened { .. }) {
                opened.entry(wave).or_insert(now);
            }
            if matches!(event.change, Change::SoakEnded { .. }) {
                judged.insert(wave, now);
            }
        }
        for (wave, tally) in world.waves.iter().zip(&mut tallies) {
            let left = tally.get(SlotState::Queued);
            if wave
                .claims
                .is_some_and(|claims| claims.until.is_none_or(|until| now < until))
                && left > 0
            {
                let moved = tally.get(SlotState::Done) + 1;
                *tally = people(&[(SlotState::Queued, left - 1), (SlotState::Done, moved)]);
            }
        }
        match step.wake_at {
            Some(wake_at) => now = wake_at,
            None => break,
        }
    }
    opened.into_values().zip(judged.into_values()).collect()
}

#[test]
fn a_preview_over_twelve_zones_a_change_of_clocks_and_a_freeze_matches_what_happens() {
    let now = "2026-03-25T00:00:00Z".parse().unwrap();
    let plan = plan(now);
    let happened = play(&plan, now);
    assert_eq!(happened.len(), plan.waves.len());
    for (expected, (opened, judged)) in plan.timeline.iter().zip(happened) {
        let name = &plan.wave(expected.wave).unwrap().name;
        let off = |what: Option<Timestamp>, happened: Timestamp| {
            happened
                .signed_duration_since(what.unwrap())
                .num_seconds()
                .abs()
        };
        assert!(
            off(expected.opens_at, opened) <= SLACK_SECONDS,
            "{name} opened {opened}, expected {:?}",
            expected.opens_at
        );
        assert!(
            off(expected.soak_until, judged) <= SLACK_SECONDS,
            "{name} was judged {judged}, expected {:?}",
            expected.soak_until
        );
        let freeze = plan.freezes[0].span();
        assert!(
            !(freeze.0 <= opened && opened < freeze.1),
            "{name} opened in the freeze"
        );
    }
}
