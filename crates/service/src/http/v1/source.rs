//! Sources of signals, and what they send.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::http::door::{Seat, Standing};
use crate::http::error::Problem;
use crate::http::extract::{AnyBody, At, Body, Caller};
use crate::operations::signal::Admitted;
use crate::operations::source::poll::{self, Polled};
use crate::operations::source::receive::{self, Message, Refused, Taken};
use crate::operations::source::{self, Profile, SourceConfig, SourceView};
use crate::operations::token::Permission;

/// When whoever sent a token may try again after the keys of its issuer could not be fetched: they are
/// fetched once a minute.
const RETRY_SECONDS: u64 = 60;

/// A source to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewSource {
    /// Its name.
    name: String,
    /// How what it sends is signed and written.
    profile: Profile,
    /// Keys by reference, vendor and products.
    config: SourceConfig,
}

/// List every source of signals.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", responses((status = 200, body = Vec<SourceView>)))]
pub(in crate::http) async fn list(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<Vec<SourceView>>, Problem> {
    caller.may(Permission::Read)?;
    Ok(Json(source::list(&app).await?))
}

/// Create a source of signals.
#[utoipa::path(post, path = "/v1/sources", tag = "sources", request_body = NewSource, responses((status = 201, body = SourceView)))]
pub(in crate::http) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(new): Body<NewSource>,
) -> Result<(StatusCode, Json<SourceView>), Problem> {
    let actor = caller.may(Permission::Policy)?;
    let view = source::create(&app, &actor, &new.name, new.profile, &new.config).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Take a source out of use: what it sends from now on is refused.
#[utoipa::path(post, path = "/v1/sources/{name}/revoke", tag = "sources", params(("name" = String, Path)), responses((status = 200, body = SourceView)))]
pub(in crate::http) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<SourceView>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(source::revoke(&app, &actor, &name).await?))
}

/// Ask a source now that sends nothing by itself, and say what came. It is asked when it is due all the same.
#[utoipa::path(post, path = "/v1/sources/{name}/poll", tag = "sources", params(("name" = String, Path)), responses((status = 200, body = Polled)))]
pub(in crate::http) async fn ask(
    State(app): State<App>,
    caller: Caller,
    At(name): At<String>,
) -> Result<Json<Polled>, Problem> {
    let actor = caller.may(Permission::Policy)?;
    Ok(Json(poll::ask(&app, &actor, &name).await?))
}

/// Report, signed as the source is set up. No token: the signature says who it is. Durable when this answers.
///
/// A stream of security event tokens is answered as RFC 8935 says: 202 without a body, or 400 with `err` and `description`.
#[utoipa::path(post, path = "/v1/sources/{name}/events", tag = "sources", params(("name" = String, Path)), request_body = Object, responses((status = 202, body = Admitted), (status = 400, body = SetError)), security(()))]
pub(in crate::http) async fn receive(
    State(app): State<App>,
    At(name): At<String>,
    uri: Uri,
    headers: HeaderMap,
    seat: Option<Extension<Seat>>,
    body: Result<AnyBody, Problem>,
) -> Result<Response, Problem> {
    let body = match body {
        Ok(body) => body.0,
        Err(problem) => {
            receive::refused_before(&app, &name, problem.code()).await;
            return Err(problem);
        }
    };
    let named: Vec<(&str, &[u8])> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let message = Message {
        headers: &named,
        query: uri.query(),
        body: &body,
    };
    let taken = receive::receive(&app, &name, message).await;
    if let (Ok(_), Some(Extension(seat))) = (&taken, seat) {
        seat.shows(Standing::Known);
    }
    match taken {
        Ok(Taken::Admitted(admitted)) => Ok((StatusCode::ACCEPTED, Json(admitted)).into_response()),
        Ok(Taken::Token) => Ok(StatusCode::ACCEPTED.into_response()),
        Err(refused) => Ok(answer(refused)),
    }
}

/// Ask whether CloudEvents may be sent here, as the specification of their webhooks says.
#[utoipa::path(options, path = "/v1/sources/{name}/events", tag = "sources", params(("name" = String, Path)), responses((status = 200)), security(()))]
pub(in crate::http) async fn handshake(
    State(app): State<App>,
    At(name): At<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let rate = receive::handshake(&app, &name).await?;
    let Some(origin) = headers.get("webhook-request-origin") else {
        let detail = "`WebHook-Request-Origin` says who asks";
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "origin_missing",
            detail,
        ));
    };
    let rate = rate.map_or_else(|| "*".to_owned(), |rate| rate.to_string());
    let answer = [
        ("allow", HeaderValue::from_static("POST, OPTIONS")),
        ("webhook-allowed-origin", origin.clone()),
        (
            "webhook-allowed-rate",
            HeaderValue::from_str(&rate).unwrap_or(HeaderValue::from_static("*")),
        ),
    ];
    Ok((StatusCode::OK, answer).into_response())
}

/// Why a security event token is refused (RFC 8935).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in crate::http) struct SetError {
    /// The code, such as `authentication_failed`.
    err: String,
    /// What is wrong, in English.
    description: String,
}

/// Writes why a message was not taken.
fn answer(refused: Refused) -> Response {
    let sentence = refused.to_string();
    let later = |status: StatusCode, code: &str, seconds: u64| {
        let wait = [(header::RETRY_AFTER, HeaderValue::from(seconds))];
        (wait, Problem::new(status, code, sentence.clone())).into_response()
    };
    match refused {
        Refused::Operation(error) => Problem::from(error).into_response(),
        Refused::MediaType(_) | Refused::Unanswered(_) => Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            sentence.clone(),
        )
        .into_response(),
        Refused::KeysUnavailable => later(
            StatusCode::SERVICE_UNAVAILABLE,
            "keys_unavailable",
            RETRY_SECONDS,
        ),
        Refused::Token(refusal) => {
            let english = [(header::CONTENT_LANGUAGE, HeaderValue::from_static("en"))];
            let error = SetError {
                err: refusal.err.name().to_owned(),
                description: refusal.description,
            };
            (StatusCode::BAD_REQUEST, english, Json(error)).into_response()
        }
    }
}
