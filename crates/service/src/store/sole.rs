//! One process per SQLite file: who serves it holds a lock that the operating system takes back when the
//! process is gone, however it went.
//!
//! It is a lock on a file beside the database and not on the database itself, whose locks are SQLite's.
//! Looking at a database (`fsck`) and bringing it up to date (`migrate`) need no lock. PostgreSQL serves
//! many processes and has none.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::{DatabaseUrl, StoreError};

/// Whoever has this is the only process that serves the file. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Sole {
    _file: File,
}

impl Sole {
    /// Takes the lock of a SQLite file; `None` on PostgreSQL.
    ///
    /// # Errors
    ///
    /// When another process serves the file, or the lock cannot be made.
    pub fn take(url: &DatabaseUrl) -> Result<Option<Self>, StoreError> {
        let DatabaseUrl::Sqlite(path) = url else {
            return Ok(None);
        };
        let beside = format!("{}.lock", real_path(path)?.display());
        let failed = |error: &std::io::Error| StoreError::Unavailable(format!("{beside}: {error}"));
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&beside)
            .map_err(|error| failed(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Err(StoreError::Unavailable(format!(
                "another process serves `{path}`: a SQLite file has one; several need PostgreSQL"
            ))),
            Err(TryLockError::Error(error)) => Err(failed(&error)),
        }
    }
}

/// Returns the path of a database whatever links lead to it, so that there is one lock for it. A file that
/// is not there yet is made: only what exists has one true path.
fn real_path(path: &str) -> Result<PathBuf, StoreError> {
    let failed = |error: std::io::Error| StoreError::Unavailable(format!("{path}: {error}"));
    if let Some(folder) = Path::new(path).parent()
        && !folder.as_os_str().is_empty()
    {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    file.map_err(failed)?;
    std::fs::canonicalize(path).map_err(failed)
}
