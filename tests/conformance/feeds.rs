//! Feeds of other people: a TAXII server that hands each page out once, and what was really published.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sha2::Digest as _;

use crate::polled::{asking_host, signals, source, state};
use crate::support::database::Database;
use crate::support::feed::{Feed, Reply};
use crate::support::targets::{Target, free_port};
use crate::support::{on_each_database, repository, until};

on_each_database!(
    the_catalogue_of_2025_is_read_whole_and_half_of_it_is_not_believed,
    advisories_that_were_really_published_are_read,
    a_provider_is_read_over_tls_at_the_address_that_was_granted,
);

const OBJECTS: usize = 1001;

/// On one database: five hundred pages take their time, and are the same on the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_of_one_instant_come_once_though_the_server_starts_anew_midway() {
    let database = Database::sqlite();
    let port = free_port();
    let Some(server) = Target::medallion(port, OBJECTS).await else {
        return;
    };
    let password = [
        ("TIDEGATE_CREDENTIAL_INTEL", "let-me-read"),
        ("TIDEGATE_CREDENTIAL_WRONG", "let-me-in"),
    ];
    let service = asking_host(&database, &format!("127.0.0.1:{port}"), &password);
    let api = &service.api;
    let with = |collection: &str, secret: &str| {
        json!({
            "url": server.url, "collection": collection, "user": "reader", "password": {"env": secret},
            "every_seconds": 5,
        })
    };
    let (full, empty) = (with("full", password[0].0), with("empty", password[0].0));
    let wrong = with("full", password[1].0);
    source(api, "wrong", "taxii", wrong).await;
    until("the wrong password is told", 30, async || {
        let trouble = state(api, "wrong").await["trouble"].to_string();
        trouble.contains("401") && trouble.contains("credential")
    })
    .await;
    api.post("/v1/sources/wrong/revoke", json!({})).await.ok();
    source(api, "empty", "taxii", empty).await;
    until("an empty collection is an answer", 30, async || {
        let answer = api.post("/v1/sources/empty/poll", json!({})).await;
        answer.status == 200 && answer.body["admitted"] == 0 && answer.body["refused"] == 0
    })
    .await;
    source(api, "intel", "taxii", full).await;
    until("some of it is read", 60, async || {
        signals(api).await.len() > 100
    })
    .await;
    drop(server);
    until("the outage is noticed", 30, async || {
        state(api, "intel").await["trouble"].is_string()
    })
    .await;
    let before = signals(api).await.len();
    assert!(before < OBJECTS, "midway: {before}");
    let _server = Target::medallion(port, OBJECTS)
        .await
        .expect("it starts again");
    until("all of it is read", 400, async || {
        signals(api).await.len() >= OBJECTS
    })
    .await;
    until("it is heard again", 60, async || {
        state(api, "intel").await["trouble"].is_null()
    })
    .await;
    let all = signals(api).await;
    let ids: BTreeSet<&str> = all
        .iter()
        .filter_map(|one| one["signal"]["external_id"].as_str())
        .collect();
    assert_eq!(
        (all.len(), ids.len()),
        (OBJECTS, OBJECTS),
        "all of them, each once"
    );
    until("nothing is left to ask for", 60, async || {
        let answer = api.post("/v1/sources/intel/poll", json!({})).await.ok();
        answer["admitted"] == 0 && answer["requests"] == 1
    })
    .await;
    service.end_and_fsck();
}

/// Reads what was really published, where it lies beside the repository.
fn published(name: &str) -> Option<Vec<u8>> {
    let root = repository().join("../shared/fixtures/signals");
    let bytes = std::fs::read(root.join(name)).ok();
    if bytes.is_none() {
        println!("skipped: `{name}` is not here");
    }
    bytes
}

async fn the_catalogue_of_2025_is_read_whole_and_half_of_it_is_not_believed(database: Database) {
    let Some(whole) = published("kev/known_exploited_vulnerabilities.json") else {
        return;
    };
    let mut half: Value = serde_json::from_slice(&whole).unwrap();
    let entries = half["vulnerabilities"].as_array_mut().unwrap();
    let count = entries.len();
    entries.truncate(count / 2);
    half["count"] = json!(count / 2);
    half["catalogVersion"] = json!("2031.01.01");
    let feed = Feed::start(move |_| Reply::Whole(200, Vec::new(), whole.clone()));
    let service = asking_host(&database, &feed.host(), &[]);
    let api = &service.api;
    source(api, "kev", "kev", json!({"url": feed.url("/kev.json")})).await;
    until("it is read", 120, async || {
        signals(api).await.len() == count
    })
    .await;
    let path = "/v1/sources/kev/poll";
    assert_eq!(api.post(path, json!({})).await.ok()["refused"], 0);
    feed.always(Reply::json(&half));
    api.post(path, json!({})).await.refused(409, "shrunk");
    assert_eq!(signals(api).await.len(), count);
    service.end_and_fsck();
}

