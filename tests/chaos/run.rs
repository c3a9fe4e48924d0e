//! One attack from its beginning to its end: rollouts of its own, faults and clients at once, then quiet,
//! then everything is lifted. Everybody arrives only after the last attack of a field (`judge::in_the_end`): who
//! was lost with a process is waited for by the lease, and the next attack need not wait.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::field::Field;
use super::judge::{self, Verdict};
use super::log::{Lifted, Log};
use super::schedule::{Given, Order, ROLLOUTS, Schedule, Scope, Step};
use crate::support::api::{Answer, Api};
use crate::support::holds::{self, hold, lift_all, release_request};
use crate::support::people::{EASY, started};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Within which time nobody can send under a hold, once nothing goes wrong any more.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// How often somebody looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long everybody is watched under the last hold.
const WATCHED: Duration = Duration::from_millis(1_000);
/// How many requests at once each process has to each target, and how long one may take.
pub(super) const CONCURRENCY: u64 = 4;
const TIMEOUT_SECONDS: u64 = 1;

/// One attack on a field.
pub(super) struct Round {
    /// Its seed, which is in the names of its rollouts.
    pub(super) seed: u64,
    rollouts: &'static [&'static str],
    /// What its clients were told.
    pub(super) log: Log,
}

impl Round {
    /// Starts the rollouts of an attack, each with a target of the same name.
    pub(super) async fn begin(field: &Field<'_>, seed: u64) -> Self {
        Self::of(field, seed, &ROLLOUTS).await
    }

    /// Starts these alone.
    pub(super) async fn of(
        field: &Field<'_>,
        seed: u64,
        rollouts: &'static [&'static str],
    ) -> Self {
        field.calm_the_target(false);
        let round = Self {
            seed,
            rollouts,
            log: Log::default(),
        };
        let start = |name: String| async move {
            let api = field.api(0);
            let target = &field.target;
            target
                .register(&api, &name, CONCURRENCY, TIMEOUT_SECONDS)
                .await;
            started(&api, &spec(&name)).await;
        };
        join_all(round.names().into_iter().map(start)).await;
        round
    }

    /// Returns what a rollout and its target are called in this attack.
    pub(super) fn name(&self, rollout: &str) -> String {
        format!("{rollout}-{}", self.seed)
    }

    /// Returns the names of its rollouts.
    pub(super) fn names(&self) -> Vec<String> {
        let rollouts = self.rollouts.iter();
        rollouts.map(|rollout| self.name(rollout)).collect()
    }

    fn scope(&self, scope: Scope) -> Value {
        match scope {
            Scope::Everything => json!({"type": "everything"}),
            Scope::Target(id) => json!({"type": "target", "id": self.name(id)}),
            Scope::Rollout(id) => json!({"type": "rollout", "id": self.name(id)}),
        }
    }
}

fn spec(name: &str) -> String {
    format!(
        "rollout: {name}\npopulation: staff\ntarget: {name}\nwaves:\n  - {{name: canary, count: 30, {EASY}}}\n  - {{name: rest, rest: true, {EASY}}}\n"
    )
}

/// Runs a schedule on a field, and judges what came of it so far.
pub(super) async fn attack(field: &Field<'_>, schedule: &Schedule) -> (Round, Verdict) {
    let round = Round::begin(field, schedule.seed).await;
    let begun = Instant::now();
    let faults = schedule.faults.iter().map(|step| async move {
        until_step(begun, step).await;
        field.suffer(step.what).await;
    });
    let clients = schedule.clients.iter();
    let clients = clients.map(|steps| client(field, &round, begun, steps));
    tokio::join!(join_all(faults), join_all(clients));
    let verdict = finish(field, &round, schedule.frozen_at_the_end).await;
    (round, verdict)
}

/// Brings an attack to its end: quiet, one more death, everything lifted; and judges it.
pub(super) async fn finish(
    field: &Field<'_>,
    round: &Round,
    frozen_at_the_end: Option<usize>,
) -> Verdict {
    let mut parts = vec![Instant::now()];
    quiet_at_last(field, round, frozen_at_the_end).await;
    parts.push(Instant::now());
    judge::still_in_force(field, &round.log).await;
    // Whatever was acknowledged outlives one more death.
    field.kill(0, 0).await;
    field.until_ready().await;
    judge::still_in_force(field, &round.log).await;
    let lifted = Instant::now();
    parts.push(lifted);
    field.calm_the_target(true);
    // A request that was frozen on its way may still place something after this.
    while lift_all(&field.api(0)).await > 0 {}
    parts.push(Instant::now());
    let between = parts.windows(2).map(|two| two[1] - two[0]);
    Verdict {
        parts: between.collect(),
        ..judge::of_a_round(field, round, lifted)
    }
}

async fn until_step<T>(begun: Instant, step: &Step<T>) {
    let at = begun + Duration::from_millis(step.at);
    tokio::time::sleep_until(at.into()).await;
}

