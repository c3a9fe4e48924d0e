//! Whether this store is as new as what was served before, or an older one that somebody has put in its place.
//!
//! A backup that is restored, and a standby that is promoted before it has heard everything, forget what
//! was halted last, and would count the same epochs again. Two things tell:
//!
//! * a *mark* beside a SQLite file: the highest epoch that was ever served from there, and the last entry of the trail.
//!   A file that was served with a mark and has none is a copy of it, or was restored on another machine;
//! * the *home* of a PostgreSQL database: the cluster and the timeline it was last served from, and the numbers that
//!   its table and the database have there. A promoted standby is on another timeline; a dump that is restored makes
//!   its tables anew, and a copy is another database, also in the same cluster.
//!
//! Nothing here decides anything: `operations::restored` halts.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::{Epoch, Timestamp, from_millis};

use super::{DatabaseUrl, StoreError, query};

/// What a database says of its home that is a file: whether it is in its place the mark beside it tells.
const MARKED: &str = "'marked'";

/// An entry of the trail, by its number and its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailEnd {
    /// Its number.
    pub seq: i64,
    /// Its hash, in hexadecimal digits.
    pub hash: String,
}

/// How new a store was when it was seen newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newest {
    /// The highest epoch.
    pub epoch: Epoch,
    /// The last entry of the trail. On SQLite alone: of several processes one may have missed that a store was taken
    /// over older than it was.
    pub trail_end: Option<TrailEnd>,
    /// Nothing that can be read beside the SQLite file says so, or it is about another installation.
    pub is_unmarked: bool,
}

/// What is written beside the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    instance: String,
    epoch: i64,
    /// A version before this one wrote none.
    #[serde(default)]
    trail_end: Option<TrailEnd>,
}

/// How new a store was when it was seen newest, by this process or one before it.
#[derive(Debug)]
pub(super) struct Mark {
    /// Beside the SQLite file; nowhere for PostgreSQL.
    path: Option<PathBuf>,
    /// What was there when the file was opened. Whoever serves it then knows better.
    left: Left,
    newest: Mutex<(Epoch, Option<TrailEnd>)>,
    /// Which installation it is of, once that was read.
    instance: OnceLock<String>,
    /// What the file has. One writes at a time.
    written: Mutex<Written>,
    /// Whether it can be written so that it outlives a power cut: tried once.
    keeps: OnceLock<bool>,
}

/// What the process before this one has left beside the file.
#[derive(Debug)]
enum Left {
    Mark(Written),
    /// A power cut may leave an empty one: nothing is known, and nothing is wrong.
    Damaged,
    Nothing,
}

