//! Kills at random moments, power cuts, full disks: nobody is lost, nobody is moved twice.
//!
//! Random tests print their seed. `TIDEGATE_CRASH_KILLS=200` makes every loop of kills longer.

mod disk;
pub(crate) mod journal;
mod kill;
mod outage;
mod phases;
mod power;
mod replaced;
mod replicas;
mod seams;
mod signals;
mod target;

use std::time::Duration;

use serde_json::Value;

use crate::support::Random;
use crate::support::api::Api;
use crate::support::database::Database;
use crate::support::service::Service;

/// How often a loop kills, unless the environment says how often.
fn kills(usual: u32) -> u32 {
    let given = std::env::var("TIDEGATE_CRASH_KILLS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Sleeps for a random time: when a kill comes is what these tests are about.
async fn random_moment(random: &mut Random, least_ms: u64, most_ms: u64) {
    let wait = least_ms + random.below(most_ms - least_ms + 1);
    tokio::time::sleep(Duration::from_millis(wait)).await;
}

/// Kills the service and starts it again on the same database.
fn restart(service: &mut Service) {
    service.kill();
    *service = Service::start_again(&service.database, &service.api.token.clone());
}

/// Returns how many people of a rollout are in a state.
fn people(view: &Value, state: &str) -> u64 {
    view["totals"][state].as_u64().unwrap_or(0)
}

/// Reads a number from the database itself: what no user is shown.
pub(crate) async fn number(database: &Database, sql: &str) -> i64 {
    use sqlx::Connection as _;
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if database.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
        let found = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
        found.unwrap()
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&database.url)
            .await
            .unwrap();
        let found = sqlx::query_scalar(sql).fetch_one(&mut connection).await;
        found.unwrap()
    }
}

/// Counts the entries of the audit trail with this action.
async fn audited(database: &Database, action: &str) -> i64 {
    let sql = format!("SELECT COUNT(*) FROM audit WHERE action = '{action}'");
    number(database, &sql).await
}

/// Gives the sandbox `box` other settings.
async fn reconfigure(api: &Api, settings: Value) {
    let seen = api.get("/v1/targets/box").await.etag();
    let put = api.request(reqwest::Method::PUT, "/v1/targets/box");
    let body = serde_json::json!({"connector": "sandbox", "config": settings});
    crate::support::api::send(put.header("if-match", seen).json(&body))
        .await
        .ok();
}

/// Asks whether the service is ready, and says what it answered.
async fn ready(api: &Api) -> u16 {
    let asked = api.request(reqwest::Method::GET, "/readyz");
    match asked.timeout(Duration::from_secs(15)).send().await {
        Ok(answer) => answer.status().as_u16(),
        Err(_) => 0,
    }
}
