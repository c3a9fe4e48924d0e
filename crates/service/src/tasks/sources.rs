//! Looks whether every source is still heard.
//!
//! Every process looks; whoever is first writes what has changed.

use std::time::Duration;

use crate::app::App;
use crate::operations::source::silence;

/// How long to wait between two looks: silence is told in seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Looks once a second, for ever.
pub async fn run(app: App) {
    loop {
        if let Err(error) = silence::look(&app).await {
            tracing::warn!(%error, "whether sources are heard could not be looked at");
        }
        tokio::time::sleep(EVERY).await;
    }
}
