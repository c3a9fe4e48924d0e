//! People, specs and rollouts that many tests begin with.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::api::Api;
use super::until;

/// Returns a CSV of people `from..until`: id, user name, names, e-mail, country, department.
pub(crate) fn csv(people: std::ops::Range<u32>) -> String {
    let mut text =
        String::from("employee_id,user_name,given_name,family_name,email,country,department\n");
    for person in people {
        let country = ["DE", "FR", "US", "IN"][person as usize % 4];
        let department = ["IT", "Sales", "Warehouse"][person as usize % 3];
        let _ = writeln!(
            text,
            "e{person:07},user{person}@example.test,Given{person},Family{person},user{person}@example.test,{country},{department}"
        );
    }
    text
}

/// Creates population `staff` with people `0..count`.
pub(crate) async fn import(api: &Api, count: u32) -> Value {
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    import_csv(api, csv(0..count)).await
}

/// Imports a CSV into population `staff`.
pub(crate) async fn import_csv(api: &Api, text: String) -> Value {
    api.post_text("/v1/populations/staff/imports", "text/csv", text)
        .await
        .ok()
}

/// Creates a target `box`: a sandbox with these settings.
pub(crate) async fn sandbox(api: &Api, settings: Value) {
    let body = json!({"name": "box", "connector": "sandbox", "config": settings});
    api.post("/v1/targets", body).await.ok();
}

/// The gate of waves that let everything pass.
pub(crate) const EASY: &str = "gate: {failures_at_most: 100%, unknown_at_most: 100%}";

/// A rollout `move` of `staff` to `box`: a canary of 50, then the rest.
pub(crate) fn two_waves() -> String {
    format!(
        "rollout: move\npopulation: staff\ntarget: box\nwaves:\n  - {{name: canary, count: 50, {EASY}}}\n  - {{name: rest, rest: true}}\n"
    )
}

/// Creates a rollout and plans it; returns the plan.
pub(crate) async fn planned(api: &Api, spec: &str) -> Value {
    let name = spec
        .lines()
        .find_map(|line| line.strip_prefix("rollout: "))
        .expect("a name");
    api.post_text("/v1/rollouts", "application/yaml", spec)
        .await
        .ok();
    api.post(&format!("/v1/rollouts/{name}/plan"), json!({}))
        .await
        .ok()
}

/// Creates, plans and starts a rollout.
pub(crate) async fn started(api: &Api, spec: &str) -> Value {
    let plan = planned(api, spec).await;
    let name = spec
        .lines()
        .find_map(|line| line.strip_prefix("rollout: "))
        .expect("a name");
    let body = json!({"digest": plan["digest"]});
    api.post(&format!("/v1/rollouts/{name}/start"), body)
        .await
        .ok()
}

/// Waits until a rollout has a status; fails early when it has ended otherwise.
pub(crate) async fn until_status(api: &Api, rollout: &str, status: &str, seconds: u64) -> Value {
    let path = format!("/v1/rollouts/{rollout}");
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let view = api.get(&path).await.ok();
        let found = view["status"].as_str().unwrap_or_default();
        if found == status {
            return view;
        }
        let over = ["completed", "cancelled"].contains(&found);
        assert!(
            !over && Instant::now() < deadline,
            "`{rollout}` is {found}, and not {status}: {view:#}"
        );
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until so many people of a rollout are done.
pub(crate) async fn until_done(api: &Api, rollout: &str, people: u64, seconds: u64) -> Value {
    let path = format!("/v1/rollouts/{rollout}");
    until(
        &format!("{people} people of `{rollout}` are done"),
        seconds,
        async || api.get(&path).await.ok()["totals"]["done"].as_u64() >= Some(people),
    )
    .await;
    api.get(&path).await.ok()
}
