//! The database goes away: nobody is sent, the service says so, and work goes on when it is back.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::journal::Journal;
use super::{people, random_moment, ready};
use crate::support::database::Database;
use crate::support::people::{import, sandbox, started, two_waves, until_done, until_status};
use crate::support::service::Service;
use crate::support::{Random, seed, skipped, until};

/// A PostgreSQL cluster of the test's own, which it may stop.
struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
}

impl Cluster {
    fn start(database: &Database) -> Option<Self> {
        let Some(programs) = std::env::var_os("TIDEGATE_POSTGRES_BIN") else {
            skipped("no PostgreSQL programs: TIDEGATE_POSTGRES_BIN is not set");
            return None;
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = database.file("cluster");
        std::fs::create_dir_all(&folder).unwrap();
        // The server refuses to run as root, whose files belong to the user of its package then.
        if is_root() {
            let done = Command::new("chown").arg("postgres").arg(&folder).status();
            assert!(done.unwrap().success());
        }
        let data = folder.join("data");
        let cluster = Self {
            programs: programs.into(),
            data,
            port,
        };
        let data = cluster.data.display().to_string();
        cluster.run(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "tidegate",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        );
        cluster.up();
        Some(cluster)
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("su");
            command.args(["postgres", "-s", "/bin/sh", "-c", "exec \"$@\"", "--", "sh"]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        let command = command.args(arguments).current_dir("/");
        // A server that it starts must not keep a pipe of the test open.
        let status = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{arguments:?}");
    }

    fn up(&self) {
        let folder = self.data.parent().unwrap().display().to_string();
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}",
            self.port
        );
        let (data, log) = (self.data.display().to_string(), format!("{folder}/log"));
        self.run(
            "pg_ctl",
            &["-D", &data, "-l", &log, "-o", &options, "-w", "start"],
        );
    }

    /// Ends it as a power cut would.
    fn down(&self) {
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
    }

    fn url(&self) -> String {
        format!("postgres://tidegate@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            self.down();
        }
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_the_service_sends_nobody_and_goes_on_afterwards() {
    let mut random = Random(seed());
    let elsewhere = Database::sqlite();
    let Some(cluster) = Cluster::start(&elsewhere) else {
        return;
    };
    let database = Database {
        url: cluster.url(),
        folder: elsewhere.folder.clone(),
    };
    let everybody = 12_000;
    let journal = Journal::new(&elsewhere);
    let service = Service::start(&database);
    let api = &service.api;
    import(api, everybody).await;
    sandbox(api, journal.settings(50, 16)).await;
    started(api, &two_waves()).await;
    until_done(api, "move", 300, 60).await;
    for _ in 0..2 {
        random_moment(&mut random, 100, 800).await;
        cluster.down();
        // A permit lives for two seconds, and this sandbox answers within a tenth of one.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let known = journal.len();
        let asked = Instant::now();
        assert_eq!(ready(api).await, 503);
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "a probe does not wait"
        );
        let halt = json!({"kind": "halt", "scope": {"type": "everything"}, "reason": "drill"});
        api.post("/v1/holds", halt)
            .await
            .refused(503, "store_unavailable");
        assert_eq!(journal.len(), known, "nobody is sent without a permit");
        cluster.up();
        until("the service is ready again", 15, async || {
            ready(api).await == 200
        })
        .await;
    }
    let view = until_status(api, "move", "completed", 180).await;
    assert_eq!(people(&view, "done"), u64::from(everybody), "{view:#}");
    journal.check_everybody_once(u64::from(everybody));
    service.end_and_fsck();
}
