//! Imports on every database at hand: all or nothing, found again, compared with the version before.

use std::io::Cursor;

use tidegate_orchestrator::ids::Ordinal;
use tidegate_policy::AttributeValue;

use super::super::{Actor, OperationError, member, population};
use super::*;
use crate::app::App;
use crate::store::testing::{apps, each_app};

fn options() -> ImportOptions {
    ImportOptions {
        format: RowFormat::Csv,
        compression: Compression::None,
        file_name: Some("people.csv".to_owned()),
        bad_rows_max: None,
        override_shrink_reason: None,
    }
}

fn people(range: std::ops::Range<u32>) -> String {
    let mut text = String::from("employee_id,active,country,manager_id\n");
    for number in range {
        text.push_str(&format!(
            "e{number:05},true,{},e00000\n",
            if number % 3 == 0 { "DE" } else { "US" }
        ));
    }
    text
}

async fn created(app: &App) {
    let mapping = Mapping {
        manager: Some("manager_id".to_owned()),
        ..Mapping::default()
    };
    population::create(app, &Actor::task("test"), "staff", &mapping)
        .await
        .unwrap();
}

async fn imported(
    app: &App,
    text: &str,
    options: ImportOptions,
) -> Result<ImportView, OperationError> {
    import(
        app,
        &Actor::task("test"),
        "staff",
        options,
        Cursor::new(text.as_bytes().to_vec()),
    )
    .await
}

fn code(error: &OperationError) -> &str {
    match error {
        OperationError::Invalid { code, .. } | OperationError::Refused { code, .. } => code,
        OperationError::Unproved { code, .. } | OperationError::Busy { code, .. } => code,
        OperationError::NotFound { .. } => "not_found",
        OperationError::Conflict { .. } => "conflict",
        OperationError::Failed(_) => "failed",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_imported_found_and_loaded() {
    each_app!(app => {
        created(&app).await;
        let view = imported(&app, &people(0..10_000), options()).await.unwrap();
        assert_eq!((view.status.as_str(), view.joined, view.left), ("published", 10_000, 0));
        let shown = member::get(&app, "staff", "e09999").await.unwrap();
        assert_eq!((shown.ordinal, shown.attributes["country"].as_str()), (9999, Some("DE")));
        assert_eq!(code(&member::get(&app, "staff", "nobody").await.unwrap_err()), "not_found");
        let version = view.version.unwrap().id;
        let some = member::by_ordinals(&app, version, &[Ordinal(3), Ordinal(4096), Ordinal(9000)]).await.unwrap();
        assert_eq!(some.iter().map(|member| member.key.as_str()).collect::<Vec<_>>(), ["e00003", "e04096", "e09000"]);
        let loaded = member::load(&app, version, &["country".to_owned(), "active".to_owned()]).await.unwrap();
        assert_eq!(loaded.len(), 10_000);
        let active = loaded.column("active").unwrap();
        assert_eq!(active.value(active.code(Ordinal(77))), Some(&AttributeValue::Boolean(true)));
        assert!(loaded.column("manager_id").is_none());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_again_change_nothing() {
    each_app!(app => {
        created(&app).await;
        let first = imported(&app, &people(0..5000), options()).await.unwrap().version.unwrap();
        let again = imported(&app, &people(0..5000), options()).await.unwrap();
        assert_eq!((again.status.as_str(), again.version.unwrap().id), ("unchanged", first.id));
        assert_eq!(population::get(&app, "staff").await.unwrap().current_version.unwrap().number, 1);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shrinking_file_is_refused_unless_somebody_says_why() {
    each_app!(app => {
        created(&app).await;
        imported(&app, &people(0..1000), options()).await.unwrap();
        let refused = imported(&app, &people(60..1000), options()).await.unwrap_err();
        assert_eq!(code(&refused), "suspicious_shrinkage");
        assert_eq!(population::get(&app, "staff").await.unwrap().current_version.unwrap().member_count, 1000);
        let why = ImportOptions { override_shrink_reason: Some("a site was sold".to_owned()), ..options() };
        let view = imported(&app, &people(60..1010), why).await.unwrap();
        assert_eq!((view.joined, view.left), (10, 60));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_refused_leaves_nothing_behind() {
    each_app!(app => {
        created(&app).await;
        let mut text = people(0..20_000);
        text.push_str(&"e00001,true,DE,\n".repeat(101));
        let refused = imported(&app, &text, options()).await.unwrap_err();
        let OperationError::Invalid { code, details, .. } = refused else { panic!("{refused}") };
        assert_eq!((code.as_str(), details.len()), ("too_many_bad_rows", 100));
        assert_eq!(details[0].line, Some(20_002));
        assert!(population::get(&app, "staff").await.unwrap().current_version.is_none());
        assert!(rows::versions_staged(app.store.read()).await.unwrap().is_empty());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_done_is_swept_away() {
    each_app!(app => {
        created(&app).await;
        // The process that read the file is gone: it was another one, long ago.
        let version = app.ids.make();
        let report = Report { worker: Some(app.ids.make()), ..Report::default() };
        let row = ImportRow {
            id: app.ids.make(),
            population: find(&app, "staff").await.unwrap().id,
            version: Some(version),
            status: "receiving".to_owned(),
            report: serde_json::to_string(&report).unwrap(),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
        };
        let staged: Result<(), StoreError> = transact!(app.store, Lane::Ordinary, "test", |txn| {
            rows::version_stage(txn, version, row.population, row.started_at).await?;
            rows::import_put(txn, &row).await?;
            rows::blocks_insert(txn, version, &[(0, vec![1, 2, 3])]).await
        });
        staged.unwrap();
        assert_eq!(sweep(&app).await.unwrap(), 1);
        assert!(rows::blocks_load(app.store.read(), version, 0, 1).await.unwrap().is_empty());
        assert!(rows::versions_staged(app.store.read()).await.unwrap().is_empty());
        assert_eq!(get(&app, &row.id.to_string()).await.unwrap().status, "lost");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_another_process_is_reading_is_left_alone() {
    each_app!(app => {
        created(&app).await;
        let actor = Actor::task("test");
        let import = Import::begin(&app, &actor, find(&app, "staff").await.unwrap(), options()).await;
        // Kept: an import that is dropped lets go of its lock.
        let import = import.unwrap();
        let version = import.version;
        assert_eq!(sweep(&app).await.unwrap(), 0, "its own");
        let other = App::new(app.store.clone(), app.clock.clone(), app.ids);
        let swept = sweep(&other).await.unwrap();
        let is_there = rows::versions_staged(app.store.read()).await.unwrap() == [version];
        // Only one process works on a SQLite file; on PostgreSQL the other one may be at work.
        assert_eq!((swept, is_there), if app.store.is_postgres() { (0, true) } else { (1, false) });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn two_imports_at_once_leave_one_whole_version_each() {
    each_app!(app => {
        created(&app).await;
        let (text, other) = (people(0..3000), people(0..3100));
        let (one, two) = tokio::join!(imported(&app, &text, options()), imported(&app, &other, options()));
        let published: Vec<_> = [one, two].into_iter().filter_map(Result::ok).collect();
        assert!(!published.is_empty());
        let current = population::get(&app, "staff").await.unwrap().current_version.unwrap();
        assert!(published.iter().any(|view| view.version.as_ref().is_some_and(|version| version.id == current.id)));
        let loaded = member::load(&app, current.id, &[]).await.unwrap();
        assert_eq!(u64::from(loaded.len()), current.member_count);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn every_app_has_a_database_of_its_own() {
    let apps = apps().await;
    assert!(!apps.is_empty());
}
