//! Imports: what becomes a version of a population, and what changes nothing.

use std::io::Write as _;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Answer, Api, send};
use crate::support::database::Database;
use crate::support::on_each_database;
use crate::support::people::{csv, import, import_csv};
use crate::support::service::Service;
use crate::support::until;
use crate::support::wire::Wire;

on_each_database!(
    every_format_and_compression_reads_the_same_people,
    the_same_bytes_again_change_nothing,
    another_order_of_rows_and_columns_is_the_same_content,
    joined_and_left_are_counted,
    a_member_is_found_by_directory_id_and_nothing_else,
    types_are_found_and_said_types_are_kept,
    suspicious_shrinkage_is_refused_unless_somebody_says_why,
    an_import_under_way_is_seen_by_nobody,
    a_file_published_meanwhile_is_what_the_next_is_compared_with,
    two_imports_at_once_publish_two_whole_versions,
    uploads_that_stand_still_hold_up_no_halt_and_no_look,
    a_mapping_says_which_column_is_the_directory_id,
    files_without_people_or_head_are_refused,
);

async fn send_file(api: &Api, query: &str, encoding: Option<&str>, bytes: Vec<u8>) -> Answer {
    let path = format!("/v1/populations/staff/imports{query}");
    let mut request = api.request(Method::POST, &path).body(bytes);
    if let Some(encoding) = encoding {
        request = request.header("content-encoding", encoding);
    }
    send(request).await
}

