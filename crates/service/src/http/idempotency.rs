//! `Idempotency-Key`: a repeat of a call gets the answer of the first one, and changes nothing.
//!
//! The same key with another body is refused; a repeat that comes while the first call is still at
//! work is told to wait. A call that failed on our side gives its key back.
//!
//! Stops have no use for it: saying stop again is the same stop while it is in force, and a new one when it is
//! not. An answer from memory would say that it is quiet under a hold that has been released since, and a key
//! that was lost with its process would refuse a halt. So for them the key is passed over.

use std::panic::AssertUnwindSafe;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use futures_util::FutureExt as _;
use sha2::{Digest, Sha256};

use super::App;
use super::error::Problem;
use super::extract::{Caller, body_bytes};
use crate::store::idempotency::{self as keys, Remembered};
use crate::store::{Lane, StoreError, transact};

const KEY: &str = "idempotency-key";
/// The longest key.
const KEY_MAX: usize = 200;
/// A call that has been at work for so long was lost with its process: its key is free again.
const LOST_SECONDS: i64 = 120;
/// The headers of an answer that are remembered.
const HEADERS: [header::HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];

/// Answers repeats, and remembers first answers.
pub(super) async fn remember(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_post = request.method() == Method::POST;
    if is_post && is_stop(request.uri().path()) {
        // As below, with a key or without one: a client that hangs up has said stop all the same.
        let running = app.background.spawn(next.run(request)).await;
        return running.unwrap_or_else(|_| failed().into_response());
    }
    if !is_post || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    // On a task of its own: a client that hangs up must not leave its key taken for ever.
    let running = app.background.spawn({
        let app = app.clone();
        async move { remembered(&app, request, next).await }
    });
    match running.await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => failed().into_response(),
    }
}

fn failed() -> Problem {
    let detail = "something failed on our side and was logged";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
}

async fn remembered(app: &App, request: Request, next: Next) -> Result<Response, Problem> {
    let (mut parts, body) = request.into_parts();
    let key = parts
        .headers
        .get(KEY)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if key.is_empty() || key.len() > KEY_MAX {
        let detail = format!("an Idempotency-Key has 1 to {KEY_MAX} plain characters");
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "idempotency_key_invalid",
            detail,
        ));
    }
    let caller = Caller::from_request_parts(&mut parts, app).await?;
    let bytes = body_bytes(Request::from_parts(parts.clone(), body), app).await?;
    let mut hasher = Sha256::new();
    hasher.update(parts.uri.to_string().as_bytes());
    hasher.update([0]);
    hasher.update(&bytes);
    let hash: [u8; 32] = hasher.finalize().into();
    let now = app.clock.now();
    let lost_before = now - TimeDelta::seconds(LOST_SECONDS);
    let free = transact!(app.store, Lane::Ordinary, "key_take", |txn| keys::key_take(
        txn,
        &caller.name,
        &key,
        &hash,
        now,
        lost_before
    )
    .await)?;
    if !free {
        return repeat(app, &caller.name, &key, &hash).await;
    }
    let answering = next.run(Request::from_parts(parts, Body::from(bytes)));
    // A panic is a failure of ours, and gives the key back as one.
    let answered = AssertUnwindSafe(answering).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| failed().into_response());
    keep(app, &caller.name, &key, response).await
}

/// What is remembered of an answer: all of it but the secret of a token, which is shown once.
fn without_secret(body: &[u8]) -> Vec<u8> {
    let fields = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
    let Ok(mut fields) = fields else {
        return body.to_vec();
    };
    match fields.remove("token") {
        Some(_) => serde_json::to_vec(&fields).unwrap_or_default(),
        None => body.to_vec(),
    }
}

/// Whether a call says stop.
fn is_stop(path: &str) -> bool {
    path == "/v1/holds" || path.ends_with("/halt") || path.ends_with("/pause")
}

async fn repeat(app: &App, principal: &str, key: &str, hash: &[u8]) -> Result<Response, Problem> {
    let Some(known) = keys::key_load(app.store.read(), principal, key).await? else {
        let detail = "the first call with this Idempotency-Key has just failed: repeat it";
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "idempotency_in_progress",
            detail,
        ));
    };
    if known.request_hash != hash {
        let detail =
            "this Idempotency-Key was used for another request: use a new key for a new request";
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            detail,
        ));
    }
    if known.status == 0 {
        let detail =
            "the first call with this Idempotency-Key is still at work: repeat it in a moment";
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "idempotency_in_progress",
            detail,
        ));
    }
    Ok(again(known))
}

fn again(known: Remembered) -> Response {
    let status = u16::try_from(known.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = (
        status.unwrap_or(StatusCode::OK),
        known.body.unwrap_or_default(),
    )
        .into_response();
    let headers: Vec<(String, String)> = serde_json::from_str(&known.headers).unwrap_or_default();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (
            name.parse::<header::HeaderName>(),
            HeaderValue::from_str(&value),
        ) {
            response.headers_mut().insert(name, value);
        }
    }
    response
        .headers_mut()
        .insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}

async fn keep(
    app: &App,
    principal: &str,
    key: &str,
    response: Response,
) -> Result<Response, Problem> {
    let (parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the answer could not be written",
        ));
    };
    let kept: Result<(), StoreError> = if parts.status.is_server_error() {
        transact!(app.store, Lane::Ordinary, "key_drop", |txn| keys::key_drop(
            txn, principal, key
        )
        .await)
    } else {
        let headers: Vec<(String, String)> = HEADERS
            .iter()
            .filter_map(|name| {
                Some((
                    name.to_string(),
                    parts.headers.get(name)?.to_str().ok()?.to_owned(),
                ))
            })
            .collect();
        let headers = serde_json::to_string(&headers).unwrap_or_default();
        let status = parts.status.as_u16();
        let kept_body = without_secret(&bytes);
        transact!(app.store, Lane::Ordinary, "key_keep", |txn| {
            keys::key_keep(txn, principal, key, status, &headers, &kept_body).await
        })
    };
    if let Err(error) = kept {
        tracing::warn!(%error, "an answer could not be remembered for its Idempotency-Key");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}
