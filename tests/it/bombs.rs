//! Policy sets that are made to hurt: refused when they are read, by name, and the process lives.

use std::process::Command;

use serde_json::json;

use crate::support::database::{Database, Folder};
use crate::support::service::{PROGRAM, Service};

/// A rule around a condition.
fn rule(when: &str) -> String {
    format!(
        "policy_set: bomb\nrules:\n  - id: a\n    says: b\n    when: {when}\n    trust_at_least: signed_fresh\n    \
         then: {{verdict: hold, kind: pause, scope: target}}\n"
    )
}

/// What each is called, and its text.
fn bombs() -> Vec<(&'static str, String)> {
    let nested = |open: &str, inner: &str, close: &str, times| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    let test = "{signal: kind, equals: vendor_breach}";
    let wide = format!("{{all: [{}]}}", [test; 7].join(", "));
    let mut tree = wide;
    for _ in 0..5 {
        tree = format!("{{all: [{}]}}", [tree.as_str(); 7].join(", "));
    }
    let mut doubling = "a0: &a0 [x, x]\n".to_owned();
    for number in 1..40 {
        let before = number - 1;
        doubling.push_str(&format!("a{number}: &a{number} [*a{before}, *a{before}]\n"));
    }
    let many = (0..20_000)
        .map(|number| format!("  - id: r{number}\n"))
        .collect::<String>();
    vec![
        ("a long sum", rule(&vec!["1"; 50_000].join("+"))),
        ("nested parentheses", rule(&nested("(", "1", ")", 2_000))),
        ("nested lists", rule(&nested("[", "", "]", 10_000))),
        (
            "nested conditions",
            rule(&nested("{all: [", test, "]}", 2_000)),
        ),
        ("nots of nots", rule(&nested("{not: ", test, "}", 5_000))),
        ("a tree of sevens", rule(&tree)),
        ("doubling aliases", doubling),
        (
            "very many rules",
            format!("policy_set: bomb\nrules:\n{many}"),
        ),
        (
            "a long text",
            rule(&format!(
                "{{signal: vendor, equals: {}}}",
                "x".repeat(1 << 20)
            )),
        ),
        (
            "bytes that are no text",
            "\u{0}\u{1}\u{fffd}: [".repeat(1000),
        ),
    ]
}

#[test]
fn a_policy_bomb_is_refused_with_a_sentence_and_aborts_nothing() {
    let folder = Folder::new();
    for (name, text) in bombs() {
        let file = folder.path().join("bomb.yaml");
        std::fs::write(&file, text).unwrap();
        let output = Command::new(PROGRAM)
            .args(["policy", "test"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        let lines = said.lines().count();
        assert!((1..200).contains(&lines), "{name}: {lines} lines");
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_refuses_policy_bombs_and_lives() {
    let service = Service::start(&Database::sqlite());
    for (name, text) in bombs() {
        let answer = service
            .api
            .post_text("/v1/policies", "application/yaml", text)
            .await;
        assert!(
            [400, 413, 422].contains(&answer.status),
            "{name}: {}",
            answer.text
        );
        assert!(
            answer.text.len() < 64 * 1024,
            "{name}: {} bytes",
            answer.text.len()
        );
    }
    let listed = service.api.get("/v1/policies").await.ok();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed:#}");
    let (_, peak) = service.resident();
    assert!(peak < 300 << 20, "{peak} bytes");
    let alive = service.api.post("/v1/policies", json!({})).await;
    assert_eq!(alive.status, 422, "{}", alive.text);
    service.end_and_fsck();
}
