//! A disk that is full: the service says so, sends nobody it cannot remember, and goes on by itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::json;

use super::journal::Journal;
use super::people;
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::{Service, check_books};
use crate::support::until;

/// A small disk of its own, where this process may mount one.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, megabytes: u32) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={megabytes}m");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path)
            .output();
        if done.is_ok_and(|done| done.status.success()) {
            return Some(Self(path.to_owned()));
        }
        println!("skipped: no disk could be mounted here, that needs root");
        None
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_a_rollout_which_goes_on_when_there_is_space() {
    let elsewhere = Database::sqlite();
    let Some(disk) = Disk::mount(&elsewhere.file("disk"), 48) else {
        return;
    };
    let database = Database {
        url: format!("sqlite:{}", disk.0.join("test.db").display()),
        folder: Arc::clone(&elsewhere.folder),
    };
    let everybody = 20_000;
    let journal = Journal::new(&elsewhere);
    let service = Service::start(&database);
    let api = &service.api;
    import(api, everybody).await;
    sandbox(api, journal.settings(20, 16)).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 500, 60).await;
    disk.fill();
    let log = elsewhere.file("service.log");
    until("the log says why", 60, async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.contains("disk is full") || log.contains("disk I/O error")
    })
    .await;
    // Whoever was claimed before is sent to the end of the claim, and nobody after.
    journal.until_quiet().await;
    let halt =
        json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "the disk is full"});
    let answer = api.post("/v1/holds", halt.clone()).await;
    if answer.status >= 300 {
        answer.refused(503, "store_unavailable");
    }
    disk.free();
    until("a halt can be placed", 20, async || {
        api.post("/v1/holds", halt.clone()).await.status < 300
    })
    .await;
    let held = api.get("/v1/holds?in_force=true").await.ok();
    let id = held["items"][0]["id"].as_str().unwrap().to_owned();
    crate::support::release::halt(api, &id).await;
    let view = until_status(api, "move", "completed", 120).await;
    assert_eq!(people(&view, "done"), u64::from(everybody));
    journal.check_everybody_once(u64::from(everybody));
    drop(service);
    check_books(&database);
}
