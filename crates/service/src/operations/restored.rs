//! A store that is older than what was served before starts halted: what was halted since is not in it.

use tidegate_orchestrator::hold::{Cause, HoldKind, MovedPeople, Scope, Wanted};
use tidegate_orchestrator::ids::{Epoch, Principal};

use super::{Actor, hold};
use crate::app::App;
use crate::store::timeline::{self, Found};
use crate::store::{Lane, StoreError, hold as holds, transact};

/// Who halts.
const TASK: &str = "restored";

/// Says why a store is not the newest, if it is not.
fn why_older(found: &Found, highest: Epoch) -> Option<String> {
    if found.epoch < highest {
        return Some(format!(
            "this store is of epoch {}, and {highest} was seen before",
            found.epoch
        ));
    }
    let (was, is) = (found.home_was.as_ref()?, found.home.as_ref()?);
    let moved = || format!("this store was served from {was}, and is now at {is}");
    (!found.is_at_home()).then(moved)
}

/// Remembers the epoch of a hold that was just placed, before anybody is told that it is in force.
pub fn seen(app: &App, epoch: Epoch) {
    if let Some(instance) = app.store.instance() {
        app.store.epoch_seen(instance, epoch);
    }
}

/// Halts everything when the store is an older one than was served before, and remembers how new it is
/// otherwise. Cheap enough for every renewal of a permit. Returns the store as it is now.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn check(app: &App) -> Result<Found, StoreError> {
    // Read before the store is: a hold that comes in between makes no store an older one.
    let seen = app
        .store
        .instance()
        .map(|instance| (instance.to_owned(), app.store.epoch_highest(instance)));
    let found = timeline::found(app.store.read(), app.store.is_postgres()).await?;
    let seen = seen.filter(|(instance, _)| *instance == found.instance);
    let highest = seen.map_or_else(
        || app.store.epoch_highest(&found.instance),
        |(_, epoch)| epoch,
    );
    let Some(why) = why_older(&found, highest) else {
        if found.home_was != found.home {
            // In the lane of holds: the epoch that is written is still the one that was read.
            let settled: Result<(), StoreError> =
                transact!(app.store, Lane::Hold, "store_home", |txn| {
                    let epoch = holds::epoch_load(txn).await?;
                    timeline::adopt(txn, found.home.as_deref(), epoch).await
                });
            settled?;
        }
        app.store.epoch_seen(&found.instance, found.epoch);
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
            let now = timeline::found(txn, app.store.is_postgres()).await?;
            if why_older(&now, highest).is_some() {
                // An epoch is never used twice, also not those that this store has never heard of.
                timeline::adopt(txn, now.home.as_deref(), highest.max(now.epoch)).await?;
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
    app.store.epoch_seen(&found.instance, halted);
    timeline::found(app.store.read(), app.store.is_postgres()).await
}
