//! Other people's SCIM and TAXII servers, and a trouble-maker to put in front of them.
//!
//! `tests/setup/ensure-targets.sh` installs them; where that is not possible a test says
//! `skipped: …` and passes, unless TIDEGATE_REQUIRE_TARGETS says that nothing may be skipped.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::api::{Api, send};
use super::{repository, skipped, until};

/// A server that runs beside a test, and ends with it.
#[derive(Debug)]
pub(crate) struct Target {
    child: Child,
    /// Where it answers, such as `http://127.0.0.1:18080/v2`.
    pub(crate) url: String,
    root: String,
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its number").port()
}

fn tools() -> PathBuf {
    std::env::var_os("TIDEGATE_TOOLS").map_or_else(
        || {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_default())
                .join(".cache/tidegate/tools")
        },
        PathBuf::from,
    )
}

impl Target {
    async fn start(command: &mut Command, root: String, base: &str, probe: &str) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let target = Self {
            child,
            url: format!("{root}{base}"),
            root,
        };
        let http = reqwest::Client::new();
        let probe = format!("{}{probe}", target.root);
        until("the server answers", 60, async || {
            http.get(&probe).send().await.is_ok()
        })
        .await;
        target
    }

    /// Starts scim2-server (PyPI), where it is installed.
    pub(crate) async fn scim2(arguments: &[&str]) -> Option<Self> {
        if !tools().join("scim2/bin/python").exists() {
            skipped("scim2-server is not installed: tests/setup/ensure-targets.sh scim2");
            return None;
        }
        let port = free_port();
        let mut command = Command::new(repository().join("tests/targets/start-scim2.sh"));
        command.args(["--port", &port.to_string()]).args(arguments);
        let root = format!("http://127.0.0.1:{port}");
        Some(Self::start(&mut command, root, "/v2", "/v2/ServiceProviderConfig").await)
    }

    /// Starts scimmy (npm), where it is installed.
    pub(crate) async fn scimmy(variables: &[(&str, &str)]) -> Option<Self> {
        if !tools().join("scimmy/node_modules/scimmy").exists() {
            skipped("scimmy is not installed: tests/setup/ensure-targets.sh scimmy");
            return None;
        }
        let port = free_port();
        let mut command = Command::new(repository().join("tests/targets/start-scimmy.sh"));
        command
            .env("PORT", port.to_string())
            .envs(variables.iter().copied());
        let root = format!("http://127.0.0.1:{port}");
        Some(Self::start(&mut command, root, "/scim/v2", "/_stats").await)
    }

    /// Starts medallion (PyPI) on a port, where it is installed; the same port has the same objects again.
    pub(crate) async fn medallion(port: u16, objects: usize) -> Option<Self> {
        if !tools().join("medallion/bin/python").exists() {
            skipped("medallion is not installed: tests/setup/ensure-targets.sh medallion");
            return None;
        }
        let mut command = Command::new(repository().join("tests/targets/start-medallion.sh"));
        command.args([
            "--port",
            &port.to_string(),
            "--objects",
            &objects.to_string(),
        ]);
        let root = format!("http://127.0.0.1:{port}");
        Some(Self::start(&mut command, root, "/api1/", "/taxii2/").await)
    }

    /// Serves a folder over TLS under a name, where certificates can be made; `ca.pem` beside the folder
    /// says whom to trust.
    pub(crate) async fn https(port: u16, name: &str, folder: &std::path::Path) -> Option<Self> {
        let python = tools().join("medallion/bin/python");
        if !python.exists() {
            skipped("trustme is not installed: tests/setup/ensure-targets.sh medallion");
            return None;
        }
        let child = Command::new(python)
            .arg(repository().join("tests/targets/https_site.py"))
            .args(["--port", &port.to_string(), "--name", name, "--folder"])
            .arg(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let url = format!("https://{name}:{port}");
        let site = Self {
            child,
            root: url.clone(),
            url,
        };
        until("the site is there", 60, async || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Some(site)
    }

    /// Puts a trouble-maker in front of a server; its options are in `tests/targets/fault_proxy.mjs`.
    pub(crate) async fn faulty(&self, options: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new("node");
        command
            .arg(repository().join("tests/targets/fault_proxy.mjs"))
            .args(["--listen", &port.to_string(), "--to", &self.root])
            .args(options);
        let base = self
            .url
            .strip_prefix(&self.root)
            .unwrap_or_default()
            .to_owned();
        let root = format!("http://127.0.0.1:{port}");
        Self::start(&mut command, root, &base, "/_faults").await
    }

    /// Reads a page of figures beside the protocol: `/_stats` of scimmy, `/_faults` of the proxy.
    pub(crate) async fn figures(&self, path: &str) -> Value {
        let http = reqwest::Client::new();
        send(http.get(format!("{}{path}", self.root))).await.ok()
    }

    /// Changes the trouble that a proxy makes.
    pub(crate) async fn change_faults(&self, options: Value) {
        let http = reqwest::Client::new();
        send(http.post(format!("{}/_faults", self.root)).json(&options))
            .await
            .ok();
    }

    /// Creates an account by hand, as another program would.
    pub(crate) async fn create(&self, account: Value) -> Value {
        let http = reqwest::Client::new();
        let request = http.post(format!("{}/Users", self.url));
        let request = request.header("content-type", "application/scim+json");
        send(request.body(account.to_string())).await.ok()
    }

    /// Reads every account, page by page.
    pub(crate) async fn accounts(&self) -> Vec<Value> {
        let http = reqwest::Client::new();
        let mut found: Vec<Value> = Vec::new();
        loop {
            let start = found.len() + 1;
            let page = send(http.get(format!("{}/Users?startIndex={start}&count=500", self.url)));
            let page = page.await.ok();
            let rows = page["Resources"].as_array().cloned().unwrap_or_default();
            found.extend(rows.iter().cloned());
            let total = page["totalResults"].as_u64().unwrap_or(0);
            if rows.is_empty() || found.len() as u64 >= total {
                return found;
            }
        }
    }

    /// Creates a target of this name and server in Tidegate.
    pub(crate) async fn register(&self, api: &Api, name: &str, more: Value) -> Value {
        let mut config = json!({"base_url": self.url});
        if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
            config.extend(more.clone());
        }
        let body = json!({"name": name, "connector": "scim", "config": config});
        api.post("/v1/targets", body).await.ok()
    }
}

