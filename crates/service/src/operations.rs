//! Load, decide, save: what HTTP and tasks both call.
//!
//! An operation is the only way to change anything: it loads, asks the pure crates to decide, and
//! saves the answer with its audit record in one transaction. Nothing here speaks SQL (that is
//! `store`), names axum (that is `http`) or sends anything to a target (that is `tasks`).

pub mod audit;
mod condition;
pub mod drift;
pub mod emergency;
pub mod endpoint;
pub mod error;
pub mod exposure;
pub mod fsck;
pub mod hold;
pub mod import;
pub mod load;
pub mod member;
pub mod people;
pub mod plan;
pub mod policy;
pub mod population;
pub mod refused;
pub mod release;
pub mod requirement;
pub mod restored;
pub mod revert;
pub mod rollout;
pub mod signal;
pub mod slots;
pub mod source;
pub mod status;
pub mod target;
pub mod token;
pub mod view;

pub use error::{Detail, OperationError};

/// Who asks: the principal an entry of the audit trail names, and the request it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The name of the principal: a token's name, or the name of a task.
    pub principal: String,
    /// The id of the HTTP request, when there was one.
    pub request_id: Option<String>,
}

impl Actor {
    /// Returns the actor a background task acts as.
    #[must_use]
    pub fn task(name: &str) -> Self {
        Self {
            principal: format!("task:{name}"),
            request_id: None,
        }
    }

    /// Returns the actor of one request of a principal.
    #[must_use]
    pub fn person(principal: &str, request_id: Option<String>) -> Self {
        Self {
            principal: principal.to_owned(),
            request_id,
        }
    }

    /// Returns an entry for the audit trail.
    #[must_use]
    pub fn entry(
        &self,
        action: &str,
        subject: String,
        detail: serde_json::Value,
    ) -> crate::store::audit::Entry {
        crate::store::audit::Entry {
            actor: self.principal.clone(),
            action: action.to_owned(),
            subject,
            request_id: self.request_id.clone(),
            detail,
            data: None,
        }
    }
}

/// A page of a list, and where the next one begins.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to ask with for the next page; none on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Makes a page out of up to one item more than asked for.
    #[must_use]
    pub fn cut(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = if more { items.last().map(cursor) } else { None };
        Self { items, next_cursor }
    }
}