async fn client(field: &Field<'_>, round: &Round, begun: Instant, steps: &[Step<Given>]) {
    for step in steps {
        until_step(begun, step).await;
        let replica = step.what.replica;
        match step.what.order {
            Order::Pause {
                scope,
                patience,
                stands,
            } => {
                let placed = place(field, round, replica, "pause", scope).await;
                let Some(id) = placed else { continue };
                watch(field, round, replica, &id, Duration::from_millis(patience)).await;
                tokio::time::sleep(Duration::from_millis(stands)).await;
                let request = release_request(&field.api(replica), &id);
                lift(&round.log, Lifted::Hold(id), replica, request).await;
            }
            Order::Halt { scope } => {
                if let Some(id) = place(field, round, replica, "halt", scope).await {
                    watch(field, round, replica, &id, PATIENCE).await;
                }
            }
            Order::Resume { rollout } => {
                let request = verb(&field.api(replica), &round.name(rollout), "resume");
                lift(&round.log, Lifted::PausesOf(rollout), replica, request).await;
            }
            Order::Retry { rollout } => {
                let request = verb(&field.api(replica), &round.name(rollout), "retry");
                ask(&round.log, "retry", replica, request).await;
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
async fn ask(log: &Log, call: &str, replica: usize, request: RequestBuilder) -> Option<Answer> {
    let asked = Instant::now();
    let response = request.timeout(PATIENCE).send().await.ok()?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.ok()?;
    log.answered(call, (replica, asked), status, &text);
    Some(Answer {
        status,
        headers,
        body: serde_json::from_str(&text).unwrap_or(Value::Null),
        text,
    })
}

/// Places a hold, and returns its id when that was acknowledged.
pub(super) async fn place(
    field: &Field<'_>,
    round: &Round,
    replica: usize,
    kind: &str,
    scope: Scope,
) -> Option<String> {
    let body = hold(kind, &round.scope(scope), "the attack");
    let request = field
        .api(replica)
        .request(reqwest::Method::POST, "/v1/holds");
    let asked = Instant::now();
    let answer = ask(&round.log, kind, replica, request.json(&body)).await?;
    let id = answer.body["id"].as_str()?.to_owned();
    let by = (replica, asked);
    round.log.placed(&id, scope, kind == "halt", by);
    round.log.seen(&answer.body, asked);
    Some(id)
}

/// Watches a hold until nobody can send under it, or patience ends; says whether it became quiet.
pub(super) async fn watch(
    field: &Field<'_>,
    round: &Round,
    replica: usize,
    id: &str,
    patience: Duration,
) -> bool {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        let path = format!("/v1/holds/{id}");
        let request = field.api(replica).request(reqwest::Method::GET, &path);
        let asked = Instant::now();
        let answer = ask(&round.log, "look", replica, request).await;
        if answer.is_some_and(|answer| round.log.seen(&answer.body, asked)) {
            return true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    false
}

async fn lift(log: &Log, what: Lifted, replica: usize, request: RequestBuilder) {
    let number = log.lift(what);
    if let Some(answer) = ask(log, "lift", replica, request).await {
        // A refusal says that it was not done by this; a failure says nothing.
        if answer.status < 500 {
            log.lifted(number, answer.status < 300);
        }
    }
}

/// Stops everything, and waits until nobody can send; whoever was frozen meanwhile goes on under it.
async fn quiet_at_last(field: &Field<'_>, round: &Round, frozen_at_the_end: Option<usize>) {
    let frozen = match frozen_at_the_end {
        Some(number) => Some(field.with_leases().await.first().copied().unwrap_or(number)),
        None => None,
    };
    // What went wrong for it last may have kept it from a permit.
    let is_well = |frozen| !field.suffered_within(frozen, judge::PERMIT);
    let has_permit = frozen.is_some_and(is_well);
    let begun = Instant::now();
    if let Some(frozen) = frozen {
        field.freeze(frozen).await;
    }
    // Whoever is frozen with a lease can send for as long as its permit lives, and nobody has heard it.
    let leased = match frozen {
        Some(frozen) => field.leased_for(frozen).await.unwrap_or_default(),
        None => Duration::ZERO,
    };
    let replica = (0..field.len())
        .find(|replica| Some(*replica) != frozen)
        .expect("one that is not frozen");
    let end = Instant::now() + QUIET_WITHIN;
    let id = loop {
        if let Some(id) = place(field, round, replica, "pause", Scope::Everything).await {
            break id;
        }
        let answers = round.log.answers();
        assert!(
            Instant::now() < end,
            "the last hold is never acknowledged by {replica}; answers: {answers:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let is_quiet = watch(field, round, replica, &id, QUIET_WITHIN).await;
    assert!(
        is_quiet,
        "never quiet: {:#}",
        holds::in_force(&field.api(replica)).await[0]
    );
    let took = begun.elapsed();
    assert!(
        !has_permit || leased < 2 * judge::PERMIT || took > judge::PERMIT,
        "told to be quiet after {took:?}, though {frozen:?} is frozen and can send"
    );
    if let Some(frozen) = frozen {
        field.wake(frozen).await;
    }
    tokio::time::sleep(WATCHED).await;
    field.until_ready().await;
}
