//! The network between a process and its database: it can stall, cut, or swallow what was under way.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// They arrive.
    Open,
    /// They wait, however long; connections stay.
    Stalled,
    /// Connections are closed, and new ones as well.
    Cut,
    /// What is connected is forgotten on the way, and nobody is told; new connections are carried.
    Forgotten,
}

/// A relay between a process and a server.
#[derive(Debug)]
pub(crate) struct Relay {
    /// The port to connect to.
    pub(crate) port: u16,
    network: watch::Sender<Network>,
    task: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("its number").port();
        let (network, changes) = watch::channel(Network::Open);
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server, changes.clone()));
            }
        });
        Self {
            port: own,
            network,
            task,
        }
    }

    /// Changes the network.
    pub(crate) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Rewrites the address of a database so that it leads through here.
    pub(crate) fn through(&self, url: &str) -> String {
        let (head, rest) = url.rsplit_once(':').expect("a port");
        let (_, name) = rest.split_once('/').expect("a name");
        format!("{head}:{}/{name}", self.port)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Network::Cut);
        self.task.abort();
    }
}

/// Returns the port in the address of a database.
pub(crate) fn port_of(url: &str) -> u16 {
    let rest = url.rsplit_once(':').expect("a port").1;
    let digits = rest.split('/').next().unwrap_or_default();
    digits.parse().expect("a number")
}

async fn carry(client: TcpStream, server: SocketAddr, mut changes: watch::Receiver<Network>) {
    // Whoever comes while the network stalls waits to be let in, and whoever comes while it is cut is not.
    let is_cut = match changes.wait_for(|now| *now != Network::Stalled).await {
        Ok(network) => *network == Network::Cut,
        Err(_) => true,
    };
    if is_cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let is_new = *changes.borrow_and_update() == Network::Forgotten;
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    tokio::select! {
        () = copy(from_client, to_server, changes.clone(), is_new) => {}
        () = copy(from_server, to_client, changes.clone(), is_new) => {}
        _ = changes.wait_for(|now| *now == Network::Cut) => {}
    }
}

/// Carries bytes one way while the network is open.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut changes: watch::Receiver<Network>,
    is_new: bool,
) {
    let carries = |now: &Network| *now == Network::Open || is_new && *now == Network::Forgotten;
    let mut part = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut part).await {
        if read == 0 || changes.wait_for(carries).await.is_err() {
            return;
        }
        let bytes = part.get(..read).unwrap_or_default();
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
