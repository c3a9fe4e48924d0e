//! The real binary as a process: started, killed, stopped, asked from the command line.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::api::Api;
use super::database::Database;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// A running service.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    /// Its database.
    pub(crate) database: Database,
    /// A client with the first admin's token.
    pub(crate) api: Api,
}

impl Service {
    /// Starts the service on a new database.
    pub(crate) fn start(database: &Database) -> Self {
        let (child, url, token) = spawn(database, &[]);
        let token = token.expect("a new database has a first admin token");
        Self {
            child,
            database: database.clone(),
            api: Api::new(url, token),
        }
    }

    /// Starts one more process on the same database, or the first one anew; the token stays.
    pub(crate) fn start_again(database: &Database, token: &str) -> Self {
        Self::start_with(database, token, &[])
    }

    /// Starts a process on a database that exists, with environment variables.
    pub(crate) fn start_with(database: &Database, token: &str, variables: &[(&str, &str)]) -> Self {
        Self::try_start(database, token, variables).unwrap_or_else(|log| panic!("{log}"))
    }

    /// Starts a process on a database that may not be there just now; fails with what it said.
    pub(crate) fn try_start(
        database: &Database,
        token: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self, String> {
        let (child, url, _) = try_spawn(database, variables)?;
        Ok(Self {
            child,
            database: database.clone(),
            api: Api::new(url, token.to_owned()),
        })
    }

    /// Kills the process at once (`kill -9`) and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends the process politely and returns whether it said goodbye with success.
    pub(crate) fn stop(&mut self) -> bool {
        self.signal("TERM");
        let status = self.child.wait().expect("an end");
        status.success() || status.signal().is_some_and(|signal| signal == 15)
    }

    /// Sends a signal by name: STOP, CONT, TERM.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory of the process in bytes, and the most it ever was.
    pub(crate) fn resident(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
                * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Runs a command of the program against this service.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        cli(&self.api.url, &self.api.token, arguments)
    }

    /// Ends the service and adds everything up again; fails when anything does not add up.
    #[track_caller]
    pub(crate) fn end_and_fsck(mut self) {
        self.stop();
        check_books(&self.database);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A stopped process must go on to die.
        let _ = Command::new("kill")
            .args(["-CONT", &self.child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        self.kill();
    }
}

/// Runs a command of the program with a url and a token.
pub(crate) fn cli(url: &str, token: &str, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env("TIDEGATE_URL", url)
        .env("TIDEGATE_TOKEN", token)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

/// Runs `tidegate fsck` on a database; fails when anything does not add up.
#[track_caller]
pub(crate) fn check_books(database: &Database) {
    let done = Command::new(PROGRAM)
        .args(["fsck", "--database", &database.url])
        .output()
        .expect("fsck runs");
    assert!(
        done.status.success(),
        "fsck: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Starts the service and kills it so soon that it may not have come up; returns the first admin token
/// when it got so far.
pub(crate) fn killed_at_start(database: &Database, after: Duration) -> Option<String> {
    let mut child = launch(database, &[]);
    std::thread::sleep(after);
    let _ = child.kill();
    let output = child.wait_with_output().expect("its output");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split_whitespace().find(|word| word.starts_with("tg_"));
    found.map(str::to_owned)
}

fn launch(database: &Database, variables: &[(&str, &str)]) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(database.file("service.log"))
        .expect("a log");
    Command::new(PROGRAM)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database",
            &database.url,
        ])
        .env("TIDEGATE_CREDENTIALS", std::env::temp_dir())
        .env("TIDEGATE_SANDBOX_FILES", std::env::temp_dir())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the service starts")
}

fn spawn(database: &Database, variables: &[(&str, &str)]) -> Spawned {
    try_spawn(database, variables).unwrap_or_else(|log| panic!("{log}"))
}

/// A process, where it answers, and the first admin token when there is one.
type Spawned = (Child, String, Option<String>);

fn try_spawn(database: &Database, variables: &[(&str, &str)]) -> Result<Spawned, String> {
    let mut child = launch(database, variables);
    let output = child.stdout.take().expect("its output");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut token = None;
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let word = |start: &str| {
                let found = line.split_whitespace().find(|word| word.starts_with(start));
                found.map(str::to_owned)
            };
            token = token.or_else(|| word("tg_"));
            if let Some(url) = word("http://") {
                let _ = tell.send((url, token.clone()));
            }
        }
    });
    match told.recv_timeout(Duration::from_secs(60)) {
        Ok((url, token)) => Ok((child, url, token)),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(database.file("service.log"));
            let log = log.unwrap_or_default();
            Err(format!("the service did not come up: {log}"))
        }
    }
}

/// Makes an admin token with nothing but the database.
pub(crate) fn rescue(database: &Database, name: &str) -> String {
    let output = Command::new(PROGRAM)
        .args(["rescue", "--database", &database.url, name])
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split_whitespace().find(|word| word.starts_with("tg_"));
    found.expect("a token").to_owned()
}
