//! Why an operation did not do what was asked.
//!
//! A refusal is the domain saying no: it has a stable code and a sentence for people. A failure is
//! ours; its cause is logged and never shown to a client.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::store::StoreError;

/// One of the reasons beside a refusal: where, what, and a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Detail {
    /// The line of the document, when the reason has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column of the document, when the reason has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// The path of the field, when the reason has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The stable code of the reason.
    pub code: String,
    /// The sentence for people.
    pub message: String,
}

impl Detail {
    /// Returns a reason that points at nothing.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let (line, column, field) = (None, None, None);
        Self {
            line,
            column,
            field,
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

/// What became of an operation that did not succeed.
#[derive(Debug, Error)]
pub enum OperationError {
    /// The domain says no: a state, a hold or a stale digest stands in the way.
    #[error("{sentence}")]
    Refused {
        /// The stable code.
        code: String,
        /// The sentence for people.
        sentence: String,
        /// What exactly stands in the way.
        details: Vec<Detail>,
    },
    /// The document or value given cannot be accepted.
    #[error("{sentence}")]
    Invalid {
        /// The stable code.
        code: String,
        /// The sentence for people.
        sentence: String,
        /// Each thing that is wrong.
        details: Vec<Detail>,
    },
    /// Nothing proves that it comes from whom it says.
    #[error("{sentence}")]
    Unproved {
        /// The stable code.
        code: &'static str,
        /// The sentence for people.
        sentence: String,
    },
    /// Not now: too much of it at once.
    #[error("{sentence}")]
    Busy {
        /// The stable code.
        code: &'static str,
        /// The sentence for people.
        sentence: String,
        /// After how many seconds it may be tried again.
        retry_after: u32,
    },
    /// Nothing has this name.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// The name or id that was given.
        name: String,
    },
    /// The thing changed since it was read.
    #[error("`{what}` changed meanwhile")]
    Conflict {
        /// The kind of thing.
        what: &'static str,
    },
    /// We failed.
    #[error("failed to reach the store")]
    Failed(#[source] StoreError),
}

impl OperationError {
    /// Returns a refusal without further details.
    #[must_use]
    pub fn refused(code: &str, sentence: impl Into<String>) -> Self {
        Self::Refused {
            code: code.to_owned(),
            sentence: sentence.into(),
            details: Vec::new(),
        }
    }

    /// Returns an invalid input without further details.
    #[must_use]
    pub fn invalid(code: &str, sentence: impl Into<String>) -> Self {
        Self::Invalid {
            code: code.to_owned(),
            sentence: sentence.into(),
            details: Vec::new(),
        }
    }

    /// Returns that it may be tried again after so many seconds.
    #[must_use]
    pub fn busy(code: &'static str, sentence: impl Into<String>, retry_after: u32) -> Self {
        Self::Busy {
            code,
            sentence: sentence.into(),
            retry_after,
        }
    }

    /// Returns that another one has this name.
    #[must_use]
    pub fn name_taken(what: &str, name: &str) -> Self {
        Self::refused("name_taken", format!("there is another {what} `{name}`"))
    }

    /// Returns that nothing has this name.
    #[must_use]
    pub fn not_found(what: &'static str, name: impl std::fmt::Display) -> Self {
        Self::NotFound {
            what,
            name: name.to_string(),
        }
    }
}

impl crate::store::Retryable for OperationError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_retryable())
    }
}

impl From<StoreError> for OperationError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}
