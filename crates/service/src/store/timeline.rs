//! Whether this store is as new as what was served before, or an older one that somebody has put in its place.
//!
//! A backup that is restored, and a standby that is promoted before it has heard everything, forget what
//! was halted last, and would count the same epochs again. Two things tell:
//!
//! * a *mark* beside a SQLite file: the highest epoch that was ever served from there, and the end of the trail. A
//!   file that was served with a mark and has none is a copy of it, or was restored on another machine;
//! * the *home* of a PostgreSQL database: the cluster and the timeline it was last served from, and the numbers that
//!   its table and the database have there. A promoted standby is on another timeline; a dump that is restored makes
//!   its tables anew, and a copy is another database, also in the same cluster.
//!
//! Nothing here decides anything: `operations::restored` halts.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::{Epoch, Timestamp, from_millis};

use super::{DatabaseUrl, StoreError, query};

/// What a database says of its home that is a file: whether it is in its place the mark beside it tells.
const MARKED: &str = "'marked'";

/// How new a store was when it was seen newest, by this process or one before it.
#[derive(Debug)]
pub(super) struct Mark {
    /// Beside the SQLite file; nowhere for PostgreSQL.
    path: Option<PathBuf>,
    epoch: AtomicI64,
    trail_end: AtomicI64,
    /// Which installation it is of, once that was read.
    instance: OnceLock<String>,
    /// One writes at a time, and what is newest by then.
    writing: Mutex<()>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    instance: String,
    epoch: i64,
    /// A version before this one wrote none.
    #[serde(default)]
    trail_end: i64,
}

/// How new a store was when it was seen newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// The highest epoch.
    pub epoch: Epoch,
    /// The number of the last entry of the trail.
    pub trail_end: i64,
    /// Nothing beside the SQLite file says so, or it is about another installation.
    pub is_unmarked: bool,
}

/// A database as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which installation it is.
    pub instance: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// The number of the last entry of its trail.
    pub trail_end: i64,
    /// Where it was served from last; nothing before the first time.
    pub home_was: Option<String>,
    /// Where it is now.
    pub home: Option<String>,
    /// The time by its own clock, read with the epoch: what made the epoch was committed by then. Nothing on
    /// SQLite, which has no clock.
    pub at: Option<Timestamp>,
}

#[derive(Debug, FromQueryResult)]
struct RawFound {
    instance_id: String,
    epoch: i64,
    trail_end: i64,
    home: Option<String>,
    home_now: Option<String>,
    at: Option<i64>,
}

impl Found {
    /// Says whether it is served from where it was served last, as far as that was written down: a version before
    /// this one wrote no number of the table.
    #[must_use]
    pub fn is_at_home(&self) -> bool {
        match (&self.home_was, &self.home) {
            (Some(was), Some(is)) => is
                .strip_prefix(was.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            (None, _) | (_, None) => true,
        }
    }
}

impl Mark {
    /// Finds the mark of a database that is there.
    pub(super) fn of(url: &DatabaseUrl) -> Self {
        let path = match url {
            DatabaseUrl::Sqlite(path) => {
                // Whatever links lead to it, there is one file, and one mark.
                let real = std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
                let mut beside = real.into_os_string();
                beside.push(".mark");
                Some(PathBuf::from(beside))
            }
            DatabaseUrl::Postgres(_) => None,
        };
        Self {
            path,
            epoch: AtomicI64::new(0),
            trail_end: AtomicI64::new(0),
            instance: OnceLock::new(),
            writing: Mutex::default(),
        }
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.instance.get().map(String::as_str)
    }

