//! The references: what the same database does with the same bytes when nothing else is asked of it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use tokio::io::AsyncReadExt;

use crate::support::database::Database;

/// How much of a file is handed over at once.
const CHUNK: usize = 1 << 20;

/// Opens the database itself, with what makes it durable.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Does the same to whichever connection it is: the two have no type in common.
macro_rules! each {
    ($raw:expr, $db:ident => $body:expr) => {
        match $raw {
            Raw::Sqlite($db) => $body,
            Raw::Postgres($db) => $body,
        }
    };
}

impl Raw {
    /// Connects to a database.
    pub(crate) async fn open(database: &Database) -> Self {
        if database.is_postgres() {
            let connection = PgConnection::connect(&database.url).await;
            return Self::Postgres(connection.expect("a connection"));
        }
        let options = SqliteConnectOptions::from_str(&database.url).expect("an address");
        let options = options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let connection = SqliteConnection::connect_with(&options).await;
        Self::Sqlite(connection.expect("a connection"))
    }

    /// Runs a statement.
    async fn run(&mut self, sql: String) {
        each!(self, db => { db.execute(AssertSqlSafe(sql)).await.expect("a statement"); });
    }

    /// Asks for one number.
    pub(crate) async fn number(&mut self, sql: &'static str) -> i64 {
        each!(self, db => sqlx::query_scalar(sql).fetch_one(db).await.expect("a number"))
    }
}

/// A table of its own in a database that is at work, where one small row after the other is committed.
pub(crate) struct Small {
    raw: PgConnection,
    rows: i64,
}

impl Small {
    /// Opens it where others may write at the same time: SQLite has one writer, which a halt overtakes and
    /// a stranger does not.
    pub(crate) async fn open(database: &Database) -> Option<Self> {
        if !database.is_postgres() {
            return None;
        }
        let mut raw = PgConnection::connect(&database.url)
            .await
            .expect("a connection");
        let sql = "CREATE TABLE IF NOT EXISTS raw_small (id BIGINT NOT NULL PRIMARY KEY)";
        raw.execute(sql).await.expect("a table");
        Some(Self { raw, rows: 0 })
    }

    /// Commits one row; returns how long that took.
    pub(crate) async fn commit(&mut self) -> Duration {
        self.rows += 1;
        let begun = Instant::now();
        let mut txn = self.raw.begin().await.expect("a transaction");
        sqlx::query("INSERT INTO raw_small (id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(self.rows)
            .execute(&mut *txn)
            .await
            .expect("a row");
        txn.commit().await.expect("a commit");
        begun.elapsed()
    }
}

/// Bytes of a drain: what each commit of it writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How many commits.
    pub(crate) commits: usize,
    /// How many batches there are.
    pub(crate) batches: usize,
    /// How many rows of batches each commit writes.
    pub(crate) writes: usize,
    /// How large such a row is.
    pub(crate) row: usize,
    /// How large the entry of the audit trail is.
    pub(crate) entry: usize,
}

/// Commits the same bytes as often, one durable transaction after the other; returns the seconds of
/// the better of two runs, as there are two of ours.
pub(crate) async fn commits(database: &Database, load: Load) -> f64 {
    let mut raw = Raw::open(database).await;
    let first = commits_once(database, &mut raw, load).await;
    commits_once(database, &mut raw, load).await.min(first)
}

