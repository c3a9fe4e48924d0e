//! Who tried and was refused is in the trail, too.

use serde_json::json;

use super::{Actor, OperationError};
use crate::app::App;
use crate::store::{Lane, StoreError, transact};

/// Writes a refusal of the domain into the trail, and hands the outcome on. That it cannot be written changes
/// nothing about the answer.
///
/// # Errors
///
/// With the error that came in.
pub async fn told<T>(
    app: &App,
    actor: &Actor,
    (action, subject): (&str, String),
    step: &str,
    done: Result<T, OperationError>,
) -> Result<T, OperationError> {
    if let Err(OperationError::Refused { code, sentence, .. }) = &done {
        let detail = json!({"step": step, "code": code, "sentence": sentence});
        let entry = actor.entry(action, subject, detail);
        let kept: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "refused", |txn| {
            txn.audit(entry.clone());
            Ok(())
        });
        if let Err(error) = kept {
            tracing::warn!(action, step, %error, "a refused step could not be written down");
        }
    }
    done
}
