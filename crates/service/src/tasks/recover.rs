//! Ends the leases of dead processes when it is certain that they are dead, and lets those who were theirs
//! be looked up first.
//!
//! A lease outlives its process, so that nobody else sends to the same people meanwhile. On SQLite the
//! lock of the file proves at the start that no process is left, and only what had left it may still be
//! under way: a request is over after its timeout. Then the people are `unknown` as after every lost
//! lease, and looked up before anything is sent. Why PostgreSQL has nothing of the kind: decision 0010.
//!
//! Where nobody claims (under a hold, or when the rollout is over) nobody finds out that a lease was lost. So it
//! is written down after a while that what became of those people is not known.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::json;
use tidegate_orchestrator::ids::{RolloutId, millis};
use tidegate_orchestrator::ledger::history;

use crate::app::App;
use crate::operations::slots::{decide_after_lapse, is_lease_over};
use crate::operations::{Actor, OperationError, load};
use crate::store::ledger::BatchAddress;
use crate::store::wave::CountChange;
use crate::store::{
    Lane, Sole, StoreError, endpoint, hold, ledger, rollout as rollouts, target, transact, wave,
    worker,
};

/// How long the outcomes of a lost lease are waited for: a process that stood still may still bring them.
const LATE: TimeDelta = TimeDelta::seconds(30);
/// How many batches one transaction writes.
const BATCHES_PER_STEP: usize = 32;
/// How often somebody looks for leases that were lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Lets every lease end one request timeout from now, before this process claims anything itself.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn end_leases(app: &App, _sole: &Sole) -> Result<(), StoreError> {
    transact!(app.store, Lane::Ordinary, "workers_clear", |txn| {
        endpoint::endpoints_clear(txn).await?;
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
        let now = app.clock.now();
        let long_ago = millis(now.checked_sub_signed(LATE).unwrap_or(now));
        let stale =
            ledger::leases_lost_long(app.store.read(), rollout, long_ago, BATCHES_PER_STEP).await?;
        for batch in stale {
            lapse(app, &batch).await?;
        }
        let now = millis(now);
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

/// Notes that it is not known what became of the people of a batch whose lease was lost.
async fn lapse(app: &App, at: &BatchAddress) -> Result<(), StoreError> {
    transact!(app.store, Lane::Ordinary, "lease_lapse", |txn| {
        // The lock of claims comes before that of a batch, as in every turn.
        hold::claim_lock(txn).await?;
        let found = ledger::batches_for_update(txn, at.rollout, at.wave, &[at.seq]).await?;
        let Some(row) = found.first() else {
            return Ok(());
        };
        if row.lease_owner.is_none() || !is_lease_over(row, txn.now())? {
            return Ok(());
        }
        let mut change = CountChange::default();
        let lapsed = decide_after_lapse(txn, row, &[], &mut change).await;
        let lapsed = lapsed.map_err(StoreError::corrupt)?;
        wave::wave_count(txn, at.rollout, at.wave, &change).await?;
        let detail = json!({"wave": at.wave, "batch": at.seq});
        let subject = format!("rollout:{}", at.rollout);
        let mut entry = Actor::task("recover").entry("ledger.lapse", subject, detail);
        entry.data = Some(history::encode(&[lapsed]));
        let now = txn.now();
        rollouts::rollout_ring(txn, now, at.rollout).await?;
        txn.audit(entry);
        Ok(())
    })
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
                txn.audit(Actor::task("recover").entry("ledger.leases_end", subject, detail));
            }
            Ok(batches)
        });
    let batches = ended?;
    tracing::info!(%rollout, batches, "the leases of a dead process end early");
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidegate_orchestrator::hold::HoldKind;

    use super::*;
    use crate::app::Ids;
    use crate::clock::Clock;
    use crate::operations::view::RolloutView;
    use crate::operations::{fsck, rollout};
    use crate::store::Store;
    use crate::store::testing::urls;
    use crate::tasks::driver::Driver;
    use crate::tasks::tests::{TWO_WAVES, started, with_people};

    async fn seen(app: &App) -> RolloutView {
        rollout::get(app, "move").await.unwrap()
    }

    /// A process dies with people under way, and nobody claims them any more.
    async fn check_stopped(stop: &str) {
        for url in urls().await {
            let ids = Ids::system();
            let clock = Clock::virtual_at("2026-11-24T09:00:00Z".parse().unwrap());
            let store = Store::open(&url, clock.clone(), &ids).await.unwrap();
            let app = App::new(store, clock.clone(), ids);
            let slow = json!({"latency_ms": 60_000, "concurrency": 16});
            with_people(&app, 200, slow).await;
            started(&app, TWO_WAVES).await;
            let driver = Driver::start(&app).await.unwrap();
            while seen(&app).await.totals["in_flight"] == 0 {
                tokio::task::yield_now().await;
            }
            drop(driver);
            let actor = Actor::person("bo", None);
            match stop {
                "cancel" => {
                    let given_up = rollout::cancel(&app, &actor, "move", None, "enough").await;
                    given_up.unwrap();
                }
                _ => {
                    let halted =
                        rollout::stop(&app, &actor, "move", HoldKind::Halt, "breach").await;
                    halted.unwrap();
                }
            }
            let under_way = seen(&app).await.totals["in_flight"];
            lost_first(&app).await.unwrap();
            assert_eq!(
                seen(&app).await.totals["in_flight"],
                under_way,
                "their leases run"
            );
            clock.advance(3_600_000);
            // Put first, and then, as nobody takes them up, written down.
            lost_first(&app).await.unwrap();
            lost_first(&app).await.unwrap();
            let after = seen(&app).await;
            assert_eq!(
                (after.totals["in_flight"], after.totals["unknown"]),
                (0, under_way),
                "{stop}"
            );
            let found = fsck::check(&app).await.unwrap();
            assert!(found.ok, "{:#?}", found.findings);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_was_under_way_when_a_process_died_is_in_doubt_also_under_a_halt() {
        check_stopped("halt").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_was_under_way_when_a_process_died_is_in_doubt_also_after_a_cancel() {
        check_stopped("cancel").await;
    }
}
