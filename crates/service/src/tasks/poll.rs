//! Asks the sources that send nothing by themselves, each when it is due, several at once: one that is
//! slow delays no other.
//!
//! A process asks only what it took first, so that one asks at a time. What is under way when the process
//! ends is dropped and asked again: nothing is moved on before what came is durable.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::app::App;
use crate::operations::source::poll::due;

/// How long to wait between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// How many are asked at once: each may hold an answer of some megabytes.
const AT_ONCE: usize = 16;

/// Looks twice a second, for ever.
pub async fn run(app: App) {
    let mut asked = BTreeSet::new();
    let mut asking = FuturesUnordered::new();
    loop {
        let most = AT_ONCE.saturating_sub(asked.len());
        match due::take(&app, most, |name| asked.contains(name)).await {
            Ok(taken) => {
                for one in taken {
                    asked.insert(one.name().to_owned());
                    let app = &app;
                    asking.push(async move {
                        if let Err(trouble) = due::ask(app, &one).await {
                            tracing::info!(source = one.name(), %trouble, "a source did not answer with anything whole");
                        }
                        one.name().to_owned()
                    });
                }
            }
            Err(error) => tracing::warn!(%error, "which sources are due could not be looked up"),
        }
        let mut sleep = std::pin::pin!(tokio::time::sleep(EVERY));
        loop {
            tokio::select! {
                () = &mut sleep => break,
                Some(name) = asking.next(), if !asking.is_empty() => {
                    asked.remove(&name);
                }
            }
        }
    }
}
