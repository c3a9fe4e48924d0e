//! SCIM 2.0 (RFC 7643, RFC 7644): people become users of a server that somebody else runs.

use std::time::Duration;

use tidegate_orchestrator::ledger::SlotIndex;

use super::{CheckReport, ConfigError, Person, SendGate, SendResult, TargetTrouble};
use crate::clock::Clock;

/// A SCIM server.
#[derive(Debug)]
pub struct Scim {
    _clock: Clock,
}

impl Scim {
    /// Makes the way to a server out of its settings; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// When the settings are not understood.
    pub fn new(_config: &serde_json::Value, clock: &Clock) -> Result<Self, ConfigError> {
        Ok(Self {
            _clock: clock.clone(),
        })
    }

    /// Returns how long one request may take.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Sends people.
    pub async fn send(
        &self,
        _people: Vec<Person>,
        _gate: &SendGate,
        _on_result: &(impl Fn(SlotIndex, SendResult) + Sync),
    ) -> Option<TargetTrouble> {
        None
    }

    /// Looks at the server.
    pub async fn check(&self) -> CheckReport {
        CheckReport {
            ok: false,
            items: Vec::new(),
            capability: serde_json::Value::Null,
        }
    }
}