async fn staff(api: &Api) -> Value {
    api.get("/v1/populations/staff").await.ok()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// The same people as `csv`, one JSON object per line.
fn ndjson(people: std::ops::Range<u32>) -> String {
    let text = csv(people);
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let object = |line: &str| {
        let pairs = names.iter().zip(line.split(','));
        let fields: serde_json::Map<String, Value> = pairs
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        format!("{}\n", Value::from(fields))
    };
    lines.map(object).collect()
}

async fn every_format_and_compression_reads_the_same_people(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let (text, lines) = (csv(0..5_000), ndjson(0..5_000));
    let two_members = [
        gzip(&text.as_bytes()[..1000]),
        gzip(&text.as_bytes()[1000..]),
    ]
    .concat();
    let mut digests = Vec::new();
    for (query, encoding, bytes) in [
        ("", None, text.clone().into_bytes()),
        ("?format=csv", Some("identity"), text.clone().into_bytes()),
        ("?format=csv", Some("gzip"), gzip(text.as_bytes())),
        ("?format=csv", Some("gzip"), two_members),
        (
            "?format=csv",
            Some("zstd"),
            zstd::encode_all(text.as_bytes(), 1).unwrap(),
        ),
        ("?format=csv", None, text.replace('\n', "\r\n").into_bytes()),
        ("?format=csv", None, format!("\u{feff}{text}").into_bytes()),
        ("?format=csv", None, text.trim_end().as_bytes().to_vec()),
        ("?format=ndjson", None, lines.clone().into_bytes()),
        (
            "?format=ndjson",
            Some("zstd"),
            zstd::encode_all(lines.as_bytes(), 1).unwrap(),
        ),
    ] {
        let name = json!({"name": "staff"});
        api.post("/v1/populations", name).await;
        let done = send_file(api, query, encoding, bytes).await;
        assert!(done.status < 300, "{query} {encoding:?}: {}", done.text);
        assert_eq!(
            done.body["rows_bad"], 0,
            "{query} {encoding:?}: {}",
            done.text
        );
        assert_eq!(
            done.body["version"]["member_count"], 5_000,
            "{query} {encoding:?}"
        );
        digests.push(done.body["version"]["content_digest"].clone());
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "one content, one digest: {digests:?}");
    let unknown = send_file(api, "", Some("br"), text.into_bytes()).await;
    unknown.refused(415, "encoding_unknown");
}

async fn the_same_bytes_again_change_nothing(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    let before = staff(api).await;
    let again = send_file(api, "", None, csv(0..100).into_bytes()).await;
    assert_eq!(
        (again.status, &again.body["status"]),
        (200, &json!("unchanged"))
    );
    assert_eq!(
        (&again.body["joined"], &again.body["left"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        staff(api).await["current_version"],
        before["current_version"]
    );
    let import = format!("/v1/imports/{}", again.body["id"].as_str().unwrap());
    assert_eq!(api.get(&import).await.ok()["status"], "unchanged");
}

async fn another_order_of_rows_and_columns_is_the_same_content(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    let one = import_csv(
        api,
        "employee_id,country,city\n1,DE,Ulm\n2,FR,\n".to_owned(),
    )
    .await;
    let other = import_csv(
        api,
        "city,employee_id,country\n,2,FR\nUlm,1,DE\n".to_owned(),
    )
    .await;
    let digest = |import: &Value| import["version"]["content_digest"].clone();
    assert_eq!(digest(&one), digest(&other));
    let swapped = import_csv(
        api,
        "employee_id,country,city\n1,FR,Ulm\n2,DE,\n".to_owned(),
    )
    .await;
    assert_ne!(digest(&one), digest(&swapped), "whose value it is matters");
}

async fn joined_and_left_are_counted(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let first = import(api, 1_000).await;
    assert_eq!(
        (first["joined"].as_u64(), first["left"].as_u64()),
        (Some(1_000), Some(0))
    );
    let second = import_csv(api, csv(20..1_050)).await;
    assert_eq!(
        (second["joined"].as_u64(), second["left"].as_u64()),
        (Some(50), Some(20))
    );
    assert_eq!(second["version"]["number"], 2);
    let gone = api.get("/v1/populations/staff/members/e0000019").await;
    gone.refused(404, "member_not_found");
    let new = api.get("/v1/populations/staff/members/e0001049").await.ok();
    assert_eq!(
        (&new["version"], &new["attributes"]["country"]),
        (&json!(2), &json!("FR"))
    );
}

async fn a_member_is_found_by_directory_id_and_nothing_else(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    let text =
        "employee_id,name\ne1,Ann\nE1,Bob\nzoë@example.com,Zoë\na/b c,Slash\ne11,\"Müller, Jr.\"\n";
    import_csv(api, text.to_owned()).await;
    for (key, name) in [
        ("e1", "Ann"),
        ("E1", "Bob"),
        ("zo%C3%AB@example.com", "Zoë"),
        ("a%2Fb%20c", "Slash"),
        ("e11", "Müller, Jr."),
    ] {
        let member = api
            .get(&format!("/v1/populations/staff/members/{key}"))
            .await
            .ok();
        assert_eq!(member["attributes"]["name"], name, "{member}");
    }
    for key in ["e", "e111", "Ann", "%20e1", "e1%20"] {
        let answer = api
            .get(&format!("/v1/populations/staff/members/{key}"))
            .await;
        answer.refused(404, "member_not_found");
    }
}

async fn types_are_found_and_said_types_are_kept(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    let mapping = json!({"key": "id", "columns": {"level": {"type": "integer"}, "note": {"ignore": true}, "c": {"attribute": "country"}}});
    api.post(
        "/v1/populations",
        json!({"name": "staff", "mapping": mapping}),
    )
    .await
    .ok();
    let text = "id,level,note,c,active,hired,zip\n1,7,x,DE,true,2026-02-28,01234\n2,12,y,FR,False,2024-02-29,99999\n";
    let done = import_csv(api, text.to_owned()).await;
    let types: Vec<(&str, &str)> = done["version"]["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            (
                column["name"].as_str().unwrap(),
                column["type"].as_str().unwrap(),
            )
        })
        .collect();
    let mut sorted = types.clone();
    sorted.sort_unstable();
    let expected = [
        ("active", "boolean"),
        ("country", "text"),
        ("hired", "date"),
        ("level", "integer"),
        ("zip", "text"),
    ];
    assert_eq!(sorted, expected);
    let member = api.get("/v1/populations/staff/members/1").await.ok();
    let expected =
        json!({"active": true, "country": "DE", "hired": "2026-02-28", "level": 7, "zip": "01234"});
    assert_eq!(member["attributes"], expected);
    let wrong = import_csv(api, format!("{text}3,seven,z,DE,true,2026-02-28,1\n")).await;
    let bad = &wrong["bad_rows"][0];
    assert_eq!(
        (&bad["line"], &bad["code"]),
        (&json!(4), &json!("value_type"))
    );
}

async fn suspicious_shrinkage_is_refused_unless_somebody_says_why(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    let before = staff(api).await;
    let fewer = || csv(0..949).into_bytes();
    let sentence = send_file(api, "", None, fewer())
        .await
        .refused(422, "suspicious_shrinkage");
    assert!(
        sentence.contains("949") && sentence.contains("override_shrink_reason"),
        "{sentence}"
    );
    assert_eq!(staff(api).await, before, "nothing is published");
    let just_enough = send_file(api, "", None, csv(0..950).into_bytes()).await;
    assert_eq!(
        just_enough.status, 201,
        "5 % fewer is not over 5 %: {}",
        just_enough.text
    );
    let query = "?override_shrink_reason=a%20division%20was%20sold";
    let done = send_file(api, query, None, csv(0..500).into_bytes())
        .await
        .ok();
    assert_eq!(done["version"]["member_count"], 500);
    let audit = api.get("/v1/audit?limit=1000").await.ok();
    let entries = audit["items"].as_array().unwrap();
    let published = entries
        .iter()
        .rfind(|entry| entry["action"] == "population.publish")
        .unwrap();
    assert_eq!(
        published["detail"]["override_shrink_reason"],
        "a division was sold"
    );
    assert_eq!(published["actor"], "first-admin");
    let refused = entries
        .iter()
        .filter(|entry| entry["action"] == "population.import_refused");
    assert_eq!(
        refused.count(),
        1,
        "the refused attempt is in the trail as well"
    );
}

async fn an_import_under_way_is_seen_by_nobody(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    let before = staff(api).await;
    let text = csv(0..50_000);
    let lines = [format!("content-length: {}", text.len())];
    let mut wire = Wire::begin(api, "POST /v1/populations/staff/imports", &lines).await;
    let (most, rest) = text.as_bytes().split_at(text.len() - 100);
    wire.write(most).await;
    let second = send_file(api, "", None, csv(0..1_010).into_bytes()).await;
    assert_eq!(
        second.status, 201,
        "a second import need not wait: {}",
        second.text
    );
    assert_ne!(staff(api).await, before);
    api.get("/v1/populations/staff/members/e0040000")
        .await
        .refused(404, "member_not_found");
    wire.write(rest).await;
    let answer = wire.read_until("\"finished_at\"").await;
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let now = staff(api).await;
    assert_eq!(now["current_version"]["member_count"], 50_000);
    assert_eq!(now["current_version"]["number"], 3);
}

async fn a_file_published_meanwhile_is_what_the_next_is_compared_with(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 100).await;
    let text = csv(0..100);
    let lines = [format!("content-length: {}", text.len() + 1)];
    let mut wire = Wire::begin(api, "POST /v1/populations/staff/imports", &lines).await;
    wire.write(text.as_bytes()).await;
    send_file(api, "", None, csv(0..1_000).into_bytes())
        .await
        .ok();
    wire.write(b"\n").await;
    let answer = wire.read_until("\"code\"").await;
    assert!(
        answer.contains("suspicious_shrinkage"),
        "100 are few where there are 1,000 by now: {answer}"
    );
}

