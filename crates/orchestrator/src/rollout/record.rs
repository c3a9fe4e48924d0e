//! The frozen form in which a rollout is stored. What version 1 wrote must be read for ever.
//!
//! A newer version adds a branch to [`decode`] that lifts the older record; it never changes what an
//! older branch reads. A record of a version this build does not know is refused, never guessed at.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Rollout;

/// The version this build writes.
pub const VERSION: u32 = 2;

/// Why a stored record cannot be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// It is not the JSON of a record.
    #[error("the record of a rollout cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// A newer build wrote it.
    #[error("the record of a rollout is of version {found}, and this build reads up to {VERSION}")]
    VersionUnknown {
        /// The version it claims.
        found: u32,
    },
}

#[derive(Deserialize)]
struct Envelope {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(rename = "version")]
    _version: u32,
    rollout: Rollout,
}

#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    rollout: &'a Rollout,
}

/// Writes a rollout in the newest version.
///
/// # Errors
/// When JSON cannot be written, which no rollout brings about.
pub fn encode(rollout: &Rollout) -> Result<String, RecordError> {
    let version = VERSION;
    Ok(serde_json::to_string(&Written { version, rollout })?)
}

/// Reads a rollout of any version so far.
///
/// # Errors
/// When the text is no record, or one of a version still to come.
pub fn decode(text: &str) -> Result<Rollout, RecordError> {
    let Envelope { version } = serde_json::from_str(text)?;
    match version {
        // Version 2 added what a release leaves behind (`reentry`); version 1 knew of none.
        1 | 2 => {
            let Stored { rollout, .. } = serde_json::from_str(text)?;
            Ok(rollout)
        }
        found => Err(RecordError::VersionUnknown { found }),
    }
}
