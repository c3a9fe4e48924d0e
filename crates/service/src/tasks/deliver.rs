//! Tells endpoints what happens, each by itself: one that is slow or dead keeps nobody else waiting.
//!
//! Every process looks; the lease in the row of an endpoint lets one of them tell it something at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::app::App;
use crate::operations::endpoint::telling::{Turn, tell};
use crate::store::{StoreError, audit, endpoint as rows};

/// The longest sleep between two looks: whatever process writes an entry rings no bell for this.
const SLEEP: Duration = Duration::from_millis(250);

/// How far was looked for each endpoint without finding anything; none while it is being told something.
type Looked = BTreeMap<String, Option<i64>>;

/// Looks whenever there may be something to tell, for ever.
pub async fn run(app: App) {
    let mut looked = Looked::new();
    let mut turns: JoinSet<(String, i64)> = JoinSet::new();
    let mut fails = false;
    loop {
        match due(&app, &looked).await {
            Ok(names) => {
                fails = false;
                for (name, from) in names {
                    looked.insert(name.clone(), None);
                    let app = app.clone();
                    turns.spawn(async move {
                        let until = all(&app, &name, from).await;
                        (name, until)
                    });
                }
            }
            Err(error) => {
                if !fails {
                    tracing::warn!(%error, "nobody can be told what happens; it waits in the trail");
                }
                fails = true;
            }
        }
        tokio::select! {
            Some(done) = turns.join_next() => match done {
                Ok((name, until)) => {
                    looked.insert(name, Some(until));
                }
                // A turn that broke must not be the last one of its endpoint.
                Err(error) => {
                    tracing::error!(%error, "telling an endpoint broke off");
                    looked.retain(|_, until| until.is_some());
                }
            },
            () = tokio::time::sleep(SLEEP) => {}
        }
    }
}

/// Returns the endpoints that there may be something for, and from where on to look.
async fn due(app: &App, looked: &Looked) -> Result<Vec<(String, i64)>, StoreError> {
    let db = app.store.read();
    let found = rows::endpoints_due(db, app.clock.now()).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let (head, _) = audit::head(db).await?;
    let mut due = Vec::new();
    for row in found {
        let from = match looked.get(&row.name) {
            Some(None) => continue,
            Some(Some(until)) => (*until).max(row.told_seq),
            None => row.told_seq,
        };
        if from < head {
            due.push((row.name, from));
        }
    }
    Ok(due)
}

/// Tells an endpoint everything there is, one after the other, and returns how far was looked without
/// finding anything.
async fn all(app: &App, name: &str, mut looked: i64) -> i64 {
    loop {
        match tell(app, name, looked).await {
            Ok(Turn::Delivered) => {}
            Ok(Turn::Nothing(until)) => {
                looked = until;
                return looked;
            }
            Ok(Turn::Later) => return looked,
            Err(error) => {
                tracing::warn!(endpoint = name, %error, "an endpoint could not be told anything");
                tokio::time::sleep(SLEEP).await;
                return looked;
            }
        }
    }
}
