//! Fetches the tokens of a stream (RFC 8936).
//!
//! A token is acknowledged with the next question, after it was made durable here: what is to be acknowledged is
//! kept in the store, so a crash acknowledges later and never before. What comes again meanwhile is known by
//! its id. What could not be decided (the keys of the issuer cannot be fetched) is neither acknowledged nor
//! refused, and comes again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_orchestrator::ids::from_millis;
use tidegate_policy::dialect::security_event::{SetError, SetRefusal};
use tidegate_policy::dialect::{json as read_json, text};

use super::super::config::{PollConfig, secret};
use super::super::progress::{Progress, SetErr};
use super::super::receive::Refused;
use super::{Stream, take};
use crate::app::App;
use crate::operations::OperationError;
use crate::signal::ask;
use crate::store::source::{self as rows, StateRow};
use crate::store::{Lane, StoreError, transact};

/// How many tokens are asked for at once.
const EVENTS_MAX: usize = 50;
/// The largest answer: so many tokens, and some to spare.
const ANSWER_MAX: usize = 4 << 20;
/// How often one turn asks before it leaves the rest for the next.
const QUESTIONS_MAX: usize = 20;

/// What came of one question.
struct Round {
    acks: Vec<String>,
    errs: BTreeMap<String, SetErr>,
    is_more: bool,
}

/// Fetches what there is when it is due; says whether it asked.
pub(in crate::operations::source) async fn fetch_when_due(
    app: &App,
    state: &StateRow,
    stream: Stream<'_>,
) -> Result<bool, StoreError> {
    let Some(poll) = &stream.stream.poll else {
        return Ok(false);
    };
    let taken: Result<bool, StoreError> =
        transact!(app.store, Lane::Ordinary, "stream_poll", |txn| {
            let now = txn.now();
            if from_millis(state.due_at).is_some_and(|due| now < due) {
                return Ok(false);
            }
            let every = chrono::TimeDelta::seconds(i64::from(poll.every_seconds));
            rows::due_take(txn, state, now.checked_add_signed(every).unwrap_or(now)).await
        });
    if !taken? {
        return Ok(false);
    }
    let mut progress = Progress::of(state)?;
    for _ in 0..QUESTIONS_MAX {
        let round = match question(app, stream, poll, &progress).await {
            Ok(round) => round,
            Err(Refused::Operation(OperationError::Failed(error))) => {
                return Err(error);
            }
            Err(refused) => {
                unanswered(app, state, &refused.to_string()).await?;
                return Ok(true);
            }
        };
        progress = kept(app, state, &round).await?;
        let is_thanked = progress.acks.is_empty() && progress.errs.is_empty();
        if is_thanked && !round.is_more {
            break;
        }
    }
    Ok(true)
}

async fn unanswered(app: &App, state: &StateRow, trouble: &str) -> Result<(), StoreError> {
    // Once for a row of them: the list of sources says what is wrong for as long as it is.
    if state.failures == 0 {
        tracing::warn!(source = state.name, trouble, "a stream cannot be fetched");
    }
    transact!(app.store, Lane::Ordinary, "stream_unanswered", |txn| {
        rows::unanswered(txn, &state.name, trouble).await
    })
}

/// Keeps what is to be acknowledged next; what was before was, for the question had an answer.
async fn kept(app: &App, state: &StateRow, round: &Round) -> Result<Progress, StoreError> {
    transact!(app.store, Lane::Ordinary, "stream_polled", |txn| {
        let now = txn.now();
        let Some(known) = rows::state_lock(txn, &state.name).await? else {
            return Err(StoreError::NotFound);
        };
        let mut progress = Progress::of(&known)?;
        progress.acks.clone_from(&round.acks);
        progress.errs.clone_from(&round.errs);
        rows::answered(txn, &state.name, Some(&progress.written()?), now).await?;
        Ok(progress)
    })
}

/// Asks once: acknowledges what was made durable, and takes what comes.
async fn question(
    app: &App,
    stream: Stream<'_>,
    poll: &PollConfig,
    progress: &Progress,
) -> Result<Round, Refused> {
    let said = |sentence: String| Refused::Unanswered(sentence);
    let authorization = secret(app, poll.authorization.as_ref()).map_err(said)?;
    let mut body =
        json!({"maxEvents": EVENTS_MAX, "returnImmediately": true, "ack": progress.acks});
    if let (Some(body), false) = (body.as_object_mut(), progress.errs.is_empty()) {
        body.insert("setErrs".to_owned(), json!(progress.errs));
    }
    let answer = ask::post(app, &poll.url, authorization.as_deref(), &body, ANSWER_MAX).await;
    let answer = match answer.map_err(said)? {
        (200, answer) => read_json(&answer).map_err(|error| said(error.sentence))?,
        (status, _) => return Err(said(format!("its endpoint answered {status}"))),
    };
    let sets = answer.get("sets").and_then(Value::as_object);
    let sets = sets.ok_or_else(|| said("its answer has no `sets`".to_owned()))?;
    let mut round = Round {
        acks: Vec::new(),
        errs: BTreeMap::new(),
        is_more: answer.get("moreAvailable").and_then(Value::as_bool) == Some(true),
    };
    // A transmitter that gives more than was asked for gets the rest asked for again.
    for (jti, token) in sets.iter().take(EVENTS_MAX) {
        match taken(app, stream, jti, token).await {
            Ok(()) => round.acks.push(jti.clone()),
            Err(Refused::Token(refusal)) => {
                super::super::receive::count(app, &stream.row.name, refusal_code(&refusal));
                let err = SetErr {
                    err: refusal.err.name().to_owned(),
                    description: refusal.description,
                };
                round.errs.insert(jti.clone(), err);
            }
            Err(Refused::Operation(OperationError::Busy { .. })) => round.is_more = false,
            // It comes again; so does what is behind it.
            Err(refused @ (Refused::Operation(_) | Refused::Unanswered(_))) => return Err(refused),
            Err(Refused::MediaType(_) | Refused::KeysUnavailable) => {
                round.is_more = false;
            }
        }
    }
    Ok(round)
}

fn refusal_code(refusal: &SetRefusal) -> &'static str {
    super::super::receive::token_code(refusal)
}

async fn taken(app: &App, stream: Stream<'_>, jti: &str, token: &Value) -> Result<(), Refused> {
    let wrong = |description: &str| {
        Refused::Token(SetRefusal::new(
            SetError::InvalidRequest,
            "jti",
            description,
        ))
    };
    let token = token.as_str().ok_or_else(|| wrong("a token is a text"))?;
    // Acknowledged by the name it came under, so that must be its own.
    if named(token) != Some(jti.to_owned()) {
        return Err(wrong("the token is not the one of that id"));
    }
    take(app, stream, token.as_bytes()).await
}

/// Returns the id that a token has, without believing it.
fn named(token: &str) -> Option<String> {
    use base64::Engine as _;
    let payload = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()?;
    text(&read_json(&bytes).ok()?, "jti").map(str::to_owned)
}
