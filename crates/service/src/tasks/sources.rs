//! Looks whether every source is still heard, and tells what was refused of them.
//!
//! Every process looks; whoever is first writes what has changed.

use std::time::Duration;

use crate::app::App;
use crate::operations::source::{refusals, silence};

/// How long to wait between two looks: silence is told in seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Looks once a second, for ever.
pub async fn run(app: App) {
    loop {
        if let Err(error) = silence::look(&app).await {
            tracing::warn!(%error, "whether sources are heard could not be looked at");
        }
        if let Err(error) = refusals::tell(&app, false).await {
            tracing::warn!(%error, "what was refused could not be told");
        }
        tokio::time::sleep(EVERY).await;
    }
}