async fn uploads_that_stand_still_hold_up_no_halt_and_no_look(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 1_000).await;
    let mut standing = Vec::new();
    for _ in 0..4 {
        // Leave to send comes when the import has begun, and has its place.
        let lines = ["content-length: 1000000", "expect: 100-continue"].map(str::to_owned);
        let mut wire = Wire::begin(api, "POST /v1/populations/staff/imports", &lines).await;
        wire.read_until("100 Continue").await;
        wire.write(csv(0..2_000).as_bytes()).await;
        standing.push(wire);
    }
    send_file(api, "", None, csv(0..1_010).into_bytes())
        .await
        .refused(409, "imports_busy");
    let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "found inside"});
    let begun = std::time::Instant::now();
    api.post("/v1/holds", halt).await.ok();
    staff(api).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(2));
    drop(standing);
    until("the places are free again", 10, async || {
        let answer = send_file(api, "", None, csv(0..1_010).into_bytes()).await;
        answer.status == 201 || answer.status == 200
    })
    .await;
    service.end_and_fsck();
}

async fn two_imports_at_once_publish_two_whole_versions(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    import(api, 20_000).await;
    let one = send_file(api, "", None, csv(0..20_100).into_bytes());
    let two = send_file(api, "", None, csv(0..20_200).into_bytes());
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.ok(), two.ok());
    let mut numbers = [
        one["version"]["number"].as_i64(),
        two["version"]["number"].as_i64(),
    ];
    numbers.sort_unstable();
    assert_eq!(numbers, [Some(2), Some(3)]);
    let last = if one["version"]["number"] == 3 {
        &one
    } else {
        &two
    };
    assert_eq!(
        staff(api).await["current_version"]["id"],
        last["version"]["id"]
    );
    let people = last["version"]["member_count"].as_u64().unwrap();
    let key = format!("e{:07}", people - 1);
    let member = api
        .get(&format!("/v1/populations/staff/members/{key}"))
        .await
        .ok();
    assert_eq!(member["ordinal"], people - 1);
}

