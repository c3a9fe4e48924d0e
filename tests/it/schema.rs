//! Two migrations, one schema: what SQLite and PostgreSQL say of themselves is the same.

use std::collections::BTreeSet;
use std::process::Command;

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::support::database::Database;
use crate::support::service::PROGRAM;

/// Each column with its type, whether it must have a value, and its place in the primary key.
const SQLITE_COLUMNS: &str = "SELECT m.name || '.' || c.name || ' ' || lower(c.type) || ' needed ' || c.\"notnull\" \
    || ' key ' || c.pk AS line \
    FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'";

const POSTGRES_COLUMNS: &str = "SELECT c.table_name || '.' || c.column_name || ' ' || replace(c.data_type, 'bytea', 'blob') \
    || ' needed ' || (c.is_nullable = 'NO')::int || ' key ' || \
    COALESCE((SELECT u.ordinal_position FROM information_schema.table_constraints t \
    JOIN information_schema.key_column_usage u USING (constraint_name, table_name) \
    WHERE t.constraint_type = 'PRIMARY KEY' AND u.table_name = c.table_name \
    AND u.column_name = c.column_name), 0) AS line \
    FROM information_schema.columns c WHERE c.table_schema = 'public'";

/// Each index with its columns in order, whether it is unique, and whether it covers a part only.
const SQLITE_INDEXES: &str = "SELECT m.name || ' ' || l.name || ' unique ' || l.\"unique\" || ' partial ' || l.partial || ' ' || \
    (SELECT group_concat(name, ',') FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY seqno)) AS line \
    FROM sqlite_master m JOIN pragma_index_list(m.name) l WHERE m.type = 'table' AND l.origin = 'c'";

const POSTGRES_INDEXES: &str = "SELECT t.relname || ' ' || i.relname || ' unique ' || x.indisunique::int || ' partial ' || \
    (x.indpred IS NOT NULL)::int || ' ' || (SELECT string_agg(a.attname, ',' ORDER BY k.n) \
    FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(col, n) JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.col) AS line \
    FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid \
    JOIN pg_namespace n ON n.oid = t.relnamespace LEFT JOIN pg_constraint c ON c.conindid = x.indexrelid \
    WHERE n.nspname = 'public' AND c.oid IS NULL";

fn migrate(database: &Database) {
    let migrated = Command::new(PROGRAM)
        .args(["migrate", "--database", &database.url])
        .status();
    assert!(migrated.is_ok_and(|status| status.success()));
}

/// The lines of two answers, without the tables of the migrator itself.
fn ours(columns: &[String], indexes: &[String]) -> BTreeSet<String> {
    assert!(columns.len() > 5 && indexes.len() > 5, "something was read");
    let lines = columns.iter().chain(indexes);
    lines
        .filter(|line| !line.starts_with("_sqlx"))
        .cloned()
        .collect()
}

async fn of_sqlite() -> BTreeSet<String> {
    let database = Database::sqlite();
    migrate(&database);
    let mut at = SqliteConnection::connect(&database.url).await.unwrap();
    let columns = sqlx::query_scalar(SQLITE_COLUMNS).fetch_all(&mut at).await;
    let indexes = sqlx::query_scalar(SQLITE_INDEXES).fetch_all(&mut at).await;
    ours(&columns.unwrap(), &indexes.unwrap())
}

async fn of_postgres(database: &Database) -> BTreeSet<String> {
    migrate(database);
    let mut at = PgConnection::connect(&database.url).await.unwrap();
    let columns = sqlx::query_scalar(POSTGRES_COLUMNS)
        .fetch_all(&mut at)
        .await;
    let indexes = sqlx::query_scalar(POSTGRES_INDEXES)
        .fetch_all(&mut at)
        .await;
    ours(&columns.unwrap(), &indexes.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_have_the_same_tables_columns_keys_and_indexes() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let (sqlite, postgres) = (of_sqlite().await, of_postgres(&database).await);
    let differing: Vec<&String> = sqlite.symmetric_difference(&postgres).collect();
    assert!(
        differing.is_empty(),
        "on one of the two only: {differing:#?}"
    );
}
