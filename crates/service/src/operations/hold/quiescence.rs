//! Who has acknowledged a hold: what the database knows, and what this process knows of itself.

use std::time::Duration;

use tidegate_orchestrator::hold::{Exemption, Hold, Scope};
use tidegate_orchestrator::ids::{HoldId, Timestamp};
use tidegate_orchestrator::quiesce::{
    Facts, LeaseInForce, Quiescence, Standing, Stop, WorkerJudged, WorkerSaid, judge,
};
use tokio::sync::oneshot;

use super::part;
use crate::app::App;
use crate::operations::OperationError;
use crate::operations::view::WorkerView;
use crate::store::{StoreError, StoreTime, exemption, hold, lease, rollout, worker};

/// How often it is looked whether it is quiet, by whoever waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Judges a hold that is in force and committed.
///
/// # Errors
///
/// When the store cannot be reached: then nothing is said, and nothing is quiet.
pub(super) async fn of(app: &App, hold: &Hold) -> Result<Quiescence, OperationError> {
    let mut stop = placed(hold);
    // The time is read first: what is over by then is over when the rest is read.
    let (exemptions, time) = tokio::try_join!(
        exemption::exemptions_from(app.store.read(), hold.id),
        app.store.time(),
    )?;
    let (mut overrides, mut open) = (Vec::new(), 0_usize);
    for row in exemptions {
        match row.ended {
            Some((at, epoch)) => stop = stop.again(epoch, at),
            None => {
                stop.exempt_until = stop.exempt_until.max(Some(row.exemption.until));
                open += 1;
                overrides.extend(overriding(app, &row.exemption, time.at()).await?);
            }
        }
    }
    // Only when everything that goes on under it stands still all the same.
    stop.overridden_by = overrides
        .first()
        .copied()
        .filter(|_| overrides.len() == open);
    judged(app, &stop, time).await
}

/// Returns the hold under which everything that an exemption lets go on stands still all the same.
async fn overriding(
    app: &App,
    exemption: &Exemption,
    now: Timestamp,
) -> Result<Option<HoldId>, StoreError> {
    let row = rollout::rollout_load(app.store.read(), exemption.rollout).await?;
    let (_, holds) = hold::holds_known(&app.store).await?;
    let over = row.and_then(|row| {
        holds
            .overrides(exemption, row.target, now)
            .map(|hold| hold.id)
    });
    Ok(over)
}

/// What the database says of whoever may still send.
#[derive(Debug)]
pub(super) struct Said {
    workers: Vec<WorkerSaid>,
    leases: Vec<LeaseInForce>,
}

async fn said(app: &App, scope: &Scope, now: Timestamp) -> Result<Said, StoreError> {
    let (workers, leases) = tokio::try_join!(
        worker::workers_said(app.store.read()),
        lease::leases_in_force(app.store.read(), scope, now),
    )?;
    Ok(Said { workers, leases })
}

/// A look that is under way.
pub(super) type Looking = oneshot::Receiver<Result<Said, StoreError>>;

/// Begins to look who may still send, while a hold is being placed and no claim can commit any more: of leases there
/// will be no more, and whoever acknowledges it later only has not done so yet.
pub(super) fn ahead(app: &App, scope: Scope, now: Timestamp) -> Looking {
    let (tell, told) = oneshot::channel();
    let app = app.clone();
    app.clone().background.spawn(async move {
        // Whoever asked may have gone.
        let _ = tell.send(said(&app, &scope, now).await);
    });
    told
}

/// Judges a hold that was placed a moment ago: nothing can have been exempted from it, and what the time was
/// then is known.
///
/// # Errors
///
/// As `of`.
pub(super) async fn of_new(
    app: &App,
    hold: &Hold,
    time: StoreTime,
    looking: Looking,
) -> Result<Quiescence, OperationError> {
    let said = looking.await.map_err(StoreError::corrupt)??;
    Ok(judged_by(app, &placed(hold), time, said))
}

fn placed(hold: &Hold) -> Stop {
    let stop = Stop {
        scope: hold.scope,
        epoch: hold.placed_epoch,
        placed_at: hold.placed_at,
        exempt_until: None,
        overridden_by: None,
    };
    match part::whole_since(hold) {
        Some(part) => stop.again(part.whole_epoch, part.whole_at),
        None => stop,
    }
}

async fn judged(app: &App, stop: &Stop, time: StoreTime) -> Result<Quiescence, OperationError> {
    let said = said(app, &stop.scope, time.at()).await?;
    Ok(judged_by(app, stop, time, said))
}

fn judged_by(app: &App, stop: &Stop, time: StoreTime, said: Said) -> Quiescence {
    let Said {
        mut workers,
        leases,
    } = said;
    // What this process knows of itself is newer than what it has written.
    workers.retain(|worker| worker.id != app.worker);
    workers.push(app.permit.says(app, time));
    let now = time.at();
    let facts = Facts {
        workers: &workers,
        leases: &leases,
        now,
    };
    judge(stop, &facts)
}

/// Waits until nobody can send under a hold that is in force, or for as long as is said.
///
/// # Errors
///
/// When there is no such hold, or the store cannot be reached.
pub async fn wait(app: &App, id: HoldId, most: Duration) -> Result<(), OperationError> {
    let row = hold::hold_load(app.store.read(), id).await?;
    let row = row.ok_or_else(|| OperationError::not_found("hold", id))?;
    let hold = row.hold()?;
    let until = app
        .clock
        .monotonic()
        .0
        .saturating_add(u64::try_from(most.as_millis()).unwrap_or(0));
    // Looked at by itself: the rest of what is shown of a hold would have to be read as often.
    while !of(app, &hold).await?.quiesced && app.clock.monotonic().0 < until {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Shows how one worker stands.
pub(super) fn worker(judged: WorkerJudged) -> WorkerView {
    let acknowledged_after_ms = match judged.standing {
        Standing::Acknowledged { after_millis } => after_millis,
        Standing::Sending { .. } | Standing::Silent { .. } | Standing::CannotSend => None,
    };
    WorkerView {
        id: judged.id,
        name: judged.name,
        standing: judged.standing.name().to_owned(),
        acknowledged_after_ms,
        can_send_until: judged.standing.until(),
        epoch: judged.epoch,
        in_flight: judged.in_flight,
        seen_at: judged.seen_at,
    }
}
