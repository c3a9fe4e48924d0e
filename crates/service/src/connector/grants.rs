//! What the operator lets settings reach on this machine: two folders, and nothing else. Which hosts they may
//! reach is in `fetch::reach`.
//!
//! Settings come from people over HTTP. Without this, whoever may create a target could have
//! any file of the machine sent to a server of their own, or written to.

use std::path::{Component, Path, PathBuf};

use super::{ConfigError, Credential};

/// What an environment variable begins with that targets may name.
pub const CREDENTIAL_PREFIX: &str = "TIDEGATE_CREDENTIAL_";

/// The folders that settings may name files in, and the program that signatures are checked with.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Credentials, one file each.
    pub credentials: Option<PathBuf>,
    /// Journals of sandboxes.
    pub sandbox: Option<PathBuf>,
    /// The program that checks OpenPGP signatures; `gpgv` on the path unless said.
    pub gpgv: Option<PathBuf>,
}

impl Grants {
    /// Returns the file of a credential.
    ///
    /// # Errors
    ///
    /// When there is no folder of credentials, or the name leads out of it.
    pub fn credential(&self, name: &Path) -> Result<PathBuf, ConfigError> {
        inside(
            self.credentials.as_deref(),
            name,
            "credential",
            "--credentials",
        )
    }

    /// Reads a secret from where it is kept.
    ///
    /// # Errors
    ///
    /// When it is not there, or not granted. The message never shows it.
    pub fn secret(&self, from: &Credential) -> Result<String, ConfigError> {
        let found = match from {
            Credential::Env(name) if name.starts_with(CREDENTIAL_PREFIX) => std::env::var(name)
                .map_err(|_| {
                    ConfigError(format!("the variable `{name}` is not set for this service"))
                })?,
            Credential::Env(_) => {
                return Err(ConfigError(format!(
                    "a variable with a credential begins with `{CREDENTIAL_PREFIX}`"
                )));
            }
            Credential::File(name) => {
                std::fs::read_to_string(self.credential(name)?).map_err(|error| {
                    ConfigError(format!(
                        "the credential `{}` cannot be read: {error}",
                        name.display()
                    ))
                })?
            }
        };
        Ok(found.trim().to_owned())
    }

    /// Returns the file of a sandbox's journal.
    ///
    /// # Errors
    ///
    /// When there is no folder of journals, or the name leads out of it.
    pub fn journal(&self, name: &Path) -> Result<PathBuf, ConfigError> {
        inside(self.sandbox.as_deref(), name, "journal", "--sandbox-files")
    }
}

fn inside(
    folder: Option<&Path>,
    name: &Path,
    what: &str,
    option: &str,
) -> Result<PathBuf, ConfigError> {
    let Some(folder) = folder else {
        return Err(ConfigError(format!(
            "this service has no folder of files for {what}s: start it with {option} FOLDER"
        )));
    };
    let mut parts = name.components().peekable();
    let is_inside =
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)));
    if is_inside {
        Ok(folder.join(name))
    } else {
        Err(ConfigError(format!(
            "a {what} is named by its path inside the folder given with {option}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_folder_and_nothing_is_granted_by_itself() {
        let grants = Grants {
            credentials: Some(PathBuf::from("/run/credentials")),
            ..Grants::default()
        };
        let file = |name: &str| grants.credential(Path::new(name)).ok();
        assert_eq!(file("m365"), Some(PathBuf::from("/run/credentials/m365")));
        assert_eq!(file("a/b"), Some(PathBuf::from("/run/credentials/a/b")));
        for name in ["", "/etc/shadow", "../x", "a/../../x", "."] {
            assert_eq!(file(name), None, "{name}");
        }
        assert!(grants.journal(Path::new("j")).is_err());
    }
}
