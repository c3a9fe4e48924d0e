//! Calls that end in the middle: a stop whose client gives up stands all the same, and a release that is undone has
//! let nobody go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::http::{StatusCode, Uri};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::support::api::{Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{import, sandbox, started, two_waves, until_done};
use crate::support::release::{execute, ready};
use crate::support::service::{Service, cli};
use crate::support::until;

on_each_database!(
    a_stop_whose_client_gives_up_is_placed_all_the_same,
    a_release_that_is_undone_has_let_nobody_go,
    the_command_line_says_stop_until_it_stands,
);

/// How long a client waits.
const PATIENCE: Duration = Duration::from_millis(500);

async fn moving(database: &Database) -> Service {
    let service = Service::start(database);
    let api = &service.api;
    import(api, 2_000).await;
    sandbox(api, json!({"latency_ms": 20, "concurrency": 8})).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 100, 30).await;
    service
}

/// Sends a call and hangs up before there is an answer.
async fn give_up(api: &Api, path: &str, body: &Value) {
    let request = api.request(Method::POST, path).json(body).timeout(PATIENCE);
    let answered = request.send().await;
    assert!(answered.is_err_and(|error| error.is_timeout()), "{path}");
}

/// Keeps writers waiting from outside for as long as it lives.
enum Busy {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Busy {
    async fn with(database: &Database, lock: &'static str) -> Self {
        if database.is_postgres() {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            connection.execute("BEGIN").await.unwrap();
            connection.execute(lock).await.unwrap();
            return Self::Postgres(connection);
        }
        let mut connection = SqliteConnection::connect(&database.url).await.unwrap();
        connection.execute("BEGIN IMMEDIATE").await.unwrap();
        Self::Sqlite(connection)
    }

    async fn end(self) {
        match self {
            Self::Postgres(mut connection) => connection.execute("ROLLBACK").await.map(drop),
            Self::Sqlite(mut connection) => connection.execute("ROLLBACK").await.map(drop),
        }
        .unwrap();
    }
}

async fn a_stop_whose_client_gives_up_is_placed_all_the_same(database: Database) {
    let service = moving(&database).await;
    let api = &service.api;
    let claims = "SELECT pg_advisory_xact_lock_shared(x'74696465'::bigint)";
    let busy = Busy::with(&database, claims).await;
    let scope = json!({"type": "everything"});
    let halt = json!({"kind": "halt", "scope": scope, "reason": "state actor"});
    give_up(api, "/v1/holds", &halt).await;
    busy.end().await;
    until("it stands", 30, async || {
        let holds = api.get("/v1/holds?in_force=true").await.ok();
        holds["items"][0]["kind"] == "halt"
    })
    .await;
    service.end_and_fsck();
}

/// Has the last entry of a release refused by the database, when everything else of it is done.
async fn refuse_releases(database: &Database) {
    let when = "BEFORE INSERT ON audit";
    if database.is_postgres() {
        let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$";
        database.execute(refuse).await;
        let is_meant = "FOR EACH ROW WHEN (NEW.action = 'hold.release') EXECUTE FUNCTION refuse()";
        database
            .execute(&format!("CREATE TRIGGER refuse {when} {is_meant}"))
            .await;
    } else {
        let is_meant = "WHEN NEW.action = 'hold.release' BEGIN SELECT RAISE(ABORT, 'no'); END";
        database
            .execute(&format!("CREATE TRIGGER refuse {when} {is_meant}"))
            .await;
    }
}

async fn refuse_no_more(database: &Database) {
    let on = if database.is_postgres() {
        " ON audit"
    } else {
        ""
    };
    database.execute(&format!("DROP TRIGGER refuse{on}")).await;
}

async fn a_release_that_is_undone_has_let_nobody_go(database: Database) {
    let service = moving(&database).await;
    let api = &service.api;
    let halt = |scope: Value| json!({"kind": "halt", "scope": scope, "reason": "token theft"});
    let everything = halt(json!({"type": "everything"}));
    let first = api.post("/v1/holds?wait=quiesced", everything).await.ok();
    let id = first["id"].as_str().unwrap();
    let digest = ready(api, id).await;
    refuse_releases(&database).await;
    let undone = execute(api, id, &digest).await;
    assert!(undone.status >= 500, "{}", undone.text);
    refuse_no_more(&database).await;
    // The next hold has the epoch that the release would have had.
    let target = halt(json!({"type": "target", "id": "box"}));
    api.post("/v1/holds?wait=quiesced", target).await.ok();
    let holds = api.get("/v1/holds?in_force=true").await.ok();
    assert_eq!(
        holds["items"].as_array().map(Vec::len),
        Some(2),
        "{holds:#}"
    );
    let view = api.get("/v1/rollouts/move").await.ok();
    assert_eq!(view["status"], "halted", "{view:#}");
    assert_eq!(view["holds"].as_array().map(Vec::len), Some(2), "{view:#}");
    service.end_and_fsck();
}

/// Answers the first calls as a proxy does whose service is away, and hands on what comes then; returns its address.
async fn away_at_first(service: &Service, calls: usize) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (api, left) = (service.api.clone(), Arc::new(AtomicUsize::new(calls)));
    let router = axum::Router::new().fallback(move |method: Method, uri: Uri, body: String| {
        let (api, left) = (api.clone(), left.clone());
        async move {
            let is_away = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            if is_away.is_ok() {
                return (StatusCode::BAD_GATEWAY, "nobody is there".to_owned());
            }
            let request = api.request(method, &uri.to_string());
            let request = request.header("content-type", "application/json");
            let answer = send(request.body(body)).await;
            (StatusCode::from_u16(answer.status).unwrap(), answer.text)
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn the_command_line_says_stop_until_it_stands(database: Database) {
    let service = Service::start(&database);
    let url = away_at_first(&service, 2).await;
    let halt = ["halt", "--everything", "--reason", "state actor"];
    let done = cli(&url, &service.api.token, &halt);
    let (out, error) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{error}");
    assert!(out.contains("halt in force"), "{out}");
    assert_eq!(error.matches("not stopped yet").count(), 2, "{error}");
    service.end_and_fsck();
}
