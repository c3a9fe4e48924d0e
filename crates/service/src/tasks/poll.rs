//! Asks the sources that send nothing by themselves, each when it is due, several at once: one that is
//! slow delays no other.
//!
//! A process asks only what it took first, so that one asks at a time. What is under way when the process
//! ends is dropped and asked again: nothing is moved on before what came is durable.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::app::App;
use crate::operations::source::poll::due::{self, Taken};

/// How long to wait between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// How many are asked at once: each may hold an answer of some megabytes.
const AT_ONCE: usize = 16;

/// Looks twice a second, for ever.
pub async fn run(app: App) {
    // Tasks of their own, and not futures of this one: one that holds a transaction while nobody polls it
    // would keep this one from ever getting its own. They end with the set.
    let mut asking = JoinSet::new();
    let mut names = HashMap::new();
    loop {
        let most = AT_ONCE.saturating_sub(names.len());
        let is_asked = |name: &str| names.values().any(|one: &String| one == name);
        match due::take(&app, most, is_asked).await {
            Ok(taken) => {
                for one in taken {
                    let name = one.name().to_owned();
                    let handle = asking.spawn(ask(app.clone(), one));
                    names.insert(handle.id(), name);
                }
            }
            Err(error) => tracing::warn!(%error, "which sources are due could not be looked up"),
        }
        let mut sleep = std::pin::pin!(tokio::time::sleep(EVERY));
        loop {
            tokio::select! {
                () = &mut sleep => break,
                Some(ended) = asking.join_next_with_id() => {
                    let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                    names.remove(&id);
                }
            }
        }
    }
}

async fn ask(app: App, taken: Taken) {
    if let Err(trouble) = due::ask(&app, &taken).await {
        let source = taken.name();
        tracing::info!(source, %trouble, "a source did not answer with anything whole");
    }
}
