//! Plays every story in `tests/stories` and compares what happened with the text beside it.
//!
//! After a deliberate change: `STORIES=write cargo test -p tidegate-orchestrator --test stories`, then
//! read the difference.
#![expect(
    clippy::expect_used,
    reason = "a story that cannot be read is a failed test, and the message says which"
)]

use std::fs;
use std::path::{Path, PathBuf};

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/stories");
    let entries = fs::read_dir(folder).expect("the stories");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_story_ends_as_it_is_told() {
    let rewrite = std::env::var("STORIES").is_ok_and(|what| what == "write");
    let stories = stories();
    assert!(!stories.is_empty(), "no story was found");
    let mut different = Vec::new();
    for path in stories {
        let story = fs::read_to_string(&path).expect("a story is UTF-8");
        let told = match tidegate_orchestrator::sim::play(&story) {
            Ok(told) => told,
            Err(error) => format!("{error}\n"),
        };
        let expected_path = path.with_extension("out");
        if rewrite {
            fs::write(&expected_path, &told).expect("a writable file");
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if told != expected {
            let name = path.file_name().unwrap_or_default().display();
            different.push(format!("=== {name}: what happened\n{told}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
