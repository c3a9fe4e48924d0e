//! What a handler takes out of a request, with an error that says what, where and what to do.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tidegate_orchestrator::ids::Generation;
use tidegate_orchestrator::spec::SpecFormat;

use super::App;
use super::door::{Seat, Standing};
use super::error::Problem;
use crate::operations::token::{Permission, Role, identify};
use crate::operations::{Detail, signal};

/// The media type of a request's body in small letters, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// A JSON body, whose unknown fields are refused.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &App) -> Result<Self, Problem> {
        let kind = media_type(request.headers());
        let bytes = body_bytes(request, state).await?;
        // A call without any body is an empty object: the fields that must be there are named then.
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        if kind != "application/json" && bytes != b"{}" {
            let detail = format!("the body must be application/json, and is `{kind}`");
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                detail,
            ));
        }
        parse(bytes).map(Self)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let refused = |sentence: &str| Problem::new(StatusCode::BAD_REQUEST, "body_invalid", sentence);
    // A list would be read as the fields in their order, which nobody means.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(refused("the body must be a JSON object, and is a list"));
    }
    if holds_nul(bytes) {
        return Err(refused(NUL));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let inner = error.into_inner();
        let detail = Detail {
            line: Some(inner.line()),
            column: Some(inner.column()),
            field: Some(field).filter(|field| field != "."),
            ..Detail::new("body_invalid", inner.to_string())
        };
        let sentence = format!("the body is not what this call takes: {inner}");
        Problem::new(StatusCode::BAD_REQUEST, "body_invalid", sentence).with_errors(vec![detail])
    })?;
    reader.end().map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "body_invalid",
            format!("the body has more than one value: {error}"),
        )
    })?;
    Ok(value)
}

/// What is said about a NUL: PostgreSQL has no text with one, so nothing of ours may have one.
pub(super) const NUL: &str = "a text with a NUL character is not taken anywhere";

/// Says whether a JSON text holds an escaped NUL.
fn holds_nul(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(place) = rest.iter().position(|byte| *byte == b'\\') {
        let escaped = rest.get(place + 1..).unwrap_or_default();
        if escaped.starts_with(b"u0000") {
            return true;
        }
        rest = escaped.get(1..).unwrap_or_default();
    }
    false
}

/// Refuses a body that says it is too large, before anybody waits for it.
fn check_length(headers: &HeaderMap) -> Result<(), Problem> {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if length.is_some_and(|length| length > super::BODY_MAX) {
        return Err(too_large());
    }
    Ok(())
}

/// The body is larger than an ordinary call takes.
fn too_large() -> Problem {
    let detail = format!(
        "the body is larger than this call takes: a signal has at most {} KiB, anything else {} MiB",
        signal::BODY_MAX >> 10,
        super::BODY_MAX >> 20
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// The longest a body may take to come: 16 MiB at 4.5 Mbit/s. A file to import may take as long as it moves.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Reads a body whole.
pub(super) async fn body_bytes(request: Request, state: &App) -> Result<Bytes, Problem> {
    check_length(request.headers())?;
    let read = tokio::time::timeout(BODY_TIME, Bytes::from_request(request, state));
    let Ok(read) = read.await else {
        let detail = format!(
            "the body did not come within {} seconds",
            BODY_TIME.as_secs()
        );
        return Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_slow",
            detail,
        ));
    };
    read.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return too_large();
        }
        Problem::new(
            StatusCode::BAD_REQUEST,
            "body_unreadable",
            "the body ended in the middle",
        )
    })
}

/// A rollout spec as it was written.
#[derive(Debug)]
pub(super) struct SpecBody {
    pub(super) text: String,
    pub(super) format: SpecFormat,
}

