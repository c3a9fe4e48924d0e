//! Plans over small companies: exact sizes, people who stay together, refusals, digests.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_policy::{AttributeType, AttributeValue};

use super::*;
use crate::digest::Digest;
use crate::ids::{Ordinal, PopulationVersionId, from_millis};
use crate::population::{Column, Population, TextColumn};
use crate::spec::{Spec, SpecFormat};

type Row = (String, BTreeMap<&'static str, String>);

/// Builds a population the way the store does: rows in file order, values by code.
fn population(rows: &[Row], references: &[&str]) -> Population {
    let names: BTreeSet<&'static str> = rows
        .iter()
        .flat_map(|(_, row)| row.keys().copied())
        .collect();
    let mut keys = TextColumn::default();
    rows.iter().for_each(|(key, _)| keys.push(key));
    let column = |name: &'static str| {
        let mut dictionary: Vec<AttributeValue> = Vec::new();
        let codes = rows.iter().map(|(_, row)| {
            let Some(value) = row.get(name) else { return 0 };
            let value = AttributeValue::Text(value.clone());
            let place = dictionary
                .iter()
                .position(|known| *known == value)
                .unwrap_or_else(|| {
                    dictionary.push(value);
                    dictionary.len() - 1
                });
            u32::try_from(place + 1).unwrap()
        });
        let codes: Vec<u32> = codes.collect();
        let attribute_type = if references.contains(&name) {
            AttributeType::Reference
        } else {
            AttributeType::Text
        };
        Column {
            attribute_type,
            dictionary,
            codes,
        }
    };
    let columns = names
        .iter()
        .map(|name| ((*name).to_owned(), column(name)))
        .collect();
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort();
    let digest = Digest::of(format!("{sorted:?}").as_bytes());
    Population::new(
        PopulationVersionId::new(uuid::Uuid::nil()),
        digest,
        keys,
        columns,
    )
    .unwrap()
}

fn company(people: u32) -> Vec<Row> {
    let departments = ["IT", "Sales", "Legal", "Warehouse"];
    (0..people)
        .map(|number| {
            let department = departments[usize::try_from(number % 4).unwrap()].to_owned();
            let country = if number % 3 == 0 { "DE" } else { "US" }.to_owned();
            (
                format!("e{number:05}"),
                BTreeMap::from([("department", department), ("country", country)]),
            )
        })
        .collect()
}

fn spec(waves: &str) -> Spec {
    let text = format!("rollout: r\npopulation: p\ntarget: t\norder: {{salt: s}}\n{waves}");
    Spec::parse(&text, SpecFormat::Yaml).unwrap_or_else(|errors| panic!("{:#?}", errors.0))
}

fn at(second: i64) -> Timestamp {
    from_millis(second * 1000).unwrap()
}

fn compiled(spec: &Spec, population: &Population) -> Compiled {
    compile(spec, population, at(0)).unwrap_or_else(|refusal| panic!("{:#?}", refusal.0))
}

fn refused(spec: &Spec, population: &Population) -> Vec<String> {
    let refusal = compile(spec, population, at(0)).unwrap_err();
    refusal
        .0
        .iter()
        .map(|fault| format!("{}: {} ({})", fault.field, fault.message, fault.code))
        .collect()
}

fn members(compiled: &Compiled, population: &Population, wave: usize) -> BTreeSet<String> {
    compiled.rosters[wave]
        .iter()
        .map(|ordinal| population.key(*ordinal).unwrap().to_owned())
        .collect()
}

const CANARY_AND_REST: &str = "waves:\n  - {name: canary, select: {attribute: department, equals: IT}, count: 50, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";

#[test]
fn exact_sizes_are_exact_and_everybody_is_somewhere() {
    let population = population(&company(1000), &[]);
    let found = compiled(&spec(CANARY_AND_REST), &population);
    assert_eq!(
        found
            .plan
            .waves
            .iter()
            .map(|wave| wave.people)
            .collect::<Vec<_>>(),
        [50, 950]
    );
    assert_eq!(found.plan.people, 1000);
    let it = population.column("department").unwrap();
    let is_it = |ordinal: &Ordinal| {
        it.value(it.code(*ordinal)) == Some(&AttributeValue::Text("IT".to_owned()))
    };
    assert!(found.rosters[0].iter().all(is_it));
}

