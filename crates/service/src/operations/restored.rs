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
fn why_older(found: &Found, newest: Newest) -> Option<String> {
    if found.epoch < newest.epoch {
        return Some(format!(
            "this store is of epoch {}, and {} was seen before",
            found.epoch, newest.epoch
        ));
    }
    if found.trail_end < newest.trail_end {
        return Some(format!(
            "the trail of this store ends with entry {}, and {} was seen before",
            found.trail_end, newest.trail_end
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
    let is_postgres = app.store.is_postgres();
    let instance = match app.store.instance() {
        Some(instance) => instance.to_owned(),
        None => {
            timeline::found(app.store.read(), is_postgres)
                .await?
                .instance
        }
    };
    // Read before the store is: what comes in between makes no store an older one.
    let mut newest = app.store.newest(&instance);
    let found = timeline::found(app.store.read(), is_postgres).await?;
    if found.instance != instance {
        newest = app.store.newest(&found.instance);
    }
    let Some(why) = why_older(&found, newest) else {
        let (epoch, end) = (found.epoch, found.trail_end);
        app.store.epoch_seen(&found.instance, epoch, Some(end));
        // Whoever says that it was served here with a mark must have one.
        if found.home_was != found.home && app.store.keep_mark() {
            // In the lane of holds: the epoch that is written is still the one that was read.
            let settled: Result<(), StoreError> =
                transact!(app.store, Lane::Hold, "store_home", |txn| {
                    let epoch = holds::epoch_load(txn).await?;
                    timeline::adopt(txn, found.home.as_deref(), epoch).await
                });
            settled?;
        }
        return Ok(found);
    };
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
            let now = timeline::found(txn, is_postgres).await?;
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
    let now = timeline::found(app.store.read(), is_postgres).await?;
    let (epoch, end) = (halted.max(now.epoch), now.trail_end);
    app.store.start_over(&now.instance, epoch, end);
    Ok(now)
}
