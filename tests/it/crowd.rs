//! Thousands of rollouts that stand still: those that go on do not pay for them.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Connection as _;

use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::Service;

const HALTED: u32 = 3_000;
const PAUSED: u32 = 300;
/// What the service may keep in memory among them: more than it needs alone, far less than a copy of each.
const MEMORY_MAX: u64 = 200 << 20;

/// Copies the one rollout there is, with its plan, ledger and hold, so many times. Each is due at once.
fn copies() -> Vec<String> {
    let number = format!(
        "WITH RECURSIVE number(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < {})",
        HALTED + PAUSED
    );
    let id = |kind: u8| format!("printf('0000000{kind}-0000-4000-8000-%012x', i)");
    let (rollout, plan, hold) = (id(1), id(2), id(3));
    let the = "(SELECT id FROM rollout WHERE name = 'move')";
    vec![
        format!(
            "CREATE TEMP TABLE copy AS {number} SELECT {rollout} AS rollout_id, {plan} AS plan_id, {hold} AS hold_id, i, \
             CASE WHEN i <= {HALTED} THEN 'halt' ELSE 'pause' END AS kind, {the} AS the FROM number"
        ),
        "INSERT INTO plan SELECT c.plan_id, c.rollout_id, population_version_id, spec_digest, digest, body, created_at \
         FROM plan, copy c WHERE plan.rollout_id = c.the".to_owned(),
        "INSERT INTO plan_roster SELECT c.plan_id, wave_no, seq, size, ordinal_min, ordinal_max, roster \
         FROM plan_roster r JOIN plan p ON p.id = r.plan_id, copy c WHERE p.rollout_id = c.the".to_owned(),
        "INSERT INTO wave SELECT c.rollout_id, wave_no, name, claimable, claim_until, begin_at_most, size, queued, in_flight, \
         awaiting, done, failed, retry, unknown, skipped, departed, reverting, reverted, review, adopted, transferred, late_from, taking_back, parked \
         FROM wave, copy c WHERE wave.rollout_id = c.the".to_owned(),
        "INSERT INTO batch SELECT c.rollout_id, wave_no, seq, size, ordinal_min, ordinal_max, roster, slots, queued, in_flight, \
         awaiting, done, failed, retry, unknown, skipped, departed, reverting, reverted, review, adopted, ready_at, \
         lease_owner, lease_until, fence, epoch, transferred, parked FROM batch, copy c WHERE batch.rollout_id = c.the".to_owned(),
        "INSERT INTO hold SELECT c.hold_id, c.kind, scope_kind, c.rollout_id, scope_wave, cause, reason, owner, effect, \
         placed_by, placed_at, placed_epoch, review_at, released_by, released_at, released_epoch, release_reason, generation, \
         review_nag_at, head_count, part, unsorted FROM hold, copy c WHERE hold.scope_id = c.the".to_owned(),
        "INSERT INTO rollout SELECT c.rollout_id, 'still' || c.i, population_id, target_id, spec_format, spec_text, spec_digest, \
         lifecycle, replace(state, r.plan_id, c.plan_id), c.plan_id, 0, generation, created_at + c.i, NULL \
         FROM rollout r, copy c WHERE r.id = c.the".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_goes_on_and_stops_among_thousands_that_stand_still() {
    let database = Database::sqlite();
    let mut service = Service::start(&database);
    let token = service.api.token.clone();
    let api = &service.api;
    import(api, 500).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 10})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 20, 30).await;
    let scope = json!({"type": "rollout", "id": "move"});
    let body = json!({"kind": "halt", "scope": scope, "reason": "token theft"});
    api.post("/v1/holds?wait=quiesced", body).await.ok();
    crate::support::until("nobody is on the way", 20, async || {
        api.get("/v1/rollouts/move").await.ok()["in_flight"] == 0
    })
    .await;
    assert!(service.stop(), "it says goodbye");
    let mut connection = sqlx::SqliteConnection::connect(&database.url)
        .await
        .unwrap();
    for statement in copies() {
        let done = sqlx::query(sqlx::AssertSqlSafe(statement.clone()))
            .execute(&mut connection)
            .await;
        done.unwrap_or_else(|error| panic!("{error}: {statement}"));
    }
    connection.close().await.unwrap();

    let service = Service::start_again(&database, &token);
    let api = &service.api;
    let spec = |name: &str| two_waves().replace("rollout: move", &format!("rollout: {name}"));
    started(api, &spec("live")).await;
    // The first pass looks at each of them once; on a busy machine that takes its time.
    let done = until_status(api, "live", "completed", 480).await;
    assert_eq!(done["totals"]["done"], 500);
    started(api, &spec("next")).await;
    until_done(api, "next", 60, 30).await;
    let begun = Instant::now();
    let halted = api
        .post("/v1/rollouts/next/halt", json!({"reason": "now"}))
        .await
        .ok();
    assert_eq!(halted["status"], "halted");
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "acknowledged after {took:?}");
    for (name, status) in [
        ("still7", "halted"),
        ("still3100", "paused"),
        ("move", "halted"),
    ] {
        let begun = Instant::now();
        let view = api.get(&format!("/v1/rollouts/{name}")).await.ok();
        assert_eq!(view["status"], status);
        assert_eq!(view["totals"]["people"], 500);
        assert_eq!(
            view["holds"].as_array().unwrap().len(),
            1,
            "its own, and no other"
        );
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "`{name}` took {took:?}");
    }
    let moved = api.get("/v1/rollouts/still7").await.ok();
    let template = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(
        moved["totals"], template["totals"],
        "nobody there was moved"
    );
    let (_, most) = service.resident();
    assert!(most < MEMORY_MAX, "{} MiB", most >> 20);
    println!("{} MiB at most", most >> 20);
    service.end_and_fsck();
}