impl Left {
    fn read(path: &Path) -> Self {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::Nothing,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the mark of the database cannot be read");
                return Self::Nothing;
            }
        };
        serde_json::from_slice(&bytes).map_or_else(
            |error| {
                tracing::warn!(path = %path.display(), %error, "the mark of the database is damaged");
                Self::Damaged
            },
            Self::Mark,
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A database as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which installation it is.
    pub instance: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// The last entry of its trail; nothing on PostgreSQL.
    pub trail_end: Option<TrailEnd>,
    /// Whether its trail has the entry that was asked for.
    pub has_entry: bool,
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
    home: Option<String>,
    home_now: Option<String>,
    at: Option<i64>,
    seq: Option<i64>,
    hash: Option<String>,
    hash_there: Option<String>,
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
        let (path, left) = match url {
            DatabaseUrl::Postgres(_) => (None, Left::Nothing),
            DatabaseUrl::Sqlite(given) => {
                // Whatever links lead to it, there is one file, and one mark.
                let real = std::fs::canonicalize(given).unwrap_or_else(|_| PathBuf::from(given));
                let path = beside(&real);
                let left = match Left::read(&path) {
                    // A version before this one wrote it beside the link.
                    Left::Nothing => Left::read(&beside(Path::new(given))),
                    left => left,
                };
                (Some(path), left)
            }
        };
        Self {
            path,
            left,
            newest: Mutex::default(),
            instance: OnceLock::new(),
            written: Mutex::default(),
            keeps: OnceLock::new(),
        }
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.instance.get().map(String::as_str)
    }

    /// Returns how new an installation ever was.
    pub(super) fn newest(&self, instance: &str) -> Newest {
        let (epoch, trail_end) = lock(&self.newest).clone();
        let newest = Newest {
            epoch,
            trail_end,
            is_unmarked: false,
        };
        if self.path.is_none() || self.instance.get().is_some() {
            return newest;
        }
        match &self.left {
            Left::Mark(left) if left.instance == instance => Newest {
                epoch: Epoch::new(left.epoch),
                trail_end: left.trail_end.clone(),
                is_unmarked: false,
            },
            Left::Damaged => newest,
            Left::Mark(_) | Left::Nothing => Newest {
                is_unmarked: true,
                ..newest
            },
        }
    }

    /// Returns the highest epoch that this process has seen.
    pub(super) fn epoch_seen(&self) -> Epoch {
        lock(&self.newest).0
    }

    /// Remembers an epoch that is in force, and how far the trail goes when that is known. A mark that cannot be
    /// written costs nothing but the warning.
    pub(super) fn raise(&self, instance: &str, epoch: Epoch, trail_end: Option<&TrailEnd>) {
        let is_new_epoch;
        {
            let mut newest = lock(&self.newest);
            is_new_epoch = newest.0 < epoch;
            newest.0 = newest.0.max(epoch);
            let known = newest.1.as_ref().map_or(0, |end| end.seq);
            if let Some(end) = trail_end.filter(|end| end.seq > known) {
                newest.1 = Some(end.clone());
            }
        }
        self.instance.get_or_init(|| instance.to_owned());
        if trail_end.is_some() && !is_new_epoch {
            // Many come at once, and a halt waits behind them: whoever writes now writes enough.
            if let Ok(written) = self.written.try_lock() {
                self.write_as(written, false);
            }
            return;
        }
        self.write(false);
    }

    /// Remembers a store that was taken over as it is, older than it was.
    pub(super) fn start_over(&self, instance: &str, epoch: Epoch, trail_end: Option<TrailEnd>) {
        {
            let mut newest = lock(&self.newest);
            *newest = (newest.0.max(epoch), trail_end);
        }
        self.instance.get_or_init(|| instance.to_owned());
        self.write(true);
    }

    /// Writes the mark so that it outlives a power cut.
    pub(super) fn keep(&self) {
        self.write(true);
    }

    /// Says whether the mark can be kept. Where it cannot, it is not tried with every look.
    pub(super) fn keeps(&self) -> bool {
        *self.keeps.get_or_init(|| self.write(true))
    }

    /// Writes what is newest by then, unless the file has it; says whether it has.
    fn write(&self, is_for_good: bool) -> bool {
        self.write_as(lock(&self.written), is_for_good)
    }

    fn write_as(&self, mut written: MutexGuard<'_, Written>, is_for_good: bool) -> bool {
        let (Some(path), Some(instance)) = (&self.path, self.instance.get()) else {
            return true;
        };
        let (epoch, trail_end) = lock(&self.newest).clone();
        let new = Written {
            instance: instance.clone(),
            epoch: epoch.get(),
            trail_end,
        };
        if *written == new && !is_for_good {
            return true;
        }
        match write(path, &new, is_for_good) {
            Ok(()) => {
                *written = new;
                true
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the mark of the database could not be written");
                false
            }
        }
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".mark");
    PathBuf::from(name)
}

fn write(path: &Path, written: &Written, is_for_good: bool) -> std::io::Result<()> {
    let new = path.with_extension("mark.new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec(written)?)?;
    if is_for_good {
        file.sync_all()?;
    }
    std::fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) if is_for_good && !folder.as_os_str().is_empty() => {
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

/// Reads which store this is, how new, where it is, whether its trail has an entry, and the time there: one round trip,
/// for a hold waits for it.
pub async fn found<C: ConnectionTrait>(
    db: &C,
    is_postgres: bool,
    entry: Option<&TrailEnd>,
) -> Result<Found, StoreError> {
    let here = if is_postgres {
        // The timeline of what is written now; that of the last checkpoint may lag behind a promotion.
        format!(
            "(SELECT system_identifier::text FROM pg_control_system()) || '/' || \
             substring(pg_walfile_name(pg_current_wal_lsn()) for 8) || '/' || 'installation'::regclass::oid || '/' || \
             (SELECT oid FROM pg_database WHERE datname = current_database()) AS home_now, {} AS at, \
             NULL::bigint AS seq, NULL AS hash, NULL AS hash_there",
            query::NOW
        )
    } else {
        let seq = entry.map_or(0, |entry| entry.seq);
        format!(
            "{MARKED} AS home_now, NULL AS at, (SELECT seq FROM audit_head) AS seq, \
             (SELECT lower(hex(hash)) FROM audit_head) AS hash, \
             (SELECT lower(hex(hash)) FROM audit WHERE seq = {seq}) AS hash_there"
        )
    };
    let sql = format!("SELECT instance_id, epoch, home, {here} FROM installation WHERE id = 1");
    let raw: Option<RawFound> = query::one(db, sql, []).await?;
    let raw = raw.ok_or(StoreError::NotFound)?;
    let trail_end = raw.seq.zip(raw.hash);
    Ok(Found {
        instance: raw.instance_id,
        epoch: Epoch::new(raw.epoch),
        trail_end: trail_end.map(|(seq, hash)| TrailEnd { seq, hash }),
        has_entry: entry.is_none_or(|entry| raw.hash_there.as_ref() == Some(&entry.hash)),
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