impl FromRequest<App> for SpecBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &App) -> Result<Self, Problem> {
        let format = match media_type(request.headers()).as_str() {
            "application/yaml" | "application/x-yaml" | "text/yaml" => SpecFormat::Yaml,
            "application/json" => SpecFormat::Json,
            "application/toml" => SpecFormat::Toml,
            other => {
                let detail = format!(
                    "a spec is application/yaml, application/json or application/toml, and this is `{other}`"
                );
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "media_type",
                    detail,
                ));
            }
        };
        let bytes = body_bytes(request, state).await?;
        if bytes.contains(&0) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "body_invalid", NUL));
        }
        let text = String::from_utf8(bytes.to_vec()).map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "not_utf8", "the spec is not UTF-8")
        })?;
        Ok(Self { text, format })
    }
}

/// A JSON document of somebody else, byte by byte: its digest is kept.
#[derive(Debug)]
pub(super) struct RawBody(pub(super) Bytes);

impl FromRequest<App> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &App) -> Result<Self, Problem> {
        let media = media_type(request.headers());
        if media != "application/json" {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "media_type",
                format!("a signal is application/json, and this is `{media}`"),
            ));
        }
        body_bytes(request, state).await.map(Self)
    }
}

/// A document in any form, byte by byte: whoever reads it says which forms there are.
#[derive(Debug)]
pub(super) struct AnyBody(pub(super) Bytes);

impl FromRequest<App> for AnyBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &App) -> Result<Self, Problem> {
        body_bytes(request, state).await.map(Self)
    }
}

/// The parameters of a query; unknown ones are refused.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &App) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|rejection| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "query_invalid",
                    format!(
                        "the query is not what this call takes: {}",
                        rejection.body_text()
                    ),
                )
            })
    }
}

/// The segments of the path.
#[derive(Debug)]
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &App) -> Result<Self, Problem> {
        Path::from_request_parts(parts, state)
            .await
            .map(|Path(value)| Self(value))
            .map_err(|rejection| {
                Problem::new(
                    StatusCode::NOT_FOUND,
                    "path_invalid",
                    format!("there is nothing at this path: {}", rejection.body_text()),
                )
            })
    }
}

/// The generation that the caller has seen, from `If-Match`.
#[derive(Debug, Clone, Copy)]
pub(super) struct IfMatch(pub(super) Option<Generation>);

impl IfMatch {
    /// Returns the generation, which this call must have.
    pub(super) fn required(self) -> Result<Generation, Problem> {
        self.0.ok_or_else(|| {
            let detail = "say which generation you have seen: If-Match: \"<generation>\"";
            Problem::new(
                StatusCode::PRECONDITION_REQUIRED,
                "if_match_missing",
                detail,
            )
        })
    }
}

impl FromRequestParts<App> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &App) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
        let number = text.parse().map_err(|_| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "if_match_invalid",
                "If-Match must be one generation in quotes, such as \"7\"",
            )
        })?;
        Ok(Self(Some(Generation(number))))
    }
}

/// Who asks, as the middleware has found out.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) request_id: String,
}

impl Caller {
    /// Returns the actor for the audit trail, if the caller may do this.
    pub(super) fn may(&self, permission: Permission) -> Result<crate::operations::Actor, Problem> {
        if self.role.may(permission) {
            return Ok(crate::operations::Actor::person(
                &self.name,
                Some(self.request_id.clone()),
            ));
        }
        let detail = format!(
            "`{}` has the role {}, which may not {}; these may: {}",
            self.name,
            self.role.name(),
            permission.verb(),
            permission.roles()
        );
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &App) -> Result<Self, Problem> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let value = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = value
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else {
            let detail = "send your API token: Authorization: Bearer tg_…";
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "token_missing",
                detail,
            ));
        };
        let known = identify(state, token.trim()).await?;
        let Some((name, role)) = known else {
            let detail = "this API token is not known, or was revoked";
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "token_invalid",
                detail,
            ));
        };
        if let Some(seat) = parts.extensions.get::<Seat>() {
            let may_stop = role.may(Permission::Halt) || role.may(Permission::Pause);
            seat.shows(match may_stop {
                true => Standing::MayStop,
                false => Standing::Known,
            });
        }
        let request_id = parts
            .headers
            .get("x-request-id")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let caller = Self {
            name,
            role,
            request_id: request_id.chars().take(64).collect(),
        };
        parts.extensions.insert(caller.clone());
        Ok(caller)
    }
}
