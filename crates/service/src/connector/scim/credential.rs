//! The bearer token, read from where it is kept. It is never stored, logged or shown.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::connector::ConfigError;
use crate::connector::grants::CREDENTIAL_PREFIX;

/// How long a token is remembered: reading it for each of a thousand requests a second would be
/// waste, and a renewed one is taken up within this time, or at once when the old one is refused.
const REMEMBERED_MS: u64 = 2000;

/// Where a credential is kept: never here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// In an environment variable of the service.
    Env(String),
    /// In a file of the folder of credentials.
    File(PathBuf),
}

/// Refuses settings that hold a secret where a reference belongs, without repeating what they hold:
/// a message of the reader would show it.
pub(super) fn check_reference(config: &serde_json::Value) -> Result<(), ConfigError> {
    let is_fine = match config.get("credential") {
        None | Some(serde_json::Value::Null) => true,
        Some(serde_json::Value::Object(fields)) => fields.iter().all(|(kind, value)| {
            let value = value.as_str().unwrap_or_default();
            match kind.as_str() {
                "env" => is_variable(value),
                "file" => is_path(value),
                _ => false,
            }
        }),
        Some(_) => false,
    };
    if is_fine {
        return Ok(());
    }
    let sentence = "scim settings: credential is {\"env\": \"TIDEGATE_CREDENTIAL_NAME\"} or \
                    {\"file\": \"name inside the folder of credentials\"}; the secret itself is never given here";
    Err(ConfigError(sentence.to_owned()))
}

fn is_variable(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.starts_with(CREDENTIAL_PREFIX) && name.chars().all(plain)
}

fn is_path(name: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
    !name.is_empty() && name.chars().all(plain)
}

/// Reads the token of one server.
#[derive(Debug)]
pub(super) struct Keeper {
    from: Option<Credential>,
    clock: Clock,
    remembered: Mutex<Option<Remembered>>,
}

struct Remembered {
    token: String,
    read_ms: u64,
}

impl std::fmt::Debug for Remembered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembered(..)")
    }
}

impl Keeper {
    /// Keeps what is read from a variable, or from a file whose whole path is known by now.
    pub(super) fn new(from: Option<Credential>, clock: Clock) -> Self {
        Self {
            from,
            clock,
            remembered: Mutex::new(None),
        }
    }

    /// Returns the token, if requests carry one.
    pub(super) fn token(&self) -> Result<Option<String>, String> {
        let Some(from) = &self.from else {
            return Ok(None);
        };
        let now = self.clock.monotonic().0;
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = remembered.as_ref()
            && now.saturating_sub(known.read_ms) < REMEMBERED_MS
        {
            return Ok(Some(known.token.clone()));
        }
        let token = read(from)?;
        *remembered = Some(Remembered {
            token: token.clone(),
            read_ms: now,
        });
        Ok(Some(token))
    }

    /// Forgets a token that was refused, so that the next request reads it anew.
    pub(super) fn forget(&self) {
        *self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes the token out of a text that a server said: some repeat what they were sent.
    pub(super) fn censor(&self, text: String) -> String {
        match self.token() {
            Ok(Some(token)) if text.contains(&token) => text.replace(&token, "[credential]"),
            _ => text,
        }
    }
}

fn read(from: &Credential) -> Result<String, String> {
    let (text, place) = match from {
        Credential::Env(name) => {
            let place = format!("the environment variable `{name}`");
            match std::env::var(name) {
                Ok(text) => (text, place),
                Err(_) => return Err(format!("{place} is not set for this service")),
            }
        }
        Credential::File(path) => {
            let place = format!("the file `{}`", path.display());
            match std::fs::read_to_string(path) {
                Ok(text) => (text, place),
                Err(error) => return Err(format!("{place} cannot be read: {error}")),
            }
        }
    };
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{place} holds no token: one word of plain letters, digits and signs"
        ));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_in_the_settings_is_refused_and_not_repeated() {
        for credential in [
            json!("hunter2"),
            json!({"env": "hunter2-and-more"}),
            json!({"env": "TIDEGATE_DATABASE"}),
            json!({"file": "hunter2 "}),
            json!({"token": "hunter2"}),
            json!(["hunter2"]),
        ] {
            let refused = check_reference(&json!({"credential": credential}));
            let sentence = refused.unwrap_err().to_string();
            assert!(!sentence.contains("hunter2"), "{sentence}");
        }
        for credential in [
            json!(null),
            json!({"env": "TIDEGATE_CREDENTIAL_M365"}),
            json!({"file": "m365"}),
        ] {
            check_reference(&json!({"credential": credential})).unwrap();
        }
    }

    #[test]
    fn what_a_server_repeats_does_not_hold_the_token() {
        let path = std::env::temp_dir().join(format!("tidegate-keeper-{}", std::process::id()));
        std::fs::write(&path, "hunter2\n").unwrap();
        let keeper = Keeper::new(Some(Credential::File(path.clone())), Clock::system());
        let said = keeper.censor("bad: Bearer hunter2".to_owned());
        std::fs::remove_file(path).unwrap();
        assert_eq!(said, "bad: Bearer [credential]");
        assert!(!format!("{keeper:?}").contains("hunter2"));
    }
}
