//! Whether this store is as new as what was served before, or an older one that somebody has put in its place.
//!
//! A backup that is restored, and a standby that is promoted before it has heard everything, forget what
//! was halted last, and would count the same epochs again. Two things tell:
//!
//! * a *mark* beside a SQLite file: the highest epoch that was ever served from there;
//! * the *home* of a PostgreSQL database: the cluster and the timeline it was last served from, and the numbers that
//!   its table and the database have there. A promoted standby is on another timeline; a dump that is restored makes
//!   its tables anew, and a copy is another database, also in the same cluster.
//!
//! Nothing here decides anything: `operations::restored` halts.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::{Deserialize, Serialize};
use tidegate_orchestrator::ids::{Epoch, Timestamp, from_millis};

use super::{DatabaseUrl, StoreError, query};

/// The highest epoch that this process, or one before it, has seen.
#[derive(Debug)]
pub(super) struct Mark {
    /// Beside the SQLite file; nowhere for PostgreSQL.
    path: Option<PathBuf>,
    seen: AtomicI64,
    /// Which installation it is of, once that was read.
    instance: OnceLock<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    instance: String,
    epoch: i64,
}

/// A database as it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which installation it is.
    pub instance: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// Where it was served from last; nothing before the first time, and on SQLite.
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
    pub(super) fn of(url: &DatabaseUrl) -> Self {
        let path = match url {
            DatabaseUrl::Sqlite(path) => Some(PathBuf::from(format!("{path}.mark"))),
            DatabaseUrl::Postgres(_) => None,
        };
        Self {
            path,
            seen: AtomicI64::new(0),
            instance: OnceLock::new(),
        }
    }

    pub(super) fn instance(&self) -> Option<&str> {
        self.instance.get().map(String::as_str)
    }

    /// Returns the highest epoch ever seen of an installation.
    pub(super) fn highest(&self, instance: &str) -> Epoch {
        let written = self.path.as_ref().and_then(|path| {
            let text = std::fs::read_to_string(path).ok()?;
            serde_json::from_str::<Written>(&text).ok()
        });
        let written = written.filter(|written| written.instance == instance);
        let written = written.map_or(0, |written| written.epoch);
        Epoch::new(self.seen.load(Ordering::SeqCst).max(written))
    }

    /// Returns the highest epoch that this process has seen.
    pub(super) fn seen(&self) -> Epoch {
        Epoch::new(self.seen.load(Ordering::SeqCst))
    }

    /// Remembers an epoch that is in force. A mark that cannot be written costs nothing but the warning.
    pub(super) fn raise(&self, instance: &str, epoch: Epoch) {
        self.instance.get_or_init(|| instance.to_owned());
        let before = self.seen.fetch_max(epoch.get(), Ordering::SeqCst);
        let Some(path) = self.path.as_ref().filter(|_| before < epoch.get()) else {
            return;
        };
        let written = Written {
            instance: instance.to_owned(),
            epoch: epoch.get(),
        };
        let beside = path.with_extension("mark.new");
        let done = serde_json::to_vec(&written)
            .map_err(std::io::Error::other)
            .and_then(|bytes| std::fs::write(&beside, bytes))
            .and_then(|()| std::fs::rename(&beside, path));
        if let Err(error) = done {
            tracing::warn!(path = %path.display(), %error, "the mark of the newest epoch could not be written");
        }
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
        "NULL AS home_now, NULL AS at".to_owned()
    };
    let sql = format!("SELECT instance_id, epoch, home, {here} FROM installation WHERE id = 1");
    let raw: Option<RawFound> = query::one(db, sql, []).await?;
    let raw = raw.ok_or(StoreError::NotFound)?;
    Ok(Found {
        instance: raw.instance_id,
        epoch: Epoch::new(raw.epoch),
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
