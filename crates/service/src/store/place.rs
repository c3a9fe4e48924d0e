//! Where a SQLite file was when it was opened, and whether it still is.
//!
//! A file that is deleted or replaced under a running process goes on being written, where nobody will
//! ever read it: a halt would be acknowledged and forgotten with the next start. So whoever writes looks first.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::{DatabaseUrl, StoreError};

/// A file by its path, and by what the system knows it by.
#[derive(Debug)]
pub(super) struct FilePlace {
    path: PathBuf,
    identity: (u64, u64),
}

impl FilePlace {
    /// Notes where an opened database is; `None` on PostgreSQL, which looks after its own files.
    pub(super) fn of(url: &DatabaseUrl) -> Result<Option<Self>, StoreError> {
        let DatabaseUrl::Sqlite(path) = url else {
            return Ok(None);
        };
        let failed = |error: std::io::Error| StoreError::Unavailable(format!("{path}: {error}"));
        let path = std::fs::canonicalize(path).map_err(failed)?;
        let found = std::fs::metadata(&path).map_err(failed)?;
        let identity = (found.dev(), found.ino());
        Ok(Some(Self { path, identity }))
    }

    /// Fails when the file is gone, or another one is in its place.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let found = std::fs::metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if found.is_ok_and(|found| found == self.identity) {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!(
            "{}: the database was deleted or replaced under the running service: stop it, put the right file in place, \
             and start it again",
            self.path.display()
        )))
    }
}
