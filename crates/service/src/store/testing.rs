//! For tests: an application on every database at hand, each with a database of its own.
//!
//! SQLite always; PostgreSQL when `TIDEGATE_TEST_POSTGRES` names a server (see
//! `tests/setup/with-postgres.sh`).

use sqlx::{Connection as _, Executor as _, PgConnection};

use tidegate_orchestrator::ids::TargetId;

use crate::app::{App, Ids};
use crate::clock::Clock;
use crate::store::query::{self, Number};
use crate::store::{DatabaseUrl, Store, StoreError, Txn};

/// Opens an application on a new SQLite file, and on a new PostgreSQL database if there is a server.
pub(crate) async fn apps() -> Vec<App> {
    apps_by(Clock::system).await
}

/// The same by a clock that stands until it is moved.
pub(crate) async fn apps_standing() -> Vec<App> {
    apps_by(|| Clock::virtual_at("2026-01-05T08:00:00Z".parse().expect("an instant"))).await
}

async fn apps_by(clock: fn() -> Clock) -> Vec<App> {
    let mut apps = Vec::new();
    for url in urls().await {
        let clock = clock();
        let ids = Ids::system();
        let store = Store::open(&url, clock.clone(), &ids)
            .await
            .expect("a store");
        apps.push(App::new(store, clock, ids));
    }
    apps
}

/// Returns how many signals there are, how many bodies of them are kept, and which number was given last.
pub(crate) async fn admitted_of(app: &App) -> (i64, i64, i64) {
    let number = async |sql: &str| {
        let found: Option<Number> = query::one(app.store.read(), sql, []).await.expect("rows");
        found.expect("a number").number
    };
    (
        number("SELECT COUNT(*) AS number FROM signal").await,
        number("SELECT COUNT(*) AS number FROM signal_raw").await,
        number("SELECT seq AS number FROM signal_head").await,
    )
}

/// Has everybody wait who writes what is known of a target, until the transaction ends.
pub(crate) async fn facts_lock(txn: &Txn, target: TargetId) -> Result<(), StoreError> {
    let sql =
        "SELECT CAST(1 AS BIGINT) AS number FROM target_facts WHERE target_id = $1 FOR UPDATE";
    let found: Option<Number> = query::one(txn, sql, [target.to_string().into()]).await?;
    found.map(drop).ok_or(StoreError::NotFound)
}

/// Waits until somebody waits for a lock of PostgreSQL with a statement that has this in it, or `is_over`.
pub(crate) async fn until_locked(app: &App, part: &str, is_over: impl Fn() -> bool) {
    let sql = "SELECT COUNT(*) AS number FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1";
    loop {
        let like = format!("%{part}%");
        let found: Option<Number> = query::one(app.store.read(), sql, [like.into()])
            .await
            .expect("who waits");
        if is_over() || found.is_some_and(|found| found.number > 0) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Makes new databases and returns where they are.
pub(crate) async fn urls() -> Vec<DatabaseUrl> {
    let name = format!("tidegate_{}", Ids::system().token());
    let file = std::env::temp_dir().join(format!("{name}.db"));
    let mut urls = vec![DatabaseUrl::Sqlite(file.display().to_string())];
    if let Ok(server) = std::env::var("TIDEGATE_TEST_POSTGRES") {
        let mut admin = PgConnection::connect(&server)
            .await
            .expect("the test server");
        admin
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .expect("a database");
        let (base, _) = server
            .rsplit_once('/')
            .expect("a database name in the address");
        urls.push(DatabaseUrl::Postgres(format!("{base}/{name}")));
    }
    urls
}

/// Runs a test body once per database.
macro_rules! each_app {
    ($app:ident => $body:block) => {
        for $app in $crate::store::testing::apps().await {
            $body
        }
    };
}
pub(crate) use each_app;