#[test]
fn a_canary_grows_by_adding_people_and_never_by_replacing_them() {
    let population = population(&company(1000), &[]);
    let canary = |count: u32| {
        let waves = CANARY_AND_REST.replace("count: 50", &format!("count: {count}"));
        members(&compiled(&spec(&waves), &population), &population, 0)
    };
    let (small, large) = (canary(20), canary(120));
    assert_eq!((small.len(), large.len()), (20, 120));
    assert!(small.is_subset(&large));
}

#[test]
fn an_exact_size_can_be_spread_over_departments_in_proportion() {
    // 600 of one department, 300 of another, 100 of a third.
    let rows: Vec<Row> = (0..1000)
        .map(|person| {
            let department = [
                "ops", "ops", "ops", "ops", "ops", "ops", "it", "it", "it", "hr",
            ];
            let department = department[person % 10].to_owned();
            (
                format!("e{person:04}"),
                BTreeMap::from([("department", department)]),
            )
        })
        .collect();
    let everybody = population(&rows, &[]);
    let wave = |count: u32| {
        let waves = format!(
            "waves: [{{name: canary, count: {count}, spread_by: department, gate: {{failures_at_most: 0}}}}, {{name: rest, rest: true}}]"
        );
        members(&compiled(&spec(&waves), &everybody), &everybody, 0)
    };
    let of = |members: &BTreeSet<String>, department: &str| {
        let is_of = |(key, row): &&Row| members.contains(key) && row["department"] == department;
        rows.iter().filter(is_of).count()
    };
    let hundred = wave(100);
    let found = (of(&hundred, "ops"), of(&hundred, "it"), of(&hundred, "hr"));
    assert_eq!(found, (60, 30, 10));
    assert!(
        wave(57).is_subset(&hundred),
        "a larger wave takes the same people and more"
    );
}

#[test]
fn the_order_of_the_rows_does_not_matter() {
    let mut rows = company(500);
    let one = population(&rows, &[]);
    rows.reverse();
    let other = population(&rows, &[]);
    let spec = spec(CANARY_AND_REST);
    let (a, b) = (compiled(&spec, &one), compiled(&spec, &other));
    assert_eq!(a.plan.digest, b.plan.digest);
    assert_eq!(members(&a, &one, 0), members(&b, &other, 0));
}

#[test]
fn a_share_is_of_everybody_who_is_to_be_moved_and_rounds_down() {
    let population = population(&company(999), &[]);
    let waves = "exclude: {attribute: department, equals: Warehouse}\nwaves:\n  - {name: tenth, size: 10%, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";
    let found = compiled(&spec(waves), &population);
    assert_eq!(found.plan.excluded, 249);
    assert_eq!(found.plan.waves[0].people, 75);
    assert_eq!(found.plan.people, 750);
}

#[test]
fn the_first_matching_wave_wins_and_overlaps_are_counted() {
    let population = population(&company(1200), &[]);
    let waves = "waves:\n  - {name: it, select: {attribute: department, equals: IT}, gate: {failures_at_most: 5}}\n  - {name: germany, select: {attribute: country, equals: DE}, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";
    let found = compiled(&spec(waves), &population);
    assert_eq!(
        found.plan.overlaps,
        [Overlap {
            wave: WaveNumber(1),
            also: WaveNumber(2),
            people: 100
        }]
    );
    assert_eq!(
        found
            .plan
            .waves
            .iter()
            .map(|wave| wave.people)
            .collect::<Vec<_>>(),
        [300, 300, 600]
    );
}

