//! A bell that rings while somebody looks is not lost: what was started goes on by itself.

use serde_json::json;

use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started};
use crate::support::service::Service;
use crate::support::until;

on_each_database!(a_start_that_meets_a_planner_at_work_is_not_forgotten);

async fn a_start_that_meets_a_planner_at_work_is_not_forgotten(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 5).await;
    sandbox(api, json!({})).await;
    let names: Vec<String> = (0..40).map(|number| format!("move-{number}")).collect();
    for name in &names {
        let spec = format!(
            "rollout: {name}\npopulation: staff\ntarget: box\nwaves:\n  - {{name: all, rest: true}}\n"
        );
        started(api, &spec).await;
    }
    until("each rollout is through", 30, async || {
        let page = api.get("/v1/rollouts?limit=100").await.ok();
        let rollouts = page["items"].as_array().unwrap();
        assert_eq!(rollouts.len(), 40);
        rollouts.iter().all(|one| one["status"] == "completed")
    })
    .await;
    service.end_and_fsck();
}
