//! Asks the streams that are due: for tokens, whether they are there, and for the keys of their issuers.
//!
//! Every process looks; whoever moves the due time of a stream on asks it. Keys are each process's own.

use std::time::Duration;

use crate::app::App;
use crate::operations::source::stream::{self, Asking};

/// How long to wait between two looks: streams are asked in whole seconds.
const EVERY: Duration = Duration::from_millis(500);

/// Looks twice a second, for ever.
pub async fn run(app: App) {
    let mut asking = Asking::default();
    loop {
        if let Err(error) = stream::look(&app, &mut asking).await {
            tracing::warn!(%error, "the streams that are due could not be asked");
        }
        tokio::time::sleep(EVERY).await;
    }
}
