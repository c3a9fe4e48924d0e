//! What a turn does to leases: under a hold, when they are over, and when another worker comes.

use serde_json::json;
use tidegate_orchestrator::hold::HoldKind;
use tidegate_orchestrator::ids::RolloutId;

use super::*;
use crate::app::App;
use crate::operations::rollout;
use crate::store::query::{self, Number};
use crate::store::testing::each_app;
use crate::store::{Lane, transact};
use crate::tasks::tests::{TWO_WAVES, started, with_people};
use crate::tasks::{conduct, permit};

async fn laid_out(app: &App) -> RolloutId {
    with_people(app, 3_000, json!({})).await;
    let rollout = started(app, &TWO_WAVES.replace("count: 50", "count: 2048")).await;
    conduct::pass(app, rollout).await.unwrap();
    permit::renew(app).await.unwrap();
    rollout
}

/// One turn of a worker: what it brings back, how much it wants, for how long.
async fn turn(
    app: &App,
    worker: WorkerId,
    finished: &[Finished],
    (claim_max, lease_ms): (usize, i64),
) -> Turn {
    permit::renew(app).await.unwrap();
    let view = rollout::get(app, "move").await.unwrap();
    let order = TurnOrder {
        worker,
        rollout: view.id,
        reverts: None,
        target: view.target.id,
        epoch: app.permit.epoch(app.clock.moment()).unwrap(),
        rate: None,
        finished,
        claim_max,
        lease_ms,
    };
    let turn: Result<Turn, StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
        ledger_turn(txn, &order).await
    });
    turn.unwrap()
}

