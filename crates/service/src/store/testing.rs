//! For tests: an application on every database at hand, each with a database of its own.
//!
//! SQLite always; PostgreSQL when `TIDEGATE_TEST_POSTGRES` names a server (see
//! `tests/setup/with-postgres.sh`).

use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::app::{App, Ids};
use crate::clock::Clock;
use crate::store::{DatabaseUrl, Store};

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