#[test]
fn pins_and_lists_decide_by_name_and_strangers_are_reported() {
    let population = population(&company(400), &[]);
    let waves = "pins: [{keys: [e00001, e00005], wave: canary}, {keys: [e00000, nobody], out: true}]\nwaves:\n  - {name: canary, select: {attribute: department, equals: IT}, count: 10, gate: {failures_at_most: 5}}\n  - {name: early, select: {keys: [e00002, e00003, ghost]}, gate: {failures_at_most: 0}}\n  - {name: rest, rest: true}\n";
    let found = compiled(&spec(waves), &population);
    let canary = members(&found, &population, 0);
    assert_eq!(canary.len(), 10);
    assert!(canary.contains("e00001") && canary.contains("e00005") && !canary.contains("e00000"));
    assert_eq!(
        members(&found, &population, 1),
        BTreeSet::from(["e00002".to_owned(), "e00003".to_owned()])
    );
    assert_eq!(found.plan.excluded, 1);
    assert!(found.plan.warnings.iter().any(|line| line
        == "the list of wave `early` names 1 person not in the population, such as `ghost`"));
    assert!(
        found
            .plan
            .warnings
            .iter()
            .any(|line| line.contains("`nobody`"))
    );
}

/// Manager e00000 leads e00001..e00003 and shares a mailbox group with e00007.
fn together() -> Population {
    let mut rows = company(200);
    for number in [1, 2, 3] {
        rows[number].1.insert("manager", "e00000".to_owned());
    }
    for number in [0, 7] {
        rows[number].1.insert("mailbox", "board".to_owned());
    }
    population(&rows, &["manager"])
}

#[test]
fn manager_assistants_and_shared_mailbox_never_straddle_a_wave() {
    let population = together();
    for count in [5, 6, 17, 40] {
        let waves = format!(
            "keep_together: {{by: [manager, mailbox]}}\nwaves:\n  - {{name: canary, count: {count}, gate: {{failures_at_most: 5}}}}\n  - {{name: rest, rest: true}}\n"
        );
        let found = compiled(&spec(&waves), &population);
        assert_eq!(
            found.plan.waves[0].people, count,
            "exact with people who move together"
        );
        let canary = members(&found, &population, 0);
        let inside = ["e00000", "e00001", "e00002", "e00003", "e00007"]
            .iter()
            .filter(|key| canary.contains(**key))
            .count();
        assert!(inside == 0 || inside == 5, "{inside} of 5");
    }
}

#[test]
fn whoever_moves_together_with_a_match_moves_with_the_match() {
    let population = together();
    let waves = "keep_together: {by: [manager, mailbox]}\nwaves:\n  - {name: it, select: {attribute: department, equals: IT}, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";
    let found = compiled(&spec(waves), &population);
    assert_eq!(found.plan.waves[0].people, 50 + 4);
    assert!(
        found
            .plan
            .warnings
            .iter()
            .any(|line| line.starts_with("4 people who do not match wave `it` move with it"))
    );
}

#[test]
fn a_component_larger_than_its_wave_is_refused_with_its_bridges_and_the_waiver_to_write() {
    let mut rows = company(100);
    for (number, row) in rows.iter_mut().enumerate().take(60) {
        row.1.insert(
            "manager",
            if number < 30 { "e00000" } else { "e00030" }.to_owned(),
        );
    }
    rows[30].1.insert("mailbox", "board".to_owned());
    rows[0].1.insert("mailbox", "board".to_owned());
    let population = population(&rows, &["manager"]);
    let waves = |waivers: &str| {
        spec(&format!(
            "keep_together: {{by: [manager, mailbox]{waivers}}}\nwaves:\n  - {{name: canary, count: 35, gate: {{failures_at_most: 5}}}}\n  - {{name: rest, rest: true}}\n"
        ))
    };
    let faults = refused(&waves(""), &population);
    assert_eq!(faults.len(), 1);
    for part in [
        "60 people move together",
        "takes 35",
        "e00000",
        "e00030",
        "mailbox:board",
        "(component_too_large)",
    ] {
        assert!(faults[0].contains(part), "{part} in {}", faults[0]);
    }
    let waived =
        waves(", waivers: [{member: e00000, broken_links: [\"mailbox:board\"], reason: agreed}]");
    let found = compiled(&waived, &population);
    assert_eq!(found.plan.waves[0].people, 35);
}

