//! A database for one test: a new SQLite file, or a new database in the PostgreSQL cluster that
//! `tests/setup/with-postgres.sh` started.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

/// Where the tests keep their files; removed when the test succeeds.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes a new folder.
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-test-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    /// Returns where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A database that nobody else uses.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// As `--database` takes it.
    pub(crate) url: String,
    /// Where files of the test may go.
    pub(crate) folder: Arc<Folder>,
}

impl Database {
    /// Makes a new SQLite file.
    pub(crate) fn sqlite() -> Self {
        let folder = Folder::new();
        Self {
            url: format!("sqlite:{}", folder.path().join("test.db").display()),
            folder: Arc::new(folder),
        }
    }

    /// Makes a new PostgreSQL database, where there is a server.
    pub(crate) async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("TIDEGATE_TEST_POSTGRES") else {
            super::skipped("no PostgreSQL: TIDEGATE_TEST_POSTGRES is not set");
            return None;
        };
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut admin = PgConnection::connect(&server).await.expect("the server");
        admin
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .expect("a new database");
        let (base, _) = server.rsplit_once('/').expect("a name in the address");
        Some(Self {
            url: format!("{base}/{name}"),
            folder: Arc::new(Folder::new()),
        })
    }

    /// Says which kind it is.
    pub(crate) fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    /// Returns the name of a file of the test inside the folder that services may reach.
    pub(crate) fn granted(&self, name: &str) -> PathBuf {
        let path = self.file(name);
        path.strip_prefix(std::env::temp_dir())
            .expect("a temporary file")
            .to_owned()
    }

    /// Changes what is stored behind the service's back.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        if self.is_postgres() {
            let mut connection = PgConnection::connect(&self.url)
                .await
                .expect("the database");
            connection.execute(sql).await.expect("the statement");
        } else {
            let opened = sqlx::SqliteConnection::connect(&self.url).await;
            opened
                .expect("the file")
                .execute(sql)
                .await
                .expect("the statement");
        }
    }

    /// Returns the path of a file of the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}
