//! What the pages about signals and policies show is run: each file, each command that needs no service, and each
//! sender.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::database::{Database, Folder};
use crate::support::repository;
use crate::support::service::PROGRAM;
use crate::support::webhooks::{SECRET, service_with_key, source};

fn page(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs").join(name)).unwrap()
}

fn examples() -> PathBuf {
    repository().join("docs/examples")
}

/// The blocks of one language, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let parts = page.split(&begin).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

/// Runs the program in a folder; returns its code and everything it said.
fn run(folder: &Path, words: &[&str]) -> (i32, String) {
    let done = Command::new(PROGRAM)
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (
        done.status.code().unwrap(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn every_command_of_the_page_that_needs_no_service_works_on_the_examples() {
    let page = page("POLICIES.md");
    let mut found = Vec::new();
    for line in blocks(&page, "sh").iter().flat_map(|block| block.lines()) {
        let line = line.split('#').next().unwrap();
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        let has_file = words.iter().any(|word| examples().join(word).is_file());
        if words.contains(&"--stored") || !has_file {
            continue;
        }
        let (code, said) = run(&examples(), &words);
        // Two sets that differ are said by the code as well.
        let differs = words.contains(&"diff") || words.contains(&"--against");
        assert_eq!(code, if differs { 2 } else { 0 }, "{line}: {said}");
        found.push(words[1].to_owned());
    }
    assert_eq!(found, ["test", "diff", "replay", "replay", "explain"]);
}

#[test]
fn every_set_of_the_page_and_of_the_examples_passes_its_tests() {
    let page = page("POLICIES.md");
    let folder = Folder::new();
    let shown = blocks(&page, "yaml");
    assert_eq!(shown.len(), 2);
    for (number, block) in shown.iter().enumerate() {
        let file = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&file, block).unwrap();
        let (code, said) = run(folder.path(), &["policy", "test", file.to_str().unwrap()]);
        assert_eq!(code, 0, "{said}");
    }
    let mine = std::fs::read_to_string(examples().join("my-rules.yaml")).unwrap();
    assert!(
        mine.contains(&shown[0]),
        "the page shows what the file says"
    );
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let (code, said) = run(&examples(), &["policy", "test", path.to_str().unwrap()]);
            assert!(code == 0 && said.contains("2 of 2 tests pass"), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_shows_as_a_sender_is_taken() {
    let database = Database::sqlite();
    let service = service_with_key(&database);
    let api = &service.api;
    source(api, "siem", "microsoft").await;
    let page = page("SIGNALS.md");
    std::fs::write(database.file("siem.key"), SECRET).unwrap();
    let python = blocks(&page, "python").remove(0);
    let mut shells = blocks(&page, "sh").into_iter();
    let shell = shells.find(|block| block.contains("hexkey")).unwrap();
    let mut sent = 0;
    for (program, option, code, needed) in [
        ("python3", "-c", python, &["python3"][..]),
        ("sh", "-c", shell, &["openssl", "curl", "od"]),
    ] {
        let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
        if !needed.iter().all(is_there) {
            println!("skipped: {needed:?} are not here");
            continue;
        }
        let done = Command::new(program)
            .args([option, &code])
            .current_dir(database.folder.path())
            .env("TIDEGATE_URL", &api.url)
            .env("no_proxy", "*")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program}: {said}");
        sent += 1;
    }
    let listed = api.get("/v1/signals").await.ok();
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), sent, "{listed:#}");
    for item in items {
        assert_eq!(item["signal"]["kind"], "vendor_breach");
        assert_eq!(item["signal"]["trust"], "signed_fresh");
    }
}
