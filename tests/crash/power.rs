//! A power cut on SQLite: the files as they were at some instant, and less of the log than was written.
//!
//! The service is frozen for the instant of a copy, so that the copies belong together, as on a disk. What
//! a cut may lose is the end of the log; a page that a checkpoint has moved to the database is never
//! only in the log, for it was on the disk before. So a log is cut anywhere after those pages.

use std::path::{Path, PathBuf};

use serde_json::json;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use super::journal::Journal;
use super::{kills, random_moment};
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::service::{Service, check_books};
use crate::support::{Random, seed};

/// How many bytes a log begins with, and each of its frames.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// A hold that was acknowledged: its reason, and how many frames the log had then.
struct Told {
    reason: String,
    salt: [u8; 8],
    frames: u64,
}

/// The files of a database at one instant.
struct Copy {
    database: Vec<u8>,
    log: Vec<u8>,
    /// How many frames the log has, and how many of them are in the database as well.
    frames: u64,
    moved: u64,
    page: u64,
}

impl Copy {
    fn take(service: &Service, path: &Path) -> Self {
        service.signal("STOP");
        let read = |end: &str| std::fs::read(format!("{}{end}", path.display())).unwrap();
        let (database, log, index) = (read(""), read("-wal"), read("-shm"));
        service.signal("CONT");
        let number =
            |at: usize| u64::from(u32::from_ne_bytes(index[at..at + 4].try_into().unwrap()));
        let page = u64::from(u16::from_be_bytes(database[16..18].try_into().unwrap()));
        Self {
            database,
            log,
            frames: number(16),
            // What a checkpoint has moved, and what one under way may have moved.
            moved: number(96).max(number(128)),
            page: if page == 1 { 65_536 } else { page },
        }
    }

    fn salt(&self) -> [u8; 8] {
        self.log[16..24].try_into().unwrap()
    }

    fn bytes(&self, frames: u64) -> u64 {
        LOG_HEADER + frames * (FRAME_HEADER + self.page)
    }

    /// Writes the files with a log of so many bytes, and returns where the database is.
    fn restore(&self, folder: &Path, number: u64, kept: u64) -> PathBuf {
        let path = folder.join(format!("cut{number}.db"));
        std::fs::write(&path, &self.database).unwrap();
        let log = &self.log[..usize::try_from(kept).unwrap()];
        std::fs::write(folder.join(format!("cut{number}.db-wal")), log).unwrap();
        path
    }
}

/// Returns the salt of the log and how many frames it has now.
fn log_now(path: &Path) -> ([u8; 8], u64) {
    let log = std::fs::read(format!("{}-wal", path.display())).unwrap();
    let index = std::fs::read(format!("{}-shm", path.display())).unwrap();
    let frames = u32::from_ne_bytes(index[16..20].try_into().unwrap());
    (log[16..24].try_into().unwrap(), u64::from(frames))
}

/// Opens a database after a cut: it must be whole. Returns the reasons of its holds in order.
async fn opened(path: &Path) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(path);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(whole, "ok");
    // The log may end before the first start had laid out the tables.
    let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name = 'hold'";
    let tables: i64 = sqlx::query_scalar(tables)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let reasons = if tables == 0 {
        Ok(Vec::new())
    } else {
        let sql = "SELECT reason FROM hold ORDER BY placed_epoch";
        sqlx::query_scalar(sql).fetch_all(&mut connection).await
    };
    let reasons = reasons.unwrap();
    connection.close().await.unwrap();
    reasons
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_leaves_a_whole_database_with_every_hold_its_log_still_has() {
    let mut random = Random(seed());
    let database = Database::sqlite();
    let path = database.file("test.db");
    let journal = Journal::new(&database);
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 10_000).await;
    sandbox(api, journal.settings(10, 8)).await;
    started(api, &two_waves()).await;
    let spare = json!({"name": "spare", "connector": "sandbox", "config": {}});
    api.post("/v1/targets", spare).await.ok();
    until_done(api, "move", 60, 60).await;
    let mut told: Vec<Told> = Vec::new();
    let (mut cuts, mut in_time) = (0, 0);
    for round in 0..10 {
        for _ in 0..3 {
            let reason = format!("drill {}", told.len());
            let hold = json!({"kind": "halt", "scope": {"type": "target", "id": "spare"}, "reason": reason});
            let placed = api.post("/v1/holds", hold).await.ok();
            let (salt, frames) = log_now(&path);
            told.push(Told {
                reason,
                salt,
                frames,
            });
            crate::support::release::halt(api, placed["id"].as_str().unwrap()).await;
            random_moment(&mut random, 0, 60).await;
        }
        let copy = Copy::take(&service, &path);
        let folder = database.file(&format!("copy{round}"));
        std::fs::create_dir_all(&folder).unwrap();
        let everything = copy.restore(&folder, 0, copy.log.len() as u64);
        let all: Vec<&str> = told.iter().map(|told| told.reason.as_str()).collect();
        assert_eq!(opened(&everything).await, all, "what was told is there");
        check(&everything, &database);
        let (least, most) = (copy.bytes(copy.moved), copy.bytes(copy.frames));
        for cut in 1..=u64::from(kills(24)) {
            let kept = least + random.below((most - least).max(1));
            let path = copy.restore(&folder, cut, kept);
            let found = opened(&path).await;
            assert_eq!(found, all[..found.len()], "an earlier state, and no other");
            let must = told
                .iter()
                .filter(|told| told.salt != copy.salt() || copy.bytes(told.frames) <= kept);
            assert!(
                found.len() >= must.count(),
                "a hold is lost that the log still has"
            );
            in_time += u32::from(found.len() < all.len());
            cuts += 1;
            if cut % 12 == 0 {
                check(&path, &database);
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    println!("{cuts} cuts, {in_time} of them before the last hold");
    service.end_and_fsck();
}

fn check(path: &Path, database: &Database) {
    check_books(&Database {
        url: format!("sqlite:{}", path.display()),
        folder: database.folder.clone(),
    });
}
