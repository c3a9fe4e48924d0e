//! Specs as people write them, and as people get them wrong.

use super::*;

const GOOD: &str = r#"
rollout: m365-workforce
population: workforce
target: m365-prod
identity: {key: employee_id}
order: {algorithm: murmur3-x86-32, salt: wave-salt-1}
exclude: {any: [{attribute: worker_type, equals: contractor}, {attribute: active, equals: false}]}
pins:
  - {keys: [e1, e2], wave: canary}
  - {keys: [e9], out: true}
keep_together: {by: [together_group, manager_of_executives], ignore_hubs_above: 500}
rate: {per_minute: 1200, burst: 200}
late_joiners: last_open_wave
freezes:
  - {name: year-end, from: 2026-12-15, to: 2027-01-05, zone: UTC}
waves:
  - name: canary
    select: {attribute: department, equals: IT}
    count: 500
    schedule: {cron: "0 0 9 * * Mon-Thu", zone: Europe/Paris, window: 6h}
    soak: 24h
    gate: {success_at_least: 99.5%, confidence: 95%, sample_at_least: 200, failures_at_most: 5, unknown_at_most: 1%, approvals: {count: 1, from: [rollout-managers]}}
  - name: europe-offices
    select: {all: [{attribute: country, in: [DE, FR]}, {not: {attribute: department, in: [Warehouse]}}]}
    ramp: {first: 1%, double_every: 1d}
    soak: 5d
    gate: {failures_at_most: 0.3%}
  - name: early
    select: {keys: [e3, e4]}
    gate: {failures_at_most: 0}
  - name: ten-percent
    size: 100000ppm
    gate: {failures_at_most: 0.3%, metrics: [{name: tickets, query: "sum(x)", at_most: 2.5}]}
  - name: everyone-else
    rest: true
"#;

fn errors_of(text: &str) -> Vec<String> {
    Spec::parse(text, SpecFormat::Yaml)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_spec_reads_as_it_was_meant() {
    let spec =
        Spec::parse(GOOD, SpecFormat::Yaml).unwrap_or_else(|errors| panic!("{:#?}", errors.0));
    assert_eq!(spec.waves.len(), 5);
    assert_eq!(spec.identity.as_deref(), Some("employee_id"));
    assert_eq!(spec.salt, "wave-salt-1");
    assert_eq!(
        spec.rate,
        Some(RateLimit {
            people: 1200,
            per: Seconds(60),
            burst: 200
        })
    );
    assert_eq!(spec.waves[0].size, Size::Count(500));
    assert_eq!(spec.waves[3].size, Size::Share("10%".parse().unwrap()));
    assert_eq!(spec.waves[4].select, Selection::Everybody);
    assert_eq!(
        spec.waves[3].gate.as_ref().unwrap().metrics[0].at_most_millionths,
        Some(2_500_000)
    );
    assert_eq!(
        spec.pins[1],
        Pin {
            keys: vec!["e9".to_owned()],
            wave: None
        }
    );
}

#[test]
fn the_same_intent_has_the_same_digest_in_every_format() {
    let yaml =
        "rollout: r\npopulation: p\ntarget: t\nwaves: [{name: all, rest: true, soak: 60s}]\n";
    let json = r#"{"target": "t", "population": "p", "rollout": "r", "waves": [{"soak": "1m", "name": "all", "rest": true}]}"#;
    let toml = "rollout = 'r'\npopulation = 'p'\ntarget = 't'\n[[waves]]\nname = 'all'\nrest = true\nsoak = '1m'\n";
    let yaml = Spec::parse(yaml, SpecFormat::Yaml).unwrap();
    assert_eq!(
        Spec::parse(json, SpecFormat::Json).unwrap().digest(),
        yaml.digest()
    );
    assert_eq!(
        Spec::parse(toml, SpecFormat::Toml).unwrap().digest(),
        yaml.digest()
    );
}

#[test]
fn every_error_names_its_line_and_field() {
    let text = "\
rollout: has spaces
population: workforce
targt: m365
rate: {per_second: fast}
waves:
  - name: canary
    count: many
    soak: 3 days
    gate: {failures_at_most: 120%, failure_limit: 3}
  - name: canary
    select: {attribute: country, in: [DE], equals: FR}
    schedule: {cron: every day, zone: Mars/Base, window: 1h}
";
    insta::assert_snapshot!("spec_errors", errors_of(text).join("\n"));
}

#[test]
fn broken_syntax_says_where_in_every_format() {
    for (text, format, line) in [
        ("rollout: [a\nwaves: }\n", SpecFormat::Yaml, 2),
        (
            "{\"rollout\": \"r\",\n \"waves\": [,]}",
            SpecFormat::Json,
            2,
        ),
        ("rollout = 'r'\nwaves = [\n", SpecFormat::Toml, 2),
    ] {
        let errors = Spec::parse(text, format).unwrap_err().0;
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].code, "syntax");
        assert!(
            errors[0].line.is_some_and(|found| found >= line),
            "{errors:?}"
        );
    }
    assert_eq!(errors_of(""), ["the document is empty"]);
    assert_eq!(
        errors_of("- a\n- b\n"),
        ["line 1, column 1: this must be a map of fields, such as {name: value}"]
    );
}

#[test]
fn anchors_deep_nests_and_second_documents_are_refused() {
    assert!(errors_of("a: &x [1]\nb: *x\n")[0].contains("anchors and aliases"));
    assert!(
        errors_of(&format!("a: {}{}", "[".repeat(200), "]".repeat(200)))[0]
            .contains("nests too deep")
    );
    assert!(errors_of("rollout: r\n---\nrollout: s\n")[0].contains("one document"));
    assert!(errors_of("rollout: r\nrollout: s\n")[0].contains("given twice"));
}

#[test]
fn a_wave_without_a_gate_may_only_be_the_last() {
    let text = "rollout: r\npopulation: p\ntarget: t\nwaves:\n  - {name: one, count: 5}\n  - {name: two, rest: true}\n";
    assert_eq!(
        errors_of(text),
        [
            "line 5, column 5: waves[0].gate: wave `one` needs a gate: without one the next wave would open whatever happened"
        ]
    );
}

#[test]
fn the_rest_comes_last_and_pins_name_real_waves() {
    let text = "rollout: r\npopulation: p\ntarget: t\npins: [{keys: [a], wave: nope}]\nwaves:\n  - {name: one, rest: true, gate: {failures_at_most: 0}}\n  - {name: two, count: 5}\n";
    let errors = errors_of(text);
    assert!(
        errors
            .iter()
            .any(|error| error.contains("`one` takes the rest")),
        "{errors:?}"
    );
    assert!(
        errors.iter().any(|error| error.contains("no wave `nope`")),
        "{errors:?}"
    );
}

#[test]
fn the_zone_of_each_member_is_refused_with_the_way_out() {
    let text = "rollout: r\npopulation: p\ntarget: t\nwaves:\n  - {name: one, rest: true, schedule: {cron: \"0 0 9 * * *\", zone: member.timezone, window: 1h}}\n";
    assert!(errors_of(text)[0].contains("make one wave for each zone"));
}
