//! Advisories: what is read of them, and of where they are kept.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::super::field::tests::{any_json, fixture, mangled, origin, real};
use super::directory::{Listed, Role, changes, feed, index, provider};
use super::*;
use crate::signal::Tlp;

const WORDS: &[&str] = &[
    "document",
    "category",
    "csaf_version",
    "title",
    "publisher",
    "name",
    "tracking",
    "id",
    "version",
    "status",
    "initial_release_date",
    "current_release_date",
    "product_tree",
    "branches",
    "vendor",
    "product_name",
    "product",
    "product_id",
    "vulnerabilities",
    "product_status",
    "known_not_affected",
    "known_affected",
    "threats",
    "exploit_status",
    "involvements",
    "party",
    "feed",
    "entry",
    "link",
    "href",
    "canonical_url",
    "role",
    "distributions",
    "2024-01-01T00:00:00Z",
    "https://a.example/b",
];

fn valid() -> Value {
    serde_json::from_slice(&fixture("csaf.json")).unwrap()
}

fn read_value(document: &Value) -> Vec<Signal> {
    read(document.to_string().as_bytes(), &origin()).unwrap()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_document_is_one_signal_and_its_progress_another() {
    let signals = read_value(&valid());
    let [advisory, progress] = signals.as_slice() else {
        panic!("{signals:?}");
    };
    assert_eq!(advisory.external_id, "MSRC-2024-0001");
    assert_eq!(advisory.revision.as_deref(), Some("2"));
    assert_eq!(advisory.kind, SignalKind::ExploitedVulnerability);
    assert_eq!(advisory.severity, Severity::Critical);
    assert_eq!(advisory.severity_raw.as_deref(), Some("Important"));
    assert_eq!(advisory.lifecycle, Lifecycle::Updated);
    assert_eq!(advisory.vendor.as_deref(), Some("microsoft"));
    assert_eq!(advisory.products, names(&["exchange online"]));
    assert_eq!(advisory.tlp, Some(Tlp::Amber));
    assert!(advisory.labels.contains("cve-2024-10002"));
    assert!(advisory.labels.contains("status:final"));
    assert_eq!(advisory.references, ["https://msrc.example/csaf/1.json"]);

    assert_eq!(progress.kind, SignalKind::VendorProgress);
    assert_eq!(
        progress.external_id,
        "MSRC-2024-0001#progress:cve-2024-10001"
    );
    assert_eq!(progress.lifecycle, Lifecycle::Updated);
    assert_eq!(progress.title, "A fix is being tested.");
    assert!(progress.labels.contains("involvement:in_progress"));
}

#[test]
fn a_document_in_which_nothing_is_affected_says_that_there_is_nothing() {
    let mut vex = valid();
    vex["vulnerabilities"][0]["product_status"] = json!({"known_not_affected": ["P-1", "P-2"]});
    vex["vulnerabilities"][1]["product_status"] = json!({"known_not_affected": ["P-1"]});
    let cleared = read_value(&vex);
    assert_eq!(cleared[0].lifecycle, Lifecycle::FalsePositive);
    assert_eq!(cleared[0].products, names(&["exchange online", "teams"]));
    // A product that is only listed as fixed is concerned, and so is one of a status not known here.
    for status in ["fixed", "under_investigation", "something_new"] {
        vex["vulnerabilities"][1]["product_status"] = json!({ status: ["P-1"] });
        let signals = read_value(&vex);
        assert_eq!(signals[0].lifecycle, Lifecycle::Updated, "{status}");
        assert_eq!(signals[0].products, names(&["exchange online"]));
    }
    // A vulnerability that says nothing of any product clears nobody of everything.
    vex["vulnerabilities"][1]
        .as_object_mut()
        .unwrap()
        .remove("product_status");
    vex["product_tree"] = json!({});
    assert_eq!(read_value(&vex)[0].lifecycle, Lifecycle::Updated);
}

#[test]
fn two_vendors_are_two_signals() {
    let mut two = valid();
    two["product_tree"]["branches"]
        .as_array_mut()
        .unwrap()
        .push(json!({
            "category": "vendor", "name": "Contoso", "branches": [
                {"category": "product_name", "name": "Relay", "product": {"product_id": "P-9"}}],
        }));
    two["vulnerabilities"][0]["product_status"]["known_not_affected"] = json!(["P-9"]);
    let signals = read_value(&two);
    assert_eq!(signals[0].external_id, "MSRC-2024-0001#contoso");
    assert_eq!(signals[0].lifecycle, Lifecycle::FalsePositive);
    assert_eq!(signals[1].external_id, "MSRC-2024-0001#microsoft");
    assert_eq!(signals[1].lifecycle, Lifecycle::Updated);
    assert_eq!(signals[1].products, names(&["exchange online", "teams"]));
}

#[test]
fn a_product_that_is_affected_as_a_part_of_another_is_concerned() {
    let mut parts = valid();
    parts["vulnerabilities"] = json!([{"product_status": {
        "known_not_affected": ["P-1", "P-2"], "known_affected": ["P-1:P-2"]}}]);
    parts["product_tree"]["relationships"] = json!([{"category": "default_component_of",
        "full_product_name": {"name": "both", "product_id": "P-1:P-2"},
        "product_reference": "P-1", "relates_to_product_reference": "P-2"}]);
    let signals = read_value(&parts);
    assert_eq!(signals[0].lifecycle, Lifecycle::Updated);
    assert_eq!(signals[0].products, names(&["exchange online", "teams"]));
}

#[test]
fn a_vendor_that_no_branch_names_is_the_one_of_the_source_or_the_publisher() {
    let mut bare = valid();
    bare["product_tree"] = json!({});
    assert_eq!(read_value(&bare)[0].vendor.as_deref(), Some("microsoft"));
    bare["document"]["publisher"]["category"] = json!("coordinator");
    assert_eq!(read_value(&bare)[0].vendor, None);
    let mut of_source = origin();
    of_source.vendor = Some("Fabrikam".to_owned());
    let signals = read(bare.to_string().as_bytes(), &of_source).unwrap();
    assert_eq!(signals[0].vendor.as_deref(), Some("fabrikam"));
}

#[test]
fn an_exploit_status_is_read_sentence_by_sentence_and_taken_as_said_when_it_is_not_understood() {
    let kind = |details: &str| {
        let mut document = valid();
        document["vulnerabilities"][0]["threats"] =
            json!([{"category": "exploit_status", "details": details}]);
        read_value(&document)[0].kind
    };
    for denied in [
        "Publicly Disclosed:No;Exploited: No;Latest Software Release:Exploitation Less Likely",
        "No known public exploits specifically target these vulnerabilities.",
        "We are not aware of this being exploited in the wild.",
    ] {
        assert_eq!(kind(denied), SignalKind::Vulnerability, "{denied}");
    }
    for said in [
        "CISA: https://www.cisa.gov/known-exploited-vulnerabilities-catalog",
        "There is no public code. It is actively exploited.",
        "Il y a des attaques.",
    ] {
        assert_eq!(kind(said), SignalKind::ExploitedVulnerability, "{said}");
    }
}

#[test]
fn a_file_of_2_1_reads_and_its_new_words_are_unknown() {
    let mut newer = valid();
    newer["document"]["csaf_version"] = json!("2.1");
    newer["document"]["aggregate_severity"]["text"] = json!("Catastrophic");
    newer["document"]["distribution"]["tlp"]["label"] = json!("AMBER+STRICT");
    newer["vulnerabilities"] = json!([{
        "cve": "CVE-2025-10001",
        "metrics": [{"content": {"cvss_v4": {"baseSeverity": "HIGH"}}, "products": ["P-1"]}],
        "first_known_exploitation_dates": [{"date": "2025-01-01T00:00:00Z"}],
        "involvements": [{"party": "vendor", "status": "wondering"}],
    }]);
    let signals = read_value(&newer);
    assert_eq!(signals[0].severity, Severity::High);
    assert_eq!(signals[0].kind, SignalKind::ExploitedVulnerability);
    assert_eq!(signals[0].tlp, Some(Tlp::AmberStrict));
    assert_eq!(signals[1].lifecycle, Lifecycle::Unknown);
    newer["document"]["category"] = json!("csaf_withdrawn");
    assert_eq!(read_value(&newer)[0].lifecycle, Lifecycle::Withdrawn);
    newer["vulnerabilities"] = json!("none");
    let bare = read_value(&newer);
    assert_eq!(
        (bare[0].kind, bare[0].severity),
        (SignalKind::Advisory, Severity::Unknown)
    );
}

#[test]
fn a_required_field_that_is_missing_is_named() {
    for path in [
        "/document",
        "/document/category",
        "/document/csaf_version",
        "/document/title",
        "/document/publisher/name",
        "/document/tracking/id",
        "/document/tracking/status",
        "/document/tracking/version",
        "/document/tracking/current_release_date",
    ] {
        let mut changed = valid();
        *changed.pointer_mut(path).unwrap() = json!(7);
        let refused = read(changed.to_string().as_bytes(), &origin()).unwrap_err();
        let named = path.trim_start_matches('/').replace('/', ".");
        assert!(
            refused.sentence.contains(&format!("`{named}`")),
            "{refused}"
        );
    }
}

#[test]
fn more_reports_of_progress_than_are_taken_are_refused() {
    let mut many = valid();
    let one = json!({"party": "vendor", "status": "open"});
    many["vulnerabilities"][0]["involvements"] = Value::from(vec![one; SIGNALS_MAX + 9]);
    let refused = read(many.to_string().as_bytes(), &origin()).unwrap_err();
    assert_eq!(refused.code, "too_many");
}

#[test]
fn real_advisories_read() {
    let expected = [
        (
            "csaf/icsa-23-005-01.json",
            "hitachi energy",
            "unem",
            Severity::High,
        ),
        (
            "csaf/icsa-23-299-05.json",
            "rockwell automation",
            "factorytalk view site edition",
            Severity::High,
        ),
        (
            "csaf/va-24-254-01.json",
            "ibm",
            "webmethods integration",
            Severity::Critical,
        ),
        (
            "csaf/va-24-262-01.json",
            "planet fitness",
            "planet fitness workouts",
            Severity::High,
        ),
    ];
    for (name, vendor, product, severity) in expected {
        let Some(body) = real(name) else { continue };
        let signals = read(&body, &origin()).unwrap();
        let [signal] = signals.as_slice() else {
            panic!("{name}: {signals:?}");
        };
        assert_eq!(signal.vendor.as_deref(), Some(vendor));
        assert_eq!(signal.products, names(&[product]));
        assert_eq!(signal.severity, severity, "{name}");
        assert_eq!(signal.tlp, Some(Tlp::Clear));
        assert_eq!(signal.kind, SignalKind::Vulnerability);
        assert!(signal.lifecycle.can_tighten());
    }
}

fn provider_metadata() -> Value {
    json!({
        "canonical_url": "https://csaf.example/.well-known/csaf/provider-metadata.json",
        "distributions": [
            {"directory_url": "https://csaf.example/white/"},
            {"rolie": {"feeds": [{"tlp_label": "WHITE", "url": "https://csaf.example/feed.json"}]}}],
        "last_updated": "2024-01-01T00:00:00Z", "metadata_version": "2.0",
        "public_openpgp_keys": [{"fingerprint": "ABCD", "url": "https://csaf.example/key.asc"}],
        "publisher": {"category": "vendor", "name": "Example", "namespace": "https://csaf.example"},
        "role": "csaf_trusted_provider",
    })
}

fn rolie_feed() -> Value {
    json!({"feed": {"id": "f", "entry": [{
        "id": "A-1", "updated": "2024-01-02T00:00:00Z",
        "content": {"src": "https://csaf.example/2024/a-1.json", "type": "application/json"},
        "link": [
            {"rel": "self", "href": "https://csaf.example/2024/a-1.json"},
            {"rel": "hash", "href": "https://csaf.example/2024/a-1.json.sha256"},
            {"rel": "signature", "href": "https://csaf.example/2024/a-1.json.asc"}],
    }]}})
}

#[test]
fn a_provider_says_where_its_lists_are() {
    let read = provider(provider_metadata().to_string().as_bytes()).unwrap();
    assert_eq!(read.role, Role::TrustedProvider);
    assert_eq!(read.feeds, ["https://csaf.example/feed.json"]);
    assert_eq!(read.directories, ["https://csaf.example/white/"]);
    assert_eq!(read.keys[0].fingerprint.as_deref(), Some("abcd"));
    let mut other = provider_metadata();
    other["role"] = json!("csaf_emperor");
    assert_eq!(
        provider(other.to_string().as_bytes()).unwrap().role,
        Role::Unknown
    );
    for wrong in [
        "http://csaf.example/",
        "file:///etc/passwd",
        "https://",
        "https://csaf.example@evil.example/",
        "https://csaf.example/\u{1}",
        "https://csaf.example\\@evil.example/",
    ] {
        other["distributions"][0]["directory_url"] = json!(wrong);
        assert!(provider(other.to_string().as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_feed_lists_documents_with_their_hashes_and_signatures() {
    let listed = feed(rolie_feed().to_string().as_bytes()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].location, "https://csaf.example/2024/a-1.json");
    assert_eq!(listed[0].hashes.len(), 1);
    assert!(listed[0].signature.is_some() && listed[0].updated_at.is_some());
    let bare = json!({"feed": {"entry": [{"link": []}]}});
    assert_eq!(
        feed(bare.to_string().as_bytes()).unwrap_err().code,
        "field_invalid"
    );
    assert!(feed(br#"{"feed":{"entry":[]}}"#).unwrap().is_empty());
}

#[test]
fn changes_are_rows_of_a_path_and_an_instant() {
    let body = "\"2020/a.json\",\"2020-07-01T10:09:07Z\"\r\n2018/b+1.json , 2018-01-01T00:00:00Z\n\n2017/c.json,soon\n";
    let listed = changes(body.as_bytes()).unwrap();
    let locations: Vec<&str> = listed.iter().map(|one| one.location.as_str()).collect();
    assert_eq!(locations, ["2020/a.json", "2018/b+1.json", "2017/c.json"]);
    assert!(listed[0].updated_at > listed[1].updated_at);
    assert_eq!(listed[2].updated_at, None);
    for wrong in [
        "a.json",
        "\"a.json",
        "a.json,b,c",
        "\"a.json\"x,2020",
        "a\".json,2020",
    ] {
        assert_eq!(
            changes(wrong.as_bytes()).unwrap_err().code,
            "row_invalid",
            "{wrong}"
        );
    }
    assert_eq!(
        changes(b"\"a\"\"b\",2020").unwrap_err().code,
        "path_invalid"
    );
}

#[test]
fn a_path_cannot_leave_its_directory() {
    let listed: Vec<Listed> = index(b"2020/a.json\n\n2021/b.json\r\n").unwrap();
    assert_eq!(listed.len(), 2);
    for wrong in [
        "../a.json",
        "2020/../../a.json",
        "/etc/passwd",
        "//evil.example/a",
        "https://evil.example/a",
        "a\\..\\b",
        "%2e%2e/a",
        "a//b",
        "./a",
        ".git/a",
        "a?b",
        "a b",
    ] {
        assert_eq!(
            index(wrong.as_bytes()).unwrap_err().code,
            "path_invalid",
            "{wrong}"
        );
    }
    assert_eq!(index(&[0xff]).unwrap_err().code, "not_text");
}

#[test]
fn a_document_cut_or_changed_anywhere_is_no_panic() {
    mangled(&fixture("csaf.json"), |body| drop(read(body, &origin())));
    mangled(provider_metadata().to_string().as_bytes(), |body| {
        drop(provider(body))
    });
    mangled(rolie_feed().to_string().as_bytes(), |body| drop(feed(body)));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(read(&body, &origin()));
        drop(provider(&body));
        drop(feed(&body));
        drop(index(&body));
        drop(changes(&body));
    }

    #[test]
    fn any_text_is_a_list_or_refused(body in "[\"a-z/,.\r\n0-9 ]{0,60}") {
        drop(index(body.as_bytes()));
        for one in changes(body.as_bytes()).unwrap_or_default() {
            prop_assert!(!one.location.split('/').any(|step| step == ".." || step.is_empty()));
        }
    }

    #[test]
    fn any_json_is_read_or_refused(value in any_json(WORDS)) {
        let body = value.to_string();
        drop(read(body.as_bytes(), &origin()));
        drop(provider(body.as_bytes()));
        drop(feed(body.as_bytes()));
        let mut document = valid();
        document["product_tree"] = value.clone();
        document["vulnerabilities"][0] = value;
        drop(read(document.to_string().as_bytes(), &origin()));
    }
}
