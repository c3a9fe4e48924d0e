//! A PostgreSQL cluster of a test's own, which it may stop, start and cut off.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use sqlx::{Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use super::database::{Database, Folder};
use super::skipped;

/// A PostgreSQL cluster of the test's own, which it may stop.
#[derive(Debug)]
pub(crate) struct Cluster {
    programs: PathBuf,
    data: PathBuf,
    port: u16,
    options: String,
}

/// A server that follows another one.
#[derive(Debug)]
pub(crate) struct Standby(Cluster);

impl Standby {
    /// Cuts it off: it hears nothing more.
    pub(crate) fn cut_off(&self) {
        self.0.down();
    }

    /// Where a database of the followed server is found in it.
    pub(crate) fn url(&self, database: &Database) -> String {
        let name = database.url.rsplit('/').next().unwrap();
        format!("postgres://tidegate@127.0.0.1:{}/{name}", self.0.port)
    }
}

impl Cluster {
    /// Starts one beside a database of the test, with these options of the server; `None` where there are
    /// no programs.
    pub(crate) fn start(database: &Database, options: &str) -> Option<Self> {
        let Some(programs) = std::env::var_os("TIDEGATE_POSTGRES_BIN") else {
            skipped("no PostgreSQL programs: TIDEGATE_POSTGRES_BIN is not set");
            return None;
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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
            options: options.to_owned(),
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
                "--no-sync",
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

    /// Starts the server, and waits until it answers.
    pub(crate) fn up(&self) {
        let folder = self.data.parent().unwrap().display().to_string();
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} {}",
            self.port, self.options
        );
        let (data, log) = (self.data.display().to_string(), format!("{folder}/log"));
        self.run(
            "pg_ctl",
            &["-D", &data, "-l", &log, "-o", &options, "-w", "start"],
        );
    }

    /// Ends it as a power cut would.
    pub(crate) fn down(&self) {
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
    }

    /// Makes a standby that follows it, and starts it on a port of its own. It is ready when this returns.
    pub(crate) fn standby(&self) -> Standby {
        let data = self.data.with_file_name("standby");
        let (path, port) = (data.display().to_string(), self.port.to_string());
        let copy = [
            "-D",
            &path,
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            "tidegate",
            "-R",
            "-X",
            "stream",
        ];
        self.run(
            "pg_basebackup",
            &[&copy[..], &["--checkpoint=fast", "--no-sync"]].concat(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let standby = Self {
            programs: self.programs.clone(),
            data,
            port,
            options: self.options.clone(),
        };
        standby.up();
        Standby(standby)
    }

    /// Ends as a power cut would, and has a standby take its place, at its address, with what it has heard.
    pub(crate) fn fail_over(&mut self, standby: &Standby) {
        self.down();
        self.data.clone_from(&standby.0.data);
        // Nobody is followed any more; its own address would be the one it follows.
        self.options.push_str(" -c primary_conninfo=");
        self.up();
        let data = self.data.display().to_string();
        self.run("pg_ctl", &["-D", &data, "-w", "promote"]);
    }

    /// Makes a new database in it, with a folder for the files of a test.
    pub(crate) async fn database(&self) -> Database {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut admin = PgConnection::connect(&self.url())
            .await
            .expect("the server");
        admin
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .expect("a new database");
        let address = format!("postgres://tidegate@127.0.0.1:{}/{name}", self.port);
        Database {
            url: address,
            folder: Arc::new(Folder::new()),
        }
    }

    /// Returns the address of its first database.
    pub(crate) fn url(&self) -> String {
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
