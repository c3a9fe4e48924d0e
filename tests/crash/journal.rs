//! The journal of the sandbox: a file that outlives the service and knows everybody it created.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::database::Database;

/// A journal of the sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    file: PathBuf,
    granted: PathBuf,
}

impl Journal {
    /// Names the journal of a test.
    pub(crate) fn new(database: &Database) -> Self {
        Self {
            file: database.file("journal.txt"),
            granted: database.granted("journal.txt"),
        }
    }

    /// Returns settings of a sandbox that keeps it.
    pub(crate) fn settings(&self, latency_ms: u64, concurrency: u64) -> Value {
        json!({"journal": self.granted, "latency_ms": latency_ms, "concurrency": concurrency})
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap_or_default()
    }

    /// Returns how many creations it knows.
    pub(super) fn len(&self) -> u64 {
        self.text().lines().count() as u64
    }

    /// Waits until nobody has been created for a while.
    pub(super) async fn until_quiet(&self) {
        for _ in 0..40 {
            let known = self.len();
            tokio::time::sleep(Duration::from_millis(1500)).await;
            if self.len() == known {
                return;
            }
        }
        panic!("people are still created");
    }

    /// Returns everybody it knows, with how often each was created; fails on a torn line.
    #[track_caller]
    pub(crate) fn people(&self) -> BTreeMap<String, u32> {
        let mut people = BTreeMap::new();
        for line in self.text().lines() {
            let key = line
                .strip_prefix("created ")
                .or_else(|| line.strip_prefix("twice "))
                .unwrap_or_else(|| panic!("torn: `{line}`"));
            *people.entry(key.to_owned()).or_default() += 1;
        }
        people
    }

    /// Fails unless exactly `count` people were created, each once.
    #[track_caller]
    pub(super) fn check_everybody_once(&self, count: u64) {
        let people = self.people();
        let twice: Vec<_> = people.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "created twice: {twice:?}");
        assert_eq!(people.len() as u64, count, "nobody is lost");
    }
}