fn back(claimed: &Claimed, people: usize, is_last: bool) -> Finished {
    let done = Outcome::Done { adopted: false };
    Finished {
        address: claimed.address,
        fence: claimed.fence,
        outcomes: claimed
            .slots
            .iter()
            .take(people)
            .map(|slot| (slot.index, done))
            .collect(),
        failures: Vec::new(),
        recovered: Vec::new(),
        receipt: None,
        is_last,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_hold_outcomes_count_and_no_lease_is_renewed_or_claimed() {
    each_app!(app => {
        laid_out(&app).await;
        let first = turn(&app, app.worker, &[], (2, 60_000)).await;
        let [one, two] = first.claimed.as_slice() else { panic!("{first:#?}") };
        let renewed = turn(&app, app.worker, &[back(one, 5, false)], (0, 60_000)).await;
        assert_eq!((renewed.renewed.as_slice(), renewed.recorded), ([one.address].as_slice(), 5));
        let actor = Actor::person("manager", None);
        rollout::stop(&app, &actor, "move", HoldKind::Halt, "stop").await.unwrap();
        let under = turn(&app, app.worker, &[back(two, 7, false)], (2, 60_000)).await;
        assert_eq!((under.kept.as_slice(), under.recorded), ([two.address].as_slice(), 7));
        assert!(under.renewed.is_empty() && under.claimed.is_empty());
        assert_eq!(under.not_claimed, NotClaimed::Held(None));
        let last = turn(&app, app.worker, &[back(two, 9, true)], (0, 60_000)).await;
        assert_eq!((last.recorded, last.lost.len()), (2, 0), "and what comes later counts too");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_over_and_is_renewed_is_not_claimed_in_the_same_turn() {
    each_app!(app => {
        laid_out(&app).await;
        // The database was away for longer than the lease, and nobody else came.
        let first = turn(&app, app.worker, &[], (1, -1000)).await;
        let one = &first.claimed[0];
        let next = turn(&app, app.worker, &[back(one, 5, false)], (4, 60_000)).await;
        assert_eq!(next.renewed, [one.address]);
        assert!(next.claimed.iter().all(|claimed| claimed.address != one.address),
            "its people are still under way, and would be sent twice");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_claims_a_batch_later_is_the_only_one_whose_outcomes_count() {
    each_app!(app => {
        laid_out(&app).await;
        let first = turn(&app, app.worker, &[], (1, -1000)).await;
        let other = app.ids.make();
        let second = turn(&app, other, &[], (4, 60_000)).await;
        let again = second.claimed.iter().find(|claimed| claimed.address == first.claimed[0].address);
        let again = again.unwrap();
        assert!(again.fence > first.claimed[0].fence);
        assert!(again.slots.iter().all(|slot| slot.doubtful));
        let late = turn(&app, app.worker, &[back(&first.claimed[0], 5, true)], (0, 60_000)).await;
        assert_eq!((late.recorded, late.refused), (0, 5));
        let leased = turn(&app, app.worker, &[], (4, 60_000)).await;
        assert!(leased.claimed.is_empty(), "a lease in force is left alone");
    });
}

/// Waits until somebody waits for a row or a lock of the database.
async fn until_somebody_waits(app: &App) {
    let sql = "SELECT COUNT(*) AS number FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock'";
    loop {
        let waiting: Option<Number> = query::one(app.store.read(), sql, []).await.unwrap();
        if waiting.is_some_and(|waiting| waiting.number > 0) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_is_placed_while_a_turn_is_at_work_which_then_claims_nothing() {
    each_app!(app => {
        if !app.store.is_postgres() {
            // One writer: the halt waits for the turn.
            continue;
        }
        let rollout = laid_out(&app).await;
        let first = turn(&app, app.worker, &[], (1, 60_000)).await;
        // The turn stands still before it has written everything.
        let mut open = app.store.begin(Lane::Ordinary).await.unwrap();
        let sql = "SELECT COUNT(*) AS number FROM (SELECT 1 FROM wave WHERE rollout_id = $1 FOR UPDATE) AS waves";
        let _: Option<Number> = query::one(open.txn(), sql, [rollout.to_string().into()]).await.unwrap();
        let at_work = app.background.spawn({
            let (app, worker) = (app.clone(), app.worker);
            let finished = [back(&first.claimed[0], 5, false)];
            async move { turn(&app, worker, &finished, (2, 60_000)).await }
        });
        until_somebody_waits(&app).await;

        let actor = Actor::person("manager", None);
        rollout::stop(&app, &actor, "move", HoldKind::Halt, "stop").await.unwrap();
        assert!(!at_work.is_finished(), "the halt did not wait for it");
        open.finish(Ok::<(), StoreError>(())).await.unwrap();
        let turn = at_work.await.unwrap();
        assert!(turn.claimed.is_empty() && turn.renewed.is_empty(), "{turn:#?}");
        assert_eq!((turn.recorded, turn.kept.len()), (5, 1), "what came back counts all the same");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_meets_a_halt_being_placed_waits_for_it_and_claims_nothing() {
    each_app!(app => {
        if !app.store.is_postgres() {
            continue;
        }
        laid_out(&app).await;
        let mut placing = app.store.begin(Lane::Hold).await.unwrap();
        hold::epoch_next(placing.txn()).await.unwrap();
        let at_work = app.background.spawn({
            let (app, worker) = (app.clone(), app.worker);
            async move { turn(&app, worker, &[], (2, 60_000)).await }
        });
        until_somebody_waits(&app).await;
        placing.finish(Ok::<(), StoreError>(())).await.unwrap();
        let turn = at_work.await.unwrap();
        assert!(turn.claimed.is_empty(), "{turn:#?}");
        assert_eq!(turn.not_claimed, NotClaimed::EpochMoved);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_under_way_gives_way_to_a_stop_once_and_is_then_done_whatever_happens() {
    each_app!(app => {
        laid_out(&app).await;
        permit::renew(&app).await.unwrap();
        let view = rollout::get(&app, "move").await.unwrap();
        let order = TurnOrder {
            worker: app.worker,
            rollout: view.id,
            reverts: None,
            target: view.target.id,
            epoch: app.permit.epoch(app.clock.moment()).unwrap(),
            rate: None,
            finished: &[],
            claim_max: 2,
            lease_ms: 60_000,
        };
        let mut open = app.store.begin(Lane::Ordinary).await.unwrap();
        let stopping = app.store.stopping();
        let lost = ledger_turn(open.txn(), &order).await;
        assert!(matches!(lost, Err(StoreError::Serialization)), "{lost:?}");
        open.finish(lost).await.unwrap_err();
        // The stop hangs: it keeps nobody for long.
        let done: Result<Turn, StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            ledger_turn(txn, &order).await
        });
        assert_eq!(done.unwrap().claimed.len(), 2);
        drop(stopping);
    });
}