#[test]
fn a_hub_joins_nobody_and_is_reported() {
    let mut rows = company(100);
    rows.iter_mut().for_each(|row| {
        row.1.insert("mailbox", "all-hands".to_owned());
    });
    let population = population(&rows, &[]);
    let waves = "keep_together: {by: [mailbox], ignore_hubs_above: 50}\nwaves:\n  - {name: canary, count: 5, gate: {failures_at_most: 4}}\n  - {name: rest, rest: true}\n";
    let found = compiled(&spec(waves), &population);
    assert_eq!(found.plan.waves[0].people, 5);
    assert!(
        found
            .plan
            .warnings
            .iter()
            .any(|line| line.contains("`mailbox:all-hands` would keep 100 people together"))
    );
}

#[test]
fn what_cannot_be_is_refused_with_every_reason() {
    let population = population(&company(100), &[]);
    let waves = "waves:\n  - {name: canary, select: {attribute: departmnt, equals: IT}, count: 5, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";
    assert_eq!(
        refused(&spec(waves), &population),
        [
            "waves[0].select.attribute: the population has no attribute `departmnt` (attribute_unknown)"
        ]
    );
    let waves = "waves:\n  - {name: canary, select: {attribute: department, equals: IT}, count: 50, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";
    assert_eq!(
        refused(&spec(waves), &population),
        [
            "waves[0]: wave `canary` cannot have exactly 50 people: 25 match and are in no earlier wave (size_unreachable)"
        ]
    );
    let waves = "waves:\n  - {name: none, select: {attribute: department, equals: HR}, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true}\n";
    assert!(refused(&spec(waves), &population)[0].contains("nobody is in wave `none`"));
}

#[test]
fn a_gate_that_could_never_pass_is_refused_when_the_plan_is_made() {
    let population = population(&company(100), &[]);
    let gate = |gate: &str| {
        refused(
            &spec(&format!(
                "waves:\n  - {{name: canary, count: 20, gate: {gate}}}\n  - {{name: rest, rest: true}}\n"
            )),
            &population,
        )
    };
    assert!(
        gate("{sample_at_least: 200, failures_at_most: 1}")[0]
            .contains("gate_sample_larger_than_wave")
    );
    assert!(gate("{success_at_least: 99%}")[0].contains("gate_goal_out_of_reach"));
    assert!(gate("{unknown_at_most: 3}")[0].contains("gate_no_condition"));
}

#[test]
fn a_window_that_never_opens_is_refused_when_the_plan_is_made() {
    let population = population(&company(100), &[]);
    let february = "schedule: {cron: \"0 0 9 31 2 *\", zone: UTC, window: 1h}";
    let found = refused(
        &spec(&format!(
            "waves:\n  - {{name: canary, count: 20, gate: {{failures_at_most: 1}}}}\n  - {{name: rest, rest: true, {february}}}\n"
        )),
        &population,
    );
    assert_eq!(
        found,
        [
            "waves[1].schedule: wave `rest` never opens: its windows have no beginning in the next years outside of the freezes (schedule_never_opens)"
        ]
    );
}

#[test]
fn a_stale_plan_lists_what_changed() {
    let spec = spec(CANARY_AND_REST);
    let before = compiled(&spec, &population(&company(1000), &[])).plan;
    let mut rows = company(1000);
    rows.remove(4);
    rows.push((
        "e99999".to_owned(),
        BTreeMap::from([("department", "Sales".to_owned())]),
    ));
    let after = compiled(&spec, &population(&rows, &[])).plan;
    let found = difference(&before, &after);
    assert_eq!(
        found[0],
        "the population has changed: people in waves: 1,000 as before, but not the same ones"
    );
    assert!(
        found
            .iter()
            .any(|line| line == "wave `rest`: 950 as before, but not the same ones"),
        "{found:?}"
    );
    assert_eq!(difference(&before, &before), Vec::<String>::new());
    let other = compiled(
        &self::spec(&CANARY_AND_REST.replace("count: 50", "count: 60")),
        &population(&company(1000), &[]),
    )
    .plan;
    let found = difference(&before, &other);
    assert_eq!(
        found[..2],
        ["the spec has changed", "wave `canary`: 50 before, 60 now"]
    );
}