    /// Returns how new an installation ever was.
    pub(super) fn newest(&self, instance: &str) -> Newest {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let trail_end = self.trail_end.load(Ordering::SeqCst);
        let mut newest = Newest {
            epoch: Epoch::new(epoch),
            trail_end,
            is_unmarked: false,
        };
        let Some(path) = &self.path else {
            return newest;
        };
        let written = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice::<Written>(&bytes),
            Err(error) => {
                // One that went while this process serves is written anew with the next epoch.
                newest.is_unmarked =
                    error.kind() == ErrorKind::NotFound && self.instance.get().is_none();
                return newest;
            }
        };
        match written {
            Ok(written) if written.instance == instance => {
                newest.epoch = Epoch::new(epoch.max(written.epoch));
                newest.trail_end = trail_end.max(written.trail_end);
            }
            Ok(_) => newest.is_unmarked = self.instance.get().is_none(),
            // A power cut may leave an empty one.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the mark of the newest epoch is damaged");
            }
        }
        newest
    }

    /// Returns the highest epoch that this process has seen.
    pub(super) fn epoch_seen(&self) -> Epoch {
        Epoch::new(self.epoch.load(Ordering::SeqCst))
    }

    /// Remembers an epoch that is in force, and how far the trail goes when that is known. A mark that cannot be
    /// written costs nothing but the warning.
    pub(super) fn raise(&self, instance: &str, epoch: Epoch, trail_end: Option<i64>) {
        self.instance.get_or_init(|| instance.to_owned());
        let end = trail_end.unwrap_or(0);
        let epoch_was = self.epoch.fetch_max(epoch.get(), Ordering::SeqCst);
        let end_was = self.trail_end.fetch_max(end, Ordering::SeqCst);
        if epoch_was < epoch.get() || end_was < end {
            self.try_write(false);
        }
    }

    /// Remembers a store that was taken over as it is, older than it was.
    pub(super) fn start_over(&self, instance: &str, epoch: Epoch, trail_end: i64) {
        self.trail_end.store(trail_end, Ordering::SeqCst);
        self.raise(instance, epoch, Some(trail_end));
        self.try_write(false);
    }

    /// Writes the mark so that it outlives a power cut; says whether it is there.
    pub(super) fn keep(&self) -> bool {
        self.try_write(true)
    }

    fn try_write(&self, is_for_good: bool) -> bool {
        let (Some(path), Some(instance)) = (&self.path, self.instance.get()) else {
            return true;
        };
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = Written {
            instance: instance.clone(),
            epoch: self.epoch.load(Ordering::SeqCst),
            trail_end: self.trail_end.load(Ordering::SeqCst),
        };
        match write(path, &written, is_for_good) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the mark of the newest epoch could not be written");
                false
            }
        }
    }
}

fn write(path: &Path, written: &Written, is_for_good: bool) -> std::io::Result<()> {
    let beside = path.with_extension("mark.new");
    let mut file = File::create(&beside)?;
    file.write_all(&serde_json::to_vec(written)?)?;
    if is_for_good {
        file.sync_all()?;
    }
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) if is_for_good && !folder.as_os_str().is_empty() => {
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

/// Reads which store this is, how new, where it is, and the time there: one round trip, for a hold waits for it.
pub async fn found<C: ConnectionTrait>(db: &C, is_postgres: bool) -> Result<Found, StoreError> {
    let here = if is_postgres {
        // The timeline of what is written now; that of the last checkpoint may lag behind a promotion.
        format!(
            "(SELECT system_identifier::text FROM pg_control_system()) || '/' || \
             substring(pg_walfile_name(pg_current_wal_lsn()) for 8) || '/' || 'installation'::regclass::oid || '/' || \
             (SELECT oid FROM pg_database WHERE datname = current_database()) AS home_now, {} AS at",
            query::NOW
        )
    } else {
        format!("{MARKED} AS home_now, NULL AS at")
    };
    let sql = format!(
        "SELECT instance_id, epoch, (SELECT seq FROM audit_head WHERE id = 1) AS trail_end, home, {here} \
         FROM installation WHERE id = 1"
    );
    let raw: Option<RawFound> = query::one(db, sql, []).await?;
    let raw = raw.ok_or(StoreError::NotFound)?;
    Ok(Found {
        instance: raw.instance_id,
        epoch: Epoch::new(raw.epoch),
        trail_end: raw.trail_end,
        home_was: raw.home,
        home: raw.home_now,
        at: raw.at.and_then(from_millis),
    })
}

/// Takes a store over as it is: where it is served from, and an epoch that nobody has seen.
pub async fn adopt<C: ConnectionTrait>(
    db: &C,
    home: Option<&str>,
    epoch: Epoch,
) -> Result<(), StoreError> {
    let sql = "UPDATE installation SET home = $1, epoch = $2 WHERE id = 1";
    query::execute(db, sql, [home.into(), epoch.get().into()]).await?;
    Ok(())
}