async fn a_mapping_says_which_column_is_the_directory_id(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    for (mapping, part) in [
        (
            json!({"columns": {"a": {"attribute": "x"}, "b": {"attribute": "x"}}}),
            "x",
        ),
        (json!({"key": ""}), "key"),
    ] {
        let refused = api
            .post(
                "/v1/populations",
                json!({"name": "staff", "mapping": mapping}),
            )
            .await;
        refused.refused(422, "mapping_invalid");
        assert!(refused.text.contains(part), "{}", refused.text);
    }
    let mapping = json!({"key": "guid", "manager": "boss"});
    api.post(
        "/v1/populations",
        json!({"name": "staff", "mapping": mapping}),
    )
    .await
    .ok();
    for text in ["employee_id,boss\n1,\n", "guid,manager\n1,\n"] {
        let refused = send_file(api, "", None, text.into()).await;
        refused.refused(422, "file_unusable");
    }
    let done = import_csv(api, "guid,boss\n1,\n2,1\n".to_owned()).await;
    let columns = &done["version"]["columns"];
    assert!(
        columns
            .as_array()
            .unwrap()
            .iter()
            .any(|column| column["type"] == "reference"),
        "{columns}"
    );
}

async fn files_without_people_or_head_are_refused(database: Database) {
    let service = Service::start(&database);
    let api = &service.api;
    api.post("/v1/populations", json!({"name": "staff"}))
        .await
        .ok();
    for (text, code) in [
        ("", "file_unusable"),
        ("employee_id,name\n", "file_without_people"),
        ("employee_id,employee_id\n1,2\n", "file_unusable"),
        ("employee_id,\n1,2\n", "file_unusable"),
        ("id;name\n1;2\n", "file_unusable"),
        ("\u{1f}\u{8b}\u{8}", "file_unusable"),
    ] {
        let sentence = send_file(api, "", None, text.into())
            .await
            .refused(422, code);
        assert!(
            sentence.contains("nothing is published"),
            "{text:?}: {sentence}"
        );
    }
    let empty = send_file(api, "?format=ndjson", None, Vec::new()).await;
    assert_eq!(empty.status, 422, "{}", empty.text);
    let not_packed = send_file(api, "", Some("gzip"), csv(0..3).into_bytes()).await;
    not_packed.refused(422, "file_damaged");
    assert_eq!(staff(api).await["current_version"], Value::Null);
    until("every refused import is at its end", 5, async || {
        let audit = api.get("/v1/audit?limit=1000").await.ok();
        let refused = audit["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["action"] == "population.import_refused");
        refused.count() == 8
    })
    .await;
}
