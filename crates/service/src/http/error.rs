//! Errors as RFC 9457 problem documents, each with a stable code.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::operations::{Detail, OperationError};
use crate::store::StoreError;

/// The media type of a problem document.
pub(super) const PROBLEM: &str = "application/problem+json";

/// What went wrong with a request; boxed, because most requests go well.
#[derive(Debug, Clone)]
pub(super) struct Problem(Box<Document>);

/// A problem document (RFC 9457).
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub(super) struct Document {
    /// A URI for the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// A few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What, where, and what to do.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// Each thing that is wrong, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Detail>,
    /// After how many seconds it may be tried again: the header `Retry-After`.
    #[serde(skip)]
    retry_after: Option<u32>,
}

impl Problem {
    /// Makes a problem out of its status, code and sentence.
    #[must_use]
    pub(super) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Document {
            kind: format!("https://tidegate.dev/problems/{code}"),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            errors: Vec::new(),
            retry_after: None,
        }))
    }

    /// Returns the stable code.
    #[must_use]
    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    /// Adds each thing that is wrong.
    #[must_use]
    pub(super) fn with_errors(mut self, errors: Vec<Detail>) -> Self {
        self.0.errors = errors;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let retry_after = self.0.retry_after;
        let mut response = (status, body).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        let sentence = error.to_string();
        match error {
            OperationError::Refused { code, details, .. } => {
                Self::new(StatusCode::CONFLICT, &code, sentence).with_errors(details)
            }
            OperationError::Invalid { code, details, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, &code, sentence).with_errors(details)
            }
            OperationError::Unproved { code, .. } => {
                Self::new(StatusCode::UNAUTHORIZED, code, sentence)
            }
            OperationError::Busy {
                code, retry_after, ..
            } => {
                let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, code, sentence);
                problem.0.retry_after = Some(retry_after);
                problem
            }
            OperationError::NotFound { what, .. } => Self::new(
                StatusCode::NOT_FOUND,
                &format!("{what}_not_found"),
                sentence,
            ),
            OperationError::Conflict { what } => {
                let detail = format!(
                    "the {what} has changed since you read it: read it again, and decide again"
                );
                Self::new(StatusCode::PRECONDITION_FAILED, "generation_stale", detail)
            }
            OperationError::Failed(cause) => cause.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Older | StoreError::Serialization => {
                tracing::error!(%error, "the store is not available");
                let detail =
                    "the database is not available: nothing was changed; try again in a moment";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail)
            }
            error => {
                tracing::error!(%error, "a request failed");
                let detail = "something failed on our side and was logged; nothing was changed";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
            }
        }
    }
}