#[test]
fn the_timeline_follows_rate_windows_and_soaks() {
    let population = population(&company(1000), &[]);
    let waves = "rate: {per_second: 1}\nwaves:\n  - {name: canary, count: 100, soak: 1h, gate: {failures_at_most: 5}}\n  - {name: rest, rest: true, schedule: {cron: \"0 0 20 * * *\", zone: UTC, window: 10m}}\n";
    let timeline = compiled(&spec(waves), &population).plan.timeline;
    assert_eq!(timeline[0].drained_at, Some(at(100)));
    assert_eq!(timeline[0].soak_until, Some(at(3700)));
    assert_eq!(timeline[1].opens_at, Some(at(20 * 3600)));
    // 900 people in windows of 600 seconds: the second night, after 300 more.
    assert_eq!(timeline[1].drained_at, Some(at(86_400 + 20 * 3600 + 300)));
}

/// The form of a plan is frozen: one written by version 1 must be read for ever.
#[test]
fn a_plan_of_version_1_is_read_for_ever() {
    let population = together();
    let waves = "keep_together: {by: [manager, mailbox]}\nrate: {per_minute: 600, burst: 5}\nfreezes: [{name: x, from: 2026-12-15, to: 2026-12-20}]\nwaves:\n  - {name: canary, count: 20, schedule: {cron: \"0 0 9 * * *\", zone: Europe/Paris, window: 6h}, ramp: {first: 10%, double_every: 1h}, soak: 1h, gate: {success_at_least: 80%, sample_at_least: 10, failures_at_most: 0.5%, approvals: {count: 1}}}\n  - {name: rest, rest: true}\n";
    let mut plan = compiled(&spec(waves), &population).plan;
    // What is said about a plan may become more; how it is stored does not.
    plan.warnings.clear();
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/records/v1/plan.json"
    );
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(path, serde_json::to_string_pretty(&plan).unwrap() + "\n").unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&golden).unwrap(), plan);
    assert_eq!(
        serde_json::to_string_pretty(&plan).unwrap().trim(),
        golden.trim()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn everybody_is_in_one_wave_or_none_and_groups_are_never_parted(
        groups in prop::collection::vec(0u8..30, 30..150),
        count in 1u32..25,
    ) {
        let mut rows = company(u32::try_from(groups.len()).unwrap());
        for (row, group) in rows.iter_mut().zip(&groups) {
            if *group < 20 {
                row.1.insert("mailbox", format!("g{group}"));
            }
        }
        let population = population(&rows, &[]);
        let waves = format!("keep_together: {{by: [mailbox]}}\nwaves:\n  - {{name: canary, count: {count}, gate: {{failures_at_most: 5}}}}\n  - {{name: de, select: {{attribute: country, equals: DE}}, gate: {{failures_at_most: 5}}}}\n  - {{name: rest, rest: true}}\n");
        // A plan may be refused (groups that do not add up); a plan that is made must be right.
        if let Ok(found) = compile(&spec(&waves), &population, at(0)) {
            prop_assert_eq!(found.plan.waves[0].people, u64::from(count));
            let mut seen = BTreeMap::new();
            for (wave, roster) in found.rosters.iter().enumerate() {
                prop_assert!(roster.windows(2).all(|pair| pair[0] < pair[1]));
                for ordinal in roster {
                    prop_assert_eq!(seen.insert(*ordinal, wave), None);
                }
            }
            prop_assert_eq!(u64::try_from(seen.len()).unwrap(), found.plan.people);
            for group in 0..20 {
                let waves: BTreeSet<usize> = groups.iter().enumerate().filter(|(_, of)| **of == group)
                    .map(|(place, _)| seen[&Ordinal(u32::try_from(place).unwrap())]).collect();
                prop_assert!(waves.len() <= 1, "group {} in waves {:?}", group, waves);
            }
        }
    }
}
