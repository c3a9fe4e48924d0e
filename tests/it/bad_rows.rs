//! Files with something wrong: each bad row is named, and a file that ends in the middle is refused.

use std::io::Write as _;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{csv, import};
use crate::support::service::Service;
use crate::support::until;
use crate::support::wire::Wire;

on_each_database!(
    every_bad_row_is_named_with_its_line_and_reason,
    every_bad_line_of_ndjson_is_named,
    more_bad_rows_than_allowed_refuse_the_file_and_leave_nothing,
    an_upload_cut_half_way_publishes_nothing,
    a_truncated_archive_publishes_nothing,
    a_csv_cut_in_the_middle_of_its_last_line_publishes_nothing,
    an_ndjson_cut_in_the_middle_of_its_last_line_publishes_nothing,
    a_quote_that_never_ends_is_not_one_long_row,
);

async fn send_file(api: &Api, query: &str, bytes: Vec<u8>) -> Answer {
    let path = format!("/v1/populations/staff/imports{query}");
    send(api.request(Method::POST, &path).body(bytes)).await
}

async fn staff(api: &Api) -> Value {
    api.get("/v1/populations/staff").await.ok()
}

/// Line and code of each bad row.
fn bad(rows: &Value, line: &str) -> Vec<(u64, String)> {
    let rows = rows.as_array().unwrap();
    rows.iter()
        .map(|row| {
            assert!(row["message"].as_str().unwrap().len() > 10, "{row}");
            (
                row[line].as_u64().unwrap(),
                row["code"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

async fn every_bad_row_is_named_with_its_line_and_reason(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    let long = "x".repeat(4097);
    let key = "k".repeat(257);
    let mut file = b"employee_id,name\n1,Ann\n,Nobody\n1,Ann again\n2,\xff\xfe\n3,a,b\n4\n5,\"two\nlines\"\n6,nul\0\n 7 ,blank\n".to_vec();
    file.extend(format!("8,{long}\n{key},x\n9,\"a \"\"quoted\"\" one\"\n\n10,Zoë\n").bytes());
    let done = send_file(api, "", file).await.ok();
    let expected = [
        (3, "key_missing"),
        (4, "key_duplicate"),
        (5, "not_utf8"),
        (6, "too_many_columns"),
        (7, "too_few_columns"),
        (8, "line_break"),
        (10, "line_break"),
        (11, "key_unusable"),
        (12, "value_too_long"),
        (13, "key_unusable"),
    ];
    let expected: Vec<(u64, String)> = expected
        .iter()
        .map(|(line, code)| (*line, (*code).to_owned()))
        .collect();
    assert_eq!(bad(&done["bad_rows"], "line"), expected);
    assert_eq!(
        (&done["rows_bad"], &done["rows_read"]),
        (&json!(10), &json!(13))
    );
    assert_eq!(done["version"]["member_count"], 3);
    let member = api.get("/v1/populations/staff/members/9").await.ok();
    assert_eq!(member["attributes"]["name"], "a \"quoted\" one");
    let first = api.get("/v1/populations/staff/members/1").await.ok();
    assert_eq!(
        first["attributes"]["name"], "Ann",
        "the first of two rows counts"
    );
    let shown = api
        .get(&format!("/v1/imports/{}", done["id"].as_str().unwrap()))
        .await
        .ok();
    assert_eq!(
        shown["bad_rows"], done["bad_rows"],
        "they can be read later"
    );
}

async fn every_bad_line_of_ndjson_is_named(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    let mut file =
        b"{\"employee_id\": \"1\"}\n[1]\n{\"employee_id\": 2, \"a\": {}}\nnonsense\n".to_vec();
    file.extend(b"{\"employee_id\": \"3\", \"a\": \"x\\ny\"}\n{\"employee_id\": \"\xff\"}\n{\"a\": \"x\"}\n");
    file.extend(b"{\"employee_id\": \"1\"}\n{\"employee_id\": \"4\"} {}\n\n{\"employee_id\": 5, \"a\": 1.5}\n");
    let done = send_file(api, "?format=ndjson", file).await.ok();
    let expected = [
        (2, "not_json"),
        (3, "nested_value"),
        (4, "not_json"),
        (5, "line_break"),
        (6, "not_utf8"),
        (7, "key_missing"),
        (8, "key_duplicate"),
        (9, "not_json"),
    ];
    let expected: Vec<(u64, String)> = expected
        .iter()
        .map(|(line, code)| (*line, (*code).to_owned()))
        .collect();
    assert_eq!(bad(&done["bad_rows"], "line"), expected);
    let member = api.get("/v1/populations/staff/members/5").await.ok();
    assert_eq!(member["attributes"]["a"], "1.5");
}

async fn more_bad_rows_than_allowed_refuse_the_file_and_leave_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    let before = staff(api).await;
    let file = |bad: u32| {
        let mut text = csv(0..1_010);
        for row in 0..bad {
            text.push_str(&format!(",nobody{row},,,,,\n"));
        }
        text.into_bytes()
    };
    let refused = send_file(api, "", file(101)).await;
    refused.refused(422, "too_many_bad_rows");
    let named = bad(&refused.body["errors"], "line");
    assert_eq!(
        (named.len(), named[0].clone()),
        (100, (1_012, "key_missing".to_owned()))
    );
    let refused = send_file(api, "?bad_rows_max=0", file(1)).await;
    refused.refused(422, "too_many_bad_rows");
    assert_eq!(staff(api).await, before, "nothing is published");
    assert_eq!(staged(&database).await, 0, "nothing is left behind");
    let just = send_file(api, "", file(100)).await.ok();
    assert_eq!(just["rows_bad"], 100);
    send_file(api, "?bad_rows_max=150", file(150)).await.ok();
}

/// Counts versions and blocks that belong to nothing published.
async fn staged(database: &Database) -> i64 {
    use sqlx::Connection as _;
    let sql = "SELECT (SELECT COUNT(*) FROM population_version WHERE status <> 'published') + (SELECT COUNT(*) FROM \
               population_block WHERE version_id NOT IN (SELECT id FROM population_version WHERE status = 'published'))";
    if database.is_postgres() {
        let mut connection = sqlx::PgConnection::connect(&database.url).await.unwrap();
        sqlx::query_scalar(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    } else {
        let mut connection = sqlx::SqliteConnection::connect(&database.url)
            .await
            .unwrap();
        sqlx::query_scalar(sql)
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }
}

async fn an_upload_cut_half_way_publishes_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    let before = staff(api).await;
    let text = csv(0..40_000);
    let half = &text.as_bytes()[..text.len() / 2];
    let whole_lines = half.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for (lines, cut) in [
        (
            vec![format!("content-length: {}", text.len())],
            half.to_vec(),
        ),
        // Cut at the end of a line: every row of it is good.
        (
            vec![format!("content-length: {}", text.len())],
            half[..whole_lines].to_vec(),
        ),
        (
            vec!["transfer-encoding: chunked".to_owned()],
            [format!("{:x}\r\n", half.len()).as_bytes(), half, b"\r\n"].concat(),
        ),
    ] {
        let mut wire = Wire::begin(api, "POST /v1/populations/staff/imports", &lines).await;
        wire.write(&cut).await;
        // Half of it has arrived and is being written when the line goes dead.
        let heard = wire.read_for(Duration::from_millis(300)).await;
        assert_eq!(heard, "", "nothing is answered before the end");
        drop(wire);
    }
    until("three refused imports are in the trail", 10, async || {
        let audit = api.get("/v1/audit?limit=1000").await.ok();
        let entries = audit["items"].as_array().unwrap().clone();
        entries
            .iter()
            .filter(|entry| entry["action"] == "population.import_refused")
            .count()
            == 3
    })
    .await;
    assert_eq!(staff(api).await, before);
    assert_eq!(staged(&database).await, 0, "nothing is left behind");
}

async fn a_truncated_archive_publishes_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    let before = staff(api).await;
    let text = csv(0..20_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    // With its checksum, as the zstd program writes it.
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(text.as_bytes()).unwrap();
    let zstd = zstd.finish().unwrap();
    for (encoding, packed) in [("gzip", gzip), ("zstd", zstd)] {
        let mut flipped = packed.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        let no_end = packed[..packed.len() - 1].to_vec();
        let half = packed[..packed.len() / 2].to_vec();
        for bytes in [half, no_end, flipped] {
            let request = api.request(Method::POST, "/v1/populations/staff/imports");
            let answer = send(request.header("content-encoding", encoding).body(bytes)).await;
            assert_eq!(answer.status, 422, "{encoding}: {}", answer.text);
            let code = answer.body["code"].as_str().unwrap();
            assert!(
                ["file_damaged", "too_many_bad_rows", "file_unusable"].contains(&code),
                "{}",
                answer.text
            );
        }
    }
    assert_eq!(staff(api).await, before);
    assert_eq!(staged(&database).await, 0, "nothing is left behind");
}

async fn a_csv_cut_in_the_middle_of_its_last_line_publishes_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    let before = staff(api).await;
    let text = csv(0..200);
    let last = text.trim_end().rfind('\n').unwrap() + 1;
    // In the id, after the id, in the name, before the last value.
    for cut in [
        last + 3,
        last + 9,
        last + 12,
        text.trim_end().rfind(',').unwrap(),
    ] {
        let answer = send_file(api, "", text.as_bytes()[..cut].to_vec()).await;
        let sentence = answer.refused(422, "file_damaged");
        assert!(sentence.contains("ends in the middle"), "{sentence}");
    }
    assert_eq!(staff(api).await, before);
    let whole = send_file(api, "", text.trim_end().as_bytes().to_vec()).await;
    assert_eq!(
        whole.status, 201,
        "a whole last line needs no line break: {}",
        whole.text
    );
}

async fn an_ndjson_cut_in_the_middle_of_its_last_line_publishes_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    let text = "{\"employee_id\": \"1\", \"a\": \"x\"}\n{\"employee_id\": \"2\", \"a\": \"y\"}";
    for cut in [
        text.len() - 1,
        text.len() - 10,
        text.find('\n').unwrap() + 2,
    ] {
        let answer = send_file(api, "?format=ndjson", text.as_bytes()[..cut].to_vec()).await;
        answer.refused(422, "file_damaged");
    }
    assert_eq!(staff(api).await["current_version"], Value::Null);
    let whole = send_file(api, "?format=ndjson", text.as_bytes().to_vec())
        .await
        .ok();
    assert_eq!(whole["version"]["member_count"], 2);
}

async fn a_quote_that_never_ends_is_not_one_long_row(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    let before = staff(api).await;
    // One stray quote swallows the rest of the file: those people must not silently be gone.
    let text = csv(0..1_000).replacen("Given500,", "\"Given500,", 1);
    let answer = send_file(api, "", text.into_bytes()).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert_eq!(staff(api).await, before);
}