async fn commits_once(database: &Database, raw: &mut Raw, load: Load) -> f64 {
    let blob = if database.is_postgres() {
        "BYTEA"
    } else {
        "BLOB"
    };
    for table in ["raw_batch", "raw_trail"] {
        raw.run(format!("DROP TABLE IF EXISTS {table}")).await;
        let sql = format!("CREATE TABLE {table} (id BIGINT NOT NULL PRIMARY KEY, body {blob})");
        raw.run(sql).await;
    }
    let (row, entry) = (vec![7_u8; load.row], vec![7_u8; load.entry]);
    let places: Vec<i64> = (0..i64::try_from(load.batches).unwrap_or(i64::MAX)).collect();
    for part in places.chunks(64) {
        each!(&mut *raw, db => {
            let sql = put(part.len());
            let mut query = sqlx::query(AssertSqlSafe(sql));
            for id in part {
                query = query.bind(*id).bind(row.as_slice());
            }
            query.execute(db).await.expect("rows");
        });
    }
    let begun = Instant::now();
    for commit in 0..load.commits {
        // The batches go by in order, as they do in a drain: each is written twice in a row.
        let first = commit * load.writes / 2;
        let ids: Vec<i64> = (0..load.writes)
            .map(|place| i64::try_from((first + place) % load.batches.max(1)).unwrap_or(i64::MAX))
            .collect();
        each!(&mut *raw, db => {
            let mut txn = db.begin().await.expect("a transaction");
            let mut query = sqlx::query(AssertSqlSafe(put(ids.len())));
            for id in &ids {
                query = query.bind(*id).bind(row.as_slice());
            }
            query.execute(&mut *txn).await.expect("rows");
            sqlx::query("INSERT INTO raw_trail (id, body) VALUES ($1, $2)")
                .bind(i64::try_from(commit).unwrap_or(i64::MAX))
                .bind(entry.as_slice())
                .execute(&mut *txn)
                .await
                .expect("an entry");
            txn.commit().await.expect("a commit");
        });
    }
    begun.elapsed().as_secs_f64()
}

fn put(rows: usize) -> String {
    let rows: Vec<String> = (0..rows)
        .map(|row| format!("(${}, ${})", row * 2 + 1, row * 2 + 2))
        .collect();
    format!(
        "INSERT INTO raw_batch (id, body) VALUES {} ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        rows.join(", ")
    )
}

/// Has the database load a CSV file by itself into a table without any index, durably; returns the
/// seconds, or why that is not possible here.
pub(crate) async fn bulk_load(database: &Database, file: &Path) -> Result<f64, String> {
    let text = std::fs::File::open(file).map_err(|error| error.to_string())?;
    let mut header = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(text), &mut header)
        .map_err(|error| error.to_string())?;
    let columns: Vec<String> = header
        .trim()
        .split(',')
        .map(|name| format!("{name} TEXT"))
        .collect();
    let table = format!("CREATE TABLE raw_people ({})", columns.join(", "));
    if database.is_postgres() {
        let mut connection = PgConnection::connect(&database.url)
            .await
            .map_err(|error| error.to_string())?;
        connection
            .execute(AssertSqlSafe(table))
            .await
            .map_err(|error| error.to_string())?;
        let begun = Instant::now();
        copy(&mut connection, file).await?;
        return Ok(begun.elapsed().as_secs_f64());
    }
    // The shell of SQLite reads a file with prepared inserts in one transaction: its own bulk load.
    let database = database.file("bulk.db");
    let script = format!(
        "PRAGMA journal_mode=WAL;\nPRAGMA synchronous=FULL;\n{table};\n.import --csv --skip 1 {} raw_people\n",
        file.display()
    );
    let begun = Instant::now();
    let child = Command::new("sqlite3")
        .args(["-batch", "-bail"])
        .arg(&database)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let mut child =
        child.map_err(|error| format!("the command sqlite3 is needed beside it: {error}"))?;
    let mut input = child.stdin.take().ok_or("no input")?;
    std::io::Write::write_all(&mut input, script.as_bytes()).map_err(|error| error.to_string())?;
    drop(input);
    let status = child.wait().map_err(|error| error.to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&database);
    if status.success() {
        Ok(seconds)
    } else {
        Err(format!("sqlite3 ended with {status}"))
    }
}

async fn copy(connection: &mut PgConnection, file: &Path) -> Result<(), String> {
    let said = |error: sqlx::Error| error.to_string();
    let sql = "COPY raw_people FROM STDIN WITH (FORMAT csv, HEADER true)";
    let mut copy = connection.copy_in_raw(sql).await.map_err(said)?;
    let mut file = tokio::fs::File::open(file)
        .await
        .map_err(|error| error.to_string())?;
    let mut chunk = vec![0_u8; CHUNK];
    loop {
        let read = file
            .read(&mut chunk)
            .await
            .map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
        copy.send(&chunk[..read]).await.map_err(said)?;
    }
    copy.finish().await.map_err(said)?;
    Ok(())
}
