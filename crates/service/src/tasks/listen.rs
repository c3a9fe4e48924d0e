//! Hears of holds at once: notify for speed, poll for truth.
//!
//! PostgreSQL says when the epoch has moved, and the permit is renewed without waiting for its time.
//! Everything here may fail for ever: the permit is renewed every half second all the same.

use std::time::Duration;

use crate::app::App;
use crate::store::StoreError;

/// How long to wait before the database is asked for an ear again.
const AGAIN: Duration = Duration::from_secs(1);

/// Has the permit renewed whenever the epoch moves, for ever; ends at once where nobody else moves it.
pub async fn run(app: App) {
    loop {
        match listen(&app).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, "holds of others are heard of within half a second, not at once");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen(app: &App) -> Result<(), StoreError> {
    let Some(mut listener) = app.store.listen().await? else {
        return Ok(());
    };
    loop {
        // First, because whatever was said before anybody listened is lost.
        app.permit.hurry();
        listener.heard().await?;
    }
}
