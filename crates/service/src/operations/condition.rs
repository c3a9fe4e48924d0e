//! Conditions that somebody asks with: read as in a spec, and held against the people they are asked of.

use serde_json::Value;
use tidegate_orchestrator::ids::PopulationVersionId;
use tidegate_policy::Condition;
use tidegate_policy::condition::written as condition;

use super::{OperationError, member};
use crate::app::App;
use crate::store::StoreError;

/// The largest condition: what is shown with every hold, and asked of everybody.
const SIZE_MAX: usize = 1000;

/// A field that holds a condition, with the code of the error when it holds none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    name: &'static str,
    code: &'static str,
}

/// Whom of a wave a hold means.
pub(super) const WHERE: Field = Field {
    name: "where",
    code: "where_invalid",
};
/// Who is said to have been moved by hand.
pub(super) const BY_HAND: Field = Field {
    name: "by_hand",
    code: "by_hand_invalid",
};

impl Field {
    fn refused(self, sentence: &str) -> OperationError {
        OperationError::invalid(self.code, format!("`{}`: {sentence}", self.name))
    }
}

/// Reads a condition that can be asked of the people of a version.
///
/// # Errors
///
/// When it is none, or cannot: then it says where, and what would do.
pub(super) async fn read(
    app: &App,
    field: Field,
    written: &Value,
    version: PopulationVersionId,
) -> Result<Condition, OperationError> {
    let condition = condition::read(written).map_err(|errors| {
        let first = errors.0.into_iter().next();
        let sentence = first.map(|error| match error.field.as_str() {
            "" => error.message,
            place => format!("{place}: {}", error.message),
        });
        field.refused(&sentence.unwrap_or_default())
    })?;
    if condition.size() > SIZE_MAX {
        let sentence = format!(
            "it asks more than {SIZE_MAX} things of each person: import an attribute that says it, and ask for that"
        );
        return Err(field.refused(&sentence));
    }
    check(app, version, &condition)
        .await?
        .map_err(|why| field.refused(&why))?;
    Ok(condition)
}

/// Says whether a condition can be asked of the people of a version; if not, why.
///
/// # Errors
///
/// When the store cannot be reached.
pub(super) async fn check(
    app: &App,
    version: PopulationVersionId,
    condition: &Condition,
) -> Result<Result<(), String>, StoreError> {
    let types = member::types(app, version).await?;
    let errors = condition.check(&|name| types.get(name).copied());
    Ok(match errors.first() {
        None => Ok(()),
        Some(error) if error.path.is_empty() => Err(error.sentence.clone()),
        Some(error) => Err(error.to_string()),
    })
}
