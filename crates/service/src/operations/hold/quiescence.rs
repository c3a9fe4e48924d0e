//! Who has acknowledged a hold: what the database knows, and what this process knows of itself.

use super::part;
use tidegate_orchestrator::hold::Hold;
use tidegate_orchestrator::quiesce::{Facts, Quiescence, Standing, Stop, WorkerJudged, judge};

use crate::app::App;
use crate::operations::OperationError;
use crate::operations::view::WorkerView;
use crate::store::{exemption, lease, worker};

/// Judges a hold that is in force and committed.
///
/// # Errors
///
/// When the store cannot be reached: then nothing is said, and nothing is quiet.
pub(super) async fn of(app: &App, hold: &Hold) -> Result<Quiescence, OperationError> {
    let mut stop = Stop {
        scope: hold.scope,
        epoch: hold.placed_epoch,
        placed_at: hold.placed_at,
        exempt_until: None,
    };
    if let Some(part) = part::whole_since(hold) {
        stop = stop.again(part.whole_epoch, part.whole_at);
    }
    for row in exemption::exemptions_from(app.store.read(), hold.id).await? {
        match row.ended {
            Some((at, epoch)) => stop = stop.again(epoch, at),
            None => stop.exempt_until = stop.exempt_until.max(Some(row.exemption.until)),
        }
    }
    // Read first: what is over by then is over when the rest is read.
    let now = app.store.now().await?;
    let mut workers = worker::workers_said(app.store.read()).await?;
    let leases = lease::leases_in_force(app.store.read(), &hold.scope, now).await?;
    // What this process knows of itself is newer than what it has written.
    workers.retain(|worker| worker.id != app.worker);
    workers.push(app.permit.says(app, now));
    Ok(judge(
        &stop,
        &Facts {
            workers: &workers,
            leases: &leases,
            now,
        },
    ))
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