/// A library of other people that makes what is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sender {
    /// From PyPI.
    Python,
    /// From npm.
    JavaScript,
}

impl Sender {
    /// Both, where they are installed.
    pub(crate) fn installed() -> Vec<Self> {
        let senders = tools().join("senders");
        if !senders.join("venv/bin/python").exists() || !senders.join("node_modules").exists() {
            skipped("no senders are installed: tests/setup/ensure-targets.sh senders");
            return Vec::new();
        }
        vec![Self::Python, Self::JavaScript]
    }

    /// Has it make a message: its headers, its body, and the keys to check it with.
    pub(crate) fn make(self, wanted: &Value) -> Value {
        let (senders, scripts) = (tools().join("senders"), repository().join("tests/targets"));
        let mut command = match self {
            Self::Python => {
                let mut command = Command::new(senders.join("venv/bin/python"));
                command.arg(scripts.join("sender.py"));
                command
            }
            Self::JavaScript => {
                let mut command = Command::new("node");
                command.arg(scripts.join("sender.mjs")).arg(&senders);
                command
            }
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sender starts");
        let mut input = child.stdin.take().expect("its input");
        std::io::Write::write_all(&mut input, wanted.to_string().as_bytes()).expect("it reads");
        drop(input);
        let output = child.wait_with_output().expect("its output");
        serde_json::from_slice(&output.stdout).expect("a message")
    }
}

/// Fails when an external id has more than one account; returns how many accounts there are.
#[track_caller]
pub(crate) fn check_nobody_twice(accounts: &[Value]) -> usize {
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for account in accounts {
        *seen
            .entry(account["externalId"].as_str().unwrap_or("-"))
            .or_default() += 1;
    }
    let twice: Vec<_> = seen
        .iter()
        .filter(|(id, count)| **count > 1 && **id != "-")
        .collect();
    assert!(twice.is_empty(), "created twice: {twice:?}");
    accounts.len()
}
