//! Sorts the waves that holds on some of their people wait for: one look at one index, however many holds
//! there are.

use std::time::Duration;

use crate::app::App;
use crate::operations::hold::part::{self, Known, Progress};
use crate::store::StoreError;
use crate::store::part::waves_unsorted;

/// The longest sleep between two looks: what another process has placed is found by then.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How long to wait for people in flight.
const SLEEP_BUSY: Duration = Duration::from_millis(250);

/// Sorts whatever is to be sorted, for ever.
pub async fn run(app: App) {
    let mut known = Known::default();
    loop {
        let sleep = match look(&app, &mut known).await {
            Ok(true) => SLEEP_MAX,
            Ok(false) => SLEEP_BUSY,
            Err(error) => {
                tracing::warn!(%error, "no wave could be sorted: those that wait for it stay held");
                SLEEP_MAX
            }
        };
        tokio::select! {
            () = app.wake.parts() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Sorts every wave that can be sorted, and says whether none is left. The trouble of one wave is its own.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn look(app: &App, known: &mut Known) -> Result<bool, StoreError> {
    let mut is_done = true;
    for (rollout, wave) in waves_unsorted(app.store.read()).await? {
        match part::sort(app, known, (rollout, wave)).await {
            Ok(Progress::Done | Progress::Stuck) => {}
            Ok(Progress::Later) => is_done = false,
            Err(error) => {
                tracing::warn!(%rollout, wave = wave.get(), %error, "a wave could not be sorted: it stays held");
            }
        }
    }
    if is_done {
        *known = Known::default();
    }
    Ok(is_done)
}
