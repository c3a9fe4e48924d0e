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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_orchestrator::hold::Scope;
    use tidegate_orchestrator::ids::from_millis;

    use super::*;
    use crate::operations::hold::{self, NewHold};
    use crate::operations::view::ScopeView;
    use crate::operations::{Actor, target};
    use crate::store::audit;
    use crate::store::testing::each_app;

    /// More than one transaction takes up, so that several looks meet.
    const HOLDS: usize = 40;

    #[tokio::test(flavor = "multi_thread")]
    async fn however_many_look_at_once_each_hold_is_reminded_of_once() {
        each_app!(app => {
            let ann = Actor::person("ann", None);
            for number in 0..HOLDS {
                let (name, config) = (format!("box-{number}"), json!({}));
                let made = target::create(&app, &ann, &name, "sandbox", &config).await.unwrap();
                let new = NewHold {
                    kind: "pause".to_owned(),
                    scope: ScopeView::of(&Scope::Target(made.id)),
                    reason: "look".to_owned(),
                    effect: None,
                    review_at: from_millis(1_000),
                };
                hold::place(&app, &ann, &new).await.unwrap();
            }
            let (before, _) = audit::head(app.store.read()).await.unwrap();
            let looks = tokio::join!(look(&app), look(&app), look(&app), look(&app));
            for looked in [looks.0, looks.1, looks.2, looks.3] {
                looked.unwrap();
            }
            let written = audit::entries_after(app.store.read(), before, 1_000).await.unwrap();
            assert!(written.iter().all(|row| row.action == "hold.review_due"));
            let mut subjects: Vec<_> = written.iter().map(|row| row.subject.clone()).collect();
            subjects.sort();
            subjects.dedup();
            assert_eq!((written.len(), subjects.len()), (HOLDS, HOLDS));
            let next = look(&app).await.unwrap().unwrap();
            assert!(next > app.clock.now(), "in a week");
            let (after, _) = audit::head(app.store.read()).await.unwrap();
            assert_eq!(after, before + i64::try_from(HOLDS).unwrap(), "nothing until then");
        });
    }
}
