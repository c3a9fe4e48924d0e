//! What the operator lets settings reach: two folders of this machine, the hosts that were named, and
//! nothing else.
//!
//! Settings come from people over HTTP. Without this, whoever may create a target could have
//! any file of the machine sent to a server of their own, or written to.

use std::path::{Component, Path, PathBuf};

use super::{ConfigError, Credential};

/// What an environment variable begins with that targets may name.
pub const CREDENTIAL_PREFIX: &str = "TIDEGATE_CREDENTIAL_";
/// The port that a host is reached at when it was named without one.
const HTTPS: u16 = 443;

/// The port of a host that is granted without one.
const HTTPS: u16 = 443;

/// The folders that settings may name files in, and the hosts that they may name.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Credentials, one file each.
    pub credentials: Option<PathBuf>,
    /// Journals of sandboxes.
    pub sandbox: Option<PathBuf>,
    /// Hosts that sources may be asked at, and endpoints may be at: `HOST`, at the port of https, or `HOST:PORT`.
    pub reach: Vec<String>,
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

    /// Checks that a host may be reached at a port.
    ///
    /// # Errors
    ///
    /// When the operator has not named it.
    pub fn may_reach(&self, host: &str, port: u16) -> Result<(), ConfigError> {
        let wanted = format!("{host}:{port}");
        let is_named = self.reach.iter().any(|named| {
            let has_port = named
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if has_port {
                named.eq_ignore_ascii_case(&wanted)
            } else {
                port == HTTPS && named.eq_ignore_ascii_case(host)
            }
        });
        if is_named {
            return Ok(());
        }
        Err(ConfigError(format!(
            "`{wanted}` is not to be reached: the service is started with --reach {wanted} for that"
        )))
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
