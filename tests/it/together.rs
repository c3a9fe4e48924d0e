//! People who must move together: never in two waves, whatever the order says.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{EASY, import_csv, planned, sandbox, until_status};
use crate::support::service::Service;

on_each_database!(
    people_kept_together_never_straddle_a_wave,
    a_group_too_large_for_a_wave_is_refused_with_its_bridges_and_the_waiver_is_accepted,
    a_hub_joins_nobody_and_is_reported,
);

/// A company: teams of four under a manager, each manager under the boss; a pair across two teams.
fn company(teams: u32, boss_manages: bool) -> String {
    let mut text = String::from("employee_id,user_name,manager_id,pair\n");
    for person in 0..teams * 4 {
        let manager = match person % 4 {
            0 if person > 0 && boss_manages => "e000".to_owned(),
            0 => String::new(),
            _ => format!("e{:03}", person - person % 4),
        };
        let pair = if person == 5 || person == 9 { "p1" } else { "" };
        let _ = writeln!(text, "e{person:03},u{person}@example.test,{manager},{pair}");
    }
    text
}

async fn with_company(api: &Api, teams: u32, boss_manages: bool) {
    let mapping = json!({"manager": "manager_id", "keep_together": ["pair"]});
    api.post(
        "/v1/populations",
        json!({"name": "staff", "mapping": mapping}),
    )
    .await
    .ok();
    import_csv(api, company(teams, boss_manages)).await;
    sandbox(api, json!({})).await;
}

fn spec(keep: &str, count: u32) -> String {
    format!(
        "rollout: move\npopulation: staff\ntarget: box\nkeep_together: {keep}\nwaves:\n  - {{name: one, count: {count}, {EASY}}}\n  \
         - {{name: two, size: 30%, {EASY}}}\n  - {{name: rest, rest: true}}\n"
    )
}

async fn people_kept_together_never_straddle_a_wave(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    with_company(api, 60, false).await;
    let plan = planned(api, &spec("{by: [manager_id, pair]}", 48)).await;
    assert_eq!(plan["waves"][0]["people"], 48, "exact, and in whole teams");
    api.post("/v1/rollouts/move/start", json!({"digest": plan["digest"]}))
        .await
        .ok();
    until_status(api, "move", "completed", 30).await;
    let page = api.get("/v1/rollouts/move/members?limit=1000").await.ok();
    let mut waves: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for item in page["items"].as_array().unwrap() {
        let person: u32 = item["key"].as_str().unwrap()[1..].parse().unwrap();
        // The pair joins the teams of e004 and e008.
        let team = if person / 4 == 2 { 1 } else { person / 4 };
        waves
            .entry(team)
            .or_default()
            .push(item["wave"].as_u64().unwrap());
    }
    assert_eq!(waves.values().map(Vec::len).sum::<usize>(), 240);
    for (team, found) in waves {
        assert!(
            found.windows(2).all(|pair| pair[0] == pair[1]),
            "team {team} is in waves {found:?}"
        );
    }
    service.end_and_fsck();
}

async fn a_group_too_large_for_a_wave_is_refused_with_its_bridges_and_the_waiver_is_accepted(
    database: Database,
) {
    let service = Service::start(&database);
    let api = &service.api;
    with_company(api, 20, true).await;
    let keep = "{by: [manager_id]}";
    api.post_text("/v1/rollouts", "application/yaml", spec(keep, 20))
        .await
        .ok();
    let refused = api.post("/v1/rollouts/move/plan", json!({})).await;
    refused.refused(422, "plan_refused");
    let errors = refused.body["errors"].to_string();
    assert!(
        errors.contains("e000"),
        "the people who bridge it are named: {errors}"
    );
    assert!(
        errors.contains("manager_id:e000") && errors.contains("waiver"),
        "and what to write: {errors}"
    );
    assert!(errors.contains("80"), "and how many they are: {errors}");
    let waived = "{by: [manager_id], waivers: [{member: e000, broken_links: [\"manager_id:e000\"], reason: agreed with HR}]}";
    let view = api.get("/v1/rollouts/move").await;
    let request = api
        .request(reqwest::Method::PUT, "/v1/rollouts/move")
        .header("if-match", view.etag());
    let request = request
        .header("content-type", "application/yaml")
        .body(spec(waived, 20));
    crate::support::api::send(request).await.ok();
    let plan = api.post("/v1/rollouts/move/plan", json!({})).await.ok();
    assert_eq!(plan["waves"][0]["people"], 20);
}

async fn a_hub_joins_nobody_and_is_reported(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    with_company(api, 20, true).await;
    let plan: Value = planned(api, &spec("{by: [manager_id], ignore_hubs_above: 10}", 20)).await;
    assert_eq!(plan["waves"][0]["people"], 20);
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("manager_id:e000"), "{warnings}");
}
