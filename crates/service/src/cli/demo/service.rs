//! The demo's own service: the same binary, as a process of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::Demo;
use crate::cli::error::CliError;

/// A running service and what is needed to talk to it.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    log: PathBuf,
    /// Where it answers.
    pub(super) url: String,
    /// The first admin token.
    pub(super) token: String,
    /// Its database.
    pub(super) database: PathBuf,
}

/// Throws away what an earlier demo left, and starts the service.
///
/// # Errors
/// When the folder cannot be written or the service does not come up.
pub(super) async fn start(demo: &Demo) -> Result<Service, CliError> {
    clear(&demo.folder)?;
    let database = demo.folder.join("demo.db");
    let log = demo.folder.join("service.log");
    let program = std::env::current_exe().map_err(|cause| CliError::File {
        path: "tidegate".into(),
        cause,
    })?;
    let errors = std::fs::File::create(&log).map_err(|cause| CliError::File {
        path: log.clone(),
        cause,
    })?;
    let mut child = Command::new(program)
        .args(["serve", "--listen", &demo.listen, "--database"])
        .arg(format!("sqlite:{}", database.display()))
        .stdout(Stdio::piped())
        .stderr(errors)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|cause| CliError::File {
            path: "tidegate serve".into(),
            cause,
        })?;
    let Some(output) = child.stdout.take() else {
        return Err(CliError::Failed("the service has no output".to_owned()));
    };
    let mut lines = BufReader::new(output).lines();
    let mut token = None;
    let begun = tokio::time::timeout(Duration::from_secs(30), async {
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(found) = line.split_whitespace().find(|word| word.starts_with("tg_")) {
                token = Some(found.to_owned());
            }
            if line.contains("http://") {
                break;
            }
        }
    });
    let in_time = begun.await.is_ok();
    match token {
        Some(token) if in_time => Ok(Service {
            child,
            log,
            url: format!("http://{}", demo.listen),
            token,
            database,
        }),
        _ => Err(CliError::Failed(format!(
            "the service did not come up on {}: its log is {}; another address is --listen",
            demo.listen,
            log.display()
        ))),
    }
}

fn clear(folder: &Path) -> Result<(), CliError> {
    let failed = |cause| CliError::File {
        path: folder.to_owned(),
        cause,
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    for name in [
        "demo.db",
        "demo.db-wal",
        "demo.db-shm",
        "sample.csv",
        "five-thousand.csv",
        "service.log",
    ] {
        match std::fs::remove_file(folder.join(name)) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(cause));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Service {
    /// Returns the service's resident memory in bytes, where the system tells (Linux).
    #[must_use]
    pub(super) fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace()
            .nth(1)?
            .parse::<u64>()
            .ok()
            .map(|kilobytes| kilobytes * 1024)
    }

    /// Says no when the service has ended by itself.
    ///
    /// # Errors
    /// When it has.
    pub(super) fn check_alive(&mut self) -> Result<(), CliError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(CliError::Failed(format!(
                "the service ended by itself: its log is {}",
                self.log.display()
            ))),
        }
    }

    /// Waits until somebody presses control-C.
    ///
    /// # Errors
    /// When the service ends before.
    pub(super) async fn wait_for_interrupt(&mut self) -> Result<(), CliError> {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = self.child.wait() => self.check_alive(),
        }
    }

    /// Ends the service.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) async fn stop(mut self) -> Result<(), CliError> {
        self.child.kill().await.map_err(|cause| CliError::File {
            path: "tidegate serve".into(),
            cause,
        })
    }
}
