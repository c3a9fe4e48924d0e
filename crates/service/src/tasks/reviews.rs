//! Reminds of holds that nobody looks at: one look at one index, however many holds there are, and nothing
//! until the first of them is due.
//!
//! Nothing is ever released here. Processes that look at once write one reminder between them: each puts
//! the next one off only if nobody else has.

use std::time::Duration;

use tidegate_orchestrator::ids::Timestamp;

use crate::app::App;
use crate::operations::hold::review;
use crate::store::{StoreError, review as rows};

/// The longest sleep between two looks: what another process has placed is due in days.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// How long to wait when something is due that another process has in its hands.
const SLEEP_MIN: Duration = Duration::from_millis(500);

/// Looks whenever a reminder is due, for ever.
pub async fn run(app: App) {
    loop {
        let next = match look(&app).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(%error, "nobody could be reminded of overdue reviews");
                None
            }
        };
        let sleep = next.map_or(SLEEP_MAX, |next| {
            let wait = (next - app.clock.now()).to_std().unwrap_or(SLEEP_MIN);
            wait.clamp(SLEEP_MIN, SLEEP_MAX)
        });
        tokio::select! {
            () = app.wake.reviews() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Writes every reminder that is due, and returns when the next one is.
///
/// # Errors
///
/// When the store cannot be reached.
pub async fn look(app: &App) -> Result<Option<Timestamp>, StoreError> {
    loop {
        let next = rows::reminder_next(app.store.read()).await?;
        let is_due = next.is_some_and(|next| next <= app.clock.now());
        // Judged again by the clock of the database before anything is written.
        if !is_due || review::remind(app).await? == 0 {
            return Ok(next);
        }
    }
}
