//! Ends the leases of dead processes when it is certain that they are dead, and lets those who were theirs
//! be looked up first.
//!
//! A lease outlives its process, so that nobody else sends to the same people meanwhile. On SQLite the
//! lock of the file proves at the start that no process is left, and only what had left it may still be
//! under way: a request is over after its timeout. Then the people are `unknown` as after every lost
//! lease, and looked up before anything is sent. Why PostgreSQL has nothing of the kind: decision 0010.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use tidegate_orchestrator::ids::{RolloutId, millis};

use crate::app::App;
use crate::operations::{Actor, OperationError, load};
use crate::store::{Lane, Sole, StoreError, ledger, target, transact, wave, worker};

/// How often somebody looks for leases that were lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lets every lease end one request timeout from now, before this process claims anything itself.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn end_leases(app: &App, _sole: &Sole) -> Result<(), StoreError> {
    transact!(app.store, Lane::Ordinary, "workers_clear", |txn| {
        worker::workers_clear(txn).await
    })?;
    for rollout in wave::rollouts_in_flight(app.store.read()).await? {
        match request_timeout(app, rollout).await {
            Ok(timeout) => end_leases_of(app, rollout, timeout).await?,
            // Its leases end by themselves, as they would have.
            Err(error) => tracing::warn!(%rollout, %error, "the leases of a dead process run on"),
        }
    }
    Ok(())
}

/// Lets people whose worker is dead be looked up before anybody new is begun, for ever.
pub async fn run(app: App) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Err(error) = lost_first(&app).await {
            tracing::warn!(%error, "nobody could look for leases of the dead");
        }
    }
}

async fn lost_first(app: &App) -> Result<(), StoreError> {
    for rollout in wave::rollouts_in_flight(app.store.read()).await? {
        // Judged again by the clock of the database before anything is written.
        let now = millis(app.clock.now());
        if !ledger::leases_are_lost(app.store.read(), rollout, now).await? {
            continue;
        }
        let lost: Result<u64, StoreError> =
            transact!(app.store, Lane::Ordinary, "leases_lost", |txn| {
                ledger::leases_lost_first(txn, rollout, millis(txn.now())).await
            });
        let batches = lost?;
        tracing::info!(%rollout, batches, "the people of a dead process are looked up first");
        app.wake.ring();
    }
    Ok(())
}

async fn request_timeout(app: &App, rollout: RolloutId) -> Result<TimeDelta, OperationError> {
    let row = load::row(app, rollout).await?;
    let target = target::target_load(app.store.read(), row.target).await?;
    let connector = app
        .connectors
        .of(&target, &app.clock)
        .map_err(|error| OperationError::invalid("target_unusable", error.to_string()))?;
    Ok(TimeDelta::from_std(connector.request_timeout()).unwrap_or(TimeDelta::MAX))
}

async fn end_leases_of(
    app: &App,
    rollout: RolloutId,
    timeout: TimeDelta,
) -> Result<(), StoreError> {
    let ended: Result<u64, StoreError> =
        transact!(app.store, Lane::Ordinary, "leases_end", |txn| {
            let now = txn.now();
            let until = now.checked_add_signed(timeout).unwrap_or(now);
            let batches = ledger::leases_shorten(txn, rollout, millis(until)).await?;
            if batches > 0 {
                let detail = json!({"batches": batches, "until": until});
                let subject = format!("rollout:{rollout}");
                txn.audit(Actor::task("recover").entry("ledger.leases_end", subject, detail))
                    .await?;
            }
            Ok(batches)
        });
    let batches = ended?;
    tracing::info!(%rollout, batches, "the leases of a dead process end early");
    Ok(())
}
