//! Two processes that know different epochs, and place the same hold.

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tidegate_orchestrator::ids::Epoch;

use super::*;
use crate::app::Ids;
use crate::clock::Clock;
use crate::store::Store;
use crate::store::testing::urls;

async fn apart(url: &crate::store::DatabaseUrl) -> App {
    let (clock, ids) = (Clock::system(), Ids::system());
    let store = Store::open(url, clock.clone(), &ids).await.unwrap();
    let app = App::new(store, clock, ids);
    // What it knows from now on is what it read here: nobody tells it of another epoch.
    known(&app).await;
    app
}

async fn known(app: &App) -> Epoch {
    let known = rows::holds_known(&app.store).await;
    known.unwrap().0
}

async fn pause(app: &App, who: &str) -> Placed {
    stop(app, who, "pause").await
}

async fn stop(app: &App, who: &str, kind: &str) -> Placed {
    let new = NewHold {
        kind: kind.to_owned(),
        scope: ScopeView::of(&Scope::Everything),
        reason: "something is odd".to_owned(),
        effect: None,
        review_at: None,
    };
    place(app, &Actor::person(who, None), &new).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_an_epoch_that_is_over_joins_the_hold_that_came_since() {
    for url in urls().await {
        let (near, far) = (apart(&url).await, apart(&url).await);
        let first = pause(&near, "anna").await;
        let last = far.store.hold_cache().last().unwrap();
        assert!(last.0 < first.hold.epoch, "it has not heard of it");
        let second = pause(&far, "bert").await;
        assert_eq!(
            (second.is_new, second.hold.id),
            (false, first.hold.id),
            "{url:?}"
        );
        assert_eq!(second.hold.actors, ["anna", "bert"]);
        assert_eq!(known(&near).await, first.hold.epoch, "no epoch was spent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_a_hold_that_is_over_places_one_of_their_own() {
    for url in urls().await {
        let (near, far) = (apart(&url).await, apart(&url).await);
        crate::operations::token::rescue(&near, "anna")
            .await
            .unwrap();
        let first = pause(&near, "anna").await;
        known(&far).await;
        let id = first.hold.id.to_string();
        let by = Actor::person("anna", None);
        release(&near, &by, &id, None, "it was nothing")
            .await
            .unwrap();
        let second = pause(&far, "bert").await;
        assert!(second.is_new && second.hold.id != first.hold.id, "{url:?}");
        assert_eq!(second.hold.epoch, known(&near).await, "the newest there is");
        assert_eq!(second.hold.epoch.get(), first.hold.epoch.get() + 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_saw_that_was_undone_is_known_to_nobody() {
    for url in urls().await {
        let app = apart(&url).await;
        crate::operations::token::rescue(&app, "anna")
            .await
            .unwrap();
        let first = pause(&app, "anna").await.hold.id;
        let mut open = app.store.begin(Lane::Hold).await.unwrap();
        let txn = open.txn();
        end(txn, &Actor::person("anna", None), (first, None), "over")
            .await
            .unwrap();
        let (undone, seen) = rows::holds_within(txn).await.unwrap();
        assert!(seen.get(first).is_none(), "it sees its own work");
        let lost: Result<(), _> = open.finish(Err(StoreError::Conflict)).await;
        lost.unwrap_err();
        // The next hold begins the epoch that the other one would have had.
        let second = stop(&app, "bert", "halt").await.hold;
        assert_eq!(second.epoch, undone);
        let (_, known) = rows::holds_known(&app.store).await.unwrap();
        for hold in [first, second.id] {
            assert!(known.get(hold).is_some(), "{url:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_heard_of_an_epoch_and_not_of_its_holds_has_merely_lost() {
    for url in urls().await {
        let (near, far) = (apart(&url).await, apart(&url).await);
        let first = pause(&near, "anna").await;
        // As a renewal does, before it reads the holds.
        restored::check(&far).await.unwrap();
        let last = far.store.hold_cache().last().unwrap();
        assert!(last.0 < first.hold.epoch, "it has not read them");
        let second = stop(&far, "bert", "halt").await.hold;
        assert_eq!(second.epoch.get(), first.hold.epoch.get() + 1);
        let (_, known) = rows::holds_known(&near.store).await.unwrap();
        assert_eq!(known.iter().count(), 2, "{url:?}: nothing was restored");
    }
}

/// Writes behind the back of everybody.
async fn behind(app: &App, sql: &str) {
    let done: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
        txn.execute_unprepared(sql).await?;
        Ok(())
    });
    done.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_that_comes_back_with_a_backup_is_known_to_whoever_knew_its_end() {
    for url in urls().await {
        let (near, far) = (apart(&url).await, apart(&url).await);
        let halt = stop(&near, "anna", "halt").await.hold;
        behind(&near, "UPDATE hold SET released_at = 1").await;
        behind(&near, "UPDATE installation SET epoch = epoch + 1").await;
        for app in [&near, &far] {
            restored::check(app).await.unwrap();
            let (_, known) = rows::holds_known(&app.store).await.unwrap();
            assert!(known.get(halt.id).is_none(), "it has ended");
        }
        behind(&near, "UPDATE hold SET released_at = NULL").await;
        behind(&near, "UPDATE installation SET epoch = epoch - 1").await;
        restored::check(&near).await.unwrap();
        restored::check(&far).await.unwrap();
        let (_, known) = rows::holds_known(&far.store).await.unwrap();
        assert!(known.get(halt.id).is_some(), "{url:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_found_in_its_place_keeps_the_epoch_of_a_hold_that_is_being_placed() {
    for url in urls().await {
        let (near, far) = (apart(&url).await, apart(&url).await);
        if !near.store.is_postgres() {
            // A file has no place but its own.
            continue;
        }
        behind(&near, "UPDATE installation SET home = NULL").await;
        let mut placing = near.store.begin(Lane::Hold).await.unwrap();
        let epoch = rows::epoch_next(placing.txn()).await.unwrap();
        let background = far.background.clone();
        let settling = background.spawn(async move { restored::check(&far).await.map(drop) });
        waits_for_a_lock(&near).await;
        placing.finish(Ok::<(), StoreError>(())).await.unwrap();
        settling.await.unwrap().unwrap();
        assert_eq!(rows::epoch_load(near.store.read()).await.unwrap(), epoch);
    }
}

/// Returns when somebody in this database waits for a lock.
async fn waits_for_a_lock(app: &App) {
    let sql = "SELECT COUNT(*) AS number FROM pg_stat_activity \
               WHERE wait_event_type = 'Lock' AND datname = current_database()";
    loop {
        let found = Statement::from_string(DbBackend::Postgres, sql);
        let row = app
            .store
            .read()
            .query_one_raw(found)
            .await
            .unwrap()
            .unwrap();
        if row.try_get::<i64>("", "number").unwrap() > 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
}
