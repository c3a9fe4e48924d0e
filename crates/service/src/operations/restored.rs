//! A store that is older than what was served before starts halted: what was halted since is not in it.

use tidegate_orchestrator::hold::{Cause, HoldKind, MovedPeople, Scope, Wanted};
use tidegate_orchestrator::ids::{Epoch, Principal};

use super::{Actor, hold};
use crate::app::App;
use crate::store::timeline::{self, Found, Newest};
use crate::store::{Lane, StoreError, hold as holds, transact};

/// Who halts.
const TASK: &str = "restored";

/// Says why a store is not the newest, if it is not.
fn why_older(found: &Found, newest: &Newest) -> Option<String> {
    if found.epoch < newest.epoch {
        return Some(format!(
            "this store is of epoch {}, and {} was seen before",
            found.epoch, newest.epoch
        ));
    }
    if let Some(entry) = newest.trail_end.as_ref().filter(|_| !found.has_entry) {
        return Some(format!(
            "this store lacks entry {} of the trail, which was seen before",
            entry.seq
        ));
    }
    let (was, is) = (found.home_was.as_ref()?, found.home.as_ref()?);
    if newest.is_unmarked {
        return Some(
            "this store was served before, and no mark beside it says how new it was".to_owned(),
        );
    }
    let moved = || format!("this store was served from {was}, and is now at {is}");
    (!found.is_at_home()).then(moved)
}

/// Reads how new the store is, and how new it ever was. The latter first: what comes in between makes no store an
/// older one.
async fn look(app: &App) -> Result<(Found, Newest), StoreError> {
    let (db, is_postgres) = (app.store.read(), app.store.is_postgres());
    let instance = match app.store.instance() {
        Some(instance) => instance.to_owned(),
        None => timeline::found(db, is_postgres, None).await?.instance,
    };
    let newest = app.store.newest(&instance);
    let found = timeline::found(db, is_postgres, newest.trail_end.as_ref()).await?;
    Ok((found, newest))
}

/// Remembers the epoch of a hold that was just placed, before anybody is told that it is in force.
pub fn seen(app: &App, epoch: Epoch) {
    if let Some(instance) = app.store.instance() {
        app.store.epoch_seen(instance, epoch, None);
    }
}

/// Halts everything when the store is an older one than was served before, and remembers how new it is
/// otherwise. Cheap enough for every renewal of a permit. Returns the store as it is now.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn check(app: &App) -> Result<Found, StoreError> {
    let (found, newest) = look(app).await?;
    if why_older(&found, &newest).is_none() {
        return is_newest(app, found).await;
    }
    // Many ask at once when an epoch moves: whoever was first has taken it over for all.
    let _one = app.store.taking_over().await;
    let (found, newest) = look(app).await?;
    match why_older(&found, &newest) {
        Some(why) => take_over(app, &newest, why).await,
        None => is_newest(app, found).await,
    }
}

async fn is_newest(app: &App, found: Found) -> Result<Found, StoreError> {
    let end = found.trail_end.as_ref();
    app.store.epoch_seen(&found.instance, found.epoch, end);
    // Whoever says that it was served here with a mark must have one.
    if found.home_was != found.home && app.store.keeps_mark() {
        // In the lane of holds: the epoch that is written is still the one that was read.
        let settled: Result<(), StoreError> =
            transact!(app.store, Lane::Hold, "store_home", |txn| {
                let epoch = holds::epoch_load(txn).await?;
                timeline::adopt(txn, found.home.as_deref(), epoch).await
            });
        settled?;
    }
    Ok(found)
}

/// Halts everything, and goes on from the store as it is.
async fn take_over(app: &App, newest: &Newest, why: String) -> Result<Found, StoreError> {
    let is_postgres = app.store.is_postgres();
    let entry = newest.trail_end.as_ref();
    // What was read of holds is of the store that was there before, also under the same epochs.
    app.store.hold_cache().forget();
    let actor = Actor::task(TASK);
    let wanted = Wanted {
        kind: HoldKind::Halt,
        scope: Scope::Everything,
        part: None,
        cause: Cause::People {
            principals: vec![Principal::new(actor.principal.clone())],
        },
        reason: format!(
            "{why}: a backup was restored, or a standby promoted. What was halted or moved since is not in it: \
             compare with the target before anything goes on"
        ),
        effect: MovedPeople::Keep,
        review_at: None,
    };
    let id = app.ids.make();
    let halted: Result<Epoch, StoreError> =
        transact!(app.store, Lane::Hold, "store_restored", |txn| {
            holds::hold_lock(txn).await?;
            // Another process may have been faster: then this one has nothing to say.
            let now = timeline::found(txn, is_postgres, entry).await?;
            if why_older(&now, newest).is_some() {
                // An epoch is never used twice, also not those that this store has never heard of.
                timeline::adopt(txn, now.home.as_deref(), newest.epoch.max(now.epoch)).await?;
                let (halt, _) = hold::put(txn, &actor, id, wanted.clone()).await?;
                if halt.id != id {
                    // It was in the backup. The epoch is known elsewhere with the holds of the other store all the same.
                    holds::epoch_next(txn).await?;
                }
            }
            holds::epoch_load(txn).await
        });
    let halted = halted?;
    tracing::error!(
        why,
        "the store is older than what was served before: everything is halted"
    );
    let now = timeline::found(app.store.read(), is_postgres, None).await?;
    let epoch = halted.max(now.epoch);
    app.store
        .start_over(&now.instance, epoch, now.trail_end.clone());
    Ok(now)
}

/// Remembers how new the store is at the end of the process: what the next one must find.
pub async fn remember(app: &App) {
    if let Err(error) = check(app).await {
        tracing::warn!(%error, "how new the store is could not be read at the end");
    }
    app.store.keep_mark();
}
