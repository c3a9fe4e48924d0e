//! What is remembered of a stream between two words of it, as it is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::Timestamp;

use crate::store::StoreError;
use crate::store::source::StateRow;

/// The most questions that may be out: an answer to one before them is an answer to nothing.
const ASKED_MAX: usize = 3;
/// The most ids that are remembered of one second.
const IDS_MAX: usize = 64;

/// Where a stream stands. What an older version wrote has fewer fields, and is read for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Verifications that were asked for, the last one last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) asked: Vec<Asked>,
    /// The last word about the stream itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<Told>,
    /// When the keys of its issuer were last fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keys_at: Option<Timestamp>,
    /// Tokens that are durable here and not acknowledged yet. A crash acknowledges later, never before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) acks: Vec<String>,
    /// Tokens that were refused, and the transmitter is not told yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) errs: BTreeMap<String, SetErr>,
}

/// A verification that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) state: String,
    /// The token that answered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) answered_by: Option<String>,
}

/// The newest second in which a stream told something of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) second: i64,
    pub(super) ids: Vec<String>,
}

/// Why a token was refused, as RFC 8936 writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SetErr {
    pub(super) err: String,
    pub(super) description: String,
}

/// What an answer to a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    /// What was asked, for the first time.
    Now,
    /// What was answered before.
    Before,
    /// Nothing that was asked.
    Never,
}

impl Progress {
    pub(super) fn of(row: &StateRow) -> Result<Self, StoreError> {
        let Some(written) = &row.progress else {
            return Ok(Self::default());
        };
        serde_json::from_str(written).map_err(StoreError::corrupt)
    }

    pub(super) fn written(&self) -> Result<String, StoreError> {
        serde_json::to_string(self).map_err(StoreError::corrupt)
    }

    /// Remembers a question; the oldest is forgotten.
    pub(super) fn ask(&mut self, state: String) {
        self.asked.push(Asked {
            state,
            answered_by: None,
        });
        let spare = self.asked.len().saturating_sub(ASKED_MAX);
        self.asked.drain(..spare);
    }

    /// Takes an answer.
    pub(super) fn answer(&mut self, state: &str, jti: &str) -> Answered {
        let asked = self.asked.iter_mut().find(|asked| asked.state == state);
        match asked {
            None => Answered::Never,
            Some(asked) if asked.answered_by.is_some() => Answered::Before,
            Some(asked) => {
                asked.answered_by = Some(jti.to_owned());
                Answered::Now
            }
        }
    }

    /// Takes a word about the stream; says whether it is news. One that is older than the last, or comes again,
    /// is not: whoever has caught "it is enabled" must not be able to say it again.
    pub(super) fn tell(&mut self, jti: &str, second: i64) -> bool {
        match &mut self.told {
            Some(told) if second < told.second => false,
            Some(told) if second == told.second => {
                let is_news =
                    told.ids.len() < IDS_MAX && !told.ids.iter().any(|known| known == jti);
                if is_news {
                    told.ids.push(jti.to_owned());
                }
                is_news
            }
            Some(_) | None => {
                self.told = Some(Told {
                    second,
                    ids: vec![jti.to_owned()],
                });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_lately_is_answered_and_once() {
        let mut progress = Progress::default();
        for state in ["a", "b", "c", "d"] {
            progress.ask(state.to_owned());
        }
        assert_eq!(progress.answer("a", "1"), Answered::Never, "too long ago");
        assert_eq!(progress.answer("d", "2"), Answered::Now);
        assert_eq!(progress.answer("d", "2"), Answered::Before);
    }

    #[test]
    fn an_old_word_about_the_stream_is_no_news() {
        let mut progress = Progress::default();
        assert!(progress.tell("enabled", 10));
        assert!(progress.tell("paused", 10));
        assert!(!progress.tell("enabled", 10), "it comes again");
        assert!(progress.tell("again", 11));
        assert!(!progress.tell("enabled", 10));
    }

    #[test]
    fn what_was_stored_is_read_for_ever() {
        let written = r#"{"asked":[{"state":"s"}],"told":{"second":1,"ids":["j"]},"keys_at":"2026-01-01T00:00:00Z","acks":["a"],"errs":{"b":{"err":"invalid_key","description":"x"}}}"#;
        let progress: Progress = serde_json::from_str(written).unwrap();
        assert_eq!(serde_json::to_string(&progress).unwrap(), written);
        assert!(serde_json::from_str::<Progress>("{}").is_ok());
    }
}
