//! Asks the transmitter of a stream, on a timer, to show that it is still there.
//!
//! It answers with a verification event over the stream itself, which carries the state that was asked with. So
//! silence is told from peace. Whoever moves the due time on asks, so one process does.

use serde_json::json;
use tidegate_orchestrator::ids::from_millis;

use super::super::config::{SourceConfig, VerifyConfig, secret};
use super::super::progress::Progress;
use crate::app::App;
use crate::operations::OperationError;
use crate::signal::ask;
use crate::store::source::{self as rows, StateRow};
use crate::store::{Lane, StoreError, transact};

/// The largest answer to a question: it is none.
const ANSWER_MAX: usize = 16 * 1024;

/// Asks a stream when it is due; says whether it did.
pub(in crate::operations::source) async fn ask_when_due(
    app: &App,
    state: &StateRow,
    config: &SourceConfig,
) -> Result<bool, StoreError> {
    let verify = config
        .stream
        .as_ref()
        .and_then(|stream| stream.verify.as_ref());
    let Some(verify) = verify else {
        return Ok(false);
    };
    let asked = app.ids.secret();
    if !take(app, state, verify, &asked).await? {
        return Ok(false);
    }
    let trouble = match question(app, verify, &asked).await {
        Ok(()) => return Ok(true),
        Err(OperationError::Failed(error)) => return Err(error),
        Err(error) => error.to_string(),
    };
    // Once for a row of them: the list of sources says what is wrong for as long as it is.
    if state.failures == 0 {
        tracing::warn!(source = state.name, trouble, "a stream cannot be asked");
    }
    transact!(app.store, Lane::Ordinary, "stream_unasked", |txn| {
        rows::unanswered(txn, &state.name, &trouble).await
    })
    .map(|()| true)
}

/// Moves the due time on and remembers what is asked, before it is: an answer may be faster than we are.
async fn take(
    app: &App,
    state: &StateRow,
    verify: &VerifyConfig,
    asked: &str,
) -> Result<bool, StoreError> {
    transact!(app.store, Lane::Ordinary, "stream_ask", |txn| {
        let now = txn.now();
        if from_millis(state.due_at).is_some_and(|due| now < due) {
            return Ok(false);
        }
        let every = chrono::TimeDelta::seconds(i64::from(verify.every_seconds));
        let next = now.checked_add_signed(every).unwrap_or(now);
        if !rows::due_take(txn, state, next).await? {
            return Ok(false);
        }
        let Some(known) = rows::state_lock(txn, &state.name).await? else {
            return Ok(false);
        };
        let mut progress = Progress::of(&known)?;
        progress.ask(asked.to_owned());
        rows::progress_set(txn, &state.name, &progress.written()?).await?;
        Ok(true)
    })
}

async fn question(app: &App, verify: &VerifyConfig, asked: &str) -> Result<(), OperationError> {
    let said = |sentence: String| OperationError::invalid("unasked", sentence);
    let authorization = secret(app, verify.authorization.as_ref()).map_err(said)?;
    let body = json!({"stream_id": verify.stream_id, "state": asked});
    let answer = ask::post(
        app,
        &verify.url,
        authorization.as_deref(),
        &body,
        ANSWER_MAX,
    )
    .await;
    match answer.map_err(said)? {
        (200..300, _) => Ok(()),
        (status, _) => Err(said(format!("its verification endpoint answered {status}"))),
    }
}
