//! Specs with something wrong: each error names its line and field, in every format.

use serde_json::{Value, json};

use crate::support::api::{Answer, Api};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox};
use crate::support::service::Service;

on_each_database!(
    each_error_of_a_spec_names_its_line_and_field,
    all_errors_of_a_spec_are_named_at_once,
    errors_are_placed_in_json_and_toml_as_well,
    the_three_formats_have_one_digest,
    what_the_population_does_not_have_is_named_when_it_is_planned,
    a_spec_that_plays_games_is_refused,
);

/// A good spec, one line for each thing that a test may spoil.
const GOOD: &str = "\
rollout: move
population: staff
target: box
identity: {key: employee_id}
order: {algorithm: murmur3-x86-32, salt: s}
exclude: {attribute: country, equals: US}
pins:
  - {keys: [e0000001], wave: canary}
keep_together: {by: [department]}
rate: {per_second: 5}
late_joiners: none
freezes:
  - {name: year-end, from: 2026-12-15, to: 2027-01-05, zone: UTC}
waves:
  - name: canary
    select: {attribute: country, equals: DE}
    count: 5
    schedule: {cron: \"0 0 9 * * *\", zone: Europe/Paris, window: 6h}
    ramp: {first: 1%, double_every: 1d}
    soak: 1h
    gate: {failures_at_most: 5}
  - name: everyone-else
    rest: true
";

async fn create(api: &Api, kind: &str, text: &str) -> Answer {
    api.post_text("/v1/rollouts", &format!("application/{kind}"), text)
        .await
}

async fn each_error_of_a_spec_names_its_line_and_field(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let mut wrong = Vec::new();
    for (from, to, line, field) in [
        ("rollout: move", "rollout: \"two words\"", 1, "rollout"),
        ("target: box", "target: [box]", 3, "target"),
        ("target: box", "tarjet: box", 3, "tarjet"),
        (
            "identity: {key: employee_id}",
            "identity: {column: x}",
            4,
            "identity.column",
        ),
        ("murmur3-x86-32", "md5", 5, "order.algorithm"),
        (
            "exclude: {attribute: country, equals: US}",
            "exclude: {attribute: country}",
            6,
            "exclude",
        ),
        (
            "exclude: {attribute: country, equals: US}",
            "exclude: {sometimes: true}",
            6,
            "exclude",
        ),
        (
            "{keys: [e0000001], wave: canary}",
            "{keys: [e0000001]}",
            8,
            "pins[0]",
        ),
        (
            "{keys: [e0000001], wave: canary}",
            "{keys: [], out: true}",
            8,
            "pins[0]",
        ),
        ("wave: canary}", "wave: none}", 8, "pins[0].wave"),
        ("{by: [department]}", "{by: []}", 9, "keep_together.by"),
        (
            "{per_second: 5}",
            "{per_second: five}",
            10,
            "rate.per_second",
        ),
        ("{per_second: 5}", "{per_second: 0}", 10, "rate"),
        (
            "{per_second: 5}",
            "{per_second: 5, per_minute: 5}",
            10,
            "rate",
        ),
        (
            "late_joiners: none",
            "late_joiners: all",
            11,
            "late_joiners",
        ),
        ("to: 2027-01-05", "to: 2027-02-30", 13, "freezes[0].to"),
        ("to: 2027-01-05", "to: 2025-01-05", 13, "freezes[0]"),
        ("zone: UTC", "zone: Mars/Olympus", 13, "freezes[0]"),
        ("name: canary", "name: \"\"", 15, "waves[0].name"),
        ("equals: DE", "equals: [DE]", 16, "waves[0].select.equals"),
        ("count: 5", "count: -5", 17, "waves[0].count"),
        ("count: 5", "count: 0", 17, "waves[0].count"),
        ("count: 5", "size: 101%", 17, "waves[0].size"),
        ("\"0 0 9 * * *\"", "\"every day\"", 18, "waves[0].schedule"),
        ("Europe/Paris", "Europe/Atlantis", 18, "waves[0].schedule"),
        ("window: 6h", "window: -1h", 18, "waves[0].schedule.window"),
        ("first: 1%", "first: x", 19, "waves[0].ramp.first"),
        ("soak: 1h", "soak: soon", 20, "waves[0].soak"),
        (
            "gate: {failures_at_most: 5}",
            "gate: {failures_at_most: many}",
            21,
            "waves[0].gate.failures_at_most",
        ),
        (
            "gate: {failures_at_most: 5}",
            "# no gate",
            15,
            "waves[0].gate",
        ),
        ("name: everyone-else", "name: canary", 22, "waves[1].name"),
        ("rest: true", "rest: perhaps", 23, "waves[1].rest"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let answer = create(api, "yaml", &GOOD.replacen(from, to, 1)).await;
        let errors = answer.body["errors"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let named = errors
            .iter()
            .any(|error| error["line"] == line && error["field"] == field);
        if answer.status != 422 || answer.body["code"] != "spec_invalid" || !named {
            wrong.push(format!(
                "{to}: line {line}, {field}: {} {}",
                answer.status,
                json!(errors)
            ));
        }
        for error in &errors {
            let message = error["message"].as_str().unwrap_or_default();
            assert!(
                message.len() > 10 && !message.contains('\n'),
                "{to}: one line: {message}"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(api.get("/v1/rollouts").await.ok()["items"], json!([]));
}

async fn all_errors_of_a_spec_are_named_at_once(database: Database) {
    let service = Service::start(&database);
    let text = GOOD
        .replace("count: 5", "count: x")
        .replace("soak: 1h", "soak: x")
        .replace("by:", "bye:");
    let refused = create(&service.api, "yaml", &text).await;
    let sentence = refused.refused(422, "spec_invalid");
    let lines: Vec<u64> = refused.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["line"].as_u64().unwrap())
        .collect();
    for line in [9, 17, 20] {
        assert!(lines.contains(&line), "line {line}: {}", refused.text);
    }
    let mut sorted = lines.clone();
    sorted.sort_unstable();
    assert_eq!(lines, sorted, "in the order of the file");
    assert!(sentence.contains("errors"), "{sentence}");
}

const JSON: &str = r#"{
  "rollout": "move", "population": "staff", "target": "box",
  "waves": [
    {"name": "canary",
     "count": 5,
     "gate": {"failures_at_most": 5}},
    {"name": "rest", "rest": true}
  ]
}"#;

const TOML: &str = "\
rollout = \"move\"
population = \"staff\"
target = \"box\"

[[waves]]
name = \"canary\"
count = 5
gate = {failures_at_most = 5}

[[waves]]
name = \"rest\"
rest = true
";

const YAML: &str = "\
rollout: move
population: staff
target: box
waves:
- {name: canary, count: 5, gate: {failures_at_most: 5}}
- {name: rest, rest: true}
";

async fn errors_are_placed_in_json_and_toml_as_well(database: Database) {
    let service = Service::start(&database);
    let mut wrong = Vec::new();
    for (kind, good, from, to, line, field) in [
        (
            "json",
            JSON,
            "\"count\": 5",
            "\"count\": \"many\"",
            5,
            "waves[0].count",
        ),
        (
            "json",
            JSON,
            "\"rest\": true",
            "\"rets\": true",
            7,
            "waves[1].rets",
        ),
        (
            "json",
            JSON,
            "\"target\": \"box\"",
            "\"target\": 7, \"x\": null",
            2,
            "x",
        ),
        ("json", JSON, "\"count\": 5,", "\"count\": 5", 6, ""),
        (
            "toml",
            TOML,
            "count = 5",
            "count = \"many\"",
            7,
            "waves[0].count",
        ),
        (
            "toml",
            TOML,
            "rest = true",
            "rets = true",
            12,
            "waves[1].rets",
        ),
        ("toml", TOML, "count = 5", "count = ", 7, ""),
        ("toml", TOML, "count = 5", "count = 5\ncount = 6", 8, ""),
        ("yaml", YAML, "rest: true}", "rest: true", 7, ""),
        (
            "yaml",
            YAML,
            "target: box",
            "target: box\ntarget: other",
            4,
            "target",
        ),
    ] {
        let answer = create(&service.api, kind, &good.replacen(from, to, 1)).await;
        let errors = answer.body["errors"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_at = |error: &Value| {
            let found = error["field"].as_str().unwrap_or_default();
            let near = error["line"]
                .as_i64()
                .is_some_and(|found| (found - line).abs() <= i64::from(field.is_empty()));
            near && (found == field || field.is_empty())
        };
        if answer.status != 422 || !errors.iter().any(is_at) {
            wrong.push(format!(
                "{kind} {to}: line {line}, {field}: {}",
                answer.text
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

async fn the_three_formats_have_one_digest(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    sandbox(api, json!({})).await;
    let mut digests = Vec::new();
    for (kind, text) in [("yaml", YAML), ("json", JSON), ("toml", TOML)] {
        let text = text.replace("move", kind);
        let salted = match kind {
            "yaml" => text.replace("target: box", "target: box\norder: {salt: s}"),
            "json" => text.replace(
                "\"target\": \"box\",",
                "\"target\": \"box\", \"order\": {\"salt\": \"s\"},",
            ),
            _ => text.replace(
                "target = \"box\"",
                "target = \"box\"\norder = {salt = \"s\"}",
            ),
        };
        create(api, kind, &salted).await.ok();
        let plan = api
            .post(&format!("/v1/rollouts/{kind}/plan"), json!({}))
            .await
            .ok();
        digests.push(plan["waves"].to_string());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "{digests:?}");
    // The same rollout in another format is the same spec: its plan is not stale.
    let etag = api.get("/v1/rollouts/yaml").await;
    let plan = api.post("/v1/rollouts/yaml/plan", json!({})).await.ok();
    let json_text = JSON.replace("\"move\"", "\"yaml\"").replace(
        "\"target\": \"box\",",
        "\"target\": \"box\", \"order\": {\"salt\": \"s\"},",
    );
    let request = api
        .request(reqwest::Method::PUT, "/v1/rollouts/yaml")
        .header("if-match", etag.etag());
    let put = crate::support::api::send(
        request
            .header("content-type", "application/json")
            .body(json_text),
    )
    .await;
    assert_eq!(put.status, 200, "{}", put.text);
    let again = api.post("/v1/rollouts/yaml/plan", json!({})).await.ok();
    assert_eq!(
        again["digest"], plan["digest"],
        "YAML and JSON say the same"
    );
}

async fn what_the_population_does_not_have_is_named_when_it_is_planned(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    sandbox(api, json!({})).await;
    let spec =
        |name: &str, body: &str| format!("rollout: {name}\npopulation: staff\ntarget: box\n{body}");
    let gate = "gate: {failures_at_most: 5}";
    for (name, body, code, field) in [
        ("a", format!("waves:\n  - {{name: w, select: {{attribute: planet, equals: X}}, {gate}}}\n  - {{name: r, rest: true}}\n"), "attribute_unknown", "waves[0].select"),
        ("b", format!("waves:\n  - {{name: w, select: {{attribute: country, at_least: 5}}, {gate}}}\n  - {{name: r, rest: true}}\n"), "test_unfit", "waves[0].select"),
        ("c", format!("waves:\n  - {{name: w, select: {{attribute: country, equals: 42}}, {gate}}}\n  - {{name: r, rest: true}}\n"), "value_type", "waves[0].select"),
        ("d", format!("waves:\n  - {{name: w, select: {{attribute: country, equals: XX}}, {gate}}}\n  - {{name: r, rest: true}}\n"), "wave_empty", "waves[0]"),
        ("e", format!("waves:\n  - {{name: w, count: 1001, {gate}}}\n"), "", "waves[0]"),
        ("f", "exclude: {attribute: planet, is_missing: true}\nwaves:\n  - {name: r, rest: true}\n".to_owned(), "attribute_unknown", "exclude"),
        ("g", "keep_together: {by: [planet]}\nwaves:\n  - {name: r, rest: true}\n".to_owned(), "attribute_unknown", "keep_together"),
        (
            "h",
            "waves:\n  - {name: w, count: 5, gate: {}}\n  - {name: r, rest: true}\n".to_owned(),
            "",
            "waves[0].gate",
        ),
        ("i", "waves:\n  - {name: w, count: 298, gate: {success_at_least: 99%, confidence: 95%}}\n  - {name: r, rest: true}\n".to_owned(), "", "waves[0].gate"),
    ] {
        create(api, "yaml", &spec(name, &body)).await.ok();
        let refused = api.post(&format!("/v1/rollouts/{name}/plan"), json!({})).await;
        let sentence = refused.refused(422, "plan_refused");
        let error = &refused.body["errors"][0];
        assert!(error["field"].as_str().unwrap_or_default().starts_with(field), "{name}: {}", refused.text);
        assert!(code.is_empty() || error["code"] == code, "{name}: {}", refused.text);
        assert!(sentence.len() > 20, "{sentence}");
        assert_eq!(api.get(&format!("/v1/rollouts/{name}")).await.ok()["status"], "draft");
    }
    let empty = "rollout: z\npopulation: none\ntarget: box\nwaves: [{name: r, rest: true}]\n";
    api.post("/v1/populations", json!({"name": "none"}))
        .await
        .ok();
    create(api, "yaml", empty).await.ok();
    api.post("/v1/rollouts/z/plan", json!({}))
        .await
        .refused(409, "population_empty");
    let other = spec(
        "y",
        "identity: {key: guid}\nwaves: [{name: r, rest: true}]\n",
    );
    create(api, "yaml", &other).await.ok();
    api.post("/v1/rollouts/y/plan", json!({}))
        .await
        .refused(422, "identity_differs");
}

async fn a_spec_that_plays_games_is_refused(database: Database) {
    let service = Service::start(&database);
    let deep = format!("rollout: {}x{}", "[".repeat(5_000), "]".repeat(5_000));
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nrollout: *b\n";
    for text in [
        "",
        "   \n",
        "null",
        "[]",
        "just words",
        "---\na: 1\n---\nb: 2\n",
        "\t\n",
        deep.as_str(),
        bomb,
        "rollout: !!binary x",
    ] {
        let answer = create(&service.api, "yaml", text).await;
        answer.refused(422, "spec_invalid");
    }
    let request = service
        .api
        .request(reqwest::Method::POST, "/v1/rollouts")
        .header("content-type", "application/yaml");
    let answer = crate::support::api::send(request.body(vec![0xff, 0xfe, b'a'])).await;
    answer.refused(400, "not_utf8");
}