async fn advisories_that_were_really_published_are_read(database: Database) {
    let names = [
        "icsa-23-005-01",
        "icsa-23-299-05",
        "va-24-254-01",
        "va-24-262-01",
    ];
    let mut documents = BTreeMap::new();
    for name in names {
        let Some(bytes) = published(&format!("csaf/{name}.json")) else {
            return;
        };
        documents.insert(format!("/white/{name}.json"), bytes);
    }
    let index = names.map(|name| format!("{name}.json\n")).concat();
    documents.insert("/white/index.txt".to_owned(), index.into_bytes());
    let feed = Feed::start(move |asked| match documents.get(&asked.path) {
        Some(bytes) => Reply::Whole(200, Vec::new(), bytes.clone()),
        None => Reply::status(404),
    });
    let service = asking_host(&database, &feed.host(), &[]);
    let api = &service.api;
    source(api, "cisa", "csaf", json!({"url": feed.url("/white/")})).await;
    until("all of them are read", 60, async || {
        let answer = api.post("/v1/sources/cisa/poll", json!({})).await.ok();
        answer["refused"] == 0 && answer["admitted"] == 0
    })
    .await;
    let all = signals(api).await;
    let of = |name: &str| {
        let id = |one: &Value| {
            one["signal"]["external_id"]
                .as_str()
                .unwrap()
                .to_lowercase()
        };
        all.iter().filter(|one| id(one).starts_with(name)).count()
    };
    for name in names {
        assert!(of(name) > 0, "{name}: {all:#?}");
    }
    service.end_and_fsck();
}

async fn a_provider_is_read_over_tls_at_the_address_that_was_granted(database: Database) {
    let (port, name) = (free_port(), "csaf.example");
    let root = database.file("site");
    let folder = root.join("www");
    std::fs::create_dir_all(folder.join("white")).unwrap();
    let signed = repository().join("tests/fixtures/openpgp");
    std::fs::copy(signed.join("advisory.json"), folder.join("white/one.json")).unwrap();
    // Not where it would be looked for by itself: the feed names it.
    std::fs::copy(signed.join("acme.sig.asc"), folder.join("one.sig")).unwrap();
    let link = |path: &str| format!("https://{name}:{port}/{path}");
    let digest = sha2::Sha512::digest(std::fs::read(folder.join("white/one.json")).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(
        folder.join("white/one.json.sha512"),
        format!("{digest}  one.json"),
    )
    .unwrap();
    let provider = json!({
        "canonical_url": link("provider-metadata.json"), "last_updated": "2024-01-25T10:00:00Z",
        "metadata_version": "2.0", "role": "csaf_trusted_provider",
        "publisher": {"category": "vendor", "name": "Acme", "namespace": link("")},
        "distributions": [{"rolie": {"feeds": [{"url": link("white/feed.json"), "tlp_label": "WHITE"}]}}],
    });
    let listed = json!({"feed": {"id": "white", "entry": [{
        "id": "one", "updated": "2024-01-25T10:00:00Z",
        "content": {"type": "application/json", "src": link("white/one.json")},
        "link": [
            {"rel": "self", "href": link("white/one.json")}, {"rel": "hash", "href": link("white/one.json.sha512")},
            {"rel": "signature", "href": link("one.sig")},
        ],
    }]}});
    std::fs::write(folder.join("provider-metadata.json"), provider.to_string()).unwrap();
    std::fs::write(folder.join("white/feed.json"), listed.to_string()).unwrap();
    let Some(site) = Target::https(port, name, &folder).await else {
        return;
    };
    let trust = root.join("ca.pem").display().to_string();
    let reach = format!("{name}:{port}=127.0.0.1,wrong.example:{port}=127.0.0.1,localhost:{port}");
    let credentials = signed.display().to_string();
    let variables = [
        ("SSL_CERT_FILE", trust.as_str()),
        ("TIDEGATE_CREDENTIALS", &credentials),
    ];
    let service = asking_host(&database, &reach, &variables);
    let api = &service.api;
    let at = |root: &str| {
        let url = format!("{root}/provider-metadata.json");
        json!({"url": url, "since": "2024-01-01T00:00:00Z", "trusted": true, "openpgp_keys": "acme.keys.asc"})
    };
    source(api, "acme", "csaf", at(&site.url)).await;
    until("it is read", 60, async || !signals(api).await.is_empty()).await;
    let answer = api.post("/v1/sources/acme/poll", json!({})).await.ok();
    assert_eq!(
        (&answer["refused"], &answer["requests"]),
        (&json!(0), &json!(2)),
        "{answer}"
    );
    for other in ["wrong.example", "localhost"] {
        let url = format!("https://{other}:{port}");
        source(api, other, "csaf", at(&url)).await;
        until("another name is not believed", 60, async || {
            let trouble = state(api, other).await["trouble"].to_string();
            trouble.contains("certificate")
        })
        .await;
    }
    service.end_and_fsck();
}
