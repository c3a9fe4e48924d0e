//! One attack from its beginning to its end: faults and clients at once, then quiet, then everything is
//! lifted, and everybody arrives.

use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::field::Field;
use super::judge::{self, Verdict};
use super::log::{Lifted, Log};
use super::schedule::{Given, Order, ROLLOUTS, Schedule, Scope, Step};
use crate::support::api::{Answer, Api};
use crate::support::cluster::Cluster;
use crate::support::holds::{self, hold, lift_all, release_request};
use crate::support::people::until_status;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Within which time nobody can send under a hold, once nothing goes wrong any more.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// How long everybody is watched under the last halt.
const WATCHED: Duration = Duration::from_millis(1_200);

/// Runs a schedule, and judges what came of it.
pub(super) async fn attack(schedule: &Schedule, cluster: Option<&Cluster>) -> Verdict {
    let field = Field::new(schedule, cluster).await;
    let log = Log::default();
    let begun = Instant::now();
    let faults = schedule.faults.iter().map(|step| {
        let field = &field;
        async move {
            until_step(begun, step).await;
            field.suffer(step.what).await;
        }
    });
    let clients = schedule
        .clients
        .iter()
        .map(|steps| client(&field, &log, begun, steps));
    tokio::join!(
        futures_util::future::join_all(faults),
        futures_util::future::join_all(clients)
    );
    finish(field, &log, schedule).await
}

/// Brings an attack to its end: quiet, one more death, everything lifted, everybody there; and judges it.
pub(super) async fn finish(field: Field<'_>, log: &Log, schedule: &Schedule) -> Verdict {
    quiet_at_last(&field, log, schedule).await;
    judge::still_in_force(&field, log).await;
    // Whatever was acknowledged outlives one more death.
    field.kill(0, 0).await;
    field.until_ready().await;
    judge::still_in_force(&field, log).await;
    let lifted = Instant::now();
    field.calm_the_target();
    // A request that was frozen on its way may still place something after this.
    while lift_all(&field.api(0)).await > 0 {}
    for name in ROLLOUTS {
        arrives(&field, name).await;
    }
    judge::verdict(field, log, schedule, lifted).await
}

async fn until_step<T>(begun: Instant, step: &Step<T>) {
    let at = begun + Duration::from_millis(step.at);
    tokio::time::sleep_until(at.into()).await;
}

async fn client(field: &Field<'_>, log: &Log, begun: Instant, steps: &[Step<Given>]) {
    for step in steps {
        until_step(begun, step).await;
        let replica = step.what.replica;
        match step.what.order {
            Order::Pause {
                scope,
                patience,
                stands,
            } => {
                let placed = place(field, log, replica, "pause", scope).await;
                let Some(id) = placed else { continue };
                watch(field, log, replica, &id, Duration::from_millis(patience)).await;
                tokio::time::sleep(Duration::from_millis(stands)).await;
                let request = release_request(&field.api(replica), &id);
                lift(log, Lifted::Hold(id), request).await;
            }
            Order::Halt { scope } => {
                if let Some(id) = place(field, log, replica, "halt", scope).await {
                    watch(field, log, replica, &id, PATIENCE).await;
                }
            }
            Order::Resume { rollout } => {
                let request = verb(&field.api(replica), rollout, "resume");
                lift(log, Lifted::PausesOf(rollout), request).await;
            }
            Order::Retry { rollout } => {
                ask(log, "retry", verb(&field.api(replica), rollout, "retry")).await;
            }
        }
    }
}

fn verb(api: &Api, rollout: &str, verb: &str) -> RequestBuilder {
    let path = format!("/v1/rollouts/{rollout}/{verb}");
    let request = api.request(reqwest::Method::POST, &path);
    request.json(&json!({"reason": "the attack"}))
}

/// Sends a request; `None` when no answer came in time.
async fn ask(log: &Log, call: &str, request: RequestBuilder) -> Option<Answer> {
    let response = request.timeout(PATIENCE).send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.ok()?;
    log.answered(call, status, &text);
    Some(Answer {
        status,
        headers,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    })
}

fn scope_of(scope: Scope) -> Value {
    match scope {
        Scope::Everything => json!({"type": "everything"}),
        Scope::Target(id) => json!({"type": "target", "id": id}),
        Scope::Rollout(id) => json!({"type": "rollout", "id": id}),
    }
}

/// Places a hold, and returns its id when that was acknowledged.
pub(super) async fn place(
    field: &Field<'_>,
    log: &Log,
    replica: usize,
    kind: &str,
    scope: Scope,
) -> Option<String> {
    let body = hold(kind, &scope_of(scope), "the attack");
    let request = field
        .api(replica)
        .request(reqwest::Method::POST, "/v1/holds");
    let asked = Instant::now();
    let answer = ask(log, kind, request.json(&body)).await?;
    let id = answer.body["id"].as_str()?.to_owned();
    log.placed(&id, scope, kind == "halt");
    log.seen(&answer.body, asked);
    Some(id)
}

/// Watches a hold until nobody can send under it, or patience ends; says whether it became quiet.
pub(super) async fn watch(
    field: &Field<'_>,
    log: &Log,
    replica: usize,
    id: &str,
    patience: Duration,
) -> bool {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        let path = format!("/v1/holds/{id}");
        let request = field.api(replica).request(reqwest::Method::GET, &path);
        let asked = Instant::now();
        let answer = ask(log, "look", request).await;
        if answer.is_some_and(|answer| log.seen(&answer.body, asked)) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

async fn lift(log: &Log, what: Lifted, request: RequestBuilder) {
    let number = log.lift(what);
    if let Some(answer) = ask(log, "lift", request).await {
        // A refusal says that it was not done by this; a failure says nothing.
        if answer.status < 500 {
            log.lifted(number, answer.status < 300);
        }
    }
}

/// Stops everything, and waits until nobody can send; whoever was frozen meanwhile goes on under it.
async fn quiet_at_last(field: &Field<'_>, log: &Log, schedule: &Schedule) {
    let frozen = schedule.frozen_at_the_end;
    if let Some(frozen) = frozen {
        field.signal(frozen, "STOP").await;
    }
    let replica = (0..field.len())
        .find(|replica| Some(*replica) != frozen)
        .expect("one that is not frozen");
    let end = Instant::now() + QUIET_WITHIN;
    let id = loop {
        if let Some(id) = place(field, log, replica, "pause", Scope::Everything).await {
            break id;
        }
        assert!(Instant::now() < end, "the last hold is never acknowledged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let is_quiet = watch(field, log, replica, &id, QUIET_WITHIN).await;
    assert!(
        is_quiet,
        "never quiet: {:#}",
        holds::in_force(&field.api(replica)).await[0]
    );
    if let Some(frozen) = frozen {
        field.signal(frozen, "CONT").await;
    }
    tokio::time::sleep(WATCHED).await;
    field.until_ready().await;
}

/// Waits until a rollout is through.
pub(super) async fn arrives(field: &Field<'_>, name: &str) {
    let api = field.api(0);
    until_status(&api, name, "completed", 120).await;
}
