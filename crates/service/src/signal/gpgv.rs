//! Asks `gpgv` whether a document was signed by a key that the operator pinned.
//!
//! The program verifies and does nothing else; decision 0021 says why it is one. It gets a home of its own with the keys and the
//! signature in it, the document through its input, and no more time and no more words than it needs. What it
//! says is judged by `verify::openpgp`.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::verify::openpgp::{Detached, Keyring, SignatureRefusal, judge};
use crate::app::App;

/// What is looked for on the path, unless the operator names it.
const PROGRAM: &str = "gpgv";
/// The longest that one document takes: 8 MiB are hashed in a tenth of a second.
const TIME_MAX: Duration = Duration::from_secs(10);
/// The most that it says: some lines for each signature.
const SAID_MAX: u64 = 64 << 10;
/// The most bytes of a file of keys.
const KEYS_MAX: u64 = 1 << 20;

/// Nobody proved who wrote a document.
#[derive(Debug, Error)]
pub enum Unproved {
    /// What is beside it is no signature, or not a good one.
    #[error(transparent)]
    Refused(#[from] SignatureRefusal),
    /// What is beside it cannot be read.
    #[error("the signature beside it: {0}")]
    Malformed(String),
    /// There is nothing to check it with.
    #[error(
        "the program `{0}` that checks signatures is not there: install the package gpgv, or name it with --gpgv"
    )]
    Missing(String),
    /// The program did not say.
    #[error("signatures cannot be checked: {0}")]
    Failed(String),
}

impl Unproved {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Malformed(_) => "signature_invalid",
            Self::Missing(_) => "gpgv_missing",
            Self::Failed(_) => "gpgv_failed",
        }
    }

    /// Says whether no other document can be checked either.
    #[must_use]
    pub const fn is_of_all(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Failed(_) => true,
            Self::Refused(_) | Self::Malformed(_) => false,
        }
    }
}

/// Reads the keys of a file in the folder of credentials.
///
/// # Errors
///
/// When it is not granted, cannot be read or holds no key.
pub fn keyring(app: &App, name: &Path) -> Result<Keyring, String> {
    let path = app.connectors.grants().credential(name);
    let path = path.map_err(|error| error.to_string())?;
    let shown = name.display();
    let failed =
        |error: std::io::Error| format!("the OpenPGP keys in `{shown}` cannot be read: {error}");
    if std::fs::metadata(&path).map_err(failed)?.len() > KEYS_MAX {
        return Err(format!(
            "`{shown}` is larger than a file of OpenPGP keys may be"
        ));
    }
    let file = std::fs::read(&path).map_err(failed)?;
    Keyring::parse(&file).map_err(|error| format!("`{shown}`: {error}"))
}

/// Finds the program.
///
/// # Errors
///
/// When it is not there, or may not be run.
pub fn program(app: &App) -> Result<PathBuf, Unproved> {
    let named = app.connectors.grants().gpgv.clone();
    let named = named.unwrap_or_else(|| PathBuf::from(PROGRAM));
    let can_run = |path: &PathBuf| {
        std::fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let mut places = vec![named.clone()];
    if named.components().count() == 1 {
        let path = std::env::var_os("PATH").unwrap_or_default();
        places = std::env::split_paths(&path)
            .map(|folder| folder.join(&named))
            .collect();
    }
    let missing = || Unproved::Missing(named.display().to_string());
    places.into_iter().find(can_run).ok_or_else(missing)
}

/// Checks a document by what is beside it.
///
/// # Errors
///
/// Unless a pinned key has signed exactly this.
pub async fn verify(
    app: &App,
    keys: &Keyring,
    document: &[u8],
    beside: &[u8],
) -> Result<(), Unproved> {
    let malformed =
        |error: super::verify::openpgp::Malformed| Unproved::Malformed(error.to_string());
    let signature = Detached::parse(beside).map_err(malformed)?;
    let program = program(app)?;
    let home = Home::make(&app.ids.token(), keys, &signature)?;
    let said = asked(&program, &home, document, TIME_MAX).await?;
    Ok(judge(&said, keys)?)
}

/// A folder that only we can read, with what the program needs. It is gone when this is.
#[derive(Debug)]
struct Home(PathBuf);

impl Home {
    fn make(name: &str, keys: &Keyring, signature: &Detached) -> Result<Self, Unproved> {
        let folder = std::env::temp_dir().join(format!("tidegate-gpgv-{name}"));
        let failed = |error: std::io::Error| {
            let shown = std::env::temp_dir();
            Unproved::Failed(format!(
                "nothing can be written to `{}`: {error}",
                shown.display()
            ))
        };
        // It must be new: nobody else can have put anything into it.
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(failed)?;
        let home = Self(folder);
        std::fs::write(home.keys(), keys.bytes()).map_err(failed)?;
        std::fs::write(home.signature(), signature.bytes()).map_err(failed)?;
        Ok(home)
    }

    fn keys(&self) -> PathBuf {
        self.0.join("keys.gpg")
    }

    fn signature(&self) -> PathBuf {
        self.0.join("signature")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a folder could not be removed");
        }
    }
}

async fn asked(
    program: &Path,
    home: &Home,
    document: &[u8],
    time_max: Duration,
) -> Result<String, Unproved> {
    let failed =
        |error: std::io::Error| Unproved::Failed(format!("`{}`: {error}", program.display()));
    // Nothing of our surroundings: neither another home nor another language.
    let mut child = Command::new(program)
        .env_clear()
        .env("GNUPGHOME", &home.0)
        .env("LC_ALL", "C")
        .args(["--status-fd", "1", "--keyring"])
        .args([home.keys(), home.signature()])
        .arg("-")
        .current_dir(&home.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let heard = timeout(time_max, hear(&mut child, document)).await;
    let Ok(heard) = heard else {
        // Waited for, so that nothing of it is left when the folder goes.
        let _ = child.kill().await;
        let sentence = format!("`{}` took longer than {time_max:?}", program.display());
        return Err(Unproved::Failed(sentence));
    };
    let (said, status) = heard.map_err(failed)?;
    if status.code().is_none() {
        let sentence = format!("`{}` was killed", program.display());
        return Err(Unproved::Failed(sentence));
    }
    Ok(said)
}

/// Gives it the document, and hears all that it says until it ends.
async fn hear(
    child: &mut Child,
    document: &[u8],
) -> std::io::Result<(String, std::process::ExitStatus)> {
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let give = async {
        if let Some(mut input) = input {
            // Whoever knows the answer already reads no further.
            let _ = input.write_all(document).await;
        }
    };
    let hear = async {
        let mut said = Vec::new();
        if let Some(output) = output {
            output.take(SAID_MAX).read_to_end(&mut said).await?;
        }
        Ok::<_, std::io::Error>(said)
    };
    let ((), said) = tokio::join!(give, hear);
    let said = String::from_utf8_lossy(&said?).into_owned();
    Ok((said, child.wait().await?))
}

#[cfg(test)]
mod tests;
